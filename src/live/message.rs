//! The messages of `/live`, as docs/live.md describes them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What a client may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Begin a subscription.
    Subscribe {
        /// The client's name for it, unique on its connection.
        id: String,
        /// The database.
        db: String,
        /// A SELECT with GROUP BY time(..).
        q: String,
        /// The last sequence the client has seen: only what changed after it is of interest.
        #[serde(default)]
        resume: Option<u64>,
    },
    /// End a subscription.
    Unsubscribe {
        /// Which.
        id: String,
    },
}

/// Why rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The state when the subscription began.
    Snapshot,
    /// A window that is still open changed.
    Update,
    /// The watermark passed a window: this is its result.
    Final,
    /// Late data changed a window that was final.
    Correction,
}

/// Rows of one name and tag set, as in an answer of `/query` with `epoch=ns`.
#[derive(Debug, Serialize)]
pub struct Series<'a> {
    /// The measurement.
    pub name: &'a str,
    /// Grouping tags, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<&'a RawValue>,
    /// Column names, `time` first.
    pub columns: &'a [String],
    /// Rows, each a JSON array that begins with the time.
    pub values: Vec<&'a RawValue>,
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Reply<'a> {
    /// Rows; each replaces the row of the same name, tags and time.
    Rows {
        /// Why.
        #[serde(rename = "type")]
        kind: Kind,
        /// The subscription.
        id: &'a str,
        /// Everything committed up to here is reflected.
        sequence: u64,
        /// The rows.
        series: Vec<Series<'a>>,
    },
    /// The client was too slow: this many changes were replaced by later ones before they were sent.
    Lagged {
        /// Always "lagged".
        #[serde(rename = "type")]
        kind: &'static str,
        /// The subscription.
        id: &'a str,
        /// As in rows.
        sequence: u64,
        /// Changes that were not sent on their own.
        coalesced: u64,
    },
    /// Something is wrong with a request, or the subscription has ended.
    Error {
        /// Always "error".
        #[serde(rename = "type")]
        kind: &'static str,
        /// The subscription, empty when the message could not be read that far.
        id: &'a str,
        /// What.
        error: &'a str,
    },
}

impl Reply<'_> {
    /// The text of an error message.
    pub fn error(id: &str, error: &str) -> String {
        Reply::Error {
            kind: "error",
            id,
            error,
        }
        .text()
    }

    /// The message as JSON.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and valid JSON serialise")
    }
}
