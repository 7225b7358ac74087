//! The queue of messages for one client: bounded, never blocks whoever fills it.
//!
//! Rows of windows wait by (window, group): a later value replaces an earlier one that was not sent yet, which is counted and
//! told as `lagged`. When even the distinct rows are too many they all go, and the client is sent a new snapshot once it
//! reads again. Points of a tail wait in order; of too many the oldest go, which `lagged` says too.
//!
//! What many clients are told is one message, made once ([`Shared`]): for a client that keeps up it waits as it is.

use super::message::{self, Encoding, Kind, Message, Told};
use super::row::{Cells, Groups, Row};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows that may wait for one client.
pub const ROWS_WAITING_MAX: usize = 150_000;
/// Bytes of rows that may wait for one client.
pub const BYTES_WAITING_MAX: usize = 32 << 20;
/// What a row that waits takes beside its cells.
const ROW_BYTES: usize = 64;
/// Messages other than rows that may wait for one client.
const TEXTS_WAITING_MAX: usize = 1_000;
/// Bytes of rows in one message, as [`Cells::weight`] counts: Python's `websockets`, for one, takes messages of 1 MiB by default.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Messages made of the same rows, under different names, that are kept for the next client.
const MADE_MAX: usize = 16;

/// What waits for all clients together. Shared.
#[derive(Debug)]
pub struct Waiting {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Waiting {
    /// So many bytes may wait.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            bytes: AtomicUsize::new(0),
        })
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// An outbox held so much before, and so much after.
    fn change(&self, before: usize, after: usize) {
        if after >= before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

/// See the module. Shared by the hub, which fills it, and the connection, which empties it.
pub struct Outbox {
    state: Mutex<State>,
    /// The client is gone.
    closed: AtomicBool,
    encoding: Encoding,
    wake: Box<dyn Fn() + Send + Sync>,
    all: Arc<Waiting>,
}

#[derive(Default)]
struct State {
    texts: VecDeque<Message>,
    /// Few: a list takes less room than a tree.
    subscriptions: Vec<(Box<str>, Box<Queue>)>,
    rows: usize,
    /// Bytes of them and of what they take beside.
    cost: usize,
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

/// Rows that several clients are told, and the messages made of them: one for all of the same encoding who call their subscription
/// the same.
pub struct Shared<'a> {
    sequence: u64,
    columns: &'a Arc<[String]>,
    groups: &'a Arc<Mutex<Groups>>,
    rows: Arc<[(Kind, Row)]>,
    /// They make one message, of this kind.
    kind: Option<Kind>,
    /// The earliest.
    from: i64,
    put: Put,
    made: Vec<(Encoding, Box<str>, Message)>,
}

impl<'a> Shared<'a> {
    /// Of rows as in [`Rows`].
    pub fn new(
        put: Put,
        sequence: u64,
        columns: &'a Arc<[String]>,
        groups: &'a Arc<Mutex<Groups>>,
        rows: Vec<(Kind, Row)>,
    ) -> Self {
        let weight: usize = rows.iter().map(|(_, row)| row.cells.weight()).sum();
        let first = rows.first().map(|(kind, _)| *kind);
        let alike = rows.iter().all(|(kind, _)| Some(*kind) == first);
        Self {
            sequence,
            columns,
            groups,
            kind: first.filter(|_| alike && weight <= MESSAGE_BYTES_MAX),
            from: rows.iter().map(|(_, row)| row.time).min().unwrap_or(i64::MAX),
            rows: rows.into(),
            put,
            made: Vec::new(),
        }
    }

    /// No row is earlier.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Those from a time on, for a client that wants no earlier ones.
    pub fn since(&self, from: i64) -> Rows<'a> {
        let wanted = self.rows.iter().filter(|(_, row)| row.time >= from);
        Rows {
            sequence: self.sequence,
            columns: self.columns,
            groups: self.groups,
            rows: wanted.cloned().collect(),
        }
    }

    /// The message for those who call it so.
    fn message(&mut self, kind: Kind, encoding: Encoding, id: &str) -> Message {
        let mut made = self.made.iter();
        if let Some((.., message)) = made.find(|(e, known, _)| *e == encoding && **known == *id) {
            return message.clone();
        }
        let mut rows: Vec<Row> = self.rows.iter().map(|(_, row)| row.clone()).collect();
        if self.put == Put::Windows {
            rows.sort_by_key(|row| (row.group, row.time));
        }
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let told = Told {
            kind,
            sequence: self.sequence,
            more: false,
            columns: self.columns,
            groups: &groups,
            rows: &rows,
        };
        let message = message::rows(encoding, id, &told);
        if self.made.len() < MADE_MAX {
            self.made.push((encoding, id.into(), message.clone()));
        }
        message
    }
}

/// Rows that wait as one message.
struct Ready {
    kind: Kind,
    /// They are points.
    points: bool,
    rows: Arc<[(Kind, Row)]>,
    message: Message,
}

#[derive(Default)]
struct Queue {
    groups: Arc<Mutex<Groups>>,
    columns: Arc<[String]>,
    /// All that waits, unless there is nothing or more: a message, and what became final in the same moment.
    ready: Vec<Ready>,
    windows: BTreeMap<(i64, u32), (Kind, Cells)>,
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
    pub fn new(all: Arc<Waiting>, encoding: Encoding, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            encoding,
            wake: Box::new(wake),
            all,
        }
    }

    /// Puts in that something is wrong.
    pub fn error(&self, id: &str, error: &str) {
        let message = message::error(self.encoding, id, error);
        let mut state = self.state();
        if state.texts.len() < TEXTS_WAITING_MAX {
            state.texts.push_back(message);
        }
        drop(state);
        self.wake();
    }

    /// Puts in rows of a subscription.
    pub fn put(&self, id: &str, put: Put, given: Rows<'_>) {
        self.change(id, |queue| queue.put(put, given));
        self.wake();
    }

    /// Something was put in.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// Puts in rows that others are told, too. [`wake`](Self::wake) is to be called once all are told: who is woken at once interrupts
    /// who tells.
    pub fn put_shared(&self, id: &str, shared: &mut Shared<'_>) {
        self.change(id, |queue| match shared.kind {
            Some(kind) if queue.is_idle() || queue.takes_with(kind, shared) => {
                queue.refer(shared.sequence, shared.columns, shared.groups);
                let message = shared.message(kind, self.encoding, id);
                queue.bytes += message.bytes.len();
                queue.ready.push(Ready {
                    kind,
                    points: shared.put == Put::Points,
                    rows: shared.rows.clone(),
                    message,
                });
            }
            _ => queue.put(shared.put, shared.since(i64::MIN)),
        });
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Queue)) {
        let mut state = self.state();
        // IMPORTANT: looked at under the lock, or what is put in now stays counted for ever.
        if self.is_closed() {
            return;
        }
        let before = state.cost;
        let State {
            subscriptions,
            rows,
            cost,
            ..
        } = &mut *state;
        let queue = queue(subscriptions, id);
        let (others, others_cost) = (*rows - queue.len(), *cost - queue.cost());
        change(queue);
        let all = self.all.bytes() - before.min(self.all.bytes()) + others_cost + queue.cost();
        if others + queue.len() > ROWS_WAITING_MAX
            || queue.bytes > BYTES_WAITING_MAX
            || all > self.all.bytes_max
        {
            queue.shrink();
        }
        *rows = others + queue.len();
        *cost = others_cost + queue.cost();
        self.all.change(before, state.cost);
    }

    /// The client of a subscription that begins has everything up to this sequence.
    pub fn resume(&self, id: &str, seen: u64) {
        queue(&mut self.state().subscriptions, id).told = seen;
    }

    /// Forgets what waits for a subscription that has ended.
    pub fn forget(&self, id: &str) {
        let mut state = self.state();
        if let Some(at) = state.subscriptions.iter().position(|(known, _)| **known == *id) {
            let (_, queue) = state.subscriptions.remove(at);
            state.rows -= queue.len();
            state.cost -= queue.cost();
            self.all.change(queue.cost(), 0);
        }
    }

    /// Takes the messages that wait, in order.
    pub fn take(&self) -> Taken {
        let mut state = self.state();
        let mut out = Taken::default();
        for (id, queue) in &mut state.subscriptions {
            queue.take(id, self.encoding, &mut out);
        }
        out.messages.extend(state.texts.drain(..));
        self.all.change(state.cost, 0);
        (state.rows, state.cost) = (0, 0);
        out
    }

    /// The client is gone; nothing more need be put in.
    pub fn close(&self) {
        let mut state = self.state();
        self.closed.store(true, Ordering::Release);
        state.subscriptions.clear();
        state.texts.clear();
        self.all.change(state.cost, 0);
        (state.rows, state.cost) = (0, 0);
    }

    /// The client is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue of a subscription, a new one at first sight.
fn queue<'a>(subscriptions: &'a mut Vec<(Box<str>, Box<Queue>)>, id: &str) -> &'a mut Queue {
    let known = subscriptions.iter().position(|(known, _)| **known == *id);
    let at = known.unwrap_or_else(|| {
        subscriptions.push((id.into(), Box::default()));
        subscriptions.len() - 1
    });
    &mut subscriptions[at].1
}

impl Queue {
    fn len(&self) -> usize {
        let ready: usize = self.ready.iter().map(|ready| ready.rows.len()).sum();
        ready + self.windows.len() + self.points.len()
    }

    fn cost(&self) -> usize {
        self.len() * ROW_BYTES + self.bytes
    }

    /// Nothing waits, and nothing is to be said before the next rows.
    fn is_idle(&self) -> bool {
        self.len() == 0 && !self.snapshot && !self.void && self.coalesced == 0
    }

    /// One message waits, and this one tells what became final in the moment of that one: both can go as they are.
    fn takes_with(&self, kind: Kind, shared: &Shared<'_>) -> bool {
        let one = match self.ready.as_slice() {
            [one] => one.kind == Kind::Update && one.message.sequence == shared.sequence && !one.points,
            _ => false,
        };
        one && kind == Kind::Final
            && Arc::ptr_eq(&self.columns, shared.columns)
            && Arc::ptr_eq(&self.groups, shared.groups)
    }

    fn refer(&mut self, sequence: u64, columns: &Arc<[String]>, groups: &Arc<Mutex<Groups>>) {
        self.sequence = sequence;
        if !Arc::ptr_eq(&self.groups, groups) {
            self.groups = groups.clone();
        }
        if !Arc::ptr_eq(&self.columns, columns) {
            self.columns = columns.clone();
        }
    }

    /// The messages that wait become rows again.
    fn unpack(&mut self) {
        if !self.ready.is_empty() {
            self.bytes = 0;
        }
        for ready in std::mem::take(&mut self.ready) {
            self.add(ready.points, ready.rows.iter().cloned());
        }
    }

    fn put(&mut self, put: Put, given: Rows<'_>) {
        self.unpack();
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
        self.refer(given.sequence, given.columns, given.groups);
        let points = matches!(put, Put::Points | Put::PointsSnapshot);
        self.add(points, given.rows.into_iter());
    }

    fn add(&mut self, points: bool, rows: impl Iterator<Item = (Kind, Row)>) {
        for (kind, row) in rows {
            self.bytes += row.cells.weight();
            if points {
                self.points.push_back((self.columns.clone(), kind, row));
                continue;
            }
            match self.windows.get_mut(&(row.time, row.group)) {
                Some((old, cells)) => {
                    self.bytes -= cells.weight();
                    *cells = row.cells;
                    // A snapshot's row stays part of the snapshot, unless it has become final.
                    if *old != Kind::Snapshot || kind == Kind::Final {
                        *old = kind;
                    }
                    self.coalesced += 1;
                }
                None => {
                    self.windows.insert((row.time, row.group), (kind, row.cells));
                }
            }
        }
    }

    /// Too many rows wait.
    fn shrink(&mut self) {
        self.unpack();
        self.void = !self.windows.is_empty() || self.snapshot;
        self.snapshot = false;
        self.coalesced += self.windows.len() as u64;
        self.windows.clear();
        let keep = if self.void { 0 } else { self.points.len() / 2 };
        self.coalesced += (self.points.len() - keep) as u64;
        self.points.drain(..self.points.len() - keep);
        self.bytes = self.points.iter().map(|point| point.2.cells.weight()).sum();
    }

    fn take(&mut self, id: &str, encoding: Encoding, out: &mut Taken) {
        if !self.ready.is_empty() {
            self.bytes = 0;
            self.told = self.sequence;
            let ready = std::mem::take(&mut self.ready);
            return out.messages.extend(ready.into_iter().map(|ready| ready.message));
        }
        let coalesced = std::mem::take(&mut self.coalesced);
        if coalesced > 0 {
            // Told before the rows, so that a client knows why it sees jumps.
            out.messages
                .push(message::lagged(encoding, id, self.told, coalesced));
        }
        if self.void {
            out.void.push(id.to_string());
            return;
        }
        let mut by_kind: BTreeMap<Kind, Vec<Row>> = BTreeMap::new();
        for ((time, group), (kind, cells)) in std::mem::take(&mut self.windows) {
            by_kind.entry(kind).or_default().push(Row { group, time, cells });
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
            let told = Told {
                kind,
                sequence,
                more,
                columns: &columns,
                groups: &groups,
                rows: &rows,
            };
            out.messages.push(message::rows(encoding, id, &told));
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
        let weight = row.cells.weight();
        if bytes + weight > MESSAGE_BYTES_MAX && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += weight;
        part.push(row);
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::super::row::row_of_json;
    use super::*;
    use serde_json::{Value, json};

    fn outbox() -> Outbox {
        Outbox::new(Waiting::new(1 << 30), Encoding::Json, || ())
    }

    fn put(outbox: &Outbox, sequence: u64, how: Put, rows: Vec<(Kind, i64, &str)>) {
        let groups = Arc::new(Mutex::new(Groups::default()));
        let tags = [("host".to_string(), "a".to_string())];
        groups.lock().expect("unpoisoned").number("m", &tags);
        let rows = rows
            .into_iter()
            .map(|(kind, time, json)| (kind, row_of_json(0, time, json)));
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
        let parse = |message: &Message| serde_json::from_slice(&message.bytes).expect("JSON");
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
        assert_eq!(outbox.all.bytes(), 0);
    }

    /// Puts in an update that others are told, too.
    fn put_shared(outbox: &Outbox, id: &str, sequence: u64, json: &str) {
        let groups = Arc::new(Mutex::new(Groups::default()));
        groups.lock().expect("unpoisoned").number("m", &[]);
        let columns = Arc::from(["time".to_string(), "sum".to_string()]);
        let rows = vec![(Kind::Update, row_of_json(0, 0, json))];
        let mut shared = Shared::new(Put::Windows, sequence, &columns, &groups, rows);
        outbox.put_shared(id, &mut shared);
    }

    #[test]
    fn what_is_shared_waits_as_one_message_and_not_before_what_must_come_first() {
        let outbox = outbox();
        put_shared(&outbox, "1", 1, "[0,1]");
        let said = take(&outbox);
        assert_eq!((said.len(), &said[0]["sequence"]), (1, &json!(1)));
        assert_eq!(said[0]["series"][0]["values"], json!([[0, 1]]));
        // A later one replaces what waits, and that is told.
        put_shared(&outbox, "1", 2, "[0,2]");
        put_shared(&outbox, "1", 3, "[0,3]");
        assert_eq!(outbox.state().rows, 1);
        let said = take(&outbox);
        assert_eq!((said.len(), &said[0]["coalesced"]), (2, &json!(1)));
        assert_eq!(said[1]["series"][0]["values"], json!([[0, 3]]));
        // A snapshot without rows comes first.
        put(&outbox, 4, Put::Snapshot, vec![]);
        put_shared(&outbox, "1", 5, "[0,5]");
        let said = take(&outbox);
        let kinds: Vec<_> = said.iter().map(|m| m["type"].clone()).collect();
        assert_eq!(kinds, ["snapshot", "update"]);
        // What is void stays so until there is a new one.
        let many = (0..ROWS_WAITING_MAX as i64 + 1).map(|t| (Kind::Update, t, "[0]"));
        put(&outbox, 6, Put::Windows, many.collect());
        put_shared(&outbox, "1", 7, "[0,7]");
        let taken = outbox.take();
        assert_eq!((taken.void.len(), taken.messages.len()), (1, 1));
        assert_eq!(outbox.all.bytes(), 0);
    }

    #[test]
    fn what_became_final_with_an_update_waits_beside_it() {
        let outbox = outbox();
        let groups = Arc::new(Mutex::new(Groups::default()));
        groups.lock().expect("unpoisoned").number("m", &[]);
        let columns = Arc::from(["time".to_string(), "sum".to_string()]);
        let put = |sequence: u64, kind: Kind, json: &str| {
            let rows = vec![(kind, row_of_json(0, 0, json))];
            let mut shared = Shared::new(Put::Windows, sequence, &columns, &groups, rows);
            outbox.put_shared("1", &mut shared);
        };
        let told = |outbox: &Outbox| -> Vec<(String, Value, Value)> {
            let messages = take(outbox).into_iter();
            let told = |m: Value| {
                let kind = m["type"].as_str().expect("a type").to_string();
                (
                    kind,
                    m["sequence"].clone(),
                    m["series"][0]["values"][0][1].clone(),
                )
            };
            messages.map(told).collect()
        };
        put(1, Kind::Update, "[0,1]");
        put(1, Kind::Final, "[0,1]");
        assert_eq!(outbox.state().rows, 2);
        let (update, last) = ("update".to_string(), "final".to_string());
        assert_eq!(
            told(&outbox),
            [(update, json!(1), json!(1)), (last, json!(1), json!(1))]
        );
        assert_eq!(outbox.all.bytes(), 0);
        // One of a later moment is not put beside it, nor a second one: the client is slow, and is told.
        for later in [Kind::Final, Kind::Correction] {
            put(2, Kind::Update, "[0,2]");
            put(2 + u64::from(later == Kind::Final), later, "[0,3]");
            let said = take(&outbox);
            assert_eq!((said.len(), &said[0]["coalesced"]), (2, &json!(1)));
            assert_eq!(said[1]["type"], json!(later.name()));
            assert_eq!(said[1]["series"][0]["values"], json!([[0, 3]]));
        }
        put(5, Kind::Update, "[0,5]");
        put(5, Kind::Final, "[0,5]");
        put(6, Kind::Correction, "[0,6]");
        let said = take(&outbox);
        assert_eq!((said.len(), &said[0]["coalesced"]), (2, &json!(2)));
        assert_eq!(said[1]["series"][0]["values"], json!([[0, 6]]));
        assert_eq!(outbox.all.bytes(), 0);
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
        let text = String::from_utf8_lossy(&taken.messages[0].bytes);
        assert!(text.contains("\"coalesced\":150006"));
        assert_eq!((taken.messages.len(), outbox.all.bytes()), (1, 0));
        put(&outbox, 5, Put::Snapshot, vec![(Kind::Snapshot, 0, "[0,5]")]);
        let said = take(&outbox);
        assert_eq!((said[0]["type"].as_str(), said.len()), (Some("snapshot"), 1));
    }

    #[test]
    fn too_many_bytes_are_void_as_well() {
        let outbox = outbox();
        let long = format!("[0,\"{}\"]", "x".repeat(1 << 20));
        for round in 0..4 {
            // The same rows again take no more room.
            let rows = (0..BYTES_WAITING_MAX as i64 >> 21).map(|t| (Kind::Update, t, long.as_str()));
            put(&outbox, round, Put::Windows, rows.collect());
        }
        assert!(outbox.take().void.is_empty());
        let rows = (0..BYTES_WAITING_MAX as i64 >> 20).map(|t| (Kind::Update, t, long.as_str()));
        put(&outbox, 4, Put::Windows, rows.collect());
        assert_eq!(outbox.take().void, ["1"]);
    }

    #[test]
    fn all_clients_hold_no_more_than_they_may_together() {
        let all = Waiting::new(100 * ROW_BYTES);
        let outbox = || Outbox::new(all.clone(), Encoding::Json, || ());
        let (one, other) = (outbox(), outbox());
        let rows = |n: i64| (0..n).map(|t| (Kind::Update, t, "[0]")).collect();
        put(&one, 1, Put::Windows, rows(20));
        assert!(all.bytes() >= 20 * ROW_BYTES);
        // Others hold too much: what cannot wait is void.
        put(&other, 2, Put::Windows, rows(90));
        assert_eq!(other.take().void, ["1"]);
        assert!(one.take().void.is_empty());
        assert_eq!(all.bytes(), 0);
        put(&other, 3, Put::Snapshot, rows(20));
        assert!(other.take().void.is_empty(), "there is room again");
        put(&other, 4, Put::Windows, rows(20));
        other.forget("1");
        put(&one, 4, Put::Windows, rows(20));
        one.close();
        assert_eq!(all.bytes(), 0);
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
