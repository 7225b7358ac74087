//! WHERE on fields: finds the rows that satisfy it, reading the columns it names and no others.

use super::compact::Compact;
use super::labels::Labels;
use super::reading::Reading;
use super::vector::Vector;
use crate::block::stats::Numbers;
use crate::lang::BinaryOp;
use crate::model::{Column, Values};
use crate::query::error::QueryError;
use crate::query::input::{Resolved, Wanted};
use crate::query::node::Node;
use crate::query::scan::{Batch, Whole};
use crate::query::value::Value;
use std::cmp::Ordering;

/// What a row must satisfy: all of these.
pub struct Filter {
    tests: Vec<Test>,
}

enum Test {
    /// A field of numbers against a number.
    Number { at: usize, op: BinaryOp, bound: Value },
    /// A field of texts is, or is not, a text.
    Text { at: usize, equal: bool, text: Box<str> },
    /// Anything else, with the references in it.
    Other(Node, Vec<usize>),
}

impl Filter {
    /// Of a condition without time and without what tags alone decide.
    pub fn new(condition: Option<&Node>, wanted: &Wanted) -> Self {
        let mut tests = Vec::new();
        let mut open: Vec<&Node> = condition.into_iter().collect();
        while let Some(node) = open.pop() {
            match node {
                Node::Binary(BinaryOp::And, sides) => open.extend([&sides.1, &sides.0]),
                other => tests.push(Test::of(other, wanted)),
            }
        }
        // Loops over columns first: they leave less for the others.
        tests.sort_by_key(|test| matches!(test, Test::Other(..)));
        Self { tests }
    }

    /// Is there nothing to satisfy?
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty()
    }

    /// Can no row of a zone satisfy it?
    pub fn excludes(&self, whole: &Whole<'_>) -> bool {
        self.tests.iter().any(|test| match test {
            Test::Number { at, op, bound } => match whole.numbers(*at) {
                Some(numbers) => !possible(&numbers, *op, bound),
                None => whole.count(*at) == 0,
            },
            Test::Text { at, .. } => whole.count(*at) == 0,
            Test::Other(..) => false,
        })
    }

    /// The positions of the rows that satisfy it, ascending.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn apply(
        &self,
        batch: &Batch<'_>,
        reading: &Reading<'_>,
        labels: &mut Labels<'_>,
    ) -> Result<Vec<u32>, QueryError> {
        let mut rows: Option<Vec<u32>> = None;
        for test in &self.tests {
            let before = rows.take();
            rows = Some(match test {
                Test::Number { at, op, bound } => match batch.cells.column(*at)? {
                    Some(column) => numbers(column, *op, bound, before, batch),
                    None => Vec::new(),
                },
                Test::Text { at, equal, text } => match batch.cells.column(*at)? {
                    Some(column) => texts(column, *equal, text, before, batch),
                    None => Vec::new(),
                },
                Test::Other(node, references) => {
                    let compact = match before {
                        Some(rows) => Compact::of(batch, rows),
                        None => Compact::all(batch),
                    };
                    let references = compact.references(batch, reading, labels, references, true)?;
                    let verdict = compact.rows(references).eval(node);
                    keep(compact.into_positions(), &verdict)
                }
            });
            if rows.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
        }
        Ok(rows.unwrap_or_default())
    }
}

impl Test {
    fn of(node: &Node, wanted: &Wanted) -> Self {
        if let Node::Binary(op, sides) = node
            && op.is_comparison()
        {
            let (op, reference, constant) = match (&sides.0, &sides.1) {
                (Node::Ref(number, None), Node::Constant(value)) => (*op, *number, value),
                (Node::Constant(value), Node::Ref(number, None)) => (mirrored(*op), *number, value),
                _ => return Self::other(node),
            };
            if let Resolved::Field(at) = wanted.resolved[reference] {
                use crate::model::FieldType::{Float, Integer, String, Unsigned};
                match (wanted.fields[at].1, constant, op) {
                    (Float | Integer | Unsigned, bound, _) if bound.as_f64().is_some() => {
                        let bound = bound.clone();
                        return Self::Number { at, op, bound };
                    }
                    (String, Value::String(text), BinaryOp::Eq | BinaryOp::Neq) => {
                        return Self::Text {
                            at,
                            equal: op == BinaryOp::Eq,
                            text: text.as_ref().into(),
                        };
                    }
                    _ => {}
                }
            }
        }
        Self::other(node)
    }

    fn other(node: &Node) -> Self {
        let mut references = Vec::new();
        node.references(&mut references);
        Self::Other(node.clone(), references)
    }
}

fn mirrored(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Lt => BinaryOp::Gt,
        BinaryOp::Lte => BinaryOp::Gte,
        BinaryOp::Gt => BinaryOp::Lt,
        BinaryOp::Gte => BinaryOp::Lte,
        other => other,
    }
}

/// May a number between the smallest and the largest satisfy a comparison?
fn possible(numbers: &Numbers, op: BinaryOp, bound: &Value) -> bool {
    let (min, max) = match *numbers {
        Numbers::None => return true,
        Numbers::Float { min, max, .. } => (Value::Float(min), Value::Float(max)),
        Numbers::Integer { min, max, .. } => (Value::Integer(min), Value::Integer(max)),
        Numbers::Unsigned { min, max, .. } => (Value::Unsigned(min), Value::Unsigned(max)),
    };
    let (Some(min), Some(max)) = (min.compare(bound), max.compare(bound)) else {
        return true;
    };
    match op {
        BinaryOp::Gt => max == Ordering::Greater,
        BinaryOp::Gte => max != Ordering::Less,
        BinaryOp::Lt => min == Ordering::Less,
        BinaryOp::Lte => min != Ordering::Greater,
        BinaryOp::Eq => min != Ordering::Greater && max != Ordering::Less,
        _ => true,
    }
}

/// The rows whose value passes.
fn select<T: Copy>(
    column: &Column,
    values: &[T],
    test: impl Fn(T) -> bool,
    before: Option<Vec<u32>>,
    batch: &Batch<'_>,
) -> Vec<u32> {
    let has = |row: usize| column.present.as_ref().is_none_or(|p| p.get(row));
    if let Some(mut rows) = before {
        rows.retain(|&row| test(values[row as usize]) && has(row as usize));
        return rows;
    }
    let mut rows = vec![0u32; batch.rows()];
    let mut count = 0;
    for run in batch.runs {
        // Every row is written down, and kept by moving on: no branch to guess.
        for (&value, row) in values[run.rows()].iter().zip(run.start..) {
            rows[count] = row;
            count += usize::from(test(value));
        }
    }
    rows.truncate(count);
    if column.present.is_some() {
        rows.retain(|&row| has(row as usize));
    }
    rows
}

/// The rows whose value, as `as_` makes it, stands so to a bound.
fn compared<T: Copy, U: Copy + PartialOrd>(
    column: &Column,
    values: &[T],
    as_: impl Fn(T) -> U,
    (op, bound): (BinaryOp, U),
    before: Option<Vec<u32>>,
    batch: &Batch<'_>,
) -> Vec<u32> {
    match op {
        BinaryOp::Gt => select(column, values, |v| as_(v) > bound, before, batch),
        BinaryOp::Gte => select(column, values, |v| as_(v) >= bound, before, batch),
        BinaryOp::Lt => select(column, values, |v| as_(v) < bound, before, batch),
        BinaryOp::Lte => select(column, values, |v| as_(v) <= bound, before, batch),
        BinaryOp::Eq => select(column, values, |v| as_(v) == bound, before, batch),
        _ => select(column, values, |v| as_(v) != bound, before, batch),
    }
}

fn numbers(
    column: &Column,
    op: BinaryOp,
    bound: &Value,
    before: Option<Vec<u32>>,
    batch: &Batch<'_>,
) -> Vec<u32> {
    let float = bound.as_f64().unwrap_or(f64::NAN);
    match (&column.values, bound) {
        (Values::Integer(v), Value::Integer(b)) => compared(column, v, |v| v, (op, *b), before, batch),
        (Values::Integer(v), Value::Float(_)) => {
            compared(column, v, |v| v as f64, (op, float), before, batch)
        }
        (Values::Unsigned(v), Value::Unsigned(b)) => compared(column, v, |v| v, (op, *b), before, batch),
        (Values::Unsigned(v), Value::Float(_)) => {
            compared(column, v, |v| v as f64, (op, float), before, batch)
        }
        (Values::Integer(v), Value::Unsigned(b)) => {
            compared(column, v, i128::from, (op, i128::from(*b)), before, batch)
        }
        (Values::Unsigned(v), Value::Integer(b)) => {
            compared(column, v, i128::from, (op, i128::from(*b)), before, batch)
        }
        (Values::Float(v), _) => compared(column, v, |v| v, (op, float), before, batch),
        _ => Vec::new(),
    }
}

fn texts(column: &Column, equal: bool, text: &str, before: Option<Vec<u32>>, batch: &Batch<'_>) -> Vec<u32> {
    let Values::String(values) = &column.values else {
        return Vec::new();
    };
    let rows = before.unwrap_or_else(|| batch.runs.iter().flat_map(|r| r.start..r.end).collect());
    rows.into_iter()
        .filter(|&row| column.has(row as usize) && (values.get(row as usize) == text.as_bytes()) == equal)
        .collect()
}

/// Those of some rows for which an expression is true.
fn keep(mut rows: Vec<u32>, verdict: &Vector) -> Vec<u32> {
    match verdict {
        Vector::Constant(Value::Boolean(true)) => rows,
        Vector::Column(column) => match &column.values {
            Values::Boolean(yes) => {
                let mut at = 0;
                rows.retain(|_| {
                    at += 1;
                    yes[at - 1] && column.has(at - 1)
                });
                rows
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}
