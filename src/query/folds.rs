//! Kymo's own functions of sets of rows: of several fields (`corr`), or of each series for itself (`rate`). A pass of its own
//! over the rows, which feeds every window that a row belongs to.

use super::context::Context;
use super::error::QueryError;
use super::exec::{Call, Groups, Merged, Prepared, Reading, each_series};
use super::extension::Fold;
use super::functions::aggregate::Picked;
use super::functions::counter::{Growth, Sample, Stretch};
use super::functions::digest::Digest;
use super::functions::lag::best_lag;
use super::functions::moments::Moments;
use super::input::Input;
use super::node::Node;
use super::resources::Held;
use super::rolling;
use super::value::Value;
use super::windows::Windows;
use crate::model::TimeRange;
use crate::model::time::TIME_MIN;
use std::collections::HashMap;

mod rolled;

/// A counter's sample before a window counts when it is not older than this, or than two windows if that is more.
pub const COUNTER_LOOKBACK: i64 = 3_600_000_000_000;

/// What is gathered for one call in one window.
#[derive(Clone)]
enum State {
    Moments(Moments),
    Growth(Growth),
    Digest(Box<Digest>),
    Points(Vec<(i64, Option<f64>, Option<f64>)>),
}

impl State {
    fn new(fold: &Fold) -> Self {
        match fold {
            Fold::BestLag { .. } => Self::Points(Vec::new()),
            Fold::Increase | Fold::Rate(_) => Self::Growth(Growth::default()),
            Fold::ApproxPercentile(_) => Self::Digest(Box::default()),
            _ => Self::Moments(Moments::default()),
        }
    }

    fn finish(self, fold: &Fold, ctx: &Context<'_>) -> Result<Option<Value>, QueryError> {
        let float = |value: Option<f64>| value.filter(|v| v.is_finite()).map(Value::Float);
        Ok(match (self, *fold) {
            (Self::Moments(m), Fold::Covariance) => float(m.covariance()),
            (Self::Moments(m), Fold::Slope) => float(m.slope()),
            (Self::Moments(m), Fold::Intercept) => float(m.intercept()),
            (Self::Moments(m), Fold::R2) => float(m.r2()),
            (Self::Moments(m), _) => float(m.correlation()),
            (Self::Growth(growth), Fold::Rate(unit)) => float(growth.rate(unit)),
            (Self::Growth(growth), _) => float(growth.increase()),
            (Self::Digest(digest), Fold::ApproxPercentile(p)) => float(digest.percentile(p)),
            (Self::Points(points), Fold::BestLag { max, coefficient }) => {
                let found = best_lag(&points, max, &|| ctx.check())?;
                found.map(|found| {
                    if coefficient {
                        Value::Float(found.coefficient)
                    } else {
                        Value::Integer(found.lag)
                    }
                })
            }
            _ => None,
        })
    }
}

/// Can states of parts of a window be put together? Counters are by [`Stretch`], lags have to see the rows one after the other.
fn is_merged(fold: &Fold) -> bool {
    !matches!(fold, Fold::BestLag { .. }) && !is_counter(fold)
}

fn is_counter(fold: &Fold) -> bool {
    matches!(fold, Fold::Increase | Fold::Rate(_))
}

impl State {
    fn is_empty(&self) -> bool {
        match self {
            Self::Moments(moments) => moments.count() == 0.0,
            Self::Digest(digest) => digest.is_empty(),
            Self::Growth(_) | Self::Points(_) => false,
        }
    }

    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Moments(a), Self::Moments(b)) => a.merge(b),
            (Self::Digest(a), Self::Digest(b)) => a.merge((**b).clone()),
            _ => debug_assert!(false, "they are not merged"),
        }
    }
}

/// One call of the statement.
struct Wanted<'a> {
    fold: Fold,
    arguments: &'a [Node],
}

impl Wanted<'_> {
    fn is_digest(&self) -> bool {
        matches!(self.fold, Fold::ApproxPercentile(_))
    }
}

/// The states of a group: by start of window, call by call.
#[derive(Default)]
struct Group {
    slots: HashMap<i64, usize>,
    starts: Vec<i64>,
    states: Vec<State>,
}

/// What [`run`] would read as states of a rollup, for EXPLAIN.
///
/// # Errors
/// Damage, or a read that failed.
pub(super) fn rolled_note(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
) -> Result<Option<String>, QueryError> {
    let wanted = wanted_of(prepared);
    if wanted.is_empty() {
        return Ok(None);
    }
    let times = Pass::new(ctx, prepared, &wanted).times();
    let readings = Reading::open(ctx, inputs, prepared, times)?;
    Ok(rolled::of_folds(ctx, prepared, &wanted, &readings)?.map(|rolled| rolled.note))
}

fn wanted_of(prepared: &Prepared) -> Vec<Wanted<'_>> {
    let calls = prepared.calls.iter();
    calls
        .filter_map(|call| match call {
            Call::Fold { fold, arguments } => Some(Wanted {
                fold: *fold,
                arguments,
            }),
            _ => None,
        })
        .collect()
}

/// The points that each fold gives, by group and then in the order of the calls.
///
/// # Errors
/// A limit, cancelled, damage.
pub(super) fn run(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
    groups: &mut Groups,
) -> Result<Vec<Vec<Vec<Picked>>>, QueryError> {
    let wanted = wanted_of(prepared);
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut pass = Pass::new(ctx, prepared, &wanted);
    let readings = Reading::open(ctx, inputs, prepared, pass.times())?;
    let mut references = Vec::new();
    let arguments = wanted.iter().flat_map(|w| w.arguments);
    arguments.for_each(|node| node.references(&mut references));
    if let Some(rolled) = rolled::of_folds(ctx, prepared, &wanted, &readings)? {
        let mut groups_of_states = groups.clone();
        let usable = pass.rolled(&rolled, &references, &mut groups_of_states)?;
        if let Some(trace) = &ctx.resources.trace {
            let verdict = if usable {
                ""
            } else {
                ": not enough, points are read"
            };
            trace.note(format!("{}{verdict}", rolled.note));
        }
        if usable {
            *groups = groups_of_states;
            return pass.finish();
        }
        pass = Pass::new(ctx, prepared, &wanted);
    }
    each_series(ctx, &readings, &references, groups, &mut |rows| pass.rows(&rows))?;
    pass.finish()
}

struct Pass<'a> {
    ctx: &'a Context<'a>,
    prepared: &'a Prepared,
    wanted: &'a [Wanted<'a>],
    groups: Vec<Group>,
    buckets: usize,
    bytes: usize,
    held: Held<'a>,
    /// For each call, the last sample of the series at hand.
    before: Vec<Option<Sample>>,
    series: u64,
    /// Rolling windows are put together from these.
    slots: Option<Windows>,
    /// For each call, the growth of the series at hand by slot, where windows roll.
    stretches: Vec<Vec<(i64, Stretch)>>,
}

impl<'a> Pass<'a> {
    fn new(ctx: &'a Context<'a>, prepared: &'a Prepared, wanted: &'a [Wanted<'a>]) -> Self {
        Self {
            ctx,
            prepared,
            wanted,
            groups: Vec::new(),
            buckets: 0,
            bytes: 0,
            held: ctx.resources.memory.held(),
            before: vec![None; wanted.len()],
            series: 0,
            slots: prepared
                .windows
                .as_ref()
                .filter(|windows| windows.over.is_some())
                .map(rolling::slots),
            stretches: vec![Vec::new(); wanted.len()],
        }
    }

    fn lookback(&self) -> i64 {
        let windows = self.prepared.windows.as_ref();
        windows.map_or(COUNTER_LOOKBACK, |w| {
            w.step.saturating_mul(2).max(COUNTER_LOOKBACK)
        })
    }

    fn counts(&self) -> bool {
        self.wanted
            .iter()
            .any(|w| matches!(w.fold, Fold::Increase | Fold::Rate(_)))
    }

    /// What has to be read: for counters the sample before the first window too.
    fn times(&self) -> TimeRange {
        let read = self.prepared.read;
        if read.min == TIME_MIN {
            return read;
        }
        let mut min = read.min;
        if self.counts() {
            min = min.saturating_sub(self.lookback());
        }
        TimeRange { min, ..read }
    }

    fn rows(&mut self, rows: &Merged) -> Result<(), QueryError> {
        self.begin(rows.input, rows.series, rows.group);
        self.more(rows)?;
        for call in 0..self.wanted.len() {
            self.roll_counter(call, rows.group as usize);
        }
        self.check()
    }

    /// The next series.
    fn begin(&mut self, input: usize, series: u32, group: u32) {
        self.series = (input as u64) << 32 | u64::from(series);
        self.before.iter_mut().for_each(|before| *before = None);
        let group = group as usize;
        if self.groups.len() <= group {
            self.groups.resize_with(group + 1, Group::default);
        }
    }

    /// Rows of the series at hand.
    fn more(&mut self, rows: &Merged) -> Result<(), QueryError> {
        let first = self.prepared.read.min;
        for (row, &time) in rows.times.iter().enumerate() {
            for call in 0..self.wanted.len() {
                self.row(call, rows, row, time, time >= first)?;
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), QueryError> {
        let limits = self.ctx.limits;
        if self.buckets > limits.buckets_max {
            let limit = limits.buckets_max;
            return Err(QueryError::Limit(format!(
                "too many windows (query_buckets_max {limit}); take longer windows or a shorter time"
            )));
        }
        self.held.set(self.bytes)
    }

    /// Gives the row to one call, in every window that it belongs to.
    fn row(
        &mut self,
        call: usize,
        rows: &Merged,
        row: usize,
        time: i64,
        wanted: bool,
    ) -> Result<(), QueryError> {
        let Wanted { fold, arguments } = &self.wanted[call];
        let value = |node: &Node| rows.value(node, row);
        let group = rows.group as usize;
        if is_counter(fold) {
            let value = value(&arguments[0]);
            if value.as_f64().is_none_or(f64::is_nan) {
                return Ok(());
            }
            let sample = (time, value);
            let lookback = self.lookback();
            let before = self.before[call].take();
            let before = before.filter(|before| time.saturating_sub(before.0) <= lookback);
            if wanted && let Some(slots) = &self.slots {
                let start = slots.start(time);
                let known = &mut self.stretches[call];
                match known.last_mut() {
                    Some((slot, stretch)) if *slot == start => stretch.push(&sample),
                    _ => known.push((start, Stretch::new(before.as_ref(), &sample))),
                }
            } else if wanted {
                let series = self.series;
                self.windows(call, group, time, &mut |state| {
                    if let State::Growth(growth) = state {
                        growth.push(series, before.as_ref(), &sample);
                    }
                });
            }
            self.before[call] = Some(sample);
            return Ok(());
        }
        if !wanted {
            return Ok(());
        }
        let numbers: Vec<Option<f64>> = arguments.iter().map(|node| value(node).as_f64()).collect();
        match (fold, numbers.as_slice()) {
            (Fold::ApproxPercentile(_), [Some(x)]) => self.windows(call, group, time, &mut |state| {
                if let State::Digest(digest) = state {
                    digest.push(*x);
                }
            }),
            (Fold::BestLag { .. }, [x, y]) if x.is_some() || y.is_some() => {
                self.bytes += 40;
                self.windows(call, group, time, &mut |state| {
                    if let State::Points(points) = state {
                        points.push((time, *x, *y));
                    }
                });
            }
            // Coefficients are over rows that have both.
            (_, [y, x]) => {
                if let (Some(y), Some(x)) = (y, x) {
                    self.windows(call, group, time, &mut |state| {
                        if let State::Moments(moments) = state {
                            moments.push(*x, *y);
                        }
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives the growth of the series at hand to the rolling windows.
    fn roll_counter(&mut self, call: usize, group: usize) {
        let stretches = std::mem::take(&mut self.stretches[call]);
        let Some(windows) = self.prepared.windows.as_ref().filter(|_| !stretches.is_empty()) else {
            return;
        };
        let end = windows.start(self.prepared.time.max);
        for (start, stretch) in rolling::roll(windows, stretches, end, true, &Stretch::merge) {
            self.window(call, group, start, &mut |state| {
                if let State::Growth(growth) = state {
                    growth.add(&stretch);
                }
            });
        }
    }

    /// Visits the state of one window.
    fn window(&mut self, call: usize, group: usize, start: i64, visit: &mut dyn FnMut(&mut State)) {
        let group = &mut self.groups[group];
        let new = group.starts.len();
        let slot = *group.slots.entry(start).or_insert(new);
        if slot == new {
            group.starts.push(start);
            group
                .states
                .extend(self.wanted.iter().map(|w| State::new(&w.fold)));
            self.buckets += 1;
            self.bytes += self.wanted.len() * size_of::<State>() + 64;
        }
        visit(&mut group.states[slot * self.wanted.len() + call]);
    }

    /// Visits the states of the windows that a time belongs to.
    fn windows(&mut self, call: usize, group: usize, time: i64, visit: &mut dyn FnMut(&mut State)) {
        let prepared = self.prepared;
        let Some(windows) = &prepared.windows else {
            self.window(call, group, i64::MIN, visit);
            return;
        };
        let slots = self.slots.as_ref().filter(|_| is_merged(&self.wanted[call].fold));
        if let Some(slot) = slots.map(|slots| slots.start(time)) {
            self.window(call, group, slot, visit);
            return;
        }
        let mut start = windows.start(time);
        // The window of the row's own time, and those after it that reach back to it.
        let end = windows.start(prepared.time.max);
        while start <= end && rolling::reach(windows, start) <= time {
            self.window(call, group, start, visit);
            let next = windows.next(start);
            if next <= start {
                break;
            }
            start = next;
        }
    }

    fn finish(self) -> Result<Vec<Vec<Vec<Picked>>>, QueryError> {
        let unwindowed = match self.prepared.time.min {
            TIME_MIN => 0,
            min => min,
        };
        let rolls = self.prepared.windows.as_ref().filter(|_| self.slots.is_some());
        let mut out = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            let mut order: Vec<usize> = (0..group.starts.len()).collect();
            order.sort_unstable_by_key(|&slot| group.starts[slot]);
            let mut states: Vec<Option<State>> = group.states.into_iter().map(Some).collect();
            let mut points = vec![Vec::new(); self.wanted.len()];
            for (call, wanted) in self.wanted.iter().enumerate() {
                let mut found = Vec::new();
                for &slot in &order {
                    let state = states[slot * self.wanted.len() + call].take();
                    found.extend(state.map(|state| (group.starts[slot], state)));
                }
                if let (Some(windows), true) = (rolls, is_merged(&wanted.fold)) {
                    found.retain(|(_, state)| !state.is_empty());
                    let end = windows.start(self.prepared.time.max);
                    found = rolling::roll(windows, found, end, true, &State::merge);
                }
                for (start, state) in found {
                    self.ctx.check()?;
                    let time = if start == i64::MIN { unwindowed } else { start };
                    if let Some(value) = state.finish(&wanted.fold, self.ctx)? {
                        points[call].push(Picked {
                            time,
                            value,
                            aux: None,
                        });
                    }
                }
            }
            out.push(points);
        }
        Ok(out)
    }
}
