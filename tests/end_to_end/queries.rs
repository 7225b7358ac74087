//! Queries under way: listed, killed, given up by their clients, timed out, queued, refused, and over their memory.

use crate::support::{PATIENCE, Server, form, post};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Rows of `m`: with a text each, so that an answer with all of them fits into no socket's buffer.
const ROWS: usize = 40_000;

fn server(flags: &[&str]) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [&["--host-metrics", "off"], flags].concat();
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let text = "x".repeat(400);
    for rows in (0..ROWS).collect::<Vec<_>>().chunks(10_000) {
        let line = |i: &usize| format!("m,host=h{} v={i}i,s=\"{text}\" {i}000000000\n", i % 10);
        let lines: String = rows.iter().map(line).collect();
        let (status, body) = post(&server.url("/write?db=d"), lines.as_bytes()).expect("an answer");
        assert_eq!((status, body.as_str()), (204, ""));
    }
    (folder, server)
}

/// Sends a query and reads nothing.
fn send(server: &Server, q: &str) -> TcpStream {
    send_with(server, q, "true")
}

fn send_with(server: &Server, q: &str, chunked: &str) -> TcpStream {
    send_with_header(server, q, chunked, "")
}

fn send_with_header(server: &Server, q: &str, chunked: &str, header: &str) -> TcpStream {
    // A small buffer, or the system would take the whole answer in.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 << 10).expect("a size");
    let address: SocketAddr = server.http.parse().expect("an address");
    socket.connect(&address.into()).expect("it listens");
    let mut stream = TcpStream::from(socket);
    let parameters = form(&[("db", "d"), ("chunked", chunked), ("q", q)]);
    let request = format!("GET /query?{parameters} HTTP/1.1\r\nHost: kymo\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    stream
}

/// A query that is under way as long as nobody reads its answer.
fn stalled(server: &Server) -> TcpStream {
    let mut stream = send(server, STALLED);
    let mut first = [0; 4];
    stream.read_exact(&mut first).expect("the answer begins");
    stream
}

const STALLED: &str = "SELECT * FROM m";

/// One after the other these take longer than any test waits.
fn endless() -> String {
    let one = "SELECT mean(v), max(v) FROM m WHERE time >= 0 AND time < 4000000s GROUP BY time(1s) fill(0) LIMIT 1 OFFSET 3999998";
    vec![one; 100].join(";")
}

/// SHOW QUERIES but itself: number, text, status.
fn listed(server: &Server) -> Vec<(u64, String, String)> {
    let rows = server.rows("", "SHOW QUERIES");
    let text = |v: &Value| v.as_str().expect("a text").to_string();
    let all = rows
        .iter()
        .map(|row| (row[0].as_u64().expect("a number"), text(&row[1]), text(&row[4])));
    all.filter(|(_, q, _)| q != "SHOW QUERIES").collect()
}

/// Waits until what is listed is so. A query that was answered may be listed a moment longer.
fn wait(
    server: &Server,
    what: &str,
    done: impl Fn(&[(u64, String, String)]) -> bool,
) -> Vec<(u64, String, String)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = listed(server);
        if done(&list) {
            return list;
        }
        assert!(Instant::now() < deadline, "{what}: {list:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The rest of an answer; it must not look whole: it says why it ends, or it is cut off.
fn cut_off(mut stream: TcpStream, why: &str) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let says = String::from_utf8_lossy(&rest).contains(why);
    assert!(
        says || !rest.ends_with(b"0\r\n\r\n"),
        "half an answer looks whole"
    );
}

#[test]
fn queries_are_listed_and_killed_by_number() {
    let (_folder, server) = server(&[]);
    let stream = stalled(&server);
    let list = wait(&server, "nothing else runs", |list| list.len() == 1);
    let (id, text, status) = &list[0];
    assert_eq!((text.as_str(), status.as_str()), (STALLED, "running"));
    for (q, error) in [
        (format!("KILL QUERY {}", id + 1000), "no such query id"),
        (format!("KILL QUERY {id} ON \"elsewhere\""), "knows no others"),
    ] {
        let answer = server.query("", &q);
        let said = answer["results"][0]["error"]
            .as_str()
            .unwrap_or_default()
            .to_string();
        assert!(said.contains(error), "{q}: {answer}");
    }
    let left = wait(&server, "it goes on, alone", |list| list.len() == 1);
    assert_eq!(left[0].0, *id);
    server.query("", &format!("KILL QUERY {id} ON localhost"));
    wait(&server, "killed, it is gone", <[_]>::is_empty);
    cut_off(stream, "query interrupted");
    // One that computes ends, too, and says why.
    let mut stream = send(&server, &endless());
    let list = wait(&server, "it runs", |list| list.len() == 1);
    server.query("", &format!("KILL QUERY {}", list[0].0));
    wait(&server, "killed, it is gone", <[_]>::is_empty);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut answer = String::new();
    while !answer.contains("query interrupted") {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).expect("it says why");
        assert!(read > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..read]));
    }
}

#[test]
fn explain_tells_what_is_planned_and_what_it_cost() {
    let (_folder, server) = server(&[]);
    let explain = |q: &str, column: &str| -> String {
        let answer = server.query("d", q);
        let series = &answer["results"][0]["series"][0];
        assert_eq!(series["columns"], serde_json::json!([column]), "{answer}");
        let lines = series["values"].as_array().expect("rows").iter();
        lines
            .map(|row| format!("{}\n", row[0].as_str().expect("a text")))
            .collect()
    };
    let holds = |text: &str, all: &[&str]| {
        for part in all {
            assert!(text.contains(part), "{part}\n{text}");
        }
    };
    // All of it in a run, so that there are blocks.
    let deadline = Instant::now() + PATIENCE;
    while !explain("EXPLAIN SELECT max(v) FROM m", "QUERY PLAN").contains("1 run, 0 parts of the head") {
        assert!(Instant::now() < deadline, "it is not sealed");
        std::thread::sleep(Duration::from_millis(100));
    }
    let q = "SELECT sum(v) FROM m WHERE host =~ /h[12]/ AND v > 5 GROUP BY time(1h), host LIMIT 3";
    let plan = explain(&format!("EXPLAIN {q}"), "QUERY PLAN");
    holds(
        &plan,
        &[
            "1. fold m by time(1h), host",
            "functions: sum",
            "measurement m: 2 of 10 series",
            "columns: v",
            "1 partition (1970-01-01T00:00:00Z to 1970-01-01T23:59:59.999999999Z), 1 run, 0 parts of the head",
            "at most 3 rows of a series",
            "blocks may hold wanted rows",
            "passed over by time and series",
        ],
    );
    assert!(!plan.contains("took"), "nothing was run:\n{plan}");
    let analyzed = explain(&format!("EXPLAIN ANALYZE {q}"), "EXPLAIN ANALYZE");
    holds(
        &analyzed,
        &[
            "1. fold m by time(1h), host",
            "took: opening",
            "gave: 2 series, 6 rows",
            "in all: 2 series, 6 rows",
        ],
    );
    assert!(
        !analyzed.contains("read: 0 blocks"),
        "v > 5 is not in statistics:\n{analyzed}"
    );
    // Statistics are enough for these: nothing is read.
    let analyzed = explain("EXPLAIN ANALYZE SELECT sum(v), max(v) FROM m", "EXPLAIN ANALYZE");
    holds(&analyzed, &["read: 0 blocks (0 rows, 0 B)", "of whole blocks"]);
    let nested = explain(
        "EXPLAIN SELECT mean(x) FROM (SELECT max(v) AS x FROM m GROUP BY host)",
        "QUERY PLAN",
    );
    holds(
        &nested,
        &[
            "1. fold m by host",
            "2. fold m",
            "reads what a subquery or join gave",
        ],
    );
}

#[test]
fn a_client_that_hangs_up_ends_its_query() {
    let (_folder, server) = server(&[]);
    // Of an answer that is not chunked nothing has come yet: no write can fail.
    for (q, chunked) in [
        (STALLED.to_string(), "true"),
        (endless(), "true"),
        (endless(), "false"),
    ] {
        let stream = send_with(&server, &q, chunked);
        wait(&server, "it runs", |list| {
            list.len() == 1 && list[0].2 == "running"
        });
        drop(stream);
        wait(&server, "nobody listens, it is gone", <[_]>::is_empty);
    }
}

#[test]
fn the_last_windows_are_what_they_would_be_among_all() {
    let (_folder, server) = server(&[]);
    let (status, _) =
        post(&server.url("/write?db=d"), b"m,host=old v=1i,w=2i 5000000000").expect("an answer");
    assert_eq!(status, 204);
    let rows = |q: &str| server.rows("d", &format!("{q} ORDER BY time DESC LIMIT 2"));
    let from = "FROM m WHERE time >= 0 AND time < 40000s GROUP BY time(1000s)";
    // What has no point in these windows has some in others, so it is 0 here, not nothing.
    let at = |seconds: i64| seconds * 1_000_000_000;
    let want = serde_json::json!([[at(39_000), 1000, 0], [at(38_000), 1000, 0]]);
    assert_eq!(
        Value::Array(rows(&format!("SELECT count(v), count(w) {from}"))),
        want
    );
    let answer = server.query(
        "d",
        &format!("SELECT count(v) {from}, host ORDER BY time DESC LIMIT 1"),
    );
    let series = answer["results"][0]["series"].as_array().expect("series");
    assert_eq!(series.len(), 11, "{answer}");
    let old = series
        .iter()
        .find(|series| series["tags"]["host"] == "old")
        .expect("it is old, but there");
    assert_eq!(old["values"], serde_json::json!([[at(39_000), 0]]));
    // Without a lower bound a group begins with its first point.
    let from = "FROM m WHERE host = 'old' AND time < 40000s GROUP BY time(10000s)";
    let all = server.rows("d", &format!("SELECT count(v) {from} ORDER BY time DESC LIMIT 9"));
    assert_eq!(all.len(), 4);
}

#[test]
fn a_query_ends_when_its_time_is_over_or_the_server_stops() {
    let (folder, first) = server(&["--query-timeout", "1"]);
    let (status, body) = first.query_text(&[("db", "d"), ("q", &endless())]);
    assert!(
        status == 200 && body.contains("query_timeout 1s"),
        "{}",
        &body[..300.min(body.len())]
    );
    let stream = stalled(&first);
    wait(&first, "timed out, it is gone", <[_]>::is_empty);
    cut_off(stream, "query_timeout");
    assert_eq!(first.terminate(), Some(0));
    let second = Server::quiet(folder.path());
    let streams = [stalled(&second), send(&second, &endless())];
    wait(&second, "both run", |list| list.len() == 2);
    // Within the patience of `terminate`, in which the endless one would not end.
    assert_eq!(second.terminate(), Some(0));
    drop(streams);
}

#[test]
fn queries_beyond_the_limit_wait_and_can_be_killed_while_they_do() {
    let (_folder, server) = server(&["--queries", "1"]);
    let stream = stalled(&server);
    let waiting = [
        send(&server, "SELECT count(v) FROM m"),
        send(&server, "SELECT max(v) FROM m"),
    ];
    wait(&server, "two wait", |list| {
        list.iter().filter(|(_, _, status)| status == "queued").count() == 2
    });
    let (id, ..) = listed(&server)
        .into_iter()
        .find(|(_, q, _)| q.contains("max"))
        .expect("it waits");
    server.query("", &format!("KILL QUERY {id}"));
    wait(&server, "one waits", |list| list.len() == 2);
    drop(stream);
    wait(&server, "all are done", <[_]>::is_empty);
    let mut answers = waiting.map(|mut stream| {
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .expect("a timeout");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).to_string()
    });
    answers.sort_by_key(|a| a.contains("503"));
    assert!(
        answers[0].contains(&format!("[\"1970-01-01T00:00:00Z\",{ROWS}]")),
        "{}",
        answers[0]
    );
    assert!(answers[1].contains("query interrupted"), "{}", answers[1]);
}

#[test]
fn rows_stream_without_being_held_as_a_whole() {
    // All rows take more than twice this, and as much again to be put in order.
    let (_folder, server) = server(&["--query-bytes", "512K"]);
    for (order, first, last) in [("", 0, ROWS - 1), (" ORDER BY time DESC", ROWS - 1, 0)] {
        let rows = server.rows("d", &format!("SELECT v, host FROM m{order}"));
        assert_eq!(rows.len(), ROWS);
        let v = |row: usize| rows[row][1].as_u64().expect("a number") as usize;
        assert_eq!((v(0), v(ROWS - 1)), (first, last));
        assert!(
            (1..ROWS).all(|row| v(row).abs_diff(v(row - 1)) == 1),
            "in order{order}"
        );
        let some = server.rows(
            "d",
            &format!("SELECT v, host FROM m{order} LIMIT 20000 OFFSET 5000"),
        );
        assert_eq!(some[..], rows[5000..25_000], "{order}");
    }
}

#[test]
fn rows_that_several_threads_put_in_order_are_in_order() {
    let (_folder, server) = server(&[]);
    // So many columns of so many rows are worth a second thread, where there is one.
    let sums = (1..13).map(|i| format!("v + {i}, "));
    let columns = format!("v, {}host", sums.collect::<String>());
    for (order, first, last) in [("", 0, ROWS - 1), (" ORDER BY time DESC", ROWS - 1, 0)] {
        let rows = server.rows("d", &format!("SELECT {columns} FROM m{order}"));
        let v = |row: usize| rows[row][1].as_u64().expect("a number") as usize;
        assert_eq!((rows.len(), v(0), v(ROWS - 1)), (ROWS, first, last));
        for (row, next) in (1..ROWS).enumerate() {
            assert_eq!(v(row).abs_diff(v(next)), 1, "row {row}{order}");
            assert_eq!(rows[row][14], format!("h{}", v(row) % 10), "row {row}{order}");
        }
    }
}

#[test]
fn rows_of_groups_stream_without_being_held_as_a_whole() {
    // All rows take several times this; those of one group more than a slice may.
    let (_folder, server) = server(&["--query-bytes", "512K"]);
    for order in ["", " ORDER BY time DESC"] {
        for chunked in ["false", "true"] {
            let q = format!("SELECT v, host FROM m GROUP BY host{order}");
            let parameters = [("db", "d"), ("epoch", "ns"), ("q", &q), ("chunked", chunked)];
            let (status, body) = server.query_text(&parameters);
            assert_eq!(status, 200);
            let mut found: Vec<(String, Vec<u64>)> = Vec::new();
            for line in body.lines() {
                let document: Value = serde_json::from_str(line).expect("a document");
                assert!(!line.contains("\"error\""), "{line}");
                for series in document["results"][0]["series"].as_array().into_iter().flatten() {
                    let host = series["tags"]["host"].as_str().expect("a host").to_string();
                    let rows = series["values"].as_array().expect("rows");
                    let values = rows.iter().map(|row| row[1].as_u64().expect("a number"));
                    match found.last_mut() {
                        Some((last, all)) if *last == host => all.extend(values),
                        _ => found.push((host, values.collect())),
                    }
                }
            }
            let mut want: Vec<(String, Vec<u64>)> = (0..10)
                .map(|host| (format!("h{host}"), (host..ROWS as u64).step_by(10).collect()))
                .collect();
            if !order.is_empty() {
                want.reverse();
                want.iter_mut().for_each(|(_, values)| values.reverse());
            }
            assert!(found == want, "{q} chunked={chunked}");
        }
    }
    // Of so few rows only the wanted ones are kept, and they are too many still.
    for (q, first, count) in [
        ("SELECT v FROM m GROUP BY host LIMIT 3500 OFFSET 700", 7000, 3300),
        ("SELECT v, host FROM m GROUP BY host LIMIT 3000", 0, 3000),
        (
            "SELECT v, host FROM m GROUP BY host ORDER BY time DESC LIMIT 3000",
            39_990,
            3000,
        ),
    ] {
        let limited = server.query("d", q);
        let series = limited["results"][0]["series"].as_array().expect(q);
        assert_eq!(series.len(), 10, "{q}");
        for series in series {
            let host = series["tags"]["host"].as_str().expect("a host");
            let host: u64 = host[1..].parse().expect("a number");
            let rows = series["values"].as_array().expect("rows");
            assert_eq!(
                (rows.len(), rows[0][1].as_u64()),
                (count, Some(host + first)),
                "{q}"
            );
        }
    }
}

/// The whole answer to a query that is sent with these headers.
fn answer_with(server: &Server, parameters: &[(&str, &str)], header: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    let request = format!(
        "GET /query?{} HTTP/1.1\r\nHost: kymo\r\nConnection: close\r\n{header}\r\n",
        form(parameters)
    );
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer_of(&answer)
}

/// The head of an answer, and its body out of the transfer's chunks.
fn answer_of(answer: &[u8]) -> (String, Vec<u8>) {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let mut rest = &answer[end..];
    if !head.contains("transfer-encoding: chunked") {
        return (head, rest.to_vec());
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").expect("a length");
        let length = std::str::from_utf8(&rest[..line]).expect("a length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..length]);
        rest = &chunk[length + 2..];
        if length == 0 {
            return (head, body);
        }
    }
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain);
    read.expect("sound gzip");
    plain
}

#[test]
fn answers_are_compressed_when_that_is_asked_for() {
    let (_folder, server) = server(&[]);
    for q in ["SELECT * FROM m", "SELECT count(v) FROM m", "SELECT nothing FROM"] {
        for chunked in ["false", "true"] {
            let parameters = [("db", "d"), ("chunked", chunked), ("q", q)];
            let (head, plain) = answer_with(&server, &parameters, "");
            assert!(!head.contains("content-encoding"), "{head}");
            let (head, packed) = answer_with(&server, &parameters, "Accept-Encoding: gzip\r\n");
            if q == "SELECT * FROM m" {
                assert!(head.contains("content-encoding: gzip"), "{head}");
                assert!(head.contains("vary: accept-encoding"), "{head}");
                assert!(
                    packed.len() < plain.len() / 4,
                    "{} of {}",
                    packed.len(),
                    plain.len()
                );
            }
            let body = match head.contains("content-encoding: gzip") {
                true => unpacked(&packed),
                false => packed,
            };
            assert!(body == plain, "{q} chunked={chunked}");
        }
    }
}

#[test]
fn a_compressed_answer_that_nobody_reads_is_not_gone_on_with() {
    let (_folder, server) = server(&[]);
    // Texts that can hardly be compressed, 28 MB of them.
    let mut state = 1u64;
    let mut text = || {
        let mut text = String::new();
        for _ in 0..44 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{state:016x}"));
        }
        text
    };
    for rows in (0..40_000).collect::<Vec<i64>>().chunks(10_000) {
        let lines: String = rows
            .iter()
            .map(|i| format!("packed s=\"{}\" {i}000000000\n", text()))
            .collect();
        let (status, body) = post(&server.url("/write?db=d"), lines.as_bytes()).expect("an answer");
        assert_eq!((status, body.as_str()), (204, ""));
    }
    let q = "SELECT s FROM packed";
    let mut stream = send_with_header(
        &server,
        q,
        "false",
        "Accept-Encoding: gzip\r\nConnection: close\r\n",
    );
    let mut answer = vec![0; 64];
    stream.read_exact(&mut answer).expect("the answer begins");
    // What waits for the client is bounded, so the query waits, too.
    for _ in 0..30 {
        let running = server.query("d", "SHOW QUERIES").to_string();
        assert!(running.contains(q), "{running}");
        std::thread::sleep(Duration::from_millis(100));
    }
    stream.read_to_end(&mut answer).expect("the rest");
    let (head, body) = answer_of(&answer);
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let (_, plain) = answer_with(&server, &[("db", "d"), ("chunked", "false"), ("q", q)], "");
    assert!(plain.len() > 28_000_000 && unpacked(&body) == plain);
}

#[test]
fn queries_that_need_more_together_than_all_may_have_fail_alone() {
    // One answer is 17 MB of rows, held until it is read; a subquery has them twice for a while.
    let (_folder, server) = server(&["--all-queries-bytes", "40M"]);
    let ask = |q| server.query_text(&[("db", "d"), ("q", q)]);
    let large = "SELECT count(s) FROM (SELECT v, s FROM m)";
    assert!(!ask(large).1.contains("error"), "there is room for one");
    let held = stalled(&server);
    for _ in 0..3 {
        let (head, body) = answer_with(&server, &[("db", "d"), ("q", large)], "");
        let body = String::from_utf8_lossy(&body);
        assert!(
            head.contains(" 503 ") && head.contains("retry-after: 1"),
            "{head}"
        );
        assert!(body.contains("all_queries_bytes 41943040"), "{body}");
        // What was answered of other statements is not thrown away.
        let both = format!("SELECT count(v) FROM m; {large}");
        let (status, body) = server.query_text(&[("db", "d"), ("q", &both)]);
        assert_eq!(status, 200);
        assert!(
            body.contains("all_queries_bytes") && body.contains("\"series\""),
            "{body}"
        );
        assert_eq!(server.rows("d", "SELECT count(v) FROM m")[0][1], ROWS);
    }
    drop(held);
    let patience = Instant::now() + Duration::from_secs(20);
    while ask(large).1.contains("all_queries_bytes") {
        assert!(
            Instant::now() < patience,
            "what a query held is given back when it ends"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_query_over_its_memory_fails_alone_and_gives_it_back() {
    let (_folder, server) = server(&["--query-bytes", "4M"]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
        let line = status
            .lines()
            .find(|l| l.starts_with("VmRSS"))
            .expect("VmRSS")
            .to_string();
        let kib = line.split_whitespace().nth(1).expect("a number").parse::<u64>();
        kib.expect("a number") << 10
    };
    let over = [
        // Held by a subquery, rows in another order, gathered for functions.
        "SELECT mean(x) FROM (SELECT v * 2 AS x, s FROM m)",
        "SELECT v, s FROM m ORDER BY v DESC LIMIT 10",
        "SELECT median(v), percentile(v, 3), mode(v) FROM m GROUP BY time(1s)",
        // Few points and very many empty windows: of functions of one value, and of others.
        "SELECT count(v) FROM m WHERE time < 1000s GROUP BY time(1ms), host",
        "SELECT median(v) FROM m WHERE time < 1000s GROUP BY time(1ms), host",
    ];
    for round in 0..3 {
        for q in over {
            let other = send(&server, "SELECT count(v) FROM m");
            let (status, body) = server.query_text(&[("db", "d"), ("q", q)]);
            let short = &body[..body.len().min(300)];
            assert!(
                status == 200 && body.contains("query_bytes 4194304"),
                "{round} {q}: {short}"
            );
            drop(other);
        }
        let count = server.rows("d", "SELECT count(v) FROM m");
        assert_eq!(count[0][1], ROWS, "the server lives on");
    }
    let mut after = Vec::new();
    for rounds in [10, 40] {
        for _ in 0..rounds {
            for q in over {
                server.query_text(&[("db", "d"), ("q", q)]);
            }
        }
        after.push(resident());
    }
    // If each of 250 queries left behind what it held, this were 800 MB.
    let grown = after[1].saturating_sub(after[0]);
    assert!(grown < 100 << 20, "{grown} bytes more after 250 queries");
}
