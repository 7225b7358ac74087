//! Runs a subscription's SELECT through the executor and makes rows of its answer.

use super::windows::{Groups, Row};
use crate::catalog::Catalog;
use crate::lang::{BinaryOp, Expr, SelectStatement};
use crate::query::encode::{json_text, json_value};
use crate::query::scan::Scan;
use crate::query::select::select;
use crate::query::{Cancel, Context, QueryError, QueryLimits, Resources, Series, Workers};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An evaluation is given up after this time.
const EVALUATION_MAX: Duration = Duration::from_secs(10);
/// Bytes that one evaluation may hold.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Windows times groups of one evaluation.
const BUCKETS_MAX: usize = 1_000_000;
/// The thread of the hub is enough: writers come first.
static WORKERS: Workers = Workers::new(0);
/// Groups of a subscription since it began.
const GROUPS_MAX: usize = 100_000;

/// A SELECT without its bounds of time, and what its rows refer to.
pub struct Evaluator {
    statement: SelectStatement,
    database: String,
    groups: Arc<Mutex<Groups>>,
    columns: Arc<[String]>,
    cancel: Cancel,
}

impl Evaluator {
    /// Of a SELECT in a database.
    pub fn new(statement: SelectStatement, database: &str) -> Self {
        Self {
            statement,
            database: database.to_string(),
            groups: Arc::default(),
            columns: Arc::default(),
            cancel: Cancel::default(),
        }
    }

    /// Names of the columns of the rows given out last.
    pub fn columns(&self) -> &Arc<[String]> {
        &self.columns
    }

    /// Names and tags of the groups that rows refer to.
    pub fn groups(&self) -> &Arc<Mutex<Groups>> {
        &self.groups
    }

    /// The rows from one time to another, both included. Rows without any value, which fill() made, are left out.
    ///
    /// # Errors
    /// What the query gives.
    pub fn rows(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        (from, to): (i64, i64),
        now: i64,
    ) -> Result<Vec<Row>, QueryError> {
        let mut statement = self.statement.clone();
        let from = Expr::binary(BinaryOp::Gte, Expr::var("time"), Expr::Integer(from));
        let to = Expr::binary(BinaryOp::Lte, Expr::var("time"), Expr::Integer(to));
        let bound = Expr::binary(BinaryOp::And, from, to);
        statement.condition = Some(match statement.condition.take() {
            Some(condition) => Expr::binary(BinaryOp::And, bound, Expr::Paren(Box::new(condition))),
            None => bound,
        });
        let limits = QueryLimits {
            memory_bytes_max: MEMORY_BYTES_MAX,
            buckets_max: BUCKETS_MAX,
            ..QueryLimits::default()
        };
        let ctx = Context {
            catalog,
            scan,
            database: Some(&self.database),
            policy: None,
            now,
            limits: &limits,
            cancel: &self.cancel,
            deadline: Some(Instant::now() + EVALUATION_MAX),
            resources: &Resources::new(limits.memory_bytes_max, &WORKERS),
        };
        let found = select(&ctx, &statement)?;
        let mut rows = Vec::new();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        for series in &found {
            if *self.columns != *series.columns {
                self.columns = series.columns.iter().cloned().collect();
            }
            let group = groups.number(&series.name, tags_json(series).as_deref());
            if groups.len() > GROUPS_MAX {
                let text = format!("too many groups (live_groups_max {GROUPS_MAX})");
                return Err(QueryError::Limit(text));
            }
            for row in 0..series.rows() {
                if series.values.iter().all(|column| column.is_null(row)) {
                    continue;
                }
                let time = series.times[row];
                let mut json = format!("[{time}");
                for value in series.row(row) {
                    json.push(',');
                    json_value(&value, &mut json);
                }
                json.push(']');
                let json = json.into();
                rows.push(Row { group, time, json });
            }
        }
        Ok(rows)
    }
}

fn tags_json(series: &Series) -> Option<String> {
    if series.tags.is_empty() {
        return None;
    }
    let mut out = String::from("{");
    for (i, (key, value)) in series.tags.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        json_text(key, &mut out);
        out.push(':');
        json_text(value, &mut out);
    }
    out.push('}');
    Some(out)
}
