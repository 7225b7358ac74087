//! The thread that keeps all subscriptions up to date.
//!
//! It hears of committed batches through a bounded channel, notes what they touched, and soon asks the engine for just that:
//! after a pause that grows with what the last round cost, so that it takes a limited share of a core however much is asked. It
//! never makes a writer wait.

use super::computation::{Computation, News};
use super::hub::Figures;
use super::interest::Interest;
use super::message::{self, Kind, Wanted};
use super::outbox::{Outbox, Put, Rows};
use super::plan::Plan;
use super::recent::Recent;
use super::tail::{BatchScan, Tail};
use super::windows::Row;
use crate::engine::{Commits, Committed, Engine, Gap};
use crate::model::TimeRange;
use crate::query::snapshot::Snapshot;
use crossbeam_channel::{Receiver, select};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 100;
/// Subscriptions in all.
pub const SUBSCRIPTIONS_MAX: usize = 20_000;
/// Different subscriptions in all.
pub const COMPUTATIONS_MAX: usize = 10_000;
/// The pause after a round of evaluations that cost nothing.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// The pause after a round, in times of what it cost: rounds take a quarter of a core at most.
const PAUSE_FACTOR: u32 = 3;
/// How often windows are looked at for having ended.
const TICK: Duration = Duration::from_millis(50);
/// A computation that nobody subscribes to is kept so long for a client that comes back.
const LINGER: Duration = Duration::from_secs(60);
/// How many of those.
const LINGERING_MAX: usize = 1_000;
/// What was committed must have been heard of after so long.
const HEARD_PATIENCE: Duration = Duration::from_secs(5);

/// A subscription: the connection, and the client's name for it.
pub type Key = (u64, String);

/// What a connection asks.
pub enum Request {
    /// Begin a subscription.
    Subscribe {
        /// Which.
        key: Key,
        /// Of what.
        wanted: Wanted,
        /// Where answers go.
        outbox: Arc<Outbox>,
    },
    /// Its snapshot again.
    Again {
        /// Which.
        key: Key,
    },
    /// End it.
    Unsubscribe {
        /// Which.
        key: Key,
    },
    /// End all of a connection.
    Disconnect {
        /// Which.
        connection: u64,
    },
    /// End the thread.
    Stop,
}

struct Client {
    outbox: Arc<Outbox>,
    /// Rows before this time are not sent.
    from: i64,
}

enum Work {
    Windows(Box<Computation>),
    Tail(Box<Tail>),
}

/// A computation and who subscribed to it.
struct Entry {
    work: Work,
    clients: BTreeMap<Key, Client>,
    /// When the last client left.
    idle: Option<Instant>,
}

/// See the module.
pub struct Keeper {
    engine: Arc<Engine>,
    figures: Arc<Figures>,
    commits: Commits,
    /// Everything up to here was noted.
    heard: u64,
    entries: HashMap<Arc<str>, Entry>,
    subscriptions: BTreeMap<Key, Arc<str>>,
    interest: Interest,
    recent: Recent,
    /// Tails were told of everything up to here.
    tailed: u64,
    /// What tails missed.
    missed: Option<Gap>,
    tails: usize,
    /// Something was touched since the last round.
    touched: bool,
}

impl Keeper {
    /// Over an engine.
    pub fn new(engine: Arc<Engine>, figures: Arc<Figures>) -> Self {
        let commits = engine.subscribe_commits();
        let heard = engine.sequence();
        Self {
            engine,
            figures,
            commits,
            heard,
            entries: HashMap::new(),
            subscriptions: BTreeMap::new(),
            interest: Interest::default(),
            recent: Recent::default(),
            tailed: heard,
            missed: None,
            tails: 0,
            touched: false,
        }
    }

    /// Runs until it is told to stop.
    pub fn run(&mut self, requests: &Receiver<Request>, clock: &dyn Fn() -> i64) {
        let mut next_round = Instant::now();
        let mut next_tick = Instant::now();
        let commits = self.commits.receiver().clone();
        loop {
            let until = if self.touched {
                next_round.min(next_tick)
            } else {
                next_tick
            };
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Stop) | Err(_) => return,
                    Ok(request) => self.take(request, clock()),
                },
                recv(commits) -> commit => {
                    if let Ok(commit) = commit {
                        self.note(commit);
                    }
                    self.hear();
                },
                default(until.saturating_duration_since(Instant::now())) => {}
            }
            let ticks = Instant::now() >= next_tick;
            if (self.touched || ticks) && Instant::now() >= next_round {
                let began = Instant::now();
                self.round(clock());
                next_round = Instant::now() + PAUSE_MIN.max(began.elapsed() * PAUSE_FACTOR);
            }
            if ticks {
                self.close(clock());
                self.sweep();
                next_tick = Instant::now() + TICK;
            }
        }
    }

    fn take(&mut self, request: Request, now: i64) {
        match request {
            Request::Subscribe { key, wanted, outbox } => {
                if let Err(error) = self.subscribe(&key, &wanted, &outbox, now) {
                    outbox.message(message::error(&key.1, &error));
                }
            }
            Request::Again { key } => self.again(&key, now),
            Request::Unsubscribe { key } => {
                if let Some(client) = self.remove(&key) {
                    client.outbox.forget(&key.1);
                }
            }
            Request::Disconnect { connection } => {
                let range = (connection, String::new())..(connection + 1, String::new());
                let keys: Vec<Key> = self
                    .subscriptions
                    .range(range)
                    .map(|(key, _)| key.clone())
                    .collect();
                keys.iter().for_each(|key| drop(self.remove(key)));
            }
            Request::Stop => {}
        }
        self.count();
    }

    fn count(&self) {
        let set = |figure: &std::sync::atomic::AtomicU64, count: usize| {
            figure.store(count as u64, Ordering::Relaxed)
        };
        set(&self.figures.subscriptions, self.subscriptions.len());
        set(&self.figures.computations, self.entries.len());
    }

    fn remove(&mut self, key: &Key) -> Option<Client> {
        let entry = self.entries.get_mut(&self.subscriptions.remove(key)?)?;
        let client = entry.clients.remove(key);
        if entry.clients.is_empty() {
            entry.idle = Some(Instant::now());
        }
        client
    }

    /// Forgets computations that nobody wants, and clients that are gone.
    fn sweep(&mut self) {
        let gone = |entry: &Entry| -> Vec<Key> {
            let closed = entry
                .clients
                .iter()
                .filter(|(_, client)| client.outbox.is_closed());
            closed.map(|(key, _)| key.clone()).collect()
        };
        let gone: Vec<Key> = self.entries.values().flat_map(gone).collect();
        gone.iter().for_each(|key| drop(self.remove(key)));
        let idle = self
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((entry.idle?, key.clone())));
        let mut idle: Vec<_> = idle.collect();
        if idle.is_empty() {
            return;
        }
        idle.sort();
        let spare = idle.len().saturating_sub(LINGERING_MAX);
        let mut ended = false;
        for (i, (since, key)) in idle.iter().enumerate() {
            if i < spare || since.elapsed() >= LINGER {
                self.end(key);
                ended = true;
            }
        }
        if ended {
            self.count();
        }
    }

    fn end(&mut self, key: &Arc<str>) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        if matches!(entry.work, Work::Tail(_)) {
            self.tails -= 1;
        }
        for client in entry.clients.keys() {
            self.subscriptions.remove(client);
        }
        self.interest.forget();
        Some(entry)
    }

    /// Ends a computation that failed and tells its clients.
    fn fail(&mut self, key: &Arc<str>, error: &str) {
        let Some(entry) = self.end(key) else { return };
        for ((_, id), client) in &entry.clients {
            let text = format!("the subscription has ended: {error}");
            client.outbox.forget(id);
            client.outbox.message(message::error(id, &text));
        }
        self.count();
    }

    /// A snapshot, when just what it shows was noted: no more, no less.
    fn snapshot(&mut self) -> Snapshot {
        let deadline = Instant::now() + HEARD_PATIENCE;
        loop {
            let snapshot = self.engine.snapshot();
            while self.heard < snapshot.sequence() {
                // What is visible is told in the same moment.
                match self.commits.next(Duration::from_millis(1)) {
                    Some(commit) => self.note(commit),
                    None if Instant::now() < deadline => {}
                    None => {
                        tracing::error!("commits were not heard of; every live computation begins anew");
                        self.heard = snapshot.sequence();
                        self.recent.clear(self.heard);
                        self.reset();
                    }
                }
            }
            // A gap may tell of more than is in the snapshot.
            if self.heard == snapshot.sequence() {
                return snapshot;
            }
        }
    }

    fn hear(&mut self) {
        while let Some(commit) = self.commits.next(Duration::ZERO) {
            self.note(commit);
        }
    }

    fn reset(&mut self) {
        self.interest.forget();
        self.touched = true;
        for entry in self.entries.values_mut() {
            match &mut entry.work {
                Work::Windows(computation) => computation.reset(),
                Work::Tail(tail) => tail.watch().forget(),
            }
        }
    }

    fn note(&mut self, commit: Committed) {
        match commit {
            Committed::Batch(sequence, batch) => {
                self.heard = self.heard.max(sequence);
                if self.entries.is_empty() {
                    return;
                }
                if !batch.commands().is_empty() {
                    // A delete may change anything that was sent.
                    self.reset();
                }
                for table in batch.tables() {
                    let (entries, catalog) = (&mut self.entries, self.engine.catalog());
                    let id = table.measurement();
                    let ask = || {
                        let asked = entries.iter_mut().filter_map(|(key, entry)| {
                            let watch = match &mut entry.work {
                                Work::Windows(computation) => computation.watch(),
                                Work::Tail(tail) => tail.watch(),
                            };
                            watch.watches(catalog, id).then(|| key.clone())
                        });
                        asked.collect()
                    };
                    let interested = self.interest.of(id, ask);
                    let TimeRange { min, max } = table.time_range();
                    let mut times = None;
                    for key in interested.iter() {
                        self.touched = true;
                        if let Some(Entry {
                            work: Work::Windows(computation),
                            ..
                        }) = self.entries.get_mut(key)
                        {
                            if computation.windows().start_of(min) == computation.windows().start_of(max) {
                                computation.touch([min].into_iter());
                            } else {
                                let times = times.get_or_insert_with(|| table.times());
                                computation.touch(times.iter().copied());
                            }
                        }
                    }
                }
                if self.tails > 0 {
                    self.recent.add(sequence, batch);
                }
            }
            Committed::Gap(gap) => {
                self.figures.gaps.fetch_add(1, Ordering::Relaxed);
                self.heard = self.heard.max(gap.through);
                self.touched = true;
                self.recent.clear(gap.through);
                if gap.commands {
                    self.reset();
                }
                let Some(time) = gap.time else { return };
                for entry in self.entries.values_mut() {
                    if let Work::Windows(computation) = &mut entry.work {
                        computation.touch_range(time.min, time.max);
                    }
                }
                let known = self.missed.and_then(|missed| missed.time).unwrap_or(time);
                self.missed = Some(Gap {
                    time: Some(TimeRange {
                        min: known.min.min(time.min),
                        max: known.max.max(time.max),
                    }),
                    ..gap
                });
            }
        }
    }

    fn subscribe(
        &mut self,
        key: &Key,
        wanted: &Wanted,
        outbox: &Arc<Outbox>,
        now: i64,
    ) -> Result<(), String> {
        let (connection, id) = key;
        if self.subscriptions.contains_key(key) {
            return Err(format!("there is a subscription {id} on this connection"));
        }
        let range = (*connection, String::new())..(connection + 1, String::new());
        if self.subscriptions.range(range).count() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            return Err(format!(
                "too many subscriptions on a connection (subscriptions_per_connection_max {SUBSCRIPTIONS_PER_CONNECTION_MAX})"
            ));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(format!(
                "too many subscriptions (subscriptions_max {SUBSCRIPTIONS_MAX})"
            ));
        }
        if self.engine.catalog().database(&wanted.db).is_none() {
            return Err(format!("database not found: {}", wanted.db));
        }
        let plan = Plan::new(wanted, now)?;
        let computation: Arc<str> = plan.key().into();
        self.begin(&computation, &plan, now)?;
        let client = Client {
            outbox: outbox.clone(),
            from: plan.from.unwrap_or(i64::MIN),
        };
        let told = match &plan.borders {
            Some(_) => self.tell_windows(&computation, id, &client, wanted.resume, now),
            None => self.tell_tail(&computation, id, &client, wanted.resume, plan.from, now),
        };
        let Some(entry) = self.entries.get_mut(&computation) else {
            // It failed and has told its other clients.
            return told.and(Err("the subscription has ended".into()));
        };
        if let Err(error) = told {
            if entry.clients.is_empty() {
                self.end(&computation);
            }
            return Err(error);
        }
        entry.clients.insert(key.clone(), client);
        entry.idle = None;
        self.subscriptions.insert(key.clone(), computation);
        Ok(())
    }

    /// Sees to it that there is such a computation.
    fn begin(&mut self, key: &Arc<str>, plan: &Plan, now: i64) -> Result<(), String> {
        if self.entries.contains_key(key) {
            return Ok(());
        }
        if self.entries.len() >= COMPUTATIONS_MAX {
            return Err(format!(
                "too many different subscriptions (live_computations_max {COMPUTATIONS_MAX})"
            ));
        }
        let work = match &plan.borders {
            Some(borders) => {
                let from = plan.from.unwrap_or(now);
                Work::Windows(Box::new(Computation::new(plan, borders, from, now)?))
            }
            None => Work::Tail(Box::new(Tail::new(plan)?)),
        };
        if matches!(work, Work::Tail(_)) {
            if self.tails == 0 {
                self.hear();
                self.recent.clear(self.heard);
                self.tailed = self.heard;
                self.missed = None;
            }
            self.tails += 1;
        }
        self.entries.insert(
            key.clone(),
            Entry {
                work,
                clients: BTreeMap::new(),
                idle: Some(Instant::now()),
            },
        );
        self.interest.forget();
        Ok(())
    }

    /// The first answer of a windowed subscription: what changed since the client was there, or all there is.
    fn tell_windows(
        &mut self,
        key: &Arc<str>,
        id: &str,
        client: &Client,
        resume: Option<u64>,
        now: i64,
    ) -> Result<(), String> {
        let snapshot = self.snapshot();
        self.update(key, &snapshot, now)?;
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Windows(computation),
            ..
        }) = self.entries.get_mut(key)
        else {
            return Err("the subscription has ended".into());
        };
        let known = computation.windows();
        let sequence = computation.sequence();
        // A client from another server, or from before data was lost, may be ahead of us.
        let (put, rows) = match resume {
            Some(seen) if seen <= sequence && known.can_resume(seen) => {
                client.outbox.resume(id, seen);
                (Put::Windows, known.after(seen, client.from))
            }
            _ => {
                let since = known.since();
                let newer = known.all(client.from);
                let older = if client.from < since {
                    computation.history(&catalog, &snapshot, client.from, since, now)
                } else {
                    Ok(Vec::new())
                };
                let older = older.map_err(|e| e.to_string())?;
                let older = older.into_iter().map(|row| (Kind::Snapshot, row));
                (Put::Snapshot, older.chain(newer).collect())
            }
        };
        if put == Put::Snapshot || !rows.is_empty() {
            send(
                &self.figures,
                client,
                id,
                put,
                computation.evaluator(),
                sequence,
                rows,
            );
        }
        Ok(())
    }

    /// The first answer of a tail: the points the client missed, those it asks for, or only where it begins.
    fn tell_tail(
        &mut self,
        key: &Arc<str>,
        id: &str,
        client: &Client,
        resume: Option<u64>,
        from: Option<i64>,
        now: i64,
    ) -> Result<(), String> {
        let snapshot = self.snapshot();
        // Those who are there already are told first: all are then at the same sequence.
        self.tails(&snapshot, now);
        let sequence = snapshot.sequence();
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Tail(tail),
            ..
        }) = self.entries.get_mut(key)
        else {
            return Err("the subscription has ended".into());
        };
        let time = TimeRange {
            min: client.from,
            max: i64::MAX,
        };
        let seen = resume.filter(|seen| *seen <= sequence);
        let batches = seen.and_then(|seen| self.recent.between(seen, sequence));
        let (put, rows) = match (batches, from) {
            (Some(batches), _) => {
                client.outbox.resume(id, seen.unwrap_or(0));
                let mut scan = BatchScan::default();
                batches.for_each(|batch| scan.add(batch, |id| tail.watch().watches(&catalog, id)));
                (Put::Points, tail.rows(&catalog, &scan, time, now))
            }
            (None, Some(_)) => (Put::PointsSnapshot, tail.rows(&catalog, &snapshot, time, now)),
            (None, None) if resume.is_some() && resume != Some(sequence) => {
                return Err(format!(
                    "cannot resume from {}: the points after it are not in memory any more; subscribe with \"from\" (a time) to get them again",
                    resume.unwrap_or(0)
                ));
            }
            (None, None) => (Put::PointsSnapshot, Ok(Vec::new())),
        };
        let rows = rows.map_err(|e| e.to_string())?;
        let (kind, first) = match put {
            Put::PointsSnapshot => (Kind::Snapshot, true),
            _ => (Kind::Update, false),
        };
        let rows: Vec<_> = rows.into_iter().map(|row| (kind, row)).collect();
        if first || !rows.is_empty() {
            send(&self.figures, client, id, put, tail.evaluator(), sequence, rows);
        }
        Ok(())
    }

    fn again(&mut self, key: &Key, now: i64) {
        let Some(computation) = self.subscriptions.get(key).cloned() else {
            return;
        };
        let Some(entry) = self.entries.get(&computation) else {
            return;
        };
        let Some(client) = entry.clients.get(key) else {
            return;
        };
        let client = Client {
            outbox: client.outbox.clone(),
            from: client.from,
        };
        let told = match entry.work {
            Work::Windows(_) => self.tell_windows(&computation, &key.1, &client, None, now),
            Work::Tail(_) => {
                let from = (client.from > i64::MIN).then_some(client.from);
                self.tell_tail(&computation, &key.1, &client, None, from, now)
            }
        };
        if let Err(error) = told
            && self.remove(key).is_some()
        {
            let text = format!("the subscription has ended: {error}");
            client.outbox.message(message::error(&key.1, &text));
        }
    }

    /// Brings everything up to date that was touched.
    fn round(&mut self, now: i64) {
        self.touched = false;
        let dirty = |entry: &mut Entry| match &mut entry.work {
            Work::Windows(computation) => !entry.clients.is_empty() && computation.is_dirty(now),
            Work::Tail(_) => false,
        };
        // Noted first: what the snapshot shows of it must be part of this round.
        let snapshot = self.snapshot();
        let entries = self.entries.iter_mut();
        let keys: Vec<Arc<str>> = entries
            .filter_map(|(key, entry)| dirty(entry).then(|| key.clone()))
            .collect();
        self.touched = false;
        for key in keys {
            // Its clients were told when it failed.
            let _ = self.update(&key, &snapshot, now);
        }
        self.tails(&snapshot, now);
    }

    /// Brings a computation up to date and tells its clients.
    fn update(&mut self, key: &Arc<str>, snapshot: &Snapshot, now: i64) -> Result<(), String> {
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Windows(computation),
            clients,
            ..
        }) = self.entries.get_mut(key)
        else {
            return Ok(());
        };
        self.figures.evaluations.fetch_add(1, Ordering::Relaxed);
        let updated = computation.update(&catalog, snapshot, snapshot.sequence(), now);
        let sequence = computation.sequence();
        match updated {
            Ok(News::Rows(rows)) => {
                if !rows.is_empty() {
                    tell(
                        &self.figures,
                        clients,
                        Put::Windows,
                        computation.evaluator(),
                        sequence,
                        &rows,
                    );
                }
                Ok(())
            }
            Ok(News::Everything) => {
                let keys: Vec<Key> = clients.keys().cloned().collect();
                keys.iter().for_each(|key| self.again(key, now));
                Ok(())
            }
            Err(error) => {
                let error = error.to_string();
                self.fail(key, &error);
                Err(error)
            }
        }
    }

    /// Sends tails what was committed since they were last told.
    fn tails(&mut self, snapshot: &Snapshot, now: i64) {
        let sequence = snapshot.sequence();
        if self.tails == 0 || sequence <= self.tailed {
            return;
        }
        let catalog = self.engine.catalog().clone();
        let missed = self.missed.take().and_then(|missed| missed.time);
        let entries = self.entries.iter_mut();
        let mut wanted: Vec<_> = entries
            .filter(|(_, entry)| matches!(entry.work, Work::Tail(_)))
            .collect();
        let mut scan = BatchScan::default();
        if let (None, Some(batches)) = (missed, self.recent.between(self.tailed, sequence)) {
            for batch in batches {
                scan.add(batch, |id| {
                    wanted.iter_mut().any(|(_, entry)| match &mut entry.work {
                        Work::Tail(tail) => tail.watch().watches(&catalog, id),
                        Work::Windows(_) => false,
                    })
                });
            }
        }
        let mut failed = Vec::new();
        for (key, entry) in wanted {
            let Work::Tail(tail) = &mut entry.work else {
                continue;
            };
            if entry.clients.is_empty() {
                continue;
            }
            let rows = match missed {
                // Some again, so that none is missing.
                Some(time) => tail.rows(&catalog, snapshot, time, now),
                None if scan.is_empty() => continue,
                None => tail.rows(&catalog, &scan, TimeRange::ALL, now),
            };
            match rows {
                Ok(rows) if rows.is_empty() => {}
                Ok(rows) => {
                    let rows: Vec<_> = rows.into_iter().map(|row| (Kind::Update, row)).collect();
                    tell(
                        &self.figures,
                        &entry.clients,
                        Put::Points,
                        tail.evaluator(),
                        sequence,
                        &rows,
                    );
                }
                Err(error) => failed.push((key.clone(), error.to_string())),
            }
        }
        self.tailed = sequence;
        failed.iter().for_each(|(key, error)| self.fail(key, error));
    }

    fn close(&mut self, now: i64) {
        for entry in self.entries.values_mut() {
            let Work::Windows(computation) = &mut entry.work else {
                continue;
            };
            // What is still to be looked at is looked at first.
            if computation.is_dirty(now) {
                continue;
            }
            let rows = computation.close(now);
            if !rows.is_empty() {
                let sequence = computation.sequence();
                tell(
                    &self.figures,
                    &entry.clients,
                    Put::Windows,
                    computation.evaluator(),
                    sequence,
                    &rows,
                );
            }
        }
    }
}

fn tell(
    figures: &Figures,
    clients: &BTreeMap<Key, Client>,
    put: Put,
    from: &super::evaluate::Evaluator,
    sequence: u64,
    rows: &[(Kind, Row)],
) {
    for ((_, id), client) in clients {
        let wanted = rows.iter().filter(|(_, row)| row.time >= client.from).cloned();
        let wanted: Vec<_> = wanted.collect();
        if !wanted.is_empty() {
            send(figures, client, id, put, from, sequence, wanted);
        }
    }
}

fn send(
    figures: &Figures,
    client: &Client,
    id: &str,
    put: Put,
    from: &super::evaluate::Evaluator,
    sequence: u64,
    rows: Vec<(Kind, Row)>,
) {
    figures.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
    let given = Rows {
        sequence,
        columns: from.columns(),
        groups: from.groups(),
        rows,
    };
    client.outbox.put(id, put, given);
}
