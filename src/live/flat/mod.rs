//! The messages of `/live` as FlatBuffers: schemas/live.fbs. They say what the JSON ones say.
//!
//! `schema` is made by flatc (see generate.sh) and committed; a test checks that it is current. Values stand by column, so that a
//! client reads arrays of numbers.

#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    unused_imports,
    clippy::all,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]
#[rustfmt::skip]
pub mod schema;

use super::message::{Kind, Told};
use super::row::Row;
use crate::query::Value;
use bytes::Bytes;
use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, WIPOffset};
use schema::kymo::live::v_1 as kymo;

type Builder = FlatBufferBuilder<'static>;
type Tables<T> = WIPOffset<Vector<'static, ForwardsUOffset<T>>>;

/// Rows of one kind.
pub fn rows(id: &str, told: &Told<'_>) -> Bytes {
    let mut builder = Builder::new();
    let chunks = told.rows.chunk_by(|a, b| a.group == b.group);
    let series: Vec<_> = chunks.map(|rows| series(&mut builder, told, rows)).collect();
    let series = Some(builder.create_vector(&series));
    let id = Some(builder.create_string(id));
    let message = kymo::MessageArgs {
        kind: kind(told.kind),
        id,
        sequence: told.sequence,
        more: told.more,
        series,
        ..Default::default()
    };
    finish(builder, &message)
}

/// The client was too slow.
pub fn lagged(id: &str, sequence: u64, coalesced: u64) -> Bytes {
    let mut builder = Builder::new();
    let id = Some(builder.create_string(id));
    let message = kymo::MessageArgs {
        kind: kymo::Kind::Lagged,
        id,
        sequence,
        coalesced,
        ..Default::default()
    };
    finish(builder, &message)
}

/// Something is wrong.
pub fn error(id: &str, error: &str) -> Bytes {
    let mut builder = Builder::new();
    let (id, error) = (
        Some(builder.create_string(id)),
        Some(builder.create_string(error)),
    );
    let message = kymo::MessageArgs {
        kind: kymo::Kind::Error,
        id,
        error,
        ..Default::default()
    };
    finish(builder, &message)
}

fn finish(mut builder: Builder, message: &kymo::MessageArgs<'static>) -> Bytes {
    let message = kymo::Message::create(&mut builder, message);
    kymo::finish_message_buffer(&mut builder, message);
    Bytes::copy_from_slice(builder.finished_data())
}

fn kind(kind: Kind) -> kymo::Kind {
    match kind {
        Kind::Snapshot => kymo::Kind::Snapshot,
        Kind::Update => kymo::Kind::Update,
        Kind::Final => kymo::Kind::Final,
        Kind::Correction => kymo::Kind::Correction,
    }
}

/// Rows of one group.
fn series(builder: &mut Builder, told: &Told<'_>, rows: &[Row]) -> WIPOffset<kymo::Series<'static>> {
    let group = told.groups.get(rows[0].group);
    let width = told.width();
    let mut times: Vec<i64> = Vec::with_capacity(rows.len());
    let mut lines: Vec<&[Value]> = Vec::with_capacity(rows.len());
    for row in rows {
        for line in row.cells.values().chunks(width) {
            times.push(row.time);
            lines.push(line);
        }
    }
    let names = told.columns.iter().skip(1);
    let columns: Vec<_> = names
        .enumerate()
        .map(|(at, name)| {
            let values: Vec<&Value> = lines
                .iter()
                .map(|line| line.get(at).unwrap_or(&Value::Null))
                .collect();
            column(builder, name, &values)
        })
        .collect();
    let columns = Some(builder.create_vector(&columns));
    let times = Some(builder.create_vector(&times));
    let tags = tags(builder, &group.tags);
    let name = Some(builder.create_string(&group.name));
    let args = kymo::SeriesArgs {
        name,
        tags,
        times,
        columns,
    };
    kymo::Series::create(builder, &args)
}

fn tags(builder: &mut Builder, tags: &[(String, String)]) -> Option<Tables<kymo::Tag<'static>>> {
    let tag = |(key, value): &(String, String)| {
        let (key, value) = (
            Some(builder.create_string(key)),
            Some(builder.create_string(value)),
        );
        kymo::Tag::create(builder, &kymo::TagArgs { key, value })
    };
    let tags: Vec<_> = tags.iter().map(tag).collect();
    (!tags.is_empty()).then(|| builder.create_vector(&tags))
}

fn column(builder: &mut Builder, name: &str, values: &[&Value]) -> WIPOffset<kymo::Column<'static>> {
    let mut found = values.iter().map(|value| type_of(value));
    let mut found = found.by_ref().filter(|t| *t != kymo::Type::Null);
    let first = found.next().unwrap_or(kymo::Type::Null);
    let type_ = if found.all(|other| other == first) {
        first
    } else {
        kymo::Type::Mixed
    };
    let mut args = kymo::ColumnArgs {
        name: Some(builder.create_string(name)),
        type_,
        ..Default::default()
    };
    match type_ {
        kymo::Type::Float => args.floats = Some(create(builder, values, float)),
        kymo::Type::Integer => args.integers = Some(create(builder, values, integer)),
        kymo::Type::Unsigned => args.unsigned = Some(create(builder, values, unsigned)),
        kymo::Type::Boolean => args.booleans = Some(create(builder, values, boolean)),
        kymo::Type::Text => {
            let texts: Vec<_> = values
                .iter()
                .map(|value| builder.create_shared_string(text(value)))
                .collect();
            args.texts = Some(builder.create_vector(&texts));
        }
        kymo::Type::Mixed => {
            let mixed: Vec<_> = values.iter().map(|value| one(builder, value)).collect();
            args.mixed = Some(builder.create_vector(&mixed));
        }
        // No row has any.
        _ => return kymo::Column::create(builder, &args),
    }
    let has = |value: &Value| type_of(value) != kymo::Type::Null;
    if !values.iter().all(|value| has(value)) {
        args.present = Some(create(builder, values, has));
    }
    kymo::Column::create(builder, &args)
}

fn create<T: flatbuffers::Push + Copy + 'static>(
    builder: &mut Builder,
    values: &[&Value],
    of: impl Fn(&Value) -> T,
) -> WIPOffset<Vector<'static, T::Output>> {
    let values: Vec<T> = values.iter().map(|value| of(value)).collect();
    builder.create_vector(&values)
}

/// A value beside others of other types.
fn one(builder: &mut Builder, value: &Value) -> WIPOffset<kymo::Value<'static>> {
    let is_text = matches!(value, Value::String(_));
    let args = kymo::ValueArgs {
        type_: type_of(value),
        float: float(value),
        integer: integer(value),
        unsigned: unsigned(value),
        text: is_text.then(|| builder.create_string(text(value))),
        boolean: boolean(value),
    };
    kymo::Value::create(builder, &args)
}

/// What is no number is none in JSON.
fn type_of(value: &Value) -> kymo::Type {
    match value {
        Value::Float(v) if !v.is_finite() => kymo::Type::Null,
        Value::Null => kymo::Type::Null,
        Value::Float(_) => kymo::Type::Float,
        Value::Integer(_) => kymo::Type::Integer,
        Value::Unsigned(_) => kymo::Type::Unsigned,
        Value::Boolean(_) => kymo::Type::Boolean,
        Value::String(_) => kymo::Type::Text,
    }
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Float(v) if v.is_finite() => *v,
        _ => 0.0,
    }
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Integer(v) => *v,
        _ => 0,
    }
}

fn unsigned(value: &Value) -> u64 {
    match value {
        Value::Unsigned(v) => *v,
        _ => 0,
    }
}

fn boolean(value: &Value) -> bool {
    matches!(value, Value::Boolean(true))
}

fn text(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        _ => "",
    }
}
