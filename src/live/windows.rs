//! What a client has been told of each window, and what of a new answer is news. Pure: `now` is a parameter.

use super::message::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a group a window, in the order groups came; what identifies a row is (group, time).
pub type RowKey = (u32, i64);

/// One row of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The group's number, from [`Groups`].
    pub group: u32,
    /// The window's start, nanoseconds.
    pub time: i64,
    /// The row as a JSON array, time first.
    pub json: Box<str>,
}

/// Numbers for (name, tags as JSON).
#[derive(Clone, Debug, Default)]
pub struct Groups {
    names: Vec<(String, Option<String>)>,
    numbers: BTreeMap<(String, Option<String>), u32>,
}

impl Groups {
    /// The number of a group, a new one at first sight.
    pub fn number(&mut self, name: &str, tags: Option<&str>) -> u32 {
        let key = (name.to_string(), tags.map(str::to_string));
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = u32::try_from(self.names.len()).expect("rows are limited far below 2^32 groups");
        self.names.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    /// The name and tags of a group.
    pub fn get(&self, number: u32) -> (&str, Option<&str>) {
        let (name, tags) = &self.names[number as usize];
        (name, tags.as_deref())
    }
}

/// What has been sent of the windows that can still change cheaply.
#[derive(Debug)]
pub struct Windows {
    /// Nanoseconds of a window.
    step: i64,
    /// Where windows begin: multiples of `step` plus this.
    offset: i64,
    sent: BTreeMap<i64, BTreeMap<u32, Box<str>>>,
    /// Windows that begin before this are final.
    closed_before: i64,
    /// Windows with changes not yet looked at.
    dirty: BTreeSet<i64>,
}

/// Windows a subscription remembers; older ones are still corrected, but sent whenever they are touched, changed or not.
pub const WINDOWS_REMEMBERED_MAX: usize = 1024;

/// Windows that may wait for being looked at; beyond it the range between the first and the last is looked at as a whole.
pub const WINDOWS_DIRTY_MAX: usize = 4096;

impl Windows {
    /// Windows of `step` nanoseconds, shifted by `offset`; those that ended before `watermark` count as final.
    pub fn new(step: i64, offset: i64, watermark: i64) -> Self {
        let mut windows = Self {
            step,
            offset,
            sent: BTreeMap::new(),
            closed_before: i64::MIN,
            dirty: BTreeSet::new(),
        };
        windows.closed_before = windows.first_open(watermark);
        windows
    }

    /// The start of the window that holds `time`.
    pub fn start_of(&self, time: i64) -> i64 {
        let shifted = i128::from(time) - i128::from(self.offset);
        let start = shifted - shifted.rem_euclid(i128::from(self.step)) + i128::from(self.offset);
        i64::try_from(start).unwrap_or(i64::MIN)
    }

    /// The first window that has not ended at `watermark`.
    fn first_open(&self, watermark: i64) -> i64 {
        self.start_of(watermark)
    }

    /// A committed row lies at `time`.
    pub fn touch(&mut self, time: i64) {
        self.dirty.insert(self.start_of(time));
    }

    /// Every window the client was told of may have changed.
    pub fn touch_sent(&mut self) {
        self.dirty.extend(self.sent.keys());
    }

    /// Takes the windows to look at again, as ranges [from, to) of neighbouring windows.
    pub fn take_dirty(&mut self) -> Vec<(i64, i64)> {
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.len() > WINDOWS_DIRTY_MAX {
            let first = *dirty.first().expect("more than the limit, so not empty");
            let last = *dirty.last().expect("more than the limit, so not empty");
            return vec![(first, last.saturating_add(self.step))];
        }
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        for start in dirty {
            match ranges.last_mut() {
                Some((_, end)) if *end == start => *end = start.saturating_add(self.step),
                _ => ranges.push((start, start.saturating_add(self.step))),
            }
        }
        ranges
    }

    /// Something waits to be looked at.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Takes a fresh answer for the windows in [from, to): what of it the client does not know yet.
    pub fn learn(&mut self, rows: Vec<Row>) -> Vec<(Kind, Row)> {
        let mut news = Vec::new();
        for row in rows {
            let known = self.sent.entry(row.time).or_default();
            if known.get(&row.group) == Some(&row.json) {
                continue;
            }
            known.insert(row.group, row.json.clone());
            let kind = if row.time < self.closed_before {
                Kind::Correction
            } else {
                Kind::Update
            };
            news.push((kind, row));
        }
        self.forget();
        news
    }

    /// The watermark has moved: the windows that are final now, with their rows.
    pub fn close(&mut self, watermark: i64) -> Vec<(Kind, Row)> {
        let open = self.first_open(watermark);
        if open <= self.closed_before {
            return Vec::new();
        }
        let closing = self.sent.range(self.closed_before..open);
        let rows = closing.flat_map(|(&time, groups)| {
            groups.iter().map(move |(&group, json)| {
                (
                    Kind::Final,
                    Row {
                        group,
                        time,
                        json: json.clone(),
                    },
                )
            })
        });
        let rows = rows.collect();
        self.closed_before = open;
        rows
    }

    fn forget(&mut self) {
        while self.sent.len() > WINDOWS_REMEMBERED_MAX {
            self.sent.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: u32, time: i64, json: &str) -> Row {
        Row {
            group,
            time,
            json: json.into(),
        }
    }

    fn kinds(news: &[(Kind, Row)]) -> Vec<(Kind, i64)> {
        news.iter().map(|(kind, row)| (*kind, row.time)).collect()
    }

    #[test]
    fn a_window_is_updated_closed_and_corrected() {
        let mut windows = Windows::new(10, 0, 5);
        assert_eq!(
            kinds(&windows.learn(vec![row(0, 0, "[0,1]")])),
            [(Kind::Update, 0)]
        );
        assert_eq!(
            windows.learn(vec![row(0, 0, "[0,1]")]),
            [],
            "the same again is no news"
        );
        assert_eq!(
            kinds(&windows.learn(vec![row(0, 0, "[0,2]"), row(1, 0, "[0,9]")])).len(),
            2
        );
        assert_eq!(windows.close(9), [], "not over yet");
        assert_eq!(kinds(&windows.close(10)), [(Kind::Final, 0), (Kind::Final, 0)]);
        assert_eq!(windows.close(19), [], "nothing was sent of the next window");
        assert_eq!(
            kinds(&windows.learn(vec![row(0, 0, "[0,3]")])),
            [(Kind::Correction, 0)]
        );
    }

    #[test]
    fn touched_windows_become_ranges() {
        let mut windows = Windows::new(10, 3, 0);
        for time in [3, 12, 13, 40, -1, i64::MIN + 2, i64::MAX - 1] {
            windows.touch(time);
        }
        let ranges = windows.take_dirty();
        assert!(
            ranges.contains(&(-7, 3)) || ranges.iter().any(|r| r.0 <= -7 && r.1 >= 23),
            "{ranges:?}"
        );
        assert!(ranges.iter().any(|r| r.0 <= 33 && r.1 >= 43), "{ranges:?}");
        assert!(windows.take_dirty().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let mut windows = Windows::new(1, 0, 0);
        windows.learn((0..5000).map(|t| row(0, t, "[]")).collect());
        assert_eq!(windows.sent.len(), WINDOWS_REMEMBERED_MAX);
        (0..10_000).step_by(2).for_each(|t| windows.touch(t));
        assert_eq!(windows.take_dirty(), [(0, 9999)]);
    }
}
