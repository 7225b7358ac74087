//! Statements that make, change and remove things.

use super::{SelectStatement, Source};
use crate::lang::expr::Expr;

/// `DELETE` and `DROP SERIES`: at least one of sources and condition is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delete {
    /// `FROM`
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
}

/// A named thing of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnDatabase {
    /// Its name.
    pub name: String,
    /// Its database.
    pub database: String,
}

/// `CREATE DATABASE name [WITH ..]`. Durations are nanoseconds, 0 is `INF`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CreateDatabase {
    /// The database.
    pub name: String,
    /// The default retention policy, if `WITH` describes it.
    pub policy: Option<DatabasePolicy>,
}

/// Extension: `ALTER DATABASE name NUMERIC PROMOTION ON|OFF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterDatabase {
    /// The database.
    pub name: String,
    /// May integers and floats meet in a field?
    pub numeric_promotion: bool,
}

/// The retention policy that `CREATE DATABASE .. WITH` describes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabasePolicy {
    /// `DURATION`; `Some(0)` is `INF`.
    pub duration: Option<i64>,
    /// `REPLICATION`
    pub replication: Option<u32>,
    /// `SHARD DURATION`; 0 if absent.
    pub shard_duration: i64,
    /// `FUTURE LIMIT`
    pub future_limit: Option<i64>,
    /// `PAST LIMIT`
    pub past_limit: Option<i64>,
    /// `NAME`
    pub name: Option<String>,
}

/// `CREATE RETENTION POLICY`. Durations are nanoseconds, 0 is `INF` or absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRetentionPolicy {
    /// The policy.
    pub name: String,
    /// Its database.
    pub database: String,
    /// `DURATION`
    pub duration: i64,
    /// `REPLICATION`, at least 1.
    pub replication: u32,
    /// `SHARD DURATION`
    pub shard_duration: i64,
    /// `DEFAULT`
    pub default: bool,
    /// `FUTURE LIMIT`
    pub future_limit: i64,
    /// `PAST LIMIT`
    pub past_limit: i64,
}

/// `ALTER RETENTION POLICY`: what is not there stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlterRetentionPolicy {
    /// The policy.
    pub name: String,
    /// Its database.
    pub database: String,
    /// `DURATION`; `Some(0)` is `INF`.
    pub duration: Option<i64>,
    /// `REPLICATION`
    pub replication: Option<u32>,
    /// `SHARD DURATION`
    pub shard_duration: Option<i64>,
    /// `DEFAULT`
    pub default: bool,
    /// `FUTURE LIMIT`
    pub future_limit: Option<i64>,
    /// `PAST LIMIT`
    pub past_limit: Option<i64>,
}

/// `CREATE CONTINUOUS QUERY name ON database [RESAMPLE ..] BEGIN SELECT .. INTO .. END`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateContinuousQuery {
    /// The query's name.
    pub name: String,
    /// Its database.
    pub database: String,
    /// `RESAMPLE EVERY`, nanoseconds; 0 if absent.
    pub resample_every: i64,
    /// `RESAMPLE FOR`, nanoseconds; 0 if absent.
    pub resample_for: i64,
    /// The SELECT; it has a target.
    pub source: SelectStatement,
}

/// `CREATE SUBSCRIPTION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSubscription {
    /// The subscription.
    pub name: String,
    /// Its database.
    pub database: String,
    /// Its retention policy.
    pub retention_policy: String,
    /// Whether each point goes to all destinations or to any one.
    pub mode: SubscriptionMode,
    /// The destinations; at least one.
    pub destinations: Vec<String>,
}

/// How a subscription spreads its points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionMode {
    /// `ALL`
    All,
    /// `ANY`
    Any,
}

/// `DROP SUBSCRIPTION name ON database.policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropSubscription {
    /// The subscription.
    pub name: String,
    /// Its database.
    pub database: String,
    /// Its retention policy.
    pub retention_policy: String,
}

/// `CREATE USER name WITH PASSWORD '..' [WITH ALL PRIVILEGES]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUser {
    /// The user.
    pub name: String,
    /// The password in clear; display hides it.
    pub password: String,
    /// `WITH ALL PRIVILEGES`
    pub admin: bool,
}

/// `SET PASSWORD FOR name = '..'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPassword {
    /// The user.
    pub name: String,
    /// The new password in clear; display hides it.
    pub password: String,
}

/// `GRANT` and `REVOKE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What is granted or revoked.
    pub privilege: Privilege,
    /// On which database; none is the administrator's right, `ALL [PRIVILEGES]` without `ON`.
    pub database: Option<String>,
    /// The user.
    pub user: String,
}

/// A right on a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Privilege {
    /// `READ`
    Read,
    /// `WRITE`
    Write,
    /// `ALL [PRIVILEGES]`
    All,
}

/// `KILL QUERY id [ON host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillQuery {
    /// The query's number, from `SHOW QUERIES`.
    pub id: u64,
    /// The host.
    pub host: Option<String>,
}

/// Extension: a SELECT whose windows are kept computed.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateRollup {
    /// The rollup's name.
    pub name: String,
    /// Its database.
    pub database: String,
    /// `FROM`: of which measurements, in all retention policies; none named: of all.
    pub measurements: Vec<String>,
    /// `EVERY`: lengths of intervals, nanoseconds; at least one.
    pub every: Vec<i64>,
    /// Not `WITHOUT PERCENTILES`: what approximate percentiles need is kept, too.
    pub percentiles: bool,
}
