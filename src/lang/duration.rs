//! Durations as text: `1h30m` to nanoseconds and back, and calendar durations in months.
//!
//! Owns the units. Fixed units are `ns u µ ms s m h d w`; `mo` and `y` are Kymo's calendar units, whose length
//! depends on where in the calendar they stand, so the two kinds never mix in one duration.

use thiserror::Error;

const MICROSECOND: i64 = 1_000;
const MILLISECOND: i64 = 1_000 * MICROSECOND;
const SECOND: i64 = 1_000 * MILLISECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// It does not look like one.
    #[error("invalid duration")]
    Invalid,
    /// It does not fit.
    #[error("overflowed duration {0}: choose a smaller duration or INF")]
    Overflow(String),
}

/// Reads a duration such as `90s`, `1h30m` or `-5m`, in nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    sum(text, |unit| match unit {
        "ns" => Some(1),
        "u" | "µ" => Some(MICROSECOND),
        "ms" => Some(MILLISECOND),
        "s" => Some(SECOND),
        "m" => Some(MINUTE),
        "h" => Some(HOUR),
        "d" => Some(DAY),
        "w" => Some(WEEK),
        _ => None,
    })
}

/// Reads a calendar duration such as `1mo`, `1y` or `1y6mo`, in months.
pub fn parse_months(text: &str) -> Result<i64, DurationError> {
    sum(text, |unit| match unit {
        "mo" => Some(1),
        "y" => Some(12),
        _ => None,
    })
}

/// Adds up `<digits><unit>` parts, each unit worth what `worth` says.
fn sum(text: &str, worth: impl Fn(&str) -> Option<i64>) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return Err(DurationError::Invalid);
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or(DurationError::Invalid)?;
        let (number, tail) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| DurationError::Invalid)?;
        // The longest unit wins: `ms` is milliseconds although `m` is a unit too.
        let (unit, size) = [2, 1]
            .iter()
            .find_map(|&chars| {
                let end = tail.char_indices().nth(chars).map_or(tail.len(), |(at, _)| at);
                worth(&tail[..end]).map(|size| (&tail[..end], size))
            })
            .ok_or(DurationError::Invalid)?;
        total = number
            .checked_mul(size)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| DurationError::Overflow(format!("{number}{unit}")))?;
        rest = &tail[unit.len()..];
    }
    Ok(if negative { -total } else { total })
}

/// Writes a duration with the largest single unit that divides it, as InfluxDB does in the language: `90m`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let units = [
        (WEEK, "w"),
        (DAY, "d"),
        (HOUR, "h"),
        (MINUTE, "m"),
        (SECOND, "s"),
        (MILLISECOND, "ms"),
        (MICROSECOND, "u"),
    ];
    for (size, unit) in units {
        if nanos % size == 0 {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{nanos}ns")
}

/// Writes a duration as the HTTP answers do (Go's notation): `168h0m0s`, `1m30s`, `1.5s`, `250ms`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = |unit: u64, name: &str| {
        let (whole, part) = (size / unit, size % unit);
        let width = unit.ilog10() as usize;
        let digits = format!("{part:0width$}");
        match digits.trim_end_matches('0') {
            "" => format!("{sign}{whole}{name}"),
            digits => format!("{sign}{whole}.{digits}{name}"),
        }
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(1_000_000, "ms"),
        _ => {
            let seconds = size / SECOND as u64;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let part = format!("{:09}", size % SECOND as u64);
            let part = match part.trim_end_matches('0') {
                "" => String::new(),
                digits => format!(".{digits}"),
            };
            let seconds = format!("{}{part}s", seconds % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, _) => format!("{sign}{minutes}m{seconds}"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_durations() {
        let cases = [
            ("10ns", Ok(10), "10ns"),
            ("3u", Ok(3_000), "3u"),
            ("3µ", Ok(3_000), "3u"),
            ("5ms", Ok(5_000_000), "5ms"),
            ("60s", Ok(60 * SECOND), "1m"),
            ("1h30m", Ok(90 * MINUTE), "90m"),
            ("2w", Ok(2 * WEEK), "2w"),
            ("-1d", Ok(-DAY), "-1d"),
            ("0s", Ok(0), "0s"),
            ("5", Err("invalid duration"), ""),
            ("s", Err("invalid duration"), ""),
            ("", Err("invalid duration"), ""),
            ("-", Err("invalid duration"), ""),
            ("1x", Err("invalid duration"), ""),
            ("1n", Err("invalid duration"), ""),
            ("1mo", Err("invalid duration"), ""),
            (
                "20000w",
                Err("overflowed duration 20000w: choose a smaller duration or INF"),
                "",
            ),
        ];
        for (text, expected, written) in cases {
            let got = parse_duration(text).map_err(|e| e.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text}");
            if let Ok(nanos) = got {
                assert_eq!(format_duration(nanos), written, "{text}");
            }
        }
    }

    #[test]
    fn calendar_durations() {
        let cases = [("1mo", Ok(1)), ("1y", Ok(12)), ("1y6mo", Ok(18))];
        for (text, expected) in cases {
            assert_eq!(parse_months(text), expected);
        }
        assert_eq!(parse_months("1mo2d"), Err(DurationError::Invalid));
    }

    #[test]
    fn go_notation() {
        let cases = [
            (0, "0s"),
            (7 * DAY, "168h0m0s"),
            (90 * SECOND, "1m30s"),
            (1_500_000_000, "1.5s"),
            (250 * MILLISECOND, "250ms"),
            (1_500, "1.5µs"),
            (-HOUR, "-1h0m0s"),
            (42, "42ns"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(format_go_duration(nanos), expected);
        }
    }
}
