//! Formats over plain sockets.

use crate::support::{KYMO, Server, free_address, get};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long anything may take that must happen: the machine may be slow and busy.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn lines_over_tcp_are_framed_across_packets() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(
        folder.path(),
        &["--host-metrics", "off", "--line-tcp-database", "lines"],
    );
    let mut socket = TcpStream::connect(&server.line_tcp).expect("it listens");
    socket.set_nodelay(true).expect("a socket");
    for piece in ["m,t=a f=1 1\nm,t", "=a f=2 2\nbroken\nm,t=a f=", "3 3"] {
        socket.write_all(piece.as_bytes()).expect("it reads");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(socket); // the last line has no line end: the end of the stream ends it
    let rows = server.wait_rows("lines", "SELECT f FROM m", |rows| rows.len() == 3);
    assert_eq!(rows, [json!([1, 1]), json!([2, 2]), json!([3, 3])]);
}

#[test]
fn lines_over_udp_are_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(
        folder.path(),
        &["--host-metrics", "off", "--line-udp-database", "lines"],
    );
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for i in 0..100 {
        let datagram = format!("m f={i}i {i}\nm g={i} {i}");
        socket
            .send_to(datagram.as_bytes(), &server.line_udp)
            .expect("sent");
    }
    let q = "SELECT count(f), sum(f), count(g) FROM m";
    let rows = server.wait_rows("lines", q, |rows| {
        rows.first().is_some_and(|r| r[1] == 100 && r[3] == 100)
    });
    assert_eq!(rows, [json!([0, 100, 4950, 100])]);
}

#[test]
fn statsd_over_tcp_and_udp_is_flushed_at_shutdown() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let mut tcp = TcpStream::connect(&server.statsd).expect("it listens");
    tcp.write_all(b"hits:1|c\nhits:2|c|@0.5\nlatency,host=a:10|ms\nlat")
        .expect("it reads");
    tcp.write_all(b"ency,host=a:30|ms\n").expect("it reads");
    drop(tcp);
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    udp.send_to(
        b"hits:5|c|#env:prod\nusers:a|s\nusers:b|s\nusers:a|s\nload:3|g\nload:+2|g",
        &server.statsd,
    )
    .expect("sent");
    std::thread::sleep(Duration::from_millis(500));
    let data = server.data.clone();
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    let one = |q: &str| server.rows("statsd", q).first().map(|row| row[1].clone());
    assert_eq!(one("SELECT sum(value) FROM hits WHERE env = ''"), Some(json!(5)));
    assert_eq!(
        one("SELECT sum(value) FROM hits WHERE env = 'prod'"),
        Some(json!(5))
    );
    assert_eq!(one("SELECT mean FROM latency WHERE host = 'a'"), Some(json!(20)));
    assert_eq!(one("SELECT value FROM \"users\""), Some(json!(2)));
    assert_eq!(one("SELECT value FROM load"), Some(json!(5)));
}

/// Sockets that the kernel has for a UDP address.
fn bound_to(address: &str) -> usize {
    let port: u16 = address
        .rsplit(':')
        .next()
        .expect("a port")
        .parse()
        .expect("a number");
    let wanted = format!("0100007F:{port:04X}");
    let all = std::fs::read_to_string("/proc/net/udp").expect("Linux");
    let own = |line: &&str| line.split_ascii_whitespace().nth(1) == Some(&wanted);
    all.lines().filter(own).count()
}

#[test]
fn quoted_newlines_of_csv_come_through_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    let tcp = free_address();
    let listen = format!("csv+tcp://{tcp}?database=own&measurement=m&tag_columns=host&delimiter=;&quote='");
    let server = Server::start(
        &folder.path().join("data"),
        &["--host-metrics", "off", "--listen", &listen],
    );
    let mut sender = TcpStream::connect(&tcp).expect("it listens");
    let table = "host;note;time\n'a\nb';'one\n\n''two''';1\nc;5' long;2\n'd\n'; e ;3\n";
    // Wherever a packet ends.
    for part in table.as_bytes().chunks(3) {
        sender.write_all(part).expect("it reads");
        sender.flush().expect("sent");
    }
    let rows = server.wait_rows("own", "SELECT host, note FROM m", |rows| rows.len() == 3);
    assert_eq!(
        rows,
        [
            json!([1, "a\nb", "one\n\n'two'"]),
            json!([2, "c", "5' long"]),
            json!([3, "d\n", " e "]),
        ]
    );
    // One that is never closed takes no more than the longest line with it.
    let line = format!("x;{};4\n", "y".repeat(1000));
    sender
        .write_all(format!("z;'open;4\n{}q;last;5\n", line.repeat(1100)).as_bytes())
        .expect("it reads");
    server.wait_rows("own", "SELECT note FROM m WHERE host = 'q'", |rows| {
        rows.len() == 1
    });
    let told = server.wait_rows("", "SHOW REJECTED", |rows| !rows.is_empty());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0][7]
            .as_str()
            .is_some_and(|why| why.contains("a quote is never closed")),
        "{told:?}"
    );
}

#[test]
fn any_format_listens_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let [tcp, udp] = std::array::from_fn(|_| free_address());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (stream, gram, http) = (path("lines.sock"), path("statsd.sock"), path("http.sock"));
    let server = Server::start(
        &folder.path().join("data"),
        &[
            "--host-metrics",
            "off",
            "--listen",
            &format!("line-protocol+tcp://{tcp}?database=own&precision=s"),
            "--listen",
            &format!("line-protocol+udp://{udp}?database=own&readers=3"),
            "--listen",
            &format!("line-protocol+unix://{stream}?database=own"),
            "--listen",
            &format!("statsd+unixgram://{gram}?database=own&flush-interval=0.1&mode=600"),
            "--listen",
            &format!("http+unix://{http}"),
        ],
    );
    let mut sender = TcpStream::connect(&tcp).expect("it listens");
    sender.write_all(b"m,by=tcp f=1 1\n").expect("it reads");
    for i in 0..30 {
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        sender
            .send_to(format!("m,by=udp f={i} {i}").as_bytes(), &udp)
            .expect("sent");
    }
    let mut sender = UnixStream::connect(&stream).expect("it listens");
    sender.write_all(b"m,by=unix f=2 2").expect("it reads");
    drop(sender);
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.send_to(b"hits:3|c", &gram).expect("sent");
    let mode = std::fs::metadata(&gram).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let count = |by: &str| format!("SELECT count(f) FROM m WHERE \"by\" = '{by}'");
    for (by, rows) in [("tcp", 1), ("udp", 30), ("unix", 1)] {
        server.wait_rows("own", &count(by), |r| r.first().is_some_and(|r| r[1] == rows));
    }
    let seconds = server.rows("own", "SELECT f FROM m WHERE \"by\" = 'tcp'");
    assert_eq!(seconds, [json!([1_000_000_000, 1])]);
    server.wait_rows("own", "SELECT sum(value) FROM hits", |r| {
        r.first().is_some_and(|r| r[1] == 3)
    });

    let mut request = UnixStream::connect(&http).expect("it listens");
    request
        .write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    request.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");

    let sender_of_datagrams = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let metrics = wait_for_metrics(
        &server,
        &[format!(
            "kymo_ingest_rows_total{{from=\"line-protocol+udp://{udp}\"}} 30\n"
        )],
    );
    // What the kernel gave of the buffer that was asked for: more than what a socket has that asks for nothing.
    let figure = format!("kymo_ingest_receive_buffer_bytes{{from=\"line-protocol+udp://{udp}\"}} ");
    let given = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&figure)?.parse::<u64>().ok());
    let plain = rustix::net::sockopt::socket_recv_buffer_size(&sender_of_datagrams).expect("a size");
    assert!(
        given.is_some_and(|given| given > plain as u64),
        "{given:?}, {plain}"
    );
    assert_eq!(bound_to(&udp), 3, "sockets that share the port");
    assert_eq!(server.terminate(), Some(0));
    assert!(!std::path::Path::new(&stream).exists(), "removed at the end");
}

#[test]
fn listen_addresses_that_make_no_sense_are_told() {
    for (address, told) in [
        ("nonsense+tcp://127.0.0.1:0", "unknown format \"nonsense\""),
        ("line-protocol+tcp://127.0.0.1:0?precison=s", "unknown option"),
        (
            "line-protocol+tcp://127.0.0.1:0?precision=x",
            "invalid precision \"x\"",
        ),
        (
            "line-protocol+tcp://127.0.0.1:0?framing=length-prefixed",
            "invalid framing",
        ),
        ("line-protocol", "is no listen address"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new(KYMO)
            .args([
                "serve",
                "--data-dir",
                &folder.path().to_string_lossy(),
                "--listen",
                address,
            ])
            .args([
                "--http",
                "off",
                "--line-tcp",
                "off",
                "--line-udp",
                "off",
                "--statsd",
                "off",
            ])
            .args(["--host-metrics", "off"])
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(told),
            "{address}: {said}"
        );
    }
}

#[test]
fn two_sockets_of_a_gathering_format_gather_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let [tcp, udp] = std::array::from_fn(|_| free_address());
    let server = Server::start(
        folder.path(),
        &[
            "--host-metrics",
            "off",
            "--listen",
            &format!("statsd+tcp://{tcp}?database=own"),
            "--listen",
            &format!("statsd+udp://{udp}?database=own"),
        ],
    );
    let mut sender = TcpStream::connect(&tcp).expect("it listens");
    sender.write_all(b"hits:1|c\n").expect("it reads");
    drop(sender);
    let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    sender.send_to(b"hits:2|c", &udp).expect("sent");
    let data = server.data.clone();
    // Both have arrived before it is told to stop; what has arrived is taken.
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    assert_eq!(server.rows("own", "SELECT sum(value) FROM hits")[0][1], 3);
    assert_eq!(
        server.rows("own", "SELECT value FROM hits").len(),
        1,
        "one flush, not two"
    );
}

#[test]
fn too_many_connections_and_unfinished_lines_are_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let tcp = free_address();
    let server = Server::start(
        folder.path(),
        &[
            "--host-metrics",
            "off",
            "--listen",
            &format!("line-protocol+tcp://{tcp}?connections=1&idle=1"),
        ],
    );
    let mut first = TcpStream::connect(&tcp).expect("it listens");
    first.write_all(b"m f=1 1\nm f=2").expect("it reads");
    server.wait_rows("metrics", "SELECT count(f) FROM m", |r| {
        r.first().is_some_and(|r| r[1] == 1)
    });
    let mut second = TcpStream::connect(&tcp).expect("the kernel accepts");
    assert_eq!(second.read(&mut [0]).expect("closed at once"), 0);
    // The first says nothing for a second: it is closed, and its half line is told of.
    assert_eq!(first.read(&mut [0]).expect("closed when idle"), 0);
    let told = [
        ("connections_refused_total", 1),
        ("unparsed_total", 1),
        ("connections", 0),
    ];
    let lines = told.map(|(figure, value)| {
        format!("kymo_ingest_{figure}{{from=\"line-protocol+tcp://{tcp}\"}} {value}\n")
    });
    wait_for_metrics(&server, &lines);
}

/// Waits until all of these lines are told: what was seen may be counted a moment later.
fn wait_for_metrics(server: &Server, lines: &[String]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
        if lines.iter().all(|line| metrics.contains(line)) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "{lines:?}: {metrics}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_gathering_socket_holds_follows_the_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(
        folder.path(),
        &["--host-metrics", "off", "--received-bytes", "1MiB"],
    );
    let mut sender = TcpStream::connect(&server.statsd).expect("it listens");
    let lines: String = (0..20_000).map(|i| format!("series.{i}.of.many:1|c\n")).collect();
    sender.write_all(lines.as_bytes()).expect("it reads");
    server.wait_rows("", "SHOW REJECTED", |rows| {
        rows.iter()
            .any(|row| row.to_string().contains("state_bytes_max 1048576"))
    });
}
