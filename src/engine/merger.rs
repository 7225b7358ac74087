//! The threads that keep the store in order: merges, retention, freeing space. What to merge is decided in
//! `store/merge_policy.rs`; how, in `store/merge.rs`. These threads only drive them, at low priority, and survive their errors.
//!
//! The first of them does everything; the others merge as well, in other stretches of time, while the server is idle and the
//! budget (`merge_threads`) allows them. Both budgets are looked at before each merge, so they follow pressure and power.

use crate::budget::{Budget, Current, niceness};
use crate::catalog::Catalog;
use crate::model::{MeasurementId, TimeRange};
use crate::shard::publish::Head;
use crate::store::merge_policy::{Conditions, Plan, plan};
use crate::store::upkeep::RunLog;
use crate::store::{MergeInput, RunSet, Store, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it looks.
const TICK: Duration = Duration::from_millis(500);
/// How often it looks at runs although none came or went.
const REVIEW: Duration = Duration::from_secs(5);
/// How often retention is looked at.
const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// After a merge that failed for want of room, say.
const RETRY: Duration = Duration::from_secs(30);
/// Bytes of the disk a merge leaves free, whatever it would free later.
const ROOM_RESERVE_BYTES: u64 = 64 << 20;
/// What a merge holds for each of its runs, about: a block of keys, a stripe of a column and a block of it.
const BYTES_PER_RUN: u64 = 512 << 10;
/// Generations of the series index from which on they are merged whatever it costs.
const INDEX_CROWD: usize = 32;

/// Figures for /metrics, since the start.
#[derive(Debug, Default)]
pub struct MergeCounters {
    /// Merges.
    pub merges: AtomicU64,
    /// Merges that failed.
    pub failures: AtomicU64,
    /// Bytes of runs that were replaced.
    pub bytes_in: AtomicU64,
    /// Bytes of runs that took their place.
    pub bytes_out: AtomicU64,
    /// Rows that were read.
    pub rows_in: AtomicU64,
    /// Rows that were written: fewer by those deleted and overwritten.
    pub rows_out: AtomicU64,
    /// Nanoseconds spent.
    pub nanoseconds: AtomicU64,
    /// Under way.
    pub running: AtomicU64,
}

/// What the thread is told.
#[derive(Debug, Default)]
pub struct MergeControl {
    stopping: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl MergeControl {
    /// Gives up the merge under way and ends the thread.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits, unless it is stopping.
    fn pause(&self, time: Duration) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.wake.wait_timeout_while(lock, time, |()| !self.is_stopping()));
    }
}

/// See the module.
pub struct Merger {
    /// Names.
    pub catalog: Arc<Catalog>,
    /// Hears of new runs.
    pub head: Arc<Head<RunSet>>,
    /// What is merged.
    pub store: Arc<Store>,
    /// What it is told.
    pub control: Arc<MergeControl>,
    /// What it did.
    pub counters: Arc<MergeCounters>,
    /// Whether what can wait should wait.
    pub budgets: Arc<Current>,
    /// Where the store is, to know how much room there is.
    pub folder: PathBuf,
    /// The wall clock.
    pub now: fn() -> i64,
}

/// What is remembered between looks. All threads share it; nobody merges while it is locked.
struct Memory {
    began: Instant,
    log: RunLog,
    sequence: u64,
    last_commit: Instant,
    reviewed: Option<(Instant, Arc<RunSet>, bool)>,
    retention: Option<Instant>,
    not_before: Option<Instant>,
    /// Merges under way.
    merging: Vec<Plan>,
}

impl Merger {
    /// Until it is told to stop.
    pub fn run(self) {
        let began = Instant::now();
        let memory = Mutex::new(Memory {
            began,
            log: RunLog::default(),
            sequence: self.head.sequence(),
            last_commit: began,
            reviewed: None,
            retention: None,
            not_before: None,
            merging: Vec::new(),
        });
        // Never more than at the start: the budget may shrink and come back.
        let threads = self.budgets.get().size(Budget::MergeThreads);
        std::thread::scope(|scope| {
            for number in 1..threads {
                let thread = std::thread::Builder::new().name(format!("kymo-merge-{number}"));
                if let Err(error) = thread.spawn_scoped(scope, {
                    let (own, memory) = (&self, &memory);
                    move || own.work(memory, number)
                }) {
                    tracing::warn!(%error, "fewer threads merge than may");
                }
            }
            self.work(&memory, 0);
        });
    }

    fn work(&self, memory: &Mutex<Memory>, number: usize) {
        niceness::set(niceness::LATER);
        while !self.control.is_stopping() {
            if !self.step(memory, number) {
                self.control.pause(TICK);
            }
        }
    }

    /// Does what is most useful; false: nothing is to be done now.
    fn step(&self, shared: &Mutex<Memory>, number: usize) -> bool {
        let now = Instant::now();
        let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
        if number == 0 {
            self.keep_up(&mut lock(), now);
            self.store.free_spent();
            self.store.copy_names();
            let may = lock().not_before.is_none_or(|time| now >= time);
            if may && self.merge_index(shared) {
                return true;
            }
        }
        let mut memory = lock();
        // What will be sealed in a moment is better merged with the rest.
        let (active, frozen) = self.head.bytes();
        let settled = active < super::sealer::SEAL_IDLE_BYTES && frozen == 0;
        let idle = if settled {
            now.saturating_duration_since(memory.last_commit)
        } else {
            Duration::ZERO
        };
        let budgets = self.budgets.get();
        let threads = budgets.size(Budget::MergeThreads);
        if number > 0 && (idle < crate::store::merge_policy::IDLE || number >= threads) {
            return false;
        }
        let bytes = budgets.get(Budget::Merge) / threads.max(1) as u64;
        let times: Vec<TimeRange> = memory.merging.iter().map(|plan| plan.time).collect();
        let reserved: u64 = memory.merging.iter().map(|plan| plan.bytes).sum();
        let conditions = Conditions {
            idle,
            thrifty: self.budgets.is_thrifty(),
            room: super::room::free_bytes(&self.folder).map_or(u64::MAX, |free| {
                free.saturating_sub(ROOM_RESERVE_BYTES.saturating_add(reserved))
            }),
            // Half of it is for the rows that come out.
            runs_max: usize::try_from(bytes / 2 / BYTES_PER_RUN).unwrap_or(usize::MAX),
            merging: &times,
        };
        if memory.not_before.is_some_and(|time| now < time)
            || !self.worth_a_look(&mut memory, now, &conditions)
        {
            return false;
        }
        let alive = |measurement: MeasurementId| self.catalog.measurement_by_id(measurement).is_some();
        let since_start = now - memory.began;
        let facts = memory.log.facts(&self.store, since_start, &alive);
        let Some(plan) = plan(&facts, &conditions) else {
            return false;
        };
        // IMPORTANT: the sequence is that of the catalog and the deletes the plan was made by, or of earlier ones.
        let sequence = memory.sequence;
        // Another thread may find more to do.
        memory.reviewed = None;
        memory.merging.push(plan.clone());
        drop(memory);
        let merged = self.merge(&plan, sequence, bytes, &alive);
        self.budgets.meter().settle();
        let mut memory = lock();
        memory.merging.retain(|other| other.runs != plan.runs);
        memory.reviewed = None;
        match merged {
            Ok(()) | Err(StoreError::Stopped) => {}
            Err(error) if error.is_damage() => {
                tracing::error!(%error, "a run is damaged: it is left as it is and not merged any more");
                memory.log.damaged(&plan.runs);
            }
            Err(error) => {
                tracing::error!(%error, "merging failed; trying again later");
                memory.not_before = Some(Instant::now() + RETRY);
            }
        }
        true
    }

    /// What one thread does for all: notes commits, and what has expired.
    fn keep_up(&self, memory: &mut Memory, now: Instant) {
        let sequence = self.head.sequence();
        if sequence != memory.sequence {
            memory.sequence = sequence;
            memory.last_commit = now;
        }
        if memory.retention.is_none_or(|last| now - last >= RETENTION_EVERY) {
            memory.retention = Some(now);
            if self
                .store
                .set_expired(expired_before(&self.catalog, (self.now)()))
            {
                self.head.refresh_runs();
            }
        }
    }

    /// The series index first: it is small, and looking series up gets slower with every generation.
    fn merge_index(&self, shared: &Mutex<Memory>) -> bool {
        let generations = self.store.series_index().set().len();
        if self.budgets.is_thrifty() && generations < INDEX_CROWD {
            return false;
        }
        match self.store.merge_index(&|| !self.control.is_stopping()) {
            Ok(merged) => merged,
            Err(StoreError::Stopped) => false,
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "merging the series index failed; it stays as it is");
                let mut memory = shared.lock().unwrap_or_else(PoisonError::into_inner);
                memory.not_before = Some(Instant::now() + RETRY);
                false
            }
        }
    }

    /// Facts are not free with many runs: only when something changed, or now and then.
    fn worth_a_look(&self, memory: &mut Memory, now: Instant, conditions: &Conditions<'_>) -> bool {
        let set = self.store.runs();
        let idle = conditions.idle >= crate::store::merge_policy::IDLE;
        let same = memory.reviewed.as_ref().is_some_and(|(last, known, was_idle)| {
            now.saturating_duration_since(*last) < REVIEW && Arc::ptr_eq(known, &set) && *was_idle == idle
        });
        if !same {
            memory.reviewed = Some((now, set, idle));
        }
        !same
    }

    pub(super) fn merge(
        &self,
        plan: &Plan,
        sequence: u64,
        bytes: u64,
        alive: &dyn Fn(MeasurementId) -> bool,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let input = MergeInput {
            sequence,
            alive,
            stop: &|| self.control.is_stopping(),
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let counters = &self.counters;
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        add(&counters.running, 1);
        let merged = self.store.merge(plan, &input);
        counters.running.fetch_sub(1, Ordering::Relaxed);
        add(&counters.nanoseconds, began.elapsed().as_nanos() as u64);
        match merged {
            Ok(result) => {
                add(&counters.merges, 1);
                add(&counters.bytes_in, result.bytes_in);
                add(&counters.bytes_out, result.bytes_out);
                add(&counters.rows_in, result.rows_in);
                add(&counters.rows_out, result.rows_out);
                tracing::debug!(
                    reason = ?plan.reason,
                    runs = plan.runs.len(),
                    bytes_in = result.bytes_in,
                    bytes_out = result.bytes_out,
                    took = ?began.elapsed(),
                    "merged"
                );
                // Old runs are let go of before their space can be freed.
                self.head.refresh_runs();
                if let Err(error) = self.store.forget_spent_deletes() {
                    tracing::warn!(%error, "cannot forget deletes that are done; trying again later");
                } else {
                    self.head.refresh_runs();
                }
                self.store.free_spent();
                Ok(())
            }
            Err(error) => {
                if !matches!(error, StoreError::Stopped) {
                    add(&counters.failures, 1);
                }
                Err(error)
            }
        }
    }
}

/// Before which times rows have expired, by measurement: those whose retention policy has a duration.
fn expired_before(catalog: &Catalog, now: i64) -> BTreeMap<MeasurementId, i64> {
    let mut expired = BTreeMap::new();
    for database in catalog.databases() {
        for policy in database.all_policies().filter(|policy| policy.duration > 0) {
            let before = now.saturating_sub(policy.duration);
            let measurements = catalog.measurements(policy.id);
            expired.extend(measurements.iter().map(|measurement| (measurement.id, before)));
        }
    }
    expired
}
