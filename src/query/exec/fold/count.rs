//! `count`.

use super::super::windows::Ladder;
use super::{Fold, Folded, Rows, StepRows, same};
use crate::block::stats::Numbers;
use crate::model::{Bitmap, Column, Values};
use std::any::Any;

/// Values by slot.
#[derive(Default)]
pub struct Counts {
    counts: Vec<u64>,
}

impl Fold for Counts {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        match &rows.column.present {
            None => {
                for s in rows.segments {
                    self.counts[s.slot as usize] += u64::from(s.end - s.start);
                }
            }
            Some(present) => {
                for s in rows.segments {
                    self.counts[s.slot as usize] += s.rows().filter(|&row| present.get(row)).count() as u64;
                }
            }
        }
    }

    fn takes_whole(&self, _: usize, _: u64, _: Option<&Numbers>) -> bool {
        true
    }

    fn push_whole(&mut self, slot: usize, count: u64, _: Option<&Numbers>) {
        self.counts[slot] += count;
    }

    fn takes_ladders(&self) -> bool {
        true
    }

    fn push_ladders(&mut self, ladders: &[Ladder], _: &Column) {
        for ladder in ladders {
            self.counts[ladder.slots()]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn push_steps(&mut self, steps: &StepRows<'_>) {
        for (slot, _, count) in steps.each() {
            self.counts[slot] += u64::from(count);
        }
    }

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        for (count, &to) in other.counts.iter().zip(map) {
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
        let counts = slots.iter().map(|&slot| self.counts[slot as usize] as i64);
        let values = Values::Integer(counts.collect());
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
        self.counts.capacity() * 8
    }
}

/// Which of some slots have a value; `None` when all have.
pub fn present(slots: &[u32], has: impl Fn(usize) -> bool) -> Option<Bitmap> {
    if slots.iter().all(|&slot| has(slot as usize)) {
        return None;
    }
    let mut present = Bitmap::new();
    slots.iter().for_each(|&slot| present.push(has(slot as usize)));
    Some(present)
}
