//! A column of one field's values over consecutive rows, as batches, the head, decoded blocks and the executor share it.

use super::{Bitmap, FieldType, FieldValue};
use std::ops::Range;

/// Typed values, one a row. Rows without a value hold a default (0, "", false) that means nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 64-bit floats.
    Float(Vec<f64>),
    /// Signed integers.
    Integer(Vec<i64>),
    /// Unsigned integers.
    Unsigned(Vec<u64>),
    /// Texts.
    String(StringColumn),
    /// Truth values.
    Boolean(Vec<bool>),
}

/// Texts end to end, with the end of each: `ends.len()` rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringColumn {
    /// Where row i ends in `bytes`; it begins where row i-1 ends.
    pub ends: Vec<u32>,
    /// The texts.
    pub bytes: Vec<u8>,
}

/// Values and which of the rows have one.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// One a row.
    pub values: Values,
    /// Set where the row has a value; `None` when every row has.
    pub present: Option<Bitmap>,
}

impl StringColumn {
    /// Rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No rows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of row `index`. Panics past the end, which is a bug of the caller.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1] as usize
        };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// The text of row `index`, bad UTF-8 replaced.
    pub fn text(&self, index: usize) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.get(index))
    }

    /// Adds a row. Panics past 4 GiB of text in one column, which every limit on batches and blocks excludes.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends
            .push(u32::try_from(self.bytes.len()).expect("limits keep a column's text below 4 GiB"));
    }
}

impl Values {
    /// An empty column of this type.
    pub fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Vec::new()),
            FieldType::Integer => Self::Integer(Vec::new()),
            FieldType::Unsigned => Self::Unsigned(Vec::new()),
            FieldType::String => Self::String(StringColumn::default()),
            FieldType::Boolean => Self::Boolean(Vec::new()),
        }
    }

    /// The type of the values.
    #[inline]
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::String(_) => FieldType::String,
            Self::Boolean(_) => FieldType::Boolean,
        }
    }

    /// Rows.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Float(v) => v.len(),
            Self::Integer(v) => v.len(),
            Self::Unsigned(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Boolean(v) => v.len(),
        }
    }

    /// No rows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds rows without a value.
    pub fn push_defaults(&mut self, count: usize) {
        match self {
            Self::Float(v) => v.resize(v.len() + count, 0.0),
            Self::Integer(v) => v.resize(v.len() + count, 0),
            Self::Unsigned(v) => v.resize(v.len() + count, 0),
            Self::String(v) => v.ends.resize(v.ends.len() + count, v.bytes.len() as u32),
            Self::Boolean(v) => v.resize(v.len() + count, false),
        }
    }

    /// Copies row `index` of `from` to the end. Panics when the types differ, which is a bug of the caller.
    #[inline]
    pub fn push_from(&mut self, from: &Values, index: usize) {
        match (self, from) {
            (Self::Float(to), Self::Float(v)) => to.push(v[index]),
            (Self::Integer(to), Self::Integer(v)) => to.push(v[index]),
            (Self::Unsigned(to), Self::Unsigned(v)) => to.push(v[index]),
            (Self::String(to), Self::String(v)) => to.push(v.get(index)),
            (Self::Boolean(to), Self::Boolean(v)) => to.push(v[index]),
            (to, v) => panic!("a {} column takes no {}", to.field_type(), v.field_type()),
        }
    }

    /// Copies rows `range` of `from` to the end. Panics when the types differ, which is a bug of the caller.
    pub fn extend_from(&mut self, from: &Values, range: Range<usize>) {
        match (self, from) {
            (Self::Float(to), Self::Float(v)) => to.extend_from_slice(&v[range]),
            (Self::Integer(to), Self::Integer(v)) => to.extend_from_slice(&v[range]),
            (Self::Unsigned(to), Self::Unsigned(v)) => to.extend_from_slice(&v[range]),
            (Self::String(to), Self::String(v)) => range.for_each(|i| to.push(v.get(i))),
            (Self::Boolean(to), Self::Boolean(v)) => to.extend_from_slice(&v[range]),
            (to, v) => panic!("a {} column takes no {}", to.field_type(), v.field_type()),
        }
    }

    /// The rows at `positions`, in that order.
    pub fn gather(&self, positions: &[u32]) -> Self {
        match self {
            Self::Float(v) => Self::Float(positions.iter().map(|&i| v[i as usize]).collect()),
            Self::Integer(v) => Self::Integer(positions.iter().map(|&i| v[i as usize]).collect()),
            Self::Unsigned(v) => Self::Unsigned(positions.iter().map(|&i| v[i as usize]).collect()),
            Self::Boolean(v) => Self::Boolean(positions.iter().map(|&i| v[i as usize]).collect()),
            Self::String(v) => {
                let mut out = StringColumn::default();
                positions.iter().for_each(|&i| out.push(v.get(i as usize)));
                Self::String(out)
            }
        }
    }

    /// The value of row `index`, whether the row has one or not.
    pub fn get(&self, index: usize) -> FieldValue {
        match self {
            Self::Float(v) => FieldValue::Float(v[index]),
            Self::Integer(v) => FieldValue::Integer(v[index]),
            Self::Unsigned(v) => FieldValue::Unsigned(v[index]),
            Self::String(v) => FieldValue::String(v.text(index).into_owned()),
            Self::Boolean(v) => FieldValue::Boolean(v[index]),
        }
    }

    /// Bytes of memory the values take.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Float(v) => v.len() * 8,
            Self::Integer(v) => v.len() * 8,
            Self::Unsigned(v) => v.len() * 8,
            Self::String(v) => v.ends.len() * 4 + v.bytes.len(),
            Self::Boolean(v) => v.len(),
        }
    }
}

impl Column {
    /// An empty column of this type with a value in every row so far.
    pub fn new(field_type: FieldType) -> Self {
        Self {
            values: Values::new(field_type),
            present: None,
        }
    }

    /// An empty column with room for so many rows.
    pub fn with_capacity(field_type: FieldType, rows: usize) -> Self {
        let mut column = Self::new(field_type);
        column.reserve(rows);
        column
    }

    /// Forgets all rows, and keeps the room they had.
    pub fn clear(&mut self) {
        self.present = None;
        match &mut self.values {
            Values::Float(values) => values.clear(),
            Values::Integer(values) => values.clear(),
            Values::Unsigned(values) => values.clear(),
            Values::Boolean(values) => values.clear(),
            Values::String(values) => {
                values.ends.clear();
                values.bytes.clear();
            }
        }
    }

    /// Bytes of memory it keeps, about.
    #[inline]
    pub fn capacity_bytes(&self) -> usize {
        let values = match &self.values {
            Values::Float(values) => values.capacity() * 8,
            Values::Integer(values) => values.capacity() * 8,
            Values::Unsigned(values) => values.capacity() * 8,
            Values::Boolean(values) => values.capacity(),
            Values::String(values) => values.ends.capacity() * 4 + values.bytes.capacity(),
        };
        size_of::<Self>() + values
    }

    /// Makes room for rows to come.
    pub fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Float(values) => values.reserve(rows),
            Values::Integer(values) => values.reserve(rows),
            Values::Unsigned(values) => values.reserve(rows),
            Values::Boolean(values) => values.reserve(rows),
            Values::String(values) => values.ends.reserve(rows),
        }
    }

    /// Pieces of columns of this type end to end: which column, and which rows of it. A column that is not there has no values.
    pub fn of_pieces(
        field_type: FieldType,
        columns: &[Option<&Column>],
        pieces: &[(usize, Range<usize>)],
        rows: usize,
    ) -> Self {
        let mut out = Self::with_capacity(field_type, rows);
        let is_whole = |column: &Option<&Column>| column.is_some_and(|column| column.present.is_none());
        let whole = columns.iter().all(is_whole);
        match &mut out.values {
            Values::Float(to) if whole => copy_pieces(to, columns, pieces, |v| match v {
                Values::Float(v) => v,
                _ => &[],
            }),
            Values::Integer(to) if whole => copy_pieces(to, columns, pieces, |v| match v {
                Values::Integer(v) => v,
                _ => &[],
            }),
            Values::Unsigned(to) if whole => copy_pieces(to, columns, pieces, |v| match v {
                Values::Unsigned(v) => v,
                _ => &[],
            }),
            _ => {
                for (column, rows) in pieces {
                    match columns[*column] {
                        Some(column) => out.extend_from(column, rows.clone()),
                        None => out.push_missing(rows.len()),
                    }
                }
            }
        }
        out
    }

    /// Pieces of columns of this type, so many rows in all, in the memory of a column that is not needed any more. `read` gives the
    /// columns, as many as there are lists of pieces; one that is not there has no values.
    pub fn of_columns(
        field_type: FieldType,
        read: &dyn Fn(usize) -> Option<Self>,
        pieces: &[Vec<Piece>],
        rows: usize,
        used: Option<Self>,
    ) -> Self {
        let used = used.filter(|used| used.values.field_type() == field_type);
        let mut out = used.unwrap_or_else(|| Self::with_capacity(field_type, rows));
        out.clear();
        let copied = match &mut out.values {
            Values::Float(to) => copy_columns(to, rows, read, pieces, |v| match v {
                Values::Float(v) => Some(v),
                _ => None,
            }),
            Values::Integer(to) => copy_columns(to, rows, read, pieces, |v| match v {
                Values::Integer(v) => Some(v),
                _ => None,
            }),
            Values::Unsigned(to) => copy_columns(to, rows, read, pieces, |v| match v {
                Values::Unsigned(v) => Some(v),
                _ => None,
            }),
            _ => false,
        };
        if !copied {
            out.clear();
            out.reserve(rows);
            let columns: Vec<Option<Self>> = (0..pieces.len()).map(read).collect();
            let of_column = |(column, pieces)| std::iter::repeat(column).zip(pieces);
            let mut all: Vec<(&Option<Self>, &Piece)> =
                columns.iter().zip(pieces).flat_map(of_column).collect();
            all.sort_by_key(|(_, piece)| piece.to);
            for (column, piece) in all {
                match column {
                    Some(column) => out.extend_from(column, piece.rows.clone()),
                    None => out.push_missing(piece.rows.len()),
                }
            }
        }
        out
    }

    /// Rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// No rows.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Does row `index` have a value?
    #[inline]
    pub fn has(&self, index: usize) -> bool {
        self.present.as_ref().is_none_or(|p| p.get(index))
    }

    /// Does any of these rows have a value?
    pub fn has_any(&self, mut rows: Range<usize>) -> bool {
        match &self.present {
            None => !rows.is_empty(),
            Some(present) => rows.any(|row| present.get(row)),
        }
    }

    /// The value of row `index`, if it has one.
    pub fn get(&self, index: usize) -> Option<FieldValue> {
        self.has(index).then(|| self.values.get(index))
    }

    /// Adds rows without a value.
    pub fn push_missing(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let len = self.len();
        self.present
            .get_or_insert_with(|| Bitmap::filled(len, true))
            .extend_filled(count, false);
        self.values.push_defaults(count);
    }

    /// Copies row `index` of `from`, value or absence, to the end. The types must be equal.
    #[inline]
    pub fn push_from(&mut self, from: &Column, index: usize) {
        if from.has(index) {
            self.values.push_from(&from.values, index);
            if let Some(present) = &mut self.present {
                present.push(true);
            }
        } else {
            self.push_missing(1);
        }
    }

    /// Copies rows `range` of `from`, values and absences, to the end. The types must be equal.
    pub fn extend_from(&mut self, from: &Column, range: Range<usize>) {
        if from.present.is_some() || self.present.is_some() {
            let len = self.len();
            let present = self.present.get_or_insert_with(|| Bitmap::filled(len, true));
            match &from.present {
                Some(p) => range.clone().for_each(|i| present.push(p.get(i))),
                None => present.extend_filled(range.len(), true),
            }
        }
        self.values.extend_from(&from.values, range);
    }

    /// The rows at `positions`, in that order.
    pub fn gather(&self, positions: &[u32]) -> Self {
        let present = self.present.as_ref().map(|from| {
            let mut present = Bitmap::new();
            positions.iter().for_each(|&i| present.push(from.get(i as usize)));
            present
        });
        Self {
            values: self.values.gather(positions),
            present,
        }
    }

    /// Bytes of memory the column takes.
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.present.as_ref().map_or(0, |p| p.words().len() * 8)
    }
}

fn copy_pieces<T: Copy>(
    to: &mut Vec<T>,
    columns: &[Option<&Column>],
    pieces: &[(usize, Range<usize>)],
    values: impl Fn(&Values) -> &[T],
) {
    let slices: Vec<&[T]> = columns
        .iter()
        .map(|column| column.map_or(&[] as &[T], |column| values(&column.values)))
        .collect();
    for (column, rows) in pieces {
        to.extend_from_slice(&slices[*column][rows.clone()]);
    }
}

/// Rows that are copied to another place.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Which.
    pub rows: Range<usize>,
    /// Where the first of them goes.
    pub to: usize,
}

/// Each column is read, and copied before the next one is. `false`: not all are there whole.
fn copy_columns<T: Copy + Default>(
    to: &mut Vec<T>,
    rows: usize,
    read: &dyn Fn(usize) -> Option<Column>,
    pieces: &[Vec<Piece>],
    values: impl Fn(&Values) -> Option<&Vec<T>>,
) -> bool {
    to.resize(rows, T::default());
    for (at, pieces) in pieces.iter().enumerate() {
        let Some(column) = read(at).filter(|column| column.present.is_none()) else {
            return false;
        };
        let Some(from) = values(&column.values) else {
            return false;
        };
        for piece in pieces {
            to[piece.to..piece.to + piece.rows.len()].copy_from_slice(&from[piece.rows.clone()]);
        }
    }
    true
}
