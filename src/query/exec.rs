//! Runs a compiled SELECT over the inputs of one name: raw rows, or calls by group and window.

use super::condition::split_tags;
use super::context::Context;
use super::error::QueryError;
use super::extension::Fold;
use super::finish::Finisher;
use super::folds;
use super::functions::aggregate::{Aggregate, Picked, Run, State};
use super::functions::transform::Transform;
use super::input::{Groups, Input, InputRequest, Resolved, Rows, Wanted};
use super::node::{Environment, Node, Only, Refs, compile};
use super::result::{Give, Piece, ResultColumn, Series};
use super::rolling;
use super::value::{self, Value};
use super::windows::Windows;
use crate::lang::{BinaryOp, DataType, Expr, Fill, VarRef};
use crate::model::{Column, FieldType, TimeRange, time::TIME_MIN};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A SELECT ready to run.
pub struct Prepared {
    /// Names and what they compute.
    pub columns: Vec<(String, Node)>,
    /// What the first column is called.
    pub time_name: String,
    /// Calls; those inside others come first.
    pub calls: Vec<Call>,
    /// For each call, how many windows before the first it gives, for the functions built on it.
    pub leads: Vec<i64>,
    /// References to fields and tags.
    pub refs: Refs,
    /// WHERE without time.
    pub condition: Option<Expr>,
    /// Tags of GROUP BY, sorted.
    pub dimensions: Vec<String>,
    /// Which times.
    pub time: TimeRange,
    /// Which times are read: also what the first windows of some functions need from before.
    pub read: TimeRange,
    /// `GROUP BY time(..)`.
    pub windows: Option<Windows>,
    /// What stands in empty windows.
    pub fill: Fill,
    /// Small times first.
    pub ascending: bool,
    /// Rows of a series; 0 for all.
    pub limit: u64,
    /// Rows left out before them.
    pub offset: u64,
}

/// A call.
#[derive(Debug)]
pub enum Call {
    /// A function of a set of points.
    Aggregate {
        /// Which.
        function: Aggregate,
        /// Of what.
        argument: Node,
    },
    /// `top(field, tag, .., n)`.
    Ranked {
        /// `top` or `bottom`.
        function: Aggregate,
        /// Of what.
        argument: Node,
        /// References whose values stand beside the result, one row for each combination.
        beside: Vec<usize>,
    },
    /// A function of the points another call gives.
    Transform {
        /// Which.
        transform: Transform,
        /// Number of the call.
        inner: usize,
    },
    /// A function of several fields, or of each series: see `folds`.
    Fold {
        /// Which.
        fold: Fold,
        /// Of what.
        arguments: Vec<Node>,
    },
}

impl Prepared {
    /// The first time that a call looks at.
    pub fn since(&self, call: usize) -> i64 {
        let lead = self.leads[call];
        read_from(self.time.min, self.windows.as_ref(), lead)
    }
}

/// The first time that has to be read for the windows from `min` on and so many before them.
pub fn read_from(min: i64, windows: Option<&Windows>, lead: i64) -> i64 {
    let Some(windows) = windows.filter(|_| min > TIME_MIN) else {
        return min;
    };
    let min = match lead {
        0 => min,
        _ if windows.months > 0 => windows.back(windows.start(min), lead),
        _ => min.saturating_sub(windows.step.saturating_mul(lead)),
    };
    match windows.over {
        Some(_) => rolling::reach(windows, windows.start(min)),
        None => min,
    }
}

impl Call {
    /// The function, if it is one of sets.
    pub fn function(&self) -> Option<&Aggregate> {
        match self {
            Self::Aggregate { function, .. } | Self::Ranked { function, .. } => Some(function),
            Self::Transform { .. } | Self::Fold { .. } => None,
        }
    }

    fn argument(&self) -> Option<&Node> {
        match self {
            Self::Aggregate { argument, .. } | Self::Ranked { argument, .. } => Some(argument),
            Self::Transform { .. } | Self::Fold { .. } => None,
        }
    }
}

/// Runs it over the inputs of one name; series are sorted by tags.
///
/// # Errors
/// A limit, cancelled, damage, types that do not fit.
pub fn run(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let mut groups = Groups::default();
    let found = if prepared.calls.is_empty() {
        raw(ctx, inputs, prepared, &mut groups)?
    } else {
        aggregated(ctx, inputs, prepared, &mut groups)?
    };
    let mut columns = vec![prepared.time_name.clone()];
    columns.extend(prepared.columns.iter().map(|(name, _)| name.clone()));
    let mut order: Vec<usize> = (0..found.len()).filter(|&g| !found[g].times.is_empty()).collect();
    order.sort_by(|a, b| groups.list[*a].cmp(&groups.list[*b]));
    if !prepared.ascending {
        order.reverse();
    }
    let mut found: Vec<Option<Found>> = found.into_iter().map(Some).collect();
    let columns: Arc<[String]> = columns.into();
    for group in order {
        let Some(rows) = found[group].take() else { continue };
        let values = groups.list[group].iter().map(|v| v.to_string());
        let mut series = Series {
            name: name.to_string(),
            tags: prepared.dimensions.iter().cloned().zip(values).collect(),
            columns: columns.clone(),
            times: rows.times,
            values: (0..columns.len() - 1)
                .map(|at| {
                    let mut column = ResultColumn::default();
                    let cells = rows.values.iter().skip(at).step_by(columns.len() - 1);
                    cells.for_each(|value| column.push(value.clone()));
                    column
                })
                .collect(),
        };
        if !prepared.ascending {
            series.reverse();
        }
        series.limit(prepared.limit, prepared.offset);
        if !series.times.is_empty() && give(Piece::whole(series)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Rows of a group, ascending in time.
#[derive(Default)]
pub(super) struct Found {
    /// One a row.
    pub times: Vec<i64>,
    /// Row by row, one for each column.
    pub values: Vec<Value>,
}

/// An input with what a statement wants of it.
pub(super) struct Plan<'a> {
    input: &'a Input,
    pub wanted: Wanted,
    predicate: crate::catalog::TagPredicate,
    rest: Option<Node>,
}

pub(super) fn plan<'a>(input: &'a Input, prepared: &Prepared) -> Result<Plan<'a>, QueryError> {
    let is_tag = |var: &VarRef| match var.kind {
        Some(DataType::Tag) => true,
        Some(_) => false,
        None => input.field_type(&var.name).is_none(),
    };
    let (predicate, rest) = split_tags(prepared.condition.as_ref(), &is_tag)?;
    let mut refs = prepared.refs.clone();
    let mut no_calls = |_: &Expr, _: &mut Refs| Err(QueryError::statement("functions cannot stand in WHERE"));
    let rest = rest
        .map(|expr| compile(&expr, &mut refs, &mut no_calls))
        .transpose()?;
    let wanted = input.resolve(refs.list());
    Ok(Plan {
        input,
        wanted,
        predicate,
        rest,
    })
}

/// A row of an input as the environment of its expressions.
pub(super) struct RowOf<'a> {
    pub rows: &'a Rows<'a>,
    pub resolved: &'a [Resolved],
    pub row: usize,
    /// In conditions a missing tag is an empty text.
    pub condition: bool,
}

impl Environment for RowOf<'_> {
    fn time(&self) -> i64 {
        self.rows.times[self.row]
    }

    fn reference(&self, number: usize) -> Value {
        let resolved = self.resolved[number];
        match (self.rows.value(resolved, self.row), resolved) {
            (Value::Null, Resolved::Tag(_)) if self.condition => Value::String("".into()),
            (value, _) => value,
        }
    }

    fn call(&self, _: usize) -> Value {
        Value::Null
    }
}

impl Plan<'_> {
    /// Visits the rows that satisfy the condition; `None` for all of them, else which.
    pub(super) fn scan(
        &self,
        ctx: &Context<'_>,
        prepared: &Prepared,
        time: TimeRange,
        groups: &mut Groups,
        visit: &mut dyn FnMut(&Rows<'_>, Option<&[u32]>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        let request = InputRequest {
            wanted: &self.wanted,
            dimensions: &prepared.dimensions,
            predicate: &self.predicate,
            time,
        };
        let mut chosen = Vec::new();
        self.input.scan(ctx, &request, groups, &mut |rows| {
            let Some(rest) = &self.rest else {
                return visit(rows, None);
            };
            chosen.clear();
            self.filter(rest, rows, &mut chosen);
            if chosen.is_empty() {
                Ok(ControlFlow::Continue(()))
            } else {
                visit(rows, Some(&chosen))
            }
        })
    }

    fn filter(&self, rest: &Node, rows: &Rows<'_>, chosen: &mut Vec<u32>) {
        // The common case, `field op constant` over floats, without a tree walk a row.
        if let Node::Binary(op, sides) = rest
            && let (Node::Ref(number, None), Node::Constant(constant)) = (&sides.0, &sides.1)
            && let Resolved::Field(at) = self.wanted.resolved[*number]
            && let Some(column) = rows.columns[at].column
            && let (crate::model::Values::Float(values), Some(bound)) = (&column.values, constant.as_f64())
        {
            let start = rows.columns[at].start;
            let keep = |test: &dyn Fn(f64) -> bool, chosen: &mut Vec<u32>| {
                let slice = &values[start..start + rows.times.len()];
                let hits = slice
                    .iter()
                    .enumerate()
                    .filter(|(i, v)| test(**v) && column.has(start + i));
                chosen.extend(hits.map(|(i, _)| i as u32));
            };
            match op {
                BinaryOp::Gt => return keep(&|v| v > bound, chosen),
                BinaryOp::Gte => return keep(&|v| v >= bound, chosen),
                BinaryOp::Lt => return keep(&|v| v < bound, chosen),
                BinaryOp::Lte => return keep(&|v| v <= bound, chosen),
                BinaryOp::Eq => return keep(&|v| v == bound, chosen),
                BinaryOp::Neq => return keep(&|v| v != bound, chosen),
                _ => {}
            }
        }
        for row in 0..rows.times.len() {
            let env = RowOf {
                rows,
                resolved: &self.wanted.resolved,
                row,
                condition: true,
            };
            if rest.eval(&env) == Value::Boolean(true) {
                chosen.push(row as u32);
            }
        }
    }
}

fn too_many(ctx: &Context<'_>) -> QueryError {
    let limit = ctx.limits.values_max;
    QueryError::Limit(format!(
        "the query holds too many values (query_values_max {limit}); narrow its time or series"
    ))
}

/// SELECT without calls.
fn raw(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
    groups: &mut Groups,
) -> Result<Vec<Found>, QueryError> {
    // Rows of all series of a group, to be sorted by time when they are not.
    #[derive(Default)]
    struct Gathered {
        found: Found,
        /// First row of the series that is being gathered.
        series_start: usize,
        series: Option<(usize, u64)>,
        unsorted: bool,
    }
    let width = prepared.columns.len();
    let mut gathered: Vec<Gathered> = Vec::new();
    let mut held = 0usize;
    // No series gives more rows than the limit asks for: the first ones, or the last ones.
    let rows_max = match prepared.limit {
        0 => usize::MAX,
        limit => usize::try_from(limit.saturating_add(prepared.offset)).unwrap_or(usize::MAX),
    };
    for (number, input) in inputs.iter().enumerate() {
        let plan = plan(input, prepared)?;
        let mut used = Vec::new();
        prepared
            .columns
            .iter()
            .for_each(|(_, node)| node.references(&mut used));
        let is_field = |r: &usize| matches!(plan.wanted.resolved[*r], Resolved::Field(_));
        if !used.iter().any(is_field) {
            // Tags alone select nothing.
            continue;
        }
        let fields: Vec<Resolved> = used
            .iter()
            .map(|r| plan.wanted.resolved[*r])
            .filter(|r| matches!(r, Resolved::Field(_)))
            .collect();
        let stored = matches!(input, Input::Stored(_));
        plan.scan(ctx, prepared, prepared.time, groups, &mut |rows, chosen| {
            if gathered.len() <= rows.group {
                gathered.resize_with(rows.group + 1, Gathered::default);
            }
            let to = &mut gathered[rows.group];
            if to.series != Some((number, rows.series)) {
                to.series = Some((number, rows.series));
                to.series_start = to.found.times.len();
            }
            let mut take = |row: usize, to: &mut Gathered| {
                if prepared.ascending && to.found.times.len() - to.series_start >= rows_max {
                    return;
                }
                // A row that a subquery gave is a row, whatever is in it.
                if stored && fields.iter().all(|f| rows.value(*f, row).is_null()) {
                    return;
                }
                let env = RowOf {
                    rows,
                    resolved: &plan.wanted.resolved,
                    row,
                    condition: false,
                };
                let time = rows.times[row];
                to.unsorted |= to.found.times.last().is_some_and(|last| *last > time);
                to.found.times.push(time);
                to.found
                    .values
                    .extend(prepared.columns.iter().map(|(_, node)| node.eval(&env)));
                held += width;
            };
            match chosen {
                Some(chosen) => chosen.iter().for_each(|&row| take(row as usize, to)),
                None if !prepared.ascending
                    && stored
                    && rows_max < rows.times.len()
                    && fields.len() == used.len() =>
                {
                    // Only the end can be wanted; rows without any value are rare enough to be looked through from there.
                    let mut left = rows_max;
                    let mut first = rows.times.len();
                    while first > 0 && left > 0 {
                        first -= 1;
                        left -= usize::from(!fields.iter().all(|f| rows.value(*f, first).is_null()));
                    }
                    (first..rows.times.len()).for_each(|row| take(row, to));
                }
                None => (0..rows.times.len()).for_each(|row| take(row, to)),
            }
            let of_series = to.found.times.len() - to.series_start;
            if !prepared.ascending && of_series > rows_max {
                let surplus = of_series - rows_max;
                let start = to.series_start;
                to.found.times.drain(start..start + surplus);
                to.found.values.drain(start * width..(start + surplus) * width);
                held -= surplus * width;
            }
            if held > ctx.limits.values_max {
                Err(too_many(ctx))
            } else {
                Ok(ControlFlow::Continue(()))
            }
        })?;
    }
    let sorted = gathered.into_iter().map(|g| {
        if !g.unsorted {
            return g.found;
        }
        let mut order: Vec<usize> = (0..g.found.times.len()).collect();
        order.sort_by_key(|&row| g.found.times[row]);
        Found {
            times: order.iter().map(|&row| g.found.times[row]).collect(),
            values: order
                .iter()
                .flat_map(|&row| g.found.values[row * width..(row + 1) * width].iter().cloned())
                .collect(),
        }
    });
    Ok(sorted.collect())
}

/// The states of one group: one for each window and function.
#[derive(Default)]
struct Group {
    slots: HashMap<i64, usize>,
    last: Option<(i64, i64, usize)>,
    /// Window by window, function by function.
    states: Vec<State>,
    starts: Vec<i64>,
}

/// SELECT with calls.
fn aggregated(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
    groups: &mut Groups,
) -> Result<Vec<Found>, QueryError> {
    let sets: Vec<usize> = (0..prepared.calls.len())
        .filter(|&c| prepared.calls[c].function().is_some())
        .collect();
    let mut beside: Vec<usize> = Vec::new();
    prepared
        .columns
        .iter()
        .for_each(|(_, node)| node.references(&mut beside));
    if let Some(Call::Ranked { beside: tags, .. }) = prepared.calls.first() {
        beside = tags.iter().copied().chain(beside).collect();
    }
    let alone = sets.len() == 1 && prepared.calls.len() == 1;
    let selector = alone && prepared.calls[0].function().is_some_and(Aggregate::is_selector);
    let time = prepared.read;
    // Rolling windows are put together from the slots they share.
    let slots = prepared.windows.as_ref().map(rolling::slots);
    let since: Vec<i64> = sets.iter().map(|&call| prepared.since(call)).collect();
    let mut states: Vec<Group> = Vec::new();
    let (mut buckets, mut held) = (0usize, 0usize);
    for input in inputs {
        let plan = plan(input, prepared)?;
        let arguments: Vec<&Node> = sets
            .iter()
            .filter_map(|&c| prepared.calls[c].argument())
            .collect();
        for (&set, argument) in sets.iter().zip(&arguments) {
            check_type(input, &prepared.calls[set], argument, &prepared.refs)?;
        }
        plan.scan(ctx, prepared, time, groups, &mut |rows, chosen| {
            // Filtered rows are gathered into columns of their own.
            let kept;
            let times = match chosen {
                Some(chosen) => {
                    kept = chosen
                        .iter()
                        .map(|&row| rows.times[row as usize])
                        .collect::<Vec<i64>>();
                    kept.as_slice()
                }
                None => rows.times,
            };
            let original = |row: usize| chosen.map_or(row, |chosen| chosen[row] as usize);
            let mut columns: Vec<Argument<'_>> = Vec::with_capacity(arguments.len());
            for argument in &arguments {
                columns.push(Argument::of(argument, &plan, rows, chosen));
            }
            if columns.iter().all(Argument::is_empty) {
                return Ok(ControlFlow::Continue(()));
            }
            if states.len() <= rows.group {
                states.resize_with(rows.group + 1, Group::default);
            }
            let group = &mut states[rows.group];
            let mut row = 0;
            while row < times.len() {
                let (slot, end) = match &slots {
                    None => (
                        group.slot(i64::MIN, i64::MAX, sets.len(), &mut buckets),
                        times.len(),
                    ),
                    Some(windows) => {
                        let (start, next) = match group.last {
                            Some((start, next, _)) if (start..next).contains(&times[row]) => (start, next),
                            _ => {
                                let start = windows.start(times[row]);
                                (start, windows.next(start))
                            }
                        };
                        let length = if times[times.len() - 1] < next {
                            times.len() - row
                        } else {
                            times[row..].partition_point(|t| *t < next)
                        };
                        (
                            group.slot(start, next, sets.len(), &mut buckets),
                            row + length.max(1),
                        )
                    }
                };
                let aux = |i: usize| -> Box<[Value]> {
                    let row = original(row + i);
                    beside
                        .iter()
                        .map(|r| rows.value(plan.wanted.resolved[*r], row))
                        .collect()
                };
                // Who wants the time of a percentile, or what stands beside a point, needs the points themselves.
                let wants_points = selector && (!beside.is_empty() || prepared.windows.is_none());
                for (number, argument) in columns.iter().enumerate() {
                    let Some((column, start)) = argument.column() else {
                        continue;
                    };
                    let Some(function) = prepared.calls[sets[number]].function() else {
                        continue;
                    };
                    // Earlier rows were read for other calls.
                    let first = row + times[row..end].partition_point(|time| *time < since[number]);
                    if first == end {
                        continue;
                    }
                    let aux = |i: usize| aux(first - row + i);
                    let run = Run {
                        times: &times[first..end],
                        column,
                        start: start + first,
                        aux: if wants_points { Some(&aux) } else { None },
                    };
                    let state = &mut group.states[slot * sets.len() + number];
                    let gathers = function.gives_many()
                        || !matches!(
                            function,
                            Aggregate::Count
                                | Aggregate::Sum
                                | Aggregate::Mean
                                | Aggregate::Min
                                | Aggregate::Max
                                | Aggregate::First
                                | Aggregate::Last
                                | Aggregate::Spread
                        );
                    state.push(function, &run);
                    if gathers {
                        held += end - row;
                    }
                }
                row = end;
            }
            if buckets > ctx.limits.buckets_max {
                let limit = ctx.limits.buckets_max;
                return Err(QueryError::Limit(format!(
                    "too many windows (query_buckets_max {limit}); take longer windows or a shorter time"
                )));
            }
            if held > ctx.limits.values_max {
                Err(too_many(ctx))
            } else {
                Ok(ControlFlow::Continue(()))
            }
        })?;
    }
    let mut folded = folds::run(ctx, inputs, prepared, groups)?;
    let finisher = Finisher {
        ctx,
        prepared,
        beside: &beside,
    };
    let mut left = ctx.limits.buckets_max;
    let count = states.len().max(folded.len());
    states.resize_with(count, Group::default);
    folded.resize_with(count, Vec::new);
    let all = states.into_iter().zip(folded);
    all.map(|(group, folds)| {
        let sets = group.points(ctx, prepared, &sets, selector)?;
        if sets.is_none() && folds.iter().all(Vec::is_empty) {
            return Ok(Found::default());
        }
        let (mut sets, mut folds) = (sets.unwrap_or_default().into_iter(), folds.into_iter());
        let given = prepared.calls.iter().filter_map(|call| match call {
            Call::Fold { .. } => Some(folds.next().unwrap_or_default()),
            Call::Transform { .. } => None,
            _ => Some(sets.next().unwrap_or_default()),
        });
        finisher.finish(given.collect(), &mut left)
    })
    .collect()
}

/// A function refuses a field of a type it cannot take, as InfluxDB does.
fn check_type(input: &Input, call: &Call, argument: &Node, refs: &Refs) -> Result<(), QueryError> {
    let (Node::Ref(number, None), Some(function)) = (argument, call.function()) else {
        return Ok(());
    };
    let reference = &refs.list()[*number];
    if reference.only == Some(Only::Tag) {
        return Ok(());
    }
    match input.field_type(&reference.name) {
        Some(field_type) if !function.takes(field_type) => {
            let name = format!("{function:?}")
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_lowercase();
            Err(QueryError::statement(format!(
                "unsupported {name} iterator type: {}",
                iterator_name(field_type)
            )))
        }
        _ => Ok(()),
    }
}

fn iterator_name(field_type: FieldType) -> String {
    format!(
        "*query.{}Iterator",
        match field_type {
            FieldType::Float => "float",
            FieldType::Integer => "integer",
            FieldType::Unsigned => "unsigned",
            FieldType::String => "string",
            FieldType::Boolean => "boolean",
        }
    )
}

impl Group {
    /// What each function gives, window by window, with the time it has in the result; `None` when there is nothing.
    fn points(
        self,
        ctx: &Context<'_>,
        prepared: &Prepared,
        sets: &[usize],
        selector: bool,
    ) -> Result<Option<Vec<Vec<Picked>>>, QueryError> {
        if self.states.iter().all(State::is_empty) {
            return Ok(None);
        }
        let mut order: Vec<usize> = (0..self.starts.len()).collect();
        order.sort_unstable_by_key(|&slot| self.starts[slot]);
        let mut states: Vec<Option<State>> = self.states.into_iter().map(Some).collect();
        let mut points = Vec::with_capacity(sets.len());
        for (set, &call) in sets.iter().enumerate() {
            let Some(function) = prepared.calls[call].function() else {
                continue;
            };
            let mut take = |&slot: &usize| {
                let state = states[slot * sets.len() + set].take().unwrap_or(State::Empty);
                (self.starts[slot], state)
            };
            let found: Vec<(i64, State)> = match &prepared.windows {
                Some(windows) if windows.over.is_some() => {
                    let slots = order.iter().map(&mut take).collect();
                    rolling::states(function, windows, slots, windows.start(prepared.time.max))
                }
                _ => order.iter().map(&mut take).collect(),
            };
            let mut made = Vec::new();
            for (start, state) in found {
                ctx.check()?;
                made.extend(stamped(
                    state.finish(function),
                    function,
                    start,
                    prepared,
                    selector,
                ));
            }
            points.push(made);
        }
        Ok(Some(points))
    }

    fn slot(&mut self, start: i64, next: i64, sets: usize, buckets: &mut usize) -> usize {
        if let Some((known, _, slot)) = self.last
            && known == start
        {
            return slot;
        }
        let new = self.starts.len();
        let slot = *self.slots.entry(start).or_insert(new);
        if slot == new {
            self.starts.push(start);
            self.states.extend((0..sets).map(|_| State::Empty));
            *buckets += 1;
        }
        self.last = Some((start, next, slot));
        slot
    }
}

/// Gives points the time they have in the result.
fn stamped(
    points: Vec<Picked>,
    function: &Aggregate,
    start: i64,
    prepared: &Prepared,
    selector: bool,
) -> impl Iterator<Item = Picked> {
    let keeps = matches!(
        function,
        Aggregate::Top { .. } | Aggregate::Bottom { .. } | Aggregate::Sample(_) | Aggregate::Sequence
    );
    let own = keeps || (prepared.windows.is_none() && selector);
    let time = match (&prepared.windows, prepared.time.min) {
        (Some(_), _) => start,
        (None, TIME_MIN) => 0,
        (None, min) => min,
    };
    points
        .into_iter()
        .map(move |p| if own { p } else { Picked { time, ..p } })
}

/// The column that a function reads in some rows.
enum Argument<'a> {
    None,
    Borrowed(&'a Column, usize),
    Owned(Column),
}

impl<'a> Argument<'a> {
    fn of(node: &Node, plan: &Plan<'_>, rows: &'a Rows<'a>, chosen: Option<&[u32]>) -> Self {
        if let Node::Ref(number, None) = node {
            match plan.wanted.resolved[*number] {
                Resolved::Field(at) => {
                    let slice = rows.columns[at];
                    let Some(column) = slice.column else {
                        return Self::None;
                    };
                    return match chosen {
                        None => Self::Borrowed(column, slice.start),
                        Some(chosen) => {
                            let at: Vec<u32> = chosen.iter().map(|row| slice.start as u32 + row).collect();
                            Self::Owned(column.gather(&at))
                        }
                    };
                }
                // Functions of tags have nothing to work on, as in InfluxDB.
                Resolved::Tag(_) => return Self::None,
            }
        }
        let eval = |row: usize| {
            node.eval(&RowOf {
                rows,
                resolved: &plan.wanted.resolved,
                row,
                condition: false,
            })
        };
        let values: Vec<Value> = match chosen {
            Some(chosen) => chosen.iter().map(|&row| eval(row as usize)).collect(),
            None => (0..rows.times.len()).map(eval).collect(),
        };
        let types = values.iter().filter_map(Value::field_type);
        let field_type = types.reduce(|a, b| if b == FieldType::Float { b } else { a });
        let Some(field_type) = field_type else {
            return Self::None;
        };
        let mut column = Column::new(field_type);
        values.iter().for_each(|v| value::push(&mut column, v));
        Self::Owned(column)
    }

    fn column(&self) -> Option<(&Column, usize)> {
        match self {
            Self::None => None,
            Self::Borrowed(column, start) => Some((column, *start)),
            Self::Owned(column) => Some((column, 0)),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}
