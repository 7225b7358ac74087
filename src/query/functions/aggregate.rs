//! Functions of a set of points: `mean`, `max`, `percentile`, .. A [`State`] takes runs of rows and gives points.

use super::Point;
use super::sum::Total;
use crate::model::{Column, Values};
use crate::query::value::Value;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;

/// A function with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aggregate {
    /// Points that have a value.
    Count,
    /// Different values, counted.
    CountDistinct,
    /// Sum.
    Sum,
    /// Arithmetic mean.
    Mean,
    /// The smallest; the earliest of equals.
    Min,
    /// The largest; the earliest of equals.
    Max,
    /// The earliest; the largest of equals.
    First,
    /// The latest; the largest of equals.
    Last,
    /// Largest less smallest.
    Spread,
    /// Sample standard deviation.
    Stddev,
    /// Middle of the sorted values.
    Median,
    /// The most frequent; the earliest of equals.
    Mode,
    /// Nearest rank of so many percent.
    Percentile(f64),
    /// Different values.
    Distinct,
    /// Area under the curve, by so many nanoseconds.
    Integral(i64),
    /// The largest.
    Top {
        /// How many.
        n: usize,
        /// At most one for each combination of so many values that stand beside it first.
        apart: usize,
    },
    /// The smallest.
    Bottom {
        /// How many.
        n: usize,
        /// At most one for each combination of so many values that stand beside it first.
        apart: usize,
    },
    /// So many at random.
    Sample(usize),
    /// Every point, for the functions of sequences.
    Sequence,
}

/// Values of other columns in the row of a selected point.
pub type Aux = Option<Box<[Value]>>;

/// A point that a selector chose.
#[derive(Clone, Debug, PartialEq)]
pub struct Picked {
    /// When.
    pub time: i64,
    /// The value.
    pub value: Value,
    /// What stands beside it.
    pub aux: Aux,
}

/// Consecutive rows of one series.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// One a row.
    pub times: &'a [i64],
    /// Row `i` of the run is row `start + i` of the column.
    pub column: &'a Column,
    /// See `column`.
    pub start: usize,
    /// Gives the other columns' values in a row of the run; `None` when nobody wants them.
    pub aux: Option<&'a dyn Fn(usize) -> Box<[Value]>>,
}

/// What has been gathered.
#[derive(Clone, Debug)]
pub enum State {
    /// Nothing yet.
    Empty,
    /// For `count`.
    Count(i64),
    /// For `sum`.
    Sum(Total),
    /// For `mean`.
    Mean {
        /// Sum.
        sum: Total,
        /// Numbers.
        count: u64,
    },
    /// For `min`, `max`, `first`, `last`.
    Pick(Picked),
    /// For `spread`.
    Spread(Value, Value),
    /// For `stddev`, `median`, and `percentile` when no time is wanted.
    Floats(Vec<f64>),
    /// The same, of integers.
    Integers(Vec<i64>),
    /// The same, of unsigned integers.
    Unsigned(Vec<u64>),
    /// For the others: every point.
    Points(Vec<Picked>),
}

impl Aggregate {
    /// Gives points that exist, with their time.
    pub fn is_selector(&self) -> bool {
        matches!(
            self,
            Self::Min
                | Self::Max
                | Self::First
                | Self::Last
                | Self::Percentile(_)
                | Self::Top { .. }
                | Self::Bottom { .. }
                | Self::Sample(_)
        )
    }

    /// May give several points a window.
    pub fn gives_many(&self) -> bool {
        matches!(
            self,
            Self::Distinct | Self::Top { .. } | Self::Bottom { .. } | Self::Sample(_) | Self::Sequence
        )
    }

    /// Does it take values of this type?
    pub fn takes(&self, field_type: crate::model::FieldType) -> bool {
        use crate::model::FieldType::{Boolean, String};
        match self {
            Self::Count
            | Self::CountDistinct
            | Self::First
            | Self::Last
            | Self::Mode
            | Self::Distinct
            | Self::Sample(_)
            | Self::Sequence => true,
            Self::Min | Self::Max => field_type != String,
            _ => !matches!(field_type, String | Boolean),
        }
    }
}

impl Run<'_> {
    fn rows(&self) -> Range<usize> {
        self.start..self.start + self.times.len()
    }

    fn pick(&self, row: usize) -> Picked {
        Picked {
            time: self.times[row - self.start],
            value: Value::of_values(&self.column.values, row),
            aux: self.aux.map(|aux| aux(row - self.start)),
        }
    }
}

/// Folds the present rows of a run.
fn fold<T: Copy, A>(run: &Run<'_>, values: &[T], mut acc: A, mut step: impl FnMut(A, usize, T) -> A) -> A {
    let rows = run.rows();
    match &run.column.present {
        None => {
            for (i, value) in values[rows.clone()].iter().enumerate() {
                acc = step(acc, rows.start + i, *value);
            }
        }
        Some(present) => {
            for row in rows {
                if present.get(row) {
                    acc = step(acc, row, values[row]);
                }
            }
        }
    }
    acc
}

/// The sum of a run of numbers.
fn total(run: &Run<'_>) -> Option<Total> {
    let mut sum = Total::of(&run.column.values)?;
    match (&mut sum, &run.column.values) {
        (Total::Float(sum), Values::Float(v)) => fold(run, v, (), |(), _, x| sum.add(x)),
        (Total::Integer(sum), Values::Integer(v)) => fold(run, v, (), |(), _, x| *sum += i128::from(x)),
        (Total::Unsigned(sum), Values::Unsigned(v)) => fold(run, v, (), |(), _, x| *sum += i128::from(x)),
        _ => {}
    }
    Some(sum)
}

fn count(run: &Run<'_>) -> usize {
    match &run.column.present {
        None => run.times.len(),
        Some(present) => run.rows().filter(|&row| present.get(row)).count(),
    }
}

/// Of the rows with the same time as `row`, which are next to it in `rest`, the one with the largest value. Only rows that a
/// subquery gave share their time.
fn largest_at(run: &Run<'_>, row: usize, rest: Range<usize>) -> usize {
    let time = run.times[row - run.start];
    let near = |r: &usize| run.times[*r - run.start] == time;
    let value = |r: usize| Value::of_values(&run.column.values, r);
    let before = rest.clone().rev().take_while(near);
    let others = rest.clone().take_while(near).chain(before);
    let present = others.filter(|&r| run.column.has(r));
    present.fold(row, |best, r| match value(r).total_order(&value(best)) {
        Ordering::Greater => r,
        _ => best,
    })
}

/// The present row whose value comes before all others by `before`; the first of equals.
fn best<T: Copy>(run: &Run<'_>, values: &[T], before: impl Fn(T, T) -> bool) -> Option<usize> {
    fold(
        run,
        values,
        None,
        |best: Option<(usize, T)>, row, value| match best {
            Some((_, so_far)) if !before(value, so_far) => best,
            _ => Some((row, value)),
        },
    )
    .map(|(row, _)| row)
}

/// So many points are gathered before the best of them are chosen.
const RANKED_MIN: usize = 4096;

impl State {
    /// Takes the rows of a run.
    pub fn push(&mut self, function: &Aggregate, run: &Run<'_>) {
        match function {
            Aggregate::Count => {
                let count = count(run) as i64;
                match self {
                    Self::Count(so_far) => *so_far += count,
                    _ if count > 0 => *self = Self::Count(count),
                    _ => {}
                }
            }
            Aggregate::Sum => self.push_sum(run),
            Aggregate::Mean => {
                let count = count(run) as u64;
                match (&mut *self, total(run)) {
                    (Self::Mean { sum: s, count: c }, Some(sum)) => {
                        s.add(&sum);
                        *c += count;
                    }
                    (_, Some(sum)) if count > 0 => *self = Self::Mean { sum, count },
                    _ => {}
                }
            }
            Aggregate::Min | Aggregate::Max => {
                let max = *function == Aggregate::Max;
                let row = match &run.column.values {
                    Values::Float(v) => best(run, v, |a, b| if max { a > b } else { a < b }),
                    Values::Integer(v) => best(run, v, |a, b| if max { a > b } else { a < b }),
                    Values::Unsigned(v) => best(run, v, |a, b| if max { a > b } else { a < b }),
                    Values::Boolean(v) => best(run, v, |a, b| if max { a & !b } else { !a & b }),
                    Values::String(_) => None,
                };
                self.offer(run, row, |new, old| {
                    let order = new.value.total_order(&old.value);
                    let wins = if max { Ordering::Greater } else { Ordering::Less };
                    order == wins || (order == Ordering::Equal && new.time < old.time)
                });
            }
            Aggregate::First | Aggregate::Last => {
                let last = *function == Aggregate::Last;
                let mut rows = run.rows();
                let row = if last {
                    rows.rfind(|&r| run.column.has(r))
                } else {
                    rows.find(|&r| run.column.has(r))
                };
                let row = row.map(|row| largest_at(run, row, rows));
                self.offer(run, row, |new, old| match new.time.cmp(&old.time) {
                    Ordering::Equal => new.value.total_order(&old.value) == Ordering::Greater,
                    Ordering::Less => !last,
                    Ordering::Greater => last,
                });
            }
            Aggregate::Spread => {
                let ends = |min: Option<usize>, max: Option<usize>| {
                    Some((
                        Value::of_values(&run.column.values, min?),
                        Value::of_values(&run.column.values, max?),
                    ))
                };
                let found = match &run.column.values {
                    Values::Float(v) => ends(best(run, v, |a, b| a < b), best(run, v, |a, b| a > b)),
                    Values::Integer(v) => ends(best(run, v, |a, b| a < b), best(run, v, |a, b| a > b)),
                    Values::Unsigned(v) => ends(best(run, v, |a, b| a < b), best(run, v, |a, b| a > b)),
                    _ => None,
                };
                if let Some((min, max)) = found {
                    match self {
                        Self::Spread(a, b) => {
                            if min.total_order(a) == Ordering::Less {
                                *a = min;
                            }
                            if max.total_order(b) == Ordering::Greater {
                                *b = max;
                            }
                        }
                        _ => *self = Self::Spread(min, max),
                    }
                }
            }
            Aggregate::Stddev | Aggregate::Median => self.push_numbers(run, true),
            Aggregate::Percentile(_) if run.aux.is_none() => self.push_numbers(run, false),
            _ => {
                let points = run
                    .rows()
                    .filter(|&row| run.column.has(row))
                    .map(|row| run.pick(row));
                match self {
                    Self::Points(so_far) => so_far.extend(points),
                    _ => {
                        let points: Vec<Picked> = points.collect();
                        if !points.is_empty() {
                            *self = Self::Points(points);
                        }
                    }
                }
            }
        }
        self.prune(function);
    }

    /// Lets go of points that cannot be among the best any more: at most [`RANKED_MIN`], or twice as many as are wanted, are
    /// held (and those that came last).
    pub(super) fn prune(&mut self, function: &Aggregate) {
        if let (Aggregate::Top { n, apart } | Aggregate::Bottom { n, apart }, Self::Points(points)) =
            (function, self)
            && points.len() > n.saturating_mul(2).max(RANKED_MIN)
        {
            best_apart(points, *function, *n, *apart);
        }
    }

    fn push_sum(&mut self, run: &Run<'_>) {
        if count(run) == 0 {
            return;
        }
        match (&mut *self, total(run)) {
            (Self::Sum(so_far), Some(sum)) => so_far.add(&sum),
            (_, Some(sum)) => *self = Self::Sum(sum),
            (_, None) => {}
        }
    }

    fn push_numbers(&mut self, run: &Run<'_>, as_floats: bool) {
        if count(run) == 0 {
            return;
        }
        if matches!(self, Self::Empty) {
            *self = match &run.column.values {
                Values::Integer(_) if !as_floats => Self::Integers(Vec::new()),
                Values::Unsigned(_) if !as_floats => Self::Unsigned(Vec::new()),
                _ => Self::Floats(Vec::new()),
            };
        }
        let same = matches!(
            (&*self, &run.column.values),
            (Self::Floats(_), _)
                | (Self::Integers(_), Values::Integer(_))
                | (Self::Unsigned(_), Values::Unsigned(_))
        );
        if !same {
            // Numbers of several types are taken as floats.
            *self = Self::Floats(self.floats());
        }
        match (self, &run.column.values) {
            (Self::Floats(to), Values::Float(v)) => fold(run, v, (), |(), _, x| to.push(x)),
            (Self::Floats(to), Values::Integer(v)) => fold(run, v, (), |(), _, x| to.push(x as f64)),
            (Self::Floats(to), Values::Unsigned(v)) => fold(run, v, (), |(), _, x| to.push(x as f64)),
            (Self::Integers(to), Values::Integer(v)) => fold(run, v, (), |(), _, x| to.push(x)),
            (Self::Unsigned(to), Values::Unsigned(v)) => fold(run, v, (), |(), _, x| to.push(x)),
            _ => {}
        }
    }

    /// The numbers it gathered, as floats.
    pub(super) fn floats(&self) -> Vec<f64> {
        match self {
            Self::Floats(v) => v.clone(),
            Self::Integers(v) => v.iter().map(|v| *v as f64).collect(),
            Self::Unsigned(v) => v.iter().map(|v| *v as f64).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes a row as the selected point if it wins over the one so far.
    fn offer(&mut self, run: &Run<'_>, row: Option<usize>, wins: impl Fn(&Picked, &Picked) -> bool) {
        let Some(row) = row else { return };
        let candidate = Picked {
            time: run.times[row - run.start],
            value: Value::of_values(&run.column.values, row),
            aux: None,
        };
        if let Self::Pick(best) = self
            && !wins(&candidate, best)
        {
            return;
        }
        *self = Self::Pick(Picked {
            aux: run.aux.map(|aux| aux(row - run.start)),
            ..candidate
        });
    }

    /// Is there anything in it?
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Rough bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Floats(v) => v.capacity() * 8,
                Self::Integers(v) => v.capacity() * 8,
                Self::Unsigned(v) => v.capacity() * 8,
                Self::Points(v) => {
                    // Texts are shared, mostly; what stands beside is as wide for all.
                    let beside = v.first().and_then(|p| p.aux.as_ref()).map_or(0, |aux| aux.len());
                    v.capacity() * (size_of::<Picked>() + beside * size_of::<Value>())
                }
                _ => 0,
            }
    }

    /// What it amounts to: points in ascending time. Times are those of the points for selectors, 0 for others.
    pub fn finish(self, function: &Aggregate) -> Vec<Picked> {
        let one = |value: Value| match value {
            Value::Null => Vec::new(),
            value => vec![Picked {
                time: 0,
                value,
                aux: None,
            }],
        };
        match (self, function) {
            (Self::Empty, _) => Vec::new(),
            (Self::Count(count), _) => one(Value::Integer(count)),
            (Self::Sum(sum), _) => one(sum.value()),
            (Self::Mean { sum, count }, _) => one(Value::Float(sum.as_f64() / count as f64)),
            (Self::Pick(picked), _) => vec![picked],
            (Self::Spread(min, max), _) => one(crate::query::value::binary(
                crate::lang::BinaryOp::Sub,
                &max,
                &min,
            )),
            (Self::Floats(mut v), Aggregate::Median) => one(Value::Float(median(&mut v))),
            (Self::Floats(v), Aggregate::Stddev) => one(stddev(&v)),
            (Self::Floats(mut v), Aggregate::Percentile(p)) => match nearest_rank(v.len(), *p) {
                Some(at) => one(Value::Float(*v.select_nth_unstable_by(at, f64::total_cmp).1)),
                None => Vec::new(),
            },
            (Self::Integers(mut v), Aggregate::Percentile(p)) => match nearest_rank(v.len(), *p) {
                Some(at) => one(Value::Integer(*v.select_nth_unstable(at).1)),
                None => Vec::new(),
            },
            (Self::Unsigned(mut v), Aggregate::Percentile(p)) => match nearest_rank(v.len(), *p) {
                Some(at) => one(Value::Unsigned(*v.select_nth_unstable(at).1)),
                None => Vec::new(),
            },
            (Self::Points(mut points), function) => {
                points.sort_by_key(|p| p.time);
                match function {
                    Aggregate::Percentile(p) => {
                        points.sort_by(|a, b| a.value.total_order(&b.value));
                        nearest_rank(points.len(), *p)
                            .map(|at| points.swap_remove(at))
                            .into_iter()
                            .collect()
                    }
                    Aggregate::Distinct | Aggregate::CountDistinct => {
                        // The earliest of equal values stays.
                        points.sort_by(|a, b| a.value.total_order(&b.value).then(a.time.cmp(&b.time)));
                        points.dedup_by(|a, b| a.value == b.value);
                        match function {
                            Aggregate::CountDistinct => one(Value::Integer(points.len() as i64)),
                            _ => in_order_of_time(points)
                                .into_iter()
                                .map(|p| Picked {
                                    time: 0,
                                    aux: None,
                                    ..p
                                })
                                .collect(),
                        }
                    }
                    Aggregate::Mode => mode(points).into_iter().flat_map(one).collect(),
                    Aggregate::Integral(unit) => one(Value::Float(integral(&points, *unit))),
                    Aggregate::Top { n, apart } | Aggregate::Bottom { n, apart } => {
                        best_apart(&mut points, *function, *n, *apart);
                        points.sort_by_key(|p| p.time);
                        points
                    }
                    Aggregate::Sample(n) => sample(points, *n),
                    Aggregate::Sequence => points,
                    _ => Vec::new(),
                }
            }
            (Self::Floats(_) | Self::Integers(_) | Self::Unsigned(_), _) => Vec::new(),
        }
    }
}

/// The points of [`State::finish`] without what stands beside them.
pub fn plain(picked: Vec<Picked>) -> Vec<Point> {
    picked.into_iter().map(|p| (p.time, p.value)).collect()
}

/// Keeps the `n` best, best first; the earliest of equals.
fn rank(points: &mut Vec<Picked>, function: Aggregate, n: usize) {
    points.sort_by(|a, b| {
        let order = a.value.total_order(&b.value);
        let order = if matches!(function, Aggregate::Top { .. }) {
            order.reverse()
        } else {
            order
        };
        order.then(a.time.cmp(&b.time))
    });
    points.truncate(n);
}

/// The same, and at most one for each combination of the first `apart` values beside them.
fn best_apart(points: &mut Vec<Picked>, function: Aggregate, n: usize, apart: usize) {
    if apart == 0 {
        return rank(points, function, n);
    }
    rank(points, function, usize::MAX);
    let mut seen = HashSet::new();
    points.retain(|point| {
        // Tags, so the text tells them apart.
        let key = point.aux.as_ref().map(|aux| format!("{:?}", &aux[..apart]));
        seen.len() < n && seen.insert(key)
    });
}

fn in_order_of_time(mut points: Vec<Picked>) -> Vec<Picked> {
    points.sort_by(|a, b| a.time.cmp(&b.time).then(a.value.total_order(&b.value)));
    points
}

/// Position of the nearest rank; `None` when there is none.
fn nearest_rank(count: usize, percent: f64) -> Option<usize> {
    let rank = (count as f64 * percent / 100.0 + 0.5).floor() as i64 - 1;
    usize::try_from(rank).ok().filter(|&rank| rank < count)
}

fn median(v: &mut [f64]) -> f64 {
    let (middle, odd) = (v.len() / 2, v.len() % 2 == 1);
    let (below, upper, _) = v.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return upper;
    }
    let below = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    below + (upper - below) / 2.0
}

/// Of a single point not a number: shown as null, and not what fill() fills.
fn stddev(v: &[f64]) -> Value {
    if v.len() < 2 {
        return Value::Float(f64::NAN);
    }
    let mut mean = 0.0;
    for (i, x) in v.iter().enumerate() {
        mean += (x - mean) / (i + 1) as f64;
    }
    let variance = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (v.len() - 1) as f64;
    Value::Float(variance.sqrt())
}

fn mode(mut points: Vec<Picked>) -> Option<Value> {
    points.sort_by(|a, b| a.value.total_order(&b.value).then(a.time.cmp(&b.time)));
    let groups = points.chunk_by(|a, b| a.value == b.value);
    // Most frequent, then earliest.
    groups
        .min_by_key(|g| (std::cmp::Reverse(g.len()), g[0].time))
        .map(|g| g[0].value.clone())
}

fn integral(points: &[Picked], unit: i64) -> f64 {
    let area = |pair: &[Picked]| {
        let (a, b) = (pair[0].value.as_f64()?, pair[1].value.as_f64()?);
        Some((pair[1].time - pair[0].time) as f64 / unit as f64 * (a + b) / 2.0)
    };
    points.windows(2).filter_map(area).sum()
}

/// `n` points by chance; the same ones each time for the same points.
fn sample(points: Vec<Picked>, n: usize) -> Vec<Picked> {
    let mut random = points.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let mut left = n;
    let total = points.len();
    let keep = |(i, _): &(usize, Picked)| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let chosen = (random >> 33) as usize % (total - i) < left;
        left -= usize::from(chosen);
        chosen
    };
    points
        .into_iter()
        .enumerate()
        .filter(keep)
        .map(|(_, p)| p)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bitmap;

    /// Pushes the numbers in runs of three; `None` is a row without a value.
    fn run_all(function: Aggregate, values: &[Option<i64>], floats: bool) -> Vec<(i64, Value)> {
        let numbers: Vec<i64> = values.iter().map(|v| v.unwrap_or(0)).collect();
        let mut present = Bitmap::new();
        values.iter().for_each(|v| present.push(v.is_some()));
        let column = Column {
            values: if floats {
                Values::Float(numbers.iter().map(|n| *n as f64).collect())
            } else {
                Values::Integer(numbers)
            },
            present: Some(present),
        };
        let times: Vec<i64> = (0..values.len() as i64).map(|i| i * 10).collect();
        let mut state = State::Empty;
        for start in (0..values.len()).step_by(3) {
            let end = values.len().min(start + 3);
            state.push(
                &function,
                &Run {
                    times: &times[start..end],
                    column: &column,
                    start,
                    aux: None,
                },
            );
        }
        plain(state.finish(&function))
    }

    #[test]
    fn functions_of_integers_and_floats() {
        let input = [Some(4), None, Some(1), Some(9), Some(4), None, Some(2)];
        use Value::{Float, Integer};
        let cases = [
            (Aggregate::Count, vec![(0, Integer(5))], vec![(0, Integer(5))]),
            (
                Aggregate::CountDistinct,
                vec![(0, Integer(4))],
                vec![(0, Integer(4))],
            ),
            (Aggregate::Sum, vec![(0, Integer(20))], vec![(0, Float(20.0))]),
            (Aggregate::Mean, vec![(0, Float(4.0))], vec![(0, Float(4.0))]),
            (Aggregate::Min, vec![(20, Integer(1))], vec![(20, Float(1.0))]),
            (Aggregate::Max, vec![(30, Integer(9))], vec![(30, Float(9.0))]),
            (Aggregate::First, vec![(0, Integer(4))], vec![(0, Float(4.0))]),
            (Aggregate::Last, vec![(60, Integer(2))], vec![(60, Float(2.0))]),
            (Aggregate::Spread, vec![(0, Integer(8))], vec![(0, Float(8.0))]),
            (Aggregate::Median, vec![(0, Float(4.0))], vec![(0, Float(4.0))]),
            (Aggregate::Mode, vec![(0, Integer(4))], vec![(0, Float(4.0))]),
            (
                Aggregate::Percentile(50.0),
                vec![(0, Integer(4))],
                vec![(0, Float(4.0))],
            ),
            (Aggregate::Percentile(1.0), vec![], vec![]),
            (
                Aggregate::Percentile(100.0),
                vec![(0, Integer(9))],
                vec![(0, Float(9.0))],
            ),
            (
                Aggregate::Top { n: 2, apart: 0 },
                vec![(0, Integer(4)), (30, Integer(9))],
                vec![(0, Float(4.0)), (30, Float(9.0))],
            ),
            (
                Aggregate::Bottom { n: 1, apart: 0 },
                vec![(20, Integer(1))],
                vec![(20, Float(1.0))],
            ),
            (
                Aggregate::Integral(10),
                vec![(0, Float(22.5))],
                vec![(0, Float(22.5))],
            ),
        ];
        for (function, integers, floats) in cases {
            assert_eq!(run_all(function, &input, false), integers, "{function:?}");
            assert_eq!(run_all(function, &input, true), floats, "{function:?}");
            assert_eq!(
                run_all(function, &[None, None], true),
                [],
                "{function:?} of nothing"
            );
        }
        let Some((_, Float(deviation))) = run_all(Aggregate::Stddev, &input, false).pop() else {
            panic!("a float")
        };
        assert!((deviation - 3.082_207_001_484_488).abs() < 1e-12);
        let one = run_all(Aggregate::Stddev, &[Some(1)], false);
        assert!(matches!(one[..], [(0, Float(v))] if v.is_nan()), "{one:?}");
        assert_eq!(run_all(Aggregate::Sample(3), &input, false).len(), 3);
    }

    #[test]
    fn the_best_by_tag_are_found_without_keeping_all_points() {
        let rows = 200_000usize;
        let value = |row: usize| (row * 7919 % 100_003) as i64;
        let tag = |row: usize| Value::String(format!("h{}", row % 50).into());
        let (function, top) = (Aggregate::Top { n: 3, apart: 1 }, 3);
        let mut states = [State::Empty, State::Empty];
        let mut held = 0;
        for start in (0..rows).step_by(500) {
            let column = Column {
                values: Values::Integer((start..start + 500).map(value).collect()),
                present: None,
            };
            let times: Vec<i64> = (start..start + 500).map(|row| row as i64).collect();
            let aux = |i: usize| -> Box<[Value]> { [tag(start + i)].into() };
            let run = Run {
                times: &times,
                column: &column,
                start: 0,
                aux: Some(&aux),
            };
            let state = &mut states[start / 500 % 2];
            state.push(&function, &run);
            let State::Points(points) = state else {
                panic!("points")
            };
            held = held.max(points.len());
        }
        assert!(held < RANKED_MIN + 500, "{held} points of {rows} were held");
        let [mut one, other] = states;
        one.merge(&function, &other);
        let found: Vec<(i64, Value)> = plain(one.finish(&function));
        // By hand: the best of each tag, then the best of these.
        let mut best: Vec<(i64, usize)> = (0..50)
            .map(|tag| {
                let of_tag = (tag..rows).step_by(50);
                of_tag.map(|row| (-value(row), row)).min().expect("it has rows")
            })
            .collect();
        best.sort_unstable();
        best.truncate(top);
        best.sort_by_key(|(_, row)| *row);
        let want: Vec<(i64, Value)> = best
            .iter()
            .map(|(value, row)| (*row as i64, Value::Integer(-value)))
            .collect();
        assert_eq!(found, want);
    }
}
