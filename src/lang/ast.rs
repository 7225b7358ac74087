//! The statements of the query language, as the parser makes them and the planner reads them.
//!
//! Owns the shape of InfluxQL 1.x and of Kymo's extensions to it. Names are as written, wildcards and regular
//! expressions are not expanded, and nothing here knows a schema. `parse(display(ast)) == ast` holds.

use super::expr::{Expr, RegexLiteral};

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

/// A SELECT, also as subquery.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SelectStatement {
    /// The columns; at least one.
    pub fields: Vec<Field>,
    /// `INTO`
    pub target: Option<Target>,
    /// `FROM`; at least one.
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `GROUP BY`
    pub dimensions: Vec<Dimension>,
    /// `fill(..)`
    pub fill: Fill,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none, as in InfluxDB.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
    /// `SLIMIT`; 0 is none.
    pub slimit: u64,
    /// `SOFFSET`
    pub soffset: u64,
    /// `tz('..')`; whether there is such a zone is for the planner to say.
    pub tz: Option<String>,
}

/// A column of a SELECT.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What is computed.
    pub expr: Expr,
    /// `AS alias`
    pub alias: Option<String>,
}

/// The measurement that `INTO` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The database, or the current one.
    pub database: Option<String>,
    /// The retention policy, or the default one.
    pub retention_policy: Option<String>,
    /// The measurement; none is `:MEASUREMENT`, the name of the source.
    pub name: Option<String>,
}

/// Where a SELECT reads.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A measurement, or all that match a regular expression.
    Measurement(Measurement),
    /// `(SELECT ..)`
    Subquery(Box<Subquery>),
    /// Extension: `left JOIN right`
    Join(Box<Join>),
}

/// One measurement or many by regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// The database, or the current one.
    pub database: Option<String>,
    /// The retention policy, or the default one.
    pub retention_policy: Option<String>,
    /// Which measurements.
    pub name: MeasurementName,
    /// Extension: `AS alias`, for dotted references in a join.
    pub alias: Option<String>,
}

/// Which measurements a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeasurementName {
    /// Exactly this one.
    Name(String),
    /// All that match.
    Regex(RegexLiteral),
}

/// A SELECT as a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// The inner SELECT.
    pub statement: SelectStatement,
    /// Extension: `AS alias`.
    pub alias: Option<String>,
}

/// Extension: two sources joined on time (or time window) and tags.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// What happens to rows without a partner.
    pub kind: JoinKind,
    /// The left side; joins associate to the left.
    pub left: Source,
    /// The right side, never a join.
    pub right: Source,
}

/// What a join does with rows without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// `JOIN`, `INNER JOIN`: they are left out.
    Inner,
    /// `LEFT JOIN`: those of the left side stay.
    Left,
    /// `FULL JOIN`: those of both sides stay.
    Full,
    /// `ASOF JOIN`: each row of the left side takes the latest of the right side at or before its time.
    Asof,
}

/// One `GROUP BY` item: a tag, `*`, a regular expression, or `time(..)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dimension {
    /// The item; see [`Dimension::time`] for windows.
    pub expr: Expr,
}

/// The parts of a `time(interval [, offset] [, over width])` dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeDimension<'a> {
    /// The step: [`Expr::Duration`] or [`Expr::Months`] if the query is sound, else whatever was written.
    pub interval: Option<&'a Expr>,
    /// The offset: a duration, `now()` or a time string, or whatever was written.
    pub offset: Option<&'a Expr>,
    /// Extension: the width of a rolling window.
    pub over: Option<&'a Expr>,
    /// How many arguments stand there, `over` included.
    pub args: usize,
}

/// What stands in windows without points.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fill {
    /// Null, also when no `fill` was written.
    #[default]
    Null,
    /// No row.
    None,
    /// The value before.
    Previous,
    /// A straight line between the neighbours.
    Linear,
    /// An integer constant.
    Integer(i64),
    /// A float constant.
    Float(f64),
}

/// One `ORDER BY` item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortField {
    /// `time`, or by extension a column; none for a bare `ORDER BY DESC`.
    pub name: Option<String>,
    /// Whether small values come first.
    pub ascending: bool,
}

/// `EXPLAIN`.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// Run it and report what it took.
    pub analyze: bool,
    /// Tell more.
    pub verbose: bool,
    /// What to explain.
    pub statement: SelectStatement,
}

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

/// `SHOW MEASUREMENTS`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShowMeasurements {
    /// `ON`: the database.
    pub database: OnName,
    /// `ON db.rp`: the retention policy.
    pub retention_policy: OnName,
    /// `WITH MEASUREMENT = name` or `=~ /re/`.
    pub with: Option<Measurement>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// A name after `ON` that may be left out or a `*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnName {
    /// Left out: the current one.
    #[default]
    Current,
    /// `*`
    All,
    /// This one.
    Name(String),
}

/// `SHOW SERIES`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShowSeries {
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// `SHOW TAG KEYS`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShowTagKeys {
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Source>,
    /// `WITH KEY ..`
    pub keys: Option<TagKeyFilter>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
    /// `SLIMIT`; 0 is none.
    pub slimit: u64,
    /// `SOFFSET`
    pub soffset: u64,
}

/// `SHOW TAG VALUES`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShowTagValues {
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Source>,
    /// `WITH KEY ..`
    pub keys: TagKeyFilter,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// `WITH KEY ..`: which tag keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagKeyFilter {
    /// `= key`
    Eq(String),
    /// `!= key`
    Neq(String),
    /// `=~ /re/`
    Regex(RegexLiteral),
    /// `!~ /re/`
    NotRegex(RegexLiteral),
    /// `IN (a, b)`
    In(Vec<String>),
}

/// `SHOW FIELD KEYS`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShowFieldKeys {
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Source>,
    /// `ORDER BY`
    pub sort_fields: Vec<SortField>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// All the `CARDINALITY` statements.
#[derive(Debug, Clone, PartialEq)]
pub struct ShowCardinality {
    /// What is counted.
    pub of: CardinalityOf,
    /// `EXACT`
    pub exact: bool,
    /// `ON`
    pub database: Option<String>,
    /// `FROM`
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `GROUP BY`
    pub dimensions: Vec<Dimension>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// What a `CARDINALITY` statement counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardinalityOf {
    /// Series.
    Series,
    /// Measurements.
    Measurement,
    /// Tag keys.
    TagKey,
    /// Values of these tag keys.
    TagValues(TagKeyFilter),
    /// Field keys.
    FieldKey,
}

/// Extension: which series move like the one that a SELECT gives.
#[derive(Debug, Clone, PartialEq)]
pub struct ShowCorrelated {
    /// The series to compare with.
    pub with: SelectStatement,
    /// `FROM`: where to look; empty is everywhere.
    pub sources: Vec<Source>,
    /// `WHERE`
    pub condition: Option<Expr>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
}

/// Extension: the points that were not taken in, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShowRejected {
    /// `ON`
    pub database: Option<String>,
    /// `LIMIT`; 0 is none.
    pub limit: u64,
    /// `OFFSET`
    pub offset: u64,
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

impl Field {
    /// The column's name: the alias, or the one derived from the expression. Not yet unique among the columns.
    pub fn name(&self) -> String {
        match &self.alias {
            Some(alias) => alias.clone(),
            None => self.expr.column_name(),
        }
    }
}

impl Dimension {
    /// The parts of `time(..)`, if this is one. Whether they make sense is for the planner to say.
    pub fn time(&self) -> Option<TimeDimension<'_>> {
        let Expr::Call(call) = &self.expr else { return None };
        if call.name != "time" {
            return None;
        }
        let over = call.args.iter().find_map(|arg| match arg {
            Expr::Over(width) => Some(&**width),
            _ => None,
        });
        let mut plain = call.args.iter().filter(|arg| !matches!(arg, Expr::Over(_)));
        Some(TimeDimension {
            interval: plain.next(),
            offset: plain.next(),
            over,
            args: call.args.len(),
        })
    }
}

impl SelectStatement {
    /// Whether it gives stored points rather than computed ones: no function is called in its columns.
    pub fn is_raw(&self) -> bool {
        !self.fields.iter().any(|field| field.expr.has_call())
    }

    /// The first `time(..)` dimension.
    pub fn time_dimension(&self) -> Option<TimeDimension<'_>> {
        self.dimensions.iter().find_map(Dimension::time)
    }

    /// The step of the windows in nanoseconds: 0 without `GROUP BY time(..)` or with calendar windows.
    pub fn group_by_interval(&self) -> i64 {
        match self.time_dimension().and_then(|time| time.interval) {
            Some(Expr::Duration(nanos)) => *nanos,
            _ => 0,
        }
    }

    /// Whether rows come in ascending time, which is the default.
    pub fn time_ascending(&self) -> bool {
        self.sort_fields
            .iter()
            .find(|f| f.is_time())
            .is_none_or(|f| f.ascending)
    }

    /// Visits every measurement it reads, those of joins and subqueries included.
    pub fn visit_measurements<'a>(&'a self, visit: &mut dyn FnMut(&'a Measurement)) {
        for source in &self.sources {
            source.visit_measurements(visit);
        }
    }
}

impl SortField {
    /// Whether it sorts by time, as a bare `ORDER BY DESC` does.
    pub fn is_time(&self) -> bool {
        self.name.as_deref().is_none_or(|name| name == "time")
    }
}

impl Source {
    /// Visits every measurement below it.
    pub fn visit_measurements<'a>(&'a self, visit: &mut dyn FnMut(&'a Measurement)) {
        match self {
            Source::Measurement(measurement) => visit(measurement),
            Source::Subquery(subquery) => subquery.statement.visit_measurements(visit),
            Source::Join(join) => {
                join.left.visit_measurements(visit);
                join.right.visit_measurements(visit);
            }
        }
    }
}

impl Measurement {
    /// A measurement of the current database and default retention policy.
    pub fn named(name: impl Into<String>) -> Self {
        let name = MeasurementName::Name(name.into());
        Measurement {
            database: None,
            retention_policy: None,
            name,
            alias: None,
        }
    }
}
