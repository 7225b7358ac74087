//! The journal's thread: takes batches from a bounded queue, commits them in groups, hands each durable group on.
//!
//! While one group is being synced the next gathers, so the more is submitted, the larger the groups. Nothing here waits
//! for an acknowledgement, and an accepted batch does not depend on whoever submitted it still being there.

use super::JournalError;
use super::disk::Disk;
use super::writer::Writer;
use crate::lane::{Receiver, Sender, bounded};
use crossbeam_channel::TrySendError;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Batches that may wait.
pub const QUEUE_BATCHES_MAX: usize = 4096;
/// A group is closed at so many bytes, or at half of what may wait.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Or at so many batches.
const GROUP_BATCHES_MAX: usize = 1024;
/// How often a thread that waits for room looks whether the server is stopping.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// Something to commit.
pub trait Entry: Send + 'static {
    /// Its payload.
    fn bytes(&self) -> &[u8];
}

/// What happens to entries.
pub trait Outcome<E>: Send + 'static {
    /// Called before a group is written: waits, not for ever, while there is no room for what is durable already.
    ///
    /// # Errors
    /// There is still none. Entries that are not [taken even so](Self::admits_even_so) are refused with it, and never written.
    fn admit(&mut self) -> Result<(), JournalError>;

    /// Is this one taken although there is no room? What may make some has to be.
    fn admits_even_so(&mut self, entry: &E) -> bool;

    /// These are durable; the first has this sequence.
    fn committed(&mut self, first: u64, entries: Vec<E>);

    /// This one is not, and will not be.
    fn refused(&mut self, entry: E, error: &JournalError);
}

/// Why an entry was not accepted. Nothing of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue is full: try again in a moment.
    #[error("the journal's queue is full (queue_batches_max {QUEUE_BATCHES_MAX}, or waiting_bytes)")]
    Overloaded,
    /// The journal is stopping or has stopped.
    #[error("the server is shutting down")]
    Stopping,
}

enum Message<E> {
    Entry(E),
    Release(u64),
    Rest(u64),
    Stop,
}

/// The way in. Shared.
pub struct Journal<E> {
    sender: Sender<Message<E>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and those who hand in entries share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Bytes of batches that may be waiting or being written.
    bytes_max: usize,
    queued_bytes: AtomicUsize,
    stopping: AtomicBool,
    room: Condvar,
    room_lock: Mutex<()>,
    counters: Counters,
}

/// Figures for /metrics, all since the start but the last two.
#[derive(Debug, Default)]
pub struct Counters {
    /// Groups committed: syncs.
    pub commits: AtomicU64,
    /// Batches in them.
    pub batches: AtomicU64,
    /// Bytes in them.
    pub bytes: AtomicU64,
    /// Nanoseconds spent writing and syncing.
    pub sync_nanoseconds: AtomicU64,
    /// Batches refused after they were accepted: disk full, failure.
    pub refused: AtomicU64,
    /// Last durable sequence.
    pub sequence: AtomicU64,
    /// Bytes of segments in use.
    pub segment_bytes: AtomicU64,
}

impl<E: Entry> Journal<E> {
    /// Starts the thread; batches of so many bytes may wait or be written.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start<D: Disk + 'static>(
        writer: Writer<D>,
        outcome: impl Outcome<E>,
        bytes_max: usize,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(QUEUE_BATCHES_MAX);
        let shared = Arc::new(Shared {
            bytes_max,
            ..Shared::default()
        });
        shared
            .counters
            .sequence
            .store(writer.next_sequence() - 1, Ordering::Relaxed);
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("kymo-journal".into())
            .spawn(move || run(writer, outcome, &receiver, &of_thread))?;
        Ok(Self {
            sender,
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Accepts an entry unless there is no room. Never blocks.
    ///
    /// # Errors
    /// See [`Full`]; the entry comes back.
    pub fn submit(&self, entry: E) -> Result<(), (E, Full)> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err((entry, Full::Stopping));
        }
        let bytes = entry.bytes().len();
        // One entry always fits, however large.
        let before = self.shared.queued_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before > 0 && before + bytes > self.shared.bytes_max {
            self.shared.give_back(bytes);
            return Err((entry, Full::Overloaded));
        }
        self.sender.try_send(Message::Entry(entry)).map_err(|error| {
            self.shared.give_back(bytes);
            match error {
                TrySendError::Full(Message::Entry(entry)) => (entry, Full::Overloaded),
                TrySendError::Disconnected(Message::Entry(entry)) => (entry, Full::Stopping),
                _ => unreachable!("an entry was sent"),
            }
        })
    }

    /// Accepts an entry; waits while there is no room.
    ///
    /// # Errors
    /// [`Full::Stopping`]; the entry comes back.
    pub fn submit_waiting(&self, mut entry: E) -> Result<(), (E, Full)> {
        loop {
            match self.submit(entry) {
                Err((back, Full::Overloaded)) => entry = back,
                other => return other,
            }
            let guard = self
                .shared
                .room_lock
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            drop(self.shared.room.wait_timeout(guard, ROOM_PATIENCE));
        }
    }

    /// The store has everything up to this sequence.
    pub fn release(&self, sequence: u64) {
        // When the thread is gone the next start releases.
        let _ = self.sender.send(Message::Release(sequence));
    }

    /// As [`release`](Self::release), when nothing is coming: files that are not needed go.
    pub fn rest(&self, sequence: u64) {
        let _ = self.sender.send(Message::Rest(sequence));
    }

    /// Takes nothing more, commits what was accepted, and ends the thread.
    pub fn stop(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        let _ = self.sender.send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked");
        }
    }

    /// Figures.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Batches and bytes that wait or are being written.
    pub fn queued(&self) -> (usize, usize) {
        (
            self.sender.len(),
            self.shared.queued_bytes.load(Ordering::Relaxed),
        )
    }
}

impl Shared {
    fn give_back(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_all();
    }
}

fn run<E: Entry, D: Disk>(
    mut writer: Writer<D>,
    mut outcome: impl Outcome<E>,
    receiver: &Receiver<Message<E>>,
    shared: &Shared,
) {
    let mut stopping = false;
    while !stopping {
        let Some(message) = receiver.recv() else { break };
        let (mut group, mut bytes) = (Vec::new(), 0);
        let mut next = Some(message);
        while let Some(message) = next {
            match message {
                Message::Entry(entry) => {
                    bytes += entry.bytes().len();
                    group.push(entry);
                }
                Message::Release(sequence) => {
                    if let Err(error) = writer.release(sequence) {
                        tracing::warn!(%error, "cannot recycle journal segments");
                    }
                }
                Message::Rest(sequence) if group.is_empty() => {
                    if let Err(error) = writer.rest(sequence) {
                        tracing::warn!(%error, "cannot remove journal segments");
                    }
                }
                // Something came after all.
                Message::Rest(_) => {}
                Message::Stop => {
                    stopping = true;
                    break;
                }
            }
            let full = bytes >= GROUP_BYTES_MAX.min(shared.bytes_max / 2) || group.len() >= GROUP_BATCHES_MAX;
            next = if full { None } else { receiver.try_recv() };
        }
        if !group.is_empty() {
            commit(&mut writer, &mut outcome, group, shared);
        }
        shared
            .counters
            .segment_bytes
            .store(writer.bytes(), Ordering::Relaxed);
    }
    // Whoever slipped in behind the stop is told.
    let stopped = JournalError::Poisoned("the server is shutting down".into());
    while let Some(message) = receiver.try_recv() {
        if let Message::Entry(entry) = message {
            shared.give_back(entry.bytes().len());
            outcome.refused(entry, &stopped);
        }
    }
}

/// One group: written, synced, and only then handed on; what could not be is refused.
pub(crate) fn commit<E: Entry, D: Disk>(
    writer: &mut Writer<D>,
    outcome: &mut impl Outcome<E>,
    mut group: Vec<E>,
    shared: &Shared,
) {
    if let Err(error) = outcome.admit() {
        let (admitted, refused) = group.into_iter().partition(|e| outcome.admits_even_so(e));
        group = admitted;
        refuse(outcome, refused, &error, shared);
        if group.is_empty() {
            return;
        }
    }
    let began = Instant::now();
    let first = writer.next_sequence();
    let payloads: Vec<&[u8]> = group.iter().map(Entry::bytes).collect();
    let (done, error) = writer.commit(&payloads);
    let counters = &shared.counters;
    let bytes: usize = payloads[..done].iter().map(|p| p.len()).sum();
    counters
        .sync_nanoseconds
        .fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
    counters.commits.fetch_add(1, Ordering::Relaxed);
    counters.batches.fetch_add(done as u64, Ordering::Relaxed);
    counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    counters
        .sequence
        .store(writer.next_sequence() - 1, Ordering::Relaxed);
    let refused = group.split_off(done);
    if let Some(error) = error {
        tracing::error!(%error, batches = refused.len(), "the journal refused batches");
        refuse(outcome, refused, &error, shared);
    }
    if !group.is_empty() {
        outcome.committed(first, group);
    }
    shared.give_back(bytes);
}

fn refuse<E: Entry>(outcome: &mut impl Outcome<E>, refused: Vec<E>, error: &JournalError, shared: &Shared) {
    for entry in refused {
        shared.counters.refused.fetch_add(1, Ordering::Relaxed);
        shared.give_back(entry.bytes().len());
        outcome.refused(entry, error);
    }
}
