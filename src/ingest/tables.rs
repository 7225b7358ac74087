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
