//! Retention by the real clock: a point is answered until its policy's duration is over, and not a moment longer than the server takes to look.

use crate::support::{PATIENCE, Server, post};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const HOUR: i64 = 3600 * 1_000_000_000;
/// The old point has so long to live when it is written.
const LEFT: i64 = 6 * 1_000_000_000;

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

#[test]
fn points_expire_by_the_real_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.query("d", "CREATE RETENTION POLICY hour ON d DURATION 1h REPLICATION 1");
    let old = now() - HOUR + LEFT;
    let lines = format!("m v=1i {old}\nm v=2i {}\n", now());
    let url = server.url("/write?db=d&rp=hour");
    let (status, body) = post(&url, lines.as_bytes()).expect("an answer");
    assert_eq!(status, 204, "{body}");
    // The same in a policy that keeps everything.
    server.write("d", &lines);
    let count = |from: &str| server.rows("d", &format!("SELECT count(v) FROM {from}"))[0][1].as_u64();
    if now() < old + HOUR - LEFT / 3 {
        assert_eq!(count("d.hour.m"), Some(2), "it is not an hour old yet");
    }
    let began = Instant::now();
    while count("d.hour.m") != Some(1) {
        assert!(began.elapsed() < PATIENCE, "it never expires");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(now() >= old + HOUR, "expired {} ns too early", old + HOUR - now());
    assert_eq!(count("m"), Some(2), "for ever means for ever");
    let rows = server.rows("d", "SELECT v FROM d.hour.m");
    assert_eq!(rows[0][1].as_u64(), Some(2), "the younger one stays");
}
