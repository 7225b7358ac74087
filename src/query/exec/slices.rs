//! Rows as they are, without holding all of them: where they are too many, slice after slice of time, each gathered, put in
//! order and given away before the next is read.
//!
//! Only rows of one group come in the order of time; those of several are held as a whole. Blocks are cut by series first,
//! so a block is read again for each slice it reaches into: that is the price, and it is only paid beyond
//! [`SLICE_BYTES`].

use super::raw::{Enough, gather, open};
use super::{Prepared, order, work};
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::Input;
use crate::query::result::{Give, Piece};
use crate::query::trace::Stage;
use std::ops::ControlFlow;

/// Rows of a slice take about so many bytes, less where the budget is small.
const SLICE_BYTES: usize = 64 << 20;
/// A slice is at most this share of the budget.
const BUDGET_SHARE: usize = 4;
/// A slice that is too large is cut into at most so many.
const CUTS_MAX: usize = 64;

/// May the rows be gathered slice by slice?
pub fn fits(prepared: &Prepared, inputs: &[Input]) -> bool {
    // What a subquery gave is held as a whole anyway.
    prepared.dimensions.is_empty() && inputs.iter().all(|input| matches!(input, Input::Stored(_)))
}

/// Gives the rows of one group away.
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
    let mut slices = Slices {
        ctx,
        name,
        inputs,
        // OFFSET and LIMIT count the rows of all slices.
        prepared: Prepared {
            limit: 0,
            offset: 0,
            ..prepared.clone()
        },
        bytes_max: SLICE_BYTES.min(ctx.resources.memory.bytes_max() / BUDGET_SHARE),
        skip: prepared.offset,
        left: if prepared.limit == 0 {
            u64::MAX
        } else {
            prepared.limit
        },
        waiting: None,
    };
    let flow = slices.range(prepared.time, give)?;
    // The last piece waited to be told apart from the others.
    Ok(match slices.waiting.take() {
        Some(piece) if flow.is_continue() || slices.left == 0 => give(Piece {
            goes_on: false,
            ..piece
        }),
        _ => flow,
    })
}

struct Slices<'a> {
    ctx: &'a Context<'a>,
    name: &'a str,
    inputs: &'a [Input],
    prepared: Prepared,
    bytes_max: usize,
    /// Rows that are still to be left out.
    skip: u64,
    /// Rows that are still wanted.
    left: u64,
    waiting: Option<Piece>,
}

impl Slices<'_> {
    fn range(&mut self, time: TimeRange, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
        self.ctx.check()?;
        let resources = self.ctx.resources;
        let prepared = Prepared {
            time,
            read: time,
            ..self.prepared.clone()
        };
        let readings = resources.stage(Stage::Open, || open(self.ctx, self.inputs, &prepared))?;
        let there = work::time(&readings);
        let time = there.intersect(&time);
        if time.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        // Rows of one moment cannot be cut any further.
        let bytes_max = (time.min < time.max).then_some(self.bytes_max);
        let gathered = resources.stage(Stage::Read, || gather(self.ctx, &prepared, &readings, bytes_max))?;
        match gathered {
            Enough::All(rows) => resources.stage(Stage::Give, || {
                order::give(self.ctx, self.name, &prepared, rows, &mut |piece| {
                    self.take(piece, give)
                })
            }),
            Enough::TooMuch(bytes) => {
                let mut cuts = cuts(time, (bytes / self.bytes_max + 2).min(CUTS_MAX));
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

    /// Hands the piece before this one on: now it is known that it is not the last.
    fn take(&mut self, piece: Piece, give: &mut Give<'_>) -> ControlFlow<()> {
        let mut series = piece.series;
        let rows = series.rows() as u64;
        let skipped = self.skip.min(rows);
        let taken = self.left.min(rows - skipped);
        self.skip -= skipped;
        if taken == 0 {
            return ControlFlow::Continue(());
        }
        series.limit(taken, skipped);
        self.left -= taken;
        let before = self.waiting.replace(Piece::whole(series));
        if let Some(before) = before {
            let goes_on = Piece {
                goes_on: true,
                ..before
            };
            if give(goes_on).is_break() {
                self.waiting = None;
                return ControlFlow::Break(());
            }
        }
        match self.left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
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
