//! Few numbers: those that fit one frame, as the columns of most requests do. They become the very bytes that [`super::ints`] makes
//! of them (`tests` says so), but every number is looked at, none is copied to the heap, and nothing is measured twice.

use super::bitpack::FRAME;
use super::bytes::{put, put_signed};
use super::frames::{self, Shape};
use super::ints::{CONSTANT, FRAMES, SCALED, STEPS, divisor};

/// Numbers in equal steps are smaller as their steps, if they are more than so many steps.
const STEPS_FEW: usize = 6;

/// Appends at most [`FRAME`] numbers, not all of them equal, that have nothing to do with their neighbours: steps are not tried.
pub fn encode_apart(values: &[i64], out: &mut Vec<u8>) {
    let mut scaled = [0; FRAME];
    Framed::new(put_scaled(values, &mut scaled, out)).put(out);
}

/// Appends at most [`FRAME`] numbers, not all of them equal.
pub fn encode(values: &[i64], out: &mut Vec<u8>) {
    let mut scaled = [0; FRAME];
    let numbers = put_scaled(values, &mut scaled, out);
    let mut steps = [0; FRAME];
    let steps = differences(numbers, &mut steps);
    let is_even = steps.windows(2).all(|pair| pair[0] == pair[1]);
    if is_even && steps.len() > STEPS_FEW {
        return put_even(numbers[0], steps[0], out);
    }
    let whole = Framed::new(numbers);
    let stepped = Framed::new(steps);
    if !stepped.is_smaller_than(&whole) {
        return whole.put(out);
    }
    if is_even {
        return put_even(numbers[0], steps[0], out);
    }
    put_step(numbers[0], out);
    let mut second = [0; FRAME];
    let second = differences(steps, &mut second);
    if frames::bits_of(second) >= frames::bits_of(&steps[1..]) {
        return stepped.put(out);
    }
    let twice = Framed::new(second);
    if !twice.is_smaller_than(&stepped) {
        return stepped.put(out);
    }
    put_step(steps[0], out);
    if second.windows(2).all(|pair| pair[0] == pair[1]) {
        return put_constant(second[0], out);
    }
    twice.put(out);
}

/// Appends at most [`FRAME`] numbers that ascend, two at least: by their steps, whatever else could be tried.
pub fn encode_ascending(values: &[i64], out: &mut Vec<u8>) {
    let mut steps = [0; FRAME];
    let steps = differences(values, &mut steps);
    put_step(values[0], out);
    match steps.windows(2).all(|pair| pair[0] == pair[1]) {
        true => put_constant(steps[0], out),
        false => Framed::new(steps).put(out),
    }
}

/// Appends the unit that numbers have in common, if there is one; what is left of them.
fn put_scaled<'a>(values: &'a [i64], into: &'a mut [i64; FRAME], out: &mut Vec<u8>) -> &'a [i64] {
    let into = &mut into[..values.len()];
    let Some(unit) = scale(values, into) else {
        return values;
    };
    out.push(SCALED);
    put_signed(out, values[0]);
    put(out, unit);
    into
}

fn put_even(first: i64, step: i64, out: &mut Vec<u8>) {
    put_step(first, out);
    put_constant(step, out);
}

fn put_constant(value: i64, out: &mut Vec<u8>) {
    out.push(CONSTANT);
    put_signed(out, value);
}

fn put_step(first: i64, out: &mut Vec<u8>) {
    out.push(STEPS);
    put_signed(out, first);
}

/// Differences of neighbours: one less than numbers.
fn differences<'a>(numbers: &[i64], into: &'a mut [i64; FRAME]) -> &'a [i64] {
    let into = &mut into[..numbers.len() - 1];
    for (step, pair) in into.iter_mut().zip(numbers.windows(2)) {
        *step = pair[1].wrapping_sub(pair[0]);
    }
    into
}

/// The largest unit, above 1, that all differences from the first number are multiples of; then `into` has the multiples. None
/// where there is no such unit or differences are so large that they could overflow.
fn scale(values: &[i64], into: &mut [i64]) -> Option<u64> {
    let first = values[0];
    let mut unit = 0i64;
    for at in 1..values.len() {
        let difference = values[at]
            .checked_sub(first)
            .filter(|d| d.unsigned_abs() < 1 << 62)?;
        if difference == 0 {
            into[at] = 0;
            continue;
        }
        if unit != 0 {
            let times = difference / unit;
            if times * unit == difference {
                into[at] = times;
                continue;
            }
        }
        let smaller = divisor(difference.unsigned_abs(), unit.unsigned_abs()) as i64;
        if smaller == 1 {
            return None;
        }
        for times in &mut into[1..at] {
            *times *= unit / smaller;
        }
        unit = smaller;
        into[at] = difference / unit;
    }
    into[0] = 0;
    (unit > 1).then_some(unit as u64)
}

/// Numbers, ready to be packed.
struct Framed {
    shape: Shape,
    offsets: [u64; FRAME],
    len: usize,
}

impl Framed {
    #[inline]
    fn new(numbers: &[i64]) -> Self {
        let mut offsets = [0; FRAME];
        let shape = frames::shape(numbers, &mut offsets[..numbers.len()]);
        Self {
            shape,
            offsets,
            len: numbers.len(),
        }
    }

    fn is_smaller_than(&self, other: &Self) -> bool {
        let bits = |framed: &Self| framed.shape.estimate() as f64 * 8.0 / framed.len as f64;
        bits(self) < bits(other)
    }

    fn put(mut self, out: &mut Vec<u8>) {
        out.push(FRAMES);
        frames::put_frame(&self.shape, &mut self.offsets[..self.len], out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::bytes::Input;
    use super::super::ints;
    use super::*;
    use proptest::prelude::*;

    fn numbers() -> impl Strategy<Value = Vec<i64>> {
        let number = prop_oneof![
            4 => 0i64..50,
            1 => any::<i64>(),
            1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)],
            2 => 1_000_000i64..1_000_100,
        ];
        let walk = (1i64..1_000_000_000_000, -9i64..9).prop_flat_map(|(unit, slope)| {
            let step = prop_oneof![9 => slope..=slope + 1, 1 => -99i64..99];
            prop::collection::vec(step, 2..=FRAME).prop_map(move |steps| {
                let mut at = 1_700_000_000_000_000_000;
                let mut next = |step: i64| {
                    at += step * unit;
                    at
                };
                steps.into_iter().map(&mut next).collect::<Vec<_>>()
            })
        });
        let curve = (any::<i16>(), any::<i16>(), 2i64..=FRAME as i64).prop_map(|(a, b, len)| {
            let point = |i: i64| i64::from(a) * i * i + i64::from(b) * i;
            (0..len).map(point).collect()
        });
        prop_oneof![prop::collection::vec(number, 2..=FRAME), walk, curve]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_are_those_of_the_general_way(values in numbers()) {
            if values.windows(2).any(|pair| pair[0] != pair[1]) {
                let (mut few, mut many) = (Vec::new(), Vec::new());
                encode(&values, &mut few);
                ints::encode_many(&values, Level::Fast, &mut many);
                prop_assert_eq!(&few, &many);
                for encode in [encode_apart, encode_ascending] {
                    let mut bytes = Vec::new();
                    encode(&values, &mut bytes);
                    prop_assert_eq!(ints::decode(&mut Input(&bytes), values.len()), Some(values.clone()));
                }
                prop_assert_eq!(ints::decode(&mut Input(&few), values.len()), Some(values));
            }
        }
    }
}
