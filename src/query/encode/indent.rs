//! JSON on several lines, as `pretty=true` asks for.

/// Indents JSON as Go does, four spaces a level, whatever the pieces it comes in.
#[derive(Debug, Default)]
pub struct Indent {
    level: usize,
    in_text: bool,
    escaped: bool,
    /// A bracket was opened and nothing stands in it yet.
    opened: bool,
}

impl Indent {
    /// Appends the next piece.
    pub fn push(&mut self, json: &[u8], out: &mut Vec<u8>) {
        out.reserve(json.len() * 2);
        // Everything that matters is ASCII, of which no other character has a byte.
        for &c in json {
            if self.in_text {
                out.push(c);
                self.in_text = self.escaped || c != b'"';
                self.escaped = !self.escaped && c == b'\\';
                continue;
            }
            let (closes, opened) = (matches!(c, b'}' | b']'), std::mem::take(&mut self.opened));
            if opened && !closes {
                self.level += 1;
                self.line(out);
            } else if closes && !opened {
                self.level = self.level.saturating_sub(1);
                self.line(out);
            }
            out.push(c);
            match c {
                b'{' | b'[' => self.opened = true,
                b'"' => self.in_text = true,
                b',' => self.line(out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        (0..self.level).for_each(|_| out.extend_from_slice(b"    "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_indented_alike() {
        let json = r#"{"a":[1,"x,é{\\\"["],"b":{},"c":[]}"#;
        let want = "{\n    \"a\": [\n        1,\n        \"x,é{\\\\\\\"[\"\n    ],\n    \"b\": {},\n    \"c\": []\n}";
        for size in 1..json.len() {
            let (mut indent, mut out) = (Indent::default(), Vec::new());
            for piece in json.as_bytes().chunks(size) {
                indent.push(piece, &mut out);
            }
            assert_eq!(String::from_utf8_lossy(&out), want, "pieces of {size}");
        }
    }
}
