//! EXPLAIN and EXPLAIN ANALYZE: what a SELECT does, and what it cost, for people to read. Runs over inputs are listed in the
//! order in which they are done: a subquery before what reads its rows.

use crate::lang::{SelectStatement, format_go_duration};
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::resources::Resources;
use crate::query::result::{Piece, Series};
use crate::query::scan::ScanStats;
use crate::query::select::{stream, time_range};
use crate::query::time::format_time;
use crate::query::trace::{Facts, Opened, Scanned, Trace};
use crate::query::value::Value;
use jiff::tz::TimeZone;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// Partitions that are named; of more only the number is.
const PARTITIONS_NAMED: usize = 3;

/// Plans a SELECT, or runs it without its answer.
///
/// # Errors
/// Those of the SELECT.
pub(super) fn explain(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    analyze: bool,
) -> Result<Vec<Series>, QueryError> {
    let resources = Resources::new(ctx.limits.memory_bytes_max, ctx.resources.workers);
    let resources = resources
        .with_rollups(ctx.resources.rollups)
        .traced(Trace::new(analyze));
    let inner = Context {
        resources: &resources,
        ..*ctx
    };
    let (_, zone) = time_range(statement, ctx.now)?;
    let (mut series, mut rows, mut open) = (0u64, 0u64, false);
    let began = Instant::now();
    stream(&inner, statement, &mut |Piece {
                                        series: piece,
                                        goes_on,
                                    }| {
        rows += piece.rows() as u64;
        series += u64::from(!open);
        open = goes_on;
        ControlFlow::Continue(())
    })?;
    let took = began.elapsed();
    let mut lines = vec![statement.to_string()];
    let scans = resources.trace.iter().flat_map(Trace::scans);
    for (number, scan) in (1..).zip(scans) {
        lines.extend(lines_of(number, &scan, &zone, analyze));
    }
    if lines.len() == 1 {
        lines.push("nothing to read: no such measurement, or an empty range of time".into());
    }
    if analyze {
        let peak = bytes(resources.memory.peak() as u64);
        lines.push(format!(
            "in all: {}, {}, took {}, held at most {peak} of {}",
            count(series, "series", "series"),
            count(rows, "row", "rows"),
            time(took),
            bytes(resources.memory.bytes_max() as u64)
        ));
    }
    let column = if analyze { "EXPLAIN ANALYZE" } else { "QUERY PLAN" };
    let rows = lines.into_iter().map(|line| vec![Value::String(line.into())]);
    Ok(vec![Series::table("", &[column], rows)])
}

fn lines_of(number: usize, scan: &Scanned, zone: &TimeZone, analyze: bool) -> Vec<String> {
    let mut plan = scan.plan.iter();
    let mut lines = vec![format!("{number}. {}", plan.next().map_or("", String::as_str))];
    let mut add = |text: String| lines.push(format!("   {text}"));
    plan.for_each(|line| add(line.clone()));
    add(format!("time: {}", range(&scan.time, zone)));
    for input in &scan.inputs {
        match input {
            Opened::Stored(facts) => of_facts(facts, zone).into_iter().for_each(&mut add),
            Opened::Derived { series, rows } => add(format!(
                "reads what a subquery or join gave: {}, {}",
                count(*series, "series", "series"),
                count(*rows, "row", "rows")
            )),
        }
    }
    if scan.inputs.is_empty() {
        add("no series satisfies the condition".into());
    }
    if analyze {
        of_cost(scan).into_iter().for_each(add);
    } else {
        scan.notes.iter().cloned().for_each(add);
    }
    lines
}

fn of_facts(facts: &Facts, zone: &TimeZone) -> Vec<String> {
    let named = match facts.partitions.len() {
        1..=PARTITIONS_NAMED => {
            let all = facts.partitions.iter().copied();
            let named: Vec<String> = all
                .map(|(min, max)| range(&TimeRange { min, max }, zone))
                .collect();
            format!(" ({})", named.join("; "))
        }
        _ => String::new(),
    };
    vec![
        format!(
            "measurement {}: {} of {}",
            facts.measurement,
            facts.series,
            count(facts.of_series, "series", "series")
        ),
        format!(
            "columns: {}",
            if facts.columns.is_empty() {
                "none".into()
            } else {
                facts.columns.join(", ")
            }
        ),
        format!(
            "{}{named}, {}, {} of the head",
            count(facts.partitions.len() as u64, "partition", "partitions"),
            count(facts.runs, "run", "runs"),
            count(facts.parts, "part", "parts"),
        ),
        format!(
            "{} may hold wanted rows ({}, {} encoded); {} passed over by time and series",
            count(facts.blocks, "block", "blocks"),
            count(facts.rows, "row", "rows"),
            bytes(facts.bytes),
            facts.pruned
        ),
        match facts.meeting {
            0 => format!(
                "{}, none with versions of the same points",
                count(facts.tasks, "task", "tasks")
            ),
            meeting => format!(
                "{}, {meeting} of blocks that may hold versions of the same points",
                count(facts.tasks, "task", "tasks")
            ),
        },
    ]
}

fn of_cost(scan: &Scanned) -> Vec<String> {
    let ScanStats {
        rows,
        blocks,
        blocks_whole,
        blocks_steps,
        bytes: read,
        ..
    } = scan.stats;
    // Opening counts what it passes over, too, and may be done several times; what was not read is what is left.
    let there: u64 = scan
        .inputs
        .iter()
        .map(|input| match input {
            Opened::Stored(facts) => facts.blocks,
            Opened::Derived { .. } => 0,
        })
        .sum();
    let looked = blocks + blocks_whole + blocks_steps;
    let mut lines = vec![format!(
        "read: {} ({}, {}); answered from statistics: {blocks_whole} of whole blocks, {blocks_steps} of steps; {} needless",
        count(blocks, "block", "blocks"),
        count(rows, "row", "rows"),
        bytes(read),
        there.saturating_sub(looked)
    )];
    lines.extend(scan.notes.iter().cloned());
    let (series, rows) = scan.gave;
    lines.push(format!(
        "gave: {}, {}",
        count(series, "series", "series"),
        count(rows, "row", "rows")
    ));
    lines.push(format!(
        "took: opening {}, reading {}, giving {}",
        time(scan.stages.open),
        time(scan.stages.read),
        time(scan.stages.give)
    ));
    lines
}

fn range(range: &TimeRange, zone: &TimeZone) -> String {
    let text = |time: i64| {
        let mut out = String::new();
        format_time(time, zone, &mut out);
        out
    };
    match (range.min == TimeRange::ALL.min, range.max == TimeRange::ALL.max) {
        (true, true) => "all".into(),
        (false, true) => format!("from {}", text(range.min)),
        (true, false) => format!("up to {}", text(range.max)),
        (false, false) => format!("{} to {}", text(range.min), text(range.max)),
    }
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn bytes(n: u64) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

fn time(took: Duration) -> String {
    // To the microsecond.
    let nanos = i64::try_from(took.as_nanos()).unwrap_or(i64::MAX);
    format_go_duration(nanos - nanos % 1_000)
}
