//! What the values of a chunk amount to, so that queries can pass over it without decoding it.

use super::bytes::{Input, put, put_signed};
use crate::model::{Column, FieldType, Values};
use std::ops::Range;

/// Statistics of one chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkStats {
    /// Rows that have a value.
    pub count: u32,
    /// Smallest, largest and sum of the values, for numbers. NaN is left out of all three.
    pub numbers: Numbers,
}

/// See [`ChunkStats::numbers`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers {
    /// No numbers: strings, booleans, or nothing but NaN.
    None,
    /// Floats; the sum is rounded once.
    Float {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// Sum.
        sum: f64,
    },
    /// Signed; the sum is exact.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Sum.
        sum: i128,
    },
    /// Unsigned; the sum is exact.
    Unsigned {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Sum.
        sum: u128,
    },
}

/// A sum of floats and what rounding took from it, so that it is rounded once, in the end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FloatSum {
    high: f64,
    low: f64,
}

impl FloatSum {
    /// Adds a number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        // Knuth's two-sum: what the addition lost, exactly.
        let sum = self.high + value;
        let of_value = sum - self.high;
        self.low += (self.high - (sum - of_value)) + (value - of_value);
        self.high = sum;
    }

    /// Adds another sum.
    #[inline]
    pub fn add_sum(&mut self, other: Self) {
        self.add(other.high);
        self.low += other.low;
    }

    /// The rounded sum.
    pub fn value(self) -> f64 {
        // With an infinity in it, what was lost is no number.
        if self.low.is_finite() {
            self.high + self.low
        } else {
            self.high
        }
    }
}

impl ChunkStats {
    /// Of some rows of a column.
    pub fn of(column: &Column, range: Range<usize>) -> Self {
        let rows = || range.clone().filter(|&i| column.has(i));
        let is_whole = column.present.is_none();
        let count = if is_whole { range.len() } else { rows().count() };
        // Columns that lack nothing are walked without looking for what they lack.
        let numbers = match &column.values {
            Values::Float(v) if is_whole => of_floats(v[range].iter().copied()),
            Values::Float(v) => of_floats(rows().map(|i| v[i])),
            Values::Integer(v) if is_whole => {
                let (min, max, sum) = bounds_and_sum(&v[range]);
                Numbers::Integer { min, max, sum }
            }
            Values::Integer(v) => of_integers(rows().map(|i| v[i])),
            Values::Unsigned(v) if is_whole => of_unsigned(v[range].iter().copied()),
            Values::Unsigned(v) => of_unsigned(rows().map(|i| v[i])),
            Values::String(_) | Values::Boolean(_) => Numbers::None,
        };
        Self {
            count: count as u32,
            numbers: if count == 0 { Numbers::None } else { numbers },
        }
    }

    /// Appends them.
    pub fn put(&self, out: &mut Vec<u8>) {
        put(out, u64::from(self.count));
        match self.numbers {
            Numbers::None => out.push(0),
            Numbers::Float { min, max, sum } => {
                out.push(1);
                [min, max, sum]
                    .iter()
                    .for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
            }
            Numbers::Integer { min, max, sum } => {
                out.push(2);
                put_signed(out, min);
                put_signed(out, max);
                out.extend_from_slice(&sum.to_le_bytes());
            }
            Numbers::Unsigned { min, max, sum } => {
                out.push(3);
                put(out, min);
                put(out, max);
                out.extend_from_slice(&sum.to_le_bytes());
            }
        }
    }

    /// Reads what [`put`](Self::put) wrote for a column of this type.
    pub fn get(input: &mut Input<'_>, field_type: FieldType) -> Option<Self> {
        let count = input.get_u32()?;
        let numbers = match (input.byte()?, field_type) {
            (0, _) => Numbers::None,
            (1, FieldType::Float) => {
                let mut float = || Some(f64::from_le_bytes(input.take(8)?.try_into().ok()?));
                Numbers::Float {
                    min: float()?,
                    max: float()?,
                    sum: float()?,
                }
            }
            (2, FieldType::Integer) => Numbers::Integer {
                min: input.get_signed()?,
                max: input.get_signed()?,
                sum: i128::from_le_bytes(input.take(16)?.try_into().ok()?),
            },
            (3, FieldType::Unsigned) => Numbers::Unsigned {
                min: input.get()?,
                max: input.get()?,
                sum: u128::from_le_bytes(input.take(16)?.try_into().ok()?),
            },
            _ => return None,
        };
        Some(Self { count, numbers })
    }
}

/// Smallest, largest and sum; for no number, what no number can change.
pub fn bounds_and_sum(values: &[i64]) -> (i64, i64, i128) {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for &x in values {
        min = min.min(x);
        max = max.max(x);
    }
    // Mostly the sum fits into 64 bits, which add up many numbers at once.
    let most = min.unsigned_abs().max(max.unsigned_abs());
    let sum = if most < 1 << 40 && values.len() < 1 << 23 {
        i128::from(values.iter().sum::<i64>())
    } else {
        values.iter().map(|&x| i128::from(x)).sum()
    };
    (min, max, sum)
}

fn of_floats(values: impl Iterator<Item = f64>) -> Numbers {
    let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, FloatSum::default());
    for x in values {
        // NaN is neither smaller nor larger than anything.
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        sum.add(if x.is_nan() { 0.0 } else { x });
    }
    let sum = sum.value();
    // Otherwise there was nothing but NaN.
    if min <= max {
        Numbers::Float { min, max, sum }
    } else {
        Numbers::None
    }
}

fn of_integers(values: impl Iterator<Item = i64>) -> Numbers {
    let (mut min, mut max, mut sum) = (i64::MAX, i64::MIN, 0i128);
    for x in values {
        min = min.min(x);
        max = max.max(x);
        sum += i128::from(x);
    }
    Numbers::Integer { min, max, sum }
}

fn of_unsigned(values: impl Iterator<Item = u64>) -> Numbers {
    let (mut min, mut max, mut sum) = (u64::MAX, 0, 0u128);
    for x in values {
        min = min.min(x);
        max = max.max(x);
        sum += u128::from(x);
    }
    Numbers::Unsigned { min, max, sum }
}
