//! What `raw` and `folding` share: the tasks of all inputs, how many threads they are worth, and the limit of groups.

use super::groups::Groups;
use super::reading::Reading;
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;

/// Rows times columns that one thread works on before another is worth its start.
const VALUES_PER_WORKER: u64 = 200_000;

/// The tasks of all inputs: which input, which of its tasks.
pub fn tasks(readings: &[Reading<'_>]) -> Vec<(usize, usize)> {
    let each = readings.iter().enumerate();
    each.flat_map(|(reading, r)| (0..r.tasks()).map(move |task| (reading, task)))
        .collect()
}

/// Rows that may be read, roughly.
pub fn rows(readings: &[Reading<'_>]) -> u64 {
    readings.iter().map(Reading::rows).sum()
}

/// No row lies outside this.
pub fn time(readings: &[Reading<'_>]) -> TimeRange {
    let none = TimeRange {
        min: i64::MAX,
        max: i64::MIN,
    };
    readings.iter().map(Reading::time).fold(none, |a, b| TimeRange {
        min: a.min.min(b.min),
        max: a.max.max(b.max),
    })
}

/// Threads that are worth their start for so many rows of so many columns, beside the one that asks.
pub fn helpers(rows: u64, columns: usize) -> usize {
    usize::try_from(rows.saturating_mul(columns as u64) / VALUES_PER_WORKER).unwrap_or(usize::MAX)
}

/// Is the limit of groups kept?
///
/// # Errors
/// It is not.
pub fn check_groups(ctx: &Context<'_>, groups: &Groups) -> Result<(), QueryError> {
    let groups_max = ctx.limits.groups_max;
    if groups.len() > groups_max {
        return Err(QueryError::Limit(format!(
            "too many series in the result (query_groups_max {groups_max})"
        )));
    }
    Ok(())
}
