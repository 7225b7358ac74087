//! The bytes of a batch: a 16-byte header, names and commands as rkyv, then the tables. The only file that imports rkyv.
//!
//! Names are squeezed by lz4 when there are many: the keys of new series look alike. Rows are sorted by (series, time) and packed with the codecs of blocks before they are encoded ([`super::packed`]): a tenth of the
//! bytes has to be checksummed, written, and synced, for less than it costs to copy the others. What is packed lies end to end in one
//! string of bytes: a request may have hundreds of small tables.
//!
//! Bytes from the journal are validated once, when they come in ([`EncodedBatch::from_bytes`]): structure by rkyv's own checks,
//! meaning (equal lengths, order, ids, shards) by ours. Drawn in docs/formats/batch.md.

use super::directory::{ColumnEntry, Directory, TableEntry};
use super::packed::{Packed, TABLE_ROWS_MAX, series_starts};
use super::{
    Batch, Command, DatabaseDefinition, Definitions, FieldDefinition, MeasurementDefinition,
    PolicyDefinition, SeriesDefinition, Table,
};
use crate::block::{decode_row_keys, decode_rows, decode_series_column, series_range};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, SeriesRuns, SortedRows, TimeRange};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use std::ops::Range;

/// The version of the format, in the first byte.
pub const BATCH_VERSION: u8 = 4;

/// Bytes before the archive: the version, three zeros, the lengths of archive and directory, and of the archive before it was squeezed,
/// 0 if it was not (u32, little endian). Keeps the archive aligned.
const HEADER_BYTES: usize = 16;
/// Smaller archives are not squeezed: those of batches that name nothing new.
const SQUEEZED_MIN: usize = 1 << 10;
/// lz4 makes nothing shorter than by so much.
const SQUEEZED_SHARE_MAX: usize = 256;

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
}

#[derive(Archive, Serialize, Deserialize)]
struct WireDefinitions {
    databases: Vec<(u32, String)>,
    policies: Vec<WirePolicy>,
    measurements: Vec<(u32, u32, String)>,
    fields: Vec<(u32, u16, String, u8)>,
    series: Vec<(u32, u32, String)>,
}

impl ArchivedWireDefinitions {
    fn is_empty(&self) -> bool {
        self.databases.is_empty()
            && self.policies.is_empty()
            && self.measurements.is_empty()
            && self.fields.is_empty()
            && self.series.is_empty()
    }
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

/// A batch as bytes that have been validated, with a directory of them, so that nobody has to look at the archive again to
/// find a chunk.
pub struct EncodedBatch {
    bytes: AlignedVec,
    shards: u16,
    rows: u64,
    has_definitions: bool,
    has_commands: bool,
    /// Where in the bytes the archive is.
    archive: Range<usize>,
    /// Its bytes before it was squeezed; 0 if it was not.
    unsqueezed: usize,
    directory: Directory,
    /// Where in the bytes the data begins.
    data: usize,
}

impl AsRef<[u8]> for EncodedBatch {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One table of an encoded batch.
pub struct TableView<'a> {
    data: &'a [u8],
    entry: &'a TableEntry,
    columns: &'a [ColumnEntry],
    at: usize,
}

impl EncodedBatch {
    /// Encodes a batch. Of two rows of a table with the same series and time the later one is kept, field by field.
    pub fn encode(batch: Batch) -> Self {
        let has_definitions = !batch.definitions.is_empty();
        let (wire, packed) = to_wire(batch);
        let Packed { directory, data, .. } = packed;
        let directory_bytes = directory.encode();
        let room = HEADER_BYTES + data.len() + directory_bytes.len() + 256;
        let mut bytes = AlignedVec::with_capacity(room);
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        let mut bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&wire, bytes)
            .expect("writing to memory fails only when memory is out");
        let mut unsqueezed = 0;
        if bytes.len() - HEADER_BYTES >= SQUEEZED_MIN {
            let squeezed = lz4_flex::block::compress(&bytes[HEADER_BYTES..]);
            if squeezed.len() < bytes.len() - HEADER_BYTES {
                unsqueezed = bytes.len() - HEADER_BYTES;
                let room = HEADER_BYTES + squeezed.len() + directory_bytes.len() + data.len();
                bytes = AlignedVec::with_capacity(room);
                bytes.extend_from_slice(&[0; HEADER_BYTES]);
                bytes.extend_from_slice(&squeezed);
            }
        }
        let archive = bytes.len() - HEADER_BYTES;
        bytes[0] = BATCH_VERSION;
        for (at, len) in [(4, archive), (8, directory_bytes.len()), (12, unsqueezed)] {
            let len = u32::try_from(len).expect("limits on requests keep names far below 4 GiB");
            bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        bytes.extend_from_slice(&directory_bytes);
        bytes.extend_from_slice(&data);
        Self {
            shards: wire.shards,
            rows: wire.rows,
            has_definitions,
            has_commands: !wire.commands.is_empty(),
            archive: HEADER_BYTES..HEADER_BYTES + archive,
            unsqueezed,
            data: HEADER_BYTES + archive + directory_bytes.len(),
            directory,
            bytes,
        }
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
        let cut = || BatchError::Inconsistent("it is too short");
        let (header, rest) = aligned.split_at_checked(HEADER_BYTES).ok_or_else(cut)?;
        let length = |at: usize| {
            let bytes = header[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let (archive, directory, unsqueezed) = (length(4), length(8), length(12));
        let (names, rest) = rest.split_at_checked(archive).ok_or_else(cut)?;
        let (entries, data) = rest.split_at_checked(directory).ok_or_else(cut)?;
        let names =
            Names::read(names, unsqueezed).ok_or(BatchError::Inconsistent("its names do not unpack"))?;
        let wire = rkyv::access::<ArchivedWireBatch, rancor::Error>(names.bytes())
            .map_err(|error| BatchError::Malformed(error.to_string()))?;
        let entries = check(wire, entries, data)?;
        let (shards, rows) = (wire.shards.to_native(), wire.rows.to_native());
        let has_definitions = !wire.definitions.is_empty();
        let has_commands = !wire.commands.is_empty();
        drop(names);
        Ok(Self {
            shards,
            rows,
            has_definitions,
            has_commands,
            directory: entries,
            archive: HEADER_BYTES..HEADER_BYTES + archive,
            unsqueezed,
            data: HEADER_BYTES + archive + directory,
            bytes: aligned,
        })
    }

    fn names(&self) -> Names<'_> {
        Names::read(&self.bytes[self.archive.clone()], self.unsqueezed)
            .expect("made by encode or validated by from_bytes")
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Shards it is split for.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Its tables.
    pub fn tables(&self) -> impl Iterator<Item = TableView<'_>> {
        (0..self.directory.tables.len()).map(|at| self.table(at))
    }

    /// The table that [`TableView::at`] says.
    ///
    /// # Panics
    /// There is none.
    pub fn table(&self, at: usize) -> TableView<'_> {
        let entry = &self.directory.tables[at];
        TableView {
            data: &self.bytes[self.data..],
            columns: &self.directory.columns[entry.columns.clone()],
            entry,
            at,
        }
    }

    /// A copy of its definitions.
    pub fn definitions(&self) -> Definitions {
        from_wire_definitions(&self.names().wire().definitions)
    }

    /// A copy of its definitions but for those of series, of which there may be many: see [`defined_series`](Self::defined_series).
    pub fn defined_names(&self) -> Definitions {
        names_from_wire(&self.names().wire().definitions)
    }

    /// The series that it defines, without their keys.
    pub fn defined_series(&self) -> Vec<(MeasurementId, SeriesId)> {
        let names = self.names();
        let series = names.wire().definitions.series.iter();
        series
            .map(|series| (series.0.to_native(), series.1.to_native()))
            .collect()
    }

    /// Does it define anything?
    pub fn has_definitions(&self) -> bool {
        self.has_definitions
    }

    /// Has it commands?
    pub fn has_commands(&self) -> bool {
        self.has_commands
    }

    /// A copy of its commands.
    pub fn commands(&self) -> Vec<Command> {
        if !self.has_commands {
            return Vec::new();
        }
        let names = self.names();
        names.wire().commands.iter().map(from_wire_command).collect()
    }

    /// The whole batch, decoded.
    pub fn decode(&self) -> Batch {
        let table = |view: TableView<'_>| {
            let rows = view.read();
            Table {
                shard: view.shard(),
                measurement: rows.measurement,
                series: rows.series,
                times: rows.times,
                columns: rows.columns,
            }
        };
        Batch {
            shards: self.shards(),
            definitions: self.definitions(),
            tables: self.tables().map(table).collect(),
            packed: Packed::default(),
            commands: self.commands(),
        }
    }
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

/// Names and commands of a batch, unpacked for as long as somebody reads them.
enum Names<'a> {
    Plain(&'a [u8]),
    Unsqueezed(AlignedVec),
}

impl<'a> Names<'a> {
    /// `unsqueezed`: how long it is, if it was squeezed.
    fn read(bytes: &'a [u8], unsqueezed: usize) -> Option<Self> {
        if unsqueezed == 0 {
            return Some(Self::Plain(bytes));
        }
        if unsqueezed / SQUEEZED_SHARE_MAX > bytes.len() {
            return None;
        }
        let mut plain = AlignedVec::with_capacity(unsqueezed);
        plain.resize(unsqueezed, 0);
        let len = lz4_flex::block::decompress_into(bytes, &mut plain).ok()?;
        (len == unsqueezed).then_some(Self::Unsqueezed(plain))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Unsqueezed(bytes) => bytes,
        }
    }

    fn wire(&self) -> &ArchivedWireBatch {
        rkyv::access::<ArchivedWireBatch, rancor::Error>(self.bytes())
            .expect("made by encode or validated by from_bytes")
    }
}

fn check(wire: &ArchivedWireBatch, directory: &[u8], data: &[u8]) -> Result<Directory, BatchError> {
    let ensure = |holds: bool, what| {
        if holds {
            Ok(())
        } else {
            Err(BatchError::Inconsistent(what))
        }
    };
    let directory = Directory::decode(directory, data.len())
        .ok_or(BatchError::Inconsistent("its directory is malformed"))?;
    let (mut keys, mut starts) = ((Vec::new(), Vec::new()), Vec::new());
    let mut keys_of = usize::MAX;
    for table in &directory.tables {
        ensure(
            table.shard < wire.shards.to_native(),
            "a table's shard is out of range",
        )?;
        ensure(
            (1..=TABLE_ROWS_MAX).contains(&table.rows),
            "a table has no rows or too many",
        )?;
        if table.keys_of != keys_of {
            keys = decode_row_keys(&data[table.keys.clone()])
                .ok_or(BatchError::Inconsistent("a table's keys are malformed"))?;
            series_starts(&keys.0, &mut starts);
            keys_of = table.keys_of;
        }
        let (series, times) = &keys;
        ensure(
            times.len() == table.rows,
            "a table has more or fewer keys than rows",
        )?;
        let ascends = |row: usize| (series[row - 1], times[row - 1]) < (series[row], times[row]);
        ensure(
            (1..times.len()).all(ascends),
            "a table's series and times do not ascend",
        )?;
        ensure(
            times.iter().min() == Some(&table.time.min) && times.iter().max() == Some(&table.time.max),
            "a table has a wrong time range",
        )?;
        let own = &directory.columns[table.columns.clone()];
        ensure(
            own.windows(2).all(|pair| pair[0].field < pair[1].field),
            "a table's fields do not ascend",
        )?;
        for column in own {
            let unpacked = decode_series_column(&data[column.chunk.clone()], column.field_type, &starts);
            ensure(
                unpacked.is_some_and(|c| c.len() == table.rows),
                "a column is malformed or has another length than its table",
            )?;
        }
    }
    ensure(
        wire.definitions
            .fields
            .iter()
            .all(|f| FieldType::from_code(f.3).is_some()),
        "a field's type is unknown",
    )?;
    let total = directory.rows();
    ensure(
        total <= BATCH_ROWS_MAX as u64,
        "it has more rows than BATCH_ROWS_MAX",
    )?;
    ensure(wire.rows.to_native() == total, "its row count is wrong")?;
    Ok(directory)
}

fn to_wire(batch: Batch) -> (WireBatch, Packed) {
    let d = batch.definitions;
    let mut packed = batch.packed;
    for table in &batch.tables {
        let mut columns: Vec<_> = table.columns.iter().map(|(f, c)| (*f, c)).collect();
        packed.push(
            table.shard,
            table.measurement,
            &table.series,
            &table.times,
            &mut columns,
        );
    }
    let wire = WireBatch {
        shards: batch.shards,
        rows: packed.rows(),
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
    };
    (wire, packed)
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
    let series = d.series.iter().map(|x| SeriesDefinition {
        measurement: x.0.to_native(),
        id: x.1.to_native(),
        key: x.2.to_string(),
    });
    Definitions {
        series: series.collect(),
        ..names_from_wire(d)
    }
}

fn names_from_wire(d: &ArchivedWireDefinitions) -> Definitions {
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
        series: Vec::new(),
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
    use crate::model::{Bitmap, Column, FieldValue, StringColumn, Values};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    /// Tables with the same keys.
    fn tables() -> impl Strategy<Value = Vec<Table>> {
        (0usize..80).prop_flat_map(|rows| {
            let series = prop_oneof![any::<u32>(), 0u32..9];
            let series = prop::collection::vec(series, rows);
            let times = prop::collection::vec(prop_oneof![any::<i64>(), 0i64..99], rows);
            let table = (0u16..2, any::<u32>(), prop::collection::vec(column(rows), 0..4));
            let tables = prop::collection::vec(table, 1..4);
            (series, times, any::<bool>(), tables).prop_map(|(series, times, sorted, tables)| {
                let mut keys: Vec<(u32, i64)> = series.into_iter().zip(times).collect();
                if sorted {
                    keys.sort_unstable();
                }
                let table = |(shard, measurement, columns): (u16, u32, Vec<Column>)| Table {
                    shard,
                    measurement,
                    series: keys.iter().map(|key| key.0).collect(),
                    times: keys.iter().map(|key| key.1).collect(),
                    columns: (0u16..).zip(columns).collect(),
                };
                tables.into_iter().map(table).collect()
            })
        })
    }

    fn batch() -> impl Strategy<Value = Batch> {
        let few = prop::collection::vec(".{0,8}", 0..4);
        let many = prop::collection::vec("host=[a-c]{1,9},container=[0-9a-f]{9}", 30..60);
        let names = prop_oneof![3 => few, 1 => many];
        (prop::collection::vec(tables(), 0..4), names).prop_map(|(tables, names)| Batch {
            shards: 2,
            packed: Packed::default(),
            tables: tables.into_iter().flatten().collect(),
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

    type Key = (u16, MeasurementId, u32, i64);

    /// What the tables say, later rows over earlier ones.
    fn points(batch: &Batch) -> BTreeMap<Key, BTreeMap<u16, FieldValue>> {
        let mut points: BTreeMap<Key, BTreeMap<u16, FieldValue>> = BTreeMap::new();
        for table in &batch.tables {
            for row in 0..table.times.len() {
                let key = (
                    table.shard,
                    table.measurement,
                    table.series[row],
                    table.times[row],
                );
                let values = table.columns.iter();
                let values = values.filter_map(|(field, column)| Some((*field, column.get(row)?)));
                points.entry(key).or_default().extend(values);
            }
        }
        points
    }

    #[test]
    fn long_tables_are_cut_and_small_numbers_packed() {
        let rows = TABLE_ROWS_MAX * 2 + 1;
        let table = Table {
            shard: 0,
            measurement: 1,
            series: vec![5; rows],
            times: (0..rows as i64).rev().collect(),
            columns: vec![(
                0,
                Column {
                    values: Values::Integer((0..rows as i64).map(|i| i % 100).collect()),
                    present: None,
                },
            )],
        };
        let batch = Batch {
            shards: 1,
            tables: vec![table],
            ..Batch::default()
        };
        let encoded = EncodedBatch::encode(batch.clone());
        assert_eq!(encoded.tables().count(), 3);
        assert!(
            encoded.bytes().len() < rows * 2,
            "{} bytes",
            encoded.bytes().len()
        );
        assert_eq!(points(&encoded.decode()), points(&batch));
        assert_eq!(encoded.rows(), rows as u64);
    }

    fn gauges(hosts: u32, measurements: u32) -> Batch {
        let table = |measurement| Table {
            shard: (measurement % 2) as u16,
            measurement,
            series: (0..hosts).collect(),
            times: vec![1_700_000_000_000_000_000; hosts as usize],
            columns: vec![(
                0,
                Column {
                    values: Values::Integer((0..i64::from(hosts)).map(|i| i * 7919 % 64).collect()),
                    present: None,
                },
            )],
        };
        Batch {
            shards: 2,
            tables: (0..measurements).map(table).collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn tables_share_their_keys() {
        let (one, many) = (
            EncodedBatch::encode(gauges(50, 1)),
            EncodedBatch::encode(gauges(50, 101)),
        );
        let each = (many.bytes().len() - one.bytes().len()) / 100;
        assert!(each < 50 * 6 / 8 + 20, "{each} bytes for a table of 50 rows");
        let back = EncodedBatch::from_bytes(many.bytes()).expect("it was just encoded");
        assert_eq!(points(&back.decode()), points(&gauges(50, 101)));
        assert_eq!(back.rows(), 50 * 101);
    }

    #[test]
    fn rows_of_few_series_are_told_apart() {
        let rows = 500u32;
        let mut batch = gauges(rows * 5, 1);
        let table = &mut batch.tables[0];
        table.series = (0..rows * 5).map(|row| row / 5).collect();
        table.times = (0..i64::from(rows) * 5).map(|row| row % 5 * 10).collect();
        let walk = |row: i64| row / 5 * 7919 % 101 + row % 5 * (row / 5 % 3);
        table.columns[0].1.values = Values::Integer((0..i64::from(rows) * 5).map(walk).collect());
        let encoded = EncodedBatch::encode(batch.clone());
        let bits = encoded.bytes().len() * 8 / (rows as usize * 5);
        assert!(bits < 5, "{bits} bits a number of 0 to 108");
        let back = EncodedBatch::from_bytes(encoded.bytes()).expect("it was just encoded");
        assert_eq!(points(&back.decode()), points(&batch));
    }

    #[test]
    fn many_names_are_squeezed() {
        let name = |id: u32| SeriesDefinition {
            measurement: 1,
            id,
            key: format!(
                "host=h_{},container={:08x},endpoint=ep_{}",
                id / 100,
                id.wrapping_mul(2_654_435_761),
                id % 10
            ),
        };
        let mut batch = gauges(3, 1);
        batch.definitions.series = (0..5000).map(name).collect();
        let encoded = EncodedBatch::encode(batch.clone());
        let plain: usize = batch
            .definitions
            .series
            .iter()
            .map(|series| series.key.len() + 16)
            .sum();
        assert!(
            encoded.bytes().len() * 2 < plain,
            "{} of {plain}",
            encoded.bytes().len()
        );
        let back = EncodedBatch::from_bytes(encoded.bytes()).expect("it was just encoded");
        assert_eq!(back.definitions(), batch.definitions);
        assert_eq!(back.defined_series().len(), 5000);
        // Who claims more than lz4 can unpack to gets no memory for it.
        let mut bytes = encoded.bytes().to_vec();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            EncodedBatch::from_bytes(&bytes),
            Err(BatchError::Inconsistent(_))
        ));
    }

    #[test]
    fn other_versions_are_refused_by_name() {
        let mut bytes = EncodedBatch::encode(gauges(3, 1)).bytes().to_vec();
        bytes[0] = 3;
        assert!(matches!(
            EncodedBatch::from_bytes(&bytes),
            Err(BatchError::Version(3))
        ));
    }

    proptest! {
        #[test]
        fn batches_round_trip(batch in batch()) {
            let encoded = EncodedBatch::encode(batch.clone());
            let read = EncodedBatch::from_bytes(encoded.bytes()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            for back in [encoded.decode(), read.decode()] {
                prop_assert_eq!(points(&back), points(&batch));
                prop_assert_eq!(&back.definitions, &batch.definitions);
                prop_assert_eq!(&back.commands, &batch.commands);
            }
            prop_assert_eq!(read.rows() as usize, points(&batch).len());
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
    fn the_format_is_version_4() {
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
        let golden = include_bytes!("../../tests/golden/batch_v4.bin");
        if std::env::var_os("KYMO_WRITE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/batch_v4.bin");
            std::fs::write(path, EncodedBatch::encode(batch.clone()).bytes()).expect("written");
        }
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
