//! SELECT without calls: workers gather the wanted rows of all inputs, which are then put in order, group by group, and given
//! away a piece at a time.

use super::Prepared;
use super::compact::Compact;
use super::groups::Groups;
use super::labels::Labels;
use super::latest::Latest;
use super::reading::Reading;
use super::slices;
use super::tails::tails;
use super::work;
use crate::model::{Column, TimeRange};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::{Input, Resolved};
use crate::query::node::Node;
use crate::query::resources::Held;
use crate::query::result::Give;
use crate::query::scan::{Batch, SeriesRun, Steps, Task, Visitor, Whole, Zone};
use crate::query::trace::Stage;
use std::cmp::Reverse;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs it.
///
/// # Errors
/// A limit, cancelled, damage.
pub fn run(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    // A few rows of all there are need no slices; a few of each group may be many.
    let few = Latest::new(prepared).is_some() && prepared.dimensions.is_empty();
    if !few && slices::fits(inputs) {
        return slices::run(ctx, name, inputs, prepared, give);
    }
    let resources = ctx.resources;
    let readings = resources.stage(Stage::Open, || open(ctx, inputs, prepared))?;
    match resources.stage(Stage::Read, || gather(ctx, prepared, &readings, None))? {
        Enough::All(rows) => resources.stage(Stage::Give, || {
            super::order::give(ctx, name, prepared, rows, give)
        }),
        Enough::TooMuch(_) => unreachable!("only where there is a bound"),
    }
}

/// Opens the inputs that have what is selected.
///
/// # Errors
/// Damage, or a read that failed.
pub fn open<'a>(
    ctx: &Context<'_>,
    inputs: &'a [Input],
    prepared: &'a Prepared,
) -> Result<Vec<Reading<'a>>, QueryError> {
    let mut readings = Reading::open(ctx, inputs, prepared, prepared.time)?;
    // Tags alone select nothing.
    readings.retain(|reading| !fields(prepared, reading).is_empty());
    if Latest::new(prepared).is_some() {
        // What comes first in the result is looked at first, and makes most of the rest unnecessary.
        readings
            .iter_mut()
            .for_each(|reading| sort_tasks(reading, prepared.ascending));
    }
    Ok(readings)
}

fn sort_tasks(reading: &mut Reading<'_>, ascending: bool) {
    let times = |task: &Task| {
        task.zones
            .iter()
            .map(|zone| zone.time)
            .collect::<Vec<TimeRange>>()
    };
    if ascending {
        reading.sort_tasks_by_key(|task| times(task).iter().map(|t| t.min).min());
    } else {
        reading.sort_tasks_by_key(|task| Reverse(times(task).iter().map(|t| t.max).max()));
    }
}

/// Rows of one batch, one entry a row in each column.
pub struct Chunk {
    /// One a row.
    pub times: Vec<i64>,
    /// One a column of the result.
    pub columns: Vec<ChunkColumn>,
}

/// A column of the result in a chunk.
pub enum ChunkColumn {
    /// Values, if any row has one.
    Values(Option<Column>),
    /// A tag: one entry a stretch, counted from the chunk's first.
    Tag(Vec<Option<Arc<str>>>),
}

/// Rows of one series in a chunk.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Group of GROUP BY.
    pub group: u32,
    /// Which chunk.
    pub chunk: u32,
    /// Its place among the stretches of the chunk.
    pub place: u32,
    /// First row.
    pub start: u32,
    /// First row past it.
    pub end: u32,
    /// Rows of equal time come in this order: input, then series.
    pub order: u64,
}

impl Stretch {
    /// How many rows.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }
}

/// All rows.
pub struct Gathered<'a> {
    /// The groups.
    pub groups: Groups,
    /// The rows.
    pub chunks: Vec<Chunk>,
    /// Where the rows of which group are.
    pub stretches: Vec<Stretch>,
    _held: Vec<Held<'a>>,
}

impl Gathered<'_> {
    /// Bytes that a row takes, on average.
    pub fn bytes_per_row(&self) -> usize {
        let rows: usize = self.chunks.iter().map(|chunk| chunk.times.len()).sum();
        self.chunks.iter().map(Chunk::bytes).sum::<usize>() / rows.max(1)
    }
}

/// What one thread gathers.
struct Worker<'a> {
    ctx: &'a Context<'a>,
    prepared: &'a Prepared,
    readings: &'a [Reading<'a>],
    labels: Vec<Option<Labels<'a>>>,
    groups: Groups,
    latest: Option<Latest>,
    chunks: Vec<Chunk>,
    stretches: Vec<Stretch>,
    bytes: usize,
    held: Held<'a>,
}

/// What [`gather`] gathered.
pub enum Enough<'a> {
    /// All rows.
    All(Gathered<'a>),
    /// They were given up: they would take about so many bytes.
    TooMuch(usize),
}

/// Gathers the wanted rows, unless they take more than so many bytes.
///
/// # Errors
/// A limit, cancelled, damage.
pub fn gather<'a>(
    ctx: &'a Context<'_>,
    prepared: &'a Prepared,
    readings: &'a [Reading<'_>],
    bytes_max: Option<usize>,
) -> Result<Enough<'a>, QueryError> {
    let (gathered, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_too_much = || bytes_max.is_some_and(|max| gathered.load(Ordering::Relaxed) > max);
    let latest = Latest::new(prepared);
    let tasks = work::tasks(readings);
    let helpers = work::helpers(work::rows(readings), prepared.columns.len());
    let make = || Worker {
        ctx,
        prepared,
        readings,
        labels: readings.iter().map(|_| None).collect(),
        groups: Groups::default(),
        latest: latest.clone(),
        chunks: Vec::new(),
        stretches: Vec::new(),
        bytes: 0,
        held: ctx.resources.memory.held(),
    };
    let workers = ctx
        .resources
        .workers
        .run(tasks.len(), helpers, make, |worker, task| {
            if is_too_much() {
                return Ok(());
            }
            let (reading, task) = tasks[task];
            let before = worker.bytes;
            readings[reading].read(ctx, task, &mut OfReading { worker, reading })?;
            gathered.fetch_add(worker.bytes - before, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
            if is_too_much() {
                worker.give_up()
            } else {
                worker.check()
            }
        })?;
    if is_too_much() {
        let (gathered, done) = (gathered.into_inner(), done.into_inner());
        return Ok(Enough::TooMuch(
            gathered.saturating_mul(tasks.len()) / done.max(1),
        ));
    }
    let mut all = Gathered {
        groups: Groups::default(),
        chunks: Vec::new(),
        stretches: Vec::new(),
        _held: Vec::new(),
    };
    for worker in workers {
        let groups = all.groups.absorb(&worker.groups);
        let chunks = all.chunks.len() as u32;
        all.stretches
            .extend(worker.stretches.into_iter().map(|s| Stretch {
                group: groups[s.group as usize],
                chunk: s.chunk + chunks,
                ..s
            }));
        all.chunks.extend(worker.chunks);
        all._held.push(worker.held);
    }
    Ok(Enough::All(all))
}

impl Worker<'_> {
    /// What it has is not needed.
    fn give_up(&mut self) -> Result<(), QueryError> {
        (self.chunks, self.stretches) = (Vec::new(), Vec::new());
        self.held.set(0)
    }

    fn check(&mut self) -> Result<(), QueryError> {
        work::check_groups(self.ctx, &self.groups)?;
        let stretches = self.stretches.capacity() * size_of::<Stretch>();
        self.held.set(self.bytes + stretches + self.groups.bytes())
    }
}

/// Hands a task to a worker as the visitor of one reading.
struct OfReading<'w, 'a> {
    worker: &'w mut Worker<'a>,
    reading: usize,
}

impl Visitor for OfReading<'_, '_> {
    fn skip(&mut self, task: &Task) -> Result<bool, QueryError> {
        let worker = &mut *self.worker;
        let Some(latest) = &worker.latest else {
            return Ok(false);
        };
        let reading = &worker.readings[self.reading];
        if worker.prepared.dimensions.is_empty() {
            return Ok(task.zones.iter().all(|zone| latest.is_needless(0, zone.time)));
        }
        let labels = worker.labels[self.reading].get_or_insert_with(|| reading.labels());
        for zone in &task.zones {
            if !reading.every_series(zone, |series| {
                let group = labels.group(series, &mut worker.groups)?;
                Ok(latest.is_needless(group, zone.time))
            })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn whole(&mut self, whole: &Whole<'_>) -> Result<bool, QueryError> {
        Ok(self.worker.readings[self.reading].filter.excludes(whole))
    }

    fn wants_steps(&mut self, _: &Zone) -> bool {
        let reading = &self.worker.readings[self.reading];
        let one = self.worker.latest.as_ref().is_some_and(Latest::is_one);
        one && reading.filter.is_empty()
    }

    fn steps(&mut self, steps: &Steps<'_>) -> Result<bool, QueryError> {
        let (reading, prepared) = (&self.worker.readings[self.reading], self.worker.prepared);
        let fields = fields(prepared, reading);
        let of_request = reading.wanted.fields.len();
        let Some(tails) = tails(steps, &fields, of_request, prepared.ascending)? else {
            return Ok(false);
        };
        self.batch(&Batch {
            runs: &tails.runs,
            times: &tails.times,
            cells: &tails.cells,
        })?;
        Ok(true)
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError> {
        let Worker {
            prepared,
            readings,
            labels,
            groups,
            latest,
            chunks,
            stretches,
            bytes,
            ..
        } = &mut *self.worker;
        let reading = &readings[self.reading];
        let labels = labels[self.reading].get_or_insert_with(|| reading.labels());
        let fields = fields(prepared, reading);
        let filter = &reading.filter;
        let mut rows: Option<Vec<u32>> = None;
        if !filter.is_empty() {
            rows = Some(filter.apply(batch, reading, labels)?);
        }
        // A row that a subquery gave is a row, whatever is in it.
        let stored = matches!(reading.input, Input::Stored(_));
        if stored && !batch.cells.is_full(&fields) {
            rows = Some(with_values(batch, &fields, rows)?);
        }
        // All that is left has values, so the first or the last so many rows are enough.
        if let Some(latest) = latest {
            rows = Some(latest.choose(batch, rows, |run| labels.group(run.series, groups))?);
        }
        let compact = match rows {
            Some(rows) if rows.is_empty() => return Ok(()),
            Some(rows) => Compact::of(batch, rows),
            None => Compact::all(batch),
        };
        let chunk = chunks.len() as u32;
        let input = (self.reading as u64) << 32;
        for (place, run) in compact.runs.iter().enumerate() {
            stretches.push(Stretch {
                group: labels.group(run.series, groups)?,
                chunk,
                place: place as u32,
                start: run.start,
                end: run.end,
                order: input | u64::from(run.series),
            });
        }
        let mut columns = Vec::with_capacity(prepared.columns.len());
        for (_, node) in &prepared.columns {
            columns.push(column(node, batch, reading, labels, &compact)?);
        }
        let made = Chunk {
            times: compact.times,
            columns,
        };
        *bytes += made.bytes();
        chunks.push(made);
        Ok(())
    }
}

/// The fields that the columns name: places in the request, ascending.
fn fields(prepared: &Prepared, reading: &Reading<'_>) -> Vec<usize> {
    let mut used = Vec::new();
    prepared
        .columns
        .iter()
        .for_each(|(_, node)| node.references(&mut used));
    let mut fields: Vec<usize> = used
        .iter()
        .filter_map(|r| match reading.wanted.resolved[*r] {
            Resolved::Field(at) => Some(at),
            Resolved::Tag(_) => None,
        })
        .collect();
    fields.sort_unstable();
    fields.dedup();
    fields
}

/// Those rows (of all, or of some) that have a value of one of the fields.
fn with_values(batch: &Batch<'_>, fields: &[usize], rows: Option<Vec<u32>>) -> Result<Vec<u32>, QueryError> {
    let mut columns = Vec::new();
    for &at in fields {
        columns.extend(batch.cells.column(at)?);
    }
    let has = |row: &u32| columns.iter().any(|column| column.has(*row as usize));
    Ok(match rows {
        Some(mut rows) => {
            rows.retain(has);
            rows
        }
        None => {
            let all = batch.runs.iter().flat_map(|run: &SeriesRun| run.start..run.end);
            all.filter(has).collect()
        }
    })
}

fn column(
    node: &Node,
    batch: &Batch<'_>,
    reading: &Reading<'_>,
    labels: &mut Labels<'_>,
    compact: &Compact,
) -> Result<ChunkColumn, QueryError> {
    if let Node::Ref(number, None) = node {
        return Ok(match reading.wanted.resolved[*number] {
            Resolved::Field(at) => ChunkColumn::Values(compact.gather(batch, at)?),
            Resolved::Tag(at) => {
                let mut tags = Vec::with_capacity(compact.runs.len());
                for run in &compact.runs {
                    tags.push(labels.tag(run.series, at)?);
                }
                ChunkColumn::Tag(tags)
            }
        });
    }
    let mut references = Vec::new();
    node.references(&mut references);
    let references = compact.references(batch, reading, labels, &references, false)?;
    Ok(ChunkColumn::Values(compact.rows(references).any_column(node)))
}

impl Chunk {
    fn bytes(&self) -> usize {
        let columns = self.columns.iter().map(|column| match column {
            ChunkColumn::Values(Some(column)) => column.bytes(),
            ChunkColumn::Values(None) => 0,
            ChunkColumn::Tag(tags) => tags.len() * 16,
        });
        self.times.len() * 8 + columns.sum::<usize>() + 128
    }
}
