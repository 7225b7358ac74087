//! Makes states of points: one row for each series and interval.

use crate::batch::Table;
use crate::batch::shard_of;
use crate::catalog::Measurement;
use crate::lang::{DataType, Fill, VarRef};
use crate::model::time::TIME_MIN;
use crate::model::{Column, FieldId, SeriesId, TimeRange, Values};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::exec::{Groups, Merged, Prepared, Reading, each_series};
use crate::query::functions::counter::Stretch;
use crate::query::functions::digest;
use crate::query::input::Input;
use crate::query::node::Refs;
use crate::query::value::Value;
use crate::rollup::parts::{Part, parts_of};
use std::collections::HashSet;
use std::sync::Arc;

/// What is made, and where it goes.
pub struct Making {
    /// Of these points.
    pub source: Arc<Measurement>,
    /// States of this measurement.
    pub states: Arc<Measurement>,
    /// Length of an interval.
    pub every: i64,
    /// With what percentiles need.
    pub percentiles: bool,
}

/// Rows of states in the order of series, not yet split by shard.
#[derive(Default)]
pub struct Made {
    series: Vec<SeriesId>,
    times: Vec<i64>,
    fields: Vec<OfField>,
}

struct OfField {
    reference: usize,
    columns: Vec<(Part, FieldId, Column)>,
}

/// A statement that reads these references of a measurement in a range of time, and computes nothing.
fn reading_of(refs: Refs, time: TimeRange) -> Prepared {
    Prepared {
        columns: Vec::new(),
        time_name: String::new(),
        calls: Vec::new(),
        leads: Vec::new(),
        refs,
        condition: None,
        dimensions: Vec::new(),
        time,
        read: time,
        windows: None,
        fill: Fill::None,
        ascending: true,
        limit: 0,
        offset: 0,
    }
}

/// The part of a range of time in which a measurement has rows; none: it has not any there.
///
/// # Errors
/// Damage, or a read that failed.
pub fn there(
    ctx: &Context<'_>,
    measurement: &Arc<Measurement>,
    time: TimeRange,
) -> Result<Option<(TimeRange, u64)>, QueryError> {
    let inputs = [Input::Stored(measurement.clone())];
    let prepared = reading_of(Refs::default(), time);
    let readings = Reading::open(ctx, &inputs, &prepared, time)?;
    let found = readings.first().map(|reading| (reading.time(), reading.rows()));
    Ok(found.filter(|(there, rows)| !there.is_empty() && *rows > 0))
}

impl Making {
    /// Makes the states of the intervals in a range of time, which has whole intervals only. `again`: there may be states of them already.
    ///
    /// # Errors
    /// A limit, cancelled, damage; more fields than a measurement may have.
    pub fn make(&self, ctx: &Context<'_>, time: TimeRange, again: bool) -> Result<Made, QueryError> {
        let mut refs = Refs::default();
        let mut made = Made::default();
        for (id, field) in self.source.fields().iter() {
            let reference = refs.number(&VarRef {
                name: field.name.clone(),
                kind: Some(DataType::AnyField),
                segments: Vec::new(),
                at: Default::default(),
            });
            let mut columns = Vec::new();
            for &part in parts_of(field.field_type, self.percentiles) {
                let of_type = part.field_type(field.field_type);
                let column = self.states.field_or_create(&part.name(id), of_type);
                let (column, _) = column.ok_or_else(|| {
                    QueryError::Limit(format!(
                        "{} has too many fields for a rollup: each takes up to {} of a measurement's",
                        self.source.name,
                        Part::OF_NUMBERS.len()
                    ))
                })?;
                columns.push((part, column, Column::new(of_type)));
            }
            made.fields.push(OfField { reference, columns });
        }
        let before = match again {
            true => self.rows_of_states(ctx, time)?,
            false => HashSet::new(),
        };
        let references: Vec<usize> = made.fields.iter().map(|field| field.reference).collect();
        let inputs = [Input::Stored(self.source.clone())];
        let prepared = reading_of(refs, time);
        let readings = Reading::open(ctx, &inputs, &prepared, time)?;
        let mut left = before;
        let zeros = !left.is_empty();
        let mut held = ctx.resources.memory.held();
        each_series(ctx, &readings, &references, &mut Groups::default(), &mut |rows| {
            self.of_series(&rows, &mut made, &mut left, zeros);
            held.set(made.bytes())
        })?;
        // Where there are no points any more, the states say so.
        for (series, time) in left {
            made.push_zeros(series, time);
        }
        Ok(made)
    }

    /// The rows of states that there are.
    fn rows_of_states(
        &self,
        ctx: &Context<'_>,
        time: TimeRange,
    ) -> Result<HashSet<(SeriesId, i64)>, QueryError> {
        let inputs = [Input::Stored(self.states.clone())];
        let prepared = reading_of(Refs::default(), time);
        let readings = Reading::open(ctx, &inputs, &prepared, time)?;
        let mut found = HashSet::new();
        let mut held = ctx.resources.memory.held();
        each_series(ctx, &readings, &[], &mut Groups::default(), &mut |rows| {
            found.extend(rows.times.iter().map(|&time| (rows.series, time)));
            held.set(found.len() * 24)
        })?;
        Ok(found)
    }

    fn of_series(&self, rows: &Merged, made: &mut Made, left: &mut HashSet<(SeriesId, i64)>, zeros: bool) {
        let mut from = 0;
        while let Some(&first) = rows.times.get(from) {
            let start = first.saturating_sub(first.rem_euclid(self.every)).max(TIME_MIN);
            let end = start.saturating_add(self.every);
            let to = from + rows.times[from..].partition_point(|&time| time < end);
            left.remove(&(rows.series, start));
            made.push(rows, from..to, start, zeros);
            from = to;
        }
    }
}

/// Adds a value of the column's own type.
fn push(column: &mut Column, value: &Value) {
    match (&mut column.values, value) {
        (Values::Float(v), Value::Float(x)) => v.push(*x),
        (Values::Integer(v), Value::Integer(x)) => v.push(*x),
        (Values::Unsigned(v), Value::Unsigned(x)) => v.push(*x),
        _ => return column.push_missing(1),
    }
    if let Some(present) = &mut column.present {
        present.push(true);
    }
}

fn push_bytes(column: &mut Column, bytes: &[u8]) {
    if let Values::String(v) = &mut column.values {
        v.push(bytes);
        if let Some(present) = &mut column.present {
            present.push(true);
        }
    }
}

impl Made {
    /// Rows.
    pub fn rows(&self) -> usize {
        self.times.len()
    }

    fn bytes(&self) -> usize {
        let columns = self.fields.iter().flat_map(|field| &field.columns);
        self.times.capacity() * 12 + columns.map(|(.., column)| column.bytes()).sum::<usize>()
    }

    fn push_zeros(&mut self, series: SeriesId, time: i64) {
        self.series.push(series);
        self.times.push(time);
        for field in &mut self.fields {
            field.push_none(true);
        }
    }

    /// `zeros`: fields without a point say so, since there may be a state of them that does not.
    fn push(&mut self, rows: &Merged, range: std::ops::Range<usize>, start: i64, zeros: bool) {
        let has = |field: &OfField| {
            let column = rows.references[field.reference].as_ref();
            column.is_some_and(|column| column.has_any(range.clone()))
        };
        if !zeros && !self.fields.iter().any(has) {
            return;
        }
        self.series.push(rows.series);
        self.times.push(start);
        for field in &mut self.fields {
            match &rows.references[field.reference] {
                Some(column) if column.has_any(range.clone()) => {
                    field.push(&rows.times, column, range.clone(), start);
                }
                _ => field.push_none(zeros),
            }
        }
    }

    /// Tables for so many shards, in pieces of about so many rows.
    pub fn tables(self, states: &Measurement, shards: u16, rows_max: usize) -> Vec<Vec<Table>> {
        let mut pieces = Vec::new();
        let all: Vec<u32> = (0..self.rows() as u32).collect();
        for rows in all.chunks(rows_max.max(1)) {
            let mut tables = Vec::new();
            for shard in 0..shards {
                let of_shard = |row: &&u32| shard_of(states.id, self.series[**row as usize], shards) == shard;
                let rows: Vec<u32> = rows.iter().filter(of_shard).copied().collect();
                if rows.is_empty() {
                    continue;
                }
                let columns = self.fields.iter().flat_map(|field| &field.columns);
                tables.push(Table {
                    shard,
                    measurement: states.id,
                    series: rows.iter().map(|&row| self.series[row as usize]).collect(),
                    times: rows.iter().map(|&row| self.times[row as usize]).collect(),
                    columns: columns
                        .map(|(_, id, column)| (*id, column.gather(&rows)))
                        .filter(|(_, column)| column.has_any(0..rows.len()))
                        .collect(),
                });
            }
            pieces.push(tables);
        }
        pieces
    }
}

impl OfField {
    fn push_none(&mut self, zero: bool) {
        for (part, _, column) in &mut self.columns {
            match part {
                Part::Count if zero => push(column, &Value::Integer(0)),
                _ => column.push_missing(1),
            }
        }
    }

    /// The state of the points in a range of rows, of which one has a value.
    fn push(&mut self, times: &[i64], column: &Column, range: std::ops::Range<usize>, start: i64) {
        let rows: Vec<usize> = range.filter(|&row| column.has(row)).collect();
        let state = State::of(times, column, &rows);
        for (part, _, to) in &mut self.columns {
            let value = match (&*part, &state) {
                (Part::Count, Some(_)) => Value::Integer(rows.len() as i64),
                // Nothing but the count is known: whoever needs more reads the points. What an earlier state had may still stand beside it.
                (Part::Count, None) => Value::Integer(-(rows.len() as i64)),
                (_, None) => Value::Null,
                (Part::Sum, Some(state)) => state.sum.clone(),
                (Part::Min, Some(state)) => state.min.clone(),
                (Part::Max, Some(state)) => state.max.clone(),
                (Part::First, Some(state)) => state.counter.parts().0.1.clone(),
                (Part::Last, Some(state)) => state.counter.parts().1.1.clone(),
                (Part::FirstAt, Some(state)) => Value::Integer(state.counter.parts().0.0 - start),
                (Part::LastAt, Some(state)) => Value::Integer(state.counter.parts().1.0 - start),
                (Part::Increase, Some(state)) => Value::Float(state.counter.parts().2),
                (Part::Digest, Some(_)) => {
                    let numbers: Vec<f64> = rows
                        .iter()
                        .filter_map(|&row| Value::of_column(column, row).as_f64())
                        .collect();
                    push_bytes(to, &digest::encode(&numbers));
                    continue;
                }
            };
            push(to, &value);
        }
    }
}

/// What the numbers of an interval amount to. The columns of a state are all written or none, so that none is left of an earlier one.
struct State {
    sum: Value,
    min: Value,
    max: Value,
    counter: Stretch,
}

impl State {
    /// Of the rows that have a value, ascending. `None` for what are no numbers, where a NaN is among them, and where the sum does not fit.
    fn of(times: &[i64], column: &Column, rows: &[usize]) -> Option<Self> {
        let sample = |row: usize| (times[row], Value::of_values(&column.values, row));
        let mut counter = Stretch::new(None, &sample(*rows.first()?));
        rows[1..].iter().for_each(|&row| counter.push(&sample(row)));
        let (sum, min, max) = match &column.values {
            Values::Float(v) => {
                let mut sum = crate::block::stats::FloatSum::default();
                let (mut min, mut max) = (v[rows[0]], v[rows[0]]);
                for &row in rows {
                    let value = v[row];
                    sum.add(value);
                    min = if value < min { value } else { min };
                    max = if value > max { value } else { max };
                }
                let sum = sum.value();
                if sum.is_nan() {
                    return None;
                }
                (Value::Float(sum), Value::Float(min), Value::Float(max))
            }
            Values::Integer(v) => {
                let all = || rows.iter().map(|&row| v[row]);
                let sum: i128 = all().map(i128::from).sum();
                let sum = Value::Integer(i64::try_from(sum).ok()?);
                (sum, Value::Integer(all().min()?), Value::Integer(all().max()?))
            }
            Values::Unsigned(v) => {
                let all = || rows.iter().map(|&row| v[row]);
                let sum: u128 = all().map(u128::from).sum();
                let sum = Value::Unsigned(u64::try_from(sum).ok()?);
                (sum, Value::Unsigned(all().min()?), Value::Unsigned(all().max()?))
            }
            Values::String(_) | Values::Boolean(_) => return None,
        };
        Some(Self {
            sum,
            min,
            max,
            counter,
        })
    }
}
