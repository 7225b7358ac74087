//! Points that look like one before them in the same piece: all but the name, the tags, the values and the time is the very same
//! text, and is compared instead of read. Agents print their points with one routine, so nearly all points are like that; what is
//! printed in turns (a few kinds of points, one after the other) is expected in the order of the last time.
//!
//! **Invariant:** what is read here, [`nested::fast`] would read likewise: a shape is a point that it has read.

use crate::nested::{Key, plain_tags_end, read_time, read_value};
use crate::settings::Settings;
use kymo_plugin_api::Field;
use kymo_plugin_reading::json::Cursor;
use kymo_plugin_reading::scan::{Known, plain_end};
use std::borrow::Cow;
use std::ops::Range;

/// Shapes that are remembered.
const SHAPES_MAX: usize = 8;
/// Points in a row that may fit none, about: then no more is tried.
const MISSES_MAX: u32 = 64;
/// What a point that fits none counts, in points that do.
const MISS: u32 = 4;

/// The shapes of one piece.
#[derive(Default)]
pub struct Shapes<'a> {
    list: Vec<Shape<'a>>,
    /// Which the point before had.
    last: usize,
    /// Which takes the place of an old one next.
    oldest: usize,
    misses: u32,
    before: Before<'a>,
}

/// What the point before had, as text: points that were taken together have the same time, and often the same tags.
#[derive(Default)]
struct Before<'a> {
    time: Known<'a>,
    nanoseconds: i64,
    /// Without the opening brace, with the closing one.
    tags: Known<'a>,
    /// They have no newline.
    tags_are_line: bool,
}

struct Shape<'a> {
    parts: Vec<Part<'a>>,
    /// Behind the last part, with the closing brace.
    tail: Known<'a>,
    /// No part of it has a newline.
    is_line: bool,
    /// Where the spelling of the series begins in the text before its first part; it ends one byte behind its last.
    series_offset: usize,
    /// The shape of the point that came next the last time.
    next: usize,
}

struct Part<'a> {
    /// Text that stands before it.
    before: Known<'a>,
    what: What<'a>,
}

/// What is another one in each point.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Without its quotes.
    Name,
    /// Without their braces.
    Tags,
    /// Of this field.
    Value(&'a str),
    Time,
}

/// A point beside its fields.
pub struct Shaped {
    pub spelling: Range<usize>,
    pub time: Option<i64>,
    /// It stands in one line.
    pub is_line: bool,
}

impl<'a> Shapes<'a> {
    /// Reads the object at the cursor, if it has a known shape; otherwise the cursor stays.
    #[inline]
    pub fn read(
        &mut self,
        settings: &Settings,
        cursor: &mut Cursor<'a>,
        fields: &mut Vec<Field<'a>>,
    ) -> Option<Shaped> {
        let expected = self.list.get(self.last)?.next;
        let start = *cursor;
        if let Some(shape) = self.list.get(expected)
            && let Some(read) = shape.read(settings, cursor, fields, &mut self.before)
        {
            self.last = expected;
            self.misses = self.misses.saturating_sub(1);
            return Some(read);
        }
        for (at, shape) in self.list.iter().enumerate().filter(|(at, _)| *at != expected) {
            *cursor = start;
            if let Some(read) = shape.read(settings, cursor, fields, &mut self.before) {
                self.came(at);
                self.misses = self.misses.saturating_sub(1);
                return Some(read);
            }
        }
        *cursor = start;
        self.misses += MISS;
        None
    }

    /// The text between two places is a point that was just read, whose series is spelt by a part of it.
    pub fn learn(&mut self, settings: &Settings, text: &'a str, point: Range<usize>) {
        if self.misses > MISS * MISSES_MAX {
            self.list.clear();
            return;
        }
        let Some(shape) = Shape::of(settings, text, point) else {
            return;
        };
        let at = if self.list.len() < SHAPES_MAX {
            self.list.push(shape);
            self.list.len() - 1
        } else {
            self.oldest = (self.oldest + 1) % SHAPES_MAX;
            self.list[self.oldest] = shape;
            self.oldest
        };
        // A kind of its own until something else comes next.
        self.list[at].next = at;
        self.came(at);
    }

    fn came(&mut self, at: usize) {
        if let Some(before) = self.list.get_mut(self.last) {
            before.next = at;
        }
        self.last = at;
    }
}

impl<'a> Shape<'a> {
    fn of(settings: &Settings, text: &'a str, point: Range<usize>) -> Option<Self> {
        let mut cursor = Cursor::new(text, point.start);
        let bytes = text.as_bytes();
        let mut parts: Vec<Part<'a>> = Vec::new();
        let mut series_offset = None;
        // Where the part before ended.
        let mut from = point.start;
        cursor.enter(b'{').ok()?;
        let (mut first, mut expected) = (true, 0);
        while cursor.more(b'}', &mut first).ok()? {
            let begin = cursor.at();
            let key = settings.keys.next(&mut cursor, expected)?;
            expected = key as usize + 1;
            cursor.peek()?;
            match key {
                Key::Measurement | Key::Tags => {
                    let at = cursor.at() + 1;
                    let what = match key {
                        Key::Tags => What::Tags,
                        _ => What::Name,
                    };
                    let offset = begin.checked_sub(from)?;
                    series_offset.get_or_insert(offset);
                    parts.push(Part {
                        before: Known::new(&bytes[from..at]),
                        what,
                    });
                    cursor.skip().ok()?;
                    from = cursor.at() - 1;
                }
                Key::Fields => {
                    cursor.enter(b'{').ok()?;
                    let mut first = true;
                    while cursor.more(b'}', &mut first).ok()? {
                        let Ok(Cow::Borrowed(name)) = cursor.key() else {
                            return None;
                        };
                        // No value: there is no such field in this point, and may be in others.
                        if cursor.peek()? == b'n' {
                            return None;
                        }
                        let before = Known::new(&bytes[from..cursor.at()]);
                        let what = What::Value(name);
                        parts.push(Part { before, what });
                        cursor.skip().ok()?;
                        from = cursor.at();
                    }
                }
                Key::Time => {
                    let before = Known::new(&bytes[from..cursor.at()]);
                    let what = What::Time;
                    parts.push(Part { before, what });
                    cursor.skip().ok()?;
                    from = cursor.at();
                }
            }
        }
        let tail = bytes.get(from..point.end)?;
        let texts = parts.iter().map(|part| part.before.text());
        let is_line = texts.chain([tail]).all(|text| !text.contains(&b'\n'));
        Some(Self {
            parts,
            tail: Known::new(tail),
            is_line,
            series_offset: series_offset.unwrap_or(0),
            next: 0,
        })
    }

    #[inline]
    fn read(
        &self,
        settings: &Settings,
        cursor: &mut Cursor<'a>,
        fields: &mut Vec<Field<'a>>,
        before: &mut Before<'a>,
    ) -> Option<Shaped> {
        fields.clear();
        let (mut spelling, mut time, mut is_line) = (0..0, None, self.is_line);
        for part in &self.parts {
            let begin = cursor.at();
            pass(cursor, &part.before)?;
            if matches!(part.what, What::Name | What::Tags) && spelling.end == 0 {
                spelling.start = begin + self.series_offset;
            }
            match part.what {
                What::Name => {
                    let len = plain_end(cursor.rest());
                    if len == 0 || cursor.rest().get(len) != Some(&b'"') {
                        return None;
                    }
                    cursor.pass(len);
                }
                What::Tags => {
                    is_line &= pass_tags(cursor, before)?;
                }
                What::Value(key) => {
                    is_line &= !is_blank(cursor.rest());
                    fields.push(Field::new(key, read_value(settings, cursor)??));
                }
                What::Time => {
                    is_line &= !is_blank(cursor.rest());
                    time = Some(read_known_time(settings, cursor, before)?);
                }
            }
            if matches!(part.what, What::Name | What::Tags) {
                spelling.end = cursor.at() + 1;
            }
        }
        pass(cursor, &self.tail)?;
        Some(Shaped {
            spelling,
            time,
            is_line,
        })
    }
}

#[inline(always)]
fn pass(cursor: &mut Cursor<'_>, text: &Known<'_>) -> Option<()> {
    if !text.begins(cursor.rest()) {
        return None;
    }
    cursor.pass(text.len());
    Some(())
}

/// Passes over tags, up to their closing brace; whether they are in one line.
#[inline]
fn pass_tags<'a>(cursor: &mut Cursor<'a>, before: &mut Before<'a>) -> Option<bool> {
    let rest = cursor.rest();
    // Where tags end depends on nothing behind their closing brace.
    if before.tags.is_empty() || !before.tags.begins(rest) {
        let (len, same_line) = plain_tags_end(rest)?;
        before.tags = Known::new(&rest[..=len]);
        before.tags_are_line = same_line;
    }
    cursor.pass(before.tags.len() - 1);
    Some(before.tags_are_line)
}

/// Is there space before the next value? It may hold a newline.
#[inline]
fn is_blank(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_whitespace)
}

#[inline]
fn read_known_time<'a>(settings: &Settings, cursor: &mut Cursor<'a>, before: &mut Before<'a>) -> Option<i64> {
    // If it goes on, what stands behind a time in this shape does not follow.
    if !before.time.is_empty() && before.time.begins(cursor.rest()) {
        cursor.pass(before.time.len());
        return Some(before.nanoseconds);
    }
    let start = *cursor;
    let time = read_time(settings.time_unit, cursor)?;
    before.time = Known::new(&start.rest()[..cursor.at() - start.at()]);
    before.nanoseconds = time;
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::Options;

    /// How many of the points, one after the other, were read by their shape.
    fn shaped(points: &[&str]) -> usize {
        let settings = Settings::read(&Options::new()).expect("no options");
        let text = points.join("\n");
        let (mut shapes, mut fields) = (Shapes::default(), Vec::new());
        let mut at = 0;
        let mut count = 0;
        for point in points {
            let mut cursor = Cursor::new(&text, at);
            match shapes.read(&settings, &mut cursor, &mut fields) {
                Some(_) => count += 1,
                None => {
                    assert_eq!(cursor.at(), at, "the cursor stays");
                    shapes.learn(&settings, &text, at..at + point.len());
                }
            }
            at += point.len() + 1;
        }
        count
    }

    #[test]
    fn points_of_a_few_kinds_are_known_after_one_of_each() {
        let kinds = [
            r#"{"measurement":"cpu","tags":{"host":"a"},"fields":{"user":1.5,"idle":true},"time":1}"#,
            r#"{"measurement":"mem","tags":{"host":"b"},"fields":{"free":3},"time":22}"#,
            r#"{"time":1,"fields":{"free":3},"measurement":"x"}"#,
        ];
        assert_eq!(shaped(&kinds.repeat(10)), 27);
        // Another kind each time: it gives up, and looks for no shape any more.
        let other = |n: usize| format!(r#"{{"measurement":"m","fields":{{"f{n}":1}}}}"#);
        let others: Vec<String> = (0..100).map(other).collect();
        let mut points: Vec<&str> = others.iter().map(String::as_str).collect();
        points.extend(kinds.repeat(2));
        assert_eq!(shaped(&points), 0);
    }
}
