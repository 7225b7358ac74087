//! Sums of numbers of any type that lose nothing by the way: of integers in 128 bits.

use crate::block::stats::FloatSum;
use crate::model::Values;
use crate::query::value::Value;

/// A sum of numbers of any type.
#[derive(Clone, Copy, Debug)]
pub enum Total {
    /// Of floats.
    Float(FloatSum),
    /// Of signed integers.
    Integer(i128),
    /// Of unsigned integers.
    Unsigned(i128),
}

impl Total {
    /// Zero, for values of a type; none for texts and truth values.
    pub fn of(values: &Values) -> Option<Self> {
        Some(match values {
            Values::Float(_) => Self::Float(FloatSum::default()),
            Values::Integer(_) => Self::Integer(0),
            Values::Unsigned(_) => Self::Unsigned(0),
            _ => return None,
        })
    }

    /// Adds another one. Where the types differ the sum is one of floats.
    pub fn add(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Float(a), Self::Float(b)) => a.add_sum(*b),
            (Self::Integer(a), Self::Integer(b)) | (Self::Unsigned(a), Self::Unsigned(b)) => {
                *a = a.saturating_add(*b);
            }
            (a, b) => {
                let mut sum = a.as_sum();
                sum.add_sum(b.as_sum());
                *self = Self::Float(sum);
            }
        }
    }

    fn as_sum(&self) -> FloatSum {
        match self {
            Self::Float(sum) => *sum,
            Self::Integer(v) | Self::Unsigned(v) => {
                let mut sum = FloatSum::default();
                sum.add(*v as f64);
                sum
            }
        }
    }

    /// As a float.
    pub fn as_f64(&self) -> f64 {
        match self {
            Self::Float(sum) => sum.value(),
            Self::Integer(v) | Self::Unsigned(v) => *v as f64,
        }
    }

    /// As a value of its type; an integer that does not fit is a float.
    pub fn value(&self) -> Value {
        match self {
            Self::Integer(v) => i64::try_from(*v).map_or(Value::Float(*v as f64), Value::Integer),
            Self::Unsigned(v) => u64::try_from(*v).map_or(Value::Float(*v as f64), Value::Unsigned),
            Self::Float(sum) => Value::Float(sum.value()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_do_not_fit_are_floats() {
        let mut sum = Total::Integer(0);
        sum.add(&Total::Integer(i64::MAX.into()));
        assert_eq!(sum.value(), Value::Integer(i64::MAX));
        sum.add(&Total::Integer(1));
        assert_eq!(sum.value(), Value::Float(9_223_372_036_854_775_808.0));
        sum.add(&Total::Integer(-1));
        assert_eq!(sum.value(), Value::Integer(i64::MAX));
        sum.add(&Total::Float(FloatSum::default()));
        assert!(matches!(sum, Total::Float(_)));
    }
}
