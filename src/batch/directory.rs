//! Where the tables and columns of a batch are in its data, and what they are: a few bytes each, since a request may have hundreds of
//! small tables. Drawn in docs/formats/batch.md.

use crate::block::bytes::{Input, put, put_signed};
use crate::model::{FieldId, FieldType, MeasurementId, TimeRange};
use std::ops::Range;

/// No table takes fewer bytes here.
const TABLE_BYTES_MIN: usize = 4;

/// Tables and columns, in the order of the data.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Directory {
    pub(super) tables: Vec<TableEntry>,
    /// Of all tables, one after the other.
    pub(super) columns: Vec<ColumnEntry>,
}

/// A table in the data.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableEntry {
    pub(super) shard: u16,
    pub(super) measurement: MeasurementId,
    pub(super) rows: usize,
    pub(super) time: TimeRange,
    /// Its series ids and times.
    pub(super) keys: Range<usize>,
    /// The table that has these keys first: mostly itself.
    pub(super) keys_of: usize,
    /// Which of the batch's columns.
    pub(super) columns: Range<usize>,
}

/// A column in the data.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ColumnEntry {
    pub(super) field: FieldId,
    pub(super) field_type: FieldType,
    pub(super) chunk: Range<usize>,
}

impl Directory {
    /// Rows of all tables.
    pub(super) fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows as u64).sum()
    }

    /// Adds columns of the next table, and says which they are.
    pub(super) fn add(&mut self, columns: impl Iterator<Item = ColumnEntry>) -> Range<usize> {
        let first = self.columns.len();
        self.columns.extend(columns);
        first..self.columns.len()
    }

    /// As bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 * self.tables.len() + 4 * self.columns.len() + 8);
        put(&mut out, self.tables.len() as u64);
        let (mut measurement, mut time) = (0, 0i64);
        for (at, table) in self.tables.iter().enumerate() {
            put(&mut out, u64::from(table.shard));
            put_signed(&mut out, i64::from(table.measurement) - measurement);
            put(&mut out, (at - table.keys_of) as u64);
            if table.keys_of == at {
                put(&mut out, table.rows as u64);
                put_signed(&mut out, table.time.min.wrapping_sub(time));
                put(&mut out, table.time.max.wrapping_sub(table.time.min) as u64);
                put(&mut out, table.keys.len() as u64);
            }
            put(&mut out, table.columns.len() as u64);
            for column in &self.columns[table.columns.clone()] {
                put(&mut out, u64::from(column.field));
                out.push(column.field_type as u8);
                put(&mut out, column.chunk.len() as u64);
            }
            (measurement, time) = (i64::from(table.measurement), table.time.min);
        }
        out
    }

    /// Reads it back. `None` where it makes no sense, or is not of exactly `data` bytes of data.
    pub(super) fn decode(bytes: &[u8], data: usize) -> Option<Self> {
        let mut input = Input(bytes);
        let mut at = 0usize;
        let mut take = |len: u64| {
            let begin = at;
            at = at
                .checked_add(usize::try_from(len).ok()?)
                .filter(|end| *end <= data)?;
            Some(begin..at)
        };
        let count = input.get_count(bytes.len() / TABLE_BYTES_MIN)?;
        let mut read = Self {
            tables: Vec::with_capacity(count),
            columns: Vec::with_capacity(count),
        };
        let (mut measurement, mut time) = (0, 0i64);
        for at in 0..count {
            let shard = u16::try_from(input.get()?).ok()?;
            measurement = input.get_signed()?.checked_add(measurement)?;
            let back = usize::try_from(input.get()?).ok()?;
            let keys_of = at.checked_sub(back)?;
            let (rows, range, keys) = match read.tables.get(keys_of) {
                // Whoever is referred to has keys of its own.
                Some(of) if of.keys_of == keys_of => (of.rows, of.time, of.keys.clone()),
                Some(_) => return None,
                None => {
                    let rows = usize::try_from(input.get()?).ok()?;
                    let min = input.get_signed()?.wrapping_add(time);
                    let max = min.wrapping_add(input.get()? as i64);
                    (rows, TimeRange { min, max }, take(input.get()?)?)
                }
            };
            time = range.min;
            let columns = input.get_count(bytes.len())?;
            let first = read.columns.len();
            for _ in 0..columns {
                read.columns.push(ColumnEntry {
                    field: FieldId::try_from(input.get()?).ok()?,
                    field_type: FieldType::from_code(input.byte()?)?,
                    chunk: take(input.get()?)?,
                });
            }
            read.tables.push(TableEntry {
                shard,
                measurement: MeasurementId::try_from(measurement).ok()?,
                rows,
                time: range,
                keys,
                keys_of,
                columns: first..read.columns.len(),
            });
        }
        (input.is_empty() && at == data).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn directory() -> impl Strategy<Value = Directory> {
        let column = (any::<FieldId>(), 0u8..5, 0usize..1000);
        let table = (
            any::<u16>(),
            any::<MeasurementId>(),
            0usize..1_000_000,
            (any::<i64>(), any::<i64>()),
            (
                0usize..1000,
                prop::option::weighted(0.3, any::<prop::sample::Index>()),
            ),
            prop::collection::vec(column, 0..4),
        );
        prop::collection::vec(table, 0..6).prop_map(|tables| {
            let mut directory = Directory::default();
            let mut at = 0;
            let mut take = |len: usize| {
                at += len;
                at - len..at
            };
            for (shard, measurement, rows, (a, b), (keys, like), columns) in tables {
                let own = TableEntry {
                    shard,
                    measurement,
                    rows,
                    time: TimeRange {
                        min: a.min(b),
                        max: a.max(b),
                    },
                    keys: 0..0,
                    keys_of: directory.tables.len(),
                    columns: 0..0,
                };
                let like = like.filter(|_| !directory.tables.is_empty());
                let entry = match like.map(|like| &directory.tables[like.index(directory.tables.len())]) {
                    Some(of) => TableEntry {
                        shard,
                        measurement,
                        columns: 0..0,
                        ..of.clone()
                    },
                    None => TableEntry {
                        keys: take(keys),
                        ..own
                    },
                };
                let first = directory.columns.len();
                for (field, code, chunk) in columns {
                    directory.columns.push(ColumnEntry {
                        field,
                        field_type: FieldType::from_code(code).expect("0 to 4 are types"),
                        chunk: take(chunk),
                    });
                }
                directory.tables.push(TableEntry {
                    columns: first..directory.columns.len(),
                    ..entry
                });
            }
            directory
        })
    }

    fn data_of(directory: &Directory) -> usize {
        let tables = directory.tables.iter().enumerate();
        let tables = tables
            .filter(|(at, table)| table.keys_of == *at)
            .map(|(_, table)| table.keys.len());
        let columns = directory.columns.iter().map(|column| column.chunk.len());
        tables.chain(columns).sum()
    }

    proptest! {
        #[test]
        fn any_directory_round_trips(directory in directory()) {
            let (bytes, data) = (directory.encode(), data_of(&directory));
            let read = Directory::decode(&bytes, data);
            prop_assert_eq!(read.as_ref(), Some(&directory));
            prop_assert_eq!(Directory::decode(&bytes, data + 1), None);
            prop_assert_eq!(Directory::decode(&bytes[..bytes.len() - 1], data), None);
        }

        #[test]
        fn damage_never_panics(directory in directory(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut bytes, data) = (directory.encode(), data_of(&directory));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Some(read) = Directory::decode(&bytes, data) {
                prop_assert_eq!(data_of(&read), data);
            }
        }
    }
}
