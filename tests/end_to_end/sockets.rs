//! Line protocol and statsd over plain sockets.

use crate::support::Server;
use serde_json::json;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};

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
        std::thread::sleep(std::time::Duration::from_millis(20));
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
    std::thread::sleep(std::time::Duration::from_millis(500));
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
