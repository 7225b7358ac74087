//! What a client builds from its messages is, at each sequence, the answer that the data of that sequence gives: in whatever order
//! points come, however late, across cut connections and `kill -9`.

use crate::live::Live;
use crate::support::{PATIENCE, Random, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
const QUERY: &str = "SELECT sum(v), count(v), max(v) FROM m GROUP BY time(1s), host";

/// Rows by host and window.
type State = BTreeMap<(String, i64), Vec<i64>>;
/// Values by host and time.
type Points = BTreeMap<(String, i64), i64>;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as i64
}

/// What the query answers for these points.
fn answer(points: &Points, from: i64) -> State {
    let mut state = State::new();
    for ((host, time), value) in points.iter().filter(|((_, time), _)| *time >= from) {
        let window = time.div_euclid(SECOND) * SECOND;
        let row = state
            .entry((host.clone(), window))
            .or_insert_with(|| vec![0, 0, i64::MIN]);
        *row = vec![row[0] + value, row[1] + 1, row[2].max(*value)];
    }
    state
}

struct Client {
    live: Live,
    state: State,
    sequence: u64,
    in_snapshot: bool,
    /// Rows that came although the client had them.
    repeats: usize,
}

impl Client {
    fn connect(server: &Server, from: i64) -> Self {
        let mut live = Live::open(server);
        live.send(json!({"type": "subscribe", "id": "s", "db": "d", "q": QUERY, "from": from}));
        Self {
            live,
            state: State::new(),
            sequence: 0,
            in_snapshot: false,
            repeats: 0,
        }
    }

    fn reconnect(&mut self, server: &Server, from: i64) {
        self.live = Live::open(server);
        self.in_snapshot = false;
        let resume = self.sequence;
        self.live.send(
            json!({"type": "subscribe", "id": "s", "db": "d", "q": QUERY, "from": from, "resume": resume}),
        );
    }

    /// Takes what belongs together.
    fn take(&mut self) -> String {
        loop {
            let (kind, more) = self.take_one();
            if !more {
                return kind;
            }
        }
    }

    fn take_one(&mut self) -> (String, bool) {
        let message = self.live.next();
        let kind = message["type"].as_str().expect("a type").to_string();
        assert_ne!(kind, "error", "{message}");
        if kind == "snapshot" && !self.in_snapshot {
            self.state.clear();
        }
        self.in_snapshot = kind == "snapshot" && message["more"] == true;
        for series in message["series"].as_array().into_iter().flatten() {
            let host = series["tags"]["host"].as_str().expect("a tag");
            for row in series["values"].as_array().expect("rows") {
                let row: Vec<i64> = row
                    .as_array()
                    .expect("a row")
                    .iter()
                    .map(|v| v.as_i64().unwrap_or_else(|| panic!("no integer in {message}")))
                    .collect();
                let values = row[1..].to_vec();
                let old = self.state.insert((host.to_string(), row[0]), values.clone());
                if old == Some(values) && kind != "final" {
                    self.repeats += 1;
                }
            }
        }
        let sequence = message["sequence"].as_u64().expect("a sequence");
        assert!(sequence >= self.sequence, "{message} after {}", self.sequence);
        self.sequence = sequence;
        (kind, message["more"] == true)
    }
}

fn check(seed: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::quiet(folder.path());
    server.create("d");
    let mut random = Random(seed);
    let from = (now() / SECOND - 30) * SECOND;
    let mut client = Client::connect(&server, from);
    client.take();
    assert!(client.state.is_empty());
    let base = client.sequence;
    // What is there after each sequence from `base` on: every write is one batch.
    let mut history = vec![Points::new()];
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for step in 0..60 {
        match random.below(12) {
            0 => client.reconnect(&server, from),
            1 if step % 3 == 0 => {
                server.kill();
                server = Server::quiet(folder.path());
                client.reconnect(&server, from);
            }
            _ => {}
        }
        let mut points = history[history.len() - 1].clone();
        let mut lines = String::new();
        for i in 0..1 + random.below(5) {
            let host = ["a", "b", "c"][random.below(3) as usize];
            // Mostly new, some late, some again at a time that was written before.
            let age = if random.below(3) == 0 {
                random.below(30) as i64 * SECOND
            } else {
                random.below(2) as i64 * SECOND
            };
            let time = if random.below(4) == 0 && !points.is_empty() {
                let nth = random.below(points.len() as u64) as usize;
                points.keys().nth(nth).expect("below its length").1
            } else {
                (now() - age).max(from)
            };
            let value = step * 10 + i as i64;
            points.insert((host.to_string(), time), value);
            lines.push_str(&format!("m,host={host} v={value}i {time}\n"));
        }
        server.write("d", &lines);
        history.push(points);
        if random.below(3) > 0 {
            let kind = client.take();
            *kinds.entry(kind).or_default() += 1;
            let known = &history[(client.sequence - base) as usize];
            assert_eq!(
                client.state,
                answer(known, from),
                "seed {seed}, sequence {}",
                client.sequence
            );
        }
    }
    let last = base + history.len() as u64 - 1;
    let deadline = Instant::now() + PATIENCE;
    while client.sequence < last && Instant::now() < deadline {
        client.take();
    }
    let known = &history[history.len() - 1];
    assert_eq!(
        (client.sequence, &client.state),
        (last, &answer(known, from)),
        "seed {seed}"
    );
    assert_eq!(client.repeats, 0, "seed {seed}: rows came twice");
    // The same as a query answers.
    let q = format!(
        "SELECT sum(v), count(v), max(v) FROM m WHERE time >= {from} AND time <= {} GROUP BY time(1s), host fill(none)",
        now() + SECOND
    );
    let found = server.query("d", &q);
    let mut asked = State::new();
    for series in found["results"][0]["series"].as_array().expect("series") {
        let host = series["tags"]["host"].as_str().expect("a tag").to_string();
        for row in series["values"].as_array().expect("rows") {
            let row: Vec<i64> = row
                .as_array()
                .expect("a row")
                .iter()
                .filter_map(Value::as_i64)
                .collect();
            asked.insert((host.clone(), row[0]), row[1..].to_vec());
        }
    }
    assert_eq!(client.state, asked, "seed {seed}");
    assert!(kinds.contains_key("update"), "{kinds:?}");
}

#[test]
fn the_state_of_a_client_is_the_answer_at_its_sequence() {
    [1, 2, 3].into_iter().for_each(check);
}

#[test]
fn a_tail_has_every_point_once_across_cut_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let subscribe = |live: &mut Live, resume: Option<u64>| {
        let q = "SELECT v FROM m WHERE host = 'a' AND v >= 0";
        let mut message = json!({"type": "subscribe", "id": "t", "db": "d", "q": q});
        if let Some(resume) = resume {
            message["resume"] = resume.into();
        }
        live.send(message);
    };
    let mut live = Live::open(&server);
    subscribe(&mut live, None);
    let mut sequence = live.next()["sequence"].as_u64().expect("a sequence");
    let mut seen = Vec::new();
    let rows = |message: &Value| -> Vec<i64> {
        let series = message["series"].as_array().into_iter().flatten();
        let rows = series.flat_map(|s| s["values"].as_array().into_iter().flatten());
        rows.map(|row| row[1].as_i64().expect("an integer")).collect()
    };
    for i in 0..30 {
        // Two hosts and a value that do not match, in order of time and not.
        let time = now() - i % 7 * SECOND;
        server.write(
            "d",
            &format!(
                "m,host=a v={i}i {time}\nm,host=b v={i}i {time}\nm,host=a v=-1i {}",
                time + 1
            ),
        );
        if i % 4 == 0 {
            let message = live.next();
            seen.extend(rows(&message));
            sequence = message["sequence"].as_u64().expect("a sequence");
        }
        if i % 5 == 0 {
            live = Live::open(&server);
            subscribe(&mut live, Some(sequence));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while seen.len() < 30 && Instant::now() < deadline {
        seen.extend(rows(&live.next()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
    // What is not in memory any more is told, and can be had by time.
    server.terminate();
    let server = Server::quiet(folder.path());
    let mut live = Live::open(&server);
    subscribe(&mut live, Some(1));
    let error = live.next();
    assert!(
        error["error"]
            .as_str()
            .is_some_and(|e| e.contains("cannot resume from 1")),
        "{error}"
    );
    live.send(json!({"type": "subscribe", "id": "t", "db": "d", "q": "SELECT v FROM m WHERE host = 'a' AND v >= 0", "resume": 1, "from": 0}));
    let snapshot = live.next();
    assert_eq!(
        (snapshot["type"].as_str(), rows(&snapshot).len()),
        (Some("snapshot"), 30)
    );
}

#[test]
fn curl_follows_events() {
    use std::io::{BufRead, BufReader, Write};
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let mut stream = std::net::TcpStream::connect(&server.http).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let q = "SELECT%20sum(v)%20FROM%20m%20GROUP%20BY%20time(1h)";
    write!(
        stream,
        "GET /live/sse?db=d&q={q} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    .expect("sent");
    let mut lines = BufReader::new(stream)
        .lines()
        .map(|line| line.expect("a line in time"));
    let mut until = |wanted: &str| lines.find(|line| line.contains(wanted)).expect("it comes");
    until("text/event-stream");
    until("event: snapshot");
    server.write("d", &format!("m v=5 {}", now()));
    until("event: update");
    until("id: ");
    assert!(until("data: ").contains(",5]"));
    let (status, body) =
        crate::support::get(&format!("{}?db=d", server.url("/live/sse"))).expect("an answer");
    assert_eq!(
        (status, body.contains("missing required parameter")),
        (400, true),
        "{body}"
    );
}

#[test]
fn the_websockets_client_of_python_resumes() {
    let Some(python) = crate::support::python(&["websockets"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let port = server.http.rsplit(':').next().expect("a port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/websocket_live.py");
    let said = crate::support::run(std::process::Command::new(python).args([script, port]));
    assert!(said.ends_with("ok\n"), "{said}");
}
