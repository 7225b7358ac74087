//! Rolling windows: `time(1m, over 5m)`. Rows are gathered in slots that divide both lengths; the row labelled t is made of
//! the slots in [t + 1m - 5m, t + 1m). As the labels move on, slots join at one end and leave at the other; two stacks of
//! partial results make that a few merges a slot, whatever the lengths, and nothing is ever subtracted.

use super::functions::aggregate::{Aggregate, State};
use super::windows::Windows;
use std::collections::VecDeque;

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// The slots in which rows are gathered: the windows themselves unless they roll.
pub fn slots(windows: &Windows) -> Windows {
    match windows.over {
        None => windows.clone(),
        Some(over) => Windows {
            step: greatest_common_divisor(windows.step, over),
            offset: windows
                .offset
                .rem_euclid(greatest_common_divisor(windows.step, over)),
            over: None,
            ..windows.clone()
        },
    }
}

/// The first time that a window looks at.
pub fn reach(windows: &Windows, start: i64) -> i64 {
    match windows.over {
        None => start,
        Some(over) => windows.earlier(windows.next(start), over),
    }
}

/// Adds what the second has to the first, which is the earlier one.
type Merge<'a, S> = dyn Fn(&mut S, &S) + 'a;

/// A queue of states, and what they amount to together.
struct Queue<'a, S> {
    merge: &'a Merge<'a, S>,
    /// States do not grow by being merged; those that do are put together anew for each window, which needs no copies.
    small: bool,
    /// From the oldest on top; each with all that are younger in this stack.
    old: Vec<(i64, S)>,
    new: VecDeque<(i64, S)>,
    all_new: Option<S>,
}

impl<S: Clone> Queue<'_, S> {
    fn push(&mut self, start: i64, state: S) {
        if self.small {
            match &mut self.all_new {
                Some(all) => (self.merge)(all, &state),
                none => *none = Some(state.clone()),
            }
        }
        self.new.push_back((start, state));
    }

    /// Forgets what begins before a time.
    fn forget(&mut self, before: i64) {
        loop {
            if self.old.is_empty() {
                if self.new.front().is_none_or(|(start, _)| *start >= before) {
                    return;
                }
                if !self.small {
                    self.new.pop_front();
                    continue;
                }
                let mut all: Option<S> = None;
                while let Some((start, state)) = self.new.pop_back() {
                    // The older one first: for counters the order matters.
                    let mut sum = state;
                    if let Some(later) = all.take() {
                        (self.merge)(&mut sum, &later);
                    }
                    self.old.push((start, sum.clone()));
                    all = Some(sum);
                }
                self.all_new = None;
            }
            if self.old.last().is_some_and(|(start, _)| *start >= before) {
                return;
            }
            self.old.pop();
        }
    }

    fn is_empty(&self) -> bool {
        self.old.is_empty() && self.new.is_empty()
    }

    fn total(&self) -> Option<S> {
        let mut all = self.old.last().map(|(_, state)| state.clone());
        let mut add = |state: &S| match &mut all {
            Some(all) => (self.merge)(all, state),
            none => *none = Some(state.clone()),
        };
        match self.small {
            true => self.all_new.iter().for_each(&mut add),
            false => self.new.iter().for_each(|(_, state)| add(state)),
        }
        all
    }
}

/// The states of a function in the windows that have something in reach, given those of the slots in ascending order. No
/// window begins after `last`.
pub fn states(
    function: &Aggregate,
    windows: &Windows,
    slots: Vec<(i64, State)>,
    last: i64,
) -> Vec<(i64, State)> {
    let small = matches!(
        function,
        Aggregate::Count
            | Aggregate::Sum
            | Aggregate::Mean
            | Aggregate::Min
            | Aggregate::Max
            | Aggregate::First
            | Aggregate::Last
            | Aggregate::Spread
    );
    let slots = slots.into_iter().filter(|(_, state)| !state.is_empty()).collect();
    let merge = |all: &mut State, state: &State| all.merge(function, state);
    roll(windows, slots, last, small, &merge)
}

/// As [`states`], of any kind of state; none of them is empty. `small`: they do not grow by being merged.
pub fn roll<S: Clone>(
    windows: &Windows,
    slots: Vec<(i64, S)>,
    last: i64,
    small: bool,
    merge: &Merge<'_, S>,
) -> Vec<(i64, S)> {
    let mut queue = Queue {
        merge,
        small,
        old: Vec::new(),
        new: VecDeque::new(),
        all_new: None,
    };
    let mut slots = slots.into_iter().peekable();
    let Some(first) = slots.peek().map(|(start, _)| windows.start(*start)) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let mut at = first;
    while at <= last {
        let end = windows.next(at);
        while let Some((start, state)) = slots.next_if(|(start, _)| *start < end) {
            queue.push(start, state);
        }
        queue.forget(reach(windows, at));
        out.extend(queue.total().map(|total| (at, total)));
        at = match slots.peek() {
            None if queue.is_empty() => break,
            // Nothing is in reach until the next slot.
            Some((start, _)) if queue.is_empty() => windows.start(*start).max(end),
            _ => end,
        };
        if end == i64::MAX {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::value::Value;
    use proptest::prelude::*;

    fn sums(step: i64, over: i64, slots: &[(i64, i64)], last: i64) -> Vec<(i64, i64)> {
        let windows = Windows {
            over: Some(over),
            ..Windows::fixed(step, 0)
        };
        let slots = slots.iter().map(|(t, n)| (*t, State::Count(*n))).collect();
        let count = |state| match state {
            State::Count(n) => n,
            _ => 0,
        };
        let all = states(&Aggregate::Count, &windows, slots, last);
        all.into_iter().map(|(t, state)| (t, count(state))).collect()
    }

    #[test]
    fn the_window_and_what_precedes_it() {
        let slots = [(0, 1), (10, 2), (20, 4), (60, 8)];
        let want = [
            (0, 1),
            (10, 3),
            (20, 7),
            (30, 6),
            (40, 4),
            (60, 8),
            (70, 8),
            (80, 8),
        ];
        assert_eq!(sums(10, 30, &slots, 100), want);
        assert_eq!(sums(10, 30, &slots, 60), want[..6]);
        assert_eq!(sums(10, 30, &[], 60), []);
        let windows = Windows {
            over: Some(25),
            ..Windows::fixed(10, 3)
        };
        let made = super::slots(&windows);
        assert_eq!((made.step, made.offset, made.over), (5, 3, None));
    }

    #[test]
    fn values_that_are_gathered_are_put_together_anew() {
        let windows = Windows {
            over: Some(30),
            ..Windows::fixed(10, 0)
        };
        let of = |values: &[f64]| State::Floats(values.to_vec());
        let slots = vec![(0, of(&[5.0, 1.0])), (10, of(&[9.0])), (30, of(&[2.0]))];
        let all = states(&Aggregate::Median, &windows, slots, 60);
        let medians: Vec<(i64, Value)> = all
            .into_iter()
            .map(|(t, state)| (t, state.finish(&Aggregate::Median)[0].value.clone()))
            .collect();
        let want = [(0, 3.0), (10, 5.0), (20, 5.0), (30, 5.5), (40, 2.0), (50, 2.0)];
        assert_eq!(medians, want.map(|(t, v)| (t, Value::Float(v))));
    }

    proptest! {
        #[test]
        fn equal_to_adding_up_each_window(
            parts in prop::collection::btree_map(0i64..80, 1i64..5, 0..40), step in 1i64..6, wide in 0i64..12, last in 0i64..90,
        ) {
            let over = step + wide;
            let slot = greatest_common_divisor(step, over);
            let mut slots: std::collections::BTreeMap<i64, i64> = std::collections::BTreeMap::new();
            for (t, n) in &parts {
                *slots.entry(t - t.rem_euclid(slot)).or_default() += n;
            }
            let slots: Vec<(i64, i64)> = slots.into_iter().collect();
            let mut want = Vec::new();
            let mut at = 0;
            while at <= last {
                let inside = slots.iter().filter(|(t, _)| (at + step - over..at + step).contains(t));
                let sum: i64 = inside.map(|(_, n)| n).sum();
                if sum > 0 {
                    want.push((at, sum));
                }
                at += step;
            }
            prop_assert_eq!(sums(step, over, &slots, last), want);
        }
    }
}
