//! Lines: `put sys.cpu.user 1356998400 42.5 host=web01 cpu=0`.

use kymo_plugin_api::{
    Field, Origin, Rejection, Row, RowSink, SeriesParts, SeriesRef, SeriesSpelling, Value,
};
use kymo_plugin_reading::{number, time::TimeUnit};
use memchr::{memchr, memchr2};

/// Commands that OpenTSDB answers and that store nothing: health checks of its collectors.
const IGNORED: &[&[u8]] = &[b"version", b"stats", b"help", b"exit"];

/// Reads whole lines.
pub fn decode(piece: &[u8], spelling: &mut Vec<u8>, sink: &mut dyn RowSink) {
    let (mut rest, mut line) = (piece, 0);
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let text = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or_default();
        line += 1;
        if text.is_empty() {
            continue;
        }
        let origin = Origin { line, text };
        if let Err((at, reason)) = read(origin, spelling, sink) {
            sink.reject(&Rejection {
                origin,
                column: at as u64 + 1,
                reason,
                context: &[],
            });
        }
    }
}

fn read(
    origin: Origin<'_>,
    spelling: &mut Vec<u8>,
    sink: &mut dyn RowSink,
) -> Result<(), (usize, &'static str)> {
    let text = origin.text;
    let command = word(text, 0);
    if IGNORED.contains(&&text[command.0..command.1]) {
        return Ok(());
    }
    if &text[command.0..command.1] != b"put" {
        return Err((0, "unknown command (use put metric timestamp value tag=value ..)"));
    }
    let metric = word(text, command.1);
    let stamp = word(text, metric.1);
    let value = word(text, stamp.1);
    for (word, reason) in [
        (metric, "missing metric"),
        (stamp, "missing timestamp"),
        (value, "missing value"),
    ] {
        if word.0 == word.1 {
            return Err((text.len(), reason));
        }
    }
    let utf8 = |(from, to): (usize, usize)| std::str::from_utf8(&text[from..to]).ok();
    let time = utf8(stamp)
        .and_then(timestamp)
        .ok_or((stamp.0, "invalid timestamp"))?;
    let number = utf8(value)
        .and_then(number::float_or_special)
        .ok_or((value.0, "invalid value"))?;
    if !number.is_finite() {
        sink.skip(1);
        return Ok(());
    }
    // Metric and tags stand apart in the line; together they are the spelling.
    spelling.clear();
    spelling.extend_from_slice(&text[metric.0..metric.1]);
    spelling.extend_from_slice(&text[value.1..]);
    let reader = Tags {
        metric: (metric.0, metric.1 - metric.0),
        tags: value.1,
    };
    sink.row(&Row {
        series: SeriesRef {
            spelling,
            reader: &reader,
        },
        time: Some(time),
        fields: &[Field::new("value", Value::Float(number))],
        origin,
    });
    Ok(())
}

/// Seconds, milliseconds when they have more than ten digits, or decimal seconds.
pub fn timestamp(text: &str) -> Option<i64> {
    let time = TimeUnit::Auto.read(text)?;
    text.bytes()
        .all(|b| b.is_ascii_digit() || b == b'.')
        .then_some(time)
}

/// Reads `metric tag=value ..`; knows where the two parts stand in the line, for messages.
struct Tags {
    metric: (usize, usize),
    tags: usize,
}

impl SeriesSpelling for Tags {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let (_, len) = self.metric;
        let column = |at: usize| self.column(at);
        let text = std::str::from_utf8(spelling)
            .map_err(|error| (column(error.valid_up_to()), "invalid UTF-8".to_string()))?;
        parts.measurement.push_str(&text[..len]);
        let mut at = len;
        loop {
            let (from, to) = word(spelling, at);
            if from == to {
                return Ok(());
            }
            let fail = |reason: &str| Err((column(from), reason.to_string()));
            match text[from..to].split_once('=') {
                None => return fail("invalid tag (use tag=value)"),
                Some(("", _)) => return fail("missing tag key"),
                Some((_, "")) => return fail("missing tag value"),
                Some((key, value)) => parts.tags.push((key.to_string(), value.to_string())),
            }
            at = to;
        }
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let (_, len) = self.metric;
        let from = (0..tag).fold(len, |at, _| word(spelling, at).1);
        let (from, to) = word(spelling, from);
        (from < to).then(|| self.column(from))
    }

    fn field_column(&self, text: &[u8], _: usize, _: &str) -> Option<u64> {
        Some(word(text, word(text, self.time_at()).1).0 as u64 + 1)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        Some(word(text, self.time_at()).0 as u64 + 1)
    }
}

impl Tags {
    /// Where the word before the timestamp ends.
    fn time_at(&self) -> usize {
        self.metric.0 + self.metric.1
    }

    /// A column of the line, of a byte of the spelling.
    fn column(&self, at: usize) -> u64 {
        let (start, len) = self.metric;
        let at = match at < len {
            true => start + at,
            false => self.tags + at - len,
        };
        at as u64 + 1
    }
}

/// From where to where the next word goes, from byte `from` on.
fn word(text: &[u8], from: usize) -> (usize, usize) {
    let blanks = text[from..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let start = from + blanks;
    let end = memchr2(b' ', b'\t', &text[start..]).map_or(text.len(), |len| start + len);
    (start, end)
}
