//! What EXPLAIN wants to know of a statement while it runs: which rows it looked for where, what that cost, and how long each
//! stage took. Nothing is kept where nobody asks.

use super::scan::ScanStats;
use crate::model::TimeRange;
use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module. One for each explained statement.
#[derive(Debug)]
pub struct Trace {
    /// Run it, or only plan it?
    pub analyze: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    scans: Vec<Scanned>,
    stages: Stages,
    notes: Vec<String>,
}

/// A stage of running over the inputs of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Series are looked up, blocks chosen.
    Open,
    /// Blocks are read, rows filtered, folded or gathered.
    Read,
    /// Rows are made, ordered, limited and given away.
    Give,
}

/// Time by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// See [`Stage::Open`].
    pub open: Duration,
    /// See [`Stage::Read`].
    pub read: Duration,
    /// See [`Stage::Give`].
    pub give: Duration,
}

/// What is known of an input before it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// A measurement.
    Stored(Facts),
    /// Rows of a subquery or a join.
    Derived {
        /// Its series that satisfy the condition.
        series: u64,
        /// Their rows.
        rows: u64,
    },
}

/// What the index and the directories say of a measurement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its name.
    pub measurement: String,
    /// Series that satisfy the condition.
    pub series: u64,
    /// Series that there are.
    pub of_series: u64,
    /// Fields that are read.
    pub columns: Vec<String>,
    /// Slices of time that its runs are in: from, to.
    pub partitions: BTreeSet<(i64, i64)>,
    /// Runs with wanted rows.
    pub runs: u64,
    /// Parts of the head with wanted rows.
    pub parts: u64,
    /// Blocks and stretches of the head that may hold wanted rows.
    pub blocks: u64,
    /// Those passed over by time and series.
    pub pruned: u64,
    /// Rows of the blocks.
    pub rows: u64,
    /// Encoded bytes of the columns in these blocks.
    pub bytes: u64,
    /// Pieces of work.
    pub tasks: u64,
    /// Those of blocks that may hold versions of the same points.
    pub meeting: u64,
}

/// One run over the inputs of a name.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// What is done, as text: a line each.
    pub plan: Vec<String>,
    /// Of which rows.
    pub time: TimeRange,
    /// The inputs.
    pub inputs: Vec<Opened>,
    /// What was special.
    pub notes: Vec<String>,
    /// What it cost.
    pub stats: ScanStats,
    /// How long it took.
    pub stages: Stages,
    /// Series and rows that it gave.
    pub gave: (u64, u64),
}

impl AddAssign<(Stage, Duration)> for Stages {
    fn add_assign(&mut self, (stage, took): (Stage, Duration)) {
        match stage {
            Stage::Open => self.open += took,
            Stage::Read => self.read += took,
            Stage::Give => self.give += took,
        }
    }
}

impl Trace {
    /// Nothing seen yet.
    pub fn new(analyze: bool) -> Self {
        Self {
            analyze,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does some work as a stage of the run at hand.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let made = work();
        self.state().stages += (stage, began.elapsed());
        made
    }

    /// Something special about the run at hand.
    pub fn note(&self, text: String) {
        self.state().notes.push(text);
    }

    /// The run at hand is over.
    pub fn scanned(&self, scanned: Scanned) {
        let mut state = self.state();
        let (stages, notes) = (
            std::mem::take(&mut state.stages),
            std::mem::take(&mut state.notes),
        );
        state.scans.push(Scanned {
            stages,
            notes,
            ..scanned
        });
    }

    /// All runs, in the order in which they ended.
    pub fn scans(&self) -> Vec<Scanned> {
        self.state().scans.clone()
    }
}
