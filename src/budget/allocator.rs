//! How soon the allocator gives freed memory back to the system.
//!
//! mimalloc keeps what is freed for a while, in case it is needed again. A busy server frees hundreds of megabytes a second: with little
//! memory that while is most of it. So the less memory there is, the sooner it goes back (docs/adr/0028). It is built without its pages
//! of 4 MiB (`.cargo/config.toml`): what has more than 64 KiB goes back by itself, and not when the last of several is freed (docs/adr/0029).

/// What tells mimalloc the same from outside; who has set it is obeyed.
const VARIABLE: &str = "MIMALLOC_PURGE_DELAY";
/// `mi_option_purge_delay` of mimalloc 3: milliseconds that what is free stays. The bindings name only the options that they deem stable.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// However much memory there is. While more than half of it is taken it is given back sooner ([`give_back`]).
const MILLISECONDS_MAX: u64 = 10_000;
/// Bytes of memory for each millisecond, where there is no more than [`AMPLE_BYTES`].
const BYTES_PER_MILLISECOND: u64 = 64 << 20;
/// From here on the time grows with the square of the memory: what a busy server frees it needs again, and each page that it has given
/// back before then is cleared by the kernel once more.
const AMPLE_BYTES: u64 = 1 << 30;

/// Milliseconds that suit so much memory.
fn delay(memory: u64) -> u64 {
    let delay = memory / BYTES_PER_MILLISECOND;
    let times = (memory / (AMPLE_BYTES / 16)).max(16);
    (delay.saturating_mul(times) / 16).min(MILLISECONDS_MAX)
}

/// Has the allocator give memory back as soon as suits so much of it.
///
/// IMPORTANT: before the first thread is started: mimalloc does not guard its options.
pub fn suit(memory: u64) {
    if std::env::var_os(VARIABLE).is_none() {
        set(PURGE_DELAY, delay(memory));
    }
}

/// Has it give back now what is free. It does so by itself only while somebody allocates or frees: a server at rest would keep what a
/// busy one has left.
#[allow(unsafe_code)]
pub fn give_back() {
    // SAFETY: takes a flag; made to be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Has it take back what this thread has free. Each thread keeps some, of each size, for itself; one that rests after a large piece of
/// work keeps it from the others.
#[allow(unsafe_code)]
pub fn settle() {
    // SAFETY: as above.
    unsafe { libmimalloc_sys::mi_collect(false) }
}

#[allow(unsafe_code)]
fn set(option: libmimalloc_sys::mi_option_t, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    // SAFETY: takes and gives numbers only, and refuses an option that it does not know. Not to be called by two threads at once:
    // `suit` comes before the first.
    unsafe { libmimalloc_sys::mi_option_set(option, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_memory_the_sooner() {
        for (memory, want) in [
            (32 << 20, 0),
            (512 << 20, 8),
            (1 << 30, 16),
            (2 << 30, 64),
            (8 << 30, 1024),
            (24 << 30, 9216),
            (1 << 40, MILLISECONDS_MAX),
            (u64::MAX, MILLISECONDS_MAX),
        ] {
            assert_eq!(delay(memory), want, "{memory}");
        }
    }

    /// The allocator of tests is another one: that this can be called is all that is seen here.
    #[test]
    fn giving_back_takes_nothing_away() {
        let text = vec![7_u8; 1 << 20];
        give_back();
        settle();
        assert!(text.iter().all(|byte| *byte == 7));
    }

    /// The number of the option is the one that this version of mimalloc has: its default gives it away.
    #[test]
    #[allow(unsafe_code)]
    fn the_option_is_the_purge_delay() {
        if std::env::var_os(VARIABLE).is_some() {
            return;
        }
        // SAFETY: as above; nothing else in this program's tests sets options.
        let get = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        assert_eq!(get(PURGE_DELAY), 1000);
        set(PURGE_DELAY, 8);
        assert_eq!(get(PURGE_DELAY), 8);
    }

    /// What has more than 64 KiB is a range of its own, rounded to pages of the system (of up to 16 KiB) only; else it would be one of
    /// some dozens of sizes, and be put beside others.
    #[test]
    #[allow(unsafe_code)]
    fn large_pieces_are_ranges_of_their_own() {
        const BYTES: usize = 300_000;
        // SAFETY: takes and gives a number.
        let taken = unsafe { libmimalloc_sys::mi_good_size(BYTES) };
        assert!(
            taken < BYTES + (16 << 10),
            "mimalloc puts {taken} bytes into pages of 4 MiB: build from the folder that has .cargo/config.toml, without CFLAGS in the environment"
        );
    }
}
