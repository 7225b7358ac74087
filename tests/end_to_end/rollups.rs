//! Rollups as users see them: built in the background, answered from, repaired, and exactly once in effect whatever is killed when.

use crate::support::{PATIENCE, Server, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SECOND: i64 = 1_000_000_000;
/// A midnight, long ago: all intervals are over.
const BEGIN: i64 = 1_700_006_400 * SECOND;
const HOURS: i64 = 6;

/// The answer to a query with states (`always`) or without (`off`).
fn ask(server: &Server, rollups: &str, q: &str) -> Value {
    let (status, body) = server.query_text(&[("db", "d"), ("epoch", "ns"), ("rollups", rollups), ("q", q)]);
    assert_eq!(status, 200, "{q}: {body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert!(answer["results"][0]["error"].is_null(), "{q}: {answer}");
    answer["results"][0]["series"].clone()
}

/// Are the answers the same? Sums of floats are not asked for here.
fn compare(server: &Server) {
    let time = format!("time >= {BEGIN} AND time < {}", BEGIN + HOURS * 3600 * SECOND);
    for q in [
        "SELECT count(v), sum(v), min(v), max(v), first(v), last(v) FROM m WHERE TIME GROUP BY time(1h), host",
        "SELECT sum(v), spread(v) FROM m WHERE TIME GROUP BY time(10m) fill(none)",
        "SELECT increase(c) FROM m WHERE TIME GROUP BY time(2h), host",
        "SELECT count(v), sum(c) FROM m",
    ] {
        let q = q.replace("TIME", &time);
        let (with, without) = (ask(server, "always", &q), ask(server, "off", &q));
        assert_eq!(with, without, "{q}\n{}", server.output());
    }
}

/// Waits until nothing waits any more.
fn until_built(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = ask(server, "auto", "SHOW ROLLUPS")[0]["values"][0].clone();
        if shown[3] == json!(0) {
            return;
        }
        assert!(Instant::now() < deadline, "{shown}\n{}", server.output());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn explained(server: &Server) -> String {
    let q = "EXPLAIN ANALYZE SELECT sum(v) FROM m GROUP BY time(1h), host";
    ask(server, "always", q).to_string()
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
        (self.0 >> 33) as i64 % n
    }

    fn lines(&mut self, count: i64) -> String {
        let around = self.below(HOURS * 3600);
        let mut line = || {
            let at = (around + self.below(1800)).min(HOURS * 3600 - 1);
            let (host, v) = (self.below(3), self.below(1000));
            format!(
                "m,host=h{host} v={v}i,c={}i {}\n",
                at * 3 % 7_000,
                BEGIN + at * SECOND
            )
        };
        (0..count).map(|_| line()).collect()
    }
}

#[test]
fn exactly_once_in_effect_under_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--host-metrics", "off", "--head-bytes", "1MiB"];
    let mut server = Server::start(folder.path(), &flags);
    let mut dice = Dice(3);
    server.create("d");
    (0..20).for_each(|_| server.write("d", &dice.lines(1_000)));
    server.query("d", "CREATE ROLLUP r ON d FROM m EVERY 1m, 1h");
    for round in 0..5 {
        let end = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < end {
            // Late and overwritten points all the time; a delete now and then; what is asked meanwhile is right.
            server.write("d", &dice.lines(50));
            if dice.below(10) == 0 {
                let from = BEGIN + dice.below(HOURS * 3600) * SECOND;
                let delete = format!(
                    "DELETE FROM m WHERE host = 'h1' AND time >= {from} AND time < {}",
                    from + 600 * SECOND
                );
                server.query("d", &delete);
            }
            compare(&server);
            // Left alone for some time, so that states are made.
            std::thread::sleep(Duration::from_millis(if round % 2 == 0 { 50 } else { 1_200 }));
        }
        if round == 3 {
            assert_eq!(server.terminate(), Some(0));
        } else {
            server.kill();
        }
        server = Server::start(folder.path(), &flags);
        compare(&server);
    }
    until_built(&server);
    compare(&server);
    assert!(
        explained(&server).contains("rollup r, 6 intervals of 1h"),
        "{}",
        explained(&server)
    );
    // In the middle of making what a rollup of another length needs.
    server.query("d", "CREATE ROLLUP s ON d EVERY 10s");
    std::thread::sleep(Duration::from_millis(4_200));
    server.kill();
    let server = Server::start(folder.path(), &flags);
    compare(&server);
    until_built(&server);
    compare(&server);
}

/// By itself the planner reads states where the answer is the same, or where an approximate one was asked for; elsewhere points.
#[test]
fn what_is_exact_or_may_be_near_is_answered_from_states() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--host-metrics", "off"]);
    server.create("d");
    let mut lines = String::new();
    for at in 0..4 * 3600 {
        let (host, v) = (at % 2, at * 7_919 % 1_000);
        lines.push_str(&format!(
            "m,host=h{host} v={v}i,c={at}i {}\n",
            BEGIN + at * SECOND
        ));
    }
    server.write("d", &lines);
    server.query("d", "CREATE ROLLUP r ON d FROM m EVERY 1h");
    until_built(&server);
    let time = format!("time >= {BEGIN} AND time < {}", BEGIN + 4 * 3600 * SECOND);
    for (select, condition, group, from_states) in [
        (
            "count(v), sum(v), mean(v), min(v), max(v), first(v), last(v), spread(v)",
            "",
            "time(1h), host",
            true,
        ),
        ("increase(c)", "AND host = 'h1'", "time(2h)", true),
        ("derivative(mean(v), 1h)", "", "time(1h)", true),
        ("approx_percentile(v, 90)", "", "time(2h), host", true),
        ("percentile(v, 90)", "", "time(2h), host", false),
        ("median(v)", "", "time(1h)", false),
        ("mean(v), median(v)", "", "time(1h)", false),
        ("stddev(v)", "", "time(1h)", false),
        ("count(distinct(v))", "", "time(1h)", false),
        ("sum(v)", "AND v > 10", "time(1h)", false),
        ("sum(v)", "", "time(90m)", false),
        ("sum(v)", "", "time(1h, over 2h)", false),
    ] {
        let q = format!("SELECT {select} FROM m WHERE {time} {condition} GROUP BY {group}");
        let plan = ask(&server, "auto", &format!("EXPLAIN {q}")).to_string();
        assert_eq!(plan.contains("rollup r, "), from_states, "{q}: {plan}");
        if !select.starts_with("approx") {
            assert_eq!(ask(&server, "auto", &q), ask(&server, "off", &q), "{q}");
        }
    }
    // Late data: what it touches is read as points at once.
    server.write("d", &format!("m,host=h0 v=77777i {}", BEGIN + 1));
    let q = format!("SELECT max(v) FROM m WHERE {time} GROUP BY time(1h), host");
    let answer = ask(&server, "auto", &q);
    assert_eq!(answer[0]["values"][0][1], json!(77_777), "{answer}");
    assert_eq!(answer, ask(&server, "off", &q));
}

fn kymo(command: &str, folders: &[(&str, &Path)]) {
    let mut program = Command::new(crate::support::KYMO);
    program.arg(command);
    for (flag, folder) in folders {
        program.arg(flag).arg(folder);
    }
    run(&mut program);
}

#[test]
fn a_backup_has_them_and_drop_removes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let [live, copy, again] = ["live", "copy", "again"].map(|name| folder.path().join(name));
    let server = Server::quiet(&live);
    let mut dice = Dice(5);
    server.create("d");
    (0..10).for_each(|_| server.write("d", &dice.lines(1_000)));
    for (wrong, why) in [
        ("CREATE ROLLUP r ON d EVERY 1s", "between 10s and"),
        (
            "CREATE ROLLUP r ON d EVERY 10s, 20s, 30s, 40s, 50s",
            "rollup_levels_max 4",
        ),
        ("CREATE ROLLUP r ON nowhere EVERY 1h", "database not found"),
        ("CREATE ROLLUP \"a/b\" ON d EVERY 1h", "invalid name"),
    ] {
        let answer = server.query("d", wrong).to_string();
        assert!(answer.contains(why), "{wrong}: {answer}");
    }
    server.query("d", "CREATE ROLLUP r ON d EVERY 1h");
    let same = server.query("d", "CREATE ROLLUP r ON d EVERY 1h");
    assert!(same["results"][0]["error"].is_null(), "{same}");
    let other = server.query("d", "CREATE ROLLUP r ON d EVERY 2h");
    assert_eq!(other["results"][0]["error"], "rollup already exists");
    until_built(&server);
    compare(&server);
    kymo("backup", &[("--data-dir", &live), ("--to", &copy)]);
    server.kill();
    kymo("restore", &[("--from", &copy), ("--data-dir", &again)]);
    kymo("verify", &[("--data-dir", &again)]);
    let server = Server::quiet(&again);
    until_built(&server);
    assert!(
        explained(&server).contains("rollup r, 6 intervals of 1h"),
        "{}",
        explained(&server)
    );
    compare(&server);
    // Nothing of it can be written or read by name.
    let (status, _) = crate::support::post(&server.url("/write?db=d&rp=%01rollup%20r%20of%201"), b"x v=1")
        .expect("an answer");
    assert_eq!(status, 404);
    server.query("d", "DROP ROLLUP r ON d");
    assert!(ask(&server, "auto", "SHOW ROLLUPS")[0]["values"].is_null());
    assert!(!explained(&server).contains("rollup r"));
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&again);
    assert!(!explained(&server).contains("rollup r"));
    compare(&server);
}
