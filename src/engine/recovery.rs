//! What a start does before anything is served: names, runs and deletes come from the store, then the batches of the journal
//! that the store does not have. Whatever the disk, real or simulated, and whatever a crash left on it, this is the one way in.

use super::attempt::Attempt;
use super::losses::Losses;
use super::progress::Progress;
use super::sealer::Sealer;
use super::{OpenError, Subscriber};
use crate::batch::{Batch, BatchError, Command, EncodedBatch};
use crate::block::Level;
use crate::budget::{Budget, Budgets};
use crate::catalog::Catalog;
use crate::journal::disk::Disk;
use crate::journal::replay::{bytes_in_use, harden, replay};
use crate::journal::writer::Existing;
use crate::model::{MeasurementId, TimeRange};
use crate::rollup::Rollups;
use crate::shard::Group;
use crate::shard::dispatch::Dispatcher;
use crate::shard::publish::{Head, Observer};
use crate::store::{Loaded, RunSet, Store, StoreError, StoreOptions};
use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What was found at start.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Batches replayed from the journal.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Batches that were damaged and left out.
    pub damaged: u64,
    /// Sequences that damage of the journal took, at this start or before.
    pub lost: u64,
    /// Batches that lie in the data folder as `quarantine-N.batch`.
    pub quarantined: u64,
    /// The most that unsealed points and new series took in memory meanwhile.
    pub peak_bytes: usize,
    /// How long it took.
    pub took: Duration,
    /// The last sequence that was in the store.
    pub sealed: u64,
    /// Where in time the rows of the batches after it lie, a measurement each.
    pub touched: BTreeMap<MeasurementId, TimeRange>,
}

/// Names, head and store, and the ways between them. Threads come later.
pub(crate) struct Core {
    /// Names.
    pub catalog: Arc<Catalog>,
    /// What is sealed.
    pub store: Arc<Store>,
    /// What is committed and not sealed.
    pub head: Arc<Head<RunSet>>,
    /// The way into it.
    pub dispatcher: Arc<Dispatcher<RunSet>>,
    /// Which intervals of rollups can be believed.
    pub rollups: Arc<Rollups>,
    /// How far the start is.
    pub progress: Arc<Progress>,
    /// Who hears of commits.
    pub(super) commits: Arc<Mutex<Vec<Subscriber>>>,
}

impl Core {
    /// Opens the store with `open_store` and the shards with `start`.
    ///
    /// # Errors
    /// Theirs.
    pub fn open(
        budgets: &Budgets,
        open_store: impl FnOnce(StoreOptions, &mut dyn FnMut(Loaded)) -> Result<Store, StoreError>,
        start: impl FnOnce(u16, Arc<Head<RunSet>>) -> io::Result<Dispatcher<RunSet>>,
    ) -> Result<Self, OpenError> {
        let catalog = Arc::new(Catalog::new());
        let store_options = StoreOptions {
            cache_bytes: budgets.size(Budget::BlockCache),
            index_cache_bytes: budgets.size(Budget::IndexCache),
        };
        catalog.spellings().set_budget(budgets.size(Budget::Spellings));
        let mut loaded_well = Ok(());
        let store = open_store(store_options, &mut |loaded| match loaded {
            Loaded::Index(index) => catalog.use_index(index),
            Loaded::Gone(gone) => catalog.never_define(&gone),
            Loaded::Definitions(definitions) => {
                if let Err(error) = catalog.apply_definitions(&definitions, true) {
                    loaded_well = Err(error);
                }
            }
            Loaded::Command(command) => catalog.apply_command(&command),
            Loaded::NextIds(ids) => catalog.raise_next_ids(ids),
        })?;
        loaded_well?;
        let store = Arc::new(store);
        let commits = Arc::new(Mutex::new(Vec::new()));
        let rollups = Arc::new(Rollups::default());
        rollups.load(&catalog, store.watermark());
        let published = Published {
            catalog: catalog.clone(),
            store: store.clone(),
            rollups: rollups.clone(),
            commits: commits.clone(),
        };
        let shards = budgets.get(Budget::Shards) as u16;
        let head = Arc::new(Head::new(shards, store.watermark(), store.runs(), published));
        let dispatcher = start(shards, head.clone()).map_err(OpenError::Thread)?;
        Ok(Self {
            catalog,
            store,
            head,
            dispatcher: Arc::new(dispatcher),
            rollups,
            progress: Arc::default(),
            commits,
        })
    }

    /// Takes over what the journal has and the store has not. What of the journal is left goes to its writer.
    ///
    /// # Errors
    /// Input/output; a seal that fails.
    pub fn replay<D: Disk>(
        &self,
        disk: &D,
        dir: &Path,
        head_bytes_max: usize,
        sealer: &mut Sealer,
    ) -> Result<(Recovery, Existing), OpenError> {
        let Self {
            catalog,
            store,
            head,
            dispatcher,
            progress,
            ..
        } = self;
        let folder = |error| OpenError::Folder {
            folder: dir.to_path_buf(),
            error,
        };
        let watermark = store.watermark();
        let mut recovery = Recovery {
            sealed: watermark,
            ..Recovery::default()
        };
        let (mut damaged, mut last_command, mut last_dispatched) = (0, 0, 0);
        let mut attempt = Attempt::begin(dir).map_err(folder)?;
        let mut losses = Losses::read(dir).map_err(folder)?;
        let mut next = watermark + 1;
        // A batch is lost, and with it perhaps the names of what later batches speak of.
        let mut has_gap = false;
        progress.replays(bytes_in_use(disk).map_err(OpenError::Journal)?);
        let mut replayed = replay(disk, watermark, |sequence, bytes| {
            let frame_bytes = bytes.len();
            if sequence > next {
                // Before what follows may be sealed: then the gap could not be told from what is in the store.
                losses.note(next, sequence - 1)?;
                has_gap = true;
            }
            next = sequence + 1;
            // Names are made again only after what was dropped before them is dropped.
            while head.sequence() < last_command {
                std::thread::yield_now();
            }
            if attempt.is_to_be_left_out(sequence) {
                // Before its file is made; and if the note is missing although the file is there, whatever took it.
                if !losses.is_behind_a_gap(sequence) {
                    losses.note_gap(sequence)?;
                }
                damaged += 1;
                has_gap = true;
            }
            if attempt.leave_out(sequence, bytes)? {
                return Ok(());
            }
            let has_gap_before = has_gap || losses.is_behind_a_gap(sequence);
            let recovered = std::panic::catch_unwind(AssertUnwindSafe(|| {
                recover(bytes, catalog, dispatcher.shards(), has_gap_before)
            }));
            match recovered {
                Ok(Ok((batch, nameless))) => {
                    if nameless > 0 {
                        tracing::error!(
                            sequence,
                            values = nameless,
                            "values are left out: what they belong to was defined in a batch that is lost"
                        );
                        damaged += 1;
                        losses.note(sequence, sequence)?;
                    }
                    if !batch.commands().is_empty() {
                        last_command = sequence;
                    }
                    for table in batch.tables() {
                        let range = table.time_range();
                        let known = recovery.touched.entry(table.measurement()).or_insert(range);
                        known.min = known.min.min(range.min);
                        known.max = known.max.max(range.max);
                    }
                    let batch = Arc::new(batch);
                    let group = Group {
                        first: sequence,
                        last: sequence,
                        batches: vec![batch],
                    };
                    last_dispatched = sequence;
                    dispatcher.dispatch(group, Vec::new());
                }
                Ok(Err(RecoverError::Index(error))) => return Err(io::Error::other(error)),
                Ok(Err(RecoverError::Batch(error))) => {
                    damaged += 1;
                    has_gap = true;
                    losses.note_gap(sequence)?;
                    attempt.set_aside(sequence, bytes, &error.to_string())?;
                }
                Err(_) => {
                    damaged += 1;
                    has_gap = true;
                    losses.note_gap(sequence)?;
                    attempt.set_aside(sequence, bytes, "reading it panicked")?;
                }
            }
            while attempt.is_careful() && head.sequence() < last_dispatched {
                std::thread::yield_now();
            }
            // Replay stays within the memory that running has.
            let (active, frozen) = head.bytes();
            let bytes = active + frozen + catalog.delta_bytes();
            recovery.peak_bytes = recovery.peak_bytes.max(bytes);
            progress.batch(frame_bytes);
            if bytes >= head_bytes_max {
                sealer
                    .seal(Level::Fast, &|| true)
                    .map_err(|error| io::Error::other(error.to_string()))?;
            }
            Ok(())
        })
        .map_err(OpenError::Journal)?;
        if replayed.existing.next_sequence > next {
            // The frames of the last segments: no frame behind them told of the gap, and what comes next begins behind it.
            let last = replayed.existing.next_sequence - 1;
            losses.note(next, last).map_err(folder)?;
        }
        harden(disk, &replayed).map_err(OpenError::Journal)?;
        for damage in &replayed.damage {
            tracing::error!(
                file = damage.file,
                offset = damage.offset,
                from = damage.lost.0,
                to = damage.lost.1,
                "damage in the journal: these sequences are lost"
            );
            damaged += 1;
        }
        // What the store has heard of the journal had, and has no more: it is no crash that took the journal's end. IMPORTANT: their sequences are
        // not given out again, or deletes that are stored already would hide what comes under them.
        let next = &mut replayed.existing.next_sequence;
        if let Some(last) = Some(store.heard()).filter(|last| last >= next) {
            if losses.of(last).is_none() {
                tracing::error!(
                    from = *next,
                    to = last,
                    "damage at the end of the journal: these sequences are lost"
                );
                losses.note(*next, last).map_err(folder)?;
                damaged += 1;
            }
            *next = last + 1;
        }
        losses
            .settle(replayed.existing.next_sequence - 1)
            .map_err(folder)?;
        // Not before it was made durable.
        store.hear(last_command);
        recovery.batches = replayed.frames;
        recovery.bytes = replayed.bytes;
        recovery.damaged = damaged;
        recovery.lost = losses.sequences();
        // What the shards still work on ends the process while the note is there, if it does.
        while head.sequence() < last_dispatched {
            std::thread::yield_now();
        }
        recovery.quarantined = attempt.finish().map_err(folder)?;
        progress.replayed();
        Ok((recovery, replayed.existing))
    }
}

/// Why a batch of the journal cannot be used.
#[derive(Debug, thiserror::Error)]
enum RecoverError {
    /// It is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What it defines cannot be compared with what is there.
    #[error(transparent)]
    Index(#[from] StoreError),
}

/// Makes a batch of the journal ready for the shards of this run. Behind a gap values may belong to what nobody knows: they are left out
/// and counted.
fn recover(
    bytes: &[u8],
    catalog: &Catalog,
    shards: u16,
    has_gap: bool,
) -> Result<(EncodedBatch, u64), RecoverError> {
    let batch = EncodedBatch::from_bytes(bytes)?;
    if batch.has_definitions() {
        catalog.apply_definitions(&batch.definitions(), false)?;
    }
    if has_gap {
        let (known, nameless) = without_nameless(batch.decode(), catalog)?;
        if nameless > 0 {
            return Ok((EncodedBatch::encode(known.resplit(shards)), nameless));
        }
    }
    if batch.shards() == shards {
        return Ok((batch, 0));
    }
    Ok((EncodedBatch::encode(batch.decode().resplit(shards)), 0))
}

/// Leaves out what belongs to measurements, series and fields that were never defined, and counts its values.
///
/// IMPORTANT: their numbers will be given to others. What was kept under them would be answered as theirs.
fn without_nameless(mut batch: Batch, catalog: &Catalog) -> Result<(Batch, u64), StoreError> {
    let mut left_out = 0;
    let mut tables = Vec::new();
    for mut table in std::mem::take(&mut batch.tables) {
        let values = (table.times.len() * table.columns.len()) as u64;
        let Some(measurement) = catalog.measurement_by_id(table.measurement) else {
            left_out += values;
            continue;
        };
        let fields = measurement.fields();
        table.columns.retain(|(field, _)| fields.get(*field).is_some());
        let mut known = BTreeMap::new();
        let mut rows = Vec::new();
        for (row, series) in (0..).zip(&table.series) {
            let is_known = match known.get(series) {
                Some(&is_known) => is_known,
                None => {
                    let is_known = measurement.knows_series(*series)?;
                    known.insert(*series, is_known);
                    is_known
                }
            };
            if is_known {
                rows.push(row);
            }
        }
        if rows.len() < table.times.len() {
            table.series = rows.iter().map(|&row: &u32| table.series[row as usize]).collect();
            table.times = rows.iter().map(|&row| table.times[row as usize]).collect();
            table.columns = table
                .columns
                .iter()
                .map(|(field, column)| (*field, column.gather(&rows)))
                .collect();
        }
        left_out += values - (table.times.len() * table.columns.len()) as u64;
        if !table.times.is_empty() && !table.columns.is_empty() {
            tables.push(table);
        }
    }
    batch.tables = tables;
    Ok((batch, left_out))
}

/// Hears of every group as it becomes visible.
struct Published {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    rollups: Arc<Rollups>,
    commits: Arc<Mutex<Vec<Subscriber>>>,
}

impl Observer<RunSet> for Published {
    fn before(&self, group: &Group) -> bool {
        let mut changed = false;
        for (sequence, batch) in (group.first..).zip(&group.batches) {
            self.catalog.commit(batch);
            let commands = batch.commands();
            self.rollups.note(sequence, batch, &commands, &self.catalog);
            for command in commands {
                if matches!(command, Command::Delete { .. } | Command::DropSeries { .. }) {
                    self.store.apply_command(sequence, &command);
                    changed = true;
                }
            }
        }
        changed
    }

    fn runs(&self) -> Arc<RunSet> {
        self.store.runs()
    }

    fn after(&self, group: &Group) {
        let mut subscribers = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| {
            let mut batches = (group.first..).zip(&group.batches);
            batches.all(|(sequence, batch)| subscriber.tell(sequence, batch))
        });
    }
}
