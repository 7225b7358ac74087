//! What a SELECT gives: series, column by column.

use super::value::{self, Value};
use crate::model::{Bitmap, Column, FieldType, Values};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

/// One series of a result: a name, tags, and rows. The first column is the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The measurement, or what a SHOW statement calls it.
    pub name: String,
    /// Of GROUP BY, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Names of all columns.
    pub columns: Arc<[String]>,
    /// One a row when the first column is a time; else empty.
    pub times: Vec<i64>,
    /// All columns but the time, each with one value a row.
    pub values: Vec<ResultColumn>,
}

/// Takes the series of an answer one after the other, and may stop it.
pub type Give<'a> = dyn FnMut(Piece) -> ControlFlow<()> + 'a;

/// A series, or the next rows of one.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The rows.
    pub series: Series,
    /// More rows of the same series follow.
    pub goes_on: bool,
}

/// The values of one column of a result.
#[derive(Clone, Debug)]
pub enum ResultColumn {
    /// All of one type; some rows may have none.
    Typed(Column),
    /// Texts of which there are few, by number.
    Coded(Coded),
    /// Values of several types.
    Mixed(Vec<Value>),
}

/// Texts by number.
#[derive(Clone, Debug)]
pub struct Coded {
    /// One a row: a place in `texts`. Columns that say different things of the same, as tags of series do, share them.
    pub codes: Arc<Vec<u32>>,
    /// The texts; `None` stands for no value.
    pub texts: Arc<[Option<Arc<str>>]>,
}

impl Default for Series {
    fn default() -> Self {
        Self {
            name: String::new(),
            tags: Vec::new(),
            columns: Arc::new([]),
            times: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl Series {
    /// Is the first column a time?
    pub fn has_time(&self) -> bool {
        !self.times.is_empty()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.values.first().map_or(self.times.len(), ResultColumn::len)
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = Value> + '_ {
        self.values.iter().map(move |column| column.value(row))
    }

    /// A table without times, as SHOW statements give.
    pub fn table(name: &str, columns: &[&str], rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        let mut values: Vec<ResultColumn> = columns.iter().map(|_| ResultColumn::default()).collect();
        for row in rows {
            for (column, value) in values.iter_mut().zip(row) {
                column.push(value);
            }
        }
        Self {
            name: name.to_string(),
            columns: columns.iter().map(|c| (*c).to_string()).collect(),
            values,
            ..Self::default()
        }
    }

    /// Reverses the rows.
    pub fn reverse(&mut self) {
        self.times.reverse();
        self.values.iter_mut().for_each(ResultColumn::reverse);
    }

    /// Keeps `limit` rows (0 for all) after the first `offset`.
    pub fn limit(&mut self, limit: u64, offset: u64) {
        let rows = self.rows();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(rows);
        let limit = if limit == 0 {
            usize::MAX
        } else {
            usize::try_from(limit).unwrap_or(usize::MAX)
        };
        let end = start.saturating_add(limit).min(rows);
        if (start, end) != (0, rows) {
            *self = self.slice(start..end);
        }
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        Self {
            name: self.name.clone(),
            tags: self.tags.clone(),
            columns: self.columns.clone(),
            times: if self.has_time() {
                self.times[rows.clone()].to_vec()
            } else {
                Vec::new()
            },
            values: self.values.iter().map(|c| c.slice(rows.clone())).collect(),
        }
    }

    /// The rows at these places, in this order.
    pub fn gather(&self, rows: &[usize]) -> Self {
        let column = |column: &ResultColumn| {
            let mut out = ResultColumn::default();
            rows.iter().for_each(|&row| out.push(column.value(row)));
            out
        };
        let times = if self.has_time() {
            rows.iter().map(|&row| self.times[row]).collect()
        } else {
            Vec::new()
        };
        Self {
            name: self.name.clone(),
            tags: self.tags.clone(),
            columns: self.columns.clone(),
            times,
            values: self.values.iter().map(column).collect(),
        }
    }

    /// Adds the rows of the next piece of the same series.
    pub fn append(&mut self, next: Self) {
        self.times.extend(next.times);
        for (to, from) in self.values.iter_mut().zip(next.values) {
            to.append(from);
        }
    }

    /// Bytes of memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(k, v)| k.len() + v.len() + 48).sum();
        let values: usize = self.values.iter().map(ResultColumn::bytes).sum();
        size_of::<Self>() + self.name.len() + tags + self.times.len() * 8 + values
    }
}

impl Piece {
    /// A series as a whole.
    pub fn whole(series: Series) -> Self {
        Self {
            series,
            goes_on: false,
        }
    }
}

/// Puts the pieces together that a function hands to what it is given.
///
/// # Errors
/// Whatever the function gives.
pub fn collect<E>(run: impl FnOnce(&mut Give<'_>) -> Result<(), E>) -> Result<Vec<Series>, E> {
    let mut out: Vec<Series> = Vec::new();
    let mut open = false;
    run(&mut |piece| {
        match out.last_mut() {
            Some(last) if open => last.append(piece.series),
            _ => out.push(piece.series),
        }
        open = piece.goes_on;
        ControlFlow::Continue(())
    })?;
    Ok(out)
}

impl Default for ResultColumn {
    fn default() -> Self {
        Self::Typed(Column::new(FieldType::Float))
    }
}

impl ResultColumn {
    /// Puts a value wherever there is none.
    pub fn replace_nulls(&mut self, value: &Value) {
        if !(0..self.len()).any(|row| self.is_null(row)) {
            return;
        }
        let values = (0..self.len()).map(|row| match self.is_null(row) {
            true => value.clone(),
            false => self.value(row),
        });
        *self = Self::Mixed(values.collect());
    }

    /// Rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Typed(column) => column.len(),
            Self::Coded(coded) => coded.codes.len(),
            Self::Mixed(values) => values.len(),
        }
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many rows without a value.
    pub fn nulls(rows: usize) -> Self {
        let mut column = Column::new(FieldType::Float);
        column.push_missing(rows);
        Self::Typed(column)
    }

    /// The value of a row. Panics past the end, which is a bug of the caller.
    pub fn value(&self, row: usize) -> Value {
        match self {
            Self::Typed(column) => Value::of_column(column, row),
            Self::Coded(coded) => match coded.text(row) {
                Some(text) => Value::String(text.clone()),
                None => Value::Null,
            },
            Self::Mixed(values) => values[row].clone(),
        }
    }

    /// Has the row no value?
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Typed(column) => !column.has(row),
            Self::Coded(coded) => coded.text(row).is_none(),
            Self::Mixed(values) => values[row].is_null(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, value: Value) {
        if let Self::Typed(column) = self {
            match value.field_type() {
                None => {
                    column.push_missing(1);
                    return;
                }
                Some(t) if t == column.values.field_type() => {
                    value::push(column, &value);
                    return;
                }
                // Without a value so far it has no type either.
                Some(t)
                    if column
                        .present
                        .as_ref()
                        .map_or(column.is_empty(), |p| p.count_ones() == 0) =>
                {
                    let rows = column.len();
                    *column = Column::new(t);
                    column.push_missing(rows);
                    value::push(column, &value);
                    return;
                }
                Some(_) => {}
            }
        }
        self.mixed().push(value);
    }

    /// The same, with a value where a row has none.
    pub fn with_default(self, default: &Value) -> Self {
        match self {
            Self::Typed(Column { present: None, .. }) => self,
            Self::Typed(mut column) if default.field_type() == Some(column.values.field_type()) => {
                if let Some(present) = column.present.take() {
                    let missing = (0..column.values.len()).filter(|&row| !present.get(row));
                    match (&mut column.values, default) {
                        (Values::Float(v), Value::Float(d)) => missing.for_each(|row| v[row] = *d),
                        (Values::Integer(v), Value::Integer(d)) => missing.for_each(|row| v[row] = *d),
                        (Values::Unsigned(v), Value::Unsigned(d)) => missing.for_each(|row| v[row] = *d),
                        _ => column.present = Some(present),
                    }
                }
                Self::Typed(column)
            }
            other => {
                let mut out = Self::default();
                for row in 0..other.len() {
                    out.push(match other.value(row) {
                        Value::Null => default.clone(),
                        value => value,
                    });
                }
                out
            }
        }
    }

    fn mixed(&mut self) -> &mut Vec<Value> {
        if !matches!(self, Self::Mixed(_)) {
            *self = Self::Mixed((0..self.len()).map(|row| self.value(row)).collect());
        }
        match self {
            Self::Mixed(values) => values,
            _ => unreachable!("made so above"),
        }
    }

    /// Reverses the rows.
    pub fn reverse(&mut self) {
        match self {
            Self::Typed(column) => {
                let order: Vec<u32> = (0..column.len() as u32).rev().collect();
                match &mut column.values {
                    Values::Float(v) => v.reverse(),
                    Values::Integer(v) => v.reverse(),
                    Values::Unsigned(v) => v.reverse(),
                    Values::Boolean(v) => v.reverse(),
                    texts @ Values::String(_) => *texts = texts.gather(&order),
                }
                if let Some(present) = &mut column.present {
                    let mut reversed = Bitmap::new();
                    order
                        .iter()
                        .for_each(|&row| reversed.push(present.get(row as usize)));
                    *present = reversed;
                }
            }
            Self::Coded(coded) => Arc::make_mut(&mut coded.codes).reverse(),
            Self::Mixed(values) => values.reverse(),
        }
    }

    /// Some of the rows.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        match self {
            Self::Typed(column) => {
                let mut part = Column::new(column.values.field_type());
                part.extend_from(column, rows);
                Self::Typed(part)
            }
            Self::Coded(coded) => Self::Coded(Coded {
                codes: Arc::new(coded.codes[rows].to_vec()),
                texts: coded.texts.clone(),
            }),
            Self::Mixed(values) => Self::Mixed(values[rows].to_vec()),
        }
    }

    /// Adds the rows of another column.
    pub fn append(&mut self, next: Self) {
        match (&mut *self, &next) {
            (Self::Typed(to), Self::Typed(from)) if to.values.field_type() == from.values.field_type() => {
                to.extend_from(from, 0..from.len());
            }
            (Self::Coded(to), Self::Coded(from)) if Arc::ptr_eq(&to.texts, &from.texts) => {
                Arc::make_mut(&mut to.codes).extend_from_slice(&from.codes);
            }
            _ => (0..next.len()).for_each(|row| self.push(next.value(row))),
        }
    }

    /// It as a column of one type, as a subquery's rows are read; values that do not fit are left out.
    pub fn into_column(self, field_type: FieldType) -> Column {
        match self {
            Self::Typed(column) if column.values.field_type() == field_type => column,
            other => {
                let mut column = Column::new(field_type);
                (0..other.len()).for_each(|row| value::push(&mut column, &other.value(row)));
                column
            }
        }
    }

    /// Bytes of memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Typed(column) => column.bytes(),
            Self::Coded(coded) => coded.codes.len() * 4,
            Self::Mixed(values) => values.len() * size_of::<Value>(),
        }
    }
}

impl Coded {
    /// The text of a row.
    pub fn text(&self, row: usize) -> Option<&Arc<str>> {
        self.texts[self.codes[row] as usize].as_ref()
    }
}

/// Equal values, however they are held.
impl PartialEq for ResultColumn {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|row| self.value(row) == other.value(row))
    }
}

/// A column of one row.
impl From<Value> for ResultColumn {
    fn from(value: Value) -> Self {
        let mut column = Self::default();
        column.push(value);
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(values: &[Value]) -> ResultColumn {
        let mut column = ResultColumn::default();
        values.iter().for_each(|v| column.push(v.clone()));
        column
    }

    fn values(column: &ResultColumn) -> Vec<Value> {
        (0..column.len()).map(|row| column.value(row)).collect()
    }

    #[test]
    fn columns_hold_what_was_pushed_whatever_its_types() {
        use Value::{Boolean, Float, Integer, Null, String};
        let cases: &[&[Value]] = &[
            &[],
            &[Null, Null],
            &[Null, Integer(1), Null, Integer(-3)],
            &[Float(1.0), Null],
            &[Integer(1), Float(2.5), String("x".into()), Null],
            &[String("a".into()), Null, String("".into())],
            &[Boolean(true), Boolean(false)],
        ];
        for case in cases {
            let mut made = column(case);
            assert_eq!(values(&made), *case);
            assert_eq!(values(&made.slice(0..case.len() / 2)), case[..case.len() / 2]);
            let mut twice = made.clone();
            twice.append(made.clone());
            assert_eq!(values(&twice), [*case, *case].concat());
            made.reverse();
            let reversed: Vec<Value> = case.iter().rev().cloned().collect();
            assert_eq!(values(&made), reversed);
        }
        assert!(matches!(column(cases[2]), ResultColumn::Typed(_)));
        assert!(matches!(column(cases[4]), ResultColumn::Mixed(_)));
    }

    #[test]
    fn coded_texts_are_texts() {
        let coded = ResultColumn::Coded(Coded {
            codes: Arc::new(vec![1, 0, 1]),
            texts: Arc::new([None, Some("a".into())]),
        });
        let plain = column(&[Value::String("a".into()), Value::Null, Value::String("a".into())]);
        assert_eq!(coded, plain);
        assert!(coded.is_null(1) && !coded.is_null(0));
        let mut both = coded.slice(0..2);
        both.append(plain);
        assert_eq!(both.len(), 5);
        assert_eq!(both.value(4), Value::String("a".into()));
    }

    #[test]
    fn limits_and_pieces() {
        let series = |times: &[i64]| Series {
            columns: Arc::new(["time".into(), "v".into()]),
            times: times.to_vec(),
            values: vec![column(
                &times.iter().map(|t| Value::Integer(*t)).collect::<Vec<_>>(),
            )],
            ..Series::default()
        };
        for (limit, offset, want) in [
            (0, 0, vec![1, 2, 3]),
            (2, 0, vec![1, 2]),
            (2, 2, vec![3]),
            (0, 1, vec![2, 3]),
            (1, 9, vec![]),
        ] {
            let mut one = series(&[1, 2, 3]);
            one.limit(limit, offset);
            assert_eq!(one, series(&want), "LIMIT {limit} OFFSET {offset}");
        }
        let all = collect(|give| {
            for (times, goes_on) in [(&[1, 2][..], true), (&[3], false), (&[4], false)] {
                let _ = give(Piece {
                    series: series(times),
                    goes_on,
                });
            }
            Ok::<(), ()>(())
        });
        assert_eq!(all, Ok(vec![series(&[1, 2, 3]), series(&[4])]));
    }
}
