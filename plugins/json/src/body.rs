//! Walks what is outside of points: arrays, objects one after the other, envelopes.

use crate::nested::{self, Fast, Spelling};
use crate::settings::Settings;
use crate::shape::{Shaped, Shapes};
use crate::{flat, point::Point};
use kymo_plugin_api::{Decoder, Field, Framing, Origin, Rejection, Row, RowSink, SeriesRef};
use kymo_plugin_reading::json::{Cursor, Fault};
use memchr::{memchr, memchr_iter, memmem};

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

/// Where a text stands in the piece.
struct Lines<'a> {
    text: &'a [u8],
    /// The first newline that is not counted yet; the text's length when there is none.
    newline: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str, first: u64) -> Self {
        let text = text.as_bytes();
        Self {
            text,
            newline: memchr(b'\n', text).unwrap_or(text.len()),
            line: first,
        }
    }

    /// The line of a byte; asked in order.
    #[inline]
    fn of(&mut self, at: usize) -> u64 {
        while self.newline < at {
            self.line += 1;
            let from = self.newline + 1;
            self.newline = memchr(b'\n', &self.text[from..]).map_or(self.text.len(), |after| from + after);
        }
        self.line
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        match std::str::from_utf8(piece) {
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
        if let Some(Shaped { spelling, time }) = shapes.read(&self.settings, cursor, fields) {
            let spelling = Spelling::Text(spelling);
            return Some(Fast { spelling, time });
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
            let spelling = match point.spelling {
                Spelling::Text(range) => &text.as_bytes()[range],
                Spelling::Scratch => self.scratch.as_slice(),
            };
            sink.row(&Row {
                series: SeriesRef {
                    spelling,
                    reader: &self.settings,
                },
                time: point.time,
                fields: &known.fields,
                origin: Origin {
                    line: lines.of(start.at()),
                    text: &text.as_bytes()[start.at()..cursor.at()],
                },
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
