//! Turns what was folded into series: fills, puts the columns together, limits, and gives them away in order.

use super::Call;
use super::changes::Changes;
use super::fold::Folded;
use super::folding::{Folds, too_many_windows};
use super::groups::Groups;
use super::rows::{Found, Windowed, single, windowed};
use super::setup::{Folder, Set, Setup};
use super::windows::{GroupSlots, Slots};
use crate::lang::Fill;
use crate::model::time::TIME_MIN;
use crate::model::{Column, Values};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::finish::Finisher;
use crate::query::folds;
use crate::query::functions::aggregate::{Picked, State};
use crate::query::input::Input;
use crate::query::resources::Held;
use crate::query::result::{Give, Piece, ResultColumn, Series};
use crate::query::rolling;
use crate::query::value::Value;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Slots times functions that are finished in one piece of work.
const SLOTS_PER_TASK: usize = 4_000;
/// Pieces of finished groups that wait to be given away.
const TASKS_PER_ROUND: usize = 16;

/// Turns folds into series.
pub struct Finish<'a> {
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
    /// The folds are wanted again.
    keeps: bool,
    cut: Option<Slots>,
    _held: Vec<Held<'a>>,
}

impl<'a> Finish<'a> {
    /// Of what all threads have folded.
    ///
    /// # Errors
    /// Those of functions that read for themselves (`folds`).
    pub fn new(
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
            keeps: false,
            cut: None,
            _held: held,
        })
    }

    /// Of folds that are [wanted again](Self::into_folds), of functions of sets of points alone.
    pub fn of(ctx: &'a Context<'a>, setup: &'a Setup<'a>, folds: Folds<'static>) -> Self {
        let Folds {
            groups,
            slots,
            mut folders,
            ..
        } = folds;
        for folder in &mut folders {
            folder.grow(slots.len(groups.len()));
            if let Folder::Fold(fold) = folder {
                fold.settle();
            }
        }
        Self {
            ctx,
            setup,
            slots: slots.by_group(&groups),
            groups,
            folders,
            folded: Vec::new(),
            columns: setup.prepared.names(),
            left: AtomicUsize::new(ctx.limits.buckets_max),
            keeps: true,
            cut: Some(slots),
            _held: Vec::new(),
        }
    }

    /// What was finished, to be gone on with.
    pub fn into_folds(self) -> Folds<'static> {
        Folds {
            groups: self.groups,
            slots: self.cut.expect("only what was made by `of` is gone on with"),
            folders: self.folders,
            held: Vec::new(),
        }
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

    /// How many groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Windows of a group in which any function has something, and for each function whether the first window that it has
    /// something in is the first that is wanted at all. Only for functions that give one value a window.
    pub fn rows(&self, group: u32) -> (usize, Vec<Option<bool>>) {
        let (mut slots, mut starts) = (Vec::new(), Vec::new());
        self.slots.of(group, &mut slots, &mut starts);
        let calls = self.calls(&slots);
        let any = |window: &usize| calls.iter().any(|call| call.is_row(*window));
        let rows = (0..slots.len()).filter(any).count();
        let first = |call: &Windowed| {
            let at = (0..slots.len()).find(|&window| call.is_row(window))?;
            Some(Some(starts[at]) == self.setup.first_window)
        };
        (rows, calls.iter().map(first).collect())
    }

    /// What each function gave in some slots.
    fn calls(&self, slots: &[u32]) -> Vec<Windowed> {
        let each = self.folders.iter().zip(&self.setup.sets);
        each.filter_map(|(folder, set)| match folder {
            Folder::Fold(fold) => {
                let Folded { values, rows, .. } = fold.finish(slots);
                Some(Windowed {
                    function: set.function,
                    values,
                    rows,
                })
            }
            Folder::States(_) => None,
        })
        .collect()
    }

    /// Gives all series away, sorted by tags.
    ///
    /// # Errors
    /// Cancelled; too many windows.
    pub fn give(mut self, name: &str, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
        self.give_some(name, None, give)
    }

    /// The same of some groups, in any order.
    ///
    /// # Errors
    /// Cancelled; too many windows.
    pub fn give_some(
        &mut self,
        name: &str,
        only: Option<Vec<u32>>,
        give: &mut Give<'_>,
    ) -> Result<ControlFlow<()>, QueryError> {
        let mut order = only.unwrap_or_else(|| self.groups.sorted());
        if !self.setup.prepared.ascending {
            order.reverse();
        }
        let changes = Changes::of(self.setup, &self.folders);
        if !self.is_aligned() && changes.is_none() {
            for group in order {
                self.ctx.check()?;
                let found = self.points(group)?;
                if self.give_one(name, group, found, give).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            return Ok(ControlFlow::Continue(()));
        }
        // Groups are finished by all threads, some at a time, and given away in order. How many windows a group has when they are filled may
        // be known only then: those before it tell.
        let sets = self.setup.sets.len().max(1);
        let mut slots = self.slots.count().map(|count| count.max(1) * sets);
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let per_task = slots.map_or(1, |slots| (SLOTS_PER_TASK / slots).max(1));
            let (round, after) = rest.split_at(rest.len().min(per_task * TASKS_PER_ROUND));
            rest = after;
            let tasks: Vec<&[u32]> = round.chunks(per_task).collect();
            let workers = self.ctx.resources.workers;
            let make = || (Vec::new(), self.ctx.resources.memory.held(), 0);
            let made = workers.run(tasks.len(), tasks.len() - 1, make, |(made, held, bytes), task| {
                let mut scratch = (Vec::new(), Vec::new());
                for (at, &group) in tasks[task].iter().enumerate() {
                    self.ctx.check()?;
                    let found = match &changes {
                        Some(changes) => self.changed(group, &mut scratch, changes)?,
                        None => self.aligned(group, &mut scratch)?,
                    };
                    *bytes += found.bytes();
                    held.set(*bytes)?;
                    made.push((task, at, group, found));
                }
                Ok::<(), QueryError>(())
            })?;
            let (lists, _held): (Vec<_>, Vec<Held<'_>>) =
                made.into_iter().map(|(list, held, _)| (list, held)).unzip();
            let mut made: Vec<(usize, usize, u32, Found)> = lists.into_iter().flatten().collect();
            made.sort_unstable_by_key(|(task, at, ..)| (*task, *at));
            if self.slots.count().is_none() {
                let rows: usize = made.iter().map(|(.., found)| found.times.len()).sum();
                slots = Some((rows / made.len()).max(1) * sets);
            }
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
        self.ctx.check()?;
        let take = |left: usize| left.checked_sub(windows);
        if self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err()
        {
            return Err(too_many_windows(self.ctx));
        }
        // Before they are made: a time and a place, and a value and its presence for each column.
        let width = 2 * size_of::<i64>() + (size_of::<f64>() + 1) * self.setup.prepared.columns.len();
        self.ctx
            .resources
            .memory
            .held()
            .set(windows.saturating_mul(width))
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

    /// The changes between the windows of a group.
    fn changed(
        &self,
        group: u32,
        (slots, starts): &mut (Vec<u32>, Vec<i64>),
        changes: &Changes,
    ) -> Result<Found, QueryError> {
        self.slots.of(group, slots, starts);
        let prepared = self.setup.prepared;
        let [Folder::Fold(fold)] = &self.folders[..] else {
            return Ok(Found::default());
        };
        if prepared.fill != Fill::None {
            self.fill(slots.len())?;
        }
        // Earlier windows were only read for the change to the first one.
        let first = self.setup.first_window.unwrap_or(i64::MIN);
        let found = fold.finish(slots);
        let (times, values) = changes.between(starts, &found, first);
        Ok(Found {
            times,
            values: vec![ResultColumn::Typed(Column {
                values: Values::Float(values),
                present: None,
            })],
        })
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
                        .map(|(&start, &slot)| match self.keeps {
                            true => (start, states.peek(slot as usize)),
                            false => (start, states.take(slot as usize)),
                        })
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
