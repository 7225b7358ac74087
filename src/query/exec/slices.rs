//! Rows as they are, without holding all of them: where they are too many, slice after slice, each gathered, put in order and
//! given away before the next is read. Rows of one group come in the order of time, so slices are of time; groups come in the
//! order of their tags, so slices are of some groups each, and of time only where a single group is too large.
//!
//! Blocks are cut by series first, so a block is read again for each slice of time it reaches into: that is the price, and it
//! is only paid beyond [`SLICE_BYTES`].

use super::groups::Groups;
use super::paged::Paged;
use super::raw::{self, Enough, gather};
use super::reading::Reading;
use super::{Prepared, order, work};
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::Input;
use crate::query::result::Give;
use crate::query::trace::Stage;
use roaring::RoaringBitmap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of a slice take about so many bytes, less where the budget is small.
const SLICE_BYTES: usize = 64 << 20;
/// A slice is at most this share of the budget.
const BUDGET_SHARE: usize = 4;
/// A slice that is too large is cut into at most so many.
const CUTS_MAX: usize = 64;

/// May the rows be gathered slice by slice?
pub fn fits(inputs: &[Input]) -> bool {
    // What a subquery gave is held as a whole anyway.
    inputs.iter().all(|input| matches!(input, Input::Stored(_)))
}

/// Gives the rows away.
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
    let of = Of {
        ctx,
        name,
        inputs,
        prepared,
        bytes_max: SLICE_BYTES.min(ctx.resources.memory.bytes_max() / BUDGET_SHARE),
    };
    match prepared.dimensions.is_empty() {
        true => one_group(&of, None, give),
        false => all_groups(&of, give),
    }
}

/// What is sliced.
struct Of<'a> {
    ctx: &'a Context<'a>,
    name: &'a str,
    inputs: &'a [Input],
    prepared: &'a Prepared,
    bytes_max: usize,
}

/// Series by input.
type Chosen = Vec<Arc<RoaringBitmap>>;

impl<'a> Of<'a> {
    /// Opens the inputs, for all series or for some.
    fn open(&self, prepared: &'a Prepared, only: Option<&Chosen>) -> Result<Vec<Reading<'a>>, QueryError> {
        self.ctx.resources.stage(Stage::Open, || {
            let mut readings = raw::open(self.ctx, self.inputs, prepared)?;
            if let Some(only) = only {
                readings.retain_mut(|reading| reading.narrow(&only[self.place(reading)]));
            }
            Ok(readings)
        })
    }

    fn place(&self, reading: &Reading<'_>) -> usize {
        let here = |input: &Input| std::ptr::eq(input, reading.input);
        self.inputs.iter().position(here).unwrap_or_default()
    }
}

/// Gives the rows of several groups away, some groups at a time.
fn all_groups(of: &Of<'_>, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
    let readings = of.open(of.prepared, None)?;
    let bytes = match some_groups(of, &readings, give)? {
        Some(Ok(flow)) => return Ok(flow),
        Some(Err(bytes)) => bytes,
        None => return Ok(ControlFlow::Continue(())),
    };
    let mut groups = Groups::default();
    let mut series: Vec<Vec<RoaringBitmap>> = Vec::new();
    for reading in &readings {
        let input = of.place(reading);
        reading.each_series(&mut groups, &mut |group, id| {
            if series.len() <= group as usize {
                series.resize_with(group as usize + 1, || vec![RoaringBitmap::new(); of.inputs.len()]);
            }
            series[group as usize][input].insert(id);
        })?;
        work::check_groups(of.ctx, &groups)?;
    }
    drop(readings);
    let count: u64 = series.iter().flatten().map(RoaringBitmap::len).sum();
    let mut held = of.ctx.resources.memory.held();
    held.set(groups.bytes() + series.len() * of.inputs.len() * 96 + count as usize * 4)?;
    let mut order = groups.sorted();
    if !of.prepared.ascending {
        order.reverse();
    }
    let of_group = |group: u32| series[group as usize].iter().map(RoaringBitmap::len).sum::<u64>();
    let share = count / (bytes / of.bytes_max.max(1) + 2) as u64;
    let mut rest = &order[..];
    while !rest.is_empty() {
        let (mut taken, mut total) = (1, of_group(rest[0]));
        while taken < rest.len() && total + of_group(rest[taken]) <= share {
            total += of_group(rest[taken]);
            taken += 1;
        }
        let (part, others) = rest.split_at(taken);
        rest = others;
        if groups_of(of, part, &series, give)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Gives the rows of these groups away; of halves of them, where they are too many.
fn groups_of(
    of: &Of<'_>,
    part: &[u32],
    series: &[Vec<RoaringBitmap>],
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let of_input = |input: usize| -> RoaringBitmap {
        let sets = part.iter().map(|&group| &series[group as usize][input]);
        sets.fold(RoaringBitmap::new(), |all, set| all | set)
    };
    let only: Chosen = (0..of.inputs.len())
        .map(|input| Arc::new(of_input(input)))
        .collect();
    if part.len() == 1 {
        return one_group(of, Some(only), give);
    }
    let readings = of.open(of.prepared, Some(&only))?;
    match some_groups(of, &readings, give)? {
        Some(Ok(flow)) => Ok(flow),
        None => Ok(ControlFlow::Continue(())),
        Some(Err(_)) => {
            drop(readings);
            let (first, second) = part.split_at(part.len() / 2);
            match groups_of(of, first, series, give)? {
                ControlFlow::Continue(()) => groups_of(of, second, series, give),
                flow => Ok(flow),
            }
        }
    }
}

/// Gives the rows of some groups away, if they are not too many: then nothing was given, and they take about so many bytes.
fn some_groups(
    of: &Of<'_>,
    readings: &[Reading<'_>],
    give: &mut Give<'_>,
) -> Result<Option<Result<ControlFlow<()>, usize>>, QueryError> {
    of.ctx.check()?;
    if readings.is_empty() {
        return Ok(None);
    }
    let resources = of.ctx.resources;
    let gathered = resources.stage(Stage::Read, || {
        gather(of.ctx, of.prepared, readings, Some(of.bytes_max))
    })?;
    Ok(Some(match gathered {
        Enough::TooMuch(bytes) => Err(bytes),
        Enough::All(rows) => Ok(resources.stage(Stage::Give, || {
            order::give(of.ctx, of.name, of.prepared, rows, give)
        })?),
    }))
}

/// Gives the rows of one group away.
fn one_group(of: &Of<'_>, only: Option<Chosen>, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
    let prepared = of.prepared;
    let mut slices = Slices {
        of,
        only,
        // OFFSET and LIMIT count the rows of all slices.
        prepared: Prepared {
            limit: 0,
            offset: 0,
            ..prepared.clone()
        },
        paged: Paged::new(prepared),
    };
    // Why it ended, the pages know.
    let _ = slices.range(prepared.time, give)?;
    Ok(slices.paged.last(give))
}

struct Slices<'a> {
    of: &'a Of<'a>,
    /// Which series; `None` for all.
    only: Option<Chosen>,
    prepared: Prepared,
    paged: Paged,
}

impl Slices<'_> {
    fn range(&mut self, time: TimeRange, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
        let ctx = self.of.ctx;
        ctx.check()?;
        let resources = ctx.resources;
        let prepared = Prepared {
            time,
            read: time,
            ..self.prepared.clone()
        };
        let of = Of {
            prepared: &prepared,
            ..*self.of
        };
        let readings = of.open(&prepared, self.only.as_ref())?;
        let there = work::time(&readings);
        let time = there.intersect(&time);
        if time.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        // Rows of one moment cannot be cut any further.
        let bytes_max = (time.min < time.max).then_some(of.bytes_max);
        let gathered = resources.stage(Stage::Read, || gather(ctx, &prepared, &readings, bytes_max))?;
        match gathered {
            Enough::All(rows) => resources.stage(Stage::Give, || {
                order::give(ctx, of.name, &prepared, rows, &mut |piece| {
                    self.paged.take(piece.series, give)
                })
            }),
            Enough::TooMuch(bytes) => {
                let mut cuts = cuts(time, (bytes / of.bytes_max.max(1) + 2).min(CUTS_MAX));
                if !self.prepared.ascending {
                    cuts.reverse();
                }
                for cut in cuts {
                    if self.range(cut, give)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

/// A range of time in so many parts of about the same length, ascending.
fn cuts(time: TimeRange, parts: usize) -> Vec<TimeRange> {
    let span = (i128::from(time.max) - i128::from(time.min) + 1) as u128;
    let parts = (parts as u128).clamp(2, span.max(2));
    let edge = |part: u128| (i128::from(time.min) + (span * part / parts) as i128) as i64;
    let cut = |part: u128| TimeRange {
        min: edge(part),
        max: match part + 1 == parts {
            true => time.max,
            false => edge(part + 1) - 1,
        },
    };
    (0..parts).map(cut).filter(|cut| !cut.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_cover_a_range_without_gaps() {
        for (min, max) in [(0, 1), (0, 99), (-7, 3), (i64::MIN, i64::MAX), (5, 6)] {
            for parts in [2, 3, 64] {
                let cuts = cuts(TimeRange { min, max }, parts);
                assert_eq!((cuts[0].min, cuts[cuts.len() - 1].max), (min, max));
                assert!(cuts.windows(2).all(|pair| pair[0].max + 1 == pair[1].min));
                assert!(cuts.len() >= 2 && cuts.len() <= parts);
            }
        }
    }
}
