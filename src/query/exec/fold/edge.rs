//! `first` and `last`.

use super::count::present;
use super::number::Number;
use super::{Fold, Folded, Rows, StepRows, same};
use crate::block::stats::Numbers;
use crate::model::Column;
use std::any::Any;
use std::cmp::Ordering;

/// The earliest or the latest value by slot; of equal times the largest value.
pub struct Edges<T> {
    last: bool,
    values: Vec<T>,
    times: Vec<i64>,
    has: Vec<bool>,
}

impl<T: Number> Edges<T> {
    /// No slots.
    pub fn new(last: bool) -> Self {
        Self {
            last,
            values: Vec::new(),
            times: Vec::new(),
            has: Vec::new(),
        }
    }

    #[inline]
    fn offer(&mut self, slot: usize, value: T, time: i64) {
        let wins = !self.has[slot]
            || match time.cmp(&self.times[slot]) {
                Ordering::Equal => value.total(&self.values[slot]) == Ordering::Greater,
                Ordering::Less => !self.last,
                Ordering::Greater => self.last,
            };
        if wins {
            self.has[slot] = true;
            self.values[slot] = value;
            self.times[slot] = time;
        }
    }
}

impl<T: Number> Fold for Edges<T> {
    fn grow(&mut self, slots: usize) {
        self.values.resize(slots, T::default());
        self.times.resize(slots, 0);
        self.has.resize(slots, false);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        for s in rows.segments {
            let row = match (&rows.column.present, self.last) {
                (None, false) => Some(s.start as usize),
                (None, true) => Some(s.end as usize - 1),
                (Some(present), false) => s.rows().find(|&row| present.get(row)),
                (Some(present), true) => s.rows().rfind(|&row| present.get(row)),
            };
            if let Some(row) = row {
                self.offer(s.slot as usize, values[row], rows.times[row]);
            }
        }
    }

    fn takes_whole(&self, _: usize, count: u64, _: Option<&Numbers>) -> bool {
        count == 0
    }

    fn push_whole(&mut self, _: usize, _: u64, _: Option<&Numbers>) {}

    fn takes_joined(&self) -> bool {
        false
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        let Some(ends) = T::step_ends(&steps.stats.numbers) else {
            return;
        };
        let (first, last) = steps.edges();
        let (values, times) = match self.last {
            false => (ends.first, first),
            true => (ends.last, last),
        };
        for (slot, step, _) in steps.each() {
            self.offer(slot, values[step], times[step]);
        }
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for (from, &to) in map.iter().enumerate().take(other.values.len()) {
            if other.has[from] {
                self.offer(to as usize, other.values[from], other.times[from]);
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        self.has[slot]
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let values = slots.iter().map(|&slot| self.values[slot as usize]).collect();
        Folded {
            values: Column {
                values: T::into_values(values),
                present: present(slots, |slot| self.has[slot]),
            },
            times: Some(slots.iter().map(|&slot| self.times[slot as usize]).collect()),
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * (size_of::<T>() + 9)
    }
}
