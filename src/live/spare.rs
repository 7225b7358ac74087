//! Memory of rows that nobody reads any more, for the next ones. What is put together of the last batches takes megabytes a second, is held for
//! seconds, and goes all at once: by then the allocator would have given the pages back, and the kernel would have to clear new ones.

use crate::model::SortedRows;
use crate::shard::part::HeadPart;
use std::sync::Arc;

/// Of fewer rows the allocator finds room as fast.
const ROWS_MIN: usize = 4096;
/// Rows are given memory that had room for so many times as many, at most.
const LARGER: usize = 2;
/// What was not asked for so many times in a row that it was looked is given back.
const LOOKS_MAX: u32 = 10;

/// See the module.
#[derive(Default)]
pub struct Spare {
    rows: Vec<SortedRows>,
    bytes: usize,
    /// How often it was looked since something was asked for.
    looks: u32,
}

fn bytes(rows: &SortedRows) -> usize {
    let columns = rows.columns.iter().map(|(_, column)| column.capacity_bytes());
    rows.times.capacity() * 8 + rows.series.capacity() * 4 + columns.sum::<usize>()
}

impl Spare {
    /// Bytes of it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps the memory of a part that nobody else holds, unless it would then keep more than so many bytes.
    pub fn keep(&mut self, part: Arc<HeadPart>, bytes_max: usize) {
        if part.rows_max() < ROWS_MIN {
            return;
        }
        let Some(rows) = Arc::into_inner(part).and_then(HeadPart::into_rows) else {
            return;
        };
        let more = bytes(&rows);
        if self.bytes + more <= bytes_max {
            self.bytes += more;
            self.rows.push(rows);
        }
    }

    /// Memory for so many rows, which still holds what it held; without any room when there is none that suits.
    pub fn take(&mut self, rows: usize) -> SortedRows {
        self.looks = 0;
        let suits = |spare: &SortedRows| (rows..=LARGER * rows).contains(&spare.times.capacity());
        let found = self.rows.iter().enumerate().filter(|(_, spare)| suits(spare));
        let Some((at, _)) = found.min_by_key(|(_, spare)| spare.times.capacity()) else {
            return SortedRows::empty(0);
        };
        let found = self.rows.swap_remove(at);
        self.bytes -= bytes(&found);
        found
    }

    /// Gives back one that is spare; `false` when there is none.
    pub fn give_back(&mut self) -> bool {
        let Some(rows) = self.rows.pop() else { return false };
        self.bytes -= bytes(&rows);
        true
    }

    /// Looked at from time to time: what nobody asks for is given back.
    pub fn look(&mut self) {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            self.clear();
        }
    }

    /// Gives back all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rows: usize) -> Arc<HeadPart> {
        let times = (0..rows as i64).collect();
        Arc::new(HeadPart::from(SortedRows::from_unsorted(
            1,
            vec![0; rows],
            times,
            Vec::new(),
        )))
    }

    #[test]
    fn memory_is_used_again_for_about_as_many_rows() {
        let mut spare = Spare::default();
        spare.keep(part(ROWS_MIN - 1), usize::MAX);
        assert_eq!(spare.bytes(), 0, "too small");
        spare.keep(part(5000), 1000);
        assert_eq!(spare.bytes(), 0, "no room");
        let held = part(5000);
        spare.keep(held.clone(), usize::MAX);
        assert_eq!(spare.bytes(), 0, "somebody reads it");
        drop(held);
        for rows in [9000, 5000, 20_000] {
            spare.keep(part(rows), usize::MAX);
        }
        let all = spare.bytes();
        assert!(all >= 34_000 * 12);
        assert_eq!(spare.take(20_001).times.capacity(), 0);
        assert_eq!(spare.take(2_000).times.capacity(), 0, "it would take too much");
        assert!(
            (5_000..9_000).contains(&spare.take(4_600).times.capacity()),
            "the smallest that suits"
        );
        assert!(spare.take(4_600).times.capacity() >= 9_000);
        assert!(spare.bytes() < all - 13_000 * 12);
        assert!(spare.give_back());
        assert!(!spare.give_back());
        assert_eq!(spare.bytes(), 0);
    }

    #[test]
    fn what_nobody_asks_for_is_given_back() {
        let mut spare = Spare::default();
        spare.keep(part(5000), usize::MAX);
        (0..LOOKS_MAX).for_each(|_| spare.look());
        assert!(spare.bytes() > 0);
        spare.take(1);
        (0..LOOKS_MAX).for_each(|_| spare.look());
        assert!(spare.bytes() > 0, "it was asked meanwhile");
        spare.look();
        assert_eq!(spare.bytes(), 0);
    }
}
