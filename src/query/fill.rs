//! What fill() needs to know beyond the points of the time range: `fill(previous)` begins with the last value before it, and
//! an answer without any point still has its windows with `fill(previous)` and `fill(n)`.
//!
//! Both look at measurements only: what a subquery or a join gives has no before.

use super::condition::split_tags;
use super::context::Context;
use super::error::QueryError;
use super::exec::{Call, Prepared};
use super::extension;
use super::input::Input;
use super::node::{Environment, Node};
use super::result::{ResultColumn, Series, collect};
use super::select::{Outer, run};
use super::value::Value;
use super::windows::Windows;
use crate::lang::{DataType, Expr, Field, Fill, SelectStatement, VarRef};
use crate::model::TimeRange;
use crate::model::time::TIME_MIN;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Windows that are looked at one by one for values from before; beyond that everything since the first of them is.
const WINDOWS_APART_MAX: usize = 8;

/// A group: name and tags.
type Group = (String, Vec<(String, String)>);

/// What a SELECT with `fill(previous)` really computes: its calls, which [`Before`] makes into the columns.
pub(super) struct Before<'a> {
    ctx: &'a Context<'a>,
    statement: &'a SelectStatement,
    outer: &'a Outer,
    windows: Windows,
    time: TimeRange,
    condition: Option<Expr>,
    columns: Vec<(String, Node)>,
    names: Arc<[String]>,
    /// For each call, its expression if it looks at windows of points.
    calls: Vec<Option<Expr>>,
    references: usize,
    limit: u64,
    offset: u64,
    ascending: bool,
}

/// A row of the result as its columns see it.
struct Row<'a> {
    time: i64,
    calls: &'a [Value],
    references: &'a [Value],
}

impl Environment for Row<'_> {
    fn time(&self) -> i64 {
        self.time
    }

    fn reference(&self, number: usize) -> Value {
        self.references.get(number).cloned().unwrap_or_default()
    }

    fn call(&self, number: usize) -> Value {
        self.calls.get(number).cloned().unwrap_or_default()
    }
}

/// The windows of a SELECT whose range of time has a beginning.
fn bounded(prepared: &Prepared) -> Option<&Windows> {
    let windows = prepared.windows.as_ref()?;
    (prepared.time.min > TIME_MIN && !prepared.calls.is_empty()).then_some(windows)
}

/// Do all inputs have a before?
fn stored(sources: &BTreeMap<String, Vec<Input>>) -> bool {
    let inputs = sources.values().flatten();
    !sources.is_empty() && inputs.into_iter().all(|input| matches!(input, Input::Stored(_)))
}

impl<'a> Before<'a> {
    /// Takes the columns over, if what was before the range of time can matter. `made` is what each call was made of.
    pub fn take_over(
        ctx: &'a Context<'_>,
        statement: &'a SelectStatement,
        outer: &'a Outer,
        sources: &BTreeMap<String, Vec<Input>>,
        made: &[Option<Expr>],
        prepared: &mut Prepared,
    ) -> Option<Self> {
        let windows = bounded(prepared)
            .filter(|_| prepared.fill == Fill::Previous)?
            .clone();
        let looks = |(call, made): (&Call, &Option<Expr>)| match call {
            Call::Aggregate { function, .. } if !function.gives_many() => made.clone(),
            Call::Fold { .. } => made.clone(),
            _ => None,
        };
        let calls: Vec<Option<Expr>> = prepared.calls.iter().zip(made).map(looks).collect();
        if !stored(sources) || calls.iter().all(Option::is_none) {
            return None;
        }
        let mut shown = vec![false; calls.len()];
        let mut beside = Vec::new();
        for (_, node) in &prepared.columns {
            node.calls(&mut |number| shown[number] = true);
            node.references(&mut beside);
        }
        let mut names = vec![prepared.time_name.clone()];
        names.extend(prepared.columns.iter().map(|(name, _)| name.clone()));
        // Calls that no column shows would make rows of their own; and only one call can have references beside it.
        let references = if beside.is_empty() {
            0
        } else {
            prepared.refs.list().len()
        };
        let given = (0..calls.len()).map(|call| {
            let node = if shown[call] {
                Node::Call(call)
            } else {
                Node::Constant(Value::Null)
            };
            (call.to_string(), node)
        });
        let given: Vec<(String, Node)> = given
            .chain((0..references).map(|reference| (format!("r{reference}"), Node::Ref(reference, None))))
            .collect();
        let calls = calls
            .into_iter()
            .zip(shown)
            .map(|(call, shown)| call.filter(|_| shown));
        Some(Self {
            ctx,
            statement,
            outer,
            windows,
            time: prepared.time,
            condition: prepared.condition.clone(),
            names: names.into(),
            calls: calls.collect(),
            references,
            limit: std::mem::take(&mut prepared.limit),
            offset: std::mem::take(&mut prepared.offset),
            ascending: prepared.ascending,
            columns: std::mem::replace(&mut prepared.columns, given),
        })
    }

    /// The answer, made of what the executor gave for the calls.
    pub fn complete(&self, found: Vec<Series>) -> Result<Vec<Series>, QueryError> {
        let before = self.values()?;
        let mut groups: BTreeMap<Group, Option<Series>> = BTreeMap::new();
        for series in found {
            groups.insert((series.name.clone(), series.tags.clone()), Some(series));
        }
        for (group, _) in before
            .iter()
            .filter(|(_, values)| values.iter().any(|v| !v.is_null()))
        {
            groups.entry(group.clone()).or_insert(None);
        }
        if groups.len() > self.ctx.limits.groups_max {
            return Err(QueryError::Limit(format!(
                "too many series in the result (query_groups_max {})",
                self.ctx.limits.groups_max
            )));
        }
        let mut left = self.ctx.limits.buckets_max;
        let mut out = Vec::new();
        let nothing = vec![Value::Null; self.calls.len()];
        for (group, given) in groups {
            self.ctx.check()?;
            let values = before.get(&group).unwrap_or(&nothing);
            let times = match &given {
                Some(series) if self.ascending => series.times.clone(),
                Some(series) => series.times.iter().rev().copied().collect(),
                None => every_window(self.ctx, &self.windows, self.time, &mut left)?,
            };
            out.push(self.series(group, times, given.as_ref(), values.clone()));
        }
        if !self.ascending {
            out.reverse();
        }
        out.retain(|series| series.rows() > 0);
        Ok(out)
    }

    /// The rows of a group. `values` are those from before, call by call.
    fn series(
        &self,
        (name, tags): Group,
        times: Vec<i64>,
        given: Option<&Series>,
        mut values: Vec<Value>,
    ) -> Series {
        let mut columns = vec![ResultColumn::default(); self.columns.len()];
        let mut begun = vec![false; values.len()];
        let mut calls = vec![Value::Null; values.len()];
        let mut references = vec![Value::Null; self.references];
        let rows = times.len();
        for (i, time) in times.iter().enumerate() {
            let row = if self.ascending { i } else { rows - 1 - i };
            let value = |column: usize| given.map(|s| s.values[column].value(row)).unwrap_or_default();
            for call in 0..calls.len() {
                calls[call] = value(call);
                // Only until the first value of its own; from there on the executor knows the one before.
                begun[call] |= !calls[call].is_null();
                if !begun[call] {
                    calls[call] = std::mem::take(&mut values[call]);
                    values[call] = calls[call].clone();
                }
            }
            for (at, reference) in references.iter_mut().enumerate() {
                *reference = value(self.calls.len() + at);
            }
            let row = Row {
                time: *time,
                calls: &calls,
                references: &references,
            };
            for (column, (_, node)) in columns.iter_mut().zip(&self.columns) {
                column.push(node.eval(&row));
            }
        }
        let mut out = Series {
            name,
            tags,
            columns: self.names.clone(),
            times,
            values: columns,
        };
        if !self.ascending {
            out.reverse();
        }
        out.limit(self.limit, self.offset);
        out
    }

    /// For each group the last value of each call before the first window.
    fn values(&self) -> Result<HashMap<Group, Vec<Value>>, QueryError> {
        let first = self.windows.start(self.time.min);
        let mut out: HashMap<Group, Vec<Value>> = HashMap::new();
        for (number, call) in self.calls.iter().enumerate() {
            let Some(expr) = call else { continue };
            let Some(argument) = argument(expr) else { continue };
            let last = Expr::call("last", vec![argument]);
            let before = TimeRange {
                min: TIME_MIN,
                max: first.saturating_sub(1),
            };
            let found = self.ask(last, before, false)?;
            let starts: BTreeSet<i64> = found
                .iter()
                .filter_map(|series| series.times.last())
                .map(|time| self.windows.start(*time))
                .collect();
            for range in self.ranges(&starts, first) {
                for series in self.ask(expr.clone(), range, true)? {
                    let rows = (0..series.rows()).rev();
                    let known = rows
                        .filter(|row| series.times[*row] < first)
                        .find(|row| !series.values[0].is_null(*row));
                    let Some(row) = known else { continue };
                    let value = series.values[0].value(row);
                    let all = out.entry((series.name, series.tags));
                    // Later ranges come later, and what is later is what was last.
                    all.or_insert_with(|| vec![Value::Null; self.calls.len()])[number] = value;
                }
            }
        }
        Ok(out)
    }

    /// The times to be read for windows that begin so.
    fn ranges(&self, starts: &BTreeSet<i64>, first: i64) -> Vec<TimeRange> {
        let last = first.saturating_sub(1);
        if starts.len() > WINDOWS_APART_MAX {
            let min = starts.first().copied().unwrap_or(first);
            return vec![TimeRange { min, max: last }];
        }
        let over = self.windows.over.unwrap_or(0);
        let range = |start: &i64| TimeRange {
            min: *start,
            max: self
                .windows
                .next(*start)
                .saturating_sub(1)
                .saturating_add(over)
                .min(last),
        };
        starts.iter().map(range).collect()
    }

    fn ask(&self, expr: Expr, time: TimeRange, windows: bool) -> Result<Vec<Series>, QueryError> {
        let dimensions = self.statement.dimensions.iter();
        let statement = SelectStatement {
            fields: vec![Field { expr, alias: None }],
            sources: self.statement.sources.clone(),
            condition: self.condition.clone(),
            dimensions: dimensions
                .filter(|d| windows || d.time().is_none())
                .cloned()
                .collect(),
            fill: if windows { Fill::None } else { Fill::Null },
            tz: self.statement.tz.clone(),
            ..SelectStatement::default()
        };
        let inherited = windows && self.statement.time_dimension().is_none();
        let outer = Outer {
            time,
            windows: Some(self.windows.clone()).filter(|_| inherited),
            ascending: true,
            ..self.outer.clone()
        };
        collect(|give| run(self.ctx, &statement, &outer, give))
    }
}

/// What a function looks at.
fn argument(expr: &Expr) -> Option<Expr> {
    let Expr::Call(call) = expr else { return None };
    let first = match extension::fields(call).first()? {
        Expr::Distinct(var) => Expr::VarRef(var.clone()),
        Expr::Call(inner) if inner.name == "distinct" => inner.args.first()?.clone(),
        other => other.clone(),
    };
    Some(first)
}

/// The starts of all windows of a range.
fn every_window(
    ctx: &Context<'_>,
    windows: &Windows,
    time: TimeRange,
    left: &mut usize,
) -> Result<Vec<i64>, QueryError> {
    let (mut at, end) = (windows.start(time.min), windows.start(time.max));
    let mut out = Vec::new();
    while at <= end {
        *left = left.checked_sub(1).ok_or_else(|| {
            QueryError::Limit(format!(
                "too many windows (query_buckets_max {}); take longer windows, a shorter time, or fill(none)",
                ctx.limits.buckets_max
            ))
        })?;
        out.push(at);
        let next = windows.next(at);
        if next <= at {
            break;
        }
        at = next;
    }
    Ok(out)
}

/// The answer of `fill(n)` where no point was found: every window of every group that WHERE leaves, if the range of time has a
/// beginning. Nothing for a measurement without such series, and for functions of sequences.
pub(super) fn all_empty(
    ctx: &Context<'_>,
    sources: &BTreeMap<String, Vec<Input>>,
    prepared: &Prepared,
) -> Result<Vec<Series>, QueryError> {
    let number = match prepared.fill {
        Fill::Integer(n) => Value::Integer(n),
        Fill::Float(v) => Value::Float(v),
        _ => return Ok(Vec::new()),
    };
    let simple = |call: &Call| match call {
        Call::Aggregate { function, .. } => !function.gives_many(),
        Call::Fold { .. } => true,
        _ => false,
    };
    let Some(windows) = bounded(prepared).filter(|_| stored(sources) && prepared.calls.iter().all(simple))
    else {
        return Ok(Vec::new());
    };
    let mut left = ctx.limits.buckets_max;
    let mut names = vec![prepared.time_name.clone()];
    names.extend(prepared.columns.iter().map(|(name, _)| name.clone()));
    let names: Arc<[String]> = names.into();
    let calls = vec![number; prepared.calls.len()];
    let mut out = Vec::new();
    for (name, inputs) in sources {
        for tags in groups(ctx, inputs, prepared)? {
            ctx.check()?;
            let times = every_window(ctx, windows, prepared.time, &mut left)?;
            let mut columns = vec![ResultColumn::default(); prepared.columns.len()];
            for time in &times {
                let row = Row {
                    time: *time,
                    calls: &calls,
                    references: &[],
                };
                for (column, (_, node)) in columns.iter_mut().zip(&prepared.columns) {
                    column.push(node.eval(&row));
                }
            }
            let mut series = Series {
                name: name.clone(),
                tags,
                columns: names.clone(),
                times,
                values: columns,
            };
            if !prepared.ascending {
                series.reverse();
            }
            series.limit(prepared.limit, prepared.offset);
            ctx.resources.memory.keep(series.bytes())?;
            out.push(series);
        }
    }
    out.retain(|series| series.rows() > 0);
    if !prepared.ascending {
        out.reverse();
    }
    Ok(out)
}

/// The tags of GROUP BY of all series that WHERE leaves and that have one of the fields.
fn groups(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
) -> Result<BTreeSet<Vec<(String, String)>>, QueryError> {
    let mut out = BTreeSet::new();
    for input in inputs {
        let Input::Stored(measurement) = input else {
            continue;
        };
        let fields = prepared
            .refs
            .list()
            .iter()
            .any(|r| input.field_type(&r.name).is_some());
        if !fields {
            continue;
        }
        let is_tag = |var: &VarRef| match var.kind {
            Some(DataType::Tag) => true,
            Some(_) => false,
            None => input.field_type(&var.name).is_none(),
        };
        let (predicate, _) = split_tags(prepared.condition.as_ref(), &is_tag)?;
        let view = measurement.view();
        let wanted = view.matching(&predicate)?;
        let mut failed = None;
        view.walk_keys(&measurement.name, &wanted, &mut |_, key| {
            let tag = |name: &String| (name.clone(), key.tag(name).unwrap_or_default().to_string());
            out.insert(prepared.dimensions.iter().map(tag).collect());
            failed = ctx.check().err();
            if failed.is_none() && out.len() > ctx.limits.groups_max {
                failed = Some(QueryError::Limit(format!(
                    "too many series in the result (query_groups_max {})",
                    ctx.limits.groups_max
                )));
            }
            match failed {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(out)
}
