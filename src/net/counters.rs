//! Figures of what came in and went out, since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Figures of one way in.
#[derive(Debug, Default)]
pub struct Ingest {
    /// Rows accepted.
    pub rows: AtomicU64,
    /// Lines that could not be read.
    pub unparsed: AtomicU64,
    /// Points that could be read and not stored: a type clash, a limit.
    pub dropped: AtomicU64,
    /// Values the format does not store, by no fault of the sender.
    pub skipped: AtomicU64,
    /// Rows thrown away although they were good: the server could not take them, and the sender could not be told.
    pub overloaded: AtomicU64,
    /// Batches handed in again after the server could not take them.
    pub retries: AtomicU64,
    /// Bytes.
    pub bytes: AtomicU64,
    /// Requests, or datagrams.
    pub requests: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections closed at once: too many were open.
    pub connections_refused: AtomicU64,
    /// Datagrams thrown away unread: too many waited inside the server.
    pub datagrams_dropped: AtomicU64,
    /// Datagrams the kernel threw away: nobody read them in time.
    pub kernel_dropped: AtomicU64,
    /// Bytes of datagrams that wait inside the server.
    pub waiting_bytes: AtomicU64,
    /// Bytes of the kernel's receive buffers, as it gave them.
    pub receive_buffer_bytes: AtomicU64,
    /// Seconds since 1970 when its last trouble was logged.
    pub trouble_logged: AtomicU64,
}

/// All figures of the net.
#[derive(Debug, Default)]
pub struct Counters {
    /// HTTP writes.
    pub http: Arc<Ingest>,
    /// The other ways in, by name.
    ways: Mutex<Vec<(String, Arc<Ingest>)>>,
    /// Queries run.
    pub queries: AtomicU64,
    /// Queries that ended with an error.
    pub query_errors: AtomicU64,
    /// Nanoseconds spent on queries.
    pub query_nanoseconds: AtomicU64,
    /// WebSocket connections open now.
    pub live_connections: AtomicU64,
}

impl Counters {
    /// The figures of a way in, by the name that /metrics gives it.
    pub fn way(&self, name: &str) -> Arc<Ingest> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = ways.iter().find(|(known, _)| known == name) {
            return found.clone();
        }
        let made = Arc::new(Ingest::default());
        ways.push((name.to_string(), made.clone()));
        made
    }

    /// Each way in by name.
    pub fn ingests(&self) -> Vec<(String, Arc<Ingest>)> {
        let mut all = vec![("http".to_string(), self.http.clone())];
        all.extend(
            self.ways
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .cloned(),
        );
        all
    }
}

/// Adds to a figure.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Takes from a figure that goes up and down.
pub fn take(counter: &AtomicU64, count: u64) {
    counter.fetch_sub(count, Ordering::Relaxed);
}

/// Reads a figure.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
