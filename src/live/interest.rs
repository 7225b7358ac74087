//! Which subscriptions read a measurement: asked for every table of every commit, so remembered.

use crate::model::MeasurementId;
use std::collections::HashMap;
use std::sync::Arc;

/// Measurements that are remembered.
const MEASUREMENTS_MAX: usize = 100_000;

/// Keys of computations by measurement.
#[derive(Default)]
pub struct Interest {
    known: HashMap<MeasurementId, Arc<[Arc<str>]>>,
}

impl Interest {
    /// Something began, ended, or names changed.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Who reads a measurement; `ask` finds out the first time.
    pub fn of(&mut self, id: MeasurementId, ask: impl FnOnce() -> Vec<Arc<str>>) -> Arc<[Arc<str>]> {
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        if self.known.len() >= MEASUREMENTS_MAX {
            self.known.clear();
        }
        let found: Arc<[Arc<str>]> = ask().into();
        self.known.insert(id, found.clone());
        found
    }
}
