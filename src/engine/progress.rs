//! How far a start is. Written by whoever opens the engine, read by whoever is asked meanwhile.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What a start is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looking at the store's files and reading names.
    OpeningStore,
    /// Taking over what the journal has and the store has not.
    Replaying,
    /// Starting threads and opening the ways in.
    Starting,
}

/// See the module. Shared.
#[derive(Debug, Default)]
pub struct Progress {
    stage: AtomicU8,
    batches: AtomicU64,
    bytes: AtomicU64,
    bytes_at_most: AtomicU64,
}

/// How far a start was at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// What it did.
    pub stage: Stage,
    /// Batches replayed.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of the journal's files: no more than that is to be replayed.
    pub bytes_at_most: u64,
}

impl Progress {
    /// The journal is replayed from now on; its files have so many bytes.
    pub fn replays(&self, bytes_at_most: u64) {
        self.bytes_at_most.store(bytes_at_most, Relaxed);
        self.stage.store(1, Relaxed);
    }

    /// One more batch is replayed.
    pub fn batch(&self, bytes: usize) {
        self.batches.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// The journal is replayed.
    pub fn replayed(&self) {
        self.stage.store(2, Relaxed);
    }

    /// How far it is now.
    pub fn reached(&self) -> Reached {
        Reached {
            stage: match self.stage.load(Relaxed) {
                0 => Stage::OpeningStore,
                1 => Stage::Replaying,
                _ => Stage::Starting,
            },
            batches: self.batches.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            bytes_at_most: self.bytes_at_most.load(Relaxed),
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            Stage::OpeningStore => write!(f, "starting: opening the store"),
            Stage::Replaying => write!(
                f,
                "starting: replaying the journal, {} batches, {} KiB of at most {} KiB",
                self.batches,
                self.bytes >> 10,
                self.bytes_at_most >> 10
            ),
            Stage::Starting => write!(f, "starting: the journal is replayed, {} batches", self.batches),
        }
    }
}
