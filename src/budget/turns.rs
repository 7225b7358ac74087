//! How much of what this process gets of the processors work may take that is worth less than what waits behind it: emptying sockets of
//! datagrams, throwing away what refused clients send. While there is enough, as much as it likes; while the processor is short, a part.
//!
//! Short is what the kernel says: a cgroup's quota was used up lately, and this thread could have run and had to wait for longer than it ran.
//! Where other programs want the processor, the kernel shares it by threads and how nice they are: there datagrams are not left to be dropped.

use super::machine::{throttle_files, throttled};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The kernel is asked so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A quota that was not used up for so long is enough.
const LATELY: Duration = Duration::from_secs(1);
/// The longest time to leave off.
const PAUSE_MAX: Duration = Duration::from_millis(400);

thread_local! {
    /// How long this thread had run and waited when it last looked.
    static SEEN: Cell<(Duration, Duration)> = const { Cell::new((Duration::ZERO, Duration::ZERO)) };
}

/// See the module. Shared by all who do such work.
#[derive(Debug)]
pub struct Turns {
    /// One part in so many of the process's time is theirs.
    part: u32,
    /// Their processor time, in nanoseconds.
    spent: AtomicU64,
    /// Files that tell how often a quota was used up.
    quotas: Vec<PathBuf>,
    seen: Mutex<Seen>,
}

/// When it was last looked.
#[derive(Debug)]
struct Seen {
    at: Instant,
    spent: Duration,
    process: Duration,
    /// How often a quota was used up, and when that last became more.
    throttled: u64,
    throttled_at: Option<Instant>,
    /// Until then they leave off.
    until: Instant,
}

impl Turns {
    /// One part in `part` is theirs.
    pub fn new(part: u32) -> Self {
        let now = Instant::now();
        let quotas = throttle_files();
        Self {
            part,
            spent: AtomicU64::new(0),
            seen: Mutex::new(Seen {
                at: now,
                spent: Duration::ZERO,
                process: clock(ClockId::ProcessCPUTime),
                throttled: times_throttled(&quotas),
                throttled_at: None,
                until: now,
            }),
            quotas,
        }
    }

    /// Does such work; what came of it, and how long to leave off.
    pub fn spend<T>(&self, work: impl FnOnce() -> T) -> (T, Duration) {
        let before = clock(ClockId::ThreadCPUTime);
        let done = work();
        let spent = clock(ClockId::ThreadCPUTime).saturating_sub(before).as_nanos() as u64;
        let spent = Duration::from_nanos(self.spent.fetch_add(spent, Relaxed) + spent);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(seen.at);
        if elapsed >= LOOK_EVERY {
            let process = clock(ClockId::ProcessCPUTime);
            let own = spent.saturating_sub(seen.spent);
            let all = process.saturating_sub(seen.process);
            let throttled = times_throttled(&self.quotas);
            let throttled_at = match throttled > seen.throttled {
                true => Some(now),
                false => seen.throttled_at,
            };
            let is_throttled = throttled_at.is_some_and(|at| now.saturating_duration_since(at) < LATELY);
            let pause = match is_throttled && has_waited() {
                true => pause(elapsed, own, all, self.part),
                false => Duration::ZERO,
            };
            *seen = Seen {
                at: now,
                spent,
                process,
                throttled,
                throttled_at,
                until: now + pause,
            };
        }
        (done, seen.until.saturating_duration_since(now))
    }
}

fn times_throttled(quotas: &[PathBuf]) -> u64 {
    quotas.iter().filter_map(|file| throttled(file)).sum()
}

/// Did this thread wait for longer than it ran, since it last looked?
fn has_waited() -> bool {
    let Some((ran, waited)) = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| parse(&text))
    else {
        return false;
    };
    let (ran_before, waited_before) = SEEN.replace((ran, waited));
    waited.saturating_sub(waited_before) > ran.saturating_sub(ran_before)
}

/// How long a thread ran, and how long it waited for a processor.
fn parse(schedstat: &str) -> Option<(Duration, Duration)> {
    let mut figures = schedstat.split_whitespace().map(|figure| figure.parse().ok());
    let mut next = || Some(Duration::from_nanos(figures.next()??));
    Some((next()?, next()?))
}

/// Of the time `all` that the process had within `elapsed`, they had `own`: as long as it takes until that is one part in `part`.
fn pause(elapsed: Duration, own: Duration, all: Duration, part: u32) -> Duration {
    let times = own.as_secs_f64() * f64::from(part) / all.max(own).max(Duration::from_nanos(1)).as_secs_f64();
    elapsed.mul_f64((times - 1.0).max(0.0)).min(PAUSE_MAX)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_leave_off_until_they_had_their_part() {
        let ms = Duration::from_millis;
        for (elapsed, own, all, want) in [
            (20, 0, 4, 0),
            (20, 1, 4, 0),
            (20, 2, 4, 20),
            (20, 4, 4, 60),
            (20, 3, 1, 60),
            (200, 8, 8, 400),
            (20, 0, 0, 0),
        ] {
            let got = pause(ms(elapsed), ms(own), ms(all), 4);
            assert_eq!(got.as_millis(), want, "{elapsed} {own} {all}");
        }
    }

    #[test]
    fn the_kernel_tells_how_long_a_thread_ran_and_waited() {
        let nanos = Duration::from_nanos;
        assert_eq!(
            parse("302824756 1119149123 34\n"),
            Some((nanos(302_824_756), nanos(1_119_149_123)))
        );
        assert_eq!(parse("0 0"), Some((nanos(0), nanos(0))));
        assert_eq!((parse(""), parse("1"), parse("1 x")), (None, None, None));
    }

    #[test]
    fn while_they_are_to_leave_off_everybody_is_told() {
        let (turns, hour) = (Turns::new(4), Duration::from_secs(3600));
        assert_eq!(turns.spend(|| ()).1, Duration::ZERO);
        {
            let mut seen = turns.seen.lock().expect("no panic");
            // Not looked at anew.
            seen.at = Instant::now() + hour;
            seen.until = seen.at;
        }
        assert!(turns.spend(|| ()).1 > hour / 2);
    }

    #[test]
    fn what_the_work_takes_is_counted() {
        let turns = Turns::new(4);
        let (sum, _) =
            turns.spend(|| (0..1 << 20_u32).fold(0_u32, |sum, n| std::hint::black_box(sum.wrapping_add(n))));
        assert_ne!(sum, 0);
        assert!(turns.spent.load(Relaxed) > 0);
    }
}
