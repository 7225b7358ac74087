//! Bit rot: one bit of one file turned over. `kymo verify` must find it, or it must change nothing; the server must open
//! or say why not; and whatever it answers must be what was written.

use crate::db::{Db, Rows};
use crate::folder::{Image, fast_folder};
use crate::{Random, rounds};
use kymo::journal::disk::Folder;
use kymo::journal::replay::replay;
use kymo::store::verify::verify;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub const MEASUREMENTS: [&str; 3] = ["cpu", "noise", "late"];

/// A small folder that has everything: names, several runs, blob files, deletes, and a journal with batches that are not
/// sealed. Taken while the engine runs, as a crash leaves it.
pub fn example(dir: &Path) -> (Image, Vec<Rows>) {
    let mut random = Random(1);
    for life in 0..2i64 {
        let db = Db::open(dir).expect("a sound folder");
        let lines: String = (0..200i64)
            .map(|i| {
                format!(
                    "cpu,host=h{} usage={}i,s=\"x{i}\" {}\n",
                    i % 7,
                    i * life,
                    life * 86_400_000_000_000 + i
                )
            })
            .collect();
        db.write(&lines);
        let lines: String = (0..3000)
            .map(|i| {
                format!(
                    "noise,n={} v={} {}\n",
                    i % 3,
                    random.next() as f64 / 3.0,
                    life * 3000 + i
                )
            })
            .collect();
        db.write(&lines);
        db.query("DELETE FROM cpu WHERE time < 5");
        db.query("DROP SERIES FROM cpu WHERE host = 'h6'");
        db.0.stop();
    }
    let db = Db::open(dir).expect("a sound folder");
    for batch in 0..4 {
        let lines: String = (0..20)
            .map(|i| format!("late,batch={batch} v={i}i {i}\n"))
            .collect();
        db.write(&lines);
    }
    let rows = MEASUREMENTS.map(|m| db.rows(m).expect("a sound folder")).into();
    let image = Image::take(dir);
    db.0.stop();
    (image, rows)
}

#[derive(Debug, Default)]
struct Tally {
    flips: u64,
    refused: u64,
    answered_less_and_said_so: u64,
    nothing_lost: u64,
    harmless: u64,
    last_group: u64,
    /// Refused to open: how often, by file.
    refused_by_file: BTreeMap<PathBuf, u64>,
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    image.put(&work);
    assert_eq!(flaws(&work), [""; 0], "the example itself is sound");
    let mut random = Random(rounds("KYMO_SEED", 2));
    let mut tally = Tally::default();
    for bit in choose(&image, rounds("KYMO_FLIPS", 1000), &mut random) {
        check(&image, &bit, &expected, &work, &mut tally);
    }
    eprintln!("{tally:#?}");
    let found = tally.refused + tally.answered_less_and_said_so + tally.nothing_lost;
    assert!(
        found > tally.flips / 2,
        "most of the files' bytes matter: {tally:?}"
    );
}

/// Bits of every file: small files and starts of files more densely than the rest.
fn choose(image: &Image, count: u64, random: &mut Random) -> Vec<(PathBuf, u64)> {
    let files: Vec<(&PathBuf, u64)> = image
        .0
        .iter()
        .filter(|(path, _)| !path.ends_with("LOCK"))
        .map(|(path, content)| (path, (content.bytes.len() as u64 + 64).min(content.len)))
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    (0..count)
        .map(|i| {
            let (path, bytes) = files[(i % files.len() as u64) as usize];
            (path.clone(), random.below(bytes * 8))
        })
        .collect()
}

/// What `kymo verify` would find.
pub fn flaws(dir: &Path) -> Vec<String> {
    let verified = verify(&dir.join("store"), &mut |_| {}).expect("the files can be read");
    let watermark = verified.watermark.unwrap_or(0);
    let disk = Folder::open(&dir.join("journal")).expect("a folder");
    let replayed = replay(&disk, watermark, |_, _| Ok(())).expect("the files can be read");
    let of_journal = replayed.damage.iter().map(|damage| format!("{damage:?}"));
    verified
        .flaws
        .iter()
        .map(|flaw| format!("{flaw:?}"))
        .chain(of_journal)
        .collect()
}

fn check(image: &Image, (path, bit): &(PathBuf, u64), expected: &[Rows], work: &Path, tally: &mut Tally) {
    let place = format!("{} bit {bit}", path.display());
    let mut bad = image.clone();
    bad.0.get_mut(path).expect("it is in there").flip(*bit);
    bad.put(work);
    let damaged = !flaws(work).is_empty();
    tally.flips += 1;
    let db = match Db::open(work) {
        Ok(db) => db,
        Err(error) => {
            assert!(damaged, "{place}: verify finds nothing, and yet: {error}");
            tally.refused += 1;
            *tally.refused_by_file.entry(path.clone()).or_default() += 1;
            return;
        }
    };
    let told = db.0.recovery().damaged > 0;
    let (mut less, mut failed) = (0, false);
    for (measurement, expected) in MEASUREMENTS.iter().zip(expected) {
        match db.rows(measurement) {
            Ok(rows) => {
                for (key, values) in &rows {
                    assert_eq!(Some(values), expected.get(key), "{place}: {measurement} {key:?}");
                }
                less += expected.len() - rows.len();
            }
            Err(_) => failed = true,
        }
    }
    db.0.stop();
    // One write and sync of the journal's end: a crash may have cut it off before it was acknowledged.
    let of_last_group = path.starts_with("journal") && less == 20 && !failed;
    match (damaged, less > 0 || failed) {
        (true, false) => tally.nothing_lost += 1,
        (true, true) => {
            assert!(
                told || failed,
                "{place}: {less} rows are missing and nobody says so"
            );
            tally.answered_less_and_said_so += 1;
        }
        (false, false) => tally.harmless += 1,
        (false, true) if of_last_group => tally.last_group += 1,
        (false, true) => panic!("{place}: verify finds nothing, {less} rows are missing, failed: {failed}"),
    }
}

/// A start that died twice at a batch sets it aside; the rest is there, and `verify` says what is missing.
#[test]
fn a_batch_that_ends_the_server_is_set_aside() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    image.put(&work);
    let db = Db::open(&work).expect("a sound folder");
    let last = db.0.sequence();
    db.0.stop();
    image.put(&work);
    // As the note is when a second careful start died at the batch before the last.
    let note = [(last - 1).to_le_bytes(), 1u64.to_le_bytes()].concat();
    std::fs::write(work.join("replaying"), note).expect("room");
    for _ in 0..2 {
        let db = Db::open(&work).expect("it opens");
        assert_eq!(db.0.recovery().quarantined, 1);
        let rows = db.rows("late").expect("sound data");
        let there = |key: &(String, i64)| !key.0.contains("\"2\"");
        assert!(rows.len() == 60 && rows.keys().all(there), "{:?}", rows.keys());
        assert_eq!(db.rows("cpu").as_ref(), Ok(&expected[0]));
        db.0.stop();
        assert!(work.join(format!("quarantine-{}.batch", last - 1)).is_file());
    }
}
