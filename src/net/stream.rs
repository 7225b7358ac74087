//! Connections that carry a format: TCP and Unix sockets. Framing across packets, and a sender that waits when the server cannot
//! keep up.

use super::counters::{add, get, take};
use super::feed::Feed;
use super::received::{self, Held, Part, READ_BYTES_MIN, Received};
use crate::budget::machine::files_max;
use crate::ingest::framing::{Framer, Lost};
use crate::listen::SocketSettings;
use kymo_plugin_api::{Decoder, Origin, Rejection, RowSink};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Batches of one connection that may wait for their commit while it is read on.
const COMMITS_MAX: usize = 4;
/// While the process has too much in memory, a connection waits so long before it is read on; it is not stopped altogether.
const TIGHT_WAIT: Duration = Duration::from_millis(100);
/// Between looks meanwhile.
const TIGHT_LOOK: Duration = Duration::from_millis(20);
/// Once the server is to stop, what has arrived is looked for so long,
const STOP_LOOK: Duration = Duration::from_millis(50);
/// and a sender that goes on is listened to so long.
const STOP_READ: Duration = Duration::from_secs(2);
/// Connections that are closed at once are told of so often; /metrics counts them.
const REFUSALS_TOLD_EVERY: Duration = Duration::from_secs(60);
/// After a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A decoder that several connections and sockets share, for formats that gather (statsd).
pub type Shared = Arc<Mutex<Box<dyn Decoder>>>;

/// What connections come from, bound and not blocking.
pub enum Bound {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A socket in the file system.
    Unix(std::os::unix::net::UnixListener),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

type Connection = Box<dyn AsyncRead + Send + Unpin>;

impl Listener {
    fn new(bound: Bound) -> io::Result<Self> {
        Ok(match bound {
            Bound::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Bound::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Connection> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// What all connections of a listener share.
struct Common {
    feed: Arc<Feed>,
    shared: Option<Shared>,
    settings: SocketSettings,
}

impl Common {
    fn received(&self) -> &Arc<Received> {
        &self.feed.services.received
    }

    /// Batches of a connection that may wait while it is read on.
    fn commits_max(&self) -> usize {
        match self.received().is_full(Part::Waiting) {
            true => 0,
            false => COMMITS_MAX - 1,
        }
    }

    /// Lets others end first while memory is short.
    async fn wait_while_tight(&self) {
        let meter = self.feed.services.engine.budgets().meter();
        let until = Instant::now() + TIGHT_WAIT;
        while meter.is_tight() && Instant::now() < until {
            tokio::time::sleep(TIGHT_LOOK).await;
        }
    }
}

/// Accepts connections until told to stop, then lets those that are open read what has arrived.
pub async fn serve(
    bound: Bound,
    feed: Arc<Feed>,
    shared: Option<Shared>,
    settings: SocketSettings,
    mut stop: watch::Receiver<bool>,
) {
    let listener = match Listener::new(bound) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(from = feed.source, %error, "cannot listen"),
    };
    let common = Arc::new(Common {
        feed,
        shared,
        settings,
    });
    let counters = common.feed.ingest.clone();
    // Each connection is a file, and the store needs some.
    let connections_max = settings.connections_max.min(files_max() / 8).max(1);
    let mut refusal_told: Option<Instant> = None;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let room = match get(&counters.connections) >= connections_max {
                        true => Err(format!("connections {connections_max}")),
                        false => {
                            let room = common.received().connect();
                            room.ok_or_else(|| format!("received_bytes: room for {} of all listeners", common.received().connections_max()))
                        }
                    };
                    match room {
                        Ok(room) => open(&mut connections, (stream, room), &common, &stop),
                        Err(limit) => {
                            add(&counters.connections_refused, 1);
                            if refusal_told.is_none_or(|told| told.elapsed() > REFUSALS_TOLD_EVERY) {
                                refusal_told = Some(Instant::now());
                                tracing::warn!(from = common.feed.source, "too many connections ({limit}); one was closed");
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    // Those that the kernel has accepted have sent something, or will not any more.
    while get(&counters.connections) < connections_max
        && let Some(Ok(stream)) = within(STOP_LOOK, listener.accept()).await
        && let Some(room) = common.received().connect()
    {
        open(&mut connections, (stream, room), &common, &stop);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves a connection as a task of its own.
fn open(
    connections: &mut JoinSet<()>,
    (stream, room): (Connection, received::Connection),
    common: &Arc<Common>,
    stop: &watch::Receiver<bool>,
) {
    let (common, stop) = (common.clone(), stop.clone());
    add(&common.feed.ingest.connections, 1);
    connections.spawn(async move {
        let counters = common.feed.ingest.clone();
        let (_open, _room) = (Open(&counters.connections), room);
        if let Err(error) = connection(stream, &common, stop).await {
            tracing::debug!(from = common.feed.source, %error, "a connection ended");
        }
    });
}

/// Counts a connection as open while it lives, however it ends.
struct Open<'a>(&'a std::sync::atomic::AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        take(self.0, 1);
    }
}

/// An unfinished line of a connection is so long.
fn carry(carried: &mut Held, bytes: usize, common: &Common) -> io::Result<()> {
    if carried.set(bytes) || bytes == 0 {
        return Ok(());
    }
    let bytes_max = common.received().bytes_max(Part::Carried);
    Err(io::Error::other(format!(
        "too many bytes of unfinished lines (received_bytes: {bytes_max} for them)"
    )))
}

async fn connection(
    mut stream: Connection,
    common: &Arc<Common>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let feed = &common.feed.renewed().unwrap_or_else(|| common.feed.clone());
    let mut own = match &common.shared {
        Some(_) => None,
        None => Some(feed.decoder().map_err(io::Error::other)?),
    };
    let mut framer = Framer::new(
        feed.reading.framing,
        feed.quoting(),
        feed.services.engine.limits(),
    );
    let mut carried = common.received().held(Part::Carried);
    let mut buffered = common.received().held(Part::Buffers);
    let mut commits: JoinSet<bool> = JoinSet::new();
    let mut buffer = vec![0; READ_BYTES_MIN];
    buffered.set(buffer.len());
    let idle = match common.settings.idle_seconds {
        0 => Duration::MAX,
        seconds => Duration::from_secs(seconds),
    };
    let mut stopping = *stop.borrow();
    let mut read_until: Option<Instant> = None;
    let ended = loop {
        // Once stopping, only what has arrived is taken; an unfinished line at its end is not known to be whole.
        let patience = if stopping { STOP_LOOK } else { idle };
        if stopping && Instant::now() > *read_until.get_or_insert_with(|| Instant::now() + STOP_READ) {
            break Ok(());
        }
        let read = tokio::select! {
            read = within(patience, stream.read(&mut buffer)) => match read {
                Some(Ok(read)) => read,
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            },
            _ = stop.changed(), if !stopping => {
                stopping = true;
                continue;
            }
        };
        add(&feed.ingest.bytes, read as u64);
        let decoded = feed.decode(|sink, _| {
            let mut run = |decoder: &mut dyn Decoder| {
                let mut pieces = |piece: &[u8]| decoder.decode(piece, sink);
                if read == 0 {
                    framer.finish(&mut pieces);
                } else {
                    framer.push(&buffer[..read], &mut pieces);
                }
                framer.take_lost().iter().for_each(|lost| tell(lost, sink));
            };
            match (&common.shared, &mut own) {
                (Some(shared), _) => run(shared.lock().unwrap_or_else(PoisonError::into_inner).as_mut()),
                (None, Some(decoder)) => run(decoder.as_mut()),
                (None, None) => {}
            }
        });
        if let Some(ready) = decoded {
            if let Err(error) = room_for_one(&mut commits, common).await {
                break Err(error);
            }
            let mut waiting = common.received().held(Part::Waiting);
            waiting.set(ready.0.bytes().len());
            let feed = feed.clone();
            commits.spawn(async move {
                let _waiting = waiting;
                feed.commit_waiting(ready).await
            });
        }
        if read == 0 {
            break Ok(());
        }
        if let Err(error) = carry(&mut carried, framer.carried(), common) {
            break Err(error);
        }
        let most = common.received().read_bytes_max();
        if buffer.len() > most {
            buffer = vec![0; most];
        } else if read == buffer.len() && read < most {
            buffer.resize((read * 2).min(most), 0);
        }
        buffered.set(buffer.len());
        common.wait_while_tight().await;
    };
    framer.abandon();
    let lost = framer.take_lost();
    if !lost.is_empty() {
        feed.decode(|sink, _| lost.iter().for_each(|lost| tell(lost, sink)));
    }
    while !commits.is_empty() {
        committed(&mut commits).await?;
    }
    ended
}

/// Waits until one more batch may wait.
async fn room_for_one(commits: &mut JoinSet<bool>, common: &Common) -> io::Result<()> {
    while commits.len() > common.commits_max() {
        committed(commits).await?;
    }
    Ok(())
}

/// Waits for one commit. One that failed ends the connection: that is how the sender learns of it.
async fn committed(commits: &mut JoinSet<bool>) -> io::Result<()> {
    match commits.join_next().await {
        Some(Ok(false)) => Err(io::Error::other("what it sent could not be committed")),
        _ => Ok(()),
    }
}

async fn within<T>(patience: Duration, work: impl Future<Output = T>) -> Option<T> {
    if patience == Duration::MAX {
        return Some(work.await);
    }
    tokio::time::timeout(patience, work).await.ok()
}

/// Reports what no decoder saw.
pub fn tell(lost: &Lost, sink: &mut dyn RowSink) {
    sink.reject(&Rejection {
        origin: Origin {
            line: 1,
            text: &lost.head,
        },
        column: lost.head.len() as u64 + 1,
        reason: &lost.reason,
        context: &[],
    });
}
