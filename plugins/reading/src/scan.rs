//! Looking for a byte of a few, and comparing with a text that is known, where only some bytes have to be passed: eight at a time, with
//! no call. Longer ways are memchr's.

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGH: u64 = u64::from_le_bytes([0x80; 8]);

/// Marks the bytes of a word that are this one. Behind the first of them others may be marked, too.
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * byte as u64);
    zero.wrapping_sub(ONES) & !zero & HIGH
}

/// Marks the bytes of a word that are less than `limit`, which is at most 128. Behind the first of them others may be marked, too.
#[inline(always)]
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGH
}

/// Where the first byte is that `marks` marks in words and `is` finds by itself; the length when there is none.
#[inline(always)]
fn first(bytes: &[u8], marks: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let mut at = 0;
    while let Some((eight, _)) = bytes[at..].split_first_chunk::<8>() {
        let marks = marks(u64::from_le_bytes(*eight));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes[at..].iter().position(|byte| is(*byte));
    rest.map_or(bytes.len(), |rest| at + rest)
}

/// Where the plain part of a JSON string ends: at a quote, a backslash or a control character, or with the bytes.
#[inline]
pub fn plain_end(bytes: &[u8]) -> usize {
    let marks = |word| below(word, b' ') | equal(word, b'"') | equal(word, b'\\');
    first(bytes, marks, |byte| byte < b' ' || byte == b'"' || byte == b'\\')
}

/// Where the first of these bytes is; the length when there is none.
#[inline]
pub fn any_of<const N: usize>(wanted: [u8; N], bytes: &[u8]) -> usize {
    let marks = |word| wanted.iter().fold(0, |marks, byte| marks | equal(word, *byte));
    first(bytes, marks, |byte| wanted.contains(&byte))
}

/// Do the bytes begin with this text?
#[inline]
pub fn begins_with(bytes: &[u8], text: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..text.len()) else {
        return false;
    };
    // The first and the last bytes, which overlap.
    #[inline(always)]
    fn ends<const N: usize>(bytes: &[u8], text: &[u8]) -> bool {
        bytes.first_chunk::<N>() == text.first_chunk() && bytes.last_chunk::<N>() == text.last_chunk()
    }
    match text.len() {
        0..4 => bytes.iter().zip(text).all(|(byte, wanted)| byte == wanted),
        4..8 => ends::<4>(bytes, text),
        8..16 => ends::<8>(bytes, text),
        16..=32 => ends::<16>(bytes, text),
        _ => bytes == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that are looked for and those beside them.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            30 => 0x20u8..0x7F,
            3 => any::<u8>(),
            1 => prop::sample::select(b"\"\\{}\n\x1F\x20\x80\xA0\xA2\xDC\xFF\x00!#[]|~".to_vec()),
        ];
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_first_is_found(bytes in bytes()) {
            let find = |is: fn(u8) -> bool| bytes.iter().position(|b| is(*b)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_end(&bytes), find(|b| b < 0x20 || b == b'"' || b == b'\\'));
            prop_assert_eq!(any_of([b'}', b'\\', b'{', b'\n'], &bytes), find(|b| b"}\\{\n".contains(&b)));
        }
    }

    #[test]
    fn beginnings_are_whole() {
        let bytes: Vec<u8> = (0..70u8).collect();
        for len in 0..=bytes.len() {
            assert!(begins_with(&bytes, &bytes[..len]));
            assert_eq!(begins_with(&bytes[..len], &bytes), len == bytes.len());
            for other in 0..len {
                let mut text = bytes[..len].to_vec();
                text[other] ^= 0x80;
                assert!(!begins_with(&bytes, &text), "byte {other} of {len}");
            }
        }
    }
}
