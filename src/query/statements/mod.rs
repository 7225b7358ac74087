//! What each statement does: reads by way of SELECT and SHOW, changes by way of a [`Target`].

mod delete;
mod explain;
mod into;
mod policies;
mod queries;
mod rollups;
mod shards;
mod stored;
mod users;

pub use policies::WriteLimits;
pub use users::verify as verify_password;

use super::context::{Cancel, Context, QueryLimits};
use super::encode::Event;
use super::error::QueryError;
use super::hints;
use super::resources::Resources;
use super::result::{Give, Piece, ResultColumn, Series};
use super::rollup::RollupUse;
use super::running::Running;
use super::scan::Scan;
use super::select::stream;
use super::value::Value;
use super::workers::Workers;
use super::{show, time};
use crate::batch::{Batch, Command, Definitions};
use crate::catalog::Catalog;
use crate::ingest::Limits;
use crate::lang::{Params, Query, Statement};
use crate::rejected::Entry;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// Where statements that change something put their changes, and where the others read.
pub trait Target: Send + Sync {
    /// Names and series.
    fn catalog(&self) -> &Catalog;
    /// Everything committed so far.
    fn snapshot(&self) -> Arc<dyn Scan>;
    /// Makes a batch durable and visible. Blocks.
    fn commit(&self, batch: Batch) -> Result<u64, String>;
    /// Shards that batches are made for.
    fn shards(&self) -> u16;
    /// Threads that help queries.
    fn workers(&self) -> &Workers;
    /// The queries that run.
    fn running(&self) -> &Arc<Running>;
    /// Limits of points that SELECT INTO writes.
    fn limits(&self) -> &Limits;
    /// What was not stored, of a database or of all, oldest first.
    fn rejected(&self, database: Option<&str>) -> Result<Vec<Entry>, String>;
    /// Figures for SHOW STATS and SHOW DIAGNOSTICS: module, name, value.
    fn figures(&self) -> Vec<(String, String, Value)>;
}

/// How a query text is run.
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// The database where a statement names none.
    pub database: Option<String>,
    /// The retention policy where a statement names none.
    pub policy: Option<String>,
    /// Values for `$name`.
    pub params: Params,
    /// What `now()` is, nanoseconds.
    pub now: i64,
    /// Limits of each statement.
    pub limits: QueryLimits,
    /// Statements are stopped then.
    pub deadline: Option<Instant>,
    /// Do SELECTs read states of rollups?
    pub rollups: RollupUse,
    /// The request may only read: statements that change something are told of.
    pub read_only_hint: bool,
}

/// Runs statements in order; what happens goes to `sink`, which may stop it. After a failure the rest is not run.
pub fn run(
    query: &Query,
    options: &QueryOptions,
    target: &dyn Target,
    cancel: &Cancel,
    sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
) {
    let mut failed = false;
    for (id, statement) in query.statements.iter().enumerate() {
        let mut messages = Vec::new();
        if !failed && options.read_only_hint && writes(statement) {
            messages.push(format!(
                "deprecated use of '{statement}' in a read only context, please use a POST request instead"
            ));
        }
        let zone = match statement {
            Statement::Select(select) => time::zone(select.tz.as_deref()).ok(),
            _ => None,
        };
        if sink(Event::Begin { id, messages, zone }).is_break() {
            return;
        }
        let mut stopped = false;
        let error = if failed {
            Some("not executed".into())
        } else {
            let mut give = |piece: Piece| {
                let flow = sink(Event::Piece(piece));
                stopped = flow.is_break();
                flow
            };
            let outcome = execute(statement, options, target, cancel, &mut give);
            outcome.err().map(|(error, hint)| {
                stopped |= hint.is_some_and(|hint| sink(Event::Hint(hint)).is_break());
                stopped |= matches!(error, QueryError::Busy(_)) && sink(Event::Busy).is_break();
                error.to_string()
            })
        };
        failed |= error.is_some();
        if stopped || sink(Event::End { error }).is_break() {
            return;
        }
    }
}

fn writes(statement: &Statement) -> bool {
    match statement {
        Statement::Select(select) => select.target.is_some(),
        Statement::CreateDatabase(_)
        | Statement::DropDatabase(_)
        | Statement::CreateRetentionPolicy(_)
        | Statement::AlterDatabase(_)
        | Statement::AlterRetentionPolicy(_)
        | Statement::DropRetentionPolicy(_)
        | Statement::CreateContinuousQuery(_)
        | Statement::DropContinuousQuery(_)
        | Statement::CreateSubscription(_)
        | Statement::DropSubscription(_)
        | Statement::Delete(_)
        | Statement::DropSeries(_)
        | Statement::DropMeasurement(_)
        | Statement::DropShard(_)
        | Statement::CreateUser(_)
        | Statement::DropUser(_)
        | Statement::SetPassword(_)
        | Statement::Grant(_)
        | Statement::Revoke(_)
        | Statement::KillQuery(_)
        | Statement::CreateRollup(_)
        | Statement::DropRollup(_) => true,
        _ => false,
    }
}

fn execute(
    statement: &Statement,
    options: &QueryOptions,
    target: &dyn Target,
    cancel: &Cancel,
    give: &mut Give<'_>,
) -> Result<(), (QueryError, Option<String>)> {
    let scan = target.snapshot();
    let resources =
        Resources::new(options.limits.memory_bytes_max, target.workers()).with_rollups(options.rollups);
    let ctx = Context {
        catalog: target.catalog(),
        scan: scan.as_ref(),
        database: options.database.as_deref(),
        policy: options.policy.as_deref(),
        now: options.now,
        limits: &options.limits,
        cancel,
        deadline: options.deadline,
        resources: &resources,
    };
    let found = match statement {
        Statement::Select(statement) if statement.target.is_none() => {
            stream(&ctx, statement, give).map(|()| Vec::new())
        }
        Statement::ShowSeries(s) => show::series(&ctx, s, give).map(|()| Vec::new()),
        Statement::ShowTagValues(s) => show::tag_values(&ctx, s, give).map(|()| Vec::new()),
        other => answer(other, &ctx, target),
    };
    let found = found.map_err(|error| {
        let hint = hints::of(&error, &ctx);
        (error, hint)
    })?;
    for series in found {
        if give(Piece::whole(series)).is_break() {
            break;
        }
    }
    Ok(())
}

/// What a statement gives that is held as a whole.
fn answer(statement: &Statement, ctx: &Context<'_>, target: &dyn Target) -> Result<Vec<Series>, QueryError> {
    let none = |()| Vec::new();
    match statement {
        Statement::Select(statement) => into::select_into(ctx, statement, target),
        Statement::Explain(explain) => explain::explain(ctx, &explain.statement, explain.analyze),
        Statement::ShowDatabases => Ok(show::databases(ctx)),
        Statement::ShowMeasurements(s) => show::measurements(ctx, s),
        Statement::ShowTagKeys(s) => show::tag_keys(ctx, s),
        // These go out in pieces: see `execute`.
        Statement::ShowSeries(_) | Statement::ShowTagValues(_) => Ok(Vec::new()),
        Statement::ShowFieldKeys(s) => show::field_keys(ctx, s),
        Statement::ShowCardinality(s) => show::cardinality(ctx, s),
        Statement::ShowRetentionPolicies(database) => show::retention_policies(ctx, database.as_deref()),
        Statement::ShowStats(module) | Statement::ShowDiagnostics(module) => {
            Ok(figures(target, module.as_deref()))
        }
        Statement::ShowCorrelated(s) => show::correlated(ctx, s),
        Statement::ShowRejected(s) => show::rejected(s, target),
        Statement::ShowContinuousQueries => Ok(stored::show_queries(ctx)),
        Statement::ShowUsers => Ok(users::show(ctx)),
        Statement::ShowGrants(name) => users::show_grants(ctx, name),
        Statement::ShowSubscriptions => Ok(stored::show_subscriptions(ctx)),
        Statement::ShowShards => shards::show(ctx),
        Statement::ShowShardGroups => shards::show_groups(ctx),
        Statement::ShowQueries => Ok(queries::show(target)),
        Statement::KillQuery(kill) => queries::kill(kill, target).map(none),
        Statement::CreateDatabase(create) => policies::create_database(create, target).map(none),
        Statement::DropDatabase(name) => policies::drop_database(name, target).map(none),
        Statement::CreateRetentionPolicy(create) => policies::create_policy(create, target).map(none),
        Statement::AlterDatabase(alter) => policies::alter_database(ctx, alter, target).map(none),
        Statement::AlterRetentionPolicy(alter) => policies::alter_policy(ctx, alter, target).map(none),
        Statement::DropRetentionPolicy(drop) => policies::drop_policy(drop, target).map(none),
        Statement::DropMeasurement(name) => delete::drop_measurement(ctx, name, target).map(none),
        Statement::Delete(delete) => delete::delete_points(ctx, delete, target).map(none),
        Statement::DropSeries(drop) => delete::drop_series(ctx, drop, target).map(none),
        Statement::DropShard(id) => shards::drop_shard(ctx, *id, target).map(none),
        Statement::CreateContinuousQuery(create) => stored::create_query(ctx, create, target).map(none),
        Statement::DropContinuousQuery(drop) => stored::drop_query(drop, target).map(none),
        Statement::CreateSubscription(create) => stored::create_subscription(ctx, create, target).map(none),
        Statement::DropSubscription(drop) => stored::drop_subscription(ctx, drop, target).map(none),
        Statement::CreateUser(create) => users::create(ctx, create, target).map(none),
        Statement::DropUser(name) => users::drop_user(ctx, name, target).map(none),
        Statement::SetPassword(set) => users::set_password(ctx, set, target).map(none),
        Statement::Grant(grant) => users::grant(ctx, grant, target).map(none),
        Statement::Revoke(revoke) => users::revoke(ctx, revoke, target).map(none),
        Statement::CreateRollup(create) => rollups::create(ctx, create, target).map(none),
        Statement::DropRollup(drop) => rollups::drop(ctx, drop, target).map(none),
        Statement::ShowRollups => rollups::show(ctx),
    }
}

fn commit(target: &dyn Target, batch: Batch) -> Result<(), QueryError> {
    target.commit(batch).map(drop).map_err(QueryError::Write)
}

fn commands(target: &dyn Target, commands: Vec<Command>) -> Result<(), QueryError> {
    commands_with(target, Definitions::default(), commands)
}

/// The same, of what may not be defined yet.
fn commands_with(
    target: &dyn Target,
    definitions: Definitions,
    commands: Vec<Command>,
) -> Result<(), QueryError> {
    if commands.is_empty() {
        return Ok(());
    }
    commit(
        target,
        Batch {
            shards: target.shards(),
            definitions,
            commands,
            ..Batch::default()
        },
    )
}

/// SHOW STATS and SHOW DIAGNOSTICS.
fn figures(target: &dyn Target, module: Option<&str>) -> Vec<Series> {
    let mut modules: Vec<(String, Vec<String>, Vec<ResultColumn>)> = Vec::new();
    let kept = super::records::subscriptions(target.catalog()).len();
    let subscriber = (
        "subscriber".to_string(),
        "subscriptions".to_string(),
        Value::Integer(kept as i64),
    );
    for (of, name, value) in target.figures().into_iter().chain([subscriber]) {
        if module.is_some_and(|module| module != of) {
            continue;
        }
        match modules.last_mut() {
            Some((last, names, values)) if *last == of => {
                names.push(name);
                values.push(value.into());
            }
            _ => modules.push((of, vec![name], vec![value.into()])),
        }
    }
    let series = |(name, columns, values): (_, Vec<String>, _)| Series {
        name,
        columns: columns.into(),
        values,
        ..Series::default()
    };
    modules.into_iter().map(series).collect()
}
