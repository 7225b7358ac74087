//! `FROM cpu JOIN mem`: sources side by side, aligned on time and tags. Each side is an ordinary SELECT; their rows are
//! matched ([`rows`]) and become the input of the rest of the statement.
//!
//! Functions of one side's fields are computed on that side, by the window and tags of GROUP BY, and the windows are joined
//! ([`windowed`]). A statement without functions, or with a function or a condition that names fields of several sides
//! (`corr(cpu.a, mem.b)`), joins the rows themselves ([`raw`]). [`sides`] says what a name stands for, [`conditions`] to which side a condition belongs.

mod conditions;
mod raw;
mod rows;
mod sides;
mod windowed;

use super::check::{self, Grouping};
use super::context::Context;
use super::error::QueryError;
use super::functions::{family, math};
use super::select::Outer;
use super::time::zone;
use super::windows::Windows;
use crate::lang::{Expr, SelectStatement, Source};
use crate::query::result::Give;
use conditions::Conditions;
use sides::Sides;
use std::collections::BTreeSet;

/// Does a SELECT read a join?
pub(super) fn is_join(statement: &SelectStatement) -> bool {
    statement
        .sources
        .iter()
        .any(|source| matches!(source, Source::Join(_)))
}

/// Runs a SELECT over a join.
///
/// # Errors
/// It makes no sense; what its sides give.
pub(super) fn run(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    outer: &Outer,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let [Source::Join(join)] = statement.sources.as_slice() else {
        return Err(QueryError::statement(
            "a JOIN cannot stand beside other sources in FROM",
        ));
    };
    let windows = Windows::of(statement, ctx.now, &zone(statement.tz.as_deref())?)?;
    let grouping = match (&windows, &outer.windows) {
        (Some(_), _) => Grouping::Windows,
        (None, Some(_)) => Grouping::Inherited,
        (None, None) => Grouping::None,
    };
    check::check(statement, grouping)?;
    let sides = Sides::of(ctx, join)?;
    let mut calls = Vec::new();
    for field in &statement.fields {
        outermost_calls(&field.expr, &mut calls);
    }
    let conditions = Conditions::of(statement.condition.as_ref(), &sides)?;
    let mut apart = !calls.is_empty() && conditions.mixed.is_empty();
    for call in &calls {
        apart &= sides.of_expr(call)?.len() < 2 && !gives_lags(call);
    }
    if apart {
        windowed::run(ctx, statement, &sides, &conditions, &calls, outer, give)
    } else {
        raw::run(ctx, statement, &sides, &conditions, outer, give)
    }
}

/// `corr_lag` is one call with two columns: it looks at joined rows, whatever its fields.
fn gives_lags(call: &Expr) -> bool {
    matches!(call, Expr::Call(call) if call.name == "corr_lag")
}

/// The calls of functions of points that stand in no other.
fn outermost_calls(expr: &Expr, out: &mut Vec<Expr>) {
    match expr {
        Expr::Call(call) if family(&call.name).is_some() => put(expr, out),
        Expr::Call(call) if math::arity(&call.name).is_none() => put(expr, out),
        Expr::Distinct(_) => put(expr, out),
        _ => expr
            .children()
            .into_iter()
            .for_each(|part| outermost_calls(part, out)),
    }
}

fn put(expr: &Expr, out: &mut Vec<Expr>) {
    if !out.contains(expr) {
        out.push(expr.clone());
    }
}

/// The tags that a statement groups by, those of the statement around it included.
fn dimensions(
    statement: &SelectStatement,
    sides: &Sides<'_>,
    outer: &Outer,
) -> Result<Vec<String>, QueryError> {
    let mut plain = statement.dimensions.clone();
    for dimension in &mut plain {
        sides.strip_tags(&mut dimension.expr)?;
    }
    let own = super::expand::dimensions(&plain, &sides.schema())?;
    let all: BTreeSet<String> = own.into_iter().chain(outer.dimensions.iter().cloned()).collect();
    Ok(all.into_iter().collect())
}

/// Names that were made by rewriting are replaced by those that the author's text would have.
fn keep_name(written: &Expr, alias: &Option<String>, now: &Expr) -> Option<String> {
    let name = written.column_name();
    match alias {
        None if now.column_name() != name => Some(name),
        alias => alias.clone(),
    }
}
