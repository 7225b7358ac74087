//! What committed batches touch.

use super::{Entry, Keeper, Work};
use crate::engine::{Committed, Gap};
use crate::query::scan::Scan;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Keeper {
    /// Every computation begins anew.
    pub(super) fn reset(&mut self) {
        self.interest.forget();
        let keys: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for entry in self.entries.values_mut() {
            match &mut entry.work {
                Work::Windows(computation) => computation.reset(),
                Work::Tail(tail) => tail.watch().forget(),
            }
        }
        keys.iter().for_each(|key| self.touched(key));
    }

    /// A computation has something to look at: it takes its turn.
    pub(super) fn touched(&mut self, key: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let pace = entry.work.pace();
        if !pace.queued {
            pace.queued = true;
            self.queue.insert((pace.due(Instant::now()), key.clone()));
        }
    }

    pub(super) fn note(&mut self, commit: Committed) {
        match commit {
            Committed::Batch(sequence, batch) => {
                self.heard = self.heard.max(sequence);
                if self.entries.is_empty() {
                    return self.recent.clear(sequence);
                }
                if !batch.commands().is_empty() {
                    // A delete may change anything that was sent.
                    self.reset();
                }
                self.recent.add(sequence, batch.clone());
                if self.recent.is_group_whole() {
                    // Their turn was before.
                    let now = Instant::now();
                    let held = std::mem::take(&mut self.held);
                    self.queue.extend(held.into_iter().map(|(_, key)| (now, key)));
                }
                for (at, table) in batch.tables().enumerate() {
                    let id = table.measurement();
                    let interested = self.interested(id);
                    if interested.is_empty() {
                        self.fresh.forget(id);
                        continue;
                    }
                    let time = table.time_range();
                    // A batch that is larger than what is kept of recent ones is looked at by its times.
                    let part = self.recent.newest(at);
                    let mut times = None;
                    let mut stale = Vec::new();
                    if interested.iter().any(|key| self.folds(key)) {
                        let newest = || newest(&self.engine.snapshot(), id);
                        match &part {
                            Some(part) => self.fresh.note(part, newest, &mut stale),
                            None => {
                                self.fresh.forget(id);
                                stale = table.times();
                            }
                        }
                    } else {
                        self.fresh.forget(id);
                    }
                    for key in interested.iter() {
                        match self.entries.get_mut(key).map(|entry| &mut entry.work) {
                            Some(Work::Windows(computation)) => {
                                computation.replaced(&stale);
                                let start = |time| computation.windows().start_of(time);
                                if start(time.min) == start(time.max) {
                                    computation.touch([time.min].into_iter());
                                } else if let Some(part) = &part {
                                    computation.touch(part.times.iter().copied());
                                } else {
                                    let times: &Vec<i64> = times.get_or_insert_with(|| table.times());
                                    computation.touch(times.iter().copied());
                                }
                            }
                            Some(Work::Tail(tail)) => tail.touch(time),
                            None => continue,
                        }
                        self.touched(key);
                    }
                }
            }
            Committed::Gap(gap) => self.note_gap(gap),
        }
    }

    /// Who reads a measurement.
    fn interested(&mut self, id: crate::model::MeasurementId) -> Arc<[Arc<str>]> {
        let (entries, catalog) = (&mut self.entries, self.engine.catalog());
        let ask = || {
            let asked = entries
                .iter_mut()
                .filter_map(|(key, entry)| entry.work.watch().watches(catalog, id).then(|| key.clone()));
            asked.collect()
        };
        self.interest.of(id, ask)
    }

    /// Has it clients and windows that may be folded?
    fn folds(&mut self, key: &Arc<str>) -> bool {
        match self.entries.get_mut(key) {
            Some(Entry {
                work: Work::Windows(computation),
                clients,
                ..
            }) => !clients.is_empty() && computation.folded().is_possible(),
            _ => false,
        }
    }

    /// Some commits were not told one by one.
    fn note_gap(&mut self, gap: Gap) {
        self.figures.gaps.fetch_add(1, Ordering::Relaxed);
        self.heard = self.heard.max(gap.through);
        self.recent.clear(gap.through);
        // Rows went by that were not looked at.
        self.fresh.clear();
        if gap.commands {
            self.reset();
        }
        let Some(time) = gap.time else { return };
        for entry in self.entries.values_mut() {
            match &mut entry.work {
                Work::Windows(computation) => computation.touch_range(time.min, time.max),
                Work::Tail(tail) => {
                    tail.touch(time);
                    tail.missed = true;
                }
            }
        }
        let keys: BTreeSet<Arc<str>> = self.entries.keys().cloned().collect();
        keys.iter().for_each(|key| self.touched(key));
    }
}

/// No row of a measurement is later; `None` when that cannot be found out.
fn newest(scan: &dyn Scan, id: crate::model::MeasurementId) -> Option<i64> {
    let mut newest = i64::MIN;
    let found = scan.times(id, &mut |time| newest = newest.max(time));
    found.is_ok().then_some(newest)
}
