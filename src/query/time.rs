//! Time in queries: literals, time zones, windows.

use super::error::QueryError;
use crate::lang::{BinaryOp, Expr};
use crate::model::time::{TIME_MAX, TIME_MIN};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Nanoseconds of a time string: RFC 3339, or `2006-01-02[ T]15:04:05.999`, or a date, in `zone`.
pub fn parse_time(text: &str, zone: &TimeZone) -> Option<i64> {
    let nanos = |time: Timestamp| i64::try_from(time.as_nanosecond()).ok();
    if let Ok(time) = text.parse::<Timestamp>() {
        return nanos(time);
    }
    let civil = text.parse::<DateTime>().ok()?;
    nanos(zone.to_ambiguous_timestamp(civil).compatible().ok()?)
}

/// The zone of `tz('..')`.
///
/// # Errors
/// There is none of that name.
pub fn zone(name: Option<&str>) -> Result<TimeZone, QueryError> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => {
            TimeZone::get(name).map_err(|_| QueryError::statement(format!("unable to find time zone {name}")))
        }
    }
}

/// What a constant expression beside `time` amounts to, in nanoseconds: a time or a duration.
///
/// # Errors
/// It is no constant, or no time.
pub fn constant(expr: &Expr, now: i64, zone: &TimeZone) -> Result<i64, QueryError> {
    let value = match expr.unparen() {
        Expr::Integer(v) | Expr::Duration(v) => *v,
        Expr::Number(v) => *v as i64,
        Expr::Unsigned(_) => TIME_MAX,
        Expr::Call(call) if call.name == "now" && call.args.is_empty() => now,
        Expr::String(text) => parse_time(text, zone).ok_or_else(|| {
            QueryError::statement(format!(
                "invalid time literal: '{text}' (write '2006-01-02T15:04:05Z')"
            ))
        })?,
        Expr::Binary(binary) => {
            let lhs = constant(&binary.lhs, now, zone)?;
            let rhs = constant(&binary.rhs, now, zone)?;
            match binary.op {
                BinaryOp::Add => lhs.saturating_add(rhs),
                BinaryOp::Sub => lhs.saturating_sub(rhs),
                BinaryOp::Mul => lhs.saturating_mul(rhs),
                BinaryOp::Div if rhs != 0 => lhs / rhs,
                _ => return Err(QueryError::statement("invalid operation in a time expression")),
            }
        }
        _ => return Err(QueryError::statement("invalid time expression")),
    };
    Ok(value)
}

/// The windows of `GROUP BY time(..)`.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Length in nanoseconds, positive.
    pub step: i64,
    /// Shift of the borders in nanoseconds.
    pub offset: i64,
    /// Borders are local midnights and so on in this zone.
    pub zone: TimeZone,
}

impl Windows {
    /// First nanosecond of the window that a time is in.
    #[inline]
    pub fn start(&self, time: i64) -> i64 {
        let local = if self.zone == TimeZone::UTC {
            0
        } else {
            self.zone_offset(time)
        };
        let shifted = i128::from(time) - i128::from(self.offset) + i128::from(local);
        let start =
            shifted - shifted.rem_euclid(i128::from(self.step)) + i128::from(self.offset) - i128::from(local);
        if local != 0 || self.zone != TimeZone::UTC {
            // Across a change of the clocks the border moves with the local time.
            let at_start = self.zone_offset(start.clamp(i128::from(TIME_MIN), i128::from(TIME_MAX)) as i64);
            return clamp(start + i128::from(local) - i128::from(at_start));
        }
        clamp(start)
    }

    /// First nanosecond of the next window.
    #[inline]
    pub fn next(&self, start: i64) -> i64 {
        let next = start.saturating_add(self.step);
        if self.zone == TimeZone::UTC {
            return next;
        }
        let shift = self.zone_offset(start) - self.zone_offset(next);
        if shift % self.step == 0 {
            next
        } else {
            next.saturating_add(shift)
        }
    }

    fn zone_offset(&self, time: i64) -> i64 {
        let time = Timestamp::from_nanosecond(i128::from(time)).unwrap_or(Timestamp::UNIX_EPOCH);
        i64::from(self.zone.to_offset(time).seconds()) * 1_000_000_000
    }
}

fn clamp(time: i128) -> i64 {
    time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// RFC 3339 with as many digits as needed, in a zone.
pub fn format_time(time: i64, zone: &TimeZone, out: &mut String) {
    use std::fmt::Write;
    let Ok(stamp) = Timestamp::from_nanosecond(i128::from(time)) else {
        let _ = write!(out, "{time}");
        return;
    };
    if *zone == TimeZone::UTC {
        let _ = write!(out, "{stamp}");
    } else {
        let local = stamp.to_zoned(zone.clone());
        let _ = write!(out, "{}", local.datetime());
        let seconds = local.offset().seconds();
        if seconds == 0 {
            out.push('Z');
        } else {
            let sign = if seconds < 0 { '-' } else { '+' };
            let _ = write!(
                out,
                "{sign}{:02}:{:02}",
                seconds.abs() / 3600,
                seconds.abs() / 60 % 60
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_strings() {
        let cases = [
            ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
            ("1970-01-01 00:00:01", Some(1_000_000_000)),
            ("1970-01-01T00:00:00.5", Some(500_000_000)),
            ("1970-01-02", Some(86_400_000_000_000)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("yesterday", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_time(text, &TimeZone::UTC), want, "{text}");
        }
    }

    #[test]
    fn windows_begin_at_multiples_and_local_midnights() {
        let utc = Windows {
            step: 10,
            offset: 3,
            zone: TimeZone::UTC,
        };
        for (time, want) in [(0, -7), (2, -7), (3, 3), (12, 3), (13, 13), (-8, -17)] {
            assert_eq!(utc.start(time), want, "{time}");
        }
        let hour = 3_600_000_000_000;
        let zone = TimeZone::get("Europe/Berlin").expect("a known zone");
        let day = Windows {
            step: 24 * hour,
            offset: 0,
            zone,
        };
        // 2020-03-29, the clocks go from UTC+1 to UTC+2 at 01:00 UTC.
        let noon = 1_585_476_000_000_000_000;
        assert_eq!(day.start(noon), 1_585_436_400_000_000_000);
        assert_eq!(day.next(day.start(noon)) - day.start(noon), 23 * hour);
    }
}
