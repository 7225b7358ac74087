//! What can go wrong in the store, by what the caller can do about it.

use std::io;

/// Why a call of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Stored bytes are not what was written. The rest of the store can still be read.
    #[error("damaged data in {place}: {reason}")]
    Damaged {
        /// Which value: keyspace and key in words.
        place: String,
        /// What did not fit.
        reason: String,
    },
    /// The operating system refused; `source` says how.
    #[error("store input/output failed")]
    Io(#[source] io::Error),
    /// The folder is no store of ours, or of a version or with options this program cannot use.
    #[error("this store cannot be opened: {0}")]
    Format(String),
    /// fjall refused for a reason that is neither damage nor input/output (poisoned, locked by another process, ..).
    #[error("storage engine failed: {0}")]
    Engine(String),
    /// A merge was given up because it was told to.
    #[error("stopped before it was done")]
    Stopped,
    /// The caller broke the order the store needs (watermarks and tables ascend): a bug.
    #[error("input out of order: {0}")]
    Order(String),
}

impl StoreError {
    /// Damage at a place, with the reason.
    pub(super) fn damaged(place: impl Into<String>, reason: impl ToString) -> Self {
        Self::Damaged {
            place: place.into(),
            reason: reason.to_string(),
        }
    }

    /// Is it damage (as opposed to a machine that fails)?
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Sorts fjall's errors into ours; `place` is what was being read or written.
    pub(super) fn from_fjall(place: &str, error: fjall::Error) -> Self {
        use fjall::LsmError;
        match error {
            fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => Self::Io(error),
            fjall::Error::Storage(
                error @ (LsmError::ChecksumMismatch { .. }
                | LsmError::InvalidHeader(_)
                | LsmError::InvalidTag(_)
                | LsmError::InvalidTrailer
                | LsmError::Decompress(_)
                | LsmError::Unrecoverable
                | LsmError::Utf8(_)),
            ) => Self::damaged(place, format!("{error:?}")),
            error => Self::Engine(format!("{place}: {error:?}")),
        }
    }
}
