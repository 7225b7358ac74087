//! The journal on a simulated disk that loses power: at any operation, with any part of what was not synced written, torn
//! at sectors, in any order. Syncs fail, disks fill, and now and then only the
//! process ends and the page cache stays. Seeded; a failing seed prints the command that replays it.

use super::JournalError;
use super::disk::{Disk, DiskFile};
use super::replay::{harden, replay};
use super::writer::Writer;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

const SECTOR: usize = 512;
const SEGMENT: u64 = 8 << 10;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

#[derive(Default)]
struct Image {
    /// What reads see, and what a crash is sure to leave.
    files: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_file: u64,
    /// The operation that fails, and everything after it.
    crash_in: Option<u64>,
    off: bool,
    full: bool,
    /// The sync that fails. What it should have written the kernel takes for written: no later sync writes it.
    fail_sync_in: Option<u64>,
    /// Files by sectors that changed since they were last written out, or given up by a failed sync.
    dirty: BTreeMap<u64, BTreeSet<usize>>,
}

#[derive(Clone, Default)]
struct SimDisk(Arc<Mutex<Image>>);

struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimDisk {
    fn with<T>(&self, run: impl FnOnce(&mut Image) -> T) -> T {
        run(&mut self.0.lock().expect("no test panics while holding it"))
    }

    /// Counts an operation that changes something; fails once the crash is due.
    fn step(&self) -> io::Result<()> {
        self.with(|image| match &mut image.crash_in {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        })
    }

    /// Power comes back: unsynced sectors are there or not, each by chance; so are unsynced names.
    fn reboot(&self, random: &mut Random) {
        self.with(|image| {
            for (live, durable) in image.files.values_mut() {
                durable.resize(live.len().max(durable.len()), 0);
                let mode = random.below(3);
                for (i, sector) in live.chunks(SECTOR).enumerate() {
                    let survives = match mode {
                        0 => false,
                        1 => true,
                        _ => random.below(2) == 0,
                    };
                    if survives {
                        durable[i * SECTOR..][..sector.len()].copy_from_slice(sector);
                    }
                }
                *live = durable.clone();
            }
            image.dirty.clear();
            if random.below(2) == 0 {
                image.durable_names = image.names.clone();
            }
            image.names = image.durable_names.clone();
            image.crash_in = None;
            image.off = false;
            image.fail_sync_in = None;
        });
    }

    /// Only the process ends: what it wrote is in the page cache.
    fn restart(&self) {
        self.with(|image| {
            image.crash_in = None;
            image.off = false;
            image.fail_sync_in = None;
        });
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|image| image.names.keys().cloned().collect()))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        self.step()?;
        if self.with(|image| image.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = self.with(|image| {
            let id = image.next_file;
            image.next_file += 1;
            image
                .files
                .insert(id, (vec![0; len as usize], vec![0; len as usize]));
            image.names.insert(name.to_string(), id);
            id
        });
        Ok(SimFile {
            disk: self.clone(),
            id,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let id = self
            .with(|image| image.names.get(name).copied())
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile {
            disk: self.clone(),
            id,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        self.with(|image| {
            let id = image.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            image.names.insert(to.to_string(), id);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.with(|image| image.names.remove(name));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step()?;
        self.with(|image| image.durable_names = image.names.clone());
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.with(|image| image.files[&self.id].0.len() as u64))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Some of a write that the crash interrupts may have reached the file.
        let whole = self.disk.step();
        self.disk.with(|image| {
            let count = match whole {
                Ok(()) => bytes.len(),
                Err(_) if image.off => 0,
                Err(_) => bytes.len() / 2,
            };
            image.off |= whole.is_err();
            let live = &mut image.files.get_mut(&self.id).expect("open files exist").0;
            live[offset as usize..][..count].copy_from_slice(&bytes[..count]);
            let sectors = offset as usize / SECTOR..(offset as usize + count).div_ceil(SECTOR);
            image.dirty.entry(self.id).or_default().extend(sectors);
        });
        whole
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.with(|image| {
            let live = &image.files[&self.id].0;
            let rest = live.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.step()?;
        self.disk.with(|image| {
            let dirty = image.dirty.remove(&self.id).unwrap_or_default();
            match &mut image.fail_sync_in {
                Some(0) => {
                    image.fail_sync_in = None;
                    return Err(io::Error::other("input/output error"));
                }
                Some(left) => *left -= 1,
                None => {}
            }
            let (live, durable) = image.files.get_mut(&self.id).expect("open files exist");
            for sector in dirty {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(live.len());
                durable[range.clone()].copy_from_slice(&live[range]);
            }
            Ok(())
        })
    }
}

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
        disk.with(|image| (image.crash_in, image.fail_sync_in) = (Some(crash_in), fail_sync_in));
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
    let seeds = number("KYMO_SIMULATION_SEEDS").unwrap_or(3000);
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
