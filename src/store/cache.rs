//! What was read from the store lately, within a budget of bytes: directories, stripes, steps; and in a second cache of the
//! same kind what stripes decode to (docs/adr/0021).
//!
//! CLOCK: what was not asked for again since the hand last came by goes first, so one long scan does not push out what
//! small queries use again and again. Values are checked (frame, checksum) before they come in here.

use super::directory::Directory;
use super::engine::Bytes;
use super::keys::{Part, RunId};
use crate::block::RowKeys;
use crate::block::steps::{StepKeys, StepStats};
use crate::model::{Column, MeasurementId};
use hashbrown::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a cached value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheKey {
    /// A directory.
    Directory(RunId, MeasurementId),
    /// A part of a stripe.
    Stripe(RunId, MeasurementId, u32, Part),
    /// A part of a block, decoded.
    Block(RunId, MeasurementId, u32, Part),
}

/// A cached value, cheap to clone.
#[derive(Clone)]
pub enum Cached {
    /// See [`CacheKey::Directory`].
    Directory(Arc<Directory>),
    /// Chunks; the whole value with its frame.
    Stripe(Bytes),
    /// Steps, decoded.
    Steps(Arc<StepKeys>),
    /// Statistics of steps, decoded.
    StepStats(Arc<StepStats>),
    /// Series and times of a block's rows.
    Keys(Arc<RowKeys>),
    /// A column of a block.
    Column(Arc<Column>),
}

/// Shared by all queries.
pub struct Cache {
    inner: Mutex<Inner>,
}

struct Inner {
    budget: usize,
    bytes: usize,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    at: HashMap<CacheKey, usize>,
    hand: usize,
    hits: u64,
    misses: u64,
    /// Values that came when it was full.
    came_late: u64,
    /// Which values came once, by hash: a few bits of each.
    came_once: Vec<u32>,
}

struct Slot {
    key: CacheKey,
    value: Cached,
    bytes: usize,
    used: bool,
}

/// Roughly what an entry costs besides its value.
const ENTRY_BYTES: usize = 128;
/// Of values that are cheap to make again, one in so many is taken into a full cache.
const LATE_SHARE: u64 = 8;
/// Values that are remembered to have come once; a power of two.
const CAME_ONCE_MAX: usize = 1 << 16;

impl Cache {
    /// An empty cache for so many bytes.
    pub fn new(budget: usize) -> Self {
        let (slots, free, at) = (Vec::new(), Vec::new(), HashMap::new());
        Self {
            inner: Mutex::new(Inner {
                budget,
                bytes: 0,
                slots,
                free,
                at,
                hand: 0,
                hits: 0,
                misses: 0,
                came_late: 0,
                came_once: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held leaves at worst a wrong byte count.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, if it is there.
    pub fn get(&self, key: &CacheKey) -> Option<Cached> {
        let mut inner = self.lock();
        let found = inner
            .at
            .get(key)
            .copied()
            .and_then(|at| inner.slots[at].as_mut())
            .map(|slot| {
                slot.used = true;
                slot.value.clone()
            });
        match found {
            Some(_) => inner.hits += 1,
            None => inner.misses += 1,
        }
        found
    }

    /// Keeps a value of so many bytes, unless it alone would take a quarter of the budget.
    pub fn insert(&self, key: CacheKey, value: Cached, bytes: usize) {
        let bytes = bytes + ENTRY_BYTES;
        let mut inner = self.lock();
        if bytes > inner.budget / 4 || inner.at.contains_key(&key) {
            return;
        }
        inner.bytes += bytes;
        inner.shrink();
        let slot = Some(Slot {
            key,
            value,
            bytes,
            used: false,
        });
        let at = match inner.free.pop() {
            Some(at) => {
                inner.slots[at] = slot;
                at
            }
            None => {
                inner.slots.push(slot);
                inner.slots.len() - 1
            }
        };
        inner.at.insert(key, at);
    }

    /// As [`insert`](Self::insert), for values that are large and cheap to make again: only what comes a second time is kept,
    /// since most are asked for once, and memory that nobody had before costs as much as decoding into it. And a full cache takes one
    /// in a few: so a scan that is larger than the cache, again and again, finds a part of what it needs, where otherwise each round
    /// would push out what the next one looks for.
    pub fn insert_some(&self, key: CacheKey, value: Cached, bytes: usize) {
        {
            let mut inner = self.lock();
            if inner.comes_first(&key) {
                return;
            }
            if inner.bytes + bytes + ENTRY_BYTES > inner.budget {
                inner.came_late += 1;
                if !inner.came_late.is_multiple_of(LATE_SHARE) {
                    return;
                }
            }
        }
        self.insert(key, value, bytes);
    }

    /// Forgets what belongs to a pack that is gone.
    pub fn forget_pack(&self, pack: u64) {
        let mut inner = self.lock();
        for at in 0..inner.slots.len() {
            let of_pack = |slot: &Slot| match slot.key {
                CacheKey::Directory(id, _) | CacheKey::Stripe(id, ..) | CacheKey::Block(id, ..) => {
                    id.pack == pack
                }
            };
            if inner.slots[at].as_ref().is_some_and(of_pack) {
                inner.remove(at);
            }
        }
    }

    /// Changes the budget; what no longer fits goes at once.
    pub fn set_budget(&self, budget: usize) {
        let mut inner = self.lock();
        inner.budget = budget;
        inner.shrink();
    }

    /// (bytes held, hits, misses)
    pub fn figures(&self) -> (usize, u64, u64) {
        let inner = self.lock();
        (inner.bytes, inner.hits, inner.misses)
    }
}

impl Inner {
    /// Notes that a value has come. Wrong for a few, which does no harm.
    fn comes_first(&mut self, key: &CacheKey) -> bool {
        if self.came_once.is_empty() {
            self.came_once = vec![0; CAME_ONCE_MAX];
        }
        let hash = self.at.hasher().hash_one(key);
        let bits = (hash >> 32) as u32 | 1;
        let place = &mut self.came_once[hash as usize % CAME_ONCE_MAX];
        std::mem::replace(place, bits) != bits
    }

    fn shrink(&mut self) {
        while self.bytes > self.budget && !self.at.is_empty() {
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let hand = self.hand;
            match &mut self.slots[hand] {
                Some(slot) if slot.used => slot.used = false,
                Some(_) => self.remove(hand),
                None => {}
            }
        }
    }

    fn remove(&mut self, at: usize) {
        if let Some(slot) = self.slots[at].take() {
            self.bytes -= slot.bytes;
            self.at.remove(&slot.key);
            self.free.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pack: u64, stripe: u32) -> CacheKey {
        CacheKey::Stripe(RunId { pack, run: 0 }, 1, stripe, Part::Rows)
    }

    fn put(cache: &Cache, key: CacheKey, bytes: usize) {
        cache.insert(key, Cached::Stripe(Bytes::from(vec![0u8; 1])), bytes);
    }

    #[test]
    fn stays_within_its_budget_and_keeps_what_is_used() {
        let cache = Cache::new(100_000);
        put(&cache, key(1, 0), 1000);
        for stripe in 1..500 {
            put(&cache, key(1, stripe), 1000);
            assert!(
                cache.get(&key(1, 0)).is_some(),
                "used between any two inserts, lost at {stripe}"
            );
            assert!(cache.figures().0 <= 100_000);
        }
        assert!(cache.get(&key(1, 1)).is_none());
        put(&cache, key(2, 0), 30_000);
        assert!(cache.get(&key(2, 0)).is_none(), "too large for this budget");
    }

    #[test]
    fn a_scan_that_is_too_large_finds_a_part_of_it_again() {
        let cache = Cache::new(100_000);
        let mut found = 0;
        for round in 0..20 {
            for stripe in 0..200 {
                match cache.get(&key(1, stripe)) {
                    Some(_) => found += u32::from(round > 9),
                    None => {
                        cache.insert_some(key(1, stripe), Cached::Stripe(Bytes::from(vec![0u8; 1])), 1000);
                    }
                }
                assert!(cache.figures().0 <= 100_000);
            }
        }
        // 88 of 200 fit; were each taken in, none would be found.
        assert!(found > 10 * 20, "{found} of 2000");
    }

    #[test]
    fn what_is_cheap_to_make_again_is_kept_when_it_comes_twice() {
        let cache = Cache::new(1 << 20);
        let come =
            |stripe| cache.insert_some(key(1, stripe), Cached::Stripe(Bytes::from(vec![0u8; 1])), 1000);
        (0..100).for_each(come);
        assert_eq!(cache.figures().0, 0, "each came once");
        (0..50).for_each(come);
        // Another value may stand in the place of a few.
        assert!((45..=50).contains(&(cache.figures().0 / (1000 + ENTRY_BYTES))));
        assert!(cache.get(&key(1, 70)).is_none());
    }

    #[test]
    fn forgets_packs_and_shrinks() {
        let cache = Cache::new(1 << 20);
        (0..20).for_each(|i| put(&cache, key(u64::from(i % 2), i), 1000));
        cache.forget_pack(0);
        assert!(cache.get(&key(0, 2)).is_none() && cache.get(&key(1, 3)).is_some());
        assert_eq!(cache.figures().0, 10 * (1000 + ENTRY_BYTES));
        cache.set_budget(3000);
        assert!(cache.figures().0 <= 3000);
        cache.set_budget(0);
        assert_eq!(cache.figures().0, 0);
        put(&cache, key(3, 0), 1);
        assert_eq!(cache.figures().0, 0);
    }
}
