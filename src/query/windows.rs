//! The windows of `GROUP BY time(..)`: of fixed length, or of calendar months; in a time zone; rolling or not.

use super::error::QueryError;
use super::time::constant;
use crate::lang::{Expr, SelectStatement};
use crate::model::time::{TIME_MAX, TIME_MIN};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

const DAY: i64 = 86_400_000_000_000;

/// How a SELECT's rows are cut into windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Length in nanoseconds, positive. Of calendar windows about the length of one.
    pub step: i64,
    /// Shift of the borders in nanoseconds.
    pub offset: i64,
    /// Calendar windows are so many months long; 0 for windows of fixed length.
    pub months: i64,
    /// Borders are local midnights and so on in this zone.
    pub zone: TimeZone,
    /// A row is computed of what lies in so many nanoseconds before the end of its window; `None`: of its window.
    pub over: Option<i64>,
}

impl Windows {
    /// Windows of fixed length, in UTC.
    pub fn fixed(step: i64, offset: i64) -> Self {
        Self {
            step,
            offset: offset.rem_euclid(step.max(1)),
            months: 0,
            zone: TimeZone::UTC,
            over: None,
        }
    }

    /// Of a statement's `GROUP BY time(..)`, if it has one.
    ///
    /// # Errors
    /// Its arguments make no sense.
    pub fn of(statement: &SelectStatement, now: i64, zone: &TimeZone) -> Result<Option<Self>, QueryError> {
        let fail = |text: &str| Err(QueryError::statement(text));
        let times = statement.dimensions.iter().filter(|d| d.time().is_some()).count();
        if times > 1 {
            return fail("multiple time dimensions not allowed");
        }
        let Some(time) = statement.time_dimension() else {
            return Ok(None);
        };
        if !(1..=2).contains(&(time.args - usize::from(time.over.is_some()))) {
            return fail("time dimension expected 1 or 2 arguments");
        }
        let (step, months) = match time.interval {
            Some(Expr::Duration(0)) => return Ok(None),
            Some(Expr::Duration(step)) if *step > 0 => (*step, 0),
            Some(Expr::Months(months)) if *months > 0 => (30 * DAY * months, *months),
            Some(Expr::Duration(_) | Expr::Months(_)) => return fail("time dimension must be positive"),
            _ => return fail("time dimension must have duration argument"),
        };
        let offset = match time.offset {
            None => 0,
            Some(Expr::Duration(offset)) if months > 0 => *offset,
            Some(_) if months > 0 => return fail("the offset of calendar windows must be a duration"),
            Some(Expr::Duration(offset)) => *offset,
            Some(Expr::Call(call)) if call.name == "now" && call.args.is_empty() => now,
            Some(Expr::Call(call)) if call.name == "now" => {
                return fail("time dimension offset now() function requires no arguments");
            }
            Some(Expr::Call(_)) => return fail("time dimension offset function must be now()"),
            Some(text @ Expr::String(_)) => constant(text, now, zone)?,
            Some(sum @ Expr::Binary(_)) => constant(sum, now, zone)?,
            Some(_) => return fail("time dimension offset must be duration or now()"),
        };
        let over = match time.over {
            None => None,
            Some(Expr::Duration(width)) if *width > 0 && months == 0 => {
                // The row of a window is about that window at least.
                if *width < step {
                    return fail("over must be at least as long as the window");
                }
                (*width != step).then_some(*width)
            }
            Some(_) if months > 0 => {
                return fail("calendar windows cannot roll: over needs windows of fixed length");
            }
            Some(_) => return fail("over must be a positive duration"),
        };
        Ok(Some(Self {
            step,
            offset: if months > 0 {
                offset
            } else {
                offset.rem_euclid(step)
            },
            months,
            zone: zone.clone(),
            over,
        }))
    }

    /// First nanosecond of the window that a time is in.
    #[inline]
    pub fn start(&self, time: i64) -> i64 {
        if self.months > 0 {
            return self.month(time, 0);
        }
        let shifted = i128::from(time) - i128::from(self.offset);
        let utc = self.zone == TimeZone::UTC;
        let local = if utc { 0 } else { self.zone_offset(clamp(shifted)) };
        let rest = (shifted + i128::from(local)).rem_euclid(i128::from(self.step));
        let start = clamp(i128::from(time) - rest);
        if utc {
            return start;
        }
        // Across a change of the clocks the border moves with the local time.
        start.saturating_add(self.moved(local, start))
    }

    /// First nanosecond of the next window.
    #[inline]
    pub fn next(&self, start: i64) -> i64 {
        if self.months > 0 {
            return self.month(start, 1);
        }
        let next = start.saturating_add(self.step);
        if self.zone == TimeZone::UTC {
            return next;
        }
        next.saturating_add(self.moved(self.zone_offset(start), next))
    }

    /// First nanosecond of the `n`th window before one.
    pub fn back(&self, start: i64, n: i64) -> i64 {
        if self.months > 0 {
            return self.month(start, n.saturating_neg());
        }
        let far = start.saturating_sub(self.step.saturating_mul(n));
        if self.zone == TimeZone::UTC || n == 0 {
            return far.max(TIME_MIN);
        }
        // The middle of that window, whatever the clocks did.
        self.start(far.saturating_add(self.step / 2)).max(TIME_MIN)
    }

    /// So much earlier by the clocks of the zone: seven days before a midnight is a midnight.
    pub fn earlier(&self, time: i64, by: i64) -> i64 {
        let plain = time.saturating_sub(by);
        if self.zone == TimeZone::UTC {
            return plain;
        }
        plain.saturating_add(self.moved(self.zone_offset(time), plain))
    }

    /// How much a border moves when the clocks show something else there than they did; not at all when that is no less than
    /// a window.
    fn moved(&self, before: i64, border: i64) -> i64 {
        let moved = before - self.zone_offset(border);
        if moved.abs() < self.step { moved } else { 0 }
    }

    fn zone_offset(&self, time: i64) -> i64 {
        i64::from(self.zone.to_offset(stamp(time)).seconds()) * 1_000_000_000
    }

    /// Start of the calendar window that a time is in, or of one so many windows later.
    fn month(&self, time: i64, later: i64) -> i64 {
        let local: Zoned = stamp(time.saturating_sub(self.offset)).to_zoned(self.zone.clone());
        let index = i64::from(local.year()) * 12 + i64::from(local.month()) - 1;
        let wanted = index
            .div_euclid(self.months)
            .saturating_add(later)
            .saturating_mul(self.months);
        let (year, month) = (wanted.div_euclid(12), wanted.rem_euclid(12) + 1);
        let date = i16::try_from(year)
            .ok()
            .and_then(|year| Date::new(year, month as i8, 1).ok());
        let start = date.and_then(|date| date.to_zoned(self.zone.clone()).ok());
        let nanos = start.and_then(|start| i64::try_from(start.timestamp().as_nanosecond()).ok());
        let end = if later > 0 { TIME_MAX } else { TIME_MIN };
        nanos.map_or(end, |nanos| nanos.saturating_add(self.offset))
    }
}

fn stamp(time: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time)).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn clamp(time: i128) -> i64 {
    time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::time::parse_time;

    fn at(text: &str) -> i64 {
        parse_time(text, &TimeZone::UTC).expect("a time")
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a known zone")
    }

    #[test]
    fn fixed_windows_begin_at_multiples() {
        let windows = Windows::fixed(10, 3);
        for (time, want) in [(0, -7), (2, -7), (3, 3), (12, 3), (13, 13), (-8, -17)] {
            assert_eq!(windows.start(time), want, "{time}");
        }
        assert_eq!((windows.next(3), windows.back(3, 2)), (13, -17));
        assert!(windows.start(i64::MIN) <= i64::MIN + 10);
        assert_eq!(windows.next(i64::MAX - 1), i64::MAX);
    }

    #[test]
    fn days_are_local_days() {
        let day = Windows {
            zone: zone("Europe/Berlin"),
            ..Windows::fixed(DAY, 0)
        };
        // The clocks go from UTC+1 to UTC+2 at 01:00 UTC, and back in autumn.
        let spring = day.start(at("2020-03-29T10:00:00Z"));
        assert_eq!(spring, at("2020-03-28T23:00:00Z"));
        assert_eq!(day.next(spring), at("2020-03-29T22:00:00Z"));
        let autumn = day.start(at("2020-10-25T12:00:00Z"));
        assert_eq!(autumn, at("2020-10-24T22:00:00Z"));
        assert_eq!(day.next(autumn), at("2020-10-25T23:00:00Z"));
        assert_eq!(day.back(day.next(autumn), 2), at("2020-10-23T22:00:00Z"));
        // Windows shorter than the change of the clocks go on in their step.
        let short = Windows {
            step: 600_000_000_000,
            ..day
        };
        assert_eq!(short.next(at("2020-10-25T00:50:00Z")), at("2020-10-25T01:00:00Z"));
    }

    #[test]
    fn months_and_years_are_those_of_the_calendar() {
        let month = |months, zone| Windows {
            months,
            zone,
            ..Windows::fixed(30 * DAY, 0)
        };
        let utc = month(1, TimeZone::UTC);
        assert_eq!(utc.start(at("2024-02-29T23:59:59Z")), at("2024-02-01T00:00:00Z"));
        assert_eq!(utc.next(at("2024-02-01T00:00:00Z")), at("2024-03-01T00:00:00Z"));
        assert_eq!(
            utc.back(at("2024-01-01T00:00:00Z"), 1),
            at("2023-12-01T00:00:00Z")
        );
        let quarter = month(3, TimeZone::UTC);
        assert_eq!(
            quarter.start(at("2024-06-30T00:00:00Z")),
            at("2024-04-01T00:00:00Z")
        );
        let year = month(12, TimeZone::UTC);
        assert_eq!(year.start(at("1969-05-05T00:00:00Z")), at("1969-01-01T00:00:00Z"));
        let berlin = month(1, zone("Europe/Berlin"));
        assert_eq!(
            berlin.start(at("2024-03-31T23:00:00Z")),
            at("2024-03-31T22:00:00Z")
        );
        assert_eq!(
            berlin.next(at("2024-02-29T23:00:00Z")),
            at("2024-03-31T22:00:00Z")
        );
        let shifted = Windows { offset: DAY, ..utc };
        assert_eq!(
            shifted.start(at("2024-02-01T12:00:00Z")),
            at("2024-01-02T00:00:00Z")
        );
    }

    #[test]
    fn windows_follow_each_other_without_gaps() {
        for name in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kathmandu",
        ] {
            for (step, months) in [
                (DAY, 0),
                (7 * DAY, 0),
                (6 * 3_600_000_000_000, 0),
                (30 * DAY, 1),
                (360 * DAY, 12),
            ] {
                let windows = Windows {
                    months,
                    zone: zone(name),
                    ..Windows::fixed(step, 0)
                };
                let mut start = windows.start(at("2019-12-30T00:00:00Z"));
                for _ in 0..if months > 0 { 200 } else { 500 } {
                    let next = windows.next(start);
                    assert!(next > start, "{name} {step} {months}: {start} {next}");
                    for inside in [start, start + (next - start) / 2, next - 1] {
                        assert_eq!(windows.start(inside), start, "{name} {step} {months}");
                    }
                    start = next;
                }
            }
        }
    }
}
