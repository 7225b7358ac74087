//! Datagrams of a format, over UDP and Unix sockets: one thread a socket empties the kernel's buffer, another decodes what waits and
//! commits it. Senders cannot be told anything, so what cannot be committed yet waits, bounded, and is tried again.

use super::counters::{Ingest, add};
use super::feed::Feed;
use super::kernel::dropped_datagrams;
use super::outbox::Outbox;
use super::stream::Shared;
use super::udp::{Reader, receive_buffer_bytes};
use super::waiting::{Datagrams, Waiting};
use crate::budget::niceness;
use crate::budget::turns::Turns;
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

/// Received datagrams are handed on at so many bytes, or so many of them, or when no more have arrived.
const HAND_ON_BYTES: usize = 256 << 10;
const HAND_ON: usize = 8192;
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
/// What finds no room is thrown away as it comes up to so much, and so much a second from there on: the kernel throws away the rest, which
/// costs us nothing.
const FUTILE_MAX: usize = 16 << 20;
/// The longest time without a look whether there is room again.
const FUTILE_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Beside its bytes a datagram that is read for nothing counts as so many.
const FUTILE_DATAGRAM: usize = 1 << 10;
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
                futile: Futile::default(),
                turns: feed.services.receiving.clone(),
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
    futile: Futile,
    turns: Arc<Turns>,
    ingest: Arc<Ingest>,
    source: String,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    fn run(mut self) {
        // It does little and must do it at once: the kernel's buffer is full after some tenths of a second. Only the privileged
        // may ask for that; others rely on the buffer.
        niceness::set(niceness::AT_ONCE);
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
        let turns = self.turns.clone();
        let mut received = Datagrams::default();
        loop {
            let (more, mut pause) = turns.spend(|| self.fill(&mut received));
            if !received.is_empty() {
                pause = pause.max(self.hand_on(std::mem::take(&mut received), Instant::now()));
            }
            // One that is to stop reads to the end.
            if !pause.is_zero() && !self.stop.load(Ordering::Acquire) {
                std::thread::sleep(pause);
            }
            if !more {
                return;
            }
        }
    }

    /// Reads until there is enough to hand on; false when no more has arrived.
    fn fill(&mut self, received: &mut Datagrams) -> bool {
        while received.bytes() < HAND_ON_BYTES && received.len() < HAND_ON {
            let more = self.reader.read(received).unwrap_or_else(|error| {
                add(&self.ingest.datagrams_dropped, 1);
                tracing::warn!(from = self.source, %error, "cannot read a datagram");
                false
            });
            if !more {
                return false;
            }
        }
        true
    }

    /// Returns how long to leave what comes to the kernel, for there is no room for it.
    fn hand_on(&mut self, received: Datagrams, now: Instant) -> Duration {
        add(&self.ingest.requests, received.len() as u64);
        add(&self.ingest.bytes, received.bytes() as u64);
        let cost = received.cost();
        match self.waiting.push(received) {
            Ok(()) => {
                add(&self.ingest.waiting_bytes, cost as u64);
                Duration::ZERO
            }
            Err(count) => {
                add(&self.ingest.datagrams_dropped, count as u64);
                self.futile.add(cost + count * FUTILE_DATAGRAM, now)
            }
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

/// What was read for nothing, less what time has made good.
#[derive(Default)]
struct Futile {
    bytes: usize,
    looked: Option<Instant>,
}

impl Futile {
    /// More of it; how long to read no more.
    fn add(&mut self, bytes: usize, now: Instant) -> Duration {
        let since = self.looked.map_or(Duration::ZERO, |looked| now - looked);
        let good = since.as_secs_f64() * FUTILE_MAX as f64;
        self.bytes = (self.bytes.saturating_sub(good as usize) + bytes).min(2 * FUTILE_MAX);
        self.looked = Some(now);
        let much = self.bytes.saturating_sub(FUTILE_MAX) as f64 / FUTILE_MAX as f64;
        Duration::from_secs_f64(much).min(FUTILE_PAUSE_MAX)
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
        niceness::set(niceness::LARGE);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::received::Received;

    #[test]
    fn what_finds_no_room_is_left_to_the_kernel() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let mut receiver = Receiver {
            reader: AnyReader::new(Source::Udp(socket)).expect("a reader"),
            inode: 0,
            kernel_dropped: 0,
            asked_kernel: Instant::now(),
            waiting: Arc::new(Waiting::new(4 << 20, Received::new(8 << 20, 0))),
            futile: Futile::default(),
            turns: Arc::new(Turns::new(4)),
            ingest: Arc::default(),
            source: "here".into(),
            stop: Arc::default(),
        };
        // Of a MiB each, and as much again for their number.
        let set = || {
            let mut set = Datagrams::default();
            (0..1024).for_each(|_| set.push(&[0; 1020]));
            set
        };
        let began = Instant::now();
        for _ in 0..4 {
            assert_eq!(receiver.hand_on(set(), began), Duration::ZERO, "there is room");
        }
        for _ in 0..8 {
            assert_eq!(
                receiver.hand_on(set(), began),
                Duration::ZERO,
                "16 MiB for nothing"
            );
        }
        assert_eq!(receiver.hand_on(set(), began), FUTILE_PAUSE_MAX);
        let later = began + Duration::from_secs(2);
        assert_eq!(receiver.hand_on(set(), later), Duration::ZERO, "it is made good");
        let counted = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!(counted(&receiver.ingest.requests), 14 * 1024);
        assert_eq!(counted(&receiver.ingest.datagrams_dropped), 10 * 1024);
    }
}
