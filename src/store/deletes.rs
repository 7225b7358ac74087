//! Which stored rows are gone: deletes by time and series, dropped series, and what its retention policy let expire. Pure.
//!
//! A delete of sequence s hides rows of runs whose data was written before s (the head applies it to its own rows
//! itself), unless a merge has taken them out already. It is forgotten once no run is left that it could hide anything of.
//! Series ids are never given out again, so a dropped series is gone from every run, whatever its sequence.

use super::pack::RunEntry;
use crate::model::{MeasurementId, SeriesId, TimeRange};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Points that were deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// Sequence of its batch.
    pub sequence: u64,
    /// Which of the deletes of that batch.
    pub number: u32,
    /// Of which measurement.
    pub measurement: MeasurementId,
    /// Of which series; `None` for all.
    pub series: Option<RoaringBitmap>,
    /// From when to when.
    pub time: TimeRange,
}

/// All that is deleted and not yet gone from every run. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Deletes {
    /// By (sequence, number).
    pub list: Vec<Arc<Delete>>,
    /// Dropped series.
    pub dead: BTreeMap<MeasurementId, Arc<RoaringBitmap>>,
    /// Rows before these times have expired.
    pub expired_before: Arc<BTreeMap<MeasurementId, i64>>,
}

/// What is deleted in one measurement of one run.
#[derive(Clone, Debug)]
pub struct RowFilter {
    deletes: Vec<Arc<Delete>>,
    dead: Option<Arc<RoaringBitmap>>,
    expired_before: i64,
}

impl Default for RowFilter {
    fn default() -> Self {
        Self {
            deletes: Vec::new(),
            dead: None,
            expired_before: i64::MIN,
        }
    }
}

impl Deletes {
    /// Adds a delete, unless it is there already.
    pub fn add(
        &mut self,
        sequence: u64,
        measurement: MeasurementId,
        series: Option<&[SeriesId]>,
        time: TimeRange,
    ) {
        let series: Option<RoaringBitmap> = series.map(|ids| ids.iter().copied().collect());
        let same = |d: &&Arc<Delete>| d.sequence == sequence;
        let number = self.list.iter().filter(same).count() as u32;
        let delete = Delete {
            sequence,
            number,
            measurement,
            series,
            time,
        };
        let equal = |d: &Arc<Delete>| {
            **d == Delete {
                number: d.number,
                ..delete.clone()
            }
        };
        if !self.list.iter().any(equal) {
            self.list.push(Arc::new(delete));
            self.list.sort_by_key(|d| (d.sequence, d.number));
        }
    }

    /// Adds dropped series.
    pub fn add_dead(&mut self, measurement: MeasurementId, series: impl IntoIterator<Item = SeriesId>) {
        Arc::make_mut(self.dead.entry(measurement).or_default()).extend(series);
    }

    /// What is deleted of a measurement in a run, within a range of time.
    pub fn filter(&self, run: &RunEntry, measurement: MeasurementId, time: TimeRange) -> RowFilter {
        let done = run.sequence.max(run.deletes_applied);
        let touches =
            |d: &&Arc<Delete>| d.sequence > done && d.measurement == measurement && d.time.overlaps(&time);
        // Dropped series only ever become more: as many as when the run was written are the same ones.
        let known = run.measurement(measurement).map_or(0, |m| m.dead_series);
        let dead = self.dead.get(&measurement);
        RowFilter {
            deletes: self.list.iter().filter(touches).cloned().collect(),
            dead: dead.filter(|dead| dead.len() > u64::from(known)).cloned(),
            expired_before: self.expired_before(measurement),
        }
    }

    /// Rows of a measurement before this time have expired.
    pub fn expired_before(&self, measurement: MeasurementId) -> i64 {
        self.expired_before.get(&measurement).copied().unwrap_or(i64::MIN)
    }

    /// Dropped series of a measurement.
    pub fn dead_series(&self, measurement: MeasurementId) -> u32 {
        self.dead.get(&measurement).map_or(0, |dead| dead.len() as u32)
    }

    /// Deletes that hide nothing of any of these runs and need not be kept: all are older than `sequence`.
    pub fn spent<'a>(
        &self,
        runs: impl Iterator<Item = &'a RunEntry> + Clone,
        sequence: u64,
    ) -> Vec<Arc<Delete>> {
        let hides = |d: &Delete, run: &RunEntry| {
            d.sequence > run.sequence.max(run.deletes_applied)
                && d.time.overlaps(&run.time)
                && run.measurement(d.measurement).is_some()
        };
        let spent = |d: &&Arc<Delete>| d.sequence <= sequence && !runs.clone().any(|run| hides(d, run));
        self.list.iter().filter(spent).cloned().collect()
    }

    /// Forgets deletes.
    pub fn forget(&mut self, spent: &[Arc<Delete>]) {
        self.list.retain(|d| !spent.iter().any(|s| Arc::ptr_eq(s, d)));
    }
}

impl RowFilter {
    /// The part that may hide rows of these series and times.
    pub fn narrow(&self, first: SeriesId, last: SeriesId, time: TimeRange) -> Self {
        let hit = |set: &RoaringBitmap| set.range_cardinality(first..=last) > 0;
        let touches = |d: &&Arc<Delete>| d.time.overlaps(&time) && d.series.as_ref().is_none_or(hit);
        Self {
            deletes: self.deletes.iter().filter(touches).cloned().collect(),
            dead: self.dead.as_ref().filter(|dead| hit(dead)).cloned(),
            expired_before: if time.min < self.expired_before {
                self.expired_before
            } else {
                i64::MIN
            },
        }
    }

    /// Hides nothing.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.dead.is_none() && self.expired_before == i64::MIN
    }

    /// Which share of rows it hides, estimated for `series` series spread evenly over a range of time.
    pub fn share(&self, series: u64, time: TimeRange) -> f64 {
        let length = |range: TimeRange| (range.max as f64 - range.min as f64 + 1.0).max(1.0);
        let of_time = |range: TimeRange| {
            let inside = range.intersect(&time);
            if inside.is_empty() {
                0.0
            } else if inside == time {
                1.0
            } else {
                length(inside) / length(time)
            }
        };
        let of_series = |set: &RoaringBitmap| (set.len() as f64 / series as f64).min(0.99);
        let expired = TimeRange {
            min: i64::MIN,
            max: self.expired_before.saturating_sub(1),
        };
        let mut left = 1.0 - of_time(expired);
        if let Some(dead) = &self.dead {
            left *= 1.0 - of_series(dead);
        }
        for delete in &self.deletes {
            left *= 1.0 - of_time(delete.time) * delete.series.as_ref().map_or(1.0, of_series);
        }
        1.0 - left
    }

    /// Is the row deleted?
    pub fn hides(&self, series: SeriesId, time: i64) -> bool {
        time < self.expired_before
            || self.dead.as_ref().is_some_and(|dead| dead.contains(series))
            || self
                .deletes
                .iter()
                .any(|d| d.time.contains(time) && d.series.as_ref().is_none_or(|set| set.contains(series)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::MeasurementEntry;
    use super::super::partition::Partition;
    use super::*;
    use crate::block::Level;

    fn run(sequence: u64, deletes_applied: u64, measurement: MeasurementId, dead_series: u32) -> RunEntry {
        RunEntry {
            partition: Partition::day(0),
            sequence,
            deletes_applied,
            level: Level::Fast,
            time: TimeRange { min: 100, max: 500 },
            rows: 9,
            bytes: 9,
            measurements: vec![MeasurementEntry {
                id: measurement,
                last_series: 9,
                dead_series,
                rows: 9,
            }],
        }
    }

    #[test]
    fn a_delete_hides_what_was_written_before_it() {
        let mut deletes = Deletes::default();
        deletes.add(10, 1, Some(&[3, 4]), TimeRange { min: 100, max: 200 });
        deletes.add(10, 1, Some(&[3, 4]), TimeRange { min: 100, max: 200 });
        deletes.add(10, 1, None, TimeRange { min: 500, max: 500 });
        assert_eq!(deletes.list.iter().map(|d| d.number).collect::<Vec<_>>(), [0, 1]);
        deletes.add_dead(2, [9]);
        deletes.expired_before = Arc::new(BTreeMap::from([(3, 150)]));
        // (run's sequence, deletes applied to it, measurement, dropped series known to it, series, time, hidden)
        let cases = [
            (9, 0, 1, 0, 3, 150, true),
            (9, 0, 1, 0, 3, 201, false),
            (9, 0, 1, 0, 5, 150, false),
            (9, 0, 1, 0, 5, 500, true),
            (9, 10, 1, 0, 5, 500, false),
            (10, 0, 1, 0, 3, 150, false),
            (9, 0, 2, 0, 3, 150, false),
            (99, 0, 2, 0, 9, 150, true),
            (99, 0, 2, 1, 9, 150, false),
            (99, 99, 3, 0, 9, 149, true),
            (99, 99, 3, 0, 9, 150, false),
        ];
        for (sequence, applied, measurement, known, series, time, hidden) in cases {
            let filter = deletes.filter(
                &run(sequence, applied, measurement, known),
                measurement,
                TimeRange::ALL,
            );
            assert_eq!(
                filter.hides(series, time),
                hidden,
                "{measurement} {series} {time}"
            );
            let narrow = filter.narrow(series, series, TimeRange { min: time, max: time });
            assert_eq!(narrow.is_empty(), !hidden);
        }
    }

    #[test]
    fn a_delete_is_kept_while_it_may_hide_something() {
        let mut deletes = Deletes::default();
        deletes.add(10, 1, None, TimeRange { min: 0, max: 100 });
        // (run, sequence that is stored, forgotten)
        let cases = [
            (run(9, 0, 1, 0), 10, false),
            (run(9, 0, 1, 0), 9, false),
            (run(9, 10, 1, 0), 10, true),
            (run(9, 10, 1, 0), 9, false),
            (run(10, 0, 1, 0), 10, true),
            (run(9, 0, 2, 0), 10, true),
        ];
        for (run, sequence, forgotten) in cases {
            let spent = deletes.spent([&run].into_iter(), sequence);
            assert_eq!(!spent.is_empty(), forgotten, "{run:?}");
        }
        let spent = deletes.spent(std::iter::empty(), 10);
        deletes.forget(&spent);
        assert!(deletes.list.is_empty());
    }
}
