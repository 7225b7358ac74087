//! Reading: which blocks of which runs a query needs, and their rows.

use super::cache::{CacheKey, Cached};
use super::deletes::{Deletes, RowFilter};
use super::directory::{Directory, FieldChunks};
use super::engine::Bytes;
use super::error::StoreError;
use super::keys::{self, Part, RunId};
use super::pack::RunEntry;
use super::state::Pack;
use super::writer::STRIPE_VERSION;
use super::{Core, frame};
use crate::block::steps::{StepKeys, StepStats};
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
    /// Keeps the pack on disk.
    pub(super) pack: Arc<Pack>,
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

    /// Everything that is hidden.
    pub(super) fn deletes(&self) -> &Deletes {
        &self.deletes
    }

    /// The part of a range of time in which rows of a measurement have not expired.
    pub fn unexpired(&self, measurement: MeasurementId, time: TimeRange) -> TimeRange {
        TimeRange {
            min: time.min.max(self.deletes.expired_before(measurement)),
            ..time
        }
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
        let time = self.unexpired(measurement, time);
        let mut selected = Vec::new();
        for run in &self.runs {
            selected.extend(self.select_run(run, measurement, series, time)?);
        }
        Ok(selected)
    }

    /// As [`select`](Self::select), of one run; `None` when it has nothing that is wanted.
    pub(super) fn select_run(
        &self,
        run: &Arc<Run>,
        measurement: MeasurementId,
        series: SeriesFilter<'_>,
        time: TimeRange,
    ) -> Result<Option<RunBlocks>, StoreError> {
        if !run.entry.time.overlaps(&time) || run.entry.measurement(measurement).is_none() {
            return Ok(None);
        }
        let directory = self.core.directory(run.id, measurement)?;
        let wanted = |block: &u32| {
            let entry = &directory.blocks[*block as usize];
            entry.time.overlaps(&time) && series.touches(entry.first_series, entry.last_series)
        };
        let blocks: Vec<u32> = (0..directory.blocks.len() as u32).filter(wanted).collect();
        if blocks.is_empty() {
            return Ok(None);
        }
        Ok(Some(RunBlocks {
            core: self.core.clone(),
            run: run.clone(),
            measurement,
            pruned: directory.blocks.len() - blocks.len(),
            blocks,
            filter: self.deletes.filter(&run.entry, measurement, time),
            directory,
        }))
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

    /// The slice of time that the run is of.
    pub fn partition(&self) -> TimeRange {
        self.run.entry.partition.time()
    }

    /// Encoded bytes of the keys and of some fields in the `i`th block.
    pub fn encoded_bytes(&self, i: usize, fields: &[FieldId]) -> u64 {
        let block = self.blocks[i] as usize;
        let chunk = |field: &FieldId| self.directory.field(*field)?.chunks[block].as_ref();
        let of_fields = fields
            .iter()
            .filter_map(chunk)
            .map(|chunk| u64::from(chunk.place.len));
        u64::from(self.directory.blocks[block].place.len) + of_fields.sum::<u64>()
    }

    /// Every field that has values in this run.
    pub(super) fn fields(&self) -> Vec<FieldId> {
        self.directory.fields.iter().map(|f| f.field).collect()
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

    /// Is nothing of the `i`th block deleted, so that its statistics and steps hold?
    pub fn is_whole(&self, i: usize) -> bool {
        let entry = &self.directory.blocks[self.blocks[i] as usize];
        self.filter
            .narrow(entry.first_series, entry.last_series, entry.time)
            .is_empty()
    }

    /// The steps of the stripe that the `i`th block is in, and which of them are the block's (see
    /// [`StepKeys::of_block`]); `None` where steps would not pay. Deleted rows are in them: see [`is_whole`](Self::is_whole).
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn steps(&self, i: usize) -> Result<Option<(Arc<StepKeys>, Range<usize>)>, StoreError> {
        if self.directory.inline.is_some() {
            return Ok(None);
        }
        let block = self.blocks[i] as usize;
        let stripe = self.directory.stripe_of(block);
        let at = CacheKey::Stripe(self.run.id, self.measurement, stripe, Part::Steps);
        let in_stripe = block % self.directory.stripe_blocks;
        let steps = match self.core.cache.get(&at) {
            Some(Cached::Steps(steps)) => steps,
            _ => {
                let Some(value) = self
                    .core
                    .load(self.run.id, self.measurement, stripe, Part::Steps)?
                else {
                    return Ok(None);
                };
                let first = stripe as usize * self.directory.stripe_blocks;
                let last = self
                    .directory
                    .blocks
                    .len()
                    .min(first + self.directory.stripe_blocks);
                let decoded = StepKeys::decode(frame::body(&value)).filter(|k| k.ends.len() == last - first);
                let steps = decoded.ok_or_else(|| self.damaged(stripe, Part::Steps))?;
                let steps = Arc::new(steps);
                let bytes = steps.memory_bytes();
                self.core.cache.insert(at, Cached::Steps(steps.clone()), bytes);
                steps
            }
        };
        let of_block = steps.of_block(in_stripe);
        Ok(Some((steps, of_block)))
    }

    /// What a field amounts to in the steps of [`steps`](Self::steps); `None`: no row of the stripe has it, or it has no numbers.
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn step_stats(
        &self,
        i: usize,
        steps: &StepKeys,
        field: FieldId,
    ) -> Result<Option<Arc<StepStats>>, StoreError> {
        let Some(chunks) = self.directory.field(field) else {
            return Ok(None);
        };
        let stripe = self.directory.stripe_of(self.blocks[i] as usize);
        let part = Part::FieldSteps(field);
        let at = CacheKey::Stripe(self.run.id, self.measurement, stripe, part);
        if let Some(Cached::StepStats(stats)) = self.core.cache.get(&at) {
            return Ok(Some(stats));
        }
        let Some(value) = self.core.load(self.run.id, self.measurement, stripe, part)? else {
            return Ok(None);
        };
        let decoded = StepStats::decode(frame::body(&value), steps, chunks.field_type);
        let stats = Arc::new(decoded.ok_or_else(|| self.damaged(stripe, part))?);
        let bytes = stats.memory_bytes();
        self.core
            .cache
            .insert(at, Cached::StepStats(stats.clone()), bytes);
        Ok(Some(stats))
    }

    fn damaged(&self, stripe: u32, part: Part) -> StoreError {
        let key = keys::stripe(self.run.id, self.measurement, stripe, part);
        StoreError::damaged(keys::describe(&key), "contents of another shape")
    }

    /// Series and timestamps of the `i`th block, deleted rows included, and the encoded bytes they stand for.
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn keys(&self, i: usize) -> Result<(Arc<RowKeys>, u64), StoreError> {
        let block = self.blocks[i];
        let encoded = u64::from(self.directory.blocks[block as usize].place.len);
        let at = CacheKey::Block(self.run.id, self.measurement, block, Part::Rows);
        if let Some(Cached::Keys(keys)) = self.core.decoded.get(&at) {
            return Ok((keys, encoded));
        }
        let keys = Arc::new(self.read_keys(i)?.0);
        let bytes = keys.0.len() * size_of::<(SeriesId, Range<usize>)>() + keys.1.len() * 8;
        self.core
            .decoded
            .insert_some(at, Cached::Keys(keys.clone()), bytes);
        Ok((keys, encoded))
    }

    /// The values of a field in the `i`th block, deleted rows included, and the encoded bytes they stand for; `None`: it has none
    /// there.
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn column(&self, i: usize, field: FieldId) -> Result<Option<(Arc<Column>, u64)>, StoreError> {
        let block = self.blocks[i];
        let chunk = |chunks: &FieldChunks| Some(u64::from(chunks.chunks[block as usize].as_ref()?.place.len));
        let Some(encoded) = self.directory.field(field).and_then(chunk) else {
            return Ok(None);
        };
        let at = CacheKey::Block(self.run.id, self.measurement, block, Part::Field(field));
        if let Some(Cached::Column(column)) = self.core.decoded.get(&at) {
            return Ok(Some((column, encoded)));
        }
        let Some((column, _)) = self.read_column(i, field)? else {
            return Ok(None);
        };
        let bytes = column.bytes();
        let column = Arc::new(column);
        self.core
            .decoded
            .insert_some(at, Cached::Column(column.clone()), bytes);
        Ok(Some((column, encoded)))
    }

    /// As [`keys`](Self::keys), past the cache of what is decoded.
    fn read_keys(&self, i: usize) -> Result<(RowKeys, u64), StoreError> {
        let block = self.blocks[i] as usize;
        let entry = &self.directory.blocks[block];
        let rows = entry.rows as usize;
        let decode = |b: &[u8]| decode_rows(b).filter(|(_, times)| times.len() == rows);
        let keys = self.chunk(block, Part::Rows, entry.place, decode)?;
        Ok((keys, u64::from(entry.place.len)))
    }

    /// As [`column`](Self::column), past the cache of what is decoded.
    fn read_column(&self, i: usize, field: FieldId) -> Result<Option<(Column, u64)>, StoreError> {
        let block = self.blocks[i] as usize;
        let Some(chunks) = self.directory.field(field) else {
            return Ok(None);
        };
        let Some(chunk) = &chunks.chunks[block] else {
            return Ok(None);
        };
        let rows = self.directory.blocks[block].rows as usize;
        let decode = |b: &[u8]| decode_column(b, chunks.field_type).filter(|c| c.len() == rows);
        let column = self.chunk(block, Part::Field(field), chunk.place, decode)?;
        Ok(Some((column, u64::from(chunk.place.len))))
    }

    /// Rows of the `i`th block; deleted ones are left out.
    ///
    /// # Errors
    /// Damage; input/output.
    pub fn read(&self, i: usize, fields: &[FieldId]) -> Result<BlockRows, StoreError> {
        let ((series, times), mut bytes) = self.read_keys(i)?;
        let mut columns = Vec::with_capacity(fields.len());
        for &field in fields {
            columns.push(self.read_column(i, field)?.map(|(column, read)| {
                bytes += read;
                column
            }));
        }
        let rows = BlockRows {
            series,
            times,
            columns,
            bytes,
        };
        let entry = &self.directory.blocks[self.blocks[i] as usize];
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
        let damaged = || self.damaged(stripe, part);
        let (offset, len) = (place.offset as usize, place.len as usize);
        if let Some(inline) = &self.directory.inline {
            return inline
                .get(offset..offset + len)
                .and_then(decode)
                .ok_or_else(damaged);
        }
        let value = self.core.stripe(self.run.id, self.measurement, stripe, part)?;
        // Its checksum was checked when the value was read.
        frame::body(&value)
            .get(offset..offset + len)
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
        let directory = Arc::new(self.load_directory(run, measurement)?);
        let bytes = directory.memory_bytes();
        self.cache
            .insert(cache_key, Cached::Directory(directory.clone()), bytes);
        Ok(directory)
    }

    /// A directory from disk, past the cache.
    pub(super) fn load_directory(
        &self,
        run: RunId,
        measurement: MeasurementId,
    ) -> Result<Directory, StoreError> {
        let key = keys::directory(run, measurement);
        let value = self.engine.block_get_whole(&key)?;
        let value = value.ok_or_else(|| StoreError::damaged(keys::describe(&key), "it is missing"))?;
        Directory::decode(&key, &value)
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
        let value = self.load_chunks(run, measurement, stripe, part)?;
        let bytes = value.len();
        self.cache.insert(cache_key, Cached::Stripe(value.clone()), bytes);
        Ok(value)
    }

    /// Chunks from disk, past the cache.
    pub(super) fn load_chunks(
        &self,
        run: RunId,
        measurement: MeasurementId,
        stripe: u32,
        part: Part,
    ) -> Result<Bytes, StoreError> {
        self.load(run, measurement, stripe, part)?.ok_or_else(|| {
            let key = keys::stripe(run, measurement, stripe, part);
            StoreError::damaged(keys::describe(&key), "it is missing")
        })
    }

    /// A part of a stripe from disk, checked, if there is one.
    fn load(
        &self,
        run: RunId,
        measurement: MeasurementId,
        stripe: u32,
        part: Part,
    ) -> Result<Option<Bytes>, StoreError> {
        let key = keys::stripe(run, measurement, stripe, part);
        let Some(value) = self.engine.block_get(&key)? else {
            return Ok(None);
        };
        frame::open(&key, &value, STRIPE_VERSION)?;
        Ok(Some(value))
    }
}
