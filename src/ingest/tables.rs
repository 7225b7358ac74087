//! The tables of a request, and a pool of those of earlier ones: senders write to the same measurements again and again, and to
//! make a hundred tables with their columns costs as much as to fill them with a few thousand rows.

use super::table::MeasurementTable;
use crate::catalog::WriteSettings;
use crate::catalog::spelling::Spellings;
use crate::model::{MeasurementId, PolicyId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Sets of tables that are kept, the one used last on top: it is in the processor's cache.
const KEPT_MAX: usize = 4;
/// Bytes of a set that is kept.
const KEPT_BYTES_MAX: usize = 4 << 20;
/// Tables of a set that is kept.
const KEPT_TABLES_MAX: usize = 4096;

/// Tables by measurement.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) list: Vec<MeasurementTable>,
    of: HashMap<MeasurementId, usize>,
    /// Which request this is.
    request: u32,
    /// Those with rows of this request, or names that are new.
    used: Vec<usize>,
}

impl Tables {
    /// The place of a measurement's table, if it has one.
    pub(super) fn find(&self, id: MeasurementId) -> Option<usize> {
        self.of.get(&id).copied()
    }

    /// Puts a new one in.
    pub(super) fn insert(&mut self, table: MeasurementTable) -> usize {
        self.of.insert(table.id, self.list.len());
        self.list.push(table);
        self.list.len() - 1
    }

    /// This request uses the table at this place.
    #[inline]
    pub(super) fn note_used(&mut self, at: usize) {
        let table = &mut self.list[at];
        if table.request != Some(self.request) {
            table.request = Some(self.request);
            self.used.push(at);
        }
    }

    /// Those that this request used, in the order in which it did so first. They count as new afterwards.
    pub(super) fn take_used(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.used)
    }

    /// Before rows of another request come.
    fn begin(&mut self) {
        self.request = self.request.wrapping_add(1);
        if self.request == 0 {
            // After four billion requests: nothing is as old as it seems.
            self.list.iter_mut().for_each(|table| table.request = None);
        }
    }

    fn bytes(&self) -> usize {
        self.list.iter().map(MeasurementTable::bytes).sum()
    }
}

/// What tables were made for: they suit no other request.
pub(super) struct Suits {
    policy: PolicyId,
    shards: u16,
    settings: WriteSettings,
    /// Replaced whenever something is dropped.
    spellings: Weak<Spellings>,
}

impl Suits {
    pub(super) fn new(
        policy: PolicyId,
        shards: u16,
        settings: WriteSettings,
        spellings: &Arc<Spellings>,
    ) -> Self {
        Self {
            policy,
            shards,
            settings,
            spellings: Arc::downgrade(spellings),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.shards == other.shards
            && self.settings == other.settings
            && self.spellings.ptr_eq(&other.spellings)
    }

    /// Something was dropped since.
    fn is_stale(&self) -> bool {
        self.spellings.upgrade().is_none_or(|known| known.is_stale())
    }
}

/// Tables that wait for the next request. Shared.
#[derive(Default)]
pub struct TablePool {
    free: Mutex<Vec<(Suits, Tables)>>,
}

impl TablePool {
    /// Tables for a request: those of an earlier one like it, or none yet.
    pub(super) fn take(&self, suits: &Suits) -> Tables {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.retain(|(made_for, _)| !made_for.is_stale());
        let like = free.iter().rposition(|(made_for, _)| made_for.is(suits));
        let mut tables = like.map_or_else(Tables::default, |at| free.remove(at).1);
        drop(free);
        tables.begin();
        tables
    }

    /// Keeps tables, which are empty again, unless they have become large.
    pub(super) fn give_back(&self, suits: Suits, tables: Tables) {
        let too_large = tables.list.len() > KEPT_TABLES_MAX || tables.bytes() > KEPT_BYTES_MAX;
        if too_large || suits.is_stale() {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() >= KEPT_MAX {
            free.remove(0);
        }
        free.push((suits, tables));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    /// A catalog, and a table of a measurement in it.
    fn used(catalog: &Catalog) -> Tables {
        catalog.create_database("d", None).expect("a good name");
        let database = catalog.database("d").expect("just made");
        let policy = database.policy(None).expect("made with it").id;
        let measurement = catalog.measurement_or_create(policy, "m").expect("a good name");
        let mut tables = Tables::default();
        let at = tables.insert(MeasurementTable::new(measurement, 1, false));
        tables.note_used(at);
        tables.take_used();
        tables
    }

    fn suits(catalog: &Catalog, shards: u16) -> Suits {
        let spellings = catalog.spellings().current();
        Suits::new(0, shards, WriteSettings::default(), &spellings)
    }

    #[test]
    fn tables_come_back_to_requests_like_theirs() {
        let (catalog, pool) = (Catalog::new(), TablePool::default());
        pool.give_back(suits(&catalog, 1), used(&catalog));
        assert!(pool.take(&suits(&catalog, 2)).list.is_empty(), "other shards");
        let again = pool.take(&suits(&catalog, 1));
        assert_eq!(again.list.len(), 1);
        assert!(pool.take(&suits(&catalog, 1)).list.is_empty(), "they are in use");
        assert_ne!(
            again.list[0].request,
            Some(again.request),
            "this request has not used it yet"
        );
    }

    #[test]
    fn nothing_that_was_dropped_is_held() {
        let (catalog, pool) = (Catalog::new(), TablePool::default());
        // The one waits while something is dropped, the other is in use.
        let in_use = suits(&catalog, 1);
        let tables = used(&catalog);
        let table = Arc::downgrade(&tables.list[0].measurement);
        pool.give_back(suits(&catalog, 1), tables);
        let strong = table.strong_count();
        catalog.spellings().clear();
        pool.give_back(in_use, used(&catalog));
        assert_eq!(
            pool.free.lock().expect("no panic").len(),
            1,
            "given back too late: not kept"
        );
        drop(pool.take(&suits(&catalog, 1)));
        assert!(
            pool.free.lock().expect("no panic").is_empty(),
            "let go by the next request"
        );
        assert_eq!(table.strong_count(), strong - 1);
    }

    #[test]
    fn little_is_kept() {
        let (catalog, pool) = (Catalog::new(), TablePool::default());
        for shards in 1..=2 * KEPT_MAX as u16 {
            pool.give_back(suits(&catalog, shards), used(&catalog));
        }
        assert_eq!(pool.free.lock().expect("no panic").len(), KEPT_MAX);
        let last = suits(&catalog, 2 * KEPT_MAX as u16);
        assert_eq!(pool.take(&last).list.len(), 1, "the newest are kept");
    }
}
