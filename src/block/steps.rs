//! Statistics of steps: what the rows of one series within one aligned step of time (an hour, say) in one block amount
//! to. Long windows, `last` and `count` are answered from these without decoding a chunk. Pure; drawn in
//! docs/formats/block.md.
//!
//! The steps of all blocks of a stripe are encoded together: first which rows they cover ([`StepKeys`]), then, for each
//! field with numbers, one [`StepStats`] with an entry a step. They are only kept where a step covers many rows
//! ([`choose_width`]), so that they cost a few hundredths of what they describe.

use super::bytes::{Input, put};
use super::stats::{FloatSum, bounds_and_sum};
use super::{CHUNK_ROWS_MAX, Level, floats, ints};
use crate::model::{Column, FieldType, SeriesId, Values};
use std::ops::Range;

const SECOND: i64 = 1_000_000_000;
/// Widths a step may have; each divides the next. The last means: all rows of a series in a block.
const WIDTHS: [i64; 6] = [
    60 * SECOND,
    300 * SECOND,
    3600 * SECOND,
    6 * 3600 * SECOND,
    86_400 * SECOND,
    i64::MAX,
];
/// The shortest of them.
pub const STEP_WIDTH_MIN: i64 = WIDTHS[0];
/// A step must cover so many rows on average.
const STEP_ROWS_MIN: f64 = 192.0;
/// Blocks of a stripe; more are damage.
const BLOCKS_MAX: usize = 1 << 16;

/// Which rows the steps cover: one entry a step, in the order of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepKeys {
    /// Nanoseconds of a step, which begins at a multiple of them; `i64::MAX`: all rows of the series in the block.
    pub width: i64,
    /// Where the steps of each block end.
    pub ends: Vec<u32>,
    /// The series.
    pub series: Vec<SeriesId>,
    /// Rows: they follow those of the step before, or are the block's first.
    pub rows: Vec<u32>,
    /// Time of the first row.
    pub first: Vec<i64>,
    /// Time of the last row.
    pub last: Vec<i64>,
}

/// What one field amounts to in each step of a [`StepKeys`].
#[derive(Clone, Debug, PartialEq)]
pub struct StepStats {
    /// Where a row lacks the field; `None`: every row of every step has it.
    pub sparse: Option<SparseSteps>,
    /// The numbers; entries of steps without a value mean nothing.
    pub numbers: StepNumbers,
}

/// See [`StepStats::sparse`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseSteps {
    /// Rows that have a value.
    pub count: Vec<u32>,
    /// Time of the first of them.
    pub first: Vec<i64>,
    /// Time of the last of them.
    pub last: Vec<i64>,
}

/// Numbers by type.
#[derive(Clone, Debug, PartialEq)]
pub enum StepNumbers {
    /// Floats; the sum is rounded once. A sum that is NaN: the step has a NaN or both infinities; decode the rows.
    Float(StepColumns<f64, f64>),
    /// Signed, sums exact.
    Integer(StepColumns<i64, i128>),
    /// Unsigned, sums exact.
    Unsigned(StepColumns<u64, u128>),
}

/// One entry a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepColumns<T, S> {
    /// Smallest.
    pub min: Vec<T>,
    /// Largest.
    pub max: Vec<T>,
    /// Of the earliest row that has one.
    pub first: Vec<T>,
    /// Of the latest row that has one.
    pub last: Vec<T>,
    /// Sum.
    pub sum: Vec<S>,
}

impl<T: Copy, S> StepColumns<T, S> {
    fn push(&mut self, min: T, max: T, first: T, last: T, sum: S) {
        self.min.push(min);
        self.max.push(max);
        self.first.push(first);
        self.last.push(last);
        self.sum.push(sum);
    }
}

/// The width that suits rows in (series, time) order, in blocks of `block_rows`; `None`: statistics would not pay.
pub fn choose_width(series: &[SeriesId], times: &[i64], block_rows: usize) -> Option<i64> {
    let (mut runs, mut span) = (0f64, 0f64);
    for block in 0..series.len().div_ceil(block_rows) {
        let end = series.len().min((block + 1) * block_rows);
        let mut start = block * block_rows;
        while start < end {
            let len = series[start..end].partition_point(|&s| s == series[start]);
            runs += 1.0;
            span += times[start + len - 1] as f64 - times[start] as f64;
            start += len;
        }
    }
    let rows = series.len() as f64;
    WIDTHS.into_iter().find(|&width| {
        rows >= STEP_ROWS_MIN
            * (runs
                + if width == i64::MAX {
                    0.0
                } else {
                    span / width as f64
                })
    })
}

impl StepKeys {
    /// Of rows in blocks of `block_rows`.
    pub fn of(width: i64, series: &[SeriesId], times: &[i64], block_rows: usize) -> Self {
        let mut keys = Self {
            width,
            ..Self::default()
        };
        for block in 0..series.len().div_ceil(block_rows) {
            let end = series.len().min((block + 1) * block_rows);
            let mut start = block * block_rows;
            while start < end {
                let id = series[start];
                let limit = keys.step_end(times[start]);
                let in_step = |row: usize| series[row] == id && limit.is_none_or(|limit| times[row] < limit);
                let len = (start..end).position(|row| !in_step(row)).unwrap_or(end - start);
                keys.series.push(id);
                keys.rows.push(len as u32);
                keys.first.push(times[start]);
                keys.last.push(times[start + len - 1]);
                start += len;
            }
            keys.ends.push(keys.series.len() as u32);
        }
        keys
    }

    fn step_end(&self, time: i64) -> Option<i64> {
        if self.width == i64::MAX {
            return None;
        }
        time.div_euclid(self.width)
            .checked_add(1)?
            .checked_mul(self.width)
    }

    /// Steps in all blocks.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The steps of a block.
    pub fn of_block(&self, block: usize) -> Range<usize> {
        let start = if block == 0 { 0 } else { self.ends[block - 1] };
        start as usize..self.ends[block] as usize
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.len() * 24 + self.ends.len() * 4 + 100
    }

    /// Appends them.
    pub fn encode(&self, level: Level, out: &mut Vec<u8>) {
        let width = WIDTHS.iter().position(|&w| w == self.width);
        out.push(width.expect("steps have one of the known widths") as u8);
        put(out, self.ends.len() as u64);
        put(out, self.len() as u64);
        let numbers = |values: &[u32]| values.iter().map(|&v| i64::from(v)).collect::<Vec<_>>();
        ints::encode(&numbers(&self.ends), level, out);
        ints::encode(&numbers(&self.series), level, out);
        ints::encode(&numbers(&self.rows), level, out);
        if self.width == i64::MAX {
            ints::encode(&self.first, level, out);
            ints::encode(&differences(&self.last, &self.first), level, out);
        } else {
            let (index, begin) = self.grid();
            ints::encode(&index, level, out);
            ints::encode(&differences(&self.first, &begin), level, out);
            ints::encode(&differences(&self.last, &begin), level, out);
        }
    }

    /// Number and beginning of each step.
    fn grid(&self) -> (Vec<i64>, Vec<i64>) {
        let index: Vec<i64> = self.first.iter().map(|t| t.div_euclid(self.width)).collect();
        let begin = index.iter().map(|i| i.wrapping_mul(self.width)).collect();
        (index, begin)
    }

    /// Reads what [`encode`](Self::encode) made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let width = *WIDTHS.get(usize::from(input.byte()?))?;
        let blocks = input.get_count(BLOCKS_MAX)?;
        let steps = input.get_count(CHUNK_ROWS_MAX)?;
        let mut keys = Self {
            width,
            ends: small_numbers(&mut input, blocks)?,
            series: small_numbers(&mut input, steps)?,
            rows: small_numbers(&mut input, steps)?,
            ..Self::default()
        };
        if width == i64::MAX {
            keys.first = ints::decode(&mut input, steps)?;
            keys.last = sums(&keys.first, ints::decode(&mut input, steps)?);
        } else {
            let index = ints::decode(&mut input, steps)?;
            let begin: Vec<i64> = index.iter().map(|i| i.wrapping_mul(width)).collect();
            keys.first = sums(&begin, ints::decode(&mut input, steps)?);
            keys.last = sums(&begin, ints::decode(&mut input, steps)?);
        }
        let ends_ascend = keys.ends.is_sorted() && keys.ends.last().map_or(0, |&end| end as usize) == steps;
        (input.is_empty() && ends_ascend).then_some(keys)
    }
}

impl StepStats {
    /// Of a column with the rows that `keys` covers, beginning at row `start`; `None`: it has no numbers.
    pub fn of(keys: &StepKeys, times: &[i64], column: &Column, start: usize) -> Option<Self> {
        let mut sparse = column.present.is_some().then(SparseSteps::default);
        let numbers = match &column.values {
            Values::Float(v) => {
                let mut out = StepColumns::default();
                each_step(keys, times, column, start, &mut sparse, v, |values| {
                    float_step(values, &mut out)
                });
                StepNumbers::Float(out)
            }
            Values::Integer(v) => {
                let mut out = StepColumns::default();
                each_step(keys, times, column, start, &mut sparse, v, |values| {
                    let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
                        return out.push(0, 0, 0, 0, 0);
                    };
                    let (min, max, sum) = bounds_and_sum(values);
                    out.push(min, max, first, last, sum);
                });
                StepNumbers::Integer(out)
            }
            Values::Unsigned(v) => {
                let mut out = StepColumns::default();
                each_step(keys, times, column, start, &mut sparse, v, |values| {
                    let (min, max) = bounds(values);
                    let sum = values.iter().map(|&x| u128::from(x)).sum();
                    out.push(
                        min,
                        max,
                        values.first().copied().unwrap_or(0),
                        values.last().copied().unwrap_or(0),
                        sum,
                    );
                });
                StepNumbers::Unsigned(out)
            }
            Values::String(_) | Values::Boolean(_) => return None,
        };
        if let Some(found) = &sparse
            && found.count == keys.rows
        {
            sparse = None;
        }
        Some(Self { sparse, numbers })
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let sparse = self.sparse.as_ref().map_or(0, |s| s.count.len() * 20);
        let numbers = match &self.numbers {
            StepNumbers::Float(c) => c.min.len() * 40,
            StepNumbers::Integer(c) => c.min.len() * 48,
            StepNumbers::Unsigned(c) => c.min.len() * 48,
        };
        sparse + numbers + 200
    }

    /// Appends them.
    pub fn encode(&self, keys: &StepKeys, level: Level, out: &mut Vec<u8>) {
        match &self.sparse {
            None => out.push(0),
            Some(sparse) => {
                out.push(1);
                let count: Vec<i64> = sparse.count.iter().map(|&c| i64::from(c)).collect();
                ints::encode(&count, level, out);
                ints::encode(&differences(&sparse.first, &keys.first), level, out);
                ints::encode(&differences(&keys.last, &sparse.last), level, out);
            }
        }
        let count = self.counts(keys);
        match &self.numbers {
            StepNumbers::Float(c) => {
                for values in [&c.min, &c.max, &c.first, &c.last, &c.sum] {
                    floats::encode(values, level, out);
                }
            }
            StepNumbers::Integer(c) => {
                ints::encode(&c.min, level, out);
                for values in [&c.max, &c.first, &c.last] {
                    ints::encode(&differences(values, &c.min), level, out);
                }
                let above =
                    |i: usize| c.sum[i].wrapping_sub(i128::from(c.min[i]) * i128::from(count[i])) as u128;
                encode_wide((0..c.sum.len()).map(above), level, out);
            }
            StepNumbers::Unsigned(c) => {
                let bits = |values: &[u64]| values.iter().map(|&v| v as i64).collect::<Vec<_>>();
                let min = bits(&c.min);
                ints::encode(&min, level, out);
                for values in [&c.max, &c.first, &c.last] {
                    ints::encode(&differences(&bits(values), &min), level, out);
                }
                let above = |i: usize| c.sum[i].wrapping_sub(u128::from(c.min[i]) * u128::from(count[i]));
                encode_wide((0..c.sum.len()).map(above), level, out);
            }
        }
    }

    fn counts<'a>(&'a self, keys: &'a StepKeys) -> &'a [u32] {
        self.sparse.as_ref().map_or(&keys.rows, |sparse| &sparse.count)
    }

    /// Reads what [`encode`](Self::encode) made for a field of this type and the same keys.
    pub fn decode(bytes: &[u8], keys: &StepKeys, field_type: FieldType) -> Option<Self> {
        let mut input = Input(bytes);
        let steps = keys.len();
        let sparse = match input.byte()? {
            0 => None,
            1 => Some(SparseSteps {
                count: small_numbers(&mut input, steps)?,
                first: sums(&keys.first, ints::decode(&mut input, steps)?),
                last: differences(&keys.last, &ints::decode(&mut input, steps)?),
            }),
            _ => return None,
        };
        let count: &[u32] = sparse.as_ref().map_or(&keys.rows, |sparse| &sparse.count);
        let numbers = match field_type {
            FieldType::Float => StepNumbers::Float(StepColumns {
                min: floats::decode(&mut input, steps)?,
                max: floats::decode(&mut input, steps)?,
                first: floats::decode(&mut input, steps)?,
                last: floats::decode(&mut input, steps)?,
                sum: floats::decode(&mut input, steps)?,
            }),
            FieldType::Integer => {
                let min = ints::decode(&mut input, steps)?;
                let max = sums(&min, ints::decode(&mut input, steps)?);
                let first = sums(&min, ints::decode(&mut input, steps)?);
                let last = sums(&min, ints::decode(&mut input, steps)?);
                let above = decode_wide(&mut input, steps)?;
                let sum = |(i, above): (usize, u128)| {
                    (above as i128).wrapping_add(i128::from(min[i]) * i128::from(count[i]))
                };
                let sum = above.into_iter().enumerate().map(sum).collect();
                StepNumbers::Integer(StepColumns {
                    min,
                    max,
                    first,
                    last,
                    sum,
                })
            }
            FieldType::Unsigned => {
                let bits = |values: Vec<i64>| values.into_iter().map(|v| v as u64).collect::<Vec<_>>();
                let min = ints::decode(&mut input, steps)?;
                let max = bits(sums(&min, ints::decode(&mut input, steps)?));
                let first = bits(sums(&min, ints::decode(&mut input, steps)?));
                let last = bits(sums(&min, ints::decode(&mut input, steps)?));
                let min = bits(min);
                let above = decode_wide(&mut input, steps)?;
                let sum =
                    |(i, above): (usize, u128)| above.wrapping_add(u128::from(min[i]) * u128::from(count[i]));
                let sum = above.into_iter().enumerate().map(sum).collect();
                StepNumbers::Unsigned(StepColumns {
                    min,
                    max,
                    first,
                    last,
                    sum,
                })
            }
            FieldType::String | FieldType::Boolean => return None,
        };
        input.is_empty().then_some(Self { sparse, numbers })
    }
}

/// Hands the values of each step to `step`, and fills `sparse`.
fn each_step<T: Copy>(
    keys: &StepKeys,
    times: &[i64],
    column: &Column,
    start: usize,
    sparse: &mut Option<SparseSteps>,
    values: &[T],
    mut step: impl FnMut(&[T]),
) {
    let mut present = Vec::new();
    let mut row = 0;
    for &rows in &keys.rows {
        let range = row..row + rows as usize;
        row = range.end;
        let Some(sparse) = sparse else {
            step(&values[start + range.start..start + range.end]);
            continue;
        };
        present.clear();
        let (mut first, mut last) = (None, times[range.start]);
        for row in range.clone().filter(|row| column.has(start + row)) {
            present.push(values[start + row]);
            first = first.or(Some(times[row]));
            last = times[row];
        }
        sparse.count.push(present.len() as u32);
        sparse.first.push(first.unwrap_or(times[range.start]));
        sparse.last.push(last);
        step(&present);
    }
}

fn bounds<T: Copy + Ord + Default>(values: &[T]) -> (T, T) {
    let first = values.first().copied().unwrap_or_default();
    values
        .iter()
        .fold((first, first), |(min, max), &v| (min.min(v), max.max(v)))
}

fn float_step(values: &[f64], out: &mut StepColumns<f64, f64>) {
    let first = values.first().copied().unwrap_or(0.0);
    let (mut min, mut max, mut sum) = (first, first, FloatSum::default());
    for &v in values {
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
        sum.add(v);
    }
    out.push(
        min,
        max,
        first,
        values.last().copied().unwrap_or(0.0),
        sum.value(),
    );
}

fn differences(of: &[i64], less: &[i64]) -> Vec<i64> {
    of.iter().zip(less).map(|(a, b)| a.wrapping_sub(*b)).collect()
}

fn sums(base: &[i64], mut offsets: Vec<i64>) -> Vec<i64> {
    offsets
        .iter_mut()
        .zip(base)
        .for_each(|(offset, base)| *offset = offset.wrapping_add(*base));
    offsets
}

fn small_numbers(input: &mut Input<'_>, count: usize) -> Option<Vec<u32>> {
    let numbers = ints::decode(input, count)?;
    numbers.into_iter().map(|n| u32::try_from(n).ok()).collect()
}

/// Low halves, then, if any is not zero, high halves.
fn encode_wide(values: impl Iterator<Item = u128> + Clone, level: Level, out: &mut Vec<u8>) {
    let low: Vec<i64> = values.clone().map(|v| v as i64).collect();
    let high: Vec<i64> = values.map(|v| (v >> 64) as i64).collect();
    ints::encode(&low, level, out);
    ints::encode(&high, level, out);
}

fn decode_wide(input: &mut Input<'_>, count: usize) -> Option<Vec<u128>> {
    let low = ints::decode(input, count)?;
    let high = ints::decode(input, count)?;
    let join = |(low, high): (&i64, &i64)| u128::from(*high as u64) << 64 | u128::from(*low as u64);
    Some(low.iter().zip(&high).map(join).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bitmap;
    use proptest::prelude::*;

    const HOUR: i64 = 3600 * SECOND;

    fn regular(series: u32, rows: i64, step: i64) -> (Vec<SeriesId>, Vec<i64>) {
        let begin = 1_793_491_200 * SECOND;
        (0..series)
            .flat_map(|s| (0..rows).map(move |i| (s, begin + i * step)))
            .unzip()
    }

    #[test]
    fn the_width_follows_the_density() {
        let width = |series, rows, step| {
            let (series, times) = regular(series, rows, step);
            choose_width(&series, &times, 8192)
        };
        assert_eq!(width(50, 2160, 10 * SECOND), Some(HOUR));
        assert_eq!(width(5, 20_000, SECOND), Some(300 * SECOND));
        assert_eq!(width(5, 20_000, 60 * SECOND), Some(6 * HOUR));
        assert_eq!(width(50, 400, 1_000_000 * SECOND), Some(i64::MAX));
        assert_eq!(width(5000, 10, 60 * SECOND), None);
        assert_eq!(width(0, 0, 1), Some(60 * SECOND), "nothing costs nothing");
    }

    #[test]
    fn hours_of_regular_rows_are_whole_hours() {
        let (series, times) = regular(10, 2160, 10 * SECOND);
        let keys = StepKeys::of(HOUR, &series, &times, 8192);
        assert_eq!(keys.of_block(0), 0..23);
        assert_eq!((keys.rows[0], keys.last[0] - keys.first[0]), (360, 3590 * SECOND));
        let mut bytes = Vec::new();
        keys.encode(Level::Fast, &mut bytes);
        assert!(
            bytes.len() < 500,
            "{} bytes for {} steps",
            bytes.len(),
            keys.len()
        );
        let column = Column {
            values: Values::Integer((0..series.len() as i64).collect()),
            present: None,
        };
        let stats = StepStats::of(&keys, &times, &column, 0).expect("numbers");
        let StepNumbers::Integer(c) = &stats.numbers else {
            panic!("integers")
        };
        assert_eq!((c.min[1], c.max[1], c.first[1], c.last[1]), (360, 719, 360, 719));
        assert_eq!(c.sum[1], (360..720).sum::<i128>());
    }

    fn rows() -> impl Strategy<Value = Vec<(u32, i64, Option<u64>)>> {
        let value = prop::option::weighted(0.8, prop_oneof![0u64..100, any::<u64>()]);
        let time = prop_oneof![8 => 0i64..100 * 60 * SECOND, 1 => any::<i64>()];
        prop::collection::vec((0u32..4, time, value), 1..200)
    }

    proptest! {
        #[test]
        fn any_steps_round_trip_and_sum_up(rows in rows(), width in 0..WIDTHS.len(), code in 0u8..3, block in 1usize..60, small in any::<bool>()) {
            let mut rows = rows;
            rows.sort_unstable_by_key(|r| (r.0, r.1));
            rows.dedup_by_key(|r| (r.0, r.1));
            let series: Vec<u32> = rows.iter().map(|r| r.0).collect();
            let times: Vec<i64> = rows.iter().map(|r| r.1).collect();
            let mut present = Bitmap::new();
            rows.iter().for_each(|r| present.push(r.2.is_some()));
            let numbers = rows.iter().map(|r| r.2.unwrap_or(0));
            let field_type = FieldType::from_code(code).expect("0 to 2 are numbers");
            let values = match field_type {
                FieldType::Float => Values::Float(numbers.map(f64::from_bits).collect()),
                FieldType::Integer => Values::Integer(numbers.map(|n| n as i64).collect()),
                _ => Values::Unsigned(numbers.collect()),
            };
            let column = Column { values, present: Some(present) };
            let keys = StepKeys::of(WIDTHS[width], &series, &times, block);
            prop_assert_eq!(keys.rows.iter().sum::<u32>() as usize, rows.len());
            let stats = StepStats::of(&keys, &times, &column, 0).expect("numbers");
            let level = if small { Level::Small } else { Level::Fast };
            let (mut key_bytes, mut bytes) = (Vec::new(), Vec::new());
            keys.encode(level, &mut key_bytes);
            stats.encode(&keys, level, &mut bytes);
            let decoded = StepKeys::decode(&key_bytes);
            prop_assert_eq!(decoded.as_ref(), Some(&keys));
            let back = StepStats::decode(&bytes, &keys, field_type).expect("just encoded");
            // NaN is not equal to itself; what is printed is.
            prop_assert_eq!(format!("{back:?}"), format!("{stats:?}"));
            let mut row = 0;
            for step in 0..keys.len() {
                let range = row..row + keys.rows[step] as usize;
                row = range.end;
                let values: Vec<usize> = range.clone().filter(|&i| column.has(i)).collect();
                let (first, last) = (range.start, range.end - 1);
                prop_assert!(series[first] == series[last] && keys.series[step] == series[first]);
                prop_assert!((keys.first[step], keys.last[step]) == (times[first], times[last]));
                prop_assert!(WIDTHS[width] == i64::MAX || times[first].div_euclid(WIDTHS[width]) == times[last].div_euclid(WIDTHS[width]));
                let count = stats.sparse.as_ref().map_or(keys.rows[step], |s| s.count[step]);
                prop_assert_eq!(count as usize, values.len());
                if let (Some(sparse), Some(&v0), Some(&v1)) = (&stats.sparse, values.first(), values.last()) {
                    prop_assert_eq!((sparse.first[step], sparse.last[step]), (times[v0], times[v1]));
                }
                if let (StepNumbers::Integer(c), Values::Integer(v), false) = (&stats.numbers, &column.values, values.is_empty()) {
                    let of: Vec<i64> = values.iter().map(|&i| v[i]).collect();
                    prop_assert_eq!(Some(&c.min[step]), of.iter().min());
                    prop_assert_eq!(Some(&c.max[step]), of.iter().max());
                    prop_assert_eq!((c.first[step], c.last[step]), (of[0], of[of.len() - 1]));
                    prop_assert_eq!(c.sum[step], of.iter().map(|&x| i128::from(x)).sum::<i128>());
                }
            }
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), code in 0u8..5) {
            let keys = StepKeys::decode(&bytes).unwrap_or_else(|| StepKeys::of(HOUR, &[1, 1, 2], &[5, HOUR, 7], 8192));
            let field_type = FieldType::from_code(code).expect("0 to 4 are types");
            let _ = StepStats::decode(&bytes, &keys, field_type);
        }
    }
}
