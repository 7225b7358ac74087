//! Numbers in text, exactly: floats correctly rounded, integers checked.

use kymo_plugin_api::Value;
use kymo_plugin_reading::number::{DIGITS_MAX, EXACT_MAX, EXACT_POWERS, digits as take_digits};

/// Reads the number at the start of `bytes`: its value and its length. The caller looks at what follows.
///
/// # Errors
/// The reason, in InfluxDB's words.
#[inline]
pub fn read(bytes: &[u8]) -> Result<(Value<'static>, usize), String> {
    let negative = bytes.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let mut mantissa = 0u64;
    let first = at;
    while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    let mut digits = at - first;
    match bytes.get(at) {
        // Up to 18 digits fit either integer type.
        Some(b'i') if 0 < digits && digits <= 18 => {
            let value = if negative {
                -(mantissa as i64)
            } else {
                mantissa as i64
            };
            return Ok((Value::Integer(value), at + 1));
        }
        Some(b'u') if 0 < digits && digits <= 18 && !negative => {
            return Ok((Value::Unsigned(mantissa), at + 1));
        }
        _ => {}
    }
    let mut scale = 0;
    if bytes.get(at) == Some(&b'.') {
        let point = at + 1;
        (mantissa, at) = take_digits(bytes, point, mantissa);
        scale = at - point;
        digits += scale;
    }
    let is_exact = digits <= DIGITS_MAX && mantissa <= EXACT_MAX && scale < EXACT_POWERS.len();
    // Both the digits and the power are exact, so one division rounds once: correctly.
    let ends = !matches!(
        bytes.get(at),
        Some(b'0'..=b'9' | b'e' | b'E' | b'i' | b'u' | b'.' | b'+' | b'-')
    );
    if ends && 0 < digits && is_exact {
        let value = mantissa as f64 / EXACT_POWERS[scale];
        return Ok((Value::Float(if negative { -value } else { value }), at));
    }
    slowly(bytes)
}

/// Any number, by its text.
#[cold]
fn slowly(bytes: &[u8]) -> Result<(Value<'static>, usize), String> {
    let part = |b: &&u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let len = bytes.iter().take_while(part).count();
    let text = std::str::from_utf8(&bytes[..len]).expect("digits and signs are ASCII");
    let invalid = || "invalid number".to_string();
    let integral = || text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match bytes.get(len) {
        Some(b'i') if integral() => match text.parse() {
            Ok(value) => Ok((Value::Integer(value), len + 1)),
            Err(error) => Err(out_of_range("integer", "ParseInt", text, error.kind())),
        },
        Some(b'u') if integral() => match text.parse() {
            Ok(value) => Ok((Value::Unsigned(value), len + 1)),
            Err(error) => Err(out_of_range("unsigned", "ParseUint", text, error.kind())),
        },
        _ => {
            // A sign may lead or follow an exponent; std and fast-float2 take a leading plus, InfluxDB does not.
            if text.starts_with('+') {
                return Err(invalid());
            }
            match fast_float2::parse::<f64, _>(text) {
                Ok(value) if value.is_finite() => Ok((Value::Float(value), len)),
                Ok(_) => Err(format!(
                    "unable to parse float {text}: strconv.ParseFloat: parsing \"{text}\": value out of range"
                )),
                Err(_) => Err(invalid()),
            }
        }
    }
}

fn out_of_range(what: &str, function: &str, text: &str, kind: &std::num::IntErrorKind) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match kind {
        PosOverflow | NegOverflow => {
            format!(
                "unable to parse {what} {text}: strconv.{function}: parsing \"{text}\": value out of range"
            )
        }
        _ => "invalid number".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        let cases: &[(&str, Value<'static>, usize)] = &[
            ("1", Value::Float(1.0), 1),
            ("-0", Value::Float(-0.0), 2),
            ("12.34,", Value::Float(12.34), 5),
            ("0.1 ", Value::Float(0.1), 3),
            ("1.", Value::Float(1.0), 2),
            (".5", Value::Float(0.5), 2),
            ("1e3", Value::Float(1000.0), 3),
            ("-1.5E-3", Value::Float(-0.0015), 7),
            (
                "123456789012345678901234567890",
                Value::Float(123456789012345678901234567890.0),
                30,
            ),
            (
                "0.1234567890123456789",
                Value::Float(0.123_456_789_012_345_68),
                21,
            ),
            ("1.7976931348623157e308", Value::Float(f64::MAX), 22),
            ("5e-324", Value::Float(5e-324), 6),
            ("42i", Value::Integer(42), 3),
            ("-42i,", Value::Integer(-42), 4),
            ("9223372036854775807i", Value::Integer(i64::MAX), 20),
            ("-9223372036854775808i", Value::Integer(i64::MIN), 21),
            ("18446744073709551615u", Value::Unsigned(u64::MAX), 21),
        ];
        for (text, value, len) in cases {
            let got = read(text.as_bytes());
            assert_eq!(got, Ok((*value, *len)), "{text}");
            if let (Value::Float(a), Ok((Value::Float(b), _))) = (value, got) {
                assert_eq!(a.to_bits(), b.to_bits(), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", "i", "-i", ".", "1.5i", "1e", "1e+", "--1", "+1", "NaN", "-1u", "1.2.3", "inf", "-inf",
        ] {
            let read = read(text.as_bytes());
            let whole = read.as_ref().is_ok_and(|(_, len)| *len == text.len());
            assert!(!whole, "{text}: {read:?}");
        }
        for text in ["9223372036854775808i", "18446744073709551616u", "1e999"] {
            assert!(
                read(text.as_bytes()).is_err_and(|e| e.contains("value out of range")),
                "{text}"
            );
        }
    }

    #[test]
    fn agrees_with_the_standard_library() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let digits = state >> 20;
            let text = format!(
                "{}.{}",
                digits % 10_u64.pow((state % 10) as u32 + 1),
                digits / 7 % 100_000
            );
            let want: f64 = text.parse().expect("a float");
            let Ok((Value::Float(got), _)) = read(text.as_bytes()) else {
                panic!("{text}")
            };
            assert_eq!(got.to_bits(), want.to_bits(), "{text}");
        }
    }
}
