//! Floats, lossless to the bit: constant, decimals scaled to integers with an exception list, raw, or, where it is smaller, as
//! the integers that sort as they do.

use super::bitpack::FRAME;
use super::bytes::{Input, put};
use super::{CHUNK_ROWS_MAX, Level, ints};

const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const RAW: u8 = 2;
const ORDERED: u8 = 3;

/// Digits after the point that are tried.
const DIGITS_MAX: usize = 15;
const POWERS: [f64; DIGITS_MAX + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];
/// Added to a number of less than 2^51, this rounds it to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
/// Integers below are rounded right by [`ROUND`].
const ROUND_MAX: f64 = 2_251_799_813_685_248.0;
/// Half of 2^52: below it, integers are converted by way of [`MAGIC`].
const SMALL: i64 = 1 << 51;
/// 1.5 * 2^52.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// Numbers looked at to choose the scale.
const SAMPLE: usize = 64;
/// Numbers from whose digits those of all are guessed.
const GUESSED_FROM: usize = 4;
/// One in so many may be an exception before decimals are given up.
const EXCEPTION_SHARE: usize = 16;
/// Integers must be smaller than raw by a sixteenth to be worth their slower decoding.
const ORDERED_GAIN: usize = 16;

/// Appends numbers; their count is the caller's to keep.
pub fn encode(values: &[f64], level: Level, out: &mut Vec<u8>) {
    encode_series(values, &[0], level, out);
}

/// As [`encode`], of numbers of several series one after the other; see [`ints::encode_series`].
pub(super) fn encode_series(values: &[f64], starts: &[u32], level: Level, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        out.push(CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    if encode_decimal(values, starts, level, out) {
        return;
    }
    if level == Level::Small {
        let start = out.len();
        let integers: Vec<i64> = values.iter().map(|v| ordered(v.to_bits())).collect();
        out.push(ORDERED);
        ints::encode(&integers, level, out);
        let len = out.len() - start;
        if len + len / ORDERED_GAIN < values.len() * 8 {
            return;
        }
        out.truncate(start);
    }
    out.push(RAW);
    values
        .iter()
        .for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
}

/// Maps the bits of floats to integers that sort as the floats do, and back.
#[inline]
fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ (bits >> 63) & i64::MAX
}

/// Reads `count` numbers.
pub fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<f64>> {
    decode_series(input, count, &[0])
}

/// Reads what [`encode_series`] wrote, if it was told where series begin.
pub(super) fn decode_series(input: &mut Input<'_>, count: usize, starts: &[u32]) -> Option<Vec<f64>> {
    if count == 0 {
        return Some(Vec::new());
    }
    if count > CHUNK_ROWS_MAX {
        return None;
    }
    match input.byte()? {
        CONSTANT => Some(vec![f64::from_bits(get_bits(input)?); count]),
        DECIMAL => decode_decimal(input, count, starts),
        RAW => {
            let bytes = input.take(count * 8)?;
            let float = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("chunks of eight"));
            Some(bytes.chunks_exact(8).map(float).collect())
        }
        ORDERED => {
            let float = |i: i64| f64::from_bits(ordered(i as u64) as u64);
            Some(ints::decode(input, count)?.into_iter().map(float).collect())
        }
        _ => None,
    }
}

fn get_bits(input: &mut Input<'_>) -> Option<u64> {
    Some(u64::from_le_bytes(input.take(8)?.try_into().ok()?))
}

/// The integer that stands for a number at a scale, and whether it gives exactly that number back.
#[inline(always)]
fn scaled(value: f64, power: f64) -> (i64, bool) {
    let shifted = value * power + ROUND;
    let rounded = shifted - ROUND;
    // -0.0 comes back as 0.0, which has other bits.
    let exact = (rounded / power).to_bits() == value.to_bits() && rounded.abs() < ROUND_MAX;
    (shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i64, exact)
}

/// The integers that stand for numbers at a scale; whether all give exactly the numbers back.
fn scale(values: &[f64], power: f64, into: &mut [i64]) -> bool {
    let mut all = true;
    for (integer, &value) in into.iter_mut().zip(values) {
        let (scaled, exact) = scaled(value, power);
        *integer = scaled;
        all &= exact;
    }
    all
}

fn needs_more(value: f64, digits: usize) -> bool {
    !scaled(value, POWERS[digits]).1
}

/// Digits that are enough for all of these, if any are.
fn most_digits(mut values: impl Iterator<Item = f64>) -> Option<usize> {
    values.try_fold(0, |least, value| {
        (least..=DIGITS_MAX).find(|&digits| !needs_more(value, digits))
    })
}

/// The numbers that [`choose_digits`] looks at.
fn sample(values: &[f64]) -> impl ExactSizeIterator<Item = f64> {
    let step = values.len().div_ceil(SAMPLE);
    values.iter().copied().step_by(step)
}

/// Numbers of a sample that may need more digits than are chosen.
fn rare(sample: usize) -> usize {
    sample / (2 * EXCEPTION_SHARE)
}

/// Are so many digits, which are enough for all, needed by more than a few?
fn are_common(digits: usize, values: &[f64]) -> bool {
    digits == 0 || {
        let rare = rare(sample(values).len());
        let mut needing = sample(values).filter(|&value| needs_more(value, digits - 1));
        needing.nth(rare).is_some()
    }
}

/// What [`choose_digits`] would choose, where the first numbers show it; then `scaled` has the integers that stand for all.
fn guess_digits(values: &[f64], scaled: &mut [i64]) -> Option<usize> {
    let digits = most_digits(values.iter().copied().take(GUESSED_FROM))?;
    (scale(values, POWERS[digits], scaled) && are_common(digits, values)).then_some(digits)
}

/// Digits that most of the sample needs; `None` when most of it fits no scale.
fn choose_digits(values: &[f64]) -> Option<usize> {
    let sample = || sample(values);
    let rare = rare(sample().len());
    // Mostly the largest number of digits is what many have: then that is all one has to know.
    if let Some(digits) = most_digits(sample())
        && are_common(digits, values)
    {
        return Some(digits);
    }
    let mut of_digits = [0usize; DIGITS_MAX + 1];
    let mut unfitting = 0;
    for value in sample() {
        match (0..=DIGITS_MAX).find(|&digits| !needs_more(value, digits)) {
            Some(digits) => of_digits[digits] += 1,
            None => unfitting += 1,
        }
        if unfitting * EXCEPTION_SHARE > sample().len() {
            return None;
        }
    }
    // The largest that is not itself rare.
    let mut above = 0;
    (0..=DIGITS_MAX).rev().find(|&digits| {
        above += of_digits[digits];
        above > rare
    })
}

fn encode_decimal(values: &[f64], starts: &[u32], level: Level, out: &mut Vec<u8>) -> bool {
    let mut few = [0; FRAME];
    let mut many = Vec::new();
    let integers = match few.get_mut(..values.len()) {
        Some(few) => few,
        None => {
            many.resize(values.len(), 0);
            &mut many[..]
        }
    };
    let (digits, all) = match guess_digits(values, integers) {
        Some(digits) => (digits, true),
        None => {
            let Some(digits) = choose_digits(values) else {
                return false;
            };
            (digits, scale(values, POWERS[digits], integers))
        }
    };
    let power = POWERS[digits];
    let mut exceptions: Vec<(usize, f64)> = Vec::new();
    if !all {
        for (at, &value) in values.iter().enumerate() {
            if !scaled(value, power).1 {
                exceptions.push((at, value));
                integers[at] = if at > 0 { integers[at - 1] } else { 0 };
            }
        }
    }
    if exceptions.len() * EXCEPTION_SHARE > values.len() {
        return false;
    }
    out.push(DECIMAL);
    out.push(digits as u8);
    put(out, exceptions.len() as u64);
    let mut last = 0;
    for (at, value) in exceptions {
        put(out, (at - last) as u64);
        out.extend_from_slice(&value.to_le_bytes());
        last = at;
    }
    ints::encode_series(integers, starts, level, out);
    true
}

fn decode_decimal(input: &mut Input<'_>, count: usize, starts: &[u32]) -> Option<Vec<f64>> {
    let power = *POWERS.get(usize::from(input.byte()?))?;
    let exceptions = input.get_count(count)?;
    let mut patches = input.clone();
    for _ in 0..exceptions {
        input.get()?;
        input.take(8)?;
    }
    let integers = ints::decode_series(input, count, starts)?;
    let mut values = scaled_down(integers, power);
    let mut at = 0usize;
    for _ in 0..exceptions {
        at = at.checked_add(usize::try_from(patches.get()?).ok()?)?;
        *values.get_mut(at)? = f64::from_bits(get_bits(&mut patches)?);
    }
    Some(values)
}

/// Integers divided by a power of ten, in the memory that they have.
fn scaled_down(integers: Vec<i64>, power: f64) -> Vec<f64> {
    let is_small = integers
        .iter()
        .fold(0, |all, &i| all | i.wrapping_add(SMALL) as u64)
        < 2 * SMALL as u64;
    if is_small {
        // Vectorises where the machine has no conversion of vectors: in the mantissa of this number an integer stands as it
        // is, and the subtraction is exact.
        let float = |i: i64| f64::from_bits(MAGIC.to_bits().wrapping_add(i as u64)) - MAGIC;
        integers.into_iter().map(|i| float(i) / power).collect()
    } else {
        integers.into_iter().map(|i| i as f64 / power).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64], level: Level) -> usize {
        let mut bytes = Vec::new();
        encode(values, level, &mut bytes);
        let mut input = Input(&bytes);
        let back = decode(&mut input, values.len()).expect("it was just encoded");
        let bits = |v: &[f64]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values));
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn integers_are_scaled_down_exactly() {
        let edges = [0, 1, -1, 38_878, -7, SMALL - 1, 1 - SMALL, -SMALL];
        for wide in [vec![], vec![SMALL], vec![i64::MAX, i64::MIN], vec![-SMALL - 1]] {
            let integers = [&edges[..], &wide].concat();
            for power in POWERS {
                let want: Vec<u64> = integers.iter().map(|&i| (i as f64 / power).to_bits()).collect();
                let got: Vec<u64> = scaled_down(integers.clone(), power)
                    .iter()
                    .map(|f| f.to_bits())
                    .collect();
                assert_eq!(got, want, "{integers:?} / {power}");
            }
        }
    }

    #[test]
    fn decimals_are_packed_and_odd_ones_kept() {
        let mut values: Vec<f64> = (0..8192).map(|i| f64::from(i * 7919 % 10_000) / 100.0).collect();
        assert!(check(&values, Level::Fast) < 8192 * 2);
        values[17] = f64::NAN;
        values[18] = -0.0;
        values[19] = f64::from_bits(0x7FF8_0000_0000_1234);
        values[8191] = 1e300;
        assert!(check(&values, Level::Fast) < 8192 * 2 + 100);
        let noise: Vec<f64> = (1..1000).map(|i| f64::from(i).sqrt().sin()).collect();
        assert_eq!(check(&noise, Level::Fast), 1 + noise.len() * 8);
        check(&noise, Level::Small);
        assert_eq!(check(&[0.1; 500], Level::Fast), 9);
        check(
            &[
                0.0,
                -0.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
                f64::MIN_POSITIVE / 2.0,
            ],
            Level::Small,
        );
    }

    proptest! {
        #[test]
        fn any_bits_round_trip(bits in prop::collection::vec(any::<u64>(), 0..300), decimals in prop::collection::vec(-9999i32..9999, 0..600), small in any::<bool>()) {
            let mut values: Vec<f64> = decimals.into_iter().map(|d| f64::from(d) / 1000.0).collect();
            values.extend(bits.into_iter().take(values.len() / 20 + 5).map(f64::from_bits));
            check(&values, if small { Level::Small } else { Level::Fast });
        }

        #[test]
        fn digits_are_guessed_as_they_would_be_chosen(numbers in prop::collection::vec((-9999i32..9999, 0usize..4), 1..300), most in 0usize..4) {
            let of = |(number, digits): (i32, usize)| f64::from(number) / POWERS[digits.min(most)];
            let values: Vec<f64> = numbers.into_iter().map(of).collect();
            let mut scaled = vec![0; values.len()];
            if let Some(digits) = guess_digits(&values, &mut scaled) {
                prop_assert_eq!(Some(digits), choose_digits(&values));
                let exact = |(&integer, &value): (&i64, &f64)| integer as f64 / POWERS[digits] == value;
                prop_assert!(scaled.iter().zip(&values).all(exact));
            } else {
                // Not where the first numbers say it all.
                prop_assert!(values.iter().any(|value| value.fract() != 0.0));
            }
        }

        #[test]
        fn damage_never_panics(decimals in prop::collection::vec(-9999i32..9999, 1..600), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let values: Vec<f64> = decimals.into_iter().map(|d| f64::from(d) / 10.0).collect();
            let mut bytes = Vec::new();
            encode(&values, Level::Small, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Some(read) = decode(&mut Input(&bytes), values.len()) {
                prop_assert_eq!(read.len(), values.len());
            }
        }
    }
}
