//! Streams of bits, lowest first: numbers of varying width end to end.

/// Bits that a writer takes, and a reader gives, at a time.
pub const WIDTH_MAX: u32 = 56;

/// Appends bits to bytes.
#[derive(Debug, Default)]
pub struct BitWriter {
    /// What is written, and zeroes behind it.
    bytes: Vec<u8>,
    /// Bytes that are full.
    full: usize,
    /// The bits behind them, fewer than eight.
    word: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of a number whose others are zero; at most [`WIDTH_MAX`].
    #[inline]
    pub fn put(&mut self, value: u64, width: u32) {
        self.put_all(std::iter::once((value, width)));
    }

    /// Appends many, as (value, width). Without a branch that depends on the widths: nobody could foresee it.
    #[inline(always)]
    pub fn put_all(&mut self, numbers: impl ExactSizeIterator<Item = (u64, u32)>) {
        let room = self.full + (numbers.len() + 1) * 8;
        if self.bytes.len() < room {
            self.bytes.resize(room.max(self.bytes.len() * 2), 0);
        }
        // In locals, or the compiler must assume that writing the bytes changes them.
        let (bytes, mut full, mut word, mut filled) =
            (&mut self.bytes[..], self.full, self.word, self.filled);
        for (value, width) in numbers {
            debug_assert!(width <= WIDTH_MAX && value >> width == 0);
            word |= value << filled;
            filled += width;
            if let Some(bytes) = bytes.get_mut(full..full + 8) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            full += (filled / 8) as usize;
            word >>= filled & !7;
            filled %= 8;
        }
        (self.full, self.word, self.filled) = (full, word, filled);
    }

    /// Appends up to 64 bits.
    #[inline(always)]
    pub fn put_wide(&mut self, value: u64, width: u32) {
        if width <= WIDTH_MAX {
            self.put(value, width);
        } else {
            self.put(value & 0xFFFF_FFFF, 32);
            self.put(value >> 32, width - 32);
        }
    }

    /// Appends a number from 1 on: small ones take few bits (Elias gamma).
    pub fn put_gamma(&mut self, value: u32) {
        debug_assert!(value > 0);
        let width = 32 - value.leading_zeros();
        self.put(0, width - 1);
        self.put(1, 1);
        self.put(u64::from(value) & ((1 << (width - 1)) - 1), width - 1);
    }

    /// The bytes, the last one filled up with zeroes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.full + self.filled.div_ceil(8) as usize);
        self.bytes
    }
}

/// Reads bits back. Past the end there are zeroes; [`BitReader::is_over`] says so.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// From the first bit on.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// At least [`WIDTH_MAX`] bits from here on, lowest first; the reader stays.
    #[inline(always)]
    pub fn peek(&self) -> u64 {
        let byte = self.at / 8;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(word) => u64::from_le_bytes(word.try_into().unwrap_or_default()),
            None => self.peek_near_end(byte),
        };
        word >> (self.at % 8)
    }

    #[cold]
    fn peek_near_end(&self, byte: usize) -> u64 {
        let mut word = [0; 8];
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let len = rest.len().min(8);
        word[..len].copy_from_slice(&rest[..len]);
        u64::from_le_bytes(word)
    }

    /// Steps over bits.
    #[inline(always)]
    pub fn skip(&mut self, width: u32) {
        self.at += width as usize;
    }

    /// Up to [`WIDTH_MAX`] bits.
    #[inline(always)]
    pub fn get(&mut self, width: u32) -> u64 {
        let value = self.peek() & ((1 << width) - 1);
        self.skip(width);
        value
    }

    /// Up to 64 bits.
    #[inline]
    pub fn get_wide(&mut self, width: u32) -> u64 {
        if width <= WIDTH_MAX {
            self.get(width)
        } else {
            let low = self.get(32);
            low | self.get(width - 32) << 32
        }
    }

    /// What [`BitWriter::put_gamma`] wrote; `None`: no such number.
    pub fn get_gamma(&mut self) -> Option<u32> {
        let zeroes = self.peek().trailing_zeros();
        if zeroes >= 32 {
            return None;
        }
        self.skip(zeroes + 1);
        Some(1 << zeroes | self.get(zeroes) as u32)
    }

    /// Was more read than there is?
    pub fn is_over(&self) -> bool {
        self.at > self.bytes.len() * 8
    }

    /// Bytes that were begun.
    pub fn bytes_used(&self) -> usize {
        self.at.div_ceil(8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_widths_round_trip(numbers in prop::collection::vec((any::<u64>(), 0u32..=64, 1u32..), 0..100)) {
            let mut writer = BitWriter::default();
            let mask = |value: u64, width: u32| if width == 0 { 0 } else { value & u64::MAX >> (64 - width) };
            for (value, width, gamma) in &numbers {
                writer.put_wide(mask(*value, *width), *width);
                writer.put_gamma(*gamma);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (value, width, gamma) in &numbers {
                prop_assert_eq!(reader.get_wide(*width), mask(*value, *width));
                prop_assert_eq!(reader.get_gamma(), Some(*gamma));
            }
            prop_assert!(!reader.is_over());
            prop_assert_eq!(reader.bytes_used(), bytes.len());
            prop_assert_eq!(reader.get_gamma(), None);
            reader.skip(8);
            prop_assert!(reader.is_over());
        }
    }
}
