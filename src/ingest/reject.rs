//! What could not be stored, kept so that it can be told, looked at, and tried again after a fix.

use super::limits::Limits;
use super::line::Line;
use kymo_plugin_api::{Rejection, Row};

/// Why something was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// It could not be read, or should not have been. Its text is what the sender sent.
    Unparsed,
    /// It was read and cannot be stored: a type clash, a limit. Its text is line protocol, with its time in nanoseconds.
    Dropped,
}

/// Something that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Which of the two.
    pub kind: RejectKind,
    /// Line (or message) of the request, from 1.
    pub line: u64,
    /// Byte in it, from 1.
    pub column: u64,
    /// Why.
    pub reason: String,
    /// What its sender is shown: see the kinds.
    pub text: Vec<u8>,
    /// What must stand before the text when it is tried again (the header of CSV).
    pub context: Vec<u8>,
    /// The text was longer than is kept.
    pub is_cut: bool,
    /// What is kept to be tried again, where that is not the text.
    pub instead: Option<Kept>,
}

/// What is kept of something that was not stored, so that it can be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is to be decoded as: see the kinds.
    pub kind: RejectKind,
    /// What to decode.
    pub text: Vec<u8>,
    /// What must stand before it.
    pub context: Vec<u8>,
    /// The text was longer than is kept.
    pub is_cut: bool,
}

impl Kept {
    /// What the sender sent, and what must stand before it.
    fn sent(text: &[u8], context: &[u8], limits: &Limits) -> Self {
        let max = limits.line_kept_bytes_max;
        let is_cut = text.len() > max || context.len() > max;
        Self {
            kind: RejectKind::Unparsed,
            text: text[..text.len().min(max)].to_vec(),
            context: if is_cut { Vec::new() } else { context.to_vec() },
            is_cut,
        }
    }

    /// A point as line protocol.
    fn line(line: &Line, limits: &Limits) -> Self {
        let (text, max) = (line.text.as_bytes(), limits.line_kept_bytes_max);
        Self {
            kind: RejectKind::Dropped,
            // A copy: cut off in place it would keep the room of the whole.
            text: text[..text.len().min(max)].to_vec(),
            context: Vec::new(),
            is_cut: text.len() > max,
        }
    }
}

impl Reject {
    /// Of something that could not be read.
    pub fn unparsed(rejection: &Rejection<'_>, limits: &Limits) -> Self {
        let shown = Kept::sent(rejection.origin.text, rejection.context, limits);
        Self::new(rejection.origin.line, rejection.column, rejection.reason, shown)
    }

    /// Of a point that should not have been read, of a format that is no text: told as if it could not be read. What its sender
    /// sent of it may be no more than a name, so the point itself is kept. `time` is its own or the time of receipt.
    pub fn refused(row: &Row<'_>, rejection: &Rejection<'_>, time: i64, limits: &Limits) -> Self {
        let line = Line::new(row, time);
        Self {
            instead: line.is_exact.then(|| Kept::line(&line, limits)),
            ..Self::unparsed(rejection, limits)
        }
    }

    /// Of a point that cannot be stored. `time` is its own or the time of receipt.
    pub fn dropped(row: &Row<'_>, column: u64, time: i64, reason: &str, limits: &Limits) -> Self {
        let line = Line::new(row, time);
        let sent = || Kept::sent(row.origin.text, row.series.reader.context(), limits);
        Self {
            instead: (!line.is_exact).then(sent),
            ..Self::new(row.origin.line, column, reason, Kept::line(&line, limits))
        }
    }

    fn new(line: u64, column: u64, reason: &str, shown: Kept) -> Self {
        Self {
            kind: shown.kind,
            line,
            column,
            reason: reason.to_string(),
            text: shown.text,
            context: shown.context,
            is_cut: shown.is_cut,
            instead: None,
        }
    }

    /// What is kept of it.
    pub fn kept(self) -> Kept {
        self.instead.unwrap_or(Kept {
            kind: self.kind,
            text: self.text,
            context: self.context,
            is_cut: self.is_cut,
        })
    }

    /// The beginning of its text, for people.
    pub fn shown(&self, bytes_max: usize) -> String {
        let shown = &self.text[..self.text.len().min(bytes_max)];
        let more = if shown.len() < self.text.len() || self.is_cut {
            ".."
        } else {
            ""
        };
        String::from_utf8_lossy(shown).into_owned() + more
    }
}

#[cfg(test)]
mod tests;
