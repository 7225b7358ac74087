//! kill -9 of the real server under mixed load, again and again on one folder. The checker is outside: it knows which
//! requests were acknowledged, which were deleted, and asks after each start.

use crate::support::{Server, form, get, post};
use crate::{Random, rounds};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Rows of one request; all carry its number, so that half a request shows.
pub const ROWS: u64 = 12;

/// What is known outside of the server. Moments are numbers that only grow.
#[derive(Default)]
pub struct Oracle {
    /// Requests, and when they were acknowledged.
    pub acked: BTreeMap<u64, u64>,
    /// Requests that were to be deleted: when it was asked for, and when it was acknowledged.
    pub deleted: BTreeMap<u64, (u64, Option<u64>)>,
}

/// Says what moment it is.
pub type Clock<'a> = &'a (dyn Fn() -> u64 + Sync);

/// What everybody does until the server is killed.
pub struct Load<'a> {
    pub stop: AtomicBool,
    pub next: &'a AtomicU64,
    pub oracle: &'a Mutex<Oracle>,
    pub clock: Clock<'a>,
    pub database: &'a str,
}

impl Load<'_> {
    /// In threads of the scope.
    pub fn begin<'s>(&'s self, scope: &'s std::thread::Scope<'s, '_>, server: &'s Server) {
        for _ in 0..3 {
            scope.spawn(|| self.write(server));
        }
        scope.spawn(|| self.delete(server));
        scope.spawn(|| self.query(server));
        scope.spawn(|| sockets(server, &self.stop));
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn sigkill_under_mixed_load_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let oracle = Mutex::new(Oracle::default());
    let next = AtomicU64::new(0);
    let count = rounds("KYMO_KILLS", 6);
    let mut random = Random(rounds("KYMO_SEED", 5));
    let (mut seals, mut merges) = (0, 0);
    for round in 0..count {
        let server = Server::start(folder.path(), &["--host-metrics", "on", "--head-bytes", "1MiB"]);
        if round == 0 {
            server.create("crash");
        }
        check(&server, &oracle.lock().expect("unpoisoned"), round);
        let load = Load {
            stop: AtomicBool::new(false),
            next: &next,
            oracle: &oracle,
            clock: &|| round,
            database: "crash",
        };
        std::thread::scope(|scope| {
            load.begin(scope, &server);
            std::thread::sleep(Duration::from_millis(150 + random.below(600)));
            seals += figure(&server, "kymo_seals_total").unwrap_or(0);
            merges += figure(&server, "kymo_merges_total").unwrap_or(0);
            kill(&server);
            load.stop.store(true, Ordering::Relaxed);
        });
        drop(server);
    }
    let server = Server::quiet(folder.path());
    let oracle = oracle.lock().expect("unpoisoned");
    check(&server, &oracle, count);
    assert_eq!(server.terminate(), Some(0));
    check(&Server::quiet(folder.path()), &oracle, count);
    let deletes = oracle.deleted.values().filter(|(_, done)| done.is_some()).count();
    eprintln!(
        "{count} kills, {} requests and {deletes} deletes acknowledged, {seals} seals, {merges} merges",
        oracle.acked.len()
    );
    assert!(
        oracle.acked.len() as u64 > count * 5 && deletes > 0,
        "too little was done to show anything"
    );
}

/// A figure of /metrics.
pub fn figure(server: &Server, name: &str) -> Option<u64> {
    let (_, text) = get(&server.url("/metrics")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

pub fn kill(server: &Server) {
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
}

impl Load<'_> {
    fn write(&self, server: &Server) {
        let url = server.url(&format!("/write?db={}", self.database));
        while self.goes_on() {
            let request = self.next.fetch_add(1, Ordering::Relaxed);
            let lines: String = (0..ROWS)
                .map(|i| format!("m{},s={i} v={request}i {}\n", i % 2, request * 1000 + i))
                .chain((0..100).map(|i| format!("filler,s={i} v={request}.5 {request}\n")))
                .collect();
            if post(&url, lines.as_bytes()).is_ok_and(|(status, _)| status == 204) {
                let now = (self.clock)();
                self.oracle.lock().expect("unpoisoned").acked.insert(request, now);
            }
        }
    }

    /// Deletes whole requests that were acknowledged.
    fn delete(&self, server: &Server) {
        let url = server.url("/query");
        while self.goes_on() {
            std::thread::sleep(Duration::from_millis(40));
            let asked = (self.clock)();
            let request = {
                let mut oracle = self.oracle.lock().expect("unpoisoned");
                let mut newest = oracle.acked.keys().rev();
                let free = newest.find(|r| !oracle.deleted.contains_key(r)).copied();
                let Some(request) = free else { continue };
                oracle.deleted.insert(request, (asked, None));
                request
            };
            let (from, to) = (request * 1000, request * 1000 + ROWS);
            let q = format!(
                "DELETE FROM m0 WHERE time >= {from} AND time < {to}; DELETE FROM m1 WHERE time >= {from} AND time < {to}"
            );
            let done = post(
                &format!("{url}?{}", form(&[("db", self.database), ("q", &q)])),
                b"",
            );
            if done.is_ok_and(|(status, body)| status == 200 && !body.contains("error")) {
                let now = (self.clock)();
                let mut oracle = self.oracle.lock().expect("unpoisoned");
                oracle.deleted.insert(request, (asked, Some(now)));
            }
        }
    }

    fn query(&self, server: &Server) {
        while self.goes_on() {
            let q = "SELECT count(v), mean(v) FROM m0, m1, filler GROUP BY s";
            let parameters = form(&[("db", self.database), ("q", q)]);
            if let Ok((status, body)) = get(&server.url(&format!("/query?{parameters}"))) {
                assert!(status == 200 && !body.contains("damaged"), "{status} {body}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What nobody acknowledges: it must only do no harm.
fn sockets(server: &Server, stop: &AtomicBool) {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut tcp = TcpStream::connect(&server.line_tcp).ok();
    while !stop.load(Ordering::Relaxed) {
        let _ = udp.send_to(b"u,s=a v=1\nu,s=b v=2\n", &server.line_udp);
        let _ = udp.send_to(b"hits:1|c\nload:0.5|g\ntook:12|ms\n", &server.statsd);
        if let Some(stream) = &mut tcp {
            let _ = stream.write_all(b"t,s=a v=1i\nt,s=b v=2i\n");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check(server: &Server, oracle: &Oracle, round: u64) {
    let mut rows_of = BTreeMap::<u64, [u64; 2]>::new();
    for (measurement, name) in ["m0", "m1"].into_iter().enumerate() {
        for row in server.rows("crash", &format!("SELECT v FROM {name}")) {
            rows_of.entry(row[1].as_u64().expect("an integer")).or_default()[measurement] += 1;
        }
    }
    oracle.judge(&rows_of, round, &format!("round {round}"));
}

impl Oracle {
    /// What a crash at this moment may have left, against rows of m0 and m1 by request.
    pub fn judge(&self, rows_of: &BTreeMap<u64, [u64; 2]>, now: u64, place: &str) {
        let whole = [ROWS / 2, ROWS / 2];
        let delete = |request: &u64| {
            let (asked, done) = self.deleted.get(request)?;
            (*asked <= now).then(|| done.is_some_and(|at| at <= now))
        };
        for (request, rows) in rows_of {
            // A delete of two statements may be half done when nobody acknowledged it; a write may not.
            let fine = match delete(request) {
                None => *rows == whole,
                Some(false) => rows.iter().all(|r| [0, ROWS / 2].contains(r)),
                Some(true) => false,
            };
            assert!(
                fine,
                "{place}: request {request} has {rows:?} rows, delete: {:?}",
                self.deleted.get(request)
            );
        }
        let acked = self.acked.iter().filter(|(_, at)| **at <= now);
        let is_lost = |request: &&u64| !rows_of.contains_key(request) && delete(request).is_none();
        let lost: Vec<&u64> = acked.map(|(request, _)| request).filter(is_lost).collect();
        assert!(lost.is_empty(), "{place}: acknowledged and gone: {lost:?}");
    }
}
