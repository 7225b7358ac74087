//! The series of one measurement that are in memory: those since the last seal. Pages by number, and a table from the hash
//! of a key to ids.

use crate::model::{SeriesId, SeriesKey};
use crate::store::index::page::{PAGE_BYTES_MAX, PageBuilder};
use crate::store::index::table::hash_of;
use crate::store::index::{PAGE_SERIES, Page, Slots, key_hash, page_of, slot_of};
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an entry of the table takes, empty ones counted in.
const ENTRY_BYTES: usize = 16;

/// See the module.
#[derive(Default)]
pub struct Delta {
    pages: BTreeMap<u32, PageBuilder>,
    ids: HashTable<Entry>,
    bytes: usize,
    /// The bytes of all deltas of the catalog.
    total: Arc<AtomicUsize>,
}

impl Drop for Delta {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
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
            hash: hash_of(hash),
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
    /// An empty one, whose bytes count in a total.
    pub fn new(total: Arc<AtomicUsize>) -> Self {
        let mut delta = Self::default();
        delta.total = total;
        delta
    }

    /// The series with these tags (sorted by key), whose [`key_hash`] is known.
    pub fn find(&self, hash: u64, tags: &[(String, String)]) -> Option<SeriesId> {
        let upper = hash_of(hash);
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
        let more = page.bytes() - before + ENTRY_BYTES;
        self.bytes += more;
        self.total.fetch_add(more, Ordering::Relaxed);
        if slot_of(id) + 1 == PAGE_SERIES as usize {
            // Ids come nearly in order: it is as good as full.
            page.close();
        }
        let entry = Entry::new(hash, id);
        self.ids.insert_unique(entry.spread(), entry, Entry::spread);
        Some(())
    }

    /// A dropped series is not found by its tags any more; its page keeps it.
    pub fn forget(&mut self, id: SeriesId, key_seed: u64) {
        let Some(tags) = self.tags(id) else { return };
        let hash = spread(hash_of(key_hash(key_seed, &tags)));
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

    /// The canonical key of a series of the measurement with this name.
    pub fn canonical(&self, measurement: &str, id: SeriesId) -> String {
        match self.pages.get(&page_of(id)) {
            Some(page) => SeriesKey::canonical_of(measurement, page.page().tags(slot_of(id))),
            None => SeriesKey::canonical_of(measurement, std::iter::empty()),
        }
    }

    /// The pages as they are now, ascending.
    pub fn pages(&self) -> impl Iterator<Item = &Arc<Page>> {
        self.pages.values().map(PageBuilder::page)
    }

    /// Forgets series that are sealed now.
    pub fn remove(&mut self, sealed: &RoaringBitmap) {
        self.ids.retain(|entry| !sealed.contains(entry.id));
        self.ids.shrink_to(0, Entry::spread);
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = self.ids.len() * ENTRY_BYTES;
        for (number, mut builder) in std::mem::take(&mut self.pages) {
            let page = builder.page().clone();
            let mut rest = page.present().clone();
            rest.subtract(&Slots::of_ids(sealed, number));
            if rest.is_empty() {
                continue;
            }
            if rest != *page.present() {
                builder = PageBuilder::new(number);
                for slot in rest.iter() {
                    let tags: Vec<(&str, &str)> = page.tags(slot).collect();
                    builder.insert(slot, &tags).expect("they were in a page before");
                }
            }
            self.bytes += builder.bytes();
            self.pages.insert(number, builder);
        }
        self.total.fetch_add(self.bytes, Ordering::Relaxed);
    }

    /// Has the page of this id no room for another series?
    pub fn is_full(&self, id: SeriesId) -> bool {
        let page = self.pages.get(&page_of(id));
        page.is_some_and(|page| page.bytes() > PAGE_BYTES_MAX)
    }
}
