//! The header of a generation, which is a pack of the keyspace `series`: the measurements it has series of, and the packs it
//! replaces. Pure. Drawn in docs/formats/index.md.

use super::squeeze::{squeeze, unsqueeze};
use crate::block::bytes::{Input, put};
use crate::model::{MeasurementId, SeriesId};

/// No honest header is longer before compression: some ten million measurements.
const RAW_BYTES_MAX: usize = 256 << 20;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The next free pack number when it was written.
    pub next_pack: u64,
    /// Packs whose series are in here now; they are gone even if they are still on disk.
    pub replaces: Vec<u64>,
    /// Ascending by measurement.
    pub measurements: Vec<Entry>,
}

/// What a generation has of a measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The measurement.
    pub measurement: MeasurementId,
    /// Series in it.
    pub series: u64,
    /// Dropped series that it, or what it was made of, had and has no more.
    pub removed: u64,
    /// Ids below this are taken.
    pub end: SeriesId,
}

impl Header {
    /// What it has of a measurement.
    pub fn entry(&self, measurement: MeasurementId) -> Option<&Entry> {
        let at = self
            .measurements
            .binary_search_by_key(&measurement, |entry| entry.measurement);
        at.ok().map(|at| &self.measurements[at])
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut raw = Vec::new();
        put(&mut raw, self.next_pack);
        put(&mut raw, self.replaces.len() as u64);
        self.replaces.iter().for_each(|pack| put(&mut raw, *pack));
        put(&mut raw, self.measurements.len() as u64);
        let mut last = 0;
        for entry in &self.measurements {
            put(&mut raw, u64::from(entry.measurement - last));
            put(&mut raw, entry.series);
            put(&mut raw, entry.removed);
            put(&mut raw, u64::from(entry.end));
            last = entry.measurement;
        }
        squeeze(&raw, out);
    }

    /// Reads it. `None`: damaged.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        let raw = unsqueeze(&mut input, RAW_BYTES_MAX)?;
        if !input.is_empty() {
            return None;
        }
        let mut input = Input(&raw);
        let next_pack = input.get()?;
        let mut replaces = Vec::new();
        for _ in 0..input.get_count(raw.len())? {
            replaces.push(input.get()?);
        }
        let mut measurements: Vec<Entry> = Vec::new();
        let mut last = 0u32;
        for i in 0..input.get_count(raw.len())? {
            let step = input.get_u32()?;
            if i > 0 && step == 0 {
                return None;
            }
            last = last.checked_add(step)?;
            measurements.push(Entry {
                measurement: last,
                series: input.get()?,
                removed: input.get()?,
                end: input.get_u32()?,
            });
        }
        input.is_empty().then_some(Self {
            next_pack,
            replaces,
            measurements,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_header_round_trips(next_pack in any::<u64>(), replaces in prop::collection::vec(any::<u64>(), 0..5), entries in prop::collection::btree_map(any::<u32>(), (any::<u64>(), any::<u64>(), any::<u32>()), 0..40)) {
            let measurements = entries.into_iter().map(|(measurement, (series, removed, end))| Entry { measurement, series, removed, end }).collect();
            let header = Header { next_pack, replaces, measurements };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            prop_assert_eq!(Header::decode(&bytes), Some(header.clone()));
            for entry in &header.measurements {
                prop_assert_eq!(header.entry(entry.measurement), Some(entry));
            }
            for len in 0..bytes.len() {
                prop_assert_eq!(Header::decode(&bytes[..len]), None);
            }
        }
    }
}
