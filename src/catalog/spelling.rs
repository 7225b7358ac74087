//! From the bytes a sender uses for a series to its ids: one hash and one look-up a row for every series that was seen
//! before, whatever its spelling. A cache: bounded, and right to lose anything.
//!
//! Senders repeat the order of their series. So each entry remembers which one came after it, and entries lie in the order in which
//! they were first seen: the next row's entry is mostly the next in memory, where a look-up in a table of a million would wait
//! for memory twice. Entries are written once and read without a lock.

use crate::model::{MeasurementId, SeriesId};
use arc_swap::ArcSwap;
use hashbrown::HashTable;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const STRIPES: usize = 64;
const CHUNK: usize = 4096;
const CHUNKS: usize = SPELLINGS_MAX / CHUNK;
const NONE: u32 = u32::MAX;

/// Spellings the cache may hold, at about 48 bytes each.
pub const SPELLINGS_MAX: usize = 4 << 20;

/// What a spelling stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The series.
    pub series: SeriesId,
}

/// The hash of a spelling in its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpellingHash(u64, u64);

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(u32);

impl SpellingHash {
    /// Hashes a spelling; `context` tells formats and policies apart. 128 bits: two spellings never meet.
    #[inline]
    pub fn new(context: u64, spelling: &[u8]) -> Self {
        let hash = xxh3_128_with_seed(spelling, context);
        Self((hash >> 64) as u64, hash as u64)
    }
}

/// See the module. Shared.
pub struct SpellingCache {
    current: ArcSwap<Spellings>,
}

/// What is remembered since everything was last forgotten.
pub struct Spellings {
    chunks: Box<[OnceLock<Box<[Entry]>>]>,
    len: AtomicU32,
    stripes: Box<[RwLock<HashTable<u32>>]>,
    /// Ids were dropped since.
    stale: AtomicBool,
}

/// Everything but `next` and `committed` is written before anybody knows where the entry is.
struct Entry {
    hash: [AtomicU64; 2],
    ids: AtomicU64,
    next: AtomicU32,
    committed: AtomicBool,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            hash: Default::default(),
            ids: AtomicU64::new(0),
            next: AtomicU32::new(NONE),
            committed: AtomicBool::new(false),
        }
    }
}

impl Entry {
    fn is(&self, hash: SpellingHash) -> bool {
        self.hash[0].load(Ordering::Relaxed) == hash.0 && self.hash[1].load(Ordering::Relaxed) == hash.1
    }
}

impl Default for SpellingCache {
    fn default() -> Self {
        Self {
            current: ArcSwap::from_pointee(Spellings::new()),
        }
    }
}

impl SpellingCache {
    /// What is remembered now.
    pub fn current(&self) -> Arc<Spellings> {
        self.current.load_full()
    }

    /// Forgets everything: ids were dropped.
    pub fn clear(&self) {
        let old = self.current.swap(Arc::new(Spellings::new()));
        old.stale.store(true, Ordering::Release);
    }

    /// Forgets everything if it is full: a working set beyond the budget is rare, and starting over is cheap.
    pub fn make_room(&self) {
        let current = self.current.load();
        if current.len() >= SPELLINGS_MAX - SPELLINGS_MAX / 64 {
            let fresh = Arc::new(Spellings::new());
            self.current.compare_and_swap(&*current, fresh);
        }
    }

    /// Spellings it holds.
    pub fn len(&self) -> usize {
        self.current.load().len()
    }

    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Spellings {
    fn new() -> Self {
        Self {
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            stripes: (0..STRIPES).map(|_| RwLock::default()).collect(),
            stale: AtomicBool::new(false),
        }
    }

    fn len(&self) -> usize {
        (self.len.load(Ordering::Relaxed) as usize).min(SPELLINGS_MAX)
    }

    /// Were ids dropped since? Then what is found here may be gone.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    #[inline]
    fn entry(&self, at: u32) -> Option<&Entry> {
        self.chunks
            .get(at as usize / CHUNK)?
            .get()?
            .get(at as usize % CHUNK)
    }

    /// What a spelling stands for, if it was seen; `before` is where the row before it was found.
    #[inline]
    pub fn find(&self, hash: SpellingHash, before: Option<Place>) -> Option<(Place, Spelled)> {
        let before = before.and_then(|place| self.entry(place.0));
        if let Some(before) = before {
            // Acquire: who knows the place sees the entry.
            let next = before.next.load(Ordering::Acquire);
            if let Some(entry) = self.entry(next)
                && entry.is(hash)
            {
                return Some((Place(next), spelled(entry)));
            }
        }
        let stripe = self.stripe(hash).read().unwrap_or_else(PoisonError::into_inner);
        let at = *stripe.find(hash.1, |at| self.entry(*at).is_some_and(|entry| entry.is(hash)))?;
        drop(stripe);
        if let Some(before) = before {
            before.next.store(at, Ordering::Release);
        }
        Some((Place(at), spelled(self.entry(at)?)))
    }

    /// Remembers a spelling; `None` when there is no room.
    pub fn put(&self, hash: SpellingHash, what: Spelled, before: Option<Place>) -> Option<Place> {
        let mut stripe = self.stripe(hash).write().unwrap_or_else(PoisonError::into_inner);
        let is_it = |at: &u32| self.entry(*at).is_some_and(|entry| entry.is(hash));
        let at = match stripe.find(hash.1, is_it) {
            Some(&at) => {
                let ids = u64::from(what.measurement) << 32 | u64::from(what.series);
                if self.entry(at)?.ids.load(Ordering::Relaxed) != ids {
                    // Dropped and made again: the old entry is right until everything is forgotten.
                    return None;
                }
                at
            }
            None => {
                let at = self.len.fetch_add(1, Ordering::Relaxed);
                let Some(chunk) = self.chunks.get(at as usize / CHUNK) else {
                    // Never beyond: a few threads may each count one too many, billions of times less than would overflow.
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return None;
                };
                let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| Entry::default()).collect());
                let entry = &chunk[at as usize % CHUNK];
                entry.hash[0].store(hash.0, Ordering::Relaxed);
                entry.hash[1].store(hash.1, Ordering::Relaxed);
                let ids = u64::from(what.measurement) << 32 | u64::from(what.series);
                entry.ids.store(ids, Ordering::Relaxed);
                let rehash = |at: &u32| {
                    self.entry(*at)
                        .map_or(0, |entry| entry.hash[1].load(Ordering::Relaxed))
                };
                stripe.insert_unique(hash.1, at, rehash);
                at
            }
        };
        drop(stripe);
        if let Some(before) = before.and_then(|place| self.entry(place.0)) {
            before.next.store(at, Ordering::Release);
        }
        Some(Place(at))
    }

    /// Is the definition of the series there known to be durable?
    #[inline]
    pub fn is_committed(&self, place: Place) -> bool {
        self.entry(place.0)
            .is_some_and(|entry| entry.committed.load(Ordering::Relaxed))
    }

    /// It is durable.
    pub fn set_committed(&self, place: Place) {
        if let Some(entry) = self.entry(place.0) {
            entry.committed.store(true, Ordering::Relaxed);
        }
    }

    fn stripe(&self, hash: SpellingHash) -> &RwLock<HashTable<u32>> {
        &self.stripes[(hash.0 >> 58) as usize]
    }
}

fn spelled(entry: &Entry) -> Spelled {
    let ids = entry.ids.load(Ordering::Relaxed);
    Spelled {
        measurement: (ids >> 32) as u32,
        series: ids as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(measurement: u32, series: u32) -> Spelled {
        Spelled { measurement, series }
    }

    #[test]
    fn remembers_until_ids_are_dropped() {
        let cache = SpellingCache::default();
        let hash = SpellingHash::new(1, b"cpu,host=a");
        assert_ne!(hash, SpellingHash::new(2, b"cpu,host=a"));
        let before = cache.current();
        assert_eq!(before.find(hash, None), None);
        let place = before.put(hash, ids(3, 4), None).expect("room");
        assert_eq!(before.put(hash, ids(3, 4), None), Some(place), "once is enough");
        assert_eq!(cache.current().find(hash, None), Some((place, ids(3, 4))));
        assert!(!before.is_committed(place));
        before.set_committed(place);
        assert!(cache.current().is_committed(place));
        assert!(!before.is_stale());
        cache.clear();
        assert!(before.is_stale());
        assert!(cache.is_empty() && cache.current().find(hash, None).is_none());
        before.put(SpellingHash::new(1, b"x"), ids(3, 5), None);
        assert!(cache.is_empty(), "resolved before the drop, put after it");
    }

    #[test]
    fn follows_the_order_of_the_sender_and_its_changes() {
        let cache = SpellingCache::default();
        let spellings = cache.current();
        let hashes: Vec<SpellingHash> = (0..10_000u32)
            .map(|i| SpellingHash::new(0, &i.to_le_bytes()))
            .collect();
        let mut before = None;
        for (i, hash) in hashes.iter().enumerate() {
            before = spellings.put(*hash, ids(0, i as u32), before);
        }
        let orders: [Vec<usize>; 3] = [
            (0..hashes.len()).collect(),
            (0..hashes.len()).rev().collect(),
            (0..hashes.len()).map(|i| i * 7919 % hashes.len()).collect(),
        ];
        for order in &orders {
            let mut before = None;
            for &i in order {
                let (place, found) = spellings.find(hashes[i], before).expect("it was put");
                assert_eq!(found, ids(0, i as u32));
                before = Some(place);
            }
        }
        assert_eq!(spellings.find(SpellingHash::new(1, b"never"), before), None);
        assert_eq!(cache.len(), hashes.len());
    }

    #[test]
    fn many_threads_agree() {
        let cache = SpellingCache::default();
        let spellings = cache.current();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut before = None;
                    for i in 0..20_000u32 {
                        let hash = SpellingHash::new(0, &i.to_le_bytes());
                        let found = spellings.find(hash, before);
                        assert!(found.is_none_or(|(_, what)| what == ids(1, i)));
                        before = match found {
                            Some((place, _)) => Some(place),
                            None => spellings.put(hash, ids(1, i), before),
                        };
                    }
                });
            }
        });
        assert_eq!(cache.len(), 20_000);
    }

    #[test]
    fn starts_over_when_it_is_full() {
        let cache = SpellingCache::default();
        cache.make_room();
        let spellings = cache.current();
        spellings.put(SpellingHash::new(0, b"a"), ids(0, 0), None);
        spellings.len.store(SPELLINGS_MAX as u32 - 1, Ordering::Relaxed);
        assert!(
            spellings
                .put(SpellingHash::new(0, b"b"), ids(0, 1), None)
                .is_some()
        );
        assert_eq!(spellings.put(SpellingHash::new(0, b"c"), ids(0, 2), None), None);
        assert_eq!(spellings.find(SpellingHash::new(0, b"c"), None), None);
        assert!(!spellings.is_stale());
        cache.make_room();
        assert!(cache.is_empty());
    }
}
