//! Names and commands as rkyv lays them out. Whoever changes a type here changes the format.

use super::super::packed::Packed;
use super::super::{
    Batch, Command, DatabaseDefinition, Definitions, FieldDefinition, MeasurementDefinition,
    PolicyDefinition, SeriesDefinition,
};
use crate::model::{FieldType, TimeRange};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct WireBatch {
    pub(super) shards: u16,
    pub(super) rows: u64,
    pub(super) definitions: WireDefinitions,
    pub(super) commands: Vec<WireCommand>,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct WireDefinitions {
    pub(super) databases: Vec<(u32, String)>,
    pub(super) policies: Vec<WirePolicy>,
    pub(super) measurements: Vec<(u32, u32, String)>,
    pub(super) fields: Vec<(u32, u16, String, u8)>,
    pub(super) series: Vec<(u32, u32, String)>,
}

impl ArchivedWireDefinitions {
    pub(super) fn is_empty(&self) -> bool {
        self.databases.is_empty()
            && self.policies.is_empty()
            && self.measurements.is_empty()
            && self.fields.is_empty()
            && self.series.is_empty()
    }
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) struct WirePolicy {
    id: u32,
    database: u32,
    name: String,
    duration: i64,
    shard_duration: i64,
    replication: u32,
    default: bool,
}

#[derive(Archive, Serialize, Deserialize)]
pub(super) enum WireCommand {
    DropDatabase(u32),
    DropPolicy(u32),
    AlterPolicy(WirePolicy),
    DropMeasurement(u32),
    DropSeries(u32, Vec<u32>),
    Delete(u32, Option<Vec<u32>>, i64, i64),
    PutRecord(String, String, String),
    RemoveRecord(String, String),
}

pub(super) fn to_wire(batch: Batch) -> (WireBatch, Packed) {
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

pub(super) fn from_wire_definitions(d: &ArchivedWireDefinitions) -> Definitions {
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

pub(super) fn names_from_wire(d: &ArchivedWireDefinitions) -> Definitions {
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

pub(super) fn from_wire_command(command: &ArchivedWireCommand) -> Command {
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
