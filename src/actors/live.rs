//! The actor of live queries: owns the hub's thread.

use super::Stop;
use crate::live::hub::Hub;
use actix::{Actor, Context, Handler, ResponseFuture};
use std::sync::Arc;

/// Keeps continuous windowed queries up to date, and stops them.
pub struct Live {
    hub: Arc<Hub>,
}

impl Live {
    /// Of a hub.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

impl Actor for Live {
    type Context = Context<Self>;
}

impl Handler<Stop> for Live {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        let hub = self.hub.clone();
        Box::pin(async move {
            if tokio::task::spawn_blocking(move || hub.stop()).await.is_err() {
                tracing::error!("the live hub could not be stopped");
            }
        })
    }
}
