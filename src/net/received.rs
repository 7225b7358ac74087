//! What connections and datagram sockets hold before it is decoded, all of them together: one budget, `received_bytes`.
//!
//! Half of it is for datagrams that wait, a quarter for what connections are read into, a quarter for unfinished lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a connection is read into at first, and in any case.
pub const READ_BYTES_MIN: usize = 4 << 10;
/// What it is read into at most, once it has shown that it has so many.
pub const READ_BYTES_MAX: usize = 256 << 10;

/// See the module. Shared.
#[derive(Debug, Default)]
pub struct Received {
    bytes_max: usize,
    waiting_bytes_max: usize,
    connections: AtomicUsize,
    buffers: AtomicUsize,
    carried: AtomicUsize,
    datagrams: AtomicUsize,
    waiting: AtomicUsize,
}

/// Which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What connections are read into.
    Buffers,
    /// Lines and messages whose end has not come.
    Carried,
    /// Datagrams that wait to be decoded.
    Datagrams,
    /// Batches of connections that wait for their commit: they have a budget of their own.
    Waiting,
}

/// A connection, while it is open.
#[derive(Debug)]
pub struct Connection(Arc<Received>);

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub struct Held {
    received: Arc<Received>,
    part: Part,
    bytes: usize,
}

impl Received {
    /// So many bytes before decoding, and so many of batches that wait.
    pub fn new(bytes_max: usize, waiting_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            waiting_bytes_max,
            ..Self::default()
        })
    }

    /// One more connection; `None`: there are as many as there is room for, with the smallest buffers.
    pub fn connect(self: &Arc<Self>) -> Option<Connection> {
        let before = self.connections.fetch_add(1, Relaxed);
        let connection = Connection(self.clone());
        (before < self.connections_max()).then_some(connection)
    }

    /// Connections that there may be.
    pub fn connections_max(&self) -> usize {
        (self.bytes_max(Part::Buffers) / READ_BYTES_MIN).max(1)
    }

    /// Bytes that a connection may be read into.
    pub fn read_bytes_max(&self) -> usize {
        let connections = self.connections.load(Relaxed).max(1);
        (self.bytes_max(Part::Buffers) / connections).clamp(READ_BYTES_MIN, READ_BYTES_MAX)
    }

    /// Bytes that a part may hold.
    pub fn bytes_max(&self, part: Part) -> usize {
        match part {
            Part::Datagrams => self.bytes_max / 2,
            Part::Buffers | Part::Carried => self.bytes_max / 4,
            Part::Waiting => self.waiting_bytes_max,
        }
    }

    /// Bytes held before decoding.
    pub fn bytes(&self) -> usize {
        let parts = [Part::Buffers, Part::Carried, Part::Datagrams];
        parts.iter().map(|part| self.count(*part).load(Relaxed)).sum()
    }

    /// Bytes of batches of connections that wait for their commit.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Does a part hold as much as it may?
    pub fn is_full(&self, part: Part) -> bool {
        self.count(part).load(Relaxed) > self.bytes_max(part)
    }

    /// Nothing held yet.
    pub fn held(self: &Arc<Self>, part: Part) -> Held {
        Held {
            received: self.clone(),
            part,
            bytes: 0,
        }
    }

    /// Holds bytes; false, and nothing is held: the part has no room for them.
    pub fn take(&self, part: Part, bytes: usize) -> bool {
        let before = self.count(part).fetch_add(bytes, Relaxed);
        let fits = before + bytes <= self.bytes_max(part);
        if !fits {
            self.give_back(part, bytes);
        }
        fits
    }

    /// Gives back what was [taken](Self::take).
    pub fn give_back(&self, part: Part, bytes: usize) {
        self.count(part).fetch_sub(bytes, Relaxed);
    }

    fn count(&self, part: Part) -> &AtomicUsize {
        match part {
            Part::Buffers => &self.buffers,
            Part::Carried => &self.carried,
            Part::Datagrams => &self.datagrams,
            Part::Waiting => &self.waiting,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

impl Held {
    /// Holds so many bytes instead; true if there was room before.
    pub fn set(&mut self, bytes: usize) -> bool {
        let count = self.received.count(self.part);
        let before = count.fetch_add(bytes, Relaxed);
        count.fetch_sub(self.bytes, Relaxed);
        let fits = before - self.bytes <= self.received.bytes_max(self.part);
        self.bytes = bytes;
        fits
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.received.give_back(self.part, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_what_they_may() {
        let received = Received::new(1 << 20, 500);
        assert!(received.take(Part::Datagrams, 300 << 10));
        assert!(!received.take(Part::Datagrams, 300 << 10));
        assert_eq!(received.bytes(), 300 << 10);
        received.give_back(Part::Datagrams, 300 << 10);
        let (mut one, mut other) = (received.held(Part::Carried), received.held(Part::Carried));
        assert!(one.set(300 << 10), "there was room before, of 256 KiB");
        assert!(!other.set(1), "there is none any more");
        drop(one);
        assert!(other.set(1));
        drop(other);
        assert_eq!(received.bytes(), 0);
        let mut waiting = received.held(Part::Waiting);
        waiting.set(501);
        assert!(received.is_full(Part::Waiting) && received.bytes() == 0);
        drop(waiting);
        assert!(!received.is_full(Part::Waiting));
    }

    #[test]
    fn the_more_connections_the_smaller_their_buffers_until_no_more_are_taken() {
        let received = Received::new(4 * 64 * READ_BYTES_MIN, 0);
        assert_eq!(received.connections_max(), 64);
        let mut open = vec![received.connect().expect("room")];
        assert_eq!(received.read_bytes_max(), READ_BYTES_MAX);
        open.extend((0..63).map(|_| received.connect().expect("room")));
        assert_eq!(received.read_bytes_max(), READ_BYTES_MIN);
        assert!(received.connect().is_none());
        open.pop();
        assert!(received.connect().is_some());
    }
}
