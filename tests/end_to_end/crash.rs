//! kill -9 in the middle of concurrent writes, several times: every acknowledged point is there, and no half request.

use crate::support::{Server, post};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ROUNDS: u64 = 4;
const WRITERS: u64 = 6;
/// Rows of one request; all carry the request's number as tag, so a half request shows as a wrong count.
const ROWS: u64 = 25;

#[test]
fn sigkill_loses_nothing_acknowledged_and_shows_no_half_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let acked = Arc::new(Mutex::new(BTreeSet::new()));
    let next = Arc::new(AtomicU64::new(0));
    for round in 0..ROUNDS {
        let server = Server::quiet(folder.path());
        if round == 0 {
            server.create("crash");
        }
        check(&server, &acked.lock().expect("unpoisoned"));
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (url, stop, next, acked) = (
                    server.url("/write?db=crash"),
                    stop.clone(),
                    next.clone(),
                    acked.clone(),
                );
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let request = next.fetch_add(1, Ordering::Relaxed);
                        // Rows of many series and two measurements, so that a request touches every shard.
                        let lines: String = (0..ROWS)
                            .map(|i| {
                                format!(
                                    "m{},request=r{request},s={i} v={request}i {}\n",
                                    i % 2,
                                    request * 1000 + i
                                )
                            })
                            .collect();
                        if post(&url, lines.as_bytes()).is_ok_and(|(status, _)| status == 204) {
                            acked.lock().expect("unpoisoned").insert(request);
                        }
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(400 + 150 * round));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .for_each(|writer| writer.join().expect("writers do not panic"));
    }
    let server = Server::quiet(folder.path());
    let acked = acked.lock().expect("unpoisoned");
    assert!(
        acked.len() > 20,
        "too few requests were acknowledged to show anything: {}",
        acked.len()
    );
    check(&server, &acked);
    // And once more after a clean stop, which seals: from blocks the same as from the journal.
    assert_eq!(server.terminate(), Some(0));
    check(&Server::quiet(folder.path()), &acked);
}

fn check(server: &Server, acked: &BTreeSet<u64>) {
    let mut rows_of = std::collections::BTreeMap::<u64, u64>::new();
    for measurement in ["m0", "m1"] {
        let answer = server.query("crash", &format!("SELECT v FROM {measurement}"));
        let Some(series) = answer["results"][0].get("series") else {
            continue;
        };
        for row in series[0]["values"].as_array().expect("rows") {
            *rows_of.entry(row[1].as_u64().expect("an integer")).or_default() += 1;
        }
    }
    for (request, rows) in &rows_of {
        assert_eq!(*rows, ROWS, "request {request} is there in part");
    }
    let lost: Vec<&u64> = acked
        .iter()
        .filter(|request| !rows_of.contains_key(request))
        .collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
}
