//! A block of terms: values of one tag, sorted, each with the series that have it. Pure. Drawn in docs/formats/index.md.
//!
//! Values share what they begin with; a value of one series costs its id in a few bits. Walking over values does not look at
//! series.

use super::postings;
use super::squeeze::{squeeze, unsqueeze};
use super::table::{pack, packed_bytes, unpack};
use crate::block::bytes::{Input, put};
use crate::model::SeriesId;
use roaring::RoaringBitmap;

/// Values in a block.
const BLOCK_TERMS_MAX: usize = 2048;
/// Values after which a block ends. Tests want many blocks of few values.
const BLOCK_TERMS: usize = if cfg!(test) { 8 } else { BLOCK_TERMS_MAX };
/// Bytes of values after which a block ends.
const BLOCK_TEXT: usize = 48 << 10;
/// Bytes of sets after which a block ends.
const BLOCK_SETS: usize = 64 << 10;
/// A set that is longer is stored by itself.
const SET_BYTES_MAX: usize = if cfg!(test) { 20 } else { 8 << 10 };
/// No honest block has more text: it ends once it has [`BLOCK_TEXT`], and a value is at most 64 KiB.
const RAW_BYTES_MAX: usize = 256 << 10;

/// A block that is being written.
#[derive(Default)]
pub struct TermsBuilder {
    text: String,
    ends: Vec<u32>,
    /// For each term: its only series, or none.
    ones: Vec<Option<SeriesId>>,
    /// For each term with several: the bytes of its set; empty when it is stored by itself.
    sets: Vec<Vec<u8>>,
    set_bytes: usize,
}

impl TermsBuilder {
    /// Terms so far.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// Is it time to begin another block?
    pub fn is_full(&self) -> bool {
        self.count() >= BLOCK_TERMS || self.text.len() >= BLOCK_TEXT || self.set_bytes >= BLOCK_SETS
    }

    /// The first value.
    pub fn first(&self) -> &str {
        let end = self.ends.first().copied().unwrap_or(0);
        &self.text[..end as usize]
    }

    /// Adds a value, which is greater than all before, and its series. Gives back the set's bytes when they are too many to be
    /// in here: they must be stored beside.
    pub fn push(&mut self, value: &str, series: &RoaringBitmap) -> Option<Vec<u8>> {
        if series.len() == 1 {
            self.push_one(value, series.min().unwrap_or(0));
            return None;
        }
        self.push_value(value, None);
        let mut set = Vec::new();
        postings::encode(series, &mut set);
        if set.len() > SET_BYTES_MAX {
            self.sets.push(Vec::new());
            return Some(set);
        }
        self.set_bytes += set.len();
        self.sets.push(set);
        None
    }

    /// Adds a value of one series.
    pub fn push_one(&mut self, value: &str, series: SeriesId) {
        self.push_value(value, Some(series));
    }

    fn push_value(&mut self, value: &str, one: Option<SeriesId>) {
        self.text.push_str(value);
        self.ends.push(self.text.len() as u32);
        self.ones.push(one);
    }

    /// Appends the block and begins another.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        put(out, self.count() as u64);
        squeeze(&front_coded(&self.text, &self.ends), out);
        let ones: Vec<SeriesId> = self.ones.iter().flatten().copied().collect();
        put(out, ones.len() as u64);
        if !ones.is_empty() && ones.len() < self.count() {
            let mut bits = vec![0u8; self.count().div_ceil(8)];
            for (at, _) in self.ones.iter().enumerate().filter(|(_, one)| one.is_some()) {
                bits[at / 8] |= 1 << (at % 8);
            }
            out.extend(bits);
        }
        if let (Some(&base), Some(&top)) = (ones.iter().min(), ones.iter().max()) {
            let width = 32 - (top - base).leading_zeros();
            put(out, u64::from(base));
            out.push(width as u8);
            pack(ones.iter().map(|id| u64::from(id - base)), width, out);
        }
        self.sets.iter().for_each(|set| put(out, set.len() as u64));
        self.sets.iter().for_each(|set| out.extend_from_slice(set));
        *self = Self::default();
    }
}

/// Values of which each is what it shares with the one before, and the rest: all lengths first, then all rests.
pub(super) fn front_coded(text: &str, ends: &[u32]) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut shared, mut rests, mut rest_bytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut before, mut start): (&[u8], usize) = (&[], 0);
    for &end in ends {
        let value = &bytes[start..end as usize];
        let same = value.iter().zip(before).take_while(|(a, b)| a == b).count();
        put(&mut shared, same as u64);
        put(&mut rests, (value.len() - same) as u64);
        rest_bytes.extend_from_slice(&value[same..]);
        (before, start) = (value, end as usize);
    }
    shared.extend(rests);
    shared.extend(rest_bytes);
    shared
}

/// Reads `count` values that [`front_coded`] wrote: their text end to end, and where each ends. They must ascend.
pub(super) fn front_decoded(raw: &[u8], count: usize, text_max: usize) -> Option<(String, Vec<u32>)> {
    let mut input = Input(raw);
    let mut shared = Vec::with_capacity(count.min(raw.len()));
    for _ in 0..count {
        shared.push(input.get_count(text_max)?);
    }
    let mut rests = Vec::with_capacity(shared.len());
    for _ in 0..count {
        rests.push(input.get_count(raw.len())?);
    }
    let mut text: Vec<u8> = Vec::with_capacity(raw.len() * 2);
    let mut ends: Vec<u32> = Vec::with_capacity(shared.len());
    let (mut before, mut len) = (0, 0);
    for (same, rest) in shared.into_iter().zip(rests) {
        if same > len || text.len() + same + rest > text_max {
            return None;
        }
        let start = text.len();
        text.extend_from_within(before..before + same);
        text.extend_from_slice(input.take(rest)?);
        let ascends = text[before..start] < text[start..];
        if !ends.is_empty() && !ascends {
            return None;
        }
        ends.push(text.len() as u32);
        (before, len) = (start, text.len() - start);
    }
    let text = String::from_utf8(text).ok()?;
    let whole = input.is_empty() && ends.iter().all(|&end| text.is_char_boundary(end as usize));
    whole.then_some((text, ends))
}

/// The series of a term.
#[derive(Debug, PartialEq)]
pub enum Series<'a> {
    /// Just one.
    One(SeriesId),
    /// Several: bytes for [`postings::decode`].
    Set(&'a [u8]),
    /// Several, stored by themselves.
    Apart,
}

/// A block that was read.
#[derive(Debug)]
pub struct Terms {
    text: String,
    ends: Vec<u32>,
    /// For each term: its number among those with one series, or among the others with the upper bit set. Empty: all have one.
    numbers: Vec<u32>,
    base: SeriesId,
    width: u32,
    ones: Vec<u8>,
    /// Where the set of each term with several begins and ends.
    set_ends: Vec<u32>,
    sets: Vec<u8>,
}

const SEVERAL: u32 = 1 << 31;

impl Terms {
    /// Reads a payload. `None`: damaged.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        let count = input.get_count(BLOCK_TERMS_MAX)?;
        let raw = unsqueeze(&mut input, RAW_BYTES_MAX)?;
        let (text, ends) = front_decoded(&raw, count, RAW_BYTES_MAX)?;
        let one_count = input.get_count(count)?;
        let mut numbers = Vec::new();
        if one_count < count {
            let bits = if one_count == 0 {
                &[]
            } else {
                input.take(count.div_ceil(8))?
            };
            let (mut one, mut several) = (0, 0);
            for at in 0..count {
                if bits.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1) {
                    numbers.push(one);
                    one += 1;
                } else {
                    numbers.push(SEVERAL | several);
                    several += 1;
                }
            }
            if one as usize != one_count {
                return None;
            }
        }
        let (mut base, mut width, mut ones) = (0, 0, &[][..]);
        if one_count > 0 {
            base = input.get_u32()?;
            width = u32::from(input.byte()?);
            if width > 32 {
                return None;
            }
            ones = input.take(packed_bytes(one_count, width))?;
        }
        let mut set_ends = Vec::with_capacity(count - one_count);
        let mut end = 0u32;
        for _ in one_count..count {
            end = end.checked_add(input.get_count(payload.len())? as u32)?;
            set_ends.push(end);
        }
        (input.0.len() == end as usize).then(|| Self {
            text,
            ends,
            numbers,
            base,
            width,
            ones: ones.to_vec(),
            set_ends,
            sets: input.0.to_vec(),
        })
    }

    /// Values in it.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The `at`th value.
    #[inline]
    pub fn value(&self, at: usize) -> &str {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// The place of the first value that is not less.
    pub fn lower_bound(&self, value: &str) -> usize {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = (low + high) / 2;
            if self.value(middle) < value {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The series of the `at`th value.
    pub fn series(&self, at: usize) -> Series<'_> {
        let number = self.numbers.get(at).copied().unwrap_or(at as u32);
        if number & SEVERAL == 0 {
            let id = unpack(&self.ones, number as usize, self.width);
            return Series::One(self.base.wrapping_add(id));
        }
        let number = (number & !SEVERAL) as usize;
        let start = if number == 0 { 0 } else { self.set_ends[number - 1] };
        let set = &self.sets[start as usize..self.set_ends[number] as usize];
        if set.is_empty() {
            Series::Apart
        } else {
            Series::Set(set)
        }
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        let numbers = self.ends.len() + self.numbers.len() + self.set_ends.len();
        self.text.capacity() + numbers * 4 + self.ones.len() + self.sets.len() + size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(terms: &BTreeMap<String, RoaringBitmap>) -> usize {
        let mut builder = TermsBuilder::default();
        let mut apart = Vec::new();
        for (at, (value, series)) in terms.iter().enumerate() {
            if let Some(set) = builder.push(value, series) {
                assert_eq!(postings::decode(&mut Input(&set)).as_ref(), Some(series));
                apart.push(at);
            }
        }
        assert_eq!(builder.first(), terms.keys().next().map_or("", String::as_str));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let back = Terms::decode(&bytes).expect("just written");
        assert_eq!(back.count(), terms.len());
        for (at, (value, series)) in terms.iter().enumerate() {
            assert_eq!(back.value(at), value);
            assert_eq!(back.lower_bound(value), at);
            assert_eq!(back.lower_bound(&format!("{value}\0")), at + 1);
            match back.series(at) {
                Series::One(id) => assert_eq!(series.iter().collect::<Vec<_>>(), [id]),
                Series::Set(set) => assert_eq!(postings::decode(&mut Input(set)).as_ref(), Some(series)),
                Series::Apart => assert!(apart.contains(&at)),
            }
        }
        bytes.len()
    }

    fn set(ids: impl IntoIterator<Item = u32>) -> RoaringBitmap {
        ids.into_iter().collect()
    }

    #[test]
    fn blocks_of_all_shapes_round_trip() {
        check(&BTreeMap::new());
        check(&BTreeMap::from([("".into(), set([7]))]));
        check(&BTreeMap::from([
            ("a".into(), set([7, 9])),
            ("ab".into(), set([0..=3, 8..=9].into_iter().flatten())),
        ]));
        let scattered = |seed: u32| {
            set((0..400_000u32).filter(move |i| (i ^ seed).wrapping_mul(2_654_435_761) >> 30 == 0))
        };
        check(&BTreeMap::from([
            ("big".into(), scattered(1)),
            ("one".into(), set([5])),
            ("too".into(), scattered(2)),
        ]));
        let of = |i: u32| i.wrapping_mul(2_654_435_761);
        let bytes = check(
            &(0..2048)
                .map(|i| (format!("{:08x}", of(i)), set([of(i) >> 12])))
                .collect(),
        );
        assert!(bytes < 2048 * 6, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn any_block_round_trips(terms in prop::collection::btree_map("[abé]{0,5}", prop::collection::btree_set(0u32..90, 1..4), 0..60)) {
            check(&terms.into_iter().map(|(value, ids)| (value, set(ids))).collect());
        }

        #[test]
        fn damage_never_panics(flips in prop::collection::vec((0usize..4000, 1u8..), 1..4), cut in 0usize..4000) {
            let mut builder = TermsBuilder::default();
            for i in 0..200u32 {
                builder.push(&format!("host_{i:04}"), &set((0..i % 5 + 1).map(|n| n * 3 + i)));
            }
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            let cut = cut % bytes.len();
            for (at, xor) in flips {
                let at = at % bytes.len();
                bytes[at] ^= xor;
            }
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Some(terms) = Terms::decode(bytes) {
                    for at in 0..terms.count() {
                        terms.value(at);
                        if let Series::Set(set) = terms.series(at) {
                            postings::decode(&mut Input(set));
                        }
                    }
                }
            }
        }
    }
}
