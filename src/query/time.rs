//! Time in queries: literals, time zones, windows.

use super::error::QueryError;
use crate::lang::{BinaryOp, Expr};
use crate::model::time::TIME_MAX;
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
}
