//! Whom the kernel lets go first where the processor is short: those who accept, read and answer before those who work in large pieces.
//! Else a server that is offered more than it can take answers nobody, `/health` neither: it is always at something large.

use std::cell::Cell;

/// Little, that must be done at once. Only the privileged may ask for it; others get what everybody has.
pub const AT_ONCE: i32 = -10;
/// Requests are read and answered. Whoever asks for `/health` waits behind all that were refused before, so these must not take long. Again
/// for the privileged; others get what everybody has.
pub const ANSWER: i32 = -5;
/// In large pieces: what comes by the megabyte is decoded, queries that are not small are answered.
pub const LARGE: i32 = 5;
/// What may be done later: merges, rollups.
pub const LATER: i32 = 10;

thread_local! {
    static OWN: Cell<Option<i32>> = const { Cell::new(None) };
}

/// For this thread and those that it starts, from now on: nobody may take back what it has given up.
pub fn set(niceness: i32) {
    if OWN.replace(Some(niceness)) == Some(niceness) {
        return;
    }
    let own = Some(rustix::thread::gettid());
    let before = rustix::process::getpriority_process(own).unwrap_or(0);
    // Somebody made the whole process nicer than that.
    if niceness > 0 && before >= niceness {
        return;
    }
    if let Err(error) = rustix::process::setpriority_process(own, niceness) {
        tracing::debug!(%error, niceness, "this thread stays at its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_nicer_and_stays_so() {
        let own = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).expect("it runs");
        let before = own();
        let seen = std::thread::spawn(move || {
            [LARGE, LARGE, LATER, LARGE].map(|niceness| {
                set(niceness);
                own()
            })
        });
        let seen = seen.join().expect("no panic");
        assert_eq!(
            seen,
            [LARGE, LARGE, LATER, LATER].map(|niceness| niceness.max(before))
        );
        assert_eq!(own(), before, "others stay as they are");
    }
}
