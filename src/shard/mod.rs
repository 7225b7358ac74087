//! The head: what is committed and not yet sealed, in memory, and the threads that keep it.
//!
//! Comes from the journal (committed groups of batches), goes to queries (snapshots) and to the store (seals).
//! Read in this order: [`head`] turns batches into sorted parts (pure; [`part`], [`recent`]), [`publish`] makes a whole group visible at once,
//! [`writer`] runs one thread a shard, [`dispatch`] hands groups to the threads in sequence order, [`seal`] turns a
//! frozen head into sorted tables for the store (pure).

pub mod dispatch;
pub mod head;
pub mod part;
pub mod publish;
pub mod recent;
pub mod seal;
mod size;
pub mod writer;

use crate::batch::EncodedBatch;
use std::sync::Arc;

/// Batches that were made durable by one fdatasync, in sequence order without gaps.
pub struct Group {
    /// Sequence of the first batch.
    pub first: u64,
    /// Sequence of the last.
    pub last: u64,
    /// One a sequence.
    pub batches: Vec<Arc<EncodedBatch>>,
}

/// What happens to a batch in the end, told to whoever submitted it: its sequence once it is durable and visible.
pub type Ack = Box<dyn FnOnce(Result<u64, CommitError>) + Send>;

/// Why a batch was not committed. Nothing of it is, or will be, visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk has no room; try again when there is.
    #[error("no space left for the journal")]
    DiskFull,
    /// Unsealed points fill their memory; try again when they are sealed.
    #[error("timeout: {0}; retry")]
    Unsealed(String),
    /// Writing or syncing failed; the server takes no more until it is restarted.
    #[error("the journal failed, restart the server: {0}")]
    Failed(String),
    /// The server is going down.
    #[error("the server is shutting down")]
    Stopping,
}

impl CommitError {
    /// The same batch may be taken later: no restart is needed.
    pub fn passes(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Unsealed(_))
    }
}
