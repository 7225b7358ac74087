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
