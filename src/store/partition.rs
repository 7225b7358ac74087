//! Partitions: slices of time whose runs are merged with each other. Pure.
//!
//! A partition is a UTC day, or, where points are so thin that days would be more directory than data, 32 days, or 1024.
//! So the number of runs follows the number of rows, not the span of time they are spread over: points of ten years are a
//! handful of runs, not thousands. Readers need not know: a run says which times it has.

use crate::model::TimeRange;
use std::collections::BTreeMap;

/// Days in a partition of each level.
const LEVEL_DAYS: [i64; 3] = [1, 32, 1024];
const DAY_NANOSECONDS: i64 = 86_400_000_000_000;
/// A partition with more rows keeps to itself: a query of one day would read too much beside it.
pub const THIN_ROWS_MAX: u64 = 100_000;
/// So many thin partitions in a row are taken together.
pub const THIN_PARTITIONS_MIN: usize = 4;

/// See the module. Ordered by time, narrow before wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Which, counted from 1970-01-01 in partitions of this level.
    pub index: i64,
    /// 0: a day, 1: 32 days, 2: 1024 days.
    pub level: u8,
}

impl Partition {
    /// The day of a timestamp.
    pub fn day(time: i64) -> Self {
        Self {
            index: time.div_euclid(DAY_NANOSECONDS),
            level: 0,
        }
    }

    /// From what is stored, if there is such a partition.
    pub fn new(index: i64, level: u8) -> Option<Self> {
        let days = *LEVEL_DAYS.get(usize::from(level))?;
        // Every i64 of nanoseconds lies within this many days.
        let days_max = i64::MAX / DAY_NANOSECONDS + 1 + days;
        let inside = index.checked_mul(days).is_some_and(|day| day.abs() <= days_max);
        inside.then_some(Self { index, level })
    }

    /// The one of a wider (or its own) level around it. Panics at a narrower level, which is a bug of the caller.
    pub fn at_level(self, level: u8) -> Self {
        assert!(self.level <= level, "a partition has no narrower one around it");
        let day = self.index * LEVEL_DAYS[usize::from(self.level)];
        Self {
            index: day.div_euclid(LEVEL_DAYS[usize::from(level)]),
            level,
        }
    }

    /// The next wider one around it.
    pub fn wider(self) -> Option<Self> {
        (usize::from(self.level) + 1 < LEVEL_DAYS.len()).then(|| self.at_level(self.level + 1))
    }

    /// The timestamps in it.
    pub fn time(self) -> TimeRange {
        let nanoseconds = i128::from(LEVEL_DAYS[usize::from(self.level)] * DAY_NANOSECONDS);
        let start = i128::from(self.index) * nanoseconds;
        let clamp = |time: i128| time.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        TimeRange {
            min: clamp(start),
            max: clamp(start + nanoseconds - 1),
        }
    }

    /// Is `other` this one, or within it?
    pub fn contains(self, other: Self) -> bool {
        other.level <= self.level && other.at_level(self.level) == self
    }
}

/// A part of a partition: rows of a seal that become one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The partition.
    pub partition: Partition,
    /// Whole days.
    pub time: TimeRange,
    /// How many rows lie in there.
    pub rows: u64,
}

/// The slices for rows that are to be sealed; `days` says how many lie on which day. Ascending, without overlap, and each
/// day with rows is in one of them.
///
/// Thin days that follow each other share a slice. It never reaches over a thick day, so that the runs of a day that
/// live data and late data share do not overlap with runs of other days.
pub fn choose(days: &BTreeMap<Partition, u64>) -> Vec<Slice> {
    let mut slices: Vec<Slice> = days
        .iter()
        .map(|(&partition, &rows)| Slice {
            partition,
            time: partition.time(),
            rows,
        })
        .collect();
    for level in 1..LEVEL_DAYS.len() as u8 {
        let mut wider: Vec<Slice> = Vec::new();
        let around = |slice: &Slice| (slice.rows <= THIN_ROWS_MAX).then(|| slice.partition.at_level(level));
        for group in slices.chunk_by(|a, b| around(a).is_some() && around(a) == around(b)) {
            match (around(&group[0]), group) {
                (Some(partition), [first, .., last]) if group.len() >= THIN_PARTITIONS_MIN => {
                    wider.push(Slice {
                        partition,
                        time: TimeRange {
                            min: first.time.min,
                            max: last.time.max,
                        },
                        rows: group.iter().map(|slice| slice.rows).sum(),
                    })
                }
                _ => wider.extend_from_slice(group),
            }
        }
        slices = wider;
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn days(list: &[(i64, u64)]) -> BTreeMap<Partition, u64> {
        list.iter()
            .map(|&(index, rows)| (Partition { index, level: 0 }, rows))
            .collect()
    }

    /// `expected`: partition and level, first and last day.
    fn check(list: &[(i64, u64)], expected: &[(i64, u8, i64, i64)]) {
        let found: Vec<_> = choose(&days(list))
            .into_iter()
            .map(|s| {
                let day = |time: i64| time.div_euclid(DAY_NANOSECONDS);
                (
                    s.partition.index,
                    s.partition.level,
                    day(s.time.min),
                    day(s.time.max),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn thin_days_share_a_slice_and_thick_ones_do_not() {
        check(&[], &[]);
        check(&[(100, 5), (101, 5)], &[(100, 0, 100, 100), (101, 0, 101, 101)]);
        check(&[(100, 5), (102, 5), (103, 5), (109, 5)], &[(3, 1, 100, 109)]);
        let thick: Vec<(i64, u64)> = (0..3).map(|i| (i, 1_000_000)).collect();
        check(&thick, &[(0, 0, 0, 0), (1, 0, 1, 1), (2, 0, 2, 2)]);
        check(
            &[(96, 1), (97, 1), (98, 1), (99, 1), (100, 900_000), (101, 1)],
            &[(3, 1, 96, 99), (100, 0, 100, 100), (101, 0, 101, 101)],
        );
        let years: Vec<(i64, u64)> = (-2000..2000).map(|i| (i, 10)).collect();
        check(
            &years,
            &[
                (-2, 2, -2000, -1025),
                (-1, 2, -1024, -1),
                (0, 2, 0, 1023),
                (1, 2, 1024, 1999),
            ],
        );
    }

    #[test]
    fn the_ends_of_time_have_partitions() {
        for time in [i64::MIN, -1, 0, i64::MAX] {
            let day = Partition::day(time);
            let wide = day.at_level(1);
            let widest = wide.wider().expect("32 days have a wider one");
            assert_eq!(widest.wider(), None);
            for p in [day, wide, widest] {
                assert!(p.time().contains(time) && p.contains(day) && widest.contains(p));
                assert_eq!(Partition::new(p.index, p.level), Some(p));
            }
            assert!(!day.contains(wide));
        }
        assert_eq!(Partition::new(0, 3), None);
        assert_eq!(Partition::new(i64::MAX, 0), None);
        assert_eq!(Partition::new(i64::MIN, 2), None);
    }

    proptest! {
        #[test]
        fn every_day_is_in_exactly_one(list in prop::collection::btree_map(-3000i64..3000, 1u64..200_000, 0..300)) {
            let days = days(&list.into_iter().collect::<Vec<_>>());
            let slices = choose(&days);
            prop_assert!(slices.windows(2).all(|w| w[0].time.max < w[1].time.min));
            prop_assert_eq!(slices.iter().map(|s| s.rows).sum::<u64>(), days.values().sum::<u64>());
            for day in days.keys() {
                let of_day: Vec<_> = slices.iter().filter(|s| s.time.overlaps(&day.time())).collect();
                prop_assert_eq!(of_day.len(), 1);
                prop_assert!(of_day[0].partition.contains(*day));
            }
        }
    }
}
