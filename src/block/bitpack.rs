//! Packs up to [`FRAME`] unsigned numbers into `width` bits each. Full frames take an unrolled path for each width.

use super::bytes::Input;

/// Numbers in a full frame.
pub const FRAME: usize = 128;
/// Numbers in a group; a full frame has two.
const GROUP: usize = 64;

/// Calls a function that is generic over the width.
macro_rules! by_width {
    ($width:expr, $function:ident($($argument:expr),*)) => {
        by_width!(@ $width, $function, ($($argument),*),
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64)
    };
    (@ $width:expr, $function:ident, $arguments:tt, $($w:literal)*) => {
        match $width {
            $($w => by_width!(@call $function, $w, $arguments),)*
            _ => unreachable!("widths are checked before"),
        }
    };
    (@call $function:ident, $w:literal, ($($argument:expr),*)) => { $function::<$w>($($argument),*) };
}
/// Bytes that `count` numbers of `width` bits take.
pub fn packed_bytes(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends the low `width` bits of each number; the others must be zero.
pub fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    if let (Ok(frame), 1..=64) = (<&[u64; FRAME]>::try_from(values), width) {
        let (low, high) = frame.split_at(GROUP);
        for group in [low, high] {
            let group = group.try_into().expect("half a frame is a group");
            by_width!(width, pack_group(group, out));
        }
        return;
    }
    let end = out.len() + packed_bytes(values.len(), width);
    let (mut word, mut filled) = (0u128, 0);
    for &value in values {
        word |= u128::from(value) << filled;
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
    debug_assert_eq!(out.len(), end);
}

/// Reads `out.len()` numbers back. `None` when the bytes end.
pub fn unpack(input: &mut Input<'_>, width: u32, out: &mut [u64]) -> Option<()> {
    if width > 64 {
        return None;
    }
    let bytes = input.take(packed_bytes(out.len(), width))?;
    if width == 0 {
        out.fill(0);
        return Some(());
    }
    if out.len() == FRAME {
        for (group, packed) in out
            .chunks_exact_mut(GROUP)
            .zip(bytes.chunks_exact(8 * width as usize))
        {
            let group = group.try_into().expect("chunks of a group's length");
            by_width!(width, unpack_group(packed, group));
        }
        return Some(());
    }
    let mask = u64::MAX >> (64 - width);
    let (mut word, mut filled, mut bytes) = (0u128, 0, bytes.iter());
    for value in out {
        while filled < width {
            word |= u128::from(*bytes.next()?) << filled;
            filled += 8;
        }
        *value = word as u64 & mask;
        word >>= width;
        filled -= width;
    }
    Some(())
}

fn pack_group<const W: usize>(values: &[u64; GROUP], out: &mut Vec<u8>) {
    let mut words = [0u64; W];
    for (i, value) in values.iter().enumerate() {
        let (at, shift) = (i * W / 64, i * W % 64);
        words[at] |= value << shift;
        if shift + W > 64 {
            words[at + 1] |= value >> (64 - shift);
        }
    }
    words
        .iter()
        .for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn unpack_group<const W: usize>(packed: &[u8], values: &mut [u64; GROUP]) {
    let mut words = [0u64; W];
    for (word, bytes) in words.iter_mut().zip(packed.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    }
    let mask = u64::MAX >> (64 - W);
    for (i, unpacked) in values.iter_mut().enumerate() {
        let (at, shift) = (i * W / 64, i * W % 64);
        let mut value = words[at] >> shift;
        if shift + W > 64 {
            value |= words[at + 1] << (64 - shift);
        }
        *unpacked = value & mask;
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
                assert_eq!(unpack(&mut Input(&packed), width, &mut back), Some(()));
                assert_eq!(back, values, "{len} numbers of {width} bits");
                if !packed.is_empty() {
                    assert_eq!(unpack(&mut Input(&packed[1..]), width, &mut back), None);
                }
            }
        }
        assert_eq!(unpack(&mut Input(&[0; 2000]), 65, &mut [0; FRAME]), None);
    }
}
