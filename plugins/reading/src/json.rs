//! JSON read front to back from text, borrowed: the caller says what it expects and is told where that is not so.
//!
//! ```
//! use kymo_plugin_reading::json::Cursor;
//! let mut cursor = Cursor::new(r#"{"a": 1, "b": [true]}"#, 0);
//! let mut names = Vec::new();
//! cursor.enter(b'{')?;
//! let mut first = true;
//! while cursor.more(b'}', &mut first)? {
//!     names.push((cursor.key()?, cursor.skip()?));
//! }
//! assert_eq!(names, [("a".into(), "1"), ("b".into(), "[true]")]);
//! # Ok::<(), kymo_plugin_reading::json::Fault>(())
//! ```

use crate::scan;
use std::borrow::Cow;

/// Values inside values that are taken.
pub const DEPTH_MAX: usize = 64;

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// Where a member of an object stands: its key, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The byte of the key's quote.
    pub key: usize,
    /// The byte of the value.
    pub value: usize,
}

/// The first member of the object that `text` begins with, or of what is nested in it, whose path is the wanted one. Members of lists
/// are called by their number. For messages: what cannot be read is as good as absent.
pub fn place(text: &str, mut is_wanted: impl FnMut(&[Cow<'_, str>]) -> bool) -> Option<Place> {
    let mut is_wanted = |path: &[Cow<'_, str>], _: usize| is_wanted(path);
    place_in(&mut Cursor::new(text, 0), &mut Vec::new(), &mut is_wanted)
}

/// The place of the last of `names`, which were read one after the other: each is looked for behind the one before.
pub fn place_of_last<'n>(
    text: &str,
    names: impl Iterator<Item = &'n str>,
    is_wanted: impl Fn(&[Cow<'_, str>], &str) -> bool,
) -> Option<Place> {
    let (mut found, mut from) = (None, 0);
    for name in names {
        let mut is_wanted = |path: &[Cow<'_, str>], key: usize| key >= from && is_wanted(path, name);
        let place = place_in(&mut Cursor::new(text, 0), &mut Vec::new(), &mut is_wanted)?;
        from = place.key + 1;
        found = Some(place);
    }
    found
}

fn place_in<'a>(
    cursor: &mut Cursor<'a>,
    path: &mut Vec<Cow<'a, str>>,
    is_wanted: &mut dyn FnMut(&[Cow<'_, str>], usize) -> bool,
) -> Option<Place> {
    let (open, close) = match cursor.peek()? {
        b'{' => (b'{', b'}'),
        b'[' => (b'[', b']'),
        _ => return None,
    };
    let depth = path.len();
    if depth >= DEPTH_MAX {
        return None;
    }
    let (mut first, mut index) = (true, 0u32);
    cursor.enter(open).ok()?;
    while cursor.more(close, &mut first).ok()? {
        cursor.peek();
        let key = cursor.at();
        path.push(match open {
            b'{' => cursor.key().ok()?,
            _ => index.to_string().into(),
        });
        cursor.peek();
        let value = cursor.at();
        if is_wanted(path, key) {
            return Some(Place { key, value });
        }
        let mut inside = *cursor;
        if let Some(found) = place_in(&mut inside, path, is_wanted) {
            return Some(found);
        }
        path.truncate(depth);
        cursor.skip().ok()?;
        index += 1;
    }
    None
}

/// What is wrong, and at which byte, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the beginning of the text.
    pub at: usize,
    /// In words, lower case.
    pub reason: Cow<'static, str>,
}

impl Fault {
    /// At a place.
    pub fn new(at: usize, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            at,
            reason: reason.into(),
        }
    }
}

/// A value that is neither object nor array.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A text, unescaped.
    Text(Cow<'a, str>),
    /// A number as it is written; it follows JSON's grammar.
    Number(&'a str),
    /// true or false.
    Boolean(bool),
    /// null.
    Null,
}

impl<'a> Cursor<'a> {
    /// At byte `at` of a text.
    pub fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// The place.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// What follows.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    /// Passes over bytes of [`rest`](Self::rest) that the caller has read; they must be whole characters.
    #[inline]
    pub fn pass(&mut self, bytes: usize) {
        self.at += bytes;
        debug_assert!(self.text.is_char_boundary(self.at));
    }

    /// Goes to the next byte that is no blank: what it is; `None` at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Passes over a byte that must come next, blanks before it.
    #[inline]
    pub fn enter(&mut self, wanted: u8) -> Result<(), Fault> {
        match self.peek() {
            Some(byte) if byte == wanted => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.expected(&format!("'{}'", char::from(wanted)))),
        }
    }

    /// In an object or array: is there another member? Passes over the comma, or over the end.
    #[inline]
    pub fn more(&mut self, end: u8, first: &mut bool) -> Result<bool, Fault> {
        let is_first = std::mem::take(first);
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.at += 1;
                // `[1,]` is no JSON.
                match self.peek() {
                    Some(byte) if byte == end => Err(self.expected("another member")),
                    _ => Ok(true),
                }
            }
            Some(_) if is_first => Ok(true),
            _ => Err(self.expected(&format!("',' or '{}'", char::from(end)))),
        }
    }

    /// The name of an object's member, and its colon.
    #[inline]
    pub fn key(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        let key = self.string()?;
        self.enter(b':')?;
        Ok(key)
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a text"));
        }
        let start = self.at + 1;
        let end = plain_end(self.text, start);
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        self.escaped(start).map(Cow::Owned)
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Result<String, Fault> {
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        let mut from = start;
        loop {
            let at = plain_end(self.text, from);
            out.push_str(&self.text[from..at]);
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(out);
                }
                Some(b'\\') => from = unescape(self.text, at, &mut out)?,
                Some(_) => return Err(Fault::new(at, "a control character in a text (escape it)")),
                None => return Err(Fault::new(start - 1, "a text without its closing quote")),
            }
        }
    }

    /// A number as it is written.
    #[inline]
    pub fn number(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let bytes = self.text.as_bytes();
        let start = self.at;
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let fault = || Fault::new(start, "invalid number");
        let first = start + usize::from(bytes.get(start) == Some(&b'-'));
        let mut at = digits(first);
        // `01` is no JSON.
        if at == first || (bytes[first] == b'0' && at > first + 1) {
            return Err(fault());
        }
        if bytes.get(at) == Some(&b'.') {
            let end = digits(at + 1);
            if end == at + 1 {
                return Err(fault());
            }
            at = end;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = digits(at + 1 + sign);
            if end == at + 1 + sign {
                return Err(fault());
            }
            at = end;
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// A value that is neither object nor array.
    pub fn scalar(&mut self) -> Result<Scalar<'a>, Fault> {
        Ok(match self.peek() {
            Some(b'"') => Scalar::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Scalar::Number(self.number()?),
            Some(b't') => self.word("true", Scalar::Boolean(true))?,
            Some(b'f') => self.word("false", Scalar::Boolean(false))?,
            Some(b'n') => self.word("null", Scalar::Null)?,
            _ => return Err(self.expected("a text, a number, true, false or null")),
        })
    }

    fn word(&mut self, word: &str, value: Scalar<'a>) -> Result<Scalar<'a>, Fault> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.expected("a value"))
    }

    /// Passes over a value of any kind: its text.
    pub fn skip(&mut self) -> Result<&'a str, Fault> {
        self.peek();
        let start = self.at;
        self.skip_deep(0)?;
        Ok(&self.text[start..self.at])
    }

    fn skip_deep(&mut self, depth: usize) -> Result<(), Fault> {
        let end = match self.peek() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return self.scalar().map(drop),
        };
        if depth >= DEPTH_MAX {
            return Err(Fault::new(
                self.at,
                format!("nested too deep (depth_max {DEPTH_MAX})"),
            ));
        }
        self.at += 1;
        let mut first = true;
        while self.more(end, &mut first)? {
            if end == b'}' {
                self.key()?;
            }
            self.skip_deep(depth + 1)?;
        }
        Ok(())
    }

    /// What should have been here.
    #[cold]
    pub fn expected(&self, what: &str) -> Fault {
        let found = self.text[self.at.min(self.text.len())..].chars().next();
        Fault::new(
            self.at,
            match found {
                Some(found) => format!("expected {what}, found {found:?}"),
                None => format!("expected {what}, found the end"),
            },
        )
    }
}

/// A text as a string of JSON.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 32 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[inline]
fn plain_end(text: &str, from: usize) -> usize {
    let rest = text.as_bytes().get(from..);
    rest.map_or(from, |rest| from + scan::plain_end(rest))
}

/// The character that the backslash at byte `at` stands for, into `out`; where it ends.
fn unescape(text: &str, at: usize, out: &mut String) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let plain = match bytes.get(at + 1) {
        Some(b'"') => '"',
        Some(b'\\') => '\\',
        Some(b'/') => '/',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let (c, end) = unicode(bytes, at).ok_or_else(|| Fault::new(at, "invalid \\u escape"))?;
            out.push(c);
            return Ok(end);
        }
        _ => return Err(Fault::new(at, "invalid escape")),
    };
    out.push(plain);
    Ok(at + 2)
}

/// `\uXXXX` at byte `at`, or two of them that are one character. A half of a pair alone is no character.
fn unicode(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let hex = |at: usize| {
        let digits = bytes.get(at..at + 6)?;
        if !digits.starts_with(b"\\u") {
            return None;
        }
        let digit = |value: u32, b: &u8| Some(value * 16 + char::from(*b).to_digit(16)?);
        digits[2..].iter().try_fold(0, digit)
    };
    let high = hex(at)?;
    if !(0xD800..0xDC00).contains(&high) {
        return Some((char::from_u32(high)?, at + 6));
    }
    let low = hex(at + 6).filter(|low| (0xDC00..0xE000).contains(low))?;
    let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    Some((char::from_u32(code)?, at + 12))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    fn value(cursor: &mut Cursor<'_>) -> Result<Value, Fault> {
        let mut first = true;
        match cursor.peek() {
            Some(b'{') => {
                cursor.enter(b'{')?;
                let mut map = Map::new();
                while cursor.more(b'}', &mut first)? {
                    let key = cursor.key()?.into_owned();
                    map.insert(key, value(cursor)?);
                }
                Ok(Value::Object(map))
            }
            Some(b'[') => {
                cursor.enter(b'[')?;
                let mut list = Vec::new();
                while cursor.more(b']', &mut first)? {
                    list.push(value(cursor)?);
                }
                Ok(Value::Array(list))
            }
            _ => Ok(match cursor.scalar()? {
                Scalar::Text(text) => Value::String(text.into_owned()),
                // Beyond f64, which serde_json refuses.
                Scalar::Number(text) => serde_json::from_str(text).unwrap_or(Value::Null),
                Scalar::Boolean(b) => Value::Bool(b),
                Scalar::Null => Value::Null,
            }),
        }
    }

    fn read(text: &str) -> Option<Value> {
        let mut cursor = Cursor::new(text, 0);
        let read = value(&mut cursor).ok();
        let mut again = Cursor::new(text, 0);
        assert_eq!(again.skip().is_ok(), read.is_some(), "{text}");
        assert!(read.is_none() || again.at() == cursor.at());
        read.filter(|_| cursor.peek().is_none())
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[\\PC\n\t\"\\\\]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_others_write(json in any_json()) {
            for text in [json.to_string(), serde_json::to_string_pretty(&json).expect("JSON")] {
                let want: Value = serde_json::from_str(&text).expect("JSON");
                prop_assert_eq!(read(&text), Some(want));
            }
        }

        #[test]
        fn takes_and_refuses_what_others_do(json in any_json(), at in any::<prop::sample::Index>(), with in "[\"\\\\{}\\[\\],: 01.eE+\\-tfnu\n]") {
            let mut text = json.to_string();
            let mut at = at.index(text.len());
            while !text.is_char_boundary(at) { at -= 1 }
            text.insert_str(at, &with);
            let want: Option<Value> = serde_json::from_str(&text).ok();
            let got = read(&text);
            // A number beyond f64 is refused by serde_json alone.
            prop_assert!(got == want || (want.is_none() && text.contains(['e', 'E'])), "{}: {:?} not {:?}", text, got, want);
        }

        #[test]
        fn what_is_quoted_is_read_back(text in "[\\PC\n\t\0\"\\\\]{0,12}") {
            let json = quoted(&text);
            prop_assert_eq!(Cursor::new(&json, 0).string(), Ok(text.as_str().into()));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\PC\"\\\\{}\\[\\],:0-9u]{0,40}") {
            let _ = read(&text);
        }
    }

    #[test]
    fn faults_tell_where_and_what() {
        for (text, at, reason) in [
            (
                "",
                0,
                "expected a text, a number, true, false or null, found the end",
            ),
            ("{", 1, "expected ',' or '}', found the end"),
            ("{\"a\" 1}", 5, "expected ':', found '1'"),
            ("{a:1}", 1, "expected a name in quotes, found 'a'"),
            ("[1 2]", 3, "expected ',' or ']', found '2'"),
            ("[1,]", 3, "expected another member, found ']'"),
            ("[01]", 1, "invalid number"),
            ("[1.]", 1, "invalid number"),
            ("[tru]", 1, "expected a value, found 't'"),
            ("\"abc", 0, "a text without its closing quote"),
            ("\"a\nb\"", 2, "a control character in a text (escape it)"),
            ("\"\\x\"", 1, "invalid escape"),
            ("\"\\ud800x\"", 1, "invalid \\u escape"),
        ] {
            let fault = Cursor::new(text, 0).skip().expect_err(text);
            assert_eq!((fault.at, fault.reason.as_ref()), (at, reason), "{text}");
        }
        let deep = "[".repeat(70) + &"]".repeat(70);
        let fault = Cursor::new(&deep, 0).skip().expect_err("deep");
        assert_eq!(fault.reason, "nested too deep (depth_max 64)");
    }
}
