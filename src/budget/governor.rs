//! Decides when budgets shrink and grow again. Pure: a look at the machine and the time go in, changes with reasons come out.

use super::pressure::Observation;
use super::{ALL, Budget, Budgets, Overrides, Size};
use std::time::{Duration, Instant};

/// Halvings at most.
const LEVEL_MAX: u32 = 4;
/// Below this share of memory left, budgets shrink; or when so much of the time something waits for memory.
const TIGHT_SHARE: f64 = 0.10;
const TIGHT_STALLED_PERCENT: f64 = 10.0;
/// Above this share left and below this much waiting, they grow again ..
const CALM_SHARE: f64 = 0.20;
const CALM_STALLED_PERCENT: f64 = 1.0;
/// .. after so long.
const CALM_TIME: Duration = Duration::from_secs(30);
/// Between halvings: what the last one freed must show first.
const SHRINK_EVERY: Duration = Duration::from_secs(4);

/// What made a budget change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Little memory is left, or something waits for memory.
    MemoryShort,
    /// Memory is there again.
    MemoryBack,
    /// The machine runs on its battery now: what can wait waits.
    Battery,
    /// It has mains again.
    Mains,
}

impl Cause {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryShort => "memory is short",
            Self::MemoryBack => "memory is there again",
            Self::Battery => "on battery: merges that can wait, wait",
            Self::Mains => "on mains again",
        }
    }
}

/// A budget that changed, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Which.
    pub budget: Budget,
    /// Before.
    pub from: u64,
    /// After.
    pub to: u64,
    /// What made it change.
    pub cause: Cause,
    /// Why, in words and figures.
    pub reason: String,
}

/// See the module.
pub struct Governor {
    full: Budgets,
    now: Budgets,
    overrides: Overrides,
    level: u32,
    shrunk: Option<Instant>,
    calm_since: Option<Instant>,
    on_battery: bool,
}

impl Governor {
    /// Begins with full budgets.
    pub fn new(full: Budgets, overrides: Overrides) -> Self {
        Self {
            now: full.clone(),
            full,
            overrides,
            level: 0,
            shrunk: None,
            calm_since: None,
            on_battery: false,
        }
    }

    /// The budgets now.
    pub fn budgets(&self) -> &Budgets {
        &self.now
    }

    /// Takes a look at the machine into account; what changed.
    pub fn step(&mut self, now: Instant, seen: &Observation) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.on_battery != seen.on_battery {
            self.on_battery = seen.on_battery;
            let cause = if seen.on_battery {
                Cause::Battery
            } else {
                Cause::Mains
            };
            changes = self.go_to(self.level, cause, String::new());
        }
        changes.extend(self.follow_memory(now, seen));
        changes
    }

    fn follow_memory(&mut self, now: Instant, seen: &Observation) -> Vec<Change> {
        let left = seen.available as f64 / seen.memory.max(1) as f64;
        let stalled = seen.stalled_percent.unwrap_or(0.0);
        let tight = left < TIGHT_SHARE || stalled > TIGHT_STALLED_PERCENT;
        let calm = left > CALM_SHARE && stalled < CALM_STALLED_PERCENT;
        if !calm {
            self.calm_since = None;
        }
        let state = || {
            let waited = match seen.stalled_percent {
                Some(percent) => format!(", {percent} % of the time waited for memory"),
                None => String::new(),
            };
            format!("{} of {} left{waited}", Size(seen.available), Size(seen.memory))
        };
        if tight && self.level < LEVEL_MAX && self.shrunk.is_none_or(|at| now - at >= SHRINK_EVERY) {
            self.shrunk = Some(now);
            return self.go_to(self.level + 1, Cause::MemoryShort, state());
        }
        if calm && self.level > 0 {
            let since = *self.calm_since.get_or_insert(now);
            if now - since >= CALM_TIME {
                self.calm_since = Some(now);
                return self.go_to(self.level - 1, Cause::MemoryBack, state());
            }
        }
        Vec::new()
    }

    fn go_to(&mut self, level: u32, cause: Cause, figures: String) -> Vec<Change> {
        self.level = level;
        let new = self.full.squeezed(level, self.on_battery, &self.overrides);
        let old = std::mem::replace(&mut self.now, new);
        let changed = ALL.into_iter().filter(|b| old.get(*b) != self.now.get(*b));
        let change = |budget| Change {
            budget,
            from: old.get(budget),
            to: self.now.get(budget),
            cause,
            reason: match &figures[..] {
                "" => cause.name().to_string(),
                figures => format!("{}: {figures}", cause.name()),
            },
        };
        changed.map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Machine;

    const GIB: u64 = 1 << 30;

    fn seen(available_percent: u64, stalled: f64) -> Observation {
        Observation {
            memory: 100 * GIB,
            available: available_percent * GIB,
            stalled_percent: Some(stalled),
            on_battery: false,
        }
    }

    fn governor() -> Governor {
        let machine = Machine {
            cores: 4,
            memory: 8 * GIB,
        };
        let overrides = Overrides::default().with(Budget::IndexCache, Some(77));
        Governor::new(Budgets::new(&machine, &overrides), overrides)
    }

    #[test]
    fn shrinks_step_by_step_and_grows_back_when_it_is_calm() {
        let mut governor = governor();
        let full = governor.budgets().clone();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(governor.step(at(0), &seen(50, 0.0)), []);
        let changes = governor.step(at(2), &seen(5, 0.0));
        assert_eq!(
            changes.iter().map(|c| (c.budget, c.to * 2)).collect::<Vec<_>>(),
            [
                (Budget::Head, full.get(Budget::Head)),
                (Budget::BlockCache, full.get(Budget::BlockCache)),
                (Budget::Spellings, full.get(Budget::Spellings)),
                (Budget::MergeThreads, full.get(Budget::MergeThreads)),
                (Budget::Merge, full.get(Budget::Merge)),
            ],
            "halved, but for what was chosen by hand and what does not yield"
        );
        assert!(
            changes[0].reason.contains("5120 MiB of 102400 MiB left"),
            "{}",
            changes[0].reason
        );
        assert_eq!(
            governor.step(at(3), &seen(5, 0.0)),
            [],
            "the first halving must show first"
        );
        assert_eq!(
            governor.step(at(6), &seen(50, 11.0)).len(),
            4,
            "stalls count as well; one thread merges on"
        );
        assert_eq!(governor.step(at(7), &seen(15, 5.0)), [], "neither tight nor calm");
        assert_eq!(governor.step(at(8), &seen(50, 0.0)), []);
        assert_eq!(
            governor.step(at(37), &seen(50, 0.0)),
            [],
            "not calm for long enough"
        );
        assert_eq!(governor.step(at(38), &seen(50, 0.0)).len(), 4);
        assert_eq!(governor.step(at(68), &seen(50, 0.0)).len(), 5);
        assert_eq!(governor.budgets(), &full);
        assert_eq!(governor.step(at(200), &seen(50, 0.0)), []);
    }

    #[test]
    fn halves_only_so_often() {
        let mut governor = governor();
        let start = Instant::now();
        let steps = (0..20).filter(|i| {
            let now = start + Duration::from_secs(i * 10);
            !governor.step(now, &seen(1, 0.0)).is_empty()
        });
        assert_eq!(steps.count() as u32, LEVEL_MAX);
    }

    #[test]
    fn merges_wait_on_battery_unless_they_were_chosen_by_hand() {
        let machine = Machine {
            cores: 4,
            memory: 8 * GIB,
        };
        let on_battery = Observation {
            on_battery: true,
            ..seen(50, 0.0)
        };
        let start = Instant::now();
        let threads = |changes: &[Change]| -> Vec<(Budget, u64, Cause)> {
            changes.iter().map(|c| (c.budget, c.to, c.cause)).collect()
        };
        let none = Overrides::default();
        let mut governor = Governor::new(Budgets::new(&machine, &none), none);
        let changes = governor.step(start, &on_battery);
        assert_eq!(threads(&changes), [(Budget::MergeThreads, 0, Cause::Battery)]);
        assert_eq!(governor.step(start, &on_battery), []);
        let changes = governor.step(start, &seen(50, 0.0));
        assert_eq!(threads(&changes), [(Budget::MergeThreads, 2, Cause::Mains)]);
        assert_eq!(changes[0].reason, "on mains again");

        let chosen = Overrides::default().with(Budget::MergeThreads, Some(3));
        let mut governor = Governor::new(Budgets::new(&machine, &chosen), chosen);
        assert_eq!(governor.step(start, &on_battery), []);
        assert_eq!(governor.budgets().get(Budget::MergeThreads), 3);
    }
}
