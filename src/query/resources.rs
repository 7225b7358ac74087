//! What one query may use of the machine: memory, counted in bytes, and threads that help.

use super::error::QueryError;
use super::exec::Kept;
use super::rollup::RollupUse;
use super::scan::ScanCounters;
use super::trace::{Stage, Trace};
use super::workers::Workers;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

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
            memory: Memory::new(memory_bytes_max),
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

/// Counts what a query holds against its budget.
#[derive(Debug)]
pub struct Memory {
    bytes_max: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

impl Memory {
    /// So many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
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
                "the query needs more memory than a query may have (query_bytes {}); narrow its time or its series, or take longer windows",
                self.bytes_max
            )));
        }
        self.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
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
            self.memory.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
