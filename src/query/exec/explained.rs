//! A run over the inputs of one name as EXPLAIN shows it: what is planned, and, if it is to be run, what it cost.

use super::reading::Reading;
use super::setup::Setup;
use super::{Call, Prepared, rolled, run_over, work};
use crate::lang::{Fill, format_duration};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::folds;
use crate::query::functions::aggregate::Aggregate;
use crate::query::input::Input;
use crate::query::result::{Give, Piece, ResultColumn, Series};
use crate::query::scan::ScanStats;
use crate::query::trace::{Scanned, Stages, Trace};
use std::ops::ControlFlow;

/// Runs it, or only opens the inputs, and tells the trace.
///
/// # Errors
/// Those of the run.
pub fn run(
    ctx: &Context<'_>,
    trace: &Trace,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    // Opened once more than the run itself does: that is not its time.
    let readings = Reading::open(ctx, inputs, prepared, prepared.read)?;
    let before = ctx.resources.counters.stats();
    let (mut series, mut rows, mut open) = (0, 0, false);
    let flow = if trace.analyze {
        run_over(ctx, name, inputs, prepared, &mut |piece| {
            rows += piece.series.rows() as u64;
            series += u64::from(!open);
            open = piece.goes_on;
            give(piece)
        })?
    } else {
        if let Some(note) = rolled_note(ctx, inputs, prepared, &readings)? {
            trace.note(note);
        }
        // A series without rows: so that what would read them is planned, too.
        give(Piece::whole(Series {
            name: name.to_string(),
            tags: prepared
                .dimensions
                .iter()
                .map(|d| (d.clone(), String::new()))
                .collect(),
            columns: prepared.names(),
            times: Vec::new(),
            values: prepared.columns.iter().map(|_| ResultColumn::default()).collect(),
        }))
    };
    let after = ctx.resources.counters.stats();
    trace.scanned(Scanned {
        plan: plan(name, prepared, &readings),
        time: prepared.read,
        inputs: readings.iter().map(Reading::facts).collect(),
        notes: Vec::new(),
        stats: since(&before, &after),
        stages: Stages::default(),
        gave: (series, rows),
    });
    Ok(flow)
}

/// What would be read as states of a rollup. The functions that read for themselves tell when they are planned, too.
fn rolled_note(
    ctx: &Context<'_>,
    inputs: &[Input],
    prepared: &Prepared,
    readings: &[Reading<'_>],
) -> Result<Option<String>, QueryError> {
    if prepared.calls.is_empty() {
        return Ok(None);
    }
    let setup = Setup::of(prepared, readings)?;
    let sets = rolled::of_sets(ctx, &setup, readings)?.map(|rolled| rolled.note);
    let folds = folds::rolled_note(ctx, inputs, prepared)?;
    Ok(match (sets, folds) {
        (Some(sets), Some(folds)) if sets != folds => Some(format!("{sets}; {folds}")),
        (sets, folds) => sets.or(folds),
    })
}

fn since(before: &ScanStats, after: &ScanStats) -> ScanStats {
    ScanStats {
        rows: after.rows - before.rows,
        blocks: after.blocks - before.blocks,
        blocks_pruned: after.blocks_pruned - before.blocks_pruned,
        blocks_whole: after.blocks_whole - before.blocks_whole,
        blocks_steps: after.blocks_steps - before.blocks_steps,
        bytes: after.bytes - before.bytes,
    }
}

fn plan(name: &str, prepared: &Prepared, readings: &[Reading<'_>]) -> Vec<String> {
    let mut by: Vec<String> = Vec::new();
    if let Some(windows) = &prepared.windows {
        let over = windows
            .over
            .map(|over| format!(", over {}", format_duration(over)));
        by.push(match windows.months {
            0 => format!(
                "time({}{})",
                format_duration(windows.step),
                over.unwrap_or_default()
            ),
            months => format!("time({months}mo)"),
        });
    }
    by.extend(prepared.dimensions.iter().cloned());
    let by = match by.is_empty() {
        true => String::new(),
        false => format!(" by {}", by.join(", ")),
    };
    let what = if prepared.calls.is_empty() {
        "gather rows of"
    } else {
        "fold"
    };
    let mut lines = vec![format!("{what} {name}{by}")];
    if !prepared.calls.is_empty() {
        let calls: Vec<String> = prepared.calls.iter().map(call).collect();
        lines.push(format!("functions: {}", calls.join(", ")));
    }
    if let Some(condition) = &prepared.condition {
        lines.push(format!("condition: {condition}"));
    }
    if prepared.windows.is_some() {
        lines.push(match prepared.fill {
            Fill::Null => "empty windows: null".to_string(),
            Fill::None => "empty windows: none".to_string(),
            Fill::Previous => "empty windows: previous".to_string(),
            Fill::Linear => "empty windows: linear".to_string(),
            Fill::Integer(n) => format!("empty windows: {n}"),
            Fill::Float(n) => format!("empty windows: {n}"),
        });
    }
    let order = if prepared.ascending {
        "ascending"
    } else {
        "descending"
    };
    lines.push(match (prepared.limit, prepared.offset) {
        (0, 0) => format!("order: {order}"),
        (0, offset) => format!("order: {order}, without the first {offset} rows of a series"),
        (limit, 0) => format!("order: {order}, at most {limit} rows of a series"),
        (limit, offset) => {
            format!("order: {order}, at most {limit} rows of a series after the first {offset}")
        }
    });
    let width = prepared.calls.len().max(prepared.columns.len());
    let helpers = work::helpers(work::rows(readings), width);
    let tasks: usize = readings.iter().map(Reading::tasks).sum();
    let threads = 1 + helpers.min(tasks.saturating_sub(1));
    lines.push(match threads {
        1 => "threads: the one that asks".to_string(),
        n => format!("threads: up to {n}, as many as are free"),
    });
    lines
}

fn call(call: &Call) -> String {
    let of = |function: &Aggregate| format!("{function:?}").to_lowercase();
    match call {
        Call::Aggregate { function, .. } | Call::Ranked { function, .. } => of(function),
        Call::Transform { transform, inner } => format!("{transform:?} of {}", inner + 1).to_lowercase(),
        Call::Fold { fold, .. } => format!("{fold:?}").to_lowercase(),
    }
}
