//! The budgets as they are now, where everyone looks, and what changed lately.

use super::governor::{Cause, Change};
use super::{Budget, Budgets, Meter};
use arc_swap::ArcSwap;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Changes that are remembered.
const CHANGES_MAX: usize = 32;

/// See the module. Shared.
pub struct Current {
    budgets: ArcSwap<Budgets>,
    meter: Arc<Meter>,
    changes: Mutex<VecDeque<(i64, Change)>>,
    changed: AtomicU64,
    counts: Mutex<BTreeMap<(&'static str, Cause), u64>>,
}

impl Current {
    /// Begins with these; memory is not measured.
    pub fn new(budgets: Budgets) -> Self {
        Self::measured(budgets, Meter::default())
    }

    /// Begins with these.
    pub fn measured(budgets: Budgets, meter: Meter) -> Self {
        Self {
            budgets: ArcSwap::from_pointee(budgets),
            meter: Arc::new(meter),
            changes: Mutex::default(),
            changed: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    /// The budgets now.
    pub fn get(&self) -> Arc<Budgets> {
        self.budgets.load_full()
    }

    /// What the process has in memory.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Should what can wait wait (on battery)?
    pub fn is_thrifty(&self) -> bool {
        self.budgets.load().get(Budget::MergeThreads) == 0
    }

    /// Takes new budgets over; `now` is kept beside each change.
    pub fn change(&self, budgets: Budgets, changes: Vec<Change>, now: i64) {
        self.budgets.store(Arc::new(budgets));
        self.changed.fetch_add(changes.len() as u64, Ordering::Relaxed);
        {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            for change in &changes {
                *counts.entry((change.budget.name(), change.cause)).or_default() += 1;
            }
        }
        let mut known = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(changes.into_iter().map(|change| (now, change)));
        let surplus = known.len().saturating_sub(CHANGES_MAX);
        known.drain(..surplus);
    }

    /// The last changes, oldest first, with their times.
    pub fn changes(&self) -> Vec<(i64, Change)> {
        let known = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().cloned().collect()
    }

    /// How many changes there were, by budget and cause.
    pub fn counts(&self) -> BTreeMap<(&'static str, Cause), u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many changes there were.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Machine, Overrides};

    #[test]
    fn remembers_the_last_changes() {
        let machine = Machine {
            cores: 1,
            memory: 1 << 30,
        };
        let budgets = Budgets::new(&machine, &Overrides::default());
        let current = Current::new(budgets.clone());
        for i in 0..CHANGES_MAX as u64 + 5 {
            let change = Change {
                budget: Budget::Head,
                from: i,
                to: i + 1,
                cause: Cause::MemoryShort,
                reason: "a test".into(),
            };
            current.change(budgets.clone(), vec![change], i as i64);
        }
        let changes = current.changes();
        assert_eq!((changes.len(), changes[0].0), (CHANGES_MAX, 5));
        assert_eq!(current.changed(), CHANGES_MAX as u64 + 5);
        let counts: Vec<_> = current.counts().into_iter().collect();
        assert_eq!(
            counts,
            [(("head_bytes", Cause::MemoryShort), CHANGES_MAX as u64 + 5)]
        );
    }
}
