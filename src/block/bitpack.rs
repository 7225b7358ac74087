//! Packs up to [`FRAME`] unsigned numbers into `width` bits each.
//!
//! The numbers of a full frame take turns in lanes: four lanes of 32-bit words up to that width, two of 64-bit words above. Each lane is
//! a stream of bits of its own, and all have the same shifts at the same time, so that a vector register does all lanes at once,
//! in and out. The words of the lanes alternate. A shorter frame is one stream.

// Loops over lanes are written with indices: iterators that are zipped are not always inlined, and this is where it costs.
#![allow(clippy::needless_range_loop)]

use super::bytes::Input;

/// Numbers in a full frame.
pub const FRAME: usize = 128;

/// Numbers of at most so many bits lie in eight bytes, wherever in a byte they begin.
const ONE_READ_BITS: u32 = 57;

/// Bytes that `count` numbers of `width` bits take.
pub fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends the low `width` bits of each number; the others must be zero.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + packed_bytes(values.len(), width), 0);
    let packed = &mut out[start..];
    match width {
        0 => {}
        1..=32 if values.len() == FRAME => pack_narrow(values, width, packed),
        _ if values.len() == FRAME => pack_wide(values, width, packed),
        _ => pack_stream(values, width, packed),
    }
}

/// Reads `out.len()` numbers back, `base` added to each. `None` when the bytes end.
pub fn unpack(input: &mut Input<'_>, width: u32, base: i64, out: &mut [i64]) -> Option<()> {
    if width > 64 {
        return None;
    }
    let packed = input.take(packed_bytes(out.len(), width))?;
    match width {
        0 => out.fill(base),
        1..=32 if out.len() == FRAME => unpack_narrow(packed, width, base, out),
        _ if out.len() == FRAME => unpack_wide(packed, width, base, out),
        _ => unpack_stream(packed, width, base, out),
    }
    Some(())
}

/// Four lanes of 32-bit words.
fn pack_narrow(values: &[u64], width: u32, packed: &mut [u8]) {
    let (mut word, mut filled) = ([0u32; 4], 0);
    let mut packed = packed.chunks_exact_mut(16);
    for row in values.chunks_exact(4) {
        let mut rest = [0u32; 4];
        for lane in 0..4 {
            let value = row[lane] as u32;
            word[lane] |= value << filled;
            // In two steps, since a shift by all bits is none.
            rest[lane] = value >> 1 >> (31 - filled);
        }
        filled += width;
        if filled >= 32 {
            for (bytes, word) in packed.next().unwrap_or_default().chunks_exact_mut(4).zip(word) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            word = rest;
            filled -= 32;
        }
    }
}

fn unpack_narrow(packed: &[u8], width: u32, base: i64, out: &mut [i64]) {
    // One row of words more than there can be, since each row of numbers looks at two.
    let mut words = [[0u32; 4]; 33];
    for (words, bytes) in words.iter_mut().zip(packed.chunks_exact(16)) {
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
    }
    let mask = u32::MAX >> (32 - width);
    for (row, out) in (0..).zip(out.chunks_exact_mut(4)) {
        let (at, shift) = ((row * width / 32) as usize % 32, row * width % 32);
        let (low, high) = (words[at], words[at + 1]);
        for lane in 0..4 {
            let value = (low[lane] >> shift | high[lane] << 1 << (31 - shift)) & mask;
            out[lane] = base.wrapping_add(i64::from(value));
        }
    }
}

/// Two lanes of 64-bit words.
fn pack_wide(values: &[u64], width: u32, packed: &mut [u8]) {
    let (mut word, mut filled) = ([0u64; 2], 0);
    let mut packed = packed.chunks_exact_mut(16);
    for row in values.chunks_exact(2) {
        let mut rest = [0u64; 2];
        for lane in 0..2 {
            let value = row[lane];
            word[lane] |= value << filled;
            // In two steps, since a shift by all bits is none.
            rest[lane] = value >> 1 >> (63 - filled);
        }
        filled += width;
        if filled >= 64 {
            for (bytes, word) in packed.next().unwrap_or_default().chunks_exact_mut(8).zip(word) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            word = rest;
            filled -= 64;
        }
    }
}

fn unpack_wide(packed: &[u8], width: u32, base: i64, out: &mut [i64]) {
    // One row of words more than there can be, since each row of numbers looks at two.
    let mut words = [[0u64; 2]; 65];
    for (words, bytes) in words.iter_mut().zip(packed.chunks_exact(16)) {
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
    }
    let mask = u64::MAX >> (64 - width);
    for (row, out) in (0..).zip(out.chunks_exact_mut(2)) {
        let (at, shift) = ((row * width / 64) as usize % 64, row * width % 64);
        let (low, high) = (words[at], words[at + 1]);
        for lane in 0..2 {
            let value = (low[lane] >> shift | high[lane] << 1 << (63 - shift)) & mask;
            out[lane] = base.wrapping_add(value as i64);
        }
    }
}

fn pack_stream(values: &[u64], width: u32, packed: &mut [u8]) {
    let (mut word, mut filled, mut at) = (0u64, 0, 0);
    for &value in values {
        word |= value << filled;
        filled += width;
        if filled >= 64 {
            packed[at..at + 8].copy_from_slice(&word.to_le_bytes());
            at += 8;
            filled -= 64;
            // In two steps, since a shift by all bits is none.
            word = value >> 1 >> (width - filled - 1);
        }
    }
    let rest = &mut packed[at..];
    rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
}

fn unpack_stream(packed: &[u8], width: u32, base: i64, out: &mut [i64]) {
    if width > ONE_READ_BITS {
        return unpack_wide_stream(packed, width, base, out);
    }
    let mask = u64::MAX >> (64 - width);
    let value = |word: [u8; 8], bit: usize| {
        let value = u64::from_le_bytes(word) >> (bit % 8) & mask;
        base.wrapping_add(value as i64)
    };
    let (mut values, mut bit) = (out.iter_mut(), 0);
    while let Some(word) = packed.get(bit / 8..).and_then(<[u8]>::first_chunk) {
        let Some(out) = values.next() else { return };
        *out = value(*word, bit);
        bit += width as usize;
    }
    // No eight bytes are left.
    for out in values {
        let rest = packed.get(bit / 8..).unwrap_or_default();
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        *out = value(word, bit);
        bit += width as usize;
    }
}

/// Numbers that may lie in nine bytes.
fn unpack_wide_stream(packed: &[u8], width: u32, base: i64, out: &mut [i64]) {
    let mask = u64::MAX >> (64 - width);
    let (mut word, mut filled, mut bytes) = (0u128, 0, packed.iter());
    for value in out {
        while filled < width {
            word |= u128::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        *value = base.wrapping_add((word as u64 & mask) as i64);
        word >>= width;
        filled -= width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_length_round_trips() {
        for width in 0..=64u32 {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            for len in [0, 1, 7, 64, 100, 127, FRAME] {
                let values: Vec<u64> = (0..len as u64)
                    .map(|i| (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask)
                    .collect();
                let mut packed = Vec::new();
                pack(&values, width, &mut packed);
                assert_eq!(
                    packed.len(),
                    packed_bytes(len, width),
                    "{len} numbers of {width} bits"
                );
                let mut back = vec![0; len];
                assert_eq!(unpack(&mut Input(&packed), width, 7, &mut back), Some(()));
                let expected: Vec<i64> = values.iter().map(|&v| (v as i64).wrapping_add(7)).collect();
                assert_eq!(back, expected, "{len} numbers of {width} bits");
                if !packed.is_empty() {
                    assert_eq!(unpack(&mut Input(&packed[1..]), width, 7, &mut back), None);
                }
            }
        }
        assert_eq!(unpack(&mut Input(&[0; 2000]), 65, 0, &mut [0; FRAME]), None);
    }
}
