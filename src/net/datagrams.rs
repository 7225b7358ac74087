//! Datagrams of a format, over UDP and Unix sockets: one thread a socket empties the kernel's buffer, another decodes what waits and
//! commits it. Senders cannot be told anything, so what cannot be committed yet waits, bounded, and is tried again.

use super::counters::{Ingest, add};
use super::feed::Feed;
use super::kernel::dropped_datagrams;
use super::outbox::Outbox;
use super::stream::Shared;
use super::udp::{Reader, receive_buffer_bytes};
use super::waiting::{Datagrams, Waiting};
use crate::listen::SocketSettings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Received datagrams are handed on at so many bytes, or when no more have arrived.
const HAND_ON_BYTES: usize = 256 << 10;
/// Bytes of datagrams in one batch, about.
const BATCH_BYTES: usize = 2 << 20;
/// After the first datagram of a batch, others may follow for so long: an fsync a datagram would keep nobody up to date.
const GATHER: Duration = Duration::from_millis(5);
/// How often a thread with nothing to read looks whether it is to stop.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// How often the kernel is asked what it dropped.
const ASK_KERNEL: Duration = Duration::from_secs(5);
/// Niceness of the threads that empty the kernel's buffers.
const NICENESS: i32 = -10;
/// The largest datagram of a Unix socket that is taken whole.
const UNIX_DATAGRAM_BYTES_MAX: usize = 256 << 10;

/// A socket that datagrams come from.
pub enum Source {
    /// UDP.
    Udp(UdpSocket),
    /// A socket in the file system.
    Unix(UnixDatagram),
}

/// The threads of one listen address.
pub struct Receivers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Receivers {
    /// Starts two threads for each socket. `shared` is the decoder of a format that gathers.
    ///
    /// # Errors
    /// A thread cannot be started, or a socket cannot be read like this.
    pub fn start(
        sources: Vec<Source>,
        feed: &Arc<Feed>,
        shared: Option<&Shared>,
        settings: &SocketSettings,
    ) -> io::Result<Self> {
        let mut running = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        let bytes_max = settings.buffer_bytes_max / sources.len().max(1);
        for source in sources {
            let waiting = Arc::new(Waiting::new(bytes_max, feed.services.received.clone()));
            let reader = AnyReader::new(source)?;
            let inode = rustix::fs::fstat(reader.fd()).map_or(0, |stat| stat.st_ino);
            add(
                &feed.ingest.receive_buffer_bytes,
                receive_buffer_bytes(reader.fd()),
            );
            let receiver = Receiver {
                reader,
                inode,
                kernel_dropped: 0,
                asked_kernel: Instant::now(),
                waiting: waiting.clone(),
                ingest: feed.ingest.clone(),
                source: feed.source.clone(),
                stop: running.stop.clone(),
            };
            running.spawn("kymo-receive", move || receiver.run())?;
            let decoding = Decoding {
                own: match shared {
                    Some(shared) => shared.clone(),
                    None => Arc::new(std::sync::Mutex::new(feed.decoder().map_err(io::Error::other)?)),
                },
                outbox: Outbox::new(feed.clone(), running.stop.clone()),
                feed: feed.clone(),
                waiting,
            };
            running.spawn("kymo-datagrams", move || decoding.run())?;
        }
        Ok(running)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Takes what has arrived, commits it, and ends. Blocks.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread that takes datagrams panicked");
            }
        }
    }
}

enum AnyReader {
    Udp(Box<Reader>),
    Unix(UnixDatagram, Vec<u8>),
}

impl AnyReader {
    fn new(source: Source) -> io::Result<Self> {
        Ok(match source {
            Source::Udp(socket) => Self::Udp(Box::new(Reader::new(socket)?)),
            Source::Unix(socket) => {
                socket.set_nonblocking(true)?;
                // One byte more, so that a datagram that does not fit is seen to be cut off.
                Self::Unix(socket, vec![0; UNIX_DATAGRAM_BYTES_MAX + 1])
            }
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(reader) => reader.socket().as_fd(),
            Self::Unix(socket, _) => socket.as_fd(),
        }
    }

    /// Adds what has arrived; false when nothing has.
    fn read(&mut self, into: &mut Datagrams) -> io::Result<bool> {
        match self {
            Self::Udp(reader) => reader.read(into),
            Self::Unix(socket, buffer) => match socket.recv(buffer) {
                Ok(count) if count > UNIX_DATAGRAM_BYTES_MAX => Err(io::Error::other(format!(
                    "a datagram was too long (datagram_bytes_max {UNIX_DATAGRAM_BYTES_MAX})"
                ))),
                Ok(count) => {
                    into.push(&buffer[..count]);
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// Empties the kernel's buffer into ours.
struct Receiver {
    reader: AnyReader,
    inode: u64,
    kernel_dropped: u64,
    asked_kernel: Instant,
    waiting: Arc<Waiting>,
    ingest: Arc<Ingest>,
    source: String,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    fn run(mut self) {
        // It does little and must do it at once: the kernel's buffer is full after some tenths of a second. Only the privileged
        // may ask for that; others rely on the buffer.
        let own = rustix::thread::gettid();
        let _ = rustix::process::setpriority_process(Some(own), NICENESS);
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            if !stopping {
                let mut sockets = [PollFd::from_borrowed_fd(self.reader.fd(), PollFlags::IN)];
                // Interrupted is as good as ready: reading finds out.
                let _ = poll(&mut sockets, Some(&LOOK));
            }
            self.empty();
            if self.asked_kernel.elapsed() >= ASK_KERNEL || stopping {
                self.ask_kernel();
            }
            if stopping {
                return self.waiting.close();
            }
        }
    }

    /// Hands on all that has arrived.
    fn empty(&mut self) {
        let mut received = Datagrams::default();
        loop {
            let more = self.reader.read(&mut received).unwrap_or_else(|error| {
                add(&self.ingest.datagrams_dropped, 1);
                tracing::warn!(from = self.source, %error, "cannot read a datagram");
                false
            });
            if received.bytes() >= HAND_ON_BYTES || (!more && !received.is_empty()) {
                self.hand_on(std::mem::take(&mut received));
            }
            if !more {
                return;
            }
        }
    }

    fn hand_on(&self, received: Datagrams) {
        add(&self.ingest.requests, received.len() as u64);
        add(&self.ingest.bytes, received.bytes() as u64);
        let cost = received.cost() as u64;
        match self.waiting.push(received) {
            Ok(()) => add(&self.ingest.waiting_bytes, cost),
            Err(count) => add(&self.ingest.datagrams_dropped, count as u64),
        }
    }

    fn ask_kernel(&mut self) {
        self.asked_kernel = Instant::now();
        let Some(&dropped) = dropped_datagrams().get(&self.inode) else {
            return;
        };
        let more = dropped.saturating_sub(self.kernel_dropped);
        if more > 0 {
            self.kernel_dropped = dropped;
            add(&self.ingest.kernel_dropped, more);
            tracing::warn!(
                from = self.source,
                datagrams = more,
                "the kernel dropped datagrams; a larger net.core.rmem_max or more readers may help"
            );
        }
    }
}

/// Turns what waits into batches.
struct Decoding {
    own: Shared,
    outbox: Outbox,
    feed: Arc<Feed>,
    waiting: Arc<Waiting>,
}

impl Decoding {
    fn run(mut self) {
        while let Some(sets) = self.waiting.take(BATCH_BYTES, GATHER) {
            if sets.is_empty() {
                self.outbox.settle();
                continue;
            }
            self.renew();
            let cost: usize = sets.iter().map(Datagrams::cost).sum();
            let decoded = self.feed.decode(|sink, _| {
                let mut decoder = self.own.lock().unwrap_or_else(PoisonError::into_inner);
                for datagram in sets.iter().flat_map(Datagrams::iter) {
                    decoder.decode(datagram, sink);
                }
            });
            drop(sets);
            super::counters::take(&self.feed.ingest.waiting_bytes, cost as u64);
            match decoded {
                Some(ready) => self.outbox.submit(ready),
                None => self.outbox.settle(),
            }
        }
        self.outbox.settle();
    }

    /// Reads on by the saved mapping as it is now.
    fn renew(&mut self) {
        let Some(feed) = self.feed.renewed() else { return };
        match feed.decoder() {
            Ok(decoder) => {
                *self.own.lock().unwrap_or_else(PoisonError::into_inner) = decoder;
                self.feed = feed;
            }
            Err(error) => tracing::warn!(from = self.feed.source, error, "the mapping cannot be used"),
        }
    }
}
