//! What `raw` and `folding` share: the tasks of all inputs, how many threads they are worth, and the limit of groups.

use super::groups::Groups;
use super::reading::Reading;
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::workers::VALUES_PER_WORKER;

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

/// Is the limit of values kept by so many rows of so many columns?
///
/// # Errors
/// It is not.
pub fn check_values(ctx: &Context<'_>, rows: u64, columns: usize) -> Result<(), QueryError> {
    let values = rows.saturating_mul(columns.max(1) as u64);
    match ctx.limits.values_max {
        Some(values_max) if values > values_max => Err(QueryError::Limit(format!(
            "too many values to read (query_values_max {values_max})"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Workers;
    use std::collections::HashSet;
    use std::sync::{Barrier, Mutex};
    use std::thread::{ThreadId, current};

    /// The threads that do tasks worth so many rows of so many columns, where three are free to help.
    fn threads(rows: u64, columns: usize) -> HashSet<ThreadId> {
        let workers = Workers::new(3);
        let helpers = helpers(rows, columns);
        // Every thread there is takes one task, and waits for the others.
        let expected = 1 + helpers.min(3);
        let (all, barrier) = (Mutex::new(HashSet::new()), Barrier::new(expected));
        let outcome = workers.run(
            expected,
            helpers,
            || (),
            |(), _| {
                barrier.wait();
                all.lock().expect("no panic").insert(current().id());
                Ok::<(), ()>(())
            },
        );
        assert!(outcome.is_ok());
        all.into_inner().expect("no panic")
    }

    #[test]
    fn small_queries_stay_on_the_thread_they_came_with() {
        for (rows, columns) in [(0, 1), (1, 10), (49_999, 10), (499_999, 1)] {
            assert_eq!(
                threads(rows, columns),
                HashSet::from([current().id()]),
                "{rows} {columns}"
            );
        }
        assert_eq!(threads(50_000, 10).len(), 2);
        assert_eq!(threads(u64::MAX, 10).len(), 4);
    }
}
