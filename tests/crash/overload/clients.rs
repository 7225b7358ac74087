//! Clients that send as much as they can: writers, floods, queries, subscribers, and one that asks for health.

use super::acknowledged::{Acknowledged, Way};
use super::{datagrams, wait_for};
use crate::start::figure;
use crate::support::{Server, form, get};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// An answer may take so long: then the client goes, and comes again.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);
/// WebSockets, and subscriptions on each.
const SOCKETS: usize = 100;
const SUBSCRIPTIONS: usize = 100;
/// Different ones among them.
const QUERIES: usize = 200;

/// What was done and seen. Each must have happened before the load may end.
#[derive(Default)]
pub struct Tally {
    next_id: AtomicU64,
    offered_bytes: AtomicU64,
    acked_bytes: AtomicU64,
    /// Writes that were answered 503.
    overloaded: AtomicU64,
    /// Connections that were cut off before an answer, or no answer within the patience.
    unanswered: AtomicU64,
    pub bombs: AtomicU64,
    pub bombs_taken: AtomicU64,
    pub reconnects: AtomicU64,
    pub slow_cut_off: AtomicU64,
    pub datagrams: AtomicU64,
    stream_bytes: AtomicU64,
    /// Times that a connection took nothing for a while.
    held_back: AtomicU64,
    queries: AtomicU64,
    queries_refused: AtomicU64,
    pushed_bytes: AtomicU64,
    healthy: AtomicU64,
    slowest_health_ms: AtomicU64,
}

pub fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}

impl Tally {
    /// All that must have happened.
    pub fn all(&self) -> Vec<(&'static str, &AtomicU64)> {
        vec![
            ("answered 503", &self.overloaded),
            ("endless bodies refused", &self.bombs),
            ("reconnects", &self.reconnects),
            ("slow requests cut off", &self.slow_cut_off),
            ("datagrams", &self.datagrams),
            ("bytes over connections", &self.stream_bytes),
            ("times a connection was held back", &self.held_back),
            ("queries", &self.queries),
            ("queries refused", &self.queries_refused),
            ("bytes pushed to subscribers", &self.pushed_bytes),
            ("health answers", &self.healthy),
        ]
    }

    /// All of it, for people.
    pub fn told(&self, clients: &Clients) -> String {
        let n = |counter: &AtomicU64| counter.load(Relaxed);
        let mut out = format!(
            "{} of {} MiB acknowledged, {} unanswered, {} datagrams dropped, slowest health {} ms",
            n(&self.acked_bytes) >> 20,
            n(&self.offered_bytes) >> 20,
            n(&self.unanswered),
            datagrams::dropped(clients.server),
            n(&self.slowest_health_ms),
        );
        for (what, counter) in self.all() {
            let _ = write!(out, ", {} {what}", n(counter));
        }
        out
    }
}

/// See the module.
pub struct Clients<'a> {
    pub server: &'a Server,
    pub stop: &'a AtomicBool,
    pub tally: &'a Tally,
    pub acknowledged: &'a Acknowledged,
}

/// Lines of a measurement that no check reads, other ones for each seed.
pub fn lines(seed: usize, bytes: usize) -> Vec<u8> {
    let mut out = String::new();
    for i in seed << 20.. {
        if out.len() >= bytes {
            break;
        }
        let (host, r, w, x) = (i % 997, i % 7, i % 1009, i % 13);
        let _ = writeln!(out, "f,h=host{host},r=r{r} v={i}i,w={w}.25,x=\"text {x}\" {i}");
    }
    out.into_bytes()
}

/// A POST: its status, 0 without an answer.
pub fn post_as(url: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(ANSWER_PATIENCE));
    let mut request = ureq::Agent::from(config.build()).post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send(body).map_or(0, |answer| answer.status().as_u16())
}

/// Sends to a connection of its own; was all of it sent?
pub fn send_once(address: &str, bytes: &[u8]) -> bool {
    connect(address).is_some_and(|mut stream| stream.write_all(bytes).is_ok())
}

pub fn connect(address: &str) -> Option<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    Some(stream)
}

impl Clients<'_> {
    pub fn go_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Requests that are acknowledged, each with a point that names it.
    pub fn write(&self, way: Way, filler: &[u8]) {
        while self.go_on() {
            let id = self.tally.next_id.fetch_add(1, Relaxed);
            add(&self.tally.offered_bytes, filler.len() as u64);
            match way.send(self.server, way.measurement(), id, filler) {
                204 => {
                    self.acknowledged.add(way, id);
                    add(&self.tally.acked_bytes, filler.len() as u64);
                }
                503 => {
                    add(&self.tally.overloaded, 1);
                    std::thread::sleep(Duration::from_millis(5));
                }
                0 | 408 => add(&self.tally.unanswered, 1),
                status => panic!("{way:?}: {status}"),
            }
        }
    }

    /// Sends pieces to a connection for as long as it takes them; opens it again when it is closed.
    pub fn flood(&self, address: &str, piece: &[u8]) {
        while self.go_on() {
            let Some(mut stream) = connect(address) else {
                continue;
            };
            while self.go_on() {
                match stream.write(piece) {
                    Ok(0) => break,
                    Ok(sent) => add(&self.tally.stream_bytes, sent as u64),
                    // It reads no more for now: that is how it says that it is overloaded.
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                        add(&self.tally.held_back, 1);
                    }
                    Err(_) => break,
                }
            }
        }
    }

    /// Queries of which each wants more than it may have, or as much as there is.
    pub fn queries(&self) {
        let asked = [
            "SELECT * FROM f",
            "SELECT percentile(v,50), distinct(w), mode(x) FROM f GROUP BY *",
            "SELECT count(v) FROM m, f GROUP BY time(1ns), *",
            "SELECT top(v, 1000) FROM f",
        ];
        while self.go_on() {
            for q in asked {
                let url = self
                    .server
                    .url(&format!("/query?{}", form(&[("db", "d"), ("q", q)])));
                add(&self.tally.queries, 1);
                match get(&url) {
                    Ok((200, text)) if !text.contains("\"error\"") => {}
                    Ok((200 | 503, _)) => add(&self.tally.queries_refused, 1),
                    Err(_) => add(&self.tally.unanswered, 1),
                    Ok((status, text)) => panic!("{q}: {status} {text}"),
                }
            }
        }
    }

    /// Health is asked until it answers, each time within the patience.
    pub fn health(&self, patience: Duration) {
        while self.go_on() {
            let asked = Instant::now();
            while !get(&self.server.url("/health")).is_ok_and(|(status, _)| status == 200) {
                let output = self.server.output();
                assert!(asked.elapsed() < patience, "/health does not answer: {output}");
            }
            let took = asked.elapsed().as_millis() as u64;
            self.tally.slowest_health_ms.fetch_max(took, Relaxed);
            add(&self.tally.healthy, 1);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Reads what is pushed to every second subscriber; the others never read.
    pub fn read(&self, streams: &[TcpStream]) {
        let mut buffer = vec![0; 64 << 10];
        for stream in streams {
            stream.set_nonblocking(true).expect("a socket");
        }
        while self.go_on() {
            for mut stream in streams.iter().step_by(2) {
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    add(&self.tally.pushed_bytes, read as u64);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Opens WebSockets with many subscriptions each.
pub fn subscribe(server: &Server) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for i in 0..SOCKETS {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        write!(
            stream,
            "GET /live HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            server.http
        )
        .expect("it listens");
        for n in 0..SUBSCRIPTIONS {
            let query = (i * SUBSCRIPTIONS + n) % QUERIES;
            let q = format!("SELECT mean(v), count(v) FROM m WHERE w = '{query}' GROUP BY time(10s)");
            let text = format!("{{\"type\":\"subscribe\",\"id\":\"{n}\",\"db\":\"d\",\"q\":\"{q}\"}}");
            // A text frame, masked with zeroes.
            let mut frame = vec![0x81, 0x80 | 126];
            frame.extend((text.len() as u16).to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(text.as_bytes());
            stream.write_all(&frame).expect("it reads");
        }
        streams.push(stream);
        // Not more at a time than may wait for the live thread.
        wait_for(server, "subscriptions", |metrics| {
            figure(metrics, "kymo_live_subscriptions") == (streams.len() * SUBSCRIPTIONS) as u64
        });
    }
    streams
}
