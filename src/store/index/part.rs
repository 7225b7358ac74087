//! What a generation has of one measurement. Few series are in here whole; of many, this is the directory to their pages, key
//! table and terms. Pure. Drawn in docs/formats/index.md.

use super::page::{PAGE_SERIES, Page, page_of};
use super::page_codec;
use super::postings;
use super::slots::{IdSet, id_of};
use super::squeeze::{squeeze, unsqueeze};
use super::table::hash_of;
use super::terms::{front_coded, front_decoded};
use crate::block::bytes::{Input, put, put_bytes};
use crate::model::SeriesId;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Series that are few. Tests want large parts of few series.
pub const SMALL_SERIES: u64 = if cfg!(test) { 12 } else { PAGE_SERIES as u64 };

const SMALL: u8 = 0;
const LARGE: u8 = 1;
/// No honest directory has more text of first values: 4 G series with long values.
const FIRSTS_BYTES_MAX: usize = 1 << 30;

/// See the module.
#[derive(Debug)]
pub enum Part {
    /// Few series.
    Small(Small),
    /// Many.
    Large(Large),
}

/// Few series, whole.
#[derive(Debug)]
pub struct Small {
    /// Ascending.
    pub pages: Vec<Arc<Page>>,
    /// Hashes and ids, sorted; made when it is read.
    pub table: Vec<(u32, SeriesId)>,
}

/// Where many series are.
#[derive(Debug, Default)]
pub struct Large {
    /// Their ids.
    pub ids: RoaringBitmap,
    /// The page bits of their key table.
    pub page_bits: u32,
    /// By key.
    pub tags: Vec<Tag>,
}

/// Where the terms of a tag are.
#[derive(Debug, Default)]
pub struct Tag {
    /// The tag.
    pub key: Arc<str>,
    /// Which series have it; `None`: all.
    pub having: Option<RoaringBitmap>,
    /// Distinct values.
    pub distinct: u64,
    /// Number of the first block.
    pub block: u32,
    /// The first value of each block: texts end to end.
    text: String,
    ends: Vec<u32>,
}

impl Tag {
    /// A tag without blocks.
    pub fn new(key: Arc<str>, having: Option<RoaringBitmap>, block: u32) -> Self {
        Self {
            key,
            having,
            block,
            ..Self::default()
        }
    }

    /// Adds a block whose first value is this.
    pub fn push_block(&mut self, first: &str) {
        self.text.push_str(first);
        self.ends.push(self.text.len() as u32);
    }

    /// Blocks.
    pub fn blocks(&self) -> u32 {
        self.ends.len() as u32
    }

    fn first(&self, block: usize) -> &str {
        let start = if block == 0 { 0 } else { self.ends[block - 1] };
        &self.text[start as usize..self.ends[block] as usize]
    }

    /// The block (from 0 on within the tag) that has this value, if any has; of a value that none has, the one before it, or
    /// the first.
    pub fn block_of(&self, value: &str) -> u32 {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = (low + high) / 2;
            if self.first(middle) <= value {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.saturating_sub(1) as u32
    }
}

impl Large {
    /// The tag with this key, with its position.
    pub fn tag(&self, key: &str) -> Option<(usize, &Tag)> {
        let at = self.tags.binary_search_by(|tag| (*tag.key).cmp(key)).ok()?;
        Some((at, &self.tags[at]))
    }

    /// Which series have a tag.
    pub fn having(&self, key: &str) -> RoaringBitmap {
        match self.tag(key) {
            None => RoaringBitmap::new(),
            Some((_, tag)) => tag.having.clone().unwrap_or_else(|| self.ids.clone()),
        }
    }

    /// Does any series of this page lie in here?
    pub fn has_page(&self, number: u32) -> bool {
        let first = number * PAGE_SERIES;
        self.ids.range_cardinality(first..=first + (PAGE_SERIES - 1)) > 0
    }

    /// The numbers of its pages.
    pub fn pages(&self) -> Vec<u32> {
        pages_of(&self.ids)
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(LARGE);
        put_set(&self.ids, out);
        out.push(self.page_bits as u8);
        put(out, self.tags.len() as u64);
        for tag in &self.tags {
            put_bytes(out, tag.key.as_bytes());
            put_set(tag.having.as_ref().unwrap_or(&RoaringBitmap::new()), out);
            put(out, tag.distinct);
            put(out, u64::from(tag.block));
            put(out, tag.ends.len() as u64);
            squeeze(&front_coded(&tag.text, &tag.ends), out);
        }
    }

    fn decode(input: &mut Input<'_>) -> Option<Self> {
        let ids = get_set(input)?;
        let page_bits = u32::from(input.byte()?);
        let mut tags: Vec<Tag> = Vec::new();
        for _ in 0..input.get_count(input.0.len())? {
            let key: Arc<str> = input.get_text()?.into();
            let having = Some(get_set(input)?).filter(|set| !set.is_empty());
            let distinct = input.get()?;
            let block = input.get_u32()?;
            let blocks = input.get_u32()?;
            let raw = unsqueeze(input, FIRSTS_BYTES_MAX)?;
            let (text, ends) = front_decoded(&raw, blocks as usize, FIRSTS_BYTES_MAX)?;
            let follows = tags
                .last()
                .is_none_or(|last| last.key < key && last.block + last.blocks() == block);
            if !follows || block.checked_add(blocks).is_none() {
                return None;
            }
            tags.push(Tag {
                key,
                having,
                distinct,
                block,
                text,
                ends,
            });
        }
        (page_bits <= 32).then_some(Self { ids, page_bits, tags })
    }

    fn memory(&self) -> usize {
        let tags = self.tags.iter().map(|tag| {
            let having = tag.having.as_ref().map_or(0, RoaringBitmap::serialized_size);
            size_of::<Tag>() + tag.key.len() + having + tag.text.capacity() + tag.ends.capacity() * 4
        });
        self.ids.serialized_size() + tags.sum::<usize>()
    }
}

/// The numbers of the pages that ids lie on.
pub fn pages_of(ids: &RoaringBitmap) -> Vec<u32> {
    let mut pages = Vec::new();
    let mut next = 0u64;
    while next <= u64::from(u32::MAX)
        && let Some(id) = ids.range(next as u32..).next()
    {
        pages.push(page_of(id));
        next = (u64::from(page_of(id)) + 1) * u64::from(PAGE_SERIES);
    }
    pages
}

fn put_set(set: &RoaringBitmap, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    postings::encode(set, &mut bytes);
    put_bytes(out, &bytes);
}

fn get_set(input: &mut Input<'_>) -> Option<RoaringBitmap> {
    postings::decode(&mut Input(input.get_bytes()?))
}

impl Small {
    /// Of these pages, ascending.
    pub fn new(pages: Vec<Arc<Page>>, seed: u64) -> Self {
        let mut table = Vec::new();
        for page in &pages {
            for slot in page.present().iter() {
                let hash = hash_of(page.key_hash(seed, slot));
                table.push((hash, id_of(page.number(), slot)));
            }
        }
        table.sort_unstable();
        Self { pages, table }
    }

    /// The page with this number.
    pub fn page(&self, number: u32) -> Option<&Arc<Page>> {
        let at = self
            .pages
            .binary_search_by_key(&number, |page| page.number())
            .ok()?;
        Some(&self.pages[at])
    }

    /// Ids of series with this hash.
    pub fn with_hash(&self, hash: u32) -> impl Iterator<Item = SeriesId> + '_ {
        let start = self.table.partition_point(|(h, _)| *h < hash);
        let same = self.table[start..].iter().take_while(move |(h, _)| *h == hash);
        same.map(|(_, id)| *id)
    }

    /// Appends pages.
    pub fn encode(pages: &[Arc<Page>], out: &mut Vec<u8>) {
        out.push(SMALL);
        put(out, pages.len() as u64);
        for page in pages {
            let mut bytes = Vec::new();
            page_codec::encode(page, page.present(), &mut bytes);
            put(out, u64::from(page.number()));
            put_bytes(out, &bytes);
        }
    }

    fn decode(input: &mut Input<'_>, seed: u64) -> Option<Self> {
        let mut pages: Vec<Arc<Page>> = Vec::new();
        for _ in 0..input.get_count(input.0.len())? {
            let number = input.get_u32()?;
            if pages.last().is_some_and(|last| last.number() >= number) || number > page_of(u32::MAX) {
                return None;
            }
            pages.push(Arc::new(page_codec::decode(input.get_bytes()?, number)?));
        }
        Some(Self::new(pages, seed))
    }
}

impl Part {
    /// Reads a directory; with the seed of hashes of keys. `None`: damaged.
    pub fn decode(payload: &[u8], seed: u64) -> Option<Self> {
        let mut input = Input(payload);
        let part = match input.byte()? {
            SMALL => Self::Small(Small::decode(&mut input, seed)?),
            LARGE => Self::Large(Large::decode(&mut input)?),
            _ => return None,
        };
        input.is_empty().then_some(part)
    }

    /// The ids of its series.
    pub fn ids(&self) -> RoaringBitmap {
        match self {
            Self::Large(large) => large.ids.clone(),
            Self::Small(small) => {
                let mut ids = IdSet::default();
                small
                    .pages
                    .iter()
                    .for_each(|page| ids.push(page.number(), page.present()));
                ids.finish()
            }
        }
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        match self {
            Self::Small(small) => {
                let pages: usize = small.pages.iter().map(|page| page.bytes()).sum();
                pages + small.table.capacity() * 8
            }
            Self::Large(large) => large.memory(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::PageBuilder;
    use super::*;

    #[test]
    fn directories_round_trip_and_find_blocks() {
        let mut large = Large {
            ids: (5..9000).collect(),
            page_bits: 2,
            tags: vec![
                Tag::new("a".into(), None, 0),
                Tag::new("b".into(), Some((7..9).collect()), 2),
            ],
        };
        large.tags[0].distinct = 9;
        large.tags[0].push_block("k");
        large.tags[0].push_block("kx");
        large.tags[1].push_block("z");
        let mut bytes = Vec::new();
        large.encode(&mut bytes);
        let Some(Part::Large(back)) = Part::decode(&bytes, 7) else {
            panic!("just written")
        };
        assert_eq!(
            (&back.ids, back.page_bits, back.pages()),
            (&large.ids, 2, vec![0, 1, 2, 3, 4])
        );
        let (at, a) = back.tag("a").expect("it is there");
        assert_eq!((at, a.distinct, a.blocks()), (0, 9, 2));
        let cases = [("", 0), ("k", 0), ("kw", 0), ("kx", 1), ("zz", 1)];
        for (value, block) in cases {
            assert_eq!(a.block_of(value), block, "{value}");
        }
        assert_eq!(back.having("a"), large.ids);
        assert_eq!(back.having("b"), (7..9).collect());
        assert!(back.having("c").is_empty() && back.has_page(4) && !back.has_page(5));
        for len in 0..bytes.len() {
            assert!(Part::decode(&bytes[..len], 7).is_none());
        }
    }

    #[test]
    fn few_series_are_in_here_whole() {
        let mut pages = Vec::new();
        for number in [0, 3] {
            let mut page = PageBuilder::new(number);
            for slot in 0..5 {
                page.insert(slot, &[("host".to_string(), format!("{number}.{slot}"))]);
            }
            pages.push(page.page().clone());
        }
        let mut bytes = Vec::new();
        Small::encode(&pages, &mut bytes);
        let Some(Part::Small(back)) = Part::decode(&bytes, 7) else {
            panic!("just written")
        };
        for page in &pages {
            for slot in 0..5 {
                let hash = hash_of(page.key_hash(7, slot));
                let id = id_of(page.number(), slot);
                assert!(back.with_hash(hash).any(|found| found == id));
            }
        }
        assert_eq!(back.table.len(), 10);
        assert!(back.page(3).is_some() && back.page(1).is_none());
        for len in 0..bytes.len() {
            assert!(Part::decode(&bytes[..len], 7).is_none());
        }
    }

    #[test]
    fn pages_of_ids() {
        assert_eq!(
            pages_of(&[0, 5, 2048, 9000, u32::MAX].into_iter().collect()),
            [0, 1, 4, 2_097_151]
        );
        assert!(pages_of(&RoaringBitmap::new()).is_empty());
    }
}
