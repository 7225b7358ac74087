//! How soon the allocator gives freed memory back to the system.
//!
//! jemalloc keeps what is freed for a while, in case it is needed again. A busy server frees hundreds of megabytes a second: with little
//! memory that while is most of it. So the less memory there is, the sooner it goes back (docs/adr/0029).

use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;

/// What tells jemalloc more from outside; who has set it is obeyed.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";
/// Bytes of memory for each millisecond that what is free stays.
const BYTES_PER_MILLISECOND: u64 = 64 << 20;
/// It stays no longer.
const MILLISECONDS_MAX: u64 = 1000;

/// For arenas that come later; [`FIRST_DELAY`] for the one that is there.
const DELAY: &CStr = c"arenas.dirty_decay_ms";
const FIRST_DELAY: &CStr = c"arena.0.dirty_decay_ms";
/// Threads of its own give memory back, so that nobody waits for it, and also while nobody allocates.
const OWN_THREADS: &CStr = c"background_thread";
/// Of all arenas (`MALLCTL_ARENAS_ALL`).
const GIVE_BACK: &CStr = c"arena.4096.purge";
const SETTLE: &CStr = c"thread.tcache.flush";

/// Milliseconds that suit so much memory.
fn delay(memory: u64) -> u64 {
    (memory / BYTES_PER_MILLISECOND).min(MILLISECONDS_MAX)
}

/// Has the allocator give memory back as soon as suits so much of it. Before the first thread is started: arenas come with threads.
pub fn suit(memory: u64) {
    // Huge pages would be cleared whole for a few bytes each: a quarter of the CPU of ingesting, and 20 MiB at rest.
    // Where there are none there is nothing to be done.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let delay = isize::try_from(delay(memory)).unwrap_or(isize::MAX);
    control(DELAY, Some(delay));
    control(FIRST_DELAY, Some(delay));
    control(OWN_THREADS, Some(true));
}

/// Has it give back now what is free, and not after a while.
pub fn give_back() {
    control::<isize>(GIVE_BACK, None);
}

/// Has it take back what this thread has free. Each thread keeps some, of each size, for itself; one that rests after a large piece of
/// work keeps it from the others.
pub fn settle() {
    control::<isize>(SETTLE, None);
}

/// What can be told to the allocator, as it takes it.
trait Value: Copy {}

impl Value for bool {}
impl Value for isize {}

/// Sets something, or has something done: 0, or the number of an error (of no matter but in tests: memory goes back later then).
#[allow(unsafe_code)]
fn control<T: Value>(name: &CStr, mut value: Option<T>) -> c_int {
    let (new, bytes) = match &mut value {
        Some(value) => (std::ptr::from_mut(value).cast::<c_void>(), size_of::<T>()),
        None => (null_mut(), 0),
    };
    // SAFETY: a name with its end, nothing to be written to, and a value that lives as long as the call, of which no more is read than
    // the size that is told beside it (another size than the setting has is refused). To be called by any thread at any time.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), new, bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_memory_the_sooner() {
        for (memory, want) in [
            (32 << 20, 0),
            (512 << 20, 8),
            (8 << 30, 128),
            (1 << 40, MILLISECONDS_MAX),
        ] {
            assert_eq!(delay(memory), want, "{memory}");
        }
    }

    /// The allocator of tests is another one: that it knows all of these is what is seen here.
    #[test]
    fn it_knows_what_it_is_told() {
        for name in [DELAY, FIRST_DELAY] {
            assert_eq!(control(name, Some(8_isize)), 0, "{name:?}");
        }
        assert_eq!(control(OWN_THREADS, Some(true)), 0);
        for name in [GIVE_BACK, SETTLE] {
            assert_eq!(control::<isize>(name, None), 0, "{name:?}");
        }
        assert_ne!(control(c"arenas.dirty_decay_ms", Some(true)), 0, "another size");
        assert_ne!(control::<isize>(c"no.such.thing", None), 0);
    }
}
