//! What the process really has in memory, looked at by whoever is about to take much more of it.
//!
//! Budgets count what parts say they hold; the allocator, half-built tables and the kernel have more. So work that needs much asks
//! here first: beyond one share of the memory no new one begins, beyond a larger one what runs is ended or dropped. Nothing runs
//! for it while nothing asks.

use super::{Size, allocator, pressure};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// From this share of the memory on, no new work begins that needs much.
const TIGHT: (u64, u64) = (5, 8);
/// From this share on, what runs and can be given up is.
const OVER: (u64, u64) = (3, 4);
/// From this share on, what the allocator has free is given back.
const HALF: (u64, u64) = (1, 2);
/// With less nothing could be done at all.
const BYTES_MIN: u64 = 64 << 20;
/// A look holds for so long.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// See the module. Shared.
#[derive(Debug)]
pub struct Meter {
    bytes_max: u64,
    look: fn() -> u64,
    began: Instant,
    /// Nanoseconds after which somebody looks again.
    next: AtomicU64,
    resident: AtomicU64,
    refused: AtomicU64,
}

/// Memory is short: a text for whoever is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    resident: u64,
    bytes_max: u64,
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resident, memory) = (Size(self.resident), Size(self.bytes_max));
        write!(
            f,
            "the server has {resident} of {memory} in memory (memory); retry"
        )
    }
}

impl Default for Meter {
    /// Of a memory without an end.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Meter {
    /// The process may have so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self::looking(bytes_max.max(BYTES_MIN), pressure::own_bytes)
    }

    fn looking(bytes_max: u64, look: fn() -> u64) -> Self {
        Self {
            bytes_max,
            look,
            began: Instant::now(),
            next: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Bytes that the process may have.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes of its own in memory (code and other files' pages go when others need the room), at most some milliseconds ago.
    pub fn resident(&self) -> u64 {
        let now = self.began.elapsed().as_nanos() as u64;
        let next = self.next.load(Relaxed);
        let later = now + LOOK_EVERY.as_nanos() as u64;
        // One looks; the others take what was seen before.
        if now >= next && self.next.compare_exchange(next, later, Relaxed, Relaxed).is_ok() {
            self.resident.store((self.look)(), Relaxed);
        }
        self.resident.load(Relaxed)
    }

    /// Is there room for new work that needs much?
    ///
    /// # Errors
    /// There is not; it is counted.
    pub fn begin(&self) -> Result<(), Short> {
        self.below(TIGHT)
    }

    /// Is there room for work that runs to take more?
    ///
    /// # Errors
    /// There is not; it is counted.
    pub fn go_on(&self) -> Result<(), Short> {
        self.below(OVER)
    }

    /// As [`begin`](Self::begin), for those who wait instead: not counted.
    pub fn is_tight(&self) -> bool {
        self.resident() >= share(self.bytes_max, TIGHT)
    }

    /// Is so much in memory that what is free should be given back?
    pub fn is_half_full(&self) -> bool {
        self.resident() >= share(self.bytes_max, HALF)
    }

    /// This thread has ended a large piece of work: what it has free goes back to all, if much is taken.
    pub fn settle(&self) {
        if self.is_half_full() {
            allocator::settle();
        }
    }

    /// How often there was no room, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    fn below(&self, part: (u64, u64)) -> Result<(), Short> {
        let resident = self.resident();
        if resident < share(self.bytes_max, part) {
            return Ok(());
        }
        self.refused.fetch_add(1, Relaxed);
        Err(Short {
            resident,
            bytes_max: self.bytes_max,
        })
    }
}

fn share(bytes: u64, (part, of): (u64, u64)) -> u64 {
    bytes / of * part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_its_share_is_refused_and_counted() {
        const MIB: u64 = 1 << 20;
        let cases: [(fn() -> u64, bool, bool); 4] = [
            (|| 62 * MIB, true, true),
            (|| 63 * MIB, false, true),
            (|| 74 * MIB, false, true),
            (|| 75 * MIB, false, false),
        ];
        for (look, begins, goes_on) in cases {
            let meter = Meter::looking(100 * MIB, look);
            assert_eq!(meter.begin().is_ok(), begins, "{}", look());
            assert_eq!(meter.is_tight(), !begins);
            assert_eq!(meter.go_on().is_ok(), goes_on, "{}", look());
            assert_eq!(meter.refused(), u64::from(!begins) + u64::from(!goes_on));
        }
        let short = Meter::looking(100 * MIB, || 90 * MIB).begin().expect_err("short");
        assert_eq!(
            short.to_string(),
            "the server has 90 MiB of 100 MiB in memory (memory); retry"
        );
    }

    #[test]
    fn half_is_half() {
        assert!(!Meter::looking(100, || 49).is_half_full());
        assert!(Meter::looking(100, || 50).is_half_full());
    }

    #[test]
    fn it_looks_again_after_a_while() {
        static SEEN: AtomicU64 = AtomicU64::new(1);
        let meter = Meter::looking(100, || SEEN.load(Relaxed));
        assert_eq!(meter.resident(), 1);
        SEEN.store(99, Relaxed);
        while meter.resident() != 99 {
            std::thread::yield_now();
        }
        assert!(meter.begin().is_err());
        assert!(
            Meter::default().begin().is_ok()
                && Meter::default().resident() > 1 << 20
                && Meter::new(1).bytes_max() == BYTES_MIN
        );
    }
}
