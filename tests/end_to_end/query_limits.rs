//! Limits of queries that have a name: each refusal says it, everything below it is answered, and the server goes on.

use crate::support::{PATIENCE, Server, form};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn start(flags: &[&str], lines: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [&["--host-metrics", "off"], flags].concat();
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    server.write("d", lines);
    (folder, server)
}

/// What a statement was refused with; nothing, if it was answered.
fn refusal(server: &Server, q: &str) -> String {
    let answer = server.query("d", q);
    let error = answer["results"][0]["error"].as_str().unwrap_or_default();
    error.to_string()
}

/// So many series of five points.
fn lines(hosts: usize) -> String {
    let line = |i: usize| format!("m,host=h{:02} v={i} {}000000000\n", i % hosts, i / hosts * 100);
    (0..hosts * 5).map(line).collect()
}

#[test]
fn a_result_has_so_many_series_and_no_more() {
    let (_folder, server) = start(&["--query-groups", "20"], &lines(21));
    for q in [
        "SELECT v FROM m GROUP BY host",
        "SELECT mean(v) FROM m GROUP BY host",
        "SELECT max(x) FROM (SELECT v AS x FROM m GROUP BY host) GROUP BY host",
        "SELECT percentile(v, 50) FROM m WHERE time >= 0 AND time < 500s GROUP BY time(100s), host",
    ] {
        let said = refusal(&server, q);
        assert!(said.contains("query_groups_max 20"), "{q}: {said}");
        let but_one = match q.contains("WHERE") {
            true => q.replace("WHERE", "WHERE host != 'h20' AND"),
            false => q.replace(" FROM m", " FROM m WHERE host != 'h20'"),
        };
        let answer = server.query("d", &but_one);
        let series = answer["results"][0]["series"].as_array();
        assert_eq!(series.map(Vec::len), Some(20), "{but_one}: {answer}");
    }
    // As many series as there are may be read.
    assert_eq!(server.rows("d", "SELECT count(v) FROM m")[0][1], 105);
}

#[test]
fn windows_times_groups_are_so_many_and_no_more() {
    let (_folder, server) = start(&["--query-buckets", "100"], &lines(10));
    // Ten groups of ten windows of 50 s in 500 s, of which every second has a point.
    for (group, fits, too_short) in [
        ("", "5s", "4s"),
        (", host", "50s", "49s"),
        (", host fill(previous)", "50s", "49s"),
        (", host fill(0)", "50s", "49s"),
    ] {
        for function in ["mean(v)", "count(v)", "percentile(v, 50)"] {
            let q = |window: &str| {
                let time = "time >= 0 AND time < 500s";
                format!("SELECT {function} FROM m WHERE {time} GROUP BY time({window}){group}")
            };
            let said = refusal(&server, &q(too_short));
            assert!(said.contains("query_buckets_max 100"), "{}: {said}", q(too_short));
            assert_eq!(refusal(&server, &q(fits)), "", "{}", q(fits));
        }
    }
    assert_eq!(refusal(&server, "SELECT v FROM m"), "");
}

/// A query is first tried within the limits of a small one; what these are must not show.
#[test]
fn what_is_not_small_is_answered_all_the_same() {
    // More series than a small query may have, and than a page of the index holds.
    let hosts = 3000;
    let line = |i: usize| format!("m,host=h{} v={i} {}000000000\n", i % hosts, i / hosts * 100);
    let (_folder, server) = start(&[], &(0..hosts * 5).map(line).collect::<String>());
    let answer = server.query("d", "SELECT max(v) FROM m GROUP BY host");
    let series = answer["results"][0]["series"].as_array().expect("series");
    assert_eq!(series.len(), hosts);
    for series in series {
        let host = series["tags"]["host"].as_str().expect("a host");
        let host: usize = host[1..].parse().expect("a number");
        assert_eq!(
            series["values"],
            serde_json::json!([[400_000_000_000i64, host + 4 * hosts]])
        );
    }
    // More windows than a small query may have, in a short answer.
    let windows = "time >= 0 AND time < 20000s GROUP BY time(1s) fill(0) LIMIT 1 OFFSET 400";
    let rows = server.rows("d", &format!("SELECT count(v) FROM m WHERE {windows}"));
    assert_eq!(rows, [serde_json::json!([400_000_000_000i64, hosts])]);
    // An error is the error, too.
    let said = refusal(&server, "SELECT v FROM m WHERE time > 'x'");
    assert!(said.contains("invalid time literal"), "{said}");
}

/// Sends a query and reads nothing yet.
fn send(server: &Server, q: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    let parameters = form(&[("db", "d"), ("epoch", "ns"), ("q", q)]);
    let request = format!("GET /query?{parameters} HTTP/1.1\r\nHost: kymo\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Queries whose status is so.
fn count(server: &Server, status: &str) -> usize {
    let rows = server.rows("", "SHOW QUERIES");
    rows.iter().filter(|row| row[4] == status).count()
}

fn wait(server: &Server, status: &str, expected: usize) {
    let deadline = Instant::now() + PATIENCE;
    while count(server, status) != expected {
        assert!(Instant::now() < deadline, "{expected} {status}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn so_many_queries_wait_and_others_are_refused() {
    let (_folder, server) = start(&["--queries", "1", "--queries-waiting", "2"], &lines(10));
    // One after the other these take longer than any test waits.
    let one = "SELECT mean(v), max(v) FROM m WHERE time >= 0 AND time < 4000000s GROUP BY time(1s) fill(0) LIMIT 1 OFFSET 3999998";
    let busy = send(&server, &vec![one; 100].join(";"));
    // Beside it only SHOW QUERIES itself runs.
    wait(&server, "running", 2);
    let waiting = [(); 2].map(|()| send(&server, "SELECT count(v) FROM m"));
    wait(&server, "queued", 2);
    let mut refused = String::new();
    let read = send(&server, "SELECT count(v) FROM m").read_to_string(&mut refused);
    assert!(
        read.is_ok() && refused.starts_with("HTTP/1.1 503 "),
        "{read:?} {refused}"
    );
    assert!(refused.contains("queries_waiting_max 2"), "{refused}");
    assert!(refused.to_lowercase().contains("retry-after:"), "{refused}");
    assert_eq!(count(&server, "queued"), 2, "what is refused does not wait");
    // Those that wait are answered once the other has ended.
    drop(busy);
    for mut stream in waiting {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        assert!(read.is_ok() && answer.contains("[0,50]"), "{read:?} {answer}");
    }
}
