//! SHOW SHARDS, SHOW SHARD GROUPS and DROP SHARD. Kymo has no shards in InfluxDB's sense; what is shown are the spans of a
//! policy's shard duration in which there are points. A span's number says of which policy and when it is, and so is always
//! the same.

use super::{Target, commands};
use crate::batch::Command;
use crate::catalog::Policy;
use crate::model::{PolicyId, TimeRange};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::time::format_time;
use crate::query::value::Value;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Spans are counted from the start of the year 1, as InfluxDB does: so weeks begin on Mondays.
const YEAR_ONE: i128 = -62_135_596_800_000_000_000;
/// Numbers of one policy: an hour is the shortest span, and there are fewer hours than this in all of time.
const SPANS_PER_POLICY: u64 = 1 << 25;

/// A span of time of a policy.
struct Span {
    database: String,
    policy: Arc<Policy>,
    number: u64,
}

impl Span {
    fn id(&self) -> u64 {
        u64::from(self.policy.id) * SPANS_PER_POLICY + self.number
    }

    /// First nanosecond, and the first of the next span, as far as they are times at all.
    fn ends(&self) -> (i64, i64) {
        let step = i128::from(self.policy.shard_duration);
        let start = YEAR_ONE + i128::from(self.number) * step;
        let clamp = |t: i128| t.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        (clamp(start), clamp(start + step))
    }
}

fn number_of(time: i64, step: i64) -> u64 {
    ((i128::from(time) - YEAR_ONE) / i128::from(step)) as u64
}

fn spans(ctx: &Context<'_>) -> Result<Vec<Span>, QueryError> {
    let mut databases = ctx.catalog.databases();
    databases.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Vec::new();
    for database in databases {
        for policy in &database.policies {
            let mut numbers = BTreeSet::new();
            for measurement in ctx.catalog.measurements(policy.id) {
                ctx.check()?;
                let step = policy.shard_duration.max(1);
                let mut add = |time| {
                    numbers.insert(number_of(time, step));
                };
                ctx.scan.times(measurement.id, &mut add)?;
            }
            out.extend(numbers.into_iter().map(|number| Span {
                database: database.name.clone(),
                policy: policy.clone(),
                number,
            }));
        }
    }
    Ok(out)
}

fn time(nanos: i64) -> Value {
    let mut out = String::new();
    format_time(nanos, &TimeZone::UTC, &mut out);
    Value::String(out.into())
}

fn expiry(span: &Span) -> Value {
    match span.policy.duration {
        0 => Value::String("".into()),
        kept => time(span.ends().1.saturating_add(kept)),
    }
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

/// SHOW SHARDS.
pub(super) fn show(ctx: &Context<'_>) -> Result<Vec<Series>, QueryError> {
    let columns = [
        "id",
        "database",
        "retention_policy",
        "shard_group",
        "start_time",
        "end_time",
        "expiry_time",
        "owners",
    ];
    let mut tables: Vec<(String, Vec<Vec<Value>>)> = Vec::new();
    for span in spans(ctx)? {
        let id = Value::Integer(span.id() as i64);
        let (start, end) = span.ends();
        let row = vec![
            id.clone(),
            text(&span.database),
            text(&span.policy.name),
            id,
            time(start),
            time(end),
            expiry(&span),
            text(""),
        ];
        match tables.last_mut() {
            Some((database, rows)) if *database == span.database => rows.push(row),
            _ => tables.push((span.database, vec![row])),
        }
    }
    let tables = tables.into_iter();
    Ok(tables
        .map(|(name, rows)| Series::table(&name, &columns, rows))
        .collect())
}

/// SHOW SHARD GROUPS.
pub(super) fn show_groups(ctx: &Context<'_>) -> Result<Vec<Series>, QueryError> {
    let columns = [
        "id",
        "database",
        "retention_policy",
        "start_time",
        "end_time",
        "expiry_time",
    ];
    let rows = spans(ctx)?.into_iter().map(|span| {
        let (start, end) = span.ends();
        vec![
            Value::Integer(span.id() as i64),
            text(&span.database),
            text(&span.policy.name),
            time(start),
            time(end),
            expiry(&span),
        ]
    });
    Ok(vec![Series::table("shard groups", &columns, rows)])
}

/// DROP SHARD: deletes the points of a span. Nothing happens when there is none of that number.
pub(super) fn drop_shard(ctx: &Context<'_>, id: u64, target: &dyn Target) -> Result<(), QueryError> {
    let Ok(policy_id) = PolicyId::try_from(id / SPANS_PER_POLICY) else {
        return Ok(());
    };
    let databases = ctx.catalog.databases();
    let policies = databases.iter().flat_map(|d| &d.policies);
    let Some(policy) = policies.into_iter().find(|p| p.id == policy_id) else {
        return Ok(());
    };
    let span = Span {
        database: String::new(),
        policy: policy.clone(),
        number: id % SPANS_PER_POLICY,
    };
    let (start, end) = span.ends();
    if start >= end {
        return Ok(());
    }
    let time = TimeRange {
        min: start,
        max: end - 1,
    };
    let all = ctx.catalog.measurements(policy.id).into_iter();
    let deletes = all.map(|m| Command::Delete {
        measurement: m.id,
        series: None,
        time,
    });
    commands(target, deletes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{TIME_MAX, TIME_MIN};

    #[test]
    fn spans_are_aligned_as_influxdb_aligns_them() {
        const HOUR: i64 = 3_600_000_000_000;
        let policy = |shard_duration| {
            Arc::new(Policy {
                id: 3,
                database: 0,
                name: "p".into(),
                duration: 0,
                shard_duration,
                replication: 1,
                default: true,
            })
        };
        // 2000-01-01T01:00:00Z lies in the week that began on Monday the 27th of December.
        let cases = [
            (946_688_400_000_000_000, 168 * HOUR, 946_252_800_000_000_000),
            (946_688_400_000_000_000, 24 * HOUR, 946_684_800_000_000_000),
            (-1, HOUR, -HOUR),
        ];
        for (time, step, start) in cases {
            let span = Span {
                database: String::new(),
                policy: policy(step),
                number: number_of(time, step),
            };
            assert_eq!(span.ends(), (start, start + step));
        }
        assert!(number_of(TIME_MAX, HOUR) < SPANS_PER_POLICY && number_of(TIME_MIN, HOUR) < SPANS_PER_POLICY);
    }
}
