//! SHOW statements over the catalog.

use super::condition::{split_tags, split_time};
use super::context::Context;
use super::error::QueryError;
use super::result::Series;
use super::select::measurements as named_measurements;
use super::value::Value;
use crate::catalog::{Measurement, TagPredicate};
use crate::lang::{
    CardinalityOf, DataType, Expr, MeasurementName, OnName, ShowCardinality, ShowFieldKeys, ShowMeasurements,
    ShowSeries, ShowTagKeys, ShowTagValues, Source, TagKeyFilter, VarRef, format_go_duration,
};
use jiff::tz::TimeZone;
use regex::Regex;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

type Answer = Result<Vec<Series>, QueryError>;

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

fn page<T>(list: Vec<T>, limit: u64, offset: u64) -> Vec<T> {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let limit = if limit == 0 {
        usize::MAX
    } else {
        usize::try_from(limit).unwrap_or(usize::MAX)
    };
    list.into_iter().skip(offset).take(limit).collect()
}

/// SHOW DATABASES.
pub fn databases(ctx: &Context<'_>) -> Vec<Series> {
    let mut names: Vec<String> = ctx.catalog.databases().iter().map(|d| d.name.clone()).collect();
    names.sort();
    vec![Series::table(
        "databases",
        &["name"],
        names.into_iter().map(|name| vec![text(name)]),
    )]
}

/// SHOW RETENTION POLICIES.
pub fn retention_policies(ctx: &Context<'_>, database: Option<&str>) -> Answer {
    let database = ctx.database(database)?;
    let rows = database.policies.iter().map(|p| {
        vec![
            text(&p.name),
            text(format_go_duration(p.duration)),
            text(format_go_duration(p.shard_duration)),
            Value::Integer(i64::from(p.replication)),
            Value::Boolean(p.default),
        ]
    });
    let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
    Ok(vec![Series::table("", &columns, rows)])
}

/// The measurements that FROM names, or all of the database, sorted by name.
fn sources(
    ctx: &Context<'_>,
    database: Option<&str>,
    sources: &[Source],
) -> Result<Vec<Arc<Measurement>>, QueryError> {
    let found = ctx.database(database)?;
    if sources.is_empty() {
        return Ok(all_measurements(ctx, &found));
    }
    let inner = Context {
        database: Some(&found.name),
        ..*ctx
    };
    let mut out: Vec<Arc<Measurement>> = Vec::new();
    for source in sources {
        let Source::Measurement(named) = source else {
            return Err(QueryError::statement("a measurement is expected in FROM"));
        };
        out.extend(named_measurements(&inner, named)?);
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out.dedup_by_key(|m| m.id);
    Ok(out)
}

/// Measurements of all policies of a database, by name.
fn all_measurements(ctx: &Context<'_>, database: &crate::catalog::Database) -> Vec<Arc<Measurement>> {
    let mut all: Vec<Arc<Measurement>> = database
        .policies
        .iter()
        .flat_map(|policy| ctx.catalog.measurements(policy.id))
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// What WHERE asks of tags. Fields have no say in SHOW statements.
fn predicate(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
) -> Result<TagPredicate, QueryError> {
    let (_, condition) = split_time(condition, ctx.now, &TimeZone::UTC)?;
    let fields = measurement.fields();
    let is_tag = |var: &VarRef| match var.kind {
        Some(DataType::Tag) => true,
        Some(_) => false,
        None => fields.by_name(&var.name).is_none() && var.name != "_name",
    };
    Ok(split_tags(condition.as_ref(), &is_tag)?.0)
}

fn matching(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
) -> Result<RoaringBitmap, QueryError> {
    let predicate = predicate(ctx, measurement, condition)?;
    Ok(measurement.view().matching(&predicate)?)
}

/// The series that WHERE chooses; `None` without a WHERE.
fn chosen(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
) -> Result<Option<RoaringBitmap>, QueryError> {
    match predicate(ctx, measurement, condition)? {
        TagPredicate::All => Ok(None),
        predicate => Ok(Some(measurement.view().matching(&predicate)?)),
    }
}

/// How many series WHERE chooses.
fn count_matching(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
) -> Result<u64, QueryError> {
    let chosen = chosen(ctx, measurement, condition)?;
    Ok(chosen.map_or_else(|| measurement.live_count(), |chosen| chosen.len()))
}

/// SHOW MEASUREMENTS.
pub fn measurements(ctx: &Context<'_>, show: &ShowMeasurements) -> Answer {
    let names = measurement_names(ctx, show)?;
    let rows = page(names.into_iter().collect(), show.limit, show.offset)
        .into_iter()
        .map(|name: String| vec![text(name)]);
    Ok(some(Series::table("measurements", &["name"], rows)))
}

fn measurement_names(ctx: &Context<'_>, show: &ShowMeasurements) -> Result<BTreeSet<String>, QueryError> {
    let database = match &show.database {
        OnName::Current => ctx.database(None)?,
        OnName::Name(name) => ctx.database(Some(name))?,
        OnName::All => {
            return Err(QueryError::statement(
                "SHOW MEASUREMENTS ON * is not supported yet",
            ));
        }
    };
    let list = match &show.retention_policy {
        OnName::Name(policy) => ctx.catalog.measurements(ctx.policy(&database, Some(policy))?.id),
        _ => all_measurements(ctx, &database),
    };
    let with: Box<dyn Fn(&str) -> bool> = match show.with.as_ref().map(|m| &m.name) {
        None => Box::new(|_| true),
        Some(MeasurementName::Name(name)) => Box::new(move |other| other == name),
        Some(MeasurementName::Regex(pattern)) => {
            let regex = pattern
                .compile()
                .map_err(|e| QueryError::statement(e.to_string()))?;
            Box::new(move |other| regex.is_match(other))
        }
    };
    let mut names = BTreeSet::new();
    for measurement in list {
        if with(&measurement.name) && count_matching(ctx, &measurement, show.condition.as_ref())? > 0 {
            names.insert(measurement.name.clone());
        }
    }
    Ok(names)
}

/// SHOW SERIES.
pub fn series(ctx: &Context<'_>, show: &ShowSeries) -> Answer {
    let mut keys = Vec::new();
    for measurement in sources(ctx, show.database.as_deref(), &show.sources)? {
        let wanted = matching(ctx, &measurement, show.condition.as_ref())?;
        let name = &measurement.name;
        measurement.view().walk_keys(name, &wanted, &mut |_, key| {
            keys.push(key.canonical());
            ControlFlow::Continue(())
        })?;
        ctx.check()?;
    }
    keys.sort_unstable();
    let rows = page(keys, show.limit, show.offset)
        .into_iter()
        .map(|key| vec![text(key)]);
    Ok(some(Series::table("", &["key"], rows)))
}

enum KeyTest {
    All,
    In(Vec<String>),
    NotIn(String),
    Matches(Regex, bool),
}

impl KeyTest {
    fn of(filter: Option<&TagKeyFilter>) -> Result<Self, QueryError> {
        let compile = |pattern: &crate::lang::RegexLiteral| {
            pattern
                .compile()
                .map_err(|e| QueryError::statement(e.to_string()))
        };
        Ok(match filter {
            None => Self::All,
            Some(TagKeyFilter::Eq(key)) => Self::In(vec![key.clone()]),
            Some(TagKeyFilter::In(keys)) => Self::In(keys.clone()),
            Some(TagKeyFilter::Neq(key)) => Self::NotIn(key.clone()),
            Some(TagKeyFilter::Regex(pattern)) => Self::Matches(compile(pattern)?, true),
            Some(TagKeyFilter::NotRegex(pattern)) => Self::Matches(compile(pattern)?, false),
        })
    }

    fn wants(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::In(keys) => keys.iter().any(|k| k == key),
            Self::NotIn(other) => other != key,
            Self::Matches(regex, wanted) => regex.is_match(key) == *wanted,
        }
    }
}

/// Tag keys of the wanted series of a measurement.
fn tag_keys_of(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
    test: &KeyTest,
) -> Result<Vec<String>, QueryError> {
    let within = chosen(ctx, measurement, condition)?;
    let mut keys = measurement.view().tag_keys(within.as_ref())?;
    keys.retain(|key| test.wants(key));
    Ok(keys)
}

/// SHOW TAG KEYS.
pub fn tag_keys(ctx: &Context<'_>, show: &ShowTagKeys) -> Answer {
    let test = KeyTest::of(show.keys.as_ref())?;
    let mut out = Vec::new();
    for measurement in sources(ctx, show.database.as_deref(), &show.sources)? {
        let keys = tag_keys_of(ctx, &measurement, show.condition.as_ref(), &test)?;
        let rows = page(keys, show.limit, show.offset)
            .into_iter()
            .map(|key| vec![text(key)]);
        out.extend(some(Series::table(&measurement.name, &["tagKey"], rows)));
    }
    Ok(page(out, show.slimit, show.soffset))
}

/// Keys and values of the wanted series of a measurement, sorted.
fn tag_values_of(
    ctx: &Context<'_>,
    measurement: &Measurement,
    condition: Option<&Expr>,
    test: &KeyTest,
) -> Result<Vec<(String, String)>, QueryError> {
    let within = chosen(ctx, measurement, condition)?;
    let view = measurement.view();
    let mut out = Vec::new();
    for key in view
        .tag_keys(within.as_ref())?
        .iter()
        .filter(|key| test.wants(key))
    {
        view.walk_values(key, within.as_ref(), &mut |value| {
            out.push((key.clone(), value.to_string()));
            ControlFlow::Continue(())
        })?;
    }
    Ok(out)
}

/// SHOW TAG VALUES.
pub fn tag_values(ctx: &Context<'_>, show: &ShowTagValues) -> Answer {
    let test = KeyTest::of(Some(&show.keys))?;
    let mut out = Vec::new();
    for measurement in sources(ctx, show.database.as_deref(), &show.sources)? {
        ctx.check()?;
        let values = tag_values_of(ctx, &measurement, show.condition.as_ref(), &test)?;
        let rows = page(values, show.limit, show.offset)
            .into_iter()
            .map(|(k, v)| vec![text(k), text(v)]);
        out.extend(some(Series::table(&measurement.name, &["key", "value"], rows)));
    }
    Ok(out)
}

/// SHOW FIELD KEYS.
pub fn field_keys(ctx: &Context<'_>, show: &ShowFieldKeys) -> Answer {
    let mut out = Vec::new();
    for measurement in sources(ctx, show.database.as_deref(), &show.sources)? {
        let fields = measurement.fields();
        let mut keys: Vec<(String, &'static str)> = fields
            .iter()
            .map(|(_, f)| (f.name.clone(), f.field_type.name()))
            .collect();
        keys.sort();
        let rows = page(keys, show.limit, show.offset)
            .into_iter()
            .map(|(name, t)| vec![text(name), text(t)]);
        out.extend(some(Series::table(
            &measurement.name,
            &["fieldKey", "fieldType"],
            rows,
        )));
    }
    Ok(out)
}

/// SHOW .. CARDINALITY; the estimate is exact.
pub fn cardinality(ctx: &Context<'_>, show: &ShowCardinality) -> Answer {
    let list = sources(ctx, show.database.as_deref(), &show.sources)?;
    let condition = show.condition.as_ref();
    let count = |n: u64| Value::Integer(n as i64);
    let whole = |columns: &[&str], n: u64| vec![Series::table("", columns, [vec![count(n)]])];
    let by_measurement = show.exact || !show.sources.is_empty() || condition.is_some();
    let mut counts: Vec<(String, u64)> = Vec::new();
    match &show.of {
        CardinalityOf::Series => {
            for m in &list {
                counts.push((m.name.clone(), count_matching(ctx, m, condition)?));
            }
            if !by_measurement {
                return Ok(whole(
                    &["cardinality estimation"],
                    counts.iter().map(|(_, n)| n).sum(),
                ));
            }
        }
        CardinalityOf::Measurement => {
            let mut names = BTreeSet::new();
            for m in &list {
                if count_matching(ctx, m, condition)? > 0 {
                    names.insert(m.name.clone());
                }
            }
            let column = if show.exact {
                "count"
            } else {
                "cardinality estimation"
            };
            return Ok(whole(&[column], names.len() as u64));
        }
        CardinalityOf::TagKey => {
            for m in &list {
                counts.push((
                    m.name.clone(),
                    tag_keys_of(ctx, m, condition, &KeyTest::All)?.len() as u64,
                ));
            }
        }
        CardinalityOf::TagValues(keys) => {
            let test = KeyTest::of(Some(keys))?;
            for m in &list {
                let within = chosen(ctx, m, condition)?;
                let view = m.view();
                let mut values = 0;
                for key in view
                    .tag_keys(within.as_ref())?
                    .iter()
                    .filter(|key| test.wants(key))
                {
                    values += view.count_values(key, within.as_ref())?;
                }
                counts.push((m.name.clone(), values));
            }
        }
        CardinalityOf::FieldKey => {
            counts.extend(
                list.iter()
                    .map(|m| (m.name.clone(), m.fields().iter().count() as u64)),
            );
        }
    }
    let tables = counts.into_iter().filter(|(_, n)| *n > 0);
    let tables = tables
        .map(|(name, n)| Series::table(&name, &["count"], [vec![count(n)]]))
        .collect();
    Ok(page(tables, show.limit, show.offset))
}
