//! Expressions over columns: arithmetic and comparisons in loops over slices, anything else row by row.

use crate::lang::BinaryOp;
use crate::model::{Bitmap, Column, FieldType, Values};
use crate::query::input::Resolved;
use crate::query::node::{Environment, Node};
use crate::query::value::{self, Value};

/// Some rows, as expressions see them.
pub struct Rows<'a> {
    /// One a row.
    pub times: &'a [i64],
    /// For each reference of the statement, its values; `None` where it has none in these rows.
    pub references: Vec<Option<Column>>,
}

/// The values of an expression.
#[derive(Debug)]
pub enum Vector {
    /// The same in every row.
    Constant(Value),
    /// One a row.
    Column(Column),
    /// No value in any row.
    None,
}

/// The type an expression always has; `None` where it depends on the values, or is not known.
pub fn type_of(node: &Node, reference: &dyn Fn(usize) -> Option<FieldType>) -> Option<FieldType> {
    use FieldType::{Boolean, Float, Integer, Unsigned};
    match node {
        Node::Constant(value) => value.field_type(),
        Node::Time => Some(Integer),
        Node::Ref(number, cast) => cast.or_else(|| reference(*number)),
        Node::Binary(op, sides) => {
            if op.is_comparison() || matches!(op, BinaryOp::And | BinaryOp::Or) {
                return Some(Boolean);
            }
            let sides = (type_of(&sides.0, reference)?, type_of(&sides.1, reference)?);
            let bits = matches!(op, BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor);
            match sides {
                (Integer, Integer) if *op == BinaryOp::Div => Some(Float),
                (Integer, Integer) => Some(Integer),
                // A difference may be below zero.
                (Unsigned, Unsigned) if *op == BinaryOp::Sub => None,
                (Unsigned, Unsigned) => Some(Unsigned),
                (Float, Float | Integer | Unsigned) | (Integer | Unsigned, Float) if !bits => Some(Float),
                (Boolean, Boolean) if bits => Some(Boolean),
                _ => None,
            }
        }
        Node::Matches(..) => Some(Boolean),
        Node::Case(branches, otherwise) => {
            let values = branches
                .iter()
                .map(|(_, value)| value)
                .chain(otherwise.as_deref());
            let mut types = values.map(|value| type_of(value, reference));
            let first = types.next()??;
            types.all(|t| t == Some(first)).then_some(first)
        }
        _ => None,
    }
}

impl Rows<'_> {
    /// The values of an expression.
    pub fn eval(&self, node: &Node) -> Vector {
        match node {
            Node::Constant(value) => Vector::Constant(value.clone()),
            Node::Ref(number, cast) => match (&self.references[*number], cast) {
                (None, _) => Vector::None,
                (Some(column), None) => Vector::Column(column.clone()),
                (Some(column), Some(to)) => Vector::Column(cast_column(column, *to)),
            },
            Node::Binary(op, sides) => {
                let (lhs, rhs) = (self.eval(&sides.0), self.eval(&sides.1));
                match binary(*op, &lhs, &rhs, self.times.len()) {
                    Some(vector) => vector,
                    None => self.row_by_row(node),
                }
            }
            other => self.row_by_row(other),
        }
    }

    /// As a column of one type; a value of another type is cast, one that cannot be is left out.
    pub fn column(&self, node: &Node, field_type: FieldType) -> Option<Column> {
        match self.eval(node) {
            Vector::None => None,
            Vector::Column(column) => Some(cast_column(&column, field_type)),
            Vector::Constant(value) => {
                let mut column = Column::new(field_type);
                (0..self.times.len()).for_each(|_| value::push(&mut column, &value));
                Some(column)
            }
        }
    }

    /// As a column of whatever type its values have.
    pub fn any_column(&self, node: &Node) -> Option<Column> {
        match self.eval(node) {
            Vector::None | Vector::Constant(Value::Null) => None,
            Vector::Column(column) => Some(column),
            Vector::Constant(value) => self.column(node, value.field_type()?),
        }
    }

    fn row_by_row(&self, node: &Node) -> Vector {
        let values: Vec<Value> = (0..self.times.len())
            .map(|row| node.eval(&RowOf { rows: self, row }))
            .collect();
        let types = values.iter().filter_map(Value::field_type);
        let wider = |a, b| if b == FieldType::Float { b } else { a };
        let Some(field_type) = types.reduce(wider) else {
            return Vector::None;
        };
        let mut column = Column::new(field_type);
        values.iter().for_each(|v| value::push(&mut column, v));
        Vector::Column(column)
    }
}

/// A row as the environment of an expression.
struct RowOf<'a> {
    rows: &'a Rows<'a>,
    row: usize,
}

impl Environment for RowOf<'_> {
    fn time(&self) -> i64 {
        self.rows.times[self.row]
    }

    fn reference(&self, number: usize) -> Value {
        let column = self.rows.references[number].as_ref();
        column.map(|c| Value::of_column(c, self.row)).unwrap_or_default()
    }

    fn call(&self, _: usize) -> Value {
        Value::Null
    }
}

/// A column as another type.
pub fn cast_column(column: &Column, to: FieldType) -> Column {
    if column.values.field_type() == to {
        return column.clone();
    }
    let floats = match (&column.values, to) {
        (Values::Integer(v), FieldType::Float) => v.iter().map(|&v| v as f64).collect(),
        (Values::Unsigned(v), FieldType::Float) => v.iter().map(|&v| v as f64).collect(),
        _ => {
            let mut out = Column::new(to);
            (0..column.len()).for_each(|row| value::push(&mut out, &Value::of_column(column, row)));
            return out;
        }
    };
    Column {
        values: Values::Float(floats),
        present: column.present.clone(),
    }
}

/// Which rows both sides have.
fn both(a: Option<&Bitmap>, b: Option<&Bitmap>) -> Option<Bitmap> {
    match (a, b) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (Some(a), Some(b)) => {
            let words = a.words().iter().zip(b.words()).map(|(a, b)| a & b);
            Some(Bitmap::from_words(words.collect(), a.len()))
        }
    }
}

/// A side of an operation, as floats or as integers.
enum Side<'a, T: Copy> {
    One(T),
    Each(std::borrow::Cow<'a, [T]>),
}

impl<T: Copy> Side<'_, T> {
    #[inline]
    fn get(&self, row: usize) -> T {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values[row],
        }
    }
}

fn present(vector: &Vector) -> Option<&Bitmap> {
    match vector {
        Vector::Column(column) => column.present.as_ref(),
        _ => None,
    }
}

fn floats(vector: &Vector) -> Option<Side<'_, f64>> {
    Some(match vector {
        Vector::Constant(value) => Side::One(value.as_f64()?),
        Vector::Column(column) => Side::Each(match &column.values {
            Values::Float(v) => v.into(),
            Values::Integer(v) => v.iter().map(|&v| v as f64).collect(),
            Values::Unsigned(v) => v.iter().map(|&v| v as f64).collect(),
            _ => return None,
        }),
        Vector::None => return None,
    })
}

fn integers(vector: &Vector) -> Option<Side<'_, i64>> {
    Some(match vector {
        Vector::Constant(Value::Integer(value)) => Side::One(*value),
        Vector::Column(Column {
            values: Values::Integer(v),
            ..
        }) => Side::Each(v.into()),
        _ => return None,
    })
}

fn is_unsigned(vector: &Vector) -> bool {
    match vector {
        Vector::Constant(value) => matches!(value, Value::Unsigned(_)),
        Vector::Column(column) => matches!(column.values, Values::Unsigned(_)),
        Vector::None => false,
    }
}

/// An operation on whole columns; `None` where there is no such loop.
fn binary(op: BinaryOp, lhs: &Vector, rhs: &Vector, rows: usize) -> Option<Vector> {
    if let (Vector::Constant(a), Vector::Constant(b)) = (lhs, rhs) {
        return Some(Vector::Constant(value::binary(op, a, b)));
    }
    let arithmetic = matches!(
        op,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod
    );
    if !arithmetic {
        return None;
    }
    if matches!(lhs, Vector::None) || matches!(rhs, Vector::None) {
        return Some(Vector::None);
    }
    if is_unsigned(lhs) || is_unsigned(rhs) {
        return None;
    }
    let present = both(present(lhs), present(rhs));
    let values = match (integers(lhs), integers(rhs)) {
        (Some(a), Some(b)) => {
            // A result that does not fit becomes a float, which is done value by value.
            let fitting = |f: &dyn Fn(i64, i64) -> Option<i64>| -> Option<Values> {
                let pairs = (0..rows).map(|row| f(a.get(row), b.get(row)));
                pairs.collect::<Option<_>>().map(Values::Integer)
            };
            match op {
                BinaryOp::Add => fitting(&i64::checked_add)?,
                BinaryOp::Sub => fitting(&i64::checked_sub)?,
                BinaryOp::Mul => fitting(&i64::checked_mul)?,
                BinaryOp::Mod => fitting(&|a, b| Some(a.checked_rem(b).unwrap_or(0)))?,
                _ => {
                    let divide = |(a, b): (i64, i64)| if b == 0 { 0.0 } else { a as f64 / b as f64 };
                    let pairs = (0..rows).map(|row| (a.get(row), b.get(row)));
                    Values::Float(pairs.map(divide).collect())
                }
            }
        }
        _ => {
            let (a, b) = (floats(lhs)?, floats(rhs)?);
            let pairs = (0..rows).map(|row| (a.get(row), b.get(row)));
            Values::Float(match op {
                BinaryOp::Add => pairs.map(|(a, b)| a + b).collect(),
                BinaryOp::Sub => pairs.map(|(a, b)| a - b).collect(),
                BinaryOp::Mul => pairs.map(|(a, b)| a * b).collect(),
                BinaryOp::Div => pairs.map(|(a, b)| if b == 0.0 { 0.0 } else { a / b }).collect(),
                _ => pairs.map(|(a, b)| a % b).collect(),
            })
        }
    };
    Some(Vector::Column(Column { values, present }))
}

/// What a reference is, for [`type_of`].
pub fn reference_type(resolved: Resolved, fields: &[(u16, FieldType)]) -> Option<FieldType> {
    match resolved {
        Resolved::Field(at) => Some(fields[at].1),
        Resolved::Tag(_) => Some(FieldType::String),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on columns equals the one on values, whatever the types.
    #[test]
    fn columns_give_what_values_give() {
        let column = |values: &[Value]| {
            let mut column = Column::new(values.iter().find_map(Value::field_type).expect("a value"));
            values.iter().for_each(|v| value::push(&mut column, v));
            Some(column)
        };
        use Value::{Boolean, Float, Integer, Null, String, Unsigned};
        let rows = Rows {
            times: &[1, 2, 3],
            references: vec![
                column(&[Integer(7), Null, Integer(-3)]),
                column(&[Integer(2), Integer(5), Integer(0)]),
                column(&[Float(1.5), Float(0.0), Null]),
                column(&[Unsigned(3), Unsigned(0), Unsigned(9)]),
                column(&[String("a".into()), Null, String("b".into())]),
                column(&[Boolean(true), Boolean(false), Null]),
                None,
            ],
        };
        let mut sides: Vec<Node> = (0..7).map(|i| Node::Ref(i, None)).collect();
        sides.extend([Integer(2), Float(0.5), Unsigned(4), String("a".into())].map(Node::Constant));
        sides.push(Node::Time);
        sides.push(Node::Ref(0, Some(FieldType::Float)));
        let ops = [
            BinaryOp::Add,
            BinaryOp::Sub,
            BinaryOp::Mul,
            BinaryOp::Div,
            BinaryOp::Mod,
            BinaryOp::BitAnd,
            BinaryOp::And,
            BinaryOp::Or,
            BinaryOp::Lt,
            BinaryOp::Eq,
            BinaryOp::Neq,
        ];
        let types = |number: usize| rows.references[number].as_ref().map(|c| c.values.field_type());
        for op in ops {
            for (lhs, rhs) in sides.iter().flat_map(|a| sides.iter().map(move |b| (a, b))) {
                let node = Node::Binary(op, Box::new((lhs.clone(), rhs.clone())));
                let got = rows.eval(&node);
                let want: Vec<Value> = (0..3).map(|row| node.eval(&RowOf { rows: &rows, row })).collect();
                let typed = type_of(&node, &types);
                for (row, want) in want.iter().enumerate() {
                    let value = match &got {
                        Vector::Constant(value) => value.clone(),
                        Vector::Column(column) => Value::of_column(column, row),
                        Vector::None => Null,
                    };
                    // A column has one type: of mixed values the others are cast.
                    let want = match value.field_type() {
                        Some(t) => want.clone().cast(t),
                        None => want.clone(),
                    };
                    // As text, where what is no number equals itself.
                    assert_eq!(format!("{value:?}"), format!("{want:?}"), "{node:?} row {row}");
                    if let (Some(typed), Some(is)) = (typed, value.field_type()) {
                        assert_eq!(typed, is, "{node:?}");
                    }
                }
            }
        }
    }
}
