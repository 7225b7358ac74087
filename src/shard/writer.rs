//! One thread a shard: takes groups in sequence order, applies them to its head, and reports to [`super::publish`].

use super::Group;
use super::head::ShardHead;
use super::publish::Head;
use crate::lane::{Receiver, Sender, bounded};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Groups that may wait for one shard; the journal waits when it is full.
pub const QUEUE_GROUPS_MAX: usize = 8;

/// What a shard is told.
pub(super) enum Message {
    /// Apply the shard's rows of this group.
    Apply { ticket: u64, group: Arc<Group> },
    /// Everything so far belongs to the next seal.
    Freeze { ticket: u64 },
}

/// Starts the thread of one shard. It ends when its sender is dropped, after doing what is queued.
pub(super) fn spawn<R: Send + Sync + 'static>(
    shard: u16,
    head: Arc<Head<R>>,
) -> io::Result<(Sender<Message>, JoinHandle<()>)> {
    let (sender, receiver) = bounded(QUEUE_GROUPS_MAX);
    let thread = std::thread::Builder::new()
        .name(format!("kymo-shard-{shard}"))
        .spawn(move || run(shard, &head, &receiver))?;
    Ok((sender, thread))
}

fn run<R>(shard: u16, head: &Head<R>, messages: &Receiver<Message>) {
    let mut core = ShardHead::new(shard);
    while let Some(message) = messages.recv() {
        handle(&mut core, shard, head, message);
    }
}

/// Does what a shard is told.
pub(super) fn handle<R>(core: &mut ShardHead, shard: u16, head: &Head<R>, message: Message) {
    match message {
        Message::Apply { ticket, group } => {
            let update = core.apply(&group);
            head.done(ticket, shard, update);
        }
        Message::Freeze { ticket } => {
            let update = core.freeze();
            head.done(ticket, shard, update);
        }
    }
}
