//! A batch: the rows of one request, columnar, with the names of whatever they use that is not yet known to be durable.
//!
//! Made by [`crate::ingest`], encoded by [`encoded`] (the only file that knows rkyv), one frame in the journal, then taken
//! apart by the shards. A batch is the unit of atomicity: all of it is durable and visible, or nothing.

mod directory;
pub mod encoded;
pub mod packed;

pub use encoded::{BatchError, EncodedBatch, TableView};
pub use packed::Packed;

use crate::model::{Column, DatabaseId, FieldId, FieldType, MeasurementId, PolicyId, SeriesId, TimeRange};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Shards the tables are split for.
    pub shards: u16,
    /// What the ids in the tables mean, where that is not known to be durable.
    pub definitions: Definitions,
    /// Rows.
    pub tables: Vec<Table>,
    /// More rows, ready to be written.
    pub packed: Packed,
    /// Changes other than rows, in order.
    pub commands: Vec<Command>,
}

/// Rows of one measurement for one shard, in arrival order.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Which shard's.
    pub shard: u16,
    /// Whose rows.
    pub measurement: MeasurementId,
    /// One a row.
    pub series: Vec<SeriesId>,
    /// One a row, nanoseconds.
    pub times: Vec<i64>,
    /// Each with one entry a row; no field twice.
    pub columns: Vec<(FieldId, Column)>,
}

/// Names and what they stand for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Databases.
    pub databases: Vec<DatabaseDefinition>,
    /// Retention policies.
    pub policies: Vec<PolicyDefinition>,
    /// Measurements.
    pub measurements: Vec<MeasurementDefinition>,
    /// Fields.
    pub fields: Vec<FieldDefinition>,
    /// Series.
    pub series: Vec<SeriesDefinition>,
}

impl Definitions {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty()
            && self.policies.is_empty()
            && self.measurements.is_empty()
            && self.fields.is_empty()
            && self.series.is_empty()
    }
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseDefinition {
    /// Its id.
    pub id: DatabaseId,
    /// Its name.
    pub name: String,
}

/// A retention policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDefinition {
    /// Its id.
    pub id: PolicyId,
    /// Of which database.
    pub database: DatabaseId,
    /// Its name.
    pub name: String,
    /// How long data is kept, nanoseconds; 0 = for ever.
    pub duration: i64,
    /// InfluxDB's shard group duration, nanoseconds: kept and shown, without effect.
    pub shard_duration: i64,
    /// InfluxDB's replication: kept and shown, without effect.
    pub replication: u32,
    /// The one that is used when none is named.
    pub default: bool,
}

/// A measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasurementDefinition {
    /// Its id.
    pub id: MeasurementId,
    /// Of which policy.
    pub policy: PolicyId,
    /// Its name.
    pub name: String,
}

/// A field of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDefinition {
    /// Of which measurement.
    pub measurement: MeasurementId,
    /// Its id.
    pub id: FieldId,
    /// Its name.
    pub name: String,
    /// Its type, for good.
    pub field_type: FieldType,
}

/// A series of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesDefinition {
    /// Of which measurement.
    pub measurement: MeasurementId,
    /// Its id.
    pub id: SeriesId,
    /// Its canonical key.
    pub key: String,
}

/// A change other than rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Forget a database with all that is in it.
    DropDatabase(DatabaseId),
    /// Forget a policy with all that is in it.
    DropPolicy(PolicyId),
    /// Replace a policy's settings; its id stays.
    AlterPolicy(PolicyDefinition),
    /// Forget a measurement with all that is in it.
    DropMeasurement(MeasurementId),
    /// Forget series with all their points.
    DropSeries {
        /// Of which measurement.
        measurement: MeasurementId,
        /// Which.
        series: Vec<SeriesId>,
    },
    /// Delete points.
    Delete {
        /// Of which measurement.
        measurement: MeasurementId,
        /// Of which series; `None` for all.
        series: Option<Vec<SeriesId>>,
        /// From when to when.
        time: TimeRange,
    },
    /// Keep a small named record (a user, a continuous query, ..).
    PutRecord {
        /// What kind.
        kind: String,
        /// Its name, unique in its kind.
        name: String,
        /// Its text.
        value: String,
    },
    /// Forget a record.
    RemoveRecord {
        /// What kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Series of a measurement that follow each other and share a shard, as a power of two: a measurement of few series is not cut
/// into small tables.
pub const STRIPE_BITS: u32 = 7;

/// The shard of a series. Stable only within a process: batches say for how many shards they are split.
#[inline]
pub fn shard_of(measurement: MeasurementId, series: SeriesId, shards: u16) -> u16 {
    // Stripes of a measurement go round; the next measurement begins one further.
    ((u64::from(measurement) + u64::from(series >> STRIPE_BITS)) % u64::from(shards)) as u16
}

impl Batch {
    /// Rows in all tables.
    pub fn rows(&self) -> usize {
        let unpacked: usize = self.tables.iter().map(|table| table.times.len()).sum();
        unpacked + self.packed.rows() as usize
    }

    /// The same rows split for another number of shards, as replay on another machine needs. Not of what is packed.
    pub fn resplit(self, shards: u16) -> Self {
        if self.shards == shards {
            return self;
        }
        assert_eq!(self.packed.rows(), 0, "what is packed stays split as it is");
        let mut tables: Vec<Table> = Vec::new();
        for table in self.tables {
            for shard in 0..shards {
                let wanted =
                    |row: &u32| shard_of(table.measurement, table.series[*row as usize], shards) == shard;
                let rows: Vec<u32> = (0..table.times.len() as u32).filter(wanted).collect();
                if rows.is_empty() {
                    continue;
                }
                tables.push(Table {
                    shard,
                    measurement: table.measurement,
                    series: rows.iter().map(|&r| table.series[r as usize]).collect(),
                    times: rows.iter().map(|&r| table.times[r as usize]).collect(),
                    columns: table.columns.iter().map(|(f, c)| (*f, c.gather(&rows))).collect(),
                });
            }
        }
        Self {
            shards,
            tables,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_used_evenly_and_in_range() {
        for shards in [1u16, 2, 3, 8] {
            let even = 10_000 / u32::from(shards);
            for (measurements, series) in [(1, 10_000), (100, 100), (10_000, 1)] {
                let mut counts = vec![0u32; usize::from(shards)];
                for measurement in 0..measurements {
                    for series in 0..series {
                        counts[usize::from(shard_of(measurement, series, shards))] += 1;
                    }
                }
                assert!(counts.iter().all(|&c| c > even / 2 && c < even * 2), "{counts:?}");
            }
        }
    }
}
