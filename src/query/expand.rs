//! Writes out what a SELECT names by wildcards and patterns, once it is known what its sources have; and names its columns.

use super::error::QueryError;
use super::extension;
use super::functions::{Family, family};
use crate::lang::{Call, DataType, Dimension, Expr, RegexLiteral, SelectStatement, VarRef, WildcardKind};
use crate::model::FieldType;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// What the sources of a SELECT have together.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// Fields with their types; where sources differ, the first of float, integer, unsigned, string, boolean.
    pub fields: BTreeMap<String, FieldType>,
    /// Tags.
    pub tags: BTreeSet<String>,
}

impl Schema {
    /// Adds a field of one source.
    pub fn add(&mut self, name: String, field_type: FieldType) {
        let rank = |t: FieldType| match t {
            FieldType::Float => 0,
            FieldType::Integer => 1,
            FieldType::Unsigned => 2,
            FieldType::String => 3,
            FieldType::Boolean => 4,
        };
        let known = self.fields.entry(name).or_insert(field_type);
        if rank(field_type) < rank(*known) {
            *known = field_type;
        }
    }
}

/// A column of the result.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What stands in it.
    pub expr: Expr,
}

/// Compiles a pattern.
pub fn compiled(pattern: &RegexLiteral) -> Result<Regex, QueryError> {
    pattern
        .compile()
        .map_err(|e| QueryError::statement(e.to_string()))
}

/// The tags of GROUP BY, sorted.
///
/// # Errors
/// There is something else than tags and one `time(..)`.
pub fn dimensions(dimensions: &[Dimension], schema: &Schema) -> Result<Vec<String>, QueryError> {
    let mut out = BTreeSet::new();
    for dimension in dimensions {
        match dimension.expr.unparen() {
            Expr::VarRef(var) if var.name.eq_ignore_ascii_case("time") => {
                return Err(QueryError::statement(
                    "time() is a function and expects at least one argument",
                ));
            }
            Expr::VarRef(var) => {
                out.insert(var.name.clone());
            }
            Expr::Wildcard(_) => out.extend(schema.tags.iter().cloned()),
            Expr::Regex(pattern) => {
                let regex = compiled(pattern)?;
                out.extend(schema.tags.iter().filter(|key| regex.is_match(key)).cloned());
            }
            Expr::Call(call) if call.name == "time" => {}
            Expr::Call(_) => return Err(QueryError::statement("only time() calls allowed in dimensions")),
            _ => return Err(QueryError::statement("only time and tag dimensions allowed")),
        }
    }
    Ok(out.into_iter().collect())
}

/// The columns of a SELECT but the time, and what the column of the time is called.
///
/// # Errors
/// A wildcard where none may stand.
pub fn columns(
    statement: &SelectStatement,
    schema: &Schema,
    dimensions: &[String],
) -> Result<(String, Vec<Column>), QueryError> {
    let mut time_name = "time".to_string();
    // Names that were given stay; others get a number when they are taken.
    let mut out: Vec<(Option<String>, Expr)> = Vec::new();
    for field in &statement.fields {
        let alias = field.alias.clone();
        match &field.expr {
            Expr::VarRef(var) if var.name == "time" => {
                if let Some(alias) = alias {
                    time_name = alias;
                }
            }
            Expr::Wildcard(kind) => out.extend(names(schema, dimensions, *kind, None)),
            Expr::Regex(pattern) => out.extend(names(schema, dimensions, None, Some(&compiled(pattern)?))),
            Expr::Call(call) => match fields_of_wildcard(call, schema)? {
                Some(fields) => {
                    let prefix = field.name();
                    for name in fields {
                        let mut expr = field.expr.clone();
                        put_in(&mut expr, &name);
                        for (suffix, expr) in extension::split(&expr)? {
                            out.push((Some(format!("{prefix}_{name}{suffix}")), expr));
                        }
                    }
                }
                None => {
                    for (suffix, expr) in extension::split(&field.expr)? {
                        let split = !suffix.is_empty();
                        let name = if split {
                            Some(field.name() + &suffix)
                        } else {
                            alias.clone()
                        };
                        out.push((name, expr));
                    }
                }
            },
            _ => {
                // Functions that give several columns stand alone.
                extension::split(&field.expr)?;
                out.push((alias, field.expr.clone()));
            }
        }
        if let Expr::Call(call) = &field.expr
            && family(&call.name) == Some(Family::Ranked)
            && statement.target.is_none()
        {
            let tags = call.args.iter().skip(1).take(call.args.len().saturating_sub(2));
            out.extend(tags.map(|tag| (None, tag.clone())));
        }
    }
    Ok((time_name.clone(), named(out, time_name)))
}

fn named(columns: Vec<(Option<String>, Expr)>, time_name: String) -> Vec<Column> {
    let mut taken: BTreeSet<String> = columns.iter().filter_map(|(name, _)| name.clone()).collect();
    taken.insert(time_name);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let name = |(given, expr): (Option<String>, Expr)| {
        let name = given.unwrap_or_else(|| {
            let base = expr.column_name();
            let mut name = base.clone();
            while !taken.insert(name.clone()) {
                let count = counts.entry(base.clone()).or_insert(0);
                *count += 1;
                name = format!("{base}_{count}");
            }
            name
        });
        Column { name, expr }
    };
    columns.into_iter().map(name).collect()
}

/// The fields and tags that a wildcard or pattern means, by name.
fn names(
    schema: &Schema,
    dimensions: &[String],
    kind: Option<WildcardKind>,
    regex: Option<&Regex>,
) -> Vec<(Option<String>, Expr)> {
    let mut out: Vec<(&String, DataType)> = Vec::new();
    let wanted = |name: &&String| regex.is_none_or(|r| r.is_match(name));
    if kind != Some(WildcardKind::Tag) {
        out.extend(
            schema
                .fields
                .keys()
                .filter(wanted)
                .map(|n| (n, DataType::AnyField)),
        );
    }
    // Tags alone select nothing.
    if kind != Some(WildcardKind::Field) && !(schema.fields.is_empty() && kind.is_none()) {
        let tags = schema.tags.iter().filter(|n| !dimensions.contains(n));
        out.extend(tags.filter(wanted).map(|n| (n, DataType::Tag)));
    }
    out.sort_by(|a, b| a.0.cmp(b.0));
    out.into_iter()
        .map(|(name, kind)| (None, reference(name, kind)))
        .collect()
}

fn reference(name: &str, kind: DataType) -> Expr {
    Expr::VarRef(VarRef {
        kind: Some(kind),
        ..VarRef::new(name)
    })
}

/// The call in which the first argument is no call.
fn innermost(call: &Call) -> &Call {
    match call.args.first() {
        Some(Expr::Call(inner)) => innermost(inner),
        _ => call,
    }
}

/// The fields that a wildcard or pattern inside of a call stands for; `None` when there is none.
fn fields_of_wildcard(call: &Call, schema: &Schema) -> Result<Option<Vec<String>>, QueryError> {
    let innermost = innermost(call);
    let regex = match innermost.args.first() {
        Some(Expr::Wildcard(Some(WildcardKind::Tag))) => {
            let name = &innermost.name;
            return Err(QueryError::statement(format!(
                "unable to use tag as wildcard in {name}()"
            )));
        }
        Some(Expr::Wildcard(_)) => None,
        Some(Expr::Regex(pattern)) => Some(compiled(pattern)?),
        _ => return Ok(None),
    };
    let takes = |field_type: FieldType| match innermost.name.as_str() {
        "count" | "first" | "last" | "distinct" | "elapsed" | "mode" | "sample" => true,
        "min" | "max" => field_type != FieldType::String,
        _ => !matches!(field_type, FieldType::String | FieldType::Boolean),
    };
    let wanted =
        |(name, t): &(&String, &FieldType)| takes(**t) && regex.as_ref().is_none_or(|r| r.is_match(name));
    let fields = schema.fields.iter().filter(wanted);
    Ok(Some(fields.map(|(name, _)| name.clone()).collect()))
}

/// Puts a field in the place of the wildcard in a call.
fn put_in(expr: &mut Expr, name: &str) {
    if let Expr::Call(call) = expr
        && let Some(first) = call.args.first_mut()
    {
        match first {
            Expr::Call(_) => put_in(first, name),
            _ => *first = reference(name, DataType::AnyField),
        }
    }
}
