//! Numbers and texts as JSON and CSV write them, and as Go (so InfluxDB) does.

use std::fmt::Write;

/// What text is appended to.
pub trait Text {
    /// Appends it.
    fn put(&mut self, text: &str);
}

impl Text for String {
    #[inline]
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Text for Vec<u8> {
    #[inline]
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

/// Integers below this are looked up.
const SMALL: usize = 1000;

/// The text of each small integer, and how many digits it has.
static SMALL_TEXTS: [([u8; 4], u8); SMALL] = small_texts();

const fn small_texts() -> [([u8; 4], u8); SMALL] {
    let mut texts = [([b' '; 4], 1); SMALL];
    let mut value = 0;
    while value < SMALL {
        let digits = if value < 10 {
            1
        } else if value < 100 {
            2
        } else {
            3
        };
        let (mut at, mut rest) = (digits, value);
        while at > 0 {
            at -= 1;
            texts[value].0[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        texts[value].1 = digits as u8;
        value += 1;
    }
    texts
}

/// Appends an integer, quickly where it is small: a store of four bytes, of which those past the number are taken back.
#[inline]
pub fn small_integer(value: i64, out: &mut Vec<u8>) {
    match usize::try_from(value).ok().and_then(|at| SMALL_TEXTS.get(at)) {
        Some((text, digits)) => {
            out.extend_from_slice(text);
            out.truncate(out.len() - (4 - usize::from(*digits)));
        }
        None => integer(value, out),
    }
}

/// Appends an integer.
#[inline]
pub fn integer(value: impl itoa::Integer, out: &mut impl Text) {
    out.put(itoa::Buffer::new().format(value));
}

/// Appends a float as Go writes it: shortest digits that read back the same, an exponent for very large and very small ones;
/// `null` for what is no number.
pub fn float(value: f64, out: &mut impl Text) {
    let magnitude = value.abs();
    if !value.is_finite() {
        out.put("null");
    } else if value == value.trunc() && magnitude < 1e15 && (value != 0.0 || value.is_sign_positive()) {
        integer(value as i64, out);
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        out.put(&format!("{digits}e{sign}{:02}", exponent.abs()));
    } else if (1e-4..1e15).contains(&magnitude) {
        out.put(zmij::Buffer::new().format_finite(value));
    } else {
        out.put(&value.to_string());
    }
}

/// Appends a text in quotes, with what JSON escapes escaped.
pub fn json_text(text: &str, out: &mut impl Text) {
    out.put("\"");
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1F => "",
            _ => continue,
        };
        out.put(&text[plain..at]);
        if escape.is_empty() {
            let mut code = String::new();
            let _ = write!(code, "\\u{byte:04x}");
            out.put(&code);
        } else {
            out.put(escape);
        }
        plain = at + 1;
    }
    out.put(&text[plain..]);
    out.put("\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: f64) -> String {
        let mut out = String::new();
        float(value, &mut out);
        out
    }

    #[test]
    fn floats_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (1e15, "1000000000000000"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (0.000_001, "0.000001"),
            (123_456_789.123, "123456789.123"),
            (f64::NAN, "null"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (value, want) in cases {
            assert_eq!(of(value), want);
        }
    }

    proptest! {
        #[test]
        fn every_float_reads_back_to_the_bit(bits in any::<u64>(), small in -1_000_000i64..1_000_000, digits in 0i32..9) {
            for value in [f64::from_bits(bits), small as f64 / 10f64.powi(digits)] {
                if value.is_finite() {
                    prop_assert_eq!(of(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()), "{}", of(value));
                }
            }
        }
    }

    #[test]
    fn integers_small_and_large() {
        let cases = (-1100..1100).chain([i64::MIN, i64::MAX, 99_999, 1 << 40]);
        for value in cases {
            let mut out = b"x".to_vec();
            small_integer(value, &mut out);
            assert_eq!(out, format!("x{value}").into_bytes());
        }
    }

    #[test]
    fn texts_are_escaped() {
        let mut out = String::new();
        json_text("a\"b\\c\n\u{1}é", &mut out);
        assert_eq!(out, r#""a\"b\\c\n\u0001é""#);
    }
}
