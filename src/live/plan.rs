//! Reads what a client wants: a SELECT that can be kept up to date, from when, how late data may be.

use super::message::Wanted;
use super::watch::Watch;
use crate::lang::{Expr, Fill, SelectStatement, Statement, parse_duration, parse_statement};
use crate::model::TimeRange;
use crate::query::condition::split_time;
use crate::query::functions::{Family, family, math};
use crate::query::select::{time_range, windows};
use crate::query::time::zone;
use crate::query::windows::Windows as Borders;

/// Windows of the first answer when nothing says from when.
pub const HISTORY_WINDOWS: i64 = 60;
/// A window closes so long after its end, by the server's clock, in nanoseconds, unless the client says otherwise.
pub const LATENESS: i64 = 1_000_000_000;
/// At most so long.
pub const LATENESS_MAX: i64 = 86_400_000_000_000;

/// A subscription that was read and checked.
pub struct Plan {
    /// The SELECT without its bounds of time.
    pub statement: SelectStatement,
    /// Where its sources are.
    pub database: String,
    /// `None`: a tail of points.
    pub borders: Option<Borders>,
    /// Any window may depend on others: fill() and functions of neighbouring windows.
    pub whole: bool,
    /// Rows at or after this time are wanted; for a tail `None` when only new points are.
    pub from: Option<i64>,
    /// Rows up to this time are.
    pub to: i64,
    /// Nanoseconds from a window's end until it is final.
    pub lateness: i64,
}

impl Plan {
    /// Reads it.
    ///
    /// # Errors
    /// It cannot be parsed, or is nothing that can be kept up to date.
    pub fn new(wanted: &Wanted, now: i64) -> Result<Self, String> {
        let mut statement =
            match parse_statement(&wanted.q).map_err(|e| format!("error parsing query: {e}"))? {
                Statement::Select(statement) => *statement,
                _ => return Err("only a SELECT can be subscribed to".into()),
            };
        if statement.target.is_some() {
            return Err("SELECT INTO cannot be subscribed to".into());
        }
        let paged = [
            statement.limit,
            statement.offset,
            statement.slimit,
            statement.soffset,
        ];
        if paged.iter().any(|n| *n > 0) {
            return Err("LIMIT, OFFSET, SLIMIT and SOFFSET cannot be kept up to date".into());
        }
        let borders = windows(&statement, now).map_err(|e| e.to_string())?;
        let whole = neighbours(&statement, borders.is_some())?;
        let (range, _) = time_range(&statement, now).map_err(|e| e.to_string())?;
        let zone = zone(statement.tz.as_deref()).map_err(|e| e.to_string())?;
        let (_, rest) = split_time(statement.condition.as_ref(), now, &zone).map_err(|e| e.to_string())?;
        statement.condition = rest;
        if statement.fill == Fill::Null && borders.is_some() {
            // A window without points says nothing.
            statement.fill = Fill::None;
        }
        let asked = (range.min > TimeRange::ALL.min).then_some(range.min);
        let from = match (wanted.from, asked) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (one, None) | (None, one) => one,
        };
        let from = match &borders {
            Some(borders) => Some(borders.start(from.unwrap_or_else(|| history(borders, now)))),
            None => from,
        };
        // `time < now()` means "until now, whenever that is".
        let to = if range.max >= now.saturating_sub(LATENESS) {
            TimeRange::ALL.max
        } else {
            range.max
        };
        Ok(Self {
            whole,
            borders,
            from,
            to,
            lateness: lateness(wanted.lateness.as_deref())?,
            database: wanted.db.clone(),
            statement,
        })
    }

    /// Subscriptions of equal keys are one computation.
    pub fn key(&self) -> String {
        format!(
            "{}\n{}\n{}\n{}",
            self.database, self.lateness, self.to, self.statement
        )
    }

    /// What it reads.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn watch(&self) -> Result<Watch, String> {
        Watch::new(&self.statement, &self.database)
    }
}

fn history(borders: &Borders, now: i64) -> i64 {
    borders.back(borders.start(now), HISTORY_WINDOWS - 1)
}

fn lateness(text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else { return Ok(LATENESS) };
    match parse_duration(text) {
        Ok(lateness) if (0..=LATENESS_MAX).contains(&lateness) => Ok(lateness),
        Ok(_) => Err(format!("lateness {text} is not between 0s and 1d (lateness_max)")),
        Err(error) => Err(format!("lateness: {error}")),
    }
}

/// Does a function look at the points of its window alone?
fn is_of_one_window(name: &str) -> bool {
    use Family::{Aggregate, Distinct, Extension, Percentile, Ranked, Sample, Selector};
    let local = [
        Selector, Aggregate, Percentile, Sample, Distinct, Ranked, Extension,
    ];
    family(name).is_none_or(|family| local.contains(&family))
}

/// Does a window depend on others? Refuses what would depend on everything.
fn neighbours(statement: &SelectStatement, windowed: bool) -> Result<bool, String> {
    let mut whole = !matches!(statement.fill, Fill::Null | Fill::None);
    let mut failed = None;
    for field in &statement.fields {
        field.expr.walk(&mut |expr| match expr {
            Expr::Call(call) if math::arity(&call.name).is_some() => {}
            Expr::Call(_) | Expr::Distinct(_) if !windowed => {
                failed = Some("a live SELECT with functions needs GROUP BY time(..); without functions it is a tail of points");
            }
            Expr::Call(call) => match call.name.as_str() {
                "cumulative_sum" => {
                    failed = Some("cumulative_sum cannot be kept up to date: every row depends on all before");
                }
                // Counters look at the sample before the window.
                "increase" | "rate" => whole = true,
                name => whole |= !is_of_one_window(name),
            },
            _ => {}
        });
    }
    // What a subquery or a side of a join derives from neighbouring windows is not looked into.
    whole |= statement
        .sources
        .iter()
        .any(|s| !matches!(s, crate::lang::Source::Measurement(_)));
    if !windowed && whole {
        return Err("a tail of points reads measurements, not subqueries or joins, and has no fill()".into());
    }
    failed.map_or(Ok(whole), |text| Err(text.into()))
}
