//! Cuts zones into tasks that can be done in any order, by any thread, without knowing of each other. Pure.
//!
//! Most zones meet no other: sources were written one after the other, so where their series are the same their times
//! differ. Such a zone is a task of its own, and its statistics hold. Zones that may have points in common are put together,
//! some series at a time.

use super::zones::Zone;
use crate::model::SeriesId;
use std::ops::RangeInclusive;

/// About so many rows are in a task of zones that meet.
const TASK_ROWS: u64 = 64 * 1024;

/// A piece of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// What to read; one zone, or several that may have points in common.
    pub zones: Vec<Zone>,
    /// Only rows of these series.
    pub series: RangeInclusive<SeriesId>,
}

impl Task {
    /// Its only zone, if it has no others and none of its rows are another task's.
    pub fn alone(&self) -> Option<&Zone> {
        match &self.zones[..] {
            [zone] if self.series == (zone.first_series..=zone.last_series) => Some(zone),
            _ => None,
        }
    }

    /// Rows of its zones.
    pub fn rows(&self) -> u64 {
        self.zones.iter().map(|zone| u64::from(zone.rows)).sum()
    }
}

/// Tasks that together cover all zones, each point in one of them. Sources of the same source never have points in common.
pub fn tasks(zones: &[Zone]) -> Vec<Task> {
    let shared = shared(zones);
    let mut out: Vec<Task> = Vec::with_capacity(zones.len());
    let mut meeting: Vec<Zone> = Vec::new();
    for (zone, shared) in zones.iter().zip(shared) {
        if shared {
            meeting.push(*zone);
        } else {
            out.push(Task {
                zones: vec![*zone],
                series: zone.first_series..=zone.last_series,
            });
        }
    }
    together(meeting, &mut out);
    out
}

/// For each zone: may another source's zone have a point of it?
fn shared(zones: &[Zone]) -> Vec<bool> {
    let mut shared = vec![false; zones.len()];
    for island in islands(zones) {
        // Sweeps over series; `open` are the zones that reach the one at hand.
        let mut order = island;
        order.sort_unstable_by_key(|&i| zones[i].first_series);
        let mut open: Vec<usize> = Vec::new();
        for i in order {
            open.retain(|&o| zones[o].last_series >= zones[i].first_series);
            for &o in &open {
                if zones[o].source != zones[i].source && zones[o].meets(&zones[i]) {
                    shared[o] = true;
                    shared[i] = true;
                }
            }
            open.push(i);
        }
    }
    shared
}

/// Zones in groups whose times do not overlap, so that a year of daily runs is not compared day by day with itself. Groups of
/// one source alone are left out: nothing in them can meet.
fn islands(zones: &[Zone]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..zones.len()).collect();
    order.sort_unstable_by_key(|&i| zones[i].time.min);
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut end = i64::MIN;
    for i in order {
        match out.last_mut() {
            Some(island) if zones[i].time.min <= end => island.push(i),
            _ => out.push(vec![i]),
        }
        end = end.max(zones[i].time.max);
    }
    out.retain(|island| island.iter().any(|&i| zones[i].source != zones[island[0]].source));
    out
}

/// Cuts zones that meet into tasks by series.
fn together(mut zones: Vec<Zone>, out: &mut Vec<Task>) {
    zones.sort_unstable_by_key(|zone| (zone.first_series, zone.source, zone.at));
    let mut next = 0;
    // Zones that reach beyond the last cut.
    let mut open: Vec<Zone> = Vec::new();
    let mut from = zones.first().map_or(0, |zone| zone.first_series);
    while next < zones.len() || !open.is_empty() {
        let mut rows: u64 = open.iter().map(|zone| u64::from(zone.rows)).sum();
        let mut here = std::mem::take(&mut open);
        // Takes zones while they are few, and then all that begin with the same series.
        while let Some(zone) = zones.get(next) {
            let begins_here = here.is_empty() || zone.first_series <= from;
            if rows >= TASK_ROWS && !begins_here && here.iter().any(|h| h.first_series < zone.first_series) {
                break;
            }
            rows += u64::from(zone.rows);
            here.push(*zone);
            next += 1;
        }
        let last = match zones.get(next) {
            Some(zone) => zone.first_series - 1,
            None => here.iter().map(|zone| zone.last_series).max().unwrap_or(from),
        };
        open = here
            .iter()
            .filter(|zone| zone.last_series > last)
            .copied()
            .collect();
        here.retain(|zone| zone.first_series <= last && zone.last_series >= from);
        here.sort_unstable_by_key(|zone| (zone.source, zone.at));
        if !here.is_empty() {
            out.push(Task {
                zones: here,
                series: from..=last,
            });
        }
        from = last.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TimeRange;
    use proptest::prelude::*;

    fn zone(source: u32, at: u32, series: (u32, u32), time: (i64, i64)) -> Zone {
        Zone {
            source,
            at,
            rows: 8192,
            first_series: series.0,
            last_series: series.1,
            time: TimeRange {
                min: time.0,
                max: time.1,
            },
        }
    }

    #[test]
    fn zones_that_meet_no_other_stay_alone() {
        // Two runs one after the other in time, and a part that overlaps the second in one place.
        let zones = [
            zone(0, 0, (0, 9), (0, 100)),
            zone(0, 1, (9, 20), (0, 100)),
            zone(1, 0, (0, 9), (101, 200)),
            zone(1, 1, (9, 20), (101, 200)),
            zone(2, 0, (15, 30), (200, 300)),
        ];
        let tasks = tasks(&zones);
        let alone: Vec<&Zone> = tasks.iter().filter_map(Task::alone).collect();
        assert_eq!(alone, [&zones[0], &zones[1], &zones[2]]);
        assert_eq!(tasks[3].zones, [zones[3], zones[4]]);
        assert_eq!((tasks.len(), tasks[3].series.clone()), (4, 9..=30));
    }

    #[test]
    fn two_runs_on_top_of_each_other_make_many_tasks() {
        let zones: Vec<Zone> = (0..2)
            .flat_map(|source| (0..100).map(move |at| zone(source, at, (at * 5, at * 5 + 5), (0, 50))))
            .collect();
        let tasks = tasks(&zones);
        assert!(tasks.len() > 20, "{} tasks", tasks.len());
        assert!(tasks.iter().all(|task| task.zones.len() < 16));
    }

    proptest! {
        /// Each (series, time) that a zone may hold is in one task, together with all zones that may hold it, too.
        #[test]
        fn every_point_is_in_one_task_with_all_its_copies(
            raw in prop::collection::vec((0u32..4, 0u32..30, 0u32..6, 0i64..20, 0i64..8, 1u32..60_000), 0..40),
        ) {
            let mut zones: Vec<Zone> = raw.iter().map(|&(source, first, len, min, span, rows)| Zone {
                rows,
                ..zone(source, 0, (first, first + len), (min, min + span))
            }).collect();
            zones.sort_by_key(|zone| zone.source);
            zones.iter_mut().zip(0u32..).for_each(|(zone, at)| zone.at = at);
            let tasks = tasks(&zones);
            for series in 0..40 {
                for time in 0..30 {
                    let holds = |zone: &Zone| zone.first_series <= series && series <= zone.last_series && zone.time.contains(time);
                    let want: Vec<u32> = zones.iter().filter(|z| holds(z)).map(|z| z.at).collect();
                    let mut got: Vec<Vec<u32>> = Vec::new();
                    for task in tasks.iter().filter(|task| task.series.contains(&series)) {
                        let here: Vec<u32> = task.zones.iter().filter(|z| holds(z)).map(|z| z.at).collect();
                        if !here.is_empty() { got.push(here); }
                    }
                    // Zones of one source never share a point, so they may be in different tasks.
                    let all: Vec<u32> = { let mut all: Vec<u32> = got.concat(); all.sort_unstable(); all };
                    prop_assert_eq!(&all, &want);
                    for (a, b) in want.iter().flat_map(|a| want.iter().map(move |b| (*a, *b))) {
                        if zones[a as usize].source != zones[b as usize].source {
                            prop_assert!(got.iter().any(|here| here.contains(&a) && here.contains(&b)), "{} and {} apart", a, b);
                        }
                    }
                }
            }
        }
    }
}
