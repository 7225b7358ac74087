//! `percentile` and `median`: all values are kept, end to end as they come, with a note of which stretch belongs to which
//! slot. A slot whose values stand together is decided where they are.

use super::digests::Digests;
use super::number::Number;
use super::{Fold, Folded, Rows, same};
use crate::block::stats::Numbers;
use crate::model::{Bitmap, Column, Values};
use std::any::Any;

/// Values of one slot that stand together.
#[derive(Clone, Copy)]
struct Stretch {
    slot: u32,
    list: u32,
    start: u32,
    len: u32,
}

/// See the module.
pub struct Gather<T> {
    /// `None`: the median.
    percent: Option<f64>,
    lists: Vec<List<T>>,
    stretches: Vec<Stretch>,
    /// Values by slot.
    counts: Vec<u32>,
    /// Where the stretches of each slot begin, once settled.
    begins: Vec<u32>,
    timed: bool,
}

struct List<T> {
    values: Vec<T>,
    /// One a value, if times are wanted.
    times: Vec<i64>,
}

/// A list is closed at this length, so that places fit 32 bits.
const LIST_MAX: usize = 1 << 28;

impl<T: Number> Gather<T> {
    /// The middle value, or the mean of the two.
    pub fn median() -> Self {
        Self::new(None, false)
    }

    /// The nearest rank of so many percent.
    pub fn percentile(percent: f64, timed: bool) -> Self {
        Self::new(Some(percent), timed)
    }

    fn new(percent: Option<f64>, timed: bool) -> Self {
        Self {
            percent,
            lists: Vec::new(),
            stretches: Vec::new(),
            counts: Vec::new(),
            begins: Vec::new(),
            timed,
        }
    }

    fn list(&mut self, room: usize) -> u32 {
        let full = |list: &List<T>| list.values.len() + room > LIST_MAX;
        if self.lists.last().is_none_or(full) {
            self.lists.push(List {
                values: Vec::new(),
                times: Vec::new(),
            });
        }
        self.lists.len() as u32 - 1
    }

    /// Values and times of a slot, copied together.
    fn values(&self, slot: u32, values: &mut Vec<T>, times: &mut Vec<i64>) {
        values.clear();
        times.clear();
        let slot = slot as usize;
        let range = self.begins[slot] as usize..self.begins[slot + 1] as usize;
        for s in &self.stretches[range] {
            let list = &self.lists[s.list as usize];
            let rows = s.start as usize..(s.start + s.len) as usize;
            values.extend_from_slice(&list.values[rows.clone()]);
            if self.timed {
                times.extend_from_slice(&list.times[rows]);
            }
        }
    }
}

impl<T: Number> Fold for Gather<T> {
    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        let room = rows.segments.iter().map(|s| (s.end - s.start) as usize).sum();
        let number = self.list(room);
        let list = &mut self.lists[number as usize];
        list.values.reserve(room);
        for s in rows.segments {
            let start = list.values.len() as u32;
            match &rows.column.present {
                None => {
                    list.values.extend_from_slice(&values[s.rows()]);
                    if self.timed {
                        list.times.extend_from_slice(&rows.times[s.rows()]);
                    }
                }
                Some(present) => {
                    for row in s.rows().filter(|&row| present.get(row)) {
                        list.values.push(values[row]);
                        if self.timed {
                            list.times.push(rows.times[row]);
                        }
                    }
                }
            }
            let len = list.values.len() as u32 - start;
            if len == 0 {
                continue;
            }
            self.counts[s.slot as usize] += len;
            match self.stretches.last_mut() {
                // One window after the other in one slot, as without windows.
                Some(last)
                    if last.slot == s.slot && last.list == number && last.start + last.len == start =>
                {
                    last.len += len;
                }
                _ => self.stretches.push(Stretch {
                    slot: s.slot,
                    list: number,
                    start,
                    len,
                }),
            }
        }
    }

    fn takes_whole(&self, _: usize, count: u64, _: Option<&Numbers>) -> bool {
        count == 0
    }

    fn push_whole(&mut self, _: usize, _: u64, _: Option<&Numbers>) {}

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other: Self = same(other);
        let lists = self.lists.len() as u32;
        self.lists.extend(other.lists);
        self.stretches
            .extend(other.stretches.into_iter().map(|s| Stretch {
                slot: map[s.slot as usize],
                list: s.list + lists,
                ..s
            }));
        for (count, &to) in other.counts.iter().zip(map) {
            self.counts[to as usize] += count;
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn digests(&self, values_max: usize) -> Option<Box<dyn Fold>> {
        let values: usize = self.counts.iter().map(|count| *count as usize).sum();
        if self.timed || values <= values_max {
            return None;
        }
        let mut digests = Digests::<T>::new(self.percent);
        digests.grow(self.counts.len());
        for s in &self.stretches {
            let list = &self.lists[s.list as usize].values;
            let values = &list[s.start as usize..(s.start + s.len) as usize];
            values.iter().for_each(|v| digests.add(s.slot, v.to_f64()));
        }
        Some(Box::new(digests))
    }

    fn settle(&mut self) {
        // Stretches by slot: counted, then put in their places.
        let slots = self.counts.len();
        let mut begins = vec![0u32; slots + 1];
        for s in &self.stretches {
            begins[s.slot as usize + 1] += 1;
        }
        for slot in 0..slots {
            begins[slot + 1] += begins[slot];
        }
        if !self.stretches.is_sorted_by_key(|s| s.slot) {
            let mut next = begins.clone();
            let mut ordered = self.stretches.clone();
            for s in &self.stretches {
                let at = &mut next[s.slot as usize];
                ordered[*at as usize] = *s;
                *at += 1;
            }
            self.stretches = ordered;
        }
        self.begins = begins;
    }

    fn has(&self, slot: usize) -> bool {
        self.counts[slot] > 0
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let mut present = Bitmap::new();
        let mut times = self.timed.then(Vec::new);
        let (mut of_slot, mut at_times, mut order) = (Vec::new(), Vec::new(), Vec::<u32>::new());
        let Some(percent) = self.percent else {
            let mut medians = Vec::with_capacity(slots.len());
            for &slot in slots {
                self.values(slot, &mut of_slot, &mut at_times);
                present.push(!of_slot.is_empty());
                medians.push(if of_slot.is_empty() {
                    0.0
                } else {
                    median(&mut of_slot)
                });
            }
            return Folded {
                values: Column {
                    values: Values::Float(medians),
                    present: Some(present),
                },
                times: None,
                rows: None,
            };
        };
        let mut found = Vec::with_capacity(slots.len());
        for &slot in slots {
            self.values(slot, &mut of_slot, &mut at_times);
            let Some(rank) = nearest_rank(of_slot.len(), percent) else {
                present.push(false);
                found.push(T::default());
                times.iter_mut().for_each(|times| times.push(0));
                continue;
            };
            present.push(true);
            match &mut times {
                None => found.push(*of_slot.select_nth_unstable_by(rank, T::total).1),
                Some(times) => {
                    order.clear();
                    order.extend(0..of_slot.len() as u32);
                    // Of equal values the earliest comes first.
                    let key = |a: &u32, b: &u32| {
                        let values = of_slot[*a as usize].total(&of_slot[*b as usize]);
                        values.then(at_times[*a as usize].cmp(&at_times[*b as usize]))
                    };
                    let at = *order.select_nth_unstable_by(rank, key).1 as usize;
                    found.push(of_slot[at]);
                    times.push(at_times[at]);
                }
            }
        }
        Folded {
            values: Column {
                values: T::into_values(found),
                present: Some(present),
            },
            times,
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        let lists = self.lists.iter();
        let values: usize = lists
            .map(|list| list.values.capacity() * size_of::<T>() + list.times.capacity() * 8)
            .sum();
        values + self.stretches.capacity() * size_of::<Stretch>() + self.counts.capacity() * 8
    }
}

/// Position of the nearest rank; `None` when there is none.
fn nearest_rank(count: usize, percent: f64) -> Option<usize> {
    let rank = (count as f64 * percent / 100.0 + 0.5).floor() as i64 - 1;
    usize::try_from(rank).ok().filter(|&rank| rank < count)
}

fn median<T: Number>(values: &mut [T]) -> f64 {
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, upper, _) = values.select_nth_unstable_by(middle, T::total);
    let upper = upper.to_f64();
    if odd {
        return upper;
    }
    let below = below.iter().copied().max_by(T::total).map_or(upper, T::to_f64);
    below + (upper - below) / 2.0
}
