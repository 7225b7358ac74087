//! Walks lines once, front to back. The error path looks for the end of the line on its own.

use crate::fast::Fast;
use crate::number;
use crate::series::{RawSeries, unescape};
use kymo_plugin_api::{Decoder, Field, Origin, Rejection, Row, RowSink, SeriesRef, Value};
use kymo_plugin_reading::scan;
use memchr::{memchr, memchr2};

/// The decoder of one request, connection or socket.
pub struct LineDecoder {
    /// Nanoseconds of the unit of timestamps.
    unit: i64,
}

/// A piece of text in the input, or, if it had escapes, in the scratch space.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    escaped: bool,
}

#[derive(Clone, Copy)]
enum RawValue {
    Number(Value<'static>),
    String(Span),
}

/// What is wrong, and where in the piece.
struct Fault {
    at: usize,
    reason: String,
}

/// Reused from line to line.
#[derive(Default)]
struct Scratch {
    fields: Vec<(Span, RawValue)>,
    text: String,
}

impl LineDecoder {
    pub fn new(unit: i64) -> Self {
        Self { unit }
    }

    fn decode_text(&self, text: &str, first_line: u64, sink: &mut dyn RowSink) {
        let bytes = text.as_bytes();
        let mut scratch = Scratch::default();
        // Its lifetime ends with the piece, so it lives here rather than in the decoder.
        let mut fields: Vec<Field<'_>> = Vec::new();
        let mut fast = Fast::new(text);
        let mut line = first_line;
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            match bytes[at] {
                b'\n' => {
                    at += 1;
                    line += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' => {
                    at += 1;
                    continue;
                }
                b'#' => {
                    at = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
                    continue;
                }
                _ => {}
            }
            if let Some(found) = fast.line(start, self.unit, &mut fields) {
                at = found.end;
                sink.row(&Row {
                    series: SeriesRef {
                        spelling: &bytes[start..found.series_end],
                        reader: &RawSeries,
                    },
                    time: found.time,
                    fields: &fields,
                    origin: Origin {
                        line,
                        text: &bytes[start..at],
                    },
                });
                // A string may hold newlines.
                if fields.iter().any(|field| matches!(field.value, Value::String(_))) {
                    line += newlines(&bytes[start..at]);
                }
                continue;
            }
            match scan(bytes, start, self.unit, &mut scratch) {
                Ok(scanned) => {
                    at = scanned.end;
                    let origin = Origin {
                        line,
                        text: trim(&bytes[start..scanned.end]),
                    };
                    let series = SeriesRef {
                        spelling: &bytes[start..scanned.series_end],
                        reader: &RawSeries,
                    };
                    if scratch.text.is_empty() {
                        let resolve = |span: Span| &text[span.start..span.end];
                        fields.clear();
                        fields.extend(
                            scratch
                                .fields
                                .iter()
                                .map(|(key, value)| field(resolve(*key), value, &resolve)),
                        );
                        sink.row(&Row {
                            series,
                            time: scanned.time,
                            fields: &fields,
                            origin,
                        });
                    } else {
                        let resolve = |span: Span| {
                            let from = if span.escaped { scratch.text.as_str() } else { text };
                            &from[span.start..span.end]
                        };
                        let fields: Vec<Field<'_>> = scratch
                            .fields
                            .iter()
                            .map(|(key, value)| field(resolve(*key), value, &resolve))
                            .collect();
                        sink.row(&Row {
                            series,
                            time: scanned.time,
                            fields: &fields,
                            origin,
                        });
                    }
                    // A string may hold newlines.
                    line += newlines(&bytes[start..at]);
                }
                Err(fault) => {
                    at = line_end(bytes, start);
                    let origin = Origin {
                        line,
                        text: trim(&bytes[start..at]),
                    };
                    let column = (fault.at.clamp(start, at.max(start)) - start) as u64 + 1;
                    sink.reject(&Rejection {
                        origin,
                        column,
                        reason: &fault.reason,
                        context: &[],
                    });
                    line += newlines(&bytes[start..at]);
                }
            }
        }
    }
}

impl Decoder for LineDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        match scan::text(piece) {
            Ok(text) => self.decode_text(text, 1, sink),
            Err(_) => {
                for (line, bytes) in (1..).zip(piece.split_inclusive(|&b| b == b'\n')) {
                    match std::str::from_utf8(bytes) {
                        Ok(text) => self.decode_text(text, line, sink),
                        Err(error) => {
                            let origin = Origin {
                                line,
                                text: trim(bytes),
                            };
                            let column = error.valid_up_to() as u64 + 1;
                            sink.reject(&Rejection {
                                origin,
                                column,
                                reason: "invalid UTF-8",
                                context: &[],
                            });
                        }
                    }
                }
            }
        }
    }
}

fn field<'a>(key: &'a str, value: &RawValue, resolve: &impl Fn(Span) -> &'a str) -> Field<'a> {
    let value = match value {
        RawValue::Number(value) => *value,
        RawValue::String(span) => Value::String(resolve(*span)),
    };
    Field { key, value }
}

fn newlines(bytes: &[u8]) -> u64 {
    // Nearly always none: a line's own newline is not part of it.
    if memchr(b'\n', bytes).is_none() {
        0
    } else {
        bytes.iter().filter(|&&b| b == b'\n').count() as u64
    }
}

fn trim(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

struct Scanned {
    series_end: usize,
    time: Option<i64>,
    /// At the newline, or at the end of the piece.
    end: usize,
}

/// Reads the line at `start`, which is no blank: its fields into `scratch`.
#[inline]
fn scan(bytes: &[u8], start: usize, unit: i64, scratch: &mut Scratch) -> Result<Scanned, Fault> {
    scratch.fields.clear();
    scratch.text.clear();
    let series_end = series_end(bytes, start)?;
    let mut at = skip_blanks(bytes, series_end);
    loop {
        let key = scan_key(bytes, at, scratch)?;
        let value_at = key.1 + 1;
        let (value, after) = scan_value(bytes, value_at, scratch)?;
        scratch.fields.push((key.0, value));
        match bytes.get(after) {
            Some(b',') => at = after + 1,
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => {
                let (time, end) = scan_time(bytes, after, unit)?;
                return Ok(Scanned {
                    series_end,
                    time,
                    end,
                });
            }
            Some(_) => {
                let reason = match bytes[value_at] {
                    b'"' => "invalid field format",
                    b't' | b'T' | b'f' | b'F' => "invalid boolean",
                    _ => "invalid number",
                };
                return Err(Fault {
                    at: after,
                    reason: reason.into(),
                });
            }
        }
    }
}

/// Where the series part ends: at the first space that is not escaped.
#[inline]
fn series_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let mut from = start;
    loop {
        let Some(found) = memchr2(b' ', b'\n', &bytes[from..]) else {
            return Err(no_fields(bytes, start, bytes.len()));
        };
        let at = from + found;
        // Backslashes before it pair up from the left, as InfluxDB skips the byte after each.
        let slashes = bytes[start..at].iter().rev().take_while(|&&b| b == b'\\').count();
        if slashes % 2 == 1 && bytes[at] == b' ' {
            from = at + 1;
            continue;
        }
        if bytes[at] == b'\n' {
            return Err(no_fields(bytes, start, at));
        }
        if at == start || bytes[start] == b',' {
            return Err(Fault {
                at: start,
                reason: "missing measurement".into(),
            });
        }
        return Ok(at);
    }
}

/// A line without fields: if its series is broken, that is what InfluxDB tells.
#[cold]
fn no_fields(bytes: &[u8], start: usize, end: usize) -> Fault {
    use kymo_plugin_api::{SeriesParts, SeriesSpelling};
    let series = trim(&bytes[start..end]);
    match RawSeries.read(series, &mut SeriesParts::default()) {
        Err((column, reason)) => Fault {
            at: start + column as usize - 1,
            reason,
        },
        Ok(()) => Fault {
            at: end,
            reason: "missing fields".into(),
        },
    }
}

#[inline]
fn skip_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    at
}

/// The key of a field, and where its `=` is.
#[inline]
fn scan_key(bytes: &[u8], start: usize, scratch: &mut Scratch) -> Result<(Span, usize), Fault> {
    let mut at = start;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            Some(b'=') => break,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            None | Some(b'\n' | b'\r') => {
                let reason = if scratch.fields.is_empty() && at == start {
                    "missing fields"
                } else {
                    "invalid field format"
                };
                return Err(Fault {
                    at: at.min(bytes.len()),
                    reason: reason.into(),
                });
            }
            Some(b',' | b' ') => {
                return Err(Fault {
                    at,
                    reason: "invalid field format".into(),
                });
            }
            Some(_) => at += 1,
        }
    }
    if at == start {
        return Err(Fault {
            at,
            reason: "missing field key".into(),
        });
    }
    Ok((span(bytes, start, at, escaped, b",= ", scratch), at))
}

fn span(
    bytes: &[u8],
    start: usize,
    end: usize,
    escaped: bool,
    special: &[u8],
    scratch: &mut Scratch,
) -> Span {
    if !escaped {
        return Span { start, end, escaped };
    }
    let from = scratch.text.len();
    unescape(&bytes[start..end], special, &mut scratch.text);
    // An escape that turned out to be none still is in the scratch space; never leave that empty (see decode_text).
    Span {
        start: from,
        end: scratch.text.len(),
        escaped: true,
    }
}

/// The value of a field, and where it ends.
#[inline]
fn scan_value(bytes: &[u8], at: usize, scratch: &mut Scratch) -> Result<(RawValue, usize), Fault> {
    let Some(&first) = bytes.get(at) else {
        return Err(Fault {
            at,
            reason: "missing field value".into(),
        });
    };
    match first {
        b'0'..=b'9' | b'-' | b'.' => match number::read(&bytes[at..]) {
            Ok((value, len)) => Ok((RawValue::Number(value), at + len)),
            Err(reason) => Err(Fault { at, reason }),
        },
        b'"' => {
            let start = at + 1;
            let mut escaped = false;
            let mut from = start;
            loop {
                let Some(found) = memchr2(b'"', b'\\', &bytes[from..]) else {
                    return Err(Fault {
                        at,
                        reason: "unbalanced quotes".into(),
                    });
                };
                let found = from + found;
                if bytes[found] == b'"' {
                    return Ok((
                        RawValue::String(span(bytes, start, found, escaped, b"\"\\", scratch)),
                        found + 1,
                    ));
                }
                escaped = true;
                from = (found + 2).min(bytes.len());
            }
        }
        b',' | b' ' | b'\n' | b'\r' => Err(Fault {
            at,
            reason: "missing field value".into(),
        }),
        b'n' | b'N' | b'+' => Err(Fault {
            at,
            reason: "invalid number".into(),
        }),
        _ => {
            let end = bytes[at..]
                .iter()
                .position(|b| matches!(b, b',' | b' ' | b'\n' | b'\r'));
            let end = end.map_or(bytes.len(), |len| at + len);
            let value = match &bytes[at..end] {
                b"t" | b"T" | b"true" | b"True" | b"TRUE" => true,
                b"f" | b"F" | b"false" | b"False" | b"FALSE" => false,
                _ => {
                    return Err(Fault {
                        at,
                        reason: "invalid boolean".into(),
                    });
                }
            };
            Ok((RawValue::Number(Value::Boolean(value)), end))
        }
    }
}

/// The timestamp, if there is one, and the end of the line.
#[inline]
fn scan_time(bytes: &[u8], start: usize, unit: i64) -> Result<(Option<i64>, usize), Fault> {
    let start = skip_blanks(bytes, start);
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let mut at = first;
    let mut value: i64 = 0;
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
        let shifted = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i64::from(digit)));
        value = shifted.ok_or_else(|| Fault {
            at: start,
            reason: "bad timestamp".into(),
        })?;
        at += 1;
    }
    let digits = at - first;
    let mut end = skip_blanks(bytes, at);
    if bytes.get(end) == Some(&b'\r') && matches!(bytes.get(end + 1), None | Some(b'\n')) {
        end += 1;
    }
    if !matches!(bytes.get(end), None | Some(b'\n')) || (digits == 0 && at > start) {
        return Err(Fault {
            at: start,
            reason: "bad timestamp".into(),
        });
    }
    if digits == 0 {
        return Ok((None, end));
    }
    let scaled = (if negative { -value } else { value }).checked_mul(unit);
    // InfluxDB's range, one less at either end than i64's.
    match scaled.filter(|t| (-9_223_372_036_854_775_806..=9_223_372_036_854_775_806).contains(t)) {
        Some(time) => Ok((Some(time), end)),
        None => Err(Fault {
            at: start,
            reason: "time outside range -9223372036854775806 - 9223372036854775806".into(),
        }),
    }
}

/// Where a broken line ends: at the first newline outside quotes, quotes counting only where a field's value is.
#[cold]
fn line_end(bytes: &[u8], start: usize) -> usize {
    let (mut fields, mut quoted, mut equals, mut commas) = (false, false, 0, 0);
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if at + 2 < bytes.len() && bytes[at + 1] != b'\n' => {
                at += 2;
                continue;
            }
            b' ' => fields = true,
            b'=' if fields && !quoted => equals += 1,
            b',' if fields && !quoted => commas += 1,
            b'"' if fields && equals > commas => quoted = !quoted,
            b'\n' if !quoted => return at,
            _ => {}
        }
        at += 1;
    }
    if quoted {
        // The quote never closes: take the line alone, not the rest of the piece with it.
        return memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |len| start + len);
    }
    bytes.len()
}
