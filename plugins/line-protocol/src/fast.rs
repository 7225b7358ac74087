//! The lines that nearly all senders send: no escapes, no blanks but the two that must be, fields in the order of the line before.
//! Anything else is left to the decoder's ordinary walk, which also finds the words for what is wrong.

use crate::number;
use kymo_plugin_api::{Field, Value};
use kymo_plugin_reading::number::eight_digits;
use memchr::{memchr2, memchr3};

/// What the lines before it looked like.
pub struct Fast<'a> {
    text: &'a str,
    /// Digits of the last timestamp, and what they came to.
    time_digits: &'a [u8],
    time: i64,
}

/// Where a line's parts end.
pub struct FastLine {
    pub series_end: usize,
    pub time: Option<i64>,
    /// At the newline, or at the end of the piece.
    pub end: usize,
}

impl<'a> Fast<'a> {
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            time_digits: &[],
            time: 0,
        }
    }

    /// Reads the line at `start`. `fields` holds those of the line before and gets those of this one. `None`: it is not of the
    /// simple kind; then `fields` holds anything.
    #[inline]
    pub fn line(&mut self, start: usize, unit: i64, fields: &mut Vec<Field<'a>>) -> Option<FastLine> {
        let bytes = self.text.as_bytes();
        let series_end = start + memchr2(b' ', b'\n', &bytes[start..])?;
        if bytes[series_end] == b'\n' || bytes[series_end - 1] == b'\\' || bytes[start] == b',' {
            return None;
        }
        let mut at = series_end + 1;
        let mut count = 0;
        loop {
            let key = self.key(at, fields.get(count).map(|field| field.key))?;
            at += key.len() + 1;
            let (value, after) = self.value(at)?;
            let field = Field { key, value };
            match fields.get_mut(count) {
                Some(place) => *place = field,
                None => fields.push(field),
            }
            count += 1;
            match bytes.get(after) {
                Some(b',') => at = after + 1,
                Some(b' ') => {
                    fields.truncate(count);
                    let (time, end) = self.time(after + 1, unit)?;
                    return Some(FastLine {
                        series_end,
                        time: Some(time),
                        end,
                    });
                }
                None | Some(b'\n') => {
                    fields.truncate(count);
                    return Some(FastLine {
                        series_end,
                        time: None,
                        end: after,
                    });
                }
                Some(_) => return None,
            }
        }
    }

    /// The key at `at`, which an equals sign follows.
    #[inline]
    fn key(&self, at: usize, before: Option<&'a str>) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        if let Some(before) = before
            && bytes[at..].starts_with(before.as_bytes())
            && bytes.get(at + before.len()) == Some(&b'=')
        {
            return Some(before);
        }
        let len = memchr3(b'=', b'\\', b',', &bytes[at..])?;
        let key = self.text.get(at..at + len)?;
        let plain =
            bytes[at + len] == b'=' && len > 0 && !key.bytes().any(|b| matches!(b, b' ' | b'\n' | b'\r'));
        plain.then_some(key)
    }

    /// The value at `at`, and where it ends.
    #[inline]
    fn value(&self, at: usize) -> Option<(Value<'a>, usize)> {
        let bytes = self.text.as_bytes();
        match bytes.get(at)? {
            b'0'..=b'9' | b'-' => {
                let (value, len) = number::read(&bytes[at..]).ok()?;
                Some((value, at + len))
            }
            b'"' => {
                let start = at + 1;
                let end = start + memchr2(b'"', b'\\', &bytes[start..])?;
                if bytes[end] != b'"' {
                    return None;
                }
                Some((Value::String(self.text.get(start..end)?), end + 1))
            }
            b't' | b'T' => Some((Value::Boolean(true), at + 1)),
            b'f' | b'F' => Some((Value::Boolean(false), at + 1)),
            _ => None,
        }
    }

    /// The timestamp at `at`, in nanoseconds, and the end of the line behind it.
    #[inline]
    fn time(&mut self, at: usize, unit: i64) -> Option<(i64, usize)> {
        let bytes = self.text.as_bytes();
        let ends = |end: usize| matches!(bytes.get(end), None | Some(b'\n'));
        let same = at + self.time_digits.len();
        if !self.time_digits.is_empty() && bytes[at..].starts_with(self.time_digits) && ends(same) {
            return Some((self.time, same));
        }
        let mut end = at;
        let mut value = 0u64;
        while let Some(eight) = bytes.get(end..end + 8).and_then(eight_digits)
            && end - at < 16
        {
            value = value * 100_000_000 + eight;
            end += 8;
        }
        while let Some(digit) = bytes.get(end).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
            if end - at >= 19 {
                return None;
            }
            value = value * 10 + u64::from(digit);
            end += 1;
        }
        if end == at || !ends(end) {
            return None;
        }
        let time = i64::try_from(value).ok()?.checked_mul(unit)?;
        // InfluxDB's range ends one before i64's.
        if time == i64::MAX {
            return None;
        }
        self.time_digits = &bytes[at..end];
        self.time = time;
        Some((time, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_lines_are_taken_and_others_left() {
        let text = "m,t=a f=1,g=\"x\" 5\n";
        let mut fields = Vec::new();
        let line = Fast::new(text).line(0, 10, &mut fields).expect("a simple line");
        assert_eq!(
            (line.series_end, line.time, line.end),
            (5, Some(50), text.len() - 1)
        );
        assert_eq!(fields[1].key, "g");
        assert!(matches!(fields[1].value, Value::String("x")));
        for text in [
            "m",
            "m\n",
            "m f",
            "m f=",
            "m f=1 x",
            "m  f=1",
            "m f=1  5",
            "m f=1 5 ",
            "m f=1\r\n",
            "m f\\ =1",
            "m\\ f=1 1",
            "m f=\"a\\\"\"",
            "m f=\"a",
            ",m f=1",
            "m f=1 -5",
            "m f=truex",
            "m f=1x",
            "m f=1 99999999999999999999",
            "m =1",
            "m f=1 9223372036854775807",
            "m f g=1",
            "m f=nan",
        ] {
            let mut fields = Vec::new();
            let mut fast = Fast::new(text);
            assert!(fast.line(0, 1, &mut fields).is_none(), "{text}");
        }
    }
}
