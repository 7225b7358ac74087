//! What a computation knows of its windows: their rows, when each last changed, which are to be looked at again, which are
//! final. Pure: `now` is a parameter.

use super::message::Kind;
use super::row::{Cells, Row};
use crate::query::Value;
use crate::query::windows::Windows as Borders;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A row that is remembered.
#[derive(Clone, Debug)]
struct Held {
    cells: Cells,
    /// The sequence of the evaluation that first gave it.
    changed: u64,
    /// There is no row any more: `cells` has no values.
    gone: bool,
}

/// What a row that is remembered takes beside its values.
const HELD_BYTES: usize = 80;

impl Held {
    fn bytes(&self) -> usize {
        self.cells.weight() + HELD_BYTES
    }
}

/// A range of time [from, to) that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Looked {
    /// From here.
    pub from: i64,
    /// To before here.
    pub to: i64,
    /// All groups were; otherwise those that have rows in the answer.
    pub all: bool,
}

/// Windows a computation remembers. Older ones are still corrected, but are sent whenever they are touched, changed or not.
pub const WINDOWS_REMEMBERED_MAX: usize = 1024;
/// Rows a computation remembers.
pub const ROWS_REMEMBERED_MAX: usize = 100_000;
/// Windows that may wait for being looked at; beyond it the range between the first and the last is looked at as a whole.
pub const WINDOWS_DIRTY_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Windows {
    borders: Borders,
    /// By window, then group.
    rows: BTreeMap<i64, BTreeMap<u32, Held>>,
    count: usize,
    /// Bytes of memory they take, about.
    bytes: usize,
    /// Every row at or after this time is remembered.
    since: i64,
    /// Every change after this sequence is remembered.
    complete_after: u64,
    /// Windows that begin before this are final.
    closed_before: i64,
    /// When windows became final: their border, and the sequence that was reflected then. The last few.
    closings: Vec<(i64, u64)>,
    /// Windows with changes not yet looked at.
    dirty: BTreeSet<i64>,
    /// The starts of the first and the last of many such windows.
    dirty_range: Option<(i64, i64)>,
}

/// Rolling windows that one row is part of are marked one by one up to this many; beyond it as a range.
const ROLLING_MAX: i64 = 64;
/// Closings that are remembered for clients that come back.
const CLOSINGS_MAX: usize = 64;

impl Windows {
    /// Rows from `since` on; windows that ended before `watermark` count as final.
    pub fn new(borders: Borders, since: i64, watermark: i64) -> Self {
        Self {
            closed_before: borders.start(watermark),
            borders,
            rows: BTreeMap::new(),
            count: 0,
            bytes: 0,
            since,
            complete_after: 0,
            closings: Vec::new(),
            dirty: BTreeSet::new(),
            dirty_range: None,
        }
    }

    /// How time is cut.
    pub fn borders(&self) -> &Borders {
        &self.borders
    }

    /// The start of the window that holds `time`.
    pub fn start_of(&self, time: i64) -> i64 {
        self.borders.start(time)
    }

    /// The start of the window after the one that begins at `start`.
    pub fn next(&self, start: i64) -> i64 {
        self.borders.next(start)
    }

    /// Rows at or after this are all remembered.
    pub fn since(&self) -> i64 {
        self.since
    }

    /// A client that has seen this sequence can be told all that changed after it.
    pub fn can_resume(&self, sequence: u64) -> bool {
        sequence >= self.complete_after
    }

    /// A committed row lies at `time`: the window that holds it is to be looked at, and the rolling ones that reach back to it.
    pub fn touch(&mut self, time: i64) {
        let mut start = self.borders.start(time);
        self.dirty.insert(start);
        if let Some(over) = self.borders.over {
            let last = self.reached(time);
            if over / self.borders.step > ROLLING_MAX {
                self.touch_range(time, time);
            } else {
                while start < last {
                    start = self.borders.next(start);
                    self.dirty.insert(start);
                }
            }
        }
        if self.dirty.len() > WINDOWS_DIRTY_MAX {
            let dirty = std::mem::take(&mut self.dirty);
            for start in [dirty.first(), dirty.last()].into_iter().flatten() {
                self.touch_range(*start, *start);
            }
        }
    }

    /// The last window that a row at `time` is part of.
    fn reached(&self, time: i64) -> i64 {
        let further = self
            .borders
            .over
            .map_or(0, |over| over.saturating_sub(self.borders.step));
        self.borders.start(time.saturating_add(further))
    }

    /// Any window from that of `min` to that of `max` may have changed.
    pub fn touch_range(&mut self, min: i64, max: i64) {
        let (min, max) = (self.borders.start(min), self.reached(max));
        let known = self.dirty_range.unwrap_or((min, max));
        self.dirty_range = Some((known.0.min(min), known.1.max(max)));
    }

    /// Takes the windows to look at again that begin at `until` or before, as ranges [from, to) of neighbouring windows.
    pub fn take_dirty(&mut self, until: i64) -> Vec<(i64, i64)> {
        let later = self.dirty.split_off(&until.saturating_add(1));
        let dirty = std::mem::replace(&mut self.dirty, later);
        let mut ranges: Vec<(i64, i64)> = Vec::new();
        if let Some((first, last)) = self.dirty_range
            && first <= until
        {
            let end = self.borders.next(last.min(self.borders.start(until)));
            ranges.push((first, end));
            // The far end lies in the future and waits there.
            self.dirty_range = (last >= end).then_some((end, last));
        }
        ranges.extend(dirty.into_iter().map(|start| (start, self.borders.next(start))));
        ranges.sort_unstable();
        // Each window once.
        ranges.dedup_by(|next, last| {
            let joined = next.0 <= last.1;
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
        ranges
    }

    /// Does anything at or before `until` wait to be looked at?
    pub fn is_dirty(&self, until: i64) -> bool {
        let first = self.dirty.first().copied();
        let range = self.dirty_range.map(|(first, _)| first);
        first.into_iter().chain(range).any(|start| start <= until)
    }

    /// Takes a fresh answer for what was looked at, as of `sequence`: what of it was not known. Rows have so many columns.
    pub fn learn(
        &mut self,
        rows: Vec<Row>,
        looked: &[Looked],
        columns: usize,
        sequence: u64,
    ) -> Vec<(Kind, Row)> {
        let mut news = self.vanished(&rows, looked, columns, sequence);
        for row in rows {
            let known = self.rows.entry(row.time).or_default();
            match known.get_mut(&row.group) {
                Some(held) if held.cells == row.cells => continue,
                Some(held) => {
                    self.bytes = self.bytes - held.bytes() + row.cells.weight() + HELD_BYTES;
                    held.cells = row.cells.clone();
                    held.changed = sequence;
                    held.gone = false;
                }
                None => {
                    self.count += 1;
                    self.bytes += row.cells.weight() + HELD_BYTES;
                    let cells = row.cells.clone();
                    known.insert(
                        row.group,
                        Held {
                            cells,
                            changed: sequence,
                            gone: false,
                        },
                    );
                }
            }
            news.push((self.kind(row.time), row));
        }
        self.forget();
        news
    }

    /// Rows that are known and not in the answer: points were replaced such that they do not match any more, or are not among the
    /// largest.
    fn vanished(
        &mut self,
        rows: &[Row],
        looked: &[Looked],
        columns: usize,
        sequence: u64,
    ) -> Vec<(Kind, Row)> {
        let mut news = Vec::new();
        let mut answer: Option<HashSet<(i64, u32)>> = None;
        for range in looked {
            // One time a window: the row of a group that was looked at is replaced.
            if !range.all && self.rows.range(range.from..range.to).nth(1).is_none() {
                continue;
            }
            let keys = answer.get_or_insert_with(|| rows.iter().map(|row| (row.time, row.group)).collect());
            let here = rows
                .iter()
                .filter(|row| (range.from..range.to).contains(&row.time));
            let groups: HashSet<u32> = here.map(|row| row.group).collect();
            let closed_before = self.closed_before;
            for (&time, known) in self.rows.range_mut(range.from..range.to) {
                for (&group, held) in known {
                    let asked = range.all || groups.contains(&group);
                    if held.gone || !asked || keys.contains(&(time, group)) {
                        continue;
                    }
                    self.bytes -= held.bytes();
                    held.cells = vec![Value::Null; columns.saturating_sub(1)].into();
                    self.bytes += held.bytes();
                    held.changed = sequence;
                    held.gone = true;
                    let kind = match time < closed_before {
                        true => Kind::Correction,
                        false => Kind::Update,
                    };
                    news.push((kind, row(time, group, held)));
                }
            }
        }
        news
    }

    fn kind(&self, time: i64) -> Kind {
        if time < self.closed_before {
            Kind::Correction
        } else {
            Kind::Update
        }
    }

    /// Once the watermark is here, another window is final.
    pub fn closing(&self) -> i64 {
        self.borders.next(self.closed_before)
    }

    /// The watermark has moved: the windows that are final now, with their rows, as of `sequence`.
    pub fn close(&mut self, watermark: i64, sequence: u64) -> Vec<(Kind, Row)> {
        let open = self.borders.start(watermark);
        if open <= self.closed_before {
            return Vec::new();
        }
        let closing = self.rows.range(self.closed_before..open);
        let rows: Vec<_> = closing
            .flat_map(|(&time, groups)| {
                let there = groups.iter().filter(|(_, held)| !held.gone);
                there.map(move |(&g, held)| (Kind::Final, row(time, g, held)))
            })
            .collect();
        self.closed_before = open;
        self.closings.push((open, sequence));
        if self.closings.len() > CLOSINGS_MAX {
            self.closings.remove(0);
        }
        rows
    }

    /// Every remembered row at or after `from`.
    pub fn all(&self, from: i64) -> Vec<(Kind, Row)> {
        let rows = self.rows.range(from..);
        rows.flat_map(|(&time, groups)| {
            let there = groups.iter().filter(|(_, held)| !held.gone);
            there.map(move |(&g, held)| (Kind::Snapshot, row(time, g, held)))
        })
        .collect()
    }

    /// What a client does not know that has seen everything up to `sequence`: changed rows, and windows that became final.
    pub fn after(&self, sequence: u64, from: i64) -> Vec<(Kind, Row)> {
        // Windows from here on may have been open when the client last heard.
        let told = self.closings.iter().filter(|(_, at)| *at < sequence);
        let final_from = told.map(|(border, _)| *border).max();
        let mut out = Vec::new();
        for (&time, groups) in self.rows.range(from..) {
            let closed = time < self.closed_before;
            let newly_final =
                closed && final_from.is_none_or(|border| time >= border) && !self.closings.is_empty();
            for (&group, held) in groups {
                if newly_final && !held.gone {
                    out.push((Kind::Final, row(time, group, held)));
                } else if held.changed > sequence {
                    out.push((self.kind(time), row(time, group, held)));
                }
            }
        }
        out
    }

    /// Begins anew: what was known may no longer be true.
    pub fn clear(&mut self, sequence: u64) {
        self.rows.clear();
        self.count = 0;
        self.bytes = 0;
        self.complete_after = sequence;
    }

    /// Everything from `since` on was just learned as of `sequence`.
    pub fn begun(&mut self, sequence: u64) {
        self.complete_after = self.complete_after.max(sequence);
    }

    /// Bytes of memory that its rows take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets older windows until its rows take so many bytes, but for those of the newest window.
    pub fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes && self.rows.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget(&mut self) {
        while self.rows.len() > WINDOWS_REMEMBERED_MAX
            || (self.count > ROWS_REMEMBERED_MAX && self.rows.len() > 1)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((time, groups)) = self.rows.pop_first() else {
            return;
        };
        self.count -= groups.len();
        self.bytes -= groups.values().map(Held::bytes).sum::<usize>();
        let newest = groups.values().map(|held| held.changed).max();
        self.complete_after = self.complete_after.max(newest.unwrap_or(0));
        self.since = self.since.max(self.borders.next(time));
    }
}

fn row(time: i64, group: u32, held: &Held) -> Row {
    let cells = held.cells.clone();
    Row { group, time, cells }
}

#[cfg(test)]
mod tests {
    use super::super::row::row_of_json as row;
    use super::*;

    fn windows(step: i64, offset: i64, watermark: i64) -> Windows {
        Windows::new(Borders::fixed(step, offset), 0, watermark)
    }

    fn kinds(news: &[(Kind, Row)]) -> Vec<(Kind, i64)> {
        news.iter().map(|(kind, row)| (*kind, row.time)).collect()
    }

    #[test]
    fn a_window_is_updated_closed_and_corrected() {
        let mut windows = windows(10, 0, 5);
        let first = windows.learn(vec![row(0, 0, "[0,1]")], &[], 2, 1);
        assert_eq!(kinds(&first), [(Kind::Update, 0)]);
        let again = windows.learn(vec![row(0, 0, "[0,1]")], &[], 2, 2);
        assert_eq!(again, [], "the same again is no news");
        let more = windows.learn(vec![row(0, 0, "[0,2]"), row(1, 0, "[0,9]")], &[], 2, 3);
        assert_eq!(more.len(), 2);
        assert_eq!(windows.close(9, 3), [], "not over yet");
        assert_eq!(kinds(&windows.close(10, 3)), [(Kind::Final, 0), (Kind::Final, 0)]);
        assert_eq!(windows.close(19, 3), [], "nothing was sent of the next window");
        let late = windows.learn(vec![row(0, 0, "[0,3]")], &[], 2, 4);
        assert_eq!(kinds(&late), [(Kind::Correction, 0)]);
    }

    #[test]
    fn a_client_that_comes_back_is_told_what_changed_and_what_closed() {
        let mut windows = windows(10, 0, 5);
        windows.learn(vec![row(0, 0, "[0,1]")], &[], 2, 5);
        windows.begun(5);
        windows.learn(vec![row(0, 10, "[10,1]")], &[], 2, 6);
        assert!(!windows.can_resume(4) && windows.can_resume(5));
        assert_eq!(kinds(&windows.after(5, 0)), [(Kind::Update, 10)]);
        assert_eq!(windows.after(6, 0), []);
        windows.close(10, 6);
        windows.learn(vec![row(0, 10, "[10,2]")], &[], 2, 8);
        assert_eq!(
            kinds(&windows.after(6, 0)),
            [(Kind::Final, 0), (Kind::Update, 10)]
        );
        assert_eq!(kinds(&windows.after(7, 0)), [(Kind::Update, 10)]);
        windows.learn(vec![row(0, 0, "[0,7]")], &[], 2, 9);
        assert_eq!(kinds(&windows.after(8, 0)), [(Kind::Correction, 0)]);
        assert_eq!(kinds(&windows.after(8, 10)), [], "not asked for");
    }

    #[test]
    fn a_row_that_is_not_there_any_more_is_told_and_not_shown() {
        let mut windows = windows(10, 0, 5);
        let all = |to| Looked {
            from: 0,
            to,
            all: true,
        };
        windows.learn(
            vec![row(0, 0, "[0,1]"), row(1, 0, "[0,2]"), row(0, 10, "[10,3]")],
            &[all(20)],
            2,
            5,
        );
        windows.begun(5);
        let news = windows.learn(vec![row(1, 0, "[0,2]")], &[all(10)], 2, 6);
        assert_eq!(news, [(Kind::Update, row(0, 0, "[0,null]"))]);
        assert_eq!(windows.learn(vec![], &[all(0)], 2, 7), []);
        assert_eq!(windows.all(0).len(), 2);
        assert_eq!(windows.after(5, 0), news, "also for who comes back");
        assert_eq!(kinds(&windows.close(10, 7)), [(Kind::Final, 0)]);
        // Of some groups: only what lies elsewhere than what replaces it.
        let some = Looked {
            from: 10,
            to: 20,
            all: false,
        };
        assert_eq!(windows.learn(vec![row(1, 12, "[12,4]")], &[some], 2, 8).len(), 1);
        let news = windows.learn(vec![row(1, 13, "[13,5]")], &[some], 2, 9);
        assert_eq!(
            news,
            [
                (Kind::Update, row(1, 12, "[12,null]")),
                (Kind::Update, row(1, 13, "[13,5]"))
            ]
        );
        let back = windows.learn(vec![row(0, 0, "[0,1]"), row(1, 0, "[0,2]")], &[all(10)], 2, 10);
        assert_eq!(back, [(Kind::Correction, row(0, 0, "[0,1]"))]);
    }

    #[test]
    fn touched_windows_become_ranges() {
        let mut windows = windows(10, 3, 0);
        for time in [3, 12, 13, 40, 1000] {
            windows.touch(time);
        }
        assert!(windows.is_dirty(100));
        assert_eq!(windows.take_dirty(100), [(3, 23), (33, 43)]);
        assert!(!windows.is_dirty(100));
        windows.touch_range(45, 56);
        [3, 33, 43].into_iter().for_each(|time| windows.touch(time));
        assert_eq!(windows.take_dirty(100), [(3, 13), (33, 63)], "each once");
        assert_eq!(
            windows.take_dirty(2000),
            [(993, 1003)],
            "the future waits until it comes"
        );
    }

    #[test]
    fn a_row_touches_the_rolling_windows_that_reach_back_to_it() {
        let rolling = |over| {
            let mut borders = Borders::fixed(10, 0);
            borders.over = Some(over);
            Windows::new(borders, 0, 0)
        };
        let mut windows = rolling(30);
        windows.touch(15);
        assert_eq!(windows.take_dirty(1000), [(10, 40)]);
        let mut windows = rolling(10_000);
        windows.touch(15);
        assert_eq!(windows.take_dirty(100), [(10, 110)]);
        assert_eq!(windows.take_dirty(100_000), [(110, 10_010)]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut windows = windows(1, 0, 0);
        windows.learn((0..5000).map(|t| row(0, t, "[]")).collect(), &[], 2, 7);
        assert_eq!(windows.rows.len(), WINDOWS_REMEMBERED_MAX);
        assert_eq!(windows.since(), 5000 - WINDOWS_REMEMBERED_MAX as i64);
        assert!(!windows.can_resume(6), "what was forgotten had changed at 7");
        let held = |windows: &Windows| -> usize {
            let rows = windows.rows.values().flat_map(BTreeMap::values);
            rows.map(Held::bytes).sum()
        };
        assert_eq!(windows.bytes(), held(&windows));
        let bytes = windows.bytes() / 4;
        windows.shrink(bytes);
        assert!(windows.bytes() <= bytes && windows.rows.len() > 200);
        assert_eq!(windows.bytes(), held(&windows));
        windows.shrink(0);
        assert_eq!(windows.rows.len(), 1, "the newest window stays");
        windows.learn(vec![row(1, 4999, "[4999,\"a\"]")], &[], 2, 8);
        windows.learn(vec![row(1, 4999, "[4999,\"longer\"]")], &[], 2, 9);
        let all = Looked {
            from: 0,
            to: 5000,
            all: true,
        };
        windows.learn(vec![row(0, 4999, "[]")], &[all], 2, 10);
        assert_eq!(windows.bytes(), held(&windows));
        windows.clear(11);
        assert_eq!(windows.bytes(), 0);
        (0..10_000).step_by(2).for_each(|t| windows.touch(t));
        let ranges = windows.take_dirty(20_000);
        assert_eq!((ranges[0].0, ranges[ranges.len() - 1].1), (0, 9999));
        assert!(ranges.len() <= WINDOWS_DIRTY_MAX, "{}", ranges.len());
    }
}
