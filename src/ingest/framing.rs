//! Cuts a stream of bytes into pieces that a decoder can read whole. Holds at most one unfinished line or message.

use super::limits::Limits;
use kymo_plugin_api::Framing;
use memchr::{memchr, memrchr};

/// Whole pieces out of a stream that arrives in any pieces.
pub enum Framer {
    /// See [`Framing::Lines`].
    Lines(LineFramer),
    /// See [`Framing::LengthPrefixed`].
    Messages(MessageFramer),
}

impl Framer {
    /// Of a framing of streams (see [`stream_framing`](super::registry::stream_framing)).
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        match framing {
            Framing::Lines | Framing::Whole => Self::Lines(LineFramer::new(limits.line_bytes_max)),
            Framing::LengthPrefixed => Self::Messages(MessageFramer::new(limits.message_bytes_max)),
        }
    }

    /// Takes the next bytes and hands on whole pieces.
    pub fn push(&mut self, bytes: &[u8], pieces: impl FnMut(&[u8])) {
        match self {
            Self::Lines(lines) => lines.push(bytes, pieces),
            Self::Messages(messages) => messages.push(bytes, pieces),
        }
    }

    /// The stream has ended: the last line, if it had no newline. A message that is not whole is lost, and counted.
    pub fn finish(&mut self, pieces: impl FnMut(&[u8])) {
        match self {
            Self::Lines(lines) => lines.finish(pieces),
            Self::Messages(messages) => messages.finish(),
        }
    }

    /// The stream broke off: what is unfinished is lost.
    pub fn abandon(&mut self) {
        match self {
            Self::Lines(lines) => {
                let carried = std::mem::take(&mut lines.carried);
                if !carried.is_empty() {
                    let reason = "the connection ended inside the line".to_string();
                    lines.lost.push(Lost::new(&carried, reason));
                }
            }
            Self::Messages(messages) => messages.finish(),
        }
    }

    /// Lines and messages lost since the last call: longer than allowed, or not whole at the end.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(match self {
            Self::Lines(lines) => &mut lines.lost,
            Self::Messages(messages) => &mut messages.lost,
        })
    }

    /// Bytes of the unfinished line or message that it holds.
    pub fn carried(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.carried.len(),
            Self::Messages(messages) => messages.carried.len(),
        }
    }
}

/// A line or message that no decoder gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How it begins.
    pub head: Vec<u8>,
    /// Why it is lost.
    pub reason: String,
}

/// Bytes of what is lost that are kept.
const HEAD_BYTES: usize = 1024;

impl Lost {
    fn new(bytes: &[u8], reason: String) -> Self {
        Self {
            head: bytes[..bytes.len().min(HEAD_BYTES)].to_vec(),
            reason,
        }
    }
}

/// Messages, each behind its length (u32, big-endian).
pub struct MessageFramer {
    carried: Vec<u8>,
    bytes_max: usize,
    /// Bytes of a message that was too long, still to be skipped.
    skip: usize,
    lost: Vec<Lost>,
}

/// Bytes of the length before a message.
const LENGTH_BYTES: usize = 4;

impl MessageFramer {
    /// Messages of at most this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            carried: Vec::new(),
            bytes_max,
            skip: 0,
            lost: Vec::new(),
        }
    }

    fn push(&mut self, mut bytes: &[u8], mut pieces: impl FnMut(&[u8])) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            if self.carried.is_empty() {
                // The usual way: whole messages in what arrived, not copied.
                match split_message(bytes) {
                    Some((message, rest)) if message.len() <= self.bytes_max => {
                        pieces(message);
                        bytes = rest;
                        continue;
                    }
                    _ => {}
                }
            }
            let wanted = match length(&self.carried) {
                Some(length) if length > self.bytes_max => {
                    let reason = format!(
                        "message too long: {length} bytes (message_bytes_max {})",
                        self.bytes_max
                    );
                    self.lost.push(Lost::new(bytes, reason));
                    self.skip = length;
                    self.carried = Vec::new();
                    continue;
                }
                Some(length) => LENGTH_BYTES + length,
                None => LENGTH_BYTES,
            };
            let taken = (wanted - self.carried.len()).min(bytes.len());
            self.carried.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if length(&self.carried).is_some_and(|length| self.carried.len() == LENGTH_BYTES + length) {
                pieces(&self.carried[LENGTH_BYTES..]);
                self.carried.clear();
            }
        }
    }

    fn finish(&mut self) {
        self.skip = 0;
        let carried = std::mem::take(&mut self.carried);
        if !carried.is_empty() {
            let begun = carried.get(LENGTH_BYTES..).unwrap_or_default();
            self.lost.push(Lost::new(begun, "message is cut off".into()));
        }
    }
}

/// The length that `bytes` begin with, if all of it is there.
fn length(bytes: &[u8]) -> Option<usize> {
    bytes
        .first_chunk::<LENGTH_BYTES>()
        .map(|length| u32::from_be_bytes(*length) as usize)
}

/// The first message of bytes that begin with a length, and what follows it; `None` when it is not all there.
pub fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.get(LENGTH_BYTES..)?.split_at_checked(length(bytes)?)
}

/// Whole lines out of a stream that arrives in any pieces.
///
/// A line ends at a newline; a newline inside a quoted string of line protocol therefore cannot be sent over a
/// stream (over HTTP it can).
pub struct LineFramer {
    carried: Vec<u8>,
    line_bytes_max: usize,
    /// Inside a line that was too long: its rest is skipped.
    skipping: bool,
    lost: Vec<Lost>,
}

impl LineFramer {
    /// Lines of at most this many bytes.
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            carried: Vec::new(),
            line_bytes_max,
            skipping: false,
            lost: Vec::new(),
        }
    }

    /// Takes the next bytes and hands on whole lines, with their newlines, in one or two pieces.
    pub fn push(&mut self, mut bytes: &[u8], mut lines: impl FnMut(&[u8])) {
        if self.skipping {
            let Some(end) = memchr(b'\n', bytes) else { return };
            bytes = &bytes[end + 1..];
            self.skipping = false;
        }
        if !self.carried.is_empty() {
            let Some(end) = memchr(b'\n', bytes) else {
                return self.carry(bytes);
            };
            self.carry(&bytes[..=end]);
            if self.skipping {
                self.skipping = false;
            } else {
                lines(&self.carried);
                self.carried.clear();
            }
            bytes = &bytes[end + 1..];
        }
        if let Some(last) = memrchr(b'\n', bytes) {
            lines(&bytes[..=last]);
            bytes = &bytes[last + 1..];
        }
        self.carry(bytes);
    }

    /// The stream has ended: the last line, if it had no newline.
    pub fn finish(&mut self, mut lines: impl FnMut(&[u8])) {
        if !self.carried.is_empty() {
            lines(&self.carried);
            self.carried.clear();
        }
    }

    fn carry(&mut self, bytes: &[u8]) {
        if self.carried.len() + bytes.len() > self.line_bytes_max {
            let carried = std::mem::take(&mut self.carried);
            let begin = if carried.is_empty() { bytes } else { &carried };
            let reason = format!("line too long (line_bytes_max {})", self.line_bytes_max);
            self.lost.push(Lost::new(begin, reason));
            self.skipping = true;
        } else {
            self.carried.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when `input` arrives in pieces of these lengths, and what was dropped.
    fn frame(framing: Framing, input: &[u8], cuts: &[usize], max: usize) -> (Vec<Vec<u8>>, Vec<Lost>) {
        let limits = Limits {
            line_bytes_max: max,
            message_bytes_max: max,
            ..Limits::default()
        };
        let mut framer = Framer::new(framing, &limits);
        let mut out = Vec::new();
        let mut rest = input;
        for &cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            framer.push(piece, |piece| out.push(piece.to_vec()));
            rest = after;
        }
        framer.push(rest, |piece| out.push(piece.to_vec()));
        framer.finish(|piece| out.push(piece.to_vec()));
        (out, framer.take_lost())
    }

    fn lines(input: &[u8], cuts: &[usize], max: usize) -> (Vec<u8>, Vec<Lost>) {
        let (pieces, lost) = frame(Framing::Lines, input, cuts, max);
        let last = pieces.len().saturating_sub(1);
        assert!(pieces[..last].iter().all(|piece| piece.ends_with(b"\n")));
        (pieces.concat(), lost)
    }

    fn with_lengths(messages: &[Vec<u8>]) -> Vec<u8> {
        let one = |message: &Vec<u8>| [&(message.len() as u32).to_be_bytes(), message.as_slice()].concat();
        messages.iter().flat_map(one).collect()
    }

    proptest! {
        #[test]
        fn cutting_does_not_change_the_lines(input in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..9, 0..12)) {
            prop_assert_eq!(lines(input.as_bytes(), &cuts, 100), (input.as_bytes().to_vec(), vec![]));
        }

        #[test]
        fn cutting_does_not_change_the_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..8),
            cuts in prop::collection::vec(0usize..9, 0..12),
        ) {
            let input = with_lengths(&messages);
            prop_assert_eq!(frame(Framing::LengthPrefixed, &input, &cuts, 8), (messages, vec![]));
        }

        #[test]
        fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..60), cuts in prop::collection::vec(0usize..9, 0..12)) {
            let (pieces, _) = frame(Framing::LengthPrefixed, &input, &cuts, 8);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= 8));
        }
    }

    #[test]
    fn a_line_too_long_is_told_and_skipped_alone() {
        let lost = |head: &str| {
            let reason = "line too long (line_bytes_max 5)".to_string();
            vec![Lost {
                head: head.into(),
                reason,
            }]
        };
        assert_eq!(
            lines(b"ab\ntoolong\ncd\n", &[5, 2, 2], 5),
            (b"ab\ncd\n".to_vec(), lost("tool"))
        );
        assert_eq!(lines(b"toolong", &[3, 3], 5), (Vec::new(), lost("too")));
    }

    #[test]
    fn a_message_too_long_or_cut_off_is_told_and_skipped_alone() {
        let messages = [b"ab".to_vec(), b"too long".to_vec(), b"cd".to_vec()];
        let mut input = with_lengths(&messages);
        input.extend_from_slice(&[0, 0, 0, 4, 1]);
        for cuts in [&[][..], &[7, 3, 5], &[1; 30]] {
            let (got, lost) = frame(Framing::LengthPrefixed, &input, cuts, 5);
            assert_eq!(got, [b"ab".to_vec(), b"cd".to_vec()]);
            let reasons: Vec<&str> = lost.iter().map(|lost| lost.reason.as_str()).collect();
            assert_eq!(
                reasons,
                [
                    "message too long: 8 bytes (message_bytes_max 5)",
                    "message is cut off"
                ]
            );
        }
    }
}
