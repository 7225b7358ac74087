//! The keys of a block's rows: series ids as runs, and timestamps as the first of each run and the steps within it.

use super::bitpack::FRAME;
use super::bytes::{Input, put};
use super::{CHUNK_ROWS_MAX, Level, few, ints};
use crate::model::SeriesId;
use std::ops::Range;

/// Runs of equal series in the rows of a block, and the rows' timestamps.
pub type RowKeys = (Vec<(SeriesId, Range<usize>)>, Vec<i64>);

/// Appends the series ids and timestamps of a block. Both have one entry a row; rows of a series stand together.
pub fn encode_rows(series: &[SeriesId], times: &[i64], level: Level, out: &mut Vec<u8>) {
    let runs = (0..series.len()).filter(|&row| row == 0 || series[row] != series[row - 1]);
    let runs = runs.count();
    if runs == series.len() {
        return encode_singles(series, times, level, out);
    }
    let (mut ids, mut lengths) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
    let mut starts = Vec::with_capacity(runs);
    let mut steps = Vec::with_capacity(times.len() - runs);
    for (row, (&id, &time)) in series.iter().zip(times).enumerate() {
        if row > 0 && series[row - 1] == id {
            steps.push(time.wrapping_sub(times[row - 1]));
            *lengths.last_mut().expect("the first row begins a run") += 1;
        } else {
            ids.push(i64::from(id));
            lengths.push(1i64);
            starts.push(time);
        }
    }
    put(out, times.len() as u64);
    put(out, ids.len() as u64);
    encode_ids(&ids, level, out);
    for numbers in [&lengths, &starts, &steps] {
        ints::encode(numbers, level, out);
    }
}

/// A row of each series, as in most requests: nothing is copied to the heap.
fn encode_singles(series: &[SeriesId], times: &[i64], level: Level, out: &mut Vec<u8>) {
    put(out, times.len() as u64);
    put(out, times.len() as u64);
    if times.is_empty() {
        return;
    }
    let mut few = [0; FRAME];
    match few.get_mut(..series.len()) {
        Some(ids) => {
            ids.iter_mut()
                .zip(series)
                .for_each(|(to, &id)| *to = i64::from(id));
            encode_ids(ids, level, out);
        }
        None => encode_ids(
            &series.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(),
            level,
            out,
        ),
    }
    ints::put_equal(1, out);
    ints::encode(times, level, out);
}

/// Ids of series, which ascend.
fn encode_ids(ids: &[i64], level: Level, out: &mut Vec<u8>) {
    match level {
        Level::Fast if (2..=FRAME).contains(&ids.len()) => few::encode_ascending(ids, out),
        _ => ints::encode(ids, level, out),
    }
}

/// What [`encode_rows`] wrote, as it is stored.
struct Stored {
    ids: Vec<i64>,
    lengths: Vec<i64>,
    starts: Vec<i64>,
    /// Of all runs, end to end.
    steps: Vec<i64>,
}

impl Stored {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let rows = input.get_count(CHUNK_ROWS_MAX)?;
        let runs = input.get_count(rows)?;
        let stored = Self {
            ids: ints::decode(&mut input, runs)?,
            lengths: ints::decode(&mut input, runs)?,
            starts: ints::decode(&mut input, runs)?,
            steps: ints::decode(&mut input, rows - runs)?,
        };
        input.is_empty().then_some(stored)
    }

    /// Timestamps of all rows; `run` hears of each run.
    fn walk(self, mut run: impl FnMut(SeriesId, Range<usize>)) -> Option<Vec<i64>> {
        let rows = self.starts.len() + self.steps.len();
        let ids = self.ids.into_iter().zip(self.lengths);
        if self.steps.is_empty() {
            // A row of each series, as in most requests.
            for (row, (id, length)) in ids.enumerate() {
                if length != 1 {
                    return None;
                }
                run(SeriesId::try_from(id).ok()?, row..row + 1);
            }
            return Some(self.starts);
        }
        let mut steps = self.steps.as_slice();
        let mut times = Vec::with_capacity(rows);
        for ((id, length), start) in ids.zip(self.starts) {
            let first = times.len();
            let (of_run, rest) = steps.split_at_checked(usize::try_from(length).ok()?.checked_sub(1)?)?;
            steps = rest;
            let mut time = start;
            times.push(time);
            times.extend(of_run.iter().map(|step| {
                time = time.wrapping_add(*step);
                time
            }));
            run(SeriesId::try_from(id).ok()?, first..times.len());
        }
        (times.len() == rows).then_some(times)
    }
}

/// Reads them back.
pub fn decode_rows(bytes: &[u8]) -> Option<RowKeys> {
    let stored = Stored::read(bytes)?;
    let mut series = Vec::with_capacity(stored.ids.len());
    let times = stored.walk(|id, rows| series.push((id, rows)))?;
    Some((series, times))
}

/// The first series and the last. Times are not looked at.
pub fn series_range(bytes: &[u8]) -> Option<(SeriesId, SeriesId)> {
    let mut input = Input(bytes);
    let rows = input.get_count(CHUNK_ROWS_MAX)?;
    let runs = input.get_count(rows)?;
    let ids = ints::decode(&mut input, runs)?;
    let id = |id: &i64| SeriesId::try_from(*id).ok();
    Some((id(ids.first()?)?, id(ids.last()?)?))
}

/// Reads them back: a series id and a timestamp a row.
pub fn decode_row_keys(bytes: &[u8]) -> Option<(Vec<SeriesId>, Vec<i64>)> {
    let stored = Stored::read(bytes)?;
    let mut series = Vec::with_capacity(stored.starts.len() + stored.steps.len());
    let times = stored.walk(|id, rows| match rows.len() {
        1 => series.push(id),
        _ => series.resize(rows.end, id),
    })?;
    Some((series, times))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(rows: &[(SeriesId, i64)]) -> usize {
        let (series, times): (Vec<_>, Vec<_>) = rows.iter().copied().unzip();
        let mut bytes = Vec::new();
        encode_rows(&series, &times, Level::Fast, &mut bytes);
        let (runs, back) = decode_rows(&bytes).expect("it was just encoded");
        assert_eq!(back, times);
        let ids = runs.into_iter().flat_map(|(id, range)| range.map(move |_| id));
        assert_eq!(ids.collect::<Vec<_>>(), series);
        assert_eq!(
            series_range(&bytes),
            series.first().copied().zip(series.last().copied())
        );
        assert_eq!(decode_row_keys(&bytes), Some((series, times)));
        bytes.len()
    }

    #[test]
    fn regular_rows_cost_next_to_nothing() {
        let base = 1_700_000_000_000_000_000;
        let rows: Vec<_> = (0..80u32)
            .flat_map(|s| (0..100).map(move |i| (s, base + i * 10_000_000_000)))
            .collect();
        assert!(check(&rows) < 60);
        check(&[]);
        check(&[(u32::MAX, i64::MIN), (u32::MAX, i64::MAX)]);
    }

    proptest! {
        #[test]
        fn any_rows_round_trip(mut rows in prop::collection::vec((0u32..9, any::<i64>()), 0..300)) {
            rows.sort_unstable();
            rows.dedup();
            check(&rows);
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (decode_rows(&bytes), series_range(&bytes));
            if let Some((series, times)) = decode_row_keys(&bytes) {
                prop_assert_eq!(series.len(), times.len());
            }
        }
    }
}
