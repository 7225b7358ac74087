//! One shard's slice of the head: for each measurement a short list of sorted, immutable parts. Pure.
//!
//! A group of batches becomes one part a measurement. When [`FAN_IN`] parts of the same size class have gathered they
//! are merged, so that a query never meets more than `FAN_IN` times the number of classes, and a row is copied only once a
//! class.

use super::Group;
use crate::model::{Column, FieldId, MeasurementId, SeriesId, SortedRows, concat_sorted};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Parts of one size class that are merged into one of the next.
pub const FAN_IN: usize = 32;

/// Parts of one measurement, oldest first: where two have the same point, the later holds the newer values.
pub type Parts = Arc<[Arc<SortedRows>]>;

/// All parts of one shard.
pub type PartMap = HashMap<MeasurementId, Parts>;

/// What applying a group changed: the new lists of the measurements it touched.
#[derive(Default)]
pub struct Update {
    /// The new lists.
    pub lists: Vec<(MeasurementId, Parts)>,
    /// Bytes of all parts of the shard afterwards.
    pub bytes: usize,
}

/// See the module.
pub struct ShardHead {
    shard: u16,
    parts: HashMap<MeasurementId, Vec<Arc<SortedRows>>>,
    bytes: usize,
}

impl ShardHead {
    /// An empty head for this shard.
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            parts: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes the shard's rows of a group.
    pub fn apply(&mut self, group: &Group) -> Update {
        let mut gathered: HashMap<MeasurementId, Gathered> = HashMap::new();
        for batch in &group.batches {
            for table in batch.tables().filter(|table| table.shard() == self.shard) {
                let rows = gathered.entry(table.measurement()).or_default();
                let before = rows.times.len();
                table.append_series(&mut rows.series);
                table.append_times(&mut rows.times);
                for (field, column) in table.columns() {
                    rows.append(field, column, before);
                }
                rows.fill_missing();
            }
        }
        let mut lists = Vec::with_capacity(gathered.len());
        for (measurement, rows) in gathered {
            let part = SortedRows::from_unsorted(measurement, rows.series, rows.times, rows.columns);
            lists.push((measurement, self.push(measurement, part)));
        }
        Update {
            lists,
            bytes: self.bytes,
        }
    }

    /// Empties the head: what it held now belongs to the seal. The published lists keep the parts alive.
    pub fn freeze(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }

    fn push(&mut self, measurement: MeasurementId, part: SortedRows) -> Parts {
        let parts = match self.parts.entry(measurement) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Vec::new()),
        };
        self.bytes += part.bytes();
        parts.push(Arc::new(part));
        while let Some(start) = gathered_class(parts) {
            let merging: Vec<&SortedRows> = parts[start..].iter().map(Arc::as_ref).collect();
            let merged = concat_sorted(measurement, &merging);
            self.bytes -= merging.iter().map(|part| part.bytes()).sum::<usize>();
            self.bytes += merged.bytes();
            parts.truncate(start);
            parts.push(Arc::new(merged));
        }
        parts.as_slice().into()
    }
}

/// Where the newest parts that should be merged begin, if there are enough of one class.
fn gathered_class(parts: &[Arc<SortedRows>]) -> Option<usize> {
    let newest = class(parts.last()?.len());
    let start = parts
        .iter()
        .rposition(|part| class(part.len()) > newest)
        .map_or(0, |at| at + 1);
    (parts.len() - start >= FAN_IN).then_some(start)
}

/// The size class of a part: how often its rows can be divided by the fan-in.
fn class(rows: usize) -> u32 {
    rows.max(1).ilog(FAN_IN)
}

/// Rows of one measurement from several tables, in arrival order.
#[derive(Default)]
struct Gathered {
    series: Vec<SeriesId>,
    times: Vec<i64>,
    columns: Vec<(FieldId, Column)>,
}

impl Gathered {
    fn append(&mut self, field: FieldId, column: Column, before: usize) {
        if before == 0 {
            self.columns.push((field, column));
            return;
        }
        match self.columns.iter_mut().find(|(f, _)| *f == field) {
            Some((_, to)) => to.extend_from(&column, 0..column.len()),
            None => {
                let mut to = Column::new(column.values.field_type());
                to.push_missing(before);
                to.extend_from(&column, 0..column.len());
                self.columns.push((field, to));
            }
        }
    }

    fn fill_missing(&mut self) {
        let rows = self.times.len();
        self.columns
            .iter_mut()
            .for_each(|(_, column)| column.push_missing(rows - column.len()));
    }
}
