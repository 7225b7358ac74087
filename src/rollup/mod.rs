//! Rollups: for each series, field and interval of time what its points amount to, kept beside them. Here is what they are
//! and which intervals can be believed; [`crate::query::rollup`] makes states and reads them, [`crate::refresh`] keeps them up to date.
//!
//! A state is a row like any other, of a measurement that no statement can name (in a hidden policy of the database), with the
//! id of the series and the start of the interval. An interval is *clean* when its states are those of its points, and
//! *waiting* from the moment that a batch changes one of its points until its states were made again: [`cover`]. Whoever reads a waiting
//! interval reads the points.
//!
//! **Invariant:** batches are noted here before they are visible, so a query that sees a point knows that its interval waits.

pub mod cover;
pub mod covers;
pub mod parts;

pub use covers::{Clean, Due, Rollups, Status};

use crate::catalog::{Catalog, Measurement};
use crate::lang::{CreateRollup, Statement, parse_statement};
use crate::model::PolicyId;

/// Records of rollups: the statements, by database and name.
pub const KIND: &str = "rollup";
/// Records that tell of intervals that were made: in the batch with the last of their states. By database and name.
pub const BUILT: &str = "rollup_built";
/// Records of which intervals wait, written with each seal. By rollup, level and measurement.
pub const COVER: &str = "rollup_waiting";

/// Rollups that a server may have.
pub const ROLLUPS_MAX: usize = 100;
/// Lengths of intervals that a rollup may have.
pub const LEVELS_MAX: usize = 4;
/// Measurements that a rollup looks after; others are read as if there were none.
pub const MEASUREMENTS_MAX: usize = 10_000;
/// The shortest interval.
pub const EVERY_MIN: i64 = 10_000_000_000;
/// The longest interval.
pub const EVERY_MAX: i64 = 366 * 86_400_000_000_000;

/// A rollup as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The statement.
    pub statement: CreateRollup,
    /// The same as text.
    pub text: String,
}

impl Definition {
    /// Of a kept text.
    pub fn of_text(text: &str) -> Option<Self> {
        match parse_statement(text) {
            Ok(Statement::CreateRollup(statement)) => Some(Self {
                statement: *statement,
                text: text.to_string(),
            }),
            _ => None,
        }
    }

    /// Its name among all rollups.
    pub fn key(&self) -> String {
        key(&self.statement.database, &self.statement.name)
    }

    /// Does it look after the measurements of this name?
    pub fn has(&self, measurement: &str) -> bool {
        let named = &self.statement.measurements;
        named.is_empty() || named.iter().any(|name| name == measurement)
    }

    /// The hidden policy that has the states of a policy's measurements, without its mark.
    pub fn policy_name(&self, source: PolicyId) -> String {
        format!("rollup {} of {source}", self.statement.name)
    }

    /// The measurement that has the states of a measurement in intervals of this length, if it was made.
    pub fn states(
        &self,
        catalog: &Catalog,
        source: &Measurement,
        every: i64,
    ) -> Option<std::sync::Arc<Measurement>> {
        let database = catalog.database(&self.statement.database)?;
        let policy = database.hidden_policy(&self.policy_name(source.policy))?;
        catalog.measurement(policy.id, &states_name(source, every))
    }
}

/// What the measurement with the states of another one is called in the hidden policy.
pub fn states_name(source: &Measurement, every: i64) -> String {
    format!("{} {every}", source.id)
}

/// The name of a rollup among all.
pub fn key(database: &str, name: &str) -> String {
    format!("{database}/{name}")
}
