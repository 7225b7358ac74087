//! Reads everything that is stored, once: every file against its checksum, every value against its frame, every block
//! against its directory. Changes nothing. For `kymo verify`; nobody else may have the store open.

use super::engine::Engine;
use super::error::StoreError;
use super::files::{self, Flaw};
use super::frame;
use super::index;
use super::keys;
use super::mirror;
use super::runs::{RunBlocks, RunSet, SeriesFilter};
use super::{Loaded, Store, StoreOptions};
use crate::model::TimeRange;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

/// Flaws listed; more are only counted.
pub const FLAWS_MAX: usize = 1000;
/// Bytes of cache while verifying: every block is read once.
const CACHE_BYTES: usize = 16 << 20;

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// What is wrong, up to [`FLAWS_MAX`].
    pub flaws: Vec<Flaw>,
    /// How many there are.
    pub flaws_total: u64,
    /// Highest sequence whose data is in the store; `None` when it could not be opened.
    pub watermark: Option<u64>,
    /// The last sequence that something in the store depends on, though its batch may be in the journal only.
    pub heard: u64,
    /// Values whose frames were checked.
    pub values: u64,
    /// Runs.
    pub runs: u64,
    /// Rows in the blocks that were decoded.
    pub rows: u64,
    /// Series in the index.
    pub series: u64,
}

impl Verified {
    fn flaw(&mut self, flaw: Flaw) {
        self.flaws_total += 1;
        if self.flaws.len() < FLAWS_MAX && !self.flaws.contains(&flaw) {
            self.flaws.push(flaw);
        }
    }

    fn error(&mut self, place: &str, error: StoreError) {
        self.flaw(match error {
            StoreError::Damaged { place, reason } => Flaw { place, reason },
            other => Flaw {
                place: place.to_string(),
                reason: match other.source() {
                    Some(source) => format!("{other}: {source}"),
                    None => other.to_string(),
                },
            },
        });
    }
}

/// Bytes that [`verify`] reads, about.
///
/// # Errors
/// Input/output.
pub fn bytes_to_read(dir: &Path) -> Result<u64, StoreError> {
    // Once as files, once as values.
    Ok(files::listed_bytes(dir).map_err(StoreError::Io)? * 2)
}

/// See the module. `read` hears of every piece of bytes read.
///
/// # Errors
/// Input/output. Damage is no error: see [`Verified::flaws`].
pub fn verify(dir: &Path, read: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
    let mut out = Verified::default();
    let mut flaws = files::check_files(dir, read).map_err(StoreError::Io)?;
    flaws.extend(mirror::check(dir).map_err(StoreError::Io)?);
    for flaw in flaws {
        out.flaw(flaw);
    }
    let engine = match Engine::open_as_is(dir) {
        Ok(engine) => engine,
        Err(error) => {
            out.error("the store", error);
            return Ok(out);
        }
    };
    let mut values = 0;
    for (keyspace, scan) in [
        (keys::INDEX, Engine::index_entries as Scan),
        (keys::BLOCKS, Engine::block_entries as Scan),
        (keys::SERIES, Engine::series_entries as Scan),
    ] {
        let scanned = scan(&engine, &mut |key, value| {
            values += 1;
            read((key.len() + value.len()) as u64);
            // Any version: which ones can be read is seen below.
            let version = value.first().copied().unwrap_or_default();
            if let Err(error) = frame::open(key, value, version) {
                out.error(keyspace, error);
            }
            Ok(())
        });
        if let Err(error) = scanned {
            out.error(keyspace, error);
        }
    }
    out.values = values;
    drop(engine);
    let options = StoreOptions {
        cache_bytes: CACHE_BYTES,
        index_cache_bytes: CACHE_BYTES,
    };
    let opened = Engine::open_as_is(dir);
    match opened.and_then(|engine| Store::open_on(engine, options, &mut |_: Loaded| {})) {
        Ok(store) => {
            out.watermark = Some(store.watermark());
            out.heard = store.heard();
            check_runs(&store.runs(), &mut out);
            let mut flaws = Vec::new();
            out.series = index::verify::verify(&store.index, &mut |place, reason| {
                flaws.push(Flaw { place, reason });
            });
            flaws.into_iter().for_each(|flaw| out.flaw(flaw));
        }
        Err(error) => out.error("the store", error),
    }
    Ok(out)
}

type Scan = fn(&Engine, &mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>) -> Result<(), StoreError>;

fn check_runs(set: &RunSet, out: &mut Verified) {
    out.runs = set.runs().len() as u64;
    let everything = TimeRange {
        min: i64::MIN,
        max: i64::MAX,
    };
    let measurements = set.runs().iter().flat_map(|run| &run.entry.measurements);
    let measurements: BTreeSet<u32> = measurements.map(|entry| entry.id).collect();
    for measurement in measurements {
        // Run by run: one bad directory must not hide the others.
        for run in set.runs() {
            let Some(entry) = run.entry.measurement(measurement) else {
                continue;
            };
            let place = format!("measurement {measurement} in run {}.{}", run.id.pack, run.id.run);
            match set.select_run(run, measurement, SeriesFilter::All, everything) {
                Ok(Some(blocks)) => {
                    let rows = check_blocks(&blocks, &place, out);
                    if rows != entry.rows {
                        out.flaw(Flaw {
                            place,
                            reason: format!("{rows} rows, its pack's header says {}", entry.rows),
                        });
                    }
                }
                Ok(None) => {}
                Err(error) => out.error(&place, error),
            }
        }
    }
}

fn check_blocks(blocks: &RunBlocks, place: &str, out: &mut Verified) -> u64 {
    let fields = blocks.fields();
    let mut rows = 0;
    for i in 0..blocks.len() {
        let about = blocks.block(i);
        rows += u64::from(about.rows);
        out.rows += u64::from(about.rows);
        match blocks.read(i, &fields) {
            Ok(read) => {
                let ascending = read.series.windows(2).all(|pair| pair[0].0 < pair[1].0)
                    && (read.series.iter()).all(|(_, rows)| read.times[rows.clone()].is_sorted());
                let inside = (read.times.iter()).all(|t| about.time.min <= *t && *t <= about.time.max);
                if !ascending || !inside || read.times.len() > about.rows as usize {
                    out.flaw(Flaw {
                        place: format!("block {i} of {place}"),
                        reason: "its rows are not as its directory says".into(),
                    });
                }
            }
            Err(error) => out.error(place, error),
        }
    }
    rows
}
