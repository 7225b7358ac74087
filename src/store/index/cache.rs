//! What was read of the index lately, within a budget of bytes. Values are checked (frame, checksum) and decoded before they
//! come in here.

use super::column::Column;
use super::page::Page;
use super::part::Part;
use super::place::Place;
use super::table::{Fingerprints, Ids};
use super::terms::Terms;
use crate::store::engine::Bytes;
use hashbrown::DefaultHashBuilder;
use quick_cache::Weighter;
use std::sync::Arc;

/// A decoded value, cheap to clone.
#[derive(Clone)]
pub enum Cached {
    /// A directory.
    Part(Arc<Part>),
    /// A whole page.
    Page(Arc<Page>),
    /// A column of a page.
    Column(Arc<Column>),
    /// Fingerprints of the key table.
    Fingerprints(Arc<Fingerprints<Bytes>>),
    /// Ids of the key table.
    Ids(Arc<Ids<Bytes>>),
    /// A block of terms.
    Terms(Arc<Terms>),
}

/// A place, and a column of it: 0 for all, else 1 and its tag's position in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// Where the value is.
    pub place: Place,
    /// See above.
    pub column: u32,
}

#[derive(Clone)]
struct ByBytes;

/// Roughly what an entry costs besides its value.
const ENTRY_BYTES: usize = 120;

impl Weighter<CacheKey, Cached> for ByBytes {
    fn weight(&self, _: &CacheKey, value: &Cached) -> u64 {
        let bytes = match value {
            Cached::Part(part) => part.memory(),
            Cached::Page(page) => page.bytes(),
            Cached::Column(column) => column.bytes(),
            Cached::Fingerprints(prints) => prints.memory(),
            Cached::Ids(ids) => ids.memory(),
            Cached::Terms(terms) => terms.memory(),
        };
        (bytes + ENTRY_BYTES) as u64
    }
}

/// Shared by all readers.
pub struct IndexCache {
    inner: quick_cache::sync::Cache<CacheKey, Cached, ByBytes, DefaultHashBuilder>,
}

/// The bytes of an entry that the cache is laid out for.
const TYPICAL_BYTES: usize = 16 << 10;
/// Each of them has its share of the budget, and an entry must fit into one.
const SHARDS: usize = 4;

impl IndexCache {
    /// An empty cache for so many bytes.
    pub fn new(budget: usize) -> Self {
        let options = quick_cache::OptionsBuilder::new()
            .estimated_items_capacity(budget / TYPICAL_BYTES + 1)
            .weight_capacity(budget as u64)
            .shards(SHARDS)
            .build()
            .expect("both capacities are given");
        Self {
            inner: quick_cache::sync::Cache::with_options(
                options,
                ByBytes,
                Default::default(),
                Default::default(),
            ),
        }
    }

    /// The value, if it is there.
    pub fn get(&self, key: &CacheKey) -> Option<Cached> {
        self.inner.get(key)
    }

    /// Keeps a value, if it fits.
    pub fn insert(&self, key: CacheKey, value: Cached) {
        self.inner.insert(key, value);
    }

    /// Changes the budget at once.
    pub fn set_budget(&self, budget: usize) {
        self.inner.set_capacity(budget as u64);
    }

    /// (bytes held, hits, misses)
    pub fn figures(&self) -> (usize, u64, u64) {
        (
            self.inner.weight() as usize,
            self.inner.hits(),
            self.inner.misses(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Kind;
    use super::*;

    #[test]
    fn stays_within_its_budget() {
        let cache = IndexCache::new(1 << 20);
        let key = |number| CacheKey {
            place: Place {
                pack: 1,
                measurement: 1,
                kind: Kind::Page,
                number,
                part: 0,
            },
            column: 0,
        };
        for number in 0..10_000 {
            cache.insert(key(number), Cached::Column(Arc::default()));
            assert!(cache.figures().0 <= 1 << 20);
        }
        assert!(cache.get(&key(9_999)).is_some());
        assert!(cache.figures().0 > 1 << 19);
        cache.set_budget(1000);
        assert!(cache.figures().0 <= 1000);
    }
}
