//! The thread that keeps all subscriptions up to date.
//!
//! It hears of committed batches through a bounded channel and notes what they touched (`note`, `touched`); a computation that was touched is
//! brought up to date when its turn comes (`round`), as often as [`super::pace`] lets it. What connections ask is in
//! `subscribe`. It never makes a writer wait, and without subscriptions it does not even listen.

mod note;
mod round;
mod subscribe;
#[cfg(test)]
mod tests;
mod touched;
mod worked;

use super::computation::Computation;
use super::fields::Fields;
use super::fresh::Fresh;
use super::hub::Figures;
use super::interest::Interest;
use super::message::Wanted;
use super::outbox::Outbox;
use super::pace::{Company, Pace, Share};
use super::recent::Recent;
use super::shares::Shares;
use super::tail::Tail;
use super::watch::Watch;
use crate::budget::Budget;
use crate::engine::{Commits, Engine};
use crate::model::MeasurementId;
use crate::query::snapshot::Snapshot;
use crossbeam_channel::{Receiver, never, select};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 100;
/// Subscriptions in all.
pub const SUBSCRIPTIONS_MAX: usize = 20_000;
/// Different subscriptions in all.
pub const COMPUTATIONS_MAX: usize = 10_000;
/// How often windows are looked at for having ended.
const TICK: Duration = Duration::from_millis(50);
/// How often it is looked for clients that are gone, and counted who is busy.
const SWEEP: Duration = Duration::from_secs(1);
/// Without subscriptions nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3600);
/// A computation that nobody subscribes to is kept so long for a client that comes back.
const LINGER: Duration = Duration::from_secs(60);
/// How many of those.
const LINGERING_MAX: usize = 1_000;
/// What was committed must have been heard of after so long.
const HEARD_PATIENCE: Duration = Duration::from_secs(5);

use note::{PENDING_ROWS_MAX, Pending};

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

impl Work {
    fn watch(&mut self) -> &mut Watch {
        match self {
            Self::Windows(computation) => computation.watch(),
            Self::Tail(tail) => tail.watch(),
        }
    }

    fn pace(&mut self) -> &mut Pace {
        match self {
            Self::Windows(computation) => &mut computation.pace,
            Self::Tail(tail) => &mut tail.pace,
        }
    }
}

/// A computation and who subscribed to it.
struct Entry {
    work: Work,
    clients: BTreeMap<Key, Client>,
    /// When the last client left.
    idle: Option<Instant>,
    /// Bytes of the rows and groups that it remembers, as they were counted last.
    remembered: usize,
    /// It is among those whose turn it is.
    in_turn: bool,
}

/// Why a computation ends that remembers too much.
const REMEMBERED_LIMIT: &str =
    "live subscriptions together remember more rows and groups than their part of live_bytes";

impl Entry {
    /// Counts what it remembers anew; `all` is what all do.
    fn count_remembered(&mut self, all: &mut usize) {
        let now = match &self.work {
            Work::Windows(computation) => computation.remembered(),
            Work::Tail(tail) => tail.evaluator().remembered(),
        };
        *all = *all - self.remembered + now;
        self.remembered = now;
    }

    /// Has it clients and windows that may be folded?
    fn folds(&self) -> bool {
        match &self.work {
            Work::Windows(computation) => !self.clients.is_empty() && computation.may_fold(),
            Work::Tail(_) => false,
        }
    }

    /// It will not ask again for what was committed up to here; `None`: it asks for none of it.
    fn has_read(&self) -> Option<u64> {
        match &self.work {
            Work::Windows(computation) => self.folds().then(|| computation.has_folded()),
            Work::Tail(tail) => (!self.clients.is_empty()).then_some(tail.told),
        }
    }
}

/// See the module.
pub struct Keeper {
    engine: Arc<Engine>,
    figures: Arc<Figures>,
    /// Only while there are computations.
    commits: Option<Commits>,
    /// Everything up to here was noted.
    heard: u64,
    entries: HashMap<Arc<str>, Entry>,
    subscriptions: BTreeMap<Key, Arc<str>>,
    interest: Interest,
    fresh: Fresh,
    recent: Recent,
    /// What was committed and not looked at; everybody who reads it waits for a turn.
    pending: HashMap<MeasurementId, Pending>,
    /// What was looked at, and is put together when many want to read it.
    apart: HashMap<MeasurementId, Pending>,
    /// [`SUBSCRIPTIONS_MAX`] and [`COMPUTATIONS_MAX`]; fewer in tests.
    subscriptions_max: usize,
    computations_max: usize,
    /// Rows of a measurement that wait for being looked at; beyond it nobody's turn is waited for.
    pending_rows_max: usize,
    /// Computations that were touched, by when their turn comes.
    queue: BTreeSet<(Instant, Arc<str>)>,
    /// Slow ones take their turns together: at moments counted from here.
    epoch: Instant,
    /// Outboxes in which something was put, and nobody was woken.
    told: Vec<Arc<Outbox>>,
    /// Computations that were brought up to date lately.
    company: Company,
    /// Some computation ended since this was last looked at.
    ended: bool,
    /// Bytes of the rows and groups that all computations remember.
    remembered: usize,
    /// What all of this may take of the processor,
    share: Share,
    /// and of memory.
    shares: Shares,
}

impl Keeper {
    /// Over an engine.
    pub fn new(engine: Arc<Engine>, figures: Arc<Figures>, share: Share) -> Self {
        let shares = Shares::of(engine.budgets().get().size(Budget::Live));
        Self {
            shares,
            engine,
            figures,
            commits: None,
            heard: 0,
            entries: HashMap::new(),
            subscriptions: BTreeMap::new(),
            interest: Interest::default(),
            fresh: Fresh::default(),
            recent: Recent::new(shares.recent),
            pending: HashMap::new(),
            apart: HashMap::new(),
            subscriptions_max: SUBSCRIPTIONS_MAX,
            computations_max: COMPUTATIONS_MAX,
            pending_rows_max: PENDING_ROWS_MAX,
            queue: BTreeSet::new(),
            epoch: Instant::now(),
            told: Vec::new(),
            company: Company::default(),
            ended: false,
            remembered: 0,
            share,
        }
    }

    /// Runs until it is told to stop.
    pub fn run(&mut self, requests: &Receiver<Request>, clock: &dyn Fn() -> i64) {
        let mut next_tick = Instant::now();
        let mut next_sweep = next_tick;
        loop {
            let now = Instant::now();
            let until = match &self.commits {
                None => now + NOTHING_DUE,
                Some(_) => self.due().map_or(next_tick, |due| next_tick.min(due)),
            };
            let commits = match &self.commits {
                Some(commits) => commits.receiver().clone(),
                None => never(),
            };
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Stop) | Err(_) => return,
                    Ok(request) => self.take(request, clock),
                },
                recv(commits) -> commit => {
                    if let Ok(commit) = commit {
                        self.commits.iter().for_each(|commits| commits.heard(&commit));
                        self.note(commit);
                    }
                    self.hear();
                },
                default(until.saturating_duration_since(now)) => {}
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.round(clock);
            }
            if Instant::now() >= next_tick && !self.entries.is_empty() {
                self.open(clock());
                self.close(clock());
                next_tick = Instant::now() + TICK;
            }
            if Instant::now() >= next_sweep && !self.entries.is_empty() {
                self.sweep();
                next_sweep = Instant::now() + SWEEP;
            }
            if self.entries.is_empty() {
                self.rest();
            }
        }
    }

    /// Wakes the connections that have something to send.
    fn wake(&mut self) {
        self.told.drain(..).for_each(|outbox| outbox.wake());
    }

    /// When the next turn comes.
    fn due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// Begins to listen, if nobody wanted anything before.
    fn listen(&mut self) {
        if self.commits.is_none() {
            // Subscribed to first: what becomes visible after the sequence was asked for is told.
            self.commits = Some(self.engine.subscribe_commits());
            self.heard = self.engine.sequence();
            self.clear_recent(self.heard);
        }
    }

    /// Only what comes after this sequence is known.
    fn clear_recent(&mut self, sequence: u64) {
        self.recent.clear(sequence);
        self.pending.clear();
        self.apart.clear();
    }

    /// Nobody wants anything: no commit wakes this thread any more.
    fn rest(&mut self) {
        if self.commits.take().is_some() {
            self.clear_recent(0);
            self.fresh.clear();
            self.interest.forget();
            self.queue.clear();
        }
    }

    fn take(&mut self, request: Request, clock: &dyn Fn() -> i64) {
        match request {
            Request::Subscribe { key, wanted, outbox } => {
                if let Err(error) = self.subscribe(&key, &wanted, &outbox, clock) {
                    outbox.error(&key.1, &error);
                }
            }
            Request::Again { key } => self.again(&key, clock),
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
        self.wake();
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
            if let Work::Windows(computation) = &mut entry.work {
                computation.folded().clear();
            }
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
        idle.sort();
        let spare = idle.len().saturating_sub(LINGERING_MAX);
        for (i, (since, key)) in idle.iter().enumerate() {
            if i < spare || since.elapsed() >= LINGER {
                self.end(key);
            }
        }
        if std::mem::take(&mut self.ended) {
            self.want_less();
            self.count();
        }
        let (now, computations) = (Instant::now(), self.entries.len());
        let (mut company, mut bytes) = (Company::default(), 0);
        for entry in self.entries.values_mut() {
            if !entry.clients.is_empty() {
                entry.work.pace().join(&mut company, now);
            }
            if let Work::Windows(computation) = &mut entry.work {
                computation.folded().share(self.shares.folded, computations);
                bytes += computation.folded().bytes();
            }
        }
        self.company = company;
        self.recent.look();
        self.figures.folded_bytes.store(bytes as u64, Ordering::Relaxed);
        let recent = self.recent.bytes() as u64;
        self.figures.recent_bytes.store(recent, Ordering::Relaxed);
        let remembered = self.remembered as u64;
        self.figures.remembered_bytes.store(remembered, Ordering::Relaxed);
    }

    fn end(&mut self, key: &Arc<str>) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.remembered -= entry.remembered;
        for client in entry.clients.keys() {
            self.subscriptions.remove(client);
        }
        self.interest.forget();
        self.ended = true;
        Some(entry)
    }

    /// Computations have ended: fields that only they named are not wanted any more.
    fn want_less(&mut self) {
        let mut fields = Fields::default();
        for entry in self.entries.values_mut() {
            fields.add(entry.work.watch().fields());
        }
        self.recent.want(fields);
    }

    /// Counts what a computation remembers. If all remember too much, each forgets windows beyond its part of what they may; if that
    /// does not help, those end that remember most.
    ///
    /// # Errors
    /// It ended.
    fn count_remembered(&mut self, key: &Arc<str>) -> Result<(), String> {
        let all = &mut self.remembered;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.count_remembered(all);
        }
        let bytes_max = self.shares.remembered;
        if *all <= bytes_max {
            return Ok(());
        }
        let each = bytes_max / self.entries.len().max(1);
        for entry in self.entries.values_mut() {
            if let Work::Windows(computation) = &mut entry.work {
                computation.shrink(each);
            }
            entry.count_remembered(all);
        }
        let error = format!("{REMEMBERED_LIMIT} ({bytes_max} bytes), and this one most");
        while self.remembered > bytes_max {
            let most = self.entries.iter().max_by_key(|(_, entry)| entry.remembered);
            let Some(most) = most.map(|(key, _)| key.clone()) else {
                break;
            };
            self.fail(&most, &error);
        }
        match self.entries.contains_key(key) {
            true => Ok(()),
            false => Err(error),
        }
    }

    /// Ends a computation that failed and tells its clients.
    fn fail(&mut self, key: &Arc<str>, error: &str) {
        let Some(entry) = self.end(key) else { return };
        for ((_, id), client) in &entry.clients {
            let text = format!("the subscription has ended: {error}");
            client.outbox.forget(id);
            client.outbox.error(id, &text);
        }
        self.count();
    }

    /// A snapshot, when just what it shows was noted: no more, no less.
    fn snapshot(&mut self) -> Snapshot {
        self.listen();
        let deadline = Instant::now() + HEARD_PATIENCE;
        loop {
            let snapshot = self.engine.snapshot();
            while self.heard < snapshot.sequence() {
                // What is visible is told in the same moment.
                let next = self
                    .commits
                    .as_ref()
                    .and_then(|c| c.next(Duration::from_millis(1)));
                match next {
                    Some(commit) => self.note(commit),
                    None if Instant::now() < deadline => {}
                    None => {
                        tracing::error!("commits were not heard of; every live computation begins anew");
                        self.heard = snapshot.sequence();
                        self.clear_recent(self.heard);
                        self.fresh.clear();
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
        while let Some(commit) = self.commits.as_ref().and_then(|c| c.next(Duration::ZERO)) {
            self.note(commit);
        }
    }
}
