//! The actor that records the machine.

use super::Stop;
use crate::host::Sampler;
use crate::net::clock::now;
use crate::net::feed::Feed;
use actix::{Actor, AsyncContext, Context, Handler};
use std::sync::Arc;
use std::time::Duration;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// The second look comes soon: rates need two.
const SECOND: Duration = Duration::from_secs(1);

/// Looks at the machine and feeds what it sees to the engine.
pub struct Host {
    feed: Arc<Feed>,
    sampler: Sampler,
}

impl Host {
    /// Feeds what `sampler` sees to a feed of line protocol.
    pub fn new(feed: Feed, sampler: Sampler) -> Self {
        Self {
            feed: Arc::new(feed),
            sampler,
        }
    }

    fn look(&mut self) {
        let mut lines = String::new();
        self.sampler.sample(now(), &mut lines);
        let Ok(mut decoder) = self.feed.decoder() else {
            return;
        };
        if let Some(ready) = self.feed.decode(|sink, _| decoder.decode(lines.as_bytes(), sink)) {
            self.feed.submit_or_drop(ready);
        }
    }
}

impl Actor for Host {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look();
        ctx.run_later(SECOND, |actor, _| actor.look());
        ctx.run_interval(INTERVAL, |actor, _| actor.look());
    }
}

impl Handler<Stop> for Host {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        actix::ActorContext::stop(ctx);
    }
}
