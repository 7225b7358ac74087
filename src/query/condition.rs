//! Takes WHERE apart: a range of time, a condition on tags, and what is left for each row.

use super::error::QueryError;
use super::time::constant;
use crate::catalog::TagPredicate;
use crate::lang::{BinaryExpr, BinaryOp, Expr};
use crate::model::TimeRange;
use jiff::tz::TimeZone;

/// The range of time that a condition asks for, and the rest of it.
///
/// # Errors
/// `time` compared with no time, or by an operator that makes no range.
pub fn split_time(
    condition: Option<&Expr>,
    now: i64,
    zone: &TimeZone,
) -> Result<(TimeRange, Option<Expr>), QueryError> {
    let mut range = TimeRange::ALL;
    let rest = match condition {
        Some(expr) => split(expr, now, zone, &mut range)?,
        None => None,
    };
    Ok((range, rest))
}

fn split(expr: &Expr, now: i64, zone: &TimeZone, range: &mut TimeRange) -> Result<Option<Expr>, QueryError> {
    match expr.unparen() {
        Expr::Binary(b) if b.op == BinaryOp::And => {
            let lhs = split(&b.lhs, now, zone, range)?;
            let rhs = split(&b.rhs, now, zone, range)?;
            Ok(match (lhs, rhs) {
                (Some(lhs), Some(rhs)) => Some(Expr::binary(BinaryOp::And, lhs, rhs)),
                (one, None) | (None, one) => one,
            })
        }
        Expr::Binary(b) if is_time(&b.lhs) || is_time(&b.rhs) => {
            let (op, other) = if is_time(&b.lhs) {
                (b.op, &b.rhs)
            } else {
                (mirrored(b.op), &b.lhs)
            };
            let at = constant(other, now, zone)?;
            match op {
                BinaryOp::Eq => *range = range.intersect(&TimeRange { min: at, max: at }),
                BinaryOp::Gt => range.min = range.min.max(at.saturating_add(1)),
                BinaryOp::Gte => range.min = range.min.max(at),
                BinaryOp::Lt => range.max = range.max.min(at.saturating_sub(1)),
                BinaryOp::Lte => range.max = range.max.min(at),
                op => {
                    return Err(QueryError::statement(format!(
                        "invalid time comparison operator: {}",
                        op.as_str()
                    )));
                }
            }
            Ok(None)
        }
        Expr::Boolean(true) => Ok(None),
        other => Ok(Some(with_times(other, now, zone)?)),
    }
}

/// Turns what `time` is compared with inside OR and so on into nanoseconds.
fn with_times(expr: &Expr, now: i64, zone: &TimeZone) -> Result<Expr, QueryError> {
    let mut expr = expr.clone();
    let mut failed = None;
    expr.walk_mut(&mut |node| {
        if let Expr::Binary(b) = node
            && b.op.is_comparison()
            && (is_time(&b.lhs) || is_time(&b.rhs))
        {
            let other = if is_time(&b.lhs) { &mut b.rhs } else { &mut b.lhs };
            match constant(other, now, zone) {
                Ok(at) => *other = Expr::Integer(at),
                Err(error) => failed = Some(error),
            }
        }
    });
    failed.map_or(Ok(expr), Err)
}

fn is_time(expr: &Expr) -> bool {
    matches!(expr.unparen(), Expr::VarRef(var) if var.name == "time" && var.kind.is_none())
}

fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Lte => BinaryOp::Gte,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Gte => BinaryOp::Lte,
        other => other,
    }
}

/// Splits a condition without time into what tags alone decide and the rest. `is_tag` says what a name is.
///
/// # Errors
/// A pattern that does not compile.
pub fn split_tags(
    condition: Option<&Expr>,
    is_tag: &dyn Fn(&crate::lang::VarRef) -> bool,
) -> Result<(TagPredicate, Option<Expr>), QueryError> {
    let (mut tags, mut rest) = (Vec::new(), None);
    let mut open: Vec<&Expr> = condition.into_iter().collect();
    while let Some(expr) = open.pop() {
        match expr.unparen() {
            Expr::Binary(b) if b.op == BinaryOp::And => {
                open.push(&b.rhs);
                open.push(&b.lhs);
            }
            other => match predicate(other, is_tag)? {
                Some(predicate) => tags.push(predicate),
                None => {
                    rest = Some(match rest {
                        Some(so_far) => Expr::binary(BinaryOp::And, so_far, other.clone()),
                        None => other.clone(),
                    });
                }
            },
        }
    }
    let predicate = match tags.len() {
        0 => TagPredicate::All,
        1 => tags.swap_remove(0),
        _ => TagPredicate::And(tags),
    };
    Ok((predicate, rest))
}

fn predicate(
    expr: &Expr,
    is_tag: &dyn Fn(&crate::lang::VarRef) -> bool,
) -> Result<Option<TagPredicate>, QueryError> {
    let Expr::Binary(b) = expr.unparen() else {
        return Ok(None);
    };
    let BinaryExpr { op, lhs, rhs } = &**b;
    if let BinaryOp::And | BinaryOp::Or = op {
        let (Some(lhs), Some(rhs)) = (predicate(lhs, is_tag)?, predicate(rhs, is_tag)?) else {
            return Ok(None);
        };
        return Ok(Some(if *op == BinaryOp::And {
            TagPredicate::And(vec![lhs, rhs])
        } else {
            TagPredicate::Or(vec![lhs, rhs])
        }));
    }
    let (var, other) = match (lhs.unparen(), rhs.unparen()) {
        (Expr::VarRef(var), other) | (other, Expr::VarRef(var)) if is_tag(var) => (var, other),
        _ => return Ok(None),
    };
    let key = var.name.clone();
    Ok(match (op, other) {
        (BinaryOp::Eq, Expr::String(value)) => Some(TagPredicate::Equals {
            key,
            value: value.clone(),
        }),
        (BinaryOp::Neq, Expr::String(value)) => Some(TagPredicate::NotEquals {
            key,
            value: value.clone(),
        }),
        (BinaryOp::EqRegex | BinaryOp::NeqRegex, Expr::Regex(pattern)) => {
            let regex = pattern
                .compile()
                .map_err(|e| QueryError::statement(e.to_string()))?;
            Some(match op {
                BinaryOp::EqRegex => TagPredicate::Matches { key, regex },
                _ => TagPredicate::NotMatches { key, regex },
            })
        }
        // A tag is text: it compares with nothing else.
        (BinaryOp::Neq, Expr::Integer(_) | Expr::Number(_) | Expr::Boolean(_)) => Some(TagPredicate::All),
        (_, Expr::Integer(_) | Expr::Number(_) | Expr::Boolean(_)) => Some(TagPredicate::Or(Vec::new())),
        _ => None,
    })
}
