//! The bytes of a batch: a 16-byte header, then rkyv. The only file that imports rkyv.
//!
//! Bytes from the journal are validated once, when they come in ([`EncodedBatch::from_bytes`]): structure by rkyv's own checks,
//! meaning (equal lengths, ids, shards) by ours. Drawn in docs/formats/batch.md.

use super::{
    Batch, Command, DatabaseDefinition, Definitions, FieldDefinition, MeasurementDefinition,
    PolicyDefinition, SeriesDefinition, Table,
};
use crate::model::{
    Bitmap, Column, FieldId, FieldType, MeasurementId, SeriesId, StringColumn, TimeRange, Values,
};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// The version of the format, in the first byte.
pub const BATCH_VERSION: u8 = 1;

/// Bytes before the archive: the version, then zeros. Keeps the archive aligned.
const HEADER_BYTES: usize = 16;

/// Rows a batch may have.
pub const BATCH_ROWS_MAX: usize = 50_000_000;

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A version this program does not know.
    #[error("batch version {0} is unknown")]
    Version(u8),
    /// Not a well-formed archive.
    #[error("batch is malformed: {0}")]
    Malformed(String),
    /// Well-formed, but it makes no sense.
    #[error("batch is inconsistent: {0}")]
    Inconsistent(&'static str),
}

#[derive(Archive, Serialize, Deserialize)]
struct WireBatch {
    shards: u16,
    rows: u64,
    definitions: WireDefinitions,
    commands: Vec<WireCommand>,
    tables: Vec<WireTable>,
}

#[derive(Archive, Serialize, Deserialize)]
struct WireDefinitions {
    databases: Vec<(u32, String)>,
    policies: Vec<WirePolicy>,
    measurements: Vec<(u32, u32, String)>,
    fields: Vec<(u32, u16, String, u8)>,
    series: Vec<(u32, u32, String)>,
}

#[derive(Archive, Serialize, Deserialize)]
struct WirePolicy {
    id: u32,
    database: u32,
    name: String,
    duration: i64,
    shard_duration: i64,
    replication: u32,
    default: bool,
}

#[derive(Archive, Serialize, Deserialize)]
enum WireCommand {
    DropDatabase(u32),
    DropPolicy(u32),
    AlterPolicy(WirePolicy),
    DropMeasurement(u32),
    DropSeries(u32, Vec<u32>),
    Delete(u32, Option<Vec<u32>>, i64, i64),
    PutRecord(String, String, String),
    RemoveRecord(String, String),
}

#[derive(Archive, Serialize, Deserialize)]
struct WireTable {
    shard: u16,
    measurement: u32,
    series: Vec<u32>,
    times: Vec<i64>,
    columns: Vec<WireColumn>,
}

#[derive(Archive, Serialize, Deserialize)]
struct WireColumn {
    field: u16,
    present: Option<Vec<u64>>,
    values: WireValues,
}

#[derive(Archive, Serialize, Deserialize)]
enum WireValues {
    Float(Vec<f64>),
    Integer(Vec<i64>),
    Unsigned(Vec<u64>),
    Boolean(Vec<u8>),
    String(Vec<u32>, Vec<u8>),
}

/// A batch as bytes that have been validated.
pub struct EncodedBatch {
    bytes: AlignedVec,
}

impl AsRef<[u8]> for EncodedBatch {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One table of an encoded batch.
pub struct TableView<'a>(&'a ArchivedWireTable);

impl EncodedBatch {
    /// Encodes a batch; its columns are copied once.
    pub fn encode(batch: Batch) -> Self {
        let wire = to_wire(batch);
        let mut bytes = AlignedVec::with_capacity(HEADER_BYTES + 1024);
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        bytes[0] = BATCH_VERSION;
        let bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&wire, bytes)
            .expect("writing to memory fails only when memory is out");
        Self { bytes }
    }

    /// Validates bytes that come from disk.
    ///
    /// # Errors
    /// They are no batch, or one that makes no sense.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BatchError> {
        let version = *bytes.first().ok_or(BatchError::Inconsistent("it is empty"))?;
        if version != BATCH_VERSION {
            return Err(BatchError::Version(version));
        }
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let archive = aligned
            .get(HEADER_BYTES..)
            .ok_or(BatchError::Inconsistent("it is too short"))?;
        let wire = rkyv::access::<ArchivedWireBatch, rancor::Error>(archive)
            .map_err(|error| BatchError::Malformed(error.to_string()))?;
        check(wire)?;
        Ok(Self { bytes: aligned })
    }

    fn wire(&self) -> &ArchivedWireBatch {
        rkyv::access::<ArchivedWireBatch, rancor::Error>(&self.bytes[HEADER_BYTES..])
            .expect("made by encode or validated by from_bytes")
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.wire().rows.to_native()
    }

    /// Shards it is split for.
    pub fn shards(&self) -> u16 {
        self.wire().shards.to_native()
    }

    /// Its tables.
    pub fn tables(&self) -> impl Iterator<Item = TableView<'_>> {
        self.wire().tables.iter().map(TableView)
    }

    /// A copy of its definitions.
    pub fn definitions(&self) -> Definitions {
        from_wire_definitions(&self.wire().definitions)
    }

    /// Does it define anything?
    pub fn has_definitions(&self) -> bool {
        let d = &self.wire().definitions;
        !(d.databases.is_empty()
            && d.policies.is_empty()
            && d.measurements.is_empty()
            && d.fields.is_empty()
            && d.series.is_empty())
    }

    /// A copy of its commands.
    pub fn commands(&self) -> Vec<Command> {
        self.wire().commands.iter().map(from_wire_command).collect()
    }

    /// The whole batch, decoded.
    pub fn decode(&self) -> Batch {
        let table = |view: TableView<'_>| {
            let mut table = Table {
                shard: view.shard(),
                measurement: view.measurement(),
                series: Vec::new(),
                times: Vec::new(),
                columns: view.columns().collect(),
            };
            view.append_series(&mut table.series);
            view.append_times(&mut table.times);
            table
        };
        Batch {
            shards: self.shards(),
            definitions: self.definitions(),
            tables: self.tables().map(table).collect(),
            commands: self.commands(),
        }
    }
}

impl TableView<'_> {
    /// Which shard's.
    pub fn shard(&self) -> u16 {
        self.0.shard.to_native()
    }

    /// Whose rows.
    pub fn measurement(&self) -> MeasurementId {
        self.0.measurement.to_native()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.0.times.len()
    }

    /// Adds the series of each row.
    pub fn append_series(&self, to: &mut Vec<SeriesId>) {
        to.extend(self.0.series.iter().map(|id| id.to_native()));
    }

    /// Adds the time of each row.
    pub fn append_times(&self, to: &mut Vec<i64>) {
        to.extend(self.0.times.iter().map(|time| time.to_native()));
    }

    /// Smallest and largest time.
    pub fn time_range(&self) -> TimeRange {
        let times = || self.0.times.iter().map(|time| time.to_native());
        TimeRange {
            min: times().min().unwrap_or(i64::MAX),
            max: times().max().unwrap_or(i64::MIN),
        }
    }

    /// The time of each row.
    pub fn times(&self) -> impl Iterator<Item = i64> {
        self.0.times.iter().map(|time| time.to_native())
    }

    /// Copies of its columns.
    pub fn columns(&self) -> impl Iterator<Item = (FieldId, Column)> {
        self.0.columns.iter().map(|column| {
            let present = column.present.as_ref().map(|words| {
                Bitmap::from_words(words.iter().map(|w| w.to_native()).collect(), self.0.times.len())
            });
            let values = match &column.values {
                ArchivedWireValues::Float(v) => Values::Float(v.iter().map(|x| x.to_native()).collect()),
                ArchivedWireValues::Integer(v) => Values::Integer(v.iter().map(|x| x.to_native()).collect()),
                ArchivedWireValues::Unsigned(v) => {
                    Values::Unsigned(v.iter().map(|x| x.to_native()).collect())
                }
                ArchivedWireValues::Boolean(v) => Values::Boolean(v.iter().map(|&x| x != 0).collect()),
                ArchivedWireValues::String(ends, bytes) => Values::String(StringColumn {
                    ends: ends.iter().map(|x| x.to_native()).collect(),
                    bytes: bytes.to_vec(),
                }),
            };
            (column.field.to_native(), Column { values, present })
        })
    }
}

fn check(wire: &ArchivedWireBatch) -> Result<(), BatchError> {
    let ensure = |holds: bool, what| {
        if holds {
            Ok(())
        } else {
            Err(BatchError::Inconsistent(what))
        }
    };
    let mut total = 0;
    for table in wire.tables.iter() {
        let rows = table.times.len();
        total += rows;
        ensure(table.shard < wire.shards, "a table's shard is out of range")?;
        ensure(
            table.series.len() == rows,
            "a table has more or fewer series than times",
        )?;
        for (i, column) in table.columns.iter().enumerate() {
            let twice = table.columns[..i].iter().any(|other| other.field == column.field);
            ensure(!twice, "a table has a field twice")?;
            if let Some(words) = column.present.as_ref() {
                ensure(
                    words.len() == rows.div_ceil(64),
                    "a presence bitmap has another length than its column",
                )?;
            }
            let len = match &column.values {
                ArchivedWireValues::Float(v) => v.len(),
                ArchivedWireValues::Integer(v) => v.len(),
                ArchivedWireValues::Unsigned(v) => v.len(),
                ArchivedWireValues::Boolean(v) => v.len(),
                ArchivedWireValues::String(ends, bytes) => {
                    let sorted = ends.windows(2).all(|pair| pair[0] <= pair[1]);
                    let covered = ends
                        .last()
                        .is_none_or(|end| end.to_native() as usize == bytes.len());
                    ensure(sorted && covered, "a text column's ends do not fit its bytes")?;
                    ends.len()
                }
            };
            ensure(len == rows, "a column has another length than its table")?;
        }
    }
    ensure(
        wire.definitions
            .fields
            .iter()
            .all(|f| FieldType::from_code(f.3).is_some()),
        "a field's type is unknown",
    )?;
    ensure(total <= BATCH_ROWS_MAX, "it has more rows than BATCH_ROWS_MAX")?;
    ensure(wire.rows.to_native() == total as u64, "its row count is wrong")
}

fn to_wire(batch: Batch) -> WireBatch {
    let d = batch.definitions;
    let rows = batch.tables.iter().map(|t| t.times.len() as u64).sum();
    WireBatch {
        shards: batch.shards,
        rows,
        definitions: WireDefinitions {
            databases: d.databases.into_iter().map(|x| (x.id, x.name)).collect(),
            policies: d.policies.into_iter().map(to_wire_policy).collect(),
            measurements: d
                .measurements
                .into_iter()
                .map(|x| (x.id, x.policy, x.name))
                .collect(),
            fields: d
                .fields
                .into_iter()
                .map(|x| (x.measurement, x.id, x.name, x.field_type as u8))
                .collect(),
            series: d
                .series
                .into_iter()
                .map(|x| (x.measurement, x.id, x.key))
                .collect(),
        },
        commands: batch.commands.into_iter().map(to_wire_command).collect(),
        tables: batch.tables.into_iter().map(to_wire_table).collect(),
    }
}

fn to_wire_table(table: Table) -> WireTable {
    let column = |(field, column): (FieldId, Column)| WireColumn {
        field,
        present: column.present.map(|p| p.words().to_vec()),
        values: match column.values {
            Values::Float(v) => WireValues::Float(v),
            Values::Integer(v) => WireValues::Integer(v),
            Values::Unsigned(v) => WireValues::Unsigned(v),
            Values::Boolean(v) => WireValues::Boolean(v.into_iter().map(u8::from).collect()),
            Values::String(v) => WireValues::String(v.ends, v.bytes),
        },
    };
    WireTable {
        shard: table.shard,
        measurement: table.measurement,
        series: table.series,
        times: table.times,
        columns: table.columns.into_iter().map(column).collect(),
    }
}

fn to_wire_policy(p: PolicyDefinition) -> WirePolicy {
    WirePolicy {
        id: p.id,
        database: p.database,
        name: p.name,
        duration: p.duration,
        shard_duration: p.shard_duration,
        replication: p.replication,
        default: p.default,
    }
}

fn from_wire_policy(p: &ArchivedWirePolicy) -> PolicyDefinition {
    PolicyDefinition {
        id: p.id.to_native(),
        database: p.database.to_native(),
        name: p.name.to_string(),
        duration: p.duration.to_native(),
        shard_duration: p.shard_duration.to_native(),
        replication: p.replication.to_native(),
        default: p.default,
    }
}

fn from_wire_definitions(d: &ArchivedWireDefinitions) -> Definitions {
    let databases = d.databases.iter();
    let measurements = d.measurements.iter();
    Definitions {
        databases: databases
            .map(|x| DatabaseDefinition {
                id: x.0.to_native(),
                name: x.1.to_string(),
            })
            .collect(),
        policies: d.policies.iter().map(from_wire_policy).collect(),
        measurements: measurements
            .map(|x| MeasurementDefinition {
                id: x.0.to_native(),
                policy: x.1.to_native(),
                name: x.2.to_string(),
            })
            .collect(),
        fields: d
            .fields
            .iter()
            .map(|x| FieldDefinition {
                measurement: x.0.to_native(),
                id: x.1.to_native(),
                name: x.2.to_string(),
                field_type: FieldType::from_code(x.3).expect("checked when it came in"),
            })
            .collect(),
        series: d
            .series
            .iter()
            .map(|x| SeriesDefinition {
                measurement: x.0.to_native(),
                id: x.1.to_native(),
                key: x.2.to_string(),
            })
            .collect(),
    }
}

fn to_wire_command(command: Command) -> WireCommand {
    match command {
        Command::DropDatabase(id) => WireCommand::DropDatabase(id),
        Command::DropPolicy(id) => WireCommand::DropPolicy(id),
        Command::AlterPolicy(policy) => WireCommand::AlterPolicy(to_wire_policy(policy)),
        Command::DropMeasurement(id) => WireCommand::DropMeasurement(id),
        Command::DropSeries { measurement, series } => WireCommand::DropSeries(measurement, series),
        Command::Delete {
            measurement,
            series,
            time,
        } => WireCommand::Delete(measurement, series, time.min, time.max),
        Command::PutRecord { kind, name, value } => WireCommand::PutRecord(kind, name, value),
        Command::RemoveRecord { kind, name } => WireCommand::RemoveRecord(kind, name),
    }
}

fn from_wire_command(command: &ArchivedWireCommand) -> Command {
    let ids =
        |ids: &rkyv::vec::ArchivedVec<rkyv::rend::u32_le>| ids.iter().map(|id| id.to_native()).collect();
    match command {
        ArchivedWireCommand::DropDatabase(id) => Command::DropDatabase(id.to_native()),
        ArchivedWireCommand::DropPolicy(id) => Command::DropPolicy(id.to_native()),
        ArchivedWireCommand::AlterPolicy(policy) => Command::AlterPolicy(from_wire_policy(policy)),
        ArchivedWireCommand::DropMeasurement(id) => Command::DropMeasurement(id.to_native()),
        ArchivedWireCommand::DropSeries(measurement, series) => Command::DropSeries {
            measurement: measurement.to_native(),
            series: ids(series),
        },
        ArchivedWireCommand::Delete(measurement, series, min, max) => Command::Delete {
            measurement: measurement.to_native(),
            series: series.as_ref().map(ids),
            time: TimeRange {
                min: min.to_native(),
                max: max.to_native(),
            },
        },
        ArchivedWireCommand::PutRecord(kind, name, value) => Command::PutRecord {
            kind: kind.to_string(),
            name: name.to_string(),
            value: value.to_string(),
        },
        ArchivedWireCommand::RemoveRecord(kind, name) => Command::RemoveRecord {
            kind: kind.to_string(),
            name: name.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(rows: usize) -> impl Strategy<Value = Column> {
        let values = prop_oneof![
            prop::collection::vec(
                any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()),
                rows
            )
            .prop_map(Values::Float),
            prop::collection::vec(any::<i64>(), rows).prop_map(Values::Integer),
            prop::collection::vec(any::<u64>(), rows).prop_map(Values::Unsigned),
            prop::collection::vec(any::<bool>(), rows).prop_map(Values::Boolean),
            prop::collection::vec(".{0,5}", rows).prop_map(|texts| {
                let mut column = StringColumn::default();
                texts.iter().for_each(|t| column.push(t.as_bytes()));
                Values::String(column)
            }),
        ];
        let present = prop::option::of(prop::collection::vec(any::<u64>(), rows.div_ceil(64)));
        (values, present).prop_map(move |(values, present)| Column {
            values,
            present: present.map(|words| Bitmap::from_words(words, rows)),
        })
    }

    fn table() -> impl Strategy<Value = Table> {
        (0usize..80).prop_flat_map(|rows| {
            let series = prop::collection::vec(any::<u32>(), rows);
            let times = prop::collection::vec(any::<i64>(), rows);
            let columns = prop::collection::vec(column(rows), 0..4);
            (0u16..2, any::<u32>(), series, times, columns).prop_map(
                |(shard, measurement, series, times, columns)| {
                    let columns = columns
                        .into_iter()
                        .enumerate()
                        .map(|(i, c)| (i as u16, c))
                        .collect();
                    Table {
                        shard,
                        measurement,
                        series,
                        times,
                        columns,
                    }
                },
            )
        })
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let names = prop::collection::vec(".{0,8}", 0..4);
        (prop::collection::vec(table(), 0..4), names).prop_map(|(tables, names)| Batch {
            shards: 2,
            tables,
            definitions: Definitions {
                databases: names
                    .iter()
                    .map(|n| DatabaseDefinition {
                        id: 1,
                        name: n.clone(),
                    })
                    .collect(),
                series: names
                    .iter()
                    .map(|n| SeriesDefinition {
                        measurement: 1,
                        id: 2,
                        key: n.clone(),
                    })
                    .collect(),
                fields: names
                    .iter()
                    .map(|n| FieldDefinition {
                        measurement: 1,
                        id: 2,
                        name: n.clone(),
                        field_type: FieldType::String,
                    })
                    .collect(),
                ..Definitions::default()
            },
            commands: vec![
                Command::DropSeries {
                    measurement: 3,
                    series: vec![1, 2],
                },
                Command::Delete {
                    measurement: 3,
                    series: None,
                    time: TimeRange::ALL,
                },
                Command::PutRecord {
                    kind: "k".into(),
                    name: "n".into(),
                    value: "v".into(),
                },
            ],
        })
    }

    proptest! {
        #[test]
        fn batches_round_trip(batch in batch()) {
            let encoded = EncodedBatch::encode(batch.clone());
            prop_assert_eq!(&encoded.decode(), &batch);
            let read = EncodedBatch::from_bytes(encoded.bytes()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(read.decode(), batch);
        }

        #[test]
        fn damaged_bytes_never_panic(batch in batch(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = EncodedBatch::encode(batch).bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = EncodedBatch::from_bytes(&bytes) { drop(read.decode()) }
            if let Ok(read) = EncodedBatch::from_bytes(&bytes[..cut.index(bytes.len())]) { drop(read.decode()) }
        }
    }

    #[test]
    fn the_format_is_version_1() {
        let batch = Batch {
            shards: 1,
            tables: vec![Table {
                shard: 0,
                measurement: 3,
                series: vec![7],
                times: vec![9],
                columns: vec![(
                    2,
                    Column {
                        values: Values::Integer(vec![-1]),
                        present: None,
                    },
                )],
            }],
            ..Batch::default()
        };
        let golden = include_bytes!("../../tests/golden/batch_v1.bin");
        assert_eq!(
            EncodedBatch::encode(batch.clone()).bytes(),
            golden,
            "the format changed: raise BATCH_VERSION"
        );
        assert_eq!(
            EncodedBatch::from_bytes(golden).expect("a golden file").decode(),
            batch
        );
    }
}
