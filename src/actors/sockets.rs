//! The actors of line protocol and statsd over TCP and UDP.

use super::Stop;
use crate::net::clock::now;
use crate::net::feed::Feed;
use crate::net::tcp::Shared;
use crate::net::{tcp, udp};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

/// Takes one format from one address.
pub struct Ingest {
    feed: Arc<Feed>,
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
    /// For formats that gather, and for datagrams: one decoder for everybody.
    shared: Shared,
    gathers: Option<Duration>,
    stop: watch::Sender<bool>,
    running: watch::Sender<usize>,
}

impl Ingest {
    /// Of a feed, from a TCP listener, a UDP socket, or both.
    ///
    /// # Errors
    /// The format cannot be had.
    pub fn new(feed: Feed, tcp: Option<TcpListener>, udp: Option<UdpSocket>) -> Result<Self, String> {
        let decoder = feed.decoder()?;
        let gathers = decoder.flush_interval().map(Duration::from_nanos);
        Ok(Self {
            feed: Arc::new(feed),
            tcp,
            udp,
            shared: Arc::new(Mutex::new(decoder)),
            gathers,
            stop: watch::channel(false).0,
            running: watch::channel(0).0,
        })
    }
}

impl Actor for Ingest {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let mut loops: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        if let Some(listener) = self.tcp.take() {
            let shared = self.gathers.map(|_| self.shared.clone());
            loops.push(Box::pin(tcp::serve(
                listener,
                self.feed.clone(),
                shared,
                self.stop.subscribe(),
            )));
        }
        if let Some(socket) = self.udp.take() {
            loops.push(Box::pin(udp::serve(
                socket,
                self.feed.clone(),
                self.shared.clone(),
                self.stop.subscribe(),
            )));
        }
        for socket in loops {
            self.running.send_modify(|count| *count += 1);
            let ended = socket
                .into_actor(self)
                .map(|(), actor, _| actor.running.send_modify(|count| *count -= 1));
            ctx.spawn(ended);
        }
        if let Some(interval) = self.gathers {
            ctx.run_interval(interval, |actor, _| flush(&actor.feed, &actor.shared));
        }
    }
}

/// Commits what a gathering format has gathered.
fn flush(feed: &Feed, shared: &Shared) {
    let decoded = feed.decode(|sink, _| {
        shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .flush(now(), sink);
    });
    if let Some((batch, rows)) = decoded {
        feed.submit_or_drop(batch, rows);
    }
}

impl Handler<Stop> for Ingest {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        self.stop.send_replace(true);
        let mut running = self.running.subscribe();
        let (feed, shared, gathers) = (self.feed.clone(), self.shared.clone(), self.gathers.is_some());
        Box::pin(async move {
            // An error means that the actor is gone, and its sockets with it.
            let _ = running.wait_for(|count| *count == 0).await;
            if gathers {
                flush(&feed, &shared);
            }
        })
    }
}
