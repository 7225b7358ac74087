//! Errors of the parser, in InfluxDB's words.

/// Why a text is no query. Its text is what InfluxDB says after `error parsing query: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ParseError {
    /// See above.
    pub text: String,
    /// Byte offset of the place, if there is one.
    pub offset: Option<usize>,
    /// What would be right, in Kymo's words.
    pub hint: Option<String>,
}

impl ParseError {
    /// An error without a place.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            offset: None,
            hint: None,
        }
    }
}
