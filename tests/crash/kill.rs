//! kill -9 of the real server under mixed load, again and again on one folder. The checker is outside: it knows which
//! requests were acknowledged, which were deleted, and asks after each start.

use crate::support::{Server, form, get, post};
use crate::{Random, rounds};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Rows of one request; all carry its number, so that half a request shows.
const ROWS: u64 = 12;

#[derive(Default)]
struct Oracle {
    acked: BTreeSet<u64>,
    /// Asked to be deleted; acknowledged if the second is true.
    deleted: BTreeMap<u64, bool>,
}

#[test]
fn sigkill_under_mixed_load_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let oracle = Mutex::new(Oracle::default());
    let next = AtomicU64::new(0);
    let count = rounds("KYMO_KILLS", 6);
    let mut random = Random(rounds("KYMO_SEED", 5));
    for round in 0..count {
        let server = Server::start(folder.path(), &["--host-metrics", "on", "--head-bytes", "1MiB"]);
        if round == 0 {
            server.create("crash");
        }
        check(&server, &oracle.lock().expect("unpoisoned"), round);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| write(&server.url("/write?db=crash"), &stop, &next, &oracle));
            }
            scope.spawn(|| delete(&server.url("/query"), &stop, &oracle));
            scope.spawn(|| query(&server.url("/query"), &stop));
            scope.spawn(|| sockets(&server, &stop));
            std::thread::sleep(Duration::from_millis(150 + random.below(600)));
            kill(&server);
            stop.store(true, Ordering::Relaxed);
        });
        drop(server);
    }
    let server = Server::quiet(folder.path());
    let oracle = oracle.lock().expect("unpoisoned");
    check(&server, &oracle, count);
    assert_eq!(server.terminate(), Some(0));
    check(&Server::quiet(folder.path()), &oracle, count);
    let deletes = oracle.deleted.values().filter(|&&done| done).count();
    eprintln!(
        "{count} kills, {} requests and {deletes} deletes acknowledged",
        oracle.acked.len()
    );
    assert!(
        oracle.acked.len() as u64 > count * 5 && deletes > 0,
        "too little was done to show anything"
    );
}

fn kill(server: &Server) {
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
}

fn write(url: &str, stop: &AtomicBool, next: &AtomicU64, oracle: &Mutex<Oracle>) {
    while !stop.load(Ordering::Relaxed) {
        let request = next.fetch_add(1, Ordering::Relaxed);
        let lines: String = (0..ROWS)
            .map(|i| format!("m{},s={i} v={request}i {}\n", i % 2, request * 1000 + i))
            .chain((0..100).map(|i| format!("filler,s={i} v={request}.5 {request}\n")))
            .collect();
        if post(url, lines.as_bytes()).is_ok_and(|(status, _)| status == 204) {
            oracle.lock().expect("unpoisoned").acked.insert(request);
        }
    }
}

/// Deletes whole requests that were acknowledged.
fn delete(url: &str, stop: &AtomicBool, oracle: &Mutex<Oracle>) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(40));
        let request = {
            let mut oracle = oracle.lock().expect("unpoisoned");
            let free = oracle
                .acked
                .iter()
                .rev()
                .find(|r| !oracle.deleted.contains_key(r))
                .copied();
            let Some(request) = free else { continue };
            oracle.deleted.insert(request, false);
            request
        };
        let (from, to) = (request * 1000, request * 1000 + ROWS);
        let q = format!(
            "DELETE FROM m0 WHERE time >= {from} AND time < {to}; DELETE FROM m1 WHERE time >= {from} AND time < {to}"
        );
        let done = post(&format!("{url}?{}", form(&[("db", "crash"), ("q", &q)])), b"");
        if done.is_ok_and(|(status, body)| status == 200 && !body.contains("error")) {
            oracle.lock().expect("unpoisoned").deleted.insert(request, true);
        }
    }
}

fn query(url: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let q = "SELECT count(v), mean(v) FROM m0, m1, filler GROUP BY s";
        let answer = get(&format!("{url}?{}", form(&[("db", "crash"), ("q", q)])));
        if let Ok((status, body)) = answer {
            assert!(status == 200 && !body.contains("damaged"), "{status} {body}");
        }
        std::thread::sleep(Duration::from_millis(20));
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
    let whole = [ROWS / 2, ROWS / 2];
    for (request, rows) in &rows_of {
        // A delete of two statements may be half done when nobody acknowledged it; a write may not.
        let fine = match oracle.deleted.get(request) {
            None => *rows == whole,
            Some(false) => rows.iter().all(|r| [0, ROWS / 2].contains(r)),
            Some(true) => false,
        };
        assert!(
            fine,
            "round {round}: request {request} has {rows:?} rows, delete: {:?}",
            oracle.deleted.get(request)
        );
    }
    let is_lost = |request: &&u64| !rows_of.contains_key(request) && !oracle.deleted.contains_key(request);
    let lost: Vec<&u64> = oracle.acked.iter().filter(is_lost).collect();
    assert!(lost.is_empty(), "round {round}: acknowledged and gone: {lost:?}");
}
