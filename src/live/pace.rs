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
const SHARE_OF_MANY: u32 = 240;
/// Never more than one part in so many.
const SHARE_MOST: u32 = 4;
/// What telling one client costs, about: most of it on the threads of its connection.
const TELL: Duration = Duration::from_micros(12);

/// What updates may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Percent of a core, whatever their number; without it as the module says.
    pub percent: Option<u16>,
}

impl Share {
    /// One part in so many of a core, while so many computations are busy.
    fn parts(self, busy: u32) -> u32 {
        match self.percent {
            Some(percent) => 100 / u32::from(percent.clamp(1, 100)),
            None => SHARE_OF_ONE.saturating_mul(busy).min(SHARE_OF_MANY),
        }
    }
}

/// The time from one update to the next: it cost so much, told so many clients, and so many computations are busy.
pub fn pause(share: Share, cost: Duration, clients: usize, busy: usize) -> Duration {
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    let busy = u32::try_from(busy).unwrap_or(u32::MAX).max(1);
    let all = (cost.saturating_add(TELL.saturating_mul(clients))).saturating_mul(busy);
    let parts = share.parts(busy);
    let wanted = all.saturating_mul(parts).clamp(PAUSE_MIN, PAUSE_MAX);
    wanted.max(all.saturating_mul(SHARE_MOST.min(parts)))
}

/// Pauses from this on are multiples of it by a power of two, and end for all who pause as long in the same moment: then what they
/// have in common is done once.
const TOGETHER_MIN: Duration = Duration::from_micros(156_250);

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

    /// It was brought up to date. Moments are counted from `epoch`.
    pub fn done(&mut self, epoch: Instant, now: Instant, pause: Duration) {
        self.last = Some(now);
        self.due = Some(end_of_pause(epoch, now, pause));
    }

    /// Was it brought up to date lately?
    pub fn is_busy(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) <= BUSY)
    }
}

/// When a pause ends that begins now.
fn end_of_pause(epoch: Instant, now: Instant, pause: Duration) -> Instant {
    if !(TOGETHER_MIN..=PAUSE_MAX).contains(&pause) {
        return now + pause;
    }
    let mut length = TOGETHER_MIN;
    while length < pause && 2 * length <= PAUSE_MAX {
        length *= 2;
    }
    let since = now.saturating_duration_since(epoch);
    let rest = since.as_nanos() % length.as_nanos();
    now + length - Duration::from_nanos(rest as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_with_cost_clients_and_company() {
        let (us, ms) = (Duration::from_micros, Duration::from_millis);
        for (cost, clients, busy, want) in [
            (us(1), 0, 1, PAUSE_MIN),
            (us(188), 1, 1, us(3200)),
            (us(188), 1, 0, us(3200)),
            (us(160), 30, 50, PAUSE_MAX),
            (ms(1), 20, 50, PAUSE_MAX),
            (ms(40), 0, 50, ms(8000)),
        ] {
            let usual = Share::default();
            assert_eq!(
                pause(usual, cost, clients, busy),
                want,
                "{cost:?} {clients} {busy}"
            );
        }
        let longest = pause(Share::default(), Duration::MAX, usize::MAX, usize::MAX);
        assert!(longest >= PAUSE_MAX);
        let begin = Instant::now();
        for (at, pause, end) in [
            (ms(7), ms(2), ms(9)),
            (ms(7), ms(156), ms(163)),
            (ms(7), us(156_250), us(156_250)),
            (ms(1200), ms(170), ms(1250)),
            (ms(1200), ms(900), ms(1250)),
            (ms(2000), ms(900), ms(2500)),
            (ms(2900), ms(900), ms(3750)),
            (ms(10), ms(3000), ms(5000)),
            (ms(10), ms(8000), ms(8010)),
        ] {
            assert_eq!(
                end_of_pause(begin, begin + at, pause) - begin,
                end,
                "{at:?} {pause:?}"
            );
        }
        let given = |percent| Share {
            percent: Some(percent),
        };
        assert_eq!(pause(given(100), ms(1), 0, 50), ms(50));
        assert_eq!(pause(given(10), ms(1), 0, 50), ms(500));
    }
}
