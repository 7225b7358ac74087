//! Figures of what came in and went out, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

/// Figures of one way in.
#[derive(Debug, Default)]
pub struct Ingest {
    /// Rows accepted.
    pub rows: AtomicU64,
    /// Lines that could not be read.
    pub unparsed: AtomicU64,
    /// Points that could be read and not stored: a type clash, a limit.
    pub dropped: AtomicU64,
    /// Rows thrown away because the queues were full (UDP only).
    pub overloaded: AtomicU64,
    /// Bytes.
    pub bytes: AtomicU64,
    /// Requests, or datagrams.
    pub requests: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
}

/// All figures of the net.
#[derive(Debug, Default)]
pub struct Counters {
    /// HTTP writes.
    pub http: Ingest,
    /// Line protocol over TCP.
    pub line_tcp: Ingest,
    /// Line protocol over UDP.
    pub line_udp: Ingest,
    /// statsd, both.
    pub statsd: Ingest,
    /// The host's own figures.
    pub host: Ingest,
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
    /// Each way in by name.
    pub fn ingests(&self) -> [(&'static str, &Ingest); 5] {
        [
            ("http", &self.http),
            ("line-tcp", &self.line_tcp),
            ("line-udp", &self.line_udp),
            ("statsd", &self.statsd),
            ("host", &self.host),
        ]
    }
}

/// Adds to a figure.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Reads a figure.
pub fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
