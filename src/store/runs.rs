//! Reading: which blocks of which runs a query needs, and their rows.

use super::cache::{CacheKey, Cached};
use super::deletes::{Deletes, RowFilter};
use super::directory::Directory;
use super::engine::Bytes;
use super::error::StoreError;
use super::keys::{self, Part, RunId};
use super::pack::RunEntry;
use super::writer::STRIPE_VERSION;
use super::{Core, frame};
use crate::block::{ChunkStats, RowKeys, decode_column, decode_rows};
use crate::model::{Column, FieldId, MeasurementId, SeriesId, TimeRange};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

/// One run on disk.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// What the manifest says of it.
    pub entry: RunEntry,
}

/// All runs at one moment, and what is deleted of them.
pub struct RunSet {
    core: Arc<Core>,
    watermark: u64,
    /// Oldest first.
    runs: Vec<Arc<Run>>,
    deletes: Deletes,
}

/// Which series to read.
#[derive(Clone, Copy, Debug)]
pub enum SeriesFilter<'a> {
    /// Every one.
    All,
    /// A range of ids.
    Range(&'a Range<SeriesId>),
    /// Chosen ones.
    Chosen(&'a RoaringBitmap),
}

impl SeriesFilter<'_> {
    fn touches(&self, first: SeriesId, last: SeriesId) -> bool {
        match self {
            Self::All => true,
            Self::Range(range) => range.start <= last && first < range.end,
            Self::Chosen(set) => set.range_cardinality(first..=last) > 0,
        }
    }
}

/// The blocks of one run that may hold wanted rows.
#[derive(Clone)]
pub struct RunBlocks {
    core: Arc<Core>,
    run: Arc<Run>,
    measurement: MeasurementId,
    directory: Arc<Directory>,
    blocks: Vec<u32>,
    filter: RowFilter,
    /// Blocks of the run that were left out.
    pub pruned: usize,
}

/// What the directory says of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockInfo {
    /// Rows, deleted ones included.
    pub rows: u32,
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
}

/// Decoded rows of a block.
#[derive(Debug)]
pub struct BlockRows {
    /// Runs of equal series, ascending: the series and where its rows are.
    pub series: Vec<(SeriesId, Range<usize>)>,
    /// One a row, ascending within a series.
    pub times: Vec<i64>,
    /// One a wanted field; `None` where it has no values here.
    pub columns: Vec<Option<Column>>,
    /// Encoded bytes that were decoded.
    pub bytes: u64,
}

impl RunSet {
    pub(super) fn new(core: Arc<Core>, watermark: u64, runs: &[Arc<Run>], deletes: &Deletes) -> Self {
        Self {
            core,
            watermark,
            runs: runs.to_vec(),
            deletes: deletes.clone(),
        }
    }

    /// Highest sequence whose data is in here.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    /// The blocks that may hold wanted rows, by run, oldest first: of two rows with the same point the later run's is newer.
    ///
    /// # Errors
    /// Damage of a directory; input/output.
    pub fn select(
        &self,
        measurement: MeasurementId,
        series: SeriesFilter<'_>,
        time: TimeRange,
    ) -> Result<Vec<RunBlocks>, StoreError> {
        let mut selected = Vec::new();
        for run in &self.runs {
            if !run.entry.time.overlaps(&time) || run.entry.measurement(measurement).is_none() {
                continue;
            }
            let directory = self.core.directory(run.id, measurement)?;
            let wanted = |block: &u32| {
                let entry = &directory.blocks[*block as usize];
                entry.time.overlaps(&time) && series.touches(entry.first_series, entry.last_series)
            };
            let blocks: Vec<u32> = (0..directory.blocks.len() as u32).filter(wanted).collect();
            if blocks.is_empty() {
                continue;
            }
            selected.push(RunBlocks {
                core: self.core.clone(),
                run: run.clone(),
                measurement,
                pruned: directory.blocks.len() - blocks.len(),
                blocks,
                filter: self.deletes.filter(run.entry.sequence, measurement, time),
                directory,
            });
        }
        Ok(selected)
    }
}

impl RunBlocks {
    /// How many blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// None; [`RunSet::select`] leaves such runs out.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// What the directory says of the `i`th of them.
    pub fn block(&self, i: usize) -> BlockInfo {
        let entry = &self.directory.blocks[self.blocks[i] as usize];
        BlockInfo {
            rows: entry.rows,
            first_series: entry.first_series,
            last_series: entry.last_series,
            time: entry.time,
        }
    }

    /// Statistics of a field in the `i`th block; `None` when the field has no value there. Deleted rows count.
    pub fn stats(&self, i: usize, field: FieldId) -> Option<&ChunkStats> {
        let chunks = &self.directory.field(field)?.chunks;
        chunks[self.blocks[i] as usize].as_ref().map(|chunk| &chunk.stats)
    }

    /// Rows of the `i`th block; deleted ones are left out.
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn read(&self, i: usize, fields: &[FieldId]) -> Result<BlockRows, StoreError> {
        let block = self.blocks[i] as usize;
        let entry = &self.directory.blocks[block];
        let mut bytes = 0;
        let place = entry.place;
        bytes += u64::from(place.len);
        let (series, times): RowKeys = self.chunk(block, Part::Rows, place, decode_rows)?;
        let mut columns = Vec::with_capacity(fields.len());
        for &field in fields {
            let chunks = self.directory.field(field);
            let chunk = chunks.and_then(|f| Some((f.field_type, f.chunks[block].as_ref()?)));
            columns.push(match chunk {
                None => None,
                Some((field_type, chunk)) => {
                    bytes += u64::from(chunk.place.len);
                    let decode = |b: &[u8]| decode_column(b, field_type).filter(|c| c.len() == times.len());
                    Some(self.chunk(block, Part::Field(field), chunk.place, decode)?)
                }
            });
        }
        let rows = BlockRows {
            series,
            times,
            columns,
            bytes,
        };
        let filter = self
            .filter
            .narrow(entry.first_series, entry.last_series, entry.time);
        Ok(if filter.is_empty() {
            rows
        } else {
            rows.without(&filter)
        })
    }

    fn chunk<T>(
        &self,
        block: usize,
        part: Part,
        place: super::directory::Place,
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, StoreError> {
        let stripe = self.directory.stripe_of(block);
        let damaged = || {
            let key = keys::stripe(self.run.id, self.measurement, stripe, part);
            StoreError::damaged(keys::describe(&key), "a chunk of another shape")
        };
        let (offset, len) = (place.offset as usize, place.len as usize);
        if let Some(inline) = &self.directory.inline {
            return inline
                .get(offset..offset + len)
                .and_then(decode)
                .ok_or_else(damaged);
        }
        let value = self.core.stripe(self.run.id, self.measurement, stripe, part)?;
        // The frame's version stands before the chunks; its checksum was checked when the value was read.
        value
            .get(1 + offset..1 + offset + len)
            .and_then(decode)
            .ok_or_else(damaged)
    }
}

impl BlockRows {
    fn without(self, filter: &RowFilter) -> Self {
        let mut keep: Vec<u32> = Vec::with_capacity(self.times.len());
        let mut series = Vec::with_capacity(self.series.len());
        for (id, rows) in self.series {
            let first = keep.len();
            keep.extend(
                rows.filter(|&row| !filter.hides(id, self.times[row]))
                    .map(|row| row as u32),
            );
            if keep.len() > first {
                series.push((id, first..keep.len()));
            }
        }
        Self {
            series,
            times: keep.iter().map(|&row| self.times[row as usize]).collect(),
            columns: self
                .columns
                .into_iter()
                .map(|c| c.map(|c| c.gather(&keep)))
                .collect(),
            bytes: self.bytes,
        }
    }
}

impl Core {
    fn directory(&self, run: RunId, measurement: MeasurementId) -> Result<Arc<Directory>, StoreError> {
        let cache_key = CacheKey::Directory(run, measurement);
        if let Some(Cached::Directory(directory)) = self.cache.get(&cache_key) {
            return Ok(directory);
        }
        let key = keys::directory(run, measurement);
        let value = self.engine.block_get(&key)?;
        let value = value.ok_or_else(|| StoreError::damaged(keys::describe(&key), "it is missing"))?;
        let directory = Arc::new(Directory::decode(&key, &value)?);
        let bytes = directory.memory_bytes();
        self.cache
            .insert(cache_key, Cached::Directory(directory.clone()), bytes);
        Ok(directory)
    }

    fn stripe(
        &self,
        run: RunId,
        measurement: MeasurementId,
        stripe: u32,
        part: Part,
    ) -> Result<Bytes, StoreError> {
        let cache_key = CacheKey::Stripe(run, measurement, stripe, part);
        if let Some(Cached::Stripe(value)) = self.cache.get(&cache_key) {
            return Ok(value);
        }
        let key = keys::stripe(run, measurement, stripe, part);
        let value = self.engine.block_get(&key)?;
        let value = value.ok_or_else(|| StoreError::damaged(keys::describe(&key), "it is missing"))?;
        frame::open(&key, &value, STRIPE_VERSION)?;
        let bytes = value.len();
        self.cache.insert(cache_key, Cached::Stripe(value.clone()), bytes);
        Ok(value)
    }
}
