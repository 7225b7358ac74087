//! Puts gathered rows in order and gives them away, a piece at a time.

use super::Prepared;
use super::raw::{Chunk, ChunkColumn, Gathered, Stretch};
use crate::model::{Bitmap, Column, FieldType, Values};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::{Coded, Give, Piece, ResultColumn, Series};
use crate::query::value::Value;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of a piece; fewer, if they are long.
const PIECE_ROWS: usize = 4096;
/// About so many bytes of memory are in a piece.
const PIECE_BYTES: usize = 1 << 20;

/// Where a row is.
#[derive(Clone, Copy)]
struct RowAt {
    time: i64,
    stretch: u32,
    row: u32,
}

/// Gives all series away.
///
/// # Errors
/// Cancelled.
pub fn give(
    ctx: &Context<'_>,
    name: &str,
    prepared: &Prepared,
    rows: Gathered<'_>,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let names = prepared.names();
    let mut by_group: Vec<u32> = (0..rows.stretches.len() as u32).collect();
    by_group.sort_unstable_by_key(|&s| {
        let stretch = &rows.stretches[s as usize];
        (stretch.group, stretch.order, stretch.chunk, stretch.place)
    });
    let mut of_group: HashMap<u32, &[u32]> = HashMap::new();
    for stretches in
        by_group.chunk_by(|a, b| rows.stretches[*a as usize].group == rows.stretches[*b as usize].group)
    {
        of_group.insert(rows.stretches[stretches[0] as usize].group, stretches);
    }
    let texts = Texts::new(prepared, &rows);
    let piece_rows = (PIECE_BYTES / rows.bytes_per_row().max(1)).clamp(1, PIECE_ROWS);
    let mut held = ctx.resources.memory.held();
    let mut groups = rows.groups.sorted();
    if !prepared.ascending {
        groups.reverse();
    }
    for group in groups {
        let Some(stretches) = of_group.get(&group) else {
            continue;
        };
        ctx.check()?;
        let order = order(&rows, stretches, prepared);
        held.set(order.capacity() * size_of::<RowAt>() + by_group.len() * 24)?;
        let key = rows.groups.key(group);
        let tags: Vec<(String, String)> = prepared
            .dimensions
            .iter()
            .zip(key)
            .map(|(dimension, value)| (dimension.clone(), value.to_string()))
            .collect();
        let pieces = order.len().div_ceil(piece_rows);
        for (number, piece) in order.chunks(piece_rows).enumerate() {
            ctx.check()?;
            let values = (0..prepared.columns.len()).map(|column| texts.column(&rows, column, piece));
            let series = Series {
                name: name.to_string(),
                tags: tags.clone(),
                columns: names.clone(),
                times: piece.iter().map(|at| at.time).collect(),
                values: values.collect(),
            };
            let goes_on = number + 1 < pieces;
            if give(Piece { series, goes_on }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The wanted rows of a group, in the order of the result.
fn order(rows: &Gathered<'_>, stretches: &[u32], prepared: &Prepared) -> Vec<RowAt> {
    let of = |s: u32| -> (&Stretch, &Chunk) {
        let stretch = &rows.stretches[s as usize];
        (stretch, &rows.chunks[stretch.chunk as usize])
    };
    let total = stretches
        .iter()
        .map(|&s| (of(s).0.end - of(s).0.start) as usize)
        .sum();
    let mut order: Vec<RowAt> = Vec::with_capacity(total);
    for &s in stretches {
        let (stretch, chunk) = of(s);
        order.extend((stretch.start..stretch.end).map(|row| RowAt {
            time: chunk.times[row as usize],
            stretch: s,
            row,
        }));
    }
    // Rows of equal time keep the order of their series.
    if !order.is_sorted_by_key(|at| at.time) {
        order.sort_by_key(|at| at.time);
    }
    if !prepared.ascending {
        order.reverse();
    }
    let skip = usize::try_from(prepared.offset)
        .unwrap_or(usize::MAX)
        .min(order.len());
    order.drain(..skip);
    if prepared.limit > 0 {
        order.truncate(usize::try_from(prepared.limit).unwrap_or(usize::MAX));
    }
    order
}

/// The texts of tag columns, each once, and which of them each stretch has.
struct Texts {
    /// By column of the result; `None` where no chunk has a tag there.
    columns: Vec<Option<TextColumn>>,
}

struct TextColumn {
    /// By stretch.
    codes: Vec<u32>,
    texts: Arc<[Option<Arc<str>>]>,
}

impl Texts {
    fn new(prepared: &Prepared, rows: &Gathered<'_>) -> Self {
        let columns = (0..prepared.columns.len()).map(|column| {
            let tag = |chunk: &Chunk| matches!(chunk.columns[column], ChunkColumn::Tag(_));
            // In one input a tag, in another a field: value by value.
            if rows.chunks.is_empty() || !rows.chunks.iter().all(tag) {
                return None;
            }
            let mut texts: Vec<Option<Arc<str>>> = vec![None];
            let mut known: HashMap<&str, u32> = HashMap::new();
            let mut codes = Vec::with_capacity(rows.stretches.len());
            for stretch in &rows.stretches {
                let ChunkColumn::Tag(tags) = &rows.chunks[stretch.chunk as usize].columns[column] else {
                    continue;
                };
                codes.push(match &tags[stretch.place as usize] {
                    None => 0,
                    Some(text) => *known.entry(text).or_insert_with(|| {
                        texts.push(Some(text.clone()));
                        texts.len() as u32 - 1
                    }),
                });
            }
            Some(TextColumn {
                codes,
                texts: texts.into(),
            })
        });
        Self {
            columns: columns.collect(),
        }
    }

    /// A column of the result in some rows.
    fn column(&self, rows: &Gathered<'_>, column: usize, order: &[RowAt]) -> ResultColumn {
        if let Some(texts) = &self.columns[column] {
            return ResultColumn::Coded(Coded {
                codes: order.iter().map(|at| texts.codes[at.stretch as usize]).collect(),
                texts: texts.texts.clone(),
            });
        }
        let place = |at: &RowAt| {
            let stretch = &rows.stretches[at.stretch as usize];
            (
                &rows.chunks[stretch.chunk as usize].columns[column],
                stretch.place,
            )
        };
        let values = |at: &RowAt| match place(at).0 {
            ChunkColumn::Values(column) => column.as_ref(),
            ChunkColumn::Tag(_) => None,
        };
        let mut types = order.iter().filter_map(|at| match place(at).0 {
            ChunkColumn::Values(Some(column)) => Some(Some(column.values.field_type())),
            ChunkColumn::Values(None) => None,
            ChunkColumn::Tag(_) => Some(None),
        });
        let first = types.next();
        match first {
            None => ResultColumn::nulls(order.len()),
            Some(Some(field_type)) if types.all(|t| t == Some(field_type)) => {
                ResultColumn::Typed(typed(field_type, order, &values))
            }
            Some(_) => {
                let mut out = ResultColumn::default();
                for at in order {
                    out.push(match place(at) {
                        (ChunkColumn::Values(Some(column)), _) => Value::of_column(column, at.row as usize),
                        (ChunkColumn::Values(None), _) => Value::Null,
                        (ChunkColumn::Tag(tags), place) => {
                            tags[place as usize].clone().map_or(Value::Null, Value::String)
                        }
                    });
                }
                out
            }
        }
    }
}

fn typed<'r>(
    field_type: FieldType,
    order: &[RowAt],
    column: &dyn Fn(&RowAt) -> Option<&'r Column>,
) -> Column {
    let mut present = Bitmap::new();
    let mut gaps = false;
    let mut has = |at: &RowAt, column: Option<&'r Column>| {
        let has = column.is_some_and(|c| c.has(at.row as usize));
        gaps |= !has;
        present.push(has);
    };
    macro_rules! gather {
        ($variant:ident) => {
            Values::$variant(
                order
                    .iter()
                    .map(|at| {
                        let column = column(at);
                        has(at, column);
                        match column.map(|c| &c.values) {
                            Some(Values::$variant(v)) => v[at.row as usize],
                            _ => Default::default(),
                        }
                    })
                    .collect(),
            )
        };
    }
    let values = match field_type {
        FieldType::Float => gather!(Float),
        FieldType::Integer => gather!(Integer),
        FieldType::Unsigned => gather!(Unsigned),
        FieldType::Boolean => gather!(Boolean),
        FieldType::String => {
            let mut texts = crate::model::StringColumn::default();
            for at in order {
                let column = column(at);
                has(at, column);
                match column.map(|c| &c.values) {
                    Some(Values::String(v)) => texts.push(v.get(at.row as usize)),
                    _ => texts.push(b""),
                }
            }
            Values::String(texts)
        }
    };
    Column {
        values,
        present: gaps.then_some(present),
    }
}
