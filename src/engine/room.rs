//! Room on the disk: below a floor of free space the engine takes no more points, before anything breaks. Reads go on, and
//! so do commands that can free space (DROP, DELETE); writing resumes by itself when there is room again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The floor, where none is given: this share of the disk, ..
const FLOOR_SHARE: u64 = 50;
/// .. but within these, ..
const FLOOR_BYTES: (u64, u64) = (256 << 20, 2 << 30);
/// .. and never more than this share, or a small disk would take nothing at all.
const FLOOR_SHARE_MAX: u64 = 4;
/// How old a look at the disk may be.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Once below the floor, so much more than the floor must be free before writing resumes, in percent of it.
const RESUME_PERCENT: u64 = 10;

/// Bytes a user without privileges may still write on the disk of this folder, if the system says.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    rustix::fs::statvfs(folder).ok().map(|s| s.f_bavail * s.f_frsize)
}

/// The floor for the disk of this folder: what is given, or what suits the disk.
pub fn floor_bytes(folder: &Path, given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| {
        let total = rustix::fs::statvfs(folder).map_or(u64::MAX, |s| s.f_blocks * s.f_frsize);
        floor_of(total)
    })
}

fn floor_of(total: u64) -> u64 {
    let floor = (total / FLOOR_SHARE).clamp(FLOOR_BYTES.0, FLOOR_BYTES.1);
    floor.min(total / FLOOR_SHARE_MAX)
}

/// Watches the disk. Shared.
pub struct Room {
    folder: PathBuf,
    floor: u64,
    look: Box<dyn Fn(&Path) -> Option<u64> + Send + Sync>,
    looked: Mutex<Option<Instant>>,
    free: AtomicU64,
    low: AtomicBool,
}

impl Room {
    /// Of the disk of this folder, with a floor of so many bytes; 0: none. `look` gives free bytes.
    pub fn new(
        folder: &Path,
        floor: u64,
        look: impl Fn(&Path) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        Self {
            folder: folder.to_path_buf(),
            floor,
            look: Box::new(look),
            looked: Mutex::new(None),
            free: AtomicU64::new(u64::MAX),
            low: AtomicBool::new(false),
        }
    }

    /// Is there too little room to take points? `now` decides whether the disk is looked at again. Cheap.
    pub fn is_low(&self, now: Instant) -> bool {
        // Whoever finds it locked goes by the last look.
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_EVERY)
        {
            *looked = Some(now);
            self.look_now();
        }
        self.low.load(Ordering::Relaxed)
    }

    fn look_now(&self) {
        let Some(free) = (self.look)(&self.folder) else {
            return;
        };
        self.free.store(free, Ordering::Relaxed);
        let enough = if self.low.load(Ordering::Relaxed) {
            self.floor.saturating_add(self.floor / 100 * RESUME_PERCENT)
        } else {
            self.floor
        };
        let low = free < enough;
        if low != self.low.swap(low, Ordering::Relaxed) {
            if low {
                tracing::error!(
                    free,
                    floor = self.floor,
                    "the disk is nearly full: no more points are taken until there is room"
                );
            } else {
                tracing::warn!(free, "there is room on the disk again: points are taken");
            }
        }
    }

    /// The floor; free bytes at the last look; whether points are refused.
    pub fn figures(&self) -> (u64, u64, bool) {
        drop(self.looked.lock().unwrap_or_else(PoisonError::into_inner));
        let free = self.free.load(Ordering::Relaxed);
        (self.floor, free, self.low.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn refuses_below_the_floor_and_resumes_a_little_above_it() {
        let free = Arc::new(AtomicU64::new(1000));
        let seen = free.clone();
        let room = Room::new(Path::new("/"), 500, move |_| Some(seen.load(Ordering::Relaxed)));
        let mut now = Instant::now();
        let mut check = |bytes: u64, low: bool| {
            free.store(bytes, Ordering::Relaxed);
            now += LOOK_EVERY;
            assert_eq!(room.is_low(now), low, "{bytes} free");
        };
        for (bytes, low) in [
            (1000, false),
            (500, false),
            (499, true),
            (520, true),
            (549, true),
            (550, false),
            (501, false),
        ] {
            check(bytes, low);
        }
        free.store(1, Ordering::Relaxed);
        assert!(!room.is_low(now), "looked a moment ago");
        assert_eq!(room.figures(), (500, 501, false));
    }

    #[test]
    fn the_floor_suits_the_disk_unless_it_is_given() {
        assert_eq!(floor_bytes(Path::new("/"), Some(7)), 7);
        const MIB: u64 = 1 << 20;
        for (disk, floor) in [
            (0, 0),
            (64, 16),
            (400, 100),
            (1024, 256),
            (20 * 1024, 409),
            (1 << 20, 2048),
        ] {
            assert_eq!(floor_of(disk * MIB) / MIB, floor, "a disk of {disk} MiB");
        }
        assert!(free_bytes(Path::new("/")).is_some_and(|free| free > 0));
        assert_eq!(free_bytes(Path::new("/no/such/folder")), None);
    }
}
