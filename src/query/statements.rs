//! What each statement does: reads by way of SELECT and SHOW, changes by way of a [`Target`].

use super::condition::{split_tags, split_time};
use super::context::{Cancel, Context, QueryLimits};
use super::encode::Event;
use super::error::QueryError;
use super::result::{Give, Piece, ResultColumn, Series};
use super::scan::Scan;
use super::select::{measurements, select, stream};
use super::value::Value;
use super::{show, time};
use crate::batch::{Batch, Command, Definitions};
use crate::catalog::state::PolicySettings;
use crate::catalog::{Catalog, Measurement, Policy};
use crate::ingest::{Ingestor, Limits};
use crate::lang::{
    AlterRetentionPolicy, CreateDatabase, CreateRetentionPolicy, DataType, Delete, Expr, Params, Query,
    SelectStatement, Source, Statement, VarRef,
};
use crate::model::TimeRange;
use jiff::tz::TimeZone;
use kymo_plugin_api::{Field, Origin, Row, RowSink, SeriesParts, SeriesRef, series::PlainSpelling};
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
    /// Limits of points that SELECT INTO writes.
    fn limits(&self) -> &Limits;
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
            messages.push(
                "deprecated use of a statement that changes something in a read only context, please use a POST request instead".into(),
            );
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
            outcome.err().map(|error| error.to_string())
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
        Statement::Explain(_) => false,
        Statement::CreateDatabase(_)
        | Statement::DropDatabase(_)
        | Statement::CreateRetentionPolicy(_)
        | Statement::AlterRetentionPolicy(_)
        | Statement::DropRetentionPolicy(_)
        | Statement::Delete(_)
        | Statement::DropSeries(_)
        | Statement::DropMeasurement(_)
        | Statement::CreateUser(_)
        | Statement::DropUser(_)
        | Statement::SetPassword(_)
        | Statement::Grant(_)
        | Statement::Revoke(_) => true,
        _ => false,
    }
}

fn execute(
    statement: &Statement,
    options: &QueryOptions,
    target: &dyn Target,
    cancel: &Cancel,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let scan = target.snapshot();
    let ctx = Context {
        catalog: target.catalog(),
        scan: scan.as_ref(),
        database: options.database.as_deref(),
        policy: options.policy.as_deref(),
        now: options.now,
        limits: &options.limits,
        cancel,
        deadline: options.deadline,
    };
    let found = match statement {
        Statement::Select(statement) if statement.target.is_none() => {
            return stream(&ctx, statement, give);
        }
        other => answer(other, &ctx, target)?,
    };
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
        Statement::Select(statement) => select_into(ctx, statement, target),
        Statement::Explain(explain) => explain_select(ctx, &explain.statement, explain.analyze),
        Statement::ShowDatabases => Ok(show::databases(ctx)),
        Statement::ShowMeasurements(s) => show::measurements(ctx, s),
        Statement::ShowSeries(s) => show::series(ctx, s),
        Statement::ShowTagKeys(s) => show::tag_keys(ctx, s),
        Statement::ShowTagValues(s) => show::tag_values(ctx, s),
        Statement::ShowFieldKeys(s) => show::field_keys(ctx, s),
        Statement::ShowCardinality(s) => show::cardinality(ctx, s),
        Statement::ShowRetentionPolicies(database) => show::retention_policies(ctx, database.as_deref()),
        Statement::ShowStats(module) | Statement::ShowDiagnostics(module) => {
            Ok(figures(target, module.as_deref()))
        }
        Statement::ShowContinuousQueries => Ok(continuous_queries(ctx)),
        Statement::ShowUsers => Ok(vec![Series::table("", &["user", "admin"], [])]),
        Statement::ShowSubscriptions | Statement::ShowShards | Statement::ShowShardGroups => Ok(Vec::new()),
        Statement::ShowQueries => Ok(vec![Series::table(
            "",
            &["qid", "query", "database", "duration", "status"],
            [],
        )]),
        Statement::CreateDatabase(create) => create_database(create, target).map(none),
        Statement::DropDatabase(name) => match ctx.catalog.database(name) {
            Some(database) => commands(target, vec![Command::DropDatabase(database.id)]).map(none),
            None => Ok(Vec::new()),
        },
        Statement::CreateRetentionPolicy(create) => create_policy(create, target).map(none),
        Statement::AlterRetentionPolicy(alter) => alter_policy(ctx, alter, target).map(none),
        Statement::DropRetentionPolicy(drop) => {
            let database = ctx.database(Some(&drop.database))?;
            match database.policy(Some(&drop.name)) {
                Some(policy) => commands(target, vec![Command::DropPolicy(policy.id)]).map(none),
                None => Ok(Vec::new()),
            }
        }
        Statement::DropMeasurement(name) => {
            let database = ctx.database(None)?;
            let found = database
                .policies
                .iter()
                .filter_map(|p| ctx.catalog.measurement(p.id, name));
            commands(target, found.map(|m| Command::DropMeasurement(m.id)).collect()).map(none)
        }
        Statement::Delete(delete) => delete_points(ctx, delete, target).map(none),
        Statement::DropSeries(drop) => drop_series(ctx, drop, target).map(none),
        other => Err(QueryError::statement(format!(
            "{} is not supported yet",
            name_of(other)
        ))),
    }
}

fn name_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::DropShard(_) => "DROP SHARD",
        Statement::CreateContinuousQuery(_) => "CREATE CONTINUOUS QUERY",
        Statement::DropContinuousQuery(_) => "DROP CONTINUOUS QUERY",
        Statement::CreateSubscription(_) => "CREATE SUBSCRIPTION",
        Statement::DropSubscription(_) => "DROP SUBSCRIPTION",
        Statement::CreateUser(_) => "CREATE USER",
        Statement::DropUser(_) => "DROP USER",
        Statement::SetPassword(_) => "SET PASSWORD",
        Statement::Grant(_) => "GRANT",
        Statement::Revoke(_) => "REVOKE",
        Statement::KillQuery(_) => "KILL QUERY",
        Statement::ShowGrants(_) => "SHOW GRANTS",
        Statement::ShowCorrelated(_) => "SHOW CORRELATED",
        Statement::ShowRejected(_) => "SHOW REJECTED",
        Statement::CreateRollup(_) => "CREATE ROLLUP",
        Statement::DropRollup(_) => "DROP ROLLUP",
        Statement::ShowRollups => "SHOW ROLLUPS",
        _ => "this statement",
    }
}

fn commit(target: &dyn Target, batch: Batch) -> Result<(), QueryError> {
    target.commit(batch).map(drop).map_err(QueryError::Write)
}

fn commands(target: &dyn Target, commands: Vec<Command>) -> Result<(), QueryError> {
    if commands.is_empty() {
        return Ok(());
    }
    commit(
        target,
        Batch {
            shards: target.shards(),
            commands,
            ..Batch::default()
        },
    )
}

fn definitions(target: &dyn Target, definitions: Definitions) -> Result<(), QueryError> {
    if definitions.is_empty() {
        return Ok(());
    }
    commit(
        target,
        Batch {
            shards: target.shards(),
            definitions,
            ..Batch::default()
        },
    )
}

fn create_database(create: &CreateDatabase, target: &dyn Target) -> Result<(), QueryError> {
    let defaults = PolicySettings::default();
    let settings = create.policy.as_ref().map(|policy| PolicySettings {
        name: policy.name.clone().unwrap_or(defaults.name.clone()),
        duration: policy.duration.unwrap_or(0),
        shard_duration: policy.shard_duration,
        replication: policy.replication.unwrap_or(1),
        default: true,
    });
    let made = target.catalog().create_database(&create.name, settings);
    definitions(target, made.map_err(|e| QueryError::statement(e.to_string()))?)
}

fn create_policy(create: &CreateRetentionPolicy, target: &dyn Target) -> Result<(), QueryError> {
    const HOUR: i64 = 3_600_000_000_000;
    if create.duration != 0 && create.duration < HOUR {
        return Err(QueryError::statement(
            "retention policy duration must be at least 1h0m0s",
        ));
    }
    if create.duration != 0 && create.duration < create.shard_duration {
        return Err(QueryError::statement(
            "retention policy duration must be greater than the shard duration",
        ));
    }
    let settings = PolicySettings {
        name: create.name.clone(),
        duration: create.duration,
        shard_duration: create.shard_duration,
        replication: create.replication,
        default: create.default,
    };
    let made = target.catalog().create_policy(&create.database, settings);
    definitions(target, made.map_err(|e| QueryError::statement(e.to_string()))?)
}

fn alter_policy(
    ctx: &Context<'_>,
    alter: &AlterRetentionPolicy,
    target: &dyn Target,
) -> Result<(), QueryError> {
    const HOUR: i64 = 3_600_000_000_000;
    let database = ctx.database(Some(&alter.database))?;
    let policy = ctx.policy(&database, Some(&alter.name))?;
    let duration = alter.duration.unwrap_or(policy.duration);
    if duration != 0 && duration < HOUR {
        return Err(QueryError::statement(
            "retention policy duration must be at least 1h0m0s",
        ));
    }
    let shard_duration = match alter.shard_duration {
        Some(given) => crate::catalog::state::shard_duration(given, duration),
        None => policy.shard_duration,
    };
    let changed = Policy {
        duration,
        shard_duration,
        replication: alter.replication.unwrap_or(policy.replication),
        default: policy.default || alter.default,
        ..policy.as_ref().clone()
    };
    commands(target, vec![Command::AlterPolicy(changed)])
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
        let series = match condition {
            Some(_) => Some(
                measurement
                    .view()
                    .matching(&predicate)?
                    .iter()
                    .collect::<Vec<u32>>(),
            ),
            None => None,
        };
        if series.as_ref().is_none_or(|s| !s.is_empty()) {
            out.push((measurement, series, time));
        }
    }
    Ok(out)
}

fn delete_points(ctx: &Context<'_>, delete: &Delete, target: &dyn Target) -> Result<(), QueryError> {
    let list = chosen(ctx, delete)?;
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
    commands(target, all.collect())
}

fn drop_series(ctx: &Context<'_>, drop: &Delete, target: &dyn Target) -> Result<(), QueryError> {
    let mut out = Vec::new();
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
        out.push(Command::DropSeries {
            measurement: measurement.id,
            series,
        });
    }
    commands(target, out)
}

fn select_into(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    target: &dyn Target,
) -> Result<Vec<Series>, QueryError> {
    let Some(into) = &statement.target else {
        return Ok(Vec::new());
    };
    let database = ctx.database(into.database.as_deref())?;
    let policy = ctx.policy(&database, into.retention_policy.as_deref())?;
    let found = select(ctx, statement)?;
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
        let tags: Vec<(&str, &str)> = series
            .tags
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        SeriesParts::spell(name, &tags, &mut spelling);
        let names = &series.columns[1..];
        for row in 0..series.rows() {
            let values: Vec<Value> = series.row(row).collect();
            let fields: Vec<Field<'_>> = names
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

fn explain_select(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    analyze: bool,
) -> Result<Vec<Series>, QueryError> {
    let mut lines = vec!["SELECT".to_string()];
    let (range, zone) = super::select::time_range(statement, ctx.now)?;
    let mut from = String::new();
    time::format_time(range.min, &zone, &mut from);
    let mut to = String::new();
    time::format_time(range.max, &zone, &mut to);
    lines.push(format!("    time: {from} to {to}"));
    if let Some(windows) = super::select::windows(statement, ctx.now)? {
        lines.push(format!(
            "    windows: {}",
            crate::lang::format_duration(windows.step)
        ));
    }
    let mut sources = Vec::new();
    statement.visit_measurements(&mut |m| sources.push(m));
    for source in sources {
        for measurement in measurements(ctx, source)? {
            let series = measurement.live_count();
            lines.push(format!("    measurement {}: {series} series", measurement.name));
        }
    }
    if analyze {
        let began = Instant::now();
        let found = select(ctx, statement)?;
        let rows: usize = found.iter().map(Series::rows).sum();
        lines.push(format!(
            "    took {:?}: {} series, {rows} rows",
            began.elapsed(),
            found.len()
        ));
    }
    Ok(vec![Series::table(
        "",
        &["QUERY PLAN"],
        lines.into_iter().map(|line| vec![Value::String(line.into())]),
    )])
}

fn figures(target: &dyn Target, module: Option<&str>) -> Vec<Series> {
    let mut modules: Vec<(String, Vec<String>, Vec<ResultColumn>)> = Vec::new();
    for (of, name, value) in target.figures() {
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

fn continuous_queries(ctx: &Context<'_>) -> Vec<Series> {
    let mut names: Vec<String> = ctx.catalog.databases().iter().map(|d| d.name.clone()).collect();
    names.sort();
    names
        .iter()
        .map(|name| Series::table(name, &["name", "query"], []))
        .collect()
}
