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
