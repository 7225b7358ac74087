//! Tables on their way into a batch: sorted, packed with the codecs of blocks, lying end to end.

use super::directory::{ColumnEntry, Directory, TableEntry};
use crate::block::{Level, encode_chunk, encode_rows};
use crate::model::{Column, FieldId, MeasurementId, SeriesId, SortedRows, TimeRange};

/// Rows of a packed table; longer tables become several.
pub(super) const TABLE_ROWS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    pub(super) directory: Directory,
    /// For each table its keys, as [`encode_rows`] packs them, then its columns, as [`encode_chunk`] does.
    pub(super) data: Vec<u8>,
}

impl Packed {
    /// Room for so many rows, about.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            directory: Directory::default(),
            data: Vec::with_capacity(4 * rows),
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
        columns.sort_by_key(|(field, _)| *field);
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
        for start in (0..times.len()).step_by(TABLE_ROWS_MAX) {
            let range = start..times.len().min(start + TABLE_ROWS_MAX);
            let times = &times[range.clone()];
            let begin = self.data.len();
            encode_rows(&series[range.clone()], times, Level::Fast, &mut self.data);
            let keys = begin..self.data.len();
            let directory = &mut self.directory;
            let first = directory.columns.len();
            for (field, column) in columns {
                let begin = self.data.len();
                encode_chunk(column, range.clone(), Level::Fast, &mut self.data);
                directory.columns.push(ColumnEntry {
                    field: *field,
                    field_type: column.values.field_type(),
                    chunk: begin..self.data.len(),
                });
            }
            directory.tables.push(TableEntry {
                shard,
                measurement,
                rows: range.len(),
                time: TimeRange {
                    min: times.iter().copied().min().unwrap_or(0),
                    max: times.iter().copied().max().unwrap_or(0),
                },
                keys,
                columns: first..directory.columns.len(),
            });
        }
    }
}
