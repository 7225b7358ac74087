//! Points as Kymo's own shape has them: `{"measurement":"cpu","tags":{"host":"a"},"fields":{"usage":1.5},"time":1}`.
//!
//! The fast way borrows everything and takes the series by the raw text of measurement and tags, which it passes over without
//! reading; it gives up at anything unusual (an escape, an unknown key, a mistake), and the careful way reads the object again and
//! says what is wrong.

use crate::point::{Point, number_value, tag_text, time};
use crate::settings::Settings;
use kymo_plugin_api::{Field, SeriesParts, SeriesSpelling, Value};
use kymo_plugin_reading::json::{Cursor, Fault, place};
use kymo_plugin_reading::number;
use kymo_plugin_reading::scan::any_of;
use kymo_plugin_reading::time::{TimeUnit, whole_number};
use memchr::memchr_iter;
use std::borrow::Cow;
use std::ops::Range;

/// What the fast way found beside the fields.
pub struct Fast {
    pub spelling: Spelling,
    pub time: Option<i64>,
    /// It is known to stand in one line.
    pub is_line: bool,
}

/// Where the spelling of the series is.
pub enum Spelling {
    /// A part of the text.
    Text(Range<usize>),
    /// Put together in the scratch space.
    Scratch,
}

/// What the members of a point mean, in the order in which most senders have them.
#[derive(Clone, Copy)]
pub enum Key {
    Measurement,
    Tags,
    Fields,
    Time,
}

const KEYS: [Key; 4] = [Key::Measurement, Key::Tags, Key::Fields, Key::Time];

/// The names of a point's members with quotes and colon, so that the one that is expected can be passed over at once.
pub struct Keys([Vec<u8>; 4]);

impl Keys {
    /// Of measurement, tags, fields and time.
    pub fn new(names: [&str; 4]) -> Self {
        Self(names.map(|name| match name.contains(['"', '\\']) {
            false => format!("\"{name}\":").into_bytes(),
            // It is written with an escape: left to the careful way, since nothing in a text is equal to this.
            true => vec![0xFF; 4],
        }))
    }

    /// Passes over the name at the cursor. `expected` is tried first.
    #[inline]
    pub fn next(&self, cursor: &mut Cursor<'_>, expected: usize) -> Option<Key> {
        if let Some(name) = self.0.get(expected)
            && cursor.rest().starts_with(name)
        {
            cursor.pass(name.len());
            return Some(KEYS[expected]);
        }
        let Ok(Cow::Borrowed(key)) = cursor.key() else {
            return None;
        };
        let is = |name: &[u8]| name[1..name.len() - 2] == *key.as_bytes();
        let at = self.0.iter().position(|name| is(name))?;
        Some(KEYS[at])
    }
}

/// Reads the object at the cursor; `None` when care is needed. The cursor is then anywhere.
pub fn fast<'a>(
    settings: &Settings,
    cursor: &mut Cursor<'a>,
    fields: &mut Vec<Field<'a>>,
    scratch: &mut Vec<u8>,
) -> Option<Fast> {
    let (mut measurement, mut tags, mut time, mut has_fields) = (None, None, None, false);
    fields.clear();
    cursor.enter(b'{').ok()?;
    let mut first = true;
    let mut expected = 0;
    while cursor.more(b'}', &mut first).ok()? {
        let begin = cursor.at();
        let key = settings.keys.next(cursor, expected)?;
        expected = key as usize + 1;
        match key {
            Key::Measurement if measurement.is_none() && settings.measurement.is_none() => {
                match cursor.string() {
                    Ok(Cow::Borrowed(name)) if !name.is_empty() => {}
                    _ => return None,
                }
                measurement = Some(begin..cursor.at());
            }
            Key::Tags if tags.is_none() => {
                pass_tags(cursor)?;
                tags = Some(begin..cursor.at());
            }
            Key::Fields if !has_fields => {
                has_fields = true;
                read_fields(settings, cursor, fields)?;
            }
            Key::Time if time.is_none() => time = Some(read_time(settings.time_unit, cursor)?),
            _ => return None,
        }
    }
    if fields.is_empty() {
        return None;
    }
    let spelling = match (measurement, tags) {
        (None, _) if settings.measurement.is_none() => return None,
        (None, tags) => Spelling::Text(tags.unwrap_or(0..0)),
        (Some(measurement), None) => Spelling::Text(measurement),
        (Some(a), Some(b)) => {
            let (a, b) = if a.start < b.start { (a, b) } else { (b, a) };
            let text = cursor.text().as_bytes();
            let between = &text[a.end..b.start];
            if between.trim_ascii() == b"," {
                Spelling::Text(a.start..b.end)
            } else {
                scratch.clear();
                scratch.extend_from_slice(&text[a]);
                scratch.push(b',');
                scratch.extend_from_slice(&text[b]);
                Spelling::Scratch
            }
        }
    };
    Some(Fast {
        spelling,
        time,
        is_line: false,
    })
}

/// Passes over `{..}` without reading it: at a brace with an even number of quotes before it and neither backslash nor
/// brace inside. Whether it makes sense is found out when the series is seen for the first time.
#[inline]
fn pass_tags(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.enter(b'{').ok()?;
    let (end, _) = plain_tags_end(cursor.rest())?;
    cursor.pass(end + 1);
    Some(())
}

/// Where the closing brace is, and whether it is in the same line.
#[inline]
pub fn plain_tags_end(tags: &[u8]) -> Option<(usize, bool)> {
    let (mut end, mut same_line) = (0, true);
    loop {
        end += any_of([b'}', b'\\', b'{', b'\n'], &tags[end..]);
        match tags.get(end)? {
            b'}' if is_after_string(&tags[..end]) => return Some((end, same_line)),
            b'}' if memchr_iter(b'"', &tags[..end]).count().is_multiple_of(2) => {
                return Some((end, same_line));
            }
            // A brace in a value in quotes: look for the next.
            b'}' => {}
            b'\n' => same_line = false,
            _ => return None,
        }
        end += 1;
    }
}

/// Whether the last quote surely ends a string: one that begins a string stands behind punctuation or space.
#[inline]
fn is_after_string(text: &[u8]) -> bool {
    matches!(text, [.., before, b'"'] if before.is_ascii_alphanumeric())
}

#[inline]
fn read_fields<'a>(settings: &Settings, cursor: &mut Cursor<'a>, fields: &mut Vec<Field<'a>>) -> Option<()> {
    cursor.enter(b'{').ok()?;
    let mut first = true;
    while cursor.more(b'}', &mut first).ok()? {
        let Ok(Cow::Borrowed(key)) = cursor.key() else {
            return None;
        };
        if let Some(value) = read_value(settings, cursor)? {
            fields.push(Field::new(key, value));
        }
    }
    Some(())
}

/// The value of a field; of null there is none.
#[inline]
pub fn read_value<'a>(settings: &Settings, cursor: &mut Cursor<'a>) -> Option<Option<Value<'a>>> {
    Some(Some(match cursor.peek()? {
        b'"' => match cursor.string() {
            Ok(Cow::Borrowed(text)) => Value::String(text),
            _ => return None,
        },
        b'-' | b'0'..=b'9' if !settings.integers => Value::Float(read_float(cursor)?),
        b'-' | b'0'..=b'9' => number_value(cursor.number().ok()?, true)?,
        b't' if cursor.rest().starts_with(b"true") => {
            cursor.pass(4);
            Value::Boolean(true)
        }
        b'f' if cursor.rest().starts_with(b"false") => {
            cursor.pass(5);
            Value::Boolean(false)
        }
        b'n' if cursor.rest().starts_with(b"null") => {
            cursor.pass(4);
            return Some(None);
        }
        _ => return None,
    }))
}

/// A number, read as it is passed over.
#[inline]
fn read_float(cursor: &mut Cursor<'_>) -> Option<f64> {
    let rest = cursor.rest();
    let Some((value, len)) = number::plain(rest) else {
        let (value, _) = number::float(cursor.number().ok()?.as_bytes())?;
        return Some(value).filter(|value| value.is_finite());
    };
    let digits = rest[..len].strip_prefix(b"-").unwrap_or(&rest[..len]);
    // `01` and `1.` are left to the careful way, which refuses them.
    if matches!(digits, [b'0', b'0'..=b'9', ..] | [b'.', ..] | [.., b'.']) {
        return None;
    }
    cursor.pass(len);
    Some(value)
}

#[inline]
pub fn read_time(unit: TimeUnit, cursor: &mut Cursor<'_>) -> Option<i64> {
    if cursor.peek()? == b'"' {
        let Ok(Cow::Borrowed(text)) = cursor.string() else {
            return None;
        };
        return unit.read(text);
    }
    let rest = cursor.rest();
    if let Some((number, len)) = whole_number(rest)
        && rest[0] != b'0'
        && !matches!(rest.get(len), Some(b'.' | b'e' | b'E'))
    {
        cursor.pass(len);
        return unit.whole(number);
    }
    unit.read(cursor.number().ok()?)
}

/// Reads spellings of the fast way: `"measurement":"cpu","tags":{..}`, either or both, in any order.
impl SeriesSpelling for Settings {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let text = std::str::from_utf8(spelling).map_err(|_| (1, "invalid UTF-8".to_string()))?;
        let mut cursor = Cursor::new(text, 0);
        if let Some(name) = &self.measurement {
            parts.measurement.push_str(name);
        }
        let mut read = || -> Result<(), Fault> {
            while cursor.peek().is_some() {
                let key = cursor.key()?;
                if key == self.measurement_key {
                    parts.measurement.push_str(&cursor.string()?);
                } else {
                    let mut tags = Vec::new();
                    read_tags(&mut cursor, &mut tags)?;
                    let owned = tags.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned()));
                    parts.tags.extend(owned);
                }
                if cursor.peek().is_some() {
                    cursor.enter(b',')?;
                }
            }
            Ok(())
        };
        read().map_err(|fault| (fault.at as u64 + 1, fault.reason.into_owned()))
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        let is_time = |path: &[Cow<'_, str>]| match &self.flat {
            Some(_) => path.join(".") == self.time_key,
            None => *path == [self.time_key.as_str()],
        };
        let place = place(std::str::from_utf8(text).ok()?, is_time);
        Some(place?.value as u64 + 1)
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let mut cursor = Cursor::new(std::str::from_utf8(spelling).ok()?, 0);
        while cursor.key().ok()? == self.measurement_key {
            cursor.skip().ok()?;
            // Nothing follows where there are no tags.
            cursor.enter(b',').ok()?;
        }
        let (mut first, mut before) = (true, 0);
        cursor.enter(b'{').ok()?;
        while cursor.more(b'}', &mut first).ok()? {
            cursor.peek();
            let at = cursor.at();
            cursor.key().ok()?;
            // Of null and of no text there is no tag.
            let is_tag = tag_text(cursor.scalar().ok()?).is_some();
            if is_tag && before == tag {
                return Some(at as u64 + 1);
            }
            before += usize::from(is_tag);
        }
        None
    }
}

/// The same where measurement and tags stand apart in the point, with its text: what is found in the spelling is told where it stands there.
pub struct Apart<'a> {
    pub settings: &'a Settings,
    pub text: &'a str,
}

impl Apart<'_> {
    /// The column in the point of one in the spelling, which is one member of the point, a comma, and another.
    fn in_text(&self, spelling: &[u8], column: u64) -> Option<u64> {
        let at = column as usize - 1;
        let mut cursor = Cursor::new(std::str::from_utf8(spelling).ok()?, 0);
        loop {
            cursor.peek()?;
            let begin = cursor.at();
            let key = cursor.key().ok()?;
            cursor.skip().ok()?;
            if at < cursor.at() {
                let place = place(self.text, |path| *path == [key.as_ref()])?;
                return Some((place.key + at.saturating_sub(begin)) as u64 + 1);
            }
            cursor.enter(b',').ok()?;
        }
    }
}

impl SeriesSpelling for Apart<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let read = self.settings.read(spelling, parts);
        read.map_err(|(column, reason)| (self.in_text(spelling, column).unwrap_or(1), reason))
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        self.in_text(spelling, self.settings.tag_column(spelling, tag)?)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        self.settings.time_column(text)
    }
}

fn read_tags<'a>(cursor: &mut Cursor<'a>, tags: &mut Vec<(Cow<'a, str>, Cow<'a, str>)>) -> Result<(), Fault> {
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        let key = cursor.key()?;
        cursor.peek();
        let at = cursor.at();
        let scalar = cursor
            .scalar()
            .map_err(|_| Fault::new(at, format!("tag \"{key}\" is no text, number or boolean")))?;
        if let Some(value) = tag_text(scalar) {
            tags.push((key, value));
        }
    }
    Ok(())
}

/// Reads the object at the cursor, which is known to be JSON.
pub fn careful<'a>(settings: &Settings, cursor: &mut Cursor<'a>) -> Result<Point<'a>, Fault> {
    let mut point = Point::default();
    let mut seen: Vec<Cow<'a, str>> = Vec::new();
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        cursor.peek();
        let at = cursor.at();
        let key = cursor.key()?;
        if seen.contains(&key) {
            return Err(Fault::new(at, format!("key \"{key}\" twice")));
        }
        if key == settings.measurement_key && settings.measurement.is_none() {
            point.measurement = Some(cursor.string()?);
        } else if key == settings.tags_key {
            if cursor.peek() == Some(b'n') {
                cursor.scalar()?;
            } else {
                read_tags(cursor, &mut point.tags)?;
            }
        } else if key == settings.fields_key {
            careful_fields(cursor, &mut point)?;
        } else if key == settings.time_key {
            cursor.peek();
            let at = cursor.at();
            point.time = time(&cursor.scalar()?, settings, at)?;
        } else {
            let known = [
                settings.measurement_key.as_str(),
                &settings.tags_key,
                &settings.fields_key,
                &settings.time_key,
            ];
            let known = known.join(", ");
            let reason = format!("unknown key \"{key}\" (known are {known}; or use shape=flat)");
            return Err(Fault::new(at, reason));
        }
        seen.push(key);
    }
    Ok(point)
}

fn careful_fields<'a>(cursor: &mut Cursor<'a>, point: &mut Point<'a>) -> Result<(), Fault> {
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        cursor.peek();
        let at = cursor.at();
        let key = cursor.key()?;
        if matches!(cursor.peek(), Some(b'{' | b'[')) {
            let reason =
                format!("field \"{key}\" is no text, number or boolean (shape=flat takes nested values)");
            return Err(Fault::new(at, reason));
        }
        point.fields.push((key, cursor.scalar()?));
    }
    Ok(())
}
