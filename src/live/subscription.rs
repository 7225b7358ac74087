//! One SELECT that is kept up to date for one client.

use super::message::Kind;
use super::windows::{Groups, Row, Windows};
use crate::batch::EncodedBatch;
use crate::catalog::Catalog;
use crate::lang::{BinaryOp, Expr, MeasurementName, SelectStatement, Statement, parse_statement};
use crate::model::{MeasurementId, TimeRange};
use crate::query::encode::{json_text, json_value};
use crate::query::scan::Scan;
use crate::query::select::{select, time_range, windows};
use crate::query::{Cancel, Context, QueryError, QueryLimits, Resources, Series, Workers};
use regex::Regex;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Windows of the first answer when the SELECT has no lower bound of time.
pub const HISTORY_WINDOWS: i64 = 60;
/// A window closes so long after its end, by the server's clock, in nanoseconds.
pub const LATENESS: i64 = 1_000_000_000;
/// Looking again at what a batch touched is given up after this time.
const EVALUATION_MAX: Duration = Duration::from_secs(10);
/// Bytes that one evaluation may hold.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// The thread of the hub is enough: writers come first.
static WORKERS: Workers = Workers::new(0);

/// See the module.
pub struct Subscription {
    statement: SelectStatement,
    database: String,
    sources: Vec<Watched>,
    windows: Windows,
    step: i64,
    /// Windows behind a changed one that change with it: those of derivatives and moving averages.
    follow: i64,
    groups: Arc<Mutex<Groups>>,
    columns: Vec<String>,
    /// Measurements that are, or are not, among the sources.
    known: HashMap<MeasurementId, bool>,
    cancel: Cancel,
}

/// A measurement, or several by pattern, in a policy (the default one when not named).
struct Watched {
    database: Option<String>,
    policy: Option<String>,
    name: Name,
}

enum Name {
    Exactly(String),
    Matching(Regex),
}

/// Rows to be sent, at a sequence.
pub struct News {
    /// Everything up to here is reflected.
    pub sequence: u64,
    /// What changed.
    pub rows: Vec<(Kind, Row)>,
}

impl Subscription {
    /// Reads and checks a SELECT.
    ///
    /// # Errors
    /// It cannot be parsed, or is none that can be kept up to date.
    pub fn new(text: &str, database: &str, now: i64) -> Result<Self, String> {
        let statement = match parse_statement(text).map_err(|e| format!("error parsing query: {e}"))? {
            Statement::Select(statement) => *statement,
            _ => return Err("only a SELECT can be subscribed to".into()),
        };
        if statement.target.is_some() {
            return Err("SELECT INTO cannot be subscribed to".into());
        }
        let Some(found) = windows(&statement, now).map_err(|e| e.to_string())? else {
            return Err("a live SELECT needs GROUP BY time(..)".into());
        };
        if [
            statement.limit,
            statement.offset,
            statement.slimit,
            statement.soffset,
        ]
        .iter()
        .any(|n| *n > 0)
        {
            return Err("LIMIT, OFFSET, SLIMIT and SOFFSET cannot be kept up to date".into());
        }
        let mut follow = 0;
        let mut unbounded = false;
        for field in &statement.fields {
            field.expr.visit_calls(&mut |call| match call.name.as_str() {
                "derivative"
                | "non_negative_derivative"
                | "difference"
                | "non_negative_difference"
                | "elapsed" => {
                    follow = follow.max(1);
                }
                "moving_average" => {
                    if let Some(Expr::Integer(n)) = call.args.get(1) {
                        follow = follow.max(*n - 1);
                    }
                }
                "cumulative_sum" => unbounded = true,
                _ => {}
            });
        }
        if unbounded {
            return Err("cumulative_sum cannot be kept up to date: every row depends on all before".into());
        }
        let mut sources = Vec::new();
        let mut failed = None;
        statement.visit_measurements(&mut |m| {
            let name = match &m.name {
                MeasurementName::Name(name) => Name::Exactly(name.clone()),
                MeasurementName::Regex(pattern) => match pattern.compile() {
                    Ok(regex) => Name::Matching(regex),
                    Err(error) => {
                        failed = Some(error.to_string());
                        return;
                    }
                },
            };
            let (database, policy) = (m.database.clone(), m.retention_policy.clone());
            sources.push(Watched {
                database,
                policy,
                name,
            });
        });
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(Self {
            windows: Windows::new(found.step, found.offset, now.saturating_sub(LATENESS)),
            step: found.step,
            follow,
            statement,
            database: database.to_string(),
            sources,
            groups: Arc::default(),
            columns: Vec::new(),
            known: HashMap::new(),
            cancel: Cancel::default(),
        })
    }

    /// Names of the columns of the rows given out last.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Names and tags of the groups that rows refer to.
    pub fn groups(&self) -> &Arc<Mutex<Groups>> {
        &self.groups
    }

    /// The current windows.
    ///
    /// # Errors
    /// What the query gives.
    pub fn snapshot(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        sequence: u64,
        now: i64,
    ) -> Result<News, QueryError> {
        let (range, _) = time_range(&self.statement, now)?;
        let from = if range.min == TimeRange::ALL.min {
            self.windows
                .start_of(now)
                .saturating_sub((HISTORY_WINDOWS - 1).saturating_mul(self.step))
        } else {
            range.min
        };
        let rows = self.evaluate(catalog, scan, from, i64::MAX, now)?;
        let rows = self
            .windows
            .learn(rows)
            .into_iter()
            .map(|(_, row)| (Kind::Snapshot, row))
            .collect();
        Ok(News { sequence, rows })
    }

    /// Notes which windows a committed batch touched.
    pub fn note(&mut self, batch: &EncodedBatch, catalog: &Catalog) {
        // A delete may change anything that was sent.
        let deletes = !batch.commands().is_empty();
        for table in batch.tables() {
            let id = table.measurement();
            let watched = match self.known.get(&id) {
                Some(watched) => *watched,
                None => {
                    let watched = self.watches(catalog, id);
                    self.known.insert(id, watched);
                    watched
                }
            };
            if watched {
                let TimeRange { min, max } = table.time_range();
                if self.windows.start_of(min) == self.windows.start_of(max) {
                    self.touch(min);
                } else {
                    let starts: HashSet<i64> = table
                        .times()
                        .into_iter()
                        .map(|time| self.windows.start_of(time))
                        .collect();
                    starts.into_iter().for_each(|start| self.touch(start));
                }
            }
        }
        if deletes {
            self.note_all();
        }
    }

    fn touch(&mut self, time: i64) {
        (0..=self.follow).for_each(|i| {
            self.windows
                .touch(time.saturating_add(i.saturating_mul(self.step)))
        });
    }

    /// Any window may have changed.
    pub fn note_all(&mut self) {
        self.known.clear();
        self.windows.touch_sent();
    }

    fn watches(&self, catalog: &Catalog, id: MeasurementId) -> bool {
        let Some(measurement) = catalog.measurement_by_id(id) else {
            return false;
        };
        self.sources.iter().any(|watched| {
            let named = match &watched.name {
                Name::Exactly(name) => *name == measurement.name,
                Name::Matching(regex) => regex.is_match(&measurement.name),
            };
            let database = watched.database.as_deref().unwrap_or(&self.database);
            let policy = || {
                catalog
                    .database(database)?
                    .policy(watched.policy.as_deref())
                    .map(|p| p.id)
            };
            named && policy() == Some(measurement.policy)
        })
    }

    /// Is there anything to look at?
    pub fn is_dirty(&self) -> bool {
        self.windows.is_dirty()
    }

    /// Looks again at what was touched.
    ///
    /// # Errors
    /// What the query gives.
    pub fn update(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        sequence: u64,
        now: i64,
    ) -> Result<News, QueryError> {
        let mut rows = Vec::new();
        for (from, to) in self.windows.take_dirty() {
            let found = self.evaluate(catalog, scan, from, to.saturating_sub(1), now)?;
            rows.extend(self.windows.learn(found));
        }
        Ok(News { sequence, rows })
    }

    /// Windows that have ended for good.
    pub fn close(&mut self, now: i64) -> Vec<(Kind, Row)> {
        self.windows.close(now.saturating_sub(LATENESS))
    }

    /// Runs the SELECT over a range of time.
    fn evaluate(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        from: i64,
        to: i64,
        now: i64,
    ) -> Result<Vec<Row>, QueryError> {
        let mut statement = self.statement.clone();
        let mut bound = Expr::binary(BinaryOp::Gte, Expr::var("time"), Expr::Integer(from));
        if to < i64::MAX {
            let end = Expr::binary(BinaryOp::Lte, Expr::var("time"), Expr::Integer(to));
            bound = Expr::binary(BinaryOp::And, bound, end);
        }
        statement.condition = Some(match statement.condition.take() {
            Some(condition) => Expr::binary(BinaryOp::And, bound, Expr::Paren(Box::new(condition))),
            None => bound,
        });
        let limits = QueryLimits {
            memory_bytes_max: MEMORY_BYTES_MAX,
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
            self.columns = series.columns.to_vec();
            let group = groups.number(&series.name, tags_json(series).as_deref());
            for row in 0..series.rows() {
                let time = series.times[row];
                // Windows that only fill() made say nothing yet.
                if series.values.iter().all(|column| column.is_null(row)) {
                    continue;
                }
                let mut json = format!("[{time}");
                for value in series.row(row) {
                    json.push(',');
                    json_value(&value, &mut json);
                }
                json.push(']');
                rows.push(Row {
                    group,
                    time,
                    json: json.into(),
                });
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
