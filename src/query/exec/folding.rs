//! Folds the rows of all inputs by group and window: each worker apart, task by task, then put together.

use super::compact::Compact;
use super::fold::{Fold, Rows, StepRows};
use super::groups::Groups;
use super::labels::Labels;
use super::reading::Reading;
use super::rolled::parts;
use super::setup::{Folder, Set, Setup};
use super::vector::cast_column;
use super::windows::{Shapes, Slots, WindowIndex};
use super::work;
use crate::block::stats::Numbers;
use crate::block::steps::{StepKeys, StepStats};
use crate::model::{Column, SeriesId, TimeRange};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::Resolved;
use crate::query::node::Node;
use crate::query::resources::Held;
use crate::query::rollup::states::{OfField, States};
use crate::query::scan::steps::is_described;
use crate::query::scan::{Batch, FieldSteps, Steps, Task, Visitor, Whole, Zone};
use crate::query::value::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// What all threads have folded.
pub struct Folds<'a> {
    /// The groups.
    pub groups: Groups,
    /// Their windows.
    pub slots: Slots,
    /// One a function.
    pub folders: Vec<Folder>,
    /// What they hold.
    pub held: Vec<Held<'a>>,
}

impl<'a> Folds<'a> {
    /// Takes over what was folded apart: which of its groups are which here.
    ///
    /// # Errors
    /// None today.
    pub fn absorb(&mut self, other: Self) -> Result<Vec<u32>, QueryError> {
        let groups = self.groups.absorb(&other.groups);
        let map = self.slots.absorb(&other.slots, &groups);
        let slots = self.slots.len(self.groups.len());
        for (folder, other) in self.folders.iter_mut().zip(other.folders) {
            folder.grow(slots);
            match (folder, other) {
                (Folder::Fold(fold), Folder::Fold(other)) => fold.absorb(other, &map),
                (Folder::States(states), Folder::States(other)) => states.absorb(other, &map),
                _ => unreachable!("workers make their folders alike"),
            }
        }
        self.held.extend(other.held);
        Ok(groups)
    }

    /// For those who keep it longer than the query, and count what it holds themselves.
    pub fn unheld<'b>(self) -> Folds<'b> {
        Folds {
            groups: self.groups,
            slots: self.slots,
            folders: self.folders,
            held: Vec::new(),
        }
    }
}

/// What one thread has folded.
struct Worker<'a> {
    ctx: &'a Context<'a>,
    setup: &'a Setup<'a>,
    readings: &'a [Reading<'a>],
    labels: Vec<Option<Labels<'a>>>,
    groups: Groups,
    slots: Slots,
    folders: Vec<Folder>,
    held: Held<'a>,
}

/// Folds the tasks of all inputs.
///
/// # Errors
/// A limit, cancelled, damage.
pub fn fold<'a>(
    ctx: &'a Context<'_>,
    setup: &'a Setup<'_>,
    readings: &'a [Reading<'_>],
) -> Result<Folds<'a>, QueryError> {
    let tasks = match setup.sets.is_empty() {
        // The other functions read for themselves.
        true => Vec::new(),
        false => work::tasks(readings),
    };
    let rows = work::rows(readings);
    let time = work::time(readings);
    let groups = if setup.prepared.dimensions.is_empty() {
        1
    } else {
        readings.iter().map(Reading::series).sum()
    };
    let index = WindowIndex::new(setup.slots.as_ref(), time, rows, groups);
    let helpers = if setup.is_shared() {
        work::helpers(rows, setup.sets.len())
    } else {
        0
    };
    let make = || Worker {
        ctx,
        setup,
        readings,
        labels: readings.iter().map(|_| None).collect(),
        groups: Groups::default(),
        slots: Slots::new(index.clone()),
        folders: setup.sets.iter().map(|set| setup.folder(set)).collect(),
        held: ctx.resources.memory.held(),
    };
    let workers = ctx
        .resources
        .workers
        .run(tasks.len(), helpers, make, |worker, task| {
            let (reading, task) = tasks[task];
            worker.read(reading, task)
        })?;
    let mut workers = workers.into_iter();
    let Some(first) = workers.next() else {
        unreachable!("the calling thread is a worker")
    };
    let mut all = first.into_folds();
    for worker in workers {
        all.absorb(worker.into_folds())?;
    }
    Ok(all)
}

/// Hands a task to a worker as the visitor of one reading.
struct OfReading<'w, 'a> {
    worker: &'w mut Worker<'a>,
    reading: usize,
}

impl<'a> Worker<'a> {
    fn read(&mut self, reading: usize, task: usize) -> Result<(), QueryError> {
        let (ctx, of) = (self.ctx, &self.readings[reading]);
        of.read(
            ctx,
            task,
            &mut OfReading {
                worker: self,
                reading,
            },
        )?;
        self.check()
    }

    /// Are the limits kept?
    fn check(&mut self) -> Result<(), QueryError> {
        let limits = self.ctx.limits;
        work::check_groups(self.ctx, &self.groups)?;
        if self.slots.len(self.groups.len()) > limits.buckets_max {
            return Err(too_many_windows(self.ctx));
        }
        let folders: usize = self.folders.iter().map(Folder::bytes).sum();
        self.held.set(self.groups.bytes() + self.slots.bytes() + folders)
    }

    fn into_folds(self) -> Folds<'a> {
        Folds {
            groups: self.groups,
            slots: self.slots,
            folders: self.folders,
            held: vec![self.held],
        }
    }
}

/// The limit of windows was reached.
pub fn too_many_windows(ctx: &Context<'_>) -> QueryError {
    QueryError::Limit(format!(
        "too many windows (query_buckets_max {}); take longer windows, a shorter time, or fill(none)",
        ctx.limits.buckets_max
    ))
}

impl Visitor for OfReading<'_, '_> {
    fn skip(&mut self, task: &Task) -> Result<bool, QueryError> {
        let worker = &mut *self.worker;
        let reading = &worker.readings[self.reading];
        // Only where all rows are of one group: otherwise every zone has windows of its own.
        let apart = !worker.setup.prepared.dimensions.is_empty() || worker.groups.is_empty();
        if apart || reading.states.is_some() {
            return Ok(false);
        }
        for zone in &task.zones {
            let Some(slots) = worker.slots.span(0, zone.time.intersect(&reading.wanted_time())) else {
                return Ok(false);
            };
            for (set, folder) in worker.setup.sets.iter().zip(&worker.folders) {
                let (Node::Ref(number, None), Folder::Fold(fold)) = (set.argument, folder) else {
                    return Ok(false);
                };
                let numbers = match reading.wanted.resolved[*number] {
                    Resolved::Tag(_) => continue,
                    Resolved::Field(at) if Some(reading.wanted.fields[at].1) != set.field_type => None,
                    Resolved::Field(at) => reading.numbers(zone, at),
                };
                let loses = |numbers: &Numbers| slots.clone().all(|slot| fold.loses(slot as usize, numbers));
                match numbers {
                    Some((0, _)) => {}
                    Some((_, numbers)) if loses(&numbers) => {}
                    _ => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    fn whole(&mut self, whole: &Whole<'_>) -> Result<bool, QueryError> {
        let worker = &mut *self.worker;
        if worker.readings[self.reading].states.is_some() {
            return Ok(false);
        }
        let filter = &worker.readings[self.reading].filter;
        if !filter.is_empty() {
            return Ok(filter.excludes(whole));
        }
        let reading = &worker.readings[self.reading];
        // Only functions of plain fields, in zones of one group and one window.
        let mut fields = Vec::with_capacity(worker.setup.sets.len());
        for set in &worker.setup.sets {
            let Node::Ref(number, None) = set.argument else {
                return Ok(false);
            };
            fields.push(match reading.wanted.resolved[*number] {
                Resolved::Field(at) if Some(reading.wanted.fields[at].1) != set.field_type => {
                    return Ok(false);
                }
                Resolved::Field(at) => Some(at),
                Resolved::Tag(_) => None,
            });
        }
        let zone = whole.zone;
        if worker
            .setup
            .sets
            .iter()
            .any(|set| set.since.is_some_and(|since| zone.time.min < since))
        {
            return Ok(false);
        }
        if zone.first_series != zone.last_series && !worker.setup.prepared.dimensions.is_empty() {
            return Ok(false);
        }
        let labels = worker.labels[self.reading].get_or_insert_with(|| reading.labels());
        let group = labels.group(zone.first_series, &mut worker.groups)?;
        let Some(slot) = worker.slots.one(group, zone.time) else {
            return Ok(false);
        };
        let slots = worker.slots.len(worker.groups.len());
        worker.folders.iter_mut().for_each(|folder| folder.grow(slots));
        let stats = |at: usize| (whole.count(at), whole.numbers(at));
        let stats: Vec<_> = fields.iter().map(|at| at.map(stats)).collect();
        let slot = slot as usize;
        for (folder, stats) in worker.folders.iter().zip(&stats) {
            let Folder::Fold(fold) = folder else {
                return Ok(false);
            };
            if let Some((count, numbers)) = stats
                && !fold.takes_whole(slot, *count, numbers.as_ref())
            {
                return Ok(false);
            }
        }
        for (folder, stats) in worker.folders.iter_mut().zip(&stats) {
            if let (Folder::Fold(fold), Some((count, numbers))) = (folder, stats) {
                fold.push_whole(slot, *count, numbers.as_ref());
            }
        }
        Ok(true)
    }

    fn wants_steps(&mut self, zone: &Zone) -> bool {
        let worker = &*self.worker;
        let reading = &worker.readings[self.reading];
        let takes = |(set, folder): (&Set<'_>, &Folder)| match (set.argument, folder) {
            (Node::Ref(number, None), Folder::Fold(fold)) => {
                let same_type = match reading.wanted.resolved[*number] {
                    Resolved::Field(at) => Some(reading.wanted.fields[at].1) == set.field_type,
                    Resolved::Tag(_) => true,
                };
                same_type && fold.takes_steps() && set.since.is_none_or(|since| since <= zone.time.min)
            }
            _ => false,
        };
        let sets = worker.setup.sets.iter().zip(&worker.folders);
        reading.states.is_none()
            && reading.filter.is_empty()
            && worker.slots.may_hold_steps()
            && sets.into_iter().all(takes)
    }

    fn steps(&mut self, steps: &Steps<'_>) -> Result<bool, QueryError> {
        if steps.cut {
            return Ok(false);
        }
        let worker = &mut *self.worker;
        let reading = &worker.readings[self.reading];
        let labels = worker.labels[self.reading].get_or_insert_with(|| reading.labels());
        let mut slots = Vec::with_capacity(steps.wanted.len());
        let mut of_series: Option<(SeriesId, u32)> = None;
        for &step in &steps.wanted {
            let step = step as usize;
            let series = steps.keys.series[step];
            let group = match of_series {
                Some((last, group)) if last == series => group,
                _ => labels.group(series, &mut worker.groups)?,
            };
            of_series = Some((series, group));
            let time = TimeRange {
                min: steps.keys.first[step],
                max: steps.keys.last[step],
            };
            match worker.slots.one(group, time) {
                Some(slot) => slots.push(slot),
                None => return Ok(false),
            }
        }
        let mut fields: Vec<Option<Arc<StepStats>>> = Vec::with_capacity(worker.setup.sets.len());
        for set in &worker.setup.sets {
            let Node::Ref(number, _) = set.argument else {
                return Ok(false);
            };
            fields.push(match reading.wanted.resolved[*number] {
                Resolved::Tag(_) => None,
                Resolved::Field(at) => match steps.field(at)? {
                    FieldSteps::Absent => None,
                    FieldSteps::Known(stats) if is_described(&stats, &steps.wanted) => Some(stats),
                    FieldSteps::Known(_) | FieldSteps::Unknown => return Ok(false),
                },
            });
        }
        let count = worker.slots.len(worker.groups.len());
        for (folder, stats) in worker.folders.iter_mut().zip(&fields) {
            folder.grow(count);
            if let (Folder::Fold(fold), Some(stats)) = (folder, stats) {
                fold.push_steps(&StepRows {
                    wanted: &steps.wanted,
                    slots: &slots,
                    keys: &steps.keys,
                    stats,
                });
            }
        }
        Ok(true)
    }

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError> {
        if let Some(states) = &self.worker.readings[self.reading].states {
            return self.states(states, batch);
        }
        let Worker {
            setup,
            readings,
            labels,
            groups,
            slots,
            folders,
            ..
        } = &mut *self.worker;
        let reading = &readings[self.reading];
        let labels = labels[self.reading].get_or_insert_with(|| reading.labels());
        let filter = &reading.filter;
        let plain = |set: &Set<'_>| matches!(set.argument, Node::Ref(_, None));
        let mut compact = None;
        if !filter.is_empty() {
            let rows = filter.apply(batch, reading, labels)?;
            if rows.is_empty() {
                return Ok(());
            }
            compact = Some(Compact::of(batch, rows));
        } else if !setup.sets.iter().all(plain) || setup.sets.iter().any(|set| set.beside) {
            compact = Some(Compact::all(batch));
        }
        let mut columns: Vec<Option<Cow<'_, Column>>> = Vec::with_capacity(setup.sets.len());
        for set in &setup.sets {
            columns.push(argument(set, batch, reading, labels, compact.as_ref())?);
        }
        if columns.iter().all(Option::is_none) {
            return Ok(());
        }
        let (runs, times) = match &compact {
            Some(compact) => (&compact.runs[..], &compact.times[..]),
            None => (batch.runs, batch.times),
        };
        let beside = match &compact {
            Some(compact) if setup.sets.iter().any(|set| set.beside) => {
                compact.references(batch, reading, labels, &setup.beside, false)?
            }
            _ => Vec::new(),
        };
        let shapes = shapes(setup, folders, &columns);
        slots.cut(runs, times, shapes, |run| labels.group(run.series, groups))?;
        let count = slots.len(groups.len());
        for ((folder, column), set) in folders.iter_mut().zip(&columns).zip(&setup.sets) {
            folder.grow(count);
            let Some(column) = column else { continue };
            let values = |row: usize| -> Box<[Value]> {
                let value = |number: &usize| {
                    let column = beside[*number].as_ref();
                    column.map(|c| Value::of_column(c, row)).unwrap_or_default()
                };
                setup.beside.iter().map(value).collect()
            };
            let nothing = |_: usize| -> Box<[Value]> { Box::default() };
            let later;
            let segments = match set.since {
                None => slots.segments(),
                Some(since) => {
                    later = slots.since(since, times);
                    &later
                }
            };
            let rows = Rows {
                segments,
                times,
                column,
                beside: match (set.beside, set.timed) {
                    (true, _) => Some(&values),
                    // Whoever wants the time of a point needs the points themselves.
                    (false, true) => Some(&nothing),
                    (false, false) => None,
                },
            };
            match folder {
                Folder::Fold(fold) => {
                    fold.push(&rows);
                    fold.push_ladders(slots.ladders(), column);
                }
                Folder::States(states) => states.push(&rows),
            }
        }
        Ok(())
    }
}

impl<'a> OfReading<'_, 'a> {
    /// Takes states of a rollup: as steps, each of an interval.
    fn states(&mut self, states: &'a States, batch: &Batch<'_>) -> Result<(), QueryError> {
        let worker = &mut *self.worker;
        let reading = &worker.readings[self.reading];
        let mut fields: Vec<Option<OfField>> = Vec::with_capacity(worker.setup.sets.len());
        for set in &worker.setup.sets {
            let at = match set.argument {
                Node::Ref(number, _) => reading.wanted.resolved[*number],
                _ => {
                    states.give_up();
                    return Ok(());
                }
            };
            fields.push(match at {
                Resolved::Tag(_) => None,
                Resolved::Field(at) => states.of_field(batch, at, parts(set))?,
            });
        }
        if !states.is_usable() {
            return Ok(());
        }
        let labels = worker.labels[self.reading].get_or_insert_with(|| reading.labels());
        let (mut wanted, mut slots) = (Vec::new(), Vec::new());
        for run in batch.runs {
            let mut of_series: Option<u32> = None;
            for row in run.rows() {
                // A state without points makes no group and no window.
                if !fields.iter().flatten().any(|field| field.counts[row] > 0) {
                    continue;
                }
                let group = match of_series {
                    Some(group) => group,
                    None => labels.group(run.series, &mut worker.groups)?,
                };
                of_series = Some(group);
                let start = batch.times[row];
                let time = TimeRange {
                    min: start,
                    max: start.saturating_add(states.every - 1),
                };
                match worker.slots.one(group, time) {
                    Some(slot) => slots.push(slot),
                    None => {
                        states.give_up();
                        return Ok(());
                    }
                }
                wanted.push(row as u32);
            }
        }
        let count = worker.slots.len(worker.groups.len());
        let keys = StepKeys::default();
        for (folder, field) in worker.folders.iter_mut().zip(&fields) {
            folder.grow(count);
            if let (Folder::Fold(fold), Some(field)) = (folder, field) {
                fold.push_steps(&StepRows {
                    wanted: &wanted,
                    slots: &slots,
                    keys: &keys,
                    stats: &field.stats,
                });
            }
        }
        Ok(())
    }
}

/// How rows may be put together so that all functions can take them.
fn shapes(setup: &Setup<'_>, folders: &[Folder], columns: &[Option<Cow<'_, Column>>]) -> Shapes {
    let all = |test: &dyn Fn(&dyn Fold) -> bool| {
        folders.iter().all(|folder| match folder {
            Folder::Fold(fold) => test(fold.as_ref()),
            Folder::States(_) => false,
        })
    };
    let full = |column: &Option<Cow<'_, Column>>| column.as_ref().is_none_or(|c| c.present.is_none());
    let whole = setup.sets.iter().all(|set| set.since.is_none());
    Shapes {
        joined: whole && all(&|fold| fold.takes_joined()),
        ladders: whole && columns.iter().all(full) && all(&|fold| fold.takes_ladders()),
    }
}

/// The values that a function reads, of the type it was made for.
fn argument<'b>(
    set: &Set<'_>,
    batch: &Batch<'b>,
    reading: &Reading<'_>,
    labels: &mut Labels<'_>,
    compact: Option<&Compact>,
) -> Result<Option<Cow<'b, Column>>, QueryError> {
    let cast = |column: Cow<'b, Column>| match set.field_type {
        Some(t) if column.values.field_type() != t => Cow::Owned(cast_column(&column, t)),
        _ => column,
    };
    if let Node::Ref(number, None) = set.argument {
        let Resolved::Field(at) = reading.wanted.resolved[*number] else {
            return Ok(None);
        };
        let column = match compact {
            Some(compact) => compact.gather(batch, at)?.map(Cow::Owned),
            None => batch.cells.column(at)?.map(Cow::Borrowed),
        };
        return Ok(column.map(cast));
    }
    let Some(compact) = compact else {
        return Ok(None);
    };
    let mut references = Vec::new();
    set.argument.references(&mut references);
    if let Node::Ref(number, _) = set.argument
        && matches!(reading.wanted.resolved[*number], Resolved::Tag(_))
    {
        return Ok(None);
    }
    let references = compact.references(batch, reading, labels, &references, false)?;
    let rows = compact.rows(references);
    let column = match set.field_type {
        Some(t) => rows.column(set.argument, t),
        None => rows.any_column(set.argument),
    };
    Ok(column.map(Cow::Owned))
}
