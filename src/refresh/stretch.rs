//! Makes the states of one stretch of intervals.

use crate::batch::{Batch, Command, Definitions};
use crate::catalog::{Measurement, Policy};
use crate::engine::Engine;
use crate::model::TimeRange;
use crate::query::rollup::RollupUse;
use crate::query::rollup::making::{Making, there};
use crate::query::statements::Target;
use crate::query::{Cancel, Context, QueryError, QueryLimits, Resources};
use crate::rollup::covers::Built;
use crate::rollup::{Definition, Due, EVERY_MAX, states_name};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Points that one stretch has at most, if it has several intervals.
const POINTS_MAX: u64 = 2_000_000;
/// Intervals of one stretch.
const INTERVALS_MAX: i64 = 10_000;
/// Memory that making a stretch may take, beside what is committed.
const BYTES_MAX: usize = 256 << 20;
/// States of one batch.
const ROWS_PER_BATCH: usize = 50_000;
/// A stretch is given up after this time.
const MAKE_MAX: Duration = Duration::from_secs(300);

/// How it went.
pub enum Outcome {
    /// Its states are committed.
    Made,
    /// Its measurement or rollup was dropped meanwhile.
    Gone,
}

/// Makes the latest stretch of what waits.
pub fn make(engine: &Arc<Engine>, due: &Due, now: i64, cancel: &Cancel) -> Result<Outcome, String> {
    let catalog = engine.catalog();
    let Some(source) = catalog.measurement_by_id(due.source) else {
        return Ok(Outcome::Gone);
    };
    let Some(states) = states_of(engine, &due.definition, &source, due.every)? else {
        return Ok(Outcome::Gone);
    };
    // IMPORTANT: taken before anything is read: what is committed later makes its interval wait again.
    let snapshot = engine.snapshot();
    let as_of = snapshot.sequence();
    let resources = Resources::new(BYTES_MAX, Target::workers(&**engine)).with_rollups(RollupUse::Off);
    let limits = QueryLimits::default();
    let ctx = Context {
        catalog,
        scan: &snapshot,
        database: Some(&due.definition.statement.database),
        policy: None,
        now,
        limits: &limits,
        cancel,
        deadline: Some(Instant::now() + MAKE_MAX),
        resources: &resources,
    };
    let mut from = due.from;
    let time = |from: i64| TimeRange {
        min: from,
        max: due.to - 1,
    };
    let text = |error: QueryError| error.to_string();
    let found = |from: i64| -> Result<(Option<(TimeRange, u64)>, Option<(TimeRange, u64)>), String> {
        let points = there(&ctx, &source, time(from)).map_err(text)?;
        let known = there(&ctx, &states, time(from)).map_err(text)?;
        Ok((points, known))
    };
    let (mut points, mut known) = found(from)?;
    let mut pieces = Vec::new();
    let last = points.iter().chain(&known).map(|(time, _)| time.max).max();
    if let Some(last) = last {
        // The latest intervals that have anything, as many as are made at once.
        let every = due.every;
        let end = last - last.rem_euclid(every);
        let mut count = INTERVALS_MAX;
        loop {
            let begin = end.saturating_sub((count - 1).saturating_mul(every));
            if begin > from {
                from = begin;
                (points, known) = found(from)?;
            }
            if count == 1 || points.as_ref().is_none_or(|(_, rows)| *rows <= POINTS_MAX) {
                break;
            }
            count = (count / 4).max(1);
        }
        let making = Making {
            source: source.clone(),
            states: states.clone(),
            every,
            percentiles: due.definition.statement.percentiles,
        };
        // Away from the ends of time, where there are no whole intervals.
        let inner = TimeRange {
            min: time(from).min.max(i64::MIN + EVERY_MAX),
            max: time(from).max,
        };
        let made = making.make(&ctx, inner, known.is_some()).map_err(text)?;
        pieces = made.tables(&states, engine.shards(), ROWS_PER_BATCH);
    }
    let built = Built {
        every: due.every,
        source: source.id,
        states: states.id,
        from,
        to: due.to,
        as_of,
    };
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
    let count = pieces.len();
    for (at, tables) in pieces.into_iter().enumerate() {
        let mut batch = Batch {
            shards: engine.shards(),
            definitions: definitions(engine, &due.definition, &states),
            tables,
            ..Batch::default()
        };
        if at + 1 == count {
            batch.commands.push(built.command(&due.definition));
        }
        Target::commit(&**engine, batch)?;
    }
    Ok(Outcome::Made)
}

/// What batches with states must define.
fn definitions(engine: &Engine, definition: &Definition, states: &Measurement) -> Definitions {
    let mut all = engine.catalog().define_database(&definition.statement.database);
    states.define_new(&RoaringBitmap::new(), &mut all);
    all
}

/// The policy of a measurement, unless it is hidden or gone.
fn policy_of(engine: &Engine, measurement: &Measurement) -> Option<Arc<Policy>> {
    let databases = engine.catalog().databases();
    let mut all = databases.iter().flat_map(|database| &database.policies);
    all.find(|policy| policy.id == measurement.policy).cloned()
}

/// The measurement that has the states, made when it is not there. `None`: the rollup or the measurement is gone.
fn states_of(
    engine: &Engine,
    definition: &Definition,
    source: &Measurement,
    every: i64,
) -> Result<Option<Arc<Measurement>>, String> {
    let catalog = engine.catalog();
    let Some(policy) = policy_of(engine, source) else {
        return Ok(None);
    };
    let there = engine.rollups().definitions();
    if !there.iter().any(|known| **known == *definition) {
        return Ok(None);
    }
    let database = &definition.statement.database;
    let hidden =
        catalog.hidden_policy_or_create(database, &definition.policy_name(source.policy), policy.duration);
    let Ok(hidden) = hidden else { return Ok(None) };
    let states = catalog.measurement_or_create(hidden.id, &states_name(source, every));
    states.map(Some).map_err(|error| error.to_string())
}

/// Commands that bring hidden policies into line: they last as long as those of the points, and what they have states of is there.
pub fn follow(engine: &Engine) -> Vec<Vec<Command>> {
    let catalog = engine.catalog();
    let mut all = Vec::new();
    let definitions = engine.rollups().definitions();
    for database in catalog.databases() {
        for hidden in &database.hidden {
            let own = definitions
                .iter()
                .filter(|d| d.statement.database == database.name);
            let of = own.flat_map(|d| database.policies.iter().map(move |p| (d, p)));
            let name = |(d, p): &(&Arc<Definition>, &Arc<Policy>)| {
                database
                    .hidden_policy(&d.policy_name(p.id))
                    .is_some_and(|known| known.id == hidden.id)
            };
            let Some((_, policy)) = of.into_iter().find(name) else {
                all.push(vec![Command::DropPolicy(hidden.id)]);
                continue;
            };
            if policy.duration != hidden.duration {
                all.push(vec![Command::AlterPolicy(Policy {
                    duration: policy.duration,
                    ..hidden.as_ref().clone()
                })]);
            }
            let sources = catalog.measurements(policy.id);
            for states in catalog.measurements(hidden.id) {
                let source = states
                    .name
                    .split(' ')
                    .next()
                    .and_then(|id| id.parse::<u32>().ok());
                if !sources.iter().any(|measurement| Some(measurement.id) == source) {
                    all.push(vec![Command::DropMeasurement(states.id)]);
                }
            }
        }
    }
    all
}

/// Commits commands.
pub fn commit(engine: &Arc<Engine>, commands: Vec<Command>) -> Result<u64, String> {
    let batch = Batch {
        shards: engine.shards(),
        commands,
        ..Batch::default()
    };
    Target::commit(&**engine, batch)
}
