//! Which intervals of a query are read as states, and what between them as points.

use crate::catalog::Measurement;
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::windows::Windows;
use crate::rollup::Clean;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pieces of a range of time; more are read as points.
const PIECES_MAX: usize = 64;
/// Windows that are looked at one by one.
const WINDOWS_MAX: usize = 20_000;
/// Nearer to the ends of time nothing is read as states.
const EDGE: i64 = 2 * crate::rollup::EVERY_MAX;
/// A state must stand for so many points to be read instead of them.
const POINTS_PER_STATE: u64 = 16;

/// A piece of a range of time.
#[derive(Clone)]
pub struct Piece {
    /// Begins here ..
    pub from: i64,
    /// .. and ends before this.
    pub to: i64,
    /// The states to read, and the length of their intervals; `None`: points.
    pub states: Option<(Arc<Measurement>, i64)>,
}

impl Piece {
    /// Its times.
    pub fn time(&self) -> TimeRange {
        TimeRange {
            min: self.from,
            max: self.to - 1,
        }
    }
}

/// The pieces of a query of a measurement.
#[derive(Clone, Default)]
pub struct Pieces {
    /// Ascending, apart, without gaps.
    pub list: Vec<Piece>,
    /// Intervals that are read as states, by name of the rollup and length.
    pub intervals: BTreeMap<(String, i64), u64>,
}

impl Pieces {
    /// For EXPLAIN.
    pub fn note(&self) -> String {
        let of = |((name, every), count): (&(String, i64), &u64)| {
            let intervals = if *count == 1 { "interval" } else { "intervals" };
            let every = crate::lang::format_duration(*every);
            format!("rollup {name}, {count} {intervals} of {every}")
        };
        let all: Vec<String> = self.intervals.iter().map(of).collect();
        all.join("; ")
    }
}

/// Are so many states worth reading in place of so many points?
pub fn is_worth(points: u64, states: u64, rest: u64) -> bool {
    states.saturating_mul(POINTS_PER_STATE).saturating_add(rest) < points
}

/// Do windows have whole intervals only?
fn is_aligned(windows: Option<&Windows>, every: i64, time: TimeRange) -> bool {
    let Some(windows) = windows else { return true };
    if windows.over.is_some() {
        return false;
    }
    if windows.months == 0 && windows.zone == jiff::tz::TimeZone::UTC {
        return windows.step % every == 0 && windows.offset % every == 0;
    }
    let mut start = windows.start(time.min);
    for _ in 0..WINDOWS_MAX {
        if start.rem_euclid(every) != 0 {
            return false;
        }
        if start > time.max {
            return true;
        }
        let next = windows.next(start);
        if next <= start {
            return false;
        }
        start = next;
    }
    false
}

/// The pieces of a range of time, of which a measurement has points `there`. `None`: no rollup has anything of it.
pub fn pieces(
    ctx: &Context<'_>,
    source: &Measurement,
    windows: Option<&Windows>,
    time: TimeRange,
    there: TimeRange,
    percentiles: bool,
) -> Option<Pieces> {
    let (rollups, sequence) = ctx.scan.rollups()?;
    if there.min < i64::MIN + EDGE || there.max > i64::MAX - EDGE {
        return None;
    }
    // The intervals of the first and the last point may be whole in the time, though there is nothing before and behind these.
    let longest = rollups.longest(source.id)?;
    let whole = TimeRange {
        min: there.min - there.min.rem_euclid(longest),
        max: there.max - there.max.rem_euclid(longest) + longest - 1,
    };
    let time = ctx.scan.unexpired(source.id, time.intersect(&whole));
    if time.is_empty() {
        return None;
    }
    let (from, to) = (time.min, time.max + 1);
    let mut levels = Vec::new();
    for clean in rollups.clean(source.id, from, to, sequence) {
        let fits = !percentiles || clean.definition.statement.percentiles;
        if !fits || !is_aligned(windows, clean.every, time) {
            continue;
        }
        if let Some(states) = clean.definition.states(ctx.catalog, source, clean.every) {
            // What let the states expire may not have let the points.
            let there = ctx.scan.unexpired(states.id, time);
            if there.min <= from {
                levels.push((clean, states));
            }
        }
    }
    let mut found = Pieces::default();
    cut(from, to, &levels, &mut found);
    let few = found.list.len() <= PIECES_MAX && !found.intervals.is_empty();
    few.then_some(found)
}

/// Cuts a range by the longest intervals first, and what they leave by the next.
fn cut(from: i64, to: i64, levels: &[(Clean, Arc<Measurement>)], out: &mut Pieces) {
    if from >= to {
        return;
    }
    let Some(((clean, states), shorter)) = levels.split_first() else {
        match out.list.last_mut() {
            Some(last) if last.states.is_none() && last.to == from => last.to = to,
            _ => out.list.push(Piece {
                from,
                to,
                states: None,
            }),
        }
        return;
    };
    let every = clean.every;
    let mut at = from;
    for &(start, end) in &clean.ranges {
        // Of the clean ones those that lie within whole.
        let start = start.max(from);
        let start = start + (every - start.rem_euclid(every)) % every;
        let end = end.min(to);
        let end = end - end.rem_euclid(every);
        if start >= end || start < at {
            continue;
        }
        cut(at, start, shorter, out);
        out.list.push(Piece {
            from: start,
            to: end,
            states: Some((states.clone(), every)),
        });
        let name = clean.definition.statement.name.clone();
        *out.intervals.entry((name, every)).or_default() += ((end - start) / every) as u64;
        at = end;
    }
    cut(at, to, shorter, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    #[test]
    fn only_windows_of_whole_intervals_are_read_as_states() {
        let time = TimeRange {
            min: 0,
            max: 400 * 24 * HOUR,
        };
        let zone = |name: &str| jiff::tz::TimeZone::get(name).expect("a zone");
        let fixed = Windows::fixed;
        let rolling = |over| Windows {
            over: Some(over),
            ..fixed(HOUR, 0)
        };
        let in_zone = |name, step| Windows {
            zone: zone(name),
            ..fixed(step, 0)
        };
        let months = |name| Windows {
            months: 1,
            zone: zone(name),
            ..fixed(HOUR, 0)
        };
        for (windows, every, wanted) in [
            (fixed(HOUR, 0), HOUR, true),
            (fixed(6 * HOUR, 2 * HOUR), HOUR, true),
            (fixed(HOUR, 1), HOUR, false),
            (fixed(HOUR / 2, 0), HOUR, false),
            // A rolling window is not the sum of those that it spans, and is not cut at its own steps.
            (rolling(2 * HOUR), HOUR, false),
            (rolling(HOUR), HOUR, false),
            (in_zone("Europe/Berlin", 24 * HOUR), HOUR, true),
            (in_zone("Asia/Kolkata", 24 * HOUR), HOUR, false),
            (in_zone("Europe/Berlin", 24 * HOUR), 24 * HOUR, false),
            (months("Europe/Berlin"), HOUR, true),
            (months("Asia/Kolkata"), HOUR, false),
        ] {
            assert_eq!(
                is_aligned(Some(&windows), every, time),
                wanted,
                "{windows:?}, {every}"
            );
        }
        assert!(is_aligned(None, HOUR, time));
    }
}
