//! Lines over TCP: framing across packets, and a sender that waits when the server cannot keep up.

use super::counters::{add, get};
use super::feed::Feed;
use crate::ingest::framing::LineFramer;
use kymo_plugin_api::Decoder;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections open at once on one listener.
pub const CONNECTIONS_MAX: u64 = 4096;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(3600);
/// After a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A decoder that several connections share, for formats that gather (statsd).
pub type Shared = Arc<Mutex<Box<dyn Decoder>>>;

/// Accepts connections until told to stop, then lets those that are open read what has arrived.
pub async fn serve(
    listener: TcpListener,
    feed: Arc<Feed>,
    shared: Option<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let counters = (feed.ingest)(&feed.services);
                    if get(&counters.connections) >= CONNECTIONS_MAX {
                        tracing::warn!(%peer, "too many connections (connections_max {CONNECTIONS_MAX}); one was closed");
                        continue;
                    }
                    let (feed, shared, stop) = (feed.clone(), shared.clone(), stop.clone());
                    connections.spawn_local(async move {
                        let counters = (feed.ingest)(&feed.services);
                        add(&counters.connections, 1);
                        if let Err(error) = connection(stream, &feed, shared, stop).await {
                            tracing::debug!(%peer, %error, "a connection ended");
                        }
                        counters.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    mut stream: TcpStream,
    feed: &Feed,
    shared: Option<Shared>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut own = match &shared {
        Some(_) => None,
        None => Some(feed.decoder().map_err(std::io::Error::other)?),
    };
    let mut framer = LineFramer::new(feed.services.engine.limits().line_bytes_max);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = tokio::select! {
            read = tokio::time::timeout(IDLE, stream.read(&mut buffer)) => match read {
                Ok(read) => read?,
                Err(_) => return Ok(()),
            },
            _ = stop.changed() => {
                // What has arrived is taken; an unfinished line at the end is not known to be whole.
                while let Ok(count) = stream.try_read(&mut buffer) {
                    if count == 0 {
                        break;
                    }
                    take(feed, &shared, &mut own, |lines| framer.push(&buffer[..count], lines)).await;
                }
                return Ok(());
            }
        };
        add(&(feed.ingest)(&feed.services).bytes, read as u64);
        if read == 0 {
            take(feed, &shared, &mut own, |lines| framer.finish(lines)).await;
            return Ok(());
        }
        take(feed, &shared, &mut own, |lines| {
            framer.push(&buffer[..read], lines)
        })
        .await;
        let too_long = framer.take_too_long();
        if too_long > 0 {
            add(&(feed.ingest)(&feed.services).unparsed, too_long);
            tracing::warn!(lines = too_long, "lines were too long (line_bytes_max)");
        }
    }
}

/// Decodes the whole lines that `frame` gives, and commits them.
async fn take(
    feed: &Feed,
    shared: &Option<Shared>,
    own: &mut Option<Box<dyn Decoder>>,
    frame: impl FnOnce(&mut dyn FnMut(&[u8])),
) {
    let decoded = feed.decode(|sink, _| match (shared, own) {
        (Some(shared), _) => {
            let mut decoder = shared.lock().unwrap_or_else(PoisonError::into_inner);
            frame(&mut |lines| decoder.decode(lines, sink));
        }
        (None, Some(decoder)) => frame(&mut |lines| decoder.decode(lines, sink)),
        (None, None) => {}
    });
    if let Some((batch, rows)) = decoded {
        feed.submit_waiting(batch, rows).await;
    }
}
