//! Batches of senders that cannot be told anything (datagrams, flushes): handed in again for as long as there is hope.
//!
//! Blocking; each thread that decodes has one. While it waits here, its datagrams wait in their bounded buffer.

use super::counters::add;
use super::feed::{Feed, Ready, retry_after};
use crate::engine::WriteError;
use crate::shard::{Ack, CommitError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long it goes on trying once the server is to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
pub struct Outbox {
    feed: Arc<Feed>,
    stop: Arc<AtomicBool>,
    /// When it first saw that the server is to stop.
    stopping_since: Option<Instant>,
    /// Batches that were accepted and then found no room. They are at most what the journal's queue holds: nothing is handed in
    /// while one of them waits.
    returned: (Sender<Ready>, Receiver<Ready>),
}

impl Outbox {
    /// Of a feed; gives up some seconds after `stop` is set.
    pub fn new(feed: Arc<Feed>, stop: Arc<AtomicBool>) -> Self {
        Self {
            feed,
            stop,
            stopping_since: None,
            returned: channel(),
        }
    }

    /// Hands in a batch, after those that came back. Waits while the server cannot take it.
    pub fn submit(&mut self, ready: Ready) {
        self.settle();
        self.hand_in(ready);
    }

    /// Commits what came back.
    pub fn settle(&mut self) {
        while let Ok(ready) = self.returned.1.try_recv() {
            self.commit(ready);
        }
    }

    fn hand_in(&mut self, (batch, rows): Ready) {
        loop {
            let (feed, back) = (self.feed.clone(), self.returned.0.clone());
            let again = batch.clone();
            let ack: Ack = Box::new(move |result| match result {
                Ok(_) => feed.count(rows, true),
                // An error means that the outbox is gone: the server has stopped.
                Err(error) if error.passes() && back.send((again, rows)).is_ok() => {}
                Err(_) => feed.count(rows, false),
            });
            let Err(error) = self.feed.services.engine.submit(batch.clone(), ack) else {
                return;
            };
            match retry_after(&error.into()) {
                Some(wait) if self.may_wait() => self.wait(wait),
                _ => return self.feed.count(rows, false),
            }
        }
    }

    /// One at a time, waiting for each: something is wrong with the disk.
    fn commit(&mut self, (batch, rows): Ready) {
        loop {
            let (sender, receiver) = channel();
            let ack: Ack = Box::new(move |result| drop(sender.send(result)));
            let result = match self.feed.services.engine.submit(batch.clone(), ack) {
                Ok(()) => receiver
                    .recv()
                    .unwrap_or(Err(CommitError::Stopping))
                    .map_err(WriteError::from),
                Err(error) => Err(error.into()),
            };
            let wait = match &result {
                Ok(_) => return self.feed.count(rows, true),
                Err(error) => retry_after(error),
            };
            match wait {
                Some(wait) if self.may_wait() => self.wait(wait),
                _ => return self.feed.count(rows, false),
            }
        }
    }

    fn wait(&self, wait: Duration) {
        add(&self.feed.ingest.retries, 1);
        std::thread::sleep(wait);
    }

    fn may_wait(&mut self) -> bool {
        if !self.stop.load(Ordering::Acquire) {
            return true;
        }
        let since = *self.stopping_since.get_or_insert_with(Instant::now);
        since.elapsed() < STOP_PATIENCE
    }
}
