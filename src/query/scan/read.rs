//! Turns a task into batches: reads keys first, and columns only when they are asked for.

use super::batch::{Batch, Cells, Held, SeriesRun};
use super::overlap;
use super::steps::Steps;
use super::tasks::Task;
use super::zones::Zone;
use super::{ScanCounters, ScanError, ScanRequest, ScanStats, SeriesSet, Source};
use crate::block::RowKeys;
use crate::block::stats::Numbers;
use crate::model::{Column, FieldId, SeriesId, TimeRange};
use crate::query::error::QueryError;
use crate::shard::part::HeadPart;
use crate::store::RunBlocks;
use std::cell::{Cell, OnceCell};
use std::ops::{Deref, Range, RangeInclusive};
use std::sync::Arc;

/// Takes what a task holds.
pub trait Visitor {
    /// A task before anything of it is read. True: it is not needed.
    ///
    /// # Errors
    /// The visitor's own; the scan ends.
    fn skip(&mut self, _task: &Task) -> Result<bool, QueryError> {
        Ok(false)
    }

    /// A zone whose rows are all wanted, before it is read. True: its statistics were enough, or it is not needed.
    ///
    /// # Errors
    /// The visitor's own; the scan ends.
    fn whole(&mut self, _whole: &Whole<'_>) -> Result<bool, QueryError> {
        Ok(false)
    }

    /// May [`steps`](Self::steps) of a zone be enough?
    fn wants_steps(&mut self, _zone: &Zone) -> bool {
        false
    }

    /// The wanted steps of a zone, before it is read. True: they were enough.
    ///
    /// # Errors
    /// The visitor's own; the scan ends.
    fn steps(&mut self, _steps: &Steps<'_>) -> Result<bool, QueryError> {
        Ok(false)
    }

    /// Rows. Each (series, time) comes once; batches come in no particular order.
    ///
    /// # Errors
    /// The visitor's own; the scan ends.
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError>;
}

/// A zone whose rows are all wanted, and are nowhere else.
pub struct Whole<'a> {
    /// Which.
    pub zone: &'a Zone,
    source: &'a Source,
    fields: &'a [FieldId],
}

impl Whole<'_> {
    /// Rows that have a value of a field of the request.
    pub fn count(&self, i: usize) -> u64 {
        match self.source {
            Source::Run(run) => run
                .stats(self.zone.at as usize, self.fields[i])
                .map_or(0, |stats| u64::from(stats.count)),
            Source::Part(part) => match part_column(part, self.fields[i]) {
                None => 0,
                Some(column) => match &column.present {
                    None => u64::from(self.zone.rows),
                    Some(present) => {
                        let rows = part.outline()[self.zone.at as usize].rows.clone();
                        rows.filter(|&row| present.get(row)).count() as u64
                    }
                },
            },
        }
    }

    /// What the numbers of a field of the request amount to; `None` where that is not known.
    pub fn numbers(&self, i: usize) -> Option<Numbers> {
        match self.source {
            Source::Run(run) => run
                .stats(self.zone.at as usize, self.fields[i])
                .map(|s| s.numbers),
            Source::Part(_) => None,
        }
    }
}

/// Reads the tasks of one scan. Shared by its workers.
pub struct Reader<'a> {
    sources: &'a [Source],
    request: &'a ScanRequest,
    counters: &'a ScanCounters,
}

/// The wanted rows of a zone.
pub(super) struct ZoneRows<'a> {
    /// Which source they are from: later ones are newer.
    pub rank: u32,
    pub runs: Vec<SeriesRun>,
    pub times: Times<'a>,
    pub cells: ZoneCells<'a>,
}

/// One a row.
pub(super) enum Times<'a> {
    Part(&'a [i64]),
    Block(Arc<RowKeys>),
    Owned(Vec<i64>),
}

impl Deref for Times<'_> {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        match self {
            Self::Part(times) => times,
            Self::Block(keys) => &keys.1,
            Self::Owned(times) => times,
        }
    }
}

/// The columns of a zone.
pub(super) enum ZoneCells<'a> {
    Part(&'a HeadPart, &'a [FieldId]),
    Block {
        run: &'a RunBlocks,
        at: usize,
        fields: &'a [FieldId],
        cells: Vec<OnceCell<Option<Arc<Column>>>>,
        bytes: Cell<u64>,
    },
    Held(Held),
}

impl Cells for ZoneCells<'_> {
    fn column(&self, i: usize) -> Result<Option<&Column>, ScanError> {
        match self {
            Self::Part(part, fields) => Ok(part_column(part, fields[i])),
            Self::Block {
                run,
                at,
                fields,
                cells,
                bytes,
            } => {
                if let Some(column) = cells[i].get() {
                    return Ok(column.as_deref());
                }
                let column = run.column(*at, fields[i])?.map(|(column, read)| {
                    bytes.set(bytes.get() + read);
                    column
                });
                Ok(cells[i].get_or_init(|| column).as_deref())
            }
            Self::Held(held) => held.column(i),
        }
    }

    fn is_full(&self, columns: &[usize]) -> bool {
        match self {
            Self::Part(part, fields) => columns
                .iter()
                .any(|&i| part_column(part, fields[i]).is_some_and(|column| column.present.is_none())),
            Self::Block { run, at, fields, .. } => columns.iter().any(|&i| is_full(run, *at, fields[i])),
            Self::Held(held) => held.is_full(columns),
        }
    }
}

/// Has every row of a block a value of the field?
fn is_full(run: &RunBlocks, at: usize, field: FieldId) -> bool {
    run.stats(at, field)
        .is_some_and(|stats| stats.count == run.block(at).rows)
}

fn part_column(part: &HeadPart, field: FieldId) -> Option<&Column> {
    let at = part.columns.binary_search_by_key(&field, |(f, _)| *f).ok()?;
    Some(&part.columns[at].1)
}

impl<'a> Reader<'a> {
    /// Reads these sources so.
    pub fn new(sources: &'a [Source], request: &'a ScanRequest, counters: &'a ScanCounters) -> Self {
        Self {
            sources,
            request,
            counters,
        }
    }

    /// Hands what a task holds to a visitor.
    ///
    /// # Errors
    /// Damage, a failed read, the visitor's own errors.
    pub fn read(&self, task: &Task, visitor: &mut dyn Visitor) -> Result<(), QueryError> {
        if visitor.skip(task)? {
            self.counters.add(&ScanStats {
                blocks_pruned: task.zones.len() as u64,
                ..ScanStats::default()
            });
            return Ok(());
        }
        if let Some(zone) = task.alone()
            && self.is_whole(zone)
        {
            let whole = Whole {
                zone,
                source: &self.sources[zone.source as usize],
                fields: &self.request.fields,
            };
            if visitor.whole(&whole)? {
                self.counters.add(&ScanStats {
                    blocks_whole: 1,
                    ..ScanStats::default()
                });
                return Ok(());
            }
        }
        if let Some(zone) = task.alone()
            && let Source::Run(run) = &self.sources[zone.source as usize]
            && visitor.wants_steps(zone)
            && let Some(steps) = Steps::of(run, zone.at as usize, self.request)?
            && visitor.steps(&steps)?
        {
            self.counters.add(&ScanStats {
                blocks_steps: 1,
                ..ScanStats::default()
            });
            return Ok(());
        }
        let mut zones = Vec::with_capacity(task.zones.len());
        for zone in &task.zones {
            zones.push(self.rows(zone, &task.series)?);
        }
        let folded = if zones.len() > 1 {
            overlap::resolve(&mut zones, self.request)?
        } else {
            None
        };
        let mut stats = ScanStats::default();
        for rows in zones.iter().chain(&folded) {
            if !rows.runs.is_empty() {
                let batch = Batch {
                    runs: &rows.runs,
                    times: &rows.times,
                    cells: &rows.cells,
                };
                stats.rows += batch.rows() as u64;
                visitor.batch(&batch)?;
            }
            if let ZoneCells::Block { bytes, .. } = &rows.cells {
                stats.bytes += bytes.get();
            }
        }
        stats.blocks = zones.len() as u64;
        self.counters.add(&stats);
        Ok(())
    }

    /// Are all rows of a zone wanted?
    fn is_whole(&self, zone: &Zone) -> bool {
        let time = &self.request.time;
        let inside = time.min <= zone.time.min && zone.time.max <= time.max;
        inside
            && self.request.series.covers(zone.first_series, zone.last_series)
            && match &self.sources[zone.source as usize] {
                Source::Part(_) => true,
                Source::Run(run) => run.is_whole(zone.at as usize),
            }
    }

    fn rows(&self, zone: &Zone, series: &RangeInclusive<SeriesId>) -> Result<ZoneRows<'a>, QueryError> {
        let fields = &self.request.fields;
        let mut wanted = Wanted {
            set: &self.request.series,
            series,
            time: &self.request.time,
            all_series: self.request.series.covers(zone.first_series, zone.last_series),
            all_times: self.request.time.min <= zone.time.min && zone.time.max <= self.request.time.max,
            runs: Vec::new(),
        };
        match &self.sources[zone.source as usize] {
            Source::Part(part) => {
                match part.runs() {
                    Some(runs) => wanted.of_block(runs, &part.times),
                    None => wanted.of_part(part, part.outline()[zone.at as usize].rows.clone()),
                }
                Ok(ZoneRows {
                    rank: zone.source,
                    runs: wanted.runs,
                    times: Times::Part(&part.times),
                    cells: ZoneCells::Part(part, fields),
                })
            }
            Source::Run(run) => {
                let at = zone.at as usize;
                if !run.is_whole(at) {
                    // Deleted rows are left out, and columns with them.
                    let block = run.read(at, fields).map_err(ScanError::from)?;
                    wanted.of_block(&block.series, &block.times);
                    self.counters.add(&ScanStats {
                        bytes: block.bytes,
                        ..ScanStats::default()
                    });
                    return Ok(ZoneRows {
                        rank: zone.source,
                        runs: wanted.runs,
                        times: Times::Owned(block.times),
                        cells: ZoneCells::Held(Held(block.columns)),
                    });
                }
                let (keys, bytes) = run.keys(at).map_err(ScanError::from)?;
                wanted.of_block(&keys.0, &keys.1);
                Ok(ZoneRows {
                    rank: zone.source,
                    runs: wanted.runs,
                    times: Times::Block(keys),
                    cells: ZoneCells::Block {
                        run,
                        at,
                        fields,
                        cells: fields.iter().map(|_| OnceCell::new()).collect(),
                        bytes: Cell::new(bytes),
                    },
                })
            }
        }
    }
}

/// Finds the runs of wanted rows.
struct Wanted<'a> {
    set: &'a SeriesSet,
    series: &'a RangeInclusive<SeriesId>,
    time: &'a TimeRange,
    /// The set has all series there may be.
    all_series: bool,
    /// The time has all rows there may be.
    all_times: bool,
    runs: Vec<SeriesRun>,
}

impl Wanted<'_> {
    fn of_part(&mut self, part: &HeadPart, rows: Range<usize>) {
        let series = &part.series[..rows.end];
        let mut at = rows.start + series[rows.start..].partition_point(|s| s < self.series.start());
        while at < rows.end {
            let id = series[at];
            if id > *self.series.end() {
                break;
            }
            if !self.all_series && !self.set.contains(id) {
                let Some(next) = self.set.next(id) else { break };
                at += gallop(&series[at..], |s| s < next);
                continue;
            }
            let len = gallop(&series[at..], |s| s == id);
            self.push(id, at..at + len, &part.times);
            at += len;
        }
    }

    fn of_block(&mut self, series: &[(SeriesId, Range<usize>)], times: &[i64]) {
        let inside = |(id, _): &(SeriesId, Range<usize>)| self.series.contains(id);
        let ends = series.first().is_some_and(inside) && series.last().is_some_and(inside);
        if self.all_series && self.all_times && ends {
            // No run is without rows: see `block::rows`.
            self.runs.extend(series.iter().map(|(id, rows)| SeriesRun {
                series: *id,
                start: rows.start as u32,
                end: rows.end as u32,
            }));
            return;
        }
        let mut at = series.partition_point(|(s, _)| s < self.series.start());
        while let Some((id, rows)) = series.get(at) {
            if id > self.series.end() {
                break;
            }
            if !self.all_series && !self.set.contains(*id) {
                let Some(next) = self.set.next(*id) else { break };
                at += series[at..].partition_point(|(s, _)| *s < next);
                continue;
            }
            self.push(*id, rows.clone(), times);
            at += 1;
        }
    }

    /// Adds those of a series' rows that lie in the time.
    fn push(&mut self, series: SeriesId, rows: Range<usize>, times: &[i64]) {
        let times = &times[rows.clone()];
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return;
        };
        let start = match *first >= self.time.min {
            true => 0,
            false => times.partition_point(|&t| t < self.time.min),
        };
        let end = match *last <= self.time.max {
            true => times.len(),
            false => times.partition_point(|&t| t <= self.time.max),
        };
        if start < end {
            self.runs.push(SeriesRun {
                series,
                start: (rows.start + start) as u32,
                end: (rows.start + end) as u32,
            });
        }
    }
}

/// How many values at the start satisfy a test that holds up to some place: doubling steps, then bisection.
fn gallop(series: &[SeriesId], test: impl Fn(SeriesId) -> bool) -> usize {
    let mut step = 1;
    while step < series.len() && test(series[step]) {
        step *= 2;
    }
    let from = step / 2;
    from + series[from..series.len().min(step)].partition_point(|&s| test(s))
}
