//! Reads lines.

use crate::path::Path;
use kymo_plugin_api::{Decoder, Field, Origin, Rejection, Row, RowSink, SeriesRef, Value};
use kymo_plugin_reading::{number, time};
use memchr::{memchr, memchr2};

/// The decoder; it keeps nothing from line to line.
pub struct GraphiteDecoder;

impl Decoder for GraphiteDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        let (mut rest, mut line) = (piece, 0);
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let text = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            if text.is_empty() || text[0] == b'#' {
                continue;
            }
            let origin = Origin { line, text };
            if let Err((column, reason)) = read(origin, sink) {
                sink.reject(&Rejection {
                    origin,
                    column,
                    reason,
                    context: &[],
                });
            }
        }
    }
}

/// Reads one line; a reason and a column when it cannot.
fn read(origin: Origin<'_>, sink: &mut dyn RowSink) -> Result<(), (u64, &'static str)> {
    let text = origin.text;
    let (path, after_path) = word(text, 0);
    let (value, after_value) = word(text, after_path);
    let (stamp, after_stamp) = word(text, after_value);
    let column = |word: &[u8], after: usize| (after - word.len()) as u64 + 1;
    if value.is_empty() {
        return Err((text.len() as u64 + 1, "missing value"));
    }
    let number = std::str::from_utf8(value).ok().and_then(number::float_or_special);
    let Some(number) = number else {
        return Err((column(value, after_value), "invalid value"));
    };
    let time = match stamp {
        // carbon: the time of receipt.
        b"" | b"-1" | b"N" => None,
        stamp => match std::str::from_utf8(stamp).ok().and_then(time::seconds) {
            Some(time) => Some(time),
            None => return Err((column(stamp, after_stamp), "invalid timestamp")),
        },
    };
    let (more, after_more) = word(text, after_stamp);
    if !more.is_empty() {
        return Err((column(more, after_more), "more than path, value and timestamp"));
    }
    if !number.is_finite() {
        sink.skip(1);
        return Ok(());
    }
    sink.row(&Row {
        series: SeriesRef {
            spelling: path,
            reader: &Path,
        },
        time,
        fields: &[Field::new("value", Value::Float(number))],
        origin,
    });
    Ok(())
}

/// The next word from byte `from` on, and where it ends.
pub fn word(text: &[u8], from: usize) -> (&[u8], usize) {
    let blanks = text[from..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let start = from + blanks;
    let end = memchr2(b' ', b'\t', &text[start..]).map_or(text.len(), |len| start + len);
    (&text[start..end], end)
}
