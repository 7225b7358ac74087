//! What the head of a shard counts for. Packed rows take a fifth or a tenth of what they take once they are unpacked, and most are
//! sealed before anybody asks for them. So three figures are held against the budget, and the largest counts:
//!
//! - what is in memory now: everything packed, and what queries had unpacked;
//! - the measurement with the most rows, unpacked: a seal unpacks one measurement after the other;
//! - a [`QUERIED_SHARE`]th of all rows, unpacked, which is what queries could make of the head before it can be sealed.

use super::part::HeadPart;
use crate::model::MeasurementId;
use hashbrown::{HashMap, HashSet};

/// What the head may grow to when queries unpack all of it, in budgets.
const QUERIED_SHARE: usize = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Size {
    /// Groups that are not folded yet, unpacked.
    recent: usize,
    /// Parts as they came.
    packed: usize,
    /// Parts unpacked.
    unpacked: usize,
    of: HashMap<MeasurementId, Bytes>,
    /// Measurements that queries asked for: their parts are, or soon will be, unpacked.
    asked: HashSet<MeasurementId>,
    /// What unpacking those adds.
    asked_bytes: usize,
    /// Of the largest measurement, unpacked; never too small.
    largest: usize,
}

#[derive(Clone, Copy, Default)]
struct Bytes {
    packed: usize,
    unpacked: usize,
}

impl Size {
    /// What it counts for.
    pub fn bytes(&self) -> usize {
        let now = self.recent + self.packed + self.asked_bytes;
        now.max(self.recent + self.largest)
            .max((self.recent + self.unpacked) / QUERIED_SHARE)
    }

    /// Another group.
    pub fn add_recent(&mut self, bytes: usize) {
        self.recent += bytes;
    }

    /// All groups become parts.
    pub fn clear_recent(&mut self) {
        self.recent = 0;
    }

    pub fn add(&mut self, part: &HeadPart) {
        let (packed, unpacked) = (part.packed_bytes(), part.bytes());
        self.packed += packed;
        self.unpacked += unpacked;
        if self.asked.contains(&part.measurement()) {
            self.asked_bytes += unpacked - packed;
        }
        let of = self.of.entry(part.measurement()).or_default();
        of.packed += packed;
        of.unpacked += unpacked;
        self.largest = self.largest.max(of.unpacked);
    }

    pub fn remove(&mut self, part: &HeadPart) {
        let (packed, unpacked) = (part.packed_bytes(), part.bytes());
        self.packed -= packed;
        self.unpacked -= unpacked;
        if self.asked.contains(&part.measurement()) {
            self.asked_bytes -= unpacked - packed;
        }
        if let Some(of) = self.of.get_mut(&part.measurement()) {
            of.packed -= packed;
            of.unpacked -= unpacked;
        }
    }

    /// Queries ask for a measurement.
    pub fn unpack(&mut self, measurement: MeasurementId) {
        if self.asked.insert(measurement)
            && let Some(of) = self.of.get(&measurement)
        {
            self.asked_bytes += of.unpacked - of.packed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Batch, EncodedBatch, Table};
    use crate::model::{Column, Values};
    use crate::shard::Group;
    use crate::shard::head::ShardHead;
    use std::sync::Arc;

    const ROWS: usize = 1000;

    fn group(measurement: MeasurementId) -> Group {
        let table = Table {
            shard: 0,
            measurement,
            series: (0..ROWS as u32).collect(),
            times: vec![5; ROWS],
            columns: vec![(
                0,
                Column {
                    values: Values::Integer((0..ROWS as i64).map(|i| i * 7919 % 100).collect()),
                    present: None,
                },
            )],
        };
        let batch = Batch {
            shards: 1,
            tables: vec![table],
            ..Batch::default()
        };
        Group {
            first: 1,
            last: 1,
            batches: vec![Arc::new(EncodedBatch::encode(batch))],
        }
    }

    /// Bytes a row that so many groups of some measurements count for, once all are folded.
    fn bytes_a_row(measurements: u32, query: bool) -> f64 {
        let mut head = ShardHead::new(0);
        let (mut rows, mut bytes) = (0, 0);
        for at in 0..32 * 32u32 {
            let update = head.apply(&group(at % measurements));
            rows += ROWS;
            bytes = update.bytes;
            if let (true, Some(lists)) = (query, update.folded) {
                lists.iter().for_each(|(_, parts)| assert!(!parts[0].is_empty()));
            }
        }
        bytes as f64 / rows as f64
    }

    #[test]
    fn one_measurement_counts_unpacked_and_many_packed() {
        // Unpacked a row takes 20 bytes: series, time, a number.
        let one = bytes_a_row(1, false);
        assert!((20.0..23.0).contains(&one), "{one}");
        let many = bytes_a_row(16, false);
        assert!((5.0..6.0).contains(&many), "{many}: a fourth");
        let asked = bytes_a_row(16, true);
        assert!((20.0..23.0).contains(&asked), "{asked}: queries unpacked all");
    }

    #[test]
    fn what_queries_unpack_counts_from_the_next_group_on() {
        let mut head = ShardHead::new(0);
        let mut lists = Vec::new();
        let mut before = 0;
        for at in 0..32 {
            let update = head.apply(&group(at));
            before = update.bytes;
            lists.extend(update.folded.into_iter().flatten());
        }
        assert_eq!(lists.len(), 32);
        lists.iter().for_each(|(_, parts)| assert!(!parts[0].is_empty()));
        let after = head.apply(&group(99)).bytes;
        assert!(
            after > 20 * 33 * ROWS && after > 3 * before,
            "{before}, then {after}"
        );
    }

    #[test]
    fn nothing_is_left_when_all_is_gone() {
        let mut head = ShardHead::new(0);
        (0..40).for_each(|at| drop(head.apply(&group(at % 3))));
        head.freeze();
        let left = head.apply(&Group {
            first: 2,
            last: 2,
            batches: Vec::new(),
        });
        assert_eq!(left.bytes, 0);
    }
}
