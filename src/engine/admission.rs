//! What the journal's thread asks and tells: whether there is room in memory for more, what is durable, what is refused.
//!
//! While seals are slow, writers wait; while seals fail, or are slow for too long, they are told so. Nobody waits without an answer.

use super::Pending;
use crate::budget::{Budget, Current};
use crate::catalog::Catalog;
use crate::journal::JournalError;
use crate::journal::thread::{Entry, Outcome};
use crate::shard::dispatch::Dispatcher;
use crate::shard::publish::{Head, Space};
use crate::shard::{CommitError, Group};
use crate::store::{RunSet, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For so long writers wait for a seal that is slow; from then on they are refused until it has made room.
const UNSEALED_PATIENCE: Duration = Duration::from_secs(20);
/// Meanwhile the log says so this often.
const UNSEALED_WARNS: Duration = Duration::from_secs(5);
/// Unsealed points may take so many times the head's budget.
const HEADS: usize = 2;
/// What may make room (`DROP`, `DELETE`) is taken beyond that, up to this part of it.
const COMMANDS_SHARE: usize = 16;

/// See the module.
pub(crate) struct FromJournal {
    catalog: Arc<Catalog>,
    head: Arc<Head<RunSet>>,
    store: Arc<Store>,
    dispatcher: Arc<Dispatcher<RunSet>>,
    budgets: Arc<Current>,
    /// For so long it waits for a seal that is slow; in simulations nobody makes room meanwhile.
    pub patience: Duration,
    /// Since when there has been no room.
    full_since: Option<Instant>,
    /// Bytes that were taken even so.
    taken_even_so: usize,
}

impl FromJournal {
    /// Of this core.
    pub fn new(core: &super::Core, budgets: Arc<Current>) -> Self {
        Self {
            catalog: core.catalog.clone(),
            head: core.head.clone(),
            store: core.store.clone(),
            dispatcher: core.dispatcher.clone(),
            budgets,
            patience: UNSEALED_PATIENCE,
            full_since: None,
            taken_even_so: 0,
        }
    }

    fn bytes_max(&self) -> usize {
        HEADS * self.budgets.get().size(Budget::Head)
    }
}

impl Outcome<Pending> for FromJournal {
    fn admit(&mut self) -> Result<(), JournalError> {
        loop {
            let most = self.bytes_max();
            // New series take room, too; but however many there are, some rows find a place beside them.
            let most = most.saturating_sub(self.catalog.delta_bytes()).max(most / 8);
            let waited = self.full_since.map_or(Duration::ZERO, |since| since.elapsed());
            let patience = self.patience.saturating_sub(waited).min(UNSEALED_WARNS);
            let began = Instant::now();
            match self.head.wait_for_space(most, patience) {
                Space::There => {
                    (self.full_since, self.taken_even_so) = (None, 0);
                    return Ok(());
                }
                Space::Stuck(why) => {
                    // Once seals work again they have all the time there is.
                    self.full_since = None;
                    return Err(no_room(&format!("cannot be sealed: {why}")));
                }
                Space::NotYet => {
                    let since = *self.full_since.get_or_insert(began);
                    tracing::warn!(
                        "writing waits: unsealed points fill their memory and the seal does not keep up"
                    );
                    if since.elapsed() >= self.patience {
                        return Err(no_room("are not sealed fast enough"));
                    }
                }
            }
        }
    }

    fn admits_even_so(&mut self, entry: &Pending) -> bool {
        let bytes = self.taken_even_so + entry.bytes().len();
        if entry.batch.tables().next().is_some() || bytes > self.bytes_max() / COMMANDS_SHARE {
            return false;
        }
        self.taken_even_so = bytes;
        true
    }

    fn committed(&mut self, first: u64, entries: Vec<Pending>) {
        let last = first + entries.len() as u64 - 1;
        for (sequence, entry) in (first..).zip(&entries) {
            if entry.batch.has_commands() {
                self.store.hear(sequence);
            }
        }
        let (batches, acks) = entries.into_iter().map(|e| (e.batch, e.ack)).unzip();
        self.dispatcher.dispatch(Group { first, last, batches }, acks);
    }

    fn refused(&mut self, entry: Pending, error: &JournalError) {
        (entry.ack)(Err(match error {
            JournalError::DiskFull => CommitError::DiskFull,
            JournalError::NoRoom(why) => CommitError::Unsealed(why.clone()),
            other => CommitError::Failed(other.to_string()),
        }));
    }
}

fn no_room(why: &str) -> JournalError {
    JournalError::NoRoom(format!(
        "unsealed points fill their memory (head_bytes) and {why}"
    ))
}
