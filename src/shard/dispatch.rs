//! Hands committed groups, and freezes between them, to all shards in one order.

use super::publish::Head;
use super::writer::{self, Message};
use super::{Ack, Group};
use crate::lane::Sender;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The way into the shards. Dropping it lets them finish what is queued and end; see [`Dispatcher::stop`].
pub struct Dispatcher<R> {
    head: Arc<Head<R>>,
    shards: u16,
    // The lock makes the order of tickets the order in every shard's queue, and so the order of sequences.
    lanes: Mutex<Lanes>,
}

struct Lanes {
    senders: Vec<Sender<Message>>,
    /// In simulations: the shards themselves, without threads.
    #[cfg(test)]
    inline: Vec<super::head::ShardHead>,
    threads: Vec<JoinHandle<()>>,
    last: u64,
}

impl<R: Send + Sync + 'static> Dispatcher<R> {
    /// Starts one thread a shard.
    ///
    /// # Errors
    /// A thread could not be started.
    pub fn start(shards: u16, head: Arc<Head<R>>) -> io::Result<Self> {
        let last = head.sequence();
        let mut lanes = Lanes {
            senders: Vec::new(),
            #[cfg(test)]
            inline: Vec::new(),
            threads: Vec::new(),
            last,
        };
        for shard in 0..shards {
            let (sender, thread) = writer::spawn(shard, head.clone())?;
            lanes.senders.push(sender);
            lanes.threads.push(thread);
        }
        Ok(Self {
            head,
            shards,
            lanes: Mutex::new(lanes),
        })
    }

    /// Without threads: whoever dispatches does the shards' work at once.
    #[cfg(test)]
    pub fn inline(shards: u16, head: Arc<Head<R>>) -> Self {
        let lanes = Lanes {
            senders: Vec::new(),
            inline: (0..shards).map(super::head::ShardHead::new).collect(),
            threads: Vec::new(),
            last: head.sequence(),
        };
        Self {
            head,
            shards,
            lanes: Mutex::new(lanes),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Hands a group to every shard. Blocks while a shard's queue is full: that is how a slow head slows the journal.
    pub fn dispatch(&self, group: Group, acks: Vec<Ack>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // Not always the next: damage in the journal can leave a gap.
        assert!(group.first > lanes.last, "groups come in sequence order");
        lanes.last = group.last;
        let group = Arc::new(group);
        let ticket = self.head.expect_group(group.clone(), acks);
        lanes.send(|| Message::Apply {
            ticket,
            group: group.clone(),
        });
        #[cfg(test)]
        lanes.work(&self.head, || Message::Apply {
            ticket,
            group: group.clone(),
        });
    }

    /// Freezes the head after everything dispatched so far. The caller then waits with [`Head::wait_frozen`] and must
    /// [`Head::thaw`] before the next freeze.
    pub fn freeze(&self) {
        #[cfg_attr(not(test), allow(unused_mut, reason = "simulations work in the lanes"))]
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = self.head.expect_freeze(lanes.last);
        lanes.send(|| Message::Freeze { ticket });
        #[cfg(test)]
        lanes.work(&self.head, || Message::Freeze { ticket });
    }

    /// Lets the shards finish what is queued and waits for them.
    pub fn stop(&self) {
        let (senders, threads) = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            (
                std::mem::take(&mut lanes.senders),
                std::mem::take(&mut lanes.threads),
            )
        };
        drop(senders);
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a shard's thread panicked");
            }
        }
    }
}

impl Lanes {
    #[cfg(test)]
    fn work<R>(&mut self, head: &Head<R>, message: impl Fn() -> Message) {
        for (shard, core) in (0..).zip(&mut self.inline) {
            writer::handle(core, shard, head, message());
        }
    }

    fn send(&self, message: impl Fn() -> Message) {
        for sender in &self.senders {
            if sender.send(message()).is_err() {
                // Its panic was logged; the step stays unpublished and unacknowledged, the journal has it.
                tracing::error!("a shard's thread is gone");
            }
        }
    }
}
