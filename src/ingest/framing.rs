//! Cuts a stream of bytes into pieces that a decoder can read whole. Holds at most one unfinished line or message.

use super::limits::Limits;
use kymo_plugin_api::{Framing, Quotes, Quoting};
use memchr::{memchr, memrchr};

/// Whole pieces out of a stream that arrives in any pieces.
pub enum Framer {
    /// See [`Framing::Lines`].
    Lines(LineFramer),
    /// The same, of a format whose lines go on inside quotes.
    Quoted(QuotedFramer),
    /// See [`Framing::LengthPrefixed`].
    Messages(MessageFramer),
}

impl Framer {
    /// Of a framing of streams (see [`stream_framing`](super::registry::stream_framing)).
    pub fn new(framing: Framing, quoting: Option<Quoting>, limits: &Limits) -> Self {
        match (framing, quoting) {
            (Framing::Lines, Some(quoting)) => {
                Self::Quoted(QuotedFramer::new(quoting, limits.line_bytes_max))
            }
            (Framing::Lines | Framing::Whole, _) => Self::Lines(LineFramer::new(limits.line_bytes_max)),
            (Framing::LengthPrefixed, _) => Self::Messages(MessageFramer::new(limits.message_bytes_max)),
        }
    }

    /// Takes the next bytes and hands on whole pieces.
    pub fn push(&mut self, bytes: &[u8], pieces: impl FnMut(&[u8])) {
        match self {
            Self::Lines(lines) => lines.push(bytes, pieces),
            Self::Quoted(records) => records.push(bytes, pieces),
            Self::Messages(messages) => messages.push(bytes, pieces),
        }
    }

    /// The stream has ended: the last line, if it had no newline. A message that is not whole is lost, and counted.
    pub fn finish(&mut self, pieces: impl FnMut(&[u8])) {
        match self {
            Self::Lines(lines) => lines.finish(pieces),
            Self::Quoted(records) => records.finish(pieces),
            Self::Messages(messages) => messages.finish(),
        }
    }

    /// The stream broke off: what is unfinished is lost.
    pub fn abandon(&mut self) {
        let (carried, lost) = match self {
            Self::Lines(lines) => (&mut lines.carried, &mut lines.lost),
            Self::Quoted(records) => (&mut records.carried, &mut records.lost),
            Self::Messages(messages) => return messages.finish(),
        };
        let carried = std::mem::take(carried);
        if !carried.is_empty() {
            let reason = "the connection ended inside the line".to_string();
            lost.push(Lost::new(&carried, reason));
        }
    }

    /// Lines and messages lost since the last call: longer than allowed, or not whole at the end.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(match self {
            Self::Lines(lines) => &mut lines.lost,
            Self::Quoted(records) => &mut records.lost,
            Self::Messages(messages) => &mut messages.lost,
        })
    }

    /// Bytes of the unfinished line or message that it holds.
    pub fn carried(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.carried.len(),
            Self::Quoted(records) => records.carried.len(),
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

/// Whole records out of a stream that arrives in any pieces: lines that may go on inside quotes.
///
/// A record that is longer than allowed, as one is whose quote is never closed, is lost; the next begins behind the next newline, in quotes
/// or not.
pub struct QuotedFramer {
    carried: Vec<u8>,
    line_bytes_max: usize,
    quoting: Quoting,
    quotes: Quotes,
    /// Bytes of the record so far.
    len: usize,
    /// Inside a record that was too long: its line is skipped.
    skipping: bool,
    lost: Vec<Lost>,
}

impl QuotedFramer {
    /// Records of at most this many bytes.
    pub fn new(quoting: Quoting, line_bytes_max: usize) -> Self {
        Self {
            carried: Vec::new(),
            line_bytes_max,
            quoting,
            quotes: Quotes::new(quoting),
            len: 0,
            skipping: false,
            lost: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8], mut records: impl FnMut(&[u8])) {
        // Whole records that were not handed on yet.
        let (mut start, mut end) = (0, 0);
        for (at, &byte) in bytes.iter().enumerate() {
            let next = at + 1;
            if !self.skipping {
                self.len += 1;
                let is_end = self.quotes.is_end(byte);
                if self.len > self.line_bytes_max {
                    if start < end {
                        records(&bytes[start..end]);
                    }
                    self.lose(&bytes[end..next]);
                } else if is_end {
                    self.len = 0;
                    end = next;
                    if !self.carried.is_empty() {
                        self.carried.extend_from_slice(&bytes[start..end]);
                        records(&self.carried);
                        self.carried.clear();
                        start = end;
                    }
                }
            }
            if self.skipping && byte == b'\n' {
                self.skipping = false;
                (start, end) = (next, next);
            }
        }
        if self.skipping {
            return;
        }
        if start < end {
            records(&bytes[start..end]);
        }
        self.carried.extend_from_slice(&bytes[end..]);
    }

    fn lose(&mut self, last: &[u8]) {
        let mut begin = std::mem::take(&mut self.carried);
        begin.extend_from_slice(&last[..last.len().min(HEAD_BYTES)]);
        let max = self.line_bytes_max;
        let reason = format!("line too long, or a quote is never closed (line_bytes_max {max})");
        self.lost.push(Lost::new(&begin, reason));
        self.restart();
        self.skipping = true;
    }

    /// The stream has ended: the last record, if it had no newline.
    fn finish(&mut self, mut records: impl FnMut(&[u8])) {
        if !self.carried.is_empty() {
            records(&self.carried);
            self.carried.clear();
        }
        self.restart();
        self.skipping = false;
    }

    fn restart(&mut self) {
        self.quotes = Quotes::new(self.quoting);
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when `input` arrives in pieces of these lengths, and what was dropped.
    fn frame(framing: Framing, input: &[u8], cuts: &[usize], max: usize) -> (Vec<Vec<u8>>, Vec<Lost>) {
        frame_with(framing, None, input, cuts, max)
    }

    fn frame_with(
        framing: Framing,
        quoting: Option<Quoting>,
        input: &[u8],
        cuts: &[usize],
        max: usize,
    ) -> (Vec<Vec<u8>>, Vec<Lost>) {
        let limits = Limits {
            line_bytes_max: max,
            message_bytes_max: max,
            ..Limits::default()
        };
        let mut framer = Framer::new(framing, quoting, &limits);
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

    const CSV: Quoting = Quoting {
        delimiter: b',',
        quote: b'"',
    };

    /// Records, each by itself, and what was lost.
    fn records(input: &[u8], cuts: &[usize], max: usize) -> (Vec<Vec<u8>>, Vec<Lost>) {
        let (pieces, lost) = frame_with(Framing::Lines, Some(CSV), input, cuts, max);
        let mut records = Vec::new();
        for piece in &pieces {
            let mut quotes = Quotes::new(CSV);
            let whole = piece.split_inclusive(|byte| quotes.is_end(*byte));
            records.extend(whole.map(<[u8]>::to_vec));
        }
        (records, lost)
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

        /// However it is cut: the same records, and the same lost, with and without a limit that is met.
        #[test]
        fn cutting_does_not_change_the_records(
            input in "[ab,\"\n\r]{0,60}", cuts in prop::collection::vec(0usize..9, 0..12), max in prop_oneof![Just(100), 1usize..20],
        ) {
            let input = input.as_bytes();
            let whole = records(input, &[], max);
            prop_assert_eq!(records(input, &cuts, max), whole.clone());
            let bytes: usize = whole.0.iter().map(Vec::len).sum();
            prop_assert!(bytes <= input.len() && whole.0.iter().all(|record| record.len() <= max));
            if max > input.len() {
                prop_assert_eq!(&whole.1, &vec![]);
                prop_assert_eq!(bytes, input.len());
            }
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
    fn a_quote_that_is_never_closed_is_told_once_and_the_stream_goes_on() {
        let reason = "line too long, or a quote is never closed (line_bytes_max 20)".to_string();
        let input = b"a,\"x\ny\"\nb,\"open\nlost 1\nlost 2\nlost 3\nc,1\nd,\"2\n\"\n";
        for cuts in [&[][..], &[1; 60], &[9, 3, 20, 1]] {
            let (got, lost) = records(input, cuts, 20);
            assert_eq!(
                got,
                [&b"a,\"x\ny\"\n"[..], b"lost 3\n", b"c,1\n", b"d,\"2\n\"\n"],
                "{cuts:?}"
            );
            let (reasons, heads): (Vec<_>, Vec<_>) =
                lost.into_iter().map(|lost| (lost.reason, lost.head)).unzip();
            assert_eq!(reasons, [reason.as_str()]);
            assert!(heads[0].starts_with(b"b,\"open\n"), "{heads:?}");
        }
        // At the end of the stream it is what the decoder makes of it.
        assert_eq!(records(b"a,\"x\ny", &[3], 20).0, [b"a,\"x\ny"]);
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
