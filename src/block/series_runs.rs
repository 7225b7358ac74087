//! Numbers of several series, one series after the other, as the columns of a batch have them: the first number of each and the steps
//! from there. In a request of a few rows a series, every few numbers there is a jump from one series to the next, which would cost
//! the steps between them all they save.

use super::bitpack::FRAME;
use super::frames;

/// Fewer rows a series are not worth it.
const ROWS_A_SERIES_MIN: usize = 2;
/// Fewer numbers are not worth it.
const NUMBERS_MIN: usize = 16;

/// Could it be worth it, as far as the number of rows tells? Never with one series.
pub fn may_pay(rows: usize, starts: &[u32]) -> bool {
    starts.len() > 1 && rows >= NUMBERS_MIN && starts.len() * ROWS_A_SERIES_MIN <= rows
}

/// The first number of each series, and the steps within all of them. `starts` ascend from 0 and lie within the numbers.
pub fn split(values: &[i64], starts: &[u32]) -> (Vec<i64>, Vec<i64>) {
    let mut firsts = Vec::with_capacity(starts.len());
    let mut steps = Vec::with_capacity(values.len() - starts.len());
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(values.len(), |&next| next as usize);
        let series = &values[start as usize..end];
        firsts.push(series[0]);
        steps.extend(series.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
    }
    (firsts, steps)
}

/// What [`split`] took apart. `None`: they do not fit together.
pub fn join(firsts: &[i64], steps: &[i64], starts: &[u32]) -> Option<Vec<i64>> {
    let rows = firsts.len() + steps.len();
    let mut values = Vec::with_capacity(rows);
    let mut steps = steps;
    for (i, &first) in firsts.iter().enumerate() {
        let start = *starts.get(i)? as usize;
        let end = starts.get(i + 1).map_or(rows, |&next| next as usize);
        let (own, rest) = steps.split_at_checked(end.checked_sub(start)?.checked_sub(1)?)?;
        steps = rest;
        let mut at = first;
        values.push(at);
        values.extend(own.iter().map(|step| {
            at = at.wrapping_add(*step);
            at
        }));
    }
    (values.len() == rows).then_some(values)
}

/// Are first numbers and steps smaller than the numbers or the steps between all of them? Estimated from a frame of each.
pub fn pays(values: &[i64], firsts: &[i64], steps: &[i64]) -> bool {
    let whole = bits(values).min(bits(&neighbours(sample(values))));
    let apart = bits(firsts) * firsts.len() as f64 + bits(steps) * steps.len() as f64;
    apart < whole * values.len() as f64
}

/// A frame of the middle.
fn sample(values: &[i64]) -> &[i64] {
    let from = values.len().saturating_sub(FRAME) / 2;
    &values[from..values.len().min(from + FRAME)]
}

fn neighbours(values: &[i64]) -> Vec<i64> {
    values
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect()
}

/// Bits that a number takes, about.
fn bits(values: &[i64]) -> f64 {
    let sample = sample(values);
    match sample.is_empty() {
        true => 0.0,
        false => frames::estimate_bytes(sample) as f64 * 8.0 / sample.len() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::super::bytes::Input;
    use super::super::{Level, ints};
    use super::*;
    use proptest::prelude::*;

    /// Some numbers and where the series in them begin.
    fn series() -> impl Strategy<Value = (Vec<i64>, Vec<u32>)> {
        let step = prop_oneof![8 => -3i64..4, 1 => any::<i64>()];
        let one = (
            prop_oneof![3 => 0i64..100, 1 => any::<i64>()],
            prop::collection::vec(step, 0..9),
        );
        prop::collection::vec(one, 1..60).prop_map(|all| {
            let (mut values, mut starts) = (Vec::new(), Vec::new());
            for (first, steps) in all {
                starts.push(values.len() as u32);
                let mut at = first;
                values.push(at);
                for step in steps {
                    at = at.wrapping_add(step);
                    values.push(at);
                }
            }
            (values, starts)
        })
    }

    fn check(values: &[i64], starts: &[u32]) -> usize {
        let mut bytes = Vec::new();
        ints::encode_series(values, starts, Level::Fast, &mut bytes);
        let mut input = Input(&bytes);
        assert_eq!(
            ints::decode_series(&mut input, values.len(), starts).as_deref(),
            Some(values)
        );
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn walks_of_few_rows_are_smaller_by_series() {
        let starts: Vec<u32> = (0..500).map(|s| s * 5).collect();
        let value = |s: i64, i: i64| (s * 7919 % 101) + (i * 31 + s * 17) % 3;
        let values: Vec<i64> = (0..2500i64).map(|row| value(row / 5, row % 5)).collect();
        let mut plain = Vec::new();
        ints::encode(&values, Level::Fast, &mut plain);
        let apart = check(&values, &starts);
        assert!(apart * 3 < plain.len() * 2, "{apart} of {}", plain.len());
        // Where every row has the same slope, steps between all rows are as good: then nothing is taken apart.
        let even: Vec<i64> = (0..2500).collect();
        assert!(check(&even, &starts) < 8);
        let constant: Vec<i64> = (0..2500i64).map(|row| row / 5 * 7919 % 101).collect();
        assert!(
            check(&constant, &starts) < 500 * 7 / 8 + 50,
            "a number a series, and no steps"
        );
    }

    proptest! {
        #[test]
        fn any_series_round_trip((values, starts) in series()) {
            check(&values, &starts);
            let (firsts, steps) = split(&values, &starts);
            prop_assert_eq!(join(&firsts, &steps, &starts), Some(values));
        }

        #[test]
        fn damage_never_panics((values, starts) in series(), at in any::<prop::sample::Index>(), bit in 0u8..8, other in series()) {
            let mut bytes = Vec::new();
            ints::encode_series(&values, &starts, Level::Fast, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            for starts in [&starts, &other.1] {
                if let Some(read) = ints::decode_series(&mut Input(&bytes), values.len(), starts) {
                    prop_assert_eq!(read.len(), values.len());
                }
            }
        }
    }
}
