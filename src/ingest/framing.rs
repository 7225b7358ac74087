//! Cuts a stream of bytes into pieces of whole lines. Holds at most one unfinished line.

use memchr::{memchr, memrchr};

/// Whole lines out of a stream that arrives in any pieces.
///
/// A line ends at a newline; a newline inside a quoted string of line protocol therefore cannot be sent over a
/// stream (over HTTP it can).
pub struct LineFramer {
    carried: Vec<u8>,
    line_bytes_max: usize,
    /// Inside a line that was too long: its rest is skipped.
    skipping: bool,
    too_long: u64,
}

impl LineFramer {
    /// Lines of at most this many bytes.
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            carried: Vec::new(),
            line_bytes_max,
            skipping: false,
            too_long: 0,
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

    /// Lines dropped because they were longer than allowed, since the last call.
    pub fn take_too_long(&mut self) -> u64 {
        std::mem::take(&mut self.too_long)
    }

    fn carry(&mut self, bytes: &[u8]) {
        if self.carried.len() + bytes.len() > self.line_bytes_max {
            self.carried = Vec::new();
            self.skipping = true;
            self.too_long += 1;
        } else {
            self.carried.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(input: &[u8], cuts: &[usize], max: usize) -> (Vec<u8>, u64) {
        let mut framer = LineFramer::new(max);
        let mut out = Vec::new();
        let mut rest = input;
        for &cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            framer.push(piece, |lines| {
                assert!(lines.ends_with(b"\n"));
                out.extend_from_slice(lines);
            });
            rest = after;
        }
        framer.push(rest, |lines| out.extend_from_slice(lines));
        framer.finish(|line| out.extend_from_slice(line));
        (out, framer.take_too_long())
    }

    proptest! {
        #[test]
        fn cutting_does_not_change_the_lines(input in "[ab\n]{0,60}", cuts in prop::collection::vec(0usize..9, 0..12)) {
            prop_assert_eq!(frame(input.as_bytes(), &cuts, 100), (input.as_bytes().to_vec(), 0));
        }
    }

    #[test]
    fn a_line_too_long_is_counted_and_skipped_alone() {
        assert_eq!(
            frame(b"ab\ntoolong\ncd\n", &[5, 2, 2], 5),
            (b"ab\ncd\n".to_vec(), 1)
        );
        assert_eq!(frame(b"toolong", &[3, 3], 5), (Vec::new(), 1));
    }
}
