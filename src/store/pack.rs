//! The header of a pack: the manifest of everything one ingestion brought. Pure; drawn in docs/formats/keys.md.
//!
//! A pack exists when its header exists, since an ingestion is atomic. The header committed last (highest `commit`)
//! knows the store's watermark, the next free pack number, and every run that is replaced but may still be on disk.

use super::error::StoreError;
use super::frame;
use super::keys::{self, RunId};
use super::partition::Partition;
use crate::block::bytes::{Input, put, put_signed};
use crate::block::{Level, contexts};
use crate::model::{MeasurementId, SeriesId, TimeRange};

const VERSION: u8 = 1;
/// No honest header is longer before compression.
const RAW_BYTES_MAX: usize = 1 << 28;
const ZSTD_LEVEL: i32 = 1;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackHeader {
    /// 1, 2, .. in the order of commits, whatever the order of pack numbers.
    pub commit: u64,
    /// Highest sequence whose data is in the store.
    pub watermark: u64,
    /// No pack of this number or above was ever begun.
    pub next_pack: u64,
    /// Runs that are replaced (by this pack or earlier) and may still be on disk.
    pub replaces: Vec<RunId>,
    /// The runs in here, by number.
    pub runs: Vec<RunEntry>,
}

/// One run: the rows of one partition that were sealed or merged together.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEntry {
    /// Its slice of time.
    pub partition: Partition,
    /// Its data was written up to this sequence; of two runs the one with the higher wins.
    pub sequence: u64,
    /// No delete up to this sequence hides any row of it.
    pub deletes_applied: u64,
    /// How it was encoded.
    pub level: Level,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
    /// Rows in all measurements.
    pub rows: u64,
    /// Bytes of its values.
    pub bytes: u64,
    /// What is in it, ascending.
    pub measurements: Vec<MeasurementEntry>,
}

/// One measurement in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasurementEntry {
    /// Which.
    pub id: MeasurementId,
    /// Largest series id.
    pub last_series: SeriesId,
    /// How many dropped series it had when this run was written; none of those is in here.
    pub dead_series: u32,
    /// Rows.
    pub rows: u64,
}

impl PackHeader {
    /// The framed value for pack `pack`.
    pub fn encode(&self, pack: u64) -> Vec<u8> {
        let mut raw = Vec::new();
        [self.commit, self.watermark, self.next_pack]
            .into_iter()
            .for_each(|n| put(&mut raw, n));
        put(&mut raw, self.replaces.len() as u64);
        for id in &self.replaces {
            put(&mut raw, id.pack);
            put(&mut raw, u64::from(id.run));
        }
        put(&mut raw, self.runs.len() as u64);
        for run in &self.runs {
            put_signed(&mut raw, run.partition.index);
            raw.push(run.partition.level);
            put(&mut raw, run.sequence);
            put(&mut raw, run.deletes_applied);
            raw.push(match run.level {
                Level::Fast => 0,
                Level::Small => 1,
            });
            put_signed(&mut raw, run.time.min);
            put_signed(&mut raw, run.time.max);
            put(&mut raw, run.rows);
            put(&mut raw, run.bytes);
            put(&mut raw, run.measurements.len() as u64);
            let mut last = 0;
            for m in &run.measurements {
                put(&mut raw, u64::from(m.id - last));
                last = m.id;
                put(&mut raw, u64::from(m.last_series));
                put(&mut raw, u64::from(m.dead_series));
                put(&mut raw, m.rows);
            }
        }
        let mut value = frame::begin(VERSION);
        put(&mut value, raw.len() as u64);
        value.extend(contexts::compress(&raw, ZSTD_LEVEL));
        frame::finish(&keys::header(pack), value)
    }

    /// Reads what [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// Damage.
    pub fn decode(pack: u64, value: &[u8]) -> Result<Self, StoreError> {
        let key = keys::header(pack);
        let payload = frame::open(&key, value, VERSION)?;
        Self::decode_payload(payload)
            .ok_or_else(|| StoreError::damaged(keys::describe(&key), "a header of another shape"))
    }

    fn decode_payload(payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        let raw_len = input.get_count(RAW_BYTES_MAX)?;
        let raw = contexts::decompress(input.0, raw_len)?;
        let mut input = Input(&raw);
        let mut header = Self {
            commit: input.get()?,
            watermark: input.get()?,
            next_pack: input.get()?,
            ..Self::default()
        };
        for _ in 0..input.get_count(raw.len())? {
            header.replaces.push(RunId {
                pack: input.get()?,
                run: input.get_u32()?,
            });
        }
        for _ in 0..input.get_count(raw.len())? {
            let mut run = RunEntry {
                partition: Partition::new(input.get_signed()?, input.byte()?)?,
                sequence: input.get()?,
                deletes_applied: input.get()?,
                level: match input.byte()? {
                    0 => Level::Fast,
                    1 => Level::Small,
                    _ => return None,
                },
                time: TimeRange {
                    min: input.get_signed()?,
                    max: input.get_signed()?,
                },
                rows: input.get()?,
                bytes: input.get()?,
                measurements: Vec::new(),
            };
            let mut last = 0u32;
            for _ in 0..input.get_count(raw.len())? {
                last = last.checked_add(input.get_u32()?)?;
                run.measurements.push(MeasurementEntry {
                    id: last,
                    last_series: input.get_u32()?,
                    dead_series: input.get_u32()?,
                    rows: input.get()?,
                });
            }
            header.runs.push(run);
        }
        input.is_empty().then_some(header)
    }
}

impl RunEntry {
    /// The entry of a measurement, if the run has it.
    pub fn measurement(&self, id: MeasurementId) -> Option<&MeasurementEntry> {
        self.measurements
            .binary_search_by_key(&id, |m| m.id)
            .ok()
            .map(|at| &self.measurements[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_damage_is_found() {
        let run = |index, level| RunEntry {
            partition: Partition {
                index,
                level: level as u8,
            },
            sequence: 9,
            deletes_applied: 3,
            level,
            time: TimeRange {
                min: i64::MIN + 2,
                max: 5,
            },
            rows: 1 << 40,
            bytes: 77,
            measurements: [0, 5, u32::MAX]
                .map(|id| MeasurementEntry {
                    id,
                    last_series: id,
                    dead_series: 4,
                    rows: 8,
                })
                .to_vec(),
        };
        let header = PackHeader {
            commit: 4,
            watermark: u64::MAX,
            next_pack: 12,
            replaces: vec![RunId { pack: 3, run: 0 }, RunId { pack: 3, run: 9 }],
            runs: vec![run(-106_752, Level::Fast), run(-209, Level::Small)],
        };
        let value = header.encode(11);
        assert_eq!(PackHeader::decode(11, &value).ok(), Some(header));
        assert!(PackHeader::decode(12, &value).is_err_and(|e| e.is_damage()));
        assert!(PackHeader::decode(11, &value[..value.len() - 1]).is_err_and(|e| e.is_damage()));
        let empty = PackHeader::default();
        assert_eq!(PackHeader::decode(0, &empty.encode(0)).ok(), Some(empty));
    }
}
