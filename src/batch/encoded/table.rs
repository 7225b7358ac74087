//! A table of an encoded batch, as it lies there: its columns are unpacked when somebody asks for them.

use super::super::directory::{ColumnEntry, TableEntry};
use super::super::packed::series_starts;
use crate::block::{decode_row_keys, decode_rows, decode_series_column, series_range};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, SeriesRuns, SortedRows, TimeRange};
use std::ops::Range;

/// One table of an encoded batch.
pub struct TableView<'a> {
    pub(super) data: &'a [u8],
    pub(super) entry: &'a TableEntry,
    pub(super) columns: &'a [ColumnEntry],
    pub(super) at: usize,
}

impl TableView<'_> {
    /// Which shard's.
    pub fn shard(&self) -> u16 {
        self.entry.shard
    }

    /// Whose rows.
    pub fn measurement(&self) -> MeasurementId {
        self.entry.measurement
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.entry.rows
    }

    /// No rows: never encoded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its place among the tables of the batch.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Smallest and largest time.
    pub fn time_range(&self) -> TimeRange {
        self.entry.time
    }

    /// Its first series and its last.
    pub fn series_range(&self) -> (SeriesId, SeriesId) {
        series_range(&self.data[self.entry.keys.clone()]).expect("made by encode or validated by from_bytes")
    }

    /// Bytes of memory it takes as it is.
    pub fn packed_bytes(&self) -> usize {
        let columns = self.columns;
        let chunks: usize = columns.iter().map(|column| column.chunk.len()).sum();
        size_of::<TableEntry>() + size_of_val(columns) + self.entry.keys.len() + chunks
    }

    /// Bytes of memory its rows take once they are unpacked; `None` with strings, which may take any.
    pub fn unpacked_bytes(&self) -> Option<usize> {
        let columns = self.columns;
        let known = columns
            .iter()
            .all(|column| column.field_type != FieldType::String);
        known.then(|| self.len() * (12 + 8 * columns.len()) + columns.len() * 64)
    }

    /// The time of each row.
    pub fn times(&self) -> Vec<i64> {
        self.keys().1
    }

    /// Which rows are of which series, and the time of each row.
    pub fn runs(&self) -> (SeriesRuns, Vec<i64>) {
        decode_rows(&self.data[self.entry.keys.clone()]).expect("made by encode or validated by from_bytes")
    }

    /// Those of its columns that are wanted, unpacked; `runs` as [`runs`](Self::runs) says.
    pub fn columns(
        &self,
        runs: &[(SeriesId, Range<usize>)],
        wanted: impl Fn(FieldId) -> bool,
    ) -> Vec<(FieldId, Column)> {
        let starts: Vec<u32> = runs.iter().map(|(_, rows)| rows.start as u32).collect();
        let columns = self.columns.iter().filter(|column| wanted(column.field));
        columns
            .map(|column| (column.field, self.column(column, &starts)))
            .collect()
    }

    /// Its fields, ascending, and their types.
    pub fn fields(&self) -> impl Iterator<Item = (FieldId, FieldType)> {
        self.columns
            .iter()
            .map(|column| (column.field, column.field_type))
    }

    /// One of its columns, if it has it; `runs` as [`runs`](Self::runs) says.
    pub fn column_of(&self, runs: &[(SeriesId, Range<usize>)], field: FieldId) -> Option<Column> {
        self.columns(runs, |known| known == field)
            .pop()
            .map(|(_, column)| column)
    }

    fn column(&self, column: &ColumnEntry, starts: &[u32]) -> Column {
        decode_series_column(&self.data[column.chunk.clone()], column.field_type, starts)
            .expect("made by encode or validated by from_bytes")
    }

    /// Its rows, unpacked.
    pub fn read(&self) -> SortedRows {
        let (series, times) = self.keys();
        let mut starts = Vec::new();
        series_starts(&series, &mut starts);
        let columns = self.columns.iter();
        let columns = columns.map(|column| (column.field, self.column(column, &starts)));
        SortedRows {
            measurement: self.measurement(),
            columns: columns.collect(),
            series,
            times,
        }
    }

    fn keys(&self) -> (Vec<SeriesId>, Vec<i64>) {
        decode_row_keys(&self.data[self.entry.keys.clone()])
            .expect("made by encode or validated by from_bytes")
    }
}
