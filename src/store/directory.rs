//! The directory of one measurement in one run: its blocks, and where the chunks of each are. Pure; drawn in
//! docs/formats/keys.md.
//!
//! Everything is laid out column by column, so that zstd shortens it: a directory entry costs a few bytes a chunk.

use super::error::StoreError;
use super::frame;
use super::keys;
use crate::block::bytes::{Input, put, put_signed};
use crate::block::{ChunkStats, contexts};
use crate::model::{FieldId, FieldType, SeriesId, TimeRange};

const VERSION: u8 = 1;
/// No honest directory is longer before compression.
const RAW_BYTES_MAX: usize = 1 << 28;
const ZSTD_LEVEL: i32 = 3;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    /// Blocks in a stripe; the last one may have fewer.
    pub stripe_blocks: usize,
    /// In order of (series, time).
    pub blocks: Vec<BlockEntry>,
    /// By field, ascending.
    pub fields: Vec<FieldChunks>,
    /// The chunks themselves, when they are few; `offset`s then count from its start.
    pub inline: Option<Vec<u8>>,
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockEntry {
    /// Rows, at least one.
    pub rows: u32,
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
    /// Where its series ids and timestamps are.
    pub place: Place,
}

/// Where a chunk is: in its stripe's payload, or in [`Directory::inline`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// One field in all blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChunks {
    /// Which.
    pub field: FieldId,
    /// Of all its values.
    pub field_type: FieldType,
    /// One a block; `None` where no row has a value.
    pub chunks: Vec<Option<FieldChunk>>,
}

/// One field in one block.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChunk {
    /// Where its values are.
    pub place: Place,
    /// What they amount to.
    pub stats: ChunkStats,
}

impl Directory {
    /// The chunks of a field, if it has any.
    pub fn field(&self, field: FieldId) -> Option<&FieldChunks> {
        self.fields
            .binary_search_by_key(&field, |f| f.field)
            .ok()
            .map(|at| &self.fields[at])
    }

    /// Which stripe a block is in.
    pub fn stripe_of(&self, block: usize) -> u32 {
        (block / self.stripe_blocks) as u32
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let chunks: usize = self.fields.iter().map(|f| f.chunks.len()).sum();
        let inline = self.inline.as_ref().map_or(0, Vec::len);
        self.blocks.len() * size_of::<BlockEntry>() + chunks * size_of::<Option<FieldChunk>>() + inline + 200
    }

    /// The framed value for `key`. Offsets are not stored: they follow from the lengths.
    pub fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut raw = Vec::new();
        put(&mut raw, self.stripe_blocks as u64);
        put(&mut raw, self.blocks.len() as u64);
        self.blocks.iter().for_each(|b| put(&mut raw, u64::from(b.rows)));
        let mut last = 0;
        for b in &self.blocks {
            put(&mut raw, u64::from(b.first_series.wrapping_sub(last)));
            last = b.last_series;
        }
        self.blocks
            .iter()
            .for_each(|b| put(&mut raw, u64::from(b.last_series - b.first_series)));
        let mut last = 0i64;
        for b in &self.blocks {
            put_signed(&mut raw, b.time.min.wrapping_sub(last));
            last = b.time.min;
        }
        self.blocks
            .iter()
            .for_each(|b| put(&mut raw, b.time.max.wrapping_sub(b.time.min) as u64));
        self.blocks
            .iter()
            .for_each(|b| put(&mut raw, u64::from(b.place.len)));
        put(&mut raw, self.fields.len() as u64);
        for f in &self.fields {
            put(&mut raw, u64::from(f.field));
            raw.push(f.field_type as u8);
            // Lengths plus one; zero where there is no chunk.
            f.chunks
                .iter()
                .for_each(|c| put(&mut raw, c.as_ref().map_or(0, |c| u64::from(c.place.len) + 1)));
        }
        for f in &self.fields {
            f.chunks.iter().flatten().for_each(|c| c.stats.put(&mut raw));
        }
        let compressed = contexts::compress(&raw, ZSTD_LEVEL);
        let mut value = frame::begin(VERSION);
        value.push(u8::from(self.inline.is_some()));
        put(&mut value, raw.len() as u64);
        put(&mut value, compressed.len() as u64);
        value.extend_from_slice(&compressed);
        value.extend_from_slice(self.inline.as_deref().unwrap_or_default());
        frame::finish(key, value)
    }

    /// Reads what [`encode`](Self::encode) made.
    ///
    /// # Errors
    /// Damage.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        let payload = frame::open(key, value, VERSION)?;
        Self::decode_payload(payload)
            .ok_or_else(|| StoreError::damaged(keys::describe(key), "a directory of another shape"))
    }

    fn decode_payload(payload: &[u8]) -> Option<Self> {
        let mut input = Input(payload);
        let has_inline = input.byte()? == 1;
        let raw_len = input.get_count(RAW_BYTES_MAX)?;
        let compressed = input.get_bytes()?;
        let raw = contexts::decompress(compressed, raw_len)?;
        let inline = has_inline.then(|| input.0.to_vec());
        let mut input = Input(&raw);
        let stripe_blocks = input.get_count(raw_len).filter(|&n| n > 0)?;
        let empty = BlockEntry {
            rows: 0,
            first_series: 0,
            last_series: 0,
            time: TimeRange { min: 0, max: 0 },
            place: Place::default(),
        };
        let mut blocks = vec![empty; input.get_count(raw_len)?];
        for b in &mut blocks {
            b.rows = input.get_u32().filter(|&rows| rows > 0)?;
        }
        let mut steps = Vec::with_capacity(blocks.len());
        for _ in 0..blocks.len() {
            steps.push(input.get_u32()?);
        }
        let mut last = 0u32;
        for (b, step) in blocks.iter_mut().zip(steps) {
            b.first_series = last.wrapping_add(step);
            b.last_series = b.first_series.checked_add(input.get_u32()?)?;
            last = b.last_series;
        }
        let mut last = 0i64;
        for b in &mut blocks {
            last = last.wrapping_add(input.get_signed()?);
            b.time.min = last;
        }
        for b in &mut blocks {
            b.time.max = b.time.min.wrapping_add(input.get()? as i64);
        }
        for b in &mut blocks {
            b.place.len = input.get_u32()?;
        }
        let mut fields = Vec::new();
        let mut lengths = Vec::new();
        for _ in 0..input.get_count(raw_len)? {
            let field = FieldId::try_from(input.get()?).ok()?;
            let field_type = FieldType::from_code(input.byte()?)?;
            for _ in 0..blocks.len() {
                lengths.push(input.get_u32()?);
            }
            fields.push(FieldChunks {
                field,
                field_type,
                chunks: Vec::with_capacity(blocks.len()),
            });
        }
        for (i, f) in fields.iter_mut().enumerate() {
            for &len in &lengths[i * blocks.len()..][..blocks.len()] {
                f.chunks.push(match len.checked_sub(1) {
                    None => None,
                    Some(len) => {
                        let place = Place { offset: 0, len };
                        Some(FieldChunk {
                            place,
                            stats: ChunkStats::get(&mut input, f.field_type)?,
                        })
                    }
                });
            }
        }
        let ascending = fields.windows(2).all(|w| w[0].field < w[1].field);
        let mut directory = Self {
            stripe_blocks,
            blocks,
            fields,
            inline,
        };
        (input.is_empty() && ascending && directory.place_chunks().is_some()).then_some(directory)
    }

    /// Sets the offsets from the lengths: the chunks of one column follow each other in a stripe; in a directory with
    /// inline chunks the columns follow each other, too. `None`: too long to be true.
    pub fn place_chunks(&mut self) -> Option<()> {
        let per_stripe = if self.inline.is_some() {
            usize::MAX
        } else {
            self.stripe_blocks
        };
        let mut at = 0u32;
        for (i, b) in self.blocks.iter_mut().enumerate() {
            if i % per_stripe == 0 {
                at = 0;
            }
            b.place.offset = at;
            at = at.checked_add(b.place.len)?;
        }
        for f in &mut self.fields {
            for (i, c) in f.chunks.iter_mut().enumerate() {
                if i % per_stripe == 0 && self.inline.is_none() {
                    at = 0;
                }
                if let Some(c) = c {
                    c.place.offset = at;
                    at = at.checked_add(c.place.len)?;
                }
            }
        }
        match &self.inline {
            Some(inline) => (at as usize == inline.len()).then_some(()),
            None => Some(()),
        }
    }
}
