//! The actor of what keeps answers up to date: live and continuous queries, rollups. Owns their threads.

use super::Stop;
use crate::live::continuous::Continuous;
use crate::live::hub::Hub;
use crate::refresh::Refresh;
use actix::{Actor, Context, Handler, ResponseFuture};
use std::sync::Arc;

/// Keeps continuous windowed queries up to date, and stops them.
pub struct Live {
    hub: Arc<Hub>,
    continuous: Arc<Continuous>,
    refresh: Arc<Refresh>,
}

impl Live {
    /// Of their threads.
    pub fn new(hub: Arc<Hub>, continuous: Arc<Continuous>, refresh: Arc<Refresh>) -> Self {
        Self {
            hub,
            continuous,
            refresh,
        }
    }
}

impl Actor for Live {
    type Context = Context<Self>;
}

impl Handler<Stop> for Live {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        let (hub, continuous, refresh) = (self.hub.clone(), self.continuous.clone(), self.refresh.clone());
        let stop = move || {
            refresh.stop();
            continuous.stop();
            hub.stop();
        };
        Box::pin(async move {
            if tokio::task::spawn_blocking(stop).await.is_err() {
                tracing::error!("the live hub could not be stopped");
            }
        })
    }
}
