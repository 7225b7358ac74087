//! The files without which much or all could not be read have copies, and so have the ends of files of values: whatever happens to one of them, the next start puts it
//! back.

use crate::db::{Db, Rows};
use crate::flips::{MEASUREMENTS, example};
use crate::folder::{Content, Image, fast_folder};
use crate::support::KYMO;
use crate::{Random, rounds};
use kymo::store::{Store, StoreOptions, files};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIRROR: &str = "store/mirror";
const ORIGINALS: &str = "store/keyspaces";
/// Files of values, below the originals, and the copies of their ends, below the copies.
const VALUES: &str = "2/blobs";
const ENDS: &str = "2/ends";
/// Bytes of the copy of an end that are not of the end: version, length of the file, checksum.
const ABOUT_COPY: u64 = 17;

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
    let put_back = |bytes_max| {
        let back = files::put_back(&store, bytes_max, &mut |_, _| Ok(())).expect("room");
        back.into_iter().map(|back| back.path).collect::<Vec<PathBuf>>()
    };
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

/// Files that have a whole copy, as (original, copy).
fn pairs(image: &Image) -> Vec<(PathBuf, PathBuf)> {
    let copies = image.0.keys().filter_map(|copy| {
        let below = copy.strip_prefix(MIRROR).ok()?;
        let is_end = below.starts_with(ENDS);
        (!is_end).then(|| (Path::new(ORIGINALS).join(below), copy.clone()))
    });
    copies.collect()
}

/// Files of values, with the copies of their ends: (original, copy, where the end begins).
fn ends(image: &Image) -> Vec<(PathBuf, PathBuf, u64)> {
    let copies = image.0.iter().filter_map(|(copy, content)| {
        let number = copy.strip_prefix(Path::new(MIRROR).join(ENDS)).ok()?;
        let original = Path::new(ORIGINALS).join(VALUES).join(number);
        let start = image.0[&original].len - (content.len - ABOUT_COPY);
        Some((original, copy.clone(), start))
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

/// Everything that a database answers is as expected, or, if so much may be lost, an error or nothing.
fn check(db: &Db, expected: &[Rows], may_be_lost: bool, place: &str) -> u64 {
    let mut lost = 0;
    for (measurement, expected) in MEASUREMENTS.iter().zip(expected) {
        match db.rows(measurement) {
            Ok(rows) if rows == *expected => {}
            Ok(rows) => panic!(
                "{place}: {measurement}: {} of {} rows",
                rows.len(),
                expected.len()
            ),
            Err(error) => {
                assert!(
                    may_be_lost && error.contains("damaged"),
                    "{place}: {measurement}: {error}"
                );
                lost += 1;
            }
        }
    }
    lost
}

#[test]
fn the_end_of_a_file_of_values_is_put_back_whatever_happens_to_it() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let ends = ends(&image);
    assert!(ends.len() > 1, "{ends:?}");
    let mut random = Random(rounds("KYMO_SEED", 14));
    for (original, copy, start) in &ends {
        let whole = &image.0[original];
        let end = whole.len - start;
        assert!((100..4096).contains(&end), "{original:?}: {end} bytes");
        for way in 0..5 {
            let mut bytes = whole.bytes.clone();
            bytes.resize(whole.len as usize, 0);
            match way {
                // Nothing but the end.
                0 => bytes.truncate(*start as usize + random.below(end) as usize),
                // Values, too.
                1 => bytes.truncate(random.below(start - 2000) as usize),
                2 => bytes.extend(b"what does not belong there"),
                _ => {}
            }
            let cut = start.saturating_sub(bytes.len() as u64);
            let mut content = Content::new(bytes);
            if way > 2 {
                content.flip((start + random.below(end)) * 8 + random.below(8));
            }
            let mut bad = image.clone();
            bad.0.insert(original.clone(), content.clone());
            bad.put(&work);
            let place = format!("{original:?}, way {way}");
            let (sound, said) = verify(&work, &[]);
            assert!(!sound, "{place}: {said}");
            let db = Db::open(&work).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(db.0.store_figures().healed_files, 1, "{place}");
            let lost = check(&db, &expected, cut > 0, &place);
            db.0.stop();
            drop(db);
            let now = Image::take(&work);
            // If it was not merged meanwhile.
            if let Some(now) = now.0.get(original) {
                let end = *start as usize..;
                assert_eq!(now.bytes[end.clone()], whole.bytes[end], "{place}");
                assert_eq!(now.bytes == whole.bytes, cut == 0, "{place}");
            }
            let kept = now.0.iter().find(|(path, _)| path.starts_with("store/damaged"));
            let replaced = content.bytes.get(*start as usize..).unwrap_or_default();
            assert_eq!(
                kept.map_or(&[][..], |(_, kept)| &kept.bytes[..]),
                replaced,
                "{place}: what was put back took the place of it"
            );
            let (sound, said) = verify(&work, &[]);
            assert!(sound || cut > 0, "{place}: {said}");
            // The tool does the same without a server, and then goes on around what is lost.
            bad.put(&work);
            let (sound, said) = verify(&work, &["--repair"]);
            assert!(
                sound && said.contains("its end was put back from its copy"),
                "{place}: {said}"
            );
            assert_eq!(
                said.contains("bytes before it are lost"),
                cut > 0,
                "{place}: {said}"
            );
            assert!(lost == 0 || said.contains("\nlost: "), "{place}: {said}");
            let db = Db::open(&work).unwrap_or_else(|error| panic!("{place}: {error}"));
            if cut == 0 {
                check(&db, &expected, false, &place);
            }
            db.0.stop();
        }
        removed(&image, original, copy, &expected, &work);
    }
}

/// A file of values that is not there may be elsewhere: a start says so and does nothing. The tool goes on without it.
fn removed(image: &Image, original: &Path, copy: &Path, expected: &[Rows], work: &Path) {
    let mut bad = image.clone();
    bad.0.remove(original);
    bad.put(work);
    let place = format!("{original:?}, removed");
    let error = Db::open(work)
        .map(|db| db.0.stop())
        .expect_err("it is missing")
        .to_string();
    let error = format!("{error} {}", verify(work, &[]).1);
    assert!(
        error.contains(&work.join(original).display().to_string()),
        "{place}: {error}"
    );
    let (sound, said) = verify(work, &["--repair"]);
    assert!(
        sound && said.contains("it is missing; its end") && said.contains("\nlost: "),
        "{place}: {said}"
    );
    let kept = Image::take(&work.join("quarantine"));
    let stood_in = kept
        .0
        .keys()
        .filter(|path| path.to_string_lossy().contains("2_blobs"));
    assert_eq!(stood_in.count(), 0, "{place}: zeroes are nothing to keep");
    let db = Db::open(work).unwrap_or_else(|error| panic!("{place}: {error}"));
    for (measurement, expected) in MEASUREMENTS.iter().zip(expected) {
        let rows = db
            .rows(measurement)
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(
            rows.keys().all(|key| expected.contains_key(key)),
            "{place}: {measurement}"
        );
    }
    db.0.stop();
    drop(db);
    // What was written instead has other files, and their ends have copies.
    let now = Image::take(work);
    assert!(
        !now.0.contains_key(original) && !now.0.contains_key(copy),
        "{place}"
    );
    let (sound, said) = verify(work, &[]);
    assert!(sound, "{place}: {said}");
}

/// A store that was made before there were copies of ends gets them at its first start.
#[test]
fn ends_without_a_copy_get_one_at_the_next_start() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let mut old = image.clone();
    old.0
        .retain(|path, _| !path.starts_with(Path::new(MIRROR).join(ENDS)));
    old.put(&work);
    let open = || {
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            index_cache_bytes: 1 << 20,
        };
        Store::open(&work.join("store"), options, &mut |_| {}).expect("as before")
    };
    assert_eq!(open().counters().healed_files, 0);
    // Each file that is there has a copy, and no other.
    let numbers = |image: &Image, folder: &str| {
        let files = image.0.keys().filter_map(|path| path.strip_prefix(folder).ok());
        files.map(Path::to_path_buf).collect::<Vec<_>>()
    };
    let now = Image::take(&work);
    let values = numbers(&now, &format!("{ORIGINALS}/{VALUES}"));
    assert!(values.len() > 1, "{values:?}");
    assert_eq!(numbers(&now, &format!("{MIRROR}/{ENDS}")), values);
    let db = Db::open(&work).expect("as before");
    check(&db, &expected, false, "with new copies");
    db.0.stop();
}

#[test]
fn a_damaged_copy_is_found_and_made_again_and_never_put_back() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let mut random = Random(rounds("KYMO_SEED", 13));
    let pairs = pairs(&image)
        .into_iter()
        .map(|(original, copy)| (original, copy, 0));
    for (original, copy, start) in &pairs.chain(ends(&image)).collect::<Vec<_>>() {
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
        drop(db);
        if *start > 0 {
            // A start makes it again by itself.
            bad.put(&work);
            Db::open(&work)
                .unwrap_or_else(|error| panic!("{copy:?}: {error}"))
                .0
                .stop();
            let (sound, said) = verify(&work, &[]);
            assert!(sound, "{copy:?}: {said}");
        }
        // Both damaged: no copy is put back that is not what the list says.
        let content = bad.0.get_mut(original).expect("it is in there");
        content.flip(start * 8 + random.below((content.len - start) * 8));
        bad.put(&work);
        let (sound, said) = verify(&work, &["--repair"]);
        let told = said.contains("put back from its copy");
        assert!(!sound && !told, "{original:?}: {said}");
    }
}
