//! kill -9 in the middle of merges, again and again on one folder: every round writes the same points with new values, so that there is
//! much to merge, waits for a merge, writes and asks while it runs, and kills. Nothing acknowledged may be lost, no older value
//! may come back, merging goes on after each start, and in the end the folder is as small as if all had been written once.

use crate::support::{Server, get, post};
use crate::{Random, rounds};
use std::path::Path;
use std::time::{Duration, Instant};

/// Points: series x times, in requests.
const SERIES: u64 = 40;
const TIMES: u64 = 3000;
const REQUEST_TIMES: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(120);
/// After this long a merge that came and went unseen counts as seen: the machine was too busy to look while it ran.
const MISSED: Duration = Duration::from_secs(3);
/// How many times the rounds asked for are played at most until one kill hits a merge.
const TRIES: u64 = 8;
/// Longer than the server takes to see that it is idle and to look at its runs again.
const QUIET: Duration = Duration::from_secs(8);
/// Less than this of a day is not worth a merge (`REWRITE_BYTES_MIN`).
const LEFT_BYTES: u64 = 2 * (256 << 10);

fn start(folder: &Path) -> Server {
    // A small head, so that there are many runs.
    let server = Server::start(
        folder,
        &[
            "--host-metrics",
            "off",
            "--head-bytes",
            "256K",
            "--merge-threads",
            "2",
        ],
    );
    server.create("d");
    server
}

/// Every point, with values of this round.
fn write(server: &Server, round: u64) {
    for request in 0..TIMES / REQUEST_TIMES {
        let mut lines = String::new();
        for time in request * REQUEST_TIMES..(request + 1) * REQUEST_TIMES {
            for series in 0..SERIES {
                // Two days, of which each is a partition; values that do not get shorter.
                let at = (time % 2) * 86_400 + time;
                let noise = Random(round << 40 | time << 20 | series).next();
                lines += &format!("m,s=s{series} round={round}i,v=0.{noise:020} {at}000000000\n");
            }
        }
        server.write("d", &lines);
    }
}

/// Of all points: their number, and the least and greatest round they are of.
fn check(server: &Server, round: u64) {
    let row = &server.rows(
        "d",
        "SELECT count(round), min(round), max(round), count(v) FROM m",
    )[0];
    let numbers: Vec<u64> = (1..5).map(|i| row[i].as_u64().expect("a number")).collect();
    let points = SERIES * TIMES;
    assert_eq!(numbers, [points, round, round, points], "in round {round}");
}

fn metric(server: &Server, name: &str) -> Option<u64> {
    let (_, text) = get(&server.url("/metrics")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")))?;
    line.trim().parse().ok()
}

fn wait(server: &Server, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        let text = get(&server.url("/metrics"))
            .map(|(_, text)| text)
            .unwrap_or_default();
        assert!(began.elapsed() < PATIENCE, "{what}\n{text}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Until a merge runs, or one has run since there were `before` of them and no other shows up.
fn wait_for_merge(server: &Server, before: u64) {
    let began = Instant::now();
    wait(server, "no merge begins", || {
        metric(server, "kymo_merge_running").is_some_and(|running| running > 0)
            || began.elapsed() > MISSED
                && metric(server, "kymo_merges_total").is_some_and(|merges| merges > before)
    });
}

/// Until all is sealed and nothing is merged any more; a little at the end, less than is worth a merge, waits for more.
fn settle(server: &Server) {
    let mut last = (Instant::now(), None);
    wait(server, "merging does not come to an end", || {
        let merges = metric(server, "kymo_merges_total");
        let busy = metric(server, "kymo_merge_running") != Some(0)
            || metric(server, "kymo_head_active_bytes") > Some(1 << 20);
        if busy || last.1 != merges {
            last = (Instant::now(), merges);
        }
        last.0.elapsed() > QUIET
    });
    let points = SERIES * TIMES;
    let rows = metric(server, "kymo_store_rows").expect("a number");
    assert!(
        (points / 2..points * 3 / 2).contains(&rows),
        "{rows} of {points} rows"
    );
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let bytes = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("it is there");
        // The storage engine's own journal is sparse and unused.
        match meta.is_dir() {
            true => folder_bytes(&entry.path()),
            false if entry.path().extension().is_some_and(|e| e == "jnl") => 0,
            false => meta.len(),
        }
    });
    bytes.sum()
}

#[test]
fn sigkill_while_merging_loses_nothing_and_merging_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = rounds("KYMO_MERGE_KILLS", 8);
    let mut random = Random(rounds("KYMO_SEED", 11));
    let (mut in_the_middle, mut answered) = (0, 0);
    let mut round = 0;
    while round < count || (in_the_middle == 0 && round < count * TRIES) {
        round += 1;
        let server = start(folder.path());
        if round > 1 {
            check(&server, round - 1);
        }
        let before = metric(&server, "kymo_merges_total").expect("a number");
        write(&server, round);
        wait_for_merge(&server, before);
        if round % 2 == 0 {
            // Merging stops neither writing nor asking.
            let (status, body) = post(&server.url("/write?db=d"), b"other v=1i").expect("an answer");
            assert_eq!(status, 204, "{body}");
            check(&server, round);
            answered += u64::from(metric(&server, "kymo_merge_running") > Some(0));
        } else {
            std::thread::sleep(Duration::from_millis(random.below(12)));
            in_the_middle += u64::from(metric(&server, "kymo_merge_running") > Some(0));
        }
        server.kill();
    }
    let count = round;
    eprintln!("{count} kills, {in_the_middle} in the middle of a merge; {answered} answers while one ran");
    assert!(in_the_middle > 0, "no merge was killed");
    let server = start(folder.path());
    check(&server, count);
    server.query("d", "DROP MEASUREMENT other");
    settle(&server);
    check(&server, count);
    assert_eq!(server.terminate(), Some(0));
    let many_times = folder_bytes(&folder.path().join("store"));

    let fresh = tempfile::tempdir().expect("a folder");
    let server = start(fresh.path());
    write(&server, count);
    settle(&server);
    assert_eq!(server.terminate(), Some(0));
    let once = folder_bytes(&fresh.path().join("store"));
    assert!(
        many_times < once + LEFT_BYTES + once / 10,
        "written {count} times it takes {many_times} bytes, written once {once}"
    );
}
