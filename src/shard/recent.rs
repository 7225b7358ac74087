//! The tables of one group in one shard, before they are folded with others. Most groups are folded before anybody asks for them, so
//! nothing is made of them but a sum of bytes; a query that asks for a measurement finds its tables by an index that is made then.

use super::head::Parts;
use super::part::{Asks, HeadPart, Source};
use crate::batch::{EncodedBatch, TableView};
use crate::model::MeasurementId;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// See the module.
pub struct Recent {
    shard: u16,
    /// In order of arrival.
    batches: Vec<Arc<EncodedBatch>>,
    asks: Arc<Asks>,
    bytes: usize,
    index: OnceLock<Index>,
}

#[derive(Default)]
struct Index {
    /// Batch and table, by measurement, then in order of arrival.
    tables: Vec<(usize, usize)>,
    /// Ascending.
    measurements: Vec<Indexed>,
}

struct Indexed {
    measurement: MeasurementId,
    tables: Range<usize>,
    parts: OnceLock<Parts>,
}

impl Recent {
    /// The shard's tables of these batches. `None`: there are none.
    pub(super) fn new(shard: u16, batches: &[Arc<EncodedBatch>], asks: &Arc<Asks>) -> Option<Self> {
        let mut recent = Self {
            shard,
            batches: batches.to_vec(),
            asks: asks.clone(),
            bytes: 0,
            index: OnceLock::new(),
        };
        let (mut is_empty, mut is_known, mut bytes) = (true, true, 0);
        for (_, table) in recent.tables() {
            is_empty = false;
            match table.unpacked_bytes() {
                Some(unpacked) => bytes += unpacked + table.packed_bytes(),
                None => is_known = false,
            }
        }
        recent.bytes = match is_known {
            true => bytes,
            // Strings may take any number of bytes: only their parts know.
            false => recent.all().map(|(_, parts)| parts[0].bytes()).sum(),
        };
        (!is_empty).then_some(recent)
    }

    /// Bytes of memory it takes once it is unpacked.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Did anybody ask for any of it?
    pub(super) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    /// The shard's tables, in order of arrival.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&Arc<EncodedBatch>, TableView<'_>)> {
        self.batches.iter().flat_map(|batch| {
            let tables = batch.tables().filter(|table| table.shard() == self.shard);
            tables.map(move |table| (batch, table))
        })
    }

    /// A measurement's part, as a list like those of others.
    pub fn parts(&self, measurement: MeasurementId) -> Option<&Parts> {
        let index = self.index();
        let at = index
            .measurements
            .binary_search_by_key(&measurement, |indexed| indexed.measurement);
        Some(self.parts_of(&index.measurements[at.ok()?]))
    }

    /// The parts of all measurements.
    pub(super) fn all(&self) -> impl Iterator<Item = (MeasurementId, &Parts)> {
        let measurements = self.index().measurements.iter();
        measurements.map(|indexed| (indexed.measurement, self.parts_of(indexed)))
    }

    fn parts_of<'a>(&'a self, indexed: &'a Indexed) -> &'a Parts {
        indexed.parts.get_or_init(|| {
            let tables = &self.index().tables[indexed.tables.clone()];
            let source = |&(batch, table): &(usize, usize)| {
                let batch = &self.batches[batch];
                Source::of_table(batch, &batch.table(table))
            };
            let sources = tables.iter().map(source).collect();
            let part = HeadPart::of_sources(indexed.measurement, sources, &self.asks);
            Parts::from([Arc::new(part)])
        })
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut found: Vec<(MeasurementId, usize, usize)> = Vec::new();
            for (at, batch) in self.batches.iter().enumerate() {
                let own = batch.tables().filter(|table| table.shard() == self.shard);
                found.extend(own.map(|table| (table.measurement(), at, table.at())));
            }
            found.sort_unstable();
            let mut index = Index::default();
            for same in found.chunk_by(|a, b| a.0 == b.0) {
                let first = index.tables.len();
                index
                    .tables
                    .extend(same.iter().map(|&(_, batch, table)| (batch, table)));
                index.measurements.push(Indexed {
                    measurement: same[0].0,
                    tables: first..index.tables.len(),
                    parts: OnceLock::new(),
                });
            }
            index
        })
    }
}
