//! Functions of a sequence of points in ascending time: `derivative`, `moving_average`, `integral`, ..

use super::Point;
use super::holt_winters::HoltWinters;
use super::momentum::Momentum;
use crate::lang::BinaryOp;
use crate::query::error::QueryError;
use crate::query::value::{Value, binary};
use crate::query::windows::Windows;
use std::collections::VecDeque;

/// A function with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    /// Change per `unit` nanoseconds.
    Derivative {
        /// Nanoseconds.
        unit: i64,
        /// Negative changes are left out.
        non_negative: bool,
    },
    /// Change.
    Difference {
        /// Negative changes are left out.
        non_negative: bool,
    },
    /// Time between points in units of so many nanoseconds.
    Elapsed {
        /// Nanoseconds.
        unit: i64,
    },
    /// Mean of the last so many points.
    MovingAverage {
        /// Points, at least 2.
        points: usize,
    },
    /// Sum of all points so far.
    CumulativeSum,
    /// Area under the curve, by window, in units of so many nanoseconds.
    Integral {
        /// Nanoseconds.
        unit: i64,
    },
    /// Averages and oscillators.
    Momentum(Momentum),
    /// A forecast.
    HoltWinters(HoltWinters),
}

impl Transform {
    /// Windows before the first wanted one that it looks at.
    pub fn lead(&self) -> i64 {
        match self {
            Self::Derivative { .. } | Self::Difference { .. } | Self::Elapsed { .. } | Self::Momentum(_) => 1,
            Self::MovingAverage { points } => i64::try_from(*points).unwrap_or(i64::MAX) - 1,
            Self::CumulativeSum | Self::Integral { .. } | Self::HoltWinters(_) => 0,
        }
    }

    /// The points it makes of these, which ascend in time. Points without a value are passed over.
    ///
    /// # Errors
    /// A limit; what `check` gives, which long work asks whether to go on.
    pub fn apply(
        &self,
        points: &[Point],
        windows: Option<&Windows>,
        check: &dyn Fn() -> Result<(), QueryError>,
    ) -> Result<Vec<Point>, QueryError> {
        let points: Vec<&Point> = points.iter().filter(|(_, value)| !value.is_null()).collect();
        Ok(match *self {
            Self::Derivative { unit, non_negative } => changes(points, |(t1, a), (t2, b)| {
                let change = b.as_f64()? - a.as_f64()?;
                let elapsed = t2.wrapping_sub(*t1) as f64 / unit as f64;
                (!non_negative || change >= 0.0).then(|| Value::Float(change / elapsed))
            }),
            Self::Difference { non_negative } => {
                changes(points, |(_, a), (_, b)| difference(a, b, non_negative))
            }
            Self::Elapsed { unit } => {
                let elapsed = |pair: &[&Point]| {
                    (
                        pair[1].0,
                        Value::Integer(pair[1].0.wrapping_sub(pair[0].0) / unit),
                    )
                };
                points.windows(2).map(elapsed).collect()
            }
            Self::MovingAverage { points: count } => moving_average(&points, count),
            Self::CumulativeSum => cumulative_sum(&points),
            Self::Integral { unit } => integral(&points, unit, windows),
            Self::Momentum(momentum) => momentum.apply(&points),
            Self::HoltWinters(forecast) => forecast.apply(&points, check)?,
        })
    }
}

/// Of points of equal time the first counts.
fn changes(mut points: Vec<&Point>, change: impl Fn(&Point, &Point) -> Option<Value>) -> Vec<Point> {
    points.dedup_by_key(|point| point.0);
    let pairs = points.windows(2);
    pairs
        .filter_map(|pair| Some((pair[1].0, change(pair[0], pair[1])?)))
        .collect()
}

fn difference(a: &Value, b: &Value, non_negative: bool) -> Option<Value> {
    let change = binary(BinaryOp::Sub, b, a);
    let negative = change.as_f64()? < 0.0;
    (!non_negative || !negative).then_some(change)
}

fn moving_average(points: &[&Point], count: usize) -> Vec<Point> {
    let numbers = points.iter().filter_map(|(t, v)| Some((*t, v.as_f64()?)));
    let mut kept: VecDeque<f64> = VecDeque::new();
    let mut sum = 0.0;
    let mut out = Vec::new();
    for (time, number) in numbers {
        if kept.len() == count {
            sum -= kept.pop_front().unwrap_or(0.0);
        }
        kept.push_back(number);
        sum += number;
        if kept.len() == count {
            out.push((time, Value::Float(sum / count as f64)));
        }
    }
    out
}

fn cumulative_sum(points: &[&Point]) -> Vec<Point> {
    let mut sum = Value::Null;
    let mut out = Vec::with_capacity(points.len());
    for (time, value) in points {
        if value.as_f64().is_some() {
            sum = if sum.is_null() {
                value.clone()
            } else {
                binary(BinaryOp::Add, &sum, value)
            };
            out.push((*time, sum.clone()));
        }
    }
    out
}

/// The trapezium rule. At the end of a window the curve is taken to be straight between the points around it; the area over
/// windows without points belongs to the next window with one.
fn integral(points: &[&Point], unit: i64, windows: Option<&Windows>) -> Vec<Point> {
    let mut numbers = points.iter().filter_map(|(t, v)| Some((*t, v.as_f64()?)));
    let Some(mut before) = numbers.next() else {
        return Vec::new();
    };
    let window = |time: i64| windows.map(|w| (w.start(time), w.next(w.start(time))));
    let area =
        |(t1, a): (i64, f64), (t2, b): (i64, f64)| 0.5 * (a + b) * (t2.wrapping_sub(t1) as f64 / unit as f64);
    let (mut start, mut end) = window(before.0).unwrap_or((0, i64::MAX));
    let mut sum = 0.0;
    let mut out = Vec::new();
    for point in numbers {
        if point.0 == before.0 {
            before = point;
            continue;
        }
        if point.0 >= end {
            if before.0 != end {
                let share = end.wrapping_sub(before.0) as f64 / point.0.wrapping_sub(before.0) as f64;
                let edge = (end, before.1 + (point.1 - before.1) * share);
                sum += area(before, edge);
                before = edge;
            }
            out.push((start, Value::Float(sum)));
            (start, end) = window(point.0).unwrap_or((0, i64::MAX));
            sum = 0.0;
        }
        sum += area(before, point);
        before = point;
    }
    // A single point at the start of its window has no area.
    if before.0 != start {
        out.push((start, Value::Float(sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_in(transform: Transform, windows: Option<&Windows>, input: &[(i64, i64)], want: &[(i64, f64)]) {
        let points: Vec<Point> = input.iter().map(|(t, v)| (*t, Value::Integer(*v))).collect();
        let got: Vec<(i64, f64)> = transform
            .apply(&points, windows, &|| Ok(()))
            .expect("no limit")
            .iter()
            .map(|(t, v)| (*t, v.as_f64().expect("a number")))
            .collect();
        assert_eq!(got, want, "{transform:?}");
    }

    fn check(transform: Transform, input: &[(i64, i64)], want: &[(i64, f64)]) {
        check_in(transform, None, input, want);
    }

    #[test]
    fn sequences() {
        let input = [(0, 10), (10, 30), (10, 99), (20, 20), (40, 60)];
        let derivative = |non_negative| Transform::Derivative {
            unit: 10,
            non_negative,
        };
        check(derivative(false), &input, &[(10, 20.0), (20, -10.0), (40, 20.0)]);
        check(derivative(true), &input, &[(10, 20.0), (40, 20.0)]);
        let difference = |non_negative| Transform::Difference { non_negative };
        check(difference(false), &input, &[(10, 20.0), (20, -10.0), (40, 40.0)]);
        check(difference(true), &input, &[(10, 20.0), (40, 40.0)]);
        check(
            Transform::Elapsed { unit: 5 },
            &input,
            &[(10, 2.0), (10, 0.0), (20, 2.0), (40, 4.0)],
        );
        let average = Transform::MovingAverage { points: 2 };
        check(average, &input, &[(10, 20.0), (10, 64.5), (20, 59.5), (40, 40.0)]);
        let sums = [(0, 10.0), (10, 40.0), (10, 139.0), (20, 159.0), (40, 219.0)];
        check(Transform::CumulativeSum, &input, &sums);
        check(Transform::CumulativeSum, &[], &[]);
    }

    #[test]
    fn differences_that_do_not_fit() {
        use Value::{Float, Integer, Unsigned};
        assert_eq!(difference(&Unsigned(5), &Unsigned(3), true), None);
        assert_eq!(difference(&Unsigned(5), &Unsigned(3), false), Some(Integer(-2)));
        assert_eq!(
            difference(&Integer(i64::MIN), &Integer(i64::MAX), false),
            Some(Float(u64::MAX as f64))
        );
    }

    #[test]
    fn areas_are_split_at_the_ends_of_windows() {
        let integral = Transform::Integral { unit: 10 };
        check(integral, &[(0, 10), (10, 30), (30, 10)], &[(0, 60.0)]);
        let windows = Windows::fixed(20, 0);
        check_in(
            integral,
            Some(&windows),
            &[(0, 10), (10, 30), (30, 10)],
            &[(0, 45.0), (20, 15.0)],
        );
        check_in(
            integral,
            Some(&windows),
            &[(10, 10), (70, 70)],
            &[(0, 15.0), (60, 225.0)],
        );
        check_in(integral, Some(&windows), &[(20, 10)], &[]);
        check_in(integral, Some(&windows), &[(25, 10)], &[(20, 0.0)]);
    }
}
