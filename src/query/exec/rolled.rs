//! Inputs opened by pieces, where a rollup has states of some of them: see `query/rollup`.

use super::reading::Reading;
use super::setup::{Folder, Set, Setup};
use crate::catalog::Measurement;
use crate::model::{FieldId, FieldType, TimeRange};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::functions::aggregate::Aggregate;
use crate::query::input::Resolved;
use crate::query::node::Node;
use crate::query::rollup::RollupUse;
use crate::query::rollup::planning::{Pieces, is_worth, pieces};
use crate::query::rollup::states::States;
use crate::query::windows::Windows;
use crate::rollup::parts::Part;

/// A part of a field that is needed: the field's place among the wanted ones, its id, its type.
pub type Need = (usize, FieldId, FieldType, Part);

/// Inputs by pieces.
pub struct Rolled<'a> {
    /// Pieces that are rows, then pieces that are states.
    pub readings: Vec<Reading<'a>>,
    /// How many of them are rows.
    pub rows: usize,
    /// Which input each is of.
    pub inputs: Vec<usize>,
    /// For EXPLAIN.
    pub note: String,
}

impl Rolled<'_> {
    /// Could all states say what was asked?
    pub fn is_usable(&self) -> bool {
        self.readings
            .iter()
            .filter_map(|r| r.states.as_ref())
            .all(States::is_usable)
    }
}

/// The parts of states that a function needs. `None`: states do not do.
pub fn parts_of(function: &Aggregate) -> Option<&'static [Part]> {
    Some(match function {
        Aggregate::Count => &[Part::Count],
        Aggregate::Sum | Aggregate::Mean => &[Part::Count, Part::Sum],
        Aggregate::Min => &[Part::Count, Part::Min],
        Aggregate::Max => &[Part::Count, Part::Max],
        Aggregate::Spread => &[Part::Count, Part::Min, Part::Max],
        Aggregate::First => &[Part::Count, Part::First, Part::FirstAt],
        Aggregate::Last => &[Part::Count, Part::Last, Part::LastAt],
        _ => return None,
    })
}

/// The parts that the functions of sets need of an input.
fn needs(setup: &Setup<'_>, reading: &Reading<'_>) -> Option<Vec<Need>> {
    let mut needs = Vec::new();
    for set in &setup.sets {
        let parts = parts_of(&set.function)?;
        let Node::Ref(number, None) = set.argument else {
            return None;
        };
        let takes = matches!(setup.folder(set), Folder::Fold(fold) if fold.takes_steps());
        if !takes || set.beside || set.since.is_some() {
            return None;
        }
        if let Resolved::Field(at) = reading.wanted.resolved[*number] {
            let (id, field_type) = reading.wanted.fields[at];
            let number = !matches!(field_type, FieldType::String | FieldType::Boolean);
            if Some(field_type) != set.field_type || !(number || set.function == Aggregate::Count) {
                return None;
            }
            needs.extend(parts.iter().map(|&part| (at, id, field_type, part)));
        }
    }
    Some(needs)
}

/// The inputs of functions of sets by pieces; `None` where states are not to be read.
///
/// # Errors
/// Damage, or a read that failed.
pub fn of_sets<'a>(
    ctx: &Context<'_>,
    setup: &Setup<'_>,
    readings: &[Reading<'a>],
) -> Result<Option<Rolled<'a>>, QueryError> {
    if setup.sets.is_empty() {
        return Ok(None);
    }
    let windows = setup.prepared.windows.as_ref();
    open(ctx, readings, windows, TimeRange::ALL, &|reading| {
        needs(setup, reading)
    })
}

/// Inputs by pieces, no states before `states.min`; `needs` says what each needs of states.
///
/// # Errors
/// Damage, or a read that failed.
pub fn open<'a>(
    ctx: &Context<'_>,
    readings: &[Reading<'a>],
    windows: Option<&Windows>,
    states: TimeRange,
    needs: &dyn Fn(&Reading<'_>) -> Option<Vec<Need>>,
) -> Result<Option<Rolled<'a>>, QueryError> {
    let used = ctx.resources.rollups;
    let some = ctx.scan.rollups().is_some_and(|(rollups, _)| !rollups.is_empty());
    if used == RollupUse::Off || !some {
        return Ok(None);
    }
    let mut planned: Vec<(usize, &'a Measurement, Vec<Need>, Pieces)> = Vec::new();
    for (at, reading) in readings.iter().enumerate() {
        let (Some(measurement), Some(needs)) = (reading.unfiltered(), needs(reading)) else {
            return Ok(None);
        };
        let digests = needs.iter().any(|need| need.3 == Part::Digest);
        let wanted = reading.wanted_time().intersect(&states);
        let found = match reading.time().intersect(&wanted) {
            there if there.is_empty() => None,
            there => pieces(ctx, measurement, windows, wanted, there, digests),
        };
        planned.push((at, measurement, needs, found.unwrap_or_default()));
    }
    if planned.iter().all(|(.., pieces)| pieces.intervals.is_empty()) {
        return Ok(None);
    }
    let (mut rows, mut of_states) = (Vec::new(), Vec::new());
    for (at, _, needs, pieces) in &planned {
        let reading = &readings[*at];
        let there = reading.time();
        if pieces.list.is_empty() {
            rows.push((*at, reading.part(ctx, reading.wanted_time(), None)?));
            continue;
        }
        let from = pieces.list[0].from;
        // Behind the last piece there is nothing; before the first is what counters look back to.
        if there.min < from {
            // What is read before the first window.
            let before = TimeRange {
                min: there.min,
                max: from - 1,
            };
            rows.push((*at, reading.part(ctx, before, None)?));
        }
        for piece in &pieces.list {
            match &piece.states {
                None => rows.push((*at, reading.part(ctx, piece.time(), None)?)),
                Some((measurement, every)) => {
                    let states = States::new(measurement, *every, needs);
                    let part = reading.part(ctx, piece.time(), Some((measurement.id, states)))?;
                    of_states.push((*at, part));
                }
            }
        }
    }
    let count = |all: &[(usize, Reading<'_>)]| all.iter().map(|(_, reading)| reading.rows_to_read()).sum();
    let points = readings.iter().map(Reading::rows_to_read).sum();
    if used == RollupUse::Auto && !is_worth(points, count(&of_states), count(&rows)) {
        return Ok(None);
    }
    let notes: Vec<String> = planned
        .iter()
        .filter(|(.., pieces)| !pieces.intervals.is_empty())
        .map(|(.., pieces)| pieces.note())
        .collect();
    let note = format!("{} ({} states)", notes.join("; "), count(&of_states));
    let of_rows = rows.len();
    let (inputs, readings) = rows.into_iter().chain(of_states).unzip();
    Ok(Some(Rolled {
        readings,
        rows: of_rows,
        inputs,
        note,
    }))
}

/// Does a set only count?
pub fn parts(set: &Set<'_>) -> &'static [Part] {
    parts_of(&set.function).unwrap_or(&[])
}
