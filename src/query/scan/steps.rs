//! A block as the steps it is made of: consecutive rows of a series of which count, sum, ends and edges are known, so that
//! nothing of it is decoded. What steps are is told in [`crate::block::steps`].

use super::{ScanError, ScanRequest};
use crate::block::steps::{StepKeys, StepNumbers, StepStats};
use crate::model::{Column, FieldId, SeriesId, TimeRange};
use crate::store::RunBlocks;
use std::sync::Arc;

/// The wanted steps of a block of which no row is deleted or anywhere else.
pub struct Steps<'a> {
    run: &'a RunBlocks,
    at: usize,
    fields: &'a [FieldId],
    /// All steps of the block's stripe.
    pub keys: Arc<StepKeys>,
    /// Those of the block with wanted series that have rows in the time: places in `keys`, ascending.
    pub wanted: Vec<u32>,
    /// Does the time leave out rows of one of them?
    pub cut: bool,
    /// The time that is wanted.
    pub time: TimeRange,
    /// The first step of the block.
    begin: usize,
}

/// What is known of a field in the steps of a block.
pub enum FieldSteps {
    /// No row of the block has it.
    Absent,
    /// What its numbers amount to.
    Known(Arc<StepStats>),
    /// It has values, but no statistics.
    Unknown,
}

impl<'a> Steps<'a> {
    /// Of the `at`th block of a run; `None` where there are none.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn of(run: &'a RunBlocks, at: usize, request: &'a ScanRequest) -> Result<Option<Self>, ScanError> {
        if !run.is_whole(at) {
            return Ok(None);
        }
        let Some((keys, of_block)) = run.steps(at)? else {
            return Ok(None);
        };
        let mut wanted = Vec::with_capacity(of_block.len());
        let mut cut = false;
        let mut looked_at: Option<(SeriesId, bool)> = None;
        for step in of_block.clone() {
            let series = keys.series[step];
            let is_wanted = match looked_at {
                Some((last, wanted)) if last == series => wanted,
                _ => request.series.contains(series),
            };
            looked_at = Some((series, is_wanted));
            let (first, last) = (keys.first[step], keys.last[step]);
            if !is_wanted || first > request.time.max || last < request.time.min {
                continue;
            }
            cut |= first < request.time.min || last > request.time.max;
            wanted.push(step as u32);
        }
        Ok(Some(Self {
            run,
            at,
            fields: &request.fields,
            time: request.time,
            wanted,
            cut,
            begin: of_block.start,
            keys,
        }))
    }

    /// What is known of a field of the request.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn field(&self, i: usize) -> Result<FieldSteps, ScanError> {
        let field = self.fields[i];
        if self.run.stats(self.at, field).is_none() {
            return Ok(FieldSteps::Absent);
        }
        Ok(match self.run.step_stats(self.at, &self.keys, field)? {
            Some(stats) => FieldSteps::Known(stats),
            None => FieldSteps::Unknown,
        })
    }

    /// The column of a field of the request, decoded.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn column(&self, i: usize) -> Result<Option<Arc<Column>>, ScanError> {
        Ok(self
            .run
            .column(self.at, self.fields[i])?
            .map(|(column, _)| column))
    }

    /// The place in the block of the first row of each step, and behind the last one the number of rows.
    pub fn first_rows(&self) -> Vec<u32> {
        let end = self.wanted.last().map_or(self.begin, |&last| last as usize + 1);
        let mut row = 0;
        let mut rows = Vec::with_capacity(end - self.begin + 1);
        rows.push(0);
        for step in self.begin..end {
            row += self.keys.rows[step];
            rows.push(row);
        }
        rows
    }

    /// The place of a step of `wanted` in [`first_rows`](Self::first_rows).
    pub fn place(&self, step: u32) -> usize {
        step as usize - self.begin
    }
}

/// Is every wanted step described by numbers? Not, where a sum is none: then there may be one among the rows.
pub fn is_described(stats: &StepStats, wanted: &[u32]) -> bool {
    match &stats.numbers {
        StepNumbers::Float(columns) => wanted.iter().all(|&step| !columns.sum[step as usize].is_nan()),
        StepNumbers::Integer(_) | StepNumbers::Unsigned(_) => true,
    }
}
