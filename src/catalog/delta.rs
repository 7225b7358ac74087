//! The series of one measurement that are in memory: those since the last seal. Pages by number, and a table from the hash
//! of a key to ids.

use crate::model::SeriesId;
use crate::store::index::page::PageBuilder;
use crate::store::index::{PAGE_SERIES, Page, key_hash, page_of, slot_of};
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Delta {
    pages: BTreeMap<u32, PageBuilder>,
    ids: HashTable<Entry>,
    bytes: usize,
}

/// A series by (the upper half of) the hash of its key.
#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    id: SeriesId,
}

impl Entry {
    fn new(hash: u64, id: SeriesId) -> Self {
        Self {
            hash: (hash >> 32) as u32,
            id,
        }
    }

    /// The table wants bits at both ends.
    fn spread(&self) -> u64 {
        spread(self.hash)
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Delta {
    /// The series with these tags (sorted by key), whose [`key_hash`] is known.
    pub fn find(&self, hash: u64, tags: &[(String, String)]) -> Option<SeriesId> {
        let upper = (hash >> 32) as u32;
        let same = |entry: &Entry| entry.hash == upper && self.has_tags(entry.id, tags);
        self.ids.find(spread(upper), same).map(|entry| entry.id)
    }

    fn has_tags(&self, id: SeriesId, tags: &[(String, String)]) -> bool {
        let page = self.pages.get(&page_of(id));
        page.is_some_and(|page| page.page().has_tags(slot_of(id), tags))
    }

    /// Is this id in here, [forgotten](Self::forget) or not?
    pub fn contains(&self, id: SeriesId) -> bool {
        let page = self.pages.get(&page_of(id));
        page.is_some_and(|page| page.page().present().contains(slot_of(id)))
    }

    /// Adds a series that is not there yet under an id that is not there yet. `None` when a page has no room for its text.
    pub fn insert(&mut self, id: SeriesId, hash: u64, tags: &[(String, String)]) -> Option<()> {
        let number = page_of(id);
        let page = self
            .pages
            .entry(number)
            .or_insert_with(|| PageBuilder::new(number));
        let before = page.bytes();
        page.insert(slot_of(id), tags)?;
        self.bytes += page.bytes() - before;
        if slot_of(id) + 1 == PAGE_SERIES as usize {
            // Ids come nearly in order: it is as good as full.
            page.close();
        }
        let entry = Entry::new(hash, id);
        self.ids.insert_unique(entry.spread(), entry, Entry::spread);
        Some(())
    }

    /// A dropped series is not found by its tags any more; its page keeps it.
    pub fn forget(&mut self, id: SeriesId) {
        let Some(tags) = self.tags(id) else { return };
        let hash = spread((key_hash(&tags) >> 32) as u32);
        if let Ok(entry) = self.ids.find_entry(hash, |entry| entry.id == id) {
            entry.remove();
        }
    }

    /// The tags of a series, sorted by key.
    pub fn tags(&self, id: SeriesId) -> Option<Vec<(String, String)>> {
        let page = self.pages.get(&page_of(id))?.page();
        let slot = slot_of(id);
        page.present().contains(slot).then(|| {
            page.tags(slot)
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        })
    }

    /// The pages as they are now, ascending.
    pub fn pages(&self) -> impl Iterator<Item = &Arc<Page>> {
        self.pages.values().map(PageBuilder::page)
    }
}
