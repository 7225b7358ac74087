//! The queue of messages for one client: bounded, never blocks whoever fills it.
//!
//! Rows of windows wait by (window, group): a later value replaces an earlier one that was not sent yet, which is counted and
//! told as `lagged`. When even the distinct rows are too many they all go, and the client is sent a new snapshot once it
//! reads again. Points of a tail wait in order; of too many the oldest go, which `lagged` says too.

use super::message::{self, Kind, Message};
use super::windows::{Groups, Row};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows that may wait for one client.
pub const ROWS_WAITING_MAX: usize = 150_000;
/// Bytes of rows that may wait for one client.
pub const BYTES_WAITING_MAX: usize = 32 << 20;
/// Rows that may wait for all clients together.
pub const ROWS_WAITING_ALL_MAX: usize = 4_000_000;
/// Messages other than rows that may wait for one client.
const TEXTS_WAITING_MAX: usize = 1_000;
/// Bytes of rows in one message: Python's `websockets`, for one, takes messages of 1 MiB by default.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Rows that wait for all clients together. Shared.
pub type Waiting = Arc<AtomicUsize>;

/// See the module. Shared by the hub, which fills it, and the connection, which empties it.
pub struct Outbox {
    state: Mutex<State>,
    wake: Box<dyn Fn() + Send + Sync>,
    all: Waiting,
}

#[derive(Default)]
struct State {
    texts: VecDeque<Message>,
    subscriptions: BTreeMap<String, Queue>,
    rows: usize,
    closed: bool,
}

/// What rows are put in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// Everything there is: what was sent before is void.
    Snapshot,
    /// Rows of windows, each replacing the one before.
    Windows,
    /// Points, each of which counts.
    Points,
    /// All points there are: what was sent before is void.
    PointsSnapshot,
}

/// The rows of a subscription and what they mean.
pub struct Rows<'a> {
    /// Everything up to here is reflected once they are read.
    pub sequence: u64,
    /// Columns of each.
    pub columns: &'a Arc<[String]>,
    /// Their groups.
    pub groups: &'a Arc<Mutex<Groups>>,
    /// Why, and which.
    pub rows: Vec<(Kind, Row)>,
}

#[derive(Default)]
struct Queue {
    groups: Arc<Mutex<Groups>>,
    columns: Arc<[String]>,
    windows: BTreeMap<(i64, u32), (Kind, Arc<str>)>,
    points: VecDeque<(Arc<[String]>, Kind, Row)>,
    /// Bytes of the rows of both.
    bytes: usize,
    sequence: u64,
    /// What the client has been told of whole.
    told: u64,
    coalesced: u64,
    /// The windows that wait begin with a whole snapshot, which may have no rows.
    snapshot: bool,
    /// Too many rows waited: nothing is sent until a new snapshot.
    void: bool,
}

/// What a connection is to send.
#[derive(Debug, Default)]
pub struct Taken {
    /// Messages in order.
    pub messages: Vec<Message>,
    /// Subscriptions that need a new snapshot.
    pub void: Vec<String>,
}

impl Outbox {
    /// An empty queue; `wake` is called after something was put in, from the hub's thread.
    pub fn new(all: Waiting, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            wake: Box::new(wake),
            all,
        }
    }

    /// Puts in a whole message, such as an error.
    pub fn message(&self, message: Message) {
        let mut state = self.state();
        if state.texts.len() < TEXTS_WAITING_MAX {
            state.texts.push_back(message);
        }
        drop(state);
        (self.wake)();
    }

    /// Puts in rows of a subscription.
    pub fn put(&self, id: &str, put: Put, given: Rows<'_>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        let before = state.rows;
        if !state.subscriptions.contains_key(id) {
            state.subscriptions.insert(id.to_string(), Queue::default());
        }
        let State {
            subscriptions, rows, ..
        } = &mut *state;
        let queue = subscriptions.get_mut(id).expect("inserted above when missing");
        *rows -= queue.len();
        queue.put(put, given);
        *rows += queue.len();
        if *rows > ROWS_WAITING_MAX
            || queue.bytes > BYTES_WAITING_MAX
            || self.all.load(Ordering::Relaxed) > ROWS_WAITING_ALL_MAX
        {
            *rows -= queue.len();
            queue.shrink();
            *rows += queue.len();
        }
        self.count(before, state.rows);
        drop(state);
        (self.wake)();
    }

    /// The client of a subscription that begins has everything up to this sequence.
    pub fn resume(&self, id: &str, seen: u64) {
        self.state().subscriptions.entry(id.to_string()).or_default().told = seen;
    }

    fn count(&self, before: usize, after: usize) {
        if after >= before {
            self.all.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.all.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Forgets what waits for a subscription that has ended.
    pub fn forget(&self, id: &str) {
        let mut state = self.state();
        if let Some(queue) = state.subscriptions.remove(id) {
            state.rows -= queue.len();
            self.count(queue.len(), 0);
        }
    }

    /// Takes the messages that wait, in order.
    pub fn take(&self) -> Taken {
        let mut state = self.state();
        let mut out = Taken::default();
        for (id, queue) in &mut state.subscriptions {
            queue.take(id, &mut out);
        }
        out.messages.extend(state.texts.drain(..));
        self.count(state.rows, 0);
        state.rows = 0;
        out
    }

    /// The client is gone; nothing more need be put in.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.subscriptions.clear();
        state.texts.clear();
        self.count(state.rows, 0);
        state.rows = 0;
    }

    /// The client is gone.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn len(&self) -> usize {
        self.windows.len() + self.points.len()
    }

    fn put(&mut self, put: Put, given: Rows<'_>) {
        if matches!(put, Put::Snapshot | Put::PointsSnapshot) {
            self.coalesced += self.len() as u64;
            self.windows.clear();
            self.points.clear();
            self.bytes = 0;
            self.void = false;
            self.snapshot = true;
        }
        if self.void {
            self.coalesced += given.rows.len() as u64;
            return;
        }
        self.sequence = given.sequence;
        if !Arc::ptr_eq(&self.groups, given.groups) {
            self.groups = given.groups.clone();
        }
        if !Arc::ptr_eq(&self.columns, given.columns) {
            self.columns = given.columns.clone();
        }
        if matches!(put, Put::Points | Put::PointsSnapshot) {
            let points = given
                .rows
                .into_iter()
                .map(|(kind, row)| (self.columns.clone(), kind, row));
            for point in points {
                self.bytes += point.2.json.len();
                self.points.push_back(point);
            }
            return;
        }
        for (kind, row) in given.rows {
            self.bytes += row.json.len();
            match self.windows.get_mut(&(row.time, row.group)) {
                Some((old, json)) => {
                    self.bytes -= json.len();
                    *json = row.json;
                    // A snapshot's row stays part of the snapshot, unless it has become final.
                    if *old != Kind::Snapshot || kind == Kind::Final {
                        *old = kind;
                    }
                    self.coalesced += 1;
                }
                None => {
                    self.windows.insert((row.time, row.group), (kind, row.json));
                }
            }
        }
    }

    /// Too many rows wait.
    fn shrink(&mut self) {
        self.void = !self.windows.is_empty() || self.snapshot;
        self.snapshot = false;
        self.coalesced += self.windows.len() as u64;
        self.windows.clear();
        let keep = if self.void { 0 } else { self.points.len() / 2 };
        self.coalesced += (self.points.len() - keep) as u64;
        self.points.drain(..self.points.len() - keep);
        self.bytes = self.points.iter().map(|point| point.2.json.len()).sum();
    }

    fn take(&mut self, id: &str, out: &mut Taken) {
        let coalesced = std::mem::take(&mut self.coalesced);
        if coalesced > 0 {
            // Told before the rows, so that a client knows why it sees jumps.
            out.messages.push(message::lagged(id, self.told, coalesced));
        }
        if self.void {
            out.void.push(id.to_string());
            return;
        }
        let mut by_kind: BTreeMap<Kind, Vec<Row>> = BTreeMap::new();
        for ((time, group), (kind, json)) in std::mem::take(&mut self.windows) {
            by_kind.entry(kind).or_default().push(Row { group, time, json });
        }
        let points = Vec::from(std::mem::take(&mut self.points));
        self.bytes = 0;
        if std::mem::take(&mut self.snapshot) && points.first().is_none_or(|first| first.1 != Kind::Snapshot)
        {
            by_kind.entry(Kind::Snapshot).or_default();
        }
        by_kind
            .values_mut()
            .for_each(|rows| rows.sort_by_key(|row| row.group));
        let groups = self.groups.clone();
        let groups = groups.lock().unwrap_or_else(PoisonError::into_inner);
        let mut parts: Vec<(Kind, Arc<[String]>, Vec<Row>)> = Vec::new();
        let mut add = |kind, columns: &Arc<[String]>, rows| {
            parts.extend(split(rows).into_iter().map(|rows| (kind, columns.clone(), rows)));
        };
        for (kind, rows) in by_kind {
            add(kind, &self.columns, rows);
        }
        // Of equal series and time the later point counts, so their order stays. A new field makes new columns.
        for chunk in points.chunk_by(|a, b| a.0 == b.0 && a.1 == b.1) {
            let rows = chunk.iter().map(|(_, _, row)| row.clone());
            add(chunk[0].1, &chunk[0].0, rows.collect());
        }
        let last = parts.len();
        for (i, (kind, columns, rows)) in parts.into_iter().enumerate() {
            // Only the last message makes the client's state that of the sequence: until then it must resume from the one before.
            let more = i + 1 < last;
            let sequence = if more { self.told } else { self.sequence };
            let message = message::rows(kind, id, sequence, more, &columns, &groups, &rows);
            out.messages.push(message);
        }
        if last > 0 {
            self.told = self.sequence;
        }
    }
}

/// Cuts rows so that a message stays below its limit.
fn split(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for row in rows {
        if bytes + row.json.len() > MESSAGE_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += row.json.len() + 1;
        part.push(row);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn outbox() -> Outbox {
        Outbox::new(Waiting::default(), || ())
    }

    fn put(outbox: &Outbox, sequence: u64, how: Put, rows: Vec<(Kind, i64, &str)>) {
        let groups = Arc::new(Mutex::new(Groups::default()));
        let tags = Some("{\"host\":\"a\"}");
        groups.lock().expect("unpoisoned").number("m", tags);
        let row = |time, json: &str| Row {
            group: 0,
            time,
            json: json.into(),
        };
        let rows = rows.into_iter().map(|(kind, time, json)| (kind, row(time, json)));
        let given = Rows {
            sequence,
            columns: &Arc::from(["time".to_string(), "sum".to_string()]),
            groups: &groups,
            rows: rows.collect(),
        };
        outbox.put("1", how, given);
    }

    fn take(outbox: &Outbox) -> Vec<Value> {
        let taken = outbox.take();
        let parse = |message: &Message| serde_json::from_str(&message.text).expect("JSON");
        taken.messages.iter().map(parse).collect()
    }

    #[test]
    fn rows_become_messages_by_kind_and_the_last_has_the_sequence() {
        let outbox = outbox();
        let rows = vec![(Kind::Final, 0, "[0,1]"), (Kind::Update, 10, "[10,2.5]")];
        put(&outbox, 7, Put::Windows, rows);
        let series = |row: Value| json!([{"name": "m", "tags": {"host": "a"}, "columns": ["time", "sum"], "values": [row]}]);
        assert_eq!(
            take(&outbox),
            [
                json!({"type": "update", "id": "1", "sequence": 0, "more": true, "series": series(json!([10, 2.5]))}),
                json!({"type": "final", "id": "1", "sequence": 7, "series": series(json!([0, 1]))}),
            ]
        );
        assert!(take(&outbox).is_empty());
        assert_eq!(outbox.all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_empty_snapshot_is_still_an_answer() {
        let outbox = outbox();
        put(&outbox, 3, Put::Snapshot, vec![]);
        let want = json!({"type": "snapshot", "id": "1", "sequence": 3, "series": []});
        assert_eq!(take(&outbox), [want]);
    }

    #[test]
    fn a_slow_client_gets_the_newest_and_is_told() {
        let outbox = outbox();
        put(&outbox, 1, Put::Windows, vec![(Kind::Update, 0, "[0,1]")]);
        put(&outbox, 2, Put::Windows, vec![(Kind::Update, 0, "[0,2]")]);
        let said = take(&outbox);
        let want = json!({"type": "lagged", "id": "1", "sequence": 0, "coalesced": 1});
        assert_eq!(said[0], want);
        assert_eq!(said[1]["series"][0]["values"], json!([[0, 2]]));
    }

    #[test]
    fn too_many_rows_are_void_until_the_next_snapshot() {
        let outbox = outbox();
        let many = (0..ROWS_WAITING_MAX as i64 + 5).map(|t| (Kind::Update, t, "[0]"));
        put(&outbox, 3, Put::Windows, many.collect());
        put(&outbox, 4, Put::Windows, vec![(Kind::Update, 0, "[0]")]);
        let taken = outbox.take();
        assert_eq!(taken.void, ["1"]);
        assert!(taken.messages[0].text.contains("\"coalesced\":150006"));
        assert_eq!((taken.messages.len(), outbox.all.load(Ordering::Relaxed)), (1, 0));
        put(&outbox, 5, Put::Snapshot, vec![(Kind::Snapshot, 0, "[0,5]")]);
        let said = take(&outbox);
        assert_eq!((said[0]["type"].as_str(), said.len()), (Some("snapshot"), 1));
    }

    #[test]
    fn too_many_bytes_are_void_as_well() {
        let outbox = outbox();
        let long = format!("[0,\"{}\"]", "x".repeat(1 << 20));
        for round in 0..100 {
            // The same rows again take no more room.
            let rows = (0..BYTES_WAITING_MAX as i64 >> 21).map(|t| (Kind::Update, t, long.as_str()));
            put(&outbox, round, Put::Windows, rows.collect());
        }
        assert!(outbox.take().void.is_empty());
        let rows = (0..BYTES_WAITING_MAX as i64 >> 20).map(|t| (Kind::Update, t, long.as_str()));
        put(&outbox, 100, Put::Windows, rows.collect());
        assert_eq!(outbox.take().void, ["1"]);
    }

    #[test]
    fn a_large_snapshot_comes_in_parts() {
        let outbox = outbox();
        let long = format!("[0,\"{}\"]", "x".repeat(MESSAGE_BYTES_MAX / 2));
        let rows = (0..3).map(|t| (Kind::Snapshot, t, long.as_str())).collect();
        put(&outbox, 9, Put::Snapshot, rows);
        let said = take(&outbox);
        let seen: Vec<_> = said
            .iter()
            .map(|m| (m["sequence"].clone(), m["more"].clone()))
            .collect();
        let (part, end) = ((json!(0), json!(true)), (json!(9), Value::Null));
        assert_eq!(seen, [part.clone(), part, end]);
    }

    #[test]
    fn points_keep_their_order_and_the_oldest_go() {
        let outbox = outbox();
        put(
            &outbox,
            1,
            Put::Points,
            vec![(Kind::Update, 5, "[5,1]"), (Kind::Update, 5, "[5,2]")],
        );
        put(&outbox, 2, Put::Points, vec![(Kind::Update, 1, "[1,3]")]);
        assert_eq!(
            take(&outbox)[0]["series"][0]["values"],
            json!([[5, 1], [5, 2], [1, 3]])
        );
        let many = (0..ROWS_WAITING_MAX as i64 + 2).map(|t| (Kind::Update, t, "[0]"));
        put(&outbox, 3, Put::Points, many.collect());
        assert_eq!(take(&outbox)[0]["coalesced"], ROWS_WAITING_MAX / 2 + 1);
    }
}
