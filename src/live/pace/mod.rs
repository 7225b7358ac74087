//! How often a computation is brought up to date. Pure.
//!
//! Each is charged for what it costs itself, and who costs least comes first: a computation shares the processor with those that cost no
//! more than it does (its [`Company`]), so that what is cheap is told within milliseconds whatever else is subscribed. One that is busy
//! alone may take `SHARE_OF_ONE` of a core. Many take less together, and the less the more each of them costs, since then nobody looks at
//! each value, and ingestion comes first. Each is brought up to date as often as its part of that allows.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// The pause after an update that cost nothing.
pub const PAUSE_MIN: Duration = Duration::from_millis(2);
/// Nobody waits longer than this for what has changed, unless updates would then take `SHARE_MOST` of a core.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);
/// One part in so many of a core is for updates if only one computation is busy.
const SHARE_OF_ONE: u32 = 16;
/// One part in so many, if many are that cost no more than `CHEAP`.
const SHARE_OF_CHEAP: u32 = 64;
/// One part in so many, if many are that cost more.
const SHARE_OF_COSTLY: u32 = 240;
/// Never more than one part in so many.
const SHARE_MOST: u32 = 4;
/// What a cheap update costs at most.
const CHEAP: Duration = Duration::from_micros(100);
/// What telling one client costs, about: most of it on the threads of its connection.
const TELL: Duration = Duration::from_micros(12);
/// What an update costs that finds next to nothing.
const LEAST: Duration = Duration::from_micros(16);
/// An update costs the more the longer it was waited for: costs are compared as if it had been so long.
const SOON: Duration = Duration::from_millis(50);

/// What updates may take.
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// Percent of a core, whatever their number; without it as the module says.
    pub percent: Option<u16>,
}

/// Kinds of costs, from 8 us on: two to a factor of two.
const KINDS: usize = 32;

/// How many computations are busy, and what an update of them costs, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Company {
    kinds: [(u32, Duration); KINDS],
}

/// The kind of a cost.
fn kind(cost: Duration) -> usize {
    let doublings = (cost.as_secs_f64() / 8e-6).max(1.0).log2();
    ((2.0 * doublings) as usize).min(KINDS - 1)
}

impl Company {
    fn change(&mut self, before: Option<Cost>, after: Cost) {
        if let Some(before) = before {
            let (count, cost) = &mut self.kinds[kind(before.soon)];
            *count = count.saturating_sub(1);
            *cost = cost.saturating_sub(before.all);
        }
        let (count, cost) = &mut self.kinds[kind(after.soon)];
        *count += 1;
        *cost = cost.saturating_add(after.all);
    }

    /// Those that cost no more: how many there are, and what all of them cost.
    fn of(&self, cost: Cost) -> (u32, Duration) {
        let add = |sum: (u32, Duration), one: &(u32, Duration)| (sum.0 + one.0, sum.1.saturating_add(one.1));
        self.kinds[..=kind(cost.soon)]
            .iter()
            .fold((0, Duration::ZERO), add)
    }

    /// The same, and of those that cost more as much as it does itself.
    fn of_all(&self, cost: Cost) -> Duration {
        let more: u32 = self.kinds[kind(cost.soon) + 1..]
            .iter()
            .map(|(count, _)| count)
            .sum();
        self.of(cost).1.saturating_add(cost.all.saturating_mul(more))
    }
}

/// An update that was made.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// What it took of the processor.
    pub work: Duration,
    /// So many were told.
    pub clients: usize,
    /// So long it waited for its turn.
    pub waited: Duration,
}

/// What an update costs, telling the clients among it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    /// As it was.
    all: Duration,
    /// As it would be, about, had it come soon after the one before.
    soon: Duration,
}

impl Cost {
    fn of(update: Update) -> Self {
        let Update {
            work,
            clients,
            waited,
        } = update;
        let tell = TELL.saturating_mul(u32::try_from(clients).unwrap_or(u32::MAX));
        let grows = work.saturating_sub(LEAST);
        let soon = match waited > SOON {
            // Some of it grows with the time, some does not: between the two.
            true => grows.mul_f64((SOON.as_secs_f64() / waited.as_secs_f64()).sqrt()),
            false => grows,
        };
        Self {
            all: work.saturating_add(tell),
            soon: work.min(LEAST).saturating_add(soon).saturating_add(tell),
        }
    }

    fn min(self, other: Self) -> Self {
        Self {
            all: self.all.min(other.all),
            soon: self.soon.min(other.soon),
        }
    }
}

/// A pause is at most so many times as long as the one before: what was taken for costly, since it was interrupted twice, is told late
/// by a hundred milliseconds at most, and not by seconds.
const LONGER: u32 = 64;

/// The time from one update to the next.
fn pause(share: Share, cost: Cost, company: &Company) -> Duration {
    let (parts, all) = match share.percent {
        Some(percent) => (100 / u32::from(percent.clamp(1, 100)), company.of_all(cost)),
        None => {
            let (count, all) = company.of(cost);
            let times = cost.soon.as_secs_f64() / CHEAP.as_secs_f64();
            let many = ((f64::from(SHARE_OF_CHEAP) * times) as u32).clamp(SHARE_OF_CHEAP, SHARE_OF_COSTLY);
            (SHARE_OF_ONE.saturating_mul(count).min(many), all)
        }
    };
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
    /// It waits for its turn, or has it, since then.
    touched: Option<Instant>,
    /// Its part of what was done for several since the last update.
    charged: Duration,
    /// What the last update cost, and the one before.
    costs: Option<(Cost, Cost)>,
    /// What the company knows of it.
    counted: Option<Cost>,
    /// The last pause.
    paused: Duration,
}

/// A computation is busy for so long after an update.
const BUSY: Duration = Duration::from_secs(6);

impl Pace {
    /// There is something to look at: when its turn comes; `None` if it was waiting already.
    pub fn touch(&mut self, now: Instant) -> Option<Instant> {
        if self.is_waiting() {
            return None;
        }
        self.touched = Some(now);
        Some(self.due.map_or(now, |due| due.max(now)))
    }

    /// It waits for its turn, or has it.
    pub fn is_waiting(&self) -> bool {
        self.touched.is_some()
    }

    /// It has its turn now: since when it has waited.
    pub fn take_turn(&mut self) -> Option<Instant> {
        self.touched.take()
    }

    /// Its part of what was done for several.
    pub fn charge(&mut self, cost: Duration) {
        self.charged = self.charged.saturating_add(cost);
    }

    /// It was brought up to date. Moments are counted from `epoch`.
    pub fn done(
        &mut self,
        (share, company): (Share, &mut Company),
        (epoch, now): (Instant, Instant),
        update: Update,
    ) {
        let work = update.work.saturating_add(std::mem::take(&mut self.charged));
        let last = Cost::of(Update { work, ..update });
        // One that costs much once does not count, nor does the first.
        let before = self.costs.map_or(Cost::default(), |(last, _)| last);
        self.costs = Some((last, before));
        let cost = last.min(before);
        company.change(self.counted.replace(cost), cost);
        self.last = Some(now);
        let longest = self.paused.max(PAUSE_MIN).saturating_mul(LONGER);
        self.paused = pause(share, cost, company).min(longest);
        self.due = Some(end_of_pause(epoch, now, self.paused));
    }

    /// Who costs least comes first.
    pub fn rank(&self) -> usize {
        self.costs.map_or(0, |(last, before)| kind(last.min(before).soon))
    }

    /// Is counted in a company that knows nobody, if it was brought up to date lately.
    pub fn join(&mut self, company: &mut Company, now: Instant) {
        self.counted = None;
        let Some((last, before)) = self.costs.filter(|_| self.is_busy(now)) else {
            return;
        };
        let cost = last.min(before);
        self.counted = Some(cost);
        company.change(None, cost);
    }

    fn is_busy(&self, now: Instant) -> bool {
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
