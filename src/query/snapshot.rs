//! One consistent state of head and runs as a [`Scan`].

use super::scan::{Scan, ScanError, ScanRequest, ScanStats, SeriesRows, SeriesSet};
use super::sources::{Source, SourceRows, merge_sources};
use crate::model::{MeasurementId, TimeRange};
use crate::shard::publish::HeadSnapshot;
use crate::store::{RunSet, SeriesFilter, StoreError};
use std::cell::Cell;
use std::ops::ControlFlow;

/// Everything up to a sequence. Holding it keeps what it reads alive.
#[derive(Clone)]
pub struct Snapshot {
    head: HeadSnapshot<RunSet>,
}

impl Snapshot {
    /// Of this state of the head.
    pub fn new(head: HeadSnapshot<RunSet>) -> Self {
        Self { head }
    }

    /// The last sequence it reflects.
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }
}

impl From<StoreError> for ScanError {
    fn from(error: StoreError) -> Self {
        if error.is_damage() {
            Self::Damaged(error.to_string())
        } else {
            Self::Store(error.to_string())
        }
    }
}

impl Scan for Snapshot {
    fn scan(
        &self,
        request: &ScanRequest,
        visit: &mut dyn FnMut(&SeriesRows<'_>) -> ControlFlow<()>,
    ) -> Result<ScanStats, ScanError> {
        let filter = match &request.series {
            SeriesSet::All => SeriesFilter::All,
            SeriesSet::Range(range) => SeriesFilter::Range(range),
            SeriesSet::Chosen(set) => SeriesFilter::Chosen(set),
        };
        // What its retention policy let expire is not there any more, in the head as in the store.
        let unexpired = ScanRequest {
            time: self.head.runs.unexpired(request.measurement, request.time),
            ..request.clone()
        };
        let request = &unexpired;
        let runs = self.head.runs.select(request.measurement, filter, request.time)?;
        let (blocks, bytes) = (Cell::new(0u64), Cell::new(0u64));
        let pruned = runs.iter().map(|run| run.pruned as u64).sum();
        let mut sources = Vec::new();
        for run in &runs {
            let mut next = 0;
            let (blocks, bytes) = (&blocks, &bytes);
            sources.push(Source::Blocks(Box::new(move || {
                if next == run.len() {
                    return Ok(None);
                }
                let rows = run.read(next, &request.fields)?;
                next += 1;
                blocks.set(blocks.get() + 1);
                bytes.set(bytes.get() + rows.bytes);
                Ok(Some(SourceRows {
                    series: rows.series,
                    times: rows.times,
                    columns: rows.columns,
                }))
            })));
        }
        for part in self.head.parts(request.measurement) {
            sources.push(Source::part(part, request));
        }
        let mut rows = 0;
        merge_sources(sources, request, &mut |found| {
            rows += found.times.len() as u64;
            visit(found)
        })?;
        Ok(ScanStats {
            rows,
            blocks: blocks.get(),
            blocks_pruned: pruned,
            bytes: bytes.get(),
        })
    }

    fn times(&self, measurement: MeasurementId, visit: &mut dyn FnMut(i64)) -> Result<(), ScanError> {
        for run in self
            .head
            .runs
            .select(measurement, SeriesFilter::All, TimeRange::ALL)?
        {
            for block in 0..run.len() {
                let time = run.block(block).time;
                visit(time.min);
                visit(time.max);
            }
        }
        for part in self.head.parts(measurement) {
            part.times.iter().for_each(|time| visit(*time));
        }
        Ok(())
    }
}
