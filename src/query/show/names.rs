//! SHOW DATABASES, RETENTION POLICIES, MEASUREMENTS and FIELD KEYS.

use super::{Answer, all_measurements, count_matching, page, predicate, some, sources, text, without_time};
use crate::catalog::{Database, Measurement, TagPredicate};
use crate::lang::{Expr, MeasurementName, OnName, ShowFieldKeys, ShowMeasurements, format_go_duration};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::statements::WriteLimits;
use crate::query::value::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// SHOW DATABASES.
pub fn databases(ctx: &Context<'_>) -> Vec<Series> {
    let names = sorted(ctx).into_iter().map(|database| vec![text(&database.name)]);
    vec![Series::table("databases", &["name"], names)]
}

fn sorted(ctx: &Context<'_>) -> Vec<Arc<Database>> {
    let mut all = ctx.catalog.databases();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// SHOW RETENTION POLICIES.
pub fn retention_policies(ctx: &Context<'_>, database: Option<&str>) -> Answer {
    let database = ctx.database(database)?;
    let rows = database.policies.iter().map(|p| {
        let limits = WriteLimits::of(ctx.catalog, p.id);
        vec![
            text(&p.name),
            text(format_go_duration(p.duration)),
            text(format_go_duration(p.shard_duration)),
            Value::Integer(i64::from(p.replication)),
            text(format_go_duration(limits.future)),
            text(format_go_duration(limits.past)),
            Value::Boolean(p.default),
        ]
    });
    let columns = [
        "name",
        "duration",
        "shardGroupDuration",
        "replicaN",
        "futureWriteLimit",
        "pastWriteLimit",
        "default",
    ];
    Ok(vec![Series::table("", &columns, rows)])
}

/// SHOW MEASUREMENTS.
pub fn measurements(ctx: &Context<'_>, show: &ShowMeasurements) -> Answer {
    let condition = without_time(ctx, "SHOW MEASUREMENTS", show.condition.as_ref())?;
    let databases = match (&show.database, &show.retention_policy) {
        (OnName::Current, _) => vec![ctx.database(None)?],
        (OnName::Name(name), _) => vec![ctx.database(Some(name))?],
        (OnName::All, OnName::All) => sorted(ctx),
        (OnName::All, policy) => {
            let on = if matches!(policy, OnName::Current) {
                "*"
            } else {
                "*.rp"
            };
            return Err(QueryError::statement(format!(
                "query 'SHOW MEASUREMENTS ON {on}' not supported. use 'ON *.*' or specify a database"
            )));
        }
    };
    let wanted = Wanted::of(show)?;
    if matches!(show.retention_policy, OnName::Current) {
        let mut names = BTreeSet::new();
        for database in &databases {
            for m in all_measurements(ctx, database) {
                if wanted.has(&m, condition.as_ref())? {
                    names.insert(m.name.clone());
                }
            }
        }
        let rows = page(names, show.limit, show.offset)
            .into_iter()
            .map(|name| vec![text(name)]);
        return Ok(some(Series::table("measurements", &["name"], rows)));
    }
    let mut rows = Vec::new();
    for database in &databases {
        let policies = match &show.retention_policy {
            OnName::Name(name) => vec![ctx.policy(database, Some(name))?],
            _ => {
                let mut all = database.policies.clone();
                all.sort_by(|a, b| a.name.cmp(&b.name));
                all
            }
        };
        for policy in policies {
            for m in ctx.catalog.measurements(policy.id) {
                if wanted.has(&m, condition.as_ref())? {
                    rows.push(vec![text(&m.name), text(&database.name), text(&policy.name)]);
                }
            }
        }
    }
    let columns = ["name", "database", "retention policy"];
    Ok(some(Series::table(
        "measurements",
        &columns,
        page(rows, show.limit, show.offset),
    )))
}

/// `WITH MEASUREMENT ..`.
enum Wanted {
    All,
    Name(String),
    Matches(regex::Regex),
}

impl Wanted {
    fn of(show: &ShowMeasurements) -> Result<Self, QueryError> {
        Ok(match show.with.as_ref().map(|m| &m.name) {
            None => Self::All,
            Some(MeasurementName::Name(name)) => Self::Name(name.clone()),
            Some(MeasurementName::Regex(pattern)) => {
                let compiled = pattern.compile();
                Self::Matches(compiled.map_err(|e| QueryError::statement(e.to_string()))?)
            }
        })
    }

    fn has(&self, measurement: &Measurement, condition: Option<&Expr>) -> Result<bool, QueryError> {
        let named = match self {
            Self::All => true,
            Self::Name(name) => *name == measurement.name,
            Self::Matches(regex) => regex.is_match(&measurement.name),
        };
        if !named || measurement.live_count() == 0 {
            return Ok(false);
        }
        match condition {
            None => Ok(true),
            Some(_) => satisfies(measurement, &predicate(measurement, condition)?),
        }
    }
}

/// As InfluxDB has it, a measurement satisfies `tag = x` when one of its series does, and `tag != x` when none has that value.
fn satisfies(measurement: &Measurement, predicate: &TagPredicate) -> Result<bool, QueryError> {
    let any = |wanted: TagPredicate| -> Result<bool, QueryError> {
        Ok(!measurement.view().matching(&wanted)?.is_empty())
    };
    Ok(match predicate {
        TagPredicate::NotEquals { key, value } => !any(TagPredicate::Equals {
            key: key.clone(),
            value: value.clone(),
        })?,
        TagPredicate::NotMatches { key, regex } => !any(TagPredicate::Matches {
            key: key.clone(),
            regex: regex.clone(),
        })?,
        TagPredicate::And(all) => {
            for one in all {
                if !satisfies(measurement, one)? {
                    return Ok(false);
                }
            }
            true
        }
        TagPredicate::Or(several) => {
            for one in several {
                if satisfies(measurement, one)? {
                    return Ok(true);
                }
            }
            false
        }
        other => any(other.clone())?,
    })
}

/// Names of measurements that have a series which satisfies the condition.
pub(super) fn with_series(
    ctx: &Context<'_>,
    database: Option<&str>,
    from: &[crate::lang::Source],
    condition: Option<&Expr>,
) -> Result<BTreeSet<String>, QueryError> {
    let mut names = BTreeSet::new();
    for (name, all) in sources(ctx, database, from)? {
        for m in all {
            if count_matching(&m, condition)? > 0 {
                names.insert(name.clone());
            }
        }
    }
    Ok(names)
}

/// SHOW FIELD KEYS.
pub fn field_keys(ctx: &Context<'_>, show: &ShowFieldKeys) -> Answer {
    let mut out = Vec::new();
    for (name, all) in sources(ctx, show.database.as_deref(), &show.sources)? {
        let rows = page(fields_of(&all), show.limit, show.offset)
            .into_iter()
            .map(|(name, field_type)| vec![text(name), text(field_type)]);
        out.extend(some(Series::table(&name, &["fieldKey", "fieldType"], rows)));
    }
    Ok(out)
}

/// Names and types of the fields of measurements of one name, in order.
pub(super) fn fields_of(all: &[Arc<Measurement>]) -> BTreeSet<(String, &'static str)> {
    let fields: Vec<_> = all.iter().map(|m| m.fields()).collect();
    let names = fields.iter().flat_map(|f| f.iter());
    names
        .map(|(_, f)| (f.name.clone(), f.field_type.name()))
        .collect()
}
