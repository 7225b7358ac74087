//! The first or the last row of each series of a block, from its steps: for `LIMIT 1`, which would decode a block to read a
//! row of it.

use crate::block::steps::{StepKeys, StepNumbers, StepStats};
use crate::model::{Bitmap, Column, Values};
use crate::query::error::QueryError;
use crate::query::scan::batch::Held;
use crate::query::scan::{FieldSteps, SeriesRun, Steps};

/// Rows, each the only one of its series.
pub struct Tails {
    /// One a series.
    pub runs: Vec<SeriesRun>,
    /// One a series.
    pub times: Vec<i64>,
    /// The columns of the request, as far as they were asked for.
    pub cells: Held,
}

/// The last rows of the series (or the first), with the values of some fields of a request of so many; `None` where one cannot be
/// told: the time ends within a step, or the row has none of these fields.
///
/// # Errors
/// Damage, or a read that failed.
pub fn tails(
    steps: &Steps<'_>,
    fields: &[usize],
    request_fields: usize,
    ascending: bool,
) -> Result<Option<Tails>, QueryError> {
    let keys = &*steps.keys;
    let chosen: Vec<u32> = steps
        .wanted
        .chunk_by(|a, b| keys.series[*a as usize] == keys.series[*b as usize])
        .filter_map(|of_series| {
            if ascending {
                of_series.first()
            } else {
                of_series.last()
            }
        })
        .copied()
        .collect();
    let time = |step: &u32| match ascending {
        true => keys.first[*step as usize],
        false => keys.last[*step as usize],
    };
    let times: Vec<i64> = chosen.iter().map(time).collect();
    if !times.iter().all(|time| steps.time.contains(*time)) {
        return Ok(None);
    }
    let mut columns: Vec<Option<Column>> = (0..request_fields).map(|_| None).collect();
    for &at in fields {
        columns[at] = match steps.field(at)? {
            FieldSteps::Absent => None,
            FieldSteps::Known(stats) => Some(of_steps(keys, &stats, &chosen, ascending)),
            FieldSteps::Unknown => {
                let first_rows = steps.first_rows();
                let row = |step: &u32| match ascending {
                    true => first_rows[steps.place(*step)],
                    false => first_rows[steps.place(*step) + 1] - 1,
                };
                let rows: Vec<u32> = chosen.iter().map(row).collect();
                steps.column(at)?.map(|column| column.gather(&rows))
            }
        };
    }
    let is_row = |row: usize| columns.iter().flatten().any(|column| column.has(row));
    if !(0..chosen.len()).all(is_row) {
        return Ok(None);
    }
    let run = |(row, step): (u32, &u32)| SeriesRun {
        series: keys.series[*step as usize],
        start: row,
        end: row + 1,
    };
    Ok(Some(Tails {
        runs: (0u32..).zip(&chosen).map(run).collect(),
        times,
        cells: Held(columns),
    }))
}

/// The values of a field in the first or last rows of some steps.
fn of_steps(keys: &StepKeys, stats: &StepStats, chosen: &[u32], ascending: bool) -> Column {
    macro_rules! edge {
        ($columns:expr) => {{
            let values = if ascending {
                &$columns.first
            } else {
                &$columns.last
            };
            chosen.iter().map(|&step| values[step as usize]).collect()
        }};
    }
    let values = match &stats.numbers {
        StepNumbers::Float(columns) => Values::Float(edge!(columns)),
        StepNumbers::Integer(columns) => Values::Integer(edge!(columns)),
        StepNumbers::Unsigned(columns) => Values::Unsigned(edge!(columns)),
    };
    let present = stats.sparse.as_ref().map(|sparse| {
        let mut present = Bitmap::new();
        for &step in chosen {
            let step = step as usize;
            let same = match ascending {
                true => sparse.first[step] == keys.first[step],
                false => sparse.last[step] == keys.last[step],
            };
            present.push(sparse.count[step] > 0 && same);
        }
        present
    });
    Column { values, present }
}
