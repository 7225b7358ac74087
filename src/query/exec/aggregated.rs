//! SELECT with calls: workers fold the tasks of all inputs by group and window, are put together, and their folds become rows.

use super::compact::Compact;
use super::fold::{Fold, Folded, Rows, States, fold_of};
use super::groups::Groups;
use super::labels::Labels;
use super::reading::Reading;
use super::rows::{Found, Windowed, single, windowed};
use super::vector::{cast_column, reference_type, type_of};
use super::windows::{GroupSlots, Slots, WindowIndex};
use super::{Call, Prepared};
use crate::model::{Column, FieldType, TimeRange, time::TIME_MIN};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::finish::Finisher;
use crate::query::folds;
use crate::query::functions::aggregate::{Aggregate, Picked, State};
use crate::query::input::{Input, Resolved};
use crate::query::node::{Node, Only, Refs};
use crate::query::resources::Held;
use crate::query::result::{Give, Piece, Series};
use crate::query::rolling;
use crate::query::scan::{Batch, Visitor, Whole};
use crate::query::value::Value;
use crate::query::windows::Windows;
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows times functions that one thread folds before another is worth its start.
const VALUES_PER_WORKER: u64 = 200_000;
/// Slots times functions that are finished in one piece of work.
const SLOTS_PER_TASK: usize = 4_000;
/// Pieces of finished groups that wait to be given away.
const TASKS_PER_ROUND: usize = 16;

/// What is the same for all workers.
struct Setup<'a> {
    prepared: &'a Prepared,
    sets: Vec<Set<'a>>,
    /// References whose values stand beside a selected point.
    beside: Vec<usize>,
    /// The statement is one selector and nothing else.
    selector: bool,
    /// The windows that rows are folded by: rolling ones are put together from the slots they share.
    slots: Option<Windows>,
    /// Start of the first window that is wanted, if the time has a lower bound.
    first_window: Option<i64>,
}

/// A function of sets of points.
struct Set<'a> {
    function: Aggregate,
    argument: &'a Node,
    /// Of the values it folds; `None` where that is not known before.
    field_type: Option<FieldType>,
    /// It wants points with their time.
    timed: bool,
    /// It wants what stands beside them.
    beside: bool,
    /// Rows before this were read for other functions.
    since: Option<i64>,
}

/// Runs it.
///
/// # Errors
/// A limit, cancelled, damage, types that do not fit.
pub fn run(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let mut setup = Setup::new(prepared);
    let readings = Reading::open(ctx, inputs, prepared, prepared.read)?;
    setup.types(&readings)?;
    let folds = fold(ctx, &setup, &readings)?;
    Finish::new(ctx, &setup, inputs, folds)?.give(name, give)
}

impl<'a> Setup<'a> {
    fn new(prepared: &'a Prepared) -> Self {
        let mut beside = Vec::new();
        prepared
            .columns
            .iter()
            .for_each(|(_, node)| node.references(&mut beside));
        if let Some(Call::Ranked { beside: first, .. }) = prepared.calls.first() {
            beside = first.iter().copied().chain(beside).collect();
        }
        let functions: Vec<(usize, &Node, &Aggregate)> = prepared
            .calls
            .iter()
            .enumerate()
            .filter_map(|(number, call)| Some((number, call.argument()?, call.function()?)))
            .collect();
        let alone = functions.len() == 1 && prepared.calls.len() == 1;
        let selector = alone && functions[0].2.is_selector();
        let sets = functions.into_iter().map(|(call, argument, function)| Set {
            function: *function,
            argument,
            field_type: None,
            timed: selector && prepared.windows.is_none(),
            beside: selector && !beside.is_empty(),
            since: Some(prepared.since(call)).filter(|since| *since > prepared.read.min),
        });
        let windows = prepared.windows.as_ref();
        let min = prepared.time.min;
        Self {
            prepared,
            sets: sets.collect(),
            selector,
            slots: windows.map(rolling::slots),
            first_window: windows.filter(|_| min > TIME_MIN).map(|w| w.start(min)),
            beside,
        }
    }

    /// Finds the types of the functions' values; the same for all inputs.
    fn types(&mut self, readings: &[Reading<'_>]) -> Result<(), QueryError> {
        for set in &mut self.sets {
            let mut types = Vec::new();
            for reading in readings {
                check_type(reading.input, set, &self.prepared.refs)?;
                let wanted = &reading.wanted;
                let reference = |number: usize| reference_type(wanted.resolved[number], &wanted.fields);
                match set.argument {
                    // Functions of tags have nothing to work on, as in InfluxDB.
                    Node::Ref(number, _) if matches!(wanted.resolved[*number], Resolved::Tag(_)) => {}
                    node => types.push(type_of(node, &reference)),
                }
            }
            let number = |t: &Option<FieldType>| {
                matches!(
                    t,
                    Some(FieldType::Float | FieldType::Integer | FieldType::Unsigned)
                )
            };
            set.field_type = match types.first() {
                None => Some(FieldType::Float),
                Some(first) if types.iter().all(|t| t == first) => *first,
                // Numbers of several types are taken as floats.
                Some(_) if types.iter().all(number) => Some(FieldType::Float),
                Some(_) => None,
            };
        }
        Ok(())
    }

    fn folder(&self, set: &Set<'_>) -> Folder {
        // States can be put together again and again, as rolling windows need it.
        let rolls = self.prepared.windows.as_ref().is_some_and(|w| w.over.is_some());
        let fold = match set.field_type {
            Some(field_type) if !set.beside && !rolls => fold_of(&set.function, field_type, set.timed),
            _ => None,
        };
        match fold {
            Some(fold) => Folder::Fold(fold),
            None => Folder::States(States::new(set.function)),
        }
    }

    /// May several threads fold?
    fn is_shared(&self) -> bool {
        let folds = |set| matches!(self.folder(set), Folder::Fold(_));
        self.sets.iter().all(folds)
    }
}

/// A function refuses a field of a type it cannot take, as InfluxDB does.
fn check_type(input: &Input, set: &Set<'_>, refs: &Refs) -> Result<(), QueryError> {
    let Node::Ref(number, None) = set.argument else {
        return Ok(());
    };
    let reference = &refs.list()[*number];
    if reference.only == Some(Only::Tag) {
        return Ok(());
    }
    match input.field_type(&reference.name) {
        Some(field_type) if !set.function.takes(field_type) => {
            let name = format!("{:?}", set.function)
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_lowercase();
            Err(QueryError::statement(format!(
                "unsupported {name} iterator type: *query.{}Iterator",
                field_type.name()
            )))
        }
        _ => Ok(()),
    }
}

/// The values of a function by slot.
enum Folder {
    Fold(Box<dyn Fold>),
    States(States),
}

impl Folder {
    fn grow(&mut self, slots: usize) {
        match self {
            Self::Fold(fold) => fold.grow(slots),
            Self::States(states) => states.grow(slots),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Fold(fold) => fold.bytes(),
            Self::States(states) => states.bytes(),
        }
    }

    fn has(&self, slot: usize) -> bool {
        match self {
            Self::Fold(fold) => fold.has(slot),
            Self::States(states) => states.has(slot),
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
fn fold<'a>(
    ctx: &'a Context<'_>,
    setup: &'a Setup<'_>,
    readings: &'a [Reading<'_>],
) -> Result<Folds<'a>, QueryError> {
    let tasks: Vec<(usize, usize)> = readings
        .iter()
        .enumerate()
        .flat_map(|(reading, r)| (0..r.tasks()).map(move |task| (reading, task)))
        .collect();
    let rows: u64 = readings.iter().map(Reading::rows).sum();
    let time = readings.iter().map(Reading::time).fold(
        TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        },
        |a, b| TimeRange {
            min: a.min.min(b.min),
            max: a.max.max(b.max),
        },
    );
    let groups = if setup.prepared.dimensions.is_empty() {
        1
    } else {
        readings.iter().map(Reading::series).sum()
    };
    let index = WindowIndex::new(setup.slots.as_ref(), time, rows, groups);
    let helpers = if setup.is_shared() {
        (rows * setup.sets.len() as u64 / VALUES_PER_WORKER) as usize
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
        if self.groups.len() > limits.groups_max {
            return Err(QueryError::Limit(format!(
                "too many series in the result (query_groups_max {})",
                limits.groups_max
            )));
        }
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

fn too_many_windows(ctx: &Context<'_>) -> QueryError {
    QueryError::Limit(format!(
        "too many windows (query_buckets_max {}); take longer windows, a shorter time, or fill(none)",
        ctx.limits.buckets_max
    ))
}

impl Visitor for OfReading<'_, '_> {
    fn whole(&mut self, whole: &Whole<'_>) -> Result<bool, QueryError> {
        let worker = &mut *self.worker;
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

    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError> {
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
        slots.cut(runs, times, |run| labels.group(run.series, groups))?;
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
                Folder::Fold(fold) => fold.push(&rows),
                Folder::States(states) => states.push(&rows),
            }
        }
        Ok(())
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

/// What all threads have folded.
struct Folds<'a> {
    groups: Groups,
    slots: Slots,
    folders: Vec<Folder>,
    held: Vec<Held<'a>>,
}

impl<'a> Folds<'a> {
    fn absorb(&mut self, other: Self) -> Result<(), QueryError> {
        let groups = self.groups.absorb(&other.groups);
        let map = self.slots.absorb(&other.slots, &groups);
        let slots = self.slots.len(self.groups.len());
        for (folder, other) in self.folders.iter_mut().zip(other.folders) {
            folder.grow(slots);
            if let (Folder::Fold(fold), Folder::Fold(other)) = (folder, other) {
                fold.absorb(other, &map);
            }
        }
        self.held.extend(other.held);
        Ok(())
    }
}

/// Turns folds into series.
struct Finish<'a> {
    ctx: &'a Context<'a>,
    setup: &'a Setup<'a>,
    groups: Groups,
    slots: GroupSlots,
    folders: Vec<Folder>,
    /// What the functions of several fields gave, by group and then in the order of their calls.
    folded: Vec<Vec<Vec<Picked>>>,
    columns: Arc<[String]>,
    /// Windows that may still be filled.
    left: AtomicUsize,
    _held: Vec<Held<'a>>,
}

impl<'a> Finish<'a> {
    fn new(
        ctx: &'a Context<'a>,
        setup: &'a Setup<'a>,
        inputs: &[Input],
        folds: Folds<'a>,
    ) -> Result<Self, QueryError> {
        let Folds {
            mut groups,
            slots,
            mut folders,
            held,
        } = folds;
        let folded = folds::run(ctx, inputs, setup.prepared, &mut groups)?;
        let count = slots.len(groups.len());
        for folder in &mut folders {
            folder.grow(count);
            if let Folder::Fold(fold) = folder {
                fold.settle();
            }
        }
        Ok(Self {
            ctx,
            setup,
            slots: slots.by_group(&groups),
            groups,
            folders,
            folded,
            columns: setup.prepared.names(),
            left: AtomicUsize::new(ctx.limits.buckets_max),
            _held: held,
        })
    }

    /// Does each function give one value a window, and every column come of these alone?
    fn is_aligned(&self) -> bool {
        let sets = self.setup.sets.iter().zip(&self.folders);
        let fits = |(set, folder): (&Set<'_>, &Folder)| {
            matches!(folder, Folder::Fold(_)) && !set.function.gives_many()
        };
        self.setup.beside.is_empty()
            && self.setup.sets.len() == self.setup.prepared.calls.len()
            && sets.into_iter().all(fits)
    }

    fn give(mut self, name: &str, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
        let mut order = self.groups.sorted();
        if !self.setup.prepared.ascending {
            order.reverse();
        }
        if !self.is_aligned() {
            for group in order {
                self.ctx.check()?;
                let found = self.points(group)?;
                if self.give_one(name, group, found, give).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        // Groups are finished by all threads, some at a time, and given away in order.
        let slots = self.slots.count().unwrap_or(64).max(1) * self.setup.sets.len();
        let per_task = (SLOTS_PER_TASK / slots).max(1);
        for round in order.chunks(per_task * TASKS_PER_ROUND) {
            let tasks: Vec<&[u32]> = round.chunks(per_task).collect();
            let workers = self.ctx.resources.workers;
            let made = workers.run(tasks.len(), tasks.len() - 1, Vec::new, |made, task| {
                let mut scratch = (Vec::new(), Vec::new());
                for (at, &group) in tasks[task].iter().enumerate() {
                    self.ctx.check()?;
                    made.push((task, at, group, self.aligned(group, &mut scratch)?));
                }
                Ok::<(), QueryError>(())
            })?;
            let mut made: Vec<(usize, usize, u32, Found)> = made.into_iter().flatten().collect();
            made.sort_unstable_by_key(|(task, at, ..)| (*task, *at));
            for (_, _, group, found) in made {
                if self.give_one(name, group, found, give).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn give_one(&self, name: &str, group: u32, found: Found, give: &mut Give<'_>) -> ControlFlow<()> {
        match self.series(name, group, found) {
            Some(series) => give(Piece::whole(series)),
            None => ControlFlow::Continue(()),
        }
    }

    /// So many more windows are filled.
    fn fill(&self, windows: usize) -> Result<(), QueryError> {
        let take = |left: usize| left.checked_sub(windows);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(too_many_windows(self.ctx)),
        }
    }

    fn series(&self, name: &str, group: u32, rows: Found) -> Option<Series> {
        if rows.times.is_empty() {
            return None;
        }
        let prepared = self.setup.prepared;
        let values = self.groups.key(group).iter().map(|v| v.to_string());
        let mut series = Series {
            name: name.to_string(),
            tags: prepared.dimensions.iter().cloned().zip(values).collect(),
            columns: self.columns.clone(),
            times: rows.times,
            values: rows.values,
        };
        if !prepared.ascending {
            series.reverse();
        }
        series.limit(prepared.limit, prepared.offset);
        (!series.times.is_empty()).then_some(series)
    }

    /// The time of a row that stands for no window and no point.
    fn no_time(&self) -> i64 {
        match self.setup.prepared.time.min {
            TIME_MIN => 0,
            min => min,
        }
    }

    /// The rows of a group, a column at a time.
    fn aligned(&self, group: u32, (slots, starts): &mut (Vec<u32>, Vec<i64>)) -> Result<Found, QueryError> {
        self.slots.of(group, slots, starts);
        let has = |folder: &Folder| slots.iter().any(|&slot| folder.has(slot as usize));
        if !self.folders.iter().any(has) {
            return Ok(Found::default());
        }
        let mut calls = Vec::with_capacity(self.folders.len());
        let mut time = None;
        for (folder, set) in self.folders.iter().zip(&self.setup.sets) {
            let Folder::Fold(fold) = folder else { continue };
            let Folded { values, times, rows } = fold.finish(slots);
            if set.timed {
                time = times.and_then(|times| times.first().copied());
            }
            calls.push(Windowed {
                function: set.function,
                values,
                rows,
            });
        }
        match &self.setup.prepared.windows {
            None => {
                if !calls.iter().any(|call| call.is_row(0)) {
                    return Ok(Found::default());
                }
                Ok(single(
                    self.setup.prepared,
                    time.unwrap_or_else(|| self.no_time()),
                    calls,
                ))
            }
            Some(windows) => windowed(
                self.setup.prepared,
                windows,
                self.setup.first_window,
                starts,
                calls,
                &|windows| self.fill(windows),
            ),
        }
    }

    /// The rows of a group, by way of points.
    fn points(&mut self, group: u32) -> Result<Found, QueryError> {
        let (mut slots, mut starts) = (Vec::new(), Vec::new());
        self.slots.of(group, &mut slots, &mut starts);
        let has = |folder: &Folder| slots.iter().any(|&slot| folder.has(slot as usize));
        let folded = self
            .folded
            .get_mut(group as usize)
            .map(std::mem::take)
            .unwrap_or_default();
        if !self.folders.iter().any(has) && folded.iter().all(Vec::is_empty) {
            return Ok(Found::default());
        }
        let no_time = self.no_time();
        let prepared = self.setup.prepared;
        let mut sets = Vec::with_capacity(self.folders.len());
        for (folder, set) in self.folders.iter_mut().zip(&self.setup.sets) {
            let keeps = set.keeps_time(self.setup);
            let stamp = |start: i64| if start == i64::MIN { no_time } else { start };
            let mut points: Vec<Picked> = Vec::new();
            match folder {
                Folder::States(states) => {
                    let all = starts.iter().zip(&slots);
                    let mut found: Vec<(i64, State)> = all
                        .map(|(&start, &slot)| (start, states.take(slot as usize)))
                        .collect();
                    if let Some(windows) = prepared.windows.as_ref().filter(|w| w.over.is_some()) {
                        let end = windows.start(prepared.time.max);
                        found = rolling::states(&set.function, windows, found, end);
                    }
                    for (start, state) in found {
                        let made = state.finish(&set.function).into_iter();
                        points.extend(made.map(|point| match keeps {
                            true => point,
                            false => Picked {
                                time: stamp(start),
                                ..point
                            },
                        }));
                    }
                }
                Folder::Fold(fold) => {
                    let Folded { values, times, rows } = fold.finish(&slots);
                    let is_row = |i: usize| rows.as_ref().map_or_else(|| values.has(i), |rows| rows.get(i));
                    for (i, &start) in starts.iter().enumerate().filter(|(i, _)| is_row(*i)) {
                        points.push(Picked {
                            time: match times.as_ref().filter(|_| keeps) {
                                Some(times) => times[i],
                                None => stamp(start),
                            },
                            value: Value::of_column(&values, i),
                            aux: None,
                        });
                    }
                }
            }
            sets.push(points);
        }
        let (mut sets, mut folds) = (sets.into_iter(), folded.into_iter());
        let given = prepared.calls.iter().filter_map(|call| match call {
            Call::Fold { .. } => Some(folds.next().unwrap_or_default()),
            Call::Transform { .. } => None,
            _ => Some(sets.next().unwrap_or_default()),
        });
        let finisher = Finisher {
            ctx: self.ctx,
            prepared,
            beside: &self.setup.beside,
        };
        finisher.finish(given.collect(), self.left.get_mut())
    }
}

impl Set<'_> {
    /// Do its points keep the time they have?
    fn keeps_time(&self, setup: &Setup<'_>) -> bool {
        let many = matches!(
            self.function,
            Aggregate::Top { .. } | Aggregate::Bottom { .. } | Aggregate::Sample(_) | Aggregate::Sequence
        );
        many || (setup.prepared.windows.is_none() && setup.selector)
    }
}
