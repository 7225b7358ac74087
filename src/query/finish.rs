//! From the points that the functions gave for a group to its rows: fills empty windows, runs functions of sequences, puts
//! the points of all calls side by side, and evaluates the columns.

use super::context::Context;
use super::error::QueryError;
use super::exec::{Call, Found, Prepared};
use super::functions::Point;
use super::functions::aggregate::{Aggregate, Picked, plain};
use super::node::Environment;
use super::value::Value;
use super::windows::Windows;
use crate::lang::Fill;
use crate::model::FieldType;
use crate::model::time::TIME_MIN;
use std::collections::BTreeMap;

/// Windows that may be filled before their memory is counted.
const FILLED_UNCOUNTED: usize = 4096;

/// Turns the points of a group into rows.
pub(super) struct Finisher<'a> {
    pub ctx: &'a Context<'a>,
    pub prepared: &'a Prepared,
    /// References whose values stand beside a selected point.
    pub beside: &'a [usize],
}

/// A row of the result as the environment of its columns.
struct ResultRow<'a> {
    time: i64,
    calls: &'a [Value],
    beside: &'a [usize],
    aux: Option<&'a [Value]>,
}

impl Environment for ResultRow<'_> {
    fn time(&self) -> i64 {
        self.time
    }

    fn reference(&self, number: usize) -> Value {
        let at = self.beside.iter().position(|r| *r == number);
        at.and_then(|at| self.aux?.get(at).cloned()).unwrap_or_default()
    }

    fn call(&self, number: usize) -> Value {
        self.calls[number].clone()
    }
}

impl Finisher<'_> {
    /// The rows of a group. `given` has the points of each call that is no function of a sequence, in the order of the calls.
    pub(super) fn finish(&self, given: Vec<Vec<Picked>>, left: &mut usize) -> Result<Found, QueryError> {
        let mut given = given.into_iter();
        let windows = self.prepared.windows.as_ref();
        let mut points: Vec<Vec<Picked>> = Vec::with_capacity(self.prepared.calls.len());
        for (number, call) in self.prepared.calls.iter().enumerate() {
            let made = match call {
                Call::Aggregate { .. } | Call::Ranked { .. } | Call::Fold { .. } => {
                    let made = given.next().unwrap_or_default();
                    let many = call.function().is_some_and(Aggregate::gives_many);
                    let counts = matches!(call.function(), Some(Aggregate::Count | Aggregate::CountDistinct));
                    match windows {
                        Some(windows) if !many && self.prepared.fill != Fill::None => {
                            let first = self.first_window(number, windows);
                            self.filled(made, counts, first, windows, left)?
                        }
                        _ => made,
                    }
                }
                Call::Transform { transform, inner } => {
                    let input: Vec<Point> = plain(points[*inner].clone());
                    let made = transform.apply(&input, windows, &|| self.ctx.check())?;
                    made.into_iter()
                        .map(|(time, value)| Picked {
                            time,
                            value,
                            aux: None,
                        })
                        .collect()
                }
            };
            points.push(made);
        }
        Ok(self.rows(points))
    }

    /// Start of the first window of a call, if the time has a lower bound.
    fn first_window(&self, call: usize, windows: &Windows) -> Option<i64> {
        let since = self.prepared.since(call);
        (since > TIME_MIN).then(|| windows.start(since))
    }

    /// Puts in what stands in empty windows.
    fn filled(
        &self,
        points: Vec<Picked>,
        counts: bool,
        first: Option<i64>,
        windows: &Windows,
        left: &mut usize,
    ) -> Result<Vec<Picked>, QueryError> {
        let fill = match self.prepared.fill {
            Fill::Null if counts => Fill::Integer(0),
            fill => fill,
        };
        // A call without any point has no rows of its own.
        let Some(first) = first
            .or(points.first().map(|p| p.time))
            .filter(|_| !points.is_empty())
        else {
            return Ok(points);
        };
        let end = windows.start(self.prepared.time.max);
        let first = points.first().map_or(first, |p| first.min(p.time));
        let given = match fill {
            Fill::Integer(v) => Value::Integer(v),
            Fill::Float(v) => Value::Float(v),
            _ => Value::Null,
        };
        let constant = match points.iter().find_map(|p| p.value.field_type()) {
            Some(FieldType::Unsigned) if given.as_f64().is_some_and(|n| n < 0.0) => given,
            Some(t @ (FieldType::Float | FieldType::Integer | FieldType::Unsigned)) => given.cast(t),
            _ => given,
        };
        let mut out: Vec<Picked> = Vec::new();
        let mut points = points.into_iter().peekable();
        let mut at = first;
        let mut previous: Option<(i64, Value)> = None;
        let mut held = self.ctx.resources.memory.held();
        while at <= end {
            if out.len().is_multiple_of(FILLED_UNCOUNTED) {
                self.ctx.check()?;
                held.set((out.len() + FILLED_UNCOUNTED) * size_of::<Picked>())?;
            }
            *left = left.checked_sub(1).ok_or_else(|| {
                let limit = self.ctx.limits.buckets_max;
                QueryError::Limit(format!("too many windows (query_buckets_max {limit}); take longer windows, a shorter time, or fill(none)"))
            })?;
            match points.next_if(|p| p.time == at) {
                Some(point) => {
                    previous = Some((point.time, point.value.clone()));
                    out.push(point);
                }
                None => {
                    let value = match fill {
                        Fill::Previous => previous.as_ref().map(|(_, v)| v.clone()).unwrap_or_default(),
                        Fill::Linear => match (&previous, points.peek()) {
                            (Some(before), Some(after)) => {
                                between(before, (after.time, &after.value), at, windows.step)
                            }
                            _ => Value::Null,
                        },
                        _ => constant.clone(),
                    };
                    out.push(Picked {
                        time: at,
                        value,
                        aux: None,
                    });
                }
            }
            let next = windows.next(at);
            if next <= at {
                break;
            }
            at = next;
        }
        Ok(out)
    }

    /// Puts the points of all calls side by side.
    fn rows(&self, points: Vec<Vec<Picked>>) -> Found {
        let mut found = Found::new(self.prepared.columns.len());
        // Only what columns show makes rows: a call inside another does not, unless it also stands for itself.
        let mut shown = vec![false; points.len()];
        for (_, node) in &self.prepared.columns {
            node.calls(&mut |number| shown[number] = true);
        }
        let shown: Vec<usize> = (0..points.len()).filter(|&call| shown[call]).collect();
        let reads_more = self.prepared.read.min < self.prepared.time.min;
        let first = self.prepared.windows.as_ref().filter(|_| reads_more);
        let first = first.map(|windows| windows.start(self.prepared.time.min));
        let carries = self.prepared.fill == Fill::Previous && self.prepared.windows.is_some();
        let mut carried = vec![Value::Null; if carries { self.beside.len() } else { 0 }];
        let mut emit = |time: i64, calls: &[Value], aux: Option<&[Value]>| {
            // What stands beside a point goes on with it into empty windows.
            for (i, carried) in carried.iter_mut().enumerate() {
                if let Some(value) = aux.and_then(|aux| aux.get(i)).filter(|value| !value.is_null()) {
                    *carried = value.clone();
                }
            }
            let aux = if carries { Some(carried.as_slice()) } else { aux };
            // Earlier windows were only read for others.
            if first.is_some_and(|first| time < first) {
                return;
            }
            let row = ResultRow {
                time,
                calls,
                beside: self.beside,
                aux,
            };
            found.push(
                time,
                self.prepared.columns.iter().map(|(_, node)| node.eval(&row)),
            );
        };
        let mut values = vec![Value::Null; points.len()];
        if let [only] = shown[..] {
            for point in &points[only] {
                values[only] = point.value.clone();
                emit(point.time, &values, point.aux.as_deref());
            }
            return found;
        }
        // Rows of equal time keep the order in which a call gave them.
        let mut by_time: BTreeMap<(i64, usize), Vec<Value>> = BTreeMap::new();
        for &call in &shown {
            let (mut last, mut nth) = (None, 0);
            for point in &points[call] {
                nth = if last == Some(point.time) { nth + 1 } else { 0 };
                last = Some(point.time);
                let row = by_time
                    .entry((point.time, nth))
                    .or_insert_with(|| vec![Value::Null; points.len()]);
                row[call] = point.value.clone();
            }
        }
        for ((time, _), values) in &by_time {
            emit(*time, values, None);
        }
        found
    }
}

/// The value of a straight line, by windows between its ends.
fn between(before: &(i64, Value), after: (i64, &Value), at: i64, step: i64) -> Value {
    let windows = |from: i64, to: i64| (to.wrapping_sub(from) as f64 / step as f64).round();
    let (run, so_far) = (windows(before.0, after.0), windows(before.0, at));
    match (&before.1, after.1) {
        (Value::Integer(a), Value::Integer(b)) => {
            let slope = (i128::from(*b) - i128::from(*a)) as f64 / run;
            Value::Integer((slope * so_far + *a as f64) as i64)
        }
        (Value::Unsigned(a), Value::Unsigned(b)) => {
            let slope = (*b as f64 - *a as f64) / run;
            Value::Unsigned((slope * so_far + *a as f64) as u64)
        }
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => Value::Float((b - a) / run * so_far + a),
            _ => Value::Null,
        },
    }
}
