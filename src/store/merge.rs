//! Merging: some runs become one. First the keys, then one column after the other, stripe by stripe, so that a merge needs
//! the keys of a block a run and one column of a stripe in memory; stripes are cut so that this fits. Ingestion and queries go on meanwhile; the new run
//! takes the place of the old ones in one step, when it is durable.
//!
//! Deleted, dropped and expired rows are left out, and of equal points the newest values are kept. Killed at any moment,
//! the old runs are still there; what a merge had written until then is removed at the next open.

use super::deletes::RowFilter;
use super::directory::Directory;
use super::engine::{Bytes, PackSink};
use super::error::StoreError;
use super::frame;
use super::keys::{Part, RunId};
use super::merge_keys::{KeyBlock, KeyMerge, Merged, NextBlock, Origin};
use super::merge_policy::{Plan, Reason};
use super::pack::RunEntry;
use super::runs::{Run, RunSet};
use super::writer::{MeasurementWriter, RunAbout, RunWriter, STRIPE_BYTES_MAX, Shape};
use super::{Core, Store};
use crate::block::{Level, decode_column, decode_rows};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, TimeRange};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a merge must know beside its plan.
pub struct MergeInput<'a> {
    /// Every delete up to this sequence has been told to the store.
    pub sequence: u64,
    /// Is this measurement still there?
    pub alive: &'a dyn Fn(MeasurementId) -> bool,
    /// Asked now and then: shall it be given up?
    pub stop: &'a dyn Fn() -> bool,
    /// About so many bytes of memory it may hold.
    pub bytes: usize,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeResult {
    /// Rows read.
    pub rows_in: u64,
    /// Bytes of the runs that were replaced.
    pub bytes_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Bytes of the new run.
    pub bytes_out: u64,
}

impl Store {
    /// Carries out a plan. Durable and visible on return. The space of what is replaced is freed by
    /// [`free_spent`](Self::free_spent), once nobody reads it any more.
    ///
    /// # Errors
    /// Damage in a run; input/output; [`StoreError::Stopped`]. Nothing has changed then.
    pub fn merge(&self, plan: &Plan, input: &MergeInput<'_>) -> Result<MergeResult, StoreError> {
        let set = self.runs();
        let find = |id: &RunId| set.runs().iter().find(|run| run.id == *id).cloned();
        let runs: Option<Vec<Arc<Run>>> = plan.runs.iter().map(find).collect();
        let runs = runs.ok_or_else(|| StoreError::Order("a plan to merge runs that are gone".into()))?;
        let pack = self.new_pack_number();
        let written = self.core.engine.ingest(|sink| {
            let entry = match plan.reason {
                Reason::Gone => None,
                _ => write_run(sink, &self.core, &set, &runs, pack, plan, input)?,
            };
            self.commit_pack(sink, pack, entry.into_iter().collect(), &plan.runs, None)
        });
        let (mut commit, header) = match written {
            Ok(written) => written,
            Err(error) => {
                self.sweep();
                return Err(error);
            }
        };
        let mut result = MergeResult::default();
        for run in &runs {
            result.rows_in += run.entry.rows;
            result.bytes_in += run.entry.bytes;
        }
        for entry in &header.runs {
            result.rows_out += entry.rows;
            result.bytes_out += entry.bytes;
        }
        self.committed(&mut commit, pack, header);
        Ok(result)
    }
}

fn write_run(
    sink: &mut PackSink<'_>,
    core: &Core,
    set: &RunSet,
    runs: &[Arc<Run>],
    pack: u64,
    plan: &Plan,
    input: &MergeInput<'_>,
) -> Result<Option<RunEntry>, StoreError> {
    let about = RunAbout {
        partition: plan.partition,
        sequence: runs.iter().map(|run| run.entry.sequence).max().unwrap_or(0),
        deletes_applied: input.sequence,
        level: Level::Small,
    };
    let mut writer = RunWriter::new(sink, RunId { pack, run: 0 }, about);
    let all = runs.iter().flat_map(|run| &run.entry.measurements);
    let measurements: BTreeSet<MeasurementId> = all.map(|m| m.id).collect();
    for measurement in measurements.into_iter().filter(|&m| (input.alive)(m)) {
        let mut sources = Vec::new();
        for run in runs
            .iter()
            .filter(|run| run.entry.measurement(measurement).is_some())
        {
            sources.push(Source {
                run,
                measurement,
                directory: core.load_directory(run.id, measurement)?,
                filter: set.deletes().filter(&run.entry, measurement, TimeRange::ALL),
            });
        }
        // Next to the stripe that is put together there are its encoded form, keys and notes.
        let stripe_bytes_max = (input.bytes / 4).min(STRIPE_BYTES_MAX);
        let shape = Shape::of_width_within(widest(core, &sources)?, stripe_bytes_max);
        let dead = set.deletes().dead_series(measurement);
        let mut to = writer.measurement(measurement, dead).shaped(shape);
        write_measurement(&mut to, core, &sources, shape.stripe_rows(), input.stop)?;
        to.finish()?;
    }
    Ok(writer.finish())
}

/// About how many bytes a row the widest column has: that of numbers, or that of the largest block of texts.
fn widest(core: &Core, sources: &[Source<'_>]) -> Result<usize, StoreError> {
    let mut widest = size_of::<i64>();
    for source in sources {
        for field in &source.directory.fields {
            if field.field_type != FieldType::String {
                continue;
            }
            let lengths = field.chunks.iter().enumerate();
            let largest = lengths.filter_map(|(block, chunk)| Some((chunk.as_ref()?.place.len, block)));
            if let Some((_, block)) = largest.max() {
                let mut reader = ColumnReader::new(core, source, field.field, field.field_type);
                if let Some(column) = reader.block(block as u32)? {
                    widest = widest.max(column.bytes() / column.len().max(1));
                }
            }
        }
    }
    Ok(widest)
}

/// One measurement of one of the runs.
struct Source<'a> {
    run: &'a Run,
    measurement: MeasurementId,
    directory: Directory,
    filter: RowFilter,
}

fn write_measurement(
    to: &mut MeasurementWriter<'_, '_, '_>,
    core: &Core,
    sources: &[Source<'_>],
    stripe_rows: usize,
    stop: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    let mut fields: BTreeMap<FieldId, FieldType> = BTreeMap::new();
    for field in sources.iter().flat_map(|source| &source.directory.fields) {
        fields.insert(field.field, field.field_type);
    }
    let mut keys = KeyMerge::new(sources.iter().map(|source| source.keys(core)).collect())?;
    loop {
        let merged = keys.next(stripe_rows)?;
        if merged.times.is_empty() {
            return Ok(());
        }
        let mut stripe = to.stripe(&merged.series, &merged.times)?;
        for (&field, &field_type) in &fields {
            if stop() {
                return Err(StoreError::Stopped);
            }
            let mut columns: Vec<ColumnReader<'_>> = sources
                .iter()
                .map(|source| ColumnReader::new(core, source, field, field_type))
                .collect();
            stripe.column(field, &gather(&merged, &mut columns, field_type)?, 0)?;
        }
    }
}

/// The column of the merged rows.
fn gather(
    merged: &Merged,
    columns: &mut [ColumnReader<'_>],
    field_type: FieldType,
) -> Result<Column, StoreError> {
    let mut out = Column::with_capacity(field_type, merged.times.len());
    for origin in &merged.origins {
        match origin {
            Origin::Rows(first, rows) => match columns[first.source as usize].block(first.block)? {
                Some(column) => out.extend_from(column, first.row as usize..(first.row + rows) as usize),
                None => out.push_missing(*rows as usize),
            },
            Origin::Fold(range) => {
                let rows = out.len();
                for row in merged.folds[range.clone()].iter().rev() {
                    let column = columns[row.source as usize].block(row.block)?;
                    if let Some(column) = column.filter(|column| column.has(row.row as usize)) {
                        out.push_from(column, row.row as usize);
                        break;
                    }
                }
                out.push_missing(rows + 1 - out.len());
            }
        }
    }
    Ok(out)
}

impl Source<'_> {
    /// The keys of all blocks, without what is hidden.
    fn keys<'a>(&'a self, core: &'a Core) -> NextBlock<'a> {
        let (mut next, mut chunks) = (0, Chunks::default());
        Box::new(move || {
            let Some(entry) = self.directory.blocks.get(next) else {
                return Ok(None);
            };
            let block = next;
            next += 1;
            let place = entry.place;
            let keys = chunks
                .of_block(core, self, block, Part::Rows)?
                .get(place.offset as usize..(place.offset + place.len) as usize)
                .and_then(decode_rows)
                .filter(|(_, times)| times.len() == entry.rows as usize)
                .ok_or_else(|| self.damaged(block, Part::Rows))?;
            let filter = self
                .filter
                .narrow(entry.first_series, entry.last_series, entry.time);
            let hidden = |series: SeriesId, time: i64| filter.hides(series, time);
            let hidden: Option<&dyn Fn(SeriesId, i64) -> bool> =
                if filter.is_empty() { None } else { Some(&hidden) };
            Ok(Some(KeyBlock::new(block as u32, keys, hidden)))
        })
    }

    fn damaged(&self, block: usize, part: Part) -> StoreError {
        let stripe = self.directory.stripe_of(block);
        let key = super::keys::stripe(self.run.id, self.measurement, stripe, part);
        StoreError::damaged(super::keys::describe(&key), "contents of another shape")
    }
}

/// The chunks of one part in the stripe that was read last.
#[derive(Default)]
struct Chunks {
    stripe: Option<(u32, Bytes)>,
}

impl Chunks {
    fn of_block<'a>(
        &'a mut self,
        core: &Core,
        source: &'a Source<'_>,
        block: usize,
        part: Part,
    ) -> Result<&'a [u8], StoreError> {
        if let Some(inline) = &source.directory.inline {
            return Ok(inline);
        }
        let stripe = source.directory.stripe_of(block);
        if self.stripe.as_ref().is_none_or(|(number, _)| *number != stripe) {
            let value = core.load_chunks(source.run.id, source.measurement, stripe, part)?;
            self.stripe = Some((stripe, value));
        }
        Ok(self.stripe.as_ref().map_or(&[], |(_, value)| frame::body(value)))
    }
}

/// Reads one field of one source, block by block.
struct ColumnReader<'a> {
    core: &'a Core,
    source: &'a Source<'a>,
    field: FieldId,
    field_type: FieldType,
    chunks: Chunks,
    block: Option<(u32, Option<Column>)>,
}

impl<'a> ColumnReader<'a> {
    fn new(core: &'a Core, source: &'a Source<'a>, field: FieldId, field_type: FieldType) -> Self {
        Self {
            core,
            source,
            field,
            field_type,
            chunks: Chunks::default(),
            block: None,
        }
    }

    /// The column in a block; `None`: no row there has the field.
    fn block(&mut self, block: u32) -> Result<Option<&Column>, StoreError> {
        if self.block.as_ref().is_none_or(|(number, _)| *number != block) {
            self.block = Some((block, self.read(block as usize)?));
        }
        Ok(self.block.as_ref().and_then(|(_, column)| column.as_ref()))
    }

    fn read(&mut self, block: usize) -> Result<Option<Column>, StoreError> {
        let directory = &self.source.directory;
        let Some(of_field) = directory.field(self.field) else {
            return Ok(None);
        };
        let Some(chunk) = &of_field.chunks[block] else {
            return Ok(None);
        };
        let (start, len) = (chunk.place.offset as usize, chunk.place.len as usize);
        let part = Part::Field(self.field);
        let rows = directory.blocks[block].rows as usize;
        let chunks = self.chunks.of_block(self.core, self.source, block, part)?;
        let column = chunks.get(start..start + len);
        let column = column.and_then(|bytes| decode_column(bytes, of_field.field_type));
        column
            .filter(|column| column.len() == rows && column.values.field_type() == self.field_type)
            .map(Some)
            .ok_or_else(|| self.source.damaged(block, part))
    }
}
