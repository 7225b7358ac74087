//! The ledger of what was not stored: lines that could not be read and points that clash, with why, from where and when, kept on disk
//! so that a typo loses nothing silently, even over UDP, and so that it can be tried again after a fix.
//!
//! Capped: the oldest go first. A thread of its own writes and syncs, many at a time; whoever hands in entries never waits for room,
//! and what finds none is counted. [`entry`] is what is kept and its bytes (docs/formats/rejected.md), `segments` are the files.

pub mod entry;
mod segments;

pub use entry::{Entry, Provenance};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use segments::Segments;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Bytes of all files.
pub const LEDGER_BYTES_MAX: u64 = 64 << 20;
/// Sets of entries that may wait to be written.
const QUEUE_MAX: usize = 1024;
/// Bytes of entries that may wait to be written.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Figures for /metrics, since the start.
#[derive(Debug, Default)]
pub struct LedgerCounters {
    /// Entries written.
    pub recorded: AtomicU64,
    /// Entries that found no room in the queue, or whose writing failed.
    pub unrecorded: AtomicU64,
    /// Entries that were taken out: tried again with success, or discarded.
    pub removed: AtomicU64,
}

/// Which entries are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this database.
    pub database: Option<String>,
    /// With these ids; all when empty.
    pub ids: Vec<u64>,
    /// Whose reason has this text in it.
    pub reason: Option<String>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        self.database
            .as_ref()
            .is_none_or(|name| *name == entry.provenance.database)
            && (self.ids.is_empty() || self.ids.contains(&entry.id))
            && self
                .reason
                .as_ref()
                .is_none_or(|text| entry.reason.contains(text.as_str()))
    }
}

enum Message {
    Entries(Vec<Entry>, usize),
    Remove(Vec<u64>),
    /// Answered when everything before it is durable.
    Sync(Sender<()>),
    Stop,
}

/// See the module. Shared.
pub struct Ledger {
    sender: Sender<Message>,
    queued_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
    segments: Arc<Mutex<Segments>>,
    counters: Arc<LedgerCounters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Opens the ledger in a folder, made when it is not there, for at most `bytes_max`.
    ///
    /// # Errors
    /// Input/output.
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let segments = Arc::new(Mutex::new(Segments::open(folder, bytes_max)?));
        let (sender, receiver) = bounded(QUEUE_MAX);
        let counters = Arc::new(LedgerCounters::default());
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let thread = {
            let (segments, counters, queued) = (segments.clone(), counters.clone(), queued_bytes.clone());
            std::thread::Builder::new()
                .name("kymo-rejected".into())
                .spawn(move || run(&receiver, &segments, &counters, &queued))?
        };
        Ok(Self {
            sender,
            queued_bytes,
            queue_bytes_max: QUEUE_BYTES_MAX,
            segments,
            counters,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The same; entries that wait to be written may hold so many bytes, if that is less than they may in any case.
    #[must_use]
    pub fn with_queue(self, bytes_max: usize) -> Self {
        Self {
            queue_bytes_max: bytes_max.min(QUEUE_BYTES_MAX),
            ..self
        }
    }

    /// Hands in entries; never waits. Their ids are given out here.
    pub fn record(&self, entries: Vec<Entry>) {
        let count = entries.len() as u64;
        if count == 0 {
            return;
        }
        let bytes = entries.iter().map(Entry::cost).sum();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = queued == 0 || queued + bytes <= self.queue_bytes_max;
        if fits && self.sender.try_send(Message::Entries(entries, bytes)).is_ok() {
            return;
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.counters.unrecorded.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes entries out: they were stored after all, or nobody wants them.
    pub fn remove(&self, ids: Vec<u64>) {
        if !ids.is_empty() {
            // Only ends when the ledger has stopped.
            let _ = self.sender.send(Message::Remove(ids));
        }
    }

    /// Something that hears when everything handed in so far is durable; `None` when the queue is full.
    pub fn synced(&self) -> Option<Receiver<()>> {
        let (sender, receiver) = bounded(1);
        match self.sender.try_send(Message::Sync(sender)) {
            Ok(()) => Some(receiver),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => None,
        }
    }

    /// The entries that are wanted, oldest first. Reads the files.
    ///
    /// # Errors
    /// Input/output.
    pub fn list(&self, filter: &Filter) -> io::Result<Vec<Entry>> {
        if let Some(synced) = self.synced() {
            // An error: the thread has ended, and everything is on disk.
            let _ = synced.recv();
        }
        let files = self.lock().files();
        let entries = segments::read(&files)?;
        Ok(entries.into_iter().filter(|entry| filter.takes(entry)).collect())
    }

    /// Figures.
    pub fn counters(&self) -> &LedgerCounters {
        &self.counters
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes()
    }

    /// Writes what was handed in, and ends the thread. Blocks.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = self.sender.send(Message::Stop);
            if thread.join().is_err() {
                tracing::error!("the thread of rejected lines panicked");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes whatever waits, syncs once, tells those who asked.
fn run(
    receiver: &Receiver<Message>,
    segments: &Mutex<Segments>,
    counters: &LedgerCounters,
    queued_bytes: &AtomicUsize,
) {
    let mut stopping = false;
    while !stopping && let Ok(first) = receiver.recv() {
        let mut waiting = Vec::new();
        let (mut recorded, mut removed) = (0, 0);
        let mut segments = segments.lock().unwrap_or_else(PoisonError::into_inner);
        for message in std::iter::once(first).chain(receiver.try_iter()) {
            match message {
                Message::Entries(entries, bytes) => {
                    recorded += entries.len() as u64;
                    segments.add(entries);
                    queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                }
                Message::Remove(ids) => {
                    removed += ids.len() as u64;
                    segments.add_removed(&ids);
                }
                Message::Sync(sender) => waiting.push(sender),
                Message::Stop => stopping = true,
            }
        }
        match segments.sync() {
            Ok(()) => {
                counters.recorded.fetch_add(recorded, Ordering::Relaxed);
                counters.removed.fetch_add(removed, Ordering::Relaxed);
            }
            Err(error) => {
                counters.unrecorded.fetch_add(recorded, Ordering::Relaxed);
                tracing::error!(%error, "rejected lines could not be kept");
            }
        }
        drop(segments);
        for sender in waiting {
            // Who asked may be gone.
            let _ = sender.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::RejectKind;

    fn entry(text: &str) -> Entry {
        Entry {
            id: 0,
            time: 7,
            provenance: Provenance {
                source: "test".into(),
                database: "d".into(),
                policy: String::new(),
                format: "json".into(),
                options: vec![("shape".into(), "flat".into())],
            },
            kind: RejectKind::Unparsed,
            line: 2,
            column: 3,
            reason: format!("bad {text}"),
            text: text.into(),
            context: b"head\n".to_vec(),
            is_cut: false,
        }
    }

    fn texts(ledger: &Ledger, filter: &Filter) -> Vec<String> {
        let found = ledger.list(filter).expect("readable");
        found
            .iter()
            .map(|e| String::from_utf8_lossy(&e.text).into_owned())
            .collect()
    }

    #[test]
    fn entries_survive_and_can_be_taken_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        ledger.record(vec![entry("a"), entry("b")]);
        let mut other = entry("c");
        other.provenance.database = "e".into();
        ledger.record(vec![other]);
        let all = ledger.list(&Filter::default()).expect("readable");
        assert_eq!(
            all[0],
            Entry {
                id: all[0].id,
                ..entry("a")
            }
        );
        ledger.stop();

        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        ledger.record(vec![entry("d")]);
        assert_eq!(texts(&ledger, &Filter::default()), ["a", "b", "c", "d"]);
        let of_d = Filter {
            database: Some("d".into()),
            ..Filter::default()
        };
        assert_eq!(texts(&ledger, &of_d), ["a", "b", "d"]);
        ledger.remove(vec![all[0].id, all[2].id]);
        assert_eq!(texts(&ledger, &Filter::default()), ["b", "d"]);
        let reason = Filter {
            reason: Some("bad d".into()),
            ..Filter::default()
        };
        assert_eq!(texts(&ledger, &reason), ["d"]);
        let by_id = Filter {
            ids: vec![all[1].id],
            ..Filter::default()
        };
        assert_eq!(texts(&ledger, &by_id), ["b"]);
        assert_eq!(ledger.counters().recorded.load(Ordering::Relaxed), 1);
        ledger.stop();
        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        assert_eq!(
            texts(&ledger, &Filter::default()),
            ["b", "d"],
            "taken out for good"
        );
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes_max = 1 << 20;
        let ledger = Ledger::open(folder.path(), bytes_max).expect("opens");
        for i in 0..300 {
            ledger.record(vec![entry(&format!("{i}-{}", "x".repeat(10_000)))]);
            // So that none finds the queue full.
            ledger.synced().expect("room").recv().expect("synced");
        }
        assert!(ledger.bytes() <= bytes_max, "{}", ledger.bytes());
        let kept = texts(&ledger, &Filter::default());
        // Each takes some 20 KB, with its reason.
        assert!((44..=52).contains(&kept.len()), "{}", kept.len());
        assert!(kept.last().is_some_and(|text| text.starts_with("299-")));
        assert_eq!(ledger.counters().unrecorded.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_finds_no_room_in_the_queue_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        let ledger = ledger.with_queue(1000);
        // Nothing is written meanwhile.
        let held = ledger.lock();
        ledger.record(vec![entry(&"a".repeat(2000))]);
        ledger.record(vec![entry("b")]);
        drop(held);
        assert_eq!(texts(&ledger, &Filter::default()), ["a".repeat(2000)]);
        assert_eq!(ledger.counters().unrecorded.load(Ordering::Relaxed), 1);
        ledger.record(vec![entry("c")]);
        assert_eq!(texts(&ledger, &Filter::default()).len(), 2);
    }

    #[test]
    fn a_torn_end_costs_what_was_torn_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        ledger.record(vec![entry("a")]);
        ledger.record(vec![entry("b")]);
        ledger.stop();
        let file = std::fs::read_dir(folder.path())
            .expect("a folder")
            .next()
            .expect("a file")
            .expect("an entry")
            .path();
        let bytes = std::fs::read(&file).expect("readable");
        for cut in 0..bytes.len() {
            std::fs::write(&file, &bytes[..cut]).expect("written");
            let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
            let found = texts(&ledger, &Filter::default());
            assert!(["a", "b"].starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>()));
            ledger.record(vec![entry("c")]);
            assert_eq!(
                texts(&ledger, &Filter::default()).last().map(String::as_str),
                Some("c")
            );
            ledger.stop();
            for entry in std::fs::read_dir(folder.path()).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path != file {
                    std::fs::remove_file(path).expect("ours");
                }
            }
        }
    }

    #[test]
    fn a_flood_is_counted_and_does_not_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(folder.path(), LEDGER_BYTES_MAX).expect("opens");
        let large = "x".repeat(60_000);
        for _ in 0..2000 {
            ledger.record(vec![entry(&large)]);
        }
        let counters = ledger.counters();
        ledger.list(&Filter::default()).expect("readable");
        let (kept, lost) = (&counters.recorded, &counters.unrecorded);
        assert_eq!(kept.load(Ordering::Relaxed) + lost.load(Ordering::Relaxed), 2000);
    }
}
