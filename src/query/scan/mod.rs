//! What the executor reads: rows of series from any mixture of head and runs, in batches of columns.
//!
//! A [`Scan`] names its [`Source`]s (parts of the head, blocks of runs). `zones` lists the pieces of them that may hold
//! wanted rows, `tasks` finds which of these may hold the same points and cuts the work into tasks that know nothing of
//! each other, [`read`] turns a task into [`Batch`]es, each (series, time) once; [`overlap`] is what makes it so. Where a
//! visitor can do with statistics, it gets these of the whole block ([`Whole`]) or of the steps it is made of ([`steps`]).

pub mod batch;
pub mod overlap;
pub mod read;
pub mod steps;
pub mod tasks;
pub mod zones;

pub use batch::{Batch, Cells, SeriesRun};
pub use read::{Reader, Visitor, Whole};
pub use steps::{FieldSteps, Steps};
pub use tasks::{Task, tasks};
pub use zones::{Zone, zones};

use crate::model::{FieldId, MeasurementId, SeriesId, TimeRange};
use crate::rollup::Rollups;
use crate::shard::part::HeadPart;
use crate::store::{RunBlocks, StoreError};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One consistent state of all data.
pub trait Scan: Send + Sync {
    /// What may hold wanted rows, oldest first: of two rows with the same point the later source's is newer.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    fn sources(&self, request: &ScanRequest) -> Result<Vec<Source>, ScanError>;

    /// The part of a range of time in which rows of a measurement can still be read.
    fn unexpired(&self, _measurement: MeasurementId, time: TimeRange) -> TimeRange {
        time
    }

    /// Rollups, and up to which sequence the data is seen.
    fn rollups(&self) -> Option<(&Rollups, u64)> {
        None
    }

    /// Visits times of a measurement such that every row is near one, in its block or at it. Reads no rows of blocks.
    ///
    /// # Errors
    /// As for [`sources`](Self::sources).
    fn times(&self, measurement: MeasurementId, visit: &mut dyn FnMut(i64)) -> Result<(), ScanError> {
        let request = ScanRequest {
            measurement,
            series: SeriesSet::All,
            time: TimeRange::ALL,
            fields: Vec::new(),
        };
        for source in self.sources(&request)? {
            match source {
                Source::Part(part) => part.times.iter().for_each(|time| visit(*time)),
                Source::Run(run) => (0..run.len()).for_each(|block| {
                    let time = run.block(block).time;
                    visit(time.min);
                    visit(time.max);
                }),
            }
        }
        Ok(())
    }
}

/// Sorted rows, each (series, time) once.
#[derive(Clone)]
pub enum Source {
    /// A part of the head.
    Part(Arc<HeadPart>),
    /// Blocks of a run.
    Run(RunBlocks),
}

/// What to read.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Of this measurement.
    pub measurement: MeasurementId,
    /// These series.
    pub series: SeriesSet,
    /// These times.
    pub time: TimeRange,
    /// These columns, in this order.
    pub fields: Vec<FieldId>,
}

/// Which series to read.
#[derive(Clone, Debug)]
pub enum SeriesSet {
    /// Every one.
    All,
    /// Chosen ones.
    Chosen(Arc<RoaringBitmap>),
}

impl SeriesSet {
    /// Is this series wanted?
    pub fn contains(&self, series: SeriesId) -> bool {
        match self {
            Self::All => true,
            Self::Chosen(set) => set.contains(series),
        }
    }

    /// Is one of these wanted?
    pub fn touches(&self, first: SeriesId, last: SeriesId) -> bool {
        match self {
            Self::All => true,
            Self::Chosen(set) => set.range_cardinality(first..=last) > 0,
        }
    }

    /// Are all of these wanted?
    pub fn covers(&self, first: SeriesId, last: SeriesId) -> bool {
        match self {
            Self::All => true,
            Self::Chosen(set) => set.contains_range(first..=last),
        }
    }

    /// The first wanted series from `series` on.
    pub fn next(&self, series: SeriesId) -> Option<SeriesId> {
        match self {
            Self::All => Some(series),
            Self::Chosen(set) => {
                // The number of members below it is the position of the next one.
                let below = series.checked_sub(1).map_or(0, |before| set.rank(before));
                set.select(u32::try_from(below).ok()?)
            }
        }
    }
}

/// What scans cost, counted while they run. Shared by the workers of a query.
#[derive(Debug, Default)]
pub struct ScanCounters {
    rows: AtomicU64,
    blocks: AtomicU64,
    blocks_pruned: AtomicU64,
    blocks_whole: AtomicU64,
    blocks_steps: AtomicU64,
    bytes: AtomicU64,
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Rows looked at.
    pub rows: u64,
    /// Blocks and stretches of the head that were read, in part or whole.
    pub blocks: u64,
    /// Those passed over by series, time or statistics.
    pub blocks_pruned: u64,
    /// Those answered from statistics of the whole block.
    pub blocks_whole: u64,
    /// Those answered from statistics of steps.
    pub blocks_steps: u64,
    /// Encoded bytes read.
    pub bytes: u64,
}

impl ScanCounters {
    /// Adds what something cost.
    pub fn add(&self, stats: &ScanStats) {
        let all = [
            (&self.rows, stats.rows),
            (&self.blocks, stats.blocks),
            (&self.blocks_pruned, stats.blocks_pruned),
            (&self.blocks_whole, stats.blocks_whole),
            (&self.blocks_steps, stats.blocks_steps),
            (&self.bytes, stats.bytes),
        ];
        for (counter, count) in all {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// What was counted so far.
    pub fn stats(&self) -> ScanStats {
        ScanStats {
            rows: self.rows.load(Ordering::Relaxed),
            blocks: self.blocks.load(Ordering::Relaxed),
            blocks_pruned: self.blocks_pruned.load(Ordering::Relaxed),
            blocks_whole: self.blocks_whole.load(Ordering::Relaxed),
            blocks_steps: self.blocks_steps.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Stored data is damaged; the message says where.
    #[error("{0}")]
    Damaged(String),
    /// The store could not be read.
    #[error("cannot read the store: {0}")]
    Store(String),
}

impl From<StoreError> for ScanError {
    fn from(error: StoreError) -> Self {
        if error.is_damage() {
            Self::Damaged(error.to_string())
        } else {
            Self::Store(error.to_string())
        }
    }
}
