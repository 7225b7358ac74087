//! Numbers and times as statsd writes them. What comes out is finite and in range.

use crate::limits::SAMPLE_RATE_MIN;

/// `5`, `-1.5`, `+2e3`: finite.
pub fn read(text: &str) -> Result<f64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if text.is_empty() {
        return Err("missing value".into());
    }
    // Keeps out `nan`, `inf` and a second sign.
    let plain = matches!(digits.as_bytes().first(), Some(b'0'..=b'9' | b'.'));
    match fast_float2::parse::<f64, _>(digits) {
        Ok(number) if plain && number.is_finite() => Ok(if negative { -number } else { number }),
        Ok(_) if plain => Err("number out of range".into()),
        _ => Err("invalid number".into()),
    }
}

/// How many a sampled value stands for: one divided by its rate.
pub fn read_weight(text: &str) -> Result<f64, String> {
    match read(text) {
        Ok(rate) if rate > 0.0 && rate < SAMPLE_RATE_MIN => Err(format!(
            "sample rate too small (sample_rate_min {SAMPLE_RATE_MIN:e})"
        )),
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(1.0 / rate),
        _ => Err("invalid sample rate (must be above 0 and at most 1)".into()),
    }
}

/// Seconds UTC to nanoseconds.
pub fn read_seconds(text: &str) -> Result<i64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("invalid timestamp".into());
    }
    let nanoseconds = text
        .parse::<i64>()
        .ok()
        .and_then(|s| s.checked_mul(1_000_000_000));
    nanoseconds.ok_or_else(|| "time outside range".into())
}

/// The nearest integer, half away from zero; `None` when it is none of 64 bits.
pub fn nearest(number: f64) -> Option<i64> {
    let rounded = number.round();
    // Both ends are powers of two, so exact; the upper one is not an i64 any more.
    (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0)
        .contains(&rounded)
        .then_some(rounded as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, number) in [
            ("5", 5.0),
            ("+5", 5.0),
            ("-.5", -0.5),
            ("1.", 1.0),
            ("2e3", 2000.0),
        ] {
            assert_eq!(read(text), Ok(number), "{text}");
        }
        for text in [
            "nan", "-inf", "--1", "+-1", "1x", ".", "-", "0x1", " 1", "1 ", "1e", "1_0",
        ] {
            assert_eq!(read(text), Err("invalid number".into()), "{text}");
        }
        assert_eq!(read("-1e999"), Err("number out of range".into()));
        assert_eq!(read(""), Err("missing value".into()));
    }

    #[test]
    fn integers_are_the_nearest_and_in_range() {
        for (number, integer) in [
            (2.5, Some(3)),
            (-2.5, Some(-3)),
            (6.49, Some(6)),
            (-9_223_372_036_854_775_808.0, Some(i64::MIN)),
            (9_223_372_036_854_775_808.0, None),
            (f64::NAN, None),
        ] {
            assert_eq!(nearest(number), integer, "{number}");
        }
    }
}
