//! Some rows of a batch, put together: what is left behind a filter, and what expressions work on.

use super::labels::Labels;
use super::reading::Reading;
use super::vector;
use crate::model::{Column, FieldType, StringColumn, Values};
use crate::query::error::QueryError;
use crate::query::input::Resolved;
use crate::query::scan::{Batch, SeriesRun};

/// See the module.
pub struct Compact {
    /// Where the rows are among these.
    pub runs: Vec<SeriesRun>,
    /// One a row.
    pub times: Vec<i64>,
    /// Where the rows are in the batch.
    positions: Vec<u32>,
}

impl Compact {
    /// The rows at these positions, which ascend and lie in the batch's runs.
    pub fn of(batch: &Batch<'_>, positions: Vec<u32>) -> Self {
        let mut runs: Vec<SeriesRun> = Vec::new();
        let mut of = batch.runs.iter();
        let mut current = of.next();
        for (row, &position) in (0u32..).zip(&positions) {
            while current.is_some_and(|run| run.end <= position) {
                current = of.next();
            }
            let Some(run) = current else { break };
            match runs.last_mut() {
                Some(last) if last.series == run.series && last.end == row => last.end += 1,
                _ => runs.push(SeriesRun {
                    series: run.series,
                    start: row,
                    end: row + 1,
                }),
            }
        }
        Self {
            runs,
            times: positions.iter().map(|&p| batch.times[p as usize]).collect(),
            positions,
        }
    }

    /// All rows of a batch.
    pub fn all(batch: &Batch<'_>) -> Self {
        let mut at = 0;
        let runs = batch.runs.iter().map(|run| {
            let start = at;
            at += run.end - run.start;
            SeriesRun {
                series: run.series,
                start,
                end: at,
            }
        });
        let runs = runs.collect();
        let positions: Vec<u32> = batch.runs.iter().flat_map(|run| run.start..run.end).collect();
        Self {
            runs,
            times: positions.iter().map(|&p| batch.times[p as usize]).collect(),
            positions,
        }
    }

    /// A column of the batch in these rows.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn gather(&self, batch: &Batch<'_>, i: usize) -> Result<Option<Column>, QueryError> {
        Ok(batch.cells.gather(i, &self.positions)?)
    }

    /// Where the rows are in the batch.
    pub fn into_positions(self) -> Vec<u32> {
        self.positions
    }

    /// The values of some references in these rows, by number. Where a tag is missing stands nothing, or the empty text.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn references(
        &self,
        batch: &Batch<'_>,
        reading: &Reading<'_>,
        labels: &mut Labels<'_>,
        numbers: &[usize],
        missing_tag_is_empty: bool,
    ) -> Result<Vec<Option<Column>>, QueryError> {
        let mut out: Vec<Option<Column>> = reading.wanted.resolved.iter().map(|_| None).collect();
        for &number in numbers {
            if out[number].is_some() {
                continue;
            }
            out[number] = match reading.wanted.resolved[number] {
                Resolved::Field(at) => self.gather(batch, at)?,
                Resolved::Tag(at) => self.tag(labels, at, missing_tag_is_empty)?,
            };
        }
        Ok(out)
    }

    fn tag(
        &self,
        labels: &mut Labels<'_>,
        at: usize,
        missing_is_empty: bool,
    ) -> Result<Option<Column>, QueryError> {
        let mut column = Column::new(FieldType::String);
        let mut some = false;
        for run in &self.runs {
            match labels.tag(run.series, at)? {
                None if !missing_is_empty => column.push_missing(run.len()),
                text => {
                    some = true;
                    let text = text.as_deref().unwrap_or("");
                    for _ in 0..run.len() {
                        push_text(&mut column, text);
                    }
                }
            }
        }
        Ok(some.then_some(column))
    }

    /// The rows and these references, as expressions see them.
    pub fn rows(&self, references: Vec<Option<Column>>) -> vector::Rows<'_> {
        vector::Rows {
            times: &self.times,
            references,
        }
    }
}

fn push_text(column: &mut Column, text: &str) {
    match &mut column.values {
        Values::String(texts) => StringColumn::push(texts, text.as_bytes()),
        _ => unreachable!("a tag is text"),
    }
    if let Some(present) = &mut column.present {
        present.push(true);
    }
}
