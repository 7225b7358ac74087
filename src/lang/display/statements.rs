//! Every statement but SELECT as text. Passwords are hidden: these texts go into logs and lists.

use super::select::{condition, dimensions, order_by, sources};
use super::{Name, Text, count, list};
use crate::lang::ast::*;
use crate::lang::duration::format_duration;
use std::fmt::{self, Display};

impl Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, statement) in self.statements.iter().enumerate() {
            f.write_str(if i > 0 { "; " } else { "" })?;
            write!(f, "{statement}")?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Select(select) => write!(f, "{select}"),
            Statement::Explain(explain) => write!(f, "{explain}"),
            Statement::Delete(delete) => write!(f, "DELETE{delete}"),
            Statement::DropSeries(delete) => write!(f, "DROP SERIES{delete}"),
            Statement::DropMeasurement(name) => write!(f, "DROP MEASUREMENT {}", Name(name)),
            Statement::DropShard(id) => write!(f, "DROP SHARD {id}"),
            Statement::CreateDatabase(create) => write!(f, "{create}"),
            Statement::DropDatabase(name) => write!(f, "DROP DATABASE {}", Name(name)),
            Statement::CreateRetentionPolicy(create) => write!(f, "{create}"),
            Statement::AlterDatabase(alter) => {
                let word = if alter.numeric_promotion { "ON" } else { "OFF" };
                write!(f, "ALTER DATABASE {} NUMERIC PROMOTION {word}", Name(&alter.name))
            }
            Statement::AlterRetentionPolicy(alter) => write!(f, "{alter}"),
            Statement::DropRetentionPolicy(of) => write!(f, "DROP RETENTION POLICY {of}"),
            Statement::CreateContinuousQuery(create) => write!(f, "{create}"),
            Statement::DropContinuousQuery(of) => write!(f, "DROP CONTINUOUS QUERY {of}"),
            Statement::CreateSubscription(create) => write!(f, "{create}"),
            Statement::DropSubscription(drop) => write!(
                f,
                "DROP SUBSCRIPTION {} ON {}.{}",
                Name(&drop.name),
                Name(&drop.database),
                Name(&drop.retention_policy)
            ),
            Statement::CreateUser(create) => {
                write!(f, "CREATE USER {} WITH PASSWORD [REDACTED]", Name(&create.name))?;
                f.write_str(if create.admin { " WITH ALL PRIVILEGES" } else { "" })
            }
            Statement::DropUser(name) => write!(f, "DROP USER {}", Name(name)),
            Statement::SetPassword(set) => write!(f, "SET PASSWORD FOR {} = [REDACTED]", Name(&set.name)),
            Statement::Grant(grant) => privilege(f, "GRANT", "TO", grant),
            Statement::Revoke(grant) => privilege(f, "REVOKE", "FROM", grant),
            Statement::KillQuery(kill) => {
                write!(f, "KILL QUERY {}", kill.id)?;
                on(f, kill.host.as_ref())
            }
            show => show_statement(f, show),
        }
    }
}

fn show_statement(f: &mut fmt::Formatter<'_>, statement: &Statement) -> fmt::Result {
    match statement {
        Statement::ShowDatabases => f.write_str("SHOW DATABASES"),
        Statement::ShowMeasurements(show) => write!(f, "{show}"),
        Statement::ShowSeries(show) => {
            f.write_str("SHOW SERIES")?;
            on(f, show.database.as_ref())?;
            sources(f, &show.sources)?;
            condition(f, show.condition.as_ref())?;
            page(f, &show.sort_fields, show.limit, show.offset)
        }
        Statement::ShowTagKeys(show) => {
            f.write_str("SHOW TAG KEYS")?;
            on(f, show.database.as_ref())?;
            sources(f, &show.sources)?;
            if let Some(keys) = &show.keys {
                write!(f, " {keys}")?;
            }
            condition(f, show.condition.as_ref())?;
            page(f, &show.sort_fields, show.limit, show.offset)?;
            count(f, "SLIMIT", show.slimit)?;
            count(f, "SOFFSET", show.soffset)
        }
        Statement::ShowTagValues(show) => {
            f.write_str("SHOW TAG VALUES")?;
            on(f, show.database.as_ref())?;
            sources(f, &show.sources)?;
            write!(f, " {}", show.keys)?;
            condition(f, show.condition.as_ref())?;
            page(f, &show.sort_fields, show.limit, show.offset)
        }
        Statement::ShowFieldKeys(show) => {
            f.write_str("SHOW FIELD KEYS")?;
            on(f, show.database.as_ref())?;
            sources(f, &show.sources)?;
            page(f, &show.sort_fields, show.limit, show.offset)
        }
        Statement::ShowCardinality(show) => write!(f, "{show}"),
        Statement::ShowRetentionPolicies(database) => {
            f.write_str("SHOW RETENTION POLICIES")?;
            on(f, database.as_ref())
        }
        Statement::ShowContinuousQueries => f.write_str("SHOW CONTINUOUS QUERIES"),
        Statement::ShowQueries => f.write_str("SHOW QUERIES"),
        Statement::ShowShards => f.write_str("SHOW SHARDS"),
        Statement::ShowShardGroups => f.write_str("SHOW SHARD GROUPS"),
        Statement::ShowStats(module) => module_of(f, "SHOW STATS", module.as_ref()),
        Statement::ShowDiagnostics(module) => module_of(f, "SHOW DIAGNOSTICS", module.as_ref()),
        Statement::ShowSubscriptions => f.write_str("SHOW SUBSCRIPTIONS"),
        Statement::ShowUsers => f.write_str("SHOW USERS"),
        Statement::ShowGrants(user) => write!(f, "SHOW GRANTS FOR {}", Name(user)),
        Statement::ShowCorrelated(show) => {
            write!(f, "SHOW CORRELATED WITH ({})", show.with)?;
            sources(f, &show.sources)?;
            condition(f, show.condition.as_ref())?;
            page(f, &[], show.limit, show.offset)
        }
        Statement::ShowRejected(show) => {
            f.write_str("SHOW REJECTED")?;
            on(f, show.database.as_ref())?;
            page(f, &[], show.limit, show.offset)
        }
        Statement::CreateRollup(create) => {
            write!(f, "{create}")
        }
        Statement::DropRollup(of) => write!(f, "DROP ROLLUP {of}"),
        Statement::ShowRollups => f.write_str("SHOW ROLLUPS"),
        _ => unreachable!("the other statements show nothing"),
    }
}

fn on(f: &mut fmt::Formatter<'_>, name: Option<&String>) -> fmt::Result {
    match name {
        Some(name) => write!(f, " ON {}", Name(name)),
        None => Ok(()),
    }
}

fn module_of(f: &mut fmt::Formatter<'_>, word: &str, module: Option<&String>) -> fmt::Result {
    f.write_str(word)?;
    match module {
        Some(module) => write!(f, " FOR {}", Text(module)),
        None => Ok(()),
    }
}

fn page(f: &mut fmt::Formatter<'_>, sort: &[SortField], limit: u64, offset: u64) -> fmt::Result {
    order_by(f, sort)?;
    count(f, "LIMIT", limit)?;
    count(f, "OFFSET", offset)
}

fn privilege(f: &mut fmt::Formatter<'_>, word: &str, before_user: &str, grant: &Grant) -> fmt::Result {
    let privilege = match grant.privilege {
        Privilege::Read => "READ",
        Privilege::Write => "WRITE",
        Privilege::All => "ALL PRIVILEGES",
    };
    write!(f, "{word} {privilege}")?;
    on(f, grant.database.as_ref())?;
    write!(f, " {before_user} {}", Name(&grant.user))
}

/// A duration, or `INF` for 0.
struct Kept(i64);

impl Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("INF"),
            nanos => f.write_str(&format_duration(nanos)),
        }
    }
}

fn option<T: Display>(f: &mut fmt::Formatter<'_>, keyword: &str, value: Option<T>) -> fmt::Result {
    match value {
        Some(value) => write!(f, " {keyword} {value}"),
        None => Ok(()),
    }
}

/// A duration that is absent when it is 0.
fn given(nanos: i64) -> Option<String> {
    (nanos != 0).then(|| format_duration(nanos))
}

impl Display for CreateDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE DATABASE {}", Name(&self.name))?;
        let Some(policy) = &self.policy else { return Ok(()) };
        f.write_str(" WITH")?;
        option(f, "DURATION", policy.duration.map(Kept))?;
        option(f, "REPLICATION", policy.replication)?;
        // `WITH` needs something behind it, also when all that was given is a shard duration of nothing.
        let nothing = *policy == DatabasePolicy::default();
        option(
            f,
            "SHARD DURATION",
            given(policy.shard_duration).or_else(|| nothing.then(|| "0s".into())),
        )?;
        option(f, "FUTURE LIMIT", policy.future_limit.map(Kept))?;
        option(f, "PAST LIMIT", policy.past_limit.map(Kept))?;
        option(f, "NAME", policy.name.as_deref().map(Name))
    }
}

impl Display for CreateRetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, database) = (Name(&self.name), Name(&self.database));
        write!(f, "CREATE RETENTION POLICY {name} ON {database}")?;
        write!(
            f,
            " DURATION {} REPLICATION {}",
            Kept(self.duration),
            self.replication
        )?;
        option(f, "SHARD DURATION", given(self.shard_duration))?;
        option(f, "FUTURE LIMIT", given(self.future_limit))?;
        option(f, "PAST LIMIT", given(self.past_limit))?;
        f.write_str(if self.default { " DEFAULT" } else { "" })
    }
}

impl Display for AlterRetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, database) = (Name(&self.name), Name(&self.database));
        write!(f, "ALTER RETENTION POLICY {name} ON {database}")?;
        option(f, "DURATION", self.duration.map(Kept))?;
        option(f, "REPLICATION", self.replication)?;
        // Unlike the others this one cannot be INF.
        option(f, "SHARD DURATION", self.shard_duration.map(format_duration))?;
        option(f, "FUTURE LIMIT", self.future_limit.map(Kept))?;
        option(f, "PAST LIMIT", self.past_limit.map(Kept))?;
        f.write_str(if self.default { " DEFAULT" } else { "" })
    }
}

impl Display for OnDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ON {}", Name(&self.name), Name(&self.database))
    }
}

impl Display for CreateRollup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, database) = (Name(&self.name), Name(&self.database));
        write!(f, "CREATE ROLLUP {name} ON {database}")?;
        for (at, measurement) in self.measurements.iter().enumerate() {
            let before = if at == 0 { " FROM " } else { ", " };
            write!(f, "{before}{}", Name(measurement))?;
        }
        for (at, every) in self.every.iter().enumerate() {
            let before = if at == 0 { " EVERY " } else { ", " };
            write!(f, "{before}{}", format_duration(*every))?;
        }
        f.write_str(if self.percentiles {
            ""
        } else {
            " WITHOUT PERCENTILES"
        })
    }
}

impl Display for CreateContinuousQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, database) = (Name(&self.name), Name(&self.database));
        write!(f, "CREATE CONTINUOUS QUERY {name} ON {database}")?;
        if self.resample_every != 0 || self.resample_for != 0 {
            f.write_str(" RESAMPLE")?;
        }
        option(f, "EVERY", given(self.resample_every))?;
        option(f, "FOR", given(self.resample_for))?;
        write!(f, " BEGIN {} END", self.source)
    }
}

impl Display for CreateSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, database) = (Name(&self.name), Name(&self.database));
        let mode = match self.mode {
            SubscriptionMode::All => "ALL",
            SubscriptionMode::Any => "ANY",
        };
        let policy = Name(&self.retention_policy);
        write!(
            f,
            "CREATE SUBSCRIPTION {name} ON {database}.{policy} DESTINATIONS {mode} "
        )?;
        list(f, self.destinations.iter().map(|d| Text(d)))
    }
}

impl Display for Delete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        sources(f, &self.sources)?;
        condition(f, self.condition.as_ref())
    }
}

impl Display for ShowMeasurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SHOW MEASUREMENTS")?;
        match (&self.database, &self.retention_policy) {
            (OnName::Current, _) => {}
            (database, OnName::Current) => write!(f, " ON {database}")?,
            (database, policy) => write!(f, " ON {database}.{policy}")?,
        }
        if let Some(with) = &self.with {
            let op = match with.name {
                MeasurementName::Name(_) => "=",
                MeasurementName::Regex(_) => "=~",
            };
            write!(f, " WITH MEASUREMENT {op} {with}")?;
        }
        condition(f, self.condition.as_ref())?;
        page(f, &self.sort_fields, self.limit, self.offset)
    }
}

impl Display for OnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnName::Current => Ok(()),
            OnName::All => f.write_str("*"),
            OnName::Name(name) => write!(f, "{}", Name(name)),
        }
    }
}

impl Display for TagKeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WITH KEY ")?;
        match self {
            TagKeyFilter::Eq(key) => write!(f, "= {}", Name(key)),
            TagKeyFilter::Neq(key) => write!(f, "!= {}", Name(key)),
            TagKeyFilter::Regex(literal) => write!(f, "=~ {literal}"),
            TagKeyFilter::NotRegex(literal) => write!(f, "!~ {literal}"),
            TagKeyFilter::In(keys) => {
                f.write_str("IN (")?;
                list(f, keys.iter().map(|key| Name(key)))?;
                f.write_str(")")
            }
        }
    }
}

impl Display for ShowCardinality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.of {
            CardinalityOf::Series => "SERIES",
            CardinalityOf::Measurement => "MEASUREMENT",
            CardinalityOf::TagKey => "TAG KEY",
            CardinalityOf::TagValues(_) => "TAG VALUES",
            CardinalityOf::FieldKey => "FIELD KEY",
        };
        let exact = if self.exact { "EXACT " } else { "" };
        write!(f, "SHOW {what} {exact}CARDINALITY")?;
        on(f, self.database.as_ref())?;
        sources(f, &self.sources)?;
        if let CardinalityOf::TagValues(keys) = &self.of {
            write!(f, " {keys}")?;
        }
        condition(f, self.condition.as_ref())?;
        dimensions(f, &self.dimensions)?;
        page(f, &[], self.limit, self.offset)
    }
}
