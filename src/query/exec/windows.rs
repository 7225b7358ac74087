//! From rows to segments: consecutive rows of a series that fall into one window of one group, whose slot they go into.

use super::groups::Groups;
use crate::block::steps::STEP_WIDTH_MIN;
use crate::model::TimeRange;
use crate::query::error::QueryError;
use crate::query::scan::SeriesRun;
use crate::query::windows::Windows;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Consecutive rows that go into one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which slot.
    pub slot: u32,
    /// First row.
    pub start: u32,
    /// First row past it.
    pub end: u32,
}

impl Segment {
    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Consecutive rows that go into as many consecutive slots, one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Slot of the first row.
    pub slot: u32,
    /// First row.
    pub start: u32,
    /// First row past it.
    pub end: u32,
}

impl Ladder {
    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its slots.
    pub fn slots(&self) -> Range<usize> {
        self.slot as usize..(self.slot + self.end - self.start) as usize
    }
}

/// How rows may be put together beyond segments of one series.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shapes {
    /// Where there is one window, series of one group that stand together make one segment, whose times do not ascend then.
    pub joined: bool,
    /// Rows that are as far apart as windows are long make [`Ladder`]s.
    pub ladders: bool,
}

/// How rows find their window. The same for all workers of a query.
#[derive(Clone, Debug)]
pub enum WindowIndex {
    /// There is one window, of all time.
    One,
    /// Windows of equal length without a gap: group g's window w is slot `g * count + w`.
    Regular {
        /// Start of the first.
        first: i64,
        /// Length.
        step: i64,
        /// How many.
        count: u32,
    },
    /// Windows of any length; slots as above. The last entry is the end of the last one.
    Edges(Arc<[i64]>),
    /// So many windows, so few rows: each group has slots for the windows that it has rows in.
    Sparse(Windows),
}

/// More slots are not looked at one by one to do without a zone.
const SPAN_MAX: u32 = 256;
/// Fewer windows than this are always listed.
const WINDOWS_LISTED_MIN: u64 = 4096;

impl WindowIndex {
    /// For rows in a range of time, so many of them in about so many groups.
    pub fn new(windows: Option<&Windows>, time: TimeRange, rows: u64, groups: u64) -> Self {
        let Some(windows) = windows else {
            return Self::One;
        };
        if time.is_empty() {
            return Self::Sparse(windows.clone());
        }
        // More slots than that would stay empty, most of them.
        let worth = (rows.saturating_mul(2) / groups.max(1)).max(WINDOWS_LISTED_MIN / groups.clamp(1, 64));
        let mut edges = vec![windows.start(time.min)];
        loop {
            let last = edges[edges.len() - 1];
            if last > time.max {
                break;
            }
            let next = windows.next(last);
            if next <= last || edges.len() as u64 > worth.min(u64::from(u32::MAX / 2)) {
                return Self::Sparse(windows.clone());
            }
            edges.push(next);
        }
        let step = edges[1].wrapping_sub(edges[0]);
        let regular = edges.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step);
        if regular && step > 0 {
            Self::Regular {
                first: edges[0],
                step,
                count: edges.len() as u32 - 1,
            }
        } else {
            Self::Edges(edges.into())
        }
    }

    /// Windows of a group, where they are the same for all.
    pub fn count(&self) -> Option<u32> {
        match self {
            Self::One => Some(1),
            Self::Regular { count, .. } => Some(*count),
            Self::Edges(edges) => Some(edges.len() as u32 - 1),
            Self::Sparse(_) => None,
        }
    }
}

/// The slots of one worker.
pub struct Slots {
    index: WindowIndex,
    sparse: HashMap<(u32, i64), u32>,
    /// The group and window of each slot, where windows are sparse.
    list: Vec<(u32, i64)>,
    segments: Vec<Segment>,
    ladders: Vec<Ladder>,
}

/// Shorter ladders are cut into segments.
const LADDER_ROWS_MIN: u32 = 4;

impl Slots {
    /// None yet.
    pub fn new(index: WindowIndex) -> Self {
        Self {
            index,
            sparse: HashMap::new(),
            list: Vec::new(),
            segments: Vec::new(),
            ladders: Vec::new(),
        }
    }

    /// Windows of a group, where all have as many.
    pub fn count(&self) -> Option<u32> {
        self.index.count()
    }

    /// How many there are when there are so many groups.
    pub fn len(&self, groups: usize) -> usize {
        match self.index.count() {
            Some(count) => groups * count as usize,
            None => self.list.len(),
        }
    }

    /// The slot of a group in which all these times are; `None` when they are in several.
    pub fn one(&mut self, group: u32, time: TimeRange) -> Option<u32> {
        match &self.index {
            WindowIndex::One => Some(group),
            WindowIndex::Regular { first, step, count } => {
                let window = window_of(time.min, *first, *step);
                (window_of(time.max, *first, *step) == window).then(|| group * count + window)
            }
            WindowIndex::Edges(edges) => {
                let window = edges.partition_point(|&edge| edge <= time.min).checked_sub(1)?;
                let inside = edges.get(window + 1).is_some_and(|&end| time.max < end);
                inside.then(|| group * (edges.len() as u32 - 1) + window as u32)
            }
            WindowIndex::Sparse(windows) => {
                let start = windows.start(time.min);
                let inside = time.max < windows.next(start);
                inside.then(|| sparse_slot(&mut self.sparse, &mut self.list, group, start))
            }
        }
    }

    /// The slots of a group in which these times may be; `None` when they are many, or not known.
    pub fn span(&self, group: u32, time: TimeRange) -> Option<Range<u32>> {
        if time.is_empty() {
            return Some(0..0);
        }
        let (first, last, count) = match &self.index {
            WindowIndex::One => (0, 0, 1),
            WindowIndex::Regular { first, step, count } => (
                window_of(time.min, *first, *step),
                window_of(time.max, *first, *step),
                *count,
            ),
            WindowIndex::Edges(edges) => {
                let window = |time: i64| edges.partition_point(|&edge| edge <= time).checked_sub(1);
                (
                    window(time.min)? as u32,
                    window(time.max)? as u32,
                    edges.len() as u32 - 1,
                )
            }
            WindowIndex::Sparse(_) => return None,
        };
        let few = last < count && first <= last && last - first < SPAN_MAX;
        few.then(|| group * count + first..group * count + last + 1)
    }

    /// Are windows long enough to hold steps (see [`crate::block::steps`])?
    pub fn may_hold_steps(&self) -> bool {
        match &self.index {
            WindowIndex::One | WindowIndex::Edges(_) => true,
            WindowIndex::Regular { step, .. } => *step >= STEP_WIDTH_MIN,
            WindowIndex::Sparse(windows) => windows.step >= STEP_WIDTH_MIN,
        }
    }

    /// Cuts runs into segments (and what else the shapes allow). `group` says which group a run belongs to.
    ///
    /// # Errors
    /// What `group` gives.
    pub fn cut(
        &mut self,
        runs: &[SeriesRun],
        times: &[i64],
        shapes: Shapes,
        mut group: impl FnMut(&SeriesRun) -> Result<u32, QueryError>,
    ) -> Result<(), QueryError> {
        self.segments.clear();
        self.ladders.clear();
        match &self.index {
            WindowIndex::One => {
                for run in runs {
                    let slot = group(run)?;
                    match self.segments.last_mut() {
                        Some(last) if shapes.joined && last.slot == slot && last.end == run.start => {
                            last.end = run.end;
                        }
                        _ => self.segments.push(Segment {
                            slot,
                            start: run.start,
                            end: run.end,
                        }),
                    }
                }
            }
            WindowIndex::Regular { first, step, count } => {
                for run in runs {
                    let base = group(run)? * count;
                    if shapes.ladders && run.end - run.start >= LADDER_ROWS_MIN {
                        let of_run = &times[run.rows()];
                        if of_run
                            .windows(2)
                            .all(|pair| pair[1].wrapping_sub(pair[0]) == *step)
                        {
                            self.ladders.push(Ladder {
                                slot: base + window_of(of_run[0], *first, *step),
                                start: run.start,
                                end: run.end,
                            });
                            continue;
                        }
                    }
                    cut_regular(run, times, base, *first, *step, &mut self.segments);
                }
            }
            WindowIndex::Edges(edges) => {
                for run in runs {
                    let base = group(run)? * (edges.len() as u32 - 1);
                    let mut row = run.start;
                    while row < run.end {
                        let time = times[row as usize];
                        let window = edges.partition_point(|&edge| edge <= time).saturating_sub(1);
                        let next = edges.get(window + 1).copied().unwrap_or(i64::MAX);
                        let end = row + until(&times[row as usize..run.end as usize], next, 1) as u32;
                        let slot = base + window as u32;
                        self.segments.push(Segment {
                            slot,
                            start: row,
                            end,
                        });
                        row = end;
                    }
                }
            }
            WindowIndex::Sparse(windows) => {
                for run in runs {
                    let of_group = group(run)?;
                    let mut row = run.start;
                    while row < run.end {
                        let start = windows.start(times[row as usize]);
                        let next = windows.next(start);
                        let end = row + until(&times[row as usize..run.end as usize], next, 1) as u32;
                        let slot = sparse_slot(&mut self.sparse, &mut self.list, of_group, start);
                        self.segments.push(Segment {
                            slot,
                            start: row,
                            end,
                        });
                        row = end;
                    }
                }
            }
        }
        Ok(())
    }

    /// What [`cut`](Self::cut) made.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What [`cut`](Self::cut) made beside them.
    pub fn ladders(&self) -> &[Ladder] {
        &self.ladders
    }

    /// The same without the rows before a time.
    pub fn since(&self, since: i64, times: &[i64]) -> Vec<Segment> {
        let later = self.segments.iter().filter_map(|segment| {
            let before = times[segment.rows()].partition_point(|&t| t < since) as u32;
            let start = segment.start + before;
            (start < segment.end).then_some(Segment { start, ..*segment })
        });
        later.collect()
    }

    /// Takes over the slots of another worker, whose groups are these here: which slot each of its slots is here.
    pub fn absorb(&mut self, other: &Self, groups: &[u32]) -> Vec<u32> {
        match self.index.count() {
            Some(count) => groups
                .iter()
                .flat_map(|group| group * count..(group + 1) * count)
                .collect(),
            None => {
                let slots = other.list.iter();
                slots
                    .map(|&(group, start)| {
                        sparse_slot(&mut self.sparse, &mut self.list, groups[group as usize], start)
                    })
                    .collect()
            }
        }
    }

    /// The slots of each group with the starts of their windows, ascending in time; the groups are 0 to `groups`.
    pub fn by_group(&self, groups: &Groups) -> GroupSlots {
        let mut list = Vec::new();
        let mut begins = Vec::new();
        if self.index.count().is_none() {
            list = self
                .list
                .iter()
                .zip(0u32..)
                .map(|(&(group, start), slot)| (group, start, slot))
                .collect();
            list.sort_unstable();
            begins = (0..=groups.len() as u32)
                .map(|group| list.partition_point(|entry: &(u32, i64, u32)| entry.0 < group))
                .collect();
        }
        GroupSlots {
            index: self.index.clone(),
            list,
            begins,
        }
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        self.list.len() * 64
            + self.segments.capacity() * size_of::<Segment>()
            + self.ladders.capacity() * size_of::<Ladder>()
    }
}

/// The slots of groups, in order.
pub struct GroupSlots {
    index: WindowIndex,
    list: Vec<(u32, i64, u32)>,
    begins: Vec<usize>,
}

impl GroupSlots {
    /// Slots of a group, where all have as many.
    pub fn count(&self) -> Option<usize> {
        self.index.count().map(|count| count as usize)
    }

    /// The slots of a group and the starts of their windows, ascending.
    pub fn of(&self, group: u32, slots: &mut Vec<u32>, starts: &mut Vec<i64>) {
        slots.clear();
        starts.clear();
        match &self.index {
            WindowIndex::One => {
                slots.push(group);
                starts.push(i64::MIN);
            }
            WindowIndex::Regular { first, step, count } => {
                slots.extend(group * count..(group + 1) * count);
                // The distance from a first window before 1970 to a last one after it may be more than an i64 holds; their sum is not.
                let start = |w: i64| first.wrapping_add(w.wrapping_mul(*step));
                starts.extend((0..i64::from(*count)).map(start));
            }
            WindowIndex::Edges(edges) => {
                let count = edges.len() as u32 - 1;
                slots.extend(group * count..(group + 1) * count);
                starts.extend_from_slice(&edges[..count as usize]);
            }
            WindowIndex::Sparse(_) => {
                for (_, start, slot) in
                    &self.list[self.begins[group as usize]..self.begins[group as usize + 1]]
                {
                    slots.push(*slot);
                    starts.push(*start);
                }
            }
        }
    }
}

fn sparse_slot(
    map: &mut HashMap<(u32, i64), u32>,
    list: &mut Vec<(u32, i64)>,
    group: u32,
    start: i64,
) -> u32 {
    *map.entry((group, start)).or_insert_with(|| {
        list.push((group, start));
        list.len() as u32 - 1
    })
}

#[inline]
fn window_of(time: i64, first: i64, step: i64) -> u32 {
    (time.wrapping_sub(first) as u64 / step as u64) as u32
}

/// Where a window ends. The distance from the first may be more than an i64 holds.
#[inline]
fn end_of(first: i64, step: i64, window: u32) -> i64 {
    let end = i128::from(first) + i128::from(step) * (i128::from(window) + 1);
    i64::try_from(end).unwrap_or(i64::MAX)
}

fn cut_regular(run: &SeriesRun, times: &[i64], base: u32, first: i64, step: i64, out: &mut Vec<Segment>) {
    let (mut row, end) = (run.start as usize, run.end as usize);
    // Series are regular more often than not: the next window has as many rows as this one.
    let mut guess = 1;
    let mut window = window_of(times[row], first, step);
    loop {
        let next = end_of(first, step, window);
        let len = until(&times[row..end], next, guess);
        out.push(Segment {
            slot: base + window,
            start: row as u32,
            end: (row + len) as u32,
        });
        row += len;
        guess = len;
        if row >= end {
            return;
        }
        window = if times[row] < next.saturating_add(step) {
            window + 1
        } else {
            window_of(times[row], first, step)
        };
    }
}

/// How many times at the start are below `next`: at least one is. `guess` is tried first.
#[inline]
fn until(times: &[i64], next: i64, guess: usize) -> usize {
    let n = times.len();
    if times[n - 1] < next {
        return n;
    }
    // Here some time is not below.
    if guess < n && times[guess] >= next && times[guess - 1] < next {
        return guess;
    }
    let mut step = 1;
    while step < n && times[step] < next {
        step *= 2;
    }
    let from = step / 2;
    (from + times[from..n.min(step + 1)].partition_point(|&t| t < next)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn windows(step: i64, offset: i64, zone: &str) -> Windows {
        Windows {
            zone: TimeZone::get(zone).expect("a known zone"),
            ..Windows::fixed(step, offset)
        }
    }

    fn index_kinds(windows: &Windows, time: TimeRange) -> Vec<WindowIndex> {
        let mut edges = vec![windows.start(time.min)];
        while edges[edges.len() - 1] <= time.max {
            edges.push(windows.next(edges[edges.len() - 1]));
        }
        vec![
            WindowIndex::new(Some(windows), time, 1_000_000, 1),
            WindowIndex::Edges(edges.into()),
            WindowIndex::Sparse(windows.clone()),
        ]
    }

    proptest! {
        #[test]
        fn segments_put_each_row_into_its_window(
            mut times in prop::collection::btree_set(-500i64..500, 1..80),
            regular in prop::option::of(1i64..40), step in 1i64..60, offset in 0i64..60, cut in 0usize..80,
        ) {
            if let Some(every) = regular { times = (0..40).map(|i| i * every - 300).collect(); }
            let times: Vec<i64> = times.into_iter().collect();
            let cut = (cut % times.len()).max(1) as u32;
            let windows = windows(step, offset % step, "UTC");
            let runs = [(3, 0, cut), (5, cut, times.len() as u32)]
                .map(|(series, start, end)| SeriesRun { series, start, end });
            let runs: Vec<SeriesRun> = runs.into_iter().filter(|r| !r.is_empty()).collect();
            let time = TimeRange { min: times[0], max: times[times.len() - 1] };
            for index in index_kinds(&windows, time) {
                let mut slots = Slots::new(index.clone());
                slots.cut(&runs, &times, Shapes::default(), |run| Ok(u32::from(run.series == 5))).expect("groups are known");
                let mut groups = Groups::default();
                groups.number(&["a".into()]);
                groups.number(&["b".into()]);
                let by_group = slots.by_group(&groups);
                let mut start_of = HashMap::new();
                for group in 0..2 {
                    let (mut list, mut starts) = (Vec::new(), Vec::new());
                    by_group.of(group, &mut list, &mut starts);
                    prop_assert!(starts.is_sorted());
                    for (slot, start) in list.into_iter().zip(starts) { start_of.insert(slot, (group, start)); }
                }
                let mut row = 0;
                for segment in slots.segments() {
                    prop_assert_eq!(segment.start, row);
                    prop_assert!(segment.end > segment.start);
                    for r in segment.rows() {
                        let group = u32::from(r >= cut as usize && runs.len() == 2);
                        prop_assert_eq!(start_of.get(&segment.slot), Some(&(group, windows.start(times[r]))), "row {} {:?}", r, index);
                        let one = slots_one(&slots, group, times[r]);
                        prop_assert_eq!(one, Some(segment.slot));
                    }
                    row = segment.end;
                }
                prop_assert_eq!(row as usize, times.len());
            }
        }
    }

    #[test]
    fn rows_a_window_apart_make_ladders_and_series_of_a_group_one_segment() {
        let run = |series, start, end| SeriesRun { series, start, end };
        let times = [5, 15, 25, 35, 5, 15, 26, 35, 45];
        let runs = [run(1, 0, 4), run(2, 4, 9)];
        let index = WindowIndex::Regular {
            first: 0,
            step: 10,
            count: 6,
        };
        let shapes = Shapes {
            joined: true,
            ladders: true,
        };
        let mut slots = Slots::new(index);
        slots
            .cut(&runs, &times, shapes, |run| Ok(run.series - 1))
            .expect("groups are known");
        let ladder = Ladder {
            slot: 0,
            start: 0,
            end: 4,
        };
        assert_eq!(slots.ladders(), [ladder]);
        let rows: Vec<_> = slots.segments().iter().map(|s| (s.slot, s.rows())).collect();
        assert_eq!(rows, [(6, 4..5), (7, 5..6), (8, 6..7), (9, 7..8), (10, 8..9)]);
        let mut slots = Slots::new(WindowIndex::One);
        slots
            .cut(&runs, &times, shapes, |_| Ok(3))
            .expect("groups are known");
        let rows: Vec<_> = slots.segments().iter().map(|s| (s.slot, s.rows())).collect();
        assert_eq!(rows, [(3, 0..9)]);
    }

    #[test]
    fn windows_further_apart_than_an_i64_holds_are_told_apart() {
        let step = 3_000_000_000_000_000_000;
        let first = -9_100_000_000_000_000_000;
        let times = [first + 1, -step, 0, step / 3, 2 * step, 9_200_000_000_000_000_000];
        let index = WindowIndex::Regular {
            first,
            step,
            count: 7,
        };
        let mut slots = Slots::new(index);
        let shapes = Shapes {
            joined: true,
            ladders: true,
        };
        let runs = [SeriesRun {
            series: 1,
            start: 0,
            end: times.len() as u32,
        }];
        slots
            .cut(&runs, &times, shapes, |_| Ok(0))
            .expect("groups are known");
        let rows: Vec<_> = slots.segments().iter().map(|s| (s.slot, s.rows())).collect();
        assert_eq!(rows, [(0, 0..1), (2, 1..2), (3, 2..4), (5, 4..5), (6, 5..6)]);
        let by_group = GroupSlots {
            index: slots.index.clone(),
            list: Vec::new(),
            begins: Vec::new(),
        };
        let (mut found, mut starts) = (Vec::new(), Vec::new());
        by_group.of(0, &mut found, &mut starts);
        assert_eq!(starts[..2], [first, first + step]);
        assert!(starts.is_sorted() && found == [0, 1, 2, 3, 4, 5, 6], "{starts:?}");
    }

    fn slots_one(slots: &Slots, group: u32, time: i64) -> Option<u32> {
        let mut copy = Slots::new(slots.index.clone());
        copy.sparse.clone_from(&slots.sparse);
        copy.list.clone_from(&slots.list);
        copy.one(group, TimeRange { min: time, max: time })
    }

    #[test]
    fn windows_of_local_days_are_listed_and_far_apart_rows_are_not() {
        const HOUR: i64 = 3_600_000_000_000;
        let days = windows(24 * HOUR, 0, "Europe/Berlin");
        // Around 2020-03-29, when a day has 23 hours.
        let time = TimeRange {
            min: 1_585_300_000_000_000_000,
            max: 1_585_700_000_000_000_000,
        };
        assert!(
            matches!(WindowIndex::new(Some(&days), time, 1000, 1), WindowIndex::Edges(e) if e.len() == 7)
        );
        let utc = windows(24 * HOUR, 0, "UTC");
        assert!(matches!(
            WindowIndex::new(Some(&utc), time, 1000, 1),
            WindowIndex::Regular { count: 6, .. }
        ));
        let seconds = windows(1_000_000_000, 0, "UTC");
        let all = TimeRange {
            min: 0,
            max: i64::MAX - 1,
        };
        assert!(matches!(
            WindowIndex::new(Some(&seconds), all, 1000, 1),
            WindowIndex::Sparse(_)
        ));
        assert!(matches!(WindowIndex::new(None, all, 1000, 1), WindowIndex::One));
    }
}
