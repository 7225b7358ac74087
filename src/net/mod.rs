//! Everything that speaks to a socket: HTTP, WebSocket, TCP, UDP, Unix. The only home of actix-web and what it is made of.
//!
//! Bytes come in here, are decoded by way of [`feed`], and go to the engine; answers go out. The actors that start and stop it all
//! are in `actors`.

pub mod body;
pub mod clock;
pub mod committing;
pub mod connection;
pub mod counters;
pub mod datagrams;
pub mod encoding;
pub mod error;
pub mod feed;
pub mod frames;
pub mod gather;
pub mod hangup;
pub mod http;
pub mod kernel;
pub mod live;
pub mod mappings;
pub mod metrics;
pub mod outbox;
pub mod parameters;
pub mod query;
pub mod received;
pub mod rejected;
pub mod seats;
pub mod sse;
pub mod starting;
pub mod stream;
pub mod udp;
pub mod unix;
pub mod waiting;
pub mod write;

use crate::budget::turns::Turns;
use crate::engine::Engine;
use crate::ingest::TablePool;
use crate::live::hub::Hub;
use crate::query::QueryLimits;
use body::Bodies;
use counters::Counters;
use received::Received;
use seats::Seats;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// What every connection needs.
pub struct Services {
    /// Data.
    pub engine: Arc<Engine>,
    /// Live subscriptions.
    pub hub: Arc<Hub>,
    /// Figures.
    pub counters: Counters,
    /// Buffers for requests.
    pub bodies: Bodies,
    /// What connections and datagrams hold.
    pub received: Arc<Received>,
    /// Whose turn it is to empty sockets of datagrams.
    pub receiving: Arc<Turns>,
    /// And to throw away what refused clients send.
    pub throwing_away: Arc<Turns>,
    /// Where large work blocks.
    pub large: Handle,
    /// Tables of requests, used again.
    pub tables: TablePool,
    /// Queries that may run at once.
    pub queries: Arc<Semaphore>,
    /// Limits of each query; how much memory it may have is for the budgets to say.
    pub query_limits: QueryLimits,
    /// Queries that may wait for others.
    pub queries_waiting_max: usize,
    /// HTTP connections.
    pub seats: Arc<Seats>,
    /// How long a client may take to send the head of a request.
    pub head_patience: Duration,
    /// How long live clients may take.
    pub live_patience: live::Patience,
    /// When the server started.
    pub started: Instant,
}
