//! LIMIT of windows without folding everything: the windows that come first in the answer are looked at first, and if every
//! group has all its wanted rows there, the rest is not read.
//!
//! A row depends on its own window alone where windows neither overlap nor are filled from their neighbours, so a narrower
//! range gives the same rows as the whole, as long as the group and each of its columns has a point in it: without one,
//! `fill` would leave out what it would have filled.

use super::finishing::Finish;
use super::reading::Reading;
use super::{Call, Prepared, work};
use crate::lang::Fill;
use crate::model::TimeRange;
use crate::model::time::TIME_MIN;
use crate::query::error::QueryError;
use crate::query::input::Input;

/// More rows than this of a group are not looked for.
const ROWS_MAX: u64 = 10_000;
/// Fewer rows in all are read as fast as they are looked at twice.
const ROWS_WORTH: u64 = 30_000;
/// How many times more windows are looked at in each attempt.
const WIDENED: [i64; 3] = [1, 8, 64];

/// Ranges of time to try one after the other, each larger. None where it does not pay or would change the answer.
pub fn ranges(prepared: &Prepared, inputs: &[Input], readings: &[Reading<'_>]) -> Vec<TimeRange> {
    let Some(windows) = prepared.windows.as_ref().filter(|w| w.over.is_none()) else {
        return Vec::new();
    };
    let wanted = prepared.limit.saturating_add(prepared.offset);
    let plain = |call: &Call| matches!(call, Call::Aggregate { function, .. } if !function.gives_many());
    let filled_apart = !matches!(prepared.fill, Fill::Previous | Fill::Linear);
    let stored = |input: &Input| matches!(input, Input::Stored(_));
    let fits = prepared.limit > 0
        && wanted <= ROWS_MAX
        && filled_apart
        && prepared.read == prepared.time
        && prepared.calls.iter().all(plain)
        && inputs.iter().all(stored)
        && (prepared.ascending || prepared.time.max < TimeRange::ALL.max)
        // Without a lower bound, what is filled begins where the data does.
        && (!prepared.ascending || prepared.fill == Fill::None || prepared.time.min > TIME_MIN)
        && work::rows(readings) >= ROWS_WORTH;
    if !fits {
        return Vec::new();
    }
    let there = work::time(readings);
    let time = prepared.time;
    let range = |factor: i64| -> Option<TimeRange> {
        let count = i64::try_from(wanted).ok()?.checked_mul(factor)?;
        let narrow = if prepared.ascending {
            let from = if prepared.fill == Fill::None {
                time.min.max(there.min)
            } else {
                time.min
            };
            let mut end = windows.start(from);
            for _ in 0..count {
                end = Some(windows.next(end)).filter(|next| *next > end)?;
            }
            TimeRange {
                min: time.min,
                max: end.checked_sub(1)?,
            }
        } else {
            let to = if prepared.fill == Fill::None {
                time.max.min(there.max)
            } else {
                time.max
            };
            TimeRange {
                min: windows.back(windows.start(to), count - 1),
                max: time.max,
            }
        };
        let looked_at = narrow.intersect(&there);
        let half = (there.max as i128 - there.min as i128) / 2;
        let narrower = narrow.min > time.min || narrow.max < time.max;
        let worth = (looked_at.max as i128 - looked_at.min as i128) < half;
        (narrower && worth && time.min <= narrow.min && narrow.max <= time.max).then_some(narrow)
    };
    WIDENED.into_iter().map_while(range).collect()
}

/// Has every group that there may be all the rows that are wanted of it, in a narrower range?
///
/// # Errors
/// The index cannot be read.
pub fn is_enough(
    prepared: &Prepared,
    readings: &[Reading<'_>],
    finish: &Finish<'_>,
) -> Result<bool, QueryError> {
    let groups = match prepared.dimensions.is_empty() {
        true => Some(1),
        false => Reading::groups(readings)?,
    };
    if groups != Some(finish.groups()) {
        return Ok(false);
    }
    let wanted = prepared.limit.saturating_add(prepared.offset) as usize;
    let unbounded = prepared.time.min == TIME_MIN;
    for group in 0..finish.groups() as u32 {
        let (rows, firsts) = finish.rows(group);
        let enough = match prepared.fill {
            Fill::None => rows >= wanted,
            // What is filled begins at the first point, which may lie before the range, but not within.
            _ if unbounded => firsts.iter().all(|first| *first == Some(true)),
            _ => firsts.iter().all(Option::is_some),
        };
        if !enough {
            return Ok(false);
        }
    }
    Ok(true)
}
