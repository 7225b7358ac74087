//! From the bytes a sender uses for a series to its ids: one hash and one look-up a row for every series that was seen
//! before, whatever its spelling. A cache: bounded, and right to lose anything.
//!
//! Senders repeat the order of their series. So each entry remembers which one came after it, and entries lie in the order in which
//! they were first seen: the next row's entry is mostly the next in memory, where a look-up in a table of a million would wait
//! for memory twice. Entries are written once and read without a lock.

use crate::model::{MeasurementId, SeriesId};
use arc_swap::ArcSwap;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const STRIPES: usize = 64;
const CHUNK: usize = 4096;
const CHUNKS: usize = SPELLINGS_MAX / CHUNK;
const NONE: u32 = u32::MAX;

/// Spellings the cache may hold, whatever its budget.
pub const SPELLINGS_MAX: usize = 4 << 20;
/// What one takes, about: its entry, and its place in a table that grows by doubling.
pub const SPELLING_BYTES: usize = 48;
/// A full cache starts over when it knows less than one in so many of the spellings it is asked for. With more series than it
/// holds it goes on knowing some of them.
const WORTHLESS_SHARE: u64 = 16;

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
    /// Of the hashes: another in each process.
    seed: u64,
}

/// What is remembered since everything was last forgotten.
pub struct Spellings {
    chunks: Box<[OnceLock<Box<[Entry]>>]>,
    len: AtomicU32,
    stripes: Box<[RwLock<HashTable<u32>>]>,
    /// There is a newer one: ids were dropped, say.
    stale: AtomicBool,
    /// Spellings it may hold.
    max: usize,
    /// Since it is full: rows whose spellings were known, and others.
    known: AtomicU64,
    unknown: AtomicU64,
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
    #[inline]
    fn is(&self, hash: SpellingHash) -> bool {
        self.hash[0].load(Ordering::Relaxed) == hash.0 && self.hash[1].load(Ordering::Relaxed) == hash.1
    }
}

impl Default for SpellingCache {
    fn default() -> Self {
        Self {
            current: ArcSwap::from_pointee(Spellings::new(SPELLINGS_MAX)),
            seed: RandomState::new().hash_one(std::process::id()),
        }
    }
}

impl SpellingCache {
    /// What is remembered now.
    pub fn current(&self) -> Arc<Spellings> {
        self.current.load_full()
    }

    /// What is to be hashed with the spellings, so that nobody can know two with the same hash.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Forgets everything: ids were dropped.
    pub fn clear(&self) {
        let max = self.current.load().max;
        let old = self.current.swap(Arc::new(Spellings::new(max)));
        old.stale.store(true, Ordering::Release);
    }

    /// Holds what so many bytes have room for from now on, and begins anew.
    pub fn set_budget(&self, bytes: usize) {
        let max = (bytes / SPELLING_BYTES).clamp(1, SPELLINGS_MAX);
        let current = self.current.load();
        if current.max != max {
            let fresh = Arc::new(Spellings::new(max));
            self.current.compare_and_swap(&*current, fresh);
            // Who still reads it must not miss what is dropped later.
            current.stale.store(true, Ordering::Release);
        }
    }

    /// Forgets everything if it is full of what is not asked for any more.
    pub fn make_room(&self) {
        let current = self.current.load();
        if current.is_full() && current.is_worthless() {
            let fresh = Arc::new(Spellings::new(current.max));
            self.current.compare_and_swap(&*current, fresh);
            // As above.
            current.stale.store(true, Ordering::Release);
        }
    }

    /// Bytes it holds, about.
    pub fn bytes(&self) -> usize {
        self.len() * SPELLING_BYTES
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
    fn new(max: usize) -> Self {
        Self {
            max,
            known: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            len: AtomicU32::new(0),
            stripes: (0..STRIPES).map(|_| RwLock::default()).collect(),
            stale: AtomicBool::new(false),
        }
    }

    fn len(&self) -> usize {
        (self.len.load(Ordering::Relaxed) as usize).min(self.max)
    }

    fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    /// Of as many rows as it holds spellings it knew hardly any. Begins to count anew if not.
    fn is_worthless(&self) -> bool {
        let (known, unknown) = (
            self.known.load(Ordering::Relaxed),
            self.unknown.load(Ordering::Relaxed),
        );
        if known + unknown < self.max as u64 {
            return false;
        }
        self.known.store(0, Ordering::Relaxed);
        self.unknown.store(0, Ordering::Relaxed);
        known < unknown / WORTHLESS_SHARE
    }

    /// The spellings of so many rows were known, and of so many others not.
    pub fn note(&self, known: u64, unknown: u64) {
        if self.is_full() {
            self.known.fetch_add(known, Ordering::Relaxed);
            self.unknown.fetch_add(unknown, Ordering::Relaxed);
        }
    }

    /// Is there a newer one? Then what is found here may be gone.
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
        if self.is_full() {
            return None;
        }
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
                let chunk = self.chunks.get(at as usize / CHUNK);
                let Some(chunk) = chunk.filter(|_| (at as usize) < self.max) else {
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

#[inline]
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
    fn starts_over_when_it_is_full_of_what_is_not_asked_for() {
        let cache = SpellingCache::default();
        cache.set_budget(100 * SPELLING_BYTES);
        let spellings = cache.current();
        let hash = |i: u32| SpellingHash::new(0, &i.to_le_bytes());
        for i in 0..100 {
            assert!(spellings.put(hash(i), ids(0, i), None).is_some());
        }
        assert_eq!(spellings.put(hash(100), ids(0, 100), None), None);
        assert_eq!(spellings.find(hash(100), None), None);
        // More series than it holds, asked for in turns: a third of them is known.
        spellings.note(100, 200);
        cache.make_room();
        assert_eq!(cache.len(), 100);
        // Others took their place.
        spellings.note(3, 97);
        cache.make_room();
        assert!(cache.is_empty() && spellings.is_stale());
        cache.current().put(hash(7), ids(0, 7), None);
        cache.set_budget(100 * SPELLING_BYTES);
        assert_eq!(cache.len(), 1, "the budget is what it was");
        cache.set_budget(50 * SPELLING_BYTES);
        assert!(cache.is_empty());
    }
}
