//! Sets of series: within a page ([`Slots`]), and gathered over pages in ascending order ([`IdSet`]). Pure.

use super::page::PAGE_SERIES;
use crate::model::SeriesId;
use roaring::RoaringBitmap;

const WORDS: usize = PAGE_SERIES as usize / 64;
/// Ids that one roaring container holds.
const CONTAINER: u32 = 1 << 16;

/// A set of slots of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots([u64; WORDS]);

impl Default for Slots {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Slots {
    /// Adds a slot: was it missing?
    #[inline]
    pub fn insert(&mut self, slot: usize) -> bool {
        let bit = 1 << (slot % 64);
        let word = &mut self.0[slot / 64];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Takes a slot out.
    pub fn remove(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    /// Is this slot in it?
    #[inline]
    pub fn contains(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 == 1
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Slots in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros() as usize;
                    rest &= rest - 1;
                    at * 64 + bit
                })
            })
        })
    }

    /// Adds all of another set.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a |= b);
    }

    /// Keeps what is in another set, too.
    pub fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
    }

    /// Takes all of another set out.
    pub fn subtract(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= !b);
    }

    /// Those of a set of ids that lie in a page.
    pub fn of_ids(ids: &RoaringBitmap, page: u32) -> Self {
        let first = page * PAGE_SERIES;
        let mut slots = Self::default();
        for id in ids.range(first..=first + (PAGE_SERIES - 1)) {
            slots.insert((id - first) as usize);
        }
        slots
    }

    /// Sets the bits of a word: slots 64 x `at` and on.
    #[inline]
    pub(super) fn set_word(&mut self, at: usize, bits: u64) {
        self.0[at] = bits;
    }
}

/// Gathers slots of pages, in ascending order of pages, into a set of ids: a container of bits at a time.
#[derive(Default)]
pub struct IdSet {
    done: RoaringBitmap,
    container: u32,
    bits: Vec<u64>,
}

impl IdSet {
    /// Adds slots of a page. Pages must come in ascending order; the same one may come again.
    pub fn push(&mut self, page: u32, slots: &Slots) {
        if slots.is_empty() {
            return;
        }
        let first = page * PAGE_SERIES;
        if first / CONTAINER != self.container {
            self.flush();
            self.container = first / CONTAINER;
        }
        self.bits.resize(CONTAINER as usize / 64, 0);
        let at = (first % CONTAINER) as usize / 64;
        let words = &mut self.bits[at..at + WORDS];
        words.iter_mut().zip(slots.0).for_each(|(a, b)| *a |= b);
    }

    fn flush(&mut self) {
        if self.bits.is_empty() {
            return;
        }
        // Most measurements have few series: most words are zeroes at the end.
        let used = self
            .bits
            .iter()
            .rposition(|&word| word != 0)
            .map_or(0, |last| last + 1);
        let mut bytes = Vec::with_capacity(used * 8);
        self.bits[..used]
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        self.done |= RoaringBitmap::from_lsb0_bytes(self.container * CONTAINER, &bytes);
        self.bits.clear();
    }

    /// The set.
    pub fn finish(mut self) -> RoaringBitmap {
        self.flush();
        self.done
    }
}

/// The id of a slot of a page.
#[inline]
pub fn id_of(page: u32, slot: usize) -> SeriesId {
    page * PAGE_SERIES + slot as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sets_equal_a_btree(a in prop::collection::btree_set(0usize..2048, 0..80), b in prop::collection::btree_set(0usize..2048, 0..80)) {
            let of = |set: &std::collections::BTreeSet<usize>| {
                let mut slots = Slots::default();
                set.iter().for_each(|&slot| assert!(slots.insert(slot)));
                slots
            };
            let check = |slots: &Slots, want: Vec<usize>| {
                assert_eq!(slots.iter().collect::<Vec<_>>(), want);
                assert_eq!((slots.len(), slots.is_empty()), (want.len(), want.is_empty()));
            };
            let (x, y) = (of(&a), of(&b));
            check(&x, a.iter().copied().collect());
            let mut z = x.clone();
            z.add(&y);
            check(&z, a.union(&b).copied().collect());
            let mut z = x.clone();
            z.keep(&y);
            check(&z, a.intersection(&b).copied().collect());
            let mut z = x;
            z.subtract(&y);
            check(&z, a.difference(&b).copied().collect());
        }

        #[test]
        fn ids_gather_over_pages(ids in prop::collection::btree_set(0u32..300_000, 0..200)) {
            let wanted: RoaringBitmap = ids.iter().copied().collect();
            let mut gathered = IdSet::default();
            for page in 0..300_000 / PAGE_SERIES + 1 {
                gathered.push(page, &Slots::of_ids(&wanted, page));
            }
            prop_assert_eq!(gathered.finish(), wanted);
        }
    }
}
