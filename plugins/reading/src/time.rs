//! Times in text to nanoseconds UTC: RFC 3339, decimal seconds, and numbers of a unit.

use crate::number::{DIGITS_MAX, digits};

const SECOND: i64 = 1_000_000_000;

/// Nanoseconds of a unit: `n`, `ns`, `u`, `us`, `ms`, `s`, `m`, `h`.
pub fn unit(name: &str) -> Option<i64> {
    Some(match name {
        "n" | "ns" => 1,
        "u" | "us" | "µ" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// A number of so many nanoseconds, or RFC 3339.
    Unit(i64),
    /// A number whose size tells its unit (seconds, milliseconds, microseconds or nanoseconds since 1970), or RFC 3339.
    Auto,
}

/// What users may write for [`TimeUnit`].
pub const TIME_UNITS: &str = "ns, us, ms, s, m, h, rfc3339 or auto";

impl TimeUnit {
    /// Of a name; see [`TIME_UNITS`].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            // Texts are read under every unit.
            "rfc3339" => Some(Self::Unit(1)),
            name => unit(name).map(Self::Unit),
        }
    }

    /// Of the options `time_unit` and `precision`, as InfluxDB calls it; nanoseconds without them.
    ///
    /// # Errors
    /// The option's name, and what is wrong.
    pub fn of_options<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, (&'static str, String)> {
        for name in ["time_unit", "precision"] {
            if let Some(unit) = get(name) {
                let invalid = || (name, format!("invalid {name} \"{unit}\" (use {TIME_UNITS})"));
                return Self::from_name(unit).ok_or_else(invalid);
            }
        }
        Ok(Self::Unit(1))
    }

    /// Reads a time; `None` when it is none, or out of range.
    pub fn read(self, text: &str) -> Option<i64> {
        if let Some((number, len)) = whole_number(text.as_bytes())
            && len == text.len()
        {
            return self.whole(number);
        }
        let plain = text.strip_prefix('-').unwrap_or(text);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return match self.number(text) {
                None => rfc3339(text),
                found => found,
            };
        }
        self.number(text)
    }

    /// A decimal number of the unit, exactly: what is finer than a nanosecond is cut off.
    pub fn number(self, text: &str) -> Option<i64> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let negative = whole.starts_with('-');
        let digits = whole.strip_prefix('-').unwrap_or(whole);
        let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if (digits.is_empty() && fraction.is_empty()) || !all_digits(digits) || !all_digits(fraction) {
            return None;
        }
        // Of what is beyond these many digits nothing is left in nanoseconds, and numbers stay in i128.
        let fraction = &fraction[..fraction.len().min(20)];
        if digits.len() > 20 || exponent.abs() > 20 {
            return None;
        }
        let number: i128 = format!("{digits}{fraction}").parse().ok()?;
        let scale = fraction.len() as i32 - exponent;
        let unit = match self {
            Self::Unit(unit) => unit,
            Self::Auto => auto_unit(scaled(number, scale)?),
        };
        let nanoseconds = scaled(number.checked_mul(i128::from(unit))?, scale)?;
        i64::try_from(if negative { -nanoseconds } else { nanoseconds }).ok()
    }

    /// A whole number of the unit; `None` when it is out of range.
    #[inline]
    pub fn whole(self, number: i64) -> Option<i64> {
        let unit = match self {
            Self::Unit(unit) => unit,
            Self::Auto => auto_unit(i128::from(number).abs()),
        };
        number.checked_mul(unit)
    }
}

/// The digits at the beginning of `bytes` as a number, and how many they are: 1 to 19, as a time in nanoseconds has them. `None` where
/// care is needed.
#[inline]
pub fn whole_number(bytes: &[u8]) -> Option<(i64, usize)> {
    let (number, len) = digits(bytes, 0, 0);
    if len > DIGITS_MAX {
        return None;
    }
    let number = i64::try_from(number).ok()?;
    (len > 0).then_some((number, len))
}

fn scaled(number: i128, scale: i32) -> Option<i128> {
    let power = 10i128.checked_pow(scale.unsigned_abs())?;
    if scale >= 0 {
        Some(number / power)
    } else {
        number.checked_mul(power)
    }
}

/// Until the year 5138, seconds have 11 digits at most, and so on; from 1973 on, milliseconds have 12, and so on.
fn auto_unit(size: i128) -> i64 {
    match size {
        0..100_000_000_000 => SECOND,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

/// Decimal seconds, as `1700000000.25`.
pub fn seconds(text: &str) -> Option<i64> {
    TimeUnit::Unit(SECOND).number(text)
}

/// `2026-11-01T12:30:00Z`, with a fraction of a second, with an offset; a space for the `T`, and a date alone, are taken, too.
pub fn rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = bytes.get(range)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !is(4, b"-") || !is(7, b"-") || !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let days = days_since_1970(year, month, day);
    if bytes.len() == 10 {
        return days.checked_mul(86_400)?.checked_mul(SECOND);
    }
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    // 60 is a leap second: the second after.
    let in_range = hour < 24 && minute < 60 && second <= 60;
    if !is(10, b"Tt ") || !is(13, b":") || !is(16, b":") || !in_range {
        return None;
    }
    let mut at = 19;
    let mut nanoseconds = 0;
    if is(at, b".,") {
        let start = at + 1;
        at = start;
        let mut unit = SECOND / 10;
        while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
            nanoseconds += i64::from(digit - b'0') * unit;
            unit /= 10;
            at += 1;
        }
        if at == start {
            return None;
        }
    }
    let offset = match bytes.get(at)? {
        b'Z' | b'z' if at + 1 == bytes.len() => 0,
        sign @ (b'+' | b'-') if at + 6 == bytes.len() && is(at + 3, b":") => {
            let (hours, minutes) = (number(at + 1..at + 3)?, number(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    // Through i128: at the ends of the range the whole second alone may be outside.
    i64::try_from(i128::from(seconds) * i128::from(SECOND) + i128::from(nanoseconds)).ok()
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01, in the proleptic Gregorian calendar. Years begin in March here, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days_of_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days_of_months = (153 * month + 2) / 5;
    days_of_years + days_of_months + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whole_numbers_are_read_as_by_the_careful_way(text in "-?[0-9]{1,21}[.e]?[0-9]{0,2}", unit in "ns|us|ms|s|m|h|auto") {
            let unit = TimeUnit::from_name(&unit).expect("a unit");
            prop_assert_eq!(unit.read(&text), unit.number(&text));
        }
    }

    #[test]
    fn rfc3339_times() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-01T00:00:00Z", Some(1_793_491_200 * SECOND)),
            ("2026-11-01T02:00:00+02:00", Some(1_793_491_200 * SECOND)),
            (
                "2026-10-31T18:30:00.5-05:30",
                Some(1_793_491_200 * SECOND + SECOND / 2),
            ),
            ("2024-02-29 12:00:00.123456789Z", Some(1_709_208_000_123_456_789)),
            ("1969-12-31T23:59:59.999999999Z", Some(-1)),
            ("2000-03-01", Some(951_868_800 * SECOND)),
            ("1677-09-21T00:12:43.145224194Z", Some(i64::MIN + 2)),
            ("2262-04-11T23:47:16.854775807Z", Some(i64::MAX)),
            ("2262-04-11T23:47:16.854775808Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-00T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00", None),
            ("2023-01-01T00:00:00.Z", None),
            ("2023-01-01T00:00:00+2:00", None),
            ("2023-01-01T00:00:00Zx", None),
            ("ü023-01-01", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text), want, "{text}");
        }
    }

    #[test]
    fn days_are_counted_one_by_one() {
        let (mut days, mut count) = (days_since_1970(1600, 1, 1), 0);
        for year in 1600..2400 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
                    days += 1;
                    count += 1;
                }
            }
        }
        assert_eq!(count, 2 * 146_097, "two times 400 years");
        assert_eq!(days_since_1970(1970, 1, 1), 0);
    }

    #[test]
    fn numbers_of_a_unit() {
        let s = TimeUnit::Unit(SECOND);
        for (unit, text, want) in [
            (s, "1700000000", Some(1_700_000_000 * SECOND)),
            (s, "1700000000.123456789", Some(1_700_000_000_123_456_789)),
            (s, "-1.5", Some(-1_500_000_000)),
            (s, "1.7e9", Some(1_700_000_000 * SECOND)),
            (s, "1e-9", Some(1)),
            (s, "9223372037", None),
            (s, "1e400", None),
            (s, "1.2.3", None),
            (s, "", None),
            (s, "-", None),
            (s, ".", None),
            (TimeUnit::Unit(1), "1.9", Some(1)),
            (s, "1970-01-01T00:00:01Z", Some(SECOND)),
            (TimeUnit::Auto, "1700000000", Some(1_700_000_000 * SECOND)),
            (
                TimeUnit::Auto,
                "1700000000.5",
                Some(1_700_000_000 * SECOND + SECOND / 2),
            ),
            (TimeUnit::Auto, "1700000000001", Some(1_700_000_000_001_000_000)),
            (
                TimeUnit::Auto,
                "1700000000000001",
                Some(1_700_000_000_000_001_000),
            ),
            (
                TimeUnit::Auto,
                "1700000000000000001",
                Some(1_700_000_000_000_000_001),
            ),
        ] {
            assert_eq!(unit.read(text), want, "{unit:?} {text}");
        }
        assert_eq!(TimeUnit::Auto.whole(1_700_000_000), Some(1_700_000_000 * SECOND));
        assert_eq!(s.whole(i64::MAX), None);
        assert_eq!(TimeUnit::from_name("fortnight"), None);
    }
}
