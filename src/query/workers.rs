//! What all queries share: threads that help, and a pool of memory. There are as many as the machine has cores beside the one that asks; a query takes what is free,
//! so under load each query has the one thread it came with, and a query alone has all. Small queries take none.

use super::resources::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Rows times columns that one thread works on before another is worth its start: a millisecond or two. A thread that is started may
/// not run before the next tick of the scheduler (1 to 4 ms), and whoever started it waits for it.
pub const VALUES_PER_WORKER: u64 = 500_000;

/// Threads that are free to help. Shared by all queries.
#[derive(Debug)]
pub struct Workers {
    free: AtomicUsize,
    memory: Option<Arc<Pool>>,
}

/// Threads that a query has taken.
struct Taken<'a> {
    workers: &'a Workers,
    count: usize,
}

impl Workers {
    /// So many threads.
    pub const fn new(count: usize) -> Self {
        Self {
            free: AtomicUsize::new(count),
            memory: None,
        }
    }

    /// The same for queries that share a pool of memory.
    #[must_use]
    pub fn with_memory(self, memory: Arc<Pool>) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// The memory that all queries share.
    pub const fn memory(&self) -> Option<&Arc<Pool>> {
        self.memory.as_ref()
    }

    fn take(&self, wanted: usize) -> Taken<'_> {
        let mut count = 0;
        let _ = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                count = free.min(wanted);
                Some(free - count)
            });
        Taken { workers: self, count }
    }

    /// Does tasks 0 to `tasks`, in that order where a single thread does them, with at most `helpers` more threads. Each thread has
    /// a state of its own; all of them come back. Whoever is free takes the next task, so none waits for a slow one.
    ///
    /// # Errors
    /// The first that a task gives; the others end soon.
    pub fn run<S: Send, E: Send>(
        &self,
        tasks: usize,
        helpers: usize,
        make: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
    ) -> Result<Vec<S>, E> {
        let taken = self.take(helpers.min(tasks.saturating_sub(1)));
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let each = || {
            let mut state = make();
            while !failed.load(Ordering::Relaxed) {
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                work(&mut state, task).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(state)
        };
        if taken.count == 0 {
            return each().map(|state| vec![state]);
        }
        std::thread::scope(|scope| {
            let helper = || {
                let builder = std::thread::Builder::new().name("kymo-scan".into());
                // Without it the others do its share.
                builder.spawn_scoped(scope, each).ok()
            };
            let helpers: Vec<_> = (0..taken.count).filter_map(|_| helper()).collect();
            let mut states = vec![each()];
            for helper in helpers {
                states.push(
                    helper
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                );
            }
            states.into_iter().collect()
        })
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.workers.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once_and_threads_are_given_back() {
        let workers = Workers::new(3);
        for helpers in [0, 1, 9] {
            let lists = workers.run(1000, helpers, Vec::new, |done: &mut Vec<usize>, task| {
                done.push(task);
                Ok::<(), ()>(())
            });
            let lists = lists.expect("no task fails");
            assert!(lists.len() <= 1 + helpers.min(3));
            let mut all = lists.concat();
            all.sort_unstable();
            assert_eq!(all, (0..1000).collect::<Vec<_>>());
            assert_eq!(workers.free.load(Ordering::Relaxed), 3);
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let workers = Workers::new(2);
        let done = AtomicUsize::new(0);
        let outcome = workers.run(
            100_000,
            2,
            || (),
            |(), task| {
                done.fetch_add(1, Ordering::Relaxed);
                if task == 5 { Err("five") } else { Ok(()) }
            },
        );
        assert_eq!(outcome.err(), Some("five"));
        assert!(done.load(Ordering::Relaxed) < 100_000);
        assert_eq!(workers.free.load(Ordering::Relaxed), 2);
    }
}
