//! `kymo backup` of a server under load, `kymo verify` of it, `kymo restore`: everything acknowledged before is there.

use crate::support::{KYMO, Server, post, run};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ROWS: u64 = 20;

fn kymo(arguments: &[&str], folders: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(KYMO);
    command.args(arguments);
    for (flag, folder) in folders {
        command.arg(flag).arg(folder);
    }
    command
}

#[test]
fn a_backup_of_a_busy_server_restores_everything_acknowledged_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, copy, again) = (
        dir.path().join("live"),
        dir.path().join("copy"),
        dir.path().join("again"),
    );
    // A small head, so that seals and merges go on while the backup is made.
    let server = Server::start(&live, &["--host-metrics", "off", "--head-bytes", "2MiB"]);
    server.create("b");
    let (acked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let url = server.url("/write?db=b");
    let before = std::thread::scope(|scope| {
        scope.spawn(|| {
            for request in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let lines: String = (0..ROWS)
                    .map(|i| format!("m,s={i} v={request}i {}\n", request * 100 + i))
                    .chain((0..500).map(|i| format!("filler,s={i} v={request}.25 {request}\n")))
                    .collect();
                let status = post(&url, lines.as_bytes()).expect("an answer").0;
                assert_eq!(status, 204);
                acked.store(request, Ordering::SeqCst);
            }
        });
        let mut before = 0;
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(700));
            before = acked.load(Ordering::SeqCst);
            // Again into the same place: what is there already is brought up to date.
            run(&mut kymo(&["backup"], &[("--data-dir", &live), ("--to", &copy)]));
        }
        stop.store(true, Ordering::Relaxed);
        before
    });
    assert!(before > 10, "{before} requests");
    server.kill();
    run(&mut kymo(
        &["restore"],
        &[("--from", &copy), ("--data-dir", &again)],
    ));
    run(&mut kymo(&["verify"], &[("--data-dir", &again)]));
    let full = kymo(&["restore"], &[("--from", &copy), ("--data-dir", &again)]).output();
    assert!(
        !full.expect("it runs").status.success(),
        "nothing is restored over data"
    );
    let server = Server::quiet(&again);
    let mut counts = std::collections::BTreeMap::<u64, u64>::new();
    for row in server.rows("b", "SELECT v FROM m") {
        *counts.entry(row[1].as_u64().expect("an integer")).or_default() += 1;
    }
    assert!(counts.values().all(|&rows| rows == ROWS), "half a request");
    let lost: Vec<u64> = (1..=before)
        .filter(|request| !counts.contains_key(request))
        .collect();
    assert!(lost.is_empty(), "{lost:?} of {before}");
}

#[test]
fn a_damaged_backup_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (live, copy, again) = (
        dir.path().join("live"),
        dir.path().join("copy"),
        dir.path().join("again"),
    );
    let server = Server::quiet(&live);
    server.create("b");
    server.write("b", "m v=1 1");
    assert_eq!(server.terminate(), Some(0));
    run(&mut kymo(&["backup"], &[("--data-dir", &live), ("--to", &copy)]));
    let tables = copy.join("store/keyspaces/2/tables");
    let table = tables
        .read_dir()
        .expect("a folder")
        .next()
        .expect("a table")
        .expect("a table")
        .path();
    let mut bytes = std::fs::read(&table).expect("a table");
    bytes[100] ^= 4;
    std::fs::write(&table, bytes).expect("room");
    let output = kymo(&["restore"], &[("--from", &copy), ("--data-dir", &again)])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("checksum"),
        "{output:?}"
    );
    let output = kymo(&["verify"], &[("--data-dir", &copy)])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
}
