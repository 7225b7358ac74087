//! Upkeep between seals and merges: facts for the policy, retention, deletes that are spent, and space that can be freed.

use super::Store;
use super::error::StoreError;
use super::keys::RunId;
use super::merge_policy::RunFacts;
use super::names::IndexWrite;
use super::pack::RunEntry;
use super::runs::RunSet;
use crate::model::MeasurementId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Since when runs are there, and which of them are damaged. Kept by whoever drives merges.
#[derive(Debug, Default)]
pub struct RunLog {
    since: BTreeMap<RunId, Duration>,
    damaged: BTreeSet<RunId>,
}

impl RunLog {
    /// Runs that cannot be read whole are left as they are from now on.
    pub fn damaged(&mut self, runs: &[RunId]) {
        self.damaged.extend(runs);
    }

    /// What the policy must know. `now` is the time since the start; `alive` says which measurements are not dropped.
    pub fn facts(
        &mut self,
        store: &Store,
        now: Duration,
        alive: &dyn Fn(MeasurementId) -> bool,
    ) -> Vec<RunFacts> {
        let set = store.runs();
        let state = store.state();
        let facts = set.runs().iter().map(|run| RunFacts {
            id: run.id,
            partition: run.entry.partition,
            sequence: run.entry.sequence,
            level: run.entry.level,
            time: run.entry.time,
            rows: run.entry.rows,
            bytes: run.entry.bytes,
            age: now.saturating_sub(*self.since.entry(run.id).or_insert(now)),
            gone: gone_share(&set, &run.entry, alive),
            stranded: state.stranded_bytes(&run.pack),
            damaged: self.damaged.contains(&run.id),
        });
        let facts: Vec<RunFacts> = facts.collect();
        if self.since.len() > facts.len() {
            let known: BTreeSet<RunId> = facts.iter().map(|run| run.id).collect();
            self.since.retain(|id, _| known.contains(id));
            self.damaged.retain(|id| known.contains(id));
        }
        facts
    }
}

/// Estimates which share of a run's rows is deleted, dropped or expired; 1 only when all of them are for certain.
fn gone_share(set: &RunSet, run: &RunEntry, alive: &dyn Fn(MeasurementId) -> bool) -> f64 {
    let mut gone = 0.0;
    let mut certain = true;
    for m in &run.measurements {
        let filter = set.deletes().filter(run, m.id, run.time);
        let share = if alive(m.id) {
            filter.share(u64::from(m.last_series) + 1, run.time)
        } else {
            1.0
        };
        certain &= share >= 1.0;
        gone += share * m.rows as f64;
    }
    if certain {
        1.0
    } else {
        (gone / run.rows.max(1) as f64).min(0.99)
    }
}

impl Store {
    /// Rows before these times are hidden from now on. Nothing changes when they are the ones that are known.
    pub fn set_expired(&self, before: BTreeMap<MeasurementId, i64>) -> bool {
        let mut state = self.state();
        if *state.deletes.expired_before == before {
            return false;
        }
        state.deletes.expired_before = Arc::new(before);
        self.publish(&state);
        true
    }

    /// Drops packs that nobody needs or reads any more.
    pub fn free_spent(&self) {
        let spent = self.state().take_spent_packs();
        for pack in spent {
            self.core.cache.forget_pack(pack.id);
            self.core.decoded.forget_pack(pack.id);
            match self.core.engine.drop_pack(pack.id) {
                Ok(()) => self.state().dropped(pack.id),
                Err(error) => {
                    tracing::warn!(pack = pack.id, %error, "cannot free a pack; trying again later");
                    self.state().not_dropped(pack);
                }
            }
        }
    }

    /// Forgets deletes that hide nothing any more.
    ///
    /// # Errors
    /// Input/output; they are kept then.
    pub fn forget_spent_deletes(&self) -> Result<(), StoreError> {
        let _commit = self.commit();
        let (spent, changes) = {
            let state = self.state();
            let runs = state.runs.iter().map(|run| &run.entry);
            // Newer ones are in the journal and would come back with it.
            let spent = state.deletes.spent(runs, state.watermark);
            if spent.is_empty() {
                return Ok(());
            }
            let mut write = IndexWrite::default();
            spent.iter().for_each(|delete| write.remove_delete(delete));
            (spent, write.changes)
        };
        self.core.engine.index_write(&changes)?;
        let mut state = self.state();
        state.deletes.forget(&spent);
        self.publish(&state);
        Ok(())
    }

    /// Removes what a write that failed left behind.
    pub(super) fn sweep(&self) {
        if let Err(error) = self.core.engine.sweep() {
            tracing::warn!(%error, "cannot remove what a failed write left; the next start does");
        }
    }
}
