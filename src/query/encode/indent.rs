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
    pub fn push(&mut self, json: &str, out: &mut String) {
        out.reserve(json.len() * 2);
        for c in json.chars() {
            if self.in_text {
                out.push(c);
                self.in_text = self.escaped || c != '"';
                self.escaped = !self.escaped && c == '\\';
                continue;
            }
            let (closes, opened) = (matches!(c, '}' | ']'), std::mem::take(&mut self.opened));
            if opened && !closes {
                self.level += 1;
                self.line(out);
            } else if closes && !opened {
                self.level = self.level.saturating_sub(1);
                self.line(out);
            }
            out.push(c);
            match c {
                '{' | '[' => self.opened = true,
                '"' => self.in_text = true,
                ',' => self.line(out),
                ':' => out.push(' '),
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut String) {
        out.push('\n');
        (0..self.level).for_each(|_| out.push_str("    "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_are_indented_alike() {
        let json = r#"{"a":[1,"x,{\\\"["],"b":{},"c":[]}"#;
        let want =
            "{\n    \"a\": [\n        1,\n        \"x,{\\\\\\\"[\"\n    ],\n    \"b\": {},\n    \"c\": []\n}";
        for size in 1..json.len() {
            let (mut indent, mut out) = (Indent::default(), String::new());
            for piece in json.as_bytes().chunks(size) {
                indent.push(std::str::from_utf8(piece).expect("ASCII"), &mut out);
            }
            assert_eq!(out, want, "pieces of {size}");
        }
    }
}
