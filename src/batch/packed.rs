//! Tables on their way into a batch: sorted, packed with the codecs of blocks, lying end to end.

use super::directory::{ColumnEntry, Directory, TableEntry};
use crate::block::{Level, encode_rows, encode_series_chunk};
use crate::model::{Column, FieldId, MeasurementId, SeriesId, SortedRows, TimeRange};

/// Rows of a packed table; longer tables become several.
pub(super) const TABLE_ROWS_MAX: usize = 1 << 16;
/// Sets of keys that later tables are compared with.
const KNOWN_MAX: usize = 4;
/// Longer tables cost little for their keys, and much to compare.
const KNOWN_ROWS_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    pub(super) directory: Directory,
    /// For each table its keys, as [`encode_rows`] packs them, if they are its own, then its columns, as [`encode_series_chunk`] does.
    pub(super) data: Vec<u8>,
    known: Vec<Keys>,
    /// The one of `known` that the next new one takes the place of.
    oldest: usize,
    /// Where the series of the table that is packed begin.
    starts: Vec<u32>,
}

/// Keys of a table in the data: agents send all their measurements for the same hosts at the same times, so that many small
/// tables share them.
#[derive(Clone, Debug, Default)]
struct Keys {
    series: Vec<SeriesId>,
    times: Vec<i64>,
    starts: Vec<u32>,
    table: usize,
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.directory == other.directory && self.data == other.data
    }
}

impl Packed {
    /// Room for so many rows, about.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            data: Vec::with_capacity(4 * rows),
            ..Self::default()
        }
    }

    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.directory.rows()
    }

    /// Packs rows of one measurement and shard, in any order. Of two with the same series and time the later one is kept, field by
    /// field. Every column has one entry a row; no field twice.
    pub fn push(
        &mut self,
        shard: u16,
        measurement: MeasurementId,
        series: &[SeriesId],
        times: &[i64],
        columns: &mut [(FieldId, &Column)],
    ) {
        if times.is_empty() {
            return;
        }
        columns.sort_by_key(|(field, _)| *field);
        let known = self.known.iter();
        let mut known = known.filter(|keys| keys.times == times && keys.series == series);
        if let Some(keys) = known.next() {
            // They are sorted: nothing is looked at again.
            let columns = pack_columns(columns, 0..times.len(), &keys.starts, &mut self.data);
            let columns = self.directory.add(columns);
            self.directory.tables.push(TableEntry {
                shard,
                measurement,
                columns,
                ..self.directory.tables[keys.table].clone()
            });
            return;
        }
        match SortedRows::sort(measurement, series, times, columns) {
            None => self.push_sorted(shard, measurement, series, times, columns),
            Some(rows) => {
                let columns: Vec<(FieldId, &Column)> = rows.columns.iter().map(|(f, c)| (*f, c)).collect();
                self.push_sorted(shard, measurement, &rows.series, &rows.times, &columns);
            }
        }
    }

    fn push_sorted(
        &mut self,
        shard: u16,
        measurement: MeasurementId,
        series: &[SeriesId],
        times: &[i64],
        columns: &[(FieldId, &Column)],
    ) {
        let mut starts = std::mem::take(&mut self.starts);
        for start in (0..times.len()).step_by(TABLE_ROWS_MAX) {
            let range = start..times.len().min(start + TABLE_ROWS_MAX);
            let (series, times) = (&series[range.clone()], &times[range.clone()]);
            series_starts(series, &mut starts);
            let begin = self.data.len();
            encode_rows(series, times, Level::Fast, &mut self.data);
            let keys = begin..self.data.len();
            let columns = pack_columns(columns, range, &starts, &mut self.data);
            let entry = TableEntry {
                shard,
                measurement,
                rows: times.len(),
                time: TimeRange {
                    min: times.iter().copied().min().unwrap_or(0),
                    max: times.iter().copied().max().unwrap_or(0),
                },
                keys,
                keys_of: self.directory.tables.len(),
                columns: self.directory.add(columns),
            };
            self.directory.tables.push(entry);
        }
        if times.len() <= KNOWN_ROWS_MAX {
            self.know(series, times, &starts);
        }
        self.starts = starts;
    }

    /// Tables to come may have the keys of the one that was just pushed.
    fn know(&mut self, series: &[SeriesId], times: &[i64], starts: &[u32]) {
        if self.known.len() < KNOWN_MAX {
            self.known.push(Keys::default());
            self.oldest = self.known.len() - 1;
        }
        let keys = &mut self.known[self.oldest];
        self.oldest = (self.oldest + 1) % KNOWN_MAX;
        keys.series.clear();
        keys.series.extend_from_slice(series);
        keys.times.clear();
        keys.times.extend_from_slice(times);
        keys.starts.clear();
        keys.starts.extend_from_slice(starts);
        keys.table = self.directory.tables.len() - 1;
    }
}

/// Packs some rows of columns, and says where they are.
fn pack_columns<'a>(
    columns: &'a [(FieldId, &Column)],
    rows: std::ops::Range<usize>,
    starts: &'a [u32],
    data: &'a mut Vec<u8>,
) -> impl Iterator<Item = ColumnEntry> {
    columns.iter().map(move |(field, column)| {
        let begin = data.len();
        encode_series_chunk(column, rows.clone(), starts, Level::Fast, data);
        ColumnEntry {
            field: *field,
            field_type: column.values.field_type(),
            chunk: begin..data.len(),
        }
    })
}

/// Where each series begins in sorted rows.
pub(super) fn series_starts(series: &[SeriesId], starts: &mut Vec<u32>) {
    starts.clear();
    starts.reserve(series.len());
    let begins = (0..series.len() as u32).filter(|&row| {
        let row = row as usize;
        row == 0 || series[row] != series[row - 1]
    });
    starts.extend(begins);
}
