//! The queries that run or wait to run: what SHOW QUERIES shows, KILL QUERY stops, and a stopping server ends.

use super::context::{Cancel, Why};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module. Shared by all queries of a server.
#[derive(Debug, Default)]
pub struct Running {
    last: AtomicU64,
    stopping: AtomicBool,
    list: Mutex<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    text: String,
    database: String,
    since: Instant,
    waits: bool,
    cancel: Arc<Cancel>,
}

/// What SHOW QUERIES tells of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its number, for KILL QUERY.
    pub id: u64,
    /// What was asked.
    pub text: String,
    /// In which database; empty when none was named.
    pub database: String,
    /// How long ago it came.
    pub since: Duration,
    /// `queued`, `running`, or `killed` when it has been stopped but has not ended yet.
    pub status: &'static str,
}

/// A query is listed as long as its ticket lives.
#[derive(Debug)]
pub struct Ticket {
    running: Arc<Running>,
    id: u64,
}

impl Running {
    fn list(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query has come; it waits until [`Ticket::runs`]. On a stopping server it is cancelled at once.
    pub fn enter(self: &Arc<Self>, text: &str, database: &str, cancel: &Arc<Cancel>) -> Ticket {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Entry {
            text: text.to_string(),
            database: database.to_string(),
            since: Instant::now(),
            waits: true,
            cancel: cancel.clone(),
        };
        let mut list = self.list();
        list.insert(id, entry);
        // IMPORTANT: read under the lock, or a query that comes while `stop` looks at the list is missed.
        if self.stopping.load(Ordering::Acquire) {
            cancel.cancel(Why::Stopping);
        }
        drop(list);
        Ticket {
            running: self.clone(),
            id,
        }
    }

    /// Those that wait for others.
    pub fn waiting(&self) -> usize {
        self.list().values().filter(|entry| entry.waits).count()
    }

    /// All of them, oldest first.
    pub fn about(&self) -> Vec<About> {
        let about = |(id, entry): (&u64, &Entry)| About {
            id: *id,
            text: entry.text.clone(),
            database: entry.database.clone(),
            since: entry.since.elapsed(),
            status: match (entry.cancel.is_cancelled(), entry.waits) {
                (true, _) => "killed",
                (false, true) => "queued",
                (false, false) => "running",
            },
        };
        self.list().iter().map(about).collect()
    }

    /// Stops a query; false: there is none of this number.
    pub fn kill(&self, id: u64) -> bool {
        let list = self.list();
        let found = list.get(&id);
        if let Some(entry) = found {
            entry.cancel.cancel(Why::Killed);
        }
        found.is_some()
    }

    /// Stops all queries, and those still to come.
    pub fn stop(&self) {
        let list = self.list();
        self.stopping.store(true, Ordering::Release);
        list.values().for_each(|entry| entry.cancel.cancel(Why::Stopping));
    }
}

impl Ticket {
    /// It does not wait any more.
    pub fn runs(&self) {
        if let Some(entry) = self.running.list().get_mut(&self.id) {
            entry.waits = false;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.running.list().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_listed_while_they_live_and_stopped_by_number() {
        let running = Arc::new(Running::default());
        let (one, two) = (Arc::new(Cancel::default()), Arc::new(Cancel::default()));
        let first = running.enter("SELECT 1", "d", &one);
        let second = running.enter("SELECT 2", "", &two);
        second.runs();
        let short = |about: Vec<About>| about.into_iter().map(|a| (a.id, a.status)).collect::<Vec<_>>();
        assert_eq!(short(running.about()), [(1, "queued"), (2, "running")]);
        assert_eq!(running.waiting(), 1);
        assert!(running.kill(2) && !running.kill(3));
        assert_eq!(two.why(), Some(Why::Killed));
        assert_eq!(short(running.about()), [(1, "queued"), (2, "killed")]);
        drop(second);
        assert_eq!(short(running.about()), [(1, "queued")]);
        running.stop();
        assert_eq!(one.why(), Some(Why::Stopping));
        drop(first);
        let late = Arc::new(Cancel::default());
        let _late = running.enter("SELECT 3", "d", &late);
        assert_eq!(late.why(), Some(Why::Stopping));
    }
}
