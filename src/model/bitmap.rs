//! A growable bit set over row positions: which rows of a column have a value.

/// Bits in words of 64, lowest bit first; bits at and past `len` are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// `len` rows, all set or all clear.
    pub fn filled(len: usize, value: bool) -> Self {
        let mut words = vec![if value { u64::MAX } else { 0 }; len.div_ceil(64)];
        if value && !len.is_multiple_of(64) {
            *words.last_mut().expect("len > 0 here, so there is a word") = (1u64 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    /// From words, lowest bit first. Bits past `len` are cleared; missing words are zero.
    pub fn from_words(mut words: Vec<u64>, len: usize) -> Self {
        words.resize(len.div_ceil(64), 0);
        if !len.is_multiple_of(64) {
            *words.last_mut().expect("len > 0 here, so there is a word") &= (1u64 << (len % 64)) - 1;
        }
        Self { words, len }
    }

    /// Rows covered, set or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No rows at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words behind it.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Is row `index` set? Rows past the end are not.
    #[inline]
    pub fn get(&self, index: usize) -> bool {
        self.words
            .get(index / 64)
            .is_some_and(|w| w >> (index % 64) & 1 == 1)
    }

    /// Sets or clears a row. Panics when `index >= len`, which is a bug of the caller.
    #[inline]
    pub fn set(&mut self, index: usize, value: bool) {
        assert!(index < self.len, "bit {index} of {}", self.len);
        let mask = 1u64 << (index % 64);
        if value {
            self.words[index / 64] |= mask;
        } else {
            self.words[index / 64] &= !mask;
        }
    }

    /// Adds one row at the end.
    #[inline]
    pub fn push(&mut self, value: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if value {
            *self.words.last_mut().expect("a word was pushed when needed") |= 1u64 << (self.len % 64);
        }
        self.len += 1;
    }

    /// Adds `count` equal rows at the end.
    pub fn extend_filled(&mut self, count: usize, value: bool) {
        for _ in 0..count {
            self.push(value);
        }
    }

    /// Rows that are set.
    pub fn count_ones(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Positions of set rows, ascending.
    pub fn iter_ones(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(i, &word)| {
            std::iter::successors((word != 0).then_some(word), |w| {
                let rest = w & (w - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |w| i * 64 + w.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vec_of_bool() {
        let bits: Vec<bool> = (0..200).map(|i| i % 3 == 0 || i == 64).collect();
        let mut map = Bitmap::new();
        bits.iter().for_each(|&b| map.push(b));
        assert_eq!((0..200).map(|i| map.get(i)).collect::<Vec<_>>(), bits);
        assert_eq!(map.count_ones(), bits.iter().filter(|b| **b).count());
        let ones: Vec<usize> = (0..200).filter(|&i| bits[i]).collect();
        assert_eq!(map.iter_ones().collect::<Vec<_>>(), ones);
        map.set(1, true);
        assert!(map.get(1) && !map.get(5000));
    }

    #[test]
    fn filled_and_from_words_clear_the_tail() {
        assert_eq!(Bitmap::filled(70, true).count_ones(), 70);
        assert_eq!(Bitmap::from_words(vec![u64::MAX; 3], 65).count_ones(), 65);
        assert_eq!(Bitmap::filled(0, true).count_ones(), 0);
    }
}
