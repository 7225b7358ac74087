//! From folded values to the rows of a group, where each function gives one value a window: whole columns at a time. What else
//! there is (functions of sequences, several points a window) goes by way of [`crate::query::finish`].

use super::Prepared;
use crate::lang::Fill;
use crate::model::{Bitmap, Column, Values};
use crate::query::error::QueryError;
use crate::query::functions::aggregate::Aggregate;
use crate::query::node::{Environment, Node};
use crate::query::result::ResultColumn;
use crate::query::value::Value;
use crate::query::windows::Windows;

/// Rows of a group, ascending in time.
#[derive(Debug, Default)]
pub struct Found {
    /// One a row.
    pub times: Vec<i64>,
    /// One a column of the result, but the time.
    pub values: Vec<ResultColumn>,
}

impl Found {
    /// Bytes of memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let values: usize = self.values.iter().map(ResultColumn::bytes).sum();
        size_of::<Self>() + self.times.len() * size_of::<i64>() + values
    }

    /// No rows, so many columns.
    pub fn new(width: usize) -> Self {
        Self {
            times: Vec::new(),
            values: (0..width).map(|_| ResultColumn::default()).collect(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, time: i64, values: impl Iterator<Item = Value>) {
        self.times.push(time);
        for (column, value) in self.values.iter_mut().zip(values) {
            column.push(value);
        }
    }
}

/// What a function gave in the windows of a group.
pub struct Windowed {
    /// Which function.
    pub function: Aggregate,
    /// One entry a window; none where there is nothing.
    pub values: Column,
    /// In which windows there is something, where that is not all those with a value.
    pub rows: Option<Bitmap>,
}

impl Windowed {
    /// Is there something in a window?
    pub fn is_row(&self, window: usize) -> bool {
        match &self.rows {
            Some(rows) => rows.get(window),
            None => self.values.has(window),
        }
    }
}

/// The rows of a group without windows.
pub fn single(prepared: &Prepared, time: i64, calls: Vec<Windowed>) -> Found {
    let calls = calls.into_iter().map(|call| call.values).collect();
    Found {
        values: columns(prepared, &[time], calls),
        times: vec![time],
    }
}

/// The rows of a group by windows. `starts` are those of the windows that the calls have entries for, ascending; `first` is
/// the first window that is wanted, if there is a first; `fill` is told how many windows are made.
///
/// # Errors
/// Too many windows.
pub fn windowed(
    prepared: &Prepared,
    windows: &Windows,
    first: Option<i64>,
    starts: &[i64],
    calls: Vec<Windowed>,
    fill: &dyn Fn(usize) -> Result<(), QueryError>,
) -> Result<Found, QueryError> {
    if prepared.fill == Fill::None {
        let rows: Vec<u32> = (0..starts.len() as u32)
            .filter(|&w| calls.iter().any(|call| call.is_row(w as usize)))
            .collect();
        let times: Vec<i64> = rows.iter().map(|&w| starts[w as usize]).collect();
        let calls = calls.into_iter().map(|call| {
            if rows.len() == starts.len() {
                call.values
            } else {
                call.values.gather(&rows)
            }
        });
        let values = columns(prepared, &times, calls.collect());
        return Ok(Found { times, values });
    }
    // Each call is filled from its own first point on when there is no lower bound of time; one without any has no rows.
    let begins: Vec<Option<i64>> = calls
        .iter()
        .map(|call| {
            let own = (0..starts.len()).find(|&w| call.is_row(w)).map(|w| starts[w])?;
            Some(first.map_or(own, |first| first.min(own)))
        })
        .collect();
    let Some(mut at) = begins.iter().flatten().min().copied() else {
        return Ok(Found::default());
    };
    let end = windows.start(prepared.time.max);
    let mut times = Vec::new();
    // For each row, its place in `starts`.
    let mut places: Vec<Option<u32>> = Vec::new();
    let mut next = starts.partition_point(|&start| start < at);
    if at <= end {
        // Before any is made.
        let more = end.saturating_sub(at) / windows.step.max(1);
        fill((more as usize).saturating_add(1).saturating_mul(calls.len()))?;
    }
    while at <= end {
        times.push(at);
        let here = starts.get(next) == Some(&at);
        places.push(here.then_some(next as u32));
        next += usize::from(here);
        let following = windows.next(at);
        if following <= at {
            break;
        }
        at = following;
    }
    let filled = calls.into_iter().zip(&begins).map(|(call, &begin)| {
        let begin = begin.map_or(times.len(), |begin| times.partition_point(|&t| t < begin));
        filled(prepared, &call, begin, &places, &times, windows.step)
    });
    let filled = filled.collect();
    Ok(Found {
        values: columns(prepared, &times, filled),
        times,
    })
}

/// A call's values by row, with what stands in empty windows from row `begin` on.
fn filled(
    prepared: &Prepared,
    call: &Windowed,
    begin: usize,
    places: &[Option<u32>],
    times: &[i64],
    step: i64,
) -> Column {
    let line = Line { times, step };
    let counts = matches!(call.function, Aggregate::Count | Aggregate::CountDistinct);
    let fill = if prepared.fill == Fill::Null && counts {
        Fill::Integer(0)
    } else {
        prepared.fill
    };
    match &call.values.values {
        Values::Float(v) => {
            let constant = match fill {
                Fill::Integer(n) => Some(n as f64),
                Fill::Float(n) => Some(n),
                _ => None,
            };
            let (list, present) = spread(call, v, fill, constant, begin, places, &line);
            column(Values::Float(list), present)
        }
        Values::Integer(v) => {
            let constant = match fill {
                Fill::Integer(n) => Some(n),
                Fill::Float(n) => Some(n as i64),
                _ => None,
            };
            let (list, present) = spread(call, v, fill, constant, begin, places, &line);
            column(Values::Integer(list), present)
        }
        Values::Unsigned(v) => {
            let constant = match fill {
                Fill::Integer(n) => u64::try_from(n).ok(),
                Fill::Float(n) if n >= 0.0 => Some(n as u64),
                _ => None,
            };
            let (list, present) = spread(call, v, fill, constant, begin, places, &line);
            column(Values::Unsigned(list), present)
        }
        Values::Boolean(v) => {
            let (list, present) = spread(call, v, fill, None, begin, places, &line);
            column(Values::Boolean(list), present)
        }
        Values::String(_) => {
            let mut out = Column::new(crate::model::FieldType::String);
            for place in places {
                match place {
                    Some(w) => out.push_from(&call.values, *w as usize),
                    None => out.push_missing(1),
                }
            }
            out
        }
    }
}

fn column(values: Values, present: Bitmap) -> Column {
    let all = present.count_ones() == present.len();
    Column {
        values,
        present: (!all).then_some(present),
    }
}

/// Where rows are on a straight line: counted in windows.
struct Line<'a> {
    times: &'a [i64],
    step: i64,
}

impl Line<'_> {
    fn windows(&self, from: usize, to: usize) -> f64 {
        (self.times[to].wrapping_sub(self.times[from]) as f64 / self.step as f64).round()
    }
}

/// A value between two others: so many windows along a line of `run`.
trait Between: Copy + Default {
    fn between(before: Self, after: Self, run: f64, so_far: f64) -> Option<Self>;
}

impl Between for f64 {
    fn between(before: Self, after: Self, run: f64, so_far: f64) -> Option<Self> {
        Some((after - before) / run * so_far + before)
    }
}

impl Between for i64 {
    fn between(before: Self, after: Self, run: f64, so_far: f64) -> Option<Self> {
        let slope = (i128::from(after) - i128::from(before)) as f64 / run;
        Some((slope * so_far + before as f64) as i64)
    }
}

impl Between for u64 {
    fn between(before: Self, after: Self, run: f64, so_far: f64) -> Option<Self> {
        let slope = (after as f64 - before as f64) / run;
        Some((slope * so_far + before as f64) as u64)
    }
}

impl Between for bool {
    fn between(_: Self, _: Self, _: f64, _: f64) -> Option<Self> {
        None
    }
}

fn spread<T: Between>(
    call: &Windowed,
    values: &[T],
    fill: Fill,
    constant: Option<T>,
    begin: usize,
    places: &[Option<u32>],
    line: &Line<'_>,
) -> (Vec<T>, Bitmap) {
    let mut list = Vec::with_capacity(places.len());
    let mut present = Bitmap::new();
    // `Some(None)`: there is a row, without a value.
    let there = |row: usize| {
        let window = places[row].map(|w| w as usize).filter(|&w| call.is_row(w))?;
        Some(call.values.has(window).then(|| values[window]))
    };
    // The last row there was and its value, and the next one.
    let mut previous: Option<(usize, Option<T>)> = None;
    let mut following: Option<(usize, Option<T>)> = None;
    for row in 0..places.len() {
        let value = match there(row) {
            Some(value) => {
                previous = Some((row, value));
                value
            }
            None if row < begin => None,
            None => match fill {
                Fill::Previous => previous.and_then(|(_, value)| value),
                Fill::Linear => {
                    if following.is_none_or(|(at, _)| at < row) {
                        following = (row..places.len()).find_map(|at| Some((at, there(at)?)));
                        // Nothing follows: no need to look again.
                        following = following.or(Some((usize::MAX, None)));
                    }
                    match (previous, following) {
                        (Some((before, Some(a))), Some((after, Some(b)))) => {
                            T::between(a, b, line.windows(before, after), line.windows(before, row))
                        }
                        _ => None,
                    }
                }
                _ => constant,
            },
        };
        present.push(value.is_some());
        list.push(value.unwrap_or_default());
    }
    (list, present)
}

/// A row of the result as the environment of its columns.
struct ResultRow<'a> {
    time: i64,
    calls: &'a [Column],
    row: usize,
}

impl Environment for ResultRow<'_> {
    fn time(&self) -> i64 {
        self.time
    }

    fn reference(&self, _: usize) -> Value {
        Value::Null
    }

    fn call(&self, number: usize) -> Value {
        Value::of_column(&self.calls[number], self.row)
    }
}

/// The columns of the result from those of the calls.
fn columns(prepared: &Prepared, times: &[i64], calls: Vec<Column>) -> Vec<ResultColumn> {
    let nodes = || prepared.columns.iter().map(|(_, node)| node);
    if let [Node::Call(0)] = nodes().collect::<Vec<_>>()[..]
        && calls.len() == 1
    {
        return calls.into_iter().map(ResultColumn::Typed).collect();
    }
    let column = |node: &Node| match node {
        Node::Call(number) => ResultColumn::Typed(calls[*number].clone()),
        Node::Default(inner, value) if matches!(**inner, Node::Call(_)) => {
            let Node::Call(number) = **inner else {
                unreachable!("just looked at")
            };
            ResultColumn::Typed(calls[number].clone()).with_default(value)
        }
        node => {
            let mut column = ResultColumn::default();
            for (row, &time) in times.iter().enumerate() {
                let env = ResultRow {
                    time,
                    calls: &calls,
                    row,
                };
                column.push(node.eval(&env));
            }
            column
        }
    };
    nodes().map(column).collect()
}
