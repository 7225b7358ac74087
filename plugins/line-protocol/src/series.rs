//! Takes the series part of a line apart: `measurement,tag=value,..`.

use kymo_plugin_api::{SeriesParts, SeriesSpelling};

/// The spelling of a series in line protocol is its raw text.
pub struct RawSeries;

impl SeriesSpelling for RawSeries {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let at = end(spelling, 0, b",");
        if at == 0 {
            return Err((1, "missing measurement".into()));
        }
        unescape(&spelling[..at], b", ", &mut parts.measurement);
        let mut start = at;
        while start < spelling.len() {
            start += 1; // the comma
            let equals = end(spelling, start, b"=,");
            let fail = |reason: &str| Err((start as u64 + 1, reason.to_string()));
            if equals == start {
                return fail("missing tag key");
            }
            if spelling.get(equals) != Some(&b'=') {
                return fail("missing tag value");
            }
            let stop = end(spelling, equals + 1, b"=,");
            if stop == equals + 1 {
                return fail("missing tag value");
            }
            if spelling.get(stop) == Some(&b'=') {
                return fail("invalid tag format");
            }
            let (mut key, mut value) = (String::new(), String::new());
            unescape(&spelling[start..equals], b",= ", &mut key);
            unescape(&spelling[equals + 1..stop], b",= ", &mut value);
            parts.tags.push((key, value));
            start = stop;
        }
        match parts.repeated_tag() {
            Some(tag) => {
                let column = self.tag_column(spelling, tag).unwrap_or(1);
                Err((column, "duplicate tags".into()))
            }
            None => Ok(()),
        }
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let comma = (0..tag).fold(end(spelling, 0, b","), |comma, _| end(spelling, comma + 1, b","));
        (comma < spelling.len()).then_some(comma as u64 + 2)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        // The last word: rows without a time are not asked for it.
        let blank = text.trim_ascii_end().iter().rposition(|byte| *byte == b' ')?;
        Some(blank as u64 + 2)
    }
}

/// Where the first of `stops` without a backslash before it is, from `start` on.
fn end(text: &[u8], start: usize, stops: &[u8]) -> usize {
    let mut at = start;
    while at < text.len() && !stops.contains(&text[at]) {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

/// Removes the backslash before each of `special`; all others stay, as InfluxDB does it.
pub fn unescape(text: &[u8], special: &[u8], out: &mut String) {
    let text = String::from_utf8_lossy(text);
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        let follows = rest.as_bytes().get(at + 1).is_some_and(|b| special.contains(b));
        let keep = if follows { at } else { at + 1 };
        out.push_str(&rest[..keep]);
        rest = &rest[at + 1..];
        if follows {
            // What follows is ASCII, so it is one byte.
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_taken_apart() {
        let cases: &[(&str, &str, &[(&str, &str)])] = &[
            ("cpu", "cpu", &[]),
            ("cpu,host=a,az=b", "cpu", &[("host", "a"), ("az", "b")]),
            (r"a\,b\ c\=,k\ \=\,=v\ \=\,", r"a,b c\=", &[("k =,", "v =,")]),
            (r"m,k=a\b", "m", &[("k", r"a\b")]),
            ("m=x,k=v", "m=x", &[("k", "v")]),
            ("größe,straße=ü", "größe", &[("straße", "ü")]),
        ];
        for (text, measurement, tags) in cases {
            let mut parts = SeriesParts::default();
            assert_eq!(RawSeries.read(text.as_bytes(), &mut parts), Ok(()), "{text}");
            let got: Vec<(&str, &str)> = parts.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(
                (parts.measurement.as_str(), got.as_slice()),
                (*measurement, *tags),
                "{text}"
            );
        }
    }

    #[test]
    fn broken_series_say_why() {
        let cases = [
            (",host=a", 1, "missing measurement"),
            ("cpu,", 5, "missing tag key"),
            ("cpu,=a", 5, "missing tag key"),
            ("cpu,host", 5, "missing tag value"),
            ("cpu,host=", 5, "missing tag value"),
            ("cpu,host=,az=b", 5, "missing tag value"),
            ("cpu,host,az=b", 5, "missing tag value"),
            ("cpu,host=a=b", 5, "invalid tag format"),
            ("cpu,a=1,a=2", 9, "duplicate tags"),
            (r"c\,u,a=\,,b=2,c=3,\a=4,b=5", 24, "duplicate tags"),
        ];
        for (text, column, reason) in cases {
            let got = RawSeries.read(text.as_bytes(), &mut SeriesParts::default());
            assert_eq!(got, Err((column, reason.to_string())), "{text}");
        }
    }

    #[test]
    fn tags_have_places() {
        let text = r"m\,,a=\,\ ,\=b=2,c=3";
        let columns: Vec<Option<u64>> = (0..4)
            .map(|tag| RawSeries.tag_column(text.as_bytes(), tag))
            .collect();
        assert_eq!(columns, [Some(5), Some(12), Some(18), None]);
        assert_eq!(RawSeries.tag_column(b"m", 0), None);
        assert_eq!(RawSeries.time_column(br#"m f="a b" 17 "#), Some(11));
    }
}
