//! Frames: numbers bit-packed [`FRAME`] at a time. A frame stores its smallest number, a width, the numbers above the
//! smallest in that many bits, and the high bits of the few that do not fit (exceptions), as in patched frame of reference. So
//! a jump between two series in one chunk costs a few bytes, not a wider frame. Written and read at memory speed.

use super::bitpack::{FRAME, pack, packed_bytes, unpack};
use super::bytes::{Input, put, put_signed};

/// Bytes guessed for an exception: its position and its high bits.
const EXCEPTION_BYTES: usize = 4;
/// Bytes guessed for what a frame begins with.
const FRAME_BYTES: usize = 4;

/// How a frame will be stored: the width of its numbers, and how many exceed it.
pub(super) struct Shape {
    base: i64,
    width: u32,
    exceptions: usize,
    bytes: usize,
}

impl Shape {
    /// Bytes the frame will take, about.
    pub(super) fn estimate(&self) -> usize {
        self.bytes + FRAME_BYTES
    }
}

/// Chooses how to store a frame, and leaves its numbers above the smallest in `offsets`.
pub(super) fn shape(frame: &[i64], offsets: &mut [u64]) -> Shape {
    let (mut base, mut top) = (frame[0], frame[0]);
    for &value in frame {
        base = base.min(value);
        top = top.max(value);
    }
    for (offset, &value) in offsets.iter_mut().zip(frame) {
        *offset = value.wrapping_sub(base) as u64;
    }
    let full = 64 - (top.wrapping_sub(base) as u64).leading_zeros();
    let mut best = Shape {
        base,
        width: full,
        exceptions: 0,
        bytes: packed_bytes(frame.len(), full),
    };
    // Below 3 bits there is nothing to win by exceptions, nor where many need the last bit.
    let exceptions_max = frame.len() / 4;
    if full > 2 && offsets.iter().map(|&v| v >> (full - 1)).sum::<u64>() <= exceptions_max as u64 {
        let mut of_width = [0u16; 65];
        for &offset in &*offsets {
            of_width[64 - offset.leading_zeros() as usize] += 1;
        }
        let mut exceptions = 0;
        for width in (0..full).rev() {
            exceptions += usize::from(of_width[width as usize + 1]);
            if exceptions > exceptions_max {
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

/// Bytes that numbers take, about.
pub fn estimate_bytes(values: &[i64]) -> usize {
    let mut offsets = [0u64; FRAME];
    let frames = values.chunks(FRAME);
    frames
        .map(|frame| shape(frame, &mut offsets[..frame.len()]).estimate())
        .sum()
}

/// Appends numbers; their count is the caller's to keep.
pub fn encode(values: &[i64], out: &mut Vec<u8>) {
    let mut buffer = [0u64; FRAME];
    for frame in values.chunks(FRAME) {
        let offsets = &mut buffer[..frame.len()];
        let shape = shape(frame, offsets);
        put_frame(&shape, offsets, out);
    }
}

/// Appends one frame; `offsets` are what [`shape`] left.
pub(super) fn put_frame(shape: &Shape, offsets: &mut [u64], out: &mut Vec<u8>) {
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

/// Bits that numbers have, signs aside: tells whether steps are smaller than what they are steps of.
pub(super) fn bits_of(values: &[i64]) -> u64 {
    let bits = |v: &i64| u64::from(64 - v.unsigned_abs().leading_zeros());
    values.iter().map(bits).sum()
}

/// Reads `out.len()` numbers.
pub fn decode(input: &mut Input<'_>, out: &mut [i64]) -> Option<()> {
    for frame in out.chunks_mut(FRAME) {
        let (width, exceptions) = (u32::from(input.byte()?), usize::from(input.byte()?));
        let base = input.get_signed()?;
        let mut patches = input.clone();
        for _ in 0..exceptions {
            input.byte()?;
            input.get()?;
        }
        unpack(input, width, base, frame)?;
        for _ in 0..exceptions {
            let at = usize::from(patches.byte()?);
            let high = patches.get()?.checked_shl(width)?;
            let value = frame.get_mut(at)?;
            *value = value.wrapping_add(high as i64);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_numbers_round_trip(values in prop::collection::vec(prop_oneof![9 => 0i64..100, 1 => any::<i64>()], 0..500)) {
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            let mut input = Input(&bytes);
            let mut back = vec![1; values.len()];
            prop_assert_eq!(decode(&mut input, &mut back), Some(()));
            prop_assert!(input.is_empty());
            prop_assert_eq!(back, values);
        }
    }
}
