//! In which windows rows lie. Pure.

use crate::live::recent::Keys;
use crate::query::windows::Windows as Borders;
use std::collections::BTreeMap;

/// Rows that were committed.
pub struct Touched<'a> {
    /// Times that ascend, each list apart.
    lists: Vec<&'a [i64]>,
    sorted: bool,
}

impl<'a> Touched<'a> {
    /// Of tables.
    pub fn of_keys(keys: &'a [Keys]) -> Self {
        let runs = |(runs, times): &'a Keys| runs.iter().map(|(_, rows)| &times[rows.clone()]);
        Self {
            lists: keys.iter().flat_map(runs).collect(),
            sorted: true,
        }
    }

    /// Of times in any order.
    pub fn of_times(times: &'a [i64]) -> Self {
        Self {
            lists: vec![times],
            sorted: false,
        }
    }

    /// The latest time in each window in which there are rows.
    pub fn latest(&self, borders: &Borders) -> Vec<i64> {
        let mut latest: BTreeMap<i64, i64> = BTreeMap::new();
        // Most rows lie in the window of those before them.
        let mut window = (i64::MAX, i64::MIN);
        for list in &self.lists {
            let mut rest = *list;
            while let Some(&first) = rest.first() {
                if first < window.0 || first >= window.1 {
                    let start = borders.start(first);
                    window = (start, borders.next(start));
                }
                let inside = |time: &i64| *time >= window.0 && *time < window.1;
                let count = match rest.last() {
                    Some(last) if self.sorted && inside(last) => rest.len(),
                    _ if self.sorted => rest.partition_point(inside),
                    _ => rest.iter().take_while(|time| inside(time)).count(),
                };
                // A window at the end of time may not even hold its first row.
                let (here, after) = rest.split_at(count.max(1));
                rest = after;
                let last = match self.sorted {
                    true => here.last().copied(),
                    false => here.iter().copied().max(),
                };
                let last = last.unwrap_or(first);
                let known = latest.entry(window.0).or_insert(last);
                *known = last.max(*known);
            }
        }
        latest.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_a_window_is_found() {
        let borders = Borders::fixed(10, 3);
        let keys = [(vec![(1, 0..3), (2, 3..6)], vec![3, 12, 40, -8, 13, 41])];
        assert_eq!(Touched::of_keys(&keys).latest(&borders), [-8, 12, 13, 41]);
        assert_eq!(
            Touched::of_times(&[41, 3, 12, 40, -8, 13]).latest(&borders),
            [-8, 12, 13, 41]
        );
        assert_eq!(Touched::of_times(&[i64::MAX, i64::MIN]).latest(&borders).len(), 2);
        assert!(Touched::of_times(&[]).latest(&borders).is_empty());
    }

    proptest! {
        #[test]
        fn as_looking_at_each_row(lists in prop::collection::vec(prop::collection::vec(-300i64..300, 1..40), 0..6), step in 1i64..50, offset in 0i64..50) {
            let borders = Borders::fixed(step, offset);
            let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
            for time in lists.iter().flatten() {
                let known = wanted.entry(borders.start(*time)).or_insert(*time);
                *known = (*known).max(*time);
            }
            let wanted: Vec<i64> = wanted.into_values().collect();
            let flat: Vec<i64> = lists.iter().flatten().copied().collect();
            prop_assert_eq!(&Touched::of_times(&flat).latest(&borders), &wanted);
            let keys: Vec<Keys> = lists.into_iter().map(|mut times| {
                times.sort_unstable();
                (vec![(0, 0..times.len())], times)
            }).collect();
            prop_assert_eq!(Touched::of_keys(&keys).latest(&borders), wanted);
        }
    }
}
