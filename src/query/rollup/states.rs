//! Reads states as if they were the steps of a block (`scan/steps.rs`), or one by one for counters and percentiles.

use crate::block::steps::{SparseSteps, StepColumns, StepNumbers, StepStats};
use crate::catalog::Measurement;
use crate::model::{Column, FieldId, FieldType, Values};
use crate::query::error::QueryError;
use crate::query::functions::counter::Sample;
use crate::query::scan::Batch;
use crate::query::value::Value;
use crate::rollup::parts::Part;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is read of the states of a measurement.
pub struct States {
    /// Length of an interval.
    pub every: i64,
    /// Columns of the request: state fields.
    pub fields: Vec<FieldId>,
    /// Of which field of the points (by place among the wanted ones) which part is which column. None: there is no such column.
    columns: Vec<(usize, Part, Option<usize>)>,
    /// The type of each wanted field.
    types: Vec<FieldType>,
    /// A state was met that cannot say what is asked.
    unusable: AtomicBool,
}

/// What a field's points amount to, state by state.
pub struct OfField {
    /// As steps.
    pub stats: StepStats,
    /// How many points each has.
    pub counts: Vec<u32>,
}

impl States {
    /// Of a measurement of states; `needs` are parts of fields: place among the wanted ones, id, type.
    pub fn new(states: &Measurement, every: i64, needs: &[(usize, FieldId, FieldType, Part)]) -> Self {
        let places = needs.iter().map(|need| need.0 + 1).max().unwrap_or(0);
        let mut new = Self {
            every,
            fields: Vec::new(),
            columns: Vec::new(),
            types: vec![FieldType::Float; places],
            unusable: AtomicBool::new(false),
        };
        for &(at, id, field_type, part) in needs {
            new.types[at] = field_type;
            if new
                .columns
                .iter()
                .any(|(of, known, _)| (*of, *known) == (at, part))
            {
                continue;
            }
            let column = part.find(states, id).map(|field| {
                new.fields.push(field);
                new.fields.len() - 1
            });
            new.columns.push((at, part, column));
        }
        new
    }

    /// Can what was read be believed?
    pub fn is_usable(&self) -> bool {
        !self.unusable.load(Ordering::Relaxed)
    }

    /// The points must be asked.
    pub fn give_up(&self) {
        self.unusable.store(true, Ordering::Relaxed);
    }

    fn column<'b>(&self, batch: &Batch<'b>, at: usize, part: Part) -> Result<Option<&'b Column>, QueryError> {
        let found = self
            .columns
            .iter()
            .find(|(of, known, _)| (*of, *known) == (at, part));
        match found {
            Some((.., Some(column))) => Ok(batch.cells.column(*column)?),
            _ => Ok(None),
        }
    }

    fn counts(&self, batch: &Batch<'_>, at: usize, only_count: bool) -> Result<Option<Vec<u32>>, QueryError> {
        let Some(column) = self.column(batch, at, Part::Count)? else {
            return Ok(None);
        };
        let Values::Integer(values) = &column.values else {
            self.give_up();
            return Ok(None);
        };
        let mut counts = vec![0; values.len()];
        for row in batch
            .runs
            .iter()
            .flat_map(|run| run.rows())
            .filter(|&row| column.has(row))
        {
            let known = if only_count {
                values[row].saturating_abs()
            } else {
                values[row]
            };
            match u32::try_from(known) {
                Ok(count) => counts[row] = count,
                Err(_) => {
                    self.give_up();
                    return Ok(None);
                }
            }
        }
        Ok(Some(counts))
    }

    /// What a field amounts to in the states of a batch, as far as these parts say. `None`: nothing, or it [gave up](Self::give_up).
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn of_field(
        &self,
        batch: &Batch<'_>,
        at: usize,
        parts: &[Part],
    ) -> Result<Option<OfField>, QueryError> {
        let only_count = parts.iter().all(|part| *part == Part::Count);
        let Some(counts) = self.counts(batch, at, only_count)? else {
            return Ok(None);
        };
        let wanted = |part: Part| parts.contains(&part);
        let column = |part: Part| -> Result<Option<Values>, QueryError> {
            if !wanted(part) {
                return Ok(None);
            }
            let Some(column) = self.column(batch, at, part)? else {
                if counts.iter().any(|&count| count > 0) {
                    self.give_up();
                }
                return Ok(None);
            };
            if counts
                .iter()
                .enumerate()
                .any(|(row, &count)| count > 0 && !column.has(row))
            {
                self.give_up();
            }
            Ok(Some(column.values.clone()))
        };
        let at_times = |part: Part| -> Result<Vec<i64>, QueryError> {
            Ok(match column(part)? {
                Some(Values::Integer(offsets)) => {
                    let times = batch.times.iter().zip(offsets);
                    times.map(|(time, offset)| time.saturating_add(offset)).collect()
                }
                _ => Vec::new(),
            })
        };
        let sparse = SparseSteps {
            first: at_times(Part::FirstAt)?,
            last: at_times(Part::LastAt)?,
            count: counts.clone(),
        };
        let ends = [
            column(Part::Min)?,
            column(Part::Max)?,
            column(Part::First)?,
            column(Part::Last)?,
        ];
        let sum = column(Part::Sum)?;
        let numbers = match self.types[at] {
            FieldType::Integer => {
                let [min, max, first, last] = ends.map(integers);
                let sum = integers(sum).into_iter().map(i128::from).collect();
                StepNumbers::Integer(StepColumns {
                    min,
                    max,
                    first,
                    last,
                    sum,
                })
            }
            FieldType::Unsigned => {
                let [min, max, first, last] = ends.map(unsigned);
                let sum = unsigned(sum).into_iter().map(u128::from).collect();
                StepNumbers::Unsigned(StepColumns {
                    min,
                    max,
                    first,
                    last,
                    sum,
                })
            }
            _ => {
                let [min, max, first, last] = ends.map(floats);
                let sum = floats(sum);
                StepNumbers::Float(StepColumns {
                    min,
                    max,
                    first,
                    last,
                    sum,
                })
            }
        };
        let stats = StepStats {
            sparse: Some(sparse),
            numbers,
        };
        Ok(self.is_usable().then_some(OfField { stats, counts }))
    }

    /// Visits the states of a counter in a batch: run, row, first sample, last sample, growth between them.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn counters(
        &self,
        batch: &Batch<'_>,
        at: usize,
        visit: &mut dyn FnMut(usize, usize, Sample, Sample, f64),
    ) -> Result<(), QueryError> {
        let Some(counts) = self.counts(batch, at, false)? else {
            return Ok(());
        };
        let column = |part: Part| self.column(batch, at, part);
        let parts = [
            column(Part::First)?,
            column(Part::FirstAt)?,
            column(Part::Last)?,
            column(Part::LastAt)?,
            column(Part::Increase)?,
        ];
        for (number, run) in batch.runs.iter().enumerate() {
            for row in run.rows().filter(|&row| counts[row] > 0) {
                let value = |part: usize| parts[part].map_or(Value::Null, |c| Value::of_column(c, row));
                let time = |part: usize| match value(part) {
                    Value::Integer(offset) => batch.times[row].checked_add(offset),
                    _ => None,
                };
                let (first, last) = (value(0), value(2));
                match (time(1), time(3), value(4)) {
                    (Some(from), Some(to), Value::Float(increase)) if !first.is_null() && !last.is_null() => {
                        visit(number, row, (from, first), (to, last), increase);
                    }
                    _ => self.give_up(),
                }
            }
        }
        Ok(())
    }

    /// Visits what percentiles need, state by state: run, row, bytes.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn digests(
        &self,
        batch: &Batch<'_>,
        at: usize,
        visit: &mut dyn FnMut(usize, usize, &[u8]) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let Some(counts) = self.counts(batch, at, false)? else {
            return Ok(());
        };
        let column = self.column(batch, at, Part::Digest)?;
        for (number, run) in batch.runs.iter().enumerate() {
            for row in run.rows().filter(|&row| counts[row] > 0) {
                match column.map(|column| (&column.values, column.has(row))) {
                    Some((Values::String(texts), true)) => visit(number, row, texts.get(row))?,
                    _ => self.give_up(),
                }
            }
        }
        Ok(())
    }
}

fn floats(values: Option<Values>) -> Vec<f64> {
    match values {
        Some(Values::Float(v)) => v,
        _ => Vec::new(),
    }
}

fn integers(values: Option<Values>) -> Vec<i64> {
    match values {
        Some(Values::Integer(v)) => v,
        _ => Vec::new(),
    }
}

fn unsigned(values: Option<Values>) -> Vec<u64> {
    match values {
        Some(Values::Unsigned(v)) => v,
        _ => Vec::new(),
    }
}
