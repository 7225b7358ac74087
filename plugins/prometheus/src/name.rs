//! A metric's name and labels: `http_requests_total{method="post",code="200"}`, or with the name among the labels in quotes,
//! as names with dots are written: `{"http.requests",method="post"}`.

use kymo_plugin_api::{SeriesParts, SeriesSpelling};
use memchr::memchr3;

/// The spelling of a series is its text as it was sent.
pub struct Name;

/// Where the name and its labels end in a line. An error is where labels begin that do not end.
pub fn series_end(text: &[u8]) -> Result<usize, usize> {
    // The name ends at a blank or with its labels; a blank may stand before the labels.
    let name_end = memchr3(b' ', b'\t', b'{', text).unwrap_or(text.len());
    let labels_at = skip(text, name_end);
    match text.get(labels_at) {
        Some(b'{') => labels_end(text, labels_at).ok_or(labels_at),
        _ => Ok(name_end),
    }
}

/// Behind the blanks from byte `from` on.
pub fn skip(text: &[u8], from: usize) -> usize {
    let blanks = text[from..].iter().take_while(|b| matches!(b, b' ' | b'\t'));
    from + blanks.count()
}

/// The word at byte `from`.
pub fn word(text: &[u8], from: usize) -> &[u8] {
    let len = text[from..]
        .iter()
        .take_while(|b| !matches!(b, b' ' | b'\t'))
        .count();
    &text[from..from + len]
}

/// Where the labels end: behind the closing brace that is not in quotes; `None` without one. `open` is at the opening brace.
fn labels_end(text: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    let mut quoted = false;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

impl SeriesSpelling for Name {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let text = std::str::from_utf8(spelling)
            .map_err(|error| (error.valid_up_to() as u64 + 1, "invalid UTF-8".to_string()))?;
        let open = text.find('{').unwrap_or(text.len());
        parts.measurement.push_str(text[..open].trim_end());
        if let Some(at) = parts
            .measurement
            .find(|c: char| c.is_ascii_whitespace() || c == '"')
        {
            return Err((at as u64 + 1, "invalid name".into()));
        }
        if open < text.len() {
            let mut reader = Labels::new(text, open + 1);
            reader
                .read(parts)
                .map_err(|reason| (reader.at as u64 + 1, reason.to_string()))?;
        }
        if parts.measurement.is_empty() {
            return Err((1, "missing name".into()));
        }
        Ok(())
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let text = std::str::from_utf8(spelling).ok()?;
        let mut reader = Labels::new(text, text.find('{')? + 1);
        let mut parts = SeriesParts {
            measurement: text[..reader.at - 1].to_string(),
            ..SeriesParts::default()
        };
        // Those that were read before something is wrong have places, too.
        let _ = reader.read(&mut parts);
        reader.places.get(tag).map(|at| *at as u64 + 1)
    }

    fn field_column(&self, text: &[u8], _: usize, _: &str) -> Option<u64> {
        let value = skip(text, series_end(text).ok()?);
        Some(value as u64 + 1)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        let value = skip(text, series_end(text).ok()?);
        Some(skip(text, value + word(text, value).len()) as u64 + 1)
    }
}

struct Labels<'a> {
    text: &'a str,
    at: usize,
    /// Where the label begins that is being read.
    label: usize,
    /// Where those begin that are tags.
    places: Vec<usize>,
}

impl<'a> Labels<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        Self {
            text,
            at,
            label: at,
            places: Vec::new(),
        }
    }

    fn read(&mut self, parts: &mut SeriesParts) -> Result<(), &'static str> {
        loop {
            let next = self.peek();
            self.label = self.at;
            match next {
                Some('}') => return Ok(()),
                Some('"') => {
                    let name = self.quoted()?;
                    if self.peek() == Some('=') {
                        self.value_of(name, parts)?;
                    } else if parts.measurement.is_empty() {
                        parts.measurement = name;
                    } else {
                        return Err("name twice");
                    }
                }
                Some(_) => {
                    let start = self.at;
                    let rest = &self.text[start..];
                    let len = rest.find(|c: char| !(c.is_alphanumeric() || "_.:-/".contains(c)));
                    self.at += len.unwrap_or(rest.len());
                    if self.at == start {
                        return Err("invalid label name");
                    }
                    let name = self.text[start..self.at].to_string();
                    self.value_of(name, parts)?;
                }
                None => return Err("labels without their closing brace"),
            }
            match self.peek() {
                Some(',') => self.at += 1,
                Some('}') => {}
                _ => return Err("expected ',' or '}' after a label"),
            }
        }
    }

    fn value_of(&mut self, name: String, parts: &mut SeriesParts) -> Result<(), &'static str> {
        if self.peek() != Some('=') {
            return Err("expected '=' after a label's name");
        }
        self.at += 1;
        if self.peek() != Some('"') {
            return Err("expected a label's value in quotes");
        }
        let value = self.quoted()?;
        if name == "__name__" && parts.measurement.is_empty() {
            parts.measurement = value;
        } else if !value.is_empty() {
            // An empty label is none, as in Prometheus.
            parts.tags.push((name, value));
            self.places.push(self.label);
        }
        Ok(())
    }

    /// The text in quotes at the place.
    fn quoted(&mut self) -> Result<String, &'static str> {
        let mut out = String::new();
        let mut chars = self.text[self.at + 1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 2;
                    return Ok(out);
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => out.push(c),
                    _ => return Err("invalid escape in a label (use \\\\, \\\" or \\n)"),
                },
                c => out.push(c),
            }
        }
        Err("a text without its closing quote")
    }

    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        let blanks = rest.len() - rest.trim_ascii_start().len();
        self.at += blanks;
        self.text[self.at..].chars().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_value_and_time_have_places() {
        let line = br#"m {a="}",gone="", "b.c" = "x" ,d="y"}  1.5 17"#;
        let end = series_end(line).expect("a closing brace");
        let columns: Vec<Option<u64>> = (0..4).map(|tag| Name.tag_column(&line[..end], tag)).collect();
        assert_eq!(columns, [Some(4), Some(19), Some(32), None]);
        assert_eq!(Name.field_column(line, 0, "value"), Some(40));
        assert_eq!(Name.time_column(line), Some(44));
        let named = br#"{"m.n",k="v"}"#;
        assert_eq!(Name.tag_column(named, 0), Some(8));
        assert_eq!(Name.tag_column(b"m", 0), None);
    }
}
