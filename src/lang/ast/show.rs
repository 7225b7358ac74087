//! SHOW.

use super::{Dimension, Measurement, SelectStatement, SortField, Source};
use crate::lang::expr::{Expr, RegexLiteral};

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
