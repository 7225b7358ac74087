//! The files without which much or all could not be read have copies: whatever happens to one of them, the next start puts it back.

use crate::db::Db;
use crate::flips::{MEASUREMENTS, example};
use crate::folder::{Content, Image, fast_folder};
use crate::support::KYMO;
use crate::{Random, rounds};
use kymo::store::files;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIRROR: &str = "store/mirror";
const ORIGINALS: &str = "store/keyspaces";

fn verify(data: &Path, flags: &[&str]) -> (bool, String) {
    let mut command = Command::new(KYMO);
    command.arg("verify").args(flags).arg("--data-dir");
    let output = command.arg(data).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Only what is missing or has lost its end is put back of what would take long to look at.
#[test]
fn a_start_looks_at_no_more_than_it_has_time_for() {
    let dir = fast_folder();
    let (image, _) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let store = work.join("store");
    let put_back = |bytes_max| files::put_back(&store, bytes_max, &mut |_| Ok(())).expect("room");
    let is_long = |path: &Path| {
        ["2", "3"]
            .map(|n| Path::new(ORIGINALS).join(n))
            .iter()
            .any(|f| path.starts_with(f))
    };
    let pairs = pairs(&image);
    let long = pairs
        .iter()
        .filter(|(path, _)| path.components().count() > 4 && is_long(path));
    let mut count = 0;
    for (original, _) in long {
        let mut bad = image.clone();
        bad.0.get_mut(original).expect("it is in there").flip(0);
        bad.put(&work);
        assert_eq!(put_back(0), [] as [PathBuf; 0], "{original:?}");
        assert_eq!(put_back(u64::MAX), [work.join(original)]);
        let mut bytes = bad.0[original].bytes.clone();
        bytes.pop();
        bad.0.insert(original.clone(), Content::new(bytes));
        bad.put(&work);
        assert_eq!(put_back(0), [work.join(original)]);
        bad.0.remove(original);
        bad.put(&work);
        assert_eq!(put_back(0), [work.join(original)]);
        count += 1;
    }
    assert!(count > 2, "tables of runs and of series: {count}");
}

/// Which runs there are, and where their columns lie, is known even when every value of the engine's files of values is gone: a pack's header and a
/// directory may be long, and lie in tables all the same.
#[test]
fn files_of_values_have_nothing_that_others_need() {
    const THIN: u64 = 6000;
    let dir = fast_folder();
    let data = dir.path().join("data");
    let db = Db::open(&data).expect("a new folder");
    let mut random = Random(5);
    // As many rows and series as chance has it: what a header says of them must not be short.
    let mut lines = String::new();
    for i in 0..THIN {
        let (hosts, more) = (1 + random.below(8), random.below(16));
        for time in 0..hosts + more {
            lines += &format!("thin{i},host={} v={i}i {time}\n", time % hosts);
        }
    }
    let values = 0..600;
    for row in 0..20 {
        let fields: Vec<String> = values
            .clone()
            .map(|f| format!("f{f}={}", random.below(1 << 40) as f64 / 7.0))
            .collect();
        let noise: String = (0..5000)
            .map(|_| char::from(b'a' + random.below(26) as u8))
            .collect();
        lines += &format!("wide,host=a long=\"{noise}\",{} {row}\n", fields.join(","));
    }
    db.write(&lines);
    db.0.stop();
    drop(db);
    let image = Image::take(&data);
    let blobs = |path: &Path| path.starts_with("store/keyspaces/2/blobs");
    let mut bad = image.clone();
    let mut bytes = 0;
    for (path, content) in &mut bad.0 {
        if blobs(path) {
            // Its end is looked at before the engine opens: what keeps it from asking for 70 GB.
            let end = content.bytes.len().saturating_sub(1000);
            content.bytes[..end].iter_mut().for_each(|byte| *byte ^= 0x55);
            bytes += end;
        }
    }
    assert!(bytes > 50_000, "only {bytes} bytes of values");
    let work = dir.path().join("work");
    let thin = |db: &Db| {
        for i in [0, 1, THIN / 2, THIN - 1] {
            let rows = db.rows(&format!("thin{i}")).expect("sound");
            let value = rows.into_values().next().expect("a row");
            assert!(value.ends_with(&format!(",{i}]")), "{value}");
        }
    };
    bad.put(&work);
    let db = Db::open(&work).expect("it opens");
    thin(&db);
    let error = db.rows("wide").expect_err("its values are gone");
    assert!(
        error.starts_with("damaged data in field 0 of stripe 0 of measurement"),
        "{error}"
    );
    let rows = db.rows_of("f1", "wide").expect("nothing of this column is");
    assert_eq!(rows.len(), 20);
    db.0.stop();
    drop(db);
    let (sound, said) = verify(&work, &[]);
    assert!(
        !sound && !said.contains("header") && !said.contains("directory of"),
        "{said}"
    );
    let (sound, said) = verify(&work, &["--repair"]);
    assert!(sound && said.contains("lost: "), "{said}");
    let db = Db::open(&work).expect("it opens");
    thin(&db);
    let left = ["long", "f1"].map(|column| db.rows_of(column, "wide").expect("what is lost is gone").len());
    assert_eq!(left, [0, 20], "only its column is lost");
    db.0.stop();
}

/// Files that have a copy, as (original, copy).
fn pairs(image: &Image) -> Vec<(PathBuf, PathBuf)> {
    let copies = image.0.keys().filter_map(|copy| {
        let below = copy.strip_prefix(MIRROR).ok()?;
        Some((Path::new(ORIGINALS).join(below), copy.clone()))
    });
    copies.collect()
}

#[test]
fn what_has_a_copy_is_put_back_whatever_happens_to_it() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let pairs = pairs(&image);
    let lists = pairs.iter().filter(|(path, _)| path.components().count() == 4);
    assert_eq!(lists.count(), 4, "the list of each keyspace: {pairs:?}");
    let names = pairs
        .iter()
        .filter(|(path, _)| path.starts_with("store/keyspaces/1/tables"));
    assert!(names.count() > 0, "{pairs:?}");
    let mut random = Random(rounds("KYMO_SEED", 12));
    for (original, copy) in &pairs {
        assert_eq!(image.0[original].bytes, image.0[copy].bytes, "{original:?}");
        for way in 0..4 {
            let mut bad = image.clone();
            match way {
                0 => drop(bad.0.remove(original)),
                1 => {
                    let mut bytes = bad.0[original].bytes.clone();
                    bytes.truncate(random.below(bytes.len() as u64) as usize);
                    bad.0.insert(original.clone(), Content::new(bytes));
                }
                _ => {
                    let content = bad.0.get_mut(original).expect("it is in there");
                    content.flip(random.below(content.len * 8));
                }
            }
            bad.put(&work);
            let damaged = bad.0.get(original).cloned();
            let place = format!("{original:?}, way {way}");
            let (sound, said) = verify(&work, &[]);
            assert!(!sound, "{place}: {said}");
            let db = Db::open(&work).unwrap_or_else(|error| panic!("{place}: {error}"));
            for (measurement, expected) in MEASUREMENTS.iter().zip(&expected) {
                assert_eq!(
                    db.rows(measurement).as_ref(),
                    Ok(expected),
                    "{place}: {measurement}"
                );
            }
            db.0.stop();
            drop(db);
            // Nobody but its owner throws it away.
            let kept = Image::take(&work.join("store/damaged"));
            assert!(
                damaged.is_none_or(|damaged| kept.0.values().any(|file| *file == damaged)),
                "{place}: what was put back took the place of it"
            );
            let (sound, said) = verify(&work, &[]);
            assert!(sound, "{place}: {said}");
        }
        // The tool does the same without a server.
        let mut bad = image.clone();
        bad.0.remove(original);
        bad.put(&work);
        let (sound, said) = verify(&work, &["--repair"]);
        assert!(
            sound && said.contains("put back from its copy"),
            "{original:?}: {said}"
        );
    }
}

#[test]
fn a_damaged_copy_is_found_and_made_again_and_never_put_back() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let mut random = Random(rounds("KYMO_SEED", 13));
    for (original, copy) in &pairs(&image) {
        let mut bad = image.clone();
        let content = bad.0.get_mut(copy).expect("it is in there");
        content.flip(random.below(content.len * 8));
        bad.put(&work);
        let (sound, said) = verify(&work, &[]);
        assert!(!sound && said.contains("a copy that differs"), "{copy:?}: {said}");
        let (sound, said) = verify(&work, &["--repair"]);
        assert!(sound, "{copy:?}: {said}");
        let db = Db::open(&work).unwrap_or_else(|error| panic!("{copy:?}: {error}"));
        assert_eq!(db.rows("cpu").as_ref(), Ok(&expected[0]), "{copy:?}");
        db.0.stop();
        // Both damaged: no copy is put back that is not what the list says.
        let content = bad.0.get_mut(original).expect("it is in there");
        content.flip(random.below(content.len * 8));
        bad.put(&work);
        let (sound, said) = verify(&work, &["--repair"]);
        let told = said.contains("put back from its copy");
        assert!(!sound && !told, "{original:?}: {said}");
    }
}
