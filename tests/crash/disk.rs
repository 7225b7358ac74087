//! A disk between a program and the file system, for where nobody may mount one: shim.c, compiled here and loaded before libc. It
//! counts room, stands still, lets operations fail, and writes down what was written, named and synced ([`crate::history`]).
//!
//! Not shown by it: what the kernel does with pages and blocks. Room that a removed file still holds because somebody has it open counts
//! as free, folders and lists of blocks take none. The mounted forms of the tests show these, where mounting is allowed.

use crate::support::{KYMO, missing, program, run};
use std::fs::{File, OpenOptions};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The numbers of `struct control` in shim.c, by their place.
#[derive(Clone, Copy)]
enum Number {
    Quota = 0,
    Frozen = 1,
    FailFrom = 2,
    FailUntil = 3,
    FailErrno = 4,
    Operations = 5,
    Used = 6,
    Failed = 7,
    Filler = 8,
}
const NUMBERS: u64 = 9;

/// See the module.
pub struct Disk {
    dir: tempfile::TempDir,
    control: File,
    /// Below which folder operations may fail; all: everywhere.
    fails: String,
}

fn shim() -> Option<&'static Path> {
    static SHIM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = SHIM.get_or_init(|| {
        if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
            missing("Linux on 64 bits");
            return None;
        }
        let gcc = program("gcc", "gcc")?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let shim = dir.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/shim.c");
        run(Command::new(gcc)
            .args(["-O2", "-fPIC", "-shared", "-o"])
            .arg(&shim)
            .arg(source)
            .arg("-lpthread"));
        Some((dir, shim))
    });
    made.as_ref().map(|(_, shim)| shim.as_path())
}

impl Disk {
    /// An empty one with as much room as the file system has; `None`, loudly, without a C compiler.
    pub fn new() -> Option<Self> {
        shim()?;
        let dir = crate::folder::fast_folder();
        std::fs::create_dir(dir.path().join("disk")).expect("a folder");
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("control"))
            .expect("a file");
        control.set_len(NUMBERS * 8).expect("room");
        Some(Self {
            dir,
            control,
            fails: String::new(),
        })
    }

    /// Only what is done below this folder of it may fail, and is counted.
    pub fn failing_below(mut self, folder: &str) -> Self {
        self.fails = folder.to_string();
        self
    }

    /// The folder that is watched.
    pub fn path(&self) -> PathBuf {
        let path = self.dir.path().join("disk");
        path.canonicalize().expect("it was made")
    }

    /// Where everything is written down once [`recorded`](Self::recorded) runs.
    pub fn record(&self) -> PathBuf {
        self.dir.path().join("record")
    }

    /// The environment of a program that is to have this disk.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let shim = shim().expect("there was one when the disk was made");
        vec![
            ("LD_PRELOAD", text(shim)),
            ("KYMO_DISK_FOLDER", text(&self.path())),
            ("KYMO_DISK_CONTROL", text(&self.dir.path().join("control"))),
            ("KYMO_DISK_FAILS", self.fails.clone()),
        ]
    }

    /// How the server is started on this disk.
    pub fn server(&self) -> Vec<String> {
        self.command(self.environment())
    }

    /// The same, and everything is written down.
    pub fn recorded(&self) -> Vec<String> {
        let mut environment = self.environment();
        environment.push(("KYMO_DISK_RECORD", self.record().to_string_lossy().into_owned()));
        self.command(environment)
    }

    fn command(&self, environment: Vec<(&'static str, String)>) -> Vec<String> {
        let environment = environment
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"));
        std::iter::once("env".to_string())
            .chain(environment)
            .chain([KYMO.to_string()])
            .collect()
    }

    fn set(&self, number: Number, value: u64) {
        let written = self.control.write_all_at(&value.to_ne_bytes(), number as u64 * 8);
        written.expect("it has room");
    }

    fn get(&self, number: Number) -> u64 {
        let mut value = [0; 8];
        let read = self.control.read_exact_at(&mut value, number as u64 * 8);
        read.expect("it has all of them");
        u64::from_ne_bytes(value)
    }

    /// How many bytes fit on it.
    pub fn resize(&self, bytes: u64) {
        self.set(Number::Quota, bytes);
    }

    /// So many bytes of it somebody else takes.
    pub fn fill(&self, bytes: u64) {
        self.set(Number::Filler, bytes);
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let taken = self.get(Number::Used) + self.get(Number::Filler);
        self.get(Number::Quota).saturating_sub(taken)
    }

    /// Whoever changes something waits.
    pub fn freeze(&self, frozen: bool) {
        self.set(Number::Frozen, u64::from(frozen));
    }

    /// Operations with these numbers, from 1 on, fail with this error of the system; with 0 half of each write is done.
    pub fn fail(&self, numbers: RangeInclusive<u64>, errno: i32) {
        self.set(Number::FailErrno, errno as u64);
        self.set(Number::FailUntil, *numbers.end());
        self.set(Number::FailFrom, *numbers.start());
    }

    /// Nothing fails any more.
    pub fn heal(&self) {
        self.set(Number::FailFrom, 0);
    }

    /// Operations that there were.
    pub fn operations(&self) -> u64 {
        self.get(Number::Operations)
    }

    /// Operations that failed because they were told to, or because there was no room.
    pub fn failed(&self) -> u64 {
        self.get(Number::Failed)
    }
}
