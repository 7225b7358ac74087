//! The canonical name of a series: its measurement and its tags sorted by key.
//!
//! The canonical text is InfluxDB's (`measurement,tag=value,..` with `,`, `=` and space escaped by a backslash), so it
//! is what SHOW SERIES prints, what is hashed, and what is on disk.

/// A measurement and its tags, sorted by key, no key twice, no empty values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The measurement's name.
    pub measurement: String,
    /// Sorted by key.
    pub tags: Vec<(String, String)>,
}

impl SeriesKey {
    /// Sorts the tags and drops those with an empty value (InfluxDB's sense of an absent tag).
    pub fn new(measurement: impl Into<String>, mut tags: Vec<(String, String)>) -> Self {
        tags.retain(|(_, value)| !value.is_empty());
        tags.sort();
        Self {
            measurement: measurement.into(),
            tags,
        }
    }

    /// The value of a tag, if the series has it.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags
            .binary_search_by(|(k, _)| k.as_str().cmp(key))
            .ok()
            .map(|i| self.tags[i].1.as_str())
    }

    /// The canonical text.
    pub fn canonical(&self) -> String {
        let tags = self.tags.iter().map(|(key, value)| (&**key, &**value));
        Self::canonical_of(&self.measurement, tags)
    }

    /// The canonical text of a measurement and tags, which are sorted by key.
    pub fn canonical_of<'a>(measurement: &str, tags: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let mut out = String::with_capacity(measurement.len() + 96);
        escape(&mut out, measurement, b", ");
        for (key, value) in tags {
            out.push(',');
            escape(&mut out, key, b",= ");
            out.push('=');
            escape(&mut out, value, b",= ");
        }
        out
    }

    /// Reads what [`canonical`](Self::canonical) wrote. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (measurement, mut rest) = unescape_until(text, &[',']);
        let mut tags = Vec::new();
        while let Some(after) = rest.strip_prefix(',') {
            let (key, r) = unescape_until(after, &['=']);
            let (value, r) = unescape_until(r.strip_prefix('=')?, &[',']);
            tags.push((key, value));
            rest = r;
        }
        (!measurement.is_empty()).then_some(Self { measurement, tags })
    }
}

fn escape(out: &mut String, text: &str, special: &[u8]) {
    let mut rest = text;
    // What is special is ASCII, so it is a whole character wherever it stands.
    while let Some(at) = rest.bytes().position(|byte| special.contains(&byte)) {
        out.push_str(&rest[..at]);
        out.push('\\');
        out.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// The unescaped text before the first bare character of `stop`, and the rest from that character on.
fn unescape_until<'a>(text: &'a str, stop: &[char]) -> (String, &'a str) {
    let mut out = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if stop.contains(&c) {
            return (out, &text[i..]);
        }
        if c == '\\'
            && let Some(&(_, next)) = chars.peek()
            && matches!(next, ',' | '=' | ' ')
        {
            out.push(next);
            chars.next();
        } else {
            out.push(c);
        }
    }
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_round_trips() {
        let cases = [
            ("cpu", vec![], "cpu"),
            ("cpu", vec![("host", "a"), ("az", "b")], "cpu,az=b,host=a"),
            ("a,b c", vec![("k =", "v,w x=y")], r"a\,b\ c,k\ \==v\,w\ x\=y"),
            ("c=d", vec![("t", "")], "c=d"),
        ];
        for (measurement, tags, text) in cases {
            let tags = tags
                .into_iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect();
            let key = SeriesKey::new(measurement, tags);
            assert_eq!(key.canonical(), text);
            assert_eq!(SeriesKey::parse(text), Some(key));
        }
    }

    #[test]
    fn tag_looks_up_by_key() {
        let key = SeriesKey::new("m", vec![("b".into(), "2".into()), ("a".into(), "1".into())]);
        assert_eq!(
            (key.tag("a"), key.tag("b"), key.tag("c")),
            (Some("1"), Some("2"), None)
        );
    }
}
