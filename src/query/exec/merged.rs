//! Rows series by series, each in order of time, whatever batches they come in: for functions that look from row to row.

use super::compact::Compact;
use super::groups::Groups;
use super::labels::Labels;
use super::reading::Reading;
use crate::model::{Column, SeriesId};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::node::{Environment, Node};
use crate::query::scan::{Batch, Visitor};
use crate::query::value::Value;
use std::collections::BTreeMap;

/// All rows of a series that satisfy the condition, ascending in time.
pub struct Merged {
    /// Which group of GROUP BY it belongs to.
    pub group: u32,
    /// Which input.
    pub input: usize,
    /// Which series of it.
    pub series: SeriesId,
    /// One a row.
    pub times: Vec<i64>,
    /// The values of the references that were asked for, by number.
    pub references: Vec<Option<Column>>,
}

impl Merged {
    /// The value of an expression in a row.
    pub fn value(&self, node: &Node, row: usize) -> Value {
        match node {
            Node::Ref(number, None) => self.reference(*number, row),
            node => node.eval(&RowOf { rows: self, row }),
        }
    }

    fn reference(&self, number: usize, row: usize) -> Value {
        let column = self.references[number].as_ref();
        column.map(|c| Value::of_column(c, row)).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        let columns = self.references.iter().flatten().map(Column::bytes);
        self.times.len() * 8 + columns.sum::<usize>() + 128
    }

    /// Adds later or interleaving rows of the same series.
    fn append(&mut self, next: Self) {
        let rows = self.times.len();
        let in_order = self.times.last() < next.times.first();
        self.times.extend(next.times);
        for (to, from) in self.references.iter_mut().zip(next.references) {
            match (to.as_mut(), from) {
                (Some(to), Some(from)) => to.extend_from(&from, 0..from.len()),
                (Some(to), None) => to.push_missing(self.times.len() - rows),
                (None, Some(from)) => {
                    let mut column = Column::new(from.values.field_type());
                    column.push_missing(rows);
                    column.extend_from(&from, 0..from.len());
                    *to = Some(column);
                }
                (None, None) => {}
            }
        }
        if !in_order {
            let mut order: Vec<u32> = (0..self.times.len() as u32).collect();
            order.sort_by_key(|&row| self.times[row as usize]);
            self.times = order.iter().map(|&row| self.times[row as usize]).collect();
            for column in self.references.iter_mut().flatten() {
                *column = column.gather(&order);
            }
        }
    }
}

/// A row as the environment of an expression.
struct RowOf<'a> {
    rows: &'a Merged,
    row: usize,
}

impl Environment for RowOf<'_> {
    fn time(&self) -> i64 {
        self.rows.times[self.row]
    }

    fn reference(&self, number: usize) -> Value {
        self.rows.reference(number, self.row)
    }

    fn call(&self, _: usize) -> Value {
        Value::Null
    }
}

/// Visits all series of all inputs, with the values of these references.
///
/// # Errors
/// A limit, cancelled, damage; what `visit` gives.
pub fn each_series(
    ctx: &Context<'_>,
    readings: &[Reading<'_>],
    references: &[usize],
    groups: &mut Groups,
    visit: &mut dyn FnMut(Merged) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let mut held = ctx.resources.memory.held();
    for (input, reading) in readings.iter().enumerate() {
        // Tasks in the order of their first series: what lies before the next task's is complete.
        let mut order: Vec<usize> = (0..reading.tasks()).collect();
        order.sort_by_key(|&task| reading.first_series(task));
        let mut gather = Gather {
            input,
            reading,
            labels: reading.labels(),
            references,
            groups,
            open: BTreeMap::new(),
            bytes: 0,
        };
        for (at, &task) in order.iter().enumerate() {
            reading.read(ctx, task, &mut gather)?;
            held.set(gather.bytes)?;
            let next = order.get(at + 1).map(|&task| reading.first_series(task));
            while let Some(first) = gather.open.first_entry() {
                if next.is_some_and(|next| *first.key() >= next) {
                    break;
                }
                let rows = first.remove();
                gather.bytes = gather.bytes.saturating_sub(rows.bytes());
                visit(rows)?;
            }
        }
    }
    Ok(())
}

struct Gather<'a> {
    input: usize,
    reading: &'a Reading<'a>,
    labels: Labels<'a>,
    references: &'a [usize],
    groups: &'a mut Groups,
    open: BTreeMap<SeriesId, Merged>,
    bytes: usize,
}

impl Visitor for Gather<'_> {
    fn batch(&mut self, batch: &Batch<'_>) -> Result<(), QueryError> {
        let filter = &self.reading.filter;
        let compact = if filter.is_empty() {
            Compact::all(batch)
        } else {
            Compact::of(batch, filter.apply(batch, self.reading, &mut self.labels)?)
        };
        let columns = compact.references(batch, self.reading, &mut self.labels, self.references, false)?;
        for run in &compact.runs {
            let part = |column: &Column| {
                let mut part = Column::new(column.values.field_type());
                part.extend_from(column, run.rows());
                part
            };
            let rows = Merged {
                group: self.labels.group(run.series, self.groups)?,
                input: self.input,
                series: run.series,
                times: compact.times[run.rows()].to_vec(),
                references: columns.iter().map(|c| c.as_ref().map(part)).collect(),
            };
            self.bytes += rows.bytes();
            match self.open.get_mut(&run.series) {
                Some(known) => known.append(rows),
                None => {
                    self.open.insert(run.series, rows);
                }
            }
        }
        Ok(())
    }
}
