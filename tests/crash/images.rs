//! The real store as power loss may leave it: a running engine's folder is copied at random moments, then what was not
//! synced is torn, and what opens must hold everything that was acknowledged before the copy began.
//!
//! What the copy does not know is which bytes were synced, so it damages only what no sync covers: frames behind the last
//! acknowledged one in the journal, files of the store that no list names, names of files that are being replaced.

use crate::db::Db;
use crate::folder::{Image, fast_folder};
use crate::{Random, rounds};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ROWS: u64 = 10;

#[test]
fn images_of_a_running_store_hold_everything_acknowledged() {
    let dir = fast_folder();
    let live = dir.path().join("live");
    let work = dir.path().join("work");
    let count = rounds("KYMO_IMAGES", 15);
    let mut random = Random(rounds("KYMO_SEED", 3));
    let (mut torn, mut rows) = (0, 0);
    let db = Db::open(&live).expect("a new folder");
    let (acked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let hold = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                while hold.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                let lines: String = (0..ROWS)
                    .map(|i| format!("m,b={} v={batch}i {}\n", i % 5, batch * 1000 + i))
                    .collect();
                // Many rows a batch now and then, so that seals happen while images are taken.
                let filler: String = (0..4000)
                    .filter(|_| batch % 8 == 0)
                    .map(|i| format!("filler,n={i} v={i}.5,w={i}i,x=\"{i}\" {batch}\n"))
                    .collect();
                db.write(&(lines + &filler));
                acked.store(batch, Ordering::SeqCst);
            }
        });
        for round in 0..count {
            std::thread::sleep(std::time::Duration::from_millis(random.below(60)));
            let before = acked.load(Ordering::SeqCst);
            let mut image = consistent(&live, &hold);
            torn += tear(&mut image, &mut random);
            image.put(&work);
            let opened = Db::open(&work).unwrap_or_else(|e| panic!("image {round}: {e}"));
            assert_eq!(opened.0.recovery().damaged, 0, "image {round}");
            let found = opened.rows("m").unwrap_or_else(|e| panic!("image {round}: {e}"));
            rows += found.len();
            let mut counts = std::collections::BTreeMap::<i64, u64>::new();
            found
                .keys()
                .for_each(|(_, time)| *counts.entry(time / 1000).or_default() += 1);
            for batch in 1..=before {
                assert_eq!(
                    counts.get(&(batch as i64)),
                    Some(&ROWS),
                    "image {round}: batch {batch} of {before}"
                );
            }
            assert!(
                counts.values().all(|&rows| rows == ROWS),
                "image {round}: half a batch"
            );
            opened.0.stop();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seals = db.0.seal_figures().0.seals.load(Ordering::Relaxed);
    db.0.stop();
    eprintln!("{count} images, {torn} torn places, {rows} rows read, {seals} seals meanwhile");
    assert!(seals > 0, "nothing was sealed while images were taken");
}

/// A copy during which no list of the store and no name of the journal changed: one moment, but for bytes behind the
/// journal's last frame. Power loss leaves one moment; a slow copy of several moments would prove nothing.
///
/// `hold` slows the writer down when no moment lasts long enough: a slow machine copies more slowly than it writes.
fn consistent(live: &Path, hold: &AtomicBool) -> Image {
    let lists = || {
        let store = kymo::store::files::current_lists(&live.join("store")).ok();
        let names = std::fs::read_dir(live.join("journal")).map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.file_name())
                .collect::<BTreeSet<_>>()
        });
        (store, names.ok())
    };
    for tries in 0.. {
        hold.store(tries >= 5, Ordering::Relaxed);
        let before = lists();
        let image = Image::take(live);
        if lists() == before {
            hold.store(false, Ordering::Relaxed);
            return image;
        }
    }
    unreachable!("it is tried for ever");
}

/// Tears what no sync covered: how many places.
fn tear(image: &mut Image, random: &mut Random) -> u64 {
    let mut places = 0;
    let names: Vec<_> = image.0.keys().cloned().collect();
    let journal = names
        .iter()
        .filter(|n| n.extension().is_some_and(|e| e == "journal"));
    // Behind the last frame of the last segment: rests of a group that was being written.
    if let Some(content) = journal.max().and_then(|last| image.0.get_mut(last)) {
        let start = content.bytes.len().next_multiple_of(8);
        let room = content.len as usize - start;
        if room > 64 {
            let count = random.below(room.min(5000) as u64) as usize;
            content.bytes.resize(start, 0);
            content.bytes.extend((0..count).map(|_| random.next() as u8));
            places += 1;
        }
    }
    let listed: BTreeSet<_> = listed(image);
    for name in names
        .iter()
        .filter(|n| n.iter().any(|part| part == "tables" || part == "blobs"))
    {
        // A table or blob file that is being written: any length, any content.
        if !listed.contains(name) {
            let content = image.0.get_mut(name).expect("it is in there");
            let keep = random.below(content.bytes.len() as u64 + 1) as usize;
            content.bytes.truncate(keep);
            content.len = keep as u64;
            places += 1;
        }
    }
    places
}

fn listed(image: &Image) -> BTreeSet<std::path::PathBuf> {
    let dir = fast_folder();
    image.put(dir.path());
    let names = kymo::store::files::names_of(&dir.path().join("store")).expect("lists that hold");
    names
        .into_iter()
        .map(|name| Path::new("store").join(name))
        .collect()
}
