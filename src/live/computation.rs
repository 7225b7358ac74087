//! One windowed SELECT that is kept up to date, for all who subscribed to it.

use super::evaluate::Evaluator;
use super::message::Kind;
use super::plan::Plan;
use super::watch::Watch;
use super::windows::{Row, Windows};
use crate::catalog::Catalog;
use crate::query::QueryError;
use crate::query::scan::Scan;

/// See the module.
pub struct Computation {
    evaluator: Evaluator,
    watch: Watch,
    windows: Windows,
    whole: bool,
    to: i64,
    lateness: i64,
    /// What was sent may be wrong in ways that rows cannot say: everybody gets a new snapshot.
    reset: bool,
    /// The newest window that was looked at when it began.
    opened: i64,
    sequence: u64,
}

/// What an update found.
pub enum News {
    /// These rows changed.
    Rows(Vec<(Kind, Row)>),
    /// Everything may have changed.
    Everything,
}

impl Computation {
    /// Of a plan with windows, which begin with the one that holds `from`.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(
        plan: &Plan,
        borders: &crate::query::windows::Windows,
        from: i64,
        now: i64,
    ) -> Result<Self, String> {
        Ok(Self {
            watch: plan.watch()?,
            evaluator: Evaluator::new(plan.statement.clone(), &plan.database),
            windows: Windows::new(borders.clone(), from, now.saturating_sub(plan.lateness)),
            whole: plan.whole,
            to: plan.to,
            lateness: plan.lateness,
            reset: true,
            opened: borders.start(now),
            sequence: 0,
        })
    }

    /// How its rows are read.
    pub fn evaluator(&self) -> &Evaluator {
        &self.evaluator
    }

    /// What it remembers.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// What it reads.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Everything up to here is reflected in what it remembers.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Rows were committed at these times.
    pub fn touch(&mut self, times: impl Iterator<Item = i64>) {
        let mut last = None;
        for time in times {
            let start = self.windows.start_of(time);
            if last != Some(start) {
                self.windows.touch(time);
                last = Some(start);
            }
        }
    }

    /// Rows were committed between these times.
    pub fn touch_range(&mut self, min: i64, max: i64) {
        self.windows.touch_range(min, max);
    }

    /// Anything may have changed.
    pub fn reset(&mut self) {
        self.watch.forget();
        self.reset = true;
    }

    /// A window that begins is looked at once: it may hold points that came before their time.
    fn open(&mut self, now: i64) {
        let current = self.windows.start_of(now);
        if current > self.opened {
            self.windows.touch_range(self.windows.next(self.opened), current);
            self.opened = current;
        }
    }

    /// Is there anything to look at?
    pub fn is_dirty(&mut self, now: i64) -> bool {
        self.open(now);
        self.reset || self.windows.is_dirty(now.min(self.to))
    }

    /// The last nanosecond of the window of `now`.
    fn end(&self, now: i64) -> i64 {
        let next = self.windows.next(self.windows.start_of(now));
        next.saturating_sub(1).min(self.to)
    }

    /// Looks again at what was touched.
    ///
    /// # Errors
    /// What the query gives; the computation is then of no use any more.
    pub fn update(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        sequence: u64,
        now: i64,
    ) -> Result<News, QueryError> {
        let ranges = self.windows.take_dirty(now);
        let columns = self.evaluator.columns().clone();
        if !self.reset {
            let mut rows = Vec::new();
            if self.whole && !ranges.is_empty() {
                let range = (self.windows.since(), self.end(now));
                rows = self.evaluator.rows(catalog, scan, range, now)?;
            } else {
                for (from, to) in ranges {
                    let range = (from, to.saturating_sub(1).min(self.to));
                    if range.0 <= range.1 {
                        rows.extend(self.evaluator.rows(catalog, scan, range, now)?);
                    }
                }
            }
            if columns.is_empty() || *self.evaluator.columns() == columns {
                self.sequence = sequence;
                return Ok(News::Rows(self.windows.learn(rows, sequence)));
            }
        }
        // Also when a new field made new columns.
        self.reset = false;
        self.windows.clear(sequence);
        let rows = self.history(catalog, scan, self.windows.since(), i64::MAX, now)?;
        self.windows.learn(rows, sequence);
        self.sequence = sequence;
        Ok(News::Everything)
    }

    /// Rows from one time to before another, not remembered.
    ///
    /// # Errors
    /// What the query gives.
    pub fn history(
        &mut self,
        catalog: &Catalog,
        scan: &dyn Scan,
        from: i64,
        before: i64,
        now: i64,
    ) -> Result<Vec<Row>, QueryError> {
        let to = self.end(now).min(before.saturating_sub(1));
        if from > to {
            return Ok(Vec::new());
        }
        self.evaluator.rows(catalog, scan, (from, to), now)
    }

    /// Windows that have ended for good.
    pub fn close(&mut self, now: i64) -> Vec<(Kind, Row)> {
        self.windows
            .close(now.saturating_sub(self.lateness), self.sequence)
    }
}
