//! The keeper without its thread: whoever's turn it is, and whatever was only noted before it, what clients were told is what the data
//! of that sequence gives.

mod limits;
mod telling;
mod turns;

use super::{Keeper, Recent, Request, Wanted, Work};
use crate::batch::Batch;
use crate::budget::{Budgets, Machine, Overrides};
use crate::engine::{Engine, EngineOptions};
use crate::ingest::Ingestor;
use crate::journal::simulated::Random;
use crate::live::hub::Figures;
use crate::live::message::Encoding;
use crate::live::outbox::{Outbox, Waiting};
use crate::live::pace::Share;
use crate::query::Value;
use kymo_plugin_api::{Framing, Options};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SECOND: i64 = 1_000_000_000;
/// Where time begins here.
const BEGIN: i64 = 1_700_000_000 * SECOND;

/// Windows that are folded, by several and by one; and some that are evaluated.
const QUERIES: &[&str] = &[
    "SELECT sum(v), count(v) FROM m GROUP BY time(10s), host",
    "SELECT last(w) FROM m GROUP BY time(10s)",
    "SELECT max(v) FROM m WHERE host = 'a' GROUP BY time(5s)",
    "SELECT count(v) FROM m WHERE w > 3 GROUP BY time(1m, 7s)",
    "SELECT sum(v) FROM m, n GROUP BY time(10s)",
    "SELECT count(v) FROM /m|n/ GROUP BY time(20s), host",
    "SELECT sum(v) FROM m GROUP BY time(10s, over 30s)",
    "SELECT mean(v) FROM late GROUP BY time(10s), host",
];
const TAIL: &str = "SELECT v FROM m WHERE host = 'a'";

/// Rows by group and time.
type State = BTreeMap<(String, i64), Vec<Json>>;

/// A client of one query.
struct Client {
    connection: u64,
    outbox: Arc<Outbox>,
    state: State,
    /// The sequence that it knows.
    sequence: u64,
    in_snapshot: bool,
    kinds: BTreeSet<String>,
}

impl Client {
    fn take(&mut self) {
        let taken = self.outbox.take();
        assert!(taken.void.is_empty());
        for message in taken.messages {
            let message: Json = serde_json::from_slice(&message.bytes).expect("JSON");
            let kind = message["type"].as_str().expect("a type").to_string();
            assert_ne!(kind, "error", "{message}");
            if kind == "snapshot" && !self.in_snapshot {
                self.state.clear();
            }
            self.in_snapshot = kind == "snapshot" && message["more"] == true;
            self.sequence = message["sequence"].as_u64().expect("a sequence");
            for series in message["series"].as_array().into_iter().flatten() {
                let group = format!("{}{}", series["name"], series["tags"]);
                for row in series["values"].as_array().expect("rows") {
                    let row = row.as_array().expect("a row");
                    let key = (group.clone(), row[0].as_i64().expect("a time"));
                    match row[1..].iter().all(Json::is_null) {
                        true => self.state.remove(&key),
                        false => self.state.insert(key, row[1..].to_vec()),
                    };
                }
            }
            self.kinds.insert(kind);
        }
    }
}

struct Case {
    engine: Arc<Engine>,
    keeper: Keeper,
    now: i64,
    clients: Vec<Client>,
    tail: Client,
    connections: u64,
    random: Random,
    /// How often the tail was told of values, each another; and by time the value that the point has.
    told: BTreeMap<i64, usize>,
    last: BTreeMap<i64, i64>,
    value: i64,
    /// Many points are late or come before their time.
    wild: bool,
}

impl Case {
    fn new(folder: &std::path::Path, seed: u64) -> Self {
        let machine = Machine {
            cores: 2,
            memory: 1 << 30,
        };
        let budgets = Budgets::new(&machine, &Overrides::default());
        let engine = Engine::open(folder, EngineOptions::new(budgets, || 0)).expect("it opens");
        let catalog = engine.catalog();
        catalog.create_database("d", None).expect("it can be made");
        let keeper = Keeper::new(engine.clone(), Arc::new(Figures::default()), Share::default());
        let client = |connection| Client {
            connection,
            outbox: Arc::new(Outbox::new(Waiting::new(1 << 30), Encoding::Json, || {})),
            state: State::new(),
            sequence: 0,
            in_snapshot: false,
            kinds: BTreeSet::new(),
        };
        let count = QUERIES.len() as u64;
        Self {
            engine,
            keeper,
            now: BEGIN + 100 * SECOND,
            clients: (0..count).map(client).collect(),
            tail: client(count),
            connections: count + 1,
            random: Random(seed),
            told: BTreeMap::new(),
            last: BTreeMap::new(),
            value: 0,
            wild: seed.is_multiple_of(2),
        }
    }

    fn subscribe(&mut self, number: usize, resume: Option<u64>) {
        let (client, q) = match QUERIES.get(number) {
            Some(q) => (&self.clients[number], *q),
            None => (&self.tail, TAIL),
        };
        let request = Request::Subscribe {
            key: (client.connection, "1".to_string()),
            wanted: Wanted {
                db: "d".to_string(),
                q: q.to_string(),
                resume,
                from: QUERIES.get(number).map(|_| BEGIN),
                lateness: Some("20s".to_string()),
            },
            outbox: client.outbox.clone(),
        };
        self.keeper.take(request, &|| self.now);
    }

    /// One more client on a connection of its own; it is told when it is to be woken.
    fn subscriber(&mut self, wanted: Wanted, wake: impl Fn() + Send + Sync + 'static) -> Arc<Outbox> {
        let outbox = Arc::new(Outbox::new(Waiting::new(1 << 30), Encoding::Json, wake));
        self.connections += 1;
        let request = Request::Subscribe {
            key: (self.connections, "1".to_string()),
            wanted,
            outbox: outbox.clone(),
        };
        self.keeper.take(request, &|| self.now);
        outbox
    }

    /// The connection breaks, and the client comes back.
    fn reconnect(&mut self, number: usize) {
        let client = match number < QUERIES.len() {
            true => &mut self.clients[number],
            false => &mut self.tail,
        };
        client.take();
        let connection = std::mem::replace(&mut client.connection, self.connections);
        self.connections += 1;
        client.outbox = Arc::new(Outbox::new(Waiting::new(1 << 30), Encoding::Json, || {}));
        client.in_snapshot = false;
        let seen = client.sequence;
        self.keeper.take(Request::Disconnect { connection }, &|| self.now);
        self.subscribe(number, Some(seen));
    }

    fn write(&mut self) {
        let mut lines = String::new();
        for _ in 0..1 + self.random.below(6) {
            self.now += self.random.below(1 << 27) as i64;
            let name = ["m", "m", "m", "n", "late"][self.random.below(5) as usize];
            if name == "late" && self.now < BEGIN + 150 * SECOND {
                continue;
            }
            let host = ["a", "b", "c", "d"][self.random.below(4) as usize];
            let time = match self.random.below(if self.wild { 10 } else { 100 }) {
                0 => self.now - self.random.below(90) as i64 * SECOND,
                // A point is often written again here.
                1 => (self.now / SECOND - 10 - self.random.below(3) as i64) * SECOND,
                2 if self.wild => self.now + self.random.below(25) as i64 * SECOND,
                _ => self.now,
            };
            self.value += 1;
            let value = self.value;
            let fields = match self.random.below(3) {
                0 => format!("v={value}i"),
                1 => format!("v={value}i,w={}", self.random.below(8)),
                _ => format!("w={}", self.random.below(8)),
            };
            if name == "m" && host == "a" && fields.starts_with('v') {
                self.told.insert(value, 0);
                if let Some(replaced) = self.last.insert(time, value) {
                    // It need not be told any more.
                    self.told.retain(|known, times| *known != replaced || *times > 0);
                }
            }
            lines.push_str(&format!("{name},host={host} {fields} {time}\n"));
        }
        if !lines.is_empty() {
            self.commit(&lines);
        }
    }

    fn commit(&self, lines: &str) {
        self.engine.commit(self.batch(lines)).expect("committed");
    }

    fn batch(&self, lines: &str) -> Batch {
        let (catalog, options) = (self.engine.catalog().clone(), Options::new());
        let policy = catalog.database("d").and_then(|d| d.policy(None).map(|p| p.id));
        let policy = policy.expect("the default one");
        let (limits, shards) = (self.engine.limits(), self.engine.shards());
        let mut rows = Ingestor::new(
            &catalog,
            limits,
            policy,
            "line-protocol",
            &options,
            self.now,
            shards,
        );
        let format = self.engine.formats().by_name("line-protocol").expect("built in");
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        decoder.decode(lines.as_bytes(), &mut rows);
        rows.finish().batch.expect("rows")
    }

    /// Some of those that wait have their turn.
    fn turn(&mut self, all: bool) {
        self.keeper.open(self.now);
        let waiting = std::mem::take(&mut self.keeper.queue).into_iter();
        let waiting: BTreeSet<Arc<str>> = waiting.map(|(_, key)| key).collect();
        let (past, far) = (Instant::now(), Instant::now() + Duration::from_secs(3600));
        for key in waiting {
            let due = match all || self.random.below(3) == 0 {
                true => past,
                false => far,
            };
            self.keeper.queue.insert((due, key));
        }
        self.keeper.round(&|| self.now);
    }

    /// What each computation that waits for nothing has told is what its query answers.
    fn check(&mut self, what: &str) -> usize {
        let snapshot = self.engine.snapshot();
        let catalog = self.engine.catalog().clone();
        let mut checked = 0;
        for (number, client) in self.clients.iter_mut().enumerate() {
            client.take();
            let key = &self.keeper.subscriptions[&(client.connection, "1".to_string())];
            let entry = self.keeper.entries.get_mut(key).expect("it is subscribed to");
            let Work::Windows(computation) = &mut entry.work else {
                panic!("windows");
            };
            if computation.pace.is_waiting() {
                continue;
            }
            let rows = computation.history(&catalog, &snapshot, BEGIN, i64::MAX, self.now);
            let rows = rows.expect("an answer");
            let groups = computation.evaluator().groups().lock().expect("not poisoned");
            let mut wanted = State::new();
            for row in rows {
                let group = groups.get(row.group);
                let tags: serde_json::Map<String, Json> = group
                    .tags
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone().into()))
                    .collect();
                let tags = match tags.is_empty() {
                    true => Json::Null,
                    false => tags.into(),
                };
                let values = row.cells.values().iter().map(|value| match value {
                    Value::Null => Json::Null,
                    Value::Integer(v) => (*v).into(),
                    Value::Float(v) => float(*v),
                    other => panic!("{other:?}"),
                });
                let name = Json::from(group.name.clone());
                let values: Vec<Json> = values.collect();
                if !values.iter().all(Json::is_null) {
                    wanted.insert((format!("{name}{tags}"), row.time), values);
                }
            }
            // Had the clock gone back, it was told of windows that have not begun.
            let begun = client.state.iter().filter(|((_, time), _)| *time <= self.now);
            let begun: State = begun.map(|(key, row)| (key.clone(), row.clone())).collect();
            wanted.retain(|(_, time), _| *time <= self.now);
            assert_eq!(begun, wanted, "{what}: {}", QUERIES[number]);
            checked += 1;
        }
        checked
    }

    /// The tail was told each point once.
    fn follow(&mut self) {
        let taken = self.tail.outbox.take();
        assert!(taken.void.is_empty());
        for message in taken.messages {
            let message: Json = serde_json::from_slice(&message.bytes).expect("JSON");
            assert_ne!(message["type"], "error", "{message}");
            self.tail.sequence = message["sequence"].as_u64().expect("a sequence");
            for series in message["series"].as_array().into_iter().flatten() {
                for row in series["values"].as_array().expect("rows") {
                    let value = row[1].as_i64().expect("an integer");
                    *self.told.entry(value).or_default() += 1;
                }
            }
        }
    }
}

/// As a client reads it.
fn float(value: f64) -> Json {
    serde_json::from_str(&value.to_string()).expect("a number")
}

/// That with nothing else.
fn wanted(q: &str) -> Wanted {
    Wanted {
        db: "d".to_string(),
        q: q.to_string(),
        ..Wanted::default()
    }
}

/// The messages that wait, one after the other.
fn texts(outbox: &Outbox) -> Vec<String> {
    let messages = outbox.take().messages.into_iter();
    messages
        .map(|m| String::from_utf8_lossy(&m.bytes).into_owned())
        .collect()
}
