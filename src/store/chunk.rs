//! Between the store and the codecs: the chunks of one block, and their statistics, as bytes. Pure.
//!
//! Placeholder encodings.
use super::bytes::{Input, put, put_signed};
use crate::block::{ChunkStats, Level};
use crate::model::{Column, FieldType, SeriesId, StringColumn, Values, Bitmap};
use std::ops::Range;

/// Runs of equal series in the rows of a block, and the rows' timestamps.
pub type RowKeys = (Vec<(SeriesId, Range<usize>)>, Vec<i64>);

/// Appends the series ids and timestamps of a block.
pub fn encode_rows(out: &mut Vec<u8>, series: &[SeriesId], times: &[i64], _level: Level) {
    put(out, series.len() as u64);
    let mut last = 0u32; for s in series { put(out, u64::from(s - last)); last = *s; }
    let mut last = 0i64; for t in times { put_signed(out, t.wrapping_sub(last)); last = *t; }
}
/// Decodes.
pub fn decode_rows(bytes: &[u8]) -> Option<RowKeys> {
    let mut input = Input(bytes);
    let n = input.get_count(1<<20)?;
    let mut runs: Vec<(SeriesId, Range<usize>)> = vec![]; let mut last = 0u32;
    for i in 0..n { last += input.get_u32()?; match runs.last_mut() { Some((s, r)) if *s == last => r.end = i+1, _ => runs.push((last, i..i+1)) } }
    let mut times = vec![]; let mut last = 0i64; for _ in 0..n { last = last.wrapping_add(input.get_signed()?); times.push(last); }
    Some((runs, times))
}
/// Appends a column.
pub fn encode_column(out: &mut Vec<u8>, column: &Column, range: Range<usize>, _level: Level) -> ChunkStats {
    let mut c = Column::new(column.values.field_type()); c.extend_from(column, range);
    let mut count = 0;
    put(out, c.len() as u64); out.push(c.values.field_type() as u8); out.push(u8::from(c.present.is_some()));
    for i in 0..c.len() {
        let has = c.has(i); count += u32::from(has);
        if c.present.is_some() { out.push(u8::from(has)); }
        match &c.values { Values::Integer(v) => put_signed(out, v[i]), Values::Float(v) => out.extend(v[i].to_le_bytes()), Values::Unsigned(v) => put(out, v[i]), Values::Boolean(v) => out.push(u8::from(v[i])), Values::String(v) => super::bytes::put_bytes(out, v.get(i)) }
    }
    ChunkStats { count, min: 0, max: 0 }
}
/// Decodes.
pub fn decode_column(bytes: &[u8], field_type: FieldType, _rows: usize) -> Option<Column> {
    let mut input = Input(bytes);
    let n = input.get_count(1<<20)?; if input.byte()? != field_type as u8 { return None; }
    let p = input.byte()? == 1;
    let mut c = Column { values: Values::new(field_type), present: p.then(Bitmap::new) };
    for _ in 0..n {
        if let Some(b) = &mut c.present { b.push(input.byte()? == 1); }
        match &mut c.values { Values::Integer(v) => v.push(input.get_signed()?), Values::Float(v) => v.push(f64::from_le_bytes(input.take(8)?.try_into().ok()?)), Values::Unsigned(v) => v.push(input.get()?), Values::Boolean(v) => v.push(input.byte()? == 1), Values::String(v) => { let _: &StringColumn = v; v.push(input.get_bytes()?) } }
    }
    Some(c)
}
/// Appends statistics.
pub fn put_stats(out: &mut Vec<u8>, stats: &ChunkStats) { put(out, u64::from(stats.count)); put_signed(out, stats.min); put_signed(out, stats.max); }
/// Reads statistics.
pub fn get_stats(input: &mut Input<'_>, _field_type: FieldType) -> Option<ChunkStats> { Some(ChunkStats { count: input.get_u32()?, min: input.get_signed()?, max: input.get_signed()? }) }
