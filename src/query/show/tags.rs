//! SHOW TAG KEYS and TAG VALUES. Times in WHERE choose nothing: every series counts, whenever it had points.

use super::rows::Rows;
use super::{Answer, chosen, page, some, sources, split, text};
use crate::catalog::Measurement;
use crate::lang::{BinaryOp, Expr, RegexLiteral, ShowTagKeys, ShowTagValues, Source, TagKeyFilter};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::{Give, Series};
use regex::Regex;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Which tag keys are asked for.
pub(super) enum KeyTest {
    All,
    In(Vec<String>),
    NotIn(String),
    Matches(Regex, bool),
}

impl KeyTest {
    pub(super) fn of(filter: Option<&TagKeyFilter>) -> Result<Self, QueryError> {
        Ok(match filter {
            None => Self::All,
            Some(TagKeyFilter::Eq(key)) => Self::In(vec![key.clone()]),
            Some(TagKeyFilter::In(keys)) => Self::In(keys.clone()),
            Some(TagKeyFilter::Neq(key)) => Self::NotIn(key.clone()),
            Some(TagKeyFilter::Regex(pattern)) => Self::Matches(compiled(pattern)?, true),
            Some(TagKeyFilter::NotRegex(pattern)) => Self::Matches(compiled(pattern)?, false),
        })
    }

    fn wants(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::In(keys) => keys.iter().any(|k| k == key),
            Self::NotIn(other) => other != key,
            Self::Matches(regex, wanted) => regex.is_match(key) == *wanted,
        }
    }
}

fn compiled(pattern: &RegexLiteral) -> Result<Regex, QueryError> {
    pattern
        .compile()
        .map_err(|e| QueryError::statement(e.to_string()))
}

/// Tag keys of the wanted series of measurements of one name.
pub(super) fn tag_keys_of(
    all: &[Arc<Measurement>],
    condition: Option<&Expr>,
    test: &KeyTest,
) -> Result<BTreeSet<String>, QueryError> {
    let mut out = BTreeSet::new();
    for m in all {
        let within = chosen(m, condition)?;
        let keys = m.view().tag_keys(within.as_ref())?;
        out.extend(keys.into_iter().filter(|key| test.wants(key)));
    }
    Ok(out)
}

/// SHOW TAG KEYS.
pub fn tag_keys(ctx: &Context<'_>, show: &ShowTagKeys) -> Answer {
    let test = KeyTest::of(show.keys.as_ref())?;
    let (_, condition) = split(ctx, show.condition.as_ref())?;
    let mut out = Vec::new();
    for (name, all) in sources(ctx, show.database.as_deref(), &show.sources)? {
        ctx.check()?;
        let keys = tag_keys_of(&all, condition.as_ref(), &test)?;
        let rows = page(keys, show.limit, show.offset)
            .into_iter()
            .map(|key| vec![text(key)]);
        out.extend(some(Series::table(&name, &["tagKey"], rows)));
    }
    Ok(page(out, show.slimit, show.soffset))
}

/// Keys and values of the wanted series of measurements of one name, sorted.
pub(super) fn tag_values_of(
    all: &[Arc<Measurement>],
    condition: Option<&Expr>,
    keys: &KeyTest,
) -> Result<BTreeSet<(String, String)>, QueryError> {
    let mut out = BTreeSet::new();
    for m in all {
        walk_tag_values(m, condition, keys, &mut |key, value| {
            out.insert((key.to_string(), value.to_string()));
            ControlFlow::Continue(())
        })?;
    }
    Ok(out)
}

/// Visits keys and values of the wanted series of a measurement, sorted, until it is told to stop.
fn walk_tag_values(
    m: &Measurement,
    condition: Option<&Expr>,
    keys: &KeyTest,
    visit: &mut dyn FnMut(&str, &str) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    let (tags, values) = split_values(condition);
    let values: Vec<ValueTest> = values.into_iter().map(ValueTest::of).collect::<Result<_, _>>()?;
    let within = chosen(m, tags.as_ref())?;
    let view = m.view();
    let mut stopped = false;
    for key in view
        .tag_keys(within.as_ref())?
        .iter()
        .filter(|key| keys.wants(key))
    {
        view.walk_values(key, within.as_ref(), &mut |value| {
            if !values.iter().all(|test| test.wants(value)) {
                return ControlFlow::Continue(());
            }
            let flow = visit(key, value);
            stopped = flow.is_break();
            flow
        })?;
        if stopped {
            break;
        }
    }
    Ok(())
}

/// How many pairs of keys and values the wanted series of measurements of one name have.
pub(super) fn count_tag_values(
    all: &[Arc<Measurement>],
    condition: Option<&Expr>,
    keys: &KeyTest,
) -> Result<usize, QueryError> {
    let ([only], (tags, values)) = (all, split_values(condition)) else {
        return Ok(tag_values_of(all, condition, keys)?.len());
    };
    if !values.is_empty() {
        return Ok(tag_values_of(all, condition, keys)?.len());
    }
    let within = chosen(only, tags.as_ref())?;
    let view = only.view();
    let mut count = 0;
    for key in view
        .tag_keys(within.as_ref())?
        .iter()
        .filter(|key| keys.wants(key))
    {
        count += view.count_values(key, within.as_ref())?;
    }
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// SHOW TAG VALUES. Those of one measurement are sorted in the index and go out as they come.
pub fn tag_values(ctx: &Context<'_>, show: &ShowTagValues, give: &mut Give<'_>) -> Result<(), QueryError> {
    one_policy(&show.sources)?;
    let test = KeyTest::of(Some(&show.keys))?;
    let (_, condition) = split(ctx, show.condition.as_ref())?;
    for (name, all) in sources(ctx, show.database.as_deref(), &show.sources)? {
        ctx.check()?;
        let mut rows = Rows::new(&name, &["key", "value"], (show.limit, show.offset), give);
        if let [only] = &all[..] {
            walk_tag_values(only, condition.as_ref(), &test, &mut |key, value| {
                rows.push([key, value])
            })?;
        } else {
            for (key, value) in tag_values_of(&all, condition.as_ref(), &test)? {
                if rows.push([&key, &value]).is_break() {
                    break;
                }
            }
        }
        if rows.finish().is_break() {
            break;
        }
    }
    Ok(())
}

/// InfluxDB takes measurements of one policy only.
fn one_policy(sources: &[Source]) -> Result<(), QueryError> {
    let mut seen: Option<&String> = None;
    for source in sources {
        let Source::Measurement(m) = source else { continue };
        match (seen, &m.retention_policy) {
            (Some(seen), Some(new)) if seen != new => {
                return Err(QueryError::statement(format!(
                    "only one retention policy allowed in SHOW TAG VALUES query: \"{new}\", \"{seen}\""
                )));
            }
            (_, Some(new)) => seen = Some(new),
            (_, None) => {}
        }
    }
    Ok(())
}

/// Takes the conditions on `value`, the tag's value itself, out of a condition.
fn split_values(condition: Option<&Expr>) -> (Option<Expr>, Vec<&Expr>) {
    let mut open: Vec<&Expr> = condition.into_iter().collect();
    let (mut tags, mut values) = (Vec::new(), Vec::new());
    while let Some(expr) = open.pop() {
        match expr.unparen() {
            Expr::Binary(b) if b.op == BinaryOp::And => open.extend([&b.rhs, &b.lhs]),
            other => {
                let mut names: BTreeSet<&str> = BTreeSet::new();
                other.visit_vars(&mut |var| {
                    names.insert(&var.name);
                });
                if names.len() == 1 && names.contains("value") {
                    values.push(other);
                } else {
                    tags.push(other.clone());
                }
            }
        }
    }
    (Expr::join(BinaryOp::And, tags), values)
}

/// A condition on `value`.
enum ValueTest {
    Is(String, bool),
    Matches(Regex, bool),
    All(Vec<ValueTest>),
    Any(Vec<ValueTest>),
    /// Compared with what no tag can be.
    Never,
}

impl ValueTest {
    fn of(expr: &Expr) -> Result<Self, QueryError> {
        let Expr::Binary(b) = expr.unparen() else {
            return Ok(Self::Never);
        };
        Ok(match (b.op, b.lhs.unparen(), b.rhs.unparen()) {
            (BinaryOp::And, lhs, rhs) => Self::All(vec![Self::of(lhs)?, Self::of(rhs)?]),
            (BinaryOp::Or, lhs, rhs) => Self::Any(vec![Self::of(lhs)?, Self::of(rhs)?]),
            (BinaryOp::Eq, Expr::VarRef(_), Expr::String(text))
            | (BinaryOp::Eq, Expr::String(text), Expr::VarRef(_)) => Self::Is(text.clone(), true),
            (BinaryOp::Neq, Expr::VarRef(_), Expr::String(text))
            | (BinaryOp::Neq, Expr::String(text), Expr::VarRef(_)) => Self::Is(text.clone(), false),
            (BinaryOp::EqRegex, _, Expr::Regex(pattern)) => Self::Matches(compiled(pattern)?, true),
            (BinaryOp::NeqRegex, _, Expr::Regex(pattern)) => Self::Matches(compiled(pattern)?, false),
            _ => Self::Never,
        })
    }

    fn wants(&self, value: &str) -> bool {
        match self {
            Self::Is(text, wanted) => (text == value) == *wanted,
            Self::Matches(regex, wanted) => regex.is_match(value) == *wanted,
            Self::All(all) => all.iter().all(|test| test.wants(value)),
            Self::Any(any) => any.iter().any(|test| test.wants(value)),
            Self::Never => false,
        }
    }
}
