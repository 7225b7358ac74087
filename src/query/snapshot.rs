//! One consistent state of head and runs as a [`Scan`].

use super::scan::{Scan, ScanError, ScanRequest, SeriesSet, Source};
use crate::model::{MeasurementId, TimeRange};
use crate::rollup::Rollups;
use crate::shard::publish::HeadSnapshot;
use crate::store::{RunSet, SeriesFilter};
use std::sync::Arc;

/// Everything up to a sequence. Holding it keeps what it reads alive.
#[derive(Clone)]
pub struct Snapshot {
    head: HeadSnapshot<RunSet>,
    rollups: Arc<Rollups>,
}

impl Snapshot {
    /// Of this state of the head.
    pub fn new(head: HeadSnapshot<RunSet>, rollups: Arc<Rollups>) -> Self {
        Self { head, rollups }
    }

    /// The last sequence it reflects.
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }
}

impl Scan for Snapshot {
    fn sources(&self, request: &ScanRequest) -> Result<Vec<Source>, ScanError> {
        let filter = match &request.series {
            SeriesSet::All => SeriesFilter::All,
            SeriesSet::Chosen(set) => SeriesFilter::Chosen(set),
        };
        let runs = self.head.runs.select(request.measurement, filter, request.time)?;
        let parts = self.head.parts(request.measurement);
        let runs = runs.into_iter().map(Source::Run);
        let parts = parts
            .into_iter()
            .filter(|part| request.time.overlaps(&part.time_range()));
        Ok(runs.chain(parts.map(Source::Part)).collect())
    }

    fn rollups(&self) -> Option<(&Rollups, u64)> {
        Some((&self.rollups, self.head.sequence))
    }

    /// What its retention policy let expire is not there any more, in the head as in the store.
    fn unexpired(&self, measurement: MeasurementId, time: TimeRange) -> TimeRange {
        self.head.runs.unexpired(measurement, time)
    }
}
