//! Every kind of SELECT that can be followed: what its client has is what `/query` answers, after every write: points in order and
//! not, points that replace others, deletes, new series and fields, cut connections, `kill -9`.

use crate::live::Live;
use crate::support::{Random, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
/// Length of the windows of all but a few queries.
const WINDOW: i64 = 20 * SECOND;
/// The windows that are followed begin so long ago.
const HISTORY: i64 = 15 * WINDOW;

/// What is selected, from what, what else must hold, what it is grouped by, and fill.
const QUERIES: &[(&str, &str, &str, &str)] = &[
    (
        "count(v), sum(v), min(v), max(v), first(v), last(v), spread(v)",
        "m",
        "",
        "time(20s), host",
    ),
    ("mean(w)", "m", "", "time(20s)"),
    ("mean(v), last(s), count(s)", "m", "", "time(20s), *"),
    ("median(v), percentile(w, 90)", "m", "", "time(20s), host"),
    ("percentile(v, 50)", "m", "", "time(20s)"),
    ("stddev(v)", "m", "", "time(20s)"),
    ("mode(v)", "m", "", "time(20s), host"),
    ("distinct(v)", "m", "", "time(20s)"),
    ("count(distinct(v))", "m", "", "time(20s)"),
    ("top(v, 2)", "m", "", "time(20s), host"),
    ("max(v), host", "m", "", "time(20s)"),
    ("integral(w, 1s)", "m", "", "time(20s), host"),
    ("sum(v) / count(w) + 1", "m", "", "time(20s), host"),
    ("sum(v * w)", "m", "", "time(20s)"),
    ("sum(v)", "m", "AND w > 4", "time(20s), host"),
    ("sum(v)", "m", "AND host =~ /a|b/ AND v != 3", "time(20s)"),
    ("count(v)", "m", "AND s = 'x'", "time(20s, 7s)"),
    ("mean(*)", "m", "", "time(20s)"),
    ("count(v)", "/m|n/", "", "time(20s)"),
    ("sum(v)", "m", "", "time(1d), host tz('Europe/Berlin')"),
    ("sum(v)", "m", "", "time(20s, over 1m), host"),
    ("percentile(v, 90)", "m", "", "time(20s, over 40s)"),
    ("derivative(mean(v), 20s)", "m", "", "time(20s)"),
    ("moving_average(sum(v), 3)", "m", "", "time(20s), host"),
    ("corr(v, w)", "m", "", "time(20s)"),
    ("increase(w)", "m", "", "time(20s), host"),
    ("approx_percentile(v, 90), approx_median(w)", "m", "", "time(20s)"),
    ("approx_median(v)", "m", "", "time(20s, over 1m), host"),
    ("sum(v)", "m", "", "time(20s), host fill(0)"),
    ("count(v)", "m", "", "time(20s), host fill(previous)"),
    ("mean(v)", "m", "", "time(20s) fill(linear)"),
    (
        "max(top)",
        "(SELECT sum(v) AS top FROM m WHERE v > 1 GROUP BY time(5s), host)",
        "",
        "time(20s)",
    ),
    ("mean(m.v) / mean(n.v)", "m JOIN n", "", "time(20s), host"),
    ("sum(m.v) - sum(n.v)", "m LEFT JOIN n", "", "time(20s)"),
];

/// Rows by name, tags and time; of `distinct` and `top` several at one time.
type State = BTreeMap<(String, String, i64), Vec<Vec<Value>>>;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as i64
}

fn add(state: &mut State, series: &Value) {
    for one in series.as_array().into_iter().flatten() {
        let (name, tags) = (one["name"].to_string(), one["tags"].to_string());
        let mut found: BTreeMap<i64, Vec<Vec<Value>>> = BTreeMap::new();
        for row in one["values"].as_array().expect("rows") {
            let row = row.as_array().expect("a row");
            let rows = found.entry(row[0].as_i64().expect("a time")).or_default();
            // Without any value: there is none (any more).
            if !row[1..].iter().all(Value::is_null) {
                rows.push(row[1..].to_vec());
            }
        }
        for (time, rows) in found {
            let key = (name.clone(), tags.clone(), time);
            match rows.is_empty() {
                true => state.remove(&key),
                false => state.insert(key, rows),
            };
        }
    }
}

/// Equal but for the last digits of what is put together of squares (stddev, corr), which depend on the order of the points.
fn same(a: &State, b: &State) -> bool {
    let near = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => a == b || (x - y).abs() <= 1e-12 * x.abs().max(y.abs()).max(1.0),
        _ => a == b,
    };
    let rows = |a: &Vec<Vec<Value>>, b: &Vec<Vec<Value>>| {
        let values = || a.iter().flatten().zip(b.iter().flatten());
        a.len() == b.len() && values().all(|(a, b)| near(a, b))
    };
    a.len() == b.len()
        && a.iter()
            .all(|(key, row)| b.get(key).is_some_and(|other| rows(row, other)))
}

struct Follower {
    number: usize,
    live: Live,
    state: State,
    sequence: u64,
    in_snapshot: bool,
}

impl Follower {
    fn text(number: usize, bounds: &str) -> String {
        let (select, from, condition, group) = QUERIES[number];
        let condition = match (bounds, condition) {
            ("", "") => String::new(),
            ("", more) => format!("WHERE {}", &more[4..]),
            _ => format!("WHERE {bounds} {condition}"),
        };
        format!("SELECT {select} FROM {from} {condition} GROUP BY {group}")
    }

    fn connect(server: &Server, number: usize, from: i64, resume: Option<u64>) -> Live {
        let mut live = Live::open(server);
        let q = Self::text(number, "");
        let mut message =
            json!({"type": "subscribe", "id": "1", "db": "d", "q": q, "from": from, "lateness": "1d"});
        if let Some(resume) = resume {
            message["resume"] = resume.into();
        }
        live.send(message);
        live
    }

    /// False: nothing comes.
    fn take(&mut self) -> bool {
        let Some(message) = self.live.next_in(Duration::from_secs(8)) else {
            return false;
        };
        let kind = message["type"].as_str().expect("a type");
        assert_ne!(kind, "error", "{}: {message}", Self::text(self.number, ""));
        if kind == "lagged" {
            return true;
        }
        if kind == "snapshot" && !self.in_snapshot {
            self.state.clear();
        }
        self.in_snapshot = kind == "snapshot" && message["more"] == true;
        add(&mut self.state, &message["series"]);
        self.sequence = message["sequence"].as_u64().expect("a sequence");
        true
    }

    /// What `/query` answers now.
    fn asked(&self, server: &Server, from: i64) -> State {
        let (_, _, _, group) = QUERIES[self.number];
        let length = if group.contains("1d") {
            86_400 * SECOND
        } else {
            WINDOW
        };
        let offset = if group.contains("7s") { 7 * SECOND } else { 0 };
        // To the end of the window that it is in now, as the subscription has it. A day begins at another hour in Berlin.
        let start = (now() - offset).div_euclid(length) * length + offset;
        let end = if length > WINDOW {
            now()
        } else {
            start + length - 1
        };
        let from = match length > WINDOW {
            true => from - length,
            false => (from - offset).div_euclid(length) * length + offset,
        };
        let mut q = Self::text(self.number, &format!("time >= {from} AND time <= {end}"));
        if !q.contains("fill(") {
            match q.find(" tz(") {
                Some(at) => q.insert_str(at, " fill(none)"),
                None => q.push_str(" fill(none)"),
            }
        }
        let answer = server.query("d", &q);
        assert!(answer["results"][0].get("error").is_none(), "{q}: {answer}");
        let mut state = State::new();
        add(&mut state, &answer["results"][0]["series"]);
        state
    }

    /// Reads on until it has what `/query` answers.
    fn check(&mut self, server: &Server, from: i64, step: &str) {
        for _ in 0..200 {
            let asked = self.asked(server, from);
            let day = QUERIES[self.number].3.contains("1d");
            let shown: State = match day {
                // Days before the one that is followed were asked for, too.
                true => asked
                    .iter()
                    .filter(|(key, _)| {
                        self.state.keys().all(|k| k.2 <= key.2) || self.state.contains_key(key)
                    })
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
                false => asked,
            };
            if same(&shown, &self.state) {
                return;
            }
            if !self.take() {
                break;
            }
        }
        let q = Self::text(self.number, "");
        panic!(
            "{step}, {q}\nhas   {:?}\nwants {:?}",
            self.state,
            self.asked(server, from)
        );
    }
}

fn follow(seed: u64, steps: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    // What is pushed is compared, not how seldom.
    let flags = ["--host-metrics", "off", "--live-cpu", "100"];
    let mut server = Server::start(folder.path(), &flags);
    server.create("d");
    let mut random = Random(seed);
    let from = (now() - HISTORY).div_euclid(WINDOW) * WINDOW;
    server.write(
        "d",
        &format!("m,host=a v=1i,w=1,s=\"x\" {from}\nn,host=a v=2i {from}"),
    );
    let mut followers: Vec<Follower> = (0..QUERIES.len())
        .map(|number| Follower {
            number,
            live: Follower::connect(&server, number, from, None),
            state: State::new(),
            sequence: 0,
            in_snapshot: false,
        })
        .collect();
    let mut written: Vec<(String, i64)> = Vec::new();
    let mut folds = 0;
    for step in 0..steps {
        let what = format!("seed {seed}, step {step}");
        for follower in &mut followers {
            follower.check(&server, from, &what);
            if random.below(25) == 0 {
                let seen = follower.sequence;
                follower.live = Follower::connect(&server, follower.number, from, Some(seen));
                follower.in_snapshot = false;
            }
        }
        if step % 10 == 7 {
            folds += folds_of(&server);
            server.kill();
            server = Server::start(folder.path(), &flags);
            for follower in &mut followers {
                follower.live = Follower::connect(&server, follower.number, from, Some(follower.sequence));
                follower.in_snapshot = false;
            }
        }
        if step % 13 == 9 && !written.is_empty() {
            let (_, time) = &written[random.below(written.len() as u64) as usize];
            server.query(
                "d",
                &format!("DELETE FROM m WHERE time >= {time} AND time <= {}", time + SECOND),
            );
            continue;
        }
        let mut lines = String::new();
        for _ in 0..1 + random.below(6) {
            let series = match random.below(8) {
                0 => format!("m,host=new{}", random.below(4)),
                1 => format!("n,host={}", ["a", "b"][random.below(2) as usize]),
                2 => "m,host=b,rack=r".to_string(),
                _ => format!("m,host={}", ["a", "b", "c"][random.below(3) as usize]),
            };
            let (series, time) = match random.below(5) {
                // The same point again, which it replaces.
                0 if !written.is_empty() => written[random.below(written.len() as u64) as usize].clone(),
                // Late.
                1 => (
                    series,
                    now() - random.below(HISTORY as u64 - WINDOW as u64) as i64,
                ),
                _ => (series, now()),
            };
            let mut fields = vec![format!("v={}i", random.below(9))];
            if random.below(3) > 0 {
                fields.push(format!("w={}", random.below(40) as f64 / 4.0));
            }
            if random.below(3) == 0 {
                fields.push(format!("s=\"{}\"", ["x", "y"][random.below(2) as usize]));
            }
            if step == 12 {
                fields.push("later=1".to_string());
            }
            lines.push_str(&format!("{series} {} {time}\n", fields.join(",")));
            written.push((series, time));
        }
        server.write("d", &lines);
    }
    for follower in &mut followers {
        follower.check(&server, from, &format!("seed {seed}, in the end"));
    }
    // Windows were folded, not only evaluated.
    folds += folds_of(&server);
    assert!(folds > 0);
}

fn folds_of(server: &Server) -> u64 {
    let (_, metrics) = crate::support::get(&server.url("/metrics")).expect("metrics");
    let mut lines = metrics.lines();
    let folds = lines.find_map(|line| line.strip_prefix("kymo_live_folds_total "));
    folds.expect("the figure").parse().expect("a number")
}

#[test]
fn every_kind_of_select_is_followed() {
    follow(11, 20);
}
