//! The rows of one measurement while a batch is built: columns by shard, and a guess which field comes next.

use crate::batch::{Packed, STRIPE_BITS, shard_of};
use crate::catalog::{Fields, Measurement};
use crate::model::{Bitmap, Column, FieldId, FieldType, MeasurementId, SeriesId, StringColumn, Values};
use kymo_plugin_api::{Field, Value};
use roaring::RoaringBitmap;
use smallvec::SmallVec;
use std::sync::Arc;

/// Rows of one number that wait to be put to the others: as many as stay in the processor's cache.
const ONES_MAX: usize = 256;

/// Names of at most so many bytes are compared as numbers.
const SHORT_NAME: usize = 8;

/// See the module. With a hundred measurements a row comes to a table that the processor's cache has nearly forgotten: what one of one
/// number needs of it comes with one line of the cache.
#[repr(C, align(64))]
pub(super) struct MeasurementTable {
    /// The measurement's.
    pub(super) id: MeasurementId,
    /// The request that used it last.
    pub(super) request: Option<u32>,
    /// Place of the table whose row came after one of this the last time.
    pub(super) next: usize,
    /// The newest rows, which have a number in the first slot and nothing else.
    ones: Vec<One>,
    /// The first slot's [`head`], the length of its name, if that is short, and its type.
    first: (u64, u8, FieldType),
    /// Where the series of the row before belongs: its stripe, and the shard.
    stripe: (SeriesId, usize),
    shards: Vec<ShardRows>,
    slots: Vec<Slot>,
    pub(super) measurement: Arc<Measurement>,
    fields: Arc<Fields>,
    /// Series whose definitions may not be durable.
    pub(super) uncommitted: RoaringBitmap,
    /// Slots of the row being added, in the order of its fields.
    row: Vec<u16>,
    /// May numbers of other types stand in a field, where nothing is lost by it?
    promotes: bool,
}

/// A field this batch has values of.
struct Slot {
    name: Box<str>,
    /// See [`head`].
    head: u64,
    id: FieldId,
    field_type: FieldType,
}

impl Slot {
    fn new(name: &str, id: FieldId, field_type: FieldType) -> Self {
        Self {
            name: name.into(),
            head: head(name),
            id,
            field_type,
        }
    }

    /// Is it this field's, by name and type?
    #[inline]
    fn is(&self, field: &Field<'_>) -> bool {
        self.is_called(field.key) && self.field_type == type_of(&field.value)
    }

    #[inline]
    fn is_called(&self, name: &str) -> bool {
        match name.len() {
            len if len != self.name.len() => false,
            ..=SHORT_NAME => self.head == head(name),
            _ => *self.name == *name,
        }
    }
}

/// A short name as a number, which no other of its length has. 0 for long names.
#[inline]
fn head(name: &str) -> u64 {
    let name = name.as_bytes();
    match (name, name.len()) {
        ([first, ..], 1..=3) => {
            let (middle, last) = (name[name.len() / 2], name[name.len() - 1]);
            u64::from(u32::from_le_bytes([*first, middle, last, 0]))
        }
        (_, 4..=SHORT_NAME) => {
            // Together all of it: they overlap.
            let word =
                |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)));
            word(name.first_chunk()) | word(name.last_chunk()) << 32
        }
        _ => 0,
    }
}

#[derive(Default)]
struct ShardRows {
    series: Vec<SeriesId>,
    times: Vec<i64>,
    /// By slot; shorter than the rows where the newest have no value.
    columns: Vec<Column>,
}

/// A row of one number.
#[derive(Clone, Copy)]
struct One {
    time: i64,
    /// Of the type that the slot has.
    bits: u64,
    series: SeriesId,
}

/// Why a row cannot be added.
pub(super) enum FieldError<'a> {
    /// The field has another type already.
    Clash {
        field: &'a str,
        is: FieldType,
        exists: FieldType,
    },
    /// Numbers are promoted, and the field cannot hold this one exactly.
    Inexact { field: &'a str, exists: FieldType },
    /// The measurement has too many fields; this would be one more.
    TooMany(&'a str),
    /// No field may be called `time`.
    Time,
}

impl ShardRows {
    /// Appends rows of one number, of the type of the first slot.
    fn extend(&mut self, ones: &[One], first: FieldType) {
        let rows = self.times.len();
        self.series.extend(ones.iter().map(|one| one.series));
        self.times.extend(ones.iter().map(|one| one.time));
        if self.columns.is_empty() {
            self.columns
                .push(Column::with_capacity(first, self.times.capacity()));
        }
        let column = &mut self.columns[0];
        column.push_missing(rows - column.len());
        let bits = ones.iter().map(|one| one.bits);
        match &mut column.values {
            Values::Float(to) => to.extend(bits.map(f64::from_bits)),
            Values::Integer(to) => to.extend(bits.map(|bits| bits as i64)),
            Values::Unsigned(to) => to.extend(bits),
            Values::Boolean(_) | Values::String(_) => unreachable!("only numbers are put there"),
        }
        if let Some(present) = &mut column.present {
            present.extend_filled(ones.len(), true);
        }
    }

    fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.columns.iter_mut().for_each(Column::clear);
    }

    fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(Column::capacity_bytes).sum();
        self.series.capacity() * 4 + self.times.capacity() * 8 + columns
    }

    fn reserve(&mut self, rows: usize) {
        self.series.reserve(rows);
        self.times.reserve(rows);
    }
}

impl MeasurementTable {
    pub(super) fn new(measurement: Arc<Measurement>, shards: u16, promotes: bool) -> Self {
        Self {
            id: measurement.id,
            request: None,
            stripe: (SeriesId::MAX, 0),
            fields: measurement.fields(),
            measurement,
            slots: Vec::new(),
            shards: (0..shards).map(|_| ShardRows::default()).collect(),
            uncommitted: RoaringBitmap::new(),
            row: Vec::new(),
            promotes,
            next: usize::MAX,
            ones: Vec::new(),
            first: (0, 0, FieldType::Float),
        }
    }

    /// Adds a row, or nothing of it.
    #[inline]
    pub(super) fn push<'f>(
        &mut self,
        series: SeriesId,
        time: i64,
        fields: &[Field<'f>],
    ) -> Result<(), FieldError<'f>> {
        // A number in the first slot alone: most senders have one number a row.
        if let [field] = fields
            && let Some(bits) = number_bits(&field.value)
            && self.is_first(field)
        {
            if self.ones.len() >= ONES_MAX {
                self.settle();
            }
            self.ones.push(One { time, bits, series });
            return Ok(());
        }
        self.push_any(series, time, fields)
    }

    /// Is it the first slot's, by name and type?
    #[inline]
    fn is_first(&self, field: &Field<'_>) -> bool {
        let (head_of_first, len, field_type) = self.first;
        match len {
            // There is none, or its name is long.
            0 => self.slots.first().is_some_and(|slot| slot.is(field)),
            len => {
                field.key.len() == usize::from(len)
                    && head(field.key) == head_of_first
                    && type_of(&field.value) == field_type
            }
        }
    }

    #[inline(never)]
    fn push_any<'f>(
        &mut self,
        series: SeriesId,
        time: i64,
        fields: &[Field<'f>],
    ) -> Result<(), FieldError<'f>> {
        self.row.clear();
        for (at, field) in fields.iter().enumerate() {
            // Senders repeat the order of fields: look where it was in the row before.
            let slot = match self.slots.get(at) {
                Some(slot) if slot.is_called(field.key) => at,
                _ => self.find_slot(field)?,
            };
            let slot_type = self.slots[slot].field_type;
            if slot_type != type_of(&field.value) {
                let exists = slot_type;
                if self.promotes && is_number(exists) && is_number(type_of(&field.value)) {
                    if promoted(&field.value, exists).is_none() {
                        return Err(FieldError::Inexact {
                            field: field.key,
                            exists,
                        });
                    }
                    self.row.push(slot as u16);
                    continue;
                }
                return Err(FieldError::Clash {
                    field: field.key,
                    is: type_of(&field.value),
                    exists,
                });
            }
            self.row.push(slot as u16);
        }
        let slots = std::mem::take(&mut self.row);
        self.push_slots(series, time, &slots, fields.iter().map(|field| &field.value));
        self.row = slots;
        Ok(())
    }

    /// The shard of a series.
    #[inline]
    fn shard(&mut self, series: SeriesId) -> usize {
        if series >> STRIPE_BITS != self.stripe.0 {
            let shards = self.shards.len() as u16;
            let shard = shard_of(self.id, series, shards);
            self.stripe = (series >> STRIPE_BITS, usize::from(shard));
        }
        self.stripe.1
    }

    /// Adds a row whose values belong to these slots, and fit them.
    #[inline]
    fn push_slots<'v, 'f: 'v>(
        &mut self,
        series: SeriesId,
        time: i64,
        slots: &[u16],
        values: impl Iterator<Item = &'v Value<'f>>,
    ) {
        let hint = self.measurement.rows_hint();
        let promotes = self.promotes;
        self.settle();
        let shard = self.shard(series);
        let rows = &mut self.shards[shard];
        let row = rows.times.len();
        if row == 0 {
            rows.reserve(hint);
        }
        rows.series.push(series);
        rows.times.push(time);
        for (value, &slot) in values.zip(slots) {
            let slot = usize::from(slot);
            while rows.columns.len() <= slot {
                let field_type = self.slots[rows.columns.len()].field_type;
                rows.columns
                    .push(Column::with_capacity(field_type, rows.times.capacity()));
            }
            let column = &mut rows.columns[slot];
            if column.len() != row {
                if column.len() > row {
                    // The field twice in one point: the last value holds.
                    pop(column);
                } else {
                    column.push_missing(row - column.len());
                }
            }
            let promoted = match promotes {
                false => None,
                true => promoted(value, column.values.field_type()),
            };
            push_value(column, promoted.as_ref().unwrap_or(value));
        }
    }

    fn find_slot<'f>(&mut self, field: &Field<'f>) -> Result<usize, FieldError<'f>> {
        // Here, so that fields seen before are not asked again: none of them is called so.
        if field.key == "time" {
            return Err(FieldError::Time);
        }
        if let Some(at) = self.slots.iter().position(|slot| slot.is_called(field.key)) {
            return Ok(at);
        }
        let (id, field_type) = match self.fields.by_name(field.key) {
            Some(found) => found,
            None => self
                .measurement
                .field_or_create(field.key, self.type_of_new(&field.value))
                .ok_or(FieldError::TooMany(field.key))?,
        };
        let slot = Slot::new(field.key, id, field_type);
        if self.slots.is_empty() && field.key.len() <= SHORT_NAME {
            self.first = (slot.head, field.key.len() as u8, field_type);
        }
        self.slots.push(slot);
        Ok(self.slots.len() - 1)
    }

    /// The type that a new field gets by its first value.
    fn type_of_new(&self, value: &Value<'_>) -> FieldType {
        match type_of(value) {
            FieldType::Integer | FieldType::Unsigned
                if self.promotes && promoted(value, FieldType::Float).is_some() =>
            {
                FieldType::Float
            }
            own => own,
        }
    }

    /// Puts the newest rows to the others.
    fn settle(&mut self) {
        let first = match self.slots.first() {
            Some(slot) if !self.ones.is_empty() => slot.field_type,
            _ => return,
        };
        let mut ones = std::mem::take(&mut self.ones);
        for together in ones.chunk_by(|a, b| a.series >> STRIPE_BITS == b.series >> STRIPE_BITS) {
            let shard = self.shard(together[0].series);
            self.shards[shard].extend(together, first);
        }
        ones.clear();
        self.ones = ones;
    }

    /// Appends its rows to a batch, and is empty again, with room for as many.
    pub(super) fn pack(&mut self, into: &mut Packed) {
        self.settle();
        let longest = self.shards.iter().map(|rows| rows.times.len()).max();
        self.measurement.set_rows_hint(longest.unwrap_or(0));
        for (rows, shard) in self.shards.iter_mut().zip(0u16..) {
            let len = rows.times.len();
            if len == 0 {
                continue;
            }
            let columns = rows.columns.iter_mut().zip(&self.slots);
            let columns = columns
                .filter(|(column, _)| !column.is_empty())
                .map(|(column, slot)| {
                    column.push_missing(len - column.len());
                    (slot.id, &*column)
                });
            // Most tables have one column, or a few.
            let mut columns: SmallVec<[(FieldId, &Column); 8]> = columns.collect();
            into.push(shard, self.id, &rows.series, &rows.times, &mut columns);
            drop(columns);
            rows.clear();
        }
        self.uncommitted.clear();
    }

    /// Bytes of memory that it keeps, about.
    pub(super) fn bytes(&self) -> usize {
        let shards: usize = self.shards.iter().map(ShardRows::bytes).sum();
        let ones = self.ones.capacity() * size_of::<One>();
        size_of::<Self>() + shards + ones + self.slots.len() * 64
    }
}

#[inline]
fn type_of(value: &Value<'_>) -> FieldType {
    match value {
        Value::Float(_) => FieldType::Float,
        Value::Integer(_) => FieldType::Integer,
        Value::Unsigned(_) => FieldType::Unsigned,
        Value::Boolean(_) => FieldType::Boolean,
        Value::String(_) => FieldType::String,
    }
}

/// The bits of a number.
#[inline]
fn number_bits(value: &Value<'_>) -> Option<u64> {
    match *value {
        Value::Float(v) => Some(v.to_bits()),
        Value::Integer(v) => Some(v as u64),
        Value::Unsigned(v) => Some(v),
        Value::Boolean(_) | Value::String(_) => None,
    }
}

fn is_number(field_type: FieldType) -> bool {
    matches!(
        field_type,
        FieldType::Float | FieldType::Integer | FieldType::Unsigned
    )
}

/// A number as one of another type; none where it would be another number.
fn promoted<'a>(value: &Value<'_>, to: FieldType) -> Option<Value<'a>> {
    let whole = match *value {
        Value::Integer(v) => i128::from(v),
        Value::Unsigned(v) => i128::from(v),
        Value::Float(v) if v.fract() == 0.0 && v.abs() < 1e20 => v as i128,
        Value::Float(v) => return (to == FieldType::Float).then_some(Value::Float(v)),
        _ => return None,
    };
    match to {
        FieldType::Float => match *value {
            Value::Float(v) => Some(Value::Float(v)),
            _ => Some(whole as f64)
                .filter(|v| *v as i128 == whole)
                .map(Value::Float),
        },
        FieldType::Integer => i64::try_from(whole).ok().map(Value::Integer),
        FieldType::Unsigned => u64::try_from(whole).ok().map(Value::Unsigned),
        _ => None,
    }
}

#[inline]
fn push_value(column: &mut Column, value: &Value<'_>) {
    match (&mut column.values, value) {
        (Values::Float(to), Value::Float(v)) => to.push(*v),
        (Values::Integer(to), Value::Integer(v)) => to.push(*v),
        (Values::Unsigned(to), Value::Unsigned(v)) => to.push(*v),
        (Values::Boolean(to), Value::Boolean(v)) => to.push(*v),
        (Values::String(to), Value::String(v)) => to.push(v.as_bytes()),
        _ => unreachable!("push compared the types of slot and value"),
    }
    if let Some(present) = &mut column.present {
        present.push(true);
    }
}

fn pop(column: &mut Column) {
    match &mut column.values {
        Values::Float(v) => drop(v.pop()),
        Values::Integer(v) => drop(v.pop()),
        Values::Unsigned(v) => drop(v.pop()),
        Values::Boolean(v) => drop(v.pop()),
        Values::String(StringColumn { ends, bytes }) => {
            ends.pop();
            bytes.truncate(ends.last().map_or(0, |&end| end as usize));
        }
    }
    if let Some(present) = &mut column.present {
        *present = Bitmap::from_words(std::mem::take(present).words().to_vec(), column.values.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::model::FieldValue;
    use proptest::prelude::*;

    fn measurement() -> Arc<Measurement> {
        let catalog = Catalog::new();
        catalog.create_database("d", None).expect("a good name");
        let database = catalog.database("d").expect("just made");
        let policy = database.policy(None).expect("made with it").id;
        catalog.measurement_or_create(policy, "m").expect("a good name")
    }

    #[test]
    fn rows_of_one_field_find_their_row_and_their_name() {
        let mut table = MeasurementTable::new(measurement(), 1, false);
        for (time, name) in ["v", "w", "v", "\0v"].into_iter().enumerate() {
            let fields = [Field::new(name, Value::Float(time as f64))];
            assert!(table.push(0, time as i64, &fields).is_ok());
        }
        let lens: Vec<usize> = table.shards[0].columns.iter().map(Column::len).collect();
        assert_eq!((table.slots.len(), lens), (3, vec![3, 2, 4]));
    }

    /// The fields of a row, by number: which has which type never changes.
    fn row() -> impl Strategy<Value = Vec<usize>> {
        prop_oneof![
            12 => (0..4usize).prop_map(|field| vec![field]),
            1 => Just(vec![0]),
            1 => prop::collection::vec(0..5usize, 1..4),
        ]
    }

    fn value(field: usize, row: usize) -> FieldValue {
        match field {
            0 => FieldValue::Float(-0.5 - row as f64),
            1 => FieldValue::Integer(-(row as i64)),
            2 => FieldValue::Unsigned(u64::MAX - row as u64),
            3 => FieldValue::Boolean(row.is_multiple_of(3)),
            _ => FieldValue::String(format!("s{row}")),
        }
    }

    proptest! {
        #[test]
        fn names_are_known_by_all_their_bytes(known in "[ab\0]{0,10}", name in "[ab\0]{0,10}") {
            let slot = Slot::new(&known, 0, FieldType::Float);
            prop_assert_eq!(slot.is_called(&name), known == name);
            prop_assert!(slot.is_called(&known));
            let mut table = MeasurementTable::new(measurement(), 1, false);
            let field = |name| [Field::new(name, Value::Float(1.0))];
            prop_assert!(table.push(0, 0, &field(&known)).is_ok() && table.push(0, 1, &field(&name)).is_ok());
            prop_assert_eq!(table.slots.len(), if known == name { 1 } else { 2 });
            prop_assert_eq!(table.is_first(&field(&known)[0]), true);
            prop_assert_eq!(table.is_first(&field(&name)[0]), known == name);
        }

        /// Rows of one number wait apart from the others, and are none the worse for it.
        #[test]
        fn every_row_has_its_values(rows in prop::collection::vec((row(), 0..300u32, 1..=ONES_MAX), 0..30)) {
            let mut table = MeasurementTable::new(measurement(), 3, false);
            let mut pushed: [Vec<(SeriesId, Vec<usize>, usize)>; 3] = Default::default();
            let rows = rows.into_iter().flat_map(|(fields, series, times)| std::iter::repeat_n((fields, series), times));
            for (at, (fields, series)) in rows.enumerate() {
                let values: Vec<FieldValue> = fields.iter().map(|field| value(*field, at)).collect();
                let names: Vec<String> = fields.iter().map(|field| format!("f{field}")).collect();
                let fields_of = names.iter().zip(&values).map(|(name, value)| Field::new(name, match value {
                    FieldValue::Float(v) => Value::Float(*v),
                    FieldValue::Integer(v) => Value::Integer(*v),
                    FieldValue::Unsigned(v) => Value::Unsigned(*v),
                    FieldValue::Boolean(v) => Value::Boolean(*v),
                    FieldValue::String(v) => Value::String(v),
                }));
                let given: Vec<Field<'_>> = fields_of.collect();
                prop_assert!(table.push(series, at as i64, &given).is_ok());
                pushed[usize::from(shard_of(table.id, series, 3))].push((series, fields, at));
            }
            table.settle();
            for (rows, pushed) in table.shards.iter().zip(pushed) {
                prop_assert_eq!(rows.times.len(), pushed.len());
                for (row, (series, fields, at)) in pushed.into_iter().enumerate() {
                    prop_assert_eq!((rows.series[row], rows.times[row]), (series, at as i64));
                    for field in 0..5 {
                        let slot = table.slots.iter().position(|slot| *slot.name == format!("f{field}"));
                        let column = slot.and_then(|slot| rows.columns.get(slot));
                        let got = column.filter(|column| row < column.len()).and_then(|column| column.get(row));
                        prop_assert_eq!(got, fields.contains(&field).then(|| value(field, at)));
                    }
                }
            }
        }
    }
}
