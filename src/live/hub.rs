//! The way to the thread that keeps all subscriptions up to date; the thread itself is in `keeper`.

use super::keeper::{Keeper, Request};
use super::message::{Encoding, Wanted};
use super::outbox::{Outbox, Waiting};
use super::pace::Share;
use super::shares::Shares;
use crate::budget::Budget;
use crate::engine::Engine;
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Requests that may wait.
const REQUESTS_MAX: usize = 4096;

/// See the module. Shared.
pub struct Hub {
    sender: Sender<Request>,
    connections: AtomicU64,
    figures: Arc<Figures>,
    waiting: Arc<Waiting>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Figures for /metrics.
#[derive(Debug, Default)]
pub struct Figures {
    /// Subscriptions now.
    pub subscriptions: AtomicU64,
    /// Different ones among them, and those kept for clients that come back.
    pub computations: AtomicU64,
    /// Evaluations since the start.
    pub evaluations: AtomicU64,
    /// Windows whose news were folded into what was known of them, instead of being evaluated, since the start.
    pub folds: AtomicU64,
    /// Rows pushed since the start.
    pub rows: AtomicU64,
    /// Times that the hub was too slow for commits, since the start.
    pub gaps: AtomicU64,
    /// Bytes of what windows were folded to.
    pub folded_bytes: AtomicU64,
    /// Bytes of the last batches.
    pub recent_bytes: AtomicU64,
    /// Bytes of the rows and groups that computations remember.
    pub remembered_bytes: AtomicU64,
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
    pub fn start(
        engine: Arc<Engine>,
        share: Share,
        clock: impl Fn() -> i64 + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(REQUESTS_MAX);
        let figures = Arc::new(Figures::default());
        let shares = Shares::of(engine.budgets().get().size(Budget::Live));
        let mut keeper = Keeper::new(engine, figures.clone(), share);
        let thread = std::thread::Builder::new()
            .name("kymo-live".into())
            .spawn(move || keeper.run(&receiver, &clock))?;
        Ok(Self {
            sender,
            connections: AtomicU64::new(0),
            figures,
            waiting: Waiting::new(shares.waiting),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// A number for a new connection, and the queue of what it is to be sent.
    pub fn connect(&self, encoding: Encoding, wake: impl Fn() + Send + Sync + 'static) -> (u64, Arc<Outbox>) {
        let connection = self.connections.fetch_add(1, Ordering::Relaxed);
        (
            connection,
            Arc::new(Outbox::new(self.waiting.clone(), encoding, wake)),
        )
    }

    /// Begins a subscription; answers go to `outbox`.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn subscribe(
        &self,
        connection: u64,
        id: String,
        wanted: Wanted,
        outbox: Arc<Outbox>,
    ) -> Result<(), Busy> {
        self.ask(Request::Subscribe {
            key: (connection, id),
            wanted,
            outbox,
        })
    }

    /// Sends a subscription its snapshot again: its outbox overflowed.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn again(&self, connection: u64, id: String) -> Result<(), Busy> {
        self.ask(Request::Again {
            key: (connection, id),
        })
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// See [`Busy`].
    pub fn unsubscribe(&self, connection: u64, id: String) -> Result<(), Busy> {
        self.ask(Request::Unsubscribe {
            key: (connection, id),
        })
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

    /// Bytes that wait for clients.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes()
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
