//! DELETE, DROP SERIES and DROP MEASUREMENT.

use super::{Target, commands, commands_with};
use crate::batch::{Command, Definitions};
use crate::catalog::Measurement;
use crate::lang::{DataType, Delete, Expr, Source, VarRef};
use crate::model::TimeRange;
use crate::query::condition::{split_tags, split_time};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::select::measurements;
use jiff::tz::TimeZone;
use std::sync::Arc;

/// DROP MEASUREMENT, in all policies.
pub(super) fn drop_measurement(ctx: &Context<'_>, name: &str, target: &dyn Target) -> Result<(), QueryError> {
    let database = ctx.database(None)?;
    let policies = database.policies.iter();
    let found = policies.filter_map(|p| ctx.catalog.measurement(p.id, name));
    commands(target, found.map(|m| Command::DropMeasurement(m.id)).collect())
}

/// The measurements that DELETE and DROP SERIES name, with the series that WHERE wants (`None` for all) and the times.
fn chosen(
    ctx: &Context<'_>,
    delete: &Delete,
) -> Result<Vec<(Arc<Measurement>, Option<Vec<u32>>, TimeRange)>, QueryError> {
    let database = ctx.database(None)?;
    let mut list = Vec::new();
    if delete.sources.is_empty() {
        list.extend(
            database
                .policies
                .iter()
                .flat_map(|p| ctx.catalog.measurements(p.id)),
        );
    }
    for source in &delete.sources {
        let Source::Measurement(named) = source else {
            return Err(QueryError::statement("a measurement is expected in FROM"));
        };
        match &named.retention_policy {
            Some(_) => list.extend(measurements(ctx, named)?),
            // Without a policy all of them are meant.
            None => {
                for policy in &database.policies {
                    let named = crate::lang::Measurement {
                        retention_policy: Some(policy.name.clone()),
                        ..named.clone()
                    };
                    list.extend(measurements(ctx, &named)?);
                }
            }
        }
    }
    let (time, condition) = split_time(delete.condition.as_ref(), ctx.now, &TimeZone::UTC)?;
    let mut out = Vec::new();
    for measurement in list {
        let fields = measurement.fields();
        let is_tag = |var: &VarRef| match var.kind {
            Some(DataType::Tag) => true,
            Some(_) => false,
            None => fields.by_name(&var.name).is_none(),
        };
        let (predicate, rest): (_, Option<Expr>) = split_tags(condition.as_ref(), &is_tag)?;
        if rest.is_some() {
            return Err(QueryError::statement(
                "fields not supported in WHERE clause during deletion",
            ));
        }
        let series: Option<Vec<u32>> = match condition {
            Some(_) => Some(measurement.view().matching(&predicate)?.iter().collect()),
            None => None,
        };
        if series.as_ref().is_none_or(|s| !s.is_empty()) {
            out.push((measurement, series, time));
        }
    }
    Ok(out)
}

/// DELETE.
pub(super) fn delete_points(
    ctx: &Context<'_>,
    delete: &Delete,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let list = chosen(ctx, delete)?;
    let mut definitions = Definitions::default();
    for (measurement, series, time) in &list {
        if let (Some(series), TimeRange::ALL) = (series, *time) {
            define(ctx, measurement, series, &mut definitions)?;
        }
    }
    let all = list
        .into_iter()
        .map(|(measurement, series, time)| match (series, time) {
            // Without a time whole series go, and are no longer shown.
            (None, TimeRange::ALL) => Command::DropMeasurement(measurement.id),
            (Some(series), TimeRange::ALL) => Command::DropSeries {
                measurement: measurement.id,
                series,
            },
            (series, time) => Command::Delete {
                measurement: measurement.id,
                series,
                time,
            },
        });
    commands_with(target, definitions, all.collect())
}

/// Series that are dropped are defined first, if only a request that was refused has named them: what was never defined is in no count of series after a
/// start, and could not be taken from it.
fn define(
    ctx: &Context<'_>,
    measurement: &Measurement,
    series: &[u32],
    into: &mut Definitions,
) -> Result<(), QueryError> {
    let mut new = Definitions::default();
    measurement.define_new(&series.iter().copied().collect(), &mut new);
    if new.series.is_empty() {
        return Ok(());
    }
    let made = ctx.catalog.define_database(&ctx.database(None)?.name);
    (into.databases, into.policies) = (made.databases, made.policies);
    into.measurements.extend(new.measurements);
    into.fields.extend(new.fields);
    into.series.extend(new.series);
    Ok(())
}

/// DROP SERIES.
pub(super) fn drop_series(ctx: &Context<'_>, drop: &Delete, target: &dyn Target) -> Result<(), QueryError> {
    let (mut definitions, mut out) = (Definitions::default(), Vec::new());
    for (measurement, series, time) in chosen(ctx, drop)? {
        if time != TimeRange::ALL {
            return Err(QueryError::statement(
                "DROP SERIES doesn't support time in WHERE clause",
            ));
        }
        let series = match series {
            Some(series) => series,
            None => measurement.view().live()?.iter().collect(),
        };
        define(ctx, &measurement, &series, &mut definitions)?;
        out.push(Command::DropSeries {
            measurement: measurement.id,
            series,
        });
    }
    commands_with(target, definitions, out)
}
