//! Looking for a byte of a few, and comparing with a text that is known, where only some bytes have to be passed: eight or sixteen at a
//! time, with no call. Longer ways are memchr's.

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

/// A body as text. That it is UTF-8 is looked at with vectors, which do not say where it is not: then it is looked at again.
///
/// # Errors
/// It is not UTF-8 from some byte on.
#[inline]
pub fn text(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
    simdutf8::basic::from_utf8(bytes).or_else(|_| std::str::from_utf8(bytes))
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

/// A text that many are compared with: one word is read and compared where others are gone through by their length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    text: &'a [u8],
    /// Its first bytes, and which bits of a word they take.
    first: u128,
    mask: u128,
}

const WORD: usize = size_of::<u128>();

impl<'a> Known<'a> {
    /// To compare with this text.
    pub fn new(text: &'a [u8]) -> Self {
        let mut first = [0; WORD];
        let len = text.len().min(WORD);
        first[..len].copy_from_slice(&text[..len]);
        let mask = match len {
            WORD => u128::MAX,
            _ => (1 << (8 * len)) - 1,
        };
        Self {
            text,
            first: u128::from_le_bytes(first),
            mask,
        }
    }

    /// The text.
    #[inline]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Its bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// There is none: everything begins with it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Do the bytes begin with it?
    #[inline(always)]
    pub fn begins(&self, bytes: &[u8]) -> bool {
        let Some(head) = bytes.first_chunk::<WORD>() else {
            return bytes.starts_with(self.text);
        };
        if u128::from_le_bytes(*head) & self.mask != self.first {
            return false;
        }
        let len = self.text.len();
        if len <= WORD {
            return true;
        }
        if len > 2 * WORD {
            return bytes.starts_with(self.text);
        }
        // The last bytes, of which some were compared already.
        let last = bytes
            .get(len - WORD..len)
            .and_then(|last| last.first_chunk::<WORD>());
        last.is_some_and(|last| Some(last) == self.text.last_chunk())
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
        fn text_is_what_the_standard_library_says_it_is(plain in "[ -~]{0,200}", bytes in bytes(), rest in any::<String>()) {
            for piece in [plain.as_bytes(), rest.as_bytes(), &[plain.as_bytes(), rest.as_bytes(), &bytes].concat()] {
                prop_assert_eq!(text(piece), std::str::from_utf8(piece));
            }
        }

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
            let known = Known::new(&bytes[..len]);
            for end in 0..=bytes.len() {
                assert_eq!(known.begins(&bytes[..end]), end >= len, "{len} bytes in {end}");
            }
            for other in 0..len {
                let mut text = bytes[..len].to_vec();
                text[other] ^= 0x80;
                assert!(!Known::new(&text).begins(&bytes), "byte {other} of {len}");
            }
        }
    }
}
