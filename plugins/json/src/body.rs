//! Walks what is outside of points: arrays, objects one after the other, envelopes.

use crate::nested::{self, Apart, Fast, Spelling};
use crate::settings::Settings;
use crate::shape::Shapes;
use crate::{flat, point::Point};
use kymo_plugin_api::{Decoder, Field, Framing, Origin, Rejection, Row, RowSink, SeriesRef};
use kymo_plugin_reading::json::{Cursor, Fault};
use kymo_plugin_reading::scan;
use memchr::{memchr_iter, memmem};

/// The decoder of one request, connection or socket.
pub struct JsonDecoder {
    settings: Settings,
    by_line: bool,
    /// Reused from point to point.
    scratch: Vec<u8>,
}

/// What is kept from point to point of a piece.
#[derive(Default)]
struct Known<'a> {
    fields: Vec<Field<'a>>,
    shapes: Shapes<'a>,
}

/// Which line of the piece a byte of the text is in.
struct Lines<'a> {
    text: &'a [u8],
    /// Newlines before are counted.
    counted: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str, first: u64) -> Self {
        Self {
            text: text.as_bytes(),
            counted: 0,
            line: first,
        }
    }

    /// The line of a byte; asked in order.
    #[inline]
    fn of(&mut self, at: usize) -> u64 {
        let new = self.text.get(self.counted..at).unwrap_or_default();
        // Mostly the newline between two points.
        let newlines = match new {
            [] => 0,
            [byte] => usize::from(*byte == b'\n'),
            more => memchr_iter(b'\n', more).count(),
        };
        self.line += newlines as u64;
        self.counted = self.counted.max(at);
        self.line
    }

    /// What was asked for last goes on to here in the same line.
    #[inline]
    fn pass(&mut self, at: usize) {
        self.counted = at;
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        match scan::text(piece) {
            Ok(text) if !self.by_line => self.values(text, 1, sink),
            Err(error) if !self.by_line && memmem::find(piece, b"\n{").is_none() => {
                reject_bytes(piece, 1, error.valid_up_to(), sink);
            }
            _ => {
                for (line, bytes) in (1..).zip(piece.split(|&b| b == b'\n')) {
                    match std::str::from_utf8(bytes) {
                        Ok(text) => self.values(text, line, sink),
                        Err(error) => reject_bytes(bytes, line, error.valid_up_to(), sink),
                    }
                }
            }
        }
    }
}

fn reject_bytes(bytes: &[u8], line: u64, valid: usize, sink: &mut dyn RowSink) {
    sink.reject(&Rejection {
        origin: Origin { line, text: bytes },
        column: valid as u64 + 1,
        reason: "invalid UTF-8",
        context: &[],
    });
}

impl JsonDecoder {
    pub fn new(settings: Settings, framing: Framing) -> Self {
        Self {
            settings,
            by_line: framing == Framing::Lines,
            scratch: Vec::new(),
        }
    }

    /// Reads values one after the other, arrays opened up.
    fn values(&mut self, text: &str, first_line: u64, sink: &mut dyn RowSink) {
        let mut lines = Lines::new(text, first_line);
        // Live here rather than in the decoder: they borrow from the text.
        let mut known = Known::default();
        let mut cursor = Cursor::new(text, 0);
        let mut array: Option<usize> = None;
        let mut wants_comma = false;
        while let Some(byte) = cursor.peek() {
            let at = cursor.at();
            let fault = match (byte, array) {
                (b'{', _) if !wants_comma => match self.object(&mut cursor, &mut known, &mut lines, sink) {
                    Ok(()) => {
                        wants_comma = array.is_some();
                        continue;
                    }
                    Err(fault) => fault,
                },
                (b'[', None) => {
                    array = Some(at);
                    cursor.pass(1);
                    continue;
                }
                (b']', Some(_)) => {
                    array = None;
                    wants_comma = false;
                    cursor.pass(1);
                    continue;
                }
                (b',', Some(_)) if wants_comma => {
                    wants_comma = false;
                    cursor.pass(1);
                    continue;
                }
                _ if wants_comma => cursor.expected("',' or ']'"),
                _ => cursor.expected("an object"),
            };
            let end = recover(text, at);
            let line = lines.of(at);
            reject(
                &text[at..end],
                line,
                fault.at.saturating_sub(at),
                &fault.reason,
                sink,
            );
            cursor = Cursor::new(text, end);
            wants_comma = false;
        }
        if let Some(open) = array {
            let fault = cursor.expected("',' or ']'");
            let line = lines.of(text.len());
            reject(&text[open..=open], line, 1, &fault.reason, sink);
        }
    }

    /// Reads the object at the cursor: a point, or what holds points. An error is one of syntax: where the object ends is unknown.
    fn object<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        known: &mut Known<'a>,
        lines: &mut Lines<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        if self.settings.rows.is_empty() {
            return self.point(cursor, known, lines, sink);
        }
        let start = *cursor;
        // One that has no rows at that place is a point itself.
        let rows = find(cursor, &self.settings.rows)?;
        let Some(mut rows) = rows else {
            *cursor = start;
            return self.point(cursor, known, lines, sink);
        };
        let mut first = true;
        rows.enter(b'[')?;
        while rows.more(b']', &mut first)? {
            if rows.peek() != Some(b'{') {
                return Err(rows.expected("an object"));
            }
            self.point(&mut rows, known, lines, sink)?;
        }
        Ok(())
    }

    /// Reads the point at the cursor, if it is of the usual kind. The cursor is anywhere otherwise.
    #[inline]
    fn fast<'a>(&mut self, cursor: &mut Cursor<'a>, known: &mut Known<'a>) -> Option<Fast> {
        let Known { fields, shapes } = known;
        if let Some(shaped) = shapes.read(&self.settings, cursor, fields) {
            return Some(Fast {
                spelling: Spelling::Text(shaped.spelling),
                time: shaped.time,
                is_line: shaped.is_line,
            });
        }
        let start = cursor.at();
        let point = nested::fast(&self.settings, cursor, fields, &mut self.scratch)?;
        if matches!(point.spelling, Spelling::Text(_)) {
            shapes.learn(&self.settings, cursor.text(), start..cursor.at());
        }
        Some(point)
    }

    fn point<'a>(
        &mut self,
        cursor: &mut Cursor<'a>,
        known: &mut Known<'a>,
        lines: &mut Lines<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        cursor.peek();
        let start = *cursor;
        let text = cursor.text();
        if self.settings.flat.is_none()
            && let Some(point) = self.fast(cursor, known)
        {
            let object = &text.as_bytes()[start.at()..cursor.at()];
            let apart;
            let series = match point.spelling {
                Spelling::Text(range) => SeriesRef {
                    spelling: &text.as_bytes()[range],
                    reader: &self.settings,
                },
                Spelling::Scratch => {
                    apart = Apart {
                        settings: &self.settings,
                        text: &text[start.at()..cursor.at()],
                    };
                    SeriesRef {
                        spelling: &self.scratch,
                        reader: &apart,
                    }
                }
            };
            let line = lines.of(start.at());
            if point.is_line {
                lines.pass(cursor.at());
            }
            sink.row(&Row {
                series,
                time: point.time,
                fields: &known.fields,
                origin: Origin { line, text: object },
            });
            return Ok(());
        }
        let mut whole = start;
        let object = whole.skip()?;
        *cursor = whole;
        let origin = Origin {
            line: lines.of(start.at()),
            text: object.as_bytes(),
        };
        let mut inside = Cursor::new(object, 0);
        let point: Result<Point<'_>, Fault> = match &self.settings.flat {
            Some(mapping) => flat::read(&self.settings, mapping, &mut inside),
            None => nested::careful(&self.settings, &mut inside),
        };
        let emitted = point.and_then(|point| point.emit(&self.settings, origin, &mut self.scratch, sink));
        if let Err(fault) = emitted {
            reject(object, origin.line, fault.at, &fault.reason, sink);
        }
        Ok(())
    }
}

/// Goes over the object at the cursor: where inside it the value at a path begins, if it is there and an array.
fn find<'a>(cursor: &mut Cursor<'a>, path: &[String]) -> Result<Option<Cursor<'a>>, Fault> {
    let Some((name, rest)) = path.split_first() else {
        let found = (cursor.peek() == Some(b'[')).then_some(*cursor);
        cursor.skip()?;
        return Ok(found);
    };
    if cursor.peek() != Some(b'{') {
        cursor.skip()?;
        return Ok(None);
    }
    let mut found = None;
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        if cursor.key()? == name.as_str() && found.is_none() {
            found = find(cursor, rest)?;
        } else {
            cursor.skip()?;
        }
    }
    Ok(found)
}

/// After a mistake of syntax: at the next line that begins with an object or array, as it does where there is one a line.
fn recover(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    memchr_iter(b'\n', &bytes[from..])
        .map(|newline| from + newline + 1)
        .find(|&at| matches!(bytes.get(at), Some(b'{' | b'[')))
        .unwrap_or(bytes.len())
}

fn reject(text: &str, line: u64, at: usize, reason: &str, sink: &mut dyn RowSink) {
    let text = text.trim_end();
    sink.reject(&Rejection {
        origin: Origin {
            line,
            text: text.as_bytes(),
        },
        column: at.min(text.len()) as u64 + 1,
        reason,
        context: &[],
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::Options;

    /// Lines of rows.
    #[derive(Default)]
    struct LinesOf(Vec<u64>);

    impl RowSink for LinesOf {
        fn row(&mut self, row: &Row<'_>) {
            self.0.push(row.origin.line);
        }

        fn reject(&mut self, rejection: &Rejection<'_>) {
            panic!("{rejection:?}");
        }
    }

    /// However often a point like it has come, and wherever in it a newline stands.
    #[test]
    fn lines_are_counted_within_points_too() {
        let parts = [
            "{",
            "\"measurement\"",
            ":",
            "\"m\"",
            ",",
            "\"tags\"",
            ":",
            "{",
            "\"k\"",
            ":",
            "\"a\"",
            "}",
            ",",
            "\"fields\"",
            ":",
            "{",
            "\"v\"",
            ":",
            "1",
            "}",
            ",",
            "\"time\"",
            ":",
            "1793491200000000000",
            "}",
        ];
        let plain = parts.concat();
        for newline in 1..parts.len() {
            let broken = format!("{}\n{}", parts[..newline].concat(), parts[newline..].concat());
            let text = [&plain, &plain, &broken, &plain, &broken, &broken, &plain].map(String::as_str);
            for between in ["\n", "", " \n\n"] {
                let (mut line, mut want) = (1, Vec::new());
                for point in text {
                    want.push(line);
                    let whole = format!("{point}{between}");
                    line += whole.matches('\n').count() as u64;
                }
                let settings = Settings::read(&Options::new()).expect("no options");
                let mut got = LinesOf::default();
                JsonDecoder::new(settings, Framing::Whole).decode(text.join(between).as_bytes(), &mut got);
                assert_eq!(
                    got.0, want,
                    "a newline before part {newline}, {between:?} between points"
                );
            }
        }
    }
}
