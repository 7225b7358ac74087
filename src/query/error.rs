//! Why a statement has no answer.

use super::context::Why;
use super::scan::ScanError;
use crate::store::StoreError;

/// See the variants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The statement makes no sense; the text is for its author.
    #[error("{0}")]
    Statement(String),
    /// A limit was reached; the text names it.
    #[error("{0}")]
    Limit(String),
    /// There is no room for it now, for others have it; the text says what is short.
    #[error("{0}")]
    Busy(String),
    /// It was stopped from outside.
    #[error("query interrupted{}", match .0 {
        Why::HungUp => ": nobody waits for the answer",
        Why::Killed => "",
        Why::Stopping => ": the server stops",
    })]
    Cancelled(Why),
    /// What is stored could not be read.
    #[error("{0}")]
    Scan(String),
    /// What it writes could not be written.
    #[error("{0}")]
    Write(String),
}

impl QueryError {
    /// The statement makes no sense.
    pub fn statement(text: impl Into<String>) -> Self {
        Self::Statement(text.into())
    }
}

impl From<ScanError> for QueryError {
    fn from(error: ScanError) -> Self {
        Self::Scan(error.to_string())
    }
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        ScanError::from(error).into()
    }
}
