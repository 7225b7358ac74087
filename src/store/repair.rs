//! Rewrites runs around what is damaged in them: every block, and of a damaged block every column, that is sound is kept; what is
//! lost is told of. For `kymo verify --repair`; nobody else may have the store open.

use super::error::StoreError;
use super::keys::RunId;
use super::pack::RunEntry;
use super::runs::{BlockRows, Run, RunBlocks, RunSet, SeriesFilter};
use super::writer::{RunAbout, RunWriter};
use super::{Store, engine::PackSink};
use crate::model::{FieldId, MeasurementId, SortedRows, TimeRange};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a repaired run has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where: run, measurement, block.
    pub place: String,
    /// What of it, and why.
    pub what: String,
    /// Rows that are gone whole.
    pub rows: u64,
}

impl Store {
    /// Rewrites the runs of every pack in which a run has damage, or, with `all`, of every pack: only when nothing of it is needed any more are
    /// a pack's files removed. `seen` hears of the rows that were read.
    ///
    /// # Errors
    /// Input/output; runs that were rewritten before stay so.
    pub fn repair_runs(&self, all: bool, seen: &mut dyn FnMut(u64)) -> Result<Vec<Lost>, StoreError> {
        let set = self.runs();
        let mut damaged = BTreeSet::new();
        for run in set.runs() {
            let mut found = Vec::new();
            for entry in &run.entry.measurements {
                read(&set, run, entry.id, &mut found, &mut |_| Ok(()))?;
            }
            if all || !found.is_empty() {
                damaged.insert(run.id.pack);
            }
            seen(run.entry.rows);
        }
        let mut lost = Vec::new();
        for run in set.runs().iter().filter(|run| damaged.contains(&run.id.pack)) {
            self.rewrite(&set, run, &mut lost)?;
        }
        // What still holds the old runs lets go of them before their files can go.
        drop(set);
        self.free_spent();
        Ok(lost)
    }

    fn rewrite(&self, set: &RunSet, run: &Arc<Run>, lost: &mut Vec<Lost>) -> Result<(), StoreError> {
        let pack = self.new_pack_number();
        let (mut commit, header) = self.core.engine.ingest(|sink| {
            let entry = write(sink, set, run, pack, lost)?;
            self.commit_pack(sink, pack, entry.into_iter().collect(), &[run.id], None)
        })?;
        self.committed(&mut commit, pack, header);
        Ok(())
    }
}

fn write(
    sink: &mut PackSink<'_>,
    set: &RunSet,
    run: &Arc<Run>,
    pack: u64,
    lost: &mut Vec<Lost>,
) -> Result<Option<RunEntry>, StoreError> {
    let about = RunAbout {
        partition: run.entry.partition,
        sequence: run.entry.sequence,
        deletes_applied: run.entry.deletes_applied,
        level: run.entry.level,
    };
    let mut writer = RunWriter::new(sink, RunId { pack, run: 0 }, about);
    for entry in &run.entry.measurements {
        let mut to = writer.measurement(entry.id, entry.dead_series);
        read(set, run, entry.id, lost, &mut |rows| to.push(rows))?;
        to.finish()?;
    }
    Ok(writer.finish())
}

/// Hands the sound rows of a measurement in a run to `keep`.
fn read(
    set: &RunSet,
    run: &Arc<Run>,
    measurement: MeasurementId,
    lost: &mut Vec<Lost>,
    keep: &mut dyn FnMut(SortedRows) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let place = format!("run {}.{}, measurement {measurement}", run.id.pack, run.id.run);
    let blocks = match set.select_run(run, measurement, SeriesFilter::All, TimeRange::ALL) {
        Ok(Some(blocks)) => blocks,
        Ok(None) => return Ok(()),
        Err(error) if error.is_damage() => {
            let rows = run.entry.measurement(measurement).map_or(0, |entry| entry.rows);
            lost.push(Lost {
                place,
                what: format!("all {rows} rows: {error}"),
                rows,
            });
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    for i in 0..blocks.len() {
        let place = format!("{place}, block {i}");
        if let Some(rows) = block(&blocks, i, measurement, &place, lost)? {
            keep(rows)?;
        }
    }
    Ok(())
}

fn block(
    blocks: &RunBlocks,
    i: usize,
    measurement: MeasurementId,
    place: &str,
    lost: &mut Vec<Lost>,
) -> Result<Option<SortedRows>, StoreError> {
    let about = blocks.block(i);
    let keys = match blocks.read(i, &[]) {
        Ok(keys) => keys,
        Err(error) if error.is_damage() => {
            lost.push(Lost {
                place: place.to_string(),
                what: format!(
                    "{} rows, series {} to {}, times {} to {}: {error}",
                    about.rows, about.first_series, about.last_series, about.time.min, about.time.max
                ),
                rows: u64::from(about.rows),
            });
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut columns = Vec::new();
    for field in blocks.fields() {
        match blocks.read(i, &[field]) {
            Ok(BlockRows {
                columns: mut read, ..
            }) => {
                columns.extend(read.pop().flatten().map(|column| (field, column)));
            }
            Err(error) if error.is_damage() => lost.push(of_field(place, field, about.rows, &error)),
            Err(error) => return Err(error),
        }
    }
    if keys.times.is_empty() || columns.is_empty() {
        return Ok(None);
    }
    let mut series = vec![0; keys.times.len()];
    for (id, rows) in keys.series {
        series[rows].fill(id);
    }
    Ok(Some(SortedRows {
        measurement,
        series,
        times: keys.times,
        columns,
    }))
}

fn of_field(place: &str, field: FieldId, rows: u32, error: &StoreError) -> Lost {
    Lost {
        place: place.to_string(),
        what: format!("field {field} of {rows} rows: {error}"),
        rows: 0,
    }
}
