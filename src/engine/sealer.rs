//! Moves the head into the store: at a budget, at an age, when nothing comes, and while a long journal is replayed. One seal at a time; one
//! that fails is tried again, for what is frozen may not be frozen again.

use super::Pending;
use super::recovery::Core;
use crate::block::Level;
use crate::budget::{Budget, Current};
use crate::catalog::Catalog;
use crate::journal::thread::Journal;
use crate::rollup::Rollups;
use crate::shard::dispatch::Dispatcher;
use crate::shard::publish::Head;
use crate::shard::seal::sealed_tables;
use crate::store::{RunSet, SealInput, Store, StoreError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Unsealed points are sealed at this age even if they are few, so that a restart has little to replay.
const SEAL_AGE: Duration = Duration::from_secs(600);
/// Unsealed points are sealed when nothing came for so long, ..
const SEAL_IDLE: Duration = Duration::from_secs(3);
/// .. if they are so many bytes; fewer wait for their age.
pub(super) const SEAL_IDLE_BYTES: usize = 1 << 20;
/// The journal is let grow to so many times the head before a seal: batches may hold little but names.
const JOURNAL_TO_HEAD: u64 = 4;
/// How often the sealer looks.
const SEAL_TICK: Duration = Duration::from_millis(200);
/// Between tries when a seal fails.
const SEAL_RETRY: Duration = Duration::from_secs(2);
/// What the sealing thread is told.
#[derive(Default)]
pub(super) struct SealControl {
    pub state: Mutex<SealState>,
    pub wake: Condvar,
}

#[derive(Default)]
pub(super) struct SealState {
    pub stopping: bool,
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

/// The thread that moves the head into the store.
pub(crate) struct Sealer {
    catalog: Arc<Catalog>,
    head: Arc<Head<RunSet>>,
    dispatcher: Arc<Dispatcher<RunSet>>,
    store: Arc<Store>,
    rollups: Arc<Rollups>,
    counters: Arc<SealCounters>,
    /// Between tries; simulations do not wait.
    pub pause: fn(Duration),
}

impl Sealer {
    /// For this core.
    pub fn new(core: &Core, counters: Arc<SealCounters>) -> Self {
        Self {
            catalog: core.catalog.clone(),
            head: core.head.clone(),
            dispatcher: core.dispatcher.clone(),
            store: core.store.clone(),
            rollups: core.rollups.clone(),
            counters,
            pause: std::thread::sleep,
        }
    }

    pub(super) fn run(&mut self, control: &SealControl, journal: &Journal<Pending>, budgets: &Current) {
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
                // Nothing comes: what is encoded well now need not be written again by a merge.
                let level = match settle && !budgets.is_thrifty() {
                    true => Level::Small,
                    false => Level::Fast,
                };
                match self.seal(level, &stopping) {
                    Ok(sequence) => {
                        journal.release(sequence);
                        budgets.meter().settle();
                    }
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
    pub fn seal(&mut self, level: Level, give_up: &dyn Fn() -> bool) -> Result<u64, StoreError> {
        self.dispatcher.freeze();
        let (sequence, frozen) = self.head.wait_frozen();
        let began = Instant::now();
        loop {
            let mut unsealed = self.catalog.take_unsealed();
            // What of rollups waits is known again after a restart: this, and what the journal has of later batches.
            unsealed.commands.extend(self.rollups.records(sequence));
            let input = SealInput {
                watermark: sequence,
                level,
                definitions: &unsealed.definitions,
                series: &unsealed.series,
                commands: &unsealed.commands,
                next_ids: self.catalog.next_ids(),
                gone: unsealed.gone.as_ref(),
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
                    self.head.stuck(error.to_string());
                    tracing::error!(%error, "sealing failed; trying again");
                    if give_up() {
                        return Err(error);
                    }
                    (self.pause)(SEAL_RETRY);
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
