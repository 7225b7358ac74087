//! CREATE ROLLUP, DROP ROLLUP and SHOW ROLLUPS. The statement is a record; [`crate::refresh`] does what it says.

use super::{Target, commands};
use crate::batch::Command;
use crate::lang::{CreateRollup, OnDatabase, format_duration};
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::rollup::making::there;
use crate::query::value::Value;
use crate::rollup::{BUILT, Definition, EVERY_MAX, EVERY_MIN, KIND, LEVELS_MAX, ROLLUPS_MAX, Status, key};

/// CREATE ROLLUP. Nothing happens when there is the same one.
pub(super) fn create(
    ctx: &Context<'_>,
    create: &CreateRollup,
    target: &dyn Target,
) -> Result<(), QueryError> {
    ctx.database(Some(&create.database))?;
    let mut create = create.clone();
    create.every.sort_unstable();
    create.every.dedup();
    create.measurements.sort();
    create.measurements.dedup();
    let refuse = |text: String| Err(QueryError::statement(text));
    if create.name.is_empty() || create.name.contains('/') || create.name.chars().any(char::is_control) {
        return refuse("invalid name".into());
    }
    if let Some(wrong) = create
        .every
        .iter()
        .find(|every| !(EVERY_MIN..=EVERY_MAX).contains(*every))
    {
        return refuse(format!(
            "EVERY {}: an interval of a rollup is between {} and {}",
            format_duration(*wrong),
            format_duration(EVERY_MIN),
            format_duration(EVERY_MAX)
        ));
    }
    if create.every.len() > LEVELS_MAX {
        return refuse(format!(
            "too many intervals in EVERY (rollup_levels_max {LEVELS_MAX})"
        ));
    }
    let text = create.to_string();
    let name = key(&create.database, &create.name);
    let (known, count) = ctx.catalog.with_records(|kept| {
        let known = kept.get(KIND, &name).map(str::to_string);
        (known, kept.of_kind(KIND).count())
    });
    match known {
        Some(known) if known == text => return Ok(()),
        Some(_) => return refuse("rollup already exists".into()),
        None if count >= ROLLUPS_MAX => {
            return refuse(format!("too many rollups (rollups_max {ROLLUPS_MAX})"));
        }
        None => {}
    }
    // What is kept is text: it must read back as what was asked for.
    if Definition::of_text(&text).is_none_or(|read| read.statement != create) {
        return refuse("the statement has a name that cannot be kept".into());
    }
    let kind = KIND.to_string();
    let value = text;
    commands(target, vec![Command::PutRecord { kind, name, value }])
}

/// DROP ROLLUP, with its states, at once; nothing happens when there is none.
pub(super) fn drop(ctx: &Context<'_>, drop: &OnDatabase, target: &dyn Target) -> Result<(), QueryError> {
    let name = key(&drop.database, &drop.name);
    let known = ctx
        .catalog
        .with_records(|kept| kept.get(KIND, &name).map(str::to_string));
    let Some(definition) = known.as_deref().and_then(Definition::of_text) else {
        return Ok(());
    };
    let mut all: Vec<Command> = [KIND, BUILT]
        .map(|kind| Command::RemoveRecord {
            kind: kind.to_string(),
            name: name.clone(),
        })
        .into();
    if let Some(database) = ctx.catalog.database(&drop.database) {
        let own = database.policies.iter();
        let own = own.filter_map(|policy| database.hidden_policy(&definition.policy_name(policy.id)));
        all.extend(own.map(|policy| Command::DropPolicy(policy.id)));
    }
    commands(target, all)
}

/// SHOW ROLLUPS: a table for each database.
pub(super) fn show(ctx: &Context<'_>) -> Result<Vec<Series>, QueryError> {
    let statuses = match ctx.scan.rollups() {
        Some((rollups, _)) => rollups.statuses(),
        None => Vec::new(),
    };
    let mut names: Vec<String> = ctx.catalog.databases().iter().map(|d| d.name.clone()).collect();
    names.sort();
    let columns = ["name", "query", "measurements", "waiting", "built"];
    let mut tables = Vec::new();
    for name in &names {
        let mut rows = Vec::new();
        for status in statuses
            .iter()
            .filter(|s| s.definition.statement.database == *name)
        {
            rows.push(row(ctx, status)?);
        }
        tables.push(Series::table(name, &columns, rows));
    }
    Ok(tables)
}

/// Name, statement, how many measurements, intervals that wait and have points, and how much of the time with points is built in percent.
fn row(ctx: &Context<'_>, status: &Status) -> Result<Vec<Value>, QueryError> {
    let (mut waiting, mut there_in_all, mut waiting_in_all) = (0i64, 0f64, 0f64);
    let mut measurements = std::collections::BTreeSet::new();
    for (source, every, ranges) in &status.waiting {
        let Some(measurement) = ctx.catalog.measurement_by_id(*source) else {
            continue;
        };
        measurements.insert(*source);
        ctx.check()?;
        let Some((all, _)) = there(ctx, &measurement, TimeRange::ALL)? else {
            continue;
        };
        let span = |min: i64, max: i64| i128::from(max) - i128::from(min) + 1;
        there_in_all += span(all.min, all.max) as f64;
        for &(from, to) in ranges {
            let (min, max) = (from.max(all.min), to.saturating_sub(1).min(all.max));
            if min <= max {
                let first = min.div_euclid(*every);
                waiting += max.div_euclid(*every) - first + 1;
                waiting_in_all += span(min, max) as f64;
            }
        }
    }
    let built = match there_in_all > 0.0 {
        true => 100.0 - 100.0 * waiting_in_all / there_in_all,
        false => 100.0,
    };
    let text = |text: &str| Value::String(text.into());
    Ok(vec![
        text(&status.definition.statement.name),
        text(&status.definition.text),
        Value::Integer(measurements.len() as i64),
        Value::Integer(waiting),
        Value::Float((built * 10.0).round() / 10.0),
    ])
}
