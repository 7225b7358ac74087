//! A piece of the series dictionary: the keys of up to [`PIECE_SERIES`] series of one measurement as bytes. Pure.
//!
//! Keys are taken apart into columns, one a tag key; a column is its distinct values and a code a series; values are laid
//! out by character position counted from the end, so that counters (`host_17`), hexadecimal ids and fixed texts each
//! become runs that zstd shortens. Drawn in docs/formats/keys.md.

use crate::block::bytes::{Input, put, put_bytes};
use crate::model::SeriesId;
use hashbrown::HashMap;

/// Series in one piece.
pub const PIECE_SERIES: usize = 2048;
/// Bytes of keys in one piece, whatever their number.
pub const PIECE_KEY_BYTES: usize = 1 << 20;
/// No honest piece is longer before compression.
const PIECE_RAW_BYTES_MAX: usize = 4 * PIECE_KEY_BYTES + (1 << 20);
const ZSTD_LEVEL: i32 = 3;

/// The series of a piece, ids ascending.
pub type Piece = Vec<(SeriesId, String)>;

/// Where the pieces of a list of series begin and end, by both limits.
pub fn cut(series: &[(SeriesId, String)]) -> Vec<std::ops::Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, (_, key)) in series.iter().enumerate() {
        if i > start && (i - start == PIECE_SERIES || bytes + key.len() > PIECE_KEY_BYTES) {
            pieces.push(start..i);
            (start, bytes) = (i, 0);
        }
        bytes += key.len();
    }
    if start < series.len() {
        pieces.push(start..series.len());
    }
    pieces
}

/// Appends the piece. Ids ascend; the first one is in the key, not in here.
pub fn encode(out: &mut Vec<u8>, series: &[(SeriesId, String)]) {
    let mut raw = Vec::with_capacity(series.len() * 32);
    put(&mut raw, series.len() as u64);
    let gaps = series.windows(2).any(|w| w[1].0 - w[0].0 != 1);
    raw.push(u8::from(gaps));
    if gaps {
        series
            .windows(2)
            .for_each(|w| put(&mut raw, u64::from(w[1].0 - w[0].0)));
    }
    // A shape is the head (the measurement) and the tag keys; most measurements have one.
    let mut shapes: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut shape_of = Vec::with_capacity(series.len());
    let mut columns: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut column_at: HashMap<&str, usize> = HashMap::new();
    let mut tags = Vec::new();
    for (_, key) in series {
        let head = split(key, &mut tags);
        let same =
            |shape: &(&str, Vec<&str>)| shape.0 == head && shape.1.iter().eq(tags.iter().map(|(k, _)| k));
        let last = shape_of.last().copied().filter(|&at: &usize| same(&shapes[at]));
        let shape = last.or_else(|| shapes.iter().position(same)).unwrap_or_else(|| {
            shapes.push((head, tags.iter().map(|(k, _)| *k).collect()));
            shapes.len() - 1
        });
        shape_of.push(shape);
        for (tag, value) in &tags {
            let at = *column_at.entry(tag).or_insert_with(|| {
                columns.push((tag, Vec::new()));
                columns.len() - 1
            });
            columns[at].1.push(value);
        }
    }
    put(&mut raw, columns.len() as u64);
    columns
        .iter()
        .for_each(|(tag, _)| put_bytes(&mut raw, tag.as_bytes()));
    put(&mut raw, shapes.len() as u64);
    for (head, tags) in &shapes {
        put_bytes(&mut raw, head.as_bytes());
        put(&mut raw, tags.len() as u64);
        tags.iter().for_each(|tag| put(&mut raw, column_at[tag] as u64));
    }
    if shapes.len() > 1 {
        shape_of.iter().for_each(|&shape| put(&mut raw, shape as u64));
    }
    columns
        .iter()
        .for_each(|(_, values)| encode_column(&mut raw, values));
    put(out, raw.len() as u64);
    let compressed =
        zstd::bulk::compress(&raw, ZSTD_LEVEL).expect("compressing memory into memory cannot fail");
    out.extend_from_slice(&compressed);
}

/// Reads a piece whose first id is `first`. `None`: damaged.
pub fn decode(bytes: &[u8], first: SeriesId) -> Option<Piece> {
    let mut input = Input(bytes);
    let raw_len = input.get_count(PIECE_RAW_BYTES_MAX)?;
    let raw = zstd::bulk::decompress(input.0, raw_len).ok()?;
    let mut input = Input(&raw);
    let count = input.get_count(PIECE_SERIES)?;
    let mut ids = Vec::with_capacity(count);
    let gaps = input.byte()? == 1;
    let mut id = first;
    for i in 0..count {
        if i > 0 {
            let step = if gaps { input.get_u32()? } else { 1 };
            id = id.checked_add(step).filter(|_| step > 0)?;
        }
        ids.push(id);
    }
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut tags = Vec::new();
    for _ in 0..input.get_count(raw.len())? {
        tags.push(text(input.get_bytes()?)?);
    }
    let mut shapes = Vec::new();
    for _ in 0..input.get_count(raw.len())? {
        let head = text(input.get_bytes()?)?;
        let mut shape = Vec::new();
        for _ in 0..input.get_count(raw.len())? {
            shape.push(input.get_count(tags.len().checked_sub(1)?)?);
        }
        shapes.push((head, shape));
    }
    let mut shape_of = vec![0usize; count];
    if shapes.len() > 1 {
        for shape in &mut shape_of {
            *shape = input.get_count(shapes.len() - 1)?;
        }
    } else if shapes.is_empty() && count > 0 {
        return None;
    }
    let mut counts = vec![0usize; tags.len()];
    shape_of
        .iter()
        .flat_map(|&shape| &shapes[shape].1)
        .for_each(|&column| counts[column] += 1);
    let mut columns = Vec::with_capacity(tags.len());
    for count in counts {
        columns.push((decode_column(&mut input, count)?, 0usize));
    }
    let mut piece = Vec::with_capacity(count);
    for (id, shape) in ids.into_iter().zip(shape_of) {
        let (head, shape) = &shapes[shape];
        let mut key = String::with_capacity(head.len() + 24 * shape.len());
        key.push_str(head);
        for &column in shape {
            let (values, next) = &mut columns[column];
            key.push(',');
            key.push_str(&tags[column]);
            key.push('=');
            key.push_str(values.get(*next));
            *next += 1;
        }
        piece.push((id, key));
    }
    input.is_empty().then_some(piece)
}

/// The head of a canonical key, its tags still escaped in `tags`. A key that is not canonical is all head.
fn split<'a>(key: &'a str, tags: &mut Vec<(&'a str, &'a str)>) -> &'a str {
    tags.clear();
    let mut parts = split_bare(key, b',');
    let head = parts.next().unwrap_or_default();
    for part in parts {
        let mut halves = split_bare(part, b'=');
        match (halves.next(), halves.next()) {
            (Some(tag), Some(_)) => tags.push((tag, &part[tag.len() + 1..])),
            _ => {
                tags.clear();
                return key;
            }
        }
    }
    head
}

/// Splits at `separator` where no backslash stands before it.
fn split_bare(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let bytes = text.as_bytes();
        let bare = |&at: &usize| bytes[at] == separator && (at == 0 || bytes[at - 1] != b'\\');
        match (0..bytes.len()).find(bare) {
            Some(at) => {
                rest = Some(&text[at + 1..]);
                Some(&text[..at])
            }
            None => rest.take(),
        }
    })
}

/// Distinct values, then a code for each value unless each is distinct.
fn encode_column(out: &mut Vec<u8>, values: &[&str]) {
    let mut distinct: Vec<&str> = Vec::new();
    let mut code_of: HashMap<&str, u32> = HashMap::with_capacity(values.len());
    let codes: Vec<u32> = values
        .iter()
        .map(|value| {
            *code_of.entry(value).or_insert_with(|| {
                distinct.push(value);
                distinct.len() as u32 - 1
            })
        })
        .collect();
    put(out, distinct.len() as u64);
    let longest = distinct.iter().map(|value| value.len()).max().unwrap_or(0);
    put(out, longest as u64);
    // Lengths as what is missing to the longest: mostly zero.
    distinct
        .iter()
        .for_each(|value| put(out, (longest - value.len()) as u64));
    for from_end in 1..=longest {
        let plane = distinct.iter().filter(|value| value.len() >= from_end);
        out.extend(plane.map(|value| value.as_bytes()[value.len() - from_end]));
    }
    if distinct.len() < values.len() && distinct.len() > 1 {
        out.extend(codes.iter().map(|&code| code as u8));
        if distinct.len() > 256 {
            out.extend(codes.iter().map(|&code| (code >> 8) as u8));
        }
    }
}

/// The values of a column: distinct ones end to end, and which of them each is.
struct ColumnValues {
    text: String,
    ends: Vec<usize>,
    codes: Vec<u16>,
}

impl ColumnValues {
    fn get(&self, index: usize) -> &str {
        let code = usize::from(self.codes[index]);
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.text[start..self.ends[code]]
    }
}

fn decode_column(input: &mut Input<'_>, count: usize) -> Option<ColumnValues> {
    let distinct = input.get_count(count)?;
    if distinct == 0 && count > 0 {
        return None;
    }
    let longest = input.get_count(input.0.len())?;
    let mut ends = Vec::with_capacity(distinct);
    let mut total = 0usize;
    for _ in 0..distinct {
        total += longest - input.get_count(longest)?;
        ends.push(total);
    }
    if total > input.0.len() {
        return None;
    }
    let mut text = vec![0u8; total];
    for from_end in 1..=longest {
        let mut start = 0;
        for &end in &ends {
            if end - start >= from_end {
                text[end - from_end] = input.byte()?;
            }
            start = end;
        }
    }
    let text = String::from_utf8(text).ok()?;
    if !ends.iter().all(|&end| text.is_char_boundary(end)) {
        return None;
    }
    let codes = if distinct == count {
        (0..count).map(|code| code as u16).collect()
    } else if distinct == 1 {
        vec![0; count]
    } else {
        let low = input.take(count)?;
        let high = if distinct > 256 {
            input.take(count)?
        } else {
            &[][..]
        };
        let code = |i: usize| u16::from(low[i]) | u16::from(high.get(i).copied().unwrap_or(0)) << 8;
        (0..count).map(code).collect()
    };
    codes
        .iter()
        .all(|&code| usize::from(code) < distinct)
        .then_some(ColumnValues { text, ends, codes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(piece: &[(SeriesId, String)]) {
        let mut out = Vec::new();
        encode(&mut out, piece);
        let first = piece.first().map_or(0, |(id, _)| *id);
        assert_eq!(decode(&out, first).as_deref(), Some(piece));
    }

    #[test]
    fn many_shapes_of_keys_round_trip() {
        let cases: &[&[(SeriesId, &str)]] = &[
            &[],
            &[(7, "cpu")],
            &[(0, "cpu,host=a"), (1, "cpu,host=b"), (2, "cpu,host=a,region=x")],
            &[
                (0, r"a\,b\ c,k\ \==v\,w\ x\=y"),
                (4, r"a\,b\ c,k\ \==v"),
                (u32::MAX, "m,é=ß,ü=日本"),
            ],
            &[(3, "not,canonical"), (9, ""), (10, "m,a=b=c,d=")],
        ];
        for case in cases {
            check(
                &case
                    .iter()
                    .map(|(id, key)| (*id, key.to_string()))
                    .collect::<Vec<_>>(),
            );
        }
        check(
            &(0..2048u32)
                .map(|i| {
                    (
                        i * 2,
                        format!(
                            "m,host=h_{},container={:08x}{i:05x}",
                            i / 7,
                            i.wrapping_mul(2654435761)
                        ),
                    )
                })
                .collect::<Vec<_>>(),
        );
    }

    proptest! {
        #[test]
        fn any_keys_round_trip(keys in prop::collection::vec((1u32..9, r"[ab,=\\ é]{0,12}"), 0..60)) {
            let mut id = 0;
            let piece: Piece = keys.into_iter().map(|(step, key)| { id += step; (id, key) }).collect();
            check(&piece);
        }

        #[test]
        fn damage_never_panics(flips in prop::collection::vec((0usize..4000, 1u8..), 1..4), cut in 0usize..4000) {
            let piece: Piece = (0..50).map(|i| (i, format!("cpu,host=h{i},zone={}", i % 3))).collect();
            let mut out = Vec::new();
            encode(&mut out, &piece);
            for (at, xor) in flips {
                let at = at % out.len();
                out[at] ^= xor;
            }
            decode(&out, 0);
            decode(&out[..cut % out.len()], 0);
        }
    }
}
