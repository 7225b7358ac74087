//! Runs a subscription's SELECT through the executor and makes rows of its answer.

use super::row::{Groups, Row};
use crate::catalog::Catalog;
use crate::lang::{BinaryOp, Expr, SelectStatement};
use crate::query::exec::Kept;
use crate::query::scan::Scan;
use crate::query::select::select;
use crate::query::{Cancel, Context, QueryError, QueryLimits, Resources, Value, Workers};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An evaluation is given up after this time.
const EVALUATION_MAX: Duration = Duration::from_secs(10);
/// What says how much memory one may hold, as its error tells it.
const MEMORY_LIMIT: &str = "live_bytes: for one evaluation";
/// Windows times groups of one evaluation.
const BUCKETS_MAX: usize = 1_000_000;
/// The thread of the hub is enough: writers come first.
static WORKERS: Workers = Workers::new(0);
/// Groups of a subscription since it began.
pub const GROUPS_MAX: usize = 100_000;

/// A SELECT without its bounds of time, and what its rows refer to.
pub struct Evaluator {
    statement: SelectStatement,
    database: String,
    groups: Arc<Mutex<Groups>>,
    columns: Arc<[String]>,
    /// Tag keys of the groups of the rows given out last.
    keys: Arc<[String]>,
    /// Rows of one group and time are told together.
    together: bool,
    cancel: Cancel,
    /// Bytes that one evaluation may hold.
    bytes_max: usize,
}

impl Evaluator {
    /// Of a SELECT in a database; an evaluation may hold so many bytes.
    pub fn new(statement: SelectStatement, database: &str, bytes_max: usize) -> Self {
        Self {
            bytes_max,
            together: statement.time_dimension().is_some(),
            statement,
            database: database.to_string(),
            groups: Arc::default(),
            columns: Arc::default(),
            keys: Arc::default(),
            cancel: Cancel::default(),
        }
    }

    /// Names of the columns of the rows given out last.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// What makes all rows that were given out before useless when it changes, as with a new field or tag and a wildcard: names of
    /// columns, and of tags.
    pub fn shape(&self) -> (Arc<[String]>, Arc<[String]>) {
        (self.columns.clone(), self.keys.clone())
    }

    /// Names and tags of the groups that rows refer to.
    pub fn groups(&self) -> &Arc<Mutex<Groups>> {
        &self.groups
    }

    /// Bytes of the groups, about.
    pub fn remembered(&self) -> usize {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.bytes()
    }

    /// The rows from one time to another, both included. Rows without any value, which fill() made, are left out.
    ///
    /// # Errors
    /// What the query gives.
    pub fn rows(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        range: (i64, i64),
        now: i64,
    ) -> Result<Vec<Row>, QueryError> {
        Ok(self.run(catalog, scan, range, now, None)?.0)
    }

    /// The rows of one window, of which some was folded before: those of the groups that have new points in `scan`.
    ///
    /// # Errors
    /// What the query gives.
    pub fn fold(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        range: (i64, i64),
        now: i64,
        kept: Kept,
    ) -> Result<(Vec<Row>, Kept), QueryError> {
        let (rows, kept) = self.run(catalog, scan, range, now, Some(kept))?;
        Ok((rows, kept.unwrap_or_default()))
    }

    fn run(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        (from, to): (i64, i64),
        now: i64,
        kept: Option<Kept>,
    ) -> Result<(Vec<Row>, Option<Kept>), QueryError> {
        let mut statement = self.statement.clone();
        let from = Expr::binary(BinaryOp::Gte, Expr::var("time"), Expr::Integer(from));
        let to = Expr::binary(BinaryOp::Lte, Expr::var("time"), Expr::Integer(to));
        let bound = Expr::binary(BinaryOp::And, from, to);
        statement.condition = Some(match statement.condition.take() {
            Some(condition) => Expr::binary(BinaryOp::And, bound, Expr::Paren(Box::new(condition))),
            None => bound,
        });
        let limits = QueryLimits {
            memory_bytes_max: self.bytes_max,
            buckets_max: BUCKETS_MAX,
            ..QueryLimits::default()
        };
        let mut resources = Resources::new(limits.memory_bytes_max, &WORKERS).limited_by(MEMORY_LIMIT);
        resources.kept = kept.map(Mutex::new);
        let ctx = Context {
            catalog,
            scan,
            database: Some(&self.database),
            policy: None,
            now,
            limits: &limits,
            cancel: &self.cancel,
            deadline: Some(Instant::now() + EVALUATION_MAX),
            resources: &resources,
        };
        let found = select(&ctx, &statement)?;
        let kept = resources.kept.take();
        let kept = kept.map(|kept| kept.into_inner().unwrap_or_else(PoisonError::into_inner));
        let (mut rows, mut cells, mut last) = (Vec::new(), Vec::new(), None);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for series in &found {
            if *self.columns != *series.columns {
                self.columns = series.columns.iter().cloned().collect();
            }
            if !series.tags.iter().map(|(key, _)| key).eq(self.keys.iter()) {
                self.keys = series.tags.iter().map(|(key, _)| key.clone()).collect();
            }
            let group = groups.number(&series.name, &series.tags);
            if groups.len() > GROUPS_MAX {
                let text = format!("too many groups (live_groups_max {GROUPS_MAX})");
                return Err(QueryError::Limit(text));
            }
            for row in 0..series.rows() {
                if series.values.iter().all(|column| column.is_null(row)) {
                    continue;
                }
                let time = series.times[row];
                if let Some(last) = last
                    && (last != (group, time) || !self.together)
                {
                    rows.push(take_row(last, &mut cells));
                }
                last = Some((group, time));
                cells.extend(series.row(row));
            }
        }
        rows.extend(last.map(|last| take_row(last, &mut cells)));
        Ok((rows, kept))
    }
}

/// A row of these values, of which none are left.
fn take_row((group, time): (u32, i64), cells: &mut Vec<Value>) -> Row {
    let cells = std::mem::take(cells).into();
    Row { group, time, cells }
}
