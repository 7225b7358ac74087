//! An entropy coder: symbols of a small alphabet in as many bits as their frequency says (tabled asymmetric numeral
//! systems, Duda 2013). Pure.
//!
//! The decoder's step is a look-up, a shift and an addition, each waiting for the one before. So that the processor has
//! something to do meanwhile, eight states take turns, four in each of two streams of bits. The decoder runs forward through
//! the bits, so the encoder goes through the symbols backwards and writes what it found in the order the decoder reads it.

use super::bits::{BitReader, BitWriter};
use std::sync::LazyLock;

/// Symbols an alphabet may have.
pub const SYMBOLS_MAX: usize = 512;
/// Interleaved states: symbol `i` belongs to state `i % LANES`.
const LANES: usize = 8;
/// States of the first stream; the others are in the second. Their bits fit into one word.
const HALF: usize = LANES / 2;
/// The table has 2^this states at most.
const LOG_MAX: u32 = 12;
const LOG_MIN: u32 = 5;
const TABLE: usize = 1 << LOG_MAX;

/// How often each symbol of an alphabet comes, scaled to a power of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frequencies {
    log: u32,
    /// One a symbol, none zero.
    scaled: Vec<u32>,
}

impl Frequencies {
    /// From counts, none zero, of up to [`SYMBOLS_MAX`] symbols; `None` for an empty alphabet.
    pub fn new(counts: &[u32]) -> Option<Self> {
        let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        if counts.is_empty() || counts.len() > SYMBOLS_MAX || counts.contains(&0) {
            return None;
        }
        // Four states a symbol at least, and no more states than there is anything to tell by.
        let wanted = (counts.len() as u32 * 4).max((total / 2).min(2048) as u32);
        let log = (32 - (wanted - 1).leading_zeros()).clamp(LOG_MIN, LOG_MAX);
        let size = 1u64 << log;
        let scale = |&c: &u32| ((u64::from(c) * size + total / 2) / total).max(1) as u32;
        let mut scaled: Vec<u32> = counts.iter().map(scale).collect();
        // Rounding is made up for where it costs least: with the most frequent.
        let mut surplus = scaled.iter().map(|&f| i64::from(f)).sum::<i64>() - size as i64;
        while surplus != 0 {
            let most = scaled.iter_mut().max()?;
            let change = if surplus > 0 {
                surplus.min(i64::from(*most / 4).max(1))
            } else {
                surplus
            };
            *most = u32::try_from(i64::from(*most) - change).ok().filter(|&f| f > 0)?;
            surplus -= change;
        }
        Some(Self { log, scaled })
    }

    /// Symbols.
    pub fn len(&self) -> usize {
        self.scaled.len()
    }

    /// No symbol; there is no such alphabet.
    pub fn is_empty(&self) -> bool {
        self.scaled.is_empty()
    }

    /// Appends them; the number of symbols is the caller's to keep.
    pub fn put(&self, out: &mut BitWriter) {
        out.put(u64::from(self.log), 4);
        self.scaled.iter().for_each(|&f| out.put_gamma(f));
    }

    /// Reads what [`put`](Self::put) wrote.
    pub fn get(input: &mut BitReader<'_>, symbols: usize) -> Option<Self> {
        let log = input.get(4) as u32;
        if !(LOG_MIN..=LOG_MAX).contains(&log) || symbols == 0 || symbols > SYMBOLS_MAX {
            return None;
        }
        let mut scaled = Vec::with_capacity(symbols);
        for _ in 0..symbols {
            scaled.push(input.get_gamma().filter(|&f| f <= 1 << log)?);
        }
        let total: u32 = scaled.iter().sum();
        (total == 1 << log && !input.is_over()).then_some(Self { log, scaled })
    }

    /// Which symbol each state stands for: those of a symbol are spread evenly over the table.
    fn spread(&self) -> [u16; TABLE] {
        let size = 1usize << self.log;
        let step = (size >> 1) + (size >> 3) + 3;
        let mut states = [0u16; TABLE];
        let mut at = 0;
        for (symbol, &frequency) in self.scaled.iter().enumerate() {
            for _ in 0..frequency {
                states[at % TABLE] = symbol as u16;
                at = (at + step) & (size - 1);
            }
        }
        states
    }
}

/// What the encoder looks up.
struct EncodeTable {
    /// For each symbol: what to add to a state so that the number of bits to give out stands above bit 16, and what to add
    /// to the state shifted by them to have the place of the next state.
    starts: [(u32, u32); SYMBOLS_MAX],
    states: [u16; TABLE],
}

impl EncodeTable {
    fn new(frequencies: &Frequencies) -> Self {
        let (log, size) = (frequencies.log, 1u16 << frequencies.log);
        let mut table = Self {
            starts: [(0, 0); SYMBOLS_MAX],
            states: [0; TABLE],
        };
        let mut next = [0u16; SYMBOLS_MAX];
        let mut begin = 0u32;
        for (symbol, &frequency) in frequencies.scaled.iter().enumerate() {
            // A state is given out bit by bit until it is below twice the frequency.
            let most = if frequency == 1 {
                log
            } else {
                log - (frequency - 1).ilog2()
            };
            let bits = (most << 16).wrapping_sub(frequency << most);
            table.starts[symbol] = (bits, begin.wrapping_sub(frequency));
            next[symbol] = begin as u16;
            begin += frequency;
        }
        for (state, &symbol) in (size..size * 2).zip(&frequencies.spread()) {
            let at = &mut next[usize::from(symbol) % SYMBOLS_MAX];
            table.states[usize::from(*at) % TABLE] = state;
            *at += 1;
        }
        table
    }

    /// The next state. What is given out: its width above bit 16, the bits below.
    #[inline(always)]
    fn step(&self, state: &mut u32, symbol: u16) -> u32 {
        let (bits, start) = self.starts[usize::from(symbol) % SYMBOLS_MAX];
        let width = state.wrapping_add(bits) >> 16;
        let given = width << 16 | (*state & ((1 << width) - 1));
        *state = u32::from(self.states[start.wrapping_add(*state >> width) as usize % TABLE]);
        given
    }
}

/// Appends symbols, each below the number of frequencies: those of the first states here, those of the others there.
pub fn encode(symbols: &[u16], frequencies: &Frequencies, first: &mut BitWriter, second: &mut BitWriter) {
    let table = EncodeTable::new(frequencies);
    let (log, size) = (frequencies.log, 1u32 << frequencies.log);
    let mut lanes = [size; LANES];
    let mut given = vec![[0u32; LANES]; symbols.len().div_ceil(LANES)];
    for (symbols, given) in symbols.chunks(LANES).zip(&mut given).rev() {
        if let Ok(symbols) = <&[u16; LANES]>::try_from(symbols) {
            for i in 0..LANES {
                given[i] = table.step(&mut lanes[i], symbols[i]);
            }
        } else {
            for (i, &symbol) in symbols.iter().enumerate() {
                given[i] = table.step(&mut lanes[i], symbol);
            }
        }
    }
    let (low, high) = lanes.split_at(HALF);
    low.iter()
        .for_each(|state| first.put(u64::from(state - size), log));
    high.iter()
        .for_each(|state| second.put(u64::from(state - size), log));
    let together = |given: &[u32]| {
        let (mut word, mut filled) = (0u64, 0);
        for given in given {
            word |= u64::from(given & 0xFFFF) << filled;
            filled += given >> 16;
        }
        (word, filled)
    };
    first.put_all(given.iter().map(|given| together(&given[..HALF])));
    second.put_all(given.iter().map(|given| together(&given[HALF..])));
}

/// Reads `out.len()` symbols back. `None`: these are not the bits of so many symbols.
pub fn decode<'a>(
    first: &mut BitReader<'a>,
    second: &mut BitReader<'a>,
    frequencies: &Frequencies,
    out: &mut [u16],
) -> Option<()> {
    let (log, size) = (frequencies.log, 1u32 << frequencies.log);
    // Symbol, number of bits, and what they are added to. Of fixed size, so that no look-up needs a check.
    let mut table = [0u32; TABLE];
    let mut next = [0u32; SYMBOLS_MAX];
    next[..frequencies.len()].copy_from_slice(&frequencies.scaled);
    for (entry, &symbol) in table[..size as usize].iter_mut().zip(&frequencies.spread()) {
        let x = &mut next[usize::from(symbol) % SYMBOLS_MAX];
        let width = log - x.ilog2();
        *entry = u32::from(symbol) << 16 | width << 12 | ((*x << width) - size);
        *x += 1;
    }
    let mut lanes = [0u32; LANES];
    for (i, lane) in lanes.iter_mut().enumerate() {
        let input = if i < HALF { &mut *first } else { &mut *second };
        *lane = input.get(log) as u32;
    }
    let step = |lane: &mut u32, word: &mut u64, used: &mut u32| {
        let entry = table[*lane as usize % TABLE];
        let width = entry >> 12 & 0xF;
        *lane = (entry & 0xFFF) + (*word & ((1 << width) - 1)) as u32;
        *word >>= width;
        *used += width;
        (entry >> 16) as u16
    };
    let mut groups = out.chunks_exact_mut(LANES);
    for group in &mut groups {
        let (mut low, mut low_used) = (first.peek(), 0);
        let (mut high, mut high_used) = (second.peek(), 0);
        for i in 0..HALF {
            group[i] = step(&mut lanes[i], &mut low, &mut low_used);
            group[i + HALF] = step(&mut lanes[i + HALF], &mut high, &mut high_used);
        }
        first.skip(low_used);
        second.skip(high_used);
    }
    for (i, to) in groups.into_remainder().iter_mut().enumerate() {
        let input = if i < HALF { &mut *first } else { &mut *second };
        let (mut word, mut used) = (input.peek(), 0);
        *to = step(&mut lanes[i], &mut word, &mut used);
        input.skip(used);
    }
    // The encoder began with these.
    (!first.is_over() && !second.is_over() && lanes == [0; LANES]).then_some(())
}

/// Bits that symbols with these counts take, about.
pub fn estimate_bits(counts: &[u32]) -> f64 {
    let (mut total, mut sum) = (0u32, 0.0);
    for &count in counts.iter().filter(|&&c| c > 0) {
        total += count;
        sum += times_log(count);
    }
    times_log(total) - sum
}

/// n log2 n.
fn times_log(n: u32) -> f64 {
    static SMALL: LazyLock<Vec<f64>> = LazyLock::new(|| (0..1024).map(of).collect());
    fn of(n: u32) -> f64 {
        f64::from(n) * f64::from(n.max(1)).log2()
    }
    SMALL.get(n as usize).copied().unwrap_or_else(|| of(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(symbols: &[u16], alphabet: usize) -> usize {
        let mut counts = vec![0u32; alphabet];
        symbols.iter().for_each(|&s| counts[usize::from(s)] += 1);
        // Every symbol of the alphabet must come: the rest is given one occurrence.
        counts.iter_mut().for_each(|c| *c = (*c).max(1));
        let frequencies = Frequencies::new(&counts).expect("an alphabet");
        let mut out = BitWriter::default();
        frequencies.put(&mut out);
        let mut second = BitWriter::default();
        encode(symbols, &frequencies, &mut out, &mut second);
        let (bytes, second) = (out.finish(), second.finish());
        let mut input = BitReader::new(&bytes);
        let mut second_input = BitReader::new(&second);
        assert_eq!(Frequencies::get(&mut input, alphabet), Some(frequencies.clone()));
        let mut back = vec![9; symbols.len()];
        assert_eq!(
            decode(&mut input, &mut second_input, &frequencies, &mut back),
            Some(())
        );
        assert_eq!(back, symbols);
        assert_eq!(input.bytes_used(), bytes.len());
        assert_eq!(second_input.bytes_used(), second.len());
        bytes.len() + second.len()
    }

    #[test]
    fn skewed_symbols_take_their_entropy() {
        let skewed: Vec<u16> = (0..8192u32)
            .map(|i| {
                if i.wrapping_mul(2_654_435_761) >> 24 < 230 {
                    0
                } else {
                    1 + (i % 3) as u16
                }
            })
            .collect();
        let mut counts = [0u32; 4];
        skewed.iter().for_each(|&s| counts[usize::from(s)] += 1);
        let entropy = estimate_bits(&counts) / 8.0;
        let bytes = check(&skewed, 4) as f64;
        assert!(bytes < entropy * 1.01 + 20.0, "{bytes} bytes, entropy {entropy}");
        check(&[], 1);
        check(&[0; 1000], 1);
        check(&[3; 7], 5);
        check(&(0..SYMBOLS_MAX as u16).collect::<Vec<_>>(), SYMBOLS_MAX);
    }

    proptest! {
        #[test]
        fn any_symbols_round_trip(symbols in prop::collection::vec(0u16..40, 0..600), more in 0usize..50) {
            let alphabet = symbols.iter().max().map_or(1, |&s| usize::from(s) + 1) + more;
            check(&symbols, alphabet);
        }

        #[test]
        fn any_frequencies_are_scaled(counts in prop::collection::vec(prop_oneof![1u32..5, 1u32..1_000_000], 1..SYMBOLS_MAX)) {
            let f = Frequencies::new(&counts).expect("an alphabet");
            prop_assert_eq!(f.scaled.iter().sum::<u32>(), 1 << f.log);
            prop_assert!(!f.scaled.contains(&0));
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), symbols in 1usize..20) {
            let mut input = BitReader::new(&bytes);
            if let Some(f) = Frequencies::get(&mut input, symbols) {
                let mut second = input;
                let _ = decode(&mut input, &mut second, &f, &mut [0; 100]);
            }
        }
    }
}
