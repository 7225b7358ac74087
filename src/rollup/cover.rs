//! Which intervals of a measurement wait. Pure.
//!
//! What was never touched has no points, and so the right states: none. A batch makes the intervals of its points wait, with its
//! sequence; when states are committed that were made of everything up to a sequence, intervals that no later batch touched are clean again.
//! A snapshot from before that commit does not see these states: for it they still wait.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ranges that wait; beyond it the two nearest become one.
pub const RANGES_MAX: usize = 64;
/// Commits of states that are remembered for older snapshots; before these nothing is clean.
const RECENT_MAX: usize = 256;

/// Waiting intervals: [from, to), multiples of the length but for the ends of time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Waiting {
    from: i64,
    to: i64,
    /// The last batch that touched them, or one after it.
    sequence: u64,
    /// When they were touched first and last.
    since: Instant,
    last: Instant,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Cover {
    every: i64,
    waiting: Vec<Waiting>,
    /// Sequence, from, to of what was made of late.
    recent: VecDeque<(u64, i64, i64)>,
    floor: u64,
}

impl Cover {
    /// Of a measurement without points.
    pub fn new(every: i64) -> Self {
        Self {
            every: every.max(1),
            waiting: Vec::new(),
            recent: VecDeque::new(),
            floor: 0,
        }
    }

    /// The start of the interval that has a time.
    pub fn start(&self, time: i64) -> i64 {
        time.checked_sub(time.rem_euclid(self.every)).unwrap_or(i64::MIN)
    }

    /// The end of the interval that has a time.
    pub fn end(&self, time: i64) -> i64 {
        match time.checked_sub(time.rem_euclid(self.every)) {
            Some(start) => start.saturating_add(self.every),
            // The interval that begins before the beginning of time.
            None => i64::MIN + (self.every - (i64::MIN.rem_euclid(self.every))),
        }
    }

    /// A batch changed points between these times (inclusive).
    pub fn touch(&mut self, min: i64, max: i64, sequence: u64, now: Instant) {
        if min > max {
            return;
        }
        let (from, to) = (self.start(min), self.end(max));
        let since = self.waiting.iter().filter(|w| w.from < to && from < w.to);
        let since = since.map(|w| w.since).min().unwrap_or(now);
        let mut out: Vec<Waiting> = Vec::with_capacity(self.waiting.len() + 2);
        let mut sequence = sequence;
        for w in self.waiting.drain(..) {
            if w.to <= from || w.from >= to {
                out.push(w);
                continue;
            }
            if w.from < from {
                out.push(Waiting { to: from, ..w });
            }
            if w.to > to {
                out.push(Waiting { from: to, ..w });
            }
            sequence = sequence.max(w.sequence);
        }
        out.push(Waiting {
            from,
            to,
            sequence,
            since,
            last: now,
        });
        out.sort_unstable_by_key(|w| w.from);
        self.waiting = out;
        self.limit();
    }

    fn limit(&mut self) {
        while self.waiting.len() > RANGES_MAX {
            let gap = |pair: &[Waiting]| {
                let apart = i128::from(pair[1].from) - i128::from(pair[0].to);
                (apart, pair[0].sequence.max(pair[1].sequence))
            };
            let pairs = self.waiting.windows(2).enumerate();
            let Some((at, _)) = pairs.min_by_key(|(_, pair)| gap(pair)) else {
                return;
            };
            let next = self.waiting.remove(at + 1);
            let here = &mut self.waiting[at];
            here.to = next.to;
            here.sequence = here.sequence.max(next.sequence);
            here.since = here.since.min(next.since);
            here.last = here.last.max(next.last);
        }
    }

    /// States of the intervals in [from, to), made of everything up to `as_of`, were committed with this sequence.
    pub fn built(&mut self, from: i64, to: i64, as_of: u64, sequence: u64) {
        let mut out: Vec<Waiting> = Vec::with_capacity(self.waiting.len() + 1);
        for w in self.waiting.drain(..) {
            if w.to <= from || w.from >= to || w.sequence > as_of {
                out.push(w);
                continue;
            }
            if w.from < from {
                out.push(Waiting { to: from, ..w });
            }
            if w.to > to {
                out.push(Waiting { from: to, ..w });
            }
        }
        self.waiting = out;
        self.limit();
        self.recent.push_back((sequence, from, to));
        if self.recent.len() > RECENT_MAX
            && let Some((old, ..)) = self.recent.pop_front()
        {
            self.floor = self.floor.max(old);
        }
    }

    /// The clean intervals that lie within [from, to) whole, for a snapshot that sees everything up to a sequence.
    pub fn clean(&self, from: i64, to: i64, sequence: u64) -> Vec<(i64, i64)> {
        let first = match self.start(from) {
            start if start == from => from,
            _ => self.end(from),
        };
        let last = self.start(to);
        if sequence < self.floor || first >= last {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut at = first;
        for (from, to) in self.not_for(sequence) {
            if at < from && from > first {
                found.push((at, from.min(last)));
            }
            at = at.max(to);
            if at >= last {
                return found;
            }
        }
        found.push((at, last));
        found
    }

    /// What waits for a snapshot, ascending, apart.
    fn not_for(&self, sequence: u64) -> Vec<(i64, i64)> {
        let waiting = self.waiting.iter().map(|w| (w.from, w.to));
        let unseen = self.recent.iter().filter(|(at, ..)| *at > sequence);
        let mut all: Vec<(i64, i64)> = waiting.chain(unseen.map(|&(_, from, to)| (from, to))).collect();
        all.sort_unstable();
        let mut out: Vec<(i64, i64)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match out.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => out.push((from, to)),
            }
        }
        out
    }

    /// The latest intervals that wait, ended before a time, and were left alone for some time (or wait for long).
    pub fn due(&self, before: i64, now: Instant, settle: Duration, patience: Duration) -> Option<(i64, i64)> {
        let end = self.start(before);
        let ripe = |w: &&Waiting| {
            w.from < end && (now.duration_since(w.last) >= settle || now.duration_since(w.since) >= patience)
        };
        let found = self.waiting.iter().rev().find(ripe);
        found.map(|w| (w.from, w.to.min(end)))
    }

    /// What waits: from, to.
    pub fn waiting(&self) -> Vec<(i64, i64)> {
        self.not_for(u64::MAX)
    }

    /// What waited, or did so after all, at a sequence; as it is kept.
    pub fn to_text(&self, sequence: u64) -> String {
        let all = match sequence < self.floor {
            true => vec![(i64::MIN, i64::MAX)],
            false => self.not_for(sequence),
        };
        serde_json::to_string(&all).expect("numbers serialise")
    }

    /// Read again. Everything waits where it cannot be read.
    pub fn of_text(every: i64, text: &str, sequence: u64, now: Instant) -> Self {
        let mut cover = Self::new(every);
        let all: Vec<(i64, i64)> = serde_json::from_str(text).unwrap_or_else(|_| vec![(i64::MIN, i64::MAX)]);
        for (from, to) in all.into_iter().filter(|(from, to)| from < to) {
            cover.touch(from, to.saturating_sub(1), sequence, now);
        }
        cover
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intervals_wait_and_are_clean_again() {
        let now = Instant::now();
        let mut cover = Cover::new(10);
        assert_eq!(cover.clean(0, 100, 1), [(0, 100)]);
        assert_eq!(cover.clean(1, 99, 1), [(10, 90)]);
        assert_eq!(cover.clean(1, 9, 1), []);
        cover.touch(25, 31, 2, now);
        assert_eq!(cover.clean(0, 100, 2), [(0, 20), (40, 100)]);
        // One of them is touched again while states are made of what was before.
        cover.touch(33, 33, 5, now);
        cover.built(0, 40, 4, 6);
        assert_eq!(cover.clean(0, 100, 6), [(0, 30), (40, 100)]);
        // A snapshot from before does not see them.
        assert_eq!(cover.clean(0, 100, 5), [(40, 100)]);
        cover.built(30, 40, 6, 7);
        assert_eq!(cover.clean(0, 100, 7), [(0, 100)]);
        assert_eq!(cover.to_text(7), "[]");
        assert_eq!(cover.to_text(6), "[[30,40]]");
        assert_eq!(
            Cover::of_text(10, "[[30,40]]", 6, now).clean(0, 100, 6),
            [(0, 30), (40, 100)]
        );
        assert_eq!(Cover::of_text(10, "?", 6, now).clean(0, 100, 6), []);
    }

    #[test]
    fn the_ends_of_time() {
        let now = Instant::now();
        let mut cover = Cover::new(86_400_000_000_000);
        cover.touch(i64::MIN, i64::MAX, 1, now);
        assert_eq!(cover.clean(i64::MIN, i64::MAX, 1), []);
        cover.built(i64::MIN, i64::MAX, 1, 2);
        assert_eq!(cover.clean(0, 86_400_000_000_000, 2), [(0, 86_400_000_000_000)]);
        cover.touch(i64::MIN, i64::MIN, 3, now);
        cover.touch(i64::MAX, i64::MAX, 3, now);
        assert_eq!(cover.waiting().len(), 2);
    }

    #[test]
    fn what_was_left_alone_is_due() {
        let start = Instant::now();
        let (settle, patience) = (Duration::from_secs(2), Duration::from_secs(60));
        let mut cover = Cover::new(10);
        cover.touch(0, 95, 1, start);
        let later = start + settle;
        assert_eq!(cover.due(1000, start, settle, patience), None);
        assert_eq!(cover.due(1000, later, settle, patience), Some((0, 100)));
        assert_eq!(cover.due(55, later, settle, patience), Some((0, 50)));
        assert_eq!(cover.due(5, later, settle, patience), None);
        // Touched again and again: not for ever.
        cover.touch(90, 95, 2, start + patience);
        assert_eq!(
            cover.due(1000, start + patience, settle, patience),
            Some((90, 100))
        );
    }

    proptest! {
        #[test]
        fn clean_is_never_more_than_what_is(steps in prop::collection::vec((0..3u8, 0..2000i64, 0..300i64), 1..300)) {
            let now = Instant::now();
            let mut cover = Cover::new(10);
            // For each interval: the last batch that touched it, and what its states were made of, with the commit.
            let mut touched = vec![0u64; 300];
            let mut made: Vec<Vec<(u64, u64)>> = vec![vec![(0, 0)]; 300];
            let (mut sequence, mut as_of) = (0u64, 0u64);
            for (what, from, len) in steps {
                sequence += 1;
                match what {
                    0 => {
                        cover.touch(from, from + len, sequence, now);
                        (from / 10..=(from + len) / 10).for_each(|i| touched[i as usize] = sequence);
                    }
                    1 => as_of = sequence,
                    _ => {
                        let (from, to) = (from / 10, (from + len) / 10);
                        cover.built(from * 10, to * 10, as_of, sequence);
                        (from..to).for_each(|i| made[i as usize].push((as_of, sequence)));
                    }
                }
                for at in [sequence, sequence.saturating_sub(3)] {
                    for (from, to) in cover.clean(0, 3000, at) {
                        for i in from / 10..to / 10 {
                            let seen = made[i as usize].iter().rev().find(|(_, commit)| *commit <= at);
                            let (made_of, _) = seen.copied().unwrap_or_default();
                            // Never touched, or made of all that touched it.
                            prop_assert!(touched[i as usize] <= made_of || touched[i as usize] == 0,
                                "{} at {}: touched {}, made of {}", i, at, touched[i as usize], made_of);
                        }
                    }
                }
                prop_assert!(cover.waiting.len() <= RANGES_MAX);
            }
        }
    }
}
