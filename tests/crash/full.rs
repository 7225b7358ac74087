//! A full disk, for real: a tmpfs of 24 MiB. Writes are refused clearly, reads go on, a kill changes nothing, and when there
//! is room again writing goes on. Needs the right to mount; says so and is left out without it.

use crate::support::{KYMO, Server, get, post, run};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROWS: u64 = 100;
const REFUSALS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Mount<'a>(pub &'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

pub const FLAGS: [&str; 4] = ["--host-metrics", "off", "--head-bytes", "1MiB"];

fn start(data: &Path) -> Server {
    // Without the floor, so that the disk is full indeed.
    Server::start(data, &[&FLAGS[..], &["--disk-floor", "0"]].concat())
}

/// A small disk of its own; `None`, loudly, where nobody may mount one.
pub fn mount(folder: &Path, size: &str) -> bool {
    let options = format!("size={size}");
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(folder)
        .output();
    let mounted = mount.is_ok_and(|output| output.status.success());
    if !mounted {
        eprintln!("LEFT OUT: this test needs the right to mount a tmpfs");
    }
    mounted
}

/// Writes until there is room again.
fn resume(server: &Server, request: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = post(&server.url("/write?db=d"), lines(request).as_bytes());
        if answer.expect("an answer").0 == 204 {
            return;
        }
        assert!(Instant::now() < deadline, "there is room, and nothing is taken");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn lines(request: u64) -> String {
    let mut random = crate::Random(request);
    let mut line = |i| {
        let noise: String = (0..60).map(|_| format!("{:x}", random.next())).collect();
        format!("m,s={i} v={i}i,w=\"{noise}\" {}\n", request * 1000 + i)
    };
    (0..ROWS).map(&mut line).collect()
}

fn rows(server: &Server) -> u64 {
    server.rows("d", "SELECT count(v) FROM m")[0][1]
        .as_u64()
        .expect("a count")
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    if !mount(folder.path(), "24m") {
        return;
    }
    let _mount = Mount(folder.path());
    let data = folder.path().join("data");
    let server = start(&data);
    server.create("d");
    let (mut acked, mut refused, mut request) = (0, 0, 0);
    while refused < REFUSALS {
        let (status, body) = post(&server.url("/write?db=d"), lines(request).as_bytes()).expect("an answer");
        match status {
            204 => acked += ROWS,
            _ => {
                assert!(status == 503 && body.contains("no space left"), "{status} {body}");
                refused += 1;
            }
        }
        request += 1;
        assert!(request < 100_000, "24 MiB are never full");
    }
    assert_eq!(rows(&server), acked, "reads go on");
    assert_eq!(get(&server.url("/health")).expect("an answer").0, 200);
    server.kill();
    let server = start(&data);
    assert_eq!(rows(&server), acked, "after kill -9 on a full disk");
    run(Command::new("mount")
        .args(["-o", "remount,size=200m"])
        .arg(folder.path()));
    resume(&server, request);
    assert_eq!(rows(&server), acked + ROWS);
    assert_eq!(server.terminate(), Some(0));
    run(Command::new(KYMO).arg("verify").arg("--data-dir").arg(&data));
}

#[test]
fn a_small_disk_takes_points_down_to_its_floor_and_resumes() {
    let folder = tempfile::tempdir().expect("a folder");
    if !mount(folder.path(), "80m") {
        return;
    }
    let _mount = Mount(folder.path());
    let server = Server::start(&folder.path().join("data"), &FLAGS);
    server.create("d");
    let (mut acked, mut request) = (0, 0);
    let refused = loop {
        let (status, body) = post(&server.url("/write?db=d"), lines(request).as_bytes()).expect("an answer");
        request += 1;
        assert!(request < 100_000, "80 MiB never come to the floor");
        match status {
            204 => acked += ROWS,
            _ => break (status, body),
        }
    };
    assert!(acked > 0, "a small disk takes points");
    assert_eq!(refused.0, 503, "{}", refused.1);
    // A quarter of the disk.
    let (floor, text) = (20 << 20, &refused.1);
    assert!(
        text.contains(&format!("points are taken from {floor} on (--disk-floor)")),
        "{text}"
    );
    let free = rustix::fs::statvfs(folder.path()).expect("a disk");
    assert!(
        free.f_bavail * free.f_frsize > floor / 2,
        "refused before anything is full"
    );
    assert_eq!(rows(&server), acked, "reads go on");
    assert_eq!(get(&server.url("/health")).expect("an answer").0, 200);
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    assert!(metrics.lines().any(|line| line == "kymo_disk_low 1"), "{metrics}");
    run(Command::new("mount")
        .args(["-o", "remount,size=300m"])
        .arg(folder.path()));
    resume(&server, request);
    assert_eq!(rows(&server), acked + ROWS);
    assert_eq!(server.terminate(), Some(0));
}
