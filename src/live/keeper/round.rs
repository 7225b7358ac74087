//! Brings computations up to date and tells their clients.

use super::worked::worked;
use super::{Client, Entry, Keeper, Key, Work};
use crate::live::computation::{Computation, News, Sight};
use crate::live::evaluate::Evaluator;
use crate::live::hub::Figures;
use crate::live::message::Kind;
use crate::live::outbox::{Outbox, Put, Rows, Shared};
use crate::live::pace::Update;
use crate::live::row::Row;
use crate::model::TimeRange;
use crate::query::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Who is told something is woken when all are told, but after so long at the latest.
const WAKE_AFTER: Duration = Duration::from_millis(10);
/// While many have their turn it is listened so often for whose turn comes meanwhile.
const LISTEN_AFTER: Duration = Duration::from_millis(2);

impl Keeper {
    /// Windows that begin by the clock are looked at, too.
    pub(super) fn open(&mut self, now: i64) {
        let entries = self.entries.iter_mut();
        let dirty = entries.filter_map(|(key, entry)| match &mut entry.work {
            Work::Windows(c) => {
                let waits = !entry.clients.is_empty() && !c.pace.is_waiting() && c.is_dirty(now);
                waits.then(|| key.clone())
            }
            Work::Tail(_) => None,
        });
        let dirty: Vec<Arc<str>> = dirty.collect();
        dirty.iter().for_each(|key| self.touched(key));
    }

    /// Takes those whose turn it is.
    fn take_turns(&mut self, turn: &mut BTreeSet<(usize, Arc<str>)>) {
        let now = Instant::now();
        while self.queue.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, key)) = self.queue.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.in_turn = true;
                turn.insert((entry.work.pace().rank(), key));
            }
        }
    }

    /// Brings those up to date whose turn it is: who costs least first, also when its turn comes while others have theirs.
    pub(super) fn round(&mut self, clock: &dyn Fn() -> i64) {
        let mut turn = BTreeSet::new();
        self.take_turns(&mut turn);
        if turn.is_empty() {
            return;
        }
        // What it shows is noted first, and is part of this round.
        let mut snapshot = self.snapshot();
        let (mut woken, mut listened) = (Instant::now(), Instant::now());
        while let Some((rank, key)) = turn.pop_first() {
            // IMPORTANT: what was noted meanwhile (a new snapshot for somebody) must be seen by who was touched by it.
            if self.heard != snapshot.sequence() {
                snapshot = self.snapshot();
            }
            self.look_at_what_is_read(&key);
            self.have_turn(&key, &snapshot, clock);
            let cheaper = turn.first().is_some_and(|(next, _)| *next > rank);
            if cheaper || woken.elapsed() >= WAKE_AFTER {
                self.wake();
                woken = Instant::now();
            }
            if listened.elapsed() >= LISTEN_AFTER {
                self.hear();
                self.take_turns(&mut turn);
                listened = Instant::now();
            }
        }
        self.wake();
        // The others need none of what came up to here.
        if self.heard != snapshot.sequence() {
            return;
        }
        for entry in self.entries.values_mut() {
            if let Work::Windows(computation) = &mut entry.work
                && !computation.pace.is_waiting()
            {
                computation.is_clean(snapshot.sequence());
            }
        }
    }

    /// It is its turn.
    fn have_turn(&mut self, key: &Arc<str>, snapshot: &Snapshot, clock: &dyn Fn() -> i64) {
        let (began, began_at) = (worked(), Instant::now());
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.in_turn = false;
        let touched = entry.work.pace().take_turn();
        if entry.clients.is_empty() {
            return;
        }
        match entry.work {
            // Its clients were told when it failed.
            Work::Windows(_) => drop(self.update(key, snapshot, clock)),
            Work::Tail(_) => self.follow(key, snapshot, clock),
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let update = Update {
            work: worked().saturating_sub(began),
            clients: entry.clients.len(),
            waited: touched.map_or(Duration::ZERO, |touched| began_at - touched),
        };
        let (company, at) = ((self.share, &mut self.company), (self.epoch, Instant::now()));
        entry.work.pace().done(company, at, update);
    }

    /// Brings a computation up to date and tells its clients.
    pub(super) fn update(
        &mut self,
        key: &Arc<str>,
        snapshot: &Snapshot,
        clock: &dyn Fn() -> i64,
    ) -> Result<(), String> {
        // IMPORTANT: read after the snapshot was taken, or a window that began meanwhile is passed over whose points are in it.
        let now = clock();
        let catalog = self.engine.catalog().clone();
        let newest = self.newest(key, snapshot);
        let Some(Entry {
            work: Work::Windows(computation),
            clients,
            ..
        }) = self.entries.get_mut(key)
        else {
            return Ok(());
        };
        self.figures.evaluations.fetch_add(1, Ordering::Relaxed);
        let updated = computation.update(&Sight {
            catalog: &catalog,
            snapshot,
            recent: &self.recent,
            newest,
            now,
        });
        let folds = std::mem::take(&mut computation.folds);
        self.figures.folds.fetch_add(folds, Ordering::Relaxed);
        match updated {
            Ok(News::Rows(rows)) => {
                // What is over is final in the same moment, and goes out with the rest.
                for rows in [rows, computation.close(now)] {
                    tell_windows((&self.figures, &mut self.told), clients, computation, rows);
                }
                self.count_remembered(key)
            }
            Ok(News::Everything) => {
                let keys: Vec<Key> = clients.keys().cloned().collect();
                self.count_remembered(key)?;
                keys.iter().for_each(|key| self.again(key, clock));
                Ok(())
            }
            Err(error) => {
                let error = error.to_string();
                self.fail(key, &error);
                Err(error)
            }
        }
    }

    /// Sends the clients of a tail what was committed since they were last told.
    pub(super) fn follow(&mut self, key: &Arc<str>, snapshot: &Snapshot, clock: &dyn Fn() -> i64) {
        let now = clock();
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Tail(tail),
            clients,
            ..
        }) = self.entries.get_mut(key)
        else {
            return;
        };
        let sequence = snapshot.sequence();
        let (untold, missed) = (tail.untold.take(), std::mem::take(&mut tail.missed));
        let told = std::mem::replace(&mut tail.told, sequence);
        let Some(untold) = untold else { return };
        let new = match missed {
            true => None,
            false => self.recent.since(told, snapshot, tail.watch(), &catalog),
        };
        let rows = match &new {
            Some(new) => tail.rows(&catalog, new, TimeRange::ALL, now),
            // Some again, so that none is missing.
            None => tail.rows(&catalog, snapshot, untold, now),
        };
        match rows {
            Ok(rows) if rows.is_empty() => {}
            Ok(rows) => {
                let rows: Vec<_> = rows.into_iter().map(|row| (Kind::Update, row)).collect();
                tell(
                    (&self.figures, &mut self.told),
                    clients,
                    Put::Points,
                    tail.evaluator(),
                    sequence,
                    rows,
                );
                // Its clients are told if it fails.
                let _ = self.count_remembered(key);
            }
            Err(error) => self.fail(key, &error.to_string()),
        }
    }

    /// Windows that have ended become final. Of who waits for its turn they do so then, together with what has changed since; of what
    /// nobody subscribes to when somebody comes back.
    pub(super) fn close(&mut self, now: i64) {
        let mut closing = Vec::new();
        for (key, entry) in &self.entries {
            if let Work::Windows(computation) = &entry.work
                && computation.is_closing(now)
                && !computation.pace.is_waiting()
                && !entry.clients.is_empty()
            {
                closing.push(key.clone());
            }
        }
        // What was committed may belong into them.
        closing.iter().for_each(|key| self.look_at_what_is_read(key));
        for key in &closing {
            let Some(Entry {
                work: Work::Windows(computation),
                clients,
                ..
            }) = self.entries.get_mut(key)
            else {
                continue;
            };
            let rows = computation.close(now);
            tell_windows((&self.figures, &mut self.told), clients, computation, rows);
        }
        self.wake();
    }
}

fn tell_windows(
    to: (&Figures, &mut Vec<Arc<Outbox>>),
    clients: &BTreeMap<Key, Client>,
    computation: &Computation,
    rows: Vec<(Kind, Row)>,
) {
    if !rows.is_empty() {
        let (from, sequence) = (computation.evaluator(), computation.sequence());
        tell(to, clients, Put::Windows, from, sequence, rows);
    }
}

fn tell(
    (figures, told): (&Figures, &mut Vec<Arc<Outbox>>),
    clients: &BTreeMap<Key, Client>,
    put: Put,
    from: &Evaluator,
    sequence: u64,
    rows: Vec<(Kind, Row)>,
) {
    let mut shared = Shared::new(put, sequence, from.columns(), from.groups(), rows);
    for ((_, id), client) in clients {
        if client.from <= shared.from() {
            figures.rows.fetch_add(shared.len() as u64, Ordering::Relaxed);
            client.outbox.put_shared(id, &mut shared);
            told.push(client.outbox.clone());
            continue;
        }
        let wanted = shared.since(client.from).rows;
        if !wanted.is_empty() {
            send(figures, client, id, put, from, sequence, wanted);
        }
    }
}

pub(super) fn send(
    figures: &Figures,
    client: &Client,
    id: &str,
    put: Put,
    from: &Evaluator,
    sequence: u64,
    rows: Vec<(Kind, Row)>,
) {
    figures.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
    let given = Rows {
        sequence,
        columns: from.columns(),
        groups: from.groups(),
        rows,
    };
    client.outbox.put(id, put, given);
}
