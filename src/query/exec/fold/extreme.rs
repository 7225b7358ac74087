//! `min`, `max` and `spread`.

use super::super::windows::Ladder;
use super::count::present;
use super::number::Number;
use super::{Fold, Folded, Rows, StepRows, same};
use crate::block::stats::Numbers;
use crate::model::{Column, Values};
use std::any::Any;

/// Values that are compared side by side.
const LANES: usize = 16;
/// Values that are looked at together for one like another.
const NEAR: usize = 64;

/// The smallest or the largest value by slot; of equal ones the earliest. What is no number loses against every number.
pub struct Extremes<T> {
    max: bool,
    best: Vec<T>,
    has: Vec<bool>,
    /// When it was, if that is wanted.
    times: Option<Vec<i64>>,
}

impl<T: Number> Extremes<T> {
    /// No slots.
    pub fn new(max: bool, timed: bool) -> Self {
        Self {
            max,
            best: Vec::new(),
            has: Vec::new(),
            times: timed.then(Vec::new),
        }
    }

    #[inline]
    fn beats(&self, value: T, best: T) -> bool {
        (if self.max { value > best } else { value < best }) || (best.is_nan() && !value.is_nan())
    }

    /// The extreme of a slice that is not empty, and begins with a number.
    #[inline]
    fn of(&self, values: &[T]) -> T {
        if values.len() >= 2 * LANES {
            return self.of_many(values);
        }
        let first = values[0];
        match self.max {
            true => values
                .iter()
                .fold(first, |best, &v| if v > best { v } else { best }),
            false => values
                .iter()
                .fold(first, |best, &v| if v < best { v } else { best }),
        }
    }

    fn of_many(&self, values: &[T]) -> T {
        // So many at a time need not wait for each other.
        let mut lanes = [values[0]; LANES];
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        if self.max {
            for chunk in chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    *lane = if value > *lane { value } else { *lane };
                }
            }
        } else {
            for chunk in chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    *lane = if value < *lane { value } else { *lane };
                }
            }
        }
        lanes
            .into_iter()
            .chain(rest.iter().copied())
            .fold(
                lanes[0],
                |best, value| {
                    if self.beats(value, best) { value } else { best }
                },
            )
    }

    #[inline]
    fn offer(&mut self, slot: usize, value: T, time: i64) {
        let wins = !self.has[slot] || self.beats(value, self.best[slot]) || {
            let equal = value == self.best[slot];
            equal && self.times.as_ref().is_some_and(|times| time < times[slot])
        };
        if wins {
            self.best[slot] = value;
            self.has[slot] = true;
            if let Some(times) = &mut self.times {
                times[slot] = time;
            }
        }
    }
}

/// When the earliest of the values like this one was. Few are like it: times are looked at where one is near.
fn earliest<T: Number>(values: &[T], times: &[i64], best: T) -> i64 {
    let mut earliest = None;
    for (values, times) in values.chunks(NEAR).zip(times.chunks(NEAR)) {
        if values.iter().fold(false, |any, value| any | (*value == best)) {
            let equal = values.iter().zip(times).filter(|(value, _)| **value == best);
            let first = equal.map(|(_, time)| *time).min();
            earliest = earliest.into_iter().chain(first).min();
        }
    }
    earliest.unwrap_or(0)
}

impl<T: Number> Fold for Extremes<T> {
    fn grow(&mut self, slots: usize) {
        self.best.resize(slots, T::default());
        self.has.resize(slots, false);
        if let Some(times) = &mut self.times {
            times.resize(slots, 0);
        }
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        match &rows.column.present {
            None => {
                for s in rows.segments {
                    let slice = &values[s.rows()];
                    // The slow way finds the first number behind what is none.
                    if slice[0].is_nan() {
                        for row in s.rows() {
                            self.offer(s.slot as usize, values[row], rows.times[row]);
                        }
                        continue;
                    }
                    let (slot, best) = (s.slot as usize, self.of(slice));
                    let mut time = 0;
                    if self.times.is_some() {
                        let known = self.best[slot];
                        if self.has[slot] && best != known && !self.beats(best, known) {
                            continue;
                        }
                        time = earliest(slice, &rows.times[s.rows()], best);
                    }
                    self.offer(slot, best, time);
                }
            }
            Some(present) => {
                for s in rows.segments {
                    for row in s.rows().filter(|&row| present.get(row)) {
                        self.offer(s.slot as usize, values[row], rows.times[row]);
                    }
                }
            }
        }
    }

    fn takes_whole(&self, slot: usize, count: u64, numbers: Option<&Numbers>) -> bool {
        if count == 0 {
            return true;
        }
        let Some((min, max)) = numbers.and_then(T::ends) else {
            return false;
        };
        // When it was is not known; but it may not matter.
        let value = if self.max { max } else { min };
        let loses = || self.has[slot] && value != self.best[slot] && !self.beats(value, self.best[slot]);
        self.times.is_none() || loses()
    }

    fn push_whole(&mut self, slot: usize, _: u64, numbers: Option<&Numbers>) {
        if let (None, Some((min, max))) = (&self.times, numbers.and_then(T::ends)) {
            self.offer(slot, if self.max { max } else { min }, 0);
        }
    }

    fn loses(&self, slot: usize, numbers: &Numbers) -> bool {
        let Some((min, max)) = T::ends(numbers) else {
            return false;
        };
        let value = if self.max { max } else { min };
        let has = self.has.get(slot).is_some_and(|has| *has);
        // Of equal ones the earliest wins, if anybody asks when it was.
        has && !self.beats(value, self.best[slot]) && (self.times.is_none() || value != self.best[slot])
    }

    fn takes_ladders(&self) -> bool {
        self.times.is_none()
    }

    fn push_ladders(&mut self, ladders: &[Ladder], column: &Column) {
        let values = T::of(&column.values);
        for ladder in ladders {
            for (slot, row) in ladder.slots().zip(ladder.rows()) {
                self.offer(slot, values[row], 0);
            }
        }
    }

    fn takes_steps(&self) -> bool {
        self.times.is_none()
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        let Some(ends) = T::step_ends(&steps.stats.numbers) else {
            return;
        };
        let values = if self.max { ends.max } else { ends.min };
        for (slot, step, _) in steps.each() {
            self.offer(slot, values[step], 0);
        }
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for (from, &to) in map.iter().enumerate().take(other.best.len()) {
            if other.has[from] {
                let time = other.times.as_ref().map_or(0, |times| times[from]);
                self.offer(to as usize, other.best[from], time);
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
        let values = slots.iter().map(|&slot| self.best[slot as usize]).collect();
        let times = self.times.as_ref();
        Folded {
            values: Column {
                values: T::into_values(values),
                present: present(slots, |slot| self.has[slot]),
            },
            times: times.map(|times| slots.iter().map(|&slot| times[slot as usize]).collect()),
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        let times = self.times.as_ref().map_or(0, |times| times.capacity() * 8);
        self.best.capacity() * size_of::<T>() + self.has.capacity() + times
    }
}

/// Largest less smallest, by slot.
pub struct Spreads<T> {
    min: Extremes<T>,
    max: Extremes<T>,
}

impl<T: Number> Default for Spreads<T> {
    fn default() -> Self {
        Self {
            min: Extremes::new(false, false),
            max: Extremes::new(true, false),
        }
    }
}

impl<T: Number> Fold for Spreads<T> {
    fn grow(&mut self, slots: usize) {
        self.min.grow(slots);
        self.max.grow(slots);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        self.min.push(rows);
        self.max.push(rows);
    }

    fn takes_whole(&self, slot: usize, count: u64, numbers: Option<&Numbers>) -> bool {
        self.min.takes_whole(slot, count, numbers)
    }

    fn push_whole(&mut self, slot: usize, count: u64, numbers: Option<&Numbers>) {
        self.min.push_whole(slot, count, numbers);
        self.max.push_whole(slot, count, numbers);
    }

    fn loses(&self, slot: usize, numbers: &Numbers) -> bool {
        self.min.loses(slot, numbers) && self.max.loses(slot, numbers)
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        self.min.push_steps(steps);
        self.max.push_steps(steps);
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        self.min.absorb(Box::new(other.min), map);
        self.max.absorb(Box::new(other.max), map);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        self.min.has(slot)
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let ends = |&slot: &u32| {
            let (has, at) = (self.has(slot as usize), slot as usize);
            match has {
                true => (self.max.best[at], self.min.best[at]),
                false => Default::default(),
            }
        };
        let exact: Option<Vec<T>> = slots.iter().map(ends).map(|(max, min)| max.above(min)).collect();
        let values = match exact {
            Some(exact) => T::into_values(exact),
            // One that does not fit makes floats of all.
            None => {
                let far = slots
                    .iter()
                    .map(ends)
                    .map(|(max, min)| max.to_f64() - min.to_f64());
                Values::Float(far.collect())
            }
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
        self.min.bytes() + self.max.bytes()
    }
}
