//! What one query may use of the machine: memory, counted in bytes, and threads that help.

use super::error::QueryError;
use super::exec::Kept;
use super::rollup::RollupUse;
use super::scan::ScanCounters;
use super::trace::{Stage, Trace};
use super::workers::Workers;
use crate::budget::Meter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// See the module. One for each query; its workers share it.
pub struct Resources<'a> {
    /// Memory.
    pub memory: Memory,
    /// Threads.
    pub workers: &'a Workers,
    /// What its scans cost.
    pub counters: ScanCounters,
    /// For EXPLAIN.
    pub trace: Option<Trace>,
    /// Does it read states of rollups?
    pub rollups: RollupUse,
    /// For live queries: what was folded when they were asked last.
    pub kept: Option<Mutex<Kept>>,
}

impl<'a> Resources<'a> {
    /// So many bytes, and these threads.
    pub fn new(memory_bytes_max: usize, workers: &'a Workers) -> Self {
        Self {
            memory: Memory::of_pool(memory_bytes_max, workers.memory().cloned()),
            workers,
            counters: ScanCounters::default(),
            trace: None,
            rollups: RollupUse::default(),
            kept: None,
        }
    }

    /// The same, reading states of rollups or not.
    pub fn with_rollups(self, rollups: RollupUse) -> Self {
        Self { rollups, ..self }
    }

    /// The same, where something else than `query_bytes` says how much memory there is.
    pub fn limited_by(mut self, limit: &'static str) -> Self {
        self.memory.limit = limit;
        self
    }

    /// The same for a statement that is explained.
    pub fn traced(self, trace: Trace) -> Self {
        Self {
            trace: Some(trace),
            ..self
        }
    }

    /// Does some work as a stage, whose time is taken where somebody asks for it.
    pub fn stage<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        match &self.trace {
            None => work(),
            Some(trace) => trace.time(stage, work),
        }
    }
}

/// Counts what all queries hold together against a budget of theirs.
#[derive(Debug)]
pub struct Pool {
    bytes_max: AtomicUsize,
    used: AtomicUsize,
    meter: Option<Arc<Meter>>,
}

impl Pool {
    /// So many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: AtomicUsize::new(bytes_max),
            used: AtomicUsize::new(0),
            meter: None,
        }
    }

    /// The same, taking no more once the process has too much in memory, whoever has it.
    #[must_use]
    pub fn metered(self, meter: Arc<Meter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// Changes the budget. What is held is not taken away.
    pub fn set_bytes_max(&self, bytes: usize) {
        self.bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A query that holds so many takes more. The only one that holds any may: else memory that others hold for good would end all.
    fn grow(&self, bytes: usize, holds: usize) -> Result<(), QueryError> {
        let alone = self.used.load(Ordering::Relaxed) <= holds;
        if let Some(meter) = self.meter.as_ref().filter(|_| !alone) {
            meter
                .go_on()
                .map_err(|short| QueryError::Busy(short.to_string()))?;
        }
        let used = self
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if used > bytes_max {
            self.shrink(bytes);
            return Err(QueryError::Busy(format!(
                "the queries that run hold as much memory as they may together (all_queries_bytes {bytes_max}), and this one needs more; retry when others have ended, or narrow its time or its series"
            )));
        }
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts what a query holds against its budget, and against that of all queries.
#[derive(Debug)]
pub struct Memory {
    pool: Option<Arc<Pool>>,
    /// What says so.
    limit: &'static str,
    bytes_max: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Memory {
    /// So many bytes, of no pool.
    pub fn new(bytes_max: usize) -> Self {
        Self::of_pool(bytes_max, None)
    }

    /// So many bytes, which must also find room in the pool.
    pub fn of_pool(bytes_max: usize, pool: Option<Arc<Pool>>) -> Self {
        Self {
            pool,
            limit: "query_bytes",
            bytes_max,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    /// Nothing held yet; see [`Held::set`].
    pub fn held(&self) -> Held<'_> {
        Held {
            memory: self,
            bytes: 0,
        }
    }

    /// So many bytes more are held until the statement ends.
    ///
    /// # Errors
    /// More than the budget has.
    pub fn keep(&self, bytes: usize) -> Result<(), QueryError> {
        self.grow(bytes)
    }

    /// The budget's name and what it has, for errors.
    pub fn limit(&self) -> String {
        format!("{} {}", self.limit, self.bytes_max)
    }

    /// The budget.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The most that was held at once.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    fn grow(&self, bytes: usize) -> Result<(), QueryError> {
        let used = self
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes);
        if used > self.bytes_max {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(QueryError::Limit(format!(
                "the query needs more memory than a query may have ({}); narrow its time or its series, or take longer windows",
                self.limit()
            )));
        }
        if let Some(pool) = &self.pool {
            pool.grow(bytes, used - bytes)
                .inspect_err(|_| _ = self.used.fetch_sub(bytes, Ordering::Relaxed))?;
        }
        self.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }

    fn shrink(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(pool) = &self.pool {
            pool.shrink(bytes);
        }
    }
}

impl Drop for Memory {
    /// What was kept until the statement ends is given back.
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.shrink(self.used.load(Ordering::Relaxed));
        }
    }
}

/// Bytes that somebody holds; given back when it is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    memory: &'a Memory,
    bytes: usize,
}

/// Small changes are not worth telling the other workers.
const GRAIN: usize = 64 << 10;

impl Held<'_> {
    /// Now so many bytes are held.
    ///
    /// # Errors
    /// More than the budget has; then the query must end.
    pub fn set(&mut self, bytes: usize) -> Result<(), QueryError> {
        // Rounded up, so that the sum is never less than what is held.
        let bytes = bytes.next_multiple_of(GRAIN);
        if bytes > self.bytes {
            self.memory.grow(bytes - self.bytes)?;
        } else {
            self.memory.shrink(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.memory.shrink(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_for_which_the_pool_has_no_room_fails_alone() {
        let pool = Arc::new(Pool::new(4 * GRAIN));
        let of_pool = || Memory::of_pool(3 * GRAIN, Some(pool.clone()));
        let (one, two) = (of_pool(), of_pool());
        let (mut held, mut other) = (one.held(), two.held());
        assert_eq!((held.set(3 * GRAIN), other.set(GRAIN)), (Ok(()), Ok(())));
        let refused = other.set(2 * GRAIN).expect_err("five of four").to_string();
        assert!(refused.contains("all_queries_bytes 262144"), "{refused}");
        let refused = held.set(4 * GRAIN).expect_err("four of three").to_string();
        assert!(refused.contains("query_bytes 196608"), "{refused}");
        assert_eq!(pool.used(), 4 * GRAIN, "what is refused is not held");
        // It ends, and frees what it had; the other goes on.
        drop(other);
        drop(two);
        assert_eq!((held.set(2 * GRAIN), pool.used()), (Ok(()), 2 * GRAIN));
        let three = of_pool();
        assert_eq!(three.keep(2 * GRAIN), Ok(()));
        assert!(three.keep(1).is_err());
        drop(three);
        assert_eq!(pool.used(), 2 * GRAIN, "what was kept ends with its statement");
        pool.set_bytes_max(GRAIN);
        assert_eq!(held.set(GRAIN), Ok(()), "what is held may shrink");
        drop(held);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn while_memory_is_short_one_query_goes_on() {
        let taken = vec![1_u8; 65 << 20];
        let pool = Arc::new(Pool::new(8 * GRAIN).metered(Arc::new(Meter::new(0))));
        let of_pool = || Memory::of_pool(4 * GRAIN, Some(pool.clone()));
        let (one, two) = (of_pool(), of_pool());
        let (mut held, mut other) = (one.held(), two.held());
        assert_eq!((held.set(GRAIN), held.set(3 * GRAIN)), (Ok(()), Ok(())));
        let refused = other.set(GRAIN).expect_err("memory is short").to_string();
        assert!(
            refused.contains("64 MiB in memory"),
            "{refused} {}",
            taken.iter().filter(|b| **b == 1).count()
        );
        drop(held);
        drop(one);
        assert_eq!(other.set(GRAIN), Ok(()));
    }

    #[test]
    fn what_is_held_is_counted_refused_and_given_back() {
        let memory = Memory::new(4 * GRAIN);
        let mut one = memory.held();
        assert_eq!(one.set(GRAIN + 1), Ok(()));
        {
            let mut two = memory.held();
            assert_eq!(two.set(2 * GRAIN), Ok(()));
            let refused = two.set(3 * GRAIN);
            assert!(
                refused.is_err_and(|e| e.to_string().contains("query_bytes")),
                "two and three are more than four"
            );
            assert_eq!(one.set(0), Ok(()));
            assert_eq!(two.set(3 * GRAIN), Ok(()));
        }
        assert_eq!(one.set(4 * GRAIN), Ok(()));
        assert!(memory.keep(1).is_err());
        drop(one);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
        assert_eq!(memory.peak(), 4 * GRAIN);
        assert_eq!((memory.keep(7), memory.used.load(Ordering::Relaxed)), (Ok(()), 7));
    }
}
