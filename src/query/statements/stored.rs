//! Continuous queries and subscriptions as statements: kept as text in the catalog's records, for others to run.

use super::{Target, commands};
use crate::batch::Command;
use crate::lang::{
    CreateContinuousQuery, CreateSubscription, DropSubscription, OnDatabase, SelectStatement, Source,
    SubscriptionMode, parse_statement,
};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::records;
use crate::query::result::Series;
use crate::query::value::Value;

fn put(target: &dyn Target, kind: &str, name: String, value: String) -> Result<(), QueryError> {
    // What is kept is text: it must read back as what was asked for.
    if parse_statement(&value).map(|read| read.to_string()).as_ref() != Ok(&value) {
        return Err(QueryError::statement(
            "the statement has a name or text that cannot be kept",
        ));
    }
    let kind = kind.to_string();
    commands(target, vec![Command::PutRecord { kind, name, value }])
}

fn remove(target: &dyn Target, kind: &str, name: String) -> Result<(), QueryError> {
    let kind = kind.to_string();
    commands(target, vec![Command::RemoveRecord { kind, name }])
}

/// CREATE CONTINUOUS QUERY. Names get the database and policy they mean now.
pub(super) fn create_query(
    ctx: &Context<'_>,
    create: &CreateContinuousQuery,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let database = ctx.database(Some(&create.database))?;
    let inner = Context {
        database: Some(&database.name),
        policy: None,
        ..*ctx
    };
    let mut create = create.clone();
    qualify(&inner, &mut create.source)?;
    let text = create.to_string();
    let key = records::key(&create.database, &create.name);
    let known = ctx.catalog.with_records(|kept| {
        let known = kept.get(records::CONTINUOUS_QUERY, &key);
        known.map(str::to_string)
    });
    match known {
        Some(known) if known == text => Ok(()),
        Some(_) => Err(QueryError::statement("continuous query already exists")),
        None => put(target, records::CONTINUOUS_QUERY, key, text),
    }
}

/// Writes the database and policy into every name of a SELECT.
fn qualify(ctx: &Context<'_>, select: &mut SelectStatement) -> Result<(), QueryError> {
    if let Some(into) = &mut select.target {
        let database = ctx.database(into.database.as_deref())?;
        let policy = ctx.policy(&database, into.retention_policy.as_deref());
        let policy = policy.map_err(|error| match &into.retention_policy {
            Some(name) => {
                QueryError::statement(format!("retention policy not found: {}.{name}", database.name))
            }
            None => error,
        })?;
        into.database = Some(database.name.clone());
        into.retention_policy = Some(policy.name.clone());
    }
    select
        .sources
        .iter_mut()
        .try_for_each(|source| qualify_source(ctx, source))
}

fn qualify_source(ctx: &Context<'_>, source: &mut Source) -> Result<(), QueryError> {
    match source {
        Source::Measurement(m) => {
            let database = ctx.database(m.database.as_deref())?;
            let policy = ctx.policy(&database, m.retention_policy.as_deref())?;
            m.database = Some(database.name.clone());
            m.retention_policy = Some(policy.name.clone());
            Ok(())
        }
        Source::Subquery(subquery) => qualify(ctx, &mut subquery.statement),
        Source::Join(join) => {
            qualify_source(ctx, &mut join.left)?;
            qualify_source(ctx, &mut join.right)
        }
    }
}

/// DROP CONTINUOUS QUERY; nothing happens when there is none.
pub(super) fn drop_query(drop: &OnDatabase, target: &dyn Target) -> Result<(), QueryError> {
    let key = records::key(&drop.database, &drop.name);
    let known = |kept: &crate::catalog::records::Records| kept.get(records::CONTINUOUS_QUERY, &key).is_some();
    if !target.catalog().with_records(known) {
        return Ok(());
    }
    remove(target, records::CONTINUOUS_QUERY, key)
}

/// SHOW CONTINUOUS QUERIES.
pub(super) fn show_queries(ctx: &Context<'_>) -> Vec<Series> {
    let mut names: Vec<String> = ctx.catalog.databases().iter().map(|d| d.name.clone()).collect();
    names.sort();
    let all = records::continuous_queries(ctx.catalog);
    let table = |name: &String| {
        let own = all.iter().filter(|query| query.database == *name);
        let rows = own.map(|query| vec![text(&query.name), text(&query.text)]);
        Series::table(name, &["name", "query"], rows)
    };
    names.iter().map(table).collect()
}

fn text(value: &str) -> Value {
    Value::String(value.into())
}

/// CREATE SUBSCRIPTION.
pub(super) fn create_subscription(
    ctx: &Context<'_>,
    create: &CreateSubscription,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let database = ctx.database(Some(&create.database))?;
    ctx.policy(&database, Some(&create.retention_policy))?;
    for url in &create.destinations {
        let known = ["udp://", "http://", "https://"]
            .iter()
            .any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        if !known {
            return Err(QueryError::statement(format!("invalid subscription URL: {url}")));
        }
    }
    let key = records::subscription_key(&create.database, &create.retention_policy, &create.name);
    let known = |kept: &crate::catalog::records::Records| kept.get(records::SUBSCRIPTION, &key).is_some();
    if ctx.catalog.with_records(known) {
        return Err(QueryError::statement("subscription already exists"));
    }
    put(target, records::SUBSCRIPTION, key, create.to_string())
}

/// DROP SUBSCRIPTION.
pub(super) fn drop_subscription(
    ctx: &Context<'_>,
    drop: &DropSubscription,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let database = ctx.database(Some(&drop.database))?;
    ctx.policy(&database, Some(&drop.retention_policy))?;
    let key = records::subscription_key(&drop.database, &drop.retention_policy, &drop.name);
    let known = |kept: &crate::catalog::records::Records| kept.get(records::SUBSCRIPTION, &key).is_some();
    if !ctx.catalog.with_records(known) {
        return Err(QueryError::statement("subscription not found"));
    }
    remove(target, records::SUBSCRIPTION, key)
}

/// SHOW SUBSCRIPTIONS.
pub(super) fn show_subscriptions(ctx: &Context<'_>) -> Vec<Series> {
    let mut tables: Vec<(String, Vec<Vec<Value>>)> = Vec::new();
    for create in records::subscriptions(ctx.catalog) {
        let mode = match create.mode {
            SubscriptionMode::All => "ALL",
            SubscriptionMode::Any => "ANY",
        };
        let row = vec![
            text(&create.retention_policy),
            text(&create.name),
            text(mode),
            text(&create.destinations.join(",")),
        ];
        match tables.last_mut() {
            Some((database, rows)) if *database == create.database => rows.push(row),
            _ => tables.push((create.database, vec![row])),
        }
    }
    let columns = ["retention_policy", "name", "mode", "destinations"];
    let tables = tables.into_iter();
    tables
        .map(|(name, rows)| Series::table(&name, &columns, rows))
        .collect()
}
