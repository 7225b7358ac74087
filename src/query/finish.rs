//! From the states of a group to its rows: finishes functions, fills empty windows, puts the points of all calls side by
//! side, and evaluates the columns.

use super::context::Context;
use super::error::QueryError;
use super::exec::{Call, Found, Prepared};
use super::functions::Point;
use super::functions::aggregate::{Aggregate, Picked, plain};
use super::node::Environment;
use super::time::Windows;
use super::value::Value;
use crate::lang::Fill;
use crate::model::FieldType;
use std::collections::BTreeMap;

/// Turns the states of a group into rows.
pub(super) struct Finisher<'a> {
    pub ctx: &'a Context<'a>,
    pub prepared: &'a Prepared,
    /// References whose values stand beside a selected point.
    pub beside: &'a [usize],
    /// The statement is one selector and nothing else.
    pub selector: bool,
    /// Start of the first window that is wanted, if the time has a lower bound.
    pub first_window: Option<i64>,
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
    /// The rows of a group. `sets` has the points that each function of sets gave, in the order of the calls.
    pub(super) fn finish(&self, sets: Vec<Vec<Picked>>, left: &mut usize) -> Result<Found, QueryError> {
        let mut sets = sets.into_iter();
        let mut points: Vec<Vec<Picked>> = Vec::with_capacity(self.prepared.calls.len());
        for call in &self.prepared.calls {
            let made = match call {
                Call::Aggregate { function, .. } | Call::Ranked { function, .. } => {
                    let made = sets.next().unwrap_or_default();
                    match &self.prepared.windows {
                        Some(windows) if !function.gives_many() => {
                            self.filled(made, function, windows, left)?
                        }
                        _ => made,
                    }
                }
                Call::Transform { transform, inner } => {
                    let input: Vec<Point> = plain(points[*inner].clone());
                    let made = transform.apply(&input);
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

    /// Puts in what stands in empty windows.
    fn filled(
        &self,
        points: Vec<Picked>,
        function: &Aggregate,
        windows: &Windows,
        left: &mut usize,
    ) -> Result<Vec<Picked>, QueryError> {
        let fill = match (self.prepared.fill, function) {
            (Fill::None, _) => return Ok(points),
            (Fill::Null, Aggregate::Count | Aggregate::CountDistinct) => Fill::Integer(0),
            (fill, _) => fill,
        };
        let Some(first) = self.first_window.or_else(|| points.first().map(|p| p.time)) else {
            return Ok(points);
        };
        let end = windows.start(self.prepared.time.max);
        let first = points.first().map_or(first, |p| first.min(p.time));
        let is_float = points.iter().find_map(|p| p.value.field_type()) == Some(FieldType::Float);
        let constant = match fill {
            Fill::Integer(v) if is_float => Value::Float(v as f64),
            Fill::Integer(v) => Value::Integer(v),
            Fill::Float(v) if is_float || points.is_empty() => Value::Float(v),
            Fill::Float(v) => Value::Integer(v as i64),
            _ => Value::Null,
        };
        let mut out: Vec<Picked> = Vec::new();
        let mut points = points.into_iter().peekable();
        let mut at = first;
        let mut previous: Option<(i64, Value)> = None;
        while at <= end {
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
                            (Some(before), Some(after)) => between(before, (after.time, &after.value), at),
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
        let mut found = Found::default();
        let shown: Vec<usize> = {
            // Only what columns show makes rows: a call inside another does not.
            let mut inner = vec![false; points.len()];
            for call in &self.prepared.calls {
                if let Call::Transform { inner: number, .. } = call {
                    inner[*number] = true;
                }
            }
            (0..points.len()).filter(|&c| !inner[c]).collect()
        };
        let mut emit = |time: i64, calls: &[Value], aux: Option<&[Value]>| {
            if self.first_window.is_some_and(|first| time < first) && self.prepared.windows.is_some() {
                let keeps = self.selector
                    && matches!(
                        self.prepared.calls[0].function(),
                        Some(Aggregate::Top { .. } | Aggregate::Bottom { .. } | Aggregate::Sample(_))
                    );
                if !keeps {
                    return;
                }
            }
            let row = ResultRow {
                time,
                calls,
                beside: self.beside,
                aux,
            };
            found.times.push(time);
            found
                .values
                .extend(self.prepared.columns.iter().map(|(_, node)| node.eval(&row)));
            if let Some(Call::Ranked { beside, .. }) = self.prepared.calls.first() {
                found.values.extend(
                    (0..beside.len()).map(|i| aux.and_then(|a| a.get(i).cloned()).unwrap_or_default()),
                );
            }
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

fn between(before: &(i64, Value), after: (i64, &Value), at: i64) -> Value {
    let share = (at - before.0) as f64 / (after.0 - before.0) as f64;
    match (&before.1, after.1) {
        (Value::Integer(a), Value::Integer(b)) => Value::Integer((*a as f64 + (b - a) as f64 * share) as i64),
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => Value::Float(a + (b - a) * share),
            _ => Value::Null,
        },
    }
}
