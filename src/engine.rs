//! Puts journal, head, store and catalog together: what the rest of the server writes to and reads from.
//!
//! Plain threads and channels: the journal's thread, one a shard, one that seals, and one that merges. Nothing here knows actix or sockets.
//! ARCHITECTURE.md follows a point through it.

#[cfg(test)]
mod any_query;
pub mod attempt;
pub mod merger;
#[cfg(test)]
mod reused_tables;
pub mod room;

use crate::batch::{Batch, BatchError, Command, EncodedBatch};
use crate::budget::{self, Budget, Budgets, Current};
use crate::catalog::Catalog;
use crate::ingest::{Limits, Registry};
use crate::journal::JournalError;
use crate::journal::disk::Folder;
use crate::journal::replay::{harden, replay};
use crate::journal::thread::{Entry, Full, Journal, Outcome};
use crate::journal::writer::{SEGMENT_BYTES, Writer};
use crate::model::{MeasurementId, TimeRange};
use crate::query::resources::Pool;
use crate::query::scan::Scan;
use crate::query::snapshot::Snapshot;
use crate::query::statements::Target;
use crate::query::{Running, Value, Workers};
use crate::rejected::{self, Filter, LEDGER_BYTES_MAX, Ledger};
use crate::rollup::Rollups;
use crate::shard::dispatch::Dispatcher;
use crate::shard::publish::{Head, Observer};
use crate::shard::seal::sealed_tables;
use crate::shard::{Ack, CommitError, Group};
use crate::store::{Loaded, RunSet, SealInput, Store, StoreCounters, StoreError, StoreOptions};
use attempt::Attempt;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use merger::{MergeControl, MergeCounters, Merger};
use room::Room;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How an engine is opened.
#[derive(Clone)]
pub struct EngineOptions {
    /// What it may use of the machine. Followed while it runs; the number of shards is that at the start.
    pub budgets: Arc<Current>,
    /// Free bytes on the disk below which no points are taken; `None`: what suits the disk.
    pub disk_floor_bytes: Option<u64>,
    /// The wall clock: retention goes by it.
    pub now: fn() -> i64,
}

impl EngineOptions {
    /// With budgets that stay as they are.
    pub fn new(budgets: Budgets, now: fn() -> i64) -> Self {
        Self {
            budgets: Arc::new(Current::new(budgets)),
            disk_floor_bytes: None,
            now,
        }
    }
}

/// A batch larger than this is refused: bytes, encoded.
pub const BATCH_BYTES_MAX: usize = 512 << 20;
/// Unsealed points are sealed at this age even if they are few, so that a restart has little to replay.
const SEAL_AGE: Duration = Duration::from_secs(600);
/// Unsealed points are sealed when nothing came for so long, ..
const SEAL_IDLE: Duration = Duration::from_secs(3);
/// .. if they are so many bytes; fewer wait for their age.
const SEAL_IDLE_BYTES: usize = 1 << 20;
/// The journal is let grow to so many times the head before a seal: batches may hold little but names.
const JOURNAL_TO_HEAD: u64 = 4;
/// How often the sealer looks.
const SEAL_TICK: Duration = Duration::from_millis(200);
/// Between tries when a seal fails.
const SEAL_RETRY: Duration = Duration::from_secs(2);
/// Committed batches that may wait for one subscriber before it is told of a gap.
const COMMITS_MAX: usize = 1024;

/// Why the engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server has the folder.
    #[error(
        "the data folder {folder} is in use by another kymo (process {pid}); stop it or choose another --data-dir"
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// As that server wrote it.
        pid: String,
    },
    /// The folder cannot be read or written.
    #[error("cannot use the data folder {folder}: {error}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal cannot be read.
    #[error("cannot read the journal: {0}")]
    Journal(io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// Why a batch was not accepted. Nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Try again in a moment.
    #[error("timeout: the server is overloaded, its queues are full; retry")]
    Overloaded,
    /// The server is going down.
    #[error("the server is shutting down")]
    Stopping,
    /// Points are refused until there is room again.
    #[error(
        "no space left on the disk: {free} bytes are free, points are taken from {floor} on (--disk-floor); free some space"
    )]
    DiskLow {
        /// Free bytes.
        free: u64,
        /// The floor.
        floor: u64,
    },
    /// See [`BATCH_BYTES_MAX`].
    #[error("the request is too large: {0} bytes encoded (limit {BATCH_BYTES_MAX})")]
    TooLarge(usize),
}

/// Why a batch was not committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It was not accepted.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// It was accepted and could not be made durable.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What subscribers of commits hear.
#[derive(Clone)]
pub enum Committed {
    /// A batch is visible.
    Batch(u64, Arc<EncodedBatch>),
    /// The subscriber was too slow: batches up to a sequence were not told.
    Gap(Gap),
}

/// Batches that a slow subscriber was not told of, and where in time their rows lie.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// The last of them.
    pub through: u64,
    /// From the earliest to the latest of their rows.
    pub time: Option<TimeRange>,
    /// Some of them had commands, which may change anything.
    pub commands: bool,
}

impl Gap {
    fn add(gap: &mut Option<Self>, sequence: u64, batch: &EncodedBatch) {
        let gap = gap.get_or_insert(Self {
            through: sequence,
            time: None,
            commands: false,
        });
        gap.through = sequence;
        gap.commands |= !batch.commands().is_empty();
        for table in batch.tables() {
            let range = table.time_range();
            gap.time = Some(gap.time.map_or(range, |known| TimeRange {
                min: known.min.min(range.min),
                max: known.max.max(range.max),
            }));
        }
    }
}

/// A batch on its way through the journal.
struct Pending {
    batch: Arc<EncodedBatch>,
    ack: Ack,
}

impl Entry for Pending {
    fn bytes(&self) -> &[u8] {
        self.batch.bytes()
    }
}

/// Where the journal's thread hands things.
struct FromJournal {
    catalog: Arc<Catalog>,
    head: Arc<Head<RunSet>>,
    dispatcher: Arc<Dispatcher<RunSet>>,
    budgets: Arc<Current>,
}

impl Outcome<Pending> for FromJournal {
    fn admit(&mut self) {
        loop {
            let most = 2 * self.budgets.get().size(Budget::Head);
            // New series take room, too; but however many there are, some rows find a place beside them.
            let most = most.saturating_sub(self.catalog.delta_bytes()).max(most / 8);
            if self.head.wait_for_space(most, Duration::from_secs(5)) {
                return;
            }
            tracing::warn!("writing waits: unsealed points fill their memory and the seal does not keep up");
        }
    }

    fn committed(&mut self, first: u64, entries: Vec<Pending>) {
        let last = first + entries.len() as u64 - 1;
        let (batches, acks) = entries.into_iter().map(|e| (e.batch, e.ack)).unzip();
        self.dispatcher.dispatch(Group { first, last, batches }, acks);
    }

    fn refused(&mut self, entry: Pending, error: &JournalError) {
        (entry.ack)(Err(match error {
            JournalError::DiskFull => CommitError::DiskFull,
            other => CommitError::Failed(other.to_string()),
        }));
    }
}

/// Hears of every group as it becomes visible.
struct Published {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    rollups: Arc<Rollups>,
    commits: Arc<Mutex<Vec<Subscriber>>>,
}

struct Subscriber {
    sender: Sender<Committed>,
    gap: Arc<Mutex<Option<Gap>>>,
}

impl Subscriber {
    /// False: the receiver is gone.
    fn tell(&self, sequence: u64, batch: &Arc<EncodedBatch>) -> bool {
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        // While there is a gap that was not taken nothing more is sent, so that it is the last thing before what follows.
        if gap.is_some() {
            Gap::add(&mut gap, sequence, batch);
            return true;
        }
        match self.sender.try_send(Committed::Batch(sequence, batch.clone())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => Gap::add(&mut gap, sequence, batch),
            Err(TrySendError::Disconnected(_)) => return false,
        }
        true
    }
}

/// Where a subscriber of commits hears of them.
pub struct Commits {
    receiver: Receiver<Committed>,
    gap: Arc<Mutex<Option<Gap>>>,
}

impl Commits {
    /// To wait on. What comes from it is heard by way of [`next`](Self::next), which also tells of gaps.
    pub fn receiver(&self) -> &Receiver<Committed> {
        &self.receiver
    }

    /// What is to be heard next; waits for it if need be.
    pub fn next(&self, patience: Duration) -> Option<Committed> {
        if let Ok(commit) = self.receiver.try_recv() {
            return Some(commit);
        }
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        if gap.is_some() {
            // Nothing was sent since the gap began, but the end of what came before it may have been sent just now.
            return match self.receiver.try_recv() {
                Ok(commit) => Some(commit),
                Err(_) => gap.take().map(Committed::Gap),
            };
        }
        drop(gap);
        self.receiver.recv_timeout(patience).ok()
    }
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

/// What the sealing thread is told.
#[derive(Default)]
struct SealControl {
    state: Mutex<SealState>,
    wake: Condvar,
}

#[derive(Default)]
struct SealState {
    stopping: bool,
}

/// Figures of seals for /metrics, since the start.
#[derive(Debug, Default)]
pub struct SealCounters {
    /// Seals.
    pub seals: AtomicU64,
    /// Seals that failed and were tried again.
    pub failures: AtomicU64,
    /// Nanoseconds spent.
    pub nanoseconds: AtomicU64,
    /// Last sequence that is in the store.
    pub sequence: AtomicU64,
}

/// See the module. Shared.
pub struct Engine {
    catalog: Arc<Catalog>,
    registry: Registry,
    rejected: Ledger,
    limits: Limits,
    shards: u16,
    budgets: Arc<Current>,
    journal: Arc<Journal<Pending>>,
    head: Arc<Head<RunSet>>,
    dispatcher: Arc<Dispatcher<RunSet>>,
    store: Arc<Store>,
    commits: Arc<Mutex<Vec<Subscriber>>>,
    seal: Arc<SealControl>,
    sealer: Mutex<Option<JoinHandle<()>>>,
    seal_counters: Arc<SealCounters>,
    merge: Arc<MergeControl>,
    merger: Mutex<Option<JoinHandle<()>>>,
    merge_counters: Arc<MergeCounters>,
    room: Room,
    recovery: Recovery,
    rollups: Arc<Rollups>,
    workers: Workers,
    running: Arc<Running>,
    _lock: File,
}

/// What was found at start.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Batches replayed from the journal.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Batches that were damaged and left out.
    pub damaged: u64,
    /// Batches that lie in the data folder as `quarantine-N.batch`.
    pub quarantined: u64,
    /// How long it took.
    pub took: Duration,
    /// The last sequence that was in the store.
    pub sealed: u64,
    /// Where in time the rows of the batches after it lie, a measurement each.
    pub touched: BTreeMap<MeasurementId, TimeRange>,
}

impl Engine {
    /// Opens or makes the data folder, replays the journal, and starts the threads.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, options: EngineOptions) -> Result<Arc<Self>, OpenError> {
        let began = Instant::now();
        let shards = options.budgets.get().get(Budget::Shards) as u16;
        let folder = |error| OpenError::Folder {
            folder: dir.to_path_buf(),
            error,
        };
        std::fs::create_dir_all(dir).map_err(folder)?;
        let lock = lock(dir)?;
        let ledger = Ledger::open(&dir.join("rejected"), LEDGER_BYTES_MAX).map_err(folder)?;
        let catalog = Arc::new(Catalog::new());
        let store_options = StoreOptions {
            cache_bytes: options.budgets.get().size(Budget::BlockCache),
            index_cache_bytes: options.budgets.get().size(Budget::IndexCache),
        };
        let spelling_bytes = options.budgets.get().size(Budget::Spellings);
        catalog.spellings().set_budget(spelling_bytes);
        let mut loaded_well = Ok(());
        let store = Store::open(&dir.join("store"), store_options, &mut |loaded| match loaded {
            Loaded::Index(index) => catalog.use_index(index),
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
        let watermark = store.watermark();
        let commits = Arc::new(Mutex::new(Vec::new()));
        let rollups = Arc::new(Rollups::default());
        rollups.load(&catalog, watermark);
        let published = Published {
            catalog: catalog.clone(),
            store: store.clone(),
            rollups: rollups.clone(),
            commits: commits.clone(),
        };
        let head = Arc::new(Head::new(shards, watermark, store.runs(), published));
        let dispatcher = Dispatcher::start(shards, head.clone()).map_err(OpenError::Thread)?;
        let dispatcher = Arc::new(dispatcher);
        let disk = Folder::open(&dir.join("journal")).map_err(folder)?;
        let seal_counters = Arc::new(SealCounters::default());
        seal_counters.sequence.store(watermark, Ordering::Relaxed);

        let mut sealer = Sealer {
            catalog: catalog.clone(),
            head: head.clone(),
            dispatcher: dispatcher.clone(),
            store: store.clone(),
            rollups: rollups.clone(),
            counters: seal_counters.clone(),
        };
        let mut recovery = Recovery {
            sealed: watermark,
            ..Recovery::default()
        };
        let (mut damaged, mut last_command, mut last_dispatched) = (0, 0, 0);
        let mut attempt = Attempt::begin(dir).map_err(folder)?;
        let replayed = replay(&disk, watermark, |sequence, bytes| {
            // Names are made again only after what was dropped before them is dropped.
            while head.sequence() < last_command {
                std::thread::yield_now();
            }
            if attempt.leave_out(sequence, bytes)? {
                damaged += 1;
                return Ok(());
            }
            match std::panic::catch_unwind(AssertUnwindSafe(|| recover(bytes, &catalog, shards))) {
                Ok(Ok(batch)) => {
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
                    attempt.set_aside(sequence, bytes, &error.to_string())?;
                }
                Err(_) => {
                    damaged += 1;
                    attempt.set_aside(sequence, bytes, "reading it panicked")?;
                }
            }
            while attempt.is_careful() && head.sequence() < last_dispatched {
                std::thread::yield_now();
            }
            // Replay stays within the memory that running has.
            let (active, frozen) = head.bytes();
            if active + frozen + catalog.delta_bytes() >= options.budgets.get().size(Budget::Head) {
                sealer
                    .seal(&|| true)
                    .map_err(|error| io::Error::other(error.to_string()))?;
            }
            Ok(())
        })
        .map_err(OpenError::Journal)?;
        harden(&disk, &replayed).map_err(OpenError::Journal)?;
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
        recovery.batches = replayed.frames;
        recovery.bytes = replayed.bytes;
        recovery.damaged = damaged;
        // What the shards still work on ends the process while the note is there, if it does.
        while head.sequence() < last_dispatched {
            std::thread::yield_now();
        }
        recovery.quarantined = attempt.finish().map_err(folder)?;
        let writer = Writer::new(disk, SEGMENT_BYTES, replayed.existing);
        let outcome = FromJournal {
            catalog: catalog.clone(),
            head: head.clone(),
            dispatcher: dispatcher.clone(),
            budgets: options.budgets.clone(),
        };
        let journal = Arc::new(Journal::start(writer, outcome).map_err(OpenError::Thread)?);
        journal.release(store.watermark());
        let seal = Arc::new(SealControl::default());
        let thread = {
            let (seal, journal, budgets) = (seal.clone(), journal.clone(), options.budgets.clone());
            std::thread::Builder::new()
                .name("kymo-seal".into())
                .spawn(move || sealer.run(&seal, &journal, &budgets))
                .map_err(OpenError::Thread)?
        };
        let merge = Arc::new(MergeControl::default());
        let merge_counters = Arc::new(MergeCounters::default());
        let merger = Merger {
            catalog: catalog.clone(),
            head: head.clone(),
            store: store.clone(),
            control: merge.clone(),
            counters: merge_counters.clone(),
            budgets: options.budgets.clone(),
            folder: dir.to_path_buf(),
            now: options.now,
        };
        let merger = std::thread::Builder::new()
            .name("kymo-merge".into())
            .spawn(move || merger.run())
            .map_err(OpenError::Thread)?;
        let floor = room::floor_bytes(dir, options.disk_floor_bytes);
        recovery.took = began.elapsed();
        let helpers = std::thread::available_parallelism().map_or(0, |cores| cores.get() - 1);
        let pool = Pool::new(options.budgets.get().size(Budget::AllQueries));
        let workers = Workers::new(helpers).with_memory(Arc::new(pool));
        Ok(Arc::new(Self {
            catalog,
            registry: Registry::standard(),
            rejected: ledger,
            limits: Limits::default(),
            shards,
            budgets: options.budgets,
            journal,
            head,
            dispatcher,
            store,
            commits,
            seal,
            sealer: Mutex::new(Some(thread)),
            seal_counters,
            merge,
            merger: Mutex::new(Some(merger)),
            merge_counters,
            room: Room::new(dir, floor, room::free_bytes),
            recovery,
            rollups,
            workers,
            running: Arc::default(),
            _lock: lock,
        }))
    }

    /// Names and series.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The ingest formats.
    pub fn formats(&self) -> &Registry {
        &self.registry
    }

    /// What was not stored.
    pub fn rejected(&self) -> &Ledger {
        &self.rejected
    }

    /// Limits of what is taken.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many shards it has.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// What it may use of the machine.
    pub fn budgets(&self) -> &Arc<Current> {
        &self.budgets
    }

    /// Takes over what a look at the machine changed; sizes follow at once.
    pub fn change_budgets(&self, budgets: &Budgets, changes: Vec<budget::governor::Change>, now: i64) {
        self.store.set_cache_bytes(budgets.size(Budget::BlockCache));
        self.store.set_index_cache_bytes(budgets.size(Budget::IndexCache));
        self.catalog
            .spellings()
            .set_budget(budgets.size(Budget::Spellings));
        if let Some(pool) = self.workers.memory() {
            pool.set_bytes_max(budgets.size(Budget::AllQueries));
        }
        self.budgets.change(budgets.clone(), changes, now);
    }

    /// What was found at start.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Makes a batch ready for [`submit`](Self::submit).
    ///
    /// # Errors
    /// [`SubmitError::TooLarge`].
    pub fn encode(&self, batch: Batch) -> Result<Arc<EncodedBatch>, SubmitError> {
        let batch = EncodedBatch::encode(batch);
        match batch.bytes().len() {
            len if len > BATCH_BYTES_MAX => Err(SubmitError::TooLarge(len)),
            _ => Ok(Arc::new(batch)),
        }
    }

    /// Hands in a batch; never blocks. `ack` is called once, from another thread, when the batch is durable and visible or
    /// cannot be. It must be quick.
    ///
    /// # Errors
    /// See [`SubmitError`]; then `ack` is not called.
    pub fn submit(&self, batch: Arc<EncodedBatch>, ack: Ack) -> Result<(), SubmitError> {
        self.check_room(&batch)?;
        self.journal
            .submit(Pending { batch, ack })
            .map_err(|(_, full)| full.into())
    }

    /// Commits a batch and waits until it is durable and visible: its sequence. Blocks.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn commit(&self, batch: Batch) -> Result<u64, WriteError> {
        let (sender, receiver) = bounded(1);
        let batch = self.encode(batch)?;
        self.check_room(&batch)?;
        let ack = Box::new(move |result| drop(sender.send(result)));
        self.journal
            .submit_waiting(Pending { batch, ack })
            .map_err(|(_, full)| SubmitError::from(full))?;
        let result = receiver.recv().map_err(|_| CommitError::Stopping)?;
        Ok(result?)
    }

    /// What can free space is always taken.
    fn check_room(&self, batch: &EncodedBatch) -> Result<(), SubmitError> {
        if self.room.is_low(Instant::now()) && batch.tables().next().is_some() {
            let (floor, free, _) = self.room.figures();
            return Err(SubmitError::DiskLow { free, floor });
        }
        Ok(())
    }

    /// Everything acknowledged so far, as it stays while the snapshot is held.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.head.snapshot(), self.rollups.clone())
    }

    /// Which intervals of rollups can be believed.
    pub fn rollups(&self) -> &Arc<Rollups> {
        &self.rollups
    }

    /// Every batch committed from now on.
    pub fn subscribe_commits(&self) -> Commits {
        let (sender, receiver) = bounded(COMMITS_MAX);
        let mut subscribers = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        let gap = Arc::default();
        subscribers.push(Subscriber {
            sender,
            gap: Arc::clone(&gap),
        });
        Commits { receiver, gap }
    }

    /// The queries that run.
    pub fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Last sequence that queries see.
    pub fn sequence(&self) -> u64 {
        self.head.sequence()
    }

    /// Figures of the journal; batches and bytes queued.
    pub fn journal_figures(&self) -> (&crate::journal::thread::Counters, usize, usize) {
        let (batches, bytes) = self.journal.queued();
        (self.journal.counters(), batches, bytes)
    }

    /// Figures of seals; bytes of unsealed points, active and frozen.
    pub fn seal_figures(&self) -> (&SealCounters, usize, usize) {
        let (active, frozen) = self.head.bytes();
        (&self.seal_counters, active, frozen)
    }

    /// Figures of merges.
    pub fn merge_figures(&self) -> &MergeCounters {
        &self.merge_counters
    }

    /// The floor of free space on the disk; free bytes at the last look; whether points are refused for it.
    pub fn room_figures(&self) -> (u64, u64, bool) {
        self.room.figures()
    }

    /// Figures of the store.
    pub fn store_figures(&self) -> StoreCounters {
        self.store.counters()
    }

    /// Takes no more, commits what was accepted, seals, and ends all threads. Blocks.
    pub fn stop(&self) {
        self.journal.stop();
        self.merge.stop();
        self.seal
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopping = true;
        self.seal.wake.notify_all();
        let thread = self.sealer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sealing thread panicked");
        }
        let thread = self.merger.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the merging thread panicked");
        }
        self.dispatcher.stop();
        self.rejected.stop();
    }
}

impl From<Full> for SubmitError {
    fn from(full: Full) -> Self {
        match full {
            Full::Overloaded => Self::Overloaded,
            Full::Stopping => Self::Stopping,
        }
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

/// Makes a batch of the journal ready for the shards of this run.
fn recover(bytes: &[u8], catalog: &Catalog, shards: u16) -> Result<EncodedBatch, RecoverError> {
    let batch = EncodedBatch::from_bytes(bytes)?;
    if batch.has_definitions() {
        catalog.apply_definitions(&batch.definitions(), false)?;
    }
    Ok(if batch.shards() == shards {
        batch
    } else {
        EncodedBatch::encode(batch.decode().resplit(shards))
    })
}

/// Takes the data folder for this process, as long as the file is held.
///
/// # Errors
/// [`OpenError::InUse`]; input/output.
pub fn lock(dir: &Path) -> Result<File, OpenError> {
    let folder = |error: io::Error| OpenError::Folder {
        folder: dir.to_path_buf(),
        error,
    };
    let path = dir.join("LOCK");
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(folder)?;
    let operation = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(folder)?;
            return Err(OpenError::InUse {
                folder: dir.to_path_buf(),
                pid: pid.trim().to_string(),
            });
        }
        Err(error) => return Err(folder(error.into())),
    }
    file.set_len(0).map_err(folder)?;
    file.rewind().map_err(folder)?;
    write!(file, "{}", std::process::id()).map_err(folder)?;
    Ok(file)
}

/// The thread that moves the head into the store.
struct Sealer {
    catalog: Arc<Catalog>,
    head: Arc<Head<RunSet>>,
    dispatcher: Arc<Dispatcher<RunSet>>,
    store: Arc<Store>,
    rollups: Arc<Rollups>,
    counters: Arc<SealCounters>,
}

impl Sealer {
    fn run(&mut self, control: &SealControl, journal: &Journal<Pending>, budgets: &Current) {
        let mut since: Option<Instant> = None;
        let (mut last, mut last_commit) = (self.head.sequence(), Instant::now());
        let mut rested = false;
        loop {
            let state = control.state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = control.wake.wait_timeout_while(state, SEAL_TICK, |s| !s.stopping);
            let stopping = waited.unwrap_or_else(PoisonError::into_inner).0.stopping;
            let sequence = self.head.sequence();
            if sequence != last {
                (last, last_commit, rested) = (sequence, Instant::now(), false);
            }
            let dirty = sequence > self.store.watermark();
            if dirty && since.is_none() {
                since = Some(Instant::now());
            }
            let idle = last_commit.elapsed() >= SEAL_IDLE;
            let bytes = self.head.bytes().0 + self.catalog.delta_bytes();
            let old = since.is_some_and(|since| since.elapsed() >= SEAL_AGE);
            let journal_bytes = journal.counters().segment_bytes.load(Ordering::Relaxed);
            let head_bytes = budgets.get().size(Budget::Head);
            let long = journal_bytes > head_bytes as u64 * JOURNAL_TO_HEAD;
            let settle = idle && (bytes >= SEAL_IDLE_BYTES || journal_bytes >= SEAL_IDLE_BYTES as u64);
            if dirty && (stopping || old || long || settle || bytes >= head_bytes) {
                // What arrives while it is being sealed belongs to the next.
                since = None;
                let stopping = || {
                    control
                        .state
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .stopping
                };
                match self.seal(&stopping) {
                    Ok(sequence) => journal.release(sequence),
                    Err(error) => {
                        tracing::error!(%error, "sealing failed; the journal keeps the data");
                        return;
                    }
                }
            } else if !dirty && idle && !rested {
                journal.rest(sequence);
                rested = true;
            }
            if stopping {
                return;
            }
        }
    }

    /// Freezes the head and writes it, again and again until it is written or `give_up` says so; after that nothing may
    /// be frozen again.
    fn seal(&mut self, give_up: &dyn Fn() -> bool) -> Result<u64, StoreError> {
        self.dispatcher.freeze();
        let (sequence, frozen) = self.head.wait_frozen();
        let began = Instant::now();
        loop {
            let mut unsealed = self.catalog.take_unsealed();
            // What of rollups waits is known again after a restart: this, and what the journal has of later batches.
            unsealed.commands.extend(self.rollups.records(sequence));
            let input = SealInput {
                watermark: sequence,
                definitions: &unsealed.definitions,
                series: &unsealed.series,
                commands: &unsealed.commands,
                next_ids: self.catalog.next_ids(),
            };
            let alive = |measurement| self.catalog.measurement_by_id(measurement).is_some();
            match self.store.seal(&input, sealed_tables(&frozen, alive)) {
                Ok(_) => {
                    self.catalog.sealed(&unsealed);
                    break;
                }
                Err(error) => {
                    self.catalog.restore_unsealed(unsealed);
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, "sealing failed; trying again");
                    if give_up() {
                        return Err(error);
                    }
                    std::thread::sleep(SEAL_RETRY);
                }
            }
        }
        self.head.thaw();
        self.counters.seals.fetch_add(1, Ordering::Relaxed);
        self.counters
            .nanoseconds
            .fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.counters.sequence.store(sequence, Ordering::Relaxed);
        Ok(sequence)
    }
}

impl Target for Engine {
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn snapshot(&self) -> Arc<dyn Scan> {
        Arc::new(Snapshot::new(self.head.snapshot(), self.rollups.clone()))
    }

    fn commit(&self, batch: Batch) -> Result<u64, String> {
        Self::commit(self, batch).map_err(|e| e.to_string())
    }

    fn shards(&self) -> u16 {
        Self::shards(self)
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }

    fn running(&self) -> &Arc<Running> {
        Self::running(self)
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn rejected(&self, database: Option<&str>) -> Result<Vec<rejected::Entry>, String> {
        let filter = Filter {
            database: database.map(str::to_string),
            ..Filter::default()
        };
        self.rejected.list(&filter).map_err(|error| error.to_string())
    }

    fn figures(&self) -> Vec<(String, String, Value)> {
        let store = self.store_figures();
        let (active, frozen) = self.head.bytes();
        let one = |module: &str, name: &str, value: u64| {
            (module.to_string(), name.to_string(), Value::Integer(value as i64))
        };
        let mut figures = vec![
            one("head", "activeBytes", active as u64),
            one("head", "frozenBytes", frozen as u64),
            one("head", "sequence", self.sequence()),
            one("store", "runs", store.runs),
            one("store", "rows", store.rows),
            one("store", "packs", store.packs),
            one("store", "deletes", store.deletes),
            one("store", "diskBytes", store.disk_bytes),
            one(
                "merge",
                "merges",
                self.merge_counters.merges.load(Ordering::Relaxed),
            ),
            one(
                "merge",
                "running",
                self.merge_counters.running.load(Ordering::Relaxed),
            ),
            one("disk", "floorBytes", self.room.figures().0),
            one("store", "cacheBytes", store.cache_bytes),
            one("index", "generations", store.index_generations),
            one("index", "cacheBytes", store.index_cache_bytes),
            one("index", "unsealedBytes", self.catalog.delta_bytes() as u64),
            one("catalog", "databases", self.catalog.databases().len() as u64),
            one("catalog", "series", self.catalog.series_count()),
        ];
        let budgets = self.budgets.get();
        figures.extend(
            budget::ALL
                .into_iter()
                .map(|b| one("budget", b.name(), budgets.get(b))),
        );
        for (at, (time, change)) in self.budgets.changes().into_iter().rev().enumerate() {
            let when = jiff::Timestamp::from_nanosecond(i128::from(time))
                .map_or_else(|_| String::new(), |t| t.to_string());
            let text = format!(
                "{when} {}: {} -> {}, {}",
                change.budget.name(),
                change.from,
                change.to,
                change.reason
            );
            figures.push(("budget".into(), format!("change{at}"), Value::String(text.into())));
        }
        figures
    }
}
