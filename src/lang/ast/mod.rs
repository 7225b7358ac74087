//! The statements of the query language, as the parser makes them and the planner reads them.
//!
//! Owns the shape of InfluxQL 1.x and of Kymo's extensions to it. Names are as written, wildcards and regular
//! expressions are not expanded, and nothing here knows a schema. `parse(display(ast)) == ast` holds.

mod admin;
mod select;
mod show;

pub use admin::*;
pub use select::*;
pub use show::*;

/// A query text: its statements in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// The statements; `;` stood between them.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT`
    Select(Box<SelectStatement>),
    /// `EXPLAIN [ANALYZE] [VERBOSE] SELECT`
    Explain(Box<Explain>),
    /// `DELETE`
    Delete(Delete),
    /// `DROP SERIES`
    DropSeries(Delete),
    /// `DROP MEASUREMENT name`
    DropMeasurement(String),
    /// `DROP SHARD id`
    DropShard(u64),
    /// `CREATE DATABASE`
    CreateDatabase(CreateDatabase),
    /// `DROP DATABASE name`
    DropDatabase(String),
    /// Extension: `ALTER DATABASE name NUMERIC PROMOTION ON|OFF`
    AlterDatabase(AlterDatabase),
    /// `CREATE RETENTION POLICY`
    CreateRetentionPolicy(CreateRetentionPolicy),
    /// `ALTER RETENTION POLICY`
    AlterRetentionPolicy(AlterRetentionPolicy),
    /// `DROP RETENTION POLICY name ON database`
    DropRetentionPolicy(OnDatabase),
    /// `CREATE CONTINUOUS QUERY`
    CreateContinuousQuery(Box<CreateContinuousQuery>),
    /// `DROP CONTINUOUS QUERY name ON database`
    DropContinuousQuery(OnDatabase),
    /// `CREATE SUBSCRIPTION`
    CreateSubscription(CreateSubscription),
    /// `DROP SUBSCRIPTION`
    DropSubscription(DropSubscription),
    /// `CREATE USER`
    CreateUser(CreateUser),
    /// `DROP USER name`
    DropUser(String),
    /// `SET PASSWORD FOR`
    SetPassword(SetPassword),
    /// `GRANT`
    Grant(Grant),
    /// `REVOKE`
    Revoke(Grant),
    /// `KILL QUERY`
    KillQuery(KillQuery),
    /// `SHOW DATABASES`
    ShowDatabases,
    /// `SHOW MEASUREMENTS`
    ShowMeasurements(Box<ShowMeasurements>),
    /// `SHOW SERIES`
    ShowSeries(Box<ShowSeries>),
    /// `SHOW TAG KEYS`
    ShowTagKeys(Box<ShowTagKeys>),
    /// `SHOW TAG VALUES`
    ShowTagValues(Box<ShowTagValues>),
    /// `SHOW FIELD KEYS`
    ShowFieldKeys(Box<ShowFieldKeys>),
    /// `SHOW SERIES|MEASUREMENT|TAG KEY|TAG VALUES|FIELD KEY [EXACT] CARDINALITY`
    ShowCardinality(Box<ShowCardinality>),
    /// `SHOW RETENTION POLICIES [ON database]`
    ShowRetentionPolicies(Option<String>),
    /// `SHOW CONTINUOUS QUERIES`
    ShowContinuousQueries,
    /// `SHOW QUERIES`
    ShowQueries,
    /// `SHOW SHARDS`
    ShowShards,
    /// `SHOW SHARD GROUPS`
    ShowShardGroups,
    /// `SHOW STATS [FOR 'module']`
    ShowStats(Option<String>),
    /// `SHOW DIAGNOSTICS [FOR 'module']`
    ShowDiagnostics(Option<String>),
    /// `SHOW SUBSCRIPTIONS`
    ShowSubscriptions,
    /// `SHOW USERS`
    ShowUsers,
    /// `SHOW GRANTS FOR user`
    ShowGrants(String),
    /// Extension: `SHOW CORRELATED WITH (SELECT ..) FROM ..`
    ShowCorrelated(Box<ShowCorrelated>),
    /// Extension: `SHOW REJECTED [ON database] [LIMIT n] [OFFSET n]`
    ShowRejected(ShowRejected),
    /// Extension: `CREATE ROLLUP name ON database FROM m EVERY 1h`
    CreateRollup(Box<CreateRollup>),
    /// Extension: `DROP ROLLUP name ON database`
    DropRollup(OnDatabase),
    /// Extension: `SHOW ROLLUPS`
    ShowRollups,
}
