//! Rows to stored values: cuts sorted rows into blocks and stripes, has each column encoded, puts the chunks of a column of
//! [`STRIPE_BLOCKS`] consecutive blocks into one value, beside it statistics of steps, and writes the directory behind them.
//!
//! Works stripe by stripe and column by column, so a merge needs one column of one stripe in memory, whatever the size of
//! the run and the number of its fields. Knows nothing of packs beyond the sink it writes into.

use super::directory::{BlockEntry, Directory, FieldChunk, FieldChunks, Place};
use super::engine::PackSink;
use super::error::StoreError;
use super::frame;
use super::keys::{self, Part, RunId};
use super::pack::{MeasurementEntry, RunEntry};
use super::partition::Partition;
use super::pieces;
use crate::block::steps::{StepKeys, StepStats, choose_width};
use crate::block::{self, Level};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, SortedRows, TimeRange};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 8192;
/// Blocks whose chunks of one column share a value (docs/adr/0003 has the measurement).
pub const STRIPE_BLOCKS: usize = 16;
/// Bytes of a column in a block, about, before it is encoded; where values are longer than usual blocks have fewer rows.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// The same of a stripe.
pub const STRIPE_BYTES_MAX: usize = STRIPE_BLOCKS * BLOCK_BYTES_MAX;
/// A measurement whose chunks in a run are together no longer than this keeps them in its directory.
pub const INLINE_BYTES: usize = 8 << 10;
/// Version of the values that hold stripes.
pub const STRIPE_VERSION: u8 = 1;

/// How the rows of a measurement are cut. Smaller than usual only where values are long, so that a block and what is made of it stay
/// within memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of a block.
    pub block_rows: usize,
    /// Blocks of a stripe.
    pub stripe_blocks: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            block_rows: BLOCK_ROWS,
            stripe_blocks: STRIPE_BLOCKS,
        }
    }
}

impl Shape {
    /// For values of which the widest takes so many bytes a row, uncompressed.
    pub fn of_width(bytes_per_row: usize) -> Self {
        Self::of_width_within(bytes_per_row, STRIPE_BYTES_MAX)
    }

    /// The same, with stripes of no more than so many bytes.
    pub fn of_width_within(bytes_per_row: usize, stripe_bytes_max: usize) -> Self {
        let width = bytes_per_row.max(1);
        let block_rows = (BLOCK_BYTES_MAX / width).clamp(1, BLOCK_ROWS);
        let stripe_blocks = (stripe_bytes_max / (block_rows * width)).clamp(1, STRIPE_BLOCKS);
        Self {
            block_rows,
            stripe_blocks,
        }
    }

    /// Rows of a stripe.
    pub fn stripe_rows(self) -> usize {
        self.block_rows * self.stripe_blocks
    }
}

/// What a run is, besides its rows.
#[derive(Clone, Copy, Debug)]
pub struct RunAbout {
    /// Its slice of time.
    pub partition: Partition,
    /// Its data was written up to this sequence.
    pub sequence: u64,
    /// No delete up to this sequence hides any of its rows.
    pub deletes_applied: u64,
    /// How hard to encode.
    pub level: Level,
}

/// Writes one run.
pub struct RunWriter<'s, 'w> {
    sink: &'s mut PackSink<'w>,
    id: RunId,
    entry: RunEntry,
    bytes_before: u64,
}

/// Writes one measurement of a run, stripe by stripe.
pub struct MeasurementWriter<'r, 's, 'w> {
    run: &'r mut RunWriter<'s, 'w>,
    measurement: MeasurementId,
    dead_series: u32,
    shape: Shape,
    blocks: Vec<BlockEntry>,
    fields: BTreeMap<FieldId, FieldChunks>,
    stripes: u32,
    /// Rows that do not make a stripe yet, from these rows on.
    pending: VecDeque<(SortedRows, usize)>,
    pending_rows: usize,
    /// Values of the first stripe, until they are too many to go into the directory.
    waiting: Option<Vec<(Part, Vec<u8>)>>,
}

/// Writes the columns of one stripe, fields ascending.
pub struct StripeWriter<'m, 'r, 's, 'w, 'd> {
    to: &'m mut MeasurementWriter<'r, 's, 'w>,
    times: &'d [i64],
    first_block: usize,
    steps: Option<StepKeys>,
    last_field: Option<FieldId>,
}

impl<'s, 'w> RunWriter<'s, 'w> {
    /// Begins run `id`.
    pub fn new(sink: &'s mut PackSink<'w>, id: RunId, about: RunAbout) -> Self {
        let entry = RunEntry {
            partition: about.partition,
            sequence: about.sequence,
            deletes_applied: about.deletes_applied,
            level: about.level,
            time: TimeRange {
                min: i64::MAX,
                max: i64::MIN,
            },
            rows: 0,
            bytes: 0,
            measurements: Vec::new(),
        };
        let bytes_before = sink.bytes();
        Self {
            sink,
            id,
            entry,
            bytes_before,
        }
    }

    /// Begins the next measurement; they ascend. `dead_series` is for [`MeasurementEntry::dead_series`].
    pub fn measurement(
        &mut self,
        measurement: MeasurementId,
        dead_series: u32,
    ) -> MeasurementWriter<'_, 's, 'w> {
        MeasurementWriter {
            run: self,
            measurement,
            dead_series,
            shape: Shape::default(),
            blocks: Vec::new(),
            fields: BTreeMap::new(),
            stripes: 0,
            pending: VecDeque::new(),
            pending_rows: 0,
            waiting: Some(Vec::new()),
        }
    }

    /// What was written, for the header; `None` when no row was.
    pub fn finish(mut self) -> Option<RunEntry> {
        self.entry.bytes = self.sink.bytes() - self.bytes_before;
        (self.entry.rows > 0).then_some(self.entry)
    }
}

impl<'r, 's, 'w> MeasurementWriter<'r, 's, 'w> {
    /// Cuts its rows like this. To be said before any are added.
    pub fn shaped(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Adds sorted rows, after all that were added before. They are kept until they make a stripe. The first say how wide
    /// rows are.
    ///
    /// # Errors
    /// As [`stripe`](Self::stripe).
    pub fn push(&mut self, rows: SortedRows) -> Result<(), StoreError> {
        if self.blocks.is_empty() && self.pending.is_empty() {
            let widest = rows.columns.iter().map(|(_, column)| column.bytes()).max();
            self.shape = Shape::of_width(widest.unwrap_or(0).div_ceil(rows.len().max(1)));
        }
        self.pending_rows += rows.len();
        self.pending.push_back((rows, 0));
        let stripe_rows = self.shape.stripe_rows();
        while self.pending_rows >= stripe_rows {
            self.write_pending(stripe_rows)?;
        }
        Ok(())
    }

    /// Writes a stripe of so many pending rows.
    fn write_pending(&mut self, rows: usize) -> Result<(), StoreError> {
        let (mut pieces, mut wanted) = (Vec::new(), rows);
        while wanted > 0
            && let Some((piece, start)) = self.pending.pop_front()
        {
            let end = piece.len().min(start + wanted);
            wanted -= end - start;
            pieces.push((piece, start..end));
        }
        match &pieces[..] {
            [(piece, range)] => self.write_rows(piece, range.clone())?,
            pieces => self.write_pieces(pieces, rows)?,
        }
        self.pending_rows -= rows;
        if let Some((piece, range)) = pieces.pop()
            && range.end < piece.len()
        {
            self.pending.push_front((piece, range.end));
        }
        Ok(())
    }

    fn write_rows(&mut self, rows: &SortedRows, range: Range<usize>) -> Result<(), StoreError> {
        let mut stripe = self.stripe(&rows.series[range.clone()], &rows.times[range.clone()])?;
        for (field, column) in &rows.columns {
            stripe.column(*field, column, range.start)?;
        }
        Ok(())
    }

    /// Puts one column after the other together, in memory that is still warm from the one before.
    fn write_pieces(&mut self, pieces: &[(SortedRows, Range<usize>)], rows: usize) -> Result<(), StoreError> {
        let (mut series, mut times) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for (piece, range) in pieces {
            series.extend_from_slice(&piece.series[range.clone()]);
            times.extend_from_slice(&piece.times[range.clone()]);
        }
        let fields = pieces.iter().flat_map(|(piece, _)| &piece.columns);
        let fields: BTreeMap<FieldId, FieldType> = fields
            .map(|(id, column)| (*id, column.values.field_type()))
            .collect();
        let mut stripe = self.stripe(&series, &times)?;
        for (field, field_type) in fields {
            let mut column = Column::with_capacity(field_type, rows);
            for (piece, range) in pieces {
                match piece.column(field) {
                    Some(part) => column.extend_from(part, range.clone()),
                    None => column.push_missing(range.len()),
                }
            }
            stripe.column(field, &column, 0)?;
        }
        Ok(())
    }

    /// Begins a stripe: as many rows as its [`Shape`] says, fewer in the last one. Its columns follow.
    ///
    /// # Errors
    /// Rows out of order or a stripe behind a short one: bugs of the caller. Input/output.
    pub fn stripe<'m, 'd>(
        &'m mut self,
        series: &'d [SeriesId],
        times: &'d [i64],
    ) -> Result<StripeWriter<'m, 'r, 's, 'w, 'd>, StoreError> {
        let (Some(&first), Some(&last)) = (series.first(), series.last()) else {
            return Err(self.out_of_order("a stripe without rows"));
        };
        let ascending = self.blocks.last().is_none_or(|b| b.last_series <= first) && first <= last;
        let Shape {
            block_rows,
            stripe_blocks,
        } = self.shape;
        let aligned = self.blocks.len() == self.stripes as usize * stripe_blocks;
        if !ascending || !aligned || series.len() > self.shape.stripe_rows() || series.len() != times.len() {
            return Err(self.out_of_order("a stripe behind a later one"));
        }
        let first_block = self.blocks.len();
        let mut chunks = Vec::new();
        for (series, times) in series.chunks(block_rows).zip(times.chunks(block_rows)) {
            let before = chunks.len();
            block::encode_rows(series, times, self.run.entry.level, &mut chunks);
            let (min, max) = bounds(times);
            let place = Place {
                offset: 0,
                len: chunk_len(&chunks, before),
            };
            self.blocks.push(BlockEntry {
                rows: series.len() as u32,
                first_series: series[0],
                last_series: series[series.len() - 1],
                time: TimeRange { min, max },
                place,
            });
            let time = &mut self.run.entry.time;
            *time = TimeRange {
                min: time.min.min(min),
                max: time.max.max(max),
            };
        }
        self.run.entry.rows += series.len() as u64;
        self.stripes += 1;
        self.write(Part::Rows, chunks)?;
        let width = choose_width(series, times, block_rows);
        let steps = width.map(|width| StepKeys::of(width, series, times, block_rows));
        if let Some(steps) = &steps {
            let mut encoded = Vec::new();
            steps.encode(self.run.entry.level, &mut encoded);
            self.write(Part::Steps, encoded)?;
        }
        Ok(StripeWriter {
            to: self,
            times,
            first_block,
            steps,
            last_field: None,
        })
    }

    fn out_of_order(&self, what: &str) -> StoreError {
        StoreError::Order(format!("{what} in measurement {}", self.measurement))
    }

    /// Writes a value of the current stripe, or keeps it while all of them may still fit into the directory.
    fn write(&mut self, part: Part, chunks: Vec<u8>) -> Result<(), StoreError> {
        let Some(waiting) = &mut self.waiting else {
            return self.write_now(self.stripes - 1, part, &chunks);
        };
        waiting.push((part, chunks));
        if self.stripes > 1 || inline_bytes(waiting) > INLINE_BYTES {
            self.write_waiting()?;
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<(), StoreError> {
        let waiting = self.waiting.take().unwrap_or_default();
        // Only the very last one can be of a second stripe.
        let mut stripe = 0;
        let mut last = None;
        for (part, chunks) in waiting {
            if last.is_some_and(|last| last >= part) {
                stripe += 1;
            }
            self.write_now(stripe, part, &chunks)?;
            last = Some(part);
        }
        Ok(())
    }

    fn write_now(&mut self, stripe: u32, part: Part, chunks: &[u8]) -> Result<(), StoreError> {
        let key = keys::stripe(self.run.id, self.measurement, stripe, part);
        self.run.sink.write(&key, framed(&key, chunks))
    }

    /// Writes what is left and the directory.
    ///
    /// # Errors
    /// Input/output.
    pub fn finish(mut self) -> Result<(), StoreError> {
        if self.pending_rows > 0 {
            self.write_pending(self.pending_rows)?;
        }
        let Some(last) = self.blocks.last().copied() else {
            return Ok(());
        };
        let inline = self.waiting.take().map(|waiting| {
            let chunks = waiting.into_iter().filter(|(part, _)| part.is_chunks());
            chunks.flat_map(|(_, chunks)| chunks).collect()
        });
        let blocks = self.blocks.len();
        let mut fields: Vec<FieldChunks> = self.fields.into_values().collect();
        fields.iter_mut().for_each(|f| f.chunks.resize(blocks, None));
        let rows = self.blocks.iter().map(|b| u64::from(b.rows)).sum();
        let directory = Directory {
            stripe_blocks: self.shape.stripe_blocks,
            blocks: self.blocks,
            fields,
            inline,
        };
        let key = keys::directory(self.run.id, self.measurement);
        // What is inline is rows, which have no second copy.
        let value = directory.encode(&key);
        match directory.inline {
            Some(_) => self.run.sink.write(&key, value)?,
            None => pieces::write(self.run.sink, &key, value)?,
        }
        self.run.entry.measurements.push(MeasurementEntry {
            id: self.measurement,
            last_series: last.last_series,
            dead_series: self.dead_series,
            rows,
        });
        Ok(())
    }
}

impl StripeWriter<'_, '_, '_, '_, '_> {
    /// Adds a field: its values are in the column from row `start` on. Columns without a value may be left out.
    ///
    /// # Errors
    /// Fields out of order or a field that changes its type: bugs of the caller. Input/output.
    pub fn column(&mut self, field: FieldId, column: &Column, start: usize) -> Result<(), StoreError> {
        let field_type = column.values.field_type();
        let first_block = self.first_block;
        self.fields_entry(field, field_type)?
            .chunks
            .resize(first_block, None);
        let level = self.to.run.entry.level;
        let rows = self.times.len();
        let block_rows = self.to.shape.block_rows;
        let (mut chunks, mut any) = (Vec::new(), false);
        for block in (0..rows).step_by(block_rows) {
            let range = start + block..start + rows.min(block + block_rows);
            let before = chunks.len();
            let chunk = column.has_any(range.clone()).then(|| {
                let stats = block::encode_column(column, range, level, &mut chunks);
                let place = Place {
                    offset: 0,
                    len: chunk_len(&chunks, before),
                };
                FieldChunk { place, stats }
            });
            any |= chunk.is_some();
            self.fields_entry(field, field_type)?.chunks.push(chunk);
        }
        self.last_field = Some(field);
        if !any {
            return Ok(());
        }
        self.to.write(Part::Field(field), chunks)?;
        let stats = self.steps.as_ref().and_then(|keys| {
            let stats = StepStats::of(keys, self.times, column, start)?;
            let mut encoded = Vec::new();
            stats.encode(keys, level, &mut encoded);
            Some(encoded)
        });
        match stats {
            Some(encoded) => self.to.write(Part::FieldSteps(field), encoded),
            None => Ok(()),
        }
    }

    fn fields_entry(&mut self, id: FieldId, field_type: FieldType) -> Result<&mut FieldChunks, StoreError> {
        let ascending = self.last_field.is_none_or(|last| last < id);
        let measurement = self.to.measurement;
        let entry = self.to.fields.entry(id).or_insert_with(|| FieldChunks {
            field: id,
            field_type,
            chunks: Vec::new(),
        });
        if entry.field_type != field_type || !ascending {
            return Err(StoreError::Order(format!(
                "field {id} of measurement {measurement} twice or of two types"
            )));
        }
        Ok(entry)
    }
}

fn inline_bytes(waiting: &[(Part, Vec<u8>)]) -> usize {
    let chunks = waiting.iter().filter(|(part, _)| part.is_chunks());
    chunks.map(|(_, chunks)| chunks.len()).sum()
}

fn bounds(times: &[i64]) -> (i64, i64) {
    let first = times.first().copied().unwrap_or(0);
    times
        .iter()
        .fold((first, first), |(min, max), &t| (min.min(t), max.max(t)))
}

fn chunk_len(chunks: &[u8], before: usize) -> u32 {
    u32::try_from(chunks.len() - before)
        .expect("a chunk of 8192 rows is far below 4 GiB: limits bound each value")
}

fn framed(key: &[u8], chunks: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(chunks.len() + 1 + frame::CHECKSUM_BYTES);
    value.push(STRIPE_VERSION);
    value.extend_from_slice(chunks);
    frame::finish(key, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_make_small_blocks() {
        let usual = Shape::default();
        for (width, block_rows) in [
            (0, 8192),
            (8, 8192),
            (128, 8192),
            (129, 8128),
            (1 << 20, 1),
            (1 << 30, 1),
        ] {
            assert_eq!(
                Shape::of_width(width).block_rows,
                block_rows,
                "{width} bytes a row"
            );
        }
        assert_eq!((Shape::of_width(8), usual.stripe_rows()), (usual, 131_072));
        let little = Shape::of_width_within(8, 1 << 20);
        assert_eq!(little, usual, "a stripe of numbers is a megabyte");
        let little = Shape::of_width_within(1000, 4 << 20);
        assert!(little.stripe_rows() * 1000 <= 4 << 20 && little.stripe_rows() * 1000 > 3 << 20);
        assert_eq!(Shape::of_width_within(100, 0).stripe_blocks, 1);
    }
}
