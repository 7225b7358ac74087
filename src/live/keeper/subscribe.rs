//! Subscriptions begin, are told where they are, and begin again.

use super::round::send;
use super::{Client, Entry, Keeper, Key, SUBSCRIPTIONS_PER_CONNECTION_MAX, Work};
use crate::live::computation::Computation;
use crate::live::message::{Kind, Wanted};
use crate::live::outbox::{Outbox, Put};
use crate::live::plan::Plan;
use crate::live::tail::Tail;
use crate::model::TimeRange;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

impl Keeper {
    pub(super) fn subscribe(
        &mut self,
        key: &Key,
        wanted: &Wanted,
        outbox: &Arc<Outbox>,
        clock: &dyn Fn() -> i64,
    ) -> Result<(), String> {
        let (now, (connection, id)) = (clock(), key);
        if self.subscriptions.contains_key(key) {
            return Err(format!("there is a subscription {id} on this connection"));
        }
        let range = (*connection, String::new())..(connection + 1, String::new());
        if self.subscriptions.range(range).count() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            return Err(format!(
                "too many subscriptions on a connection (subscriptions_per_connection_max {SUBSCRIPTIONS_PER_CONNECTION_MAX})"
            ));
        }
        if self.subscriptions.len() >= self.subscriptions_max {
            let max = self.subscriptions_max;
            return Err(format!("too many subscriptions (live_subscriptions_max {max})"));
        }
        if self.engine.catalog().database(&wanted.db).is_none() {
            return Err(format!("database not found: {}", wanted.db));
        }
        let plan = Plan::new(wanted, now)?;
        let computation: Arc<str> = plan.key().into();
        self.begin(&computation, &plan, now)?;
        let client = Client {
            outbox: outbox.clone(),
            from: plan.from.unwrap_or(i64::MIN),
        };
        let told = match &plan.borders {
            Some(_) => self.tell_windows(&computation, id, &client, wanted.resume, clock),
            None => self.tell_tail(&computation, id, &client, wanted.resume, plan.from, clock),
        };
        let Some(entry) = self.entries.get_mut(&computation) else {
            // It failed and has told its other clients.
            return told.and(Err("the subscription has ended".into()));
        };
        if let Err(error) = told {
            if entry.clients.is_empty() {
                self.end(&computation);
            }
            return Err(error);
        }
        entry.clients.insert(key.clone(), client);
        entry.idle = None;
        self.subscriptions.insert(key.clone(), computation);
        Ok(())
    }

    /// Sees to it that there is such a computation.
    fn begin(&mut self, key: &Arc<str>, plan: &Plan, now: i64) -> Result<(), String> {
        if self.entries.contains_key(key) {
            return Ok(());
        }
        if self.entries.len() >= self.computations_max {
            let max = self.computations_max;
            return Err(format!(
                "too many different subscriptions (live_computations_max {max})"
            ));
        }
        let bytes_max = self.shares.evaluation;
        let mut work = match &plan.borders {
            Some(borders) => {
                let from = plan.from.unwrap_or(now);
                Work::Windows(Box::new(Computation::new(plan, borders, (from, now), bytes_max)?))
            }
            None => {
                self.listen();
                Work::Tail(Box::new(Tail::new(plan, self.heard, bytes_max)?))
            }
        };
        self.interest.forget();
        self.recent.want_also(work.watch().fields());
        self.entries.insert(
            key.clone(),
            Entry {
                work,
                clients: BTreeMap::new(),
                idle: Some(Instant::now()),
                remembered: 0,
                in_turn: false,
            },
        );
        Ok(())
    }

    /// The first answer of a windowed subscription: what changed since the client was there, or all there is.
    fn tell_windows(
        &mut self,
        key: &Arc<str>,
        id: &str,
        client: &Client,
        resume: Option<u64>,
        clock: &dyn Fn() -> i64,
    ) -> Result<(), String> {
        let snapshot = self.snapshot();
        self.look_at_what_is_read(key);
        self.update(key, &snapshot, clock)?;
        let now = clock();
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Windows(computation),
            ..
        }) = self.entries.get_mut(key)
        else {
            return Err("the subscription has ended".into());
        };
        let known = computation.windows();
        let sequence = computation.sequence();
        // A client from another server, or from before data was lost, may be ahead of us.
        let (put, rows) = match resume {
            Some(seen) if seen <= sequence && known.can_resume(seen) => {
                client.outbox.resume(id, seen);
                (Put::Windows, known.after(seen, client.from))
            }
            _ => {
                let since = known.since();
                let newer = known.all(client.from);
                let older = if client.from < since {
                    computation.history(&catalog, &snapshot, client.from, since, now)
                } else {
                    Ok(Vec::new())
                };
                let older = older.map_err(|e| e.to_string())?;
                let older = older.into_iter().map(|row| (Kind::Snapshot, row));
                (Put::Snapshot, older.chain(newer).collect())
            }
        };
        if put == Put::Snapshot || !rows.is_empty() {
            send(
                &self.figures,
                client,
                id,
                put,
                computation.evaluator(),
                sequence,
                rows,
            );
        }
        Ok(())
    }

    /// The first answer of a tail: the points the client missed, those it asks for, or only where it begins.
    fn tell_tail(
        &mut self,
        key: &Arc<str>,
        id: &str,
        client: &Client,
        resume: Option<u64>,
        from: Option<i64>,
        clock: &dyn Fn() -> i64,
    ) -> Result<(), String> {
        let snapshot = self.snapshot();
        let now = clock();
        self.look_at_what_is_read(key);
        // Those who are there already are told first: all are then at the same sequence.
        self.follow(key, &snapshot, clock);
        let sequence = snapshot.sequence();
        let catalog = self.engine.catalog().clone();
        let Some(Entry {
            work: Work::Tail(tail),
            ..
        }) = self.entries.get_mut(key)
        else {
            return Err("the subscription has ended".into());
        };
        let time = TimeRange {
            min: client.from,
            max: i64::MAX,
        };
        let seen = resume.filter(|seen| *seen <= sequence);
        let since = |seen| self.recent.since(seen, &snapshot, tail.watch(), &catalog);
        let (put, rows) = match (seen.and_then(since), from) {
            (Some(new), _) => {
                client.outbox.resume(id, seen.unwrap_or(0));
                (Put::Points, tail.rows(&catalog, &new, time, now))
            }
            (None, Some(_)) => (Put::PointsSnapshot, tail.rows(&catalog, &snapshot, time, now)),
            (None, None) if resume.is_some() && resume != Some(sequence) => {
                return Err(format!(
                    "cannot resume from {}: the points after it are not in memory any more; subscribe with \"from\" (a time) to get them again",
                    resume.unwrap_or(0)
                ));
            }
            (None, None) => (Put::PointsSnapshot, Ok(Vec::new())),
        };
        let rows = rows.map_err(|e| e.to_string())?;
        let (kind, first) = match put {
            Put::PointsSnapshot => (Kind::Snapshot, true),
            _ => (Kind::Update, false),
        };
        let rows: Vec<_> = rows.into_iter().map(|row| (kind, row)).collect();
        if first || !rows.is_empty() {
            send(&self.figures, client, id, put, tail.evaluator(), sequence, rows);
        }
        Ok(())
    }

    pub(super) fn again(&mut self, key: &Key, clock: &dyn Fn() -> i64) {
        let Some(computation) = self.subscriptions.get(key).cloned() else {
            return;
        };
        let Some(entry) = self.entries.get(&computation) else {
            return;
        };
        let Some(client) = entry.clients.get(key) else {
            return;
        };
        let client = Client {
            outbox: client.outbox.clone(),
            from: client.from,
        };
        let told = match entry.work {
            Work::Windows(_) => self.tell_windows(&computation, &key.1, &client, None, clock),
            Work::Tail(_) => {
                let from = (client.from > i64::MIN).then_some(client.from);
                self.tell_tail(&computation, &key.1, &client, None, from, clock)
            }
        };
        if let Err(error) = told
            && self.remove(key).is_some()
        {
            let text = format!("the subscription has ended: {error}");
            client.outbox.error(&key.1, &text);
        }
    }
}
