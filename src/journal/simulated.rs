//! A disk for simulations of the journal: what was not synced is lost, kept or torn when power fails.

use super::disk::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

const SECTOR: usize = 512;

/// Reproducible chance.
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ self.0 >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }
}

/// Files and names: as reads see them, and as a crash is sure to leave them.
#[derive(Default)]
pub struct Image {
    /// What reads see, and what a crash is sure to leave.
    pub files: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    /// By name.
    pub names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The names after each change that no sync of the folder covers yet: a crash keeps the first so many of them.
    unsynced_names: Vec<BTreeMap<String, u64>>,
    next_file: u64,
    /// The operation that fails, and everything after it.
    pub crash_in: Option<u64>,
    /// It has failed.
    pub off: bool,
    /// No file can be made.
    pub full: bool,
    /// The write that is cut short and fails, while the disk works on.
    pub fail_write_in: Option<u64>,
    /// The sync that fails. What it should have written the kernel takes for written: no later sync writes it.
    pub fail_sync_in: Option<u64>,
    /// Files by sectors that changed since they were last written out, or given up by a failed sync.
    dirty: BTreeMap<u64, BTreeSet<usize>>,
}

/// The disk; clones are the same.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<Image>>);

/// A file of it.
pub struct SimFile {
    disk: SimDisk,
    id: u64,
}

impl SimDisk {
    /// Looks at the images, or changes them behind everybody's back.
    pub fn with<T>(&self, run: impl FnOnce(&mut Image) -> T) -> T {
        run(&mut self.0.lock().expect("no test panics while holding it"))
    }

    /// Counts an operation that changes something; fails once the crash is due.
    pub fn step(&self) -> io::Result<()> {
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
    pub fn reboot(&self, random: &mut Random) {
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
            let kept = random.below(image.unsynced_names.len() as u64 + 1) as usize;
            if let Some(names) = kept.checked_sub(1).and_then(|at| image.unsynced_names.get(at)) {
                image.durable_names = names.clone();
            }
            image.unsynced_names.clear();
            image.names = image.durable_names.clone();
            let named: BTreeSet<u64> = image.names.values().copied().collect();
            image.files.retain(|id, _| named.contains(id));
            image.heal();
        });
    }

    /// Turns over one bit of one named file, chosen by two numbers; what is at rest reads so from now on.
    pub fn rot(&self, file: u64, bit: u64) {
        self.with(|image| {
            let ids: Vec<u64> = image.names.values().copied().collect();
            let Some(id) = ids.get(file as usize % ids.len().max(1)) else {
                return;
            };
            let (live, durable) = image.files.get_mut(id).expect("named files exist");
            let bit = bit as usize % (live.len() * 8);
            live[bit / 8] ^= 1 << (bit % 8);
            durable.copy_from_slice(live);
        });
    }

    /// Only the process ends: what it wrote is in the page cache.
    pub fn restart(&self) {
        self.with(|image| {
            image.heal();
        });
    }
}

impl Image {
    fn heal(&mut self) {
        (self.crash_in, self.fail_sync_in, self.fail_write_in) = (None, None, None);
        (self.off, self.full) = (false, false);
    }

    fn names_changed(&mut self) {
        self.unsynced_names.push(self.names.clone());
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
            image.names_changed();
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
            image.names_changed();
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        self.with(|image| {
            image.names.remove(name);
            image.names_changed();
        });
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.step()?;
        self.with(|image| {
            image.durable_names = image.names.clone();
            image.unsynced_names.clear();
        });
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.with(|image| image.files[&self.id].0.len() as u64))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // Some of a write that the crash interrupts may have reached the file.
        let mut whole = self.disk.step();
        self.disk.with(|image| {
            match &mut image.fail_write_in {
                Some(0) if whole.is_ok() => {
                    image.fail_write_in = None;
                    whole = Err(io::Error::other("input/output error"));
                }
                Some(left) => *left = left.saturating_sub(1),
                None => {}
            }
            let count = match whole {
                Ok(()) => bytes.len(),
                Err(_) if image.off => 0,
                Err(_) => bytes.len() / 2,
            };
            image.off |= image.crash_in == Some(0);
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
