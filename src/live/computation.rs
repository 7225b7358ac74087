//! One windowed SELECT that is kept up to date, for all who subscribed to it.
//!
//! What changed in a window is folded into what was folded of it before (`live::folded`), where that can be; elsewhere the window
//! is evaluated anew. Both run through the executor of `/query`.

use super::evaluate::Evaluator;
use super::folded::FoldedWindows;
use super::message::Kind;
use super::pace::Pace;
use super::plan::Plan;
use super::recent::Recent;
use super::row::Row;
use super::watch::Watch;
use super::windows::{Looked, Windows};
use crate::catalog::Catalog;
use crate::query::QueryError;
use crate::query::exec::Kept;
use crate::query::scan::Scan;
use crate::query::snapshot::Snapshot;

/// More windows that changed at once are evaluated together and none of them is kept.
const WINDOWS_APART_MAX: usize = 8;

/// See the module.
pub struct Computation {
    evaluator: Evaluator,
    watch: Watch,
    windows: Windows,
    folded: FoldedWindows,
    whole: bool,
    to: i64,
    lateness: i64,
    /// What was sent may be wrong in ways that rows cannot say: everybody gets a new snapshot.
    reset: bool,
    /// The newest window that was looked at when it began, and when the next one begins.
    opened: i64,
    next: i64,
    /// When the watermark is here, another window is final.
    closing: i64,
    sequence: u64,
    /// Windows whose news were folded into what was known of them, since this was asked last.
    pub folds: u64,
    /// When it is brought up to date next.
    pub pace: Pace,
}

/// What an update found.
pub enum News {
    /// These rows changed.
    Rows(Vec<(Kind, Row)>),
    /// Everything may have changed.
    Everything,
}

/// What there is to look at.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// Names.
    pub catalog: &'a Catalog,
    /// All data.
    pub snapshot: &'a Snapshot,
    /// What of it is new.
    pub recent: &'a Recent,
    /// No row of what it reads is later, if that is known.
    pub newest: Option<i64>,
    /// The time.
    pub now: i64,
}

impl Computation {
    /// Of a plan with windows, which begin with the one that holds `from`.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(
        plan: &Plan,
        borders: &crate::query::windows::Windows,
        (from, now): (i64, i64),
        bytes_max: usize,
    ) -> Result<Self, String> {
        let windows = Windows::new(borders.clone(), from, now.saturating_sub(plan.lateness));
        Ok(Self {
            watch: plan.watch()?,
            evaluator: Evaluator::new(plan.statement.clone(), &plan.database, bytes_max),
            next: borders.next(borders.start(now)),
            closing: windows.closing(),
            windows,
            folded: FoldedWindows::new(!plan.whole && borders.over.is_none()),
            whole: plan.whole,
            to: plan.to,
            lateness: plan.lateness,
            reset: true,
            opened: borders.start(now),
            sequence: 0,
            folds: 0,
            pace: Pace::default(),
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

    /// Bytes of the rows and groups that it remembers, about.
    pub fn remembered(&self) -> usize {
        self.windows.bytes() + self.evaluator.remembered()
    }

    /// Forgets older windows until its rows take so many bytes, but for those of the newest window.
    pub fn shrink(&mut self, bytes: usize) {
        self.windows.shrink(bytes);
    }

    /// What it has folded.
    pub fn folded(&mut self) -> &mut FoldedWindows {
        &mut self.folded
    }

    /// May windows be folded?
    pub fn may_fold(&self) -> bool {
        self.folded.is_possible()
    }

    /// What was committed up to here is in all that it has folded.
    pub fn has_folded(&self) -> u64 {
        self.folded.is_through()
    }

    /// What it reads.
    pub fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Everything up to here is reflected in what it remembers.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Rows were committed: of each window in which there are some, the latest time.
    pub fn touch(&mut self, latest: &[i64]) {
        latest.iter().for_each(|time| self.windows.touch(*time));
    }

    /// Rows at these times may have replaced others.
    pub fn replaced(&mut self, times: &[i64]) {
        self.folded
            .forget(times.iter().map(|time| self.windows.start_of(*time)));
    }

    /// Rows were committed between these times, nobody knows which.
    pub fn touch_range(&mut self, min: i64, max: i64) {
        self.windows.touch_range(min, max);
        self.folded.clear();
    }

    /// Anything may have changed.
    pub fn reset(&mut self) {
        self.watch.forget();
        self.folded.clear();
        self.reset = true;
    }

    /// A window that begins is looked at once: it may hold points that came before their time.
    fn open(&mut self, now: i64) {
        if now < self.next {
            return;
        }
        let current = self.windows.start_of(now);
        if current > self.opened {
            self.windows.touch_range(self.windows.next(self.opened), current);
            self.opened = current;
            self.next = self.windows.next(current);
        }
    }

    /// Is the next window over?
    pub fn is_closing(&self, now: i64) -> bool {
        now.saturating_sub(self.lateness) >= self.closing
    }

    /// Is there anything to look at?
    pub fn is_dirty(&mut self, now: i64) -> bool {
        self.open(now);
        self.reset || self.windows.is_dirty(now.min(self.to))
    }

    /// Nothing of what it reads was committed up to here that it was not told of.
    pub fn is_clean(&mut self, sequence: u64) {
        self.folded.through(sequence);
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
    pub fn update(&mut self, sight: &Sight<'_>) -> Result<News, QueryError> {
        let (catalog, snapshot, now) = (sight.catalog, sight.snapshot, sight.now);
        let sequence = snapshot.sequence();
        let ranges = self.windows.take_dirty(now);
        // Rows of windows that have not begun wait there. Had the clock gone back, something might have been folded of them before.
        self.folded.forget_range(now.saturating_add(1), i64::MAX);
        let shape = self.evaluator.shape();
        if !self.reset {
            let (mut rows, mut looked) = (Vec::new(), Vec::new());
            if self.whole && !ranges.is_empty() {
                let range = (self.windows.since(), self.end(now));
                rows = self.evaluator.rows(catalog, snapshot, range, now)?;
                looked.push(all(range));
            } else {
                for (from, to) in ranges {
                    self.range(sight, (from, to), &mut rows, &mut looked)?;
                }
            }
            if shape.0.is_empty() || self.evaluator.shape() == shape {
                self.sequence = sequence;
                self.folded.through(sequence);
                self.folded.newest(sight.newest);
                let columns = self.evaluator.columns().len();
                return Ok(News::Rows(self.windows.learn(rows, &looked, columns, sequence)));
            }
        }
        // Also when a new field made new columns, or a new tag other groups.
        self.reset = false;
        self.folded.clear();
        self.windows.clear(sequence);
        let rows = self.history(catalog, snapshot, self.windows.since(), i64::MAX, now)?;
        self.windows.learn(rows, &[], 0, sequence);
        self.sequence = sequence;
        self.folded.through(sequence);
        self.folded.newest(sight.newest);
        Ok(News::Everything)
    }

    /// The rows of the windows from one time to another that may have changed.
    fn range(
        &mut self,
        sight: &Sight<'_>,
        (from, to): (i64, i64),
        rows: &mut Vec<Row>,
        looked: &mut Vec<Looked>,
    ) -> Result<(), QueryError> {
        let mut starts = vec![from];
        while self.folded.is_possible() && starts.len() <= WINDOWS_APART_MAX {
            let next = self.windows.next(starts[starts.len() - 1]);
            if next >= to {
                break;
            }
            starts.push(next);
        }
        if !self.folded.is_possible() || starts.len() > WINDOWS_APART_MAX {
            self.folded.forget_range(from, to);
            let range = (from, to.saturating_sub(1).min(self.to));
            if range.0 <= range.1 {
                let evaluator = &mut self.evaluator;
                rows.extend(evaluator.rows(sight.catalog, sight.snapshot, range, sight.now)?);
                looked.push(all(range));
            }
            return Ok(());
        }
        for start in starts {
            let range = (start, (self.windows.next(start) - 1).min(self.to));
            if range.0 <= range.1 {
                let folds = self.folds;
                rows.extend(self.window(sight, start, range)?);
                looked.push(Looked {
                    all: self.folds == folds,
                    ..all(range)
                });
            }
        }
        Ok(())
    }

    /// The rows of a window that may have changed: folded further if what was folded of it is known and still holds, else anew.
    fn window(&mut self, sight: &Sight<'_>, start: i64, range: (i64, i64)) -> Result<Vec<Row>, QueryError> {
        let Sight {
            catalog,
            snapshot,
            recent,
            now,
            ..
        } = *sight;
        if let Some((kept, after)) = self.folded.take(start)
            && let Some(new) = recent.since(after, snapshot, &mut self.watch, catalog)
        {
            // What does not fit together any more is told by an error, and evaluated anew.
            if let Ok((rows, kept)) = self.evaluator.fold(catalog, &new, range, now, kept)
                && !kept.is_refused()
            {
                self.folds += 1;
                self.folded.keep(start, kept, snapshot.sequence());
                return Ok(rows);
            }
        }
        let scan: &dyn Scan = snapshot;
        let (rows, kept) = self.evaluator.fold(catalog, scan, range, now, Kept::default())?;
        self.folded.keep(start, kept, snapshot.sequence());
        Ok(rows)
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

    /// Windows that have ended for good. What of them is still to be looked at is looked at first.
    pub fn close(&mut self, now: i64) -> Vec<(Kind, Row)> {
        let watermark = now.saturating_sub(self.lateness);
        if watermark < self.closing {
            return Vec::new();
        }
        let open = self.windows.start_of(watermark);
        if self.reset || self.windows.is_dirty(open.saturating_sub(1)) {
            return Vec::new();
        }
        let closed = self.windows.close(watermark, self.sequence);
        self.closing = self.windows.closing();
        closed
    }
}

/// All groups from one time to another, both included.
fn all((from, to): (i64, i64)) -> Looked {
    Looked {
        from,
        to: to.saturating_add(1),
        all: true,
    }
}
