//! Rows to stored values: cuts sorted rows into blocks, has each column encoded, puts the chunks of a column of
//! [`STRIPE_BLOCKS`] consecutive blocks into one value, and writes the directory behind them.
//!
//! Holds one stripe of encoded chunks at a time, whatever the size of the run. Knows nothing of packs beyond the sink
//! it writes into.

use super::directory::{BlockEntry, Directory, FieldChunk, FieldChunks, Place};
use super::engine::PackSink;
use super::error::StoreError;
use super::frame;
use super::keys::{self, Part, RunId};
use super::pack::{MeasurementEntry, RunEntry};
use crate::block::{self, ChunkStats, Level};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, SortedRows, TimeRange};
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 8192;
/// Blocks whose chunks of one column share a value (docs/adr/0003 has the measurement).
pub const STRIPE_BLOCKS: usize = 16;
/// A measurement whose chunks in a run are together no longer than this keeps them in its directory.
pub const INLINE_BYTES: usize = 8 << 10;
/// Version of the values that hold stripes.
pub const STRIPE_VERSION: u8 = 1;

/// How runs are written.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// How hard to encode.
    pub level: Level,
    /// See [`STRIPE_BLOCKS`]; other values only to measure.
    pub stripe_blocks: usize,
}

/// Writes one run.
pub struct RunWriter<'s, 'w> {
    sink: &'s mut PackSink<'w>,
    id: RunId,
    options: WriteOptions,
    entry: RunEntry,
    bytes_before: u64,
}

/// Writes one measurement of a run.
pub struct MeasurementWriter<'r, 's, 'w> {
    run: &'r mut RunWriter<'s, 'w>,
    measurement: MeasurementId,
    dead_series: u32,
    blocks: Vec<BlockEntry>,
    rows: Vec<u8>,
    fields: BTreeMap<FieldId, FieldBuffer>,
    stripes_written: u32,
}

/// A field in the blocks so far, and its chunks in the current stripe.
struct FieldBuffer {
    field_type: FieldType,
    chunks: Vec<Option<FieldChunk>>,
    bytes: Vec<u8>,
}

impl<'s, 'w> RunWriter<'s, 'w> {
    /// Begins run `id` of a partition, with data up to `sequence`.
    pub fn new(
        sink: &'s mut PackSink<'w>,
        id: RunId,
        partition: i64,
        sequence: u64,
        deletes_applied: u64,
        options: WriteOptions,
    ) -> Self {
        let time = TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        };
        let measurements = Vec::new();
        let level = options.level;
        let entry = RunEntry {
            partition,
            sequence,
            deletes_applied,
            level,
            time,
            rows: 0,
            bytes: 0,
            measurements,
        };
        let bytes_before = sink.bytes();
        Self {
            sink,
            id,
            options,
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
            blocks: Vec::new(),
            rows: Vec::new(),
            fields: BTreeMap::new(),
            stripes_written: 0,
        }
    }

    /// What was written, for the header; `None` when no row was.
    pub fn finish(mut self) -> Option<RunEntry> {
        self.entry.bytes = self.sink.bytes() - self.bytes_before;
        (self.entry.rows > 0).then_some(self.entry)
    }
}

impl MeasurementWriter<'_, '_, '_> {
    /// Adds sorted rows, after all that were added before, in blocks of [`BLOCK_ROWS`].
    ///
    /// # Errors
    /// Rows out of order or a field that changes its type: bugs of the caller. Input/output.
    pub fn push(&mut self, rows: &SortedRows) -> Result<(), StoreError> {
        let mut start = 0;
        while start < rows.len() {
            let end = rows.len().min(start + BLOCK_ROWS);
            self.push_block(rows, start..end)?;
            start = end;
        }
        Ok(())
    }

    /// Adds one block.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_block(&mut self, from: &SortedRows, range: Range<usize>) -> Result<(), StoreError> {
        let (series, times) = (&from.series[range.clone()], &from.times[range.clone()]);
        let (Some(&first_series), Some(&last_series)) = (series.first(), series.last()) else {
            return Ok(());
        };
        let ascending = self
            .blocks
            .last()
            .is_none_or(|last| last.last_series <= first_series);
        if !ascending || first_series > last_series {
            return Err(StoreError::Order(format!(
                "series {first_series} of measurement {}",
                self.measurement
            )));
        }
        if self.blocks.len() - self.stripes_written as usize * self.run.options.stripe_blocks
            == self.run.options.stripe_blocks
        {
            self.write_stripe()?;
        }
        let level = self.run.options.level;
        let min = times.iter().copied().min().unwrap_or(0);
        let max = times.iter().copied().max().unwrap_or(0);
        let len = appended(&mut self.rows, |out| {
            block::encode_rows(series, times, level, out)
        })
        .0;
        let place = Place { offset: 0, len };
        let time = TimeRange { min, max };
        self.blocks.push(BlockEntry {
            rows: series.len() as u32,
            first_series,
            last_series,
            time,
            place,
        });
        for (field, column) in &from.columns {
            self.push_column(*field, column, range.clone(), level)?;
        }
        let blocks = self.blocks.len();
        self.fields
            .values_mut()
            .for_each(|f| f.chunks.resize(blocks, None));
        let entry = &mut self.run.entry;
        entry.time = TimeRange {
            min: entry.time.min.min(min),
            max: entry.time.max.max(max),
        };
        entry.rows += series.len() as u64;
        Ok(())
    }

    fn push_column(
        &mut self,
        id: FieldId,
        column: &Column,
        range: Range<usize>,
        level: Level,
    ) -> Result<(), StoreError> {
        if let Some(present) = &column.present
            && !range.clone().any(|row| present.get(row))
        {
            return Ok(());
        }
        let field_type = column.values.field_type();
        let field = self.fields.entry(id).or_insert_with(|| FieldBuffer {
            field_type,
            chunks: Vec::new(),
            bytes: Vec::new(),
        });
        if field.field_type != field_type || field.chunks.len() >= self.blocks.len() {
            let measurement = self.measurement;
            return Err(StoreError::Order(format!(
                "field {id} of measurement {measurement} twice or of two types"
            )));
        }
        field.chunks.resize(self.blocks.len() - 1, None);
        let (len, stats) = appended(&mut field.bytes, |out| {
            block::encode_column(column, range, level, out)
        });
        let stats: ChunkStats = stats;
        field.chunks.push(Some(FieldChunk {
            place: Place { offset: 0, len },
            stats,
        }));
        Ok(())
    }

    fn write_stripe(&mut self) -> Result<(), StoreError> {
        let (id, stripe) = (self.run.id, self.stripes_written);
        let key = keys::stripe(id, self.measurement, stripe, Part::Rows);
        self.run.sink.write(&key, framed(&key, &self.rows))?;
        self.rows.clear();
        for (field, buffer) in &mut self.fields {
            if !buffer.bytes.is_empty() {
                let key = keys::stripe(id, self.measurement, stripe, Part::Field(*field));
                self.run.sink.write(&key, framed(&key, &buffer.bytes))?;
                buffer.bytes.clear();
            }
        }
        self.stripes_written += 1;
        Ok(())
    }

    /// Writes what is left and the directory.
    ///
    /// # Errors
    /// Input/output.
    pub fn finish(mut self) -> Result<(), StoreError> {
        let Some(last) = self.blocks.last().copied() else {
            return Ok(());
        };
        let waiting = self.rows.len() + self.fields.values().map(|f| f.bytes.len()).sum::<usize>();
        let inline = (self.stripes_written == 0 && waiting <= INLINE_BYTES).then(|| {
            let mut inline = std::mem::take(&mut self.rows);
            self.fields
                .values()
                .for_each(|f| inline.extend_from_slice(&f.bytes));
            inline
        });
        if inline.is_none() {
            self.write_stripe()?;
        }
        let rows = self.blocks.iter().map(|b| u64::from(b.rows)).sum();
        let fields = self.fields.into_iter();
        let directory = Directory {
            stripe_blocks: self.run.options.stripe_blocks,
            blocks: self.blocks,
            fields: fields
                .map(|(field, f)| FieldChunks {
                    field,
                    field_type: f.field_type,
                    chunks: f.chunks,
                })
                .collect(),
            inline,
        };
        let key = keys::directory(self.run.id, self.measurement);
        self.run.sink.write(&key, directory.encode(&key))?;
        self.run.entry.measurements.push(MeasurementEntry {
            id: self.measurement,
            last_series: last.last_series as SeriesId,
            dead_series: self.dead_series,
            rows,
        });
        Ok(())
    }
}

/// Runs `encode` and says how many bytes it appended.
fn appended<T>(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> T) -> (u32, T) {
    let before = out.len();
    let result = encode(out);
    let len = u32::try_from(out.len() - before)
        .expect("a chunk of 8192 rows is far below 4 GiB: limits bound each value");
    (len, result)
}

fn framed(key: &[u8], chunks: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(chunks.len() + 1 + frame::CHECKSUM_BYTES);
    value.push(STRIPE_VERSION);
    value.extend_from_slice(chunks);
    frame::finish(key, value)
}
