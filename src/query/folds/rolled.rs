//! Counters and percentiles from states of a rollup: series by series, rows and states in the order of time.

use super::{Pass, State, Wanted, is_counter};
use crate::model::{FieldType, SeriesId};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::exec::rolled::{Need, Rolled, open};
use crate::query::exec::{Groups, Merged, Prepared, Reading, each_series};
use crate::query::functions::counter::Sample;
use crate::query::input::Resolved;
use crate::query::node::Node;
use crate::query::scan::{Batch, Visitor};
use crate::rollup::parts::Part;
use std::collections::BTreeMap;

const OF_COUNTERS: &[Part] = &[
    Part::Count,
    Part::First,
    Part::FirstAt,
    Part::Last,
    Part::LastAt,
    Part::Increase,
];
const OF_DIGESTS: &[Part] = &[Part::Count, Part::Digest];

/// The field that a call is of, where states know it: its place among the wanted ones.
fn field(wanted: &Wanted<'_>, reading: &Reading<'_>) -> Option<usize> {
    let [Node::Ref(number, None)] = wanted.arguments else {
        return None;
    };
    match reading.wanted.resolved[*number] {
        Resolved::Field(at) => Some(at),
        Resolved::Tag(_) => None,
    }
}

fn needs(wanted: &[Wanted<'_>], reading: &Reading<'_>) -> Option<Vec<Need>> {
    let mut needs = Vec::new();
    for one in wanted {
        let at = field(one, reading)?;
        let parts = match one.is_digest() {
            true => OF_DIGESTS,
            false if is_counter(&one.fold) => OF_COUNTERS,
            false => return None,
        };
        let (id, field_type) = reading.wanted.fields[at];
        if matches!(field_type, FieldType::String | FieldType::Boolean) {
            return None;
        }
        needs.extend(parts.iter().map(|&part| (at, id, field_type, part)));
    }
    Some(needs)
}

/// The inputs by pieces; `None` where states are not to be read.
///
/// # Errors
/// Damage, or a read that failed.
pub(super) fn of_folds<'a>(
    ctx: &Context<'_>,
    prepared: &Prepared,
    wanted: &[Wanted<'_>],
    readings: &[Reading<'a>],
) -> Result<Option<Rolled<'a>>, QueryError> {
    let windows = prepared.windows.as_ref();
    if windows.is_some_and(|windows| windows.over.is_some()) {
        return Ok(None);
    }
    // What counters look back to is read as it is.
    open(ctx, readings, windows, prepared.read, &|reading| {
        needs(wanted, reading)
    })
}

/// What is known of a series in a stretch of time.
enum Stretch {
    Rows(Merged),
    /// Of one interval: for each call its counter, or what percentiles need.
    State(i64, Vec<Known>),
}

#[derive(Clone)]
enum Known {
    Nothing,
    Counter(Sample, Sample, f64),
    Digest(Box<[u8]>),
}

impl Stretch {
    fn begins(&self) -> i64 {
        match self {
            Self::Rows(rows) => rows.times.first().copied().unwrap_or(i64::MIN),
            Self::State(start, _) => *start,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.times.len() * (8 + 9 * rows.references.len()) + 96,
            Self::State(_, known) => known
                .iter()
                .map(|known| match known {
                    Known::Digest(bytes) => bytes.len() + size_of::<Known>(),
                    _ => size_of::<Known>(),
                })
                .sum::<usize>()
                .saturating_add(48),
        }
    }
}

/// A series' group and what is known of it.
type OfSeries = (u32, Vec<Stretch>);

impl Pass<'_> {
    /// Reads rows and states. False: states could not say what was asked.
    pub(super) fn rolled(
        &mut self,
        rolled: &Rolled<'_>,
        references: &[usize],
        groups: &mut Groups,
    ) -> Result<bool, QueryError> {
        let ctx = self.ctx;
        let (rows, states) = rolled.readings.split_at(rolled.rows);
        // Percentiles take what comes as it comes; counters need the order.
        if self.wanted.iter().all(Wanted::is_digest) {
            each_series(ctx, rows, references, groups, &mut |rows| self.rows(&rows))?;
            let wanted = self.wanted;
            for reading in states {
                let mut visit = |series: SeriesId, group: u32, start: i64, call: usize, known: Known| {
                    self.begin(0, series, group);
                    self.state(call, group as usize, start, known)
                };
                read(ctx, reading, wanted, groups, &mut visit)?;
                self.check()?;
            }
            return Ok(rolled.is_usable());
        }
        let mut all: BTreeMap<(usize, SeriesId), OfSeries> = BTreeMap::new();
        let mut held = ctx.resources.memory.held();
        let mut bytes = 0;
        each_series(ctx, rows, references, groups, &mut |mut rows| {
            rows.input = rolled.inputs[rows.input];
            let of = all.entry((rows.input, rows.series)).or_default();
            of.0 = rows.group;
            let stretch = Stretch::Rows(rows);
            bytes += stretch.bytes();
            of.1.push(stretch);
            held.set(bytes)
        })?;
        let calls = self.wanted.len();
        for (reading, &input) in states.iter().zip(&rolled.inputs[rolled.rows..]) {
            let mut visit = |series: SeriesId, group: u32, start: i64, call: usize, known: Known| {
                let of = all.entry((input, series)).or_default();
                of.0 = group;
                match of.1.last_mut() {
                    Some(Stretch::State(last, list))
                        if *last == start && matches!(list[call], Known::Nothing) =>
                    {
                        list[call] = known;
                    }
                    _ => {
                        let mut list = vec![Known::Nothing; calls];
                        list[call] = known;
                        let stretch = Stretch::State(start, list);
                        bytes += stretch.bytes();
                        of.1.push(stretch);
                    }
                }
                Ok(())
            };
            read(ctx, reading, self.wanted, groups, &mut visit)?;
            held.set(bytes)?;
        }
        if !rolled.is_usable() {
            return Ok(false);
        }
        for ((input, series), (group, mut stretches)) in all {
            stretches.sort_by_key(Stretch::begins);
            self.begin(input, series, group);
            for stretch in stretches {
                match stretch {
                    Stretch::Rows(rows) => self.more(&rows)?,
                    Stretch::State(start, list) => {
                        for (call, known) in list.into_iter().enumerate() {
                            self.state(call, group as usize, start, known)?;
                        }
                    }
                }
            }
            self.check()?;
        }
        Ok(true)
    }

    fn state(&mut self, call: usize, group: usize, start: i64, known: Known) -> Result<(), QueryError> {
        match known {
            Known::Nothing => {}
            Known::Digest(bytes) => {
                let mut sound = true;
                self.windows(call, group, start, &mut |state| {
                    if let State::Digest(digest) = state {
                        sound &= digest.push_encoded(&bytes).is_some();
                    }
                });
                if !sound {
                    return Err(QueryError::Scan(
                        "damaged data: a state of a rollup; query with rollups=off, or drop the rollup"
                            .into(),
                    ));
                }
            }
            Known::Counter(first, last, increase) => {
                let lookback = self.lookback();
                let before = self.before[call].take();
                let before = before.filter(|before| first.0.saturating_sub(before.0) <= lookback);
                let series = self.series;
                self.windows(call, group, start, &mut |state| {
                    if let State::Growth(growth) = state {
                        growth.push_known(series, before.as_ref(), (&first, &last, increase));
                    }
                });
                self.before[call] = Some(last);
            }
        }
        Ok(())
    }
}

/// Visits states: series, group, start of the interval, call, what is known.
type Visit<'v> = dyn FnMut(SeriesId, u32, i64, usize, Known) -> Result<(), QueryError> + 'v;

fn read(
    ctx: &Context<'_>,
    reading: &Reading<'_>,
    wanted: &[Wanted<'_>],
    groups: &mut Groups,
    visit: &mut Visit<'_>,
) -> Result<(), QueryError> {
    let mut of = OfStates {
        reading,
        wanted,
        labels: reading.labels(),
        groups,
        visit,
    };
    (0..reading.tasks()).try_for_each(|task| reading.read(ctx, task, &mut of))
}

struct OfStates<'a, 'v> {
    reading: &'a Reading<'a>,
    wanted: &'a [Wanted<'a>],
    labels: crate::query::exec::Labels<'a>,
    groups: &'a mut Groups,
    visit: &'a mut Visit<'v>,
}

impl Visitor for OfStates<'_, '_> {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError> {
        let Some(states) = &self.reading.states else {
            return Ok(());
        };
        let mut found: Vec<(usize, usize, usize, Known)> = Vec::new();
        for (call, wanted) in self.wanted.iter().enumerate() {
            let Some(at) = field(wanted, self.reading) else {
                states.give_up();
                return Ok(());
            };
            if wanted.is_digest() {
                states.digests(batch, at, &mut |run, row, bytes| {
                    found.push((run, row, call, Known::Digest(bytes.into())));
                    Ok(())
                })?;
            } else {
                states.counters(batch, at, &mut |run, row, first, last, increase| {
                    found.push((run, row, call, Known::Counter(first, last, increase)));
                })?;
            }
        }
        // State by state, so that what several calls know of one stands together.
        if self.wanted.len() > 1 {
            found.sort_by_key(|(run, row, call, _)| (*run, *row, *call));
        }
        let mut of_run: Option<(usize, u32)> = None;
        for (run, row, call, known) in found {
            let series = batch.runs[run].series;
            let group = match of_run {
                Some((last, group)) if last == run => group,
                _ => self.labels.group(series, self.groups)?,
            };
            of_run = Some((run, group));
            (self.visit)(series, group, batch.times[row], call, known)?;
        }
        Ok(())
    }
}
