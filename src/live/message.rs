//! The messages of `/live`, as docs/live.md describes them.

use super::windows::{Groups, Row};
use crate::query::encode::json_text;
use serde::Deserialize;
use std::fmt::Write;

/// What a client may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Begin a subscription.
    Subscribe {
        /// The client's name for it, unique on its connection.
        id: String,
        /// As in [`Wanted`].
        db: String,
        /// As in [`Wanted`].
        q: String,
        /// As in [`Wanted`].
        #[serde(default)]
        resume: Option<u64>,
        /// As in [`Wanted`].
        #[serde(default)]
        from: Option<i64>,
        /// As in [`Wanted`].
        #[serde(default)]
        lateness: Option<String>,
    },
    /// End a subscription.
    Unsubscribe {
        /// Which.
        id: String,
    },
}

/// What a subscription is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The database.
    pub db: String,
    /// A SELECT.
    pub q: String,
    /// The last sequence the client has seen: only what changed after it is of interest.
    pub resume: Option<u64>,
    /// Windows (or points) from this time on, epoch nanoseconds.
    pub from: Option<i64>,
    /// Windows become final so long after their end: an InfluxQL duration.
    pub lateness: Option<String>,
}

/// Why rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The state when the subscription began.
    Snapshot,
    /// A window that is still open changed; a point was committed.
    Update,
    /// The watermark passed a window: this is its result.
    Final,
    /// Late data changed a window that was final.
    Correction,
}

impl Kind {
    /// As in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Update => "update",
            Self::Final => "final",
            Self::Correction => "correction",
        }
    }
}

/// A message, and what of it a transport may want to know without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// As in its text.
    pub kind: &'static str,
    /// The sequence in its text; 0 in errors.
    pub sequence: u64,
    /// JSON.
    pub text: String,
}

/// Rows of one kind; each replaces the row of the same name, tags and time. Rows of a group must stand together.
pub fn rows(
    kind: Kind,
    id: &str,
    sequence: u64,
    more: bool,
    columns: &[String],
    groups: &Groups,
    rows: &[Row],
) -> Message {
    let mut text = begin(kind.name(), id, sequence);
    if more {
        text.push_str(",\"more\":true");
    }
    text.push_str(",\"series\":[");
    for (i, chunk) in rows.chunk_by(|a, b| a.group == b.group).enumerate() {
        let (name, tags) = groups.get(chunk[0].group);
        text.push_str(if i > 0 { ",{\"name\":" } else { "{\"name\":" });
        json_text(name, &mut text);
        if let Some(tags) = tags {
            text.push_str(",\"tags\":");
            text.push_str(tags);
        }
        text.push_str(",\"columns\":[");
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            json_text(column, &mut text);
        }
        text.push_str("],\"values\":[");
        for (i, row) in chunk.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            text.push_str(&row.json);
        }
        text.push_str("]}");
    }
    text.push_str("]}");
    let kind = kind.name();
    Message { kind, sequence, text }
}

/// The client was too slow: so many changes were replaced by later ones, or left out, before they were sent.
pub fn lagged(id: &str, sequence: u64, coalesced: u64) -> Message {
    let mut text = begin("lagged", id, sequence);
    let _ = write!(text, ",\"coalesced\":{coalesced}}}");
    let kind = "lagged";
    Message { kind, sequence, text }
}

/// Something is wrong with a request, or the subscription has ended. `id` is empty when the message could not be read that far.
pub fn error(id: &str, error: &str) -> Message {
    let mut text = String::from("{\"type\":\"error\",\"id\":");
    json_text(id, &mut text);
    text.push_str(",\"error\":");
    json_text(error, &mut text);
    text.push('}');
    let (kind, sequence) = ("error", 0);
    Message { kind, sequence, text }
}

fn begin(kind: &str, id: &str, sequence: u64) -> String {
    let mut text = format!("{{\"type\":\"{kind}\",\"id\":");
    json_text(id, &mut text);
    let _ = write!(text, ",\"sequence\":{sequence}");
    text
}
