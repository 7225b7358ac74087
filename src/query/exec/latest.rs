//! LIMIT without a walk through everything: of each group only the first or the last so many rows are wanted, so what is
//! later or earlier than those already found need not be read.

use super::Prepared;
use crate::model::TimeRange;
use crate::query::error::QueryError;
use crate::query::scan::{Batch, SeriesRun};
use std::collections::BinaryHeap;

/// More rows than this are not worth keeping track of.
const ROWS_MAX: usize = 4096;

/// The best times of each group so far. Each worker has its own.
#[derive(Clone)]
pub struct Latest {
    /// Rows wanted of a group.
    count: usize,
    ascending: bool,
    /// By group: the best times, worst on top; those of a descending statement are negated.
    best: Vec<BinaryHeap<i64>>,
}

impl Latest {
    /// For a statement with a small LIMIT.
    pub fn new(prepared: &Prepared) -> Option<Self> {
        let count = prepared.rows_max().filter(|&count| count <= ROWS_MAX)?;
        Some(Self {
            count,
            ascending: prepared.ascending,
            best: Vec::new(),
        })
    }

    /// Is one row of a group enough?
    pub fn is_one(&self) -> bool {
        self.count == 1
    }

    /// Smaller is better.
    fn rank(&self, time: i64) -> i64 {
        if self.ascending { time } else { -time }
    }

    /// Are all rows of a range of time worse than what a group has already? Rows as good as the worst are not: which of
    /// them is wanted is decided in the end.
    pub fn is_needless(&self, group: u32, time: TimeRange) -> bool {
        let rank = self.rank(if self.ascending { time.min } else { time.max });
        let best = self.best.get(group as usize);
        best.is_some_and(|best| best.len() >= self.count && best.peek().is_some_and(|worst| rank > *worst))
    }

    /// Those rows (of all, or of some) of a batch that may be wanted.
    ///
    /// # Errors
    /// What `group` gives.
    pub fn choose(
        &mut self,
        batch: &Batch<'_>,
        rows: Option<Vec<u32>>,
        mut group: impl FnMut(&SeriesRun) -> Result<u32, QueryError>,
    ) -> Result<Vec<u32>, QueryError> {
        let mut chosen = Vec::new();
        let mut from = 0;
        for run in batch.runs {
            let group = group(run)?;
            let begin = chosen.len();
            match &rows {
                Some(rows) => {
                    let start = from + rows[from..].partition_point(|&row| row < run.start);
                    let end = start + rows[start..].partition_point(|&row| row < run.end);
                    from = end;
                    self.of_run(
                        group,
                        &rows[start..end],
                        |row| batch.times[*row as usize],
                        &mut chosen,
                    );
                }
                None => {
                    let len = run.len().min(self.count);
                    let (start, end) = match self.ascending {
                        true => (run.start, run.start + len as u32),
                        false => (run.end - len as u32, run.end),
                    };
                    let all: Vec<u32> = (start..end).collect();
                    self.of_run(group, &all, |row| batch.times[*row as usize], &mut chosen);
                }
            }
            chosen[begin..].sort_unstable();
        }
        Ok(chosen)
    }

    /// Takes the best of some rows of one series, which ascend in time.
    fn of_run(&mut self, group: u32, rows: &[u32], time: impl Fn(&u32) -> i64, chosen: &mut Vec<u32>) {
        let group = group as usize;
        if self.best.len() <= group {
            self.best.resize(group + 1, BinaryHeap::new());
        }
        let (count, ascending) = (self.count, self.ascending);
        let best = &mut self.best[group];
        let mut take = |row: &u32| {
            let rank = if ascending { time(row) } else { -time(row) };
            if best.len() >= count {
                let worst = best.peek().copied().unwrap_or(i64::MAX);
                if rank > worst {
                    return false;
                }
                best.push(rank);
                best.pop();
            } else {
                best.push(rank);
            }
            chosen.push(*row);
            true
        };
        // From the best on; what follows the first that is not wanted is worse.
        let _ = if ascending {
            rows.iter().take(count).all(&mut take)
        } else {
            rows.iter().rev().take(count).all(&mut take)
        };
    }
}
