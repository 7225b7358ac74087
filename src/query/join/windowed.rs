//! A join with functions of one side each: every side is folded by window and tags, the windows are joined, and the columns
//! are computed of the joined windows.

use super::conditions::Conditions;
use super::rows::{Matcher, Table};
use super::sides::{Sides, joined};
use super::{dimensions, keep_name, outermost_calls};
use crate::lang::{Dimension, Expr, Field, Fill, SelectStatement, VarRef};
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::extension;
use crate::query::functions::{Family, family};
use crate::query::input::{Derived, Input};
use crate::query::result::{Give, collect};
use crate::query::select::{self, Outer};
use std::collections::{BTreeMap, BTreeSet};

/// Runs it.
pub(super) fn run(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    sides: &Sides<'_>,
    conditions: &Conditions,
    calls: &[Expr],
    outer: &Outer,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let dimensions = dimensions(statement, sides, outer)?;
    let columns = columns(statement, sides, &dimensions)?;
    let mut wanted: Vec<Vec<Field>> = sides.list.iter().map(|_| Vec::new()).collect();
    let mut split = Vec::new();
    columns
        .iter()
        .for_each(|column| outermost_calls(&column.expr, &mut split));
    for call in &split {
        let at = side_of(call, sides)?;
        let mut own = call.clone();
        sides.strip(&mut own)?;
        wanted[at].push(Field {
            alias: Some(name_of(sides, at, call)),
            expr: own,
        });
    }
    let windows = statement.time_dimension().is_some() || outer.windows.is_some();
    // Without windows a side is one row, whatever time it has.
    let one_row = !windows && calls.iter().all(gives_one_row);
    let mut matcher = Matcher::new(ctx);
    let mut tables = Vec::new();
    for (at, side) in sides.list.iter().enumerate() {
        let own: Vec<String> = dimensions.iter().filter(|d| side.has_tag(d)).cloned().collect();
        let mut fields = std::mem::take(&mut wanted[at]);
        if fields.is_empty() {
            // Nothing of it is shown: it only says which windows there are.
            fields.extend(side.fields.keys().map(|name| Field {
                expr: Expr::call("count", vec![Expr::var(name)]),
                alias: Some(joined(&side.label, name)),
            }));
        }
        if fields.is_empty() {
            tables.push((side.kind, Table::default()));
            continue;
        }
        let times = statement
            .dimensions
            .iter()
            .filter(|dimension| dimension.time().is_some());
        let tags = own.iter().map(|tag| Dimension { expr: Expr::var(tag) });
        let select = SelectStatement {
            fields,
            sources: vec![side.source.clone()],
            condition: conditions.of_sides[at].clone(),
            dimensions: times.cloned().chain(tags).collect(),
            fill: statement.fill,
            tz: statement.tz.clone(),
            ..SelectStatement::default()
        };
        let handed_down = Outer {
            time: outer.time,
            dimensions: Vec::new(),
            windows: outer.windows.clone(),
            ascending: true,
            depth: outer.depth + 1,
        };
        let mut series = collect(|give| select::run(ctx, &select, &handed_down, give))?;
        if one_row {
            series
                .iter_mut()
                .for_each(|one| one.times.iter_mut().for_each(|t| *t = 0));
        }
        tables.push((side.kind, Table::of(series)));
    }
    let table = matcher.all(tables)?;
    let name = sides.labels().join("_");
    let fields = columns
        .into_iter()
        .map(|column| {
            let mut expr = column.expr.clone();
            replace_calls(&mut expr, sides)?;
            Ok(Field {
                alias: keep_name(&column.expr, &column.alias, &expr),
                expr,
            })
        })
        .collect::<Result<_, QueryError>>()?;
    let rest = SelectStatement {
        fields: unique_names(fields),
        sources: Vec::new(),
        condition: None,
        dimensions: dimensions
            .iter()
            .map(|tag| Dimension { expr: Expr::var(tag) })
            .collect(),
        fill: match statement.fill {
            number @ (Fill::Integer(_) | Fill::Float(_)) => number,
            _ => Fill::Null,
        },
        ..statement.clone()
    };
    let around = Outer {
        time: TimeRange::ALL,
        windows: None,
        ..outer.clone()
    };
    let input = Derived::of_series(table.into_series(&name));
    let mut inputs: Option<BTreeMap<String, Vec<Input>>> = Some(
        input
            .into_iter()
            .map(|(name, derived)| (name, vec![Input::Derived(derived)]))
            .collect(),
    );
    select::run_over(
        ctx,
        &rest,
        &around,
        &mut |_| Ok(inputs.take().unwrap_or_default()),
        give,
    )
}

/// The columns, those of several percentiles and the like written out.
fn columns(
    statement: &SelectStatement,
    sides: &Sides<'_>,
    dimensions: &[String],
) -> Result<Vec<Field>, QueryError> {
    let mut out = Vec::new();
    for field in &statement.fields {
        if matches!(&field.expr, Expr::Wildcard(_) | Expr::Regex(_)) {
            return Err(QueryError::statement(
                "JOIN: write the names of the columns beside functions",
            ));
        }
        let mut beside = None;
        check_beside(&field.expr, sides, dimensions, &mut beside)?;
        if let Some(name) = beside {
            return Err(QueryError::statement(format!(
                "JOIN: beside functions only tags of GROUP BY can stand, not {name}"
            )));
        }
        for (suffix, expr) in extension::split(&field.expr)? {
            let alias = match suffix.is_empty() {
                true => field.alias.clone(),
                false => Some(field.name() + &suffix),
            };
            out.push(Field { expr, alias });
        }
    }
    Ok(out)
}

/// Finds a reference outside of functions that is no tag of GROUP BY.
fn check_beside(
    expr: &Expr,
    sides: &Sides<'_>,
    dimensions: &[String],
    found: &mut Option<String>,
) -> Result<(), QueryError> {
    match expr {
        Expr::Call(call) if family(&call.name).is_some() => return Ok(()),
        Expr::Distinct(_) => return Ok(()),
        Expr::VarRef(var) if var.name == "time" => return Ok(()),
        Expr::VarRef(var) => match sides.meaning(var)? {
            super::sides::Meaning::Tag(_, name) if dimensions.contains(&name) => {}
            _ => *found = Some(var.name.clone()),
        },
        _ => {}
    }
    expr.children()
        .into_iter()
        .try_for_each(|part| check_beside(part, sides, dimensions, found))
}

/// The side that a call looks at.
fn side_of(call: &Expr, sides: &Sides<'_>) -> Result<usize, QueryError> {
    if let Expr::Call(inner) = call {
        if family(&inner.name) == Some(Family::Ranked) && inner.args.len() > 2 {
            return Err(QueryError::statement(format!(
                "JOIN: {}() with tags stands in a subquery",
                inner.name
            )));
        }
        let wild = |part: &&Expr| matches!(part, Expr::Wildcard(_) | Expr::Regex(_));
        if inner.args.iter().find(wild).is_some() {
            return Err(QueryError::statement(format!(
                "JOIN: write the name of the field in {}()",
                inner.name
            )));
        }
    }
    // A function of nothing that is there gives nothing, on any side.
    Ok(sides.of_expr(call)?.into_iter().next().unwrap_or(0))
}

fn name_of(sides: &Sides<'_>, at: usize, call: &Expr) -> String {
    joined(&sides.list[at].label, &call.to_string())
}

/// Puts the joined columns in the places of the calls, and tags under their own names.
fn replace_calls(expr: &mut Expr, sides: &Sides<'_>) -> Result<(), QueryError> {
    let mut calls = Vec::new();
    outermost_calls(expr, &mut calls);
    if calls.first() == Some(expr) {
        let at = side_of(expr, sides)?;
        *expr = Expr::VarRef(VarRef::new(name_of(sides, at, expr)));
        return Ok(());
    }
    if let Expr::VarRef(_) = expr {
        return sides.strip_tags(expr);
    }
    expr.children_mut()
        .into_iter()
        .try_for_each(|part| replace_calls(part, sides))
}

/// Does a function give one value where there are no windows?
fn gives_one_row(call: &Expr) -> bool {
    let Expr::Call(call) = call else { return false };
    matches!(
        family(&call.name),
        Some(
            Family::Selector | Family::Aggregate | Family::Percentile | Family::Extension | Family::Integral
        )
    )
}

/// Names that nobody gave get a number when they are taken.
fn unique_names(mut fields: Vec<Field>) -> Vec<Field> {
    let mut taken: BTreeSet<String> = BTreeSet::from(["time".to_string()]);
    for field in &mut fields {
        let Some(name) = &field.alias else { continue };
        let (base, mut count) = (name.clone(), 0);
        let mut name = base.clone();
        while !taken.insert(name.clone()) {
            count += 1;
            name = format!("{base}_{count}");
        }
        field.alias = Some(name);
    }
    fields
}
