//! What the executor reads from: rows of series, sorted and without duplicates, whatever mixture of head and runs they
//! come from. Two implementations: [`super::snapshot`] over the real head and store, and a naive model in tests.

use crate::model::{Column, FieldId, MeasurementId, SeriesId, TimeRange};
use roaring::RoaringBitmap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// One consistent state of all data.
pub trait Scan: Send + Sync {
    /// Visits rows of the wanted series, ascending by (series, time), each (series, time) once. A series may come in
    /// several pieces, later times later. Rows that have none of the wanted fields may be left out.
    ///
    /// # Errors
    /// Damage, or a read that failed. What was visited before must then not be used as an answer.
    fn scan(
        &self,
        request: &ScanRequest,
        visit: &mut dyn FnMut(&SeriesRows<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, ScanError>;

    /// Visits times of a measurement such that every row is near one, in its block or at it. Reads no rows of blocks.
    ///
    /// # Errors
    /// As for [`scan`](Self::scan).
    fn times(&self, measurement: MeasurementId, visit: &mut dyn FnMut(i64)) -> Result<(), ScanError> {
        let request = ScanRequest {
            measurement,
            series: SeriesSet::All,
            time: TimeRange::ALL,
            fields: Vec::new(),
        };
        let mut all = |rows: &SeriesRows<'_>| {
            rows.times.iter().for_each(|time| visit(*time));
            ControlFlow::Continue(())
        };
        self.scan(&request, &mut all).map(drop)
    }
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
    /// A range of ids, as one of several workers reads.
    Range(Range<SeriesId>),
    /// Chosen ones.
    Chosen(Arc<RoaringBitmap>),
}

impl SeriesSet {
    /// Is this series wanted?
    pub fn contains(&self, series: SeriesId) -> bool {
        match self {
            Self::All => true,
            Self::Range(range) => range.contains(&series),
            Self::Chosen(set) => set.contains(series),
        }
    }
}

/// Consecutive rows of one series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRows<'a> {
    /// Whose.
    pub series: SeriesId,
    /// Ascending, no two equal, never empty.
    pub times: &'a [i64],
    /// One for each field of the request.
    pub columns: &'a [ColumnSlice<'a>],
}

/// The values of one field in the rows of a [`SeriesRows`].
#[derive(Clone, Copy, Debug)]
pub struct ColumnSlice<'a> {
    /// `None`: the field has no value in any of these rows.
    pub column: Option<&'a Column>,
    /// Row `i` of the rows is row `start + i` of the column.
    pub start: usize,
}

/// What a scan cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanStats {
    /// Rows visited.
    pub rows: u64,
    /// Blocks decoded, in part or whole.
    pub blocks: u64,
    /// Blocks skipped by statistics.
    pub blocks_pruned: u64,
    /// Encoded bytes read.
    pub bytes: u64,
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Stored data is damaged; the message says where.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// The store could not be read.
    #[error("cannot read the store: {0}")]
    Store(String),
}
