//! The write-ahead journal: what was acknowledged is in here, fsynced, until the store has it.
//!
//! One for the whole server. Comes from whoever submits batches ([`thread`]), goes to the shards once durable, and at start
//! from [`replay`] to the shards again. Payloads are opaque bytes here. Frames and files are drawn in docs/formats/journal.md.
//!
//! Read in this order: [`segment`] (the bytes), [`disk`] (the file layer; a simulated one in tests), [`writer`] (group
//! commit), [`replay`], [`thread`] (the queue).

pub mod disk;
pub mod replay;
pub mod segment;
#[cfg(test)]
pub mod simulated;
#[cfg(test)]
mod simulation;
pub mod thread;
pub mod writer;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full: nothing of what was refused is written.
    #[error("no space left for the journal")]
    DiskFull,
    /// What is durable already fills the memory it may have: nothing of what was refused is written.
    #[error("{0}")]
    NoRoom(String),
    /// Writing or syncing failed. The journal takes nothing more: whether the data is on disk is unknown until it is replayed.
    #[error("journal input/output failed: {0}")]
    Io(#[from] std::io::Error),
    /// An earlier failure; see [`JournalError::Io`].
    #[error("the journal failed before: {0}")]
    Poisoned(String),
}
