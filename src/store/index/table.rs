//! From the hash of a key to series ids: pages of fingerprints, with the ids beside them. Pure. Drawn in docs/formats/index.md.
//!
//! A series is in here by 32 bits of its key's hash. The upper bits say the page and the bucket (about 16 series), the rest is
//! its fingerprint. That a series is new is known from the fingerprints alone; that it is there is for the page of its tags to say.
//! Of n series, a key that is not there meets a stranger's fingerprint with probability n / 2^32.

use crate::block::bytes::{Input, put};
use crate::model::SeriesId;

/// Series in a page, at most, about. Tests want many pages of few.
const PAGE_ENTRIES: u64 = if cfg!(test) { 16 } else { 4096 };
/// Series in a bucket, about.
const BUCKET_ENTRIES: usize = 16;
/// The page holds all bits that there are.
const HASH_BITS: u32 = 32;

/// The part of a key's hash that is kept.
pub fn hash_of(key_hash: u64) -> u32 {
    (key_hash >> 32) as u32
}

/// How many of the upper bits of a hash say its page, in a table of so many series.
pub fn page_bits(series: u64) -> u32 {
    let pages = series.div_ceil(PAGE_ENTRIES).next_power_of_two();
    pages.trailing_zeros()
}

/// The page of a hash.
pub fn page_of_hash(hash: u32, page_bits: u32) -> u32 {
    hash.checked_shr(HASH_BITS - page_bits).unwrap_or(0)
}

/// The fingerprints of a page. Look-ups read them as they are stored.
#[derive(Debug)]
pub struct Fingerprints<B> {
    bytes: B,
    page_bits: u32,
    bucket_bits: u32,
    /// Where the fingerprints of each bucket end.
    ends: Vec<u32>,
    /// Where the packed fingerprints begin.
    at: usize,
}

/// The ids of a page, in the order of the fingerprints.
#[derive(Debug)]
pub struct Ids<B> {
    bytes: B,
    count: usize,
    base: SeriesId,
    width: u32,
    at: usize,
}

/// Appends a page's fingerprints to one value and its ids to another. Entries are sorted by hash and belong to this page.
pub fn encode(entries: &[(u32, SeriesId)], page_bits: u32, fingerprints: &mut Vec<u8>, ids: &mut Vec<u8>) {
    let buckets = entries.len().div_ceil(BUCKET_ENTRIES).next_power_of_two();
    let bucket_bits = buckets.trailing_zeros().min(HASH_BITS - page_bits);
    put(fingerprints, entries.len() as u64);
    fingerprints.push(bucket_bits as u8);
    let mut at = 0;
    for bucket in 0..1u32 << bucket_bits {
        let start = at;
        while entries
            .get(at)
            .is_some_and(|e| bucket_of(e.0, page_bits, bucket_bits) == bucket)
        {
            at += 1;
        }
        put(fingerprints, (at - start) as u64);
    }
    let width = HASH_BITS - page_bits - bucket_bits;
    let prints = entries.iter().map(|(hash, _)| u64::from(hash & mask(width)));
    pack(prints, width, fingerprints);

    let base = entries.iter().map(|(_, id)| *id).min().unwrap_or(0);
    let top = entries.iter().map(|(_, id)| *id - base).max().unwrap_or(0);
    let width = 32 - top.leading_zeros();
    put(ids, entries.len() as u64);
    put(ids, u64::from(base));
    ids.push(width as u8);
    pack(entries.iter().map(|(_, id)| u64::from(id - base)), width, ids);
}

fn mask(width: u32) -> u32 {
    u32::MAX.checked_shr(HASH_BITS - width).unwrap_or(0)
}

fn bucket_of(hash: u32, page_bits: u32, bucket_bits: u32) -> u32 {
    let below_page = hash.checked_shl(page_bits).unwrap_or(0);
    below_page.checked_shr(HASH_BITS - bucket_bits).unwrap_or(0)
}

pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    let (mut word, mut filled) = (0u64, 0);
    for value in values {
        word |= value << filled;
        filled += width;
        while filled >= 8 {
            out.push(word as u8);
            word >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(word as u8);
    }
}

/// The `index`th number of `width` (at most 32) bits.
pub(super) fn unpack(bytes: &[u8], index: usize, width: u32) -> u32 {
    let bit = index * width as usize;
    let (first, shift) = (bit / 8, bit % 8);
    let word = match bytes.get(first..first + 8) {
        Some(eight) => u64::from_le_bytes(eight.try_into().unwrap_or_default()),
        None => {
            let mut eight = [0; 8];
            let rest = bytes.get(first..).unwrap_or_default();
            eight[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(eight)
        }
    };
    (word >> shift) as u32 & mask(width)
}

pub(super) fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

impl<B: AsRef<[u8]>> Fingerprints<B> {
    /// Reads the value of a page of a table with so many page bits; the payload begins at `from` and ends at `to`. `None`: damaged.
    pub fn decode(bytes: B, from: usize, to: usize, page_bits: u32) -> Option<Self> {
        let payload = bytes.as_ref().get(from..to)?;
        let mut input = Input(payload);
        let count = input.get_count(payload.len().checked_mul(8)?)?;
        let bucket_bits = u32::from(input.byte()?);
        if page_bits > HASH_BITS
            || bucket_bits > HASH_BITS - page_bits
            || 1 << bucket_bits.min(62) > payload.len() as u64
        {
            return None;
        }
        let mut ends = Vec::with_capacity(1 << bucket_bits);
        let mut end = 0usize;
        for _ in 0..1u32 << bucket_bits {
            end += input.get_count(count - end)?;
            ends.push(end as u32);
        }
        let width = HASH_BITS - page_bits - bucket_bits;
        if end != count || input.0.len() != packed_bytes(count, width) {
            return None;
        }
        let at = to - input.0.len();
        Some(Self {
            bytes,
            page_bits,
            bucket_bits,
            ends,
            at,
        })
    }

    fn width(&self) -> u32 {
        HASH_BITS - self.page_bits - self.bucket_bits
    }

    fn packed(&self) -> &[u8] {
        self.bytes.as_ref().get(self.at..).unwrap_or_default()
    }

    /// Series in the page.
    pub fn count(&self) -> usize {
        self.ends.last().map_or(0, |&end| end as usize)
    }

    /// Where in the page series with this hash are.
    #[inline]
    pub fn find(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        let bucket = bucket_of(hash, self.page_bits, self.bucket_bits) as usize;
        let start = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
        let (width, packed) = (self.width(), self.packed());
        let wanted = hash & mask(width);
        (start as usize..self.ends[bucket] as usize).filter(move |&at| unpack(packed, at, width) == wanted)
    }

    /// The hashes of the `page`th page, in order.
    pub fn hashes(&self, page: u32) -> impl Iterator<Item = u32> + '_ {
        let (width, packed) = (self.width(), self.packed());
        let upper = move |bucket: usize| {
            let bits = u64::from(page) << self.bucket_bits | bucket as u64;
            (bits << width) as u32
        };
        let mut bucket = 0;
        (0..self.count()).map(move |at| {
            while self.ends[bucket] as usize <= at {
                bucket += 1;
            }
            upper(bucket) | unpack(packed, at, width)
        })
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.bytes.as_ref().len() + self.ends.len() * 4 + size_of::<Self>()
    }
}

impl<B: AsRef<[u8]>> Ids<B> {
    /// As [`Fingerprints::decode`].
    pub fn decode(bytes: B, from: usize, to: usize) -> Option<Self> {
        let payload = bytes.as_ref().get(from..to)?;
        let mut input = Input(payload);
        let count = usize::try_from(input.get()?).ok()?;
        let base = input.get_u32()?;
        let width = u32::from(input.byte()?);
        let bits = count.checked_mul(width as usize)?;
        if width > 32 || input.0.len() != bits.div_ceil(8) {
            return None;
        }
        let at = to - input.0.len();
        Some(Self {
            bytes,
            count,
            base,
            width,
            at,
        })
    }

    /// Ids in the page.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The `at`th id.
    pub fn get(&self, at: usize) -> SeriesId {
        let packed = self.bytes.as_ref().get(self.at..).unwrap_or_default();
        self.base.wrapping_add(unpack(packed, at, self.width))
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.bytes.as_ref().len() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(mut entries: Vec<(u32, SeriesId)>, bits: u32) -> usize {
        entries.sort_unstable();
        let mut bytes = 0;
        for page in 0..1u32 << bits {
            let of_page: Vec<_> = entries
                .iter()
                .copied()
                .filter(|(hash, _)| page_of_hash(*hash, bits) == page)
                .collect();
            let (mut prints, mut ids) = (vec![9], vec![9, 9]);
            encode(&of_page, bits, &mut prints, &mut ids);
            bytes += prints.len() + ids.len();
            let (to, ids_to) = (prints.len(), ids.len());
            prints.extend([7; 3]);
            ids.extend([7; 3]);
            let prints = Fingerprints::decode(&prints, 1, to, bits).expect("just written");
            let ids = Ids::decode(&ids, 2, ids_to).expect("just written");
            assert_eq!((prints.count(), ids.count()), (of_page.len(), of_page.len()));
            let back: Vec<_> = prints.hashes(page).zip((0..).map(|at| ids.get(at))).collect();
            assert_eq!(back, of_page);
            for (hash, id) in &of_page {
                assert!(prints.find(*hash).any(|at| ids.get(at) == *id));
                let strangers = prints.find(*hash).filter(|&at| of_page[at].0 != *hash).count();
                assert_eq!(strangers, 0, "all 32 bits are compared");
            }
        }
        bytes
    }

    #[test]
    fn tables_of_all_sizes_round_trip_in_33_bits_a_series() {
        for (count, bits) in [
            (0u32, 0),
            (1, 0),
            (15, 0),
            (17, 0),
            (4096, 0),
            (5000, 1),
            (40_000, 4),
        ] {
            let entries = (0..count)
                .map(|i| (i.wrapping_mul(2_654_435_761), i + 1000))
                .collect();
            let bytes = check(entries, bits);
            if count >= 4096 {
                assert!(
                    bytes < count as usize * 38 / 8,
                    "{bytes} bytes for {count} series"
                );
            }
        }
        let bits = [0, 1, PAGE_ENTRIES, PAGE_ENTRIES + 1, PAGE_ENTRIES * 3].map(page_bits);
        assert_eq!(bits, [0, 0, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn any_entries_round_trip(entries in prop::collection::vec((prop_oneof![any::<u32>(), 0u32..4, Just(u32::MAX)], any::<u32>()), 0..200), bits in 0u32..5) {
            check(entries, bits);
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), bits in 0u32..40, hash in any::<u32>()) {
            if let Some(prints) = Fingerprints::decode(&bytes, 0, bytes.len(), bits) {
                prints.find(hash).count();
                prints.hashes(0).count();
            }
            if let Some(ids) = Ids::decode(&bytes, 0, bytes.len()) {
                (0..ids.count() + 3).for_each(|at| { ids.get(at); });
            }
        }
    }
}
