//! Which committed rows are certainly new points, and which may replace one that is there: what was folded can take in the
//! former, the windows of the latter are evaluated anew.
//!
//! Most series come in the order of time, so the newest time of each is enough: what is later is new. Of what was there before
//! anybody looked only the newest time of all is known.

use crate::model::{MeasurementId, SeriesId};
use std::collections::HashMap;
use std::ops::Range;

/// Series whose newest time is remembered, of all measurements. Rows of a measurement that has no room here may replace others.
pub const SERIES_TRACKED_MAX: usize = 4_000_000;

/// See the module.
#[derive(Default)]
pub struct Fresh {
    known: HashMap<MeasurementId, Track>,
    series: usize,
}

/// A measurement since somebody reads it.
struct Track {
    /// No row was later when the track began.
    before: i64,
    /// None is now.
    newest: i64,
    /// The newest time by series since then.
    last: Vec<i64>,
}

impl Fresh {
    /// Nobody hears of this measurement's rows any more.
    pub fn forget(&mut self, id: MeasurementId) {
        if let Some(track) = self.known.remove(&id) {
            self.series -= track.last.len();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// No row of a measurement that was taken note of is later, and none that was there before; `None` when that is not known.
    pub fn newest(&self, id: MeasurementId) -> Option<i64> {
        self.known.get(&id).map(|track| track.newest)
    }

    /// From now on rows of a measurement are taken note of, of which none is later than this.
    pub fn begin(&mut self, id: MeasurementId, before: i64) {
        self.known.entry(id).or_insert(Track {
            before,
            newest: before,
            last: Vec::new(),
        });
    }

    /// Takes note of rows: `stale` gets the times of those that may replace others. `newest` says the newest time that there is
    /// of the measurement, if it can be found out; asked the first time.
    pub fn note(
        &mut self,
        id: MeasurementId,
        runs: &[(SeriesId, Range<usize>)],
        times: &[i64],
        newest: impl FnOnce() -> Option<i64>,
        stale: &mut Vec<i64>,
    ) {
        let Some((last, _)) = runs.last() else {
            return;
        };
        let wanted = *last as usize + 1;
        if !self.known.contains_key(&id) {
            let Some(before) = newest().filter(|_| self.series + wanted <= SERIES_TRACKED_MAX) else {
                return stale.extend_from_slice(times);
            };
            self.begin(id, before);
        }
        let track = self.known.get_mut(&id).expect("inserted above when missing");
        if track.last.len() < wanted {
            if self.series + wanted - track.last.len() > SERIES_TRACKED_MAX {
                self.forget(id);
                return stale.extend_from_slice(times);
            }
            self.series += wanted - track.last.len();
            track.last.resize(wanted, i64::MIN);
        }
        for (series, rows) in runs {
            let times = &times[rows.clone()];
            let (Some(first), Some(newest)) = (times.first(), times.last()) else {
                continue;
            };
            track.newest = track.newest.max(*newest);
            let last = &mut track.last[*series as usize];
            let known = track.before.max(*last);
            if *first <= known {
                let old = times.partition_point(|time| *time <= known);
                stale.extend_from_slice(&times[..old]);
            }
            *last = (*last).max(*newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points are sorted.
    fn stale(fresh: &mut Fresh, points: &[(u32, i64)], newest: Option<i64>) -> Vec<i64> {
        let mut stale = Vec::new();
        let (mut runs, mut times) = (Vec::<(SeriesId, Range<usize>)>::new(), Vec::new());
        for (row, (series, time)) in points.iter().enumerate() {
            match runs.last_mut() {
                Some((last, rows)) if last == series => rows.end += 1,
                _ => runs.push((*series, row..row + 1)),
            }
            times.push(*time);
        }
        fresh.note(1, &runs, &times, || newest, &mut stale);
        stale
    }

    #[test]
    fn what_is_later_than_all_of_its_series_is_new() {
        let mut fresh = Fresh::default();
        // Of what was there before only the newest time is known.
        assert_eq!(
            stale(&mut fresh, &[(0, 50), (0, 101), (3, 100)], Some(100)),
            [50, 100]
        );
        assert_eq!(stale(&mut fresh, &[(0, 101), (0, 102), (3, 101)], None), [101]);
        assert_eq!(
            stale(&mut fresh, &[(0, 90), (3, 102), (3, 103), (7, 101)], None),
            [90]
        );
        assert_eq!(
            stale(&mut fresh, &[(3, 103), (3, 104)], None),
            [103],
            "the same point again"
        );
        fresh.forget(1);
        assert_eq!(fresh.series, 0);
        assert_eq!(stale(&mut fresh, &[(3, 300)], Some(200)), [] as [i64; 0]);
    }

    #[test]
    fn without_knowing_or_without_room_every_row_may_replace_another() {
        let mut fresh = Fresh::default();
        assert_eq!(stale(&mut fresh, &[(0, 5)], None), [5]);
        let far = SERIES_TRACKED_MAX as u32;
        assert_eq!(stale(&mut fresh, &[(far, 5)], Some(0)), [5]);
        assert_eq!(stale(&mut fresh, &[(0, 5)], Some(0)), [] as [i64; 0]);
        assert_eq!(stale(&mut fresh, &[(far, 5)], Some(0)), [5]);
        assert_eq!((fresh.known.len(), fresh.series), (0, 0));
    }
}
