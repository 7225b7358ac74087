//! The last committed batches: for what is folded next, and for tails of clients that come back. Their tables are unpacked once,
//! when somebody first reads them.

use crate::batch::EncodedBatch;
use crate::catalog::Catalog;
use crate::model::{MeasurementId, TimeRange};
use crate::query::scan::{Scan, ScanError, ScanRequest, Source};
use crate::query::snapshot::Snapshot;
use crate::shard::part::HeadPart;
use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::watch::Watch;

/// Bytes of batches that are kept while there are subscriptions, packed and unpacked together.
pub const RECENT_BYTES_MAX: usize = 32 << 20;
/// Batches that are kept.
pub const RECENT_BATCHES_MAX: usize = 16_384;

/// See the module.
#[derive(Default)]
pub struct Recent {
    batches: VecDeque<Kept>,
    bytes: Cell<usize>,
    /// Every batch after this sequence is here.
    after: u64,
}

/// A batch and what of it was unpacked.
struct Kept {
    sequence: u64,
    batch: Arc<EncodedBatch>,
    tables: Vec<OnceCell<Arc<HeadPart>>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let unpacked = self.tables.iter().filter_map(OnceCell::get);
        self.batch.bytes().len() + unpacked.map(|part| part.bytes()).sum::<usize>()
    }
}

impl Recent {
    /// Begins anew: only what comes after `sequence` is known.
    pub fn clear(&mut self, sequence: u64) {
        self.batches.clear();
        self.bytes.set(0);
        self.after = sequence;
    }

    /// Adds the next batch.
    pub fn add(&mut self, sequence: u64, batch: Arc<EncodedBatch>) {
        let tables = batch.tables().map(|_| OnceCell::new()).collect();
        self.bytes.set(self.bytes.get() + batch.bytes().len());
        self.batches.push_back(Kept {
            sequence,
            batch,
            tables,
        });
        while self.bytes.get() > RECENT_BYTES_MAX || self.batches.len() > RECENT_BATCHES_MAX {
            let Some(kept) = self.batches.pop_front() else {
                return;
            };
            self.bytes.set(self.bytes.get() - kept.bytes());
            self.after = kept.sequence;
        }
    }

    /// A table of the batch that was added last, unpacked; `None` when it was too large to be kept.
    pub fn newest(&self, table: usize) -> Option<Arc<HeadPart>> {
        self.batches.back().map(|kept| self.part(kept, table))
    }

    fn part(&self, kept: &Kept, table: usize) -> Arc<HeadPart> {
        let unpack = || {
            let part: HeadPart = kept.batch.table(table).read().into();
            self.bytes.set(self.bytes.get() + part.bytes());
            Arc::new(part)
        };
        kept.tables[table].get_or_init(unpack).clone()
    }

    /// Rows of the measurements that are watched, in the batches after one sequence up to that of a snapshot; `None` when some of these
    /// are not known any more.
    pub fn since(
        &self,
        after: u64,
        to: &Snapshot,
        watch: &mut Watch,
        catalog: &Catalog,
    ) -> Option<BatchScan> {
        if after < self.after {
            return None;
        }
        let first = self.batches.partition_point(|kept| kept.sequence <= after);
        let batches = self.batches.range(first..);
        let mut scan = BatchScan::new(to.clone());
        for kept in batches.take_while(|kept| kept.sequence <= to.sequence()) {
            for (at, table) in kept.batch.tables().enumerate() {
                let id = table.measurement();
                if watch.watches(catalog, id) {
                    scan.parts.entry(id).or_default().push(self.part(kept, at));
                }
            }
        }
        Some(scan)
    }
}

/// Some batches as all the data there is.
pub struct BatchScan {
    parts: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
    /// Says what has expired.
    snapshot: Snapshot,
}

impl BatchScan {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            parts: HashMap::new(),
            snapshot,
        }
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Scan for BatchScan {
    fn sources(&self, request: &ScanRequest) -> Result<Vec<Source>, ScanError> {
        let parts = self.parts.get(&request.measurement).into_iter().flatten();
        let parts = parts.filter(|part| request.time.overlaps(&part.time_range()));
        Ok(parts.map(|part| Source::Part(part.clone())).collect())
    }

    fn unexpired(&self, measurement: MeasurementId, time: TimeRange) -> TimeRange {
        self.snapshot.unexpired(measurement, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    #[test]
    fn what_is_known_is_complete() {
        let batch = || Arc::new(EncodedBatch::encode(Batch::default()));
        let mut recent = Recent::default();
        recent.clear(10);
        for sequence in 11..=15 {
            recent.add(sequence, batch());
        }
        assert_eq!((recent.after, recent.batches.len()), (10, 5));
        (16..=15 + RECENT_BATCHES_MAX as u64).for_each(|sequence| recent.add(sequence, batch()));
        assert_eq!((recent.after, recent.batches.len()), (15, RECENT_BATCHES_MAX));
        let bytes: usize = recent.batches.iter().map(Kept::bytes).sum();
        assert_eq!(recent.bytes.get(), bytes);
        recent.clear(20);
        assert_eq!((recent.after, recent.bytes.get()), (20, 0));
    }
}
