//! Merges several sorted sources (head parts, blocks of runs) into one walk by (series, time). Pure: blocks come from
//! a closure.
//!
//! Most series lie in few sources at times that do not overlap; their rows are handed on as slices of the source.
//! Only where times overlap are rows copied, by [`merge_sorted`], later sources winning.

use super::scan::{ColumnSlice, ScanError, ScanRequest, SeriesRows, SeriesSet};
use crate::model::{Column, SeriesId, SortedRows, TimeRange, merge_sorted};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// Sorted rows with the columns a request asked for, `None` where a field has no values in them.
#[derive(Debug)]
pub struct SourceRows {
    /// Runs of equal series, ascending: the series and where its rows are.
    pub series: Vec<(SeriesId, Range<usize>)>,
    /// One a row, from row 0.
    pub times: Vec<i64>,
    /// One a field of the request.
    pub columns: Vec<Option<Column>>,
}

/// One sorted source of rows.
pub enum Source<'a> {
    /// A part of the head; `columns[i]` is where the request's field i is.
    Part {
        /// The part.
        rows: Arc<SortedRows>,
        /// By field of the request.
        columns: Vec<Option<usize>>,
    },
    /// Blocks in order, fetched one after the other; `None` at the end.
    Blocks(Box<dyn FnMut() -> Result<Option<SourceRows>, ScanError> + 'a>),
}

impl Source<'_> {
    /// A head part as a source for this request.
    pub fn part(rows: Arc<SortedRows>, request: &ScanRequest) -> Self {
        let find = |field| rows.columns.binary_search_by_key(field, |(f, _)| *f).ok();
        let columns = request.fields.iter().map(find).collect();
        Self::Part { rows, columns }
    }
}

/// Where a cursor's rows are: shared, since a series' rows outlive the cursor's step to the next block.
#[derive(Clone)]
enum Held {
    Part(Arc<SortedRows>, Arc<[Option<usize>]>),
    Block(Arc<SourceRows>),
}

impl Held {
    fn times(&self) -> &[i64] {
        match self {
            Self::Part(rows, _) => &rows.times,
            Self::Block(rows) => &rows.times,
        }
    }

    fn column(&self, field: usize) -> Option<&Column> {
        match self {
            Self::Part(rows, columns) => columns[field].map(|at| &rows.columns[at].1),
            Self::Block(rows) => rows.columns[field].as_ref(),
        }
    }
}

/// Walks one source series by series.
struct Cursor<'a> {
    held: Option<Held>,
    /// Next row (parts) or next entry of `series` (blocks).
    at: usize,
    fetch: Option<Box<dyn FnMut() -> Result<Option<SourceRows>, ScanError> + 'a>>,
}

/// Rows of one series in one source.
struct Piece {
    rank: usize,
    held: Held,
    rows: Range<usize>,
}

impl<'a> Cursor<'a> {
    fn new(source: Source<'a>) -> Result<Self, ScanError> {
        Ok(match source {
            Source::Part { rows, columns } => Self {
                held: Some(Held::Part(rows, columns.into())),
                at: 0,
                fetch: None,
            },
            Source::Blocks(fetch) => {
                let mut cursor = Self {
                    held: None,
                    at: 0,
                    fetch: Some(fetch),
                };
                cursor.next_block()?;
                cursor
            }
        })
    }

    fn next_block(&mut self) -> Result<(), ScanError> {
        self.at = 0;
        self.held = None;
        if let Some(fetch) = &mut self.fetch {
            while let Some(rows) = fetch()? {
                if !rows.series.is_empty() {
                    self.held = Some(Held::Block(Arc::new(rows)));
                    break;
                }
            }
        }
        Ok(())
    }

    /// The series at the cursor, after skipping those not wanted.
    fn series(&mut self, wanted: &SeriesSet) -> Result<Option<SeriesId>, ScanError> {
        loop {
            let Some(held) = &self.held else { return Ok(None) };
            let (series, next) = match held {
                Held::Part(rows, _) => match rows.series.get(self.at) {
                    None => (None, 0),
                    Some(&series) if wanted.contains(series) => return Ok(Some(series)),
                    Some(&series) => (Some(series), skip_to(rows, self.at, wanted, series)),
                },
                Held::Block(rows) => match rows.series.get(self.at) {
                    None => (None, 0),
                    Some((series, _)) if wanted.contains(*series) => return Ok(Some(*series)),
                    Some((series, _)) => (Some(*series), self.at + 1),
                },
            };
            match series {
                Some(_) => self.at = next,
                None => self.next_block()?,
            }
        }
    }

    /// Takes the rows of `series`, at which the cursor stands, and moves past them.
    fn take(
        &mut self,
        series: SeriesId,
        rank: usize,
        time: &TimeRange,
        into: &mut Vec<Piece>,
    ) -> Result<(), ScanError> {
        while let Some(held) = &self.held {
            let rows = match held {
                Held::Part(rows, _) => {
                    if rows.series.get(self.at) != Some(&series) {
                        break;
                    }
                    let end = self.at + gallop_equal(&rows.series[self.at..], series);
                    let range = self.at..end;
                    self.at = end;
                    range
                }
                Held::Block(rows) => match rows.series.get(self.at) {
                    Some((s, range)) if *s == series => {
                        self.at += 1;
                        range.clone()
                    }
                    Some(_) => break,
                    None => {
                        self.next_block()?;
                        continue;
                    }
                },
            };
            let times = &held.times()[rows.clone()];
            let start = rows.start
                + if times[0] >= time.min {
                    0
                } else {
                    times.partition_point(|&t| t < time.min)
                };
            let inside = times.last().is_some_and(|&last| last <= time.max);
            let end = if inside {
                rows.end
            } else {
                rows.start + times.partition_point(|&t| t <= time.max)
            };
            if start < end {
                into.push(Piece {
                    rank,
                    held: held.clone(),
                    rows: start..end,
                });
            }
        }
        Ok(())
    }
}

/// How many values at the start equal `series`: doubling steps, then bisection.
fn gallop_equal(series: &[SeriesId], value: SeriesId) -> usize {
    let mut step = 1;
    while step < series.len() && series[step] == value {
        step *= 2;
    }
    let from = step / 2;
    from + series[from..series.len().min(step)].partition_point(|&s| s == value)
}

/// Where the first wanted series from `at` on may begin, `series` there being unwanted.
fn skip_to(rows: &SortedRows, at: usize, wanted: &SeriesSet, series: SeriesId) -> usize {
    let next = match wanted {
        SeriesSet::All => return at,
        SeriesSet::Range(range) if series < range.start => range.start,
        SeriesSet::Range(_) => return rows.len(),
        SeriesSet::Chosen(set) => {
            // The number of members up to `series` is the position of the next one.
            let Ok(position) = u32::try_from(set.rank(series)) else {
                return rows.len();
            };
            match set.select(position) {
                Some(next) => next,
                None => return rows.len(),
            }
        }
    };
    at + rows.series[at..].partition_point(|&s| s < next)
}

/// Visits the wanted rows of all sources in (series, time) order. Later sources win where two have the same point.
///
/// # Errors
/// Whatever fetching a block gives.
pub fn merge_sources(
    sources: Vec<Source<'_>>,
    request: &ScanRequest,
    visit: &mut dyn FnMut(&SeriesRows<'_>) -> ControlFlow<()>,
) -> Result<u64, ScanError> {
    let mut cursors = sources
        .into_iter()
        .map(Cursor::new)
        .collect::<Result<Vec<_>, _>>()?;
    let mut heap = BinaryHeap::with_capacity(cursors.len());
    for (rank, cursor) in cursors.iter_mut().enumerate() {
        if let Some(series) = cursor.series(&request.series)? {
            heap.push(Reverse((series, rank)));
        }
    }
    let mut pieces = Vec::new();
    let mut visited = 0;
    while let Some(&Reverse((series, _))) = heap.peek() {
        pieces.clear();
        while let Some(Reverse((next, rank))) = heap.peek().copied()
            && next == series
        {
            cursors[rank].take(series, rank, &request.time, &mut pieces)?;
            match cursors[rank].series(&request.series)? {
                Some(following) => {
                    if let Some(mut top) = heap.peek_mut() {
                        *top = Reverse((following, rank));
                    }
                }
                None => drop(heap.pop()),
            }
        }
        if visit_series(series, &mut pieces, request, &mut visited, visit).is_break() {
            break;
        }
    }
    Ok(visited)
}

fn visit_series(
    series: SeriesId,
    pieces: &mut [Piece],
    request: &ScanRequest,
    visited: &mut u64,
    visit: &mut dyn FnMut(&SeriesRows<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let first = |p: &Piece| p.held.times()[p.rows.start];
    let last = |p: &Piece| p.held.times()[p.rows.end - 1];
    pieces.sort_by_key(first);
    if pieces.windows(2).any(|pair| last(&pair[0]) >= first(&pair[1])) {
        let rows = fold(series, pieces, request);
        *visited += rows.len() as u64;
        let find = |field| {
            rows.columns
                .iter()
                .find(|(f, _)| *f == field)
                .map(|(_, column)| column)
        };
        let columns: Vec<ColumnSlice<'_>> = (0..request.fields.len())
            .map(|i| ColumnSlice {
                column: find(i as u16),
                start: 0,
            })
            .collect();
        return visit(&SeriesRows {
            series,
            times: &rows.times,
            columns: &columns,
        });
    }
    let mut columns: Vec<ColumnSlice<'_>> = Vec::with_capacity(request.fields.len());
    let mut flow = ControlFlow::Continue(());
    for piece in pieces.iter() {
        columns.clear();
        columns.extend((0..request.fields.len()).map(|i| ColumnSlice {
            column: piece.held.column(i),
            start: piece.rows.start,
        }));
        *visited += piece.rows.len() as u64;
        flow = visit(&SeriesRows {
            series,
            times: &piece.held.times()[piece.rows.clone()],
            columns: &columns,
        });
        if flow.is_break() {
            break;
        }
    }
    flow
}

/// Copies overlapping pieces into one, oldest source first. Field ids are positions in the request here.
fn fold(series: SeriesId, pieces: &mut [Piece], request: &ScanRequest) -> SortedRows {
    pieces.sort_by_key(|piece| piece.rank);
    let copies: Vec<SortedRows> = pieces
        .iter()
        .map(|piece| {
            let mut copy = SortedRows::empty(request.measurement);
            copy.times = piece.held.times()[piece.rows.clone()].to_vec();
            copy.series = vec![series; copy.times.len()];
            for i in 0..request.fields.len() {
                if let Some(column) = piece.held.column(i) {
                    let mut to = Column::new(column.values.field_type());
                    to.extend_from(column, piece.rows.clone());
                    copy.columns.push((i as u16, to));
                }
            }
            copy
        })
        .collect();
    merge_sorted(request.measurement, &copies.iter().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldType, FieldValue, Values};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Point = (SeriesId, i64, Option<i64>, Option<i64>);
    type Model = BTreeMap<(SeriesId, i64), [Option<FieldValue>; 2]>;

    fn sorted(points: &[Point]) -> SortedRows {
        let column = |pick: fn(&Point) -> Option<i64>| {
            let mut column = Column::new(FieldType::Integer);
            for point in points {
                match pick(point) {
                    Some(value) => {
                        let one = Column {
                            values: Values::Integer(vec![value]),
                            present: None,
                        };
                        column.push_from(&one, 0);
                    }
                    None => column.push_missing(1),
                }
            }
            column
        };
        let (series, times) = points.iter().map(|p| (p.0, p.1)).unzip();
        SortedRows::from_unsorted(1, series, times, vec![(3, column(|p| p.2)), (5, column(|p| p.3))])
    }

    fn blocks(rows: &SortedRows, block: usize) -> Vec<SourceRows> {
        let starts = (0..rows.len()).step_by(block);
        starts
            .map(|start| {
                let range = start..(start + block).min(rows.len());
                let mut series: Vec<(SeriesId, Range<usize>)> = Vec::new();
                for row in range.clone() {
                    let at = row - start;
                    match series.last_mut() {
                        Some((s, r)) if *s == rows.series[row] => r.end = at + 1,
                        _ => series.push((rows.series[row], at..at + 1)),
                    }
                }
                let cut = |field: u16| {
                    let (_, column) = rows.columns.iter().find(|(f, _)| *f == field)?;
                    let mut to = Column::new(FieldType::Integer);
                    to.extend_from(column, range.clone());
                    Some(to)
                };
                SourceRows {
                    series,
                    times: rows.times[range.clone()].to_vec(),
                    columns: vec![cut(3), cut(5), None],
                }
            })
            .collect()
    }

    fn points() -> impl Strategy<Value = Vec<Point>> {
        let value = prop::option::of(0i64..1000);
        prop::collection::vec((0u32..5, 0i64..20, value.clone(), value), 0..60)
    }

    proptest! {
        #[test]
        fn any_mixture_of_sources_equals_a_map(
            inputs in prop::collection::vec((points(), any::<bool>(), 1usize..9), 0..6),
            min in 0i64..20, max in 0i64..20, choice in 0u8..4,
        ) {
            let wanted = match choice {
                0 => SeriesSet::All,
                1 => SeriesSet::Range(1..3),
                2 => SeriesSet::Chosen(Arc::new([0u32, 3].into_iter().collect())),
                _ => SeriesSet::Chosen(Arc::default()),
            };
            let request = ScanRequest { measurement: 1, series: wanted, time: TimeRange { min, max }, fields: vec![3, 5, 9] };
            let mut expected = Model::new();
            let mut sources = Vec::new();
            for (points, as_blocks, block) in &inputs {
                for (series, time, a, b) in points {
                    let entry = expected.entry((*series, *time)).or_default();
                    for (to, from) in entry.iter_mut().zip([a, b]) {
                        if let Some(value) = from { *to = Some(FieldValue::Integer(*value)) }
                    }
                }
                let rows = sorted(points);
                if *as_blocks {
                    let mut blocks = blocks(&rows, *block).into_iter();
                    sources.push(Source::Blocks(Box::new(move || Ok(blocks.next()))));
                } else {
                    sources.push(Source::part(Arc::new(rows), &request));
                }
            }
            expected.retain(|(series, time), _| request.series.contains(*series) && request.time.contains(*time));
            let mut order = Vec::new();
            let mut got = Model::new();
            let visited = merge_sources(sources, &request, &mut |rows| {
                for (i, &time) in rows.times.iter().enumerate() {
                    let value = |c: &ColumnSlice<'_>| c.column.and_then(|column| column.get(c.start + i));
                    order.push((rows.series, time));
                    got.insert((rows.series, time), [value(&rows.columns[0]), value(&rows.columns[1])]);
                    assert!(value(&rows.columns[2]).is_none());
                }
                ControlFlow::Continue(())
            }).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert!(order.windows(2).all(|w| w[0] < w[1]), "{:?}", order);
            prop_assert_eq!(visited, order.len() as u64);
            prop_assert_eq!(got, expected);
        }
    }
}
