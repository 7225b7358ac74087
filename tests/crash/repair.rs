//! `kymo verify --repair` of folders with one flipped bit in a file of runs or of series: it ends sound, says what is lost, and keeps the rest. Nothing is lost of what
//! has a copy: tables, with the headers of packs in them, and the whole index of series.

use crate::db::Db;
use crate::flips::{MEASUREMENTS, example};
use crate::folder::{Content, fast_folder};
use crate::support::KYMO;
use crate::{Random, rounds};
use std::path::PathBuf;
use std::process::Command;

/// The keyspaces of runs and of series.
const RUNS: &str = "store/keyspaces/2/";
const SERIES: &str = "store/keyspaces/3/";

#[test]
fn repair_keeps_what_is_sound_and_says_what_is_lost() {
    let dir = fast_folder();
    let (image, expected) = example(&dir.path().join("example"));
    let work = dir.path().join("work");
    let files: Vec<(PathBuf, Content)> = image
        .0
        .iter()
        .filter(|(path, _)| path.starts_with(RUNS) || path.starts_with(SERIES))
        .filter(|(path, _)| path.iter().any(|p| p == "tables" || p == "blobs"))
        .map(|(path, content)| (path.clone(), content.clone()))
        .collect();
    assert!(files.len() > 3, "tables and blob files: {:?}", files.len());
    let mut random = Random(rounds("KYMO_SEED", 9));
    let (mut put_back, mut with_loss, count) = (0, 0, rounds("KYMO_REPAIRS", 16));
    for round in 0..count {
        let (path, content) = &files[(round % files.len() as u64) as usize];
        let bit = random.below(content.bytes.len() as u64 * 8);
        let place = format!("{} bit {bit}", path.display());
        let mut bad = image.clone();
        bad.0.get_mut(path).expect("it is in there").flip(bit);
        bad.put(&work);
        let output = Command::new(KYMO)
            .args(["verify", "--repair", "--data-dir"])
            .arg(&work)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{place}: {output:?}");
        let again = Command::new(KYMO)
            .args(["verify", "--data-dir"])
            .arg(&work)
            .output();
        let again = again.expect("it runs");
        assert!(again.status.success(), "{place}: {again:?}");
        let db = Db::open(&work).unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut missing = 0;
        for (measurement, expected) in MEASUREMENTS.iter().zip(&expected) {
            let rows = db
                .rows(measurement)
                .unwrap_or_else(|error| panic!("{place}: {error}"));
            for key in rows.keys() {
                assert!(expected.contains_key(key), "{place}: {measurement} {key:?}");
            }
            missing += expected
                .iter()
                .filter(|(key, values)| rows.get(*key) != Some(*values))
                .count();
        }
        db.0.stop();
        assert_eq!(
            missing > 0,
            said.contains("lost: "),
            "{place}: {missing} rows changed; {said}"
        );
        let has_copy = path.starts_with(SERIES) || path.iter().any(|p| p == "tables");
        if has_copy {
            assert!(
                missing == 0 && said.contains("put back from its copy"),
                "{place}: {missing} rows changed; {said}"
            );
        }
        put_back += u64::from(has_copy);
        with_loss += u64::from(missing > 0);
    }
    eprintln!("{count} repaired: {put_back} put back, {with_loss} with a loss that was told");
    assert!(put_back > 0 && with_loss > 0);
}
