//! Power loss under a real file system: the engine runs on ext4 on a disk that remembers ([`crate::recorder`]). Afterwards the disk is
//! made again as it may have been at moments in between: everything up to the last sync, and of the writes after it none, all, or
//! any, torn at sectors of 512 bytes. ext4 recovers what it finds, the engine opens it, fjall's files and all, and what was
//! acknowledged before that moment must be there, whole.
//!
//! ext4 is mounted with `data=writeback,noauto_da_alloc`, which spares it the favours it does to programs that sync too little. Not
//! shown: other file systems, and disks that lie about their syncs. Needs the right to mount; left out, loudly, without.

use crate::db::Db;
use crate::recorder::{Done, NAME, Recording, mount};
use crate::{Random, rounds};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

const DISK_BYTES: usize = 160 << 20;
const SECTOR: usize = 512;
const ROWS: u64 = 10;
/// It goes on until there was so much of everything, and a merge if one comes before there were too many batches.
const BATCHES: (usize, usize) = (60, 1000);
const SYNCS: usize = 120;
const SEALS: u64 = 6;

/// Something mounted; taken down when it goes.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if !output.status.success() {
        eprintln!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

fn loop_of(file: &Path) -> Option<Loop> {
    output(Command::new("losetup").args(["-f", "--show"]).arg(file)).map(Loop)
}

fn mount_ext4(device: &Loop, at: &Path) -> Option<Mounted> {
    std::fs::create_dir_all(at).expect("a folder");
    output(
        Command::new("mount")
            .args(["-t", "ext4", "-o", "data=writeback,noauto_da_alloc", &device.0])
            .arg(at),
    )
    .map(|_| Mounted(at.to_path_buf()))
}

/// What was done to the disk, and which batches were acknowledged after how much of it.
struct Run {
    before: Vec<u8>,
    done: Vec<Done>,
    acknowledged: Vec<(u64, usize)>,
    seals: u64,
    merges: u64,
}

/// Seals and merges.
fn counts(db: &Db) -> (u64, u64) {
    let (seals, merges) = (&db.0.seal_figures().0.seals, &db.0.merge_figures().merges);
    (seals.load(Relaxed), merges.load(Relaxed))
}

fn load(db: &Db, disk: &Mutex<Recording>) -> Vec<(u64, usize)> {
    let mut acknowledged = Vec::new();
    let (mut batch, mut syncs, mut looked_at) = (0, 0, 0);
    let is_enough = |batches: usize, syncs: usize| {
        let (seals, merges) = counts(db);
        let all = batches >= BATCHES.0 && syncs >= SYNCS && seals >= SEALS;
        all && (merges > 0 || batches >= BATCHES.1)
    };
    while !is_enough(acknowledged.len(), syncs) {
        batch += 1;
        let lines: String = (0..ROWS)
            .map(|i| format!("m,b={} v={batch}i {}\n", i % 5, batch * 1000 + i))
            .collect();
        // Many rows now and then, so that seals and merges happen meanwhile.
        let filler: String = (0..4000)
            .filter(|_| batch % 4 == 0)
            .map(|i| format!("filler,n={i} v={i}.5,w={i}i,x=\"{i}\" {batch}\n"))
            .collect();
        db.write(&(lines + &filler));
        let disk = disk.lock().expect("unpoisoned");
        let new = disk.done[looked_at..].iter();
        syncs += new.filter(|done| matches!(done, Done::Sync)).count();
        looked_at = disk.done.len();
        drop(disk);
        acknowledged.push((batch, looked_at));
        if batch % 50 == 0 {
            db.query("DELETE FROM filler WHERE time < 10");
        }
    }
    acknowledged
}

fn record(dir: &Path) -> Option<Run> {
    let fuse = dir.join("fuse");
    std::fs::create_dir_all(&fuse).expect("a folder");
    let (session, disk) = mount(&fuse, DISK_BYTES)?;
    let device = loop_of(&fuse.join(NAME))?;
    output(Command::new("mkfs.ext4").args(["-q", &device.0]))?;
    let live = mount_ext4(&device, &dir.join("live"))?;
    let before = {
        let mut disk = disk.lock().expect("unpoisoned");
        disk.recording = true;
        disk.bytes().to_vec()
    };
    // A small head, so that there are many seals.
    let db = Db::with_head(&live.0.join("data"), 256 << 10).expect("a new folder");
    let acknowledged = load(&db, &disk);
    let (seals, merges) = counts(&db);
    db.0.stop();
    drop(db);
    let done = {
        let mut disk = disk.lock().expect("unpoisoned");
        disk.recording = false;
        std::mem::take(&mut disk.done)
    };
    drop(live);
    drop(device);
    drop(session);
    Some(Run {
        before,
        done,
        acknowledged,
        seals,
        merges,
    })
}

/// Writes that no sync covers: none, all, or any of their sectors.
fn tear(image: &mut [u8], unsynced: &[Done], random: &mut Random) {
    let mode = random.below(3);
    for done in unsynced {
        let Done::Write(offset, bytes) = done else {
            continue;
        };
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            if mode == 1 || (mode == 2 && random.below(2) == 0) {
                image[offset + i * SECTOR..][..sector.len()].copy_from_slice(sector);
            }
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_power_loss_on_ext4() {
    let dir = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "/tmp"
    });
    let dir = dir.expect("a temporary folder");
    let Some(run) = record(dir.path()) else {
        eprintln!("LEFT OUT: this test needs /dev/fuse, loop devices, ext4 and the right to mount");
        return;
    };
    let syncs = run.done.iter().filter(|done| matches!(done, Done::Sync)).count();
    let told = (run.acknowledged.len(), syncs, run.seals);
    assert!(
        told.0 >= BATCHES.0 && told.1 >= SYNCS && told.2 >= SEALS,
        "too little to show anything: {told:?}"
    );
    let mut random = Random(rounds("KYMO_SEED", 1));
    let mut moments: Vec<usize> = (0..rounds("KYMO_POWER_CUTS", 12))
        .map(|_| random.below(run.done.len() as u64) as usize)
        .collect();
    moments.sort_unstable();
    let (mut durable, mut applied) = (run.before, 0);
    let mut rows = 0;
    for moment in &moments {
        let synced = run.done[..*moment]
            .iter()
            .rposition(|done| matches!(done, Done::Sync))
            .unwrap_or(0)
            .max(applied);
        for done in &run.done[applied..synced] {
            if let Done::Write(offset, bytes) = done {
                durable[*offset..][..bytes.len()].copy_from_slice(bytes);
            }
        }
        applied = synced;
        let mut image = durable.clone();
        tear(&mut image, &run.done[synced..*moment], &mut random);
        let file = dir.path().join("image");
        std::fs::write(&file, &image).expect("room");
        let device = loop_of(&file).expect("a loop device");
        let mounted = mount_ext4(&device, &dir.path().join("again")).expect("ext4 recovers");
        rows += check(&mounted.0.join("data"), &run.acknowledged, *moment);
        drop(mounted);
        drop(device);
    }
    eprintln!(
        "{} power cuts in {} writes and {syncs} syncs of the disk; {} batches, {} seals, {} merges; {rows} rows read",
        moments.len(),
        run.done.len() - syncs,
        run.acknowledged.len(),
        run.seals,
        run.merges
    );
}

/// Opens what is left: rows found.
fn check(data: &Path, acknowledged: &[(u64, usize)], moment: usize) -> usize {
    let db = Db::open(data).unwrap_or_else(|error| panic!("cut after {moment}: {error}"));
    assert_eq!(db.0.recovery().damaged, 0, "cut after {moment}");
    if db.0.catalog().database("d").is_none() {
        assert!(
            acknowledged.iter().all(|(_, at)| *at > moment),
            "cut after {moment}"
        );
        db.0.stop();
        return 0;
    }
    let found = db
        .rows("m")
        .unwrap_or_else(|error| panic!("cut after {moment}: {error}"));
    let filler = db
        .rows("filler")
        .unwrap_or_else(|error| panic!("cut after {moment}: {error}"));
    db.0.stop();
    let mut counts = BTreeMap::<u64, u64>::new();
    for (_, time) in found.keys() {
        *counts.entry(*time as u64 / 1000).or_default() += 1;
    }
    for (batch, at) in acknowledged.iter().filter(|(_, at)| *at <= moment) {
        assert_eq!(
            counts.get(batch),
            Some(&ROWS),
            "cut after {moment}: batch {batch} was acknowledged after {at}"
        );
    }
    assert!(
        counts.values().all(|&rows| rows == ROWS),
        "cut after {moment}: half a batch"
    );
    found.len() + filler.len()
}
