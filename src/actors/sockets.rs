//! The actors of formats over TCP, UDP and Unix sockets, and of what they gather.

use super::Stop;
use crate::listen::SocketSettings;
use crate::net::datagrams::{Receivers, Source};
use crate::net::feed::Feed;
use crate::net::gather::Flusher;
use crate::net::stream::{self, Bound, Shared};
use actix::{Actor, Context, Handler, ResponseFuture};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bound sockets of one address.
pub enum Sockets {
    /// Connections.
    Streams(Bound),
    /// Datagrams.
    Datagrams(Vec<Source>),
}

/// Takes one format from one address.
pub struct Ingest {
    stop: watch::Sender<bool>,
    streams: Option<JoinHandle<()>>,
    receivers: Option<Receivers>,
    /// Of a socket in the file system: removed at the end.
    path: Option<PathBuf>,
}

impl Ingest {
    /// Starts to take what comes. `shared` is the decoder of a format that gathers; connections are served by `runtime`.
    ///
    /// # Errors
    /// A thread cannot be started, or a socket cannot be read.
    pub fn new(
        feed: Arc<Feed>,
        sockets: Sockets,
        settings: SocketSettings,
        shared: Option<Shared>,
        runtime: &Handle,
        path: Option<PathBuf>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (mut streams, mut receivers) = (None, None);
        match sockets {
            Sockets::Streams(bound) => {
                streams = Some(runtime.spawn(stream::serve(bound, feed, shared, settings, stopped)));
            }
            Sockets::Datagrams(sources) => {
                receivers = Some(Receivers::start(sources, &feed, shared.as_ref(), &settings)?);
            }
        }
        Ok(Self {
            stop,
            streams,
            receivers,
            path,
        })
    }
}

impl Actor for Ingest {
    type Context = Context<Self>;
}

impl Handler<Stop> for Ingest {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        self.stop.send_replace(true);
        let (streams, receivers, path) = (self.streams.take(), self.receivers.take(), self.path.take());
        Box::pin(async move {
            if let Some(streams) = streams
                && streams.await.is_err()
            {
                tracing::error!("a listener panicked");
            }
            if let Some(receivers) = receivers {
                blocking(move || receivers.stop()).await;
            }
            if let Some(path) = path {
                // Gone already is as good.
                let _ = std::fs::remove_file(path);
            }
        })
    }
}

/// Flushes what a format gathers.
pub struct Flush {
    flusher: Option<Flusher>,
}

impl Flush {
    /// Starts.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(feed: Arc<Feed>, shared: Shared, interval: Duration) -> io::Result<Self> {
        Ok(Self {
            flusher: Some(Flusher::start(feed, shared, interval)?),
        })
    }
}

impl Actor for Flush {
    type Context = Context<Self>;
}

impl Handler<Stop> for Flush {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Stop, _: &mut Context<Self>) -> ResponseFuture<()> {
        let flusher = self.flusher.take();
        Box::pin(async move {
            if let Some(flusher) = flusher {
                blocking(move || flusher.stop()).await;
            }
        })
    }
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::error!("stopping a socket panicked");
    }
}
