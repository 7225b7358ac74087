//! `fill(previous)` without functions: where a field has no value in a row, it has the one of the row before.

use super::exec::Prepared;
use super::node::{Environment, Node};
use super::result::{ResultColumn, Series};
use super::value::Value;
use std::sync::Arc;

/// What a SELECT really computes, to be made into rows by [`Carry::rows`].
pub(super) struct Carry {
    columns: Vec<(String, Node)>,
    limit: u64,
    offset: u64,
}

/// A row of references.
struct Carried<'a> {
    time: i64,
    values: &'a [Value],
}

impl Environment for Carried<'_> {
    fn time(&self) -> i64 {
        self.time
    }

    fn reference(&self, number: usize) -> Value {
        self.values[number].clone()
    }

    fn call(&self, _: usize) -> Value {
        Value::Null
    }
}

impl Carry {
    /// Makes the executor give the references instead of the columns made of them, and all rows.
    pub fn take_over(prepared: &mut Prepared) -> Self {
        let names = prepared.refs.list().iter().enumerate();
        let columns = names
            .map(|(number, reference)| (reference.name.clone(), Node::Ref(number, None)))
            .collect();
        Self {
            columns: std::mem::replace(&mut prepared.columns, columns),
            limit: std::mem::take(&mut prepared.limit),
            offset: std::mem::take(&mut prepared.offset),
        }
    }

    /// The rows of a series of references. Values go on in the order of time, whatever the order of the rows.
    pub fn rows(&self, given: &Series, ascending: bool) -> Series {
        let mut names = vec![given.columns.first().cloned().unwrap_or_default()];
        names.extend(self.columns.iter().map(|(name, _)| name.clone()));
        let mut values = vec![Value::Null; given.values.len()];
        let mut columns = vec![ResultColumn::default(); self.columns.len()];
        let rows = given.rows();
        for i in 0..rows {
            let row = if ascending { i } else { rows - 1 - i };
            for (value, column) in values.iter_mut().zip(&given.values) {
                if !column.is_null(row) {
                    *value = column.value(row);
                }
            }
            let env = Carried {
                time: given.times[row],
                values: &values,
            };
            for (column, (_, node)) in columns.iter_mut().zip(&self.columns) {
                column.push(node.eval(&env));
            }
        }
        let mut out = Series {
            name: given.name.clone(),
            tags: given.tags.clone(),
            columns: Arc::from(names),
            times: given.times.clone(),
            values: columns,
        };
        if !ascending {
            out.values.iter_mut().for_each(ResultColumn::reverse);
        }
        out.limit(self.limit, self.offset);
        out
    }
}
