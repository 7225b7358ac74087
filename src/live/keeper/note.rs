//! What committed batches touch. A batch is only noted when it comes; what of it must be known is looked at when somebody's turn comes who
//! reads its measurement, of all batches since the last time at once.

use super::touched::Touched;
use super::worked::worked;
use super::{Entry, Keeper, Work};
use crate::engine::{Committed, Gap};
use crate::live::recent::{Keys, Place};
use crate::model::{MeasurementId, TimeRange};
use crate::query::scan::{Scan, ScanRequest, SeriesSet, Source};
use crate::query::snapshot::Snapshot;
use crate::query::windows::Windows as Borders;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Computations of a measurement from which on what came of it is put together for all of them.
const READERS_MIN: usize = 4;
/// As many rows of a measurement may wait for being looked at.
pub(super) const PENDING_ROWS_MAX: usize = 1 << 16;
/// Tables.
const PENDING_TABLES_MAX: usize = 4096;

/// Tables of a measurement that wait for something to be done with them.
#[derive(Default)]
pub(super) struct Pending {
    tables: Vec<Place>,
    rows: usize,
}

impl Pending {
    fn is_large(&self, rows_max: usize) -> bool {
        self.rows >= rows_max || self.tables.len() >= PENDING_TABLES_MAX
    }
}

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
        if let Some(due) = entry.work.pace().touch(Instant::now()) {
            self.queue.insert((due, key.clone()));
        }
    }

    /// A batch was committed: what it touches is looked at when somebody's turn comes who reads it.
    pub(super) fn note(&mut self, commit: Committed) {
        match commit {
            Committed::Batch(sequence, batch) => {
                if self.entries.is_empty() {
                    self.heard = self.heard.max(sequence);
                    return self.clear_recent(sequence);
                }
                self.look_at_what_goes(batch.bytes().len());
                self.heard = self.heard.max(sequence);
                if !batch.commands().is_empty() {
                    // A delete may change anything that was sent.
                    self.reset();
                }
                let number = self.recent.add(sequence, batch.clone());
                for table in batch.tables() {
                    let id = table.measurement();
                    let interested = self.interested(id);
                    if interested.is_empty() {
                        self.fresh.forget(id);
                        continue;
                    }
                    match number {
                        Some(number) => {
                            let pending = self.pending.entry(id).or_default();
                            pending.tables.push((number, table.at()));
                            pending.rows += table.len();
                            // Otherwise everybody knows already.
                            if pending.tables.len() == 1 {
                                interested.iter().for_each(|key| self.touched(key));
                            }
                        }
                        None => {
                            // A batch that is larger than what is kept of recent ones is looked at by its times.
                            self.fresh.forget(id);
                            let times = table.times();
                            self.tell_times(
                                &interested,
                                &times,
                                &Touched::of_times(&times),
                                table.time_range(),
                            );
                            interested.iter().for_each(|key| self.touched(key));
                        }
                    }
                }
                // A batch may have several tables of a measurement: they are looked at together.
                for table in batch.tables() {
                    let (id, rows_max) = (table.measurement(), self.pending_rows_max);
                    if self
                        .pending
                        .get(&id)
                        .is_some_and(|pending| pending.is_large(rows_max))
                    {
                        self.look_at(id);
                    }
                }
            }
            Committed::Gap(gap) => self.note_gap(gap),
        }
    }

    /// Looks at what was committed of everything that a computation reads.
    pub(super) fn look_at_what_is_read(&mut self, key: &Arc<str>) {
        if self.pending.is_empty() && self.apart.is_empty() {
            return;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let (watch, catalog) = (entry.work.watch(), self.engine.catalog());
        let mut of = |tables: &HashMap<MeasurementId, Pending>| -> Vec<MeasurementId> {
            let read = tables.keys().filter(|id| watch.watches(catalog, **id));
            read.copied().collect()
        };
        let (pending, apart) = (of(&self.pending), of(&self.apart));
        pending.into_iter().for_each(|id| self.look_at(id));
        for id in apart {
            let interested = self.interested(id);
            if self.many_have_turns(&interested) {
                self.put_together(id, &interested, Vec::new());
            }
        }
    }

    /// Are there many whose turn it is among those who read a measurement?
    fn many_have_turns(&self, interested: &[Arc<str>]) -> bool {
        let entries = interested.iter().filter_map(|key| self.entries.get(key));
        let folding = entries.filter(|entry| entry.in_turn && entry.folds());
        folding.take(READERS_MIN).count() == READERS_MIN
    }

    /// Puts together what was looked at of a measurement since this was done last, for many who read it. `keys` are those of the last
    /// tables.
    fn put_together(&mut self, id: MeasurementId, interested: &[Arc<str>], keys: Vec<Keys>) {
        let began = worked();
        if let Some(Pending { tables, .. }) = self.apart.remove(&id) {
            self.recent.put_together(self.engine.catalog(), id, &tables, keys);
        }
        self.charge(interested, began);
    }

    /// What was done since then was done for all of these.
    fn charge(&mut self, interested: &[Arc<str>], began: Duration) {
        let each =
            worked().saturating_sub(began) / u32::try_from(interested.len()).unwrap_or(u32::MAX).max(1);
        for key in interested {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.work.pace().charge(each);
            }
        }
    }

    /// Looks at what a batch of so many bytes drives out of memory.
    fn look_at_what_goes(&mut self, bytes: usize) {
        loop {
            // Looking takes room, too.
            let stays = self.recent.stays_from(bytes);
            let mut waiting = self.pending.iter();
            let goes =
                waiting.find(|(_, pending)| pending.tables.first().is_some_and(|first| first.0 < stays));
            let Some(id) = goes.map(|(id, _)| *id) else { return };
            self.look_at(id);
        }
    }

    /// Looks at what was committed of a measurement: which windows are touched, and which points may have been replaced. For all who
    /// read it, whoever's turn it is.
    fn look_at(&mut self, id: MeasurementId) {
        let began = worked();
        let Some(Pending { tables, rows }) = self.pending.remove(&id) else {
            return;
        };
        let interested = self.interested(id);
        let folding = |key: &&Arc<str>| self.entries.get(*key).is_some_and(Entry::folds);
        let folding = interested.iter().filter(folding).count();
        let keys = self.look_at_tables((id, folding), &tables, &interested);
        let mut together = false;
        if folding >= READERS_MIN {
            let many = self.many_have_turns(&interested);
            let apart = self.apart.entry(id).or_default();
            apart.tables.extend(&tables);
            apart.rows += rows;
            together = many || apart.is_large(self.pending_rows_max);
        }
        if folding > 0 && !together {
            // Whose turn it is must not pay for all who will read them.
            self.recent.unpack(self.engine.catalog(), id, &tables, keys);
            return self.charge(&interested, began);
        }
        self.charge(&interested, began);
        if together {
            self.put_together(id, &interested, keys);
        }
    }

    /// The series and times of the tables, if somebody folds their rows.
    fn look_at_tables(
        &mut self,
        (id, folding): (MeasurementId, usize),
        tables: &[Place],
        interested: &[Arc<str>],
    ) -> Vec<Keys> {
        if folding == 0 {
            self.fresh.forget(id);
        }
        let time = self.recent.time_range(tables);
        let apart = |entry: &Entry| match &entry.work {
            Work::Windows(c) => c.windows().start_of(time.min) != c.windows().start_of(time.max),
            Work::Tail(_) => false,
        };
        if folding == 0
            && !interested
                .iter()
                .any(|key| self.entries.get(key).is_some_and(apart))
        {
            // One window, or none.
            self.tell_times(interested, &[], &Touched::of_times(&[time.max]), time);
            return Vec::new();
        }
        let keys = self.recent.keys(tables);
        let mut stale = Vec::new();
        for (runs, times) in keys.iter().filter(|_| folding > 0) {
            let newest = || newest(&self.engine.snapshot(), id);
            self.fresh.note(id, runs, times, newest, &mut stale);
        }
        self.tell_times(interested, &stale, &Touched::of_keys(&keys), time);
        if folding > 0 {
            let read = interested
                .iter()
                .filter_map(|key| self.entries.get(key)?.has_read());
            if let Some(sequence) = read.min() {
                self.recent.spare(id, sequence);
            }
        }
        keys
    }

    /// Tells those who read rows where these lie, and the times of those among them that may have replaced others.
    fn tell_times(&mut self, interested: &[Arc<str>], stale: &[i64], touched: &Touched<'_>, time: TimeRange) {
        // Many have the same windows.
        let mut known: Vec<(Borders, Vec<i64>)> = Vec::new();
        for key in interested {
            match self.entries.get_mut(key).map(|entry| &mut entry.work) {
                Some(Work::Windows(computation)) => {
                    computation.replaced(stale);
                    let borders = computation.windows().borders();
                    let at = known.iter().position(|(one, _)| one == borders);
                    let at = at.unwrap_or_else(|| {
                        known.push((borders.clone(), touched.latest(borders)));
                        known.len() - 1
                    });
                    computation.touch(&known[at].1);
                }
                Some(Work::Tail(tail)) => tail.touch(time),
                None => {}
            }
        }
    }

    /// The newest time of all that a computation reads, as far as was looked at; `None` where it is not known.
    pub(super) fn newest(&mut self, key: &Arc<str>, snapshot: &Snapshot) -> Option<i64> {
        let watch = self.entries.get_mut(key)?.work.watch();
        let mut all = i64::MIN;
        for id in watch.all(self.engine.catalog())? {
            if self.fresh.newest(id).is_none() {
                self.fresh.begin(id, newest(snapshot, id)?);
            }
            all = all.max(self.fresh.newest(id)?);
        }
        Some(all)
    }

    /// Who reads a measurement.
    fn interested(&mut self, id: MeasurementId) -> Arc<[Arc<str>]> {
        let (entries, catalog) = (&mut self.entries, self.engine.catalog());
        let ask = || {
            let asked = entries
                .iter_mut()
                .filter_map(|(key, entry)| entry.work.watch().watches(catalog, id).then(|| key.clone()));
            asked.collect()
        };
        self.interest.of(id, ask)
    }

    /// Some commits were not told one by one.
    fn note_gap(&mut self, gap: Gap) {
        self.figures.gaps.fetch_add(1, Ordering::Relaxed);
        self.heard = self.heard.max(gap.through);
        self.clear_recent(gap.through);
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

/// No row of a measurement is later; `None` when that cannot be found out. Nothing is unpacked for it.
fn newest(scan: &Snapshot, id: MeasurementId) -> Option<i64> {
    let request = ScanRequest {
        measurement: id,
        series: SeriesSet::All,
        time: TimeRange::ALL,
        fields: Vec::new(),
    };
    let mut newest = i64::MIN;
    for source in scan.sources(&request).ok()? {
        let last = match source {
            Source::Part(part) => part.time_range().max,
            Source::Run(run) => (0..run.len())
                .map(|at| run.block(at).time.max)
                .max()
                .unwrap_or(i64::MIN),
        };
        newest = newest.max(last);
    }
    Some(newest)
}
