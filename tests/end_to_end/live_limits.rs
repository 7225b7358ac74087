//! What a client of `/live` may not do, and what becomes of one that is slow or gone.

use crate::live::Live;
use crate::support::{PATIENCE, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// A WebSocket handshake by hand, and what the server says to it.
fn shake_hands(server: &Server, origin: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE * 3)).expect("a socket");
    write!(
        stream,
        "GET /live HTTP/1.1\r\nHost: {}\r\n{origin}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.http
    )
    .expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") > 0 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let (_, head) = shake_hands(&server, "Origin: http://elsewhere.example\r\n");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let own = format!("Origin: http://{}\r\n", server.http);
    for origin in ["", &own] {
        let (_, head) = shake_hands(&server, origin);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    }
}

#[test]
fn who_answers_no_ping_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--host-metrics", "off", "--live-ping", "1"]);
    let (mut stream, _) = shake_hands(&server, "");
    let mut said = Vec::new();
    // Until the server closes the connection: it says why.
    stream.read_to_end(&mut said).expect("it ends in time");
    assert!(said.windows(2).any(|two| two == [0x89, 0]), "a ping: {said:?}");
    let said = String::from_utf8_lossy(&said);
    assert!(said.ends_with("no answer to pings"), "{said:?}");
}

#[test]
fn who_answers_pings_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--host-metrics", "off", "--live-ping", "1"]);
    server.create("d");
    let (mut stream, _) = shake_hands(&server, "");
    let mut ping = [0; 2];
    // Many more than the two that may go without an answer.
    for _ in 0..6 {
        stream.read_exact(&mut ping).expect("a ping");
        assert_eq!(ping, [0x89, 0]);
        stream.write_all(&[0x8A, 0x80, 1, 2, 3, 4]).expect("a pong");
    }
    // A ping of the client is answered with what is in it.
    stream
        .write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'])
        .expect("sent");
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(&[0x8A, 2, b'h', b'i']) && stream.read(&mut byte).expect("an answer") > 0 {
        said.push(byte[0]);
    }
    assert!(said.ends_with(b"hi"), "{said:?}");
}

#[test]
fn who_takes_nothing_is_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--host-metrics", "off", "--live-patience", "1"];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let mut slow = Live::open(&server);
    slow.send(json!({"type": "subscribe", "id": "1", "db": "d", "q": "SELECT s FROM m"}));
    assert_eq!(slow.next()["type"], "snapshot");
    // More than the buffers between the two hold.
    let deadline = Instant::now() + PATIENCE * 3;
    while figure(&server, "kymo_live_connections") > 0.0 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.expect("after 1970").as_nanos();
        server.write("d", &format!("m s=\"{}\" {now}", "x".repeat(60_000)));
        assert!(Instant::now() < deadline, "it is still there");
    }
    while figure(&server, "kymo_live_subscriptions") > 0.0 {
        assert!(Instant::now() < deadline, "its subscription is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_hangs_up_on_events_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    // No heartbeat comes meanwhile: one that cannot be delivered would be noticed, too.
    let server = Server::start(folder.path(), &["--host-metrics", "off", "--live-ping", "3600"]);
    server.create("d");
    let mut stream = TcpStream::connect(&server.http).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(
        stream,
        "GET /live/sse?db=d&q=SELECT%20v%20FROM%20m HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    .expect("sent");
    let mut said = String::new();
    let mut byte = [0];
    while !said.contains("snapshot") && stream.read(&mut byte).expect("events") > 0 {
        said.push(char::from(byte[0]));
    }
    assert_eq!(figure(&server, "kymo_live_subscriptions"), 1.0, "{said}");
    drop(stream);
    let deadline = Instant::now() + PATIENCE * 3;
    while figure(&server, "kymo_live_subscriptions") > 0.0 {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_no_websocket_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    for (request, status, wanted) in [
        ("GET /live HTTP/1.1\r\n", 400, "docs/live.md"),
        (
            "GET /elsewhere HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            404,
            "only at /live",
        ),
        (
            "GET /live HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            400,
            "ersion",
        ),
        (
            "GET /live HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n",
            400,
            "key",
        ),
    ] {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        write!(stream, "{request}Host: x\r\nX-Request-Id: mine\r\n\r\n").expect("sent");
        let mut said = Vec::new();
        let mut piece = [0; 1000];
        while !String::from_utf8_lossy(&said).ends_with("}\n") {
            match stream.read(&mut piece).expect("an answer") {
                0 => break,
                n => said.extend_from_slice(&piece[..n]),
            }
        }
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {said}"
        );
        assert!(
            said.contains(wanted) && said.contains("x-request-id: mine"),
            "{request}: {said}"
        );
    }
}

#[test]
fn what_is_asked_has_limits_with_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let mut live = Live::open(&server);
    let mut refused = |message: Value, wanted: &str| {
        live.send(message.clone());
        loop {
            let said = live.next();
            let Some(error) = said["error"].as_str() else {
                continue;
            };
            assert!(error.contains(wanted), "{message}: {error}");
            return;
        }
    };
    let subscribe = |id: &str, q: &str| json!({"type": "subscribe", "id": id, "db": "d", "q": q});
    for (q, wanted) in [
        ("SELECT mean(v) FROM m GROUP BY time(1s) LIMIT 1", "LIMIT"),
        (
            "SELECT cumulative_sum(mean(v)) FROM m GROUP BY time(1s)",
            "cumulative_sum",
        ),
        ("SELECT mean(v) FROM m", "GROUP BY time"),
        ("SELECT m.v, n.v FROM m JOIN n", "not subqueries or joins"),
        ("SELECT v INTO n FROM m", "INTO"),
        ("DROP MEASUREMENT m", "SELECT"),
    ] {
        refused(subscribe("x", q), wanted);
    }
    let mut late = subscribe("x", "SELECT mean(v) FROM m GROUP BY time(1s)");
    late["lateness"] = "2d".into();
    refused(late, "lateness_max");
    refused(json!({"type": "subscribe"}), "docs/live.md");
    refused(
        json!({"type": "subscribe", "id": "x", "db": "no", "q": "SELECT v FROM m"}),
        "database not found",
    );
    for i in 0..100 {
        live.send(subscribe(
            &i.to_string(),
            "SELECT mean(v) FROM m GROUP BY time(1s)",
        ));
    }
    let mut refused = |message: Value, wanted: &str| {
        live.send(message);
        while live.next()["error"]
            .as_str()
            .is_none_or(|error| !error.contains(wanted))
        {}
    };
    refused(
        subscribe("7", "SELECT mean(v) FROM m GROUP BY time(1s)"),
        "there is a subscription 7",
    );
    refused(
        subscribe("more", "SELECT v FROM m"),
        "subscriptions_per_connection_max",
    );
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody() {
    const HOSTS: usize = 400;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let mut slow = Live::open(&server);
    slow.send(
        json!({"type": "subscribe", "id": "1", "db": "d", "lateness": "1d",
        "q": "SELECT last(s) FROM m GROUP BY time(52w), host"}),
    );
    assert_eq!(slow.next()["type"], "snapshot");
    let mut quick = Live::open(&server);
    quick.send(
        json!({"type": "subscribe", "id": "1", "db": "d", "lateness": "1d",
        "q": "SELECT count(s) FROM m GROUP BY time(52w)"}),
    );
    assert_eq!(quick.next()["type"], "snapshot");
    // More than the buffers between the two hold: 8 MB each time.
    let text = |round: usize| format!("{round} {}", "x".repeat(20_000));
    const ROUNDS: usize = 6;
    for round in 0..ROUNDS {
        let lines: Vec<String> = (0..HOSTS)
            .map(|host| format!("m,host=h{host} s=\"{}\"", text(round)))
            .collect();
        server.write("d", &lines.join("\n"));
        // It was pushed to the slow one, which reads nothing; the other one has it.
        wait_pushed(&server, (round + 1) * HOSTS);
        let wanted = json!((round + 1) * HOSTS);
        loop {
            let message = quick.next();
            let rows = message["series"][0]["values"].as_array();
            if rows.is_some_and(|rows| rows.iter().any(|row| row[1] == wanted)) {
                break;
            }
        }
    }
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    let mut lagged = 0;
    let deadline = Instant::now() + PATIENCE;
    let newest = |state: &BTreeMap<String, String>| {
        state.len() == HOSTS && state.values().all(|s| *s == text(ROUNDS - 1))
    };
    while !newest(&state) && Instant::now() < deadline {
        let Some(message) = slow.next_in(Duration::from_secs(10)) else {
            break;
        };
        match message["type"].as_str() {
            Some("lagged") => lagged += message["coalesced"].as_u64().expect("a count"),
            Some("snapshot") => state.clear(),
            _ => {}
        }
        for series in message["series"].as_array().into_iter().flatten() {
            let host = series["tags"]["host"].as_str().expect("a tag").to_string();
            let value = series["values"][0][1].as_str().expect("a text").to_string();
            state.insert(host, value);
        }
    }
    assert!(newest(&state), "{} hosts", state.len());
    assert!(lagged > 0, "it was told");
}

/// One that needs more memory than it may have ends and says why; those beside it go on, and all stay within their budget.
#[test]
fn a_subscription_over_its_bound_ends_alone() {
    const LIVE_BYTES: f64 = 16.0 * 1024.0 * 1024.0;
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [
        "--host-metrics",
        "off",
        "--live-bytes",
        "16MiB",
        "--live-cpu",
        "100",
    ];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let mut live = Live::open(&server);
    for (id, q) in [
        ("small", "SELECT count(v) FROM m GROUP BY time(52w)"),
        ("large", "SELECT last(v) FROM m GROUP BY time(52w), host"),
    ] {
        live.send(json!({"type": "subscribe", "id": id, "db": "d", "lateness": "1d", "q": q}));
        assert_eq!(live.next()["type"], "snapshot");
    }
    const HOSTS: usize = 2_000;
    let mut error = None;
    let mut written = 0;
    let deadline = Instant::now() + PATIENCE * 3;
    while error.is_none() {
        assert!(Instant::now() < deadline, "{written} hosts were too few");
        let lines: Vec<String> = (written..written + HOSTS)
            .map(|host| format!("m,host=a-host-with-a-long-name-{host} v=1"))
            .collect();
        server.write("d", &lines.join("\n"));
        written += HOSTS;
        // The small one has them all: then the large one had its turn, or has it soon.
        loop {
            let message = live.next();
            if message["type"] == "error" {
                error = Some(message);
            } else if message["id"] == "small" && message["series"][0]["values"][0][1] == json!(written) {
                break;
            }
        }
    }
    let error = error.expect("it was told");
    let text = error["error"].as_str().expect("a text");
    assert_eq!(error["id"], "large", "{error}");
    assert!(
        text.contains("the subscription has ended") && text.contains("live_bytes"),
        "{text}"
    );
    // Nobody knows who was first to say so: the figure is looked at once a second.
    while figure(&server, "kymo_live_computations") > 1.0 {
        assert!(Instant::now() < deadline, "it is still there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(figure(&server, "kymo_budget_used{name=\"live_bytes\"}") <= LIVE_BYTES);
    server.write("d", "m,host=another v=1");
    loop {
        let message = live.next();
        assert_eq!(message["id"], "small", "{message}");
        if message["series"][0]["values"][0][1] == json!(written + 1) {
            break;
        }
    }
}

/// Each of these stays within its bounds; what all of them remember together does not.
#[test]
fn what_all_subscriptions_remember_is_bounded() {
    const HOSTS: usize = 1_500;
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--host-metrics", "off", "--live-bytes", "16MiB"];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let lines = (0..HOSTS).map(|host| format!("m,host=a-host-with-a-long-name-{host} v={host}"));
    server.write("d", &lines.collect::<Vec<_>>().join("\n"));
    let mut live = Live::open(&server);
    let (mut there, mut ended) = (BTreeMap::new(), Vec::new());
    // The last point changes each of their answers.
    let columns = [
        "count(v)",
        "sum(v)",
        "mean(v)",
        "min(v)",
        "last(v)",
        "spread(v)",
        "median(v)",
        "sum(v) * 2",
    ];
    for (number, column) in columns.iter().enumerate() {
        let id = number.to_string();
        let q = format!("SELECT {column} FROM m GROUP BY time(52w), host");
        live.send(json!({"type": "subscribe", "id": id, "db": "d", "q": q}));
        // Its snapshot comes, or why there is none; and who must end for it is told.
        let mut answered = false;
        while !answered {
            let message = live.next();
            answered = message["id"] == id && message["more"] != true;
            let of = message["id"].as_str().expect("an id").to_string();
            match message["error"].as_str() {
                Some(error) => {
                    assert!(error.contains("together remember more"), "{error}");
                    assert!(error.contains("live_bytes"), "{error}");
                    there.remove(&of);
                    ended.push(of);
                }
                None => {
                    let rows = message["series"].as_array().map_or(0, Vec::len);
                    *there.entry(of).or_insert(0) += rows;
                }
            }
        }
    }
    assert!(
        !ended.is_empty() && there.len() >= 2,
        "{there:?}, {ended:?} ended"
    );
    assert_eq!(
        there.len() + ended.len(),
        columns.len(),
        "{there:?}, {ended:?} ended"
    );
    assert!(there.values().all(|rows| *rows == HOSTS), "{there:?}");
    // Those that are still there are told what comes.
    server.write("d", "m,host=a-host-with-a-long-name-7 v=-100000");
    while !there.is_empty() {
        let message = live.next();
        assert!(message["error"].is_null(), "{message}");
        there.remove(message["id"].as_str().expect("an id"));
    }
}

fn wait_pushed(server: &Server, rows: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pushed = figure(server, "kymo_live_rows_total");
        if pushed >= rows as f64 {
            return;
        }
        assert!(Instant::now() < deadline, "{pushed} rows were pushed, not {rows}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn figure(server: &Server, name: &str) -> f64 {
    let (_, metrics) = crate::support::get(&server.url("/metrics")).expect("metrics");
    let mut lines = metrics.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.expect("the figure").parse().expect("a number")
}
