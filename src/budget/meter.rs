//! What the process really has in memory, looked at by whoever is about to take much more of it.
//!
//! Budgets count what parts say they hold; the allocator, half-built tables and the kernel have more. So work that needs much asks
//! here first: beyond one share of the memory no new one begins, beyond a larger one what runs is ended or dropped. Nothing runs
//! for it while nothing asks.

use super::{Size, allocator, machine, pressure};
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
/// The same of what others have: the kernel adds it up from parts.
const LOOK_AT_OTHERS_EVERY: Duration = Duration::from_millis(100);

/// Where it looks.
#[derive(Clone, Copy, Debug)]
struct Looks {
    /// Bytes of this process.
    own: fn() -> u64,
    /// Bytes that are left to it in the cgroup that limits it, if one does.
    left: fn() -> Option<u64>,
}

/// See the module. Shared.
#[derive(Debug)]
pub struct Meter {
    bytes_max: u64,
    look: Looks,
    began: Instant,
    /// Nanoseconds after which somebody looks again.
    next: AtomicU64,
    next_others: AtomicU64,
    /// What others have of the same cgroup, the kernel for one: buffers of sockets, page tables.
    others: AtomicU64,
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
        let look = Looks {
            own: pressure::own_bytes,
            left: || None,
        };
        Self::looking(u64::MAX, look)
    }
}

impl Meter {
    /// The process may have so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        let look = Looks {
            own: pressure::own_bytes,
            left: machine::group_left,
        };
        Self::looking(bytes_max.max(BYTES_MIN), look)
    }

    fn looking(bytes_max: u64, look: Looks) -> Self {
        Self {
            bytes_max,
            look,
            began: Instant::now(),
            next: AtomicU64::new(0),
            next_others: AtomicU64::new(0),
            others: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Bytes that the process may have.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes in memory that cannot be taken back (code and other files' pages go when others need the room), at most some milliseconds
    /// ago: of this process, and what the kernel and others have of the cgroup that limits it.
    pub fn resident(&self) -> u64 {
        let now = self.began.elapsed().as_nanos() as u64;
        let next = self.next.load(Relaxed);
        let later = now + LOOK_EVERY.as_nanos() as u64;
        // One looks; the others take what was seen before.
        if now >= next && self.next.compare_exchange(next, later, Relaxed, Relaxed).is_ok() {
            let own = (self.look.own)();
            if now >= self.next_others.load(Relaxed) {
                let later = now + LOOK_AT_OTHERS_EVERY.as_nanos() as u64;
                self.next_others.store(later, Relaxed);
                // Where the group has room for more than the process may have it does not matter who else is in it.
                let gone = (self.look.left)().map_or(0, |left| self.bytes_max.saturating_sub(left));
                self.others.store(gone.saturating_sub(own), Relaxed);
            }
            self.resident.store(own + self.others.load(Relaxed), Relaxed);
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

    const MIB: u64 = 1 << 20;

    fn alone(own: fn() -> u64) -> Looks {
        Looks { own, left: || None }
    }

    #[test]
    fn what_is_beyond_its_share_is_refused_and_counted() {
        let cases: [(fn() -> u64, bool, bool); 4] = [
            (|| 62 * MIB, true, true),
            (|| 63 * MIB, false, true),
            (|| 74 * MIB, false, true),
            (|| 75 * MIB, false, false),
        ];
        for (own, begins, goes_on) in cases {
            let meter = Meter::looking(100 * MIB, alone(own));
            assert_eq!(meter.begin().is_ok(), begins, "{}", own());
            assert_eq!(meter.is_tight(), !begins);
            assert_eq!(meter.go_on().is_ok(), goes_on, "{}", own());
            assert_eq!(meter.refused(), u64::from(!begins) + u64::from(!goes_on));
        }
        let short = Meter::looking(100 * MIB, alone(|| 90 * MIB))
            .begin()
            .expect_err("short");
        assert_eq!(
            short.to_string(),
            "the server has 90 MiB of 100 MiB in memory (memory); retry"
        );
    }

    #[test]
    fn half_is_half() {
        assert!(!Meter::looking(100, alone(|| 49)).is_half_full());
        assert!(Meter::looking(100, alone(|| 50)).is_half_full());
    }

    #[test]
    fn what_others_have_of_the_cgroup_counts() {
        for (left, want) in [
            ((|| Some(30 * MIB)) as fn() -> _, 70 * MIB),
            // More than the process has left of its own: others in a large group.
            (|| Some(90 * MIB), 40 * MIB),
            (|| Some(500 * MIB), 40 * MIB),
            (|| Some(0), 100 * MIB),
            (|| None, 40 * MIB),
        ] {
            let look = Looks {
                own: || 40 * MIB,
                left,
            };
            let meter = Meter::looking(100 * MIB, look);
            assert_eq!(meter.resident(), want);
            assert_eq!(meter.is_tight(), want >= 70 * MIB);
        }
    }

    #[test]
    fn it_looks_again_after_a_while() {
        static SEEN: AtomicU64 = AtomicU64::new(1);
        static LEFT: AtomicU64 = AtomicU64::new(99);
        let look = Looks {
            own: || SEEN.load(Relaxed),
            left: || Some(LEFT.load(Relaxed)),
        };
        let meter = Meter::looking(100, look);
        assert_eq!(meter.resident(), 1);
        SEEN.store(10, Relaxed);
        LEFT.store(1, Relaxed);
        let began = Instant::now();
        while meter.resident() != 99 {
            assert!(began.elapsed() < Duration::from_secs(60), "it never looks again");
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
