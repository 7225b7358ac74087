//! The flushes of formats that gather (statsd): a thread for each decoder that its sockets share.

use super::clock::now;
use super::feed::Feed;
use super::outbox::Outbox;
use super::stream::Shared;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Flushes a decoder at its interval until it is stopped.
pub struct Flusher {
    thread: JoinHandle<()>,
    stop: Sender<()>,
    stopping: Arc<AtomicBool>,
}

impl Flusher {
    /// Starts.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(feed: Arc<Feed>, shared: Shared, interval: Duration) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut outbox = Outbox::new(feed.clone(), stopping.clone());
        let work = move || {
            loop {
                let ended = stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout);
                let decoded = feed.decode(|sink, _| {
                    let mut decoder = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    decoder.flush(now(), sink);
                });
                match decoded {
                    Some(ready) => outbox.submit(ready),
                    None => outbox.settle(),
                }
                if ended {
                    return outbox.settle();
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("kymo-flush".into())
            .spawn(work)?;
        Ok(Self {
            thread,
            stop,
            stopping,
        })
    }

    /// Flushes once more and ends. Blocks. Call it when nothing feeds the decoder any more.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("a flushing thread panicked");
        }
    }
}
