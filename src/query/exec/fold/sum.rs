//! `sum` and `mean`.

use super::super::windows::Ladder;
use super::count::present;
use super::number::Number;
use super::{Fold, Folded, Rows, StepRows, same};
use crate::block::stats::{FloatSum, Numbers};
use crate::block::steps::StepNumbers;
use crate::model::{Column, Values};
use std::any::Any;
use std::marker::PhantomData;

/// The sum of a slice.
pub fn sum_of(values: &[f64]) -> FloatSum {
    // Four sums side by side: additions need not wait for each other, and vectorise.
    let mut lanes = [FloatSum::default(); 4];
    let chunks = values.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            lane.add(value);
        }
    }
    let mut sum = lanes[0];
    lanes[1..].iter().for_each(|&lane| sum.add_sum(lane));
    rest.iter().for_each(|&value| sum.add(value));
    sum
}

/// Sums of floats by slot.
pub struct FloatSums {
    mean: bool,
    sums: Vec<FloatSum>,
    counts: Vec<u64>,
}

impl FloatSums {
    /// No slots.
    pub fn new(mean: bool) -> Self {
        Self {
            mean,
            sums: Vec::new(),
            counts: Vec::new(),
        }
    }
}

impl Fold for FloatSums {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, FloatSum::default());
        self.counts.resize(slots, 0);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = f64::of(&rows.column.values);
        match &rows.column.present {
            None => {
                for s in rows.segments {
                    let slot = s.slot as usize;
                    match &values[s.rows()] {
                        [one] => self.sums[slot].add(*one),
                        many => self.sums[slot].add_sum(sum_of(many)),
                    }
                    self.counts[slot] += u64::from(s.end - s.start);
                }
            }
            Some(present) => {
                for s in rows.segments {
                    let slot = s.slot as usize;
                    for row in s.rows().filter(|&row| present.get(row)) {
                        self.sums[slot].add(values[row]);
                        self.counts[slot] += 1;
                    }
                }
            }
        }
    }

    fn takes_whole(&self, _: usize, count: u64, numbers: Option<&Numbers>) -> bool {
        count == 0 || matches!(numbers, Some(Numbers::Float { .. }))
    }

    fn push_whole(&mut self, slot: usize, count: u64, numbers: Option<&Numbers>) {
        if let Some(Numbers::Float { sum, .. }) = numbers {
            self.sums[slot].add(*sum);
        }
        self.counts[slot] += count;
    }

    fn takes_ladders(&self) -> bool {
        true
    }

    fn push_ladders(&mut self, ladders: &[Ladder], column: &Column) {
        let values = f64::of(&column.values);
        for ladder in ladders {
            let sums = &mut self.sums[ladder.slots()];
            sums.iter_mut()
                .zip(&values[ladder.rows()])
                .for_each(|(sum, &value)| sum.add(value));
            self.counts[ladder.slots()]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        let StepNumbers::Float(columns) = &steps.stats.numbers else {
            return;
        };
        for (slot, step, count) in steps.each() {
            self.sums[slot].add(columns.sum[step]);
            self.counts[slot] += u64::from(count);
        }
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for ((&sum, count), &to) in other.sums.iter().zip(&other.counts).zip(map) {
            self.sums[to as usize].add_sum(sum);
            self.counts[to as usize] += count;
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        self.counts[slot] > 0
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let value = |&slot: &u32| {
            let sum = self.sums[slot as usize].value();
            if self.mean {
                sum / self.counts[slot as usize] as f64
            } else {
                sum
            }
        };
        Folded {
            values: Column {
                values: Values::Float(slots.iter().map(value).collect()),
                present: present(slots, |slot| self.has(slot)),
            },
            times: None,
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * 16 + self.counts.capacity() * 8
    }
}

/// Integers, signed or not.
pub trait Whole: Number {
    /// Exactly.
    fn wide(self) -> i128;

    /// Is its magnitude below 2^53, so that a thousand of them add up within 64 bits?
    fn is_small(values: &[Self]) -> bool;

    /// The sum of at most a thousand small ones.
    fn small_sum(values: &[Self]) -> i64;

    /// A column of sums; `None` when one does not fit.
    fn sums(sums: &[i128]) -> Option<Values>;
}

impl Whole for i64 {
    fn wide(self) -> i128 {
        i128::from(self)
    }

    fn is_small(values: &[Self]) -> bool {
        let shifted = values.iter().map(|v| v.wrapping_add(1 << 53) as u64);
        shifted.fold(0, |all, v| all | v) >> 54 == 0
    }

    fn small_sum(values: &[Self]) -> i64 {
        values.iter().sum()
    }

    fn sums(sums: &[i128]) -> Option<Values> {
        let sums = sums.iter().map(|&sum| i64::try_from(sum).ok());
        sums.collect::<Option<_>>().map(Values::Integer)
    }
}

impl Whole for u64 {
    fn wide(self) -> i128 {
        i128::from(self)
    }

    fn is_small(values: &[Self]) -> bool {
        values.iter().fold(0, |all, v| all | v) >> 53 == 0
    }

    fn small_sum(values: &[Self]) -> i64 {
        values.iter().fold(0, |sum, &v| sum + v as i64)
    }

    fn sums(sums: &[i128]) -> Option<Values> {
        let sums = sums.iter().map(|&sum| u64::try_from(sum).ok());
        sums.collect::<Option<_>>().map(Values::Unsigned)
    }
}

/// The sum that statistics have.
fn whole_of(numbers: &Numbers) -> Option<i128> {
    match numbers {
        Numbers::Integer { sum, .. } => Some(*sum),
        Numbers::Unsigned { sum, .. } => i128::try_from(*sum).ok(),
        Numbers::Float { .. } | Numbers::None => None,
    }
}

/// Exactly, however large.
fn whole_sum<T: Whole>(values: &[T]) -> i128 {
    let of = |few: &[T]| {
        if T::is_small(few) {
            i128::from(T::small_sum(few))
        } else {
            few.iter().map(|v| v.wide()).sum()
        }
    };
    values.chunks(512).map(of).sum()
}

/// Sums of integers by slot.
pub struct WholeSums<T> {
    mean: bool,
    sums: Vec<i128>,
    counts: Vec<u64>,
    of: PhantomData<T>,
}

impl<T: Whole> WholeSums<T> {
    /// No slots.
    pub fn new(mean: bool) -> Self {
        Self {
            mean,
            sums: Vec::new(),
            counts: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<T: Whole> Fold for WholeSums<T> {
    fn grow(&mut self, slots: usize) {
        self.sums.resize(slots, 0);
        self.counts.resize(slots, 0);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        match &rows.column.present {
            None => {
                for s in rows.segments {
                    let slot = s.slot as usize;
                    self.sums[slot] += match &values[s.rows()] {
                        [one] => one.wide(),
                        many => whole_sum(many),
                    };
                    self.counts[slot] += u64::from(s.end - s.start);
                }
            }
            Some(present) => {
                for s in rows.segments {
                    let slot = s.slot as usize;
                    for row in s.rows().filter(|&row| present.get(row)) {
                        self.sums[slot] += values[row].wide();
                        self.counts[slot] += 1;
                    }
                }
            }
        }
    }

    fn takes_whole(&self, _: usize, count: u64, numbers: Option<&Numbers>) -> bool {
        count == 0 || numbers.is_some_and(|numbers| whole_of(numbers).is_some())
    }

    fn push_whole(&mut self, slot: usize, count: u64, numbers: Option<&Numbers>) {
        self.sums[slot] += numbers.and_then(whole_of).unwrap_or(0);
        self.counts[slot] += count;
    }

    fn takes_ladders(&self) -> bool {
        true
    }

    fn push_ladders(&mut self, ladders: &[Ladder], column: &Column) {
        let values = T::of(&column.values);
        for ladder in ladders {
            let sums = &mut self.sums[ladder.slots()];
            sums.iter_mut()
                .zip(&values[ladder.rows()])
                .for_each(|(sum, &value)| *sum += value.wide());
            self.counts[ladder.slots()]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        for (slot, step, count) in steps.each() {
            self.sums[slot] += match &steps.stats.numbers {
                StepNumbers::Integer(columns) => columns.sum[step],
                // At most 8192 values of 64 bits.
                StepNumbers::Unsigned(columns) => columns.sum[step] as i128,
                StepNumbers::Float(_) => 0,
            };
            self.counts[slot] += u64::from(count);
        }
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for ((sum, count), &to) in other.sums.iter().zip(&other.counts).zip(map) {
            self.sums[to as usize] += sum;
            self.counts[to as usize] += count;
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        self.counts[slot] > 0
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let values = if self.mean {
            let mean = |&slot: &u32| self.sums[slot as usize] as f64 / self.counts[slot as usize] as f64;
            Values::Float(slots.iter().map(mean).collect())
        } else {
            let sums: Vec<i128> = slots.iter().map(|&slot| self.sums[slot as usize]).collect();
            // A result that does not fit becomes a float: large, not wrong.
            T::sums(&sums).unwrap_or_else(|| Values::Float(sums.iter().map(|&sum| sum as f64).collect()))
        };
        Folded {
            values: Column {
                values,
                present: present(slots, |slot| self.has(slot)),
            },
            times: None,
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        self.sums.capacity() * 16 + self.counts.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_floats_do_not_depend_on_the_order() {
        let mut values: Vec<f64> = (0..1000)
            .map(|i| f64::from(i) * 1e-3 + 1e15 * f64::from(i % 2))
            .collect();
        values.extend((0..1000).map(|i| -1e15 * f64::from(i % 2)));
        let want = 499.5;
        assert_eq!(sum_of(&values).value(), want);
        values.reverse();
        assert_eq!(sum_of(&values).value(), want);
        let mut split = sum_of(&values[..700]);
        split.add_sum(sum_of(&values[700..]));
        assert_eq!(split.value(), want);
        assert_eq!(sum_of(&[1.0, f64::INFINITY, 2.0]).value(), f64::INFINITY);
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
    }

    #[test]
    fn sums_of_integers_are_exact() {
        let values = vec![i64::MAX; 1000];
        assert_eq!(whole_sum(&values), i128::from(i64::MAX) * 1000);
        let values: Vec<i64> = (0..5000).map(|i| i * 7 - 9000).collect();
        assert_eq!(whole_sum(&values), i128::from(values.iter().sum::<i64>()));
        assert_eq!(whole_sum(&[u64::MAX, 1]), i128::from(u64::MAX) + 1);
        assert_eq!(whole_sum(&[i64::MIN, -1]), i128::from(i64::MIN) - 1);
    }
}
