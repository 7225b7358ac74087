//! The types that folds are made for.

use crate::block::stats::Numbers;
use crate::block::steps::{StepColumns, StepNumbers};
use crate::model::Values;

/// The ends of the values of each step.
pub struct StepEnds<'a, T> {
    pub min: &'a [T],
    pub max: &'a [T],
    pub first: &'a [T],
    pub last: &'a [T],
}

impl<'a, T, S> From<&'a StepColumns<T, S>> for StepEnds<'a, T> {
    fn from(columns: &'a StepColumns<T, S>) -> Self {
        Self {
            min: &columns.min,
            max: &columns.max,
            first: &columns.first,
            last: &columns.last,
        }
    }
}

/// A value with an order, held in a column of its own type.
pub trait Number: Copy + Default + PartialOrd + Send + Sync + 'static {
    /// The values of a column. Empty when it is of another type, which the maker of the fold excludes.
    fn of(values: &Values) -> &[Self];

    /// A column of these.
    fn into_values(list: Vec<Self>) -> Values;

    /// As float.
    fn to_f64(self) -> f64;

    /// A total order.
    fn total(&self, other: &Self) -> std::cmp::Ordering;

    /// Is it no number?
    fn is_nan(self) -> bool;

    /// Smallest and largest, as statistics have them.
    fn ends(numbers: &Numbers) -> Option<(Self, Self)>;

    /// The same and the first and the last, by step.
    fn step_ends(numbers: &StepNumbers) -> Option<StepEnds<'_, Self>>;

    /// The distance down to a smaller one; none when it does not fit.
    fn above(self, smaller: Self) -> Option<Self>;
}

macro_rules! number {
    ($type:ty, $variant:ident, $to_f64:expr, $is_nan:expr, $total:expr, $above:expr, $ends:expr $(, $steps:ident)?) => {
        impl Number for $type {
            fn of(values: &Values) -> &[Self] {
                match values {
                    Values::$variant(v) => v,
                    _ => &[],
                }
            }

            fn into_values(list: Vec<Self>) -> Values {
                Values::$variant(list)
            }

            fn to_f64(self) -> f64 {
                $to_f64(self)
            }

            fn total(&self, other: &Self) -> std::cmp::Ordering {
                $total(self, other)
            }

            #[inline]
            fn is_nan(self) -> bool {
                $is_nan(self)
            }

            fn ends(numbers: &Numbers) -> Option<(Self, Self)> {
                $ends(numbers)
            }

            fn step_ends(numbers: &StepNumbers) -> Option<StepEnds<'_, Self>> {
                match numbers {
                    $(StepNumbers::$steps(columns) => Some(columns.into()),)?
                    _ => None,
                }
            }

            fn above(self, smaller: Self) -> Option<Self> {
                $above(self, smaller)
            }
        }
    };
}

number!(
    f64,
    Float,
    |v| v,
    f64::is_nan,
    f64::total_cmp,
    |a, b| Some(a - b),
    |n: &Numbers| match *n {
        Numbers::Float { min, max, .. } => Some((min, max)),
        _ => None,
    },
    Float
);
number!(
    i64,
    Integer,
    |v| v as f64,
    |_| false,
    i64::cmp,
    i64::checked_sub,
    |n: &Numbers| match *n {
        Numbers::Integer { min, max, .. } => Some((min, max)),
        _ => None,
    },
    Integer
);
number!(
    u64,
    Unsigned,
    |v| v as f64,
    |_| false,
    u64::cmp,
    u64::checked_sub,
    |n: &Numbers| match *n {
        Numbers::Unsigned { min, max, .. } => Some((min, max)),
        _ => None,
    },
    Unsigned
);
number!(
    bool,
    Boolean,
    |v| f64::from(u8::from(v)),
    |_| false,
    bool::cmp,
    |a, _| Some(a),
    |_: &Numbers| None
);
