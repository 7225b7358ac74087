//! A full disk: writes are refused clearly, reads go on, a kill changes nothing, and when there is room again writing goes on.
//!
//! Each test has two forms. One runs anywhere: room is counted below libc ([`crate::disk`]). The other is on a tmpfs, for which mounting
//! must be allowed; it shows besides what the kernel takes for room, and says so when it is left out.

use crate::disk::Disk;
use crate::support::{KYMO, Server, get, post, run};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

pub const ROWS: u64 = 100;
const REFUSALS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(180);

pub struct Mount(pub PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// A disk of so many bytes.
pub enum Small {
    /// Declared in this order: unmounted before its folder is removed.
    Tmpfs(
        Mount,
        #[expect(dead_code, reason = "it is removed when this goes")] tempfile::TempDir,
    ),
    Counted(Disk),
}

impl Small {
    /// A tmpfs; `None`, with a notice, where nobody may mount one.
    pub fn mounted(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self::Tmpfs(Mount(folder.path().to_path_buf()), folder));
        }
        eprintln!(
            "LEFT OUT: the form of this test that needs the right to mount a tmpfs; the other one runs"
        );
        None
    }

    /// One whose room is counted.
    pub fn counted(bytes: u64) -> Option<Self> {
        let disk = Disk::new()?;
        disk.resize(bytes);
        Some(Self::Counted(disk))
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Tmpfs(mount, _) => mount.0.clone(),
            Self::Counted(disk) => disk.path(),
        }
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A server on it.
    pub fn start(&self, flags: &[&str]) -> Server {
        match self {
            Self::Tmpfs(..) => Server::start(&self.data(), flags),
            Self::Counted(disk) => Server::launch(&disk.server(), &self.data(), flags),
        }
    }

    fn resize(&self, bytes: u64) {
        match self {
            Self::Tmpfs(mount, _) => drop(run(Command::new("mount")
                .args(["-o", &format!("remount,size={bytes}")])
                .arg(&mount.0))),
            Self::Counted(disk) => disk.resize(bytes),
        }
    }

    fn free(&self) -> u64 {
        match self {
            Self::Tmpfs(mount, _) => {
                let disk = rustix::fs::statvfs(&mount.0).expect("a disk");
                disk.f_bavail * disk.f_frsize
            }
            Self::Counted(disk) => disk.free(),
        }
    }

    /// Somebody else takes all but so many bytes.
    pub fn fill_up_to(&self, left: u64) {
        let bytes = self.free() - left;
        match self {
            Self::Tmpfs(mount, _) => {
                std::fs::write(mount.0.join("filler"), vec![1; bytes as usize]).expect("there is room");
            }
            Self::Counted(disk) => disk.fill(bytes),
        }
    }

    /// And gives them back.
    pub fn unfill(&self) {
        match self {
            Self::Tmpfs(mount, _) => std::fs::remove_file(mount.0.join("filler")).expect("removed"),
            Self::Counted(disk) => disk.fill(0),
        }
    }
}

pub const FLAGS: [&str; 4] = ["--host-metrics", "off", "--head-bytes", "1MiB"];

// Without the floor, so that the disk is full indeed.
const NO_FLOOR: [&str; 6] = [FLAGS[0], FLAGS[1], FLAGS[2], FLAGS[3], "--disk-floor", "0"];

/// Writes until there is room again.
pub fn resume(server: &Server, request: u64) {
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

pub fn lines(request: u64) -> String {
    let mut random = crate::Random(request);
    let mut line = |i| {
        let noise: String = (0..60).map(|_| format!("{:x}", random.next())).collect();
        format!("m,s={i} v={i}i,w=\"{noise}\" {}\n", request * 1000 + i)
    };
    (0..ROWS).map(&mut line).collect()
}

pub fn rows(server: &Server) -> u64 {
    server.rows("d", "SELECT count(v) FROM m")[0][1]
        .as_u64()
        .expect("a count")
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    if let Some(disk) = Small::counted(24 << 20) {
        fill(&disk);
    }
}

#[test]
fn a_full_tmpfs_refuses_and_loses_nothing() {
    if let Some(disk) = Small::mounted(24 << 20) {
        fill(&disk);
    }
}

fn fill(disk: &Small) {
    let server = disk.start(&NO_FLOOR);
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
    let server = disk.start(&NO_FLOOR);
    assert_eq!(rows(&server), acked, "after kill -9 on a full disk");
    disk.resize(200 << 20);
    resume(&server, request);
    assert_eq!(rows(&server), acked + ROWS);
    assert_eq!(server.terminate(), Some(0));
    run(Command::new(KYMO)
        .arg("verify")
        .arg("--data-dir")
        .arg(disk.data()));
}

#[test]
fn a_small_disk_takes_points_down_to_its_floor_and_resumes() {
    if let Some(disk) = Small::counted(80 << 20) {
        come_to_the_floor(&disk);
    }
}

#[test]
fn a_small_tmpfs_takes_points_down_to_its_floor_and_resumes() {
    if let Some(disk) = Small::mounted(80 << 20) {
        come_to_the_floor(&disk);
    }
}

fn come_to_the_floor(disk: &Small) {
    let server = disk.start(&FLAGS);
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
    assert!(disk.free() > floor / 2, "refused before anything is full");
    assert_eq!(rows(&server), acked, "reads go on");
    assert_eq!(get(&server.url("/health")).expect("an answer").0, 200);
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    assert!(metrics.lines().any(|line| line == "kymo_disk_low 1"), "{metrics}");
    disk.resize(300 << 20);
    resume(&server, request);
    assert_eq!(rows(&server), acked + ROWS);
    assert_eq!(server.terminate(), Some(0));
}
