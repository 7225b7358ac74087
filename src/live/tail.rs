//! A SELECT without windows: every committed point that matches. The statement runs over just the batches that were
//! committed, as if they were all there is.

use super::evaluate::Evaluator;
use super::pace::Pace;
use super::plan::Plan;
use super::row::Row;
use super::watch::Watch;
use crate::catalog::Catalog;
use crate::model::TimeRange;
use crate::query::QueryError;
use crate::query::scan::Scan;

/// See the module. Shared by all who subscribed to it.
pub struct Tail {
    evaluator: Evaluator,
    watch: Watch,
    to: i64,
    /// Its clients were told of everything up to here.
    pub told: u64,
    /// Where in time the rows lie that they were not told of yet.
    pub untold: Option<TimeRange>,
    /// Some of these it did not hear of itself.
    pub missed: bool,
    /// When it is brought up to date next.
    pub pace: Pace,
}

impl Tail {
    /// Of a plan without windows: points after a sequence, read with so many bytes.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(plan: &Plan, after: u64, bytes_max: usize) -> Result<Self, String> {
        Ok(Self {
            watch: plan.watch()?,
            evaluator: Evaluator::new(plan.statement.clone(), &plan.database, bytes_max),
            to: plan.to,
            told: after,
            untold: None,
            missed: false,
            pace: Pace::default(),
        })
    }

    /// How its rows are read.
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    /// What it reads.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Rows of it lie here.
    pub fn touch(&mut self, time: TimeRange) {
        let known = self.untold.unwrap_or(time);
        self.untold = Some(TimeRange {
            min: known.min.min(time.min),
            max: known.max.max(time.max),
        });
    }

    /// The points of a scan that match, from a time on.
    ///
    /// # Errors
    /// What the query gives.
    pub fn rows(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        time: TimeRange,
        now: i64,
    ) -> Result<Vec<Row>, QueryError> {
        let range = (time.min, time.max.min(self.to));
        self.evaluator.rows(catalog, scan, range, now)
    }
}
