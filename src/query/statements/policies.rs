//! Databases and retention policies: what can be said of them, and how they change.

use super::{Target, commands, commands_with, commit};
use crate::batch::{Batch, Command};
use crate::catalog::state::{DEFAULT_POLICY, PolicySettings, shard_duration};
use crate::catalog::{Catalog, Policy, WriteSettings};
use crate::lang::{
    AlterDatabase, AlterRetentionPolicy, CreateDatabase, CreateRetentionPolicy, DatabasePolicy, OnDatabase,
    format_go_duration,
};
use crate::model::PolicyId;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::records;

/// The shortest that a policy may keep its points.
const DURATION_MIN: i64 = 3_600_000_000_000;

const CONFLICT: &str = "retention policy conflicts with an existing policy";

/// How far from now points may lie, nanoseconds; 0 = no limit. The catalog's [`WriteSettings`] are enforced where points come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteLimits {
    /// Into the future.
    pub future: i64,
    /// Into the past.
    pub past: i64,
}

impl WriteLimits {
    /// Of a policy.
    pub fn of(catalog: &Catalog, policy: PolicyId) -> Self {
        let WriteSettings { future, past, .. } = catalog.write_settings(policy);
        Self { future, past }
    }

    fn command(self, policy: PolicyId) -> Command {
        let (kind, name) = (records::WRITE_LIMITS.to_string(), policy.to_string());
        if self == Self::default() {
            return Command::RemoveRecord { kind, name };
        }
        Command::PutRecord {
            kind,
            name,
            value: format!("{} {}", self.future, self.past),
        }
    }
}

fn check_durations(duration: i64, shard: i64) -> Result<(), QueryError> {
    if duration != 0 && duration < DURATION_MIN {
        let least = format_go_duration(DURATION_MIN);
        return Err(QueryError::statement(format!(
            "retention policy duration must be at least {least}"
        )));
    }
    if duration != 0 && duration < shard_duration(shard, duration) {
        return Err(QueryError::statement(
            "retention policy duration must be greater than the shard duration",
        ));
    }
    Ok(())
}

/// CREATE DATABASE.
pub(super) fn create_database(create: &CreateDatabase, target: &dyn Target) -> Result<(), QueryError> {
    let catalog = target.catalog();
    let known = catalog.database(&create.name);
    if let (Some(known), Some(policy)) = (&known, &create.policy) {
        // What is there must be what is asked for.
        let name = policy.name.as_deref().unwrap_or(DEFAULT_POLICY);
        let same = known
            .policy(Some(name))
            .is_some_and(|p| p.default && matches(policy, p));
        return if same {
            Ok(())
        } else {
            Err(QueryError::statement(CONFLICT))
        };
    }
    let defaults = PolicySettings::default();
    let settings = create.policy.as_ref().map(|policy| PolicySettings {
        name: policy.name.clone().unwrap_or(defaults.name),
        duration: policy.duration.unwrap_or(0),
        shard_duration: policy.shard_duration,
        replication: policy.replication.unwrap_or(1),
        default: true,
    });
    if let Some(settings) = &settings {
        check_durations(settings.duration, settings.shard_duration)?;
    }
    let made = catalog.create_database(&create.name, settings);
    let definitions = made.map_err(|e| QueryError::statement(e.to_string()))?;
    let limits = create.policy.as_ref().and_then(|policy| {
        let limits = WriteLimits {
            future: policy.future_limit.unwrap_or(0),
            past: policy.past_limit.unwrap_or(0),
        };
        let made = definitions.policies.first()?;
        (limits != WriteLimits::default()).then(|| limits.command(made.id))
    });
    if definitions.is_empty() {
        return Ok(());
    }
    commit(
        target,
        Batch {
            shards: target.shards(),
            definitions,
            commands: limits.into_iter().collect(),
            ..Batch::default()
        },
    )
}

fn matches(asked: &DatabasePolicy, policy: &Policy) -> bool {
    let duration = asked.duration.unwrap_or(policy.duration);
    duration == policy.duration
        && asked.replication.is_none_or(|n| n == policy.replication)
        && (asked.shard_duration == 0
            || shard_duration(asked.shard_duration, duration) == policy.shard_duration)
}

/// DROP DATABASE, with everything that belongs to it.
pub(super) fn drop_database(name: &str, target: &dyn Target) -> Result<(), QueryError> {
    let Some(database) = target.catalog().database(name) else {
        return Ok(());
    };
    let mut list = vec![Command::DropDatabase(database.id)];
    target.catalog().with_records(|kept| {
        let policies = database.policies.iter();
        let limits = policies.map(|p| (records::WRITE_LIMITS, p.id.to_string()));
        let limits = limits.filter(|(kind, name)| kept.get(kind, name).is_some());
        let own = records::OF_DATABASE.iter().flat_map(|kind| {
            let all = kept.of_kind(kind).map(|(key, _)| key);
            let own = all.filter(|key| records::database_of(key) == name);
            own.map(|key| (*kind, key.to_string()))
        });
        let promotes = kept.get(records::NUMERIC_PROMOTION, name).is_some();
        let promotion = promotes.then(|| (records::NUMERIC_PROMOTION, name.to_string()));
        list.extend(
            limits
                .chain(own)
                .chain(promotion)
                .map(|(kind, name)| Command::RemoveRecord {
                    kind: kind.to_string(),
                    name,
                }),
        );
    });
    commands(target, list)
}

/// ALTER DATABASE.
pub(super) fn alter_database(
    ctx: &Context<'_>,
    alter: &AlterDatabase,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let database = ctx.database(Some(&alter.name))?;
    let (kind, name) = (records::NUMERIC_PROMOTION.to_string(), database.name.clone());
    let known = ctx.catalog.with_records(|kept| kept.get(&kind, &name).is_some());
    let command = match (known, alter.numeric_promotion) {
        (false, true) => Command::PutRecord {
            kind,
            name,
            value: "on".into(),
        },
        (true, false) => Command::RemoveRecord { kind, name },
        _ => return Ok(()),
    };
    commands(target, vec![command])
}

/// CREATE RETENTION POLICY.
pub(super) fn create_policy(create: &CreateRetentionPolicy, target: &dyn Target) -> Result<(), QueryError> {
    check_durations(create.duration, create.shard_duration)?;
    let catalog = target.catalog();
    let known = catalog.database(&create.database);
    if let Some(known) = known.as_ref().and_then(|d| d.policy(Some(&create.name)))
        && create.default
        && !known.default
        && (known.duration, known.replication) == (create.duration, create.replication)
        && known.shard_duration == shard_duration(create.shard_duration, create.duration)
    {
        return Err(QueryError::statement(CONFLICT));
    }
    let settings = PolicySettings {
        name: create.name.clone(),
        duration: create.duration,
        shard_duration: create.shard_duration,
        replication: create.replication,
        default: create.default,
    };
    let made = catalog.create_policy(&create.database, settings);
    let definitions = made.map_err(|e| QueryError::statement(e.to_string()))?;
    let limits = WriteLimits {
        future: create.future_limit,
        past: create.past_limit,
    };
    let made = definitions.policies.iter().find(|p| p.name == create.name);
    let commands = match made {
        Some(made) if limits != WriteLimits::default() => vec![limits.command(made.id)],
        _ => Vec::new(),
    };
    if definitions.is_empty() {
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

/// ALTER RETENTION POLICY.
pub(super) fn alter_policy(
    ctx: &Context<'_>,
    alter: &AlterRetentionPolicy,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let database = ctx.database(Some(&alter.database))?;
    let policy = ctx.policy(&database, Some(&alter.name))?;
    let duration = alter.duration.unwrap_or(policy.duration);
    let given = alter.shard_duration.map(|given| shard_duration(given, duration));
    let shard = given.unwrap_or(policy.shard_duration);
    check_durations(duration, if given.is_some() { shard } else { 0 })?;
    if duration != 0 && duration < shard {
        return Err(QueryError::statement(
            "retention policy duration must be greater than the shard duration",
        ));
    }
    let changed = Policy {
        duration,
        shard_duration: shard,
        replication: alter.replication.unwrap_or(policy.replication),
        default: policy.default || alter.default,
        ..policy.as_ref().clone()
    };
    let mut list = vec![Command::AlterPolicy(changed)];
    let before = WriteLimits::of(ctx.catalog, policy.id);
    let after = WriteLimits {
        future: alter.future_limit.unwrap_or(before.future),
        past: alter.past_limit.unwrap_or(before.past),
    };
    if after != before {
        list.push(after.command(policy.id));
    }
    // It may have been named only by requests that are on their way: at a start, what is not known yet is not altered.
    commands_with(target, ctx.catalog.define_database(&database.name), list)
}

/// DROP RETENTION POLICY; nothing happens when there is none.
pub(super) fn drop_policy(drop: &OnDatabase, target: &dyn Target) -> Result<(), QueryError> {
    let catalog = target.catalog();
    let database = catalog.database(&drop.database);
    let Some(policy) = database.as_ref().and_then(|d| d.policy(Some(&drop.name))) else {
        return Ok(());
    };
    let mut list = vec![Command::DropPolicy(policy.id)];
    if WriteLimits::of(catalog, policy.id) != WriteLimits::default() {
        list.push(WriteLimits::default().command(policy.id));
    }
    let prefix = records::subscription_key(&drop.database, &drop.name, "");
    catalog.with_records(|kept| {
        let all = kept.of_kind(records::SUBSCRIPTION).map(|(key, _)| key);
        let own = all.filter(|key| key.starts_with(&prefix));
        list.extend(own.map(|key| Command::RemoveRecord {
            kind: records::SUBSCRIPTION.to_string(),
            name: key.to_string(),
        }));
    });
    commands(target, list)
}
