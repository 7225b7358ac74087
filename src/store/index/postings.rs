//! A set of series ids as bytes: runs, gaps in frames, or bits, whichever is shortest. Pure. Drawn in docs/formats/index.md.

use crate::block::bytes::{Input, put};
use crate::block::{CHUNK_ROWS_MAX, Level, ints};
use crate::model::SeriesId;
use roaring::RoaringBitmap;

const RUNS: u8 = 0;
const LIST: u8 = 1;
const BITS: u8 = 2;

/// Appends a set; nothing at all for an empty one.
pub fn encode(set: &RoaringBitmap, out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (set.min(), set.max()) else {
        return;
    };
    let start = out.len();
    encode_runs(set, out);
    let runs = out.len() - start;
    // A run of one costs two bytes or more: when there are as many runs as that, the others may be shorter.
    if runs > 8 && runs as u64 * 2 > set.len() {
        encode_list(set, out);
        let list = out.len() - start - runs;
        let bits = (last / 8 - first / 8 + 1) as usize + 8;
        let shortest = runs.min(list).min(bits);
        if shortest == runs {
            out.truncate(start + runs);
        } else if shortest == list {
            out.drain(start..start + runs);
        } else {
            out.truncate(start);
            encode_bits(set, first, last, out);
        }
    }
}

fn encode_runs(set: &RoaringBitmap, out: &mut Vec<u8>) {
    out.push(RUNS);
    let mut ranges = set.iter();
    let mut list = Vec::new();
    while let Some(range) = ranges.next_range() {
        list.push(range);
    }
    put(out, list.len() as u64);
    let mut end = 0;
    for range in list {
        put(out, u64::from(range.start() - end));
        put(out, u64::from(range.end() - range.start()));
        end = *range.end();
    }
}

fn encode_list(set: &RoaringBitmap, out: &mut Vec<u8>) {
    out.push(LIST);
    put(out, set.len());
    let ids: Vec<i64> = set.iter().map(i64::from).collect();
    for chunk in ids.chunks(CHUNK_ROWS_MAX) {
        ints::encode(chunk, Level::Fast, out);
    }
}

fn encode_bits(set: &RoaringBitmap, first: SeriesId, last: SeriesId, out: &mut Vec<u8>) {
    out.push(BITS);
    let (from, len) = (first / 8, (last / 8 - first / 8 + 1) as usize);
    put(out, u64::from(from));
    put(out, len as u64);
    let start = out.len();
    out.resize(start + len, 0);
    for id in set {
        out[start + (id / 8 - from) as usize] |= 1 << (id % 8);
    }
}

/// Reads a set to the end of the input.
pub fn decode(input: &mut Input<'_>) -> Option<RoaringBitmap> {
    if input.is_empty() {
        return Some(RoaringBitmap::new());
    }
    let mut set = RoaringBitmap::new();
    match input.byte()? {
        RUNS => {
            let runs = input.get_count(input.0.len())?;
            let mut end = 0u32;
            for _ in 0..runs {
                let start = end.checked_add(input.get_u32()?)?;
                end = start.checked_add(input.get_u32()?)?;
                set.insert_range(start..=end);
            }
        }
        LIST => {
            // Equal steps take a few bytes, however many there are; but ids ascend, and there are 2^32 of them.
            let mut left = input.get_count(u32::MAX as usize)?;
            while left > 0 {
                let count = left.min(CHUNK_ROWS_MAX);
                let ids = ints::decode(input, count)?;
                let in_range = ids.iter().all(|&id| u32::try_from(id).is_ok());
                if !in_range || set.append(ids.into_iter().map(|id| id as u32)).is_err() {
                    return None;
                }
                left -= count;
            }
        }
        BITS => {
            let from = input.get_u32()?;
            let len = input.get_count(input.0.len())?;
            let bytes = input.take(len)?;
            let last = u64::from(from) * 8 + len as u64 * 8;
            if last > u64::from(u32::MAX) + 1 {
                return None;
            }
            set = RoaringBitmap::from_lsb0_bytes(from * 8, bytes);
        }
        _ => return None,
    }
    input.is_empty().then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(set: &RoaringBitmap) -> usize {
        let mut bytes = Vec::new();
        encode(set, &mut bytes);
        assert_eq!(decode(&mut Input(&bytes)).as_ref(), Some(set));
        bytes.len()
    }

    #[test]
    fn sets_of_all_shapes_round_trip_and_are_short() {
        // (ids, bytes at most)
        let cases: Vec<(RoaringBitmap, usize)> = vec![
            (RoaringBitmap::new(), 0),
            ([u32::MAX].into_iter().collect(), 8),
            ((0..1_000_000).collect(), 8),
            ((0..100_000).step_by(50).collect(), 120),
            (
                (0..300_000u32)
                    .filter(|i| i.wrapping_mul(2_654_435_761) >> 31 == 1)
                    .collect(),
                40_000,
            ),
            (
                (0..300_000u32)
                    .filter(|i| i.wrapping_mul(2_654_435_761) >> 25 == 1)
                    .collect(),
                3_000,
            ),
            (
                (u32::MAX - 70_000..=u32::MAX).filter(|i| i % 3 > 0).collect(),
                9_000,
            ),
        ];
        for (set, most) in cases {
            let bytes = check(&set);
            assert!(bytes <= most, "{} ids take {bytes} bytes", set.len());
        }
    }

    proptest! {
        #[test]
        fn any_set_round_trips(ids in prop::collection::btree_set(prop_oneof![0u32..3000, any::<u32>()], 0..300)) {
            check(&ids.into_iter().collect());
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), kind in 0u8..4) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            decode(&mut Input(&bytes));
        }
    }
}
