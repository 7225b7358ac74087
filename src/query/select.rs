//! SELECT: finds what it reads, expands wildcards, compiles its columns, and runs it by way of [`super::exec`].

use super::condition::split_time;
use super::context::Context;
use super::error::QueryError;
use super::exec::{self, Call, Prepared};
use super::functions::aggregate::Aggregate;
use super::functions::{NAMES, math, transform::Transform};
use super::input::{Derived, Input};
use super::node::{Node, Refs, compile};
use super::result::{Give, Piece, Series, collect};
use super::time::{Windows, constant, zone};
use crate::lang::{
    self, Dimension, Expr, Fill, MeasurementName, SelectStatement, Source, VarRef, WildcardKind,
};
use crate::model::{FieldType, TimeRange};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Subqueries below each other.
const DEPTH_MAX: usize = 64;

/// What an outer SELECT hands down to its subqueries.
#[derive(Clone, Debug)]
struct Outer {
    time: TimeRange,
    dimensions: Vec<String>,
    ascending: bool,
    depth: usize,
}

/// Runs a SELECT without its INTO; holds the whole answer.
///
/// # Errors
/// It makes no sense, a limit, cancelled, damage.
pub fn select(ctx: &Context<'_>, statement: &SelectStatement) -> Result<Vec<Series>, QueryError> {
    collect(|give| stream(ctx, statement, give))
}

/// Runs a SELECT without its INTO; its series are given away as they are found.
///
/// # Errors
/// As [`select`]. What was given away before is then not the answer.
pub fn stream(ctx: &Context<'_>, statement: &SelectStatement, give: &mut Give<'_>) -> Result<(), QueryError> {
    let outer = Outer {
        time: TimeRange::ALL,
        dimensions: Vec::new(),
        ascending: statement.time_ascending(),
        depth: 0,
    };
    run(ctx, statement, &outer, give)
}

/// The time range and zone of a SELECT, for those who watch it (live queries).
///
/// # Errors
/// `time` compared with what is no time.
pub fn time_range(statement: &SelectStatement, now: i64) -> Result<(TimeRange, TimeZone), QueryError> {
    let zone = zone(statement.tz.as_deref())?;
    Ok((split_time(statement.condition.as_ref(), now, &zone)?.0, zone))
}

/// The windows of a SELECT's `GROUP BY time(..)`, if it has one.
///
/// # Errors
/// Its arguments are no durations.
pub fn windows(statement: &SelectStatement, now: i64) -> Result<Option<Windows>, QueryError> {
    let zone = zone(statement.tz.as_deref())?;
    let times = statement.dimensions.iter().filter(|d| d.time().is_some()).count();
    if times > 1 {
        return Err(QueryError::statement("multiple time dimensions not allowed"));
    }
    let Some(time) = statement.time_dimension() else {
        return Ok(None);
    };
    if time.args == 0 {
        return Err(QueryError::statement("time dimension expected 1 or 2 arguments"));
    }
    if time.over.is_some() {
        return Err(QueryError::statement(
            "rolling windows (over) are not supported yet",
        ));
    }
    if time.args > 2 {
        return Err(QueryError::statement("time dimension expected 1 or 2 arguments"));
    }
    let step = match time.interval {
        Some(Expr::Duration(step)) if *step > 0 => *step,
        Some(Expr::Months(_)) => return Err(QueryError::statement("calendar windows are not supported yet")),
        _ => {
            return Err(QueryError::statement(
                "time dimension must have duration argument",
            ));
        }
    };
    let offset = match time.offset.map(Expr::unparen) {
        None => 0,
        Some(Expr::Duration(offset)) => *offset,
        Some(Expr::Call(call)) if call.name == "now" => now,
        Some(text @ Expr::String(_)) => constant(text, now, &zone)?,
        Some(Expr::Binary(_)) => match time.offset {
            Some(expr) => constant(expr, now, &zone)?,
            None => 0,
        },
        Some(_) => {
            return Err(QueryError::statement(
                "time dimension offset must be duration or now()",
            ));
        }
    };
    Ok(Some(Windows {
        step,
        offset: offset.rem_euclid(step),
        zone,
    }))
}

fn run(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    outer: &Outer,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    if outer.depth > DEPTH_MAX {
        return Err(QueryError::Limit(format!(
            "subqueries are nested too deeply (subquery_depth_max {DEPTH_MAX})"
        )));
    }
    let zone = zone(statement.tz.as_deref())?;
    let (mut time, condition) = split_time(statement.condition.as_ref(), ctx.now, &zone)?;
    time = time.intersect(&outer.time);
    let windows = windows(statement, ctx.now)?;
    validate(statement, windows.is_some())?;
    // Windows without an end would go on for ever.
    let bounded_end = time.max < TimeRange::ALL.max;
    if windows.is_some() && !bounded_end {
        time.max = ctx.now;
    }
    if time.is_empty() {
        return Ok(());
    }
    let named_dimensions = plain_dimensions(statement);
    let handed_down = Outer {
        time,
        dimensions: union(&named_dimensions, &outer.dimensions),
        ascending: outer.ascending,
        depth: outer.depth + 1,
    };
    let sources = sources(ctx, statement, &handed_down)?;
    let inputs: Vec<&Input> = sources.values().flatten().collect();
    let mut dimensions = expand_dimensions(statement, &inputs)?;
    let own_dimensions = dimensions.clone();
    dimensions = union(&dimensions, &outer.dimensions);
    let (time_name, fields) = expand_fields(statement, &inputs, &own_dimensions)?;

    let mut calls: Vec<Call> = Vec::new();
    let mut refs = Refs::default();
    let mut columns = Vec::new();
    let step = windows.as_ref().map(|w| w.step);
    for (name, expr) in &fields {
        let mut call = |expr: &Expr, refs: &mut Refs| compile_call(expr, refs, &mut calls, step);
        columns.push((name.clone(), compile(expr, &mut refs, &mut call)?));
    }
    let mut fill = statement.fill;
    if outer.depth > 0 && fill == Fill::Null && !calls.is_empty() {
        fill = Fill::None;
    }
    let prepared = Prepared {
        columns: unique_names(columns),
        time_name,
        calls,
        refs,
        condition,
        dimensions,
        time,
        windows,
        fill,
        ascending: outer.ascending,
        limit: statement.limit,
        offset: statement.offset,
    };
    check_mix(&prepared)?;
    let mut page = Page {
        skip: statement.soffset,
        left: if statement.slimit > 0 {
            statement.slimit
        } else {
            u64::MAX
        },
    };
    for (name, inputs) in &sources {
        let flow = exec::run(ctx, name, inputs, &prepared, &mut |piece| page.piece(piece, give))?;
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// SLIMIT and SOFFSET: which series of the answer are given away.
struct Page {
    skip: u64,
    left: u64,
}

impl Page {
    fn piece(&mut self, piece: Piece, give: &mut Give<'_>) -> ControlFlow<()> {
        let ends = !piece.goes_on;
        let flow = if self.skip > 0 {
            ControlFlow::Continue(())
        } else if self.left == 0 {
            return ControlFlow::Break(());
        } else {
            give(piece)
        };
        if ends {
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                self.left -= 1;
            }
        }
        if ends && self.left == 0 {
            ControlFlow::Break(())
        } else {
            flow
        }
    }
}

/// What can be said of a statement before anything is looked up.
fn validate(statement: &SelectStatement, windowed: bool) -> Result<(), QueryError> {
    let mut has_call = false;
    for field in &statement.fields {
        let mut failed = None;
        field.expr.walk(&mut |expr| match expr {
            Expr::Call(call) if math::arity(&call.name).is_some() => {}
            Expr::Call(call) => {
                has_call = true;
                if !NAMES.contains(&call.name.as_str()) {
                    failed = Some(format!("undefined function {}()", call.name));
                }
            }
            Expr::Distinct(_) => has_call = true,
            _ => {}
        });
        if let Some(text) = failed {
            return Err(QueryError::statement(text));
        }
    }
    if windowed && !has_call {
        return Err(QueryError::statement(
            "GROUP BY requires at least one aggregate function",
        ));
    }
    if !has_call && statement.fill != Fill::Null {
        match statement.fill {
            Fill::None => return Err(QueryError::statement("fill(none) must be used with a function")),
            Fill::Linear => return Err(QueryError::statement("fill(linear) must be used with a function")),
            _ => {}
        }
    }
    for sort in &statement.sort_fields {
        if !sort.is_time() {
            return Err(QueryError::statement("only ORDER BY time supported at this time"));
        }
    }
    Ok(())
}

fn union(a: &[String], b: &[String]) -> Vec<String> {
    let all: BTreeSet<&String> = a.iter().chain(b).collect();
    all.into_iter().cloned().collect()
}

/// Tags that GROUP BY names.
fn plain_dimensions(statement: &SelectStatement) -> Vec<String> {
    let name = |d: &Dimension| match d.expr.unparen() {
        Expr::VarRef(var) => Some(var.name.clone()),
        _ => None,
    };
    statement.dimensions.iter().filter_map(name).collect()
}

/// What FROM names, by measurement name.
fn sources(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    handed_down: &Outer,
) -> Result<BTreeMap<String, Vec<Input>>, QueryError> {
    let mut found: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    for source in &statement.sources {
        match source {
            Source::Measurement(measurement) => {
                for stored in measurements(ctx, measurement)? {
                    found
                        .entry(stored.name.clone())
                        .or_default()
                        .push(Input::Stored(stored));
                }
            }
            Source::Subquery(subquery) => {
                let series = collect(|give| run(ctx, &subquery.statement, handed_down, give))?;
                for (name, derived) in Derived::of_series(series) {
                    found.entry(name).or_default().push(Input::Derived(derived));
                }
            }
            Source::Join(_) => return Err(QueryError::statement("JOIN is not supported yet")),
        }
    }
    Ok(found)
}

/// The measurements that a source names, sorted by name.
///
/// # Errors
/// No such database or retention policy.
pub fn measurements(
    ctx: &Context<'_>,
    source: &lang::Measurement,
) -> Result<Vec<std::sync::Arc<crate::catalog::Measurement>>, QueryError> {
    let database = ctx.database(source.database.as_deref())?;
    let named = source.retention_policy.as_deref();
    let default = if source.database.is_none() {
        ctx.policy
    } else {
        None
    };
    let policy = ctx.policy(&database, named.or(default))?;
    Ok(match &source.name {
        MeasurementName::Name(name) => ctx.catalog.measurement(policy.id, name).into_iter().collect(),
        MeasurementName::Regex(pattern) => {
            let regex = pattern
                .compile()
                .map_err(|e| QueryError::statement(e.to_string()))?;
            let all = ctx.catalog.measurements(policy.id);
            all.into_iter().filter(|m| regex.is_match(&m.name)).collect()
        }
    })
}

fn expand_dimensions(statement: &SelectStatement, inputs: &[&Input]) -> Result<Vec<String>, QueryError> {
    let mut out = BTreeSet::new();
    for dimension in &statement.dimensions {
        if dimension.time().is_some() {
            continue;
        }
        match dimension.expr.unparen() {
            Expr::VarRef(var) if var.name == "time" => {
                return Err(QueryError::statement(
                    "time() is a function and expects at least one argument",
                ));
            }
            Expr::VarRef(var) => {
                out.insert(var.name.clone());
            }
            Expr::Wildcard(_) => out.extend(tag_keys(inputs)?),
            Expr::Regex(pattern) => {
                let regex = pattern
                    .compile()
                    .map_err(|e| QueryError::statement(e.to_string()))?;
                out.extend(tag_keys(inputs)?.into_iter().filter(|key| regex.is_match(key)));
            }
            _ => return Err(QueryError::statement("only time and tag dimensions allowed")),
        }
    }
    Ok(out.into_iter().collect())
}

/// What the inputs together have under a name.
fn schema(inputs: &[&Input]) -> Result<(BTreeMap<String, FieldType>, BTreeSet<String>), QueryError> {
    let rank = |t: FieldType| match t {
        FieldType::Float => 0,
        FieldType::Integer => 1,
        FieldType::Unsigned => 2,
        FieldType::String => 3,
        FieldType::Boolean => 4,
    };
    let mut fields: BTreeMap<String, FieldType> = BTreeMap::new();
    for (name, field_type) in inputs.iter().flat_map(|i| i.fields()) {
        let known = fields.entry(name).or_insert(field_type);
        if rank(field_type) < rank(*known) {
            *known = field_type;
        }
    }
    Ok((fields, tag_keys(inputs)?))
}

fn tag_keys(inputs: &[&Input]) -> Result<BTreeSet<String>, QueryError> {
    let mut keys = BTreeSet::new();
    for input in inputs {
        keys.extend(input.tag_keys()?);
    }
    Ok(keys)
}

type Fields = Vec<(String, Expr)>;

/// The columns with wildcards and patterns written out; and what the time column is called.
fn expand_fields(
    statement: &SelectStatement,
    inputs: &[&Input],
    dimensions: &[String],
) -> Result<(String, Fields), QueryError> {
    let (fields, tags) = schema(inputs)?;
    let mut time_name = "time".to_string();
    let mut out = Vec::new();
    for field in &statement.fields {
        match field.expr.unparen() {
            Expr::VarRef(var) if var.name == "time" => {
                if let Some(alias) = &field.alias {
                    time_name.clone_from(alias);
                }
            }
            Expr::Wildcard(kind) => {
                for name in names(&fields, &tags, dimensions, *kind, None) {
                    out.push((name.0.clone(), Expr::VarRef(name.1)));
                }
            }
            Expr::Regex(pattern) => {
                let regex = pattern
                    .compile()
                    .map_err(|e| QueryError::statement(e.to_string()))?;
                for name in names(&fields, &tags, dimensions, None, Some(&regex)) {
                    out.push((name.0.clone(), Expr::VarRef(name.1)));
                }
            }
            Expr::Call(call) if has_wildcard(call) => {
                let prefix = field.name();
                let innermost = innermost_call(call);
                let regex = match innermost.args.first().map(Expr::unparen) {
                    Some(Expr::Regex(pattern)) => Some(
                        pattern
                            .compile()
                            .map_err(|e| QueryError::statement(e.to_string()))?,
                    ),
                    Some(Expr::Wildcard(Some(WildcardKind::Tag))) => {
                        return Err(QueryError::statement(format!(
                            "unable to use tag as wildcard in {}()",
                            innermost.name
                        )));
                    }
                    _ => None,
                };
                for (name, field_type) in &fields {
                    if regex.as_ref().is_none_or(|r| r.is_match(name))
                        && wildcard_takes(&innermost.name, *field_type)
                    {
                        let mut expr = field.expr.unparen().clone();
                        put_in(&mut expr, name);
                        out.push((format!("{prefix}_{name}"), expr));
                    }
                }
            }
            Expr::Binary(_) if contains_wildcard(&field.expr) => {
                return Err(
                    QueryError::statement("unsupported expression with wildcard: ").map_text(&field.expr)
                );
            }
            _ => out.push((field.name(), field.expr.clone())),
        }
    }
    if out.is_empty() && !statement.fields.iter().any(|f| contains_wildcard(&f.expr)) {
        return Err(QueryError::statement("at least 1 non-time field must be queried"));
    }
    Ok((time_name, out))
}

impl QueryError {
    fn map_text(self, expr: &Expr) -> Self {
        match self {
            Self::Statement(text) => Self::Statement(format!("{text}{}", expr.column_name())),
            other => other,
        }
    }
}

fn names(
    fields: &BTreeMap<String, FieldType>,
    tags: &BTreeSet<String>,
    dimensions: &[String],
    kind: Option<WildcardKind>,
    regex: Option<&regex::Regex>,
) -> Vec<(String, VarRef)> {
    let mut out: Vec<(String, VarRef)> = Vec::new();
    let wanted = |name: &String| regex.is_none_or(|r| r.is_match(name));
    if kind != Some(WildcardKind::Tag) {
        let field = |name: &String| VarRef {
            kind: Some(lang::DataType::AnyField),
            ..VarRef::new(name.as_str())
        };
        out.extend(fields.keys().filter(|n| wanted(n)).map(|n| (n.clone(), field(n))));
    }
    if kind != Some(WildcardKind::Field) && !(fields.is_empty() && kind.is_none()) {
        let tag = |name: &String| VarRef {
            kind: Some(lang::DataType::Tag),
            ..VarRef::new(name.as_str())
        };
        let tags = tags.iter().filter(|n| wanted(n) && !dimensions.contains(n));
        out.extend(tags.map(|n| (n.clone(), tag(n))));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

fn contains_wildcard(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |e| found |= matches!(e, Expr::Wildcard(_) | Expr::Regex(_)));
    found
}

fn innermost_call(call: &lang::Call) -> &lang::Call {
    match call.args.first().map(Expr::unparen) {
        Some(Expr::Call(inner)) => innermost_call(inner),
        _ => call,
    }
}

fn has_wildcard(call: &lang::Call) -> bool {
    matches!(
        innermost_call(call).args.first().map(Expr::unparen),
        Some(Expr::Wildcard(_) | Expr::Regex(_))
    )
}

fn put_in(expr: &mut Expr, name: &str) {
    if let Expr::Call(call) = expr
        && let Some(first) = call.args.first_mut()
    {
        match first.unparen() {
            Expr::Call(_) => put_in(first, name),
            _ => {
                *first = Expr::VarRef(VarRef {
                    kind: Some(lang::DataType::AnyField),
                    ..VarRef::new(name)
                })
            }
        }
    }
}

fn wildcard_takes(function: &str, field_type: FieldType) -> bool {
    match function {
        "count" | "first" | "last" | "distinct" | "elapsed" | "mode" | "sample" => true,
        "min" | "max" => field_type != FieldType::String,
        _ => !matches!(field_type, FieldType::String | FieldType::Boolean),
    }
}

/// Names that come twice get a number.
fn unique_names(columns: Vec<(String, Node)>) -> Vec<(String, Node)> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let taken: BTreeSet<String> = columns.iter().map(|(name, _)| name.clone()).collect();
    let rename = |(name, node): (String, Node)| {
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count == 1 {
            return (name, node);
        }
        let mut number = *count - 1;
        let mut new = format!("{name}_{number}");
        while taken.contains(&new) {
            number += 1;
            new = format!("{name}_{number}");
        }
        (new, node)
    };
    columns.into_iter().map(rename).collect()
}

fn arguments(call: &lang::Call, least: usize, most: usize) -> Result<(), QueryError> {
    let got = call.args.len();
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(QueryError::statement(if least == most {
        format!(
            "invalid number of arguments for {}, expected {least}, got {got}",
            call.name
        )
    } else if most == usize::MAX {
        format!(
            "invalid number of arguments for {}, expected at least {least}, got {got}",
            call.name
        )
    } else {
        format!(
            "invalid number of arguments for {}, expected at least {least} but no more than {most}, got {got}",
            call.name
        )
    }))
}

/// A positive duration in an argument; `default` when it is not there.
fn unit(call: &lang::Call, at: usize, default: i64) -> Result<i64, QueryError> {
    match call.args.get(at).map(Expr::unparen) {
        None => Ok(default),
        Some(Expr::Duration(unit)) if *unit > 0 => Ok(*unit),
        Some(Expr::Duration(_)) => Err(QueryError::statement(format!(
            "duration argument must be positive, got {}",
            "0s"
        ))),
        Some(_) => {
            let which = if at == 1 { "second" } else { "third" };
            Err(QueryError::statement(format!(
                "{which} argument to {} must be a duration",
                call.name
            )))
        }
    }
}

/// Compiles a call and what is in it; gives its number.
fn compile_call(
    expr: &Expr,
    refs: &mut Refs,
    calls: &mut Vec<Call>,
    step: Option<i64>,
) -> Result<Node, QueryError> {
    const SECOND: i64 = 1_000_000_000;
    let owned;
    let call = match expr {
        Expr::Call(call) => call,
        Expr::Distinct(var) => {
            owned = lang::Call {
                name: "distinct".into(),
                args: vec![Expr::VarRef(var.clone())],
                at: var.at,
            };
            &owned
        }
        _ => return Err(QueryError::statement("a function is expected here")),
    };
    let transform = match call.name.as_str() {
        "derivative" | "non_negative_derivative" => {
            arguments(call, 1, 2)?;
            let nested = matches!(call.args[0].unparen(), Expr::Call(_));
            let default = if nested { step.unwrap_or(SECOND) } else { SECOND };
            let non_negative = call.name.starts_with("non_negative");
            Some(Transform::Derivative {
                unit: unit(call, 1, default)?,
                non_negative,
            })
        }
        "difference" | "non_negative_difference" => {
            arguments(call, 1, 1)?;
            Some(Transform::Difference {
                non_negative: call.name.starts_with("non_negative"),
            })
        }
        "elapsed" => {
            arguments(call, 1, 2)?;
            Some(Transform::Elapsed {
                unit: unit(call, 1, 1)?,
            })
        }
        "cumulative_sum" => {
            arguments(call, 1, 1)?;
            Some(Transform::CumulativeSum)
        }
        "moving_average" => {
            arguments(call, 2, 2)?;
            match call.args[1].unparen() {
                Expr::Integer(n) if *n > 1 => Some(Transform::MovingAverage { points: *n as usize }),
                Expr::Integer(n) => {
                    return Err(QueryError::statement(format!(
                        "moving_average window must be greater than 1, got {n}"
                    )));
                }
                _ => {
                    return Err(QueryError::statement(
                        "second argument for moving_average must be an integer, got ",
                    )
                    .map_text(&call.args[1]));
                }
            }
        }
        _ => None,
    };
    let new = match transform {
        Some(transform) => {
            let inner = match call.args[0].unparen() {
                inner @ (Expr::Call(_) | Expr::Distinct(_)) if !matches!(inner, Expr::Call(c) if math::arity(&c.name).is_some()) =>
                {
                    if step.is_none() {
                        return Err(QueryError::statement(format!(
                            "{} aggregate requires a GROUP BY interval",
                            call.name
                        )));
                    }
                    match compile_call(inner, refs, calls, step)? {
                        Node::Call(number) => number,
                        _ => unreachable!("a call compiles to a call"),
                    }
                }
                raw => {
                    if step.is_some() {
                        return Err(QueryError::statement(format!(
                            "aggregate function required inside the call to {}",
                            call.name
                        )));
                    }
                    let argument = argument(call, raw, refs)?;
                    put(
                        calls,
                        Call::Aggregate {
                            function: Aggregate::Sequence,
                            argument,
                        },
                    )
                }
            };
            Call::Transform { transform, inner }
        }
        None => aggregate(call, refs, step)?,
    };
    Ok(Node::Call(put(calls, new)))
}

fn put(calls: &mut Vec<Call>, call: Call) -> usize {
    calls.push(call);
    calls.len() - 1
}

fn argument(call: &lang::Call, expr: &Expr, refs: &mut Refs) -> Result<Node, QueryError> {
    match expr.unparen() {
        Expr::VarRef(_) | Expr::Binary(_) | Expr::Case(_) => {}
        Expr::Call(inner) if math::arity(&inner.name).is_some() => {}
        _ => {
            return Err(QueryError::statement(format!(
                "expected field argument in {}()",
                call.name
            )));
        }
    }
    let mut nested = |inner: &Expr, _: &mut Refs| {
        let _ = inner;
        Err(QueryError::statement(format!(
            "expected field argument in {}()",
            call.name
        )))
    };
    compile(expr, refs, &mut nested)
}

fn aggregate(call: &lang::Call, refs: &mut Refs, _step: Option<i64>) -> Result<Call, QueryError> {
    let count_of = |at: usize| match call.args.get(at).map(Expr::unparen) {
        Some(Expr::Integer(n)) if *n > 0 => Ok(*n as usize),
        Some(Expr::Integer(n)) => Err(QueryError::statement(format!(
            "limit ({n}) in {} function must be at least 1",
            call.name
        ))),
        _ => Err(QueryError::statement(format!(
            "expected integer as last argument in {}(), found ",
            call.name
        ))
        .map_text(&call.args[at])),
    };
    let mut first = call.args.first();
    let function = match call.name.as_str() {
        "count" => {
            arguments(call, 1, 1)?;
            match call.args[0].unparen() {
                Expr::Distinct(var) => {
                    let argument = Node::Ref(refs.number(var), None);
                    return Ok(Call::Aggregate {
                        function: Aggregate::CountDistinct,
                        argument,
                    });
                }
                Expr::Call(inner) if inner.name == "distinct" => {
                    arguments(inner, 1, 1)?;
                    first = inner.args.first();
                    Aggregate::CountDistinct
                }
                _ => Aggregate::Count,
            }
        }
        "sum" => Aggregate::Sum,
        "mean" => Aggregate::Mean,
        "min" => Aggregate::Min,
        "max" => Aggregate::Max,
        "first" => Aggregate::First,
        "last" => Aggregate::Last,
        "spread" => Aggregate::Spread,
        "stddev" => Aggregate::Stddev,
        "median" => Aggregate::Median,
        "mode" => Aggregate::Mode,
        "distinct" => Aggregate::Distinct,
        "percentile" => {
            arguments(call, 2, 2)?;
            match call.args[1].unparen() {
                Expr::Integer(p) => Aggregate::Percentile(*p as f64),
                Expr::Number(p) => Aggregate::Percentile(*p),
                _ => return Err(QueryError::statement("expected float argument in percentile()")),
            }
        }
        "integral" => {
            arguments(call, 1, 2)?;
            Aggregate::Integral(unit(call, 1, 1_000_000_000)?)
        }
        "sample" => {
            arguments(call, 2, 2)?;
            Aggregate::Sample(count_of(1)?)
        }
        "top" | "bottom" => {
            arguments(call, 2, usize::MAX)?;
            let n = count_of(call.args.len() - 1)?;
            let tags = &call.args[1..call.args.len() - 1];
            let mut beside = Vec::new();
            for tag in tags {
                match tag.unparen() {
                    Expr::VarRef(var) => beside.push(refs.number(var)),
                    _ => {
                        return Err(QueryError::statement(format!(
                            "only fields or tags are allowed in {}(), found ",
                            call.name
                        ))
                        .map_text(tag));
                    }
                }
            }
            let apart = tags.len();
            let function = match call.name.as_str() {
                "top" => Aggregate::Top { n, apart },
                _ => Aggregate::Bottom { n, apart },
            };
            let argument = argument(call, &call.args[0], refs)?;
            return Ok(if apart > 0 {
                Call::Ranked {
                    function,
                    argument,
                    beside,
                }
            } else {
                Call::Aggregate { function, argument }
            });
        }
        _ => {
            return Err(QueryError::statement(format!(
                "undefined function {}()",
                call.name
            )));
        }
    };
    if !matches!(
        function,
        Aggregate::Percentile(_) | Aggregate::Integral(_) | Aggregate::Sample(_) | Aggregate::CountDistinct
    ) {
        arguments(call, 1, 1)?;
    }
    let Some(first) = first else {
        return Err(QueryError::statement(format!(
            "expected field argument in {}()",
            call.name
        )));
    };
    Ok(Call::Aggregate {
        function,
        argument: argument(call, first, refs)?,
    })
}

/// Which columns may stand beside each other.
fn check_mix(prepared: &Prepared) -> Result<(), QueryError> {
    if prepared.calls.is_empty() {
        return Ok(());
    }
    let mut plain = Vec::new();
    prepared
        .columns
        .iter()
        .for_each(|(_, node)| node.references(&mut plain));
    let functions: Vec<Aggregate> = prepared
        .calls
        .iter()
        .filter_map(Call::function)
        .copied()
        .collect();
    let many = functions
        .iter()
        .any(|f| matches!(f, Aggregate::Top { .. } | Aggregate::Bottom { .. }));
    if many && functions.len() > 1 {
        let name = if matches!(functions[0], Aggregate::Bottom { .. }) {
            "bottom"
        } else {
            "top"
        };
        return Err(QueryError::statement(format!(
            "selector function {name}() cannot be combined with other functions"
        )));
    }
    if functions.len() > 1 && functions.contains(&Aggregate::Distinct) {
        return Err(QueryError::statement(
            "aggregate function distinct() cannot be combined with other functions or fields",
        ));
    }
    if plain.is_empty() {
        return Ok(());
    }
    if functions.iter().all(|f| f.is_selector()) {
        if functions.len() > 1 {
            return Err(QueryError::statement(
                "mixing multiple selector functions with tags or fields is not supported",
            ));
        }
        return Ok(());
    }
    Err(QueryError::statement(
        "mixing aggregate and non-aggregate queries is not supported",
    ))
}
