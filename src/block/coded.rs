//! Numbers as symbols: each becomes a symbol of a small alphabet, which [`super::tans`] stores in as many bits as it is
//! worth, and the bits that the symbol leaves open. Pure; drawn in docs/formats/block.md.
//!
//! Three ways to make symbols. **Near**: by distance from a centre, exact for small distances, four symbols for each power of
//! two beyond, below and above the centre apart. It suits steps between neighbours. **Even**: ranges of equal width from the
//! smallest number to the largest. It suits numbers that keep to a range, and the upper bits of floats. **Exact**: one symbol
//! for each different number, where few differ.

use super::bitpack::{FRAME, pack, unpack};
use super::bits::{BitReader, BitWriter, WIDTH_MAX};
use super::bytes::{Input, put, put_bytes, put_signed};
use super::tans::{self, Frequencies, SYMBOLS_MAX};

/// How symbols are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By distance from here.
    Near(i64),
    /// By ranges of a width of 2^this.
    Even(u32),
    /// Each by itself; up to [`EXACT_MAX`] may differ.
    Exact,
}

const NEAR: u8 = 0;
const EVEN: u8 = 1;
const EXACT: u8 = 2;

/// Distances below have a symbol each.
const NEAR_EXACT: u64 = 16;
/// Symbols of the near scheme on one side of the centre.
const NEAR_SYMBOLS: usize = 256;
/// Symbols of the even scheme.
const EVEN_SYMBOLS: usize = 256;
/// Numbers that may differ in the exact scheme.
pub const EXACT_MAX: usize = 256;
/// Bits guessed for an alphabet, for each of its ranges, and for each number by itself.
const ALPHABET_BITS: f64 = 150.0;
const RANGE_BITS: f64 = 9.0;
const EXACT_BITS: f64 = 36.0;
/// Slots in which the exact scheme looks a number up.
const EXACT_SLOTS: usize = 1024;

/// The near symbol of a distance, without its sign, and how many bits it leaves open. Without a branch: which of the two it
/// is cannot be foreseen.
#[inline(always)]
fn near_symbol(distance: u64) -> (usize, u32) {
    let log = 63 - (distance | 1).leading_zeros();
    let open = log.saturating_sub(2);
    let far = (log * 4) as usize + (distance >> open & 3) as usize;
    let is_exact = distance < NEAR_EXACT;
    let symbol = if is_exact { distance as usize } else { far };
    (symbol, if is_exact { 0 } else { open })
}

/// The smallest distance of a near symbol, and how many bits it leaves open.
#[inline]
fn near_range(symbol: usize) -> (u64, u32) {
    match symbol.checked_sub(NEAR_EXACT as usize) {
        None => (symbol as u64, 0),
        Some(_) => {
            let (log, quarter) = (symbol as u32 / 4, symbol as u64 % 4);
            (1 << log | quarter << (log - 2), log - 2)
        }
    }
}

/// The width of even ranges for numbers that span so much, as a power of two.
fn even_width(span: u64) -> u32 {
    (64 - span.leading_zeros()).saturating_sub(EVEN_SYMBOLS.ilog2())
}

/// What numbers would take, judged by a sample.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// The best scheme.
    pub scheme: Scheme,
    /// What suits nearly as well and takes any numbers, if the sample did not show all there is.
    pub fallback: Scheme,
    /// Bits a number.
    pub bits: f64,
}

/// Which scheme suits `count` numbers of which these are a sample, in order.
pub fn choose(sorted: &[i64], count: usize) -> Estimate {
    let centre = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let mut counts = [0u32; SYMBOLS_MAX];
    let mut open = 0u64;
    for &value in sorted {
        let distance = value.wrapping_sub(centre);
        let (symbol, width) = near_symbol(distance.unsigned_abs());
        open += u64::from(width);
        counts[symbol + if distance < 0 { NEAR_SYMBOLS } else { 0 }] += 1;
    }
    let cost = |counts: &[u32], open: f64, symbol_bits: f64| {
        let used = counts.iter().filter(|&&c| c > 0).count() as f64;
        // A sample shows less than there is (Miller and Madow 1955).
        let unseen = (used - 1.0).max(0.0) / (2.0 * std::f64::consts::LN_2);
        let bits = tans::estimate_bits(counts) + open + unseen;
        bits / sorted.len().max(1) as f64 + (used * symbol_bits + ALPHABET_BITS) / count.max(1) as f64
    };
    let near = Scheme::Near(centre);
    let mut best = Estimate {
        scheme: near,
        fallback: near,
        bits: cost(&counts, open as f64, RANGE_BITS),
    };
    let mut consider = |scheme, bits: f64| {
        // What the sample did not show costs the others more.
        if bits < best.bits * (1.0 - 1.0 / 64.0) {
            best = Estimate { scheme, bits, ..best };
        }
    };
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else {
        return best;
    };
    let lowest = even_width(max.wrapping_sub(*min) as u64);
    for width in [lowest, lowest + 2] {
        let range = |v: &i64| v.wrapping_sub(*min) as u64 >> width;
        let counts: Vec<u32> = sorted
            .chunk_by(|a, b| range(a) == range(b))
            .map(|c| c.len() as u32)
            .collect();
        let open = sorted.len() as f64 * f64::from(width);
        consider(Scheme::Even(width), cost(&counts, open, RANGE_BITS));
    }
    let equal: Vec<u32> = sorted.chunk_by(|a, b| a == b).map(|c| c.len() as u32).collect();
    let alone = equal.iter().filter(|&&count| count == 1).count();
    // Numbers seen once tell of others that were not seen.
    if lowest > 0 && equal.len() <= EXACT_MAX / 2 && alone * 16 <= sorted.len() {
        consider(Scheme::Exact, cost(&equal, 0.0, EXACT_BITS));
    }
    best
}

/// Appends numbers; their count is the caller's to keep. False, and nothing appended: they are not what the scheme is for
/// (too many differ, or they are so far apart that there would be too many ranges).
pub fn encode(values: &[i64], scheme: Scheme, out: &mut Vec<u8>) -> bool {
    let mut symbols = Vec::with_capacity(values.len());
    let mut open = BitWriter::default();
    let mut even = Vec::new();
    match scheme {
        Scheme::Near(centre) => {
            out.push(NEAR);
            put_signed(out, centre);
            let mut all = 0;
            symbols.extend(values.iter().map(|value| {
                let distance = value.wrapping_sub(centre);
                all |= distance.unsigned_abs();
                let below = if distance < 0 { NEAR_SYMBOLS } else { 0 };
                (near_symbol(distance.unsigned_abs()).0 + below) as u16
            }));
            put_open(values, centre, all, &symbols, &mut open);
        }
        Scheme::Even(width) => {
            let first = values.first().copied().unwrap_or(0);
            let bounds = |(min, max): (i64, i64), &v: &i64| (min.min(v), max.max(v));
            let (min, max) = values.iter().fold((first, first), bounds);
            if even_width(max.wrapping_sub(min) as u64) > width {
                return false;
            }
            out.push(EVEN);
            put_signed(out, min);
            out.push(width as u8);
            let above = |value: &i64| value.wrapping_sub(min) as u64;
            symbols.extend(values.iter().map(|v| (above(v) >> width) as u16));
            let mask = (1u64 << width) - 1;
            let mut buffer = [0u64; FRAME];
            for frame in values.chunks(FRAME) {
                let low = &mut buffer[..frame.len()];
                low.iter_mut()
                    .zip(frame)
                    .for_each(|(low, v)| *low = above(v) & mask);
                pack(low, width, &mut even);
            }
        }
        Scheme::Exact => {
            let Some(different) = exact_symbols(values, &mut symbols) else {
                return false;
            };
            out.push(EXACT);
            put(out, different.len() as u64);
            different.iter().for_each(|&v| put_signed(out, v));
        }
    }
    put_symbols(&mut symbols, out);
    match scheme {
        Scheme::Even(_) => put_bytes(out, &even),
        _ => put_bytes(out, &open.finish()),
    }
    true
}

/// Appends the bits that near symbols leave open. `all` is all bits of all distances.
fn put_open(values: &[i64], centre: i64, all: u64, symbols: &[u16], out: &mut BitWriter) {
    let counts = count(symbols);
    let mut widths = [0u32; SYMBOLS_MAX];
    let mut with_open = 0;
    for (symbol, width) in (0..).zip(&mut widths) {
        *width = near_range(symbol % NEAR_SYMBOLS).1;
        with_open += if *width > 0 { counts[symbol] as usize } else { 0 };
    }
    let bits = |(&symbol, value): (&u16, &i64)| {
        let width = widths[usize::from(symbol) % SYMBOLS_MAX];
        let distance = value.wrapping_sub(centre).unsigned_abs();
        (distance & ((1 << width) - 1), width)
    };
    let numbers = symbols.iter().zip(values).map(bits);
    if with_open < values.len() / 16 || near_symbol(all).1 > WIDTH_MAX {
        numbers
            .filter(|(_, width)| *width > 0)
            .for_each(|(bits, width)| out.put_wide(bits, width));
    } else {
        out.put_all(numbers);
    }
}

/// How often each symbol comes.
fn count(symbols: &[u16]) -> [u32; SYMBOLS_MAX] {
    // In two tables, or equal neighbours wait for each other.
    let (mut counts, mut others) = ([0u32; SYMBOLS_MAX], [0u32; SYMBOLS_MAX]);
    for pair in symbols.chunks(2) {
        counts[usize::from(pair[0]) % SYMBOLS_MAX] += 1;
        if let Some(&other) = pair.get(1) {
            others[usize::from(other) % SYMBOLS_MAX] += 1;
        }
    }
    counts
        .iter_mut()
        .zip(others)
        .for_each(|(count, other)| *count += other);
    counts
}

/// The different numbers in the order they come, and which of them each is.
fn exact_symbols(values: &[i64], symbols: &mut Vec<u16>) -> Option<Vec<i64>> {
    const EMPTY: u16 = u16::MAX;
    let mut slots = [(0i64, EMPTY); EXACT_SLOTS];
    let mut different = Vec::new();
    for &value in values {
        let mut at = ((value as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize % EXACT_SLOTS;
        loop {
            let (known, symbol) = slots[at];
            if symbol == EMPTY {
                if different.len() == EXACT_MAX {
                    return None;
                }
                slots[at] = (value, different.len() as u16);
                symbols.push(different.len() as u16);
                different.push(value);
                break;
            }
            if known == value {
                symbols.push(symbol);
                break;
            }
            at = (at + 1) % EXACT_SLOTS;
        }
    }
    Some(different)
}

/// Which symbols there are, how often, and the symbols.
fn put_symbols(symbols: &mut [u16], out: &mut Vec<u8>) {
    let counts = count(symbols);
    let used: Vec<u16> = (0..SYMBOLS_MAX as u16)
        .filter(|&s| counts[usize::from(s)] > 0)
        .collect();
    let mut place = [0u16; SYMBOLS_MAX];
    (0..).zip(&used).for_each(|(at, &s)| place[usize::from(s)] = at);
    let frequencies: Vec<u32> = used.iter().map(|&s| counts[usize::from(s)]).collect();
    put(out, used.len() as u64);
    let (mut bits, mut second) = (BitWriter::default(), BitWriter::default());
    let mut last = 0;
    for &symbol in &used {
        bits.put_gamma(u32::from(symbol - last) + 1);
        last = symbol;
    }
    if let Some(frequencies) = Frequencies::new(&frequencies) {
        frequencies.put(&mut bits);
        symbols
            .iter_mut()
            .for_each(|s| *s = place[usize::from(*s) % SYMBOLS_MAX]);
        tans::encode(symbols, &frequencies, &mut bits, &mut second);
    }
    put_bytes(out, &bits.finish());
    put_bytes(out, &second.finish());
}

/// Reads `out.len()` numbers, at least one.
pub fn decode(input: &mut Input<'_>, out: &mut [i64]) -> Option<()> {
    let scheme = input.byte()?;
    let (mut base, mut width, mut exact) = (0, 0, Vec::new());
    match scheme {
        NEAR => base = input.get_signed()?,
        EVEN => {
            base = input.get_signed()?;
            width = u32::from(input.byte()?);
        }
        EXACT => {
            for _ in 0..input.get_count(EXACT_MAX)? {
                exact.push(input.get_signed()?);
            }
        }
        _ => return None,
    }
    if width > 64 - EVEN_SYMBOLS.ilog2() {
        return None;
    }
    let used = input.get_count(SYMBOLS_MAX)?;
    let mut bits = BitReader::new(input.get_bytes()?);
    let mut second = BitReader::new(input.get_bytes()?);
    let open = input.get_bytes()?;
    // Of fixed size, so that no look-up needs a check.
    let mut meanings = [Meaning::default(); SYMBOLS_MAX];
    let mut symbol = 0usize;
    for meaning in meanings.iter_mut().take(used) {
        symbol += bits.get_gamma()? as usize - 1;
        meaning.nearest = match scheme {
            EXACT => *exact.get(symbol)?,
            EVEN if symbol < EVEN_SYMBOLS => base.wrapping_add(((symbol as u64) << width) as i64),
            NEAR if symbol < 2 * NEAR_SYMBOLS => {
                let (low, open) = near_range(symbol % NEAR_SYMBOLS);
                meaning.factor = if symbol < NEAR_SYMBOLS { 1 } else { -1 };
                meaning.width = open;
                meaning.mask = (1 << open) - 1;
                base.wrapping_add((low as i64).wrapping_mul(meaning.factor))
            }
            _ => return None,
        }
    }
    let frequencies = Frequencies::get(&mut bits, used)?;
    let mut symbols = vec![0u16; out.len()];
    tans::decode(&mut bits, &mut second, &frequencies, &mut symbols)?;
    if scheme == NEAR {
        return near_numbers(open, &symbols, &meanings, out);
    }
    for (to, &s) in out.iter_mut().zip(&symbols) {
        *to = meanings[usize::from(s) % SYMBOLS_MAX].nearest;
    }
    let mut open = Input(open);
    if scheme == EVEN {
        let mut buffer = [0i64; FRAME];
        for frame in out.chunks_mut(FRAME) {
            let low = &mut buffer[..frame.len()];
            unpack(&mut open, width, 0, low)?;
            for (to, low) in frame.iter_mut().zip(low) {
                *to = to.wrapping_add(*low);
            }
        }
    }
    open.is_empty().then_some(())
}

/// What a symbol stands for: a number, and how many open bits are added to it, or taken from it.
#[derive(Clone, Copy, Default)]
struct Meaning {
    nearest: i64,
    factor: i64,
    mask: u64,
    width: u32,
}

fn near_numbers(
    open: &[u8],
    symbols: &[u16],
    meanings: &[Meaning; SYMBOLS_MAX],
    out: &mut [i64],
) -> Option<()> {
    // So that the reader need not look out for the end at the last numbers, which with few open bits are all of them.
    let mut padded = Vec::with_capacity(open.len() + 8);
    padded.extend_from_slice(open);
    padded.extend_from_slice(&[0; 8]);
    let mut bits = BitReader::new(&padded);
    let are_wide = meanings.iter().any(|m| m.width > WIDTH_MAX);
    if are_wide || open.len() * 8 < out.len() / 2 {
        for (to, &s) in out.iter_mut().zip(symbols) {
            let m = &meanings[usize::from(s) % SYMBOLS_MAX];
            *to = m.nearest;
            if m.width > 0 {
                *to = to.wrapping_add((bits.get_wide(m.width) as i64).wrapping_mul(m.factor));
            }
        }
    } else {
        // Without a branch: where open bits are common, nobody can foresee which symbols have some.
        for (to, &s) in out.iter_mut().zip(symbols) {
            let m = &meanings[usize::from(s) % SYMBOLS_MAX];
            let above = (bits.peek() & m.mask) as i64;
            bits.skip(m.width);
            *to = m.nearest.wrapping_add(above.wrapping_mul(m.factor));
        }
    }
    (bits.bytes_used() <= open.len()).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64], scheme: Scheme) -> usize {
        let mut bytes = Vec::new();
        assert!(encode(values, scheme, &mut bytes), "{scheme:?}");
        let mut input = Input(&bytes);
        let mut back = vec![7; values.len()];
        assert_eq!(decode(&mut input, &mut back), Some(()), "{scheme:?}");
        assert_eq!(back, values, "{scheme:?}");
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn near_symbols_cover_every_distance() {
        let mut next = 0u64;
        for symbol in 0..NEAR_SYMBOLS {
            let (low, open) = near_range(symbol);
            assert_eq!(low, next, "{symbol}");
            assert_eq!(near_symbol(low), (symbol, open));
            let last = low + ((1u64 << open) - 1);
            assert_eq!(near_symbol(last), (symbol, open));
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0, "up to the last of 64 bits");
    }

    #[test]
    fn numbers_take_what_they_are_worth() {
        let steps: Vec<i64> = (0..8192u64).map(|i| (i * i % 7) as i64 - 3).collect();
        for scheme in [Scheme::Near(0), Scheme::Near(2), Scheme::Even(0), Scheme::Exact] {
            // Four different steps, the rarest twice as rare as the others: below two bits each.
            let bytes = check(&steps, scheme);
            assert!(bytes < 8192 * 2 / 8 + 40, "{scheme:?}: {bytes}");
        }
        for scheme in [
            Scheme::Near(5),
            Scheme::Near(i64::MIN),
            Scheme::Even(56),
            Scheme::Exact,
        ] {
            check(&[i64::MIN, i64::MAX, 0, -1, 1], scheme);
            check(&[i64::MIN], scheme);
        }
        let many: Vec<i64> = (0..=EXACT_MAX as i64).map(|i| i * i).collect();
        let mut out = vec![1];
        assert!(!encode(&many, Scheme::Exact, &mut out) && out == [1]);
        check(&many[1..], Scheme::Exact);
        assert!(!encode(&many, Scheme::Even(7), &mut out) && out == [1]);
        check(&many, Scheme::Even(9));
    }

    #[test]
    fn the_scheme_follows_the_numbers() {
        let chosen = |values: &mut [i64]| {
            values.sort_unstable();
            choose(values, 8192).scheme
        };
        let random = |i: u64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as i64;
        let mut two: Vec<i64> = (0..500)
            .map(|i| random(i) % 5 + random(i + 1000) % 2 * 200)
            .collect();
        assert_eq!(chosen(&mut two), Scheme::Even(0));
        let mut levels: Vec<i64> = (0..500)
            .map(|i| [200, 404, 50_000][random(i) as usize % 3])
            .collect();
        assert_eq!(chosen(&mut levels), Scheme::Exact);
        let far = |i: u64| random(i) % (2 << (random(i + 7) % 20));
        let mut steps: Vec<i64> = (0..500).map(|i| far(i) - far(i + 1000)).collect();
        assert!(matches!(chosen(&mut steps), Scheme::Near(_)));
        assert!(choose(&[], 10).bits > 0.0);
    }

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let number = prop_oneof![4 => -20i64..50, 1 => any::<i64>(), 1 => Just(i64::MIN), 2 => 1_000_000i64..1_000_100];
        prop::collection::vec(number, 1..600)
    }

    proptest! {
        #[test]
        fn any_numbers_round_trip(values in numbers(), centre in prop_oneof![Just(0i64), any::<i64>()], even in any::<bool>()) {
            check(&values, if even { Scheme::Even(56) } else { Scheme::Near(centre) });
            let few: Vec<i64> = values.iter().map(|v| v % 50).collect();
            check(&few, Scheme::Exact);
        }

        #[test]
        fn damage_never_panics(values in numbers(), scheme in 0..3, at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>()) {
            let mut bytes = Vec::new();
            let few: Vec<i64> = values.iter().map(|v| v % 100).collect();
            match scheme {
                0 => encode(&values, Scheme::Near(values[0]), &mut bytes),
                1 => encode(&values, Scheme::Even(56), &mut bytes),
                _ => encode(&few, Scheme::Exact, &mut bytes),
            };
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
            let _ = decode(&mut Input(&bytes), &mut vec![0; values.len()]);
        }
    }
}
