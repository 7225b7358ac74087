//! The thread that keeps all subscriptions up to date.
//!
//! It hears of committed batches through a bounded channel, notes what they touched, and every [`UPDATE_INTERVAL`] asks the
//! engine for just that. It never makes a writer wait.

use super::message::Reply;
use super::outbox::Outbox;
use super::subscription::Subscription;
use crate::engine::{Committed, Engine};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 100;
/// Subscriptions in all.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Changes are sent at most so often.
pub const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// How often windows are looked at for having ended.
const TICK: Duration = Duration::from_millis(50);
/// Requests that may wait.
const REQUESTS_MAX: usize = 1024;

/// What a connection asks.
enum Request {
    Subscribe {
        connection: u64,
        id: String,
        database: String,
        text: String,
        outbox: Arc<Outbox>,
    },
    Unsubscribe {
        connection: u64,
        id: String,
    },
    Disconnect {
        connection: u64,
    },
    Stop,
}

/// The way to the hub. Shared.
pub struct Hub {
    sender: Sender<Request>,
    connections: AtomicU64,
    figures: Arc<Figures>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Figures for /metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Subscriptions now.
    pub subscriptions: AtomicU64,
    /// Evaluations since the start.
    pub evaluations: AtomicU64,
    /// Rows pushed since the start.
    pub rows: AtomicU64,
    /// Commits that the hub was too slow for, since the start.
    pub gaps: AtomicU64,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// Too many wait.
    #[error("the live hub is busy ({REQUESTS_MAX} requests wait); try again")]
    Full,
    /// The server is going down.
    #[error("the server is shutting down")]
    Stopping,
}

impl Hub {
    /// Starts the thread.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(engine: Arc<Engine>, clock: impl Fn() -> i64 + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = bounded(REQUESTS_MAX);
        let figures = Arc::new(Figures::default());
        let keeper = Keeper {
            engine,
            subscriptions: BTreeMap::new(),
            figures: figures.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("kymo-live".into())
            .spawn(move || keeper.run(&receiver, &clock))?;
        Ok(Self {
            sender,
            connections: AtomicU64::new(0),
            figures,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A number for a new connection.
    pub fn connect(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Begins a subscription; answers go to `outbox`.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn subscribe(
        &self,
        connection: u64,
        id: String,
        database: String,
        text: String,
        outbox: Arc<Outbox>,
    ) -> Result<(), Busy> {
        self.ask(Request::Subscribe {
            connection,
            id,
            database,
            text,
            outbox,
        })
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn unsubscribe(&self, connection: u64, id: String) -> Result<(), Busy> {
        self.ask(Request::Unsubscribe { connection, id })
    }

    /// Ends all subscriptions of a connection. When the hub is busy its closed outbox ends them a little later.
    pub fn disconnect(&self, connection: u64) {
        let _ = self.ask(Request::Disconnect { connection });
    }

    fn ask(&self, request: Request) -> Result<(), Busy> {
        self.sender.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => Busy::Full,
            TrySendError::Disconnected(_) => Busy::Stopping,
        })
    }

    /// Figures.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.sender.send(Request::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the live thread panicked");
        }
    }
}

type Key = (u64, String);

struct Keeper {
    engine: Arc<Engine>,
    subscriptions: BTreeMap<Key, (Subscription, Arc<Outbox>)>,
    figures: Arc<Figures>,
}

impl Keeper {
    fn run(mut self, requests: &Receiver<Request>, clock: &dyn Fn() -> i64) {
        let commits = self.engine.subscribe_commits();
        let mut updated = Instant::now();
        loop {
            let wait = if self.dirty() {
                UPDATE_INTERVAL.saturating_sub(updated.elapsed())
            } else {
                TICK
            };
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Stop) | Err(_) => return,
                    Ok(request) => self.take(request, clock()),
                },
                recv(commits) -> commit => {
                    if let Ok(commit) = commit {
                        self.note(&commit);
                    }
                    commits.try_iter().for_each(|commit| self.note(&commit));
                },
                default(wait.min(TICK)) => {}
            }
            if updated.elapsed() >= UPDATE_INTERVAL && self.dirty() {
                updated = Instant::now();
                self.update(clock());
            }
            self.close(clock());
        }
    }

    fn dirty(&self) -> bool {
        self.subscriptions
            .values()
            .any(|(subscription, _)| subscription.is_dirty())
    }

    fn count(&self) {
        self.figures
            .subscriptions
            .store(self.subscriptions.len() as u64, Ordering::Relaxed);
    }

    fn take(&mut self, request: Request, now: i64) {
        match request {
            Request::Subscribe {
                connection,
                id,
                database,
                text,
                outbox,
            } => {
                if let Err(error) = self.subscribe(connection, &id, &database, &text, &outbox, now) {
                    outbox.text(Reply::error(&id, &error));
                }
            }
            Request::Unsubscribe { connection, id } => {
                if let Some((_, outbox)) = self.subscriptions.remove(&(connection, id.clone())) {
                    outbox.forget(&id);
                }
            }
            Request::Disconnect { connection } => self.subscriptions.retain(|(of, _), _| *of != connection),
            Request::Stop => {}
        }
        self.count();
    }

    fn subscribe(
        &mut self,
        connection: u64,
        id: &str,
        database: &str,
        text: &str,
        outbox: &Arc<Outbox>,
        now: i64,
    ) -> Result<(), String> {
        let key = (connection, id.to_string());
        if self.subscriptions.contains_key(&key) {
            return Err(format!("there is a subscription {id} on this connection"));
        }
        let on_connection = self
            .subscriptions
            .keys()
            .filter(|(of, _)| *of == connection)
            .count();
        if on_connection >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            return Err(format!(
                "too many subscriptions on a connection (subscriptions_per_connection_max {SUBSCRIPTIONS_PER_CONNECTION_MAX})"
            ));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(format!(
                "too many subscriptions (subscriptions_max {SUBSCRIPTIONS_MAX})"
            ));
        }
        if self.engine.catalog().database(database).is_none() {
            return Err(format!("database not found: {database}"));
        }
        let mut subscription = Subscription::new(text, database, now)?;
        let snapshot = self.engine.snapshot();
        let news = subscription.snapshot(self.engine.catalog(), &snapshot, snapshot.sequence(), now);
        let news = news.map_err(|e| e.to_string())?;
        self.figures.evaluations.fetch_add(1, Ordering::Relaxed);
        self.figures
            .rows
            .fetch_add(news.rows.len() as u64, Ordering::Relaxed);
        outbox.rows(
            id,
            news.sequence,
            subscription.columns(),
            subscription.groups(),
            news.rows,
            true,
        );
        self.subscriptions.insert(key, (subscription, outbox.clone()));
        Ok(())
    }

    fn note(&mut self, commit: &Committed) {
        let catalog = self.engine.catalog();
        match commit {
            Committed::Batch(_, batch) => {
                self.subscriptions
                    .values_mut()
                    .for_each(|(s, _)| s.note(batch, catalog));
            }
            Committed::Gap(_) => {
                self.figures.gaps.fetch_add(1, Ordering::Relaxed);
                self.subscriptions.values_mut().for_each(|(s, _)| s.note_all());
            }
        }
    }

    fn update(&mut self, now: i64) {
        let snapshot = self.engine.snapshot();
        let catalog = self.engine.catalog();
        self.subscriptions.retain(|(_, id), (subscription, outbox)| {
            if outbox.is_closed() {
                return false;
            }
            if !subscription.is_dirty() {
                return true;
            }
            self.figures.evaluations.fetch_add(1, Ordering::Relaxed);
            match subscription.update(catalog, &snapshot, snapshot.sequence(), now) {
                Ok(news) => {
                    self.figures
                        .rows
                        .fetch_add(news.rows.len() as u64, Ordering::Relaxed);
                    if !news.rows.is_empty() {
                        outbox.rows(
                            id,
                            news.sequence,
                            subscription.columns(),
                            subscription.groups(),
                            news.rows,
                            false,
                        );
                    }
                    true
                }
                Err(error) => {
                    outbox.text(Reply::error(id, &format!("the subscription has ended: {error}")));
                    false
                }
            }
        });
        self.count();
    }

    fn close(&mut self, now: i64) {
        for ((_, id), (subscription, outbox)) in &mut self.subscriptions {
            // What is still to be looked at is looked at first.
            if subscription.is_dirty() {
                continue;
            }
            let rows = subscription.close(now);
            if !rows.is_empty() {
                self.figures.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
                let sequence = self.engine.sequence();
                outbox.rows(
                    id,
                    sequence,
                    subscription.columns(),
                    subscription.groups(),
                    rows,
                    false,
                );
            }
        }
    }
}
