//! Integers and timestamps: constant, frame of reference, delta with frame of reference, pco.
//!
//! Numbers are taken in frames of [`FRAME`]. A frame stores its smallest number, a width, the numbers above the smallest
//! in that many bits, and the high bits of the few that do not fit (exceptions), as in patched frame of reference. So a
//! jump between two series in one chunk costs a few bytes, not a wider frame.

use super::bitpack::{FRAME, pack, packed_bytes, unpack};
use super::bytes::{Input, put, put_signed};
use super::{CHUNK_ROWS_MAX, Level};

const CONSTANT: u8 = 0;
const FRAMES: u8 = 1;
const DELTA_FRAMES: u8 = 2;
const PCO: u8 = 3;

/// Bytes guessed for an exception: its position and its high bits.
const EXCEPTION_BYTES: usize = 4;
/// pco must be smaller by a sixteenth to be worth its slower decoding.
const PCO_GAIN: usize = 16;
/// Fewer numbers are not worth pco's header.
const PCO_NUMBERS_MIN: usize = 256;

/// Appends numbers; their count is the caller's to keep. Unsigned numbers come in as their bit pattern.
pub fn encode(values: &[i64], level: Level, out: &mut Vec<u8>) {
    let Some(&first) = values.first() else { return };
    if values.iter().all(|&v| v == first) {
        out.push(CONSTANT);
        put_signed(out, first);
        return;
    }
    let deltas: Vec<i64> = values
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    let start = out.len();
    if estimate(&deltas) < estimate(values) {
        out.push(DELTA_FRAMES);
        put_signed(out, first);
        encode_frames(&deltas, out);
    } else {
        out.push(FRAMES);
        encode_frames(values, out);
    }
    if level == Level::Small && values.len() >= PCO_NUMBERS_MIN {
        let config = pco::ChunkConfig::default();
        if let Ok(bytes) = pco::standalone::simple_compress(values, &config)
            && bytes.len() + bytes.len() / PCO_GAIN < out.len() - start
        {
            out.truncate(start);
            out.push(PCO);
            put(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Reads `count` numbers.
pub fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<i64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    if count > CHUNK_ROWS_MAX {
        return None;
    }
    match input.byte()? {
        CONSTANT => Some(vec![input.get_signed()?; count]),
        FRAMES => decode_frames(input, count),
        DELTA_FRAMES => {
            let mut at = input.get_signed()?;
            let deltas = decode_frames(input, count - 1)?;
            let mut values = Vec::with_capacity(count);
            values.push(at);
            values.extend(deltas.into_iter().map(|delta| {
                at = at.wrapping_add(delta);
                at
            }));
            Some(values)
        }
        PCO => decode_pco(input, count),
        _ => None,
    }
}

/// Reads what pco wrote, behind its length in bytes.
pub(super) fn decode_pco<T: pco::data_types::Number + Default>(
    input: &mut Input<'_>,
    count: usize,
) -> Option<Vec<T>> {
    let len = input.get_count(input.0.len())?;
    let bytes = input.take(len)?;
    let mut values = vec![T::default(); count];
    let progress = pco::standalone::simple_decompress_into(bytes, &mut values).ok()?;
    (progress.n_processed == count && progress.finished).then_some(values)
}

/// How a frame will be stored: the width of its numbers, and how many exceed it.
struct Shape {
    base: i64,
    width: u32,
    exceptions: usize,
    bytes: usize,
}

fn shape(frame: &[i64]) -> Shape {
    let (mut base, mut top) = (frame[0], frame[0]);
    for &value in frame {
        base = base.min(value);
        top = top.max(value);
    }
    let full = 64 - (top.wrapping_sub(base) as u64).leading_zeros();
    let mut best = Shape {
        base,
        width: full,
        exceptions: 0,
        bytes: packed_bytes(frame.len(), full),
    };
    // Below 3 bits there is nothing to win by exceptions.
    if full > 2 {
        let mut of_width = [0u16; 65];
        for &value in frame {
            of_width[64 - (value.wrapping_sub(base) as u64).leading_zeros() as usize] += 1;
        }
        let mut exceptions = 0;
        for width in (0..full).rev() {
            exceptions += usize::from(of_width[width as usize + 1]);
            if exceptions > frame.len() / 4 {
                break;
            }
            let extra = EXCEPTION_BYTES + (full - width) as usize / 8;
            let bytes = packed_bytes(frame.len(), width) + exceptions * extra;
            if bytes < best.bytes {
                best = Shape {
                    base,
                    width,
                    exceptions,
                    bytes,
                };
            }
        }
    }
    best
}

fn estimate(values: &[i64]) -> usize {
    values.chunks(FRAME).map(|frame| shape(frame).bytes + 4).sum()
}

fn encode_frames(values: &[i64], out: &mut Vec<u8>) {
    let mut buffer = [0u64; FRAME];
    for frame in values.chunks(FRAME) {
        let shape = shape(frame);
        let offsets = &mut buffer[..frame.len()];
        for (offset, &value) in offsets.iter_mut().zip(frame) {
            *offset = value.wrapping_sub(shape.base) as u64;
        }
        out.push(shape.width as u8);
        out.push(shape.exceptions as u8);
        put_signed(out, shape.base);
        if shape.exceptions > 0 {
            let mask = (1u64 << shape.width) - 1;
            for (at, offset) in offsets.iter_mut().enumerate() {
                if *offset > mask {
                    out.push(at as u8);
                    put(out, *offset >> shape.width);
                    *offset &= mask;
                }
            }
        }
        pack(offsets, shape.width, out);
    }
}

fn decode_frames(input: &mut Input<'_>, count: usize) -> Option<Vec<i64>> {
    let mut values = vec![0i64; count];
    let mut buffer = [0u64; FRAME];
    for frame in values.chunks_mut(FRAME) {
        let offsets = &mut buffer[..frame.len()];
        let (width, exceptions) = (u32::from(input.byte()?), usize::from(input.byte()?));
        let base = input.get_signed()?;
        let mut patches = input.clone();
        for _ in 0..exceptions {
            input.byte()?;
            input.get()?;
        }
        unpack(input, width, offsets)?;
        for _ in 0..exceptions {
            let at = usize::from(patches.byte()?);
            let high = patches.get()?.checked_shl(width)?;
            *offsets.get_mut(at)? |= high;
        }
        for (value, &offset) in frame.iter_mut().zip(&*offsets) {
            *value = base.wrapping_add(offset as i64);
        }
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64], level: Level) -> usize {
        let mut bytes = Vec::new();
        encode(values, level, &mut bytes);
        let mut input = Input(&bytes);
        assert_eq!(decode(&mut input, values.len()).as_deref(), Some(values));
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn shapes_of_real_data_are_small() {
        let regular: Vec<i64> = (0..8192)
            .map(|i| 1_700_000_000_000_000_000 + i * 10_000_000_000)
            .collect();
        assert!(check(&regular, Level::Fast) < 1100);
        let gauge: Vec<i64> = (0..8192i64).map(|i| 50 + i * 7919 % 50).collect();
        assert!(check(&gauge, Level::Fast) < 8192 * 7 / 8);
        let jumps: Vec<i64> = (0..8192i64)
            .map(|i| i / 60 * 77_777_777_777 % 999_999_999_999 + i % 60 * 3)
            .collect();
        assert!(check(&jumps, Level::Fast) < 8192);
        assert_eq!(check(&[7; 8192], Level::Fast), 2);
        check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN], Level::Fast);
        check(&[], Level::Small);
    }

    #[test]
    fn pco_is_taken_where_it_is_smaller() {
        let skewed: Vec<i64> = (0..8192i64)
            .map(|i| if i % 97 == 0 { i % 31 } else { 4 })
            .collect();
        assert!(check(&skewed, Level::Small) < check(&skewed, Level::Fast));
    }

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let number =
            prop_oneof![4 => 0i64..50, 1 => any::<i64>(), 1 => Just(i64::MIN), 2 => 1_000_000i64..1_000_100];
        prop::collection::vec(number, 0..600)
    }

    proptest! {
        #[test]
        fn any_numbers_round_trip(values in numbers(), small in any::<bool>()) {
            check(&values, if small { Level::Small } else { Level::Fast });
        }

        #[test]
        fn damage_never_panics(values in numbers(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>()) {
            let mut bytes = Vec::new();
            encode(&values, Level::Small, &mut bytes);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
                if let Some(read) = decode(&mut Input(&bytes), values.len()) {
                    prop_assert_eq!(read.len(), values.len());
                }
            }
        }
    }
}
