//! A part of the head: sorted rows that no longer change, and a rough outline of where in them what is.
//!
//! Most rows are sealed before anybody asks for them. So a part begins as a list of packed tables, and is unpacked when the first
//! query reads it ([`HeadPart::deref`]); what queries ask for goes on being unpacked as it comes (see [`super::head`]).
//! A seal unpacks what it needs for as long as it needs it ([`HeadPart::borrow_rows`]).

use crate::batch::{EncodedBatch, TableView};
use crate::model::{MeasurementId, SeriesId, SeriesRuns, SortedRows, TimeRange, concat_sorted};
use hashbrown::HashSet;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Rows of a stretch; the last one of a part has fewer.
pub const STRETCH_ROWS: usize = 8192;

/// Tables with fewer rows are unpacked at once: packed, they would take more memory.
const PACKED_ROWS_MIN: usize = 8;

/// See the module. Reads as the [`SortedRows`] it holds.
pub struct HeadPart {
    measurement: MeasurementId,
    /// In order of arrival: of two with the same point the later is newer. Empty for a part that was never packed.
    sources: Vec<Source>,
    /// At most so many rows: some may be replaced by later ones.
    rows_max: usize,
    time: TimeRange,
    /// Bytes of memory it takes as it came, and once it is unpacked.
    packed_bytes: usize,
    bytes: usize,
    rows: OnceLock<Arc<SortedRows>>,
    outline: OnceLock<Vec<Stretch>>,
    /// Which rows are of which series, where that was known when it was made.
    runs: Option<SeriesRuns>,
    /// A query reads it.
    asked: AtomicBool,
    /// Told when the first does.
    asks: Arc<Asks>,
}

/// Measurements whose parts queries asked for. Shared by a shard and its parts.
#[derive(Default)]
pub(super) struct Asks {
    any: AtomicBool,
    measurements: Mutex<HashSet<MeasurementId>>,
}

impl Asks {
    fn note(&self, measurement: MeasurementId) {
        let mut measurements = self.measurements.lock().unwrap_or_else(PoisonError::into_inner);
        measurements.insert(measurement);
        self.any.store(true, Ordering::Release);
    }

    /// Those that were asked for since this was called before.
    pub fn take(&self) -> HashSet<MeasurementId> {
        if !self.any.swap(false, Ordering::Acquire) {
            return HashSet::new();
        }
        let mut measurements = self.measurements.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut measurements)
    }
}

/// Where rows of a part come from.
#[derive(Clone)]
pub(super) enum Source {
    Packed { batch: Arc<EncodedBatch>, table: usize },
    Rows(Arc<SortedRows>),
}

impl Source {
    /// A table of a batch, packed if that saves memory.
    pub fn of_table(batch: &Arc<EncodedBatch>, table: &TableView<'_>) -> Self {
        if table.len() >= PACKED_ROWS_MIN && table.unpacked_bytes().is_some() {
            Self::Packed {
                batch: batch.clone(),
                table: table.at(),
            }
        } else {
            Self::Rows(Arc::new(table.read()))
        }
    }

    /// Its rows.
    pub fn read(&self) -> Arc<SortedRows> {
        match self {
            Self::Packed { batch, table } => Arc::new(batch.table(*table).read()),
            Self::Rows(rows) => rows.clone(),
        }
    }

    /// Its first series and its last.
    pub fn series(&self) -> (SeriesId, SeriesId) {
        match self {
            Self::Packed { batch, table } => batch.table(*table).series_range(),
            Self::Rows(rows) => match (rows.series.first(), rows.series.last()) {
                (Some(&first), Some(&last)) => (first, last),
                _ => (SeriesId::MAX, SeriesId::MAX),
            },
        }
    }

    fn is_packed(&self) -> bool {
        matches!(self, Self::Packed { .. })
    }

    /// Rows at most, and their times.
    fn outline(&self) -> (usize, TimeRange) {
        match self {
            Self::Packed { batch, table } => {
                let table = batch.table(*table);
                (table.len(), table.time_range())
            }
            Self::Rows(rows) => (rows.len(), rows.time_range()),
        }
    }

    /// Bytes of memory as it is, and what unpacking it adds.
    fn bytes(&self) -> (usize, usize) {
        match self {
            Self::Packed { batch, table } => {
                let table = batch.table(*table);
                (table.packed_bytes(), table.unpacked_bytes().unwrap_or(0))
            }
            Self::Rows(rows) => (rows.bytes(), 0),
        }
    }
}

/// What is known of consecutive rows of a part, as a directory knows it of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which rows.
    pub rows: Range<usize>,
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
}

impl HeadPart {
    /// Of tables of one measurement, in order of arrival. Nothing is unpacked if one of them is packed.
    pub(super) fn of_sources(measurement: MeasurementId, sources: Vec<Source>, asks: &Arc<Asks>) -> Self {
        if !sources.iter().any(Source::is_packed) {
            return Self::from_shared(unpack(measurement, &sources));
        }
        let nothing = TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        };
        let outlines = sources.iter().map(Source::outline);
        let (rows_max, time) = outlines.fold((0, nothing), |sum, one| {
            let time = TimeRange {
                min: sum.1.min.min(one.1.min),
                max: sum.1.max.max(one.1.max),
            };
            (sum.0 + one.0, time)
        });
        let bytes = sources.iter().map(Source::bytes);
        let (packed_bytes, more) = bytes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Self {
            measurement,
            sources,
            rows_max,
            time,
            packed_bytes,
            bytes: packed_bytes + more,
            rows: OnceLock::new(),
            outline: OnceLock::new(),
            runs: None,
            asked: AtomicBool::new(false),
            asks: asks.clone(),
        }
    }

    /// Of parts of one measurement, oldest first. It is unpacked if one of them is.
    pub(super) fn merged(measurement: MeasurementId, parts: &[Arc<Self>], asks: &Arc<Asks>) -> Self {
        let sources = parts.iter().flat_map(|part| part.sources()).collect();
        let merged = Self::of_sources(measurement, sources, asks);
        if merged.rows.get().is_none() && parts.iter().any(|part| part.is_unpacked()) {
            let rows: Vec<Arc<SortedRows>> = parts.iter().map(|part| part.borrow_rows()).collect();
            let rows: Vec<&SortedRows> = rows.iter().map(Arc::as_ref).collect();
            merged
                .rows
                .get_or_init(|| Arc::new(concat_sorted(measurement, &rows)));
        }
        merged
    }

    /// A query, or whoever foresaw it, unpacked it for good.
    pub fn is_unpacked(&self) -> bool {
        !self.sources.is_empty() && self.rows.get().is_some()
    }

    /// Can its rows be read without unpacking anything?
    pub fn is_at_hand(&self) -> bool {
        self.rows.get().is_some()
    }

    fn from_shared(rows: Arc<SortedRows>) -> Self {
        let time = rows.time_range();
        Self::within(time, rows)
    }

    fn within(time: TimeRange, rows: Arc<SortedRows>) -> Self {
        Self {
            measurement: rows.measurement,
            sources: Vec::new(),
            rows_max: rows.len(),
            time,
            packed_bytes: rows.bytes(),
            bytes: rows.bytes(),
            rows: OnceLock::from(rows),
            outline: OnceLock::new(),
            runs: None,
            asked: AtomicBool::new(false),
            asks: Arc::default(),
        }
    }

    /// Of rows of which it is known which are of which series: what is looked for by series is found at once, so it is one stretch.
    pub fn of_series(rows: SortedRows, runs: SeriesRuns) -> Self {
        debug_assert_eq!(runs.last().map_or(0, |(_, range)| range.end), rows.len());
        let nothing = TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        };
        // Ascending within a series.
        let time = runs.iter().fold(nothing, |time, (_, range)| TimeRange {
            min: time.min.min(rows.times[range.start]),
            max: time.max.max(rows.times[range.end - 1]),
        });
        debug_assert!(rows.is_empty() || time == rows.time_range());
        let mut part = Self::within(time, Arc::new(rows));
        if let (Some((first_series, _)), Some((last_series, _))) = (runs.first(), runs.last()) {
            let stretch = Stretch {
                rows: 0..part.rows_max,
                first_series: *first_series,
                last_series: *last_series,
                time: part.time,
            };
            part.outline = OnceLock::from(vec![stretch]);
            part.bytes += size_of_val(runs.as_slice());
            part.runs = Some(runs);
        }
        part
    }

    /// Its rows, if they are unpacked and nobody else holds them.
    pub fn into_rows(self) -> Option<SortedRows> {
        self.rows.into_inner().and_then(Arc::into_inner)
    }

    /// Which rows are of which series, if that is known.
    pub fn runs(&self) -> Option<&[(SeriesId, Range<usize>)]> {
        self.runs.as_deref()
    }

    /// What it was made of, for a part that takes it in.
    fn sources(&self) -> Vec<Source> {
        match self.rows.get() {
            Some(rows) if self.sources.is_empty() => vec![Source::Rows(rows.clone())],
            _ => self.sources.clone(),
        }
    }

    /// Whose rows they are.
    pub(super) fn measurement(&self) -> MeasurementId {
        self.measurement
    }

    /// At most so many rows.
    pub fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Smallest and largest timestamp; nothing is unpacked for it.
    pub fn time_range(&self) -> TimeRange {
        self.time
    }

    /// Bytes of memory it takes once it is unpacked.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory it takes as long as nobody unpacks it.
    pub fn packed_bytes(&self) -> usize {
        self.packed_bytes
    }

    /// Unpacks it for good, for queries that are likely to come.
    pub(super) fn unpack(&self) -> &SortedRows {
        self.rows.get_or_init(|| unpack(self.measurement, &self.sources))
    }

    /// The rows for one use: unpacked anew if no query unpacked them before.
    pub fn borrow_rows(&self) -> Arc<SortedRows> {
        match self.rows.get() {
            Some(rows) => rows.clone(),
            None => unpack(self.measurement, &self.sources),
        }
    }

    /// The tables it is made of, each sorted in itself, in order of arrival; or all its rows, if they are unpacked.
    pub(super) fn unsealed(&self) -> Vec<Source> {
        match self.rows.get() {
            Some(rows) => vec![Source::Rows(rows.clone())],
            None => self.sources.clone(),
        }
    }

    /// The stretches, in the order of the rows.
    pub fn outline(&self) -> &[Stretch] {
        self.outline.get_or_init(|| {
            let starts = (0..self.len()).step_by(STRETCH_ROWS);
            starts.map(|start| self.stretch(start)).collect()
        })
    }

    fn stretch(&self, start: usize) -> Stretch {
        let rows = start..self.len().min(start + STRETCH_ROWS);
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for &time in &self.times[rows.clone()] {
            min = min.min(time);
            max = max.max(time);
        }
        Stretch {
            first_series: self.series[rows.start],
            last_series: self.series[rows.end - 1],
            time: TimeRange { min, max },
            rows,
        }
    }
}

fn unpack(measurement: MeasurementId, sources: &[Source]) -> Arc<SortedRows> {
    match sources {
        [one] => one.read(),
        many => {
            let tables: Vec<Arc<SortedRows>> = many.iter().map(Source::read).collect();
            let tables: Vec<&SortedRows> = tables.iter().map(Arc::as_ref).collect();
            Arc::new(concat_sorted(measurement, &tables))
        }
    }
}

impl From<SortedRows> for HeadPart {
    fn from(rows: SortedRows) -> Self {
        Self::from_shared(Arc::new(rows))
    }
}

impl Deref for HeadPart {
    type Target = SortedRows;

    fn deref(&self) -> &SortedRows {
        // Written only when it changes: many threads read it.
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
            self.asks.note(self.measurement);
        }
        self.unpack()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_covers_all_rows() {
        let rows = 2 * STRETCH_ROWS + 5;
        let series: Vec<SeriesId> = (0..rows as u32).map(|i| i / 10_000).collect();
        let times: Vec<i64> = (0..rows as i64).map(|i| 7 + i % 10_000).collect();
        let part = HeadPart::from(SortedRows::from_unsorted(1, series, times, Vec::new()));
        let outline = part.outline();
        let ends: Vec<usize> = outline.iter().map(|s| s.rows.end).collect();
        assert_eq!(ends, [STRETCH_ROWS, 2 * STRETCH_ROWS, rows]);
        assert_eq!((outline[1].first_series, outline[1].last_series), (0, 1));
        assert_eq!(
            outline[0].time,
            TimeRange {
                min: 7,
                max: 7 + 8191
            }
        );
        assert_eq!(
            outline[1].time,
            TimeRange {
                min: 7,
                max: 7 + 9999
            }
        );
        assert!(HeadPart::from(SortedRows::empty(1)).outline().is_empty());
    }
}
