//! SHOW statements over the catalog: `names` for measurements and fields, `series` for series, `tags` for tags, `cardinality`.
//!
//! Metadata belongs to a database: measurements of the same name in several retention policies count as one, unless a
//! policy is named.

mod cardinality;
mod correlated;
mod names;
mod rejected;
mod rows;
mod series;
mod tags;

pub use cardinality::cardinality;
pub use correlated::correlated;
pub use names::{databases, field_keys, measurements, retention_policies};
pub use rejected::rejected;
pub use series::series;
pub use tags::{tag_keys, tag_values};

use super::condition::{split_tags, split_time};
use super::context::Context;
use super::error::QueryError;
use super::result::Series;
use super::select::measurements as named_measurements;
use super::value::Value;
use crate::catalog::{Database, Measurement, TagPredicate};
use crate::lang::{self, DataType, Expr, Source, VarRef};
use crate::model::TimeRange;
use jiff::tz::TimeZone;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

type Answer = Result<Vec<Series>, QueryError>;

/// Measurements of one name, one for each retention policy.
type ByName = BTreeMap<String, Vec<Arc<Measurement>>>;

fn text(value: impl AsRef<str>) -> Value {
    Value::String(value.as_ref().into())
}

fn some(series: Series) -> Vec<Series> {
    if series.rows() == 0 {
        Vec::new()
    } else {
        vec![series]
    }
}

fn page<T>(list: impl IntoIterator<Item = T>, limit: u64, offset: u64) -> Vec<T> {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let limit = if limit == 0 {
        usize::MAX
    } else {
        usize::try_from(limit).unwrap_or(usize::MAX)
    };
    list.into_iter().skip(offset).take(limit).collect()
}

/// The measurements that FROM names, or all of the database. Without a policy those of all policies are meant.
fn sources(ctx: &Context<'_>, database: Option<&str>, sources: &[Source]) -> Result<ByName, QueryError> {
    let found = ctx.database(database)?;
    let mut out = ByName::new();
    let mut add = |m: Arc<Measurement>| {
        let known = out.entry(m.name.clone()).or_default();
        if known.iter().all(|k| k.id != m.id) {
            known.push(m);
        }
    };
    if sources.is_empty() {
        all_measurements(ctx, &found).for_each(&mut add);
    }
    for source in sources {
        let Source::Measurement(named) = source else {
            return Err(QueryError::statement("a measurement is expected in FROM"));
        };
        let of = match &named.database {
            Some(other) => ctx.database(Some(other))?,
            None => found.clone(),
        };
        let policies = match &named.retention_policy {
            Some(name) => vec![ctx.policy(&of, Some(name))?],
            None => of.policies.clone(),
        };
        for policy in policies {
            let named = lang::Measurement {
                database: Some(of.name.clone()),
                retention_policy: Some(policy.name.clone()),
                ..named.clone()
            };
            named_measurements(ctx, &named)?.into_iter().for_each(&mut add);
        }
    }
    Ok(out)
}

/// Measurements of all policies of a database.
fn all_measurements<'a>(
    ctx: &'a Context<'_>,
    database: &'a Database,
) -> impl Iterator<Item = Arc<Measurement>> + 'a {
    let policies = database.policies.iter();
    policies.flat_map(|policy| ctx.catalog.measurements(policy.id))
}

/// Splits WHERE into times and the rest.
fn split(ctx: &Context<'_>, condition: Option<&Expr>) -> Result<(TimeRange, Option<Expr>), QueryError> {
    split_time(condition, ctx.now, &TimeZone::UTC)
}

/// WHERE without times: a statement that has no use for them says so.
fn without_time(
    ctx: &Context<'_>,
    statement: &str,
    condition: Option<&Expr>,
) -> Result<Option<Expr>, QueryError> {
    let (_, rest) = split(ctx, condition)?;
    let mut timed = false;
    if let Some(condition) = condition {
        condition.visit_vars(&mut |var| timed |= var.name == "time" && var.kind.is_none());
    }
    if timed {
        return Err(QueryError::statement(format!(
            "{statement} doesn't support time in WHERE clause"
        )));
    }
    Ok(rest)
}

/// What WHERE asks of tags. Fields have no say in SHOW statements.
fn predicate(measurement: &Measurement, condition: Option<&Expr>) -> Result<TagPredicate, QueryError> {
    let fields = measurement.fields();
    let is_tag = |var: &VarRef| match var.kind {
        Some(DataType::Tag) => true,
        Some(_) => false,
        None => fields.by_name(&var.name).is_none() && var.name != "_name",
    };
    Ok(split_tags(condition, &is_tag)?.0)
}

/// The series that satisfy a condition without times.
fn matching(measurement: &Measurement, condition: Option<&Expr>) -> Result<RoaringBitmap, QueryError> {
    Ok(measurement.view().matching(&predicate(measurement, condition)?)?)
}

/// The same, or `None` where all series do.
fn chosen(measurement: &Measurement, condition: Option<&Expr>) -> Result<Option<RoaringBitmap>, QueryError> {
    match predicate(measurement, condition)? {
        TagPredicate::All => Ok(None),
        predicate => Ok(Some(measurement.view().matching(&predicate)?)),
    }
}

/// How many series satisfy a condition.
fn count_matching(measurement: &Measurement, condition: Option<&Expr>) -> Result<u64, QueryError> {
    let chosen = chosen(measurement, condition)?;
    Ok(chosen.map_or_else(|| measurement.live_count(), |chosen| chosen.len()))
}
