//! SELECT: checks it, finds what it reads, writes out wildcards, compiles its columns, and runs it by way of
//! [`super::exec`].

use super::build::{Builder, lead_of};
use super::carry::Carry;
use super::check::{self, Grouping};
use super::condition::split_time;
use super::context::Context;
use super::error::QueryError;
use super::exec::{self, Prepared};
use super::expand::{self, Schema};
use super::fill::{self, Before};
use super::from::{held, sources};
use super::input::Input;
use super::join;
use super::node::Node;
use super::reduce::reduce;
use super::result::{Give, Piece, Series, collect};
use super::time::zone;
use super::types::type_of;
use super::value::Value;
use super::windows::Windows;
use crate::lang::{DataType, Dimension, Expr, Fill, SelectStatement, VarRef};
use crate::model::{FieldType, TimeRange};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

pub use super::from::measurements;

/// Subqueries below each other.
const DEPTH_MAX: usize = 64;

/// What an outer SELECT hands down to its subqueries.
#[derive(Clone, Debug)]
pub(super) struct Outer {
    /// They read nothing else.
    pub time: TimeRange,
    /// Tags that the outer SELECT groups by.
    pub dimensions: Vec<String>,
    /// Windows of the outer SELECT, for a subquery that has functions and no windows of its own.
    pub windows: Option<Windows>,
    /// Small times first.
    pub ascending: bool,
    /// SELECTs around it.
    pub depth: usize,
}

/// Gives the inputs of a SELECT by name.
pub(super) type Read<'a> = dyn FnMut(&Outer) -> Result<BTreeMap<String, Vec<Input>>, QueryError> + 'a;

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
        windows: None,
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
    Windows::of(statement, now, &zone(statement.tz.as_deref())?)
}

pub(super) fn run(
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
    let statement = &reduced(statement);
    if join::is_join(statement) {
        return join::run(ctx, statement, outer, give);
    }
    run_over(
        ctx,
        statement,
        outer,
        &mut |handed_down| sources(ctx, statement, handed_down),
        give,
    )
}

/// Runs a SELECT over what `read` gives, which is told what the statement hands down.
pub(super) fn run_over(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    outer: &Outer,
    read: &mut Read<'_>,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let zone = zone(statement.tz.as_deref())?;
    let (time, condition) = split_time(statement.condition.as_ref(), ctx.now, &zone)?;
    if let Some(condition) = &condition {
        check::check_condition(condition)?;
    }
    let own = Windows::of(statement, ctx.now, &zone)?;
    let grouping = match (&own, &outer.windows) {
        (Some(_), _) => Grouping::Windows,
        (None, Some(_)) => Grouping::Inherited,
        (None, None) => Grouping::None,
    };
    check::check(statement, grouping)?;
    let mut time = time.intersect(&outer.time);
    // Windows without an end would go on for ever.
    if own.is_some() && time.max == TimeRange::ALL.max {
        time.max = ctx.now;
    }
    if time.is_empty() {
        return Ok(());
    }
    let has_functions = statement.fields.iter().any(|field| calls_function(&field.expr));
    let windows = own.or_else(|| outer.windows.clone()).filter(|_| has_functions);
    let lead = statement
        .fields
        .iter()
        .map(|field| lead_of(&field.expr))
        .max()
        .unwrap_or(0);
    let handed_down = Outer {
        time: extended(time, windows.as_ref(), lead),
        dimensions: union(&plain_dimensions(statement), &outer.dimensions),
        windows: windows.clone(),
        ascending: outer.ascending,
        depth: outer.depth + 1,
    };
    let sources = read(&handed_down)?;
    let inputs: Vec<&Input> = sources.values().flatten().collect();
    let schema = schema(&inputs)?;
    let own_dimensions = expand::dimensions(&statement.dimensions, &schema)?;
    let (time_name, columns) = expand::columns(statement, &schema, &own_dimensions)?;

    let kind = |var: &VarRef| kind_of(var, &schema);
    let mut builder = Builder::new(windows.as_ref(), &kind);
    let mut nodes = Vec::new();
    for column in &columns {
        type_of(&column.expr, &kind)?;
        nodes.push((column.name.clone(), builder.column(&column.expr)?));
    }
    let lead = builder.find_leads();
    let made = builder.made();
    let (calls, leads, refs) = (builder.calls, builder.leads, builder.refs);
    let fill = match statement.fill {
        Fill::Null if outer.depth > 0 && !calls.is_empty() => Fill::None,
        fill => fill,
    };
    let sorted_by = sorted_by(statement, &nodes)?;
    // A number in place of a text or a boolean makes a column of several types: that is for the finished rows.
    let mut defaults: Vec<Option<Value>> = Vec::new();
    let mut columns = Vec::new();
    for (name, node) in nodes {
        let later = calls.is_empty() && matches!(node, Node::Ref(..));
        defaults.push(fill_value(fill).filter(|_| later));
        columns.push((name, if later { node } else { filled(node, fill) }));
    }
    let mut with_defaults = |mut piece: Piece| {
        for (column, default) in piece.series.values.iter_mut().zip(&defaults) {
            if let Some(value) = default {
                column.replace_nulls(value);
            }
        }
        give(piece)
    };
    let give: &mut Give<'_> = &mut with_defaults;
    let mut prepared = Prepared {
        columns,
        time_name,
        read: extended(time, windows.as_ref(), lead),
        calls,
        leads,
        refs,
        condition,
        dimensions: union(&own_dimensions, &outer.dimensions),
        time,
        windows,
        fill,
        ascending: outer.ascending,
        limit: if sorted_by.is_some() { 0 } else { statement.limit },
        offset: if sorted_by.is_some() { 0 } else { statement.offset },
    };
    if prepared.fill == Fill::Previous && prepared.calls.is_empty() {
        let carry = Carry::take_over(&mut prepared);
        let found = held(ctx, |give| all_names(ctx, &sources, &prepared, statement, give))?;
        let rows = found.iter().map(|series| carry.rows(series, prepared.ascending));
        let rows = rows.filter(|series| series.rows() > 0).collect();
        give_each(
            match sorted_by {
                Some(by) => by.sort(rows, statement),
                None => rows,
            },
            give,
        );
        return Ok(());
    }
    if let Some(before) = Before::take_over(ctx, statement, outer, &sources, &made, &mut prepared) {
        let all = SelectStatement {
            slimit: 0,
            soffset: 0,
            ..statement.clone()
        };
        let found = held(ctx, |give| all_names(ctx, &sources, &prepared, &all, give))?;
        let found = before.complete(found)?;
        give_each(
            match sorted_by {
                Some(by) => by.sort(found, statement),
                None => paged(found, statement, prepared.ascending),
            },
            give,
        );
        return Ok(());
    }
    if let Some(by) = sorted_by {
        let mut found = held(ctx, |give| all_names(ctx, &sources, &prepared, statement, give))?;
        if found.is_empty() {
            found = fill::all_empty(ctx, &sources, &prepared)?;
        }
        give_each(by.sort(found, statement), give);
        return Ok(());
    }
    let mut some = false;
    all_names(ctx, &sources, &prepared, statement, &mut |piece| {
        some = true;
        give(piece)
    })?;
    // SLIMIT or SOFFSET may leave nothing of what there is.
    if !some && (statement.slimit, statement.soffset) == (0, 0) && statement.offset == 0 {
        give_each(fill::all_empty(ctx, &sources, &prepared)?, give);
    }
    Ok(())
}

/// SLIMIT and SOFFSET of the series of all names. They count in ascending order, whatever the order of the answer.
fn paged(mut found: Vec<Series>, statement: &SelectStatement, ascending: bool) -> Vec<Series> {
    if (statement.slimit, statement.soffset) == (0, 0) {
        return found;
    }
    if !ascending {
        found.reverse();
    }
    let mut by_name: BTreeMap<String, Vec<Series>> = BTreeMap::new();
    for series in found {
        by_name.entry(series.name.clone()).or_default().push(series);
    }
    let kept = by_name.into_values().map(|all| Page::of(statement).series(all));
    let mut kept: Vec<Series> = kept.flatten().collect();
    if !ascending {
        kept.reverse();
    }
    kept
}

fn give_each(all: Vec<Series>, give: &mut Give<'_>) {
    for series in all {
        if give(Piece::whole(series)).is_break() {
            return;
        }
    }
}

/// The statement with constants worked out.
fn reduced(statement: &SelectStatement) -> SelectStatement {
    let mut out = statement.clone();
    for field in &mut out.fields {
        field.expr = reduce(&field.expr);
    }
    for dimension in &mut out.dimensions {
        if let Expr::Call(call) = &mut dimension.expr {
            // `now()` in an offset is for the windows to work out.
            call.args.iter_mut().for_each(|arg| *arg = reduce(arg));
        }
    }
    out
}

/// Runs over the inputs of all names, in the order of the answer.
fn all_names(
    ctx: &Context<'_>,
    sources: &BTreeMap<String, Vec<Input>>,
    prepared: &Prepared,
    statement: &SelectStatement,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let mut names: Vec<_> = sources.iter().collect();
    if !prepared.ascending {
        names.reverse();
    }
    for (name, inputs) in names {
        if one_name(ctx, name, inputs, prepared, statement, give)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Runs over the inputs of one name. SLIMIT and SOFFSET count its series, in ascending order whatever the order of the answer.
fn one_name(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    statement: &SelectStatement,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let sorted = statement.sort_fields.iter().any(|sort| !sort.is_time());
    if (statement.slimit, statement.soffset) == (0, 0) || sorted {
        return exec::run(ctx, name, inputs, prepared, give);
    }
    let mut page = Page::of(statement);
    if prepared.ascending {
        let mut stopped = false;
        let _ = exec::run(ctx, name, inputs, prepared, &mut |piece| {
            page.piece(piece, &mut |piece| {
                let flow = give(piece);
                stopped |= flow.is_break();
                flow
            })
        })?;
        return Ok(if stopped {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        });
    }
    let mut found = collect(|give| exec::run(ctx, name, inputs, prepared, give).map(drop))?;
    found.reverse();
    let mut kept = page.series(found);
    kept.reverse();
    for series in kept {
        if give(Piece::whole(series)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// SLIMIT and SOFFSET: which series of the answer are given away.
struct Page {
    skip: u64,
    left: u64,
}

impl Page {
    fn of(statement: &SelectStatement) -> Self {
        let left = match statement.slimit {
            0 => u64::MAX,
            limit => limit,
        };
        Self {
            skip: statement.soffset,
            left,
        }
    }

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

    fn series(&self, series: Vec<Series>) -> Vec<Series> {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        series.into_iter().skip(skip).take(left).collect()
    }
}

/// An extension: `ORDER BY` a column.
struct SortBy {
    column: usize,
    ascending: bool,
}

fn sorted_by(statement: &SelectStatement, columns: &[(String, Node)]) -> Result<Option<SortBy>, QueryError> {
    let Some(sort) = statement.sort_fields.iter().find(|sort| !sort.is_time()) else {
        return Ok(None);
    };
    let name = sort.name.as_deref().unwrap_or_default();
    match columns.iter().position(|(column, _)| column == name) {
        Some(column) => Ok(Some(SortBy {
            column,
            ascending: sort.ascending,
        })),
        None => Err(QueryError::statement(format!(
            "ORDER BY {name}: only time and columns of the SELECT can be sorted by"
        ))),
    }
}

impl SortBy {
    /// Sorts the rows of each series, then series by their first row; and takes the limits.
    fn sort(&self, found: Vec<Series>, statement: &SelectStatement) -> Vec<Series> {
        let compare = |a: &Value, b: &Value| match (a.is_null(), b.is_null()) {
            // What has no value comes last, whatever the direction.
            (true, true) => std::cmp::Ordering::Equal,
            (true, false) => std::cmp::Ordering::Greater,
            (false, true) => std::cmp::Ordering::Less,
            _ if self.ascending => a.total_order(b),
            _ => b.total_order(a),
        };
        let mut all: Vec<(Value, Series)> = found
            .into_iter()
            .map(|series| {
                let keys: Vec<Value> = (0..series.rows())
                    .map(|row| series.values[self.column].value(row))
                    .collect();
                let mut order: Vec<usize> = (0..keys.len()).collect();
                order.sort_by(|a, b| compare(&keys[*a], &keys[*b]));
                let first = order.first().map(|row| keys[*row].clone()).unwrap_or_default();
                let mut sorted = series.gather(&order);
                sorted.limit(statement.limit, statement.offset);
                (first, sorted)
            })
            .filter(|(_, series)| series.rows() > 0)
            .collect();
        all.sort_by(|(a, _), (b, _)| compare(a, b));
        Page::of(statement).series(all.into_iter().map(|(_, series)| series).collect())
    }
}

/// In a row where something has no value, `fill(n)` puts a number.
fn filled(node: Node, fill: Fill) -> Node {
    match fill_value(fill) {
        Some(value) => node.with_default(&value),
        None => node,
    }
}

fn fill_value(fill: Fill) -> Option<Value> {
    match fill {
        Fill::Integer(n) => Some(Value::Integer(n)),
        Fill::Float(n) => Some(Value::Float(n)),
        _ => None,
    }
}

/// The times that have to be read for so many windows before the first one.
fn extended(time: TimeRange, windows: Option<&Windows>, lead: i64) -> TimeRange {
    TimeRange {
        min: exec::read_from(time.min, windows, lead),
        ..time
    }
}

/// Does it call a function of points?
fn calls_function(expr: &Expr) -> bool {
    let mut found = matches!(expr, Expr::Distinct(_));
    expr.visit_calls(&mut |call| found |= super::functions::family(&call.name).is_some());
    found
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

/// What the inputs together have under a name.
fn schema(inputs: &[&Input]) -> Result<Schema, QueryError> {
    let mut schema = Schema::default();
    for input in inputs {
        for (name, field_type) in input.fields() {
            schema.add(name, field_type);
        }
        schema.tags.extend(input.tag_keys()?);
    }
    Ok(schema)
}

/// What a reference is.
fn kind_of(var: &VarRef, schema: &Schema) -> Option<DataType> {
    let field = schema.fields.get(&var.name).map(|field_type| match field_type {
        FieldType::Float => DataType::Float,
        FieldType::Integer => DataType::Integer,
        FieldType::Unsigned => DataType::Unsigned,
        FieldType::String => DataType::String,
        FieldType::Boolean => DataType::Boolean,
    });
    let tag = schema.tags.contains(&var.name).then_some(DataType::Tag);
    match var.kind {
        None => field.or(tag),
        Some(DataType::Tag) => tag,
        Some(DataType::AnyField) => field,
        // A cast of what is no such field gives nothing.
        Some(cast) => field.map(|_| cast),
    }
}
