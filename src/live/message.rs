//! The messages of `/live`, as docs/live.md describes them: JSON here, FlatBuffers in [`super::flat`].

use super::flat;
use super::row::{Groups, Row};
use crate::query::encode::{json_text, json_value};
use bytes::Bytes;
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

/// How messages to a client are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As JSON texts.
    #[default]
    Json,
    /// As FlatBuffers of schemas/live.fbs.
    FlatBuffers,
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
    /// Its type.
    pub kind: &'static str,
    /// The sequence it says; 0 in errors.
    pub sequence: u64,
    /// JSON, or a FlatBuffer. Shared by all who are sent the same.
    pub bytes: Bytes,
}

/// Rows of one kind; each replaces the row of the same name, tags and time. Rows of a group must stand together.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// Why.
    pub kind: Kind,
    /// What the client knows with them.
    pub sequence: u64,
    /// Another message belongs to the same sequence.
    pub more: bool,
    /// Names of the columns, that of the time first.
    pub columns: &'a [String],
    /// Whose groups are these.
    pub groups: &'a Groups,
    /// The rows.
    pub rows: &'a [Row],
}

impl Told<'_> {
    /// Values of a row.
    pub fn width(&self) -> usize {
        self.columns.len().saturating_sub(1).max(1)
    }
}

/// Rows, told under the client's name for their subscription.
pub fn rows(encoding: Encoding, id: &str, told: &Told<'_>) -> Message {
    let bytes = match encoding {
        Encoding::Json => rows_json(id, told).into(),
        Encoding::FlatBuffers => flat::rows(id, told),
    };
    let (kind, sequence) = (told.kind.name(), told.sequence);
    Message {
        kind,
        sequence,
        bytes,
    }
}

fn rows_json(id: &str, told: &Told<'_>) -> String {
    let mut text = begin(told.kind.name(), id, told.sequence);
    if told.more {
        text.push_str(",\"more\":true");
    }
    text.push_str(",\"series\":[");
    for (i, chunk) in told.rows.chunk_by(|a, b| a.group == b.group).enumerate() {
        let group = told.groups.get(chunk[0].group);
        text.push_str(if i > 0 { ",{\"name\":" } else { "{\"name\":" });
        json_text(&group.name, &mut text);
        if !group.tags.is_empty() {
            text.push_str(",\"tags\":");
            text.push_str(&group.tags_json);
        }
        text.push_str(",\"columns\":[");
        for (i, column) in told.columns.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            json_text(column, &mut text);
        }
        text.push_str("],\"values\":[");
        let start = text.len();
        for row in chunk {
            for values in row.cells.values().chunks(told.width()) {
                text.push_str(if text.len() > start { ",[" } else { "[" });
                let _ = write!(text, "{}", row.time);
                for value in values {
                    text.push(',');
                    json_value(value, &mut text);
                }
                text.push(']');
            }
        }
        text.push_str("]}");
    }
    text.push_str("]}");
    text
}

/// The client was too slow: so many changes were replaced by later ones, or left out, before they were sent.
pub fn lagged(encoding: Encoding, id: &str, sequence: u64, coalesced: u64) -> Message {
    let bytes = match encoding {
        Encoding::Json => {
            let mut text = begin("lagged", id, sequence);
            let _ = write!(text, ",\"coalesced\":{coalesced}}}");
            text.into()
        }
        Encoding::FlatBuffers => flat::lagged(id, sequence, coalesced),
    };
    let kind = "lagged";
    Message {
        kind,
        sequence,
        bytes,
    }
}

/// Something is wrong with a request, or the subscription has ended. `id` is empty when the message could not be read that far.
pub fn error(encoding: Encoding, id: &str, error: &str) -> Message {
    let bytes = match encoding {
        Encoding::Json => {
            let mut text = String::from("{\"type\":\"error\",\"id\":");
            json_text(id, &mut text);
            text.push_str(",\"error\":");
            json_text(error, &mut text);
            text.push('}');
            text.into()
        }
        Encoding::FlatBuffers => flat::error(id, error),
    };
    let (kind, sequence) = ("error", 0);
    Message {
        kind,
        sequence,
        bytes,
    }
}

fn begin(kind: &str, id: &str, sequence: u64) -> String {
    let mut text = format!("{{\"type\":\"{kind}\",\"id\":");
    json_text(id, &mut text);
    let _ = write!(text, ",\"sequence\":{sequence}");
    text
}
