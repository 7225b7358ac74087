//! Sealing: the head's rows become a pack. Names go first, since names without rows harm nobody; then, in one atomic
//! ingestion, the rows and the new watermark.

use super::Store;
use super::deletes::Deletes;
use super::engine::PackSink;
use super::error::StoreError;
use super::gone::Gone;
use super::index::NewSeries;
use super::keys::RunId;
use super::names::{self, IndexWrite};
use super::pack::RunEntry;
use super::partition::Slice;
use super::runs::RunSet;
use super::writer::{RunAbout, RunWriter};
use crate::batch::{Command, Definitions};
use crate::block::Level;
use crate::model::{MeasurementId, SortedRows};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a seal brings besides its tables.
pub struct SealInput<'a> {
    /// The last sequence whose data is in the tables; grows from seal to seal.
    pub watermark: u64,
    /// How hard to encode the tables: harder where there is time, and they need not be written again.
    pub level: Level,
    /// Names not stored yet; series are not looked for in here.
    pub definitions: &'a Definitions,
    /// Series not stored yet. Those that are stored are passed over.
    pub series: &'a [NewSeries],
    /// Commands not stored yet, in order. Deletes are known from [`Store::apply_command`].
    pub commands: &'a [Command],
    /// The next free ids of databases, policies and measurements.
    pub next_ids: [u32; 3],
    /// All that was ever dropped, if the commands drop something.
    pub gone: Option<&'a Gone>,
}

impl Store {
    /// Writes names first, then all tables with the new watermark, atomically. Durable on return.
    ///
    /// # Errors
    /// Tables not in order of (slice, measurement), a watermark that does not grow; input/output. Nothing is visible then;
    /// the same may be tried again.
    pub fn seal(
        &self,
        input: &SealInput<'_>,
        tables: impl Iterator<Item = (Slice, SortedRows)>,
    ) -> Result<Arc<RunSet>, StoreError> {
        let mut commit = self.commit();
        if input.watermark < self.watermark() {
            return Err(StoreError::Order(format!(
                "watermark {} after {}",
                input.watermark,
                self.watermark()
            )));
        }
        let engine = &self.core.engine;
        let mut write = IndexWrite::prepare(engine, input.definitions, input.commands.iter())?;
        write.put_next_ids(input.next_ids);
        if let Some(gone) = input.gone {
            write.put_gone(gone);
        }
        let set = self.runs();
        for delete in &set.deletes().list {
            if delete.sequence > commit.deletes_stored && delete.sequence <= input.watermark {
                write.put_delete(delete);
            }
        }
        // The commands above may be of batches behind the watermark.
        let heard = self.heard.load(Ordering::Relaxed);
        if heard > commit.heard_stored {
            write.put_heard(heard);
        }
        engine.index_write(&write.changes)?;
        commit.deletes_stored = commit.deletes_stored.max(input.watermark);
        commit.heard_stored = commit.heard_stored.max(heard);
        let gone = |measurement| names::dropped_series(engine, measurement);
        let alive = |measurement| names::has_measurement(engine, measurement);
        self.index.seal(input.series, &gone, &alive)?;
        if input.commands.iter().any(drops_series) {
            self.index.note_drops();
        }

        let pack = self.new_pack_number();
        let tables = tables.map(|(slice, rows)| (slice, without_dead(rows, set.deletes())));
        let dead = |measurement| set.deletes().dead_series(measurement);
        let written = engine.ingest(|sink| {
            let runs = write_runs(sink, pack, input.watermark, input.level, tables, dead)?;
            self.commit_pack(sink, pack, runs, &[], Some((commit, input.watermark)))
        });
        match written {
            Ok((mut commit, header)) => {
                let set = self.committed(&mut commit, pack, header);
                drop(commit);
                self.copy_names();
                Ok(set)
            }
            Err(error) => {
                self.sweep();
                Err(error)
            }
        }
    }
}

fn drops_series(command: &Command) -> bool {
    matches!(
        command,
        Command::DropSeries { .. }
            | Command::DropMeasurement(_)
            | Command::DropPolicy(_)
            | Command::DropDatabase(_)
    )
}

/// The head does not know of dropped series; the store says of a run that it has none of them.
fn without_dead(rows: SortedRows, deletes: &Deletes) -> SortedRows {
    let Some(dead) = deletes.dead.get(&rows.measurement) else {
        return rows;
    };
    let keep: Vec<u32> = (0..rows.len() as u32)
        .filter(|&row| !dead.contains(rows.series[row as usize]))
        .collect();
    if keep.len() == rows.len() {
        rows
    } else {
        rows.gather(&keep)
    }
}

/// Writes the runs of a pack, one a slice.
fn write_runs(
    sink: &mut PackSink<'_>,
    pack: u64,
    watermark: u64,
    level: Level,
    tables: impl Iterator<Item = (Slice, SortedRows)>,
    dead: impl Fn(MeasurementId) -> u32,
) -> Result<Vec<RunEntry>, StoreError> {
    let mut tables = tables.peekable();
    let mut runs: Vec<RunEntry> = Vec::new();
    let mut last: Option<Slice> = None;
    while let Some(&(slice, _)) = tables.peek() {
        if last.is_some_and(|last| last.time.max >= slice.time.min) {
            return Err(StoreError::Order(format!("slice {slice:?} after {last:?}")));
        }
        last = Some(slice);
        let id = RunId {
            pack,
            run: runs.len() as u32,
        };
        let about = RunAbout {
            partition: slice.partition,
            sequence: watermark,
            // The head has applied them to its rows.
            deletes_applied: watermark,
            level,
        };
        let mut run = RunWriter::new(sink, id, about);
        while let Some((_, rows)) = tables.next_if(|(s, _)| *s == slice) {
            let measurement = rows.measurement;
            let mut to = run.measurement(measurement, dead(measurement));
            to.push(rows)?;
            while let Some((_, more)) =
                tables.next_if(|(s, more)| *s == slice && more.measurement == measurement)
            {
                to.push(more)?;
            }
            to.finish()?;
        }
        runs.extend(run.finish());
    }
    Ok(runs)
}
