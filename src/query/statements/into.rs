//! SELECT INTO: what a SELECT gives becomes points.

use super::{Target, commit};
use crate::ingest::Ingestor;
use crate::lang::SelectStatement;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::select::select;
use crate::query::value::Value;
use kymo_plugin_api::{Field, Origin, Row, RowSink, SeriesParts, SeriesRef, series::PlainSpelling};

/// Runs it and writes what it gave; tells how many points that were.
pub(super) fn select_into(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    target: &dyn Target,
) -> Result<Vec<Series>, QueryError> {
    let Some(into) = &statement.target else {
        return Ok(Vec::new());
    };
    let database = ctx.database(into.database.as_deref())?;
    let policy = ctx.policy(&database, into.retention_policy.as_deref())?;
    let found = select(ctx, statement)?;
    let mut ingestor = Ingestor::new(
        ctx.catalog,
        target.limits(),
        policy.id,
        "into",
        &kymo_plugin_api::Options::new(),
        ctx.now,
        target.shards(),
    );
    let mut spelling = Vec::new();
    let mut written = 0;
    for series in &found {
        let name = into.name.as_deref().unwrap_or(&series.name);
        let tags: Vec<(&str, &str)> = series
            .tags
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        SeriesParts::spell(name, &tags, &mut spelling);
        let names = &series.columns[1..];
        for row in 0..series.rows() {
            let values: Vec<Value> = series.row(row).collect();
            let fields: Vec<Field<'_>> = names
                .iter()
                .zip(&values)
                .filter_map(|(key, value)| field(key, value))
                .collect();
            if fields.is_empty() {
                continue;
            }
            ingestor.row(&Row {
                series: SeriesRef {
                    spelling: &spelling,
                    reader: &PlainSpelling,
                },
                time: Some(series.times[row]),
                fields: &fields,
                origin: Origin {
                    line: row as u64 + 1,
                    text: name.as_bytes(),
                },
            });
            written += 1;
        }
        ctx.check()?;
    }
    let outcome = ingestor.finish();
    if let Some(error) = outcome.error(target.limits()) {
        return Err(QueryError::Write(error));
    }
    if let Some(mut batch) = outcome.batch {
        batch
            .definitions
            .databases
            .extend(ctx.catalog.define_database(&database.name).databases);
        batch
            .definitions
            .policies
            .extend(ctx.catalog.define_database(&database.name).policies);
        commit(target, batch)?;
    }
    Ok(vec![Series {
        name: "result".into(),
        columns: ["time".into(), "written".into()].into(),
        times: vec![0],
        values: vec![Value::Integer(written).into()],
        ..Series::default()
    }])
}

fn field<'a>(key: &'a str, value: &'a Value) -> Option<Field<'a>> {
    use kymo_plugin_api::Value as Given;
    let value = match value {
        Value::Null => return None,
        Value::Float(v) => Given::Float(*v),
        Value::Integer(v) => Given::Integer(*v),
        Value::Unsigned(v) => Given::Unsigned(*v),
        Value::Boolean(v) => Given::Boolean(*v),
        Value::String(v) => Given::String(v),
    };
    Some(Field { key, value })
}
