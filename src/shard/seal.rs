//! From a frozen head to sorted tables by (slice of time, measurement), in the order the store writes them. Pure.

use super::head::PartMap;
use super::part::{HeadPart, Source};
use super::publish::parts_of;
use crate::model::{MeasurementId, SeriesId, SortedRows, TimeRange, concat_ranges};
use crate::store::partition::{Partition, Slice, choose};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// About so many rows are put together at once: the head is sealed in pieces, so that it is never in memory twice, and
/// sorting a piece stays in the processor's cache.
const PIECE_ROWS: usize = if cfg!(test) { 1 << 11 } else { 1 << 16 };

/// Tables are unpacked until so many rows of them are there to make pieces of.
const OPEN_ROWS_MIN: usize = 4 * PIECE_ROWS;

/// Where more tables than that would be open at once they are put together by the parts they are in before they are cut into pieces.
const TABLES_MAX: usize = 1 << 10;

/// Tables of a frozen head: ascending slice of time, then measurement, then series. A measurement with many rows comes in several.
/// Each is made when it is asked for.
pub fn sealed_tables<'a>(
    frozen: &'a [Arc<PartMap>],
    alive: impl Fn(MeasurementId) -> bool + 'a,
) -> impl Iterator<Item = (Slice, SortedRows)> + 'a {
    let measurements: BTreeSet<MeasurementId> = frozen.iter().flat_map(|map| map.keys().copied()).collect();
    let (mut days, mut wanted) = (BTreeMap::new(), BTreeSet::new());
    for measurement in measurements.into_iter().filter(|&m| alive(m)) {
        for part in parts_of(frozen, measurement) {
            count_days(&part, |day, rows| {
                *days.entry(day).or_default() += rows;
                wanted.insert((day, measurement));
            });
        }
    }
    choose(&days).into_iter().flat_map(move |slice| {
        let inside = wanted.iter().filter(|(day, _)| slice.time.overlaps(&day.time()));
        let measurements: BTreeSet<MeasurementId> = inside.map(|(_, measurement)| *measurement).collect();
        measurements.into_iter().flat_map(move |measurement| {
            let pieces = Pieces::new(measurement, parts_of(frozen, measurement), slice.time);
            pieces.map(move |rows| (slice, rows))
        })
    })
}

fn count_days(part: &HeadPart, mut count: impl FnMut(Partition, u64)) {
    let TimeRange { min, max } = part.time_range();
    let first = Partition::day(min);
    if first == Partition::day(max) {
        return count(first, part.rows_max() as u64);
    }
    let part = part.borrow_rows();
    // Rows of a series follow each other in time, so most days come in stretches.
    let mut row = 0;
    while row < part.len() {
        let day = Partition::day(part.times[row]);
        let time = day.time();
        let len = part.times[row..]
            .iter()
            .take_while(|&&t| time.contains(t))
            .count();
        count(day, len as u64);
        row += len;
    }
}

/// The rows of one measurement in one slice of time, some series at a time. Tables are unpacked when a piece needs them, and let go of
/// when all their rows are in one: senders keep an order, so with many series most tables have few of them.
struct Pieces {
    measurement: MeasurementId,
    time: TimeRange,
    /// Not unpacked yet, by their first series, descending.
    waiting: Vec<Waiting>,
    /// In order of arrival.
    open: Vec<Open>,
}

struct Waiting {
    first: SeriesId,
    /// Its place in the order of arrival: of equal points the later holds.
    order: usize,
    source: Source,
}

struct Open {
    order: usize,
    rows: Arc<SortedRows>,
    /// Rows that were given already.
    at: usize,
    /// Does it lie in the slice of time whole?
    whole: bool,
}

impl Pieces {
    fn new(measurement: MeasurementId, parts: Vec<Arc<HeadPart>>, time: TimeRange) -> Self {
        let parts: Vec<_> = parts
            .iter()
            .filter(|part| time.overlaps(&part.time_range()))
            .collect();
        let rows: usize = parts.iter().map(|part| part.rows_max()).sum();
        let mut sources: Vec<Source> = parts.iter().flat_map(|part| part.unsealed()).collect();
        let mut firsts = vec![SeriesId::MIN; sources.len()];
        if rows > PIECE_ROWS {
            let ranges: Vec<(SeriesId, SeriesId)> = sources.iter().map(Source::series).collect();
            if open_at_once(&ranges) > TABLES_MAX {
                // A row is copied once more for every time that rows are put together.
                sources = parts
                    .iter()
                    .map(|part| Source::Rows(part.borrow_rows()))
                    .collect();
                firsts = vec![SeriesId::MIN; sources.len()];
            } else {
                firsts = ranges.into_iter().map(|(first, _)| first).collect();
            }
        }
        let waiting = firsts.into_iter().zip(sources).enumerate();
        let mut waiting: Vec<Waiting> = waiting
            .map(|(order, (first, source))| Waiting { first, order, source })
            .collect();
        waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.first));
        Self {
            measurement,
            time,
            waiting,
            open: Vec::new(),
        }
    }

    /// Unpacks what has rows of the next piece.
    fn open(&mut self) {
        let mut left = self.left();
        let next = self.open.iter().filter_map(|open| open.rows.series.get(open.at));
        let mut next = next.copied().min().unwrap_or(SeriesId::MAX);
        while let Some(waiting) = self
            .waiting
            .pop_if(|waiting| left < OPEN_ROWS_MIN || waiting.first <= next)
        {
            next = next.min(waiting.first);
            let rows = waiting.source.read();
            left += rows.len();
            let range = rows.time_range();
            let place = self.open.partition_point(|open| open.order < waiting.order);
            let open = Open {
                order: waiting.order,
                at: 0,
                whole: self.time.min <= range.min && range.max <= self.time.max,
                rows,
            };
            self.open.insert(place, open);
        }
    }

    /// Rows that are unpacked and not given yet.
    fn left(&self) -> usize {
        self.open.iter().map(|open| open.rows.len() - open.at).sum()
    }

    /// Where the rows of series up to `last` end in each open table.
    fn ends(&self, last: SeriesId) -> impl Iterator<Item = usize> {
        self.open.iter().map(move |open| {
            let series = &open.rows.series[open.at..];
            open.at + series.partition_point(|&series| series <= last)
        })
    }

    /// The last series of the next piece: as many as make about [`PIECE_ROWS`], and one at least. None that a table has which is not
    /// open.
    fn last_series(&self) -> SeriesId {
        let before = self
            .waiting
            .last()
            .map_or(SeriesId::MAX, |waiting| waiting.first - 1);
        if self.left() <= PIECE_ROWS {
            return before;
        }
        let first = self.open.iter().filter_map(|open| open.rows.series.get(open.at));
        let (mut low, mut high) = (first.min().copied().unwrap_or(0), before);
        let given: usize = self.open.iter().map(|open| open.at).sum();
        while low < high {
            // Rounded up, so that the range always shrinks.
            let middle = high - (high - low) / 2;
            if self.ends(middle).sum::<usize>() - given <= PIECE_ROWS {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}

impl Iterator for Pieces {
    type Item = SortedRows;

    fn next(&mut self) -> Option<SortedRows> {
        loop {
            self.open();
            if self.open.is_empty() {
                return None;
            }
            let ends: Vec<usize> = self.ends(self.last_series()).collect();
            let mut ranges: Vec<(&SortedRows, Range<usize>)> = Vec::new();
            for (open, &end) in self.open.iter().zip(&ends) {
                let rows = open.at..end;
                match open.whole {
                    true if rows.is_empty() => {}
                    true => ranges.push((open.rows.as_ref(), rows)),
                    false => in_time(&open.rows, rows, self.time, &mut ranges),
                }
            }
            let piece = (!ranges.is_empty()).then(|| concat_ranges(self.measurement, &ranges));
            for (open, end) in self.open.iter_mut().zip(ends) {
                open.at = end;
            }
            self.open.retain(|open| open.at < open.rows.len());
            if piece.is_some() {
                return piece;
            }
        }
    }
}

/// How many tables have a series, on average over those from the first to the last.
fn open_at_once(ranges: &[(SeriesId, SeriesId)]) -> usize {
    let first = ranges.iter().map(|range| range.0).min().unwrap_or(0);
    let last = ranges.iter().map(|range| range.1).max().unwrap_or(0);
    let width = |(first, last): (SeriesId, SeriesId)| u64::from(last - first) + 1;
    let all: u64 = ranges.iter().copied().map(width).sum();
    (all / width((first, last))) as usize
}

/// Adds those of some rows that lie in a range of time.
fn in_time<'a>(
    part: &'a SortedRows,
    rows: Range<usize>,
    time: TimeRange,
    ranges: &mut Vec<(&'a SortedRows, Range<usize>)>,
) {
    let mut row = rows.start;
    while row < rows.end {
        let start = row;
        while row < rows.end && time.contains(part.times[row]) {
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
    use hashbrown::HashMap;

    const DAY: i64 = 86_400_000_000_000;

    fn part(measurement: MeasurementId, points: &[(SeriesId, i64)]) -> Arc<HeadPart> {
        let (series, times) = points.iter().copied().unzip();
        let values = points
            .iter()
            .map(|(series, time)| i64::from(*series) * 1000 + time);
        let column = Column {
            values: Values::Integer(values.collect()),
            present: None,
        };
        let rows = SortedRows::from_unsorted(measurement, series, times, vec![(1, column)]);
        Arc::new(rows.into())
    }

    #[test]
    fn pieces_hold_every_row_once_in_order() {
        let many: Vec<(SeriesId, i64)> = (0..300u32)
            .flat_map(|s| (0..700).map(move |t| (s * 7, t * DAY / 300)))
            .collect();
        let others: Vec<(SeriesId, i64)> = (0..400u32).map(|s| (s * 5, i64::from(s))).collect();
        let one_long: Vec<(SeriesId, i64)> = (0..(PIECE_ROWS as i64 + 10)).map(|t| (u32::MAX, t)).collect();
        let parts = [part(4, &many), part(4, &others), part(4, &one_long)];
        let map: PartMap = HashMap::from([(4, parts.as_slice().into())]);
        let frozen = [Arc::new(map)];
        let tables: Vec<(Slice, SortedRows)> = sealed_tables(&frozen, |_| true).collect();
        let all = many.iter().chain(&others).chain(&one_long);
        let mut expected: Vec<(i64, SeriesId, i64)> = all
            .map(|&(series, time)| (time.div_euclid(DAY), series, time))
            .collect();
        expected.sort_unstable();
        expected.dedup();
        let rows = |(slice, rows): &(Slice, SortedRows)| {
            assert!(rows.times.iter().all(|time| slice.time.contains(*time)));
            let keys = rows.series.iter().zip(&rows.times);
            keys.map(|(series, time)| (slice.partition.index, *series, *time))
                .collect::<Vec<_>>()
        };
        assert_eq!(tables.iter().flat_map(rows).collect::<Vec<_>>(), expected);
        assert!(tables.len() > 4 && tables.iter().all(|(_, rows)| rows.len() <= PIECE_ROWS + 10));
        assert!(sealed_tables(&frozen, |_| false).next().is_none());
    }

    #[test]
    fn tables_are_opened_when_a_piece_needs_them() {
        // Each has 100 series, half of them those of the one before; they come in any order, and each twice.
        let points = |at: u32| -> Vec<(SeriesId, i64)> {
            let series = move |i: i64| at * 50 + (i % 100) as u32;
            (0..1000)
                .map(|i| (series(i), i * 7 + i64::from(at % 3)))
                .collect()
        };
        let numbers: Vec<u32> = (0..120).map(|at| at * 37 % 60).collect();
        let parts: Vec<Arc<HeadPart>> = numbers.iter().map(|&at| part(4, &points(at))).collect();
        let mut expected: Vec<(SeriesId, i64)> = numbers.iter().flat_map(|&at| points(at)).collect();
        expected.sort_unstable();
        expected.dedup();
        let all = TimeRange {
            min: i64::MIN,
            max: i64::MAX,
        };
        let mut pieces = Pieces::new(4, parts, all);
        let (mut found, mut most, mut count) = (Vec::new(), 0, 0);
        while let Some(rows) = pieces.next() {
            most = most.max(pieces.open.len());
            count += 1;
            found.extend(rows.series.iter().copied().zip(rows.times.iter().copied()));
        }
        assert_eq!(found, expected);
        assert!(most < 30, "{most} of 120 tables were open at once");
        assert!(
            (40..120).contains(&count),
            "{count} pieces of about {PIECE_ROWS} rows"
        );
    }

    #[test]
    fn thin_days_share_tables() {
        let far: Vec<(SeriesId, i64)> = (0..50).map(|i| (i as u32 % 3, i * 9 * DAY - 100 * DAY)).collect();
        let maps: Vec<Arc<PartMap>> = vec![
            Arc::new(HashMap::from([(
                1,
                vec![part(1, &[(0, 5), (0, 2 * DAY), (1, 7)])].into(),
            )])),
            Arc::new(HashMap::from([
                (1, vec![part(1, &[(0, 6)]), part(1, &far)].into()),
                (2, vec![part(2, &[(0, 5)])].into()),
                (3, vec![part(3, &[(0, 5)])].into()),
            ])),
        ];
        let tables: Vec<(Slice, SortedRows)> = sealed_tables(&maps, |m| m != 3).collect();
        let order: Vec<_> = tables.iter().map(|(s, t)| (s.time.min, t.measurement)).collect();
        assert!(order.windows(2).all(|w| w[0] < w[1]), "{order:?}");
        let rows = tables
            .iter()
            .flat_map(|(_, t)| t.times.iter().map(|&time| (t.measurement, time)));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_unstable();
        let mut expected: Vec<_> = far.iter().map(|&(_, t)| (1, t)).collect();
        expected.extend([(1, 5), (1, 2 * DAY), (1, 7), (1, 6), (2, 5)]);
        expected.sort_unstable();
        assert_eq!(rows, expected);
        assert!(tables.len() < 10, "{} tables", tables.len());
    }
}
