//! A chunk: the values of one field in the rows of a block. Rows without a value take a bit each, and no value.

use super::bytes::{Input, put};
use super::{CHUNK_ROWS_MAX, ChunkStats, Level, floats, ints, strings};
use crate::model::{Bitmap, Column, FieldType, StringColumn, Values};
use std::ops::Range;

const ALL_PRESENT: u8 = 0;
const SOME_PRESENT: u8 = 1;

/// Appends some rows of a column; their statistics come back.
pub fn encode_column(column: &Column, range: Range<usize>, level: Level, out: &mut Vec<u8>) -> ChunkStats {
    let stats = ChunkStats::of(column, range.clone());
    encode_series_chunk(column, range, &[0], level, out);
    stats
}

/// Appends some rows of a column, which are of several series one after the other: `starts` says where each of them begins, the first at 0.
/// To be read with the same starts, by [`decode_series_column`].
pub fn encode_series_chunk(
    column: &Column,
    range: Range<usize>,
    starts: &[u32],
    level: Level,
    out: &mut Vec<u8>,
) {
    put(out, range.len() as u64);
    if column.present.is_none() || range.clone().all(|row| column.has(row)) {
        out.push(ALL_PRESENT);
        encode_values(&column.values, range, starts, level, out);
    } else {
        out.push(SOME_PRESENT);
        let mut present = Bitmap::new();
        range.clone().for_each(|i| present.push(column.has(i)));
        put_bits(&present, out);
        let rows: Vec<u32> = range.filter(|&i| column.has(i)).map(|i| i as u32).collect();
        let values = column.values.gather(&rows);
        let all = 0..values.len();
        encode_values(&values, all, &[0], level, out);
    }
}

fn encode_values(values: &Values, range: Range<usize>, starts: &[u32], level: Level, out: &mut Vec<u8>) {
    match values {
        Values::Float(v) => floats::encode_series(&v[range], starts, level, out),
        Values::Integer(v) => ints::encode_series(&v[range], starts, level, out),
        Values::Unsigned(v) => {
            let bits: Vec<i64> = v[range].iter().map(|&v| v as i64).collect();
            ints::encode_series(&bits, starts, level, out);
        }
        Values::Boolean(v) => {
            let mut bits = Bitmap::new();
            v[range].iter().for_each(|&v| bits.push(v));
            put_bits(&bits, out);
        }
        Values::String(v) if range.len() == v.len() => strings::encode(v, level, out),
        Values::String(v) => {
            let mut part = StringColumn::default();
            range.for_each(|i| part.push(v.get(i)));
            strings::encode(&part, level, out);
        }
    }
}

/// Reads a chunk of a field of this type.
pub fn decode_column(bytes: &[u8], field_type: FieldType) -> Option<Column> {
    decode_series_column(bytes, field_type, &[0])
}

/// Reads a chunk of rows of several series; see [`encode_series_chunk`].
pub fn decode_series_column(bytes: &[u8], field_type: FieldType, starts: &[u32]) -> Option<Column> {
    let mut input = Input(bytes);
    let rows = input.get_count(CHUNK_ROWS_MAX)?;
    let present = match input.byte()? {
        ALL_PRESENT => None,
        SOME_PRESENT => Some(get_bits(&mut input, rows)?),
        _ => return None,
    };
    let count = present.as_ref().map_or(rows, Bitmap::count_ones);
    let starts = if present.is_none() { starts } else { &[0] };
    let mut values = match field_type {
        FieldType::Float => Values::Float(floats::decode_series(&mut input, count, starts)?),
        FieldType::Integer => Values::Integer(ints::decode_series(&mut input, count, starts)?),
        FieldType::Unsigned => {
            let bits = ints::decode_series(&mut input, count, starts)?;
            Values::Unsigned(bits.into_iter().map(|v| v as u64).collect())
        }
        FieldType::String => Values::String(strings::decode(&mut input, count)?),
        FieldType::Boolean => {
            let bits = get_bits(&mut input, count)?;
            Values::Boolean((0..count).map(|i| bits.get(i)).collect())
        }
    };
    if !input.is_empty() {
        return None;
    }
    if let Some(present) = &present {
        values = spread(&values, present);
    }
    Some(Column { values, present })
}

/// Puts values where the bits are set, defaults elsewhere.
fn spread(values: &Values, present: &Bitmap) -> Values {
    let mut out = Values::new(values.field_type());
    let mut rows = 0;
    for (from, row) in present.iter_ones().enumerate() {
        out.push_defaults(row - rows);
        out.push_from(values, from);
        rows = row + 1;
    }
    out.push_defaults(present.len() - rows);
    out
}

fn put_bits(bits: &Bitmap, out: &mut Vec<u8>) {
    let bytes = bits.words().iter().flat_map(|word| word.to_le_bytes());
    out.extend(bytes.take(bits.len().div_ceil(8)));
}

fn get_bits(input: &mut Input<'_>, count: usize) -> Option<Bitmap> {
    let bytes = input.take(count.div_ceil(8))?;
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    };
    Some(Bitmap::from_words(bytes.chunks(8).map(word).collect(), count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldValue;
    use proptest::prelude::*;

    fn column(field_type: FieldType, values: &[Option<i64>]) -> Column {
        let mut column = Column::new(field_type);
        for value in values {
            let Some(n) = *value else {
                column.push_missing(1);
                continue;
            };
            match &mut column.values {
                Values::Float(v) => v.push(n as f64 / 8.0),
                Values::Integer(v) => v.push(n),
                Values::Unsigned(v) => v.push(n as u64),
                Values::String(v) => v.push(n.to_string().as_bytes()),
                Values::Boolean(v) => v.push(n % 2 == 0),
            }
            if let Some(present) = &mut column.present {
                present.push(true);
            }
        }
        column
    }

    fn read(column: &Column) -> Vec<Option<FieldValue>> {
        (0..column.len()).map(|i| column.get(i)).collect()
    }

    proptest! {
        #[test]
        fn any_column_round_trips(
            values in prop::collection::vec(prop::option::weighted(0.8, prop_oneof![0i64..9, any::<i64>()]), 1..200),
            code in 0u8..5, cut in 0usize..50, small in any::<bool>(),
        ) {
            let field_type = FieldType::from_code(code).expect("0 to 4 are types");
            let whole = column(field_type, &values);
            let range = cut.min(values.len() - 1)..values.len();
            let mut bytes = Vec::new();
            let level = if small { Level::Small } else { Level::Fast };
            let stats = encode_column(&whole, range.clone(), level, &mut bytes);
            let back = decode_column(&bytes, field_type).expect("it was just encoded");
            prop_assert_eq!(read(&back), &read(&whole)[range.clone()]);
            prop_assert_eq!(stats.count as usize, values[range].iter().flatten().count());
            let mut stored = Vec::new();
            stats.put(&mut stored);
            prop_assert_eq!(ChunkStats::get(&mut Input(&stored), field_type), Some(stats));
            bytes.pop();
            prop_assert!(decode_column(&bytes, field_type).is_none());
        }

        #[test]
        fn damage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), code in 0u8..5) {
            let _ = decode_column(&bytes, FieldType::from_code(code).expect("0 to 4 are types"));
        }
    }
}
