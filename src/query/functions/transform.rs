//! Functions of a sequence of points in ascending time: `derivative`, `moving_average`, ..

use super::Point;
use crate::lang::BinaryOp;
use crate::query::value::{Value, binary};

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
}

impl Transform {
    /// Windows before the first wanted one that it needs.
    pub fn extra_windows(&self) -> i64 {
        match self {
            Self::Derivative { .. } | Self::Difference { .. } | Self::Elapsed { .. } => 1,
            Self::MovingAverage { points } => *points as i64 - 1,
            Self::CumulativeSum => 0,
        }
    }

    /// The points it makes of these, which ascend in time. Points without a value are passed over.
    pub fn apply(&self, points: &[Point]) -> Vec<Point> {
        let points: Vec<&Point> = points.iter().filter(|(_, value)| !value.is_null()).collect();
        match *self {
            Self::Derivative { unit, non_negative } => changes(&points, |(t1, a), (t2, b)| {
                let elapsed = t2.wrapping_sub(*t1);
                let change = b.as_f64()? - a.as_f64()?;
                if elapsed == 0 || (non_negative && change < 0.0) {
                    return None;
                }
                Some(Value::Float(change / (elapsed as f64 / unit as f64)))
            }),
            Self::Difference { non_negative } => changes(&points, |(_, a), (_, b)| {
                let change = match (a, b) {
                    (Value::Unsigned(a), Value::Unsigned(b)) if b < a => {
                        Value::Integer(b.wrapping_sub(*a) as i64)
                    }
                    _ => binary(BinaryOp::Sub, b, a),
                };
                let negative = change.as_f64()? < 0.0;
                (!non_negative || !negative).then_some(change)
            }),
            Self::Elapsed { unit } => changes(&points, |(t1, _), (t2, _)| {
                Some(Value::Integer(t2.wrapping_sub(*t1) / unit))
            }),
            Self::MovingAverage { points: count } => {
                let numbers: Vec<(i64, f64)> = points
                    .iter()
                    .filter_map(|(t, v)| Some((*t, v.as_f64()?)))
                    .collect();
                numbers
                    .windows(count.max(1))
                    .map(|w| {
                        (
                            w[w.len() - 1].0,
                            Value::Float(w.iter().map(|(_, v)| v).sum::<f64>() / count as f64),
                        )
                    })
                    .collect()
            }
            Self::CumulativeSum => {
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
        }
    }
}

fn changes(points: &[&Point], change: impl Fn(&Point, &Point) -> Option<Value>) -> Vec<Point> {
    points
        .windows(2)
        .filter_map(|pair| Some((pair[1].0, change(pair[0], pair[1])?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(transform: Transform, input: &[(i64, i64)], want: &[(i64, f64)]) {
        let points: Vec<Point> = input.iter().map(|(t, v)| (*t, Value::Integer(*v))).collect();
        let got: Vec<(i64, f64)> = transform
            .apply(&points)
            .iter()
            .map(|(t, v)| (*t, v.as_f64().expect("a number")))
            .collect();
        assert_eq!(got, want, "{transform:?}");
    }

    #[test]
    fn sequences() {
        let input = [(0, 10), (10, 30), (20, 20), (40, 60)];
        check(
            Transform::Derivative {
                unit: 10,
                non_negative: false,
            },
            &input,
            &[(10, 20.0), (20, -10.0), (40, 20.0)],
        );
        check(
            Transform::Derivative {
                unit: 10,
                non_negative: true,
            },
            &input,
            &[(10, 20.0), (40, 20.0)],
        );
        check(
            Transform::Difference { non_negative: true },
            &input,
            &[(10, 20.0), (40, 40.0)],
        );
        check(
            Transform::Elapsed { unit: 5 },
            &input,
            &[(10, 2.0), (20, 2.0), (40, 4.0)],
        );
        check(
            Transform::MovingAverage { points: 2 },
            &input,
            &[(10, 20.0), (20, 25.0), (40, 40.0)],
        );
        check(
            Transform::CumulativeSum,
            &input,
            &[(0, 10.0), (10, 40.0), (20, 60.0), (40, 120.0)],
        );
        check(Transform::CumulativeSum, &[], &[]);
    }
}
