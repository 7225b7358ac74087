//! Everything that speaks to a socket: HTTP, WebSocket, TCP, UDP. The only home of actix-web and actix-ws.
//!
//! Bytes come in here, are decoded by way of [`feed`], and go to the engine; answers go out. The actors that start and stop it all
//! are in `actors`.

pub mod clock;
pub mod counters;
pub mod error;
pub mod feed;
pub mod http;
pub mod live;
pub mod metrics;
pub mod parameters;
pub mod query;
pub mod tcp;
pub mod udp;
pub mod write;

use crate::engine::Engine;
use crate::live::hub::Hub;
use counters::Counters;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// What every connection needs.
pub struct Services {
    /// Data.
    pub engine: Arc<Engine>,
    /// Live subscriptions.
    pub hub: Arc<Hub>,
    /// Figures.
    pub counters: Counters,
    /// Queries that may run at once.
    pub queries: Arc<Semaphore>,
    /// When the server started.
    pub started: Instant,
}
