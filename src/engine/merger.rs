//! The thread that keeps the store in order: merges, retention, freeing space. What to merge is decided in
//! `store/merge_policy.rs`; how, in `store/merge.rs`. This thread only drives them, at low priority, and survives their errors.

use crate::budget::Current;
use crate::catalog::Catalog;
use crate::model::MeasurementId;
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
/// Merging yields to everything else: the niceness of its thread.
const NICENESS: i32 = 10;
/// Bytes of the disk a merge leaves free, whatever it would free later.
const ROOM_RESERVE_BYTES: u64 = 64 << 20;

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
    /// 1 while one is under way.
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

/// What is remembered between looks.
struct Memory {
    began: Instant,
    log: RunLog,
    sequence: u64,
    last_commit: Instant,
    reviewed: Option<(Instant, Arc<RunSet>, bool)>,
    retention: Option<Instant>,
    not_before: Option<Instant>,
}

impl Merger {
    /// Until it is told to stop.
    pub fn run(self) {
        let own = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(own), NICENESS) {
            tracing::debug!(%error, "merges run at normal priority");
        }
        let began = Instant::now();
        let mut memory = Memory {
            began,
            log: RunLog::default(),
            sequence: self.head.sequence(),
            last_commit: began,
            reviewed: None,
            retention: None,
            not_before: None,
        };
        while !self.control.is_stopping() {
            if !self.step(&mut memory) {
                self.control.pause(TICK);
            }
        }
    }

    /// Does what is most useful; false: nothing is to be done now.
    fn step(&self, memory: &mut Memory) -> bool {
        let now = Instant::now();
        let sequence = self.head.sequence();
        if sequence != memory.sequence {
            memory.sequence = sequence;
            memory.last_commit = now;
        }
        // What will be sealed in a moment is better merged with the rest.
        let (active, frozen) = self.head.bytes();
        let settled = active < super::SEAL_IDLE_BYTES && frozen == 0;
        if memory.retention.is_none_or(|last| now - last >= RETENTION_EVERY) {
            memory.retention = Some(now);
            if self
                .store
                .set_expired(expired_before(&self.catalog, (self.now)()))
            {
                self.head.refresh_runs();
            }
        }
        self.store.free_spent();
        if memory.not_before.is_none_or(|time| now >= time) && self.merge_index(memory) {
            return true;
        }
        let conditions = Conditions {
            idle: if settled {
                now - memory.last_commit
            } else {
                Duration::ZERO
            },
            thrifty: self.budgets.is_thrifty(),
            room: super::room::free_bytes(&self.folder)
                .map_or(u64::MAX, |free| free.saturating_sub(ROOM_RESERVE_BYTES)),
        };
        if memory.not_before.is_some_and(|time| now < time) || !self.worth_a_look(memory, now, &conditions) {
            return false;
        }
        let alive = |measurement: MeasurementId| self.catalog.measurement_by_id(measurement).is_some();
        let facts = memory.log.facts(&self.store, now - memory.began, &alive);
        match plan(&facts, &conditions) {
            Some(plan) => {
                self.merge(memory, &plan, sequence, &alive);
                true
            }
            None => false,
        }
    }

    /// The series index first: it is small, and looking series up gets slower with every generation.
    fn merge_index(&self, memory: &mut Memory) -> bool {
        match self.store.merge_index(&|| !self.control.is_stopping()) {
            Ok(merged) => merged,
            Err(StoreError::Stopped) => false,
            Err(error) => {
                self.counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "merging the series index failed; it stays as it is");
                memory.not_before = Some(Instant::now() + RETRY);
                false
            }
        }
    }

    /// Facts are not free with many runs: only when something changed, or now and then.
    fn worth_a_look(&self, memory: &mut Memory, now: Instant, conditions: &Conditions) -> bool {
        let set = self.store.runs();
        let idle = conditions.idle >= crate::store::merge_policy::IDLE;
        let same = memory.reviewed.as_ref().is_some_and(|(last, known, was_idle)| {
            now - *last < REVIEW && Arc::ptr_eq(known, &set) && *was_idle == idle
        });
        if !same {
            memory.reviewed = Some((now, set, idle));
        }
        !same
    }

    fn merge(&self, memory: &mut Memory, plan: &Plan, sequence: u64, alive: &dyn Fn(MeasurementId) -> bool) {
        let began = Instant::now();
        let input = MergeInput {
            sequence,
            alive,
            stop: &|| self.control.is_stopping(),
        };
        self.counters.running.store(1, Ordering::Relaxed);
        let merged = self.store.merge(plan, &input);
        self.counters.running.store(0, Ordering::Relaxed);
        let counters = &self.counters;
        let add = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
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
                memory.reviewed = None;
                self.head.refresh_runs();
                if let Err(error) = self.store.forget_spent_deletes() {
                    tracing::warn!(%error, "cannot forget deletes that are done; trying again later");
                } else {
                    self.head.refresh_runs();
                }
                self.store.free_spent();
            }
            Err(StoreError::Stopped) => {}
            Err(error) => {
                add(&counters.failures, 1);
                if error.is_damage() {
                    tracing::error!(%error, "a run is damaged: it is left as it is and not merged any more");
                    memory.log.damaged(&plan.runs);
                } else {
                    tracing::error!(%error, "merging failed; trying again later");
                    memory.not_before = Some(Instant::now() + RETRY);
                }
            }
        }
    }
}

/// Before which times rows have expired, by measurement: those whose retention policy has a duration.
fn expired_before(catalog: &Catalog, now: i64) -> BTreeMap<MeasurementId, i64> {
    let mut expired = BTreeMap::new();
    for database in catalog.databases() {
        for policy in database.policies.iter().filter(|policy| policy.duration > 0) {
            let before = now.saturating_sub(policy.duration);
            let measurements = catalog.measurements(policy.id);
            expired.extend(measurements.iter().map(|measurement| (measurement.id, before)));
        }
    }
    expired
}
