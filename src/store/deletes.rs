//! Which stored rows are gone: deletes by time and series, and dropped series. Pure.
//!
//! A delete of sequence s hides rows of runs whose data was written before s (the head applies it to its own rows
//! itself). It is forgotten once no run is left that it could hide anything of. Series ids are never given out again,
//! so a dropped series is gone from every run, whatever its sequence.

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
}

/// What is deleted in one measurement of one run.
#[derive(Clone, Debug, Default)]
pub struct RowFilter {
    deletes: Vec<Arc<Delete>>,
    dead: Option<Arc<RoaringBitmap>>,
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

    /// What is deleted of a measurement in a run whose data was written up to `sequence`.
    pub fn filter(&self, sequence: u64, measurement: MeasurementId, time: TimeRange) -> RowFilter {
        let touches = |d: &&Arc<Delete>| {
            d.sequence > sequence && d.measurement == measurement && d.time.overlaps(&time)
        };
        RowFilter {
            deletes: self.list.iter().filter(touches).cloned().collect(),
            dead: self
                .dead
                .get(&measurement)
                .filter(|dead| !dead.is_empty())
                .cloned(),
        }
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
        }
    }

    /// Hides nothing.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.dead.is_none()
    }

    /// Is the row deleted?
    pub fn hides(&self, series: SeriesId, time: i64) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.contains(series))
            || self
                .deletes
                .iter()
                .any(|d| d.time.contains(time) && d.series.as_ref().is_none_or(|set| set.contains(series)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_hides_what_was_written_before_it() {
        let mut deletes = Deletes::default();
        deletes.add(10, 1, Some(&[3, 4]), TimeRange { min: 100, max: 200 });
        deletes.add(10, 1, Some(&[3, 4]), TimeRange { min: 100, max: 200 });
        deletes.add(10, 1, None, TimeRange { min: 500, max: 500 });
        assert_eq!(deletes.list.iter().map(|d| d.number).collect::<Vec<_>>(), [0, 1]);
        deletes.add_dead(2, [9]);
        // (run's sequence, measurement, series, time, hidden)
        let cases = [
            (9, 1, 3, 150, true),
            (9, 1, 3, 201, false),
            (9, 1, 5, 150, false),
            (9, 1, 5, 500, true),
            (10, 1, 3, 150, false),
            (9, 2, 3, 150, false),
            (99, 2, 9, 150, true),
        ];
        for (sequence, measurement, series, time, hidden) in cases {
            let filter = deletes.filter(sequence, measurement, TimeRange::ALL);
            assert_eq!(filter.hides(series, time), hidden, "{series} {time}");
            let narrow = filter.narrow(series, series, TimeRange { min: time, max: time });
            assert_eq!(narrow.is_empty(), !hidden);
        }
    }
}
