//! `stddev`.

use super::number::Number;
use super::{Fold, Folded, Rows, same};
use crate::block::stats::Numbers;
use crate::model::{Bitmap, Column, Values};
use std::any::Any;
use std::marker::PhantomData;

/// Count, mean and the sum of squared distances from it: put together as Chan, Golub and LeVeque do, which keeps the digits
/// that the difference of two large sums would lose.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moment {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moment {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (mut count, mut sum) = (0.0, 0.0);
        values.clone().for_each(|v| {
            count += 1.0;
            sum += v;
        });
        if count == 0.0 {
            return Self::default();
        }
        let mean = sum / count;
        let squares = values.map(|v| (v - mean) * (v - mean)).sum();
        Self { count, mean, squares }
    }

    fn add(&mut self, other: Self) {
        if self.count == 0.0 || other.count == 0.0 {
            if self.count == 0.0 {
                *self = other;
            }
            return;
        }
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        self.mean += apart * other.count / count;
        self.squares += other.squares + apart * apart * self.count * other.count / count;
        self.count = count;
    }
}

/// Sample standard deviations by slot; of a single value not a number.
pub struct Moments<T> {
    slots: Vec<Moment>,
    of: PhantomData<T>,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            of: PhantomData,
        }
    }
}

impl<T: Number> Fold for Moments<T> {
    fn grow(&mut self, slots: usize) {
        self.slots.resize(slots, Moment::default());
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        for s in rows.segments {
            let moment = match &rows.column.present {
                None => Moment::of(values[s.rows()].iter().map(|v| v.to_f64())),
                Some(present) => {
                    let there = s.rows().filter(|&row| present.get(row));
                    Moment::of(there.map(|row| values[row].to_f64()))
                }
            };
            self.slots[s.slot as usize].add(moment);
        }
    }

    fn takes_whole(&self, _: usize, count: u64, _: Option<&Numbers>) -> bool {
        count == 0
    }

    fn push_whole(&mut self, _: usize, _: u64, _: Option<&Numbers>) {}

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for (&moment, &to) in other.slots.iter().zip(map) {
            self.slots[to as usize].add(moment);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        self.slots[slot].count > 0.0
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let (mut present, mut rows) = (Bitmap::new(), Bitmap::new());
        let mut values = Vec::with_capacity(slots.len());
        for &slot in slots {
            let moment = self.slots[slot as usize];
            rows.push(moment.count > 0.0);
            present.push(moment.count > 0.0);
            // Of a single value not a number: shown as null, and not what fill() fills.
            values.push(if moment.count > 1.0 {
                (moment.squares / (moment.count - 1.0)).sqrt()
            } else {
                f64::NAN
            });
        }
        Folded {
            values: Column {
                values: Values::Float(values),
                present: Some(present),
            },
            times: None,
            rows: Some(rows),
        }
    }

    fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Moment>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_put_together_equal_moments_of_all() {
        let values: Vec<f64> = (0..1000)
            .map(|i| 1e9 + f64::from(i * 7919 % 1000) / 7.0)
            .collect();
        let all = Moment::of(values.iter().copied());
        let mut parts = Moment::default();
        for part in values.chunks(37) {
            parts.add(Moment::of(part.iter().copied()));
        }
        assert!(
            (all.squares / parts.squares - 1.0).abs() < 1e-9,
            "{all:?} {parts:?}"
        );
        assert_eq!(all.count, parts.count);
    }
}
