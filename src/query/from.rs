//! FROM: the measurements and subqueries that a SELECT reads, by name.

use super::context::Context;
use super::error::QueryError;
use super::expand::compiled;
use super::input::{Derived, Input};
use super::result::{Give, Series, collect};
use super::select::{Outer, run};
use crate::catalog::Measurement;
use crate::lang::{self, MeasurementName, SelectStatement, Source};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What FROM names, by measurement name.
pub(super) fn sources(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    handed_down: &Outer,
) -> Result<BTreeMap<String, Vec<Input>>, QueryError> {
    let mut found: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    for source in &statement.sources {
        match source {
            Source::Measurement(measurement) => {
                for stored in measurements(ctx, measurement)? {
                    let inputs = found.entry(stored.name.clone()).or_default();
                    inputs.push(Input::Stored(stored));
                }
            }
            Source::Subquery(subquery) => {
                let series = held(ctx, |give| run(ctx, &subquery.statement, handed_down, give))?;
                for (name, derived) in Derived::of_series(series) {
                    found.entry(name).or_default().push(Input::Derived(derived));
                }
            }
            Source::Join(_) => {
                return Err(QueryError::statement(
                    "a JOIN cannot stand beside other sources in FROM",
                ));
            }
        }
    }
    Ok(found)
}

/// What a subquery gives, held as a whole until the statement ends and counted so.
///
/// # Errors
/// Those of the subquery; more than a query may hold.
pub(super) fn held(
    ctx: &Context<'_>,
    run: impl FnOnce(&mut Give<'_>) -> Result<(), QueryError>,
) -> Result<Vec<Series>, QueryError> {
    let mut refused = None;
    let series = collect(|give| {
        run(
            &mut |piece| match ctx.resources.memory.keep(piece.series.bytes()) {
                Ok(()) => give(piece),
                Err(error) => {
                    refused = Some(error);
                    ControlFlow::Break(())
                }
            },
        )
    })?;
    refused.map_or(Ok(series), Err)
}

/// The measurements that a source names, sorted by name.
///
/// # Errors
/// No such database or retention policy.
pub fn measurements(
    ctx: &Context<'_>,
    source: &lang::Measurement,
) -> Result<Vec<Arc<Measurement>>, QueryError> {
    let database = ctx.database(source.database.as_deref())?;
    let named = source.retention_policy.as_deref();
    let default = if source.database.is_none() {
        ctx.policy
    } else {
        None
    };
    let policy = ctx.policy(&database, named.or(default))?;
    Ok(match &source.name {
        MeasurementName::Name(name) => ctx.catalog.measurement(policy.id, name).into_iter().collect(),
        MeasurementName::Regex(pattern) => {
            let regex = compiled(pattern)?;
            let all = ctx.catalog.measurements(policy.id);
            all.into_iter().filter(|m| regex.is_match(&m.name)).collect()
        }
    })
}
