//! The last committed batches, for tails of clients that come back.

use crate::batch::EncodedBatch;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of batches that are kept while there are tails.
pub const RECENT_BYTES_MAX: usize = 32 << 20;
/// Batches that are kept.
pub const RECENT_BATCHES_MAX: usize = 16_384;

/// See the module.
#[derive(Default)]
pub struct Recent {
    batches: VecDeque<(u64, Arc<EncodedBatch>)>,
    bytes: usize,
    /// Every batch after this sequence is here.
    after: u64,
}

impl Recent {
    /// Begins anew: only what comes after `sequence` is known.
    pub fn clear(&mut self, sequence: u64) {
        self.batches.clear();
        self.bytes = 0;
        self.after = sequence;
    }

    /// Adds the next batch.
    pub fn add(&mut self, sequence: u64, batch: Arc<EncodedBatch>) {
        self.bytes += batch.bytes().len();
        self.batches.push_back((sequence, batch));
        while self.bytes > RECENT_BYTES_MAX || self.batches.len() > RECENT_BATCHES_MAX {
            let Some((sequence, batch)) = self.batches.pop_front() else {
                return;
            };
            self.bytes -= batch.bytes().len();
            self.after = sequence;
        }
    }

    /// Batches after one sequence, up to another; `None` when some are not known any more.
    pub fn between(&self, after: u64, to: u64) -> Option<impl Iterator<Item = &Arc<EncodedBatch>>> {
        if after < self.after {
            return None;
        }
        let first = self.batches.partition_point(|(sequence, _)| *sequence <= after);
        let batches = self
            .batches
            .range(first..)
            .take_while(move |(sequence, _)| *sequence <= to);
        Some(batches.map(|(_, batch)| batch))
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
        let count = |recent: &Recent, after, to| recent.between(after, to).map(Iterator::count);
        assert_eq!(count(&recent, 9, 15), None);
        assert_eq!(count(&recent, 10, 15), Some(5));
        assert_eq!(count(&recent, 13, 14), Some(1));
        assert_eq!(count(&recent, 15, 15), Some(0));
        (16..=15 + RECENT_BATCHES_MAX as u64).for_each(|sequence| recent.add(sequence, batch()));
        assert_eq!(count(&recent, 14, 20), None);
        assert_eq!(count(&recent, 15, 20), Some(5));
    }
}
