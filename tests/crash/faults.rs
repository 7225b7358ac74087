//! A disk that fails under the real store: one operation of a short life (a write, a sync, a file made, renamed, removed or cut) fails
//! with an input/output error or for want of room, or half of a write is done; or every one from there on. Each operation of the life takes its turn. What was acknowledged must be answered
//! by the process that saw the failure, and by the next one, whether the first was stopped in order or ended in the middle of it.
//!
//! The life is this test in a process of its own, on a disk below libc ([`crate::disk`]). Not shown: what a kernel forgets of pages whose sync failed (the
//! journal's simulation does that).

use crate::db::Db;
use crate::disk::Disk;
use crate::rounds;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const NAME: &str = "faults::a_disk_may_fail_at_any_operation";
/// Where the life is to be; what it is about to do and has done goes into a file beside it.
const FOLDER: &str = "KYMO_FAULTS_FOLDER";
const NOTES: &str = "KYMO_FAULTS_NOTES";
const STOPS: &str = "KYMO_FAULTS_STOPS";
const PATIENCE: Duration = Duration::from_secs(120);
const BATCHES: u64 = 4;
const ROWS: u64 = 10;
const HEAD_BYTES: u64 = 64 << 10;
/// The batch after which a seal comes.
const SEALED: u64 = 2;
/// Lives at a time: one that waits for a seal to be tried again does nothing.
const AT_A_TIME: usize = 6;

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
const HALF: &str = "half a write";
const WRONG_CHECKSUM: &str = "its content does not match its checksum";
/// What happens, and whether to everything from there on.
const WAYS: [(&str, i32, bool); 5] = [
    ("EIO once", EIO, false),
    ("ENOSPC once", ENOSPC, false),
    (HALF, 0, false),
    ("EIO from then on", EIO, true),
    ("ENOSPC from then on", ENOSPC, true),
];

#[test]
fn a_disk_may_fail_at_any_operation() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        live(Path::new(&folder));
    }
    let Some(disk) = Disk::new() else { return };
    let sound = Life::begin(disk, "nothing fails".to_string(), false, true);
    let operations = sound.end();
    // How far apart the operations are that fail; 1: all.
    let step = rounds("KYMO_FAULTS_STEP", 40);
    let mut lives = Vec::new();
    let (mut count, mut failed) = (0, 0);
    for (w, (way, errno, for_ever)) in WAYS.iter().enumerate() {
        let first = 1 + (w as u64 * 5 + rounds("KYMO_SEED", 0)) % step;
        for at in (first..=operations).step_by(step as usize) {
            if lives.len() == AT_A_TIME {
                failed += u64::from(Life::end(lives.remove(0)) > 0);
            }
            let disk = Disk::new().expect("there was one before");
            let place = format!("{way} at operation {at} of {operations}");
            disk.fail(at..=if *for_ever { u64::MAX } else { at }, *errno);
            lives.push(Life::begin(disk, place, true, at % 2 == 0));
            count += 1;
        }
    }
    for life in lives {
        failed += u64::from(life.end() > 0);
    }
    eprintln!("{count} lives with a disk that fails, of {operations} operations each; in {failed} it did");
    assert!(failed > count / 2, "too few failed: {failed} of {count}");
}

/// The second one is more than [`HEAD_BYTES`], but all are less than twice as much: then writers would wait for a seal, which may never succeed.
fn lines(batch: u64) -> String {
    let own = (0..ROWS).map(|i| format!("m,b={} v={batch}i {}\n", i % 5, batch * 1000 + i));
    let mut random = crate::Random(1);
    // Noise, so that they take the same room packed and unpacked.
    let mut noise = move || (random.next() >> 11) as f64 / 1e15;
    let rows = (0..2200).filter(|_| batch == SEALED);
    let filler = rows.map(|i| {
        format!(
            "filler a={},b={},c={},d={} {i}\n",
            noise(),
            noise(),
            noise(),
            noise()
        )
    });
    own.chain(filler).collect()
}

/// The rows of each batch.
fn found(db: &Db, place: &str) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    if db.0.catalog().database("d").is_none() {
        return counts;
    }
    let rows = db.rows("m").unwrap_or_else(|error| panic!("{place}: {error}"));
    for (_, time) in rows.keys() {
        *counts.entry(*time as u64 / 1000).or_default() += 1;
    }
    counts
}

/// What was begun and what was done, by batch; `0` is the delete of batch 1.
#[derive(Default, Debug)]
struct Notes {
    begun: Vec<u64>,
    done: Vec<u64>,
}

impl Notes {
    fn judge(&self, counts: &BTreeMap<u64, u64>, place: &str) {
        for (batch, rows) in counts {
            assert!(
                self.begun.contains(batch) && *rows == ROWS,
                "{place}: batch {batch} has {rows} rows; {self:?}"
            );
        }
        for batch in self.done.iter().filter(|batch| **batch > 0) {
            let may_be_gone = *batch == 1 && self.begun.contains(&0);
            assert!(
                counts.contains_key(batch) || may_be_gone,
                "{place}: batch {batch} was acknowledged and is gone; {self:?}"
            );
        }
        assert!(
            !self.done.contains(&0) || !counts.contains_key(&1),
            "{place}: batch 1 was deleted and is there; {self:?}"
        );
    }
}

/// In a process of its own.
fn live(folder: &Path) -> ! {
    let mut file = std::fs::File::create(std::env::var_os(NOTES).expect("it is told")).expect("a file");
    let mut notes = Notes::default();
    let mut note = |text: String| {
        file.write_all(text.as_bytes())
            .expect("it is on no disk that fails")
    };
    let db = match Db::with_head(&folder.join("data"), HEAD_BYTES) {
        Ok(db) => db,
        Err(error) => {
            note(format!("error {error}\n"));
            std::process::exit(0);
        }
    };
    for batch in 1..=BATCHES {
        note(format!("begun {batch}\n"));
        notes.begun.push(batch);
        match db.try_write(&lines(batch)) {
            Ok(_) => {
                note(format!("done {batch}\n"));
                notes.done.push(batch);
            }
            Err(error) => note(format!("error {error}\n")),
        }
        if batch == 2 {
            note("begun 0\n".to_string());
            notes.begun.push(0);
            let answer = db.query("DELETE FROM m WHERE time >= 1000 AND time < 2000");
            if !answer.contains("error") {
                note("done 0\n".to_string());
                notes.done.push(0);
            }
        }
        // A seal, or one that fails: later batches stay in the journal.
        let began = Instant::now();
        let counters = || {
            let counters = db.0.seal_figures().0;
            counters.seals.load(Ordering::Relaxed) + counters.failures.load(Ordering::Relaxed)
        };
        while batch == SEALED && notes.done.contains(&batch) && counters() == 0 {
            assert!(began.elapsed() < PATIENCE, "no seal");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    notes.judge(&found(&db, "in the same process"), "in the same process");
    if std::env::var_os(STOPS).is_some() {
        db.0.stop();
    }
    note("end\n".to_string());
    std::process::exit(0);
}

struct Life {
    child: Child,
    disk: Disk,
    notes: PathBuf,
    place: String,
    may_fail: bool,
}

impl Life {
    fn begin(disk: Disk, place: String, may_fail: bool, stops: bool) -> Self {
        let notes = disk.record().with_extension("notes");
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .args([NAME, "--exact", "--nocapture"])
            .envs(disk.environment())
            .env(FOLDER, disk.path())
            .env(NOTES, &notes)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if stops {
            command.env(STOPS, "1");
        }
        Self {
            child: command.spawn().expect("this test starts"),
            disk,
            notes,
            place,
            may_fail,
        }
    }

    /// Waits, and looks at what is left: how many operations failed, or how many there were if none was to.
    fn end(self) -> u64 {
        let place = &self.place;
        let output = self.child.wait_with_output().expect("a child");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && !said.contains("panicked at"),
            "{place}: {said}"
        );
        let text = std::fs::read_to_string(&self.notes).expect("notes");
        let numbers = |kind: &str| {
            let numbers = text.lines().filter_map(|line| line.strip_prefix(kind));
            numbers.map(|n| n.trim().parse().expect("a number")).collect()
        };
        let notes = Notes {
            begun: numbers("begun "),
            done: numbers("done "),
        };
        let failed = self.disk.failed();
        if failed == 0 {
            assert!(
                !text.contains("error"),
                "{place}: nothing failed, and yet: {text}"
            );
        }
        // Now the disk is sound again.
        let data = self.disk.path().join("data");
        let db = Db::open(&data).unwrap_or_else(|error| panic!("{place}: {error}; {text}"));
        assert_eq!(db.0.recovery().damaged, 0, "{place}");
        notes.judge(&found(&db, place), place);
        db.0.stop();
        drop(db);
        let mut flaws = crate::flips::flaws(&data);
        if place.starts_with(HALF) {
            // The storage engine counts bytes twice in a file's checksum that are written in two goes. Nothing of the content is lost by it.
            flaws.retain(|flaw| !(flaw.contains("/blobs/") && flaw.contains(WRONG_CHECKSUM)));
        }
        assert_eq!(flaws, [""; 0], "{place}: not sound afterwards");
        if self.may_fail {
            failed
        } else {
            self.disk.operations()
        }
    }
}
