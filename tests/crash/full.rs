//! A full disk, for real: a tmpfs of 24 MiB. Writes are refused clearly, reads go on, a kill changes nothing, and when there
//! is room again writing goes on. Needs the right to mount; says so and is left out without it.

use crate::support::{KYMO, Server, get, post, run};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROWS: u64 = 100;
const REFUSALS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn start(data: &Path) -> Server {
    // Without the floor, so that the disk is full indeed.
    Server::start(
        data,
        &[
            "--host-metrics",
            "off",
            "--head-bytes",
            "1MiB",
            "--disk-floor",
            "0",
        ],
    )
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
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(folder.path())
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("LEFT OUT: this test needs the right to mount a tmpfs");
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
    let deadline = Instant::now() + PATIENCE;
    while post(&server.url("/write?db=d"), lines(request).as_bytes())
        .expect("an answer")
        .0
        != 204
    {
        assert!(Instant::now() < deadline, "there is room, and nothing is taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(rows(&server), acked + ROWS);
    assert_eq!(server.terminate(), Some(0));
    run(Command::new(KYMO).arg("verify").arg("--data-dir").arg(&data));
}
