//! Puts journal, head, store and catalog together: what the rest of the server writes to and reads from.
//!
//! Plain threads and channels: the journal's thread, one a shard, one that seals, and one that merges. Nothing here knows actix or sockets.
//! ARCHITECTURE.md follows a point through it.

mod admission;
#[cfg(test)]
mod any_query;
pub mod attempt;
pub mod losses;
pub mod merger;
pub mod progress;
pub mod recovery;
#[cfg(test)]
mod reused_tables;
pub mod room;
pub mod sealer;
#[cfg(test)]
#[path = "../tests/simulation/mod.rs"]
mod simulation;

use crate::batch::{Batch, EncodedBatch};
use crate::budget::{self, Budget, Budgets, Current, Meter};
use crate::catalog::Catalog;
use crate::ingest::{Limits, Registry};
use crate::journal::disk::{Folder, make_folder};
use crate::journal::thread::{Entry, Full, Journal};
use crate::journal::writer::{SEGMENT_BYTES, Writer};
use crate::model::TimeRange;
use crate::query::resources::Pool;
use crate::query::scan::Scan;
use crate::query::snapshot::Snapshot;
use crate::query::statements::Target;
use crate::query::{Running, Value, Workers};
use crate::rejected::{self, Filter, LEDGER_BYTES_MAX, Ledger};
use crate::rollup::Rollups;
use crate::shard::dispatch::Dispatcher;
use crate::shard::publish::Head;
use crate::shard::{Ack, CommitError};
use crate::store::{RunSet, Store, StoreCounters, StoreError};
use admission::FromJournal;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use merger::{MergeControl, MergeCounters, Merger};
use progress::Progress;
use recovery::Core;
pub use recovery::Recovery;
use room::Room;
pub use sealer::SealCounters;
use sealer::{SealControl, Sealer};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Told how far the start is.
    pub progress: Arc<Progress>,
}

impl EngineOptions {
    /// With budgets; memory is not measured.
    pub fn new(budgets: Budgets, now: fn() -> i64) -> Self {
        Self::measured(budgets, Meter::default(), now)
    }

    /// With budgets, and what tells how much the process has in memory.
    pub fn measured(budgets: Budgets, meter: Meter, now: fn() -> i64) -> Self {
        Self {
            budgets: Arc::new(Current::measured(budgets, meter)),
            disk_floor_bytes: None,
            now,
            progress: Arc::default(),
        }
    }
}

/// A batch larger than this is refused: bytes, encoded.
pub const BATCH_BYTES_MAX: usize = 512 << 20;
/// Committed batches that may wait for one subscriber before it is told of a gap.
const COMMITS_MAX: usize = 1024;
/// Bytes of them; one batch always finds a place.
const COMMITS_BYTES_MAX: usize = 16 << 20;

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
    #[error(
        "timeout: the server is overloaded, too much waits for its journal (queue_batches_max, waiting_bytes); retry"
    )]
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

struct Subscriber {
    sender: Sender<Committed>,
    gap: Arc<Mutex<Option<Gap>>>,
    /// Bytes of the batches that wait.
    waiting: Arc<AtomicUsize>,
    /// How many they may be.
    bytes_max: usize,
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
        let bytes = batch.bytes().len();
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > self.bytes_max {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            Gap::add(&mut gap, sequence, batch);
            return true;
        }
        match self.sender.try_send(Committed::Batch(sequence, batch.clone())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.waiting.fetch_sub(bytes, Ordering::Relaxed);
                Gap::add(&mut gap, sequence, batch);
            }
            Err(TrySendError::Disconnected(_)) => return false,
        }
        true
    }
}

/// Where a subscriber of commits hears of them.
pub struct Commits {
    receiver: Receiver<Committed>,
    gap: Arc<Mutex<Option<Gap>>>,
    waiting: Arc<AtomicUsize>,
}

impl Commits {
    /// To wait on. What is taken from it is told to [`heard`](Self::heard); what follows is heard by way of [`next`](Self::next), which
    /// also tells of gaps.
    pub fn receiver(&self) -> &Receiver<Committed> {
        &self.receiver
    }

    /// What is to be heard next; waits for it if need be.
    pub fn next(&self, patience: Duration) -> Option<Committed> {
        if let Ok(commit) = self.receiver.try_recv() {
            self.heard(&commit);
            return Some(commit);
        }
        let mut gap = self.gap.lock().unwrap_or_else(PoisonError::into_inner);
        if gap.is_some() {
            // Nothing was sent since the gap began, but the end of what came before it may have been sent just now.
            return match self.receiver.try_recv() {
                Ok(commit) => {
                    self.heard(&commit);
                    Some(commit)
                }
                Err(_) => gap.take().map(Committed::Gap),
            };
        }
        drop(gap);
        let commit = self.receiver.recv_timeout(patience).ok()?;
        self.heard(&commit);
        Some(commit)
    }

    /// What came from the receiver itself waits no more.
    pub fn heard(&self, commit: &Committed) {
        if let Committed::Batch(_, batch) = commit {
            self.waiting.fetch_sub(batch.bytes().len(), Ordering::Relaxed);
        }
    }
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
    _lock: FolderLock,
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
        make_folder(dir).map_err(folder)?;
        let lock = lock(dir)?;
        let ledger = Ledger::open(&dir.join("rejected"), LEDGER_BYTES_MAX).map_err(folder)?;
        let ledger = ledger.with_queue(options.budgets.get().size(Budget::Received) / 2);
        let budgets = options.budgets.get();
        make_folder(&dir.join("store")).map_err(folder)?;
        let mut core = Core::open(
            &budgets,
            |options, load| Store::open(&dir.join("store"), options, load),
            Dispatcher::start,
        )?;
        core.progress = options.progress.clone();
        let disk = Folder::open(&dir.join("journal")).map_err(folder)?;
        let seal_counters = Arc::new(SealCounters::default());
        seal_counters
            .sequence
            .store(core.store.watermark(), Ordering::Relaxed);
        let mut sealer = Sealer::new(&core, seal_counters.clone());
        let (mut recovery, existing) = core.replay(&disk, dir, budgets.size(Budget::Head), &mut sealer)?;
        let writer = Writer::new(disk, SEGMENT_BYTES, existing);
        let outcome = FromJournal::new(&core, options.budgets.clone());
        let Core {
            catalog,
            store,
            head,
            dispatcher,
            rollups,
            commits,
            ..
        } = core;
        let journal = Arc::new(
            Journal::start(writer, outcome, budgets.size(Budget::Waiting)).map_err(OpenError::Thread)?,
        );
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
        let pool = Pool::new(options.budgets.get().size(Budget::AllQueries))
            .metered(options.budgets.meter().clone());
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

    /// Bytes that all queries hold together.
    pub fn query_bytes(&self) -> usize {
        self.workers.memory().map_or(0, |pool| pool.used())
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
        let (gap, waiting) = (Arc::default(), Arc::default());
        subscribers.push(Subscriber {
            sender,
            gap: Arc::clone(&gap),
            waiting: Arc::clone(&waiting),
            bytes_max: COMMITS_BYTES_MAX.min(self.budgets.get().size(Budget::Waiting)),
        });
        Commits {
            receiver,
            gap,
            waiting,
        }
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

/// The data folder is this process's. Given up when dropped, whoever has a descriptor of the file: a child that is being started has them all until it runs its own program.
#[derive(Debug)]
pub struct FolderLock(File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        // An error: it goes with the last descriptor.
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Takes the data folder for this process, as long as what this returns lives.
///
/// # Errors
/// [`OpenError::InUse`]; input/output.
pub fn lock(dir: &Path) -> Result<FolderLock, OpenError> {
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
    Ok(FolderLock(file))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_of_commits_has_a_gap_instead_of_more_bytes() {
        let batch = Arc::new(EncodedBatch::encode(Batch::default()));
        let (sender, receiver) = bounded(COMMITS_MAX);
        let (gap, waiting) = (Arc::default(), Arc::default());
        let subscriber = Subscriber {
            sender,
            gap: Arc::clone(&gap),
            waiting: Arc::clone(&waiting),
            bytes_max: batch.bytes().len() * 2,
        };
        let commits = Commits {
            receiver,
            gap,
            waiting,
        };
        assert!((1..=4).all(|sequence| subscriber.tell(sequence, &batch)));
        let mut heard = Vec::new();
        while let Some(commit) = commits.next(Duration::ZERO) {
            heard.push(match commit {
                Committed::Batch(sequence, _) => (sequence, false),
                Committed::Gap(gap) => (gap.through, true),
            });
        }
        assert_eq!(heard, [(1, false), (2, false), (4, true)]);
        assert!(subscriber.tell(5, &batch));
        assert!(matches!(
            commits.next(Duration::ZERO),
            Some(Committed::Batch(5, _))
        ));
    }
}
