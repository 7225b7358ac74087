//! A page as bytes. Each column is shortened by itself, so that GROUP BY one tag does not read the others. Pure. Drawn in
//! docs/formats/index.md.
//!
//! The values of a column are laid out by character position counted from the end, so that counters (`host_17`),
//! hexadecimal ids and fixed texts each become runs that zstd shortens.

use super::column::Column;
use super::page::{PAGE_BYTES_MAX, PAGE_SERIES, Page};
use super::slots::Slots;
use super::squeeze::{squeeze, unsqueeze};
use crate::block::bytes::{Input, put, put_bytes};
use std::ops::Range;
use std::sync::Arc;

/// No honest column is longer before compression: text, lengths, codes.
const RAW_BYTES_MAX: usize = PAGE_BYTES_MAX + (1 << 20);
/// Tags in one page.
const TAGS_MAX: usize = 1 << 20;

/// Every series of the page has the tag.
const EVERYWHERE: u8 = 1;
/// Each series has a value of its own: no codes are needed.
const OWN_VALUES: u8 = 2;

/// Appends the series of a page that are in `slots`.
pub fn encode(page: &Page, slots: &Slots, out: &mut Vec<u8>) {
    encode_slots(slots, out);
    let mut columns = Vec::new();
    let mut bytes = Vec::new();
    for (key, column) in page.columns() {
        if let Some(raw) = encode_column(column, slots) {
            let start = bytes.len();
            squeeze(&raw, &mut bytes);
            columns.push((key, bytes.len() - start));
        }
    }
    put(out, columns.len() as u64);
    for (key, len) in columns {
        put_bytes(out, key.as_bytes());
        put(out, len as u64);
    }
    out.extend_from_slice(&bytes);
}

fn encode_slots(slots: &Slots, out: &mut Vec<u8>) {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for slot in slots.iter() {
        match runs.last_mut() {
            Some(run) if run.end == slot => run.end += 1,
            _ => runs.push(slot..slot + 1),
        }
    }
    put(out, runs.len() as u64);
    let mut end = 0;
    for run in runs {
        put(out, (run.start - end) as u64);
        put(out, run.len() as u64);
        end = run.end;
    }
}

fn decode_slots(input: &mut Input<'_>) -> Option<Slots> {
    let mut slots = Slots::default();
    let mut end = 0;
    for _ in 0..input.get_count(PAGE_SERIES as usize)? {
        let start = end + input.get_count(PAGE_SERIES as usize)?;
        end = start + input.get_count(PAGE_SERIES as usize)?;
        if end > PAGE_SERIES as usize {
            return None;
        }
        (start..end).for_each(|slot| {
            slots.insert(slot);
        });
    }
    Some(slots)
}

/// `None` when none of the series has the tag.
fn encode_column(column: &Column, slots: &Slots) -> Option<Vec<u8>> {
    // Codes in order of first sight, of these series only.
    let mut renumbered = vec![0u16; column.distinct() + 1];
    let mut values: Vec<&str> = Vec::new();
    let (mut codes, mut having) = (Vec::with_capacity(slots.len()), 0);
    for slot in slots.iter() {
        let code = column.code(slot);
        if code != 0 {
            having += 1;
            let new = &mut renumbered[usize::from(code)];
            if *new == 0 {
                values.push(column.value(code));
                *new = values.len() as u16;
            }
        }
        codes.push(renumbered[usize::from(code)]);
    }
    let longest = values.iter().map(|value| value.len()).max()?;
    let everywhere = having == codes.len();
    let own = values.len() == having;
    let mut raw = Vec::with_capacity(values.iter().map(|value| value.len() + 3).sum::<usize>() + 16);
    raw.push(if everywhere { EVERYWHERE } else { 0 } | if own { OWN_VALUES } else { 0 });
    put(&mut raw, values.len() as u64);
    put(&mut raw, longest as u64);
    // Lengths as what is missing to the longest: mostly zero.
    values
        .iter()
        .for_each(|value| put(&mut raw, (longest - value.len()) as u64));
    for from_end in 1..=longest {
        let plane = values.iter().filter(|value| value.len() >= from_end);
        raw.extend(plane.map(|value| value.as_bytes()[value.len() - from_end]));
    }
    match (everywhere, own) {
        (true, true) => {}
        // Which series have it: a bit each.
        (false, true) => {
            let mut bits = vec![0u8; codes.len().div_ceil(8)];
            for (at, _) in codes.iter().enumerate().filter(|(_, code)| **code != 0) {
                bits[at / 8] |= 1 << (at % 8);
            }
            raw.extend(bits);
        }
        (true, false) if values.len() == 1 => {}
        _ => {
            let shift = u16::from(everywhere);
            raw.extend(codes.iter().map(|code| (code - shift) as u8));
            if values.len() > 255 {
                raw.extend(codes.iter().map(|code| ((code - shift) >> 8) as u8));
            }
        }
    }
    Some(raw)
}

/// What a page has, its columns not yet read.
#[derive(Clone, Debug)]
pub struct PageHeader {
    present: Slots,
    /// By key: where each column is in the payload.
    columns: Vec<(Arc<str>, Range<usize>)>,
}

impl PageHeader {
    /// Reads the beginning of a payload. `None`: damaged; so with the others.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        let present = decode_slots(&mut input)?;
        let mut columns: Vec<(Arc<str>, usize)> = Vec::new();
        for _ in 0..input.get_count(TAGS_MAX)? {
            let key = std::str::from_utf8(input.get_bytes()?).ok()?;
            if columns.last().is_some_and(|(last, _)| **last >= *key) {
                return None;
            }
            columns.push((key.into(), input.get_count(payload.len())?));
        }
        let mut at = payload.len() - input.0.len();
        let mut places = Vec::with_capacity(columns.len());
        for (key, len) in columns {
            places.push((key, at..at + len));
            at += len;
        }
        (at == payload.len()).then_some(Self {
            present,
            columns: places,
        })
    }

    /// Series in it.
    pub fn present(&self) -> &Slots {
        &self.present
    }

    /// The column of a tag out of the payload this header came from; an empty one when no series has it.
    pub fn column(&self, payload: &[u8], key: &str) -> Option<Column> {
        match self.columns.binary_search_by(|(k, _)| (**k).cmp(key)) {
            Ok(at) => decode_column(payload.get(self.columns[at].1.clone())?, &self.present),
            Err(_) => Some(Column::default()),
        }
    }
}

/// Reads a whole page.
pub fn decode(payload: &[u8], number: u32) -> Option<Page> {
    let header = PageHeader::decode(payload)?;
    let mut columns = Vec::with_capacity(header.columns.len());
    for (key, place) in &header.columns {
        let column = decode_column(payload.get(place.clone())?, &header.present)?;
        columns.push((key.clone(), Arc::new(column)));
    }
    Some(Page::from_columns(number, header.present, columns))
}

fn decode_column(bytes: &[u8], present: &Slots) -> Option<Column> {
    let mut input = Input(bytes);
    let raw = unsqueeze(&mut input, RAW_BYTES_MAX)?;
    if !input.is_empty() {
        return None;
    }
    let mut input = Input(&raw);
    let flags = input.byte()?;
    let (everywhere, own) = (flags & EVERYWHERE != 0, flags & OWN_VALUES != 0);
    let series = present.len();
    let distinct = input.get_count(series)?;
    if distinct == 0 || (everywhere && own && distinct != series) {
        return None;
    }
    let longest = input.get_count(RAW_BYTES_MAX)?;
    let mut ends = Vec::with_capacity(distinct);
    let mut total = 0usize;
    for _ in 0..distinct {
        total += longest - input.get_count(longest)?;
        ends.push(total as u32);
        if total > raw.len() {
            return None;
        }
    }
    let mut text = vec![0u8; total];
    // While all are as long, a plane is copied without asking.
    let shortest = shortest(&ends);
    for from_end in 1..=longest {
        if from_end <= shortest {
            let plane = input.take(distinct)?;
            plane
                .iter()
                .zip(&ends)
                .for_each(|(byte, &end)| text[end as usize - from_end] = *byte);
        } else {
            let mut start = 0;
            for &end in &ends {
                if (end - start) as usize >= from_end {
                    text[end as usize - from_end] = input.byte()?;
                }
                start = end;
            }
        }
    }
    let mut column = Column::from_texts(String::from_utf8(text).ok()?, ends)?;
    match (everywhere, own) {
        (true, true) => {
            for (slot, code) in present.iter().zip(1..) {
                column.set(slot, code);
            }
        }
        (false, true) => {
            let bits = input.take(series.div_ceil(8))?;
            let mut code = 0;
            for (at, slot) in present.iter().enumerate() {
                if bits[at / 8] >> (at % 8) & 1 == 1 {
                    code += 1;
                    column.set(slot, code);
                }
            }
            if usize::from(code) != distinct {
                return None;
            }
        }
        (true, false) if distinct == 1 => present.iter().for_each(|slot| column.set(slot, 1)),
        _ => {
            let shift = u16::from(everywhere);
            let low = input.take(series)?;
            let high = if distinct > 255 { input.take(series)? } else { &[] };
            for (at, slot) in present.iter().enumerate() {
                let code = u16::from(low[at]) | u16::from(high.get(at).copied().unwrap_or(0)) << 8;
                let code = code.checked_add(shift)?;
                if usize::from(code) > distinct {
                    return None;
                }
                column.set(slot, code);
            }
        }
    }
    input.is_empty().then_some(column)
}

fn shortest(ends: &[u32]) -> usize {
    let mut start = 0;
    let mut shortest = u32::MAX;
    for &end in ends {
        shortest = shortest.min(end - start);
        start = end;
    }
    shortest as usize
}

#[cfg(test)]
mod tests {
    use super::super::page::PageBuilder;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Tags = Vec<(String, String)>;

    fn page(series: &BTreeMap<usize, Tags>) -> Arc<Page> {
        let mut builder = PageBuilder::new(7);
        series
            .iter()
            .for_each(|(slot, tags)| builder.insert(*slot, tags).expect("little text"));
        builder.page().clone()
    }

    fn check(series: &BTreeMap<usize, Tags>) -> usize {
        let page = page(series);
        let mut bytes = Vec::new();
        encode(&page, page.present(), &mut bytes);
        let back = decode(&bytes, 7).expect("just written");
        for slot in 0..PAGE_SERIES as usize {
            assert_eq!(
                back.tags(slot).collect::<Vec<_>>(),
                page.tags(slot).collect::<Vec<_>>(),
                "slot {slot}"
            );
        }
        assert_eq!((back.number(), back.present()), (7, page.present()));
        let header = PageHeader::decode(&bytes).expect("just written");
        for (key, column) in back.columns() {
            assert_eq!(header.column(&bytes, key).as_ref(), Some(&**column));
        }
        assert_eq!(header.column(&bytes, "nope").map(|c| c.distinct()), Some(0));
        bytes.len()
    }

    fn tags(list: &[(&str, &str)]) -> Tags {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn many_shapes_round_trip() {
        check(&BTreeMap::new());
        check(&BTreeMap::from([(5, tags(&[]))]));
        check(&BTreeMap::from([
            (0, tags(&[("a", "x")])),
            (2047, tags(&[("b", "日本"), ("c", "")])),
        ]));
        // What a million containers look like: four bytes of them are random.
        let bytes = check(
            &(0..2048u32)
                .map(|i| {
                    let id = format!("{:08x}{i:05x}", i.wrapping_mul(2_654_435_761) ^ 0x1234_5678);
                    (
                        i as usize,
                        tags(&[
                            ("container", &id),
                            ("endpoint", &format!("ep_{}", i % 50)),
                            ("host", &format!("h_{}", i / 200)),
                        ]),
                    )
                })
                .collect(),
        );
        assert!(bytes < 2048 * 5, "{bytes} bytes");
        // Every way of codes: one value, few, many, with and without gaps.
        for (distinct, having) in [(1, 1), (1, 2), (3, 1), (3, 2), (300, 1), (300, 2), (5000, 2)] {
            check(
                &(0..2048)
                    .map(|i| {
                        (
                            i,
                            if i % having == 0 {
                                tags(&[("k", &(i * 7 % distinct).to_string())])
                            } else {
                                tags(&[("z", "z")])
                            },
                        )
                    })
                    .collect(),
            );
        }
    }

    #[test]
    fn only_the_asked_series_are_written() {
        let page = page(&(0..100).map(|i| (i, tags(&[("k", &format!("v{i}"))]))).collect());
        let mut slots = Slots::default();
        [3, 50, 99]
            .into_iter()
            .for_each(|slot| assert!(slots.insert(slot)));
        let mut bytes = Vec::new();
        encode(&page, &slots, &mut bytes);
        let back = decode(&bytes, 7).expect("just written");
        assert_eq!(back.present(), &slots);
        assert_eq!(
            back.columns()[0].1.values().collect::<Vec<_>>(),
            ["v3", "v50", "v99"]
        );
    }

    proptest! {
        #[test]
        fn any_page_round_trips(series in prop::collection::btree_map(0usize..2048, prop::collection::btree_map("[ab=, é]{1,2}", "[xyü]{0,3}", 0..4), 0..80)) {
            let series = series.into_iter().map(|(slot, tags)| (slot, tags.into_iter().collect())).collect();
            check(&series);
        }

        #[test]
        fn damage_never_panics(flips in prop::collection::vec((0usize..4000, 1u8..), 1..4), cut in 0usize..4000, few in any::<bool>()) {
            let series = (0..if few { 9 } else { 400 }).map(|i| (i * 2, tags(&[("host", &format!("h{i}")), ("zone", &(i % 3).to_string())]))).collect();
            let page = page(&series);
            let mut out = Vec::new();
            encode(&page, page.present(), &mut out);
            let cut = cut % out.len();
            for (at, xor) in flips {
                let at = at % out.len();
                out[at] ^= xor;
            }
            decode(&out, 0);
            decode(&out[..cut], 0);
        }
    }
}
