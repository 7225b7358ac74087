//! From a frozen head to sorted tables by (partition, measurement), in the order the store writes them. Pure.

use super::head::PartMap;
use super::publish::parts_of;
use crate::model::{MeasurementId, SeriesId, SortedRows, TimeRange, concat_ranges};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// About so many rows are put together at once: the head is sealed in slices, so that it is never in memory twice, and
/// sorting a slice stays in the processor's cache.
const SLICE_ROWS: usize = 1 << 16;

/// Tables of a frozen head: ascending partition, then measurement, then series. A measurement with many rows comes in several.
/// Each is made when it is asked for.
pub fn sealed_tables<'a>(
    frozen: &'a [Arc<PartMap>],
    partition_of: impl Fn(i64) -> i64 + Copy + 'a,
    alive: impl Fn(MeasurementId) -> bool + 'a,
) -> impl Iterator<Item = (i64, SortedRows)> + 'a {
    let mut wanted: BTreeMap<i64, Vec<MeasurementId>> = BTreeMap::new();
    let mut measurements: Vec<MeasurementId> = frozen.iter().flat_map(|map| map.keys().copied()).collect();
    measurements.sort_unstable();
    measurements.dedup();
    for measurement in measurements.into_iter().filter(|&m| alive(m)) {
        for partition in partitions(frozen, measurement, partition_of) {
            wanted.entry(partition).or_default().push(measurement);
        }
    }
    wanted.into_iter().flat_map(move |(partition, measurements)| {
        measurements.into_iter().flat_map(move |measurement| {
            Slices::new(
                measurement,
                parts_of(frozen, measurement),
                partition,
                partition_of,
            )
            .map(move |rows| (partition, rows))
        })
    })
}

fn partitions(
    frozen: &[Arc<PartMap>],
    measurement: MeasurementId,
    partition_of: impl Fn(i64) -> i64,
) -> Vec<i64> {
    let mut found = Vec::new();
    for part in parts_of(frozen, measurement) {
        let TimeRange { min, max } = part.time_range();
        let (first, last) = (partition_of(min), partition_of(max));
        if first == last {
            found.push(first);
        } else {
            found.extend(part.times.iter().map(|&time| partition_of(time)));
        }
        found.sort_unstable();
        found.dedup();
    }
    found
}

/// The rows of one measurement in one partition, some series at a time.
struct Slices<F> {
    measurement: MeasurementId,
    parts: Vec<Arc<SortedRows>>,
    partition: i64,
    partition_of: F,
    /// Rows of each part that were given already.
    at: Vec<usize>,
}

impl<F: Fn(i64) -> i64> Slices<F> {
    fn new(measurement: MeasurementId, parts: Vec<Arc<SortedRows>>, partition: i64, partition_of: F) -> Self {
        let at = vec![0; parts.len()];
        Self {
            measurement,
            parts,
            partition,
            partition_of,
            at,
        }
    }

    /// Where the rows of series up to `last` end in each part.
    fn ends(&self, last: SeriesId) -> impl Iterator<Item = usize> {
        let parts = self.parts.iter().zip(&self.at);
        parts.map(move |(part, &at)| at + part.series[at..].partition_point(|&series| series <= last))
    }

    /// The last series of the next slice: as many as make about [`SLICE_ROWS`], and one at least.
    fn last_series(&self) -> SeriesId {
        let first = self
            .parts
            .iter()
            .zip(&self.at)
            .filter_map(|(part, &at)| part.series.get(at));
        let (mut low, mut high) = (first.min().copied().unwrap_or(0), SeriesId::MAX);
        let given: usize = self.at.iter().sum();
        while low < high {
            // Rounded up, so that the range always shrinks.
            let middle = high - (high - low) / 2;
            if self.ends(middle).sum::<usize>() - given <= SLICE_ROWS {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

impl<F: Fn(i64) -> i64> Iterator for Slices<F> {
    type Item = SortedRows;

    fn next(&mut self) -> Option<SortedRows> {
        while self.at.iter().zip(&self.parts).any(|(&at, part)| at < part.len()) {
            let ends: Vec<usize> = self.ends(self.last_series()).collect();
            let mut ranges = Vec::new();
            for ((part, at), end) in self.parts.iter().zip(&mut self.at).zip(ends) {
                let rows = std::mem::replace(at, end)..end;
                in_partition(part, rows, self.partition, &self.partition_of, &mut ranges);
            }
            if !ranges.is_empty() {
                return Some(concat_ranges(self.measurement, &ranges));
            }
        }
        None
    }
}

/// Adds those of some rows that lie in a partition.
fn in_partition<'a>(
    part: &'a SortedRows,
    rows: Range<usize>,
    partition: i64,
    partition_of: &impl Fn(i64) -> i64,
    ranges: &mut Vec<(&'a SortedRows, Range<usize>)>,
) {
    let mut row = rows.start;
    while row < rows.end {
        let start = row;
        while row < rows.end && partition_of(part.times[row]) == partition {
            row += 1;
        }
        if start < row {
            ranges.push((part, start..row));
        }
        row += usize::from(row == start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, Values};
    use std::collections::HashMap;

    fn part(points: &[(SeriesId, i64)]) -> Arc<SortedRows> {
        let (series, times) = points.iter().copied().unzip();
        let values = Values::Integer(
            points
                .iter()
                .map(|(series, time)| i64::from(*series) * 1000 + time)
                .collect(),
        );
        let column = Column {
            values,
            present: None,
        };
        Arc::new(SortedRows::from_unsorted(4, series, times, vec![(1, column)]))
    }

    #[test]
    fn slices_hold_every_row_once_in_order() {
        let many: Vec<(SeriesId, i64)> = (0..300u32)
            .flat_map(|s| (0..700).map(move |t| (s * 7, t * 3)))
            .collect();
        let others: Vec<(SeriesId, i64)> = (0..400u32).map(|s| (s * 5, i64::from(s))).collect();
        let one_long: Vec<(SeriesId, i64)> = (0..(SLICE_ROWS as i64 + 10)).map(|t| (u32::MAX, t)).collect();
        let parts = [part(&many), part(&others), part(&one_long)];
        let map: PartMap = HashMap::from([(4, parts.as_slice().into())]);
        let frozen = [Arc::new(map)];
        let partition_of = |time: i64| time / 1000;
        let tables: Vec<(i64, SortedRows)> = sealed_tables(&frozen, partition_of, |_| true).collect();
        let mut expected: Vec<(i64, SeriesId, i64)> = many
            .iter()
            .chain(&others)
            .chain(&one_long)
            .map(|&(series, time)| (partition_of(time), series, time))
            .collect();
        expected.sort_unstable();
        expected.dedup();
        let rows = |(partition, rows): &(i64, SortedRows)| {
            let keys = rows.series.iter().zip(&rows.times);
            keys.map(|(series, time)| (*partition, *series, *time))
                .collect::<Vec<_>>()
        };
        assert_eq!(tables.iter().flat_map(rows).collect::<Vec<_>>(), expected);
        assert!(tables.len() > 4 && tables.iter().all(|(_, rows)| rows.len() <= SLICE_ROWS + 10));
        assert!(sealed_tables(&frozen, partition_of, |_| false).next().is_none());
    }
}
