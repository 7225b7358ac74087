//! Integers and timestamps. What numbers have in common is taken out first: a unit (milliseconds in nanoseconds), then steps
//! between neighbours, once or twice, where those are smaller than the numbers. What is left is stored as one constant, as
//! frames of packed bits ([`super::frames`]), or as symbols ([`super::coded`]). Which, is estimated from a sample.

use super::bitpack::FRAME;
use super::bytes::{Input, put, put_signed};
use super::coded::{self, Estimate};
use super::{CHUNK_ROWS_MAX, Level, few, frames, series_runs};

pub(super) const CONSTANT: u8 = 0;
pub(super) const FRAMES: u8 = 1;
const CODED: u8 = 2;
pub(super) const SCALED: u8 = 3;
pub(super) const STEPS: u8 = 4;
const SERIES_RUNS: u8 = 5;

/// Numbers are looked at in so many stretches of so many.
const WINDOWS: usize = 4;
const WINDOW: usize = 128;
/// Steps of steps are the last that are tried.
const ORDER_MAX: usize = 2;
/// Symbols must be smaller than frames by so much to be worth their slower decoding.
const CODED_GAIN: f64 = 1.0 / 64.0;
/// Fewer numbers are not worth an alphabet.
const CODED_NUMBERS_MIN: usize = 64;
/// Scaled, steps, steps, numbers: no encoder goes deeper, and no decoder follows.
const DEPTH_MAX: usize = 4;

/// Appends numbers; their count is the caller's to keep. Unsigned numbers come in as their bit pattern.
pub fn encode(values: &[i64], level: Level, out: &mut Vec<u8>) {
    if values.is_empty() || put_constant(values, out) {
        return;
    }
    // So few, that none would be symbols on the other level either.
    if values.len() <= FRAME && (level == Level::Fast || values.len() < CODED_NUMBERS_MIN) {
        return few::encode(values, out);
    }
    encode_many(values, level, out);
}

/// As [`encode`], of numbers of several series one after the other: `starts` says where each begins, the first at 0. Steps from one
/// series to the next tell nothing, so where it pays the first numbers and the steps within the series stand apart.
pub(super) fn encode_series(values: &[i64], starts: &[u32], level: Level, out: &mut Vec<u8>) {
    let is_apart = starts.len() > 1 && starts.len() == values.len() && values.len() <= FRAME;
    if is_apart && level == Level::Fast {
        return match put_constant(values, out) {
            true => {}
            false => few::encode_apart(values, out),
        };
    }
    if series_runs::may_pay(values.len(), starts) && !values.windows(2).all(|w| w[0] == w[1]) {
        let (firsts, steps) = series_runs::split(values, starts);
        if series_runs::pays(values, &firsts, &steps) {
            out.push(SERIES_RUNS);
            encode(&firsts, level, out);
            return encode(&steps, level, out);
        }
    }
    encode(values, level, out);
}

/// As [`encode`], of any number of them, not all equal.
pub(super) fn encode_many(values: &[i64], level: Level, out: &mut Vec<u8>) {
    let first = values[0];
    let unit = unit_of(values);
    if unit > 1 {
        out.push(SCALED);
        put_signed(out, first);
        put(out, unit as u64);
        let scaled: Vec<i64> = values.iter().map(|v| (v - first) / unit).collect();
        encode_steps(scaled, level, out);
    } else {
        encode_steps(values.to_vec(), level, out);
    }
}

/// Appends any number of equal ones.
pub(super) fn put_equal(value: i64, out: &mut Vec<u8>) {
    out.push(CONSTANT);
    put_signed(out, value);
}

fn put_constant(values: &[i64], out: &mut Vec<u8>) -> bool {
    let constant = values.windows(2).all(|w| w[0] == w[1]);
    if let (true, Some(&first)) = (constant, values.first()) {
        put_equal(first, out);
    }
    constant
}

/// Numbers or steps, and how to store them.
enum Method {
    Frames,
    Coded(Estimate),
}

fn encode_steps(mut values: Vec<i64>, level: Level, out: &mut Vec<u8>) {
    let (order, method) = choose(&values, level);
    let mut values = &mut values[..];
    for _ in 0..order {
        out.push(STEPS);
        put_signed(out, values[0]);
        for i in (1..values.len()).rev() {
            values[i] = values[i].wrapping_sub(values[i - 1]);
        }
        values = &mut values[1..];
        if put_constant(values, out) {
            return;
        }
    }
    let start = out.len();
    if let Method::Coded(found) = method {
        out.push(CODED);
        let _ = coded::encode(values, found.scheme, out) || coded::encode(values, found.fallback, out);
        // The sample may have shown the wrong picture.
        let bits = (out.len() - start) as f64 * 8.0 / values.len() as f64;
        if bits < found.bits * 1.25 || out.len() - start < frames::estimate_bytes(values) {
            return;
        }
        out.truncate(start);
    }
    out.push(FRAMES);
    frames::encode(values, out);
}

/// What all differences from the first number are multiples of; 1 if nothing, or if they are so large that they could
/// overflow.
fn unit_of(values: &[i64]) -> i64 {
    let first = values[0];
    let difference = |v: i64| v.checked_sub(first).filter(|d| d.unsigned_abs() < 1 << 62);
    let mut unit = 0u64;
    let step = (values.len() / WINDOW).max(1);
    for &v in values.iter().step_by(step) {
        match difference(v) {
            Some(d) => unit = divisor(d.unsigned_abs(), unit),
            None => return 1,
        }
        if unit == 1 {
            return 1;
        }
    }
    // Most numbers have one that the sample did not show; then few more are looked at.
    for &v in values {
        match difference(v) {
            Some(d) if unit != 0 && d.unsigned_abs() % unit == 0 => {}
            Some(d) => unit = divisor(d.unsigned_abs(), unit),
            None => return 1,
        }
        if unit == 1 {
            return 1;
        }
    }
    i64::try_from(unit).unwrap_or(1).max(1)
}

/// The greatest common one.
pub(super) fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn choose(values: &[i64], level: Level) -> (usize, Method) {
    let mut best = (0, Method::Frames);
    let mut least = f64::INFINITY;
    let mut sample = windows(values);
    for order in 0..=ORDER_MAX.min(values.len() - 1) {
        if order > 0 {
            steps_of(&mut sample);
        }
        let numbers = sample.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        let bytes: usize = sample.iter().map(|w| frames::estimate_bytes(w)).sum();
        let bits = bytes as f64 * 8.0 / numbers;
        if bits < least {
            (best, least) = ((order, Method::Frames), bits);
        }
        if level == Level::Small && values.len() >= CODED_NUMBERS_MIN {
            let mut sorted: Vec<i64> = sample.iter().flatten().copied().collect();
            sorted.sort_unstable();
            let found = coded::choose(&sorted, values.len());
            let bits = found.bits * (1.0 + CODED_GAIN);
            if bits < least {
                (best, least) = ((order, Method::Coded(found)), bits);
            }
        }
        // When steps are larger than numbers, steps of steps are larger still; and mostly they are anyway.
        if best.0 < order || order == 1 && !second_steps_are_smaller(&sample) {
            break;
        }
    }
    best
}

/// Stretches of the numbers, spread evenly; all of them when they are few.
fn windows(values: &[i64]) -> Vec<Vec<i64>> {
    let len = WINDOW + ORDER_MAX;
    if values.len() <= WINDOWS * len {
        return vec![values.to_vec()];
    }
    let last = values.len() - len;
    (0..WINDOWS)
        .map(|i| values[i * last / (WINDOWS - 1)..][..len].to_vec())
        .collect()
}

fn second_steps_are_smaller(steps: &[Vec<i64>]) -> bool {
    let (mut first, mut second) = (0, 0);
    for window in steps {
        first += frames::bits_of(&window[1..]);
        let differences: Vec<i64> = window.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect();
        second += frames::bits_of(&differences);
    }
    second < first
}

fn steps_of(sample: &mut [Vec<i64>]) {
    for window in sample {
        for i in (1..window.len()).rev() {
            window[i] = window[i].wrapping_sub(window[i - 1]);
        }
        window.remove(0);
    }
}

/// Reads what [`encode_series`] wrote.
pub(super) fn decode_series(input: &mut Input<'_>, count: usize, starts: &[u32]) -> Option<Vec<i64>> {
    if count == 0 || starts.len() < 2 || input.0.first() != Some(&SERIES_RUNS) {
        return decode(input, count);
    }
    input.byte()?;
    let firsts = decode(input, starts.len())?;
    let steps = decode(input, count.checked_sub(starts.len())?)?;
    series_runs::join(&firsts, &steps, starts)
}

/// Reads `count` numbers.
pub fn decode(input: &mut Input<'_>, count: usize) -> Option<Vec<i64>> {
    if count > CHUNK_ROWS_MAX {
        return None;
    }
    let mut values = vec![0; count];
    decode_into(input, &mut values, 0)?;
    Some(values)
}

fn decode_into(input: &mut Input<'_>, out: &mut [i64], depth: usize) -> Option<()> {
    if out.is_empty() {
        return Some(());
    }
    match input.byte()? {
        CONSTANT => out.fill(input.get_signed()?),
        FRAMES => frames::decode(input, out)?,
        CODED => coded::decode(input, out)?,
        SCALED if depth < DEPTH_MAX => {
            let first = input.get_signed()?;
            let unit = input.get()? as i64;
            decode_into(input, out, depth + 1)?;
            out.iter_mut()
                .for_each(|v| *v = first.wrapping_add(v.wrapping_mul(unit)));
        }
        STEPS if depth < DEPTH_MAX => {
            let mut at = input.get_signed()?;
            out[0] = at;
            decode_into(input, &mut out[1..], depth + 1)?;
            for value in &mut out[1..] {
                at = at.wrapping_add(*value);
                *value = at;
            }
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[i64], level: Level) -> usize {
        let mut bytes = Vec::new();
        encode(values, level, &mut bytes);
        let mut input = Input(&bytes);
        assert_eq!(decode(&mut input, values.len()).as_deref(), Some(values));
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn shapes_of_real_data_are_small() {
        let regular: Vec<i64> = (0..8192)
            .map(|i| 1_700_000_000_000_000_000 + i * 10_000_000_000)
            .collect();
        assert!(check(&regular, Level::Fast) < 20);
        let jittered: Vec<i64> = regular.iter().map(|t| t + t / 77 % 7 * 1_000_000).collect();
        assert!(check(&jittered, Level::Fast) < 8192 * 5 / 8);
        let gauge: Vec<i64> = (0..8192i64).map(|i| 50 + i * 7919 % 50).collect();
        assert!(check(&gauge, Level::Fast) < 8192 * 7 / 8);
        let jumps: Vec<i64> = (0..8192i64)
            .map(|i| i / 60 * 77_777_777_777 % 999_999_999_999 + i % 60 * 3)
            .collect();
        assert!(check(&jumps, Level::Fast) < 8192);
        assert_eq!(check(&[7; 8192], Level::Fast), 2);
        check(&[i64::MIN, i64::MAX, 0, -1, i64::MIN], Level::Fast);
        check(&[], Level::Small);
    }

    #[test]
    fn nothing_goes_deeper_than_an_encoder_does() {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            bytes.extend([STEPS, 0]);
        }
        assert_eq!(decode(&mut Input(&bytes), 500_000), None);
        let quadratic: Vec<i64> = (0..1000i64).map(|i| i * i * 1000 + 5).collect();
        assert!(check(&quadratic, Level::Fast) < 20, "a unit, and steps of steps");
    }

    #[test]
    fn symbols_are_taken_where_they_are_smaller() {
        let skewed: Vec<i64> = (0..8192i64)
            .map(|i| if i % 97 == 0 { i % 31 } else { 4 })
            .collect();
        assert!(check(&skewed, Level::Small) < check(&skewed, Level::Fast));
    }

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let number =
            prop_oneof![4 => 0i64..50, 1 => any::<i64>(), 1 => Just(i64::MIN), 2 => 1_000_000i64..1_000_100];
        prop::collection::vec(number, 0..600)
    }

    proptest! {
        #[test]
        fn any_numbers_round_trip(values in numbers(), small in any::<bool>()) {
            check(&values, if small { Level::Small } else { Level::Fast });
        }

        #[test]
        fn damage_never_panics(values in numbers(), at in any::<prop::sample::Index>(), bit in 0..8u32, cut in any::<bool>()) {
            let mut bytes = Vec::new();
            encode(&values, Level::Small, &mut bytes);
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
                if let Some(read) = decode(&mut Input(&bytes), values.len()) {
                    prop_assert_eq!(read.len(), values.len());
                }
            }
        }
    }
}
