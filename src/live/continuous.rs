//! Runs continuous queries: SELECT .. INTO over the windows that have ended, and again over those that later points changed.
//!
//! Writing a window again replaces its points (same series, same times), so whatever happens between writing and noting that it
//! was written, the effect is once. How far each query is, and which windows wait to be written again, is a durable record; what was
//! committed after it is found in the journal's batches at start, or else every window since the first point is written again.

use super::background::Background;
use super::progress::{KIND, Progress};
use super::watch::Watch;
use crate::batch::{Batch, Command};
use crate::catalog::Catalog;
use crate::engine::{Commits, Committed, Engine};
use crate::ingest::Limits;
use crate::lang::{BinaryOp, Expr, Params, Query, Statement};
use crate::query::encode::Event;
use crate::query::records::{ContinuousQuery, continuous_queries, key};
use crate::query::scan::Scan;
use crate::query::statements::{QueryOptions, Target, run};
use crate::query::windows::Windows;
use crate::query::{Cancel, QueryLimits, RollupUse, Value, Workers};
use crossbeam_channel::{Receiver, never, select};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it looks for windows that have ended or were changed.
const TICK: Duration = Duration::from_secs(1);
/// A record is written at least so often while batches are committed, so that little must be looked at again after a crash.
const RECORD_INTERVAL: Duration = Duration::from_secs(30);
/// Windows of one SELECT.
const WINDOWS_PER_RUN_MAX: i64 = 1_000;
/// SELECTs of one query in one tick: the others get their turn.
const RUNS_PER_TICK_MAX: usize = 50;
/// One SELECT is given up after this time and tried again.
const RUN_MAX: Duration = Duration::from_secs(60);

/// The thread. Shared.
pub struct Continuous(Background);

impl Continuous {
    /// Starts it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(engine: Arc<Engine>, clock: impl Fn() -> i64 + Send + 'static) -> io::Result<Self> {
        let mut runner = Runner::new(engine);
        let cancel = runner.cancel.clone();
        let run = move |stopped: &Receiver<()>| runner.run(stopped, &clock);
        Background::start("kymo-continuous", cancel, run).map(Self)
    }

    /// Ends the thread; how far it is is durable then.
    pub fn stop(&self) {
        self.0.stop();
    }
}

/// A continuous query that runs.
struct Running {
    query: ContinuousQuery,
    windows: Windows,
    watch: Watch,
    progress: Progress,
    /// As it was made durable last.
    recorded: Progress,
    recorded_at: Instant,
    /// When it runs next, nanoseconds.
    due: i64,
    /// What it wrote itself must not make it run again.
    own: BTreeSet<u64>,
    failing: bool,
}

struct Runner {
    engine: Arc<Engine>,
    /// `None` while there is no continuous query: then a commit wakes nobody.
    commits: Option<Commits>,
    heard: u64,
    /// The last commit of progress: it is nothing to note progress for.
    recorded: u64,
    running: BTreeMap<String, Running>,
    cancel: Arc<Cancel>,
}

impl Runner {
    fn new(engine: Arc<Engine>) -> Self {
        let mut runner = Self {
            heard: 0,
            recorded: 0,
            engine,
            commits: None,
            running: BTreeMap::new(),
            cancel: Arc::default(),
        };
        // Before anything is taken: what is committed from here on is heard, what was before it is in the engine's recovery.
        let kept = continuous_queries(runner.engine.catalog());
        runner.listen(!kept.is_empty());
        runner
    }

    /// Hears of commits, or does not.
    fn listen(&mut self, wanted: bool) {
        if wanted && self.commits.is_none() {
            self.commits = Some(self.engine.subscribe_commits());
            self.heard = self.engine.sequence();
        }
        if !wanted {
            self.commits = None;
        }
    }

    fn run(&mut self, stopped: &Receiver<()>, clock: &dyn Fn() -> i64) {
        let mut next = Instant::now();
        loop {
            let commits = self.commits.as_ref();
            let receiver = commits.map_or_else(never, |commits| commits.receiver().clone());
            select! {
                recv(stopped) -> _ => break,
                recv(receiver) -> commit => {
                    if let Ok(commit) = commit {
                        self.commits.iter().for_each(|commits| commits.heard(&commit));
                        self.note(&commit);
                    }
                    self.hear();
                }
                default(next.saturating_duration_since(Instant::now())) => {}
            }
            if Instant::now() >= next {
                self.hear();
                self.load(clock());
                self.tick(clock(), stopped);
                next = Instant::now() + TICK;
            }
        }
        self.hear();
        self.record(true);
    }

    fn hear(&mut self) {
        while let Some(commit) = self.commits.as_ref().and_then(|c| c.next(Duration::ZERO)) {
            self.note(&commit);
        }
    }

    fn note(&mut self, commit: &Committed) {
        let catalog = self.engine.catalog();
        match commit {
            Committed::Batch(sequence, batch) => {
                self.heard = self.heard.max(*sequence);
                let commands = batch.commands();
                for running in self.running.values_mut() {
                    if !commands.is_empty() {
                        running.watch.forget();
                    }
                    if running.own.remove(sequence) {
                        continue;
                    }
                    for table in batch.tables() {
                        if running.watch.watches(catalog, table.measurement()) {
                            let range = table.time_range();
                            running.touch(range.min, range.max, || table.times());
                        }
                    }
                }
            }
            Committed::Gap(gap) => {
                self.heard = self.heard.max(gap.through);
                if let Some(time) = gap.time {
                    for running in self.running.values_mut() {
                        running.touch(time.min, time.max, Vec::new);
                    }
                }
            }
        }
    }

    /// Looks which continuous queries there are.
    fn load(&mut self, now: i64) {
        let engine = self.engine.clone();
        let catalog = engine.catalog();
        let queries = continuous_queries(catalog);
        self.listen(!queries.is_empty());
        let names: BTreeSet<String> = queries.iter().map(|q| key(&q.database, &q.name)).collect();
        self.running
            .retain(|name, running| names.contains(name) && queries.contains(&running.query));
        for query in queries {
            let name = key(&query.database, &query.name);
            if self.running.contains_key(&name) {
                continue;
            }
            match Running::new(query, &engine, self.heard, now) {
                Ok(running) => drop(self.running.insert(name, running)),
                Err(error) => tracing::error!(query = name, error, "a continuous query cannot run"),
            }
        }
        let stale: Vec<String> = catalog.with_records(|kept| {
            let all = kept.of_kind(KIND).map(|(name, _)| name.to_string());
            all.filter(|name| !names.contains(name)).collect()
        });
        for name in stale {
            let kind = KIND.to_string();
            self.commands(vec![Command::RemoveRecord { kind, name }]);
        }
    }

    fn commands(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let batch = Batch {
            shards: Target::shards(&*self.engine),
            commands,
            ..Batch::default()
        };
        match Target::commit(&*self.engine, batch) {
            Ok(sequence) => self.recorded = sequence,
            // It is tried again: what the record says is only less than what was done.
            Err(error) => tracing::warn!(error, "the progress of a continuous query was not recorded"),
        }
    }

    fn tick(&mut self, now: i64, stopped: &Receiver<()>) {
        let heard = self.heard;
        for running in self.running.values_mut() {
            running.progress.sequence = heard;
            running.advance(now);
            for _ in 0..RUNS_PER_TICK_MAX {
                if !stopped.is_empty() || !running.run_one(&self.engine, now, &self.cancel) {
                    break;
                }
            }
        }
        self.record(false);
    }

    /// Makes durable how far all are: in one batch a tick, if windows were written or are to be; a mere sequence twice a minute, and only
    /// if somebody else committed something.
    fn record(&mut self, all: bool) {
        let mut commands = Vec::new();
        let others = self.heard > self.recorded;
        for (name, running) in &mut self.running {
            let moved = running.progress.windows() != running.recorded.windows();
            let new = others && running.progress != running.recorded;
            let old = running.recorded_at.elapsed() >= RECORD_INTERVAL;
            if moved || (new && (old || all)) {
                commands.push(Command::PutRecord {
                    kind: KIND.to_string(),
                    name: name.clone(),
                    value: running.progress.to_text(),
                });
                running.recorded = running.progress.clone();
                running.recorded_at = Instant::now();
            }
        }
        self.commands(commands);
    }
}

impl Running {
    fn new(query: ContinuousQuery, engine: &Engine, heard: u64, now: i64) -> Result<Self, String> {
        let select = &query.statement.source;
        let zone = crate::query::time::zone(select.tz.as_deref()).map_err(|e| e.to_string())?;
        let windows = Windows::of(select, now, &zone).map_err(|e| e.to_string())?;
        let windows = windows.ok_or("it needs GROUP BY time(..)")?;
        let watch = Watch::new(select, &query.database)?;
        let name = key(&query.database, &query.name);
        let kept = engine
            .catalog()
            .with_records(|kept| kept.get(KIND, &name).map(str::to_string));
        let kept = kept
            .and_then(|text| Progress::of_text(&text))
            .filter(|kept| kept.is_of(&query.text));
        let mut running = Self {
            progress: Progress::new(&query.text, windows.start(now), heard),
            recorded: Progress::new("", 0, 0),
            recorded_at: Instant::now(),
            due: i64::MIN,
            own: BTreeSet::new(),
            failing: false,
            query,
            windows,
            watch,
        };
        if let Some(kept) = kept {
            running.catch_up(kept, engine);
        }
        Ok(running)
    }

    /// Goes on where the record says; what was committed after it is looked at again.
    fn catch_up(&mut self, kept: Progress, engine: &Engine) {
        let seen = kept.sequence;
        self.recorded = kept.clone();
        self.progress = kept;
        if seen >= engine.sequence() {
            return;
        }
        let recovery = engine.recovery();
        if seen < recovery.sealed {
            // Sealed rows do not tell when they were committed.
            self.progress.everything = true;
        }
        for (&measurement, time) in &recovery.touched {
            if self.watch.watches(engine.catalog(), measurement) {
                self.touch(time.min, time.max, Vec::new);
            }
        }
    }

    /// Rows were committed: windows that were written already are to be written again.
    fn touch(&mut self, min: i64, max: i64, times: impl FnOnce() -> Vec<i64>) {
        let through = self.progress.through;
        if min >= through {
            return;
        }
        let reach = self
            .windows
            .over
            .map_or(0, |over| over.saturating_sub(self.windows.step));
        let mut add = |min: i64, max: i64| {
            let last = self.windows.start(max.saturating_add(reach));
            let end = self.windows.next(last).min(through);
            self.progress.add(self.windows.start(min), end);
        };
        if self.windows.start(min) == self.windows.start(max) {
            return add(min, max);
        }
        let times = times();
        if times.is_empty() {
            return add(min, max);
        }
        let starts: BTreeSet<i64> = times.iter().map(|time| self.windows.start(*time)).collect();
        starts
            .into_iter()
            .filter(|start| *start < through)
            .for_each(|start| add(start, start));
    }

    /// Adds the windows that are due: those that ended, and those that RESAMPLE looks at again.
    fn advance(&mut self, now: i64) {
        let statement = &self.query.statement;
        let every = if statement.resample_every > 0 {
            statement.resample_every
        } else {
            self.windows.step
        };
        if now < self.due {
            return;
        }
        self.due = now.saturating_sub(now.rem_euclid(every)).saturating_add(every);
        let current = self.windows.start(now);
        let first = match statement.resample_for {
            0 => self.progress.through,
            span => self
                .windows
                .start(now.saturating_sub(span))
                .min(self.progress.through),
        };
        if first < current {
            self.progress.add(first, current);
            self.progress.through = self.progress.through.max(current);
        }
        if every < self.windows.step {
            // A shorter EVERY writes the window that is still open, too.
            self.progress.add(current, self.windows.next(current));
        }
    }

    /// Writes some windows again. False: nothing waits, or it failed.
    fn run_one(&mut self, engine: &Arc<Engine>, now: i64, cancel: &Cancel) -> bool {
        if self.progress.everything {
            if let Some(first) = self.first_point(engine) {
                self.progress
                    .add(self.windows.start(first), self.progress.through);
            }
            self.progress.everything = false;
        }
        let Some((from, end)) = self.progress.first() else {
            return false;
        };
        let mut to = from;
        for _ in 0..WINDOWS_PER_RUN_MAX {
            if to >= end {
                break;
            }
            to = self.windows.next(to);
        }
        match self.write(engine, from, to, now, cancel) {
            Ok(()) => {
                self.failing = false;
                self.progress.done(to);
                true
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(
                        query = self.query.name,
                        database = self.query.database,
                        error,
                        "a continuous query failed; it is tried again"
                    );
                }
                self.failing = true;
                false
            }
        }
    }

    fn first_point(&mut self, engine: &Engine) -> Option<i64> {
        let snapshot = engine.snapshot();
        let catalog = engine.catalog();
        let mut first = None;
        let policies = catalog
            .databases()
            .into_iter()
            .flat_map(|database| database.policies.clone());
        for measurement in policies.flat_map(|policy| catalog.measurements(policy.id)) {
            if self.watch.watches(catalog, measurement.id) {
                let mut visit = |time: i64| first = Some(first.map_or(time, |known: i64| known.min(time)));
                if let Err(error) = snapshot.times(measurement.id, &mut visit) {
                    tracing::warn!(%error, "the times of a measurement cannot be read");
                }
            }
        }
        first
    }

    fn write(
        &mut self,
        engine: &Arc<Engine>,
        from: i64,
        to: i64,
        now: i64,
        cancel: &Cancel,
    ) -> Result<(), String> {
        let mut select = self.query.statement.source.clone();
        let after = Expr::binary(BinaryOp::Gte, Expr::var("time"), Expr::Integer(from));
        let before = Expr::binary(BinaryOp::Lt, Expr::var("time"), Expr::Integer(to));
        let bound = Expr::binary(BinaryOp::And, after, before);
        select.condition = Some(match select.condition.take() {
            Some(condition) => Expr::binary(BinaryOp::And, bound, Expr::Paren(Box::new(condition))),
            None => bound,
        });
        let options = QueryOptions {
            database: Some(self.query.database.clone()),
            policy: None,
            params: Params::default(),
            now,
            limits: QueryLimits::default(),
            deadline: Some(Instant::now() + RUN_MAX),
            rollups: RollupUse::default(),
            read_only_hint: false,
        };
        let query = Query {
            statements: vec![Statement::Select(Box::new(select))],
        };
        let target = Recording {
            engine,
            written: Mutex::default(),
        };
        let mut failed = None;
        run(&query, &options, &target, cancel, &mut |event| {
            if let Event::End { error } = event {
                failed = error.map(|error| error.to_string());
            }
            ControlFlow::Continue(())
        });
        let written = target
            .written
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.own.extend(written);
        failed.map_or(Ok(()), Err)
    }
}

/// The engine, and what was written by way of it.
struct Recording<'a> {
    engine: &'a Arc<Engine>,
    written: Mutex<Vec<u64>>,
}

impl Target for Recording<'_> {
    fn catalog(&self) -> &Catalog {
        self.engine.catalog()
    }

    fn snapshot(&self) -> Arc<dyn Scan> {
        Target::snapshot(&**self.engine)
    }

    fn commit(&self, batch: Batch) -> Result<u64, String> {
        let sequence = Target::commit(&**self.engine, batch)?;
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sequence);
        Ok(sequence)
    }

    fn shards(&self) -> u16 {
        Target::shards(&**self.engine)
    }

    fn workers(&self) -> &Workers {
        Target::workers(&**self.engine)
    }

    fn running(&self) -> &Arc<crate::query::Running> {
        self.engine.running()
    }

    fn limits(&self) -> &Limits {
        self.engine.limits()
    }

    fn rejected(&self, database: Option<&str>) -> Result<Vec<crate::rejected::Entry>, String> {
        Target::rejected(&**self.engine, database)
    }

    fn figures(&self) -> Vec<(String, String, Value)> {
        self.engine.figures()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budgets, Machine, Overrides};
    use crate::engine::EngineOptions;
    use crate::query::statements::QueryOptions;
    use crossbeam_channel::bounded;

    const MINUTE: i64 = 60_000_000_000;

    fn engine(folder: &std::path::Path) -> Arc<Engine> {
        let machine = Machine {
            cores: 2,
            memory: 1 << 30,
        };
        let budgets = Budgets::new(&machine, &Overrides::default());
        Engine::open(folder, EngineOptions::new(budgets, || 0)).expect("it opens")
    }

    fn query(engine: &Arc<Engine>, text: &str) {
        let options = QueryOptions {
            database: Some("d".into()),
            policy: None,
            params: Params::default(),
            now: 0,
            limits: QueryLimits::default(),
            deadline: None,
            rollups: RollupUse::default(),
            read_only_hint: false,
        };
        let query = crate::lang::parse(text, &Params::default()).expect("a statement");
        run(&query, &options, &**engine, &Cancel::default(), &mut |event| {
            if let Event::End { error } = event {
                assert_eq!(error, None);
            }
            ControlFlow::Continue(())
        });
    }

    #[test]
    fn without_a_query_nobody_listens() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path());
        query(&engine, "CREATE DATABASE d");
        let mut runner = Runner::new(engine.clone());
        runner.load(MINUTE);
        assert!(runner.commits.is_none());
        query(
            &engine,
            "CREATE CONTINUOUS QUERY c ON d BEGIN SELECT sum(v) INTO s FROM m GROUP BY time(1m) END",
        );
        runner.load(MINUTE);
        assert!(runner.commits.is_some());
        // Who starts with one listens from the beginning.
        assert!(Runner::new(engine.clone()).commits.is_some());
        query(&engine, "DROP CONTINUOUS QUERY c ON d");
        runner.load(MINUTE);
        assert!(runner.commits.is_none());
        engine.stop();
    }

    #[test]
    fn progress_alone_is_not_recorded_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path());
        query(
            &engine,
            "CREATE DATABASE d; CREATE CONTINUOUS QUERY c ON d BEGIN SELECT sum(v) INTO s FROM m GROUP BY time(1m) END",
        );
        let (_keep, stopped) = bounded(1);
        let mut runner = Runner::new(engine.clone());
        let mut turn = |now: i64| {
            runner.hear();
            runner.load(now);
            for running in runner.running.values_mut() {
                running.recorded_at = Instant::now()
                    .checked_sub(RECORD_INTERVAL)
                    .expect("a clock that runs");
            }
            runner.tick(now, &stopped);
            runner.engine.sequence()
        };
        turn(MINUTE);
        let before = turn(MINUTE + 1);
        // Nothing happens: nothing is written, however often it looks.
        for second in 2..10 {
            assert_eq!(turn(MINUTE + second), before);
        }
        // Others commit something: once.
        query(&engine, "CREATE DATABASE e");
        assert_eq!(turn(MINUTE + 20), before + 2);
        assert_eq!(turn(MINUTE + 21), before + 2);
        // A window ends: its progress is one more batch.
        assert_eq!(turn(2 * MINUTE), before + 3);
        assert_eq!(turn(2 * MINUTE + 1), before + 3);
        engine.stop();
    }
}
