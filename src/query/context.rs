//! What a statement runs in: names, data, time, limits, and a way to stop it.

use super::error::QueryError;
use super::resources::Resources;
use super::scan::Scan;
use crate::catalog::{Catalog, Database, Policy};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// Limits of one query, each named in the error that it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Bytes that it may hold: what it gathers, and what of the result is not sent yet.
    pub memory_bytes_max: usize,
    /// Windows times groups.
    pub buckets_max: usize,
    /// Series in a result.
    pub groups_max: usize,
    /// How long it may take; the clock is [`Context::deadline`].
    pub timeout: Duration,
    /// Values (rows times columns) that a SELECT may read of a source; `None`: any number. See [`super::at_once`].
    pub values_max: Option<u64>,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 1 << 30,
            buckets_max: 10_000_000,
            groups_max: 1_000_000,
            timeout: Duration::from_secs(300),
            values_max: None,
        }
    }
}

/// Stops a query from outside. Shared.
#[derive(Debug, Default)]
pub struct Cancel {
    /// 0: it was not; otherwise 1 + the place of the reason.
    state: AtomicU8,
}

/// Why a query was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody waits for its answer any more.
    HungUp,
    /// KILL QUERY.
    Killed,
    /// The server stops.
    Stopping,
}

impl Cancel {
    /// Stops it soon. The first reason stands.
    pub fn cancel(&self, why: Why) {
        let state = match why {
            Why::HungUp => 1,
            Why::Killed => 2,
            Why::Stopping => 3,
        };
        let _ = self
            .state
            .compare_exchange(0, state, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Was it stopped?
    pub fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Relaxed) != 0
    }

    /// Why it was stopped.
    pub fn why(&self) -> Option<Why> {
        match self.state.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Why::HungUp),
            2 => Some(Why::Killed),
            _ => Some(Why::Stopping),
        }
    }
}

/// See the module.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Names and series.
    pub catalog: &'a Catalog,
    /// Data.
    pub scan: &'a dyn Scan,
    /// The database where a statement names none.
    pub database: Option<&'a str>,
    /// The retention policy where a statement names none.
    pub policy: Option<&'a str>,
    /// What `now()` is, nanoseconds.
    pub now: i64,
    /// Limits.
    pub limits: &'a QueryLimits,
    /// Asked between pieces of work.
    pub cancel: &'a Cancel,
    /// It is stopped then.
    pub deadline: Option<Instant>,
    /// What it may use of the machine.
    pub resources: &'a Resources<'a>,
}

impl Context<'_> {
    /// Goes on, unless somebody stopped it.
    ///
    /// # Errors
    /// [`QueryError::Cancelled`]; the time-out.
    pub fn check(&self) -> Result<(), QueryError> {
        if let Some(why) = self.cancel.why() {
            return Err(QueryError::Cancelled(why));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Limit(format!(
                "query timeout exceeded (query_timeout {:?}); narrow its time or its series",
                self.limits.timeout
            )));
        }
        Ok(())
    }

    /// A database by name, or the default one.
    ///
    /// # Errors
    /// None was named, or there is none of that name.
    pub fn database(&self, name: Option<&str>) -> Result<Arc<Database>, QueryError> {
        let name = name
            .filter(|n| !n.is_empty())
            .or(self.database)
            .filter(|n| !n.is_empty());
        let name = name.ok_or_else(|| QueryError::statement("database name required"))?;
        let found = self.catalog.database(name);
        found.ok_or_else(|| QueryError::statement(format!("database not found: {name}")))
    }

    /// A retention policy of a database by name, or the default one.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn policy(&self, database: &Database, name: Option<&str>) -> Result<Arc<Policy>, QueryError> {
        let name = name.filter(|n| !n.is_empty());
        let found = database.policy(name).cloned();
        found.ok_or_else(|| {
            QueryError::statement(format!(
                "retention policy not found: {}",
                name.unwrap_or("default")
            ))
        })
    }
}
