//! Power loss under the real binary, journal and storage engine together, wherever tests run: what the server did to its files is written
//! down below libc while it is under mixed load ([`crate::disk`]), and afterwards its folder is made again as power loss may have left it at any moment
//! ([`crate::history`]): tails that no sync covers cut off, zeroed, torn at sectors, names that no sync covers there or not. Each must open
//! without anybody finding damage, and hold what was acknowledged by then, whole.
//!
//! Not shown: what a file system makes of it (power.rs does that on ext4), and drives that lie about their syncs. What is cut off is what
//! the calls promise, which is less than file systems keep.

use crate::db::Db;
use crate::disk::Disk;
use crate::folder::fast_folder;
use crate::history::{History, Moment, Names, Torn};
use crate::kill::{Load, Oracle, figure, kill};
use crate::support::Server;
use crate::{Random, rounds};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A machine may be slow.
const PATIENCE: Duration = Duration::from_secs(300);
/// Enough to have been in the middle of everything.
const SEALS: u64 = 8;
const MERGES: u64 = 2;
const DELETES: usize = 5;

fn load(disk: &Disk) -> Oracle {
    let oracle = Mutex::new(Oracle::default());
    let flags = ["--host-metrics", "on", "--head-bytes", "256KiB"];
    let server = Server::launch(&disk.recorded(), &disk.path().join("data"), &flags);
    server.create("d");
    let record = disk.record();
    let load = Load {
        stop: AtomicBool::new(false),
        next: &AtomicU64::new(0),
        oracle: &oracle,
        // What was durable before an acknowledgement is in the record by now.
        clock: &|| record.metadata().expect("it is there").len(),
        database: "d",
    };
    std::thread::scope(|scope| {
        load.begin(scope, &server);
        let began = Instant::now();
        loop {
            let seals = figure(&server, "kymo_seals_total").unwrap_or(0);
            let merges = figure(&server, "kymo_merges_total").unwrap_or(0);
            let deletes = oracle.lock().expect("unpoisoned").deleted.len();
            if seals >= SEALS && merges >= MERGES && deletes >= DELETES {
                break;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{seals} seals, {merges} merges, {deletes} deletes"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        kill(&server);
        load.stop.store(true, Ordering::Relaxed);
    });
    oracle.into_inner().expect("unpoisoned")
}

#[test]
fn what_no_sync_covers_may_be_lost_and_nothing_acknowledged_is() {
    let Some(disk) = Disk::new() else { return };
    let oracle = load(&disk);
    let history = History::read(&disk.record());
    let mut random = Random(rounds("KYMO_SEED", 21));
    let count = rounds("KYMO_CUTS", 40);
    let (delicate, writing) = (history.delicate(), history.before_syncs_of_the_store());
    let mut moments: Vec<(usize, Names)> = (0..count)
        .map(|i| {
            let mut one_of = |moments: &[usize]| moments[random.below(moments.len() as u64) as usize];
            match i % 4 {
                0 | 2 => (random.below(history.len() as u64 + 1) as usize, Names::Any),
                1 => (one_of(&delicate), Names::Any),
                // What was written shows only under its name.
                _ => (one_of(&writing), Names::All),
            }
        })
        .collect();
    moments.sort_unstable_by_key(|(at, _)| *at);
    let work = fast_folder();
    let mut moment = Moment::default();
    let (mut torn, mut rows) = (Torn::default(), 0);
    for (at, names) in moments {
        moment.go(&history, at);
        let (image, lost) = moment.lose_power(&history, names, &mut random);
        torn.add(&lost);
        image.put(work.path());
        rows += check(&work.path().join("data"), &history, &oracle, at);
    }
    eprintln!(
        "{count} power cuts in {} changes and {} syncs of files; {} requests and {} deletes acknowledged; unsynced were {} files of the journal, {} of the store, \
         {} names; {rows} rows read",
        history.len(),
        history.syncs(),
        oracle.acked.len(),
        oracle.deleted.len(),
        torn.journal,
        torn.store,
        torn.names,
    );
    assert!(
        torn.journal > 0 && torn.store > 0 && torn.names > 0,
        "nothing was unsynced: {torn:?}"
    );
}

/// Nothing is acknowledged yet, and yet the next start must not stumble over what is half made.
#[test]
fn the_first_start_may_lose_power_anywhere() {
    let Some(disk) = Disk::new() else { return };
    let data = disk.path().join("data");
    let server = Server::launch(&disk.recorded(), &data, &["--host-metrics", "off"]);
    kill(&server);
    drop(server);
    let history = History::read(&disk.record());
    let mut random = Random(rounds("KYMO_SEED", 22));
    let work = fast_folder();
    let (mut moment, mut torn) = (Moment::default(), Torn::default());
    // What was seen is not looked at again.
    let mut seen = HashSet::new();
    for at in 0..=history.len() {
        moment.go(&history, at);
        for _ in 0..rounds("KYMO_FIRST_CUTS", 1) {
            let (image, lost) = moment.lose_power(&history, Names::Any, &mut random);
            torn.add(&lost);
            if seen.insert(image.clone()) {
                image.put(work.path());
                check(&work.path().join("data"), &history, &Oracle::default(), at);
            }
        }
    }
    let (changes, cuts) = (history.len(), seen.len());
    eprintln!(
        "{cuts} different power cuts in the {changes} changes of a first start; unsynced were {torn:?}"
    );
    assert!(torn.store > 0 && torn.names > 0, "nothing was unsynced: {torn:?}");
}

/// Opens what is left: rows found.
fn check(data: &Path, history: &History, oracle: &Oracle, at: usize) -> u64 {
    let place = format!("cut after {at} of {} changes", history.len());
    // The record's length then: acknowledgements up to it hold.
    let now = history.record_bytes(at);
    let db = Db::open(data).unwrap_or_else(|error| panic!("{place}: {error:?}"));
    assert_eq!(db.0.recovery().damaged, 0, "{place}");
    let mut rows_of = BTreeMap::<u64, [u64; 2]>::new();
    if db.0.catalog().database("d").is_some() {
        for (measurement, name) in ["m0", "m1"].into_iter().enumerate() {
            let rows = db.rows(name).unwrap_or_else(|error| panic!("{place}: {error}"));
            for (_, time) in rows.keys() {
                rows_of.entry(*time as u64 / 1000).or_default()[measurement] += 1;
            }
        }
        db.rows("filler")
            .unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    db.0.stop();
    drop(db);
    oracle.judge(&rows_of, now, &place);
    assert_eq!(
        crate::flips::flaws(data),
        [""; 0],
        "{place}: not sound afterwards"
    );
    rows_of.values().flatten().sum()
}
