//! A single value of a query, and InfluxQL's arithmetic and comparisons on values.

use crate::lang::BinaryOp;
use crate::model::{Column, FieldType, Values};
use std::cmp::Ordering;
use std::sync::Arc;

/// A value, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// 64-bit float.
    Float(f64),
    /// Signed 64-bit integer.
    Integer(i64),
    /// Unsigned 64-bit integer.
    Unsigned(u64),
    /// true or false.
    Boolean(bool),
    /// Text.
    String(Arc<str>),
}

impl Value {
    /// Is there none?
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Its type; `None` when there is no value.
    pub fn field_type(&self) -> Option<FieldType> {
        Some(match self {
            Self::Null => return None,
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        })
    }

    /// A number as float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Integer(v) => Some(*v as f64),
            Self::Unsigned(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// Row `row` of a column.
    pub fn of_column(column: &Column, row: usize) -> Self {
        if column.has(row) {
            Self::of_values(&column.values, row)
        } else {
            Self::Null
        }
    }

    /// Row `row`, which has a value.
    pub fn of_values(values: &Values, row: usize) -> Self {
        match values {
            Values::Float(v) => Self::Float(v[row]),
            Values::Integer(v) => Self::Integer(v[row]),
            Values::Unsigned(v) => Self::Unsigned(v[row]),
            Values::Boolean(v) => Self::Boolean(v[row]),
            Values::String(v) => Self::String(v.text(row).into()),
        }
    }

    /// What a cast `::type` gives.
    pub fn cast(self, to: FieldType) -> Self {
        match (to, &self) {
            (FieldType::Float, Self::Integer(_) | Self::Unsigned(_)) => {
                Self::Float(self.as_f64().unwrap_or(0.0))
            }
            (FieldType::Integer, Self::Float(v)) => Self::Integer(*v as i64),
            (FieldType::Integer, Self::Unsigned(v)) => Self::Integer(*v as i64),
            (FieldType::Unsigned, Self::Float(v)) => Self::Unsigned(*v as u64),
            (FieldType::Unsigned, Self::Integer(v)) => Self::Unsigned(*v as u64),
            _ if self.field_type() == Some(to) => self,
            _ => Self::Null,
        }
    }

    /// Order among values of kin types; numbers compare with numbers.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.cmp(b),
            (Self::Integer(a), Self::Unsigned(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Self::Unsigned(a), Self::Integer(b)) => i128::from(*a).cmp(&i128::from(*b)),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            _ => return self.as_f64()?.partial_cmp(&other.as_f64()?),
        })
    }

    /// A total order for sorting: as [`compare`](Self::compare), NaN last, types apart.
    pub fn total_order(&self, other: &Self) -> Ordering {
        let rank = |v: &Self| match v {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::String(_) => 3,
            _ => 2,
        };
        self.compare(other).unwrap_or_else(|| match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b),
            _ => rank(self).cmp(&rank(other)),
        })
    }
}

/// `lhs op rhs` for arithmetic and comparisons (not `=~`). Null with anything, and types that do not fit, give null; comparisons of
/// types that do not fit are false.
pub fn binary(op: BinaryOp, lhs: &Value, rhs: &Value) -> Value {
    use Value::{Boolean, Integer, Unsigned};
    if op.is_comparison() {
        return Boolean(compare(op, lhs, rhs));
    }
    match (op, lhs, rhs) {
        (BinaryOp::And, Boolean(a), Boolean(b)) => Boolean(*a && *b),
        (BinaryOp::Or, Boolean(a), Boolean(b)) => Boolean(*a || *b),
        (BinaryOp::And | BinaryOp::Or, ..) => match (op, lhs, rhs) {
            (BinaryOp::Or, Boolean(true), _) | (BinaryOp::Or, _, Boolean(true)) => Boolean(true),
            _ => Boolean(false),
        },
        (BinaryOp::BitAnd, Boolean(a), Boolean(b)) => Boolean(a & b),
        (BinaryOp::BitOr, Boolean(a), Boolean(b)) => Boolean(a | b),
        (BinaryOp::BitXor, Boolean(a), Boolean(b)) => Boolean(a ^ b),
        (_, Integer(a), Integer(b)) => integers(op, *a, *b),
        (_, Unsigned(a), Unsigned(b)) => unsigned(op, *a, *b),
        (_, Unsigned(a), Integer(b)) if *b >= 0 => unsigned(op, *a, *b as u64),
        (_, Integer(a), Unsigned(b)) if *a >= 0 => unsigned(op, *a as u64, *b),
        _ => match (lhs.as_f64(), rhs.as_f64()) {
            (Some(a), Some(b)) => floats(op, a, b),
            _ => Value::Null,
        },
    }
}

/// A result that does not fit becomes a float: large, not wrong.
fn integers(op: BinaryOp, a: i64, b: i64) -> Value {
    let fitting = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div => return Value::Float(if b == 0 { 0.0 } else { a as f64 / b as f64 }),
        BinaryOp::Mod => Some(a.checked_rem(b).unwrap_or(0)),
        BinaryOp::BitAnd => Some(a & b),
        BinaryOp::BitOr => Some(a | b),
        BinaryOp::BitXor => Some(a ^ b),
        _ => return Value::Null,
    };
    fitting.map_or_else(|| floats(op, a as f64, b as f64), Value::Integer)
}

/// As for integers; a difference below zero is an integer.
fn unsigned(op: BinaryOp, a: u64, b: u64) -> Value {
    let fitting = match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub if a < b => {
            return i64::try_from(b - a)
                .map_or_else(|_| floats(op, a as f64, b as f64), |n| Value::Integer(-n));
        }
        BinaryOp::Sub => Some(a - b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div => Some(a.checked_div(b).unwrap_or(0)),
        BinaryOp::Mod => Some(a.checked_rem(b).unwrap_or(0)),
        BinaryOp::BitAnd => Some(a & b),
        BinaryOp::BitOr => Some(a | b),
        BinaryOp::BitXor => Some(a ^ b),
        _ => return Value::Null,
    };
    fitting.map_or_else(|| floats(op, a as f64, b as f64), Value::Unsigned)
}

fn floats(op: BinaryOp, a: f64, b: f64) -> Value {
    match op {
        BinaryOp::Add => Value::Float(a + b),
        BinaryOp::Sub => Value::Float(a - b),
        BinaryOp::Mul => Value::Float(a * b),
        BinaryOp::Div => Value::Float(if b == 0.0 { 0.0 } else { a / b }),
        BinaryOp::Mod => Value::Float(a % b),
        _ => Value::Null,
    }
}

fn compare(op: BinaryOp, lhs: &Value, rhs: &Value) -> bool {
    let order = lhs.compare(rhs);
    match op {
        BinaryOp::Eq => order == Some(Ordering::Equal),
        BinaryOp::Neq => !lhs.is_null() && !rhs.is_null() && order != Some(Ordering::Equal),
        BinaryOp::Lt => order == Some(Ordering::Less),
        BinaryOp::Lte => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        BinaryOp::Gt => order == Some(Ordering::Greater),
        BinaryOp::Gte => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        _ => false,
    }
}

/// Appends a value to a column of its type; a value of another type is cast, one that cannot be is left out.
pub fn push(column: &mut Column, value: &Value) {
    let value = value.clone().cast(column.values.field_type());
    let fits = match (&mut column.values, &value) {
        (Values::Float(to), Value::Float(v)) => {
            to.push(*v);
            true
        }
        (Values::Integer(to), Value::Integer(v)) => {
            to.push(*v);
            true
        }
        (Values::Unsigned(to), Value::Unsigned(v)) => {
            to.push(*v);
            true
        }
        (Values::Boolean(to), Value::Boolean(v)) => {
            to.push(*v);
            true
        }
        (Values::String(to), Value::String(v)) => {
            to.push(v.as_bytes());
            true
        }
        _ => false,
    };
    match (&mut column.present, fits) {
        (Some(present), true) => present.push(true),
        (None, true) => {}
        (_, false) => column.push_missing(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_influxqls() {
        use Value::{Boolean, Float, Integer, Null, Unsigned};
        let cases = [
            (BinaryOp::Add, Integer(1), Integer(2), Integer(3)),
            (BinaryOp::Div, Integer(1), Integer(2), Float(0.5)),
            (BinaryOp::Div, Integer(1), Integer(0), Float(0.0)),
            (BinaryOp::Div, Float(1.0), Integer(0), Float(0.0)),
            (BinaryOp::Mod, Integer(7), Integer(0), Integer(0)),
            (BinaryOp::Mul, Integer(2), Float(1.5), Float(3.0)),
            (BinaryOp::Sub, Unsigned(3), Integer(1), Unsigned(2)),
            (BinaryOp::Sub, Unsigned(3), Unsigned(5), Integer(-2)),
            (
                BinaryOp::Add,
                Integer(i64::MAX),
                Integer(1),
                Float(9_223_372_036_854_775_808.0),
            ),
            (
                BinaryOp::Mul,
                Unsigned(u64::MAX),
                Integer(2),
                Float(36_893_488_147_419_103_232.0),
            ),
            (BinaryOp::BitXor, Boolean(true), Boolean(true), Boolean(false)),
            (BinaryOp::Add, Null, Integer(1), Null),
            (BinaryOp::Add, Value::String("a".into()), Integer(1), Null),
            (BinaryOp::Lt, Integer(-1), Unsigned(u64::MAX), Boolean(true)),
            (BinaryOp::Neq, Null, Integer(1), Boolean(false)),
            (
                BinaryOp::Eq,
                Value::String("a".into()),
                Value::String("a".into()),
                Boolean(true),
            ),
            (
                BinaryOp::Gt,
                Value::String("a".into()),
                Integer(1),
                Boolean(false),
            ),
        ];
        for (op, lhs, rhs, want) in cases {
            assert_eq!(binary(op, &lhs, &rhs), want, "{lhs:?} {} {rhs:?}", op.as_str());
        }
    }
}
