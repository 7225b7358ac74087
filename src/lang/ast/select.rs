//! SELECT: its clauses and what FROM may name.

use crate::lang::expr::{Expr, RegexLiteral};

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
