//! A pause is what costs and company make of it; and a thread with a clock that only the test moves.

use super::*;
use std::collections::BTreeSet;

fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn cost(all: Duration) -> Cost {
    Cost { all, soon: all }
}

/// A company of computations that cost this.
fn company(costs: &[(usize, Duration)]) -> Company {
    let mut company = Company::default();
    for (count, all) in costs {
        (0..*count).for_each(|_| company.change(None, cost(*all)));
    }
    company
}

#[test]
fn the_pause_grows_with_cost_and_with_company_that_costs_no_more() {
    for (own, others, want) in [
        (us(1), &[][..], PAUSE_MIN),
        (us(200), &[], us(3200)),
        (us(200), &[(3, us(200))], us(4 * 200 * 64)),
        (us(400), &[(49, us(400))], us(50 * 400 * 240)),
        (us(400), &[(49, us(400)), (1, us(30))], us((50 * 400 + 30) * 240)),
        (us(50), &[(19, us(50))], us(20 * 50 * 64)),
        (us(30), &[(50, us(400))], PAUSE_MIN),
        (us(30), &[(10_000, us(60))], PAUSE_MIN),
        (ms(2), &[(49, ms(2))], PAUSE_MAX),
        (ms(40), &[(49, ms(40))], ms(50 * 40 * 4)),
    ] {
        let mut company = company(others);
        company.change(None, cost(own));
        let usual = pause(Share::default(), cost(own), &company);
        assert_eq!(usual, want, "{own:?} beside {others:?}");
    }
    let most = cost(Duration::MAX);
    let longest = pause(Share::default(), most, &company(&[(2, Duration::MAX)]));
    assert!(longest >= PAUSE_MAX);
    let given = |percent, own| {
        let percent = Some(percent);
        pause(
            Share { percent },
            cost(own),
            &company(&[(1, us(100)), (49, ms(1))]),
        )
    };
    assert_eq!(given(100, ms(1)), us(49_100));
    assert_eq!(given(10, ms(1)), us(491_000));
    assert_eq!(given(10, us(100)), us(50 * 100 * 10), "each has as much");
}

#[test]
fn long_pauses_end_together() {
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
}

#[test]
fn a_cost_is_what_it_would_be_soon_and_much_once_does_not_count() {
    let update = |work, waited| Update {
        work,
        clients: 1,
        waited,
    };
    let (slow, quick) = (Cost::of(update(ms(2), ms(5000))), Cost::of(update(us(36), ms(1))));
    assert!(slow.soon < us(250) && slow.all > ms(2), "{slow:?}");
    assert_eq!((quick.soon, quick.all), (us(48), us(48)));
    let (now, mut company, mut pace) = (Instant::now(), Company::default(), Pace::default());
    let mut done = |work| {
        pace.charge(us(10));
        let update = update(us(work), ms(1));
        pace.done((Share::default(), &mut company), (now, now), update);
        assert_eq!(company.kinds.iter().map(|kind| kind.0).sum::<u32>(), 1);
        pace.touch(now).map(|due| {
            pace.take_turn();
            due - now
        })
    };
    assert_eq!(done(50_000), Some(PAUSE_MIN), "at first nobody knows");
    assert_eq!(done(100), Some(PAUSE_MIN));
    assert_eq!(done(50_000), Some(PAUSE_MIN), "interrupted, say");
    assert_eq!(done(7_000), Some(us((7_000 + 22) * 16)), "it does cost so much");
    assert_eq!(done(200), Some(us(222 * 16)));
}

/// Interrupted twice, it looks as if it cost more than fifty busy ones: those would have it wait for seconds.
#[test]
fn what_was_taken_for_costly_is_not_told_seconds_late() {
    let now = Instant::now();
    let mut company = company(&[(50, ms(1))]);
    let mut pace = Pace::default();
    let mut done = |work| {
        let update = Update {
            work,
            clients: 1,
            waited: ms(1),
        };
        pace.done((Share::default(), &mut company), (now, now), update);
        pace.paused
    };
    (0..5).for_each(|_| assert_eq!(done(us(30)), PAUSE_MIN));
    assert_eq!(done(ms(3)), PAUSE_MIN);
    assert_eq!(done(ms(3)), ms(128), "once more");
    assert_eq!(done(us(30)), PAUSE_MIN);
    (0..2).for_each(|_| assert!(done(ms(3)) <= ms(128)));
    assert_eq!(done(ms(3)), PAUSE_MAX, "it is costly");
}

/// Computations that read the same commits, one thread that brings them up to date, and a clock that only this moves.
struct Thread {
    begin: Instant,
    now: Instant,
    company: Company,
    swept: Instant,
    /// The next commit.
    commit: Instant,
    queue: BTreeSet<(Instant, usize)>,
    all: Vec<(Pace, Simulated)>,
}

#[derive(Clone, Copy)]
struct Simulated {
    fixed: Duration,
    /// For each commit.
    each: Duration,
    clients: usize,
    /// Commits that it was not told of.
    untold: u32,
    /// The longest time from a commit until it was told, and what all its updates took.
    latest: Duration,
    took: Duration,
}

const COMMITS_EVERY: Duration = Duration::from_millis(50);

impl Thread {
    fn new(all: &[(usize, u64, u64, usize)]) -> Self {
        let begin = Instant::now();
        let all = all.iter().flat_map(|&(count, fixed, each, clients)| {
            let simulated = Simulated {
                fixed: us(fixed),
                each: us(each),
                clients,
                untold: 0,
                latest: Duration::ZERO,
                took: Duration::ZERO,
            };
            std::iter::repeat_n((Pace::default(), simulated), count)
        });
        Self {
            begin,
            now: begin,
            company: Company::default(),
            swept: begin,
            commit: begin,
            queue: BTreeSet::new(),
            all: all.collect(),
        }
    }

    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            while self.commit <= self.now {
                for (at, (pace, simulated)) in self.all.iter_mut().enumerate() {
                    simulated.untold += 1;
                    self.queue.extend(pace.touch(self.commit).map(|due| (due, at)));
                }
                self.commit += COMMITS_EVERY;
            }
            if self.now >= self.swept + ms(1000) {
                self.swept = self.now;
                self.company = Company::default();
                for (pace, _) in &mut self.all {
                    pace.join(&mut self.company, self.now);
                }
            }
            let due = self.queue.iter().filter(|(due, _)| *due <= self.now);
            let next = due.min_by_key(|(_, at)| self.all[*at].0.rank()).copied();
            let Some(next) = next else {
                let first = self.queue.first().map_or(self.commit, |(due, _)| *due);
                self.now = first.min(self.commit);
                continue;
            };
            self.queue.remove(&next);
            let (pace, simulated) = &mut self.all[next.1];
            let touched = pace.take_turn().expect("it was queued");
            let work = simulated.fixed + simulated.each * std::mem::take(&mut simulated.untold);
            let waited = self.now - touched;
            self.now += work;
            simulated.latest = simulated.latest.max(self.now - touched);
            simulated.took += work + TELL * simulated.clients as u32;
            let update = Update {
                work,
                clients: simulated.clients,
                waited,
            };
            pace.done(
                (Share::default(), &mut self.company),
                (self.begin, self.now),
                update,
            );
        }
    }

    /// Forgets what was so far, runs, and gives the longest wait and the share of a core of each in thousandths.
    fn measure(&mut self, length: Duration) -> Vec<(Duration, u32)> {
        for (_, simulated) in &mut self.all {
            (simulated.latest, simulated.took) = (Duration::ZERO, Duration::ZERO);
        }
        self.run(length);
        let measured = |(_, simulated): &(Pace, Simulated)| {
            let share = simulated.took.as_secs_f64() / length.as_secs_f64();
            (simulated.latest, (1e6 * share) as u32)
        };
        self.all.iter().map(measured).collect()
    }
}

#[test]
fn a_cheap_one_is_told_within_milliseconds_beside_fifty_busy_ones() {
    // Told to twenty clients each, or to one; and a tail of a few rows that costs nearly as much as the latter.
    // The first and the last ones would wait for longer than anybody does if they took no more than many may.
    for (busy, cheap, parts) in [
        ((50, 60, 8, 20), (1, 20, 4, 1), 80),
        ((50, 60, 8, 1), (1, 20, 4, 1), SHARE_OF_CHEAP),
        ((50, 900, 200, 1), (3, 60, 10, 2), SHARE_MOST),
    ] {
        let mut thread = Thread::new(&[busy, cheap]);
        thread.run(ms(12_000));
        let measured = thread.measure(ms(20_000));
        let (busy_ones, cheap_ones) = measured.split_at(50);
        // It waits for the one that has its turn.
        let one = us(busy.1 + busy.2 * 110);
        for (latest, share) in cheap_ones {
            assert!(
                *latest <= one + ms(5) && *share < 6_000,
                "{latest:?}, {share} beside {busy:?}"
            );
        }
        let all: u32 = busy_ones.iter().map(|(_, share)| share).sum();
        assert!(all > 0 && all <= 1_000_000 / parts, "{all} beside {cheap:?}");
        let latest = busy_ones.iter().map(|(latest, _)| *latest).max();
        assert!(latest <= Some(PAUSE_MAX + ms(500)), "{latest:?}");
    }
}

#[test]
fn one_that_paused_among_many_is_told_soon_once_they_are_gone() {
    let mut thread = Thread::new(&[(60, 60, 8, 20)]);
    thread.run(ms(12_000));
    let (latest, _) = thread.measure(ms(10_000))[0];
    assert!(latest > ms(1_000), "{latest:?}");
    thread.all.truncate(1);
    thread.queue.retain(|(_, at)| *at == 0);
    thread.run(ms(12_000));
    let (latest, _) = thread.measure(ms(10_000))[0];
    assert!(latest < ms(10), "{latest:?}");
}
