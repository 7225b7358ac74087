//! Continuous queries: windows are written once they end, again when late points change them, and after downtime those that
//! ended meanwhile.

use crate::support::{PATIENCE, Server};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_nanos() as i64
}

fn rows(server: &Server, q: &str) -> Value {
    server.query("d", q)["results"][0]["series"][0]["values"].clone()
}

/// Waits until a query answers this.
fn until(server: &Server, q: &str, wanted: &Value) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = rows(server, q);
        if found == *wanted {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{q}: {found} instead of {wanted}\n{}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn windows_are_written_repaired_and_caught_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let create = "CREATE CONTINUOUS QUERY c ON d BEGIN SELECT sum(v) AS total INTO sums FROM m GROUP BY time(1s), host END";
    server.query("d", create);
    // It begins with the window of now, once it has been looked at.
    std::thread::sleep(Duration::from_millis(1500));
    let first = now() / SECOND * SECOND;
    server.write(
        "d",
        &format!(
            "m,host=a v=1 {first}\nm,host=a v=2 {}\nm,host=b v=7 {first}",
            first + 1
        ),
    );
    let all = "SELECT total FROM sums WHERE host = 'a'";
    until(&server, all, &json!([[first, 3]]));
    // Late: into the window that was written, and one from long before the query.
    let old = first - 3600 * SECOND;
    server.write("d", &format!("m,host=a v=10 {}\nm,host=a v=5 {old}", first + 2));
    until(&server, all, &json!([[old, 5], [first, 13]]));
    // Down while a window ends; what was acknowledged in the last moment is late when it comes back.
    let last = now() / SECOND * SECOND;
    server.write(
        "d",
        &format!("m,host=a v=100 {last}\nm,host=a v=20 {}", first + 3),
    );
    server.kill();
    std::thread::sleep(Duration::from_millis(1200));
    let server = Server::quiet(folder.path());
    let wanted = if last == first {
        json!([[old, 5], [first, 133]])
    } else {
        json!([[old, 5], [first, 33], [last, 100]])
    };
    until(&server, all, &wanted);
    // The same after a stop in order; and the record goes with the query.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(folder.path());
    until(&server, all, &wanted);
    server.write("d", &format!("m,host=b v=1 {}", first + 4));
    until(
        &server,
        "SELECT total FROM sums WHERE host = 'b'",
        &json!([[first, 8]]),
    );
    server.query("d", "DROP CONTINUOUS QUERY c ON d");
    std::thread::sleep(Duration::from_millis(1500));
    server.write("d", &format!("m,host=b v=1 {}", first + 5));
    std::thread::sleep(Duration::from_millis(2500));
    until(
        &server,
        "SELECT total FROM sums WHERE host = 'b'",
        &json!([[first, 8]]),
    );
}

#[test]
fn a_query_into_its_own_source_and_a_shorter_every() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let create = "CREATE CONTINUOUS QUERY c ON d RESAMPLE EVERY 1s FOR 2h BEGIN SELECT max(v) AS top INTO m FROM m GROUP BY time(1h) END";
    server.query("d", create);
    let hour = now() / (3600 * SECOND) * 3600 * SECOND;
    server.write("d", &format!("m v=1 {}", hour - 1));
    server.write("d", &format!("m v=2 {}", now()));
    until(
        &server,
        "SELECT top FROM m",
        &json!([[hour - 3600 * SECOND, 1], [hour, 2]]),
    );
    server.write("d", &format!("m v=3 {}", now()));
    until(
        &server,
        "SELECT top FROM m",
        &json!([[hour - 3600 * SECOND, 1], [hour, 3]]),
    );
}

#[test]
fn resample_for_reaches_back_before_the_query() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    // Nothing is written into these windows once the query is there: only FOR can be why they are.
    let minute = now() / (60 * SECOND) * 60 * SECOND;
    let (old, older) = (minute - 2 * 60 * SECOND, minute - 3600 * SECOND);
    server.write("d", &format!("m v=1 {old}\nm v=2 {}\nm v=9 {older}", old + 1));
    let create = "CREATE CONTINUOUS QUERY c ON d RESAMPLE EVERY 1s FOR 10m BEGIN SELECT sum(v) AS total INTO sums FROM m GROUP BY time(1m) fill(none) END";
    server.query("d", create);
    let all = "SELECT total FROM sums";
    until(&server, all, &json!([[old, 3]]));
    // A delete makes no window late, and there is nothing to put in its place; FOR looks again all the same.
    server.query("d", &format!("DELETE FROM m WHERE time = {}", old + 1));
    until(&server, all, &json!([[old, 1]]));
}

#[test]
fn exactly_once_in_effect_under_kill() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::quiet(folder.path());
    server.create("d");
    let create = "CREATE CONTINUOUS QUERY c ON d BEGIN SELECT sum(v) AS total, count(v) AS points INTO sums FROM m GROUP BY time(1s), host fill(none) END";
    server.query("d", create);
    let mut chosen = 7u64;
    let mut random = move |below: u64| {
        chosen = chosen.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
        (chosen >> 33) % below
    };
    for _ in 0..4 {
        let end = Instant::now() + Duration::from_millis(1_800);
        while Instant::now() < end {
            // Some are on time, some late by up to 20 s, some replace what was written before.
            let lines: Vec<String> = (0..20)
                .map(|_| {
                    let late = random(3) * random(20) * SECOND as u64;
                    let time = (now() - late as i64) / 1_000_000 * 1_000_000;
                    format!("m,host=h{} v={} {time}", random(3), random(100))
                })
                .collect();
            server.write("d", &lines.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
        server.kill();
        server = Server::quiet(folder.path());
    }
    let wanted = "SELECT sum(v) AS total, count(v) AS points FROM m GROUP BY time(1s), host fill(none)";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found =
            server.query("d", "SELECT total, points FROM sums GROUP BY host")["results"][0]["series"].clone();
        let wanted = server.query("d", wanted)["results"][0]["series"].clone();
        let values = |series: &Value| -> Vec<Value> {
            let series = series.as_array().cloned().unwrap_or_default();
            series.iter().map(|one| one["values"].clone()).collect()
        };
        let (found, wanted) = (values(&found), values(&wanted));
        if found == wanted && wanted.len() == 3 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?}\ninstead of\n{wanted:?}\n{}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}
