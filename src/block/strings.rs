//! Texts: a dictionary where few differ, else lengths and bytes, both compressed where that helps.

use super::bytes::{Input, put};
use super::{CHUNK_ROWS_MAX, Level, contexts, ints};
use crate::model::StringColumn;
use hashbrown::HashMap;

const PLAIN: u8 = 0;
const DICTIONARY: u8 = 1;

const BYTES_RAW: u8 = 0;
const BYTES_LZ4: u8 = 1;
const BYTES_ZSTD: u8 = 2;

/// Shorter texts are not worth compressing.
const COMPRESS_BYTES_MIN: usize = 128;
const ZSTD_LEVEL: i32 = 3;
/// No honest chunk has more text: limits bound rows and strings.
const TEXT_BYTES_MAX: usize = 1 << 30;

/// Appends texts; their count is the caller's to keep.
pub fn encode(values: &StringColumn, level: Level, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let mut codes: HashMap<&[u8], i64> = HashMap::new();
    let mut distinct = StringColumn::default();
    let mut rows = Vec::with_capacity(values.len());
    for i in 0..values.len() {
        let text = values.get(i);
        let code = *codes.entry(text).or_insert_with(|| {
            distinct.push(text);
            distinct.len() as i64 - 1
        });
        rows.push(code);
        if distinct.len() > values.len() / 2 + 1 {
            out.push(PLAIN);
            encode_texts(values, level, out);
            return;
        }
    }
    out.push(DICTIONARY);
    put(out, distinct.len() as u64);
    encode_texts(&distinct, level, out);
    ints::encode(&rows, level, out);
}

/// Reads `count` texts.
pub fn decode(input: &mut Input<'_>, count: usize) -> Option<StringColumn> {
    if count == 0 {
        return Some(StringColumn::default());
    }
    if count > CHUNK_ROWS_MAX {
        return None;
    }
    match input.byte()? {
        PLAIN => decode_texts(input, count),
        DICTIONARY => {
            let distinct = input.get_count(count)?;
            let distinct = decode_texts(input, distinct)?;
            let mut values = StringColumn::default();
            for code in ints::decode(input, count)? {
                let code = usize::try_from(code).ok().filter(|&code| code < distinct.len())?;
                let text = distinct.get(code);
                if values.bytes.len() + text.len() > TEXT_BYTES_MAX {
                    return None;
                }
                values.push(text);
            }
            Some(values)
        }
        _ => None,
    }
}

fn encode_texts(values: &StringColumn, level: Level, out: &mut Vec<u8>) {
    let lengths: Vec<i64> = (0..values.len()).map(|i| values.get(i).len() as i64).collect();
    ints::encode(&lengths, level, out);
    let (kind, packed) = compress(&values.bytes, level);
    out.push(kind);
    put(out, packed.len() as u64);
    out.extend_from_slice(&packed);
}

fn compress(bytes: &[u8], level: Level) -> (u8, std::borrow::Cow<'_, [u8]>) {
    if bytes.len() >= COMPRESS_BYTES_MIN {
        let (kind, packed) = match level {
            Level::Fast => (BYTES_LZ4, lz4_flex::block::compress(bytes)),
            Level::Small => (
                BYTES_ZSTD,
                zstd::bulk::compress(bytes, ZSTD_LEVEL).expect("compressing memory into memory cannot fail"),
            ),
        };
        if packed.len() < bytes.len() {
            return (kind, packed.into());
        }
    }
    (BYTES_RAW, bytes.into())
}

fn decode_texts(input: &mut Input<'_>, count: usize) -> Option<StringColumn> {
    let lengths = ints::decode(input, count)?;
    let mut total = 0usize;
    let mut ends = Vec::with_capacity(count);
    for length in lengths {
        total = total.checked_add(usize::try_from(length).ok()?)?;
        if total > TEXT_BYTES_MAX {
            return None;
        }
        ends.push(total as u32);
    }
    let kind = input.byte()?;
    let len = input.get_count(input.0.len())?;
    let packed = input.take(len)?;
    let bytes = match kind {
        BYTES_RAW => packed.to_vec(),
        // An LZ4 byte expands to at most 255; more is damage, and must not make us allocate.
        BYTES_LZ4 if total / 256 <= packed.len() => lz4_flex::block::decompress(packed, total).ok()?,
        BYTES_ZSTD => contexts::decompress(packed, total)?,
        _ => return None,
    };
    (bytes.len() == total).then_some(StringColumn { ends, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(texts: &[String]) -> StringColumn {
        let mut column = StringColumn::default();
        texts.iter().for_each(|t| column.push(t.as_bytes()));
        column
    }

    fn check(texts: &[String], level: Level) -> usize {
        let (values, mut bytes) = (column(texts), Vec::new());
        encode(&values, level, &mut bytes);
        let mut input = Input(&bytes);
        assert_eq!(decode(&mut input, texts.len()), Some(values));
        assert!(input.is_empty());
        bytes.len()
    }

    #[test]
    fn few_texts_become_codes() {
        let states: Vec<String> = (0..8000)
            .map(|i| ["up", "down", ""][i % 7 % 3].to_string())
            .collect();
        assert!(check(&states, Level::Fast) < 8000 / 3);
        let all_different: Vec<String> = (0..1000).map(|i| format!("request {i} took a while")).collect();
        assert!(check(&all_different, Level::Small) < 1000 * 12);
        check(&[], Level::Fast);
        check(&[String::new()], Level::Fast);
    }

    proptest! {
        #[test]
        fn any_texts_round_trip(texts in prop::collection::vec("[a-c]{0,3}|.{0,20}", 0..200), small in any::<bool>()) {
            check(&texts, if small { Level::Small } else { Level::Fast });
        }

        #[test]
        fn damage_never_panics(texts in prop::collection::vec("[a-c]{0,40}", 1..60), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut bytes = Vec::new();
            encode(&column(&texts), Level::Fast, &mut bytes);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Some(read) = decode(&mut Input(&bytes), texts.len()) {
                prop_assert_eq!(read.len(), texts.len());
            }
        }
    }
}
