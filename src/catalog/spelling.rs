//! From the bytes a sender uses for a series to its ids: one hash and one look-up a row for every series that was seen
//! before, whatever its spelling. A cache: bounded, and right to lose anything.

use crate::model::{MeasurementId, SeriesId};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use xxhash_rust::xxh3::xxh3_128_with_seed;

const STRIPES: usize = 64;

/// Spellings the cache may hold, at about 40 bytes each.
pub const SPELLINGS_MAX: usize = 4 << 20;

/// What a spelling stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelled {
    /// The measurement.
    pub measurement: MeasurementId,
    /// The series.
    pub series: SeriesId,
    /// Its definition is known to be durable.
    pub committed: bool,
}

/// The hash of a spelling in its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpellingHash(u64, u64);

/// The key is a hash already: half of it is as good as any.
#[derive(Default)]
pub struct TakeHalf(u64);

impl Hasher for TakeHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("SpellingHash hashes as two u64")
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }
}

type Stripe = HashMap<SpellingHash, (u32, u32), BuildHasherDefault<TakeHalf>>;

/// See the module.
pub struct SpellingCache {
    stripes: Vec<RwLock<Stripe>>,
    generation: AtomicU64,
}

const COMMITTED: u32 = 1 << 31;

impl Default for SpellingCache {
    fn default() -> Self {
        let stripes = (0..STRIPES).map(|_| RwLock::default()).collect();
        Self {
            stripes,
            generation: AtomicU64::new(0),
        }
    }
}

impl SpellingHash {
    /// Hashes a spelling; `context` tells formats and policies apart. 128 bits: two spellings never meet.
    #[inline]
    pub fn new(context: u64, spelling: &[u8]) -> Self {
        let hash = xxh3_128_with_seed(spelling, context);
        Self((hash >> 64) as u64, hash as u64)
    }
}

impl SpellingCache {
    /// What a spelling stands for, if it was seen.
    #[inline]
    pub fn get(&self, hash: SpellingHash) -> Option<Spelled> {
        let stripe = self.stripe(hash).read().unwrap_or_else(PoisonError::into_inner);
        stripe.get(&hash).map(|&(measurement, series)| Spelled {
            measurement: measurement & !COMMITTED,
            series,
            committed: measurement & COMMITTED != 0,
        })
    }

    /// Remembers a spelling, unless ids were dropped since `generation` was read: then it may stand for what is gone.
    pub fn put(&self, hash: SpellingHash, spelled: Spelled, generation: u64) {
        if spelled.measurement & COMMITTED != 0 {
            return;
        }
        let mut stripe = self.stripe(hash).write().unwrap_or_else(PoisonError::into_inner);
        if self.generation() != generation {
            return;
        }
        if stripe.len() >= SPELLINGS_MAX / STRIPES {
            // Rare: a working set beyond the budget. Starting over is cheap and keeps the common path without bookkeeping.
            stripe.clear();
        }
        let committed = if spelled.committed { COMMITTED } else { 0 };
        stripe.insert(hash, (spelled.measurement | committed, spelled.series));
    }

    /// Changes whenever everything was forgotten.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Forgets everything: ids were dropped.
    pub fn clear(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for stripe in &self.stripes {
            let mut stripe = stripe.write().unwrap_or_else(PoisonError::into_inner);
            *stripe = Stripe::default();
        }
    }

    /// Spellings it holds.
    pub fn len(&self) -> usize {
        self.stripes
            .iter()
            .map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    /// Holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn stripe(&self, hash: SpellingHash) -> &RwLock<Stripe> {
        &self.stripes[(hash.0 >> 58) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_until_ids_are_dropped() {
        let cache = SpellingCache::default();
        let hash = SpellingHash::new(1, b"cpu,host=a");
        assert_ne!(hash, SpellingHash::new(2, b"cpu,host=a"));
        let spelled = Spelled {
            measurement: 3,
            series: 4,
            committed: false,
        };
        let generation = cache.generation();
        cache.put(hash, spelled, generation);
        assert_eq!(cache.get(hash), Some(spelled));
        cache.put(
            hash,
            Spelled {
                committed: true,
                ..spelled
            },
            generation,
        );
        assert_eq!(
            cache.get(hash),
            Some(Spelled {
                committed: true,
                ..spelled
            })
        );
        cache.clear();
        assert_eq!(cache.get(hash), None);
        cache.put(hash, spelled, generation);
        assert_eq!(cache.get(hash), None, "resolved before the drop, put after it");
    }
}
