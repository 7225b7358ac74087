//! The queue of messages for one client: bounded, never blocks whoever fills it.
//!
//! Rows wait by (subscription, window, group): a later value replaces an earlier one that was not sent yet, which is counted and
//! told as `lagged`. When even the distinct rows are too many, the oldest updates go, and the client is told the same way.

use super::message::{Kind, Reply, Series};
use super::windows::{Groups, Row};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows that may wait for one client.
pub const ROWS_WAITING_MAX: usize = 20_000;

/// Rows in one message.
const ROWS_PER_MESSAGE_MAX: usize = 5_000;

/// See the module. Shared by the hub, which fills it, and the connection, which empties it.
pub struct Outbox {
    state: Mutex<State>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    texts: VecDeque<String>,
    subscriptions: BTreeMap<String, Waiting>,
    closed: bool,
}

#[derive(Default)]
struct Waiting {
    groups: Arc<Mutex<Groups>>,
    columns: Vec<String>,
    rows: BTreeMap<(i64, u32), (Kind, Box<str>)>,
    sequence: u64,
    coalesced: u64,
    /// Sent although there are no rows: the answer to `subscribe`.
    empty_snapshot: bool,
}

impl Outbox {
    /// An empty queue; `wake` is called after something was put in, from the hub's thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// Puts in a whole message, such as an error.
    pub fn text(&self, text: String) {
        self.state().texts.push_back(text);
        (self.wake)();
    }

    /// Puts in rows of a subscription.
    pub fn rows(
        &self,
        id: &str,
        sequence: u64,
        columns: &[String],
        groups: &Arc<Mutex<Groups>>,
        rows: Vec<(Kind, Row)>,
        snapshot: bool,
    ) {
        let mut state = self.state();
        if !state.subscriptions.contains_key(id) {
            state.subscriptions.insert(id.to_string(), Waiting::default());
        }
        let waiting = state
            .subscriptions
            .get_mut(id)
            .expect("inserted above when missing");
        waiting.groups = groups.clone();
        waiting.columns = columns.to_vec();
        waiting.sequence = sequence;
        waiting.empty_snapshot |= snapshot && rows.is_empty();
        for (kind, row) in rows {
            match waiting.rows.get_mut(&(row.time, row.group)) {
                Some((old_kind, json)) => {
                    *json = row.json;
                    // A final of something unsent says all; a snapshot's row stays part of the snapshot.
                    *old_kind = if *old_kind == Kind::Snapshot {
                        Kind::Snapshot
                    } else {
                        kind
                    };
                    waiting.coalesced += 1;
                }
                None => {
                    waiting.rows.insert((row.time, row.group), (kind, row.json));
                }
            }
        }
        while waiting.rows.len() > ROWS_WAITING_MAX {
            waiting.rows.pop_first();
            waiting.coalesced += 1;
        }
        drop(state);
        (self.wake)();
    }

    /// Forgets what waits for a subscription that has ended.
    pub fn forget(&self, id: &str) {
        self.state().subscriptions.remove(id);
    }

    /// Takes the messages that wait, in order, at most about `ROWS_PER_MESSAGE_MAX` rows each.
    pub fn take(&self) -> Vec<String> {
        let mut state = self.state();
        let mut out: Vec<String> = Vec::new();
        for (id, waiting) in &mut state.subscriptions {
            waiting.take(id, &mut out);
        }
        out.extend(state.texts.drain(..));
        out
    }

    /// The client is gone; nothing more need be put in.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.subscriptions.clear();
        state.texts.clear();
    }

    /// The client is gone.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self, id: &str, out: &mut Vec<String>) {
        if std::mem::take(&mut self.empty_snapshot) && self.rows.is_empty() {
            let series = Vec::new();
            out.push(
                Reply::Rows {
                    kind: Kind::Snapshot,
                    id,
                    sequence: self.sequence,
                    series,
                }
                .text(),
            );
        }
        let coalesced = std::mem::take(&mut self.coalesced);
        if coalesced > 0 {
            // Told before the rows, so that a client knows why it sees jumps.
            out.push(
                Reply::Lagged {
                    kind: "lagged",
                    id,
                    sequence: self.sequence,
                    coalesced,
                }
                .text(),
            );
        }
        let rows = std::mem::take(&mut self.rows);
        let groups = self.groups.clone();
        let groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_kind: BTreeMap<Kind, Vec<(u32, &str)>> = BTreeMap::new();
        for ((_, group), (kind, json)) in &rows {
            by_kind.entry(*kind).or_default().push((*group, json));
        }
        for (kind, rows) in &mut by_kind {
            rows.sort_by_key(|(group, _)| *group);
            for rows in rows.chunks(ROWS_PER_MESSAGE_MAX) {
                let series = self.series(rows, &groups);
                out.push(
                    Reply::Rows {
                        kind: *kind,
                        id,
                        sequence: self.sequence,
                        series,
                    }
                    .text(),
                );
            }
        }
    }

    fn series<'a>(&'a self, rows: &[(u32, &'a str)], groups: &'a Groups) -> Vec<Series<'a>> {
        let raw = |text: &'a str| -> &'a RawValue {
            serde_json::from_str(text).expect("rows and tags are made by our own encoder")
        };
        rows.chunk_by(|a, b| a.0 == b.0)
            .map(|chunk| {
                let (name, tags) = groups.get(chunk[0].0);
                let values = chunk.iter().map(|(_, json)| raw(json)).collect();
                Series {
                    name,
                    tags: tags.map(raw),
                    columns: &self.columns,
                    values,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn put(outbox: &Outbox, sequence: u64, rows: Vec<(Kind, i64, &str)>, snapshot: bool) {
        let groups = Arc::new(Mutex::new(Groups::default()));
        groups
            .lock()
            .expect("unpoisoned")
            .number("m", Some("{\"host\":\"a\"}"));
        let rows = rows.into_iter().map(|(kind, time, json)| {
            (
                kind,
                Row {
                    group: 0,
                    time,
                    json: json.into(),
                },
            )
        });
        outbox.rows(
            "1",
            sequence,
            &["time".into(), "sum".into()],
            &groups,
            rows.collect(),
            snapshot,
        );
    }

    fn take(outbox: &Outbox) -> Vec<Value> {
        outbox
            .take()
            .iter()
            .map(|text| serde_json::from_str(text).expect("JSON"))
            .collect()
    }

    #[test]
    fn rows_become_messages_by_kind() {
        let outbox = Outbox::new(|| ());
        put(
            &outbox,
            7,
            vec![(Kind::Final, 0, "[0,1]"), (Kind::Update, 10, "[10,2.5]")],
            false,
        );
        let series = |row: Value| json!([{"name": "m", "tags": {"host": "a"}, "columns": ["time", "sum"], "values": [row]}]);
        assert_eq!(
            take(&outbox),
            [
                json!({"type": "update", "id": "1", "sequence": 7, "series": series(json!([10, 2.5]))}),
                json!({"type": "final", "id": "1", "sequence": 7, "series": series(json!([0, 1]))}),
            ]
        );
        assert!(take(&outbox).is_empty());
    }

    #[test]
    fn an_empty_snapshot_is_still_an_answer() {
        let outbox = Outbox::new(|| ());
        put(&outbox, 3, vec![], true);
        assert_eq!(
            take(&outbox),
            [json!({"type": "snapshot", "id": "1", "sequence": 3, "series": []})]
        );
    }

    #[test]
    fn a_slow_client_gets_the_newest_and_is_told() {
        let outbox = Outbox::new(|| ());
        put(&outbox, 1, vec![(Kind::Update, 0, "[0,1]")], false);
        put(&outbox, 2, vec![(Kind::Update, 0, "[0,2]")], false);
        let said = take(&outbox);
        assert_eq!(
            said[0],
            json!({"type": "lagged", "id": "1", "sequence": 2, "coalesced": 1})
        );
        assert_eq!(said[1]["series"][0]["values"], json!([[0, 2]]));
        let many = (0..ROWS_WAITING_MAX as i64 + 5)
            .map(|t| (Kind::Update, t, "[0]"))
            .collect();
        put(&outbox, 3, many, false);
        assert_eq!(take(&outbox)[0]["coalesced"], 5);
    }
}
