//! The journal on a simulated disk that loses power: at any operation, with any part of what was not synced written, torn
//! at sectors, in any order. Syncs fail, disks fill, and now and then only the
//! process ends and the page cache stays. Seeded; a failing seed prints the command that replays it.

use super::JournalError;
use super::replay::{harden, replay};
use super::simulated::{Image, Random, SimDisk};
use super::writer::Writer;
use std::collections::BTreeMap;

const SEGMENT: u64 = 8 << 10;

fn payload(sequence: u64, random: &mut Random) -> Vec<u8> {
    let mut bytes = sequence.to_le_bytes().to_vec();
    let len = match random.below(20) {
        0 => 9000 + random.below(4000),
        1..5 => random.below(3000),
        _ => random.below(200),
    };
    bytes.resize(8 + len as usize, sequence as u8);
    bytes
}

/// Lives of one journal: each writes, releases, crashes, and is read back.
fn simulate(seed: u64) {
    let mut random = Random(seed);
    let disk = SimDisk::default();
    // Every payload ever committed or tried, by sequence; and up to where they were acknowledged.
    let mut written: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let (mut acknowledged, mut watermark) = (0, 0);
    for life in 0..5 {
        let mut found = Vec::new();
        let replayed = replay(&disk, watermark, |sequence, bytes| {
            found.push((sequence, bytes.to_vec()));
            Ok(())
        })
        .unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        assert_eq!(
            replayed.damage,
            [],
            "seed {seed}, life {life}: a crash is no damage"
        );
        let last = found.last().map_or(watermark, |(sequence, _)| *sequence);
        assert!(
            last >= acknowledged,
            "seed {seed}, life {life}: {acknowledged} acknowledged, {last} found"
        );
        for (at, (sequence, bytes)) in found.iter().enumerate() {
            assert_eq!(*sequence, watermark + 1 + at as u64, "seed {seed}, life {life}");
            assert_eq!(
                Some(bytes),
                written.get(sequence),
                "seed {seed}, life {life}: sequence {sequence}"
            );
        }
        written.retain(|sequence, _| *sequence <= last);
        acknowledged = last;
        harden(&disk, &replayed).unwrap_or_else(|error| panic!("seed {seed}, life {life}: {error}"));
        let mut writer = Writer::new(disk.clone(), SEGMENT, replayed.existing);
        assert_eq!(writer.next_sequence(), last + 1, "seed {seed}, life {life}");
        let crash_in = random.below(60);
        let fail_sync_in = (random.below(3) == 0).then(|| random.below(25));
        let fail_write_in = (random.below(6) == 0).then(|| random.below(25));
        disk.with(|image| {
            (image.crash_in, image.fail_sync_in) = (Some(crash_in), fail_sync_in);
            image.fail_write_in = fail_write_in;
        });
        for _ in 0..200 {
            let full = random.below(10) == 0;
            disk.with(|image| image.full = full);
            let first = writer.next_sequence();
            let group: Vec<Vec<u8>> = (0..1 + random.below(6))
                .map(|i| payload(first + i, &mut random))
                .collect();
            for (sequence, bytes) in (first..).zip(&group) {
                written.insert(sequence, bytes.clone());
            }
            let payloads: Vec<&[u8]> = group.iter().map(Vec::as_slice).collect();
            let (done, error) = writer.commit(&payloads);
            assert_eq!(error.is_none(), done == group.len());
            acknowledged = first + done as u64 - 1;
            match error {
                Some(JournalError::DiskFull) => written.retain(|sequence, _| *sequence <= acknowledged),
                Some(_) => {
                    assert!(matches!(
                        writer.commit(&payloads).1,
                        Some(JournalError::Poisoned(_))
                    ));
                    break;
                }
                None => {}
            }
            if random.below(4) == 0 {
                watermark = watermark.max(acknowledged - random.below(acknowledged.min(5) + 1));
                let _ = writer.release(watermark);
            }
            if random.below(12) == 0 {
                watermark = acknowledged;
                let _ = writer.rest(watermark);
            }
        }
        match random.below(3) {
            0 => disk.restart(),
            _ => disk.reboot(&mut random),
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let first = number("KYMO_SIMULATION_SEED").unwrap_or(0);
    let seeds = number("KYMO_SIMULATION_SEEDS").unwrap_or(20_000);
    for seed in first..first + seeds {
        if std::panic::catch_unwind(|| simulate(seed)).is_err() {
            panic!(
                "seed {seed}: again with KYMO_SIMULATION_SEED={seed} KYMO_SIMULATION_SEEDS=1 cargo test --lib whenever_the_power_goes"
            );
        }
    }
}

/// Bytes that rot in a segment that is not the last cost only the frames they are in, and are told of.
#[test]
fn damage_is_contained_and_told() {
    let disk = SimDisk::default();
    let mut writer = Writer::new(
        disk.clone(),
        SEGMENT,
        super::writer::Existing {
            next_sequence: 1,
            ..Default::default()
        },
    );
    let bytes = vec![7; 1000];
    for _ in 0..20 {
        assert!(writer.commit(&[&bytes]).1.is_none());
    }
    let files = disk.with(|image| image.names.len());
    assert!(files >= 3, "several segments");
    disk.with(|image| {
        let first = *image.names.values().next().expect("there are files");
        let live = &mut image.files.get_mut(&first).expect("it is there").0;
        live[64 + 1024 * 2 + 100] ^= 1;
    });
    let mut found = Vec::new();
    let replayed = replay(&disk, 0, |sequence, _| {
        found.push(sequence);
        Ok(())
    })
    .expect("the files can be read");
    assert_eq!(found, (1..=20).filter(|s| *s != 3).collect::<Vec<_>>());
    assert_eq!(
        replayed.damage.iter().map(|d| d.lost).collect::<Vec<_>>(),
        [(3, 3)]
    );
    assert_eq!(replayed.existing.next_sequence, 21);
}

/// Every bit of the files, one at a time: what comes back is what was written, minus whole frames that are told of or are
/// the last group, which cannot be told from one that a crash cut off.
#[test]
fn every_flipped_bit_costs_at_most_its_frame() {
    let disk = SimDisk::default();
    let existing = super::writer::Existing {
        next_sequence: 1,
        ..Default::default()
    };
    let mut writer = Writer::new(disk.clone(), 600, existing);
    let mut random = Random(7);
    let mut payloads = Vec::new();
    for sequence in 1..=9u64 {
        let mut bytes = sequence.to_le_bytes().to_vec();
        bytes.resize(60 + random.below(200) as usize, sequence as u8);
        assert!(writer.commit(&[&bytes]).1.is_none());
        payloads.push(bytes);
    }
    let ids: Vec<(String, u64)> = disk.with(|i| i.names.iter().map(|(n, id)| (n.clone(), *id)).collect());
    assert!(ids.len() >= 3, "several segments");
    let (mut told, mut whole, mut tail) = (0, 0, 0);
    for (name, id) in &ids {
        let bits = disk.with(|image| image.files[id].0.len() * 8);
        for bit in 0..bits {
            let flip = |image: &mut Image| {
                image.files.get_mut(id).expect("it is there").0[bit / 8] ^= 1 << (bit % 8);
            };
            disk.with(flip);
            let mut found = Vec::new();
            let replayed = replay(&disk, 0, |sequence, bytes| {
                found.push(sequence);
                assert_eq!(bytes, payloads[sequence as usize - 1], "{name} bit {bit}");
                Ok(())
            })
            .expect("the files can be read");
            let lost = 9 - found.len();
            match (lost, replayed.damage.is_empty()) {
                (0, true) => whole += 1,
                (0 | 1, false) => told += 1,
                (1, true) if found.last() == Some(&8) => tail += 1,
                _ => panic!("{name} bit {bit}: {found:?}, {:?}", replayed.damage),
            }
            disk.with(flip);
        }
    }
    assert!(
        told > 0 && whole > 0 && tail > 0,
        "{told} told, {whole} harmless, {tail} in the last group"
    );
}

/// Another version is an error, wherever it stands, and never the end of the journal.
#[test]
fn a_segment_of_another_version_is_an_error() {
    let disk = SimDisk::default();
    let existing = super::writer::Existing {
        next_sequence: 1,
        ..Default::default()
    };
    let mut writer = Writer::new(disk.clone(), 600, existing);
    for _ in 0..6 {
        assert!(writer.commit(&[&[7; 200]]).1.is_none());
    }
    let ids: Vec<u64> = disk.with(|image| image.names.values().copied().collect());
    assert!(ids.len() > 2, "several segments");
    for id in ids {
        let swap = |image: &mut Image, version: u8| {
            let bytes = &mut image.files.get_mut(&id).expect("it is there").0;
            bytes[7] = version;
            let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..56]);
            bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
        };
        disk.with(|image| swap(image, b'2'));
        let error = replay(&disk, 0, |_, _| Ok(())).expect_err("another version");
        assert!(error.to_string().contains("is of version 2"), "{error}");
        disk.with(|image| swap(image, b'1'));
        assert_eq!(replay(&disk, 0, |_, _| Ok(())).expect("ours").frames, 6);
    }
}

/// A spare that a process renamed and did not live to make durable: its old name may come back, so nothing is written into it before.
#[test]
fn names_left_by_a_process_that_ended_are_made_durable_first() {
    for seed in [407_289, 1_000_003] {
        simulate(seed);
    }
    let disk = SimDisk::default();
    let existing = super::writer::Existing {
        next_sequence: 1,
        ..Default::default()
    };
    let mut writer = Writer::new(disk.clone(), 600, existing);
    for _ in 0..4 {
        assert!(writer.commit(&[&[7; 200]]).1.is_none());
    }
    // Everything is in the store: segments are renamed, and the process ends before the folder's sync.
    let changes = disk.with(|image| image.names.len() as u64 - 1);
    disk.with(|image| image.crash_in = Some(changes));
    assert!(writer.release(4).is_err());
    disk.restart();
    let replayed = replay(&disk, 4, |_, _| Ok(())).expect("sound");
    harden(&disk, &replayed).expect("a disk");
    let mut writer = Writer::new(disk.clone(), 600, replayed.existing);
    assert!(writer.commit(&[&[8; 200]]).1.is_none());
    for seed in 0..20 {
        disk.reboot(&mut Random(seed));
        assert_eq!(replay(&disk, 4, |_, _| Ok(())).expect("sound").damage, []);
    }
}
