//! A SELECT without windows: every committed point that matches. The statement runs over just the batches that were
//! committed, as if they were all there is.

use super::evaluate::Evaluator;
use super::plan::Plan;
use super::watch::Watch;
use super::windows::Row;
use crate::batch::EncodedBatch;
use crate::catalog::Catalog;
use crate::model::{MeasurementId, TimeRange};
use crate::query::QueryError;
use crate::query::scan::{Scan, ScanError, ScanRequest, Source};
use crate::shard::part::HeadPart;
use std::collections::HashMap;
use std::sync::Arc;

/// See the module. Shared by all who subscribed to it.
pub struct Tail {
    evaluator: Evaluator,
    watch: Watch,
    to: i64,
}

impl Tail {
    /// Of a plan without windows.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(plan: &Plan) -> Result<Self, String> {
        Ok(Self {
            watch: plan.watch()?,
            evaluator: Evaluator::new(plan.statement.clone(), &plan.database),
            to: plan.to,
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

/// Some batches as all the data there is.
#[derive(Default)]
pub struct BatchScan {
    rows: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
}

impl BatchScan {
    /// Adds a later batch's rows of the measurements that are wanted.
    pub fn add(&mut self, batch: &EncodedBatch, mut wanted: impl FnMut(MeasurementId) -> bool) {
        for table in batch.tables() {
            let id = table.measurement();
            if wanted(id) {
                self.rows
                    .entry(id)
                    .or_default()
                    .push(Arc::new(table.read().into()));
            }
        }
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Scan for BatchScan {
    fn sources(&self, request: &ScanRequest) -> Result<Vec<Source>, ScanError> {
        let tables = self.rows.get(&request.measurement).into_iter().flatten();
        Ok(tables.map(|rows| Source::Part(rows.clone())).collect())
    }
}
