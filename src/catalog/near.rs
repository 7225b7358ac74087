//! Where the next series is expected. Senders repeat the order of their series, and ids were given out in that order: so behind a series
//! comes, mostly, the one with the next id, and a look at its page says so without a search. This is what a row costs whose
//! spelling is not remembered any more, when there are more series than the cache of spellings holds.

use super::view::SeriesView;
use crate::model::{MeasurementId, SeriesId};
use crate::store::StoreError;
use crate::store::index::{Page, page_of, slot_of};
use std::sync::Arc;

/// Ids that are looked at: two senders at once had theirs given out in turns.
const AHEAD: u32 = 8;

/// See the module. One a request.
#[derive(Debug, Default)]
pub struct Near {
    /// Where the series before was found: the next id is the first to be looked at.
    next: Option<(MeasurementId, SeriesId)>,
    page: Option<(MeasurementId, u32, Option<Arc<Page>>)>,
}

impl Near {
    /// Behind this series another is expected; not behind one that was made just now: then the next is new as well.
    pub(super) fn was(&mut self, measurement: MeasurementId, series: SeriesId, is_new: bool) {
        self.next = (!is_new).then(|| (measurement, series.saturating_add(1)));
    }

    /// The series with these tags (sorted by key), if it is where it is expected. It may have been dropped. `view` is asked for where
    /// another page must be looked at.
    ///
    /// # Errors
    /// Damage, input/output.
    pub(super) fn find(
        &mut self,
        measurement: MeasurementId,
        tags: &[(String, String)],
        view: &dyn Fn() -> SeriesView,
    ) -> Result<Option<SeriesId>, StoreError> {
        let Some((_, first)) = self.next.filter(|(of, _)| *of == measurement) else {
            return Ok(None);
        };
        for id in first..first.saturating_add(AHEAD) {
            let number = page_of(id);
            let known = self.page.as_ref();
            if known.is_none_or(|(of, known, _)| (*of, *known) != (measurement, number)) {
                self.page = Some((measurement, number, view().page_at(number)?));
            }
            let page = self.page.as_ref().and_then(|(_, _, page)| page.as_ref());
            if page.is_some_and(|page| page.has_tags(slot_of(id), tags)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use std::cell::Cell;

    fn tags(n: u32) -> Vec<(String, String)> {
        vec![("host".to_string(), format!("h{n}"))]
    }

    #[test]
    fn series_are_found_in_the_order_in_which_they_were_made() {
        let catalog = Catalog::new();
        let measurement = catalog.measurement_or_create(0, "m").expect("a name");
        let create = |n: u32, near: &mut Near| {
            let found = measurement.series_or_create_near(&tags(n), near);
            found.expect("in memory").expect("room")
        };
        let mut near = Near::default();
        let ids: Vec<SeriesId> = (0..5000).map(|n| create(n, &mut near)).collect();
        let views = Cell::new(0);
        let mut near = Near::default();
        near.was(measurement.id, ids[0], false);
        let view = || {
            views.set(views.get() + 1);
            measurement.view()
        };
        for n in (1..5000).filter(|n| n % 5 != 0) {
            let found = near.find(measurement.id, &tags(n), &view).expect("in memory");
            assert_eq!(found, Some(ids[n as usize]));
            near.was(measurement.id, ids[n as usize], false);
        }
        assert_eq!(views.get(), 3, "each page is looked for once");
        let nowhere = [tags(77), tags(5001)];
        for tags in &nowhere {
            assert_eq!(near.find(measurement.id, tags, &view).expect("in memory"), None);
        }
        assert_eq!(
            near.find(measurement.id + 1, &tags(4999), &view)
                .expect("in memory"),
            None
        );
        near.was(measurement.id, ids[3], true);
        assert_eq!(
            near.find(measurement.id, &tags(4), &view).expect("in memory"),
            None,
            "new ones follow"
        );
    }

    #[test]
    fn a_dropped_series_is_made_again() {
        let catalog = Catalog::new();
        let measurement = catalog.measurement_or_create(0, "m").expect("a name");
        let mut near = Near::default();
        let mut create = |n: u32| {
            let found = measurement.series_or_create_near(&tags(n), &mut near);
            found.expect("in memory").expect("room")
        };
        let ids = [create(0), create(1), create(2)];
        assert_eq!([create(0), create(1)], ids[..2]);
        measurement.drop_series(&[ids[2]]);
        let again = create(2);
        assert!(!ids.contains(&again));
        assert_eq!([create(0), create(1), create(2)], [ids[0], ids[1], again]);
    }
}
