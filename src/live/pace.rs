//! How often a computation is brought up to date. Pure.
//!
//! All of them together take a share of a core, however many there are and whatever they cost: `SHARE_OF_ONE` of it if only
//! one is busy, less when many are, since then nobody looks at each value, and ingestion comes first. Each is brought up to date as often as
//! its part of that allows.

use std::time::{Duration, Instant};

/// The pause after an update that cost nothing.
pub const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Nobody waits longer than this for what has changed, unless updates would then take `SHARE_MOST` of a core.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);
/// One part in so many of a core is for updates if only one computation is busy.
const SHARE_OF_ONE: u32 = 16;
/// One part in so many, if many are.
const SHARE_OF_MANY: u32 = 80;
/// Never more than one part in so many.
const SHARE_MOST: u32 = 4;
/// What telling one client costs, about: most of it on the threads of its connection.
const TELL: Duration = Duration::from_micros(25);

/// The time from one update to the next: it cost so much, told so many clients, and so many computations are busy.
pub fn pause(cost: Duration, clients: usize, busy: usize) -> Duration {
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    let busy = u32::try_from(busy).unwrap_or(u32::MAX).max(1);
    let all = (cost.saturating_add(TELL.saturating_mul(clients))).saturating_mul(busy);
    let share = SHARE_OF_ONE.saturating_mul(busy).min(SHARE_OF_MANY);
    let wanted = all.saturating_mul(share).clamp(PAUSE_MIN, PAUSE_MAX);
    wanted.max(all.saturating_mul(SHARE_MOST))
}

/// When a computation was brought up to date, and when it may be again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    last: Option<Instant>,
    due: Option<Instant>,
    /// It waits for its turn.
    pub queued: bool,
}

/// A computation is busy for so long after an update.
const BUSY: Duration = Duration::from_secs(6);

impl Pace {
    /// Not before this.
    pub fn due(&self, now: Instant) -> Instant {
        self.due.map_or(now, |due| due.max(now))
    }

    /// It was brought up to date.
    pub fn done(&mut self, now: Instant, pause: Duration) {
        self.last = Some(now);
        self.due = Some(now + pause);
    }

    /// Was it brought up to date lately?
    pub fn is_busy(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) <= BUSY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_cost_clients_and_company() {
        let (us, ms) = (Duration::from_micros, Duration::from_millis);
        for (cost, clients, busy, want) in [
            (us(1), 0, 1, PAUSE_MIN),
            (us(175), 1, 1, us(3200)),
            (us(175), 1, 0, us(3200)),
            (us(160), 20, 50, us(2_640_000)),
            (ms(1), 20, 50, PAUSE_MAX),
            (ms(40), 0, 50, ms(8000)),
        ] {
            assert_eq!(pause(cost, clients, busy), want, "{cost:?} {clients} {busy}");
        }
        assert!(pause(Duration::MAX, usize::MAX, usize::MAX) >= PAUSE_MAX);
    }
}
