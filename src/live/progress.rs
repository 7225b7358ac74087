//! How far a continuous query is: up to when windows were written, which of them wait to be written again, and up to which
//! sequence commits were looked at. Pure; kept as a record of the catalog.

use serde::{Deserialize, Serialize};

/// The kind of the records.
pub const KIND: &str = "continuous_progress";
/// Ranges of windows that wait; beyond it the two nearest become one.
const RANGES_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// A hash of the statement: another query of the same name begins anew.
    statement: u64,
    /// Windows that begin before this were written, but for those that wait.
    pub through: i64,
    /// Commits up to here are reflected in what waits.
    pub sequence: u64,
    /// All windows wait, as far back as there are points.
    pub everything: bool,
    /// Ranges [from, to) of windows that wait, ascending, apart.
    waiting: Vec<(i64, i64)>,
}

impl Progress {
    /// Of a query that begins at a window.
    pub fn new(statement: &str, through: i64, sequence: u64) -> Self {
        Self {
            statement: xxhash_rust::xxh3::xxh3_64(statement.as_bytes()),
            through,
            sequence,
            everything: false,
            waiting: Vec::new(),
        }
    }

    /// As it is kept.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("numbers serialise")
    }

    /// Read again.
    pub fn of_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Is it of this statement?
    pub fn is_of(&self, statement: &str) -> bool {
        self.statement == xxhash_rust::xxh3::xxh3_64(statement.as_bytes())
    }

    /// All but the sequence: what changes only when there was something to do.
    pub fn windows(&self) -> (i64, bool, &[(i64, i64)]) {
        (self.through, self.everything, &self.waiting)
    }

    /// The windows in [from, to) wait.
    pub fn add(&mut self, from: i64, to: i64) {
        if from >= to {
            return;
        }
        let at = self.waiting.partition_point(|(_, end)| *end < from);
        let mut range = (from, to);
        while let Some(&(start, end)) = self.waiting.get(at).filter(|(start, _)| *start <= range.1) {
            range = (range.0.min(start), range.1.max(end));
            self.waiting.remove(at);
        }
        self.waiting.insert(at, range);
        if self.waiting.len() > RANGES_MAX {
            let gap = |pair: &[(i64, i64)]| i128::from(pair[1].0) - i128::from(pair[0].1);
            let pairs = self.waiting.windows(2).enumerate();
            if let Some((nearest, _)) = pairs.min_by_key(|(_, pair)| gap(pair)) {
                self.waiting[nearest].1 = self.waiting[nearest + 1].1;
                self.waiting.remove(nearest + 1);
            }
        }
    }

    /// The windows to write next.
    pub fn first(&self) -> Option<(i64, i64)> {
        self.waiting.first().copied()
    }

    /// The first windows up to `to` were written.
    pub fn done(&mut self, to: i64) {
        if let Some(first) = self.waiting.first_mut() {
            first.0 = to;
            if first.0 >= first.1 {
                self.waiting.remove(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_put_together() {
        let mut progress = Progress::new("q", 0, 0);
        for (from, to) in [(10, 20), (40, 50), (20, 30), (5, 5), (0, 1)] {
            progress.add(from, to);
        }
        assert_eq!(progress.waiting, [(0, 1), (10, 30), (40, 50)]);
        progress.add(1, 45);
        assert_eq!(progress.waiting, [(0, 50)]);
        progress.done(30);
        assert_eq!(progress.first(), Some((30, 50)));
        progress.done(50);
        assert_eq!(progress.first(), None);
        let kept = Progress::of_text(&progress.to_text());
        assert_eq!(kept.as_ref(), Some(&progress));
        assert!(progress.is_of("q") && !progress.is_of("r"));
    }

    #[test]
    fn too_many_ranges_are_put_together_where_they_are_nearest() {
        let mut progress = Progress::new("q", 0, 0);
        (0..RANGES_MAX as i64).for_each(|i| progress.add(i * 100, i * 100 + 10));
        progress.add(95, 97);
        assert_eq!(progress.waiting.len(), RANGES_MAX);
        assert_eq!(progress.waiting[0], (0, 10));
        assert_eq!(progress.waiting[1], (95, 110));
    }
}
