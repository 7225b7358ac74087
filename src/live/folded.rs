//! What a computation has folded of its newest windows, bounded in number and bytes. Pure but for what is kept.

use crate::query::exec::Kept;
use std::collections::BTreeMap;

/// Windows of a computation whose folds are kept: the newest ones. Others are evaluated anew when they change.
pub const WINDOWS_FOLDED_MAX: usize = 16;
/// Bytes of one computation's folds.
pub const FOLDED_BYTES_MAX: usize = 16 << 20;

/// See the module.
pub struct FoldedWindows {
    possible: bool,
    kept: BTreeMap<i64, Folded>,
    bytes: usize,
    bytes_max: usize,
    /// All that was committed up to here is in what is kept.
    through: u64,
    /// No row up to there was later; `None` when that is not known.
    newest: Option<i64>,
}

/// What was folded of a window.
struct Folded {
    kept: Kept,
    bytes: usize,
    /// When it was kept it had all that was committed up to here.
    sequence: u64,
}

impl FoldedWindows {
    /// Nothing yet; not `possible` where it is known that the SELECT must be evaluated.
    pub fn new(possible: bool) -> Self {
        Self {
            possible,
            kept: BTreeMap::new(),
            bytes: 0,
            bytes_max: FOLDED_BYTES_MAX,
            through: 0,
            newest: None,
        }
    }

    /// Can windows be folded at all?
    pub fn is_possible(&self) -> bool {
        self.possible
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// There are so many computations, among which so many bytes for folds are shared.
    pub fn share(&mut self, all: usize, computations: usize) {
        self.bytes_max = FOLDED_BYTES_MAX.min(all / computations.max(1));
        self.trim();
    }

    /// All that was committed up to here is in what is kept.
    pub fn through(&mut self, sequence: u64) {
        self.through = self.through.max(sequence);
    }

    /// Up to where that is.
    pub fn is_through(&self) -> u64 {
        self.through
    }

    /// No row up to the sequence that was [said](Self::through) last is later than this.
    pub fn newest(&mut self, newest: Option<i64>) {
        self.newest = newest;
    }

    /// Takes what was folded of a window, and up to which sequence. Of a window that had no rows then nothing was folded, which is known, too.
    pub fn take(&mut self, start: i64) -> Option<(Kept, u64)> {
        let Some(folded) = self.kept.remove(&start) else {
            let was_empty = self.possible && self.newest.is_some_and(|newest| newest < start);
            return was_empty.then(|| (Kept::default(), self.through));
        };
        self.bytes -= folded.bytes;
        let mut kept = folded.kept;
        kept.goes_on();
        Some((kept, folded.sequence.max(self.through)))
    }

    /// Keeps what was folded of a window up to a sequence.
    pub fn keep(&mut self, start: i64, kept: Kept, sequence: u64) {
        if kept.is_refused() {
            self.possible = false;
            return self.clear();
        }
        let bytes = kept.bytes();
        self.bytes += bytes;
        let folded = Folded {
            kept,
            bytes,
            sequence,
        };
        self.kept.insert(start, folded);
        self.trim();
    }

    fn trim(&mut self) {
        while self.kept.len() > WINDOWS_FOLDED_MAX || self.bytes > self.bytes_max {
            let Some((_, folded)) = self.kept.pop_first() else {
                return;
            };
            self.bytes -= folded.bytes;
        }
    }

    /// What was folded of these windows does not hold any more.
    pub fn forget(&mut self, starts: impl Iterator<Item = i64>) {
        if self.kept.is_empty() {
            return;
        }
        for start in starts {
            if let Some(folded) = self.kept.remove(&start) {
                self.bytes -= folded.bytes;
            }
        }
    }

    /// The same of the windows that begin in [from, to).
    pub fn forget_range(&mut self, from: i64, to: i64) {
        let starts: Vec<i64> = self.kept.range(from..to).map(|(start, _)| *start).collect();
        self.forget(starts.into_iter());
    }

    /// The same of all.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
        self.newest = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_windows_are_kept_within_their_bounds() {
        let mut folded = FoldedWindows::new(true);
        folded.through(7);
        (0..100).for_each(|start| folded.keep(start, Kept::default(), 5));
        assert_eq!(folded.kept.len(), WINDOWS_FOLDED_MAX);
        assert!(folded.take(3).is_none() && folded.take(99).is_some_and(|(_, through)| through == 7));
        assert!(folded.take(99).is_none());
        folded.newest(Some(98));
        assert!(
            folded.take(99).is_some_and(|(_, through)| through == 7),
            "it was empty"
        );
        assert!(folded.take(3).is_none());
        folded.keep(99, Kept::default(), 9);
        assert!(folded.take(99).is_some_and(|(_, through)| through == 9));
        folded.forget([98, 5].into_iter());
        folded.forget_range(90, 95);
        assert_eq!(folded.kept.len(), WINDOWS_FOLDED_MAX - 7);
        folded.bytes = FOLDED_BYTES_MAX + 1;
        folded
            .kept
            .values_mut()
            .for_each(|kept| kept.bytes = FOLDED_BYTES_MAX);
        folded.share(256 << 20, 1);
        assert!(folded.bytes <= FOLDED_BYTES_MAX);
        folded.share(256 << 20, 1 << 20);
        assert_eq!(folded.bytes_max, 256);
    }
}
