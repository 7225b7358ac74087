//! The pieces of sources that may hold wanted rows, with what is known of them before they are read.

use super::{ScanRequest, Source};
use crate::model::{SeriesId, TimeRange};

/// A block of a run, or a stretch of a part of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Which source; later ones are newer.
    pub source: u32,
    /// Which block or stretch of it.
    pub at: u32,
    /// Rows, unwanted ones included.
    pub rows: u32,
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
}

impl Zone {
    /// May the two have a (series, time) in common?
    pub fn meets(&self, other: &Self) -> bool {
        self.first_series <= other.last_series
            && other.first_series <= self.last_series
            && self.time.overlaps(&other.time)
    }
}

/// The zones of all sources that may hold wanted rows, by (source, place), and how many were passed over.
pub fn zones(sources: &[Source], request: &ScanRequest) -> (Vec<Zone>, u64) {
    let mut found = Vec::new();
    let mut pruned = 0;
    for (source, number) in sources.iter().zip(0u32..) {
        match source {
            Source::Part(part) => {
                for (stretch, at) in part.outline().iter().zip(0u32..) {
                    let wanted = stretch.time.overlaps(&request.time)
                        && request.series.touches(stretch.first_series, stretch.last_series);
                    if !wanted {
                        pruned += 1;
                        continue;
                    }
                    found.push(Zone {
                        source: number,
                        at,
                        rows: stretch.rows.len() as u32,
                        first_series: stretch.first_series,
                        last_series: stretch.last_series,
                        time: stretch.time,
                    });
                }
            }
            Source::Run(run) => {
                pruned += run.pruned as u64;
                for at in 0..run.len() {
                    let block = run.block(at);
                    found.push(Zone {
                        source: number,
                        at: at as u32,
                        rows: block.rows,
                        first_series: block.first_series,
                        last_series: block.last_series,
                        time: block.time,
                    });
                }
            }
        }
    }
    (found, pruned)
}
