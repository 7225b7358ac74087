//! SELECT and its clauses as text.

use super::{Name, Text, count, list};
use crate::lang::ast::{
    Dimension, Explain, Field, Fill, JoinKind, Measurement, MeasurementName, SelectStatement, SortField,
    Source, Target,
};
use crate::lang::expr::Expr;
use std::fmt::{self, Display};

impl Display for SelectStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        list(f, &self.fields)?;
        if let Some(target) = &self.target {
            write!(f, " INTO {target}")?;
        }
        sources(f, &self.sources)?;
        condition(f, self.condition.as_ref())?;
        dimensions(f, &self.dimensions)?;
        match self.fill {
            Fill::Null => {}
            Fill::None => f.write_str(" fill(none)")?,
            Fill::Previous => f.write_str(" fill(previous)")?,
            Fill::Linear => f.write_str(" fill(linear)")?,
            Fill::Integer(value) => write!(f, " fill({value})")?,
            Fill::Float(value) => write!(f, " fill({})", Expr::Number(value))?,
        }
        order_by(f, &self.sort_fields)?;
        count(f, "LIMIT", self.limit)?;
        count(f, "OFFSET", self.offset)?;
        count(f, "SLIMIT", self.slimit)?;
        count(f, "SOFFSET", self.soffset)?;
        match &self.tz {
            Some(zone) => write!(f, " TZ({})", Text(zone)),
            None => Ok(()),
        }
    }
}

/// ` FROM ..`, if there are any.
pub(super) fn sources(f: &mut fmt::Formatter<'_>, sources: &[Source]) -> fmt::Result {
    if sources.is_empty() {
        return Ok(());
    }
    f.write_str(" FROM ")?;
    list(f, sources)
}

/// ` WHERE ..`, if there is one.
pub(super) fn condition(f: &mut fmt::Formatter<'_>, condition: Option<&Expr>) -> fmt::Result {
    match condition {
        Some(condition) => write!(f, " WHERE {condition}"),
        None => Ok(()),
    }
}

/// ` GROUP BY ..`, if there are any.
pub(super) fn dimensions(f: &mut fmt::Formatter<'_>, dimensions: &[Dimension]) -> fmt::Result {
    if dimensions.is_empty() {
        return Ok(());
    }
    f.write_str(" GROUP BY ")?;
    list(f, dimensions)
}

/// ` ORDER BY ..`, if there are any.
pub(super) fn order_by(f: &mut fmt::Formatter<'_>, fields: &[SortField]) -> fmt::Result {
    if fields.is_empty() {
        return Ok(());
    }
    f.write_str(" ORDER BY ")?;
    list(f, fields)
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)?;
        match &self.alias {
            Some(alias) => write!(f, " AS {}", Name(alias)),
            None => Ok(()),
        }
    }
}

impl Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expr)
    }
}

impl Display for SortField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "{} ", Name(name))?;
        }
        f.write_str(if self.ascending { "ASC" } else { "DESC" })
    }
}

/// `database.policy.` before a name.
fn qualified(f: &mut fmt::Formatter<'_>, database: Option<&String>, policy: Option<&String>) -> fmt::Result {
    if let Some(database) = database {
        write!(f, "{}.", Name(database))?;
    }
    if let Some(policy) = policy {
        write!(f, "{}", Name(policy))?;
    }
    f.write_str(if database.is_some() || policy.is_some() {
        "."
    } else {
        ""
    })
}

impl Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, self.database.as_ref(), self.retention_policy.as_ref())?;
        match &self.name {
            Some(name) => write!(f, "{}", Name(name)),
            // A name has to stand before it, if only an empty one.
            None if self.database.is_none() && self.retention_policy.is_none() => {
                f.write_str("\"\".:MEASUREMENT")
            }
            None => f.write_str(":MEASUREMENT"),
        }
    }
}

impl Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        qualified(f, self.database.as_ref(), self.retention_policy.as_ref())?;
        write!(f, "{}", self.name)?;
        alias(f, self.alias.as_ref())
    }
}

impl Display for MeasurementName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MeasurementName::Name(name) => write!(f, "{}", Name(name)),
            MeasurementName::Regex(literal) => write!(f, "{literal}"),
        }
    }
}

fn alias(f: &mut fmt::Formatter<'_>, alias: Option<&String>) -> fmt::Result {
    match alias {
        Some(alias) => write!(f, " AS {}", Name(alias)),
        None => Ok(()),
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Measurement(measurement) => write!(f, "{measurement}"),
            Source::Subquery(subquery) => {
                write!(f, "({})", subquery.statement)?;
                alias(f, subquery.alias.as_ref())
            }
            Source::Join(join) => {
                let word = match join.kind {
                    JoinKind::Inner => "JOIN",
                    JoinKind::Left => "LEFT JOIN",
                    JoinKind::Full => "FULL JOIN",
                    JoinKind::Asof => "ASOF JOIN",
                };
                write!(f, "{} {word} {}", join.left, join.right)
            }
        }
    }
}

impl Display for Explain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |given: bool, word: &'static str| if given { word } else { "" };
        let (analyze, verbose) = (word(self.analyze, "ANALYZE "), word(self.verbose, "VERBOSE "));
        write!(f, "EXPLAIN {analyze}{verbose}{}", self.statement)
    }
}
