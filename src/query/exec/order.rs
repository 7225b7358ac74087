//! Puts gathered rows in order and gives them away, a piece at a time. Many rows are cut by time, and several cuts are put in
//! order at once, each by whoever is free.
//!
//! Rows of equal time come in the order of the tags that are selected, and where that decides nothing, in that of their series.

use super::Prepared;
use super::paged::Paged;
use super::raw::{Chunk, ChunkColumn, Gathered, Stretch};
use super::work;
use crate::model::{Bitmap, Column, FieldType, Values};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::node::Node;
use crate::query::result::{Coded, Give, ResultColumn, Series};
use crate::query::value::Value;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of a piece; fewer, if they are long.
const PIECE_ROWS: usize = 1024;
/// About so many bytes of memory are in a piece.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that are put in order together.
const CUT_PIECES: usize = 8;
/// Cuts that are put in order before the first of them is given away.
const CUTS_PER_ROUND: usize = 8;
/// The pieces of a round take at most this share of the budget.
const BUDGET_SHARE: usize = 16;
/// Rows that are looked at to find where to cut, for each cut.
const SAMPLES: usize = 16;

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
/// Cancelled; the order takes more memory than there is.
pub fn give(
    ctx: &Context<'_>,
    name: &str,
    prepared: &Prepared,
    rows: Gathered<'_>,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let mut held = ctx.resources.memory.held();
    held.set(rows.stretches.len() * (24 + prepared.columns.len() * 16))?;
    let of_series = OfSeries::new(prepared, &rows);
    let mut by_group: Vec<u32> = (0..rows.stretches.len() as u32).collect();
    by_group.sort_unstable_by_key(|&s| {
        let stretch = &rows.stretches[s as usize];
        let rank = of_series.ranks[of_series.numbers[s as usize] as usize];
        (stretch.group, rank, stretch.chunk, stretch.place)
    });
    let mut of_group: HashMap<u32, &[u32]> = HashMap::new();
    for stretches in
        by_group.chunk_by(|a, b| rows.stretches[*a as usize].group == rows.stretches[*b as usize].group)
    {
        of_group.insert(rows.stretches[stretches[0] as usize].group, stretches);
    }
    let bytes = rows.bytes_per_row().max(1);
    let round = ctx.resources.memory.bytes_max() / BUDGET_SHARE / CUTS_PER_ROUND / CUT_PIECES;
    let names = prepared.names();
    let mut groups = rows.groups.sorted();
    if !prepared.ascending {
        groups.reverse();
    }
    for group in groups {
        let Some(&stretches) = of_group.get(&group) else {
            continue;
        };
        ctx.check()?;
        let key = rows.groups.key(group);
        let tags = prepared.dimensions.iter().zip(key);
        let group = OfGroup {
            ctx,
            prepared,
            rows: &rows,
            of_series: &of_series,
            stretches,
            piece_rows: (PIECE_BYTES.min(round) / bytes).clamp(1, PIECE_ROWS),
            empty: Series {
                name: name.to_string(),
                tags: tags
                    .map(|(tag, value)| (tag.clone(), value.to_string()))
                    .collect(),
                columns: names.clone(),
                ..Series::default()
            },
        };
        if group.give(give)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The rows of one group.
struct OfGroup<'a> {
    ctx: &'a Context<'a>,
    prepared: &'a Prepared,
    rows: &'a Gathered<'a>,
    of_series: &'a OfSeries<'a>,
    /// In the order of their ranks.
    stretches: &'a [u32],
    piece_rows: usize,
    /// Its name, tags and columns.
    empty: Series,
}

impl OfGroup<'_> {
    fn give(&self, give: &mut Give<'_>) -> Result<ControlFlow<()>, QueryError> {
        let total: usize = self.stretches.iter().map(|&s| self.of(s).0.len()).sum();
        let times: Vec<&[i64]> = self.stretches.iter().map(|&s| self.times(s)).collect();
        let mut edges = edges(&times, self.piece_rows * CUT_PIECES);
        drop(times);
        if !self.prepared.ascending {
            edges.reverse();
        }
        let mut paged = Paged::new(self.prepared);
        if let [all] = edges[..] {
            let order = self.order(all);
            for piece in order.chunks(self.piece_rows) {
                if paged.take(self.piece(piece), give).is_break() {
                    break;
                }
            }
            return Ok(paged.last(give));
        }
        let helpers = work::helpers(total as u64, self.prepared.columns.len());
        for round in edges.chunks(CUTS_PER_ROUND) {
            let make = || (Vec::new(), self.ctx.resources.memory.held());
            let workers = self.ctx.resources.workers;
            let made = workers.run(round.len(), helpers, make, |(made, held), cut| {
                self.ctx.check()?;
                let order = self.order(round[cut]);
                held.set(order.capacity() * size_of::<RowAt>())?;
                let pieces = order.chunks(self.piece_rows).map(|rows| self.piece(rows));
                made.push((cut, pieces.collect()));
                Ok::<(), QueryError>(())
            })?;
            let mut made: Vec<(usize, Vec<Series>)> = made.into_iter().flat_map(|(made, _)| made).collect();
            made.sort_unstable_by_key(|(cut, _)| *cut);
            for series in made.into_iter().flat_map(|(_, pieces)| pieces) {
                self.ctx.check()?;
                if paged.take(series, give).is_break() {
                    return Ok(paged.last(give));
                }
            }
        }
        Ok(paged.last(give))
    }

    fn of(&self, stretch: u32) -> (&Stretch, &Chunk) {
        let stretch = &self.rows.stretches[stretch as usize];
        (stretch, &self.rows.chunks[stretch.chunk as usize])
    }

    /// The times of a stretch, which ascend.
    fn times(&self, stretch: u32) -> &[i64] {
        let (stretch, chunk) = self.of(stretch);
        &chunk.times[stretch.start as usize..stretch.end as usize]
    }

    /// The rows of a cut, in the order of the result.
    fn order(&self, (from, to): (i64, Option<i64>)) -> Vec<RowAt> {
        let mut order: Vec<RowAt> = Vec::new();
        for &s in self.stretches {
            let times = self.times(s);
            let start = times.partition_point(|&time| time < from);
            let end = match to {
                None => times.len(),
                Some(to) => start + times[start..].partition_point(|&time| time < to),
            };
            let first = self.rows.stretches[s as usize].start;
            let row = |(time, row): (&i64, usize)| RowAt {
                time: *time,
                stretch: s,
                row: first + row as u32,
            };
            order.extend(times[start..end].iter().zip(start..end).map(row));
        }
        // Rows of equal time keep the order of their stretches.
        if !order.is_sorted_by_key(|at| at.time) {
            order.sort_by_key(|at| at.time);
        }
        if !self.prepared.ascending {
            order.reverse();
        }
        order
    }

    fn piece(&self, order: &[RowAt]) -> Series {
        let chunk = |at: &RowAt| self.rows.stretches[at.stretch as usize].chunk;
        let chunks: Vec<u32> = order.iter().map(chunk).collect();
        // Tags of the same series have the same codes.
        let mut codes: Option<Arc<Vec<u32>>> = None;
        let number = |at: &RowAt| self.of_series.numbers[at.stretch as usize];
        let mut codes = || {
            let made = || Arc::new(order.iter().map(number).collect());
            codes.get_or_insert_with(made).clone()
        };
        let plain = |values: Values| {
            ResultColumn::Typed(Column {
                values,
                present: None,
            })
        };
        let values = self
            .of_series
            .columns
            .iter()
            .enumerate()
            .map(|(c, column)| match column {
                OfColumn::Tag(texts) => ResultColumn::Coded(Coded {
                    codes: codes(),
                    texts: texts.clone(),
                }),
                OfColumn::Floats(values) => plain(Values::Float(gathered(values, &chunks, order))),
                OfColumn::Integers(values) => plain(Values::Integer(gathered(values, &chunks, order))),
                OfColumn::Other => any_column(self.rows, c, order),
            });
        Series {
            times: order.iter().map(|at| at.time).collect(),
            values: values.collect(),
            ..self.empty.clone()
        }
    }
}

/// Ranges of time, ascending, from the first up to before the second, that all have some of the rows whose times these are, and
/// about so many.
fn edges(stretches: &[&[i64]], rows: usize) -> Vec<(i64, Option<i64>)> {
    let total: usize = stretches.iter().map(|times| times.len()).sum();
    let cuts = total.div_ceil(rows.max(1));
    let mut samples = Vec::new();
    if cuts > 1 {
        let every = (total / (cuts * SAMPLES)).max(1);
        let mut next = 0;
        for times in stretches {
            while let Some(time) = times.get(next) {
                samples.push(*time);
                next += every;
            }
            next -= times.len();
        }
        samples.sort_unstable();
    }
    // A cut begins at a row, and the first one has the least, so none is without rows.
    let per_cut = samples.len().div_ceil(cuts.max(1)).max(1);
    let mut starts: Vec<i64> = samples.iter().step_by(per_cut).skip(1).copied().collect();
    starts.dedup();
    starts.retain(|start| samples.first() < Some(start));
    let ends = starts.iter().copied().map(Some).chain([None]);
    let firsts = [i64::MIN].into_iter().chain(starts.iter().copied());
    firsts.zip(ends).collect()
}

/// Values of several chunks in some rows.
fn gathered<T: Copy>(values: &[&[T]], chunks: &[u32], order: &[RowAt]) -> Vec<T> {
    let at = chunks.iter().zip(order);
    at.map(|(&chunk, at)| values[chunk as usize][at.row as usize])
        .collect()
}

/// What the rows of a series have in common, and where the values of columns are.
struct OfSeries<'a> {
    /// By stretch: the number of its series.
    numbers: Vec<u32>,
    /// By number: its place among rows of equal time.
    ranks: Vec<u32>,
    /// By column of the result.
    columns: Vec<OfColumn<'a>>,
}

/// Texts by number of series.
type Texts = Arc<[Option<Arc<str>>]>;

enum OfColumn<'a> {
    /// A tag in every chunk.
    Tag(Texts),
    /// Numbers by chunk, one in every row.
    Floats(Vec<&'a [f64]>),
    Integers(Vec<&'a [i64]>),
    /// Whatever else.
    Other,
}

impl<'a> OfSeries<'a> {
    fn new(prepared: &Prepared, rows: &'a Gathered<'_>) -> Self {
        let mut order: Vec<u32> = (0..rows.stretches.len() as u32).collect();
        order.sort_unstable_by_key(|&s| rows.stretches[s as usize].order);
        let mut numbers = vec![0; order.len()];
        // A stretch of each series.
        let mut firsts: Vec<u32> = Vec::new();
        for s in order {
            let of = |s: u32| rows.stretches[s as usize].order;
            if firsts.last().is_none_or(|&last| of(last) != of(s)) {
                firsts.push(s);
            }
            numbers[s as usize] = firsts.len() as u32 - 1;
        }
        let columns = (0..prepared.columns.len()).map(|column| of_column(rows, &firsts, column));
        let columns: Vec<OfColumn<'_>> = columns.collect();
        Self {
            ranks: ranks(prepared, rows, &firsts, &columns),
            numbers,
            columns,
        }
    }
}

fn of_column<'a>(rows: &'a Gathered<'_>, firsts: &[u32], column: usize) -> OfColumn<'a> {
    let of = |chunk: &'a Chunk| &chunk.columns[column];
    let every = |test: &dyn Fn(&ChunkColumn) -> bool| rows.chunks.iter().all(|chunk| test(of(chunk)));
    if every(&|column| matches!(column, ChunkColumn::Tag(_))) {
        let text = |s: &u32| {
            let stretch = &rows.stretches[*s as usize];
            match of(&rows.chunks[stretch.chunk as usize]) {
                ChunkColumn::Tag(tags) => tags[stretch.place as usize].clone(),
                ChunkColumn::Values(_) => None,
            }
        };
        return OfColumn::Tag(firsts.iter().map(text).collect());
    }
    macro_rules! full {
        ($variant:ident, $kind:ident) => {{
            let values = |chunk: &'a Chunk| match of(chunk) {
                ChunkColumn::Values(Some(Column {
                    values: Values::$variant(values),
                    present: None,
                })) => Some(&values[..]),
                _ => None,
            };
            let all: Option<Vec<_>> = rows.chunks.iter().map(values).collect();
            if let Some(all) = all {
                return OfColumn::$kind(all);
            }
        }};
    }
    full!(Integer, Integers);
    full!(Float, Floats);
    OfColumn::Other
}

/// A column of any kind in some rows.
fn any_column(rows: &Gathered<'_>, column: usize, order: &[RowAt]) -> ResultColumn {
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

/// The places of series among those of their group: by the tags that are selected, in the order of their names, as InfluxDB has
/// it; then by number.
fn ranks(prepared: &Prepared, rows: &Gathered<'_>, firsts: &[u32], columns: &[OfColumn<'_>]) -> Vec<u32> {
    let name = |column: usize| match &prepared.columns[column].1 {
        Node::Ref(number, _) => prepared.refs.list()[*number].name.as_str(),
        _ => "",
    };
    let columns = columns.iter().enumerate();
    let tags = columns.filter_map(|(at, column)| match column {
        OfColumn::Tag(texts) => Some((name(at), texts)),
        OfColumn::Floats(_) | OfColumn::Integers(_) | OfColumn::Other => None,
    });
    let mut tags: Vec<(&str, &Texts)> = tags.collect();
    tags.sort_by_key(|(name, _)| *name);
    let group = |number: u32| rows.stretches[firsts[number as usize] as usize].group;
    let mut order: Vec<u32> = (0..firsts.len() as u32).collect();
    if !tags.is_empty() {
        // Stable: equal ones keep the order of their numbers.
        order.sort_by(|&a, &b| {
            let texts = |(_, texts): &(&str, &Texts)| texts[a as usize].cmp(&texts[b as usize]);
            let of_tags = || tags.iter().map(texts).find(|order| order.is_ne());
            let of_groups = group(a).cmp(&group(b));
            of_groups.then_with(|| of_tags().unwrap_or(Ordering::Equal))
        });
    }
    let mut ranks = vec![0; firsts.len()];
    let places = order.into_iter().zip(0..);
    places.for_each(|(number, rank)| ranks[number as usize] = rank);
    ranks
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cuts_have_all_rows_each_once_and_none_is_empty(
            mut stretches in prop::collection::vec(prop::collection::vec(-60i64..60, 1..40), 1..30), rows in 1usize..50,
        ) {
            stretches.iter_mut().for_each(|times| times.sort_unstable());
            let times: Vec<&[i64]> = stretches.iter().map(Vec::as_slice).collect();
            let edges = edges(&times, rows);
            prop_assert_eq!((edges[0].0, edges[edges.len() - 1].1), (i64::MIN, None));
            prop_assert!(edges.windows(2).all(|pair| pair[0].1 == Some(pair[1].0)));
            let total = stretches.concat().len();
            for (from, to) in &edges {
                let inside = |time: &&i64| *from <= **time && to.is_none_or(|to| **time < to);
                let count = stretches.iter().flatten().filter(inside).count();
                prop_assert!(count > 0, "nothing from {} to {:?}", from, to);
            }
            if total <= rows {
                prop_assert_eq!(edges.len(), 1);
            }
        }
    }

    #[test]
    fn cuts_are_of_about_the_same_size() {
        let stretches: Vec<Vec<i64>> = (0..100)
            .map(|s| (0..1000).map(|t| t * 10 + s).collect())
            .collect();
        let times: Vec<&[i64]> = stretches.iter().map(Vec::as_slice).collect();
        let edges = edges(&times, 8192);
        assert!((12..=14).contains(&edges.len()), "{} cuts", edges.len());
        for (from, to) in edges {
            let inside = |time: &&i64| from <= **time && to.is_none_or(|to| **time < to);
            let count = stretches.iter().flatten().filter(inside).count();
            // The last one has what is left.
            let least = if to.is_some() { 4000 } else { 1 };
            assert!((least..16_000).contains(&count), "{count} rows from {from}");
        }
    }
}
