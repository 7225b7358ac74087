//! SELECT INTO: what a SELECT gives becomes points.

use super::{Target, commit};
use crate::ingest::Ingestor;
use crate::lang::{Expr, SelectStatement};
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
    // What stands beside `top(field, tag, .., n)` are tags of the points it writes.
    let plain = SelectStatement {
        target: None,
        ..statement.clone()
    };
    let beside = tags_beside(statement);
    let found = select(ctx, &plain)?;
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
        let names = &series.columns[1..];
        let kept = names.len().saturating_sub(beside.len());
        for row in 0..series.rows() {
            let values: Vec<Value> = series.row(row).collect();
            let own = beside
                .iter()
                .zip(&values[kept..])
                .filter_map(|(key, value)| match value {
                    Value::String(text) => Some((*key, &**text)),
                    _ => None,
                });
            let of_group = series.tags.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            let mut tags: Vec<(&str, &str)> = of_group.chain(own).collect();
            tags.sort_unstable();
            SeriesParts::spell(name, &tags, &mut spelling);
            let fields: Vec<Field<'_>> = names[..kept]
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

/// The tags named in a single `top` or `bottom`; their columns come last.
fn tags_beside(statement: &SelectStatement) -> Vec<&str> {
    let [only] = statement.fields.as_slice() else {
        return Vec::new();
    };
    match &only.expr {
        Expr::Call(call) if matches!(call.name.as_str(), "top" | "bottom") => {
            let tags = call.args.iter().skip(1).take(call.args.len().saturating_sub(2));
            tags.filter_map(|tag| match tag {
                Expr::VarRef(var) => Some(var.name.as_str()),
                _ => None,
            })
            .collect()
        }
        _ => Vec::new(),
    }
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
