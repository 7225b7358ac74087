//! Which runs to merge next. Pure: from facts about runs and the machine to a plan.
//!
//! Runs of a partition are merged with neighbours in age of about the same size, so that a row is rewritten once or twice
//! while data streams in; when the server is idle more eagerly; when a partition has come to rest, into one. Runs
//! that are mostly deleted are rewritten without what is gone, and runs of thin neighbouring partitions are merged into a
//! wider one. What is merged must be neighbours in sequence among all runs that share its time, or an older value could come
//! out above a newer one.

use super::keys::RunId;
use super::partition::{Partition, THIN_PARTITIONS_MIN, THIN_ROWS_MAX};
use crate::block::Level;
use crate::model::TimeRange;
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs of a size class that are merged while data streams in.
const FAN_IN: usize = 8;
/// Each size class is so many times larger than the one before.
const CLASS_FACTOR: u64 = 8;
/// Runs smaller than this are of the first class.
const CLASS_BYTES: u64 = 1 << 20;
/// A partition with more runs is merged whatever it costs.
const CROWD: usize = 32;
/// Without commits for so long the server is idle.
pub const IDLE: Duration = Duration::from_secs(2);
/// A partition without new runs for so long has come to rest.
const AT_REST: Duration = Duration::from_secs(600);
/// Inputs of one merge, in bytes; runs beyond it stay apart.
const MERGE_BYTES_MAX: u64 = 2 << 30;
/// Runs of one merge, whatever the memory.
const MERGE_RUNS_MAX: usize = 64;
/// Runs that every merge may have, however little memory there is.
pub const MERGE_RUNS_MIN: usize = CROWD / 2;
/// A run written fast is written again, smaller, from here on, if it finds no other to be merged with.
const REWRITE_BYTES_MIN: u64 = 256 << 10;
/// A run is rewritten when this share of it is gone: in idle time, and else.
const GONE_IDLE: f64 = 0.05;
const GONE_BUSY: f64 = 0.25;
/// Runs are moved out of a pack that keeps so many bytes of others from being freed.
const STRANDED_BYTES_MIN: u64 = 4 << 20;

/// What the policy knows of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunFacts {
    /// Which.
    pub id: RunId,
    /// Its partition.
    pub partition: Partition,
    /// Newest sequence in it.
    pub sequence: u64,
    /// How it is encoded.
    pub level: Level,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Since when it is there.
    pub age: Duration,
    /// Share of its rows that are deleted, dropped or expired, estimated. 1: all of them, for certain.
    pub gone: f64,
    /// Bytes of replaced runs in its pack, which are freed with it.
    pub stranded: u64,
    /// It cannot be read whole, so it is left as it is.
    pub damaged: bool,
}

/// What the policy knows of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions<'a> {
    /// Since when nothing was committed, and nothing much waits to be sealed.
    pub idle: Duration,
    /// Only what must be: the machine is on battery, say.
    pub thrifty: bool,
    /// Bytes a merge may take on disk before it frees what it replaces.
    pub room: u64,
    /// Runs a merge may have, for the memory there is.
    pub runs_max: usize,
    /// From when to when the runs of merges under way reach. What shares time with them is left alone.
    pub merging: &'a [TimeRange],
}

impl Conditions<'_> {
    fn runs_max(&self) -> usize {
        self.runs_max.clamp(MERGE_RUNS_MIN, MERGE_RUNS_MAX)
    }

    /// Is no merge under way where these times are?
    fn is_free(&self, time: &TimeRange) -> bool {
        !self.merging.iter().any(|busy| busy.overlaps(time))
    }
}

/// Why a merge is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All of it is gone: nothing is read or written.
    Gone,
    /// Too many runs in a partition.
    Crowded,
    /// Enough runs of one size.
    Tier,
    /// Time to spare.
    Idle,
    /// A partition at rest becomes one run.
    AtRest,
    /// Much of a run is gone.
    Deleted,
    /// A run kept a pack from being freed.
    Stranded,
    /// Thin partitions are taken together.
    Thin,
}

/// One merge: these runs become one run of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Oldest first.
    pub runs: Vec<RunId>,
    /// Of the new run.
    pub partition: Partition,
    /// Why.
    pub reason: Reason,
    /// From when to when its runs reach.
    pub time: TimeRange,
    /// Their bytes.
    pub bytes: u64,
}

/// The most useful merge, if any is.
pub fn plan(runs: &[RunFacts], conditions: &Conditions<'_>) -> Option<Plan> {
    let is_gone = |run: &&RunFacts| run.gone >= 1.0 && conditions.is_free(&run.time);
    let gone: Vec<&RunFacts> = runs.iter().filter(is_gone).collect();
    if let Some(first) = gone.first() {
        return Some(merge(&gone, first.partition, Reason::Gone));
    }
    let policy = Policy { runs, conditions };
    let mut partitions: BTreeMap<Partition, Vec<&RunFacts>> = BTreeMap::new();
    for run in runs {
        partitions.entry(run.partition).or_default().push(run);
    }
    for list in partitions.values_mut() {
        list.sort_by_key(|run| (run.sequence, run.id));
    }
    policy.crowded(&partitions).or_else(|| {
        let willing = !conditions.thrifty;
        willing.then(|| policy.willing(&partitions)).flatten()
    })
}

fn merge(runs: &[&RunFacts], partition: Partition, reason: Reason) -> Plan {
    Plan {
        runs: runs.iter().map(|run| run.id).collect(),
        partition,
        reason,
        time: reach(runs),
        bytes: runs.iter().map(|run| run.bytes).sum(),
    }
}

/// From the first to the last time of some runs.
fn reach(runs: &[&RunFacts]) -> TimeRange {
    let none = TimeRange {
        min: i64::MAX,
        max: i64::MIN,
    };
    runs.iter().fold(none, |time, run| TimeRange {
        min: time.min.min(run.time.min),
        max: time.max.max(run.time.max),
    })
}

struct Policy<'a> {
    runs: &'a [RunFacts],
    conditions: &'a Conditions<'a>,
}

type Partitions<'a> = BTreeMap<Partition, Vec<&'a RunFacts>>;

impl Policy<'_> {
    fn crowded(&self, partitions: &Partitions<'_>) -> Option<Plan> {
        let free = |list: &[&RunFacts]| list.iter().all(|run| self.conditions.is_free(&run.time));
        let crowd = partitions
            .iter()
            .filter(|(_, list)| list.len() > CROWD && free(list));
        let (partition, list) = crowd.max_by_key(|(_, list)| list.len())?;
        // The cheapest neighbours; few, so that other partitions get their turn.
        let windows = list.windows(CROWD / 2);
        let cheapest = windows
            .filter(|w| self.allowed(w))
            .min_by_key(|w| w.iter().map(|r| r.bytes).sum::<u64>());
        match cheapest {
            Some(window) => Some(merge(window, *partition, Reason::Crowded)),
            // Runs of a wider partition stand between them: all of that one become one.
            None => {
                let wider = partition.wider()?;
                let inside = self.runs.iter().filter(|r| wider.contains(r.partition));
                let mut inside: Vec<&RunFacts> = inside.collect();
                inside.sort_by_key(|run| (run.sequence, run.id));
                inside.truncate(self.conditions.runs_max());
                while inside.len() >= CROWD / 2 && !(self.neighbours(&inside) && self.fits(&inside)) {
                    inside.pop();
                }
                (inside.len() >= CROWD / 2).then(|| merge(&inside, wider, Reason::Crowded))
            }
        }
    }

    fn willing(&self, partitions: &Partitions<'_>) -> Option<Plan> {
        let idle = self.conditions.idle >= IDLE;
        for (&partition, list) in partitions.iter().rev() {
            if let Some(window) = self.tier(list) {
                return Some(merge(window, partition, Reason::Tier));
            }
        }
        for (&partition, list) in partitions.iter().rev().filter(|_| idle) {
            if let Some(window) = self.idle(list) {
                return Some(merge(window, partition, Reason::Idle));
            }
        }
        for (&partition, list) in partitions.iter().filter(|_| idle) {
            let at_rest = list.iter().all(|run| run.age >= AT_REST);
            if at_rest && list.len() > 1 {
                let from = (0..list.len() - 1).find(|&from| self.allowed(&list[from..]));
                if let Some(from) = from {
                    return Some(merge(&list[from..], partition, Reason::AtRest));
                }
            }
        }
        let enough = if idle { GONE_IDLE } else { GONE_BUSY };
        let mostly_gone = self
            .runs
            .iter()
            .filter(|run| run.gone >= enough && self.allowed(&[run]));
        if let Some(run) = mostly_gone.max_by(|a, b| a.gone.total_cmp(&b.gone)) {
            return Some(merge(&[run], run.partition, Reason::Deleted));
        }
        if !idle {
            return None;
        }
        let stranding = |run: &&RunFacts| run.stranded >= STRANDED_BYTES_MIN && run.stranded >= run.bytes;
        if let Some(run) = self
            .runs
            .iter()
            .find(|run| stranding(run) && self.allowed(&[run]))
        {
            return Some(merge(&[run], run.partition, Reason::Stranded));
        }
        self.thin(partitions)
    }

    /// Enough neighbours of one size class.
    fn tier<'l, 'r>(&self, list: &'l [&'r RunFacts]) -> Option<&'l [&'r RunFacts]> {
        let mut start = 0;
        while start < list.len() {
            let of_class = class(list[start].bytes);
            let len = list[start..]
                .iter()
                .take_while(|run| class(run.bytes) == of_class)
                .count();
            let window = &list[start..start + len.min(self.conditions.runs_max())];
            if len >= FAN_IN && self.allowed(window) {
                return Some(window);
            }
            start += len;
        }
        None
    }

    /// All that have never been merged; or the newest, from the oldest on that is no more than twice as large as all newer
    /// ones together; or one that was written fast.
    fn idle<'l, 'r>(&self, list: &'l [&'r RunFacts]) -> Option<&'l [&'r RunFacts]> {
        for from in 0..list.len().saturating_sub(1) {
            let newer: u64 = list[from + 1..].iter().map(|run| run.bytes).sum();
            let grown =
                newer >= list[from].bytes / 2 || list[from..].iter().all(|run| run.level == Level::Fast);
            if grown && newer >= REWRITE_BYTES_MIN && self.allowed(&list[from..]) {
                return Some(&list[from..]);
            }
        }
        let fast = |run: &&RunFacts| run.level == Level::Fast && run.bytes >= REWRITE_BYTES_MIN;
        let at = list.iter().position(fast)?;
        self.allowed(&list[at..=at]).then(|| &list[at..=at])
    }

    /// Thin partitions at rest that follow each other become one of the next level.
    fn thin(&self, partitions: &Partitions<'_>) -> Option<Plan> {
        let thin = |list: &[&RunFacts]| list.iter().map(|r| r.rows).sum::<u64>() <= THIN_ROWS_MAX;
        for level in 1.. {
            // In the order of time; a wide partition stands where its rows begin.
            let mut list: Vec<(Partition, &Vec<&RunFacts>)> = partitions
                .iter()
                .filter(|(p, _)| p.level <= level)
                .map(|(p, runs)| (*p, runs))
                .collect();
            list.sort_by_key(|(_, runs)| runs.iter().map(|r| r.time.min).min());
            let around = |(p, runs): &(Partition, &Vec<&RunFacts>)| {
                let whole = p.level == level || thin(runs);
                let at_rest = runs.iter().all(|run| run.age >= AT_REST);
                (whole && at_rest).then(|| p.at_level(level))
            };
            for group in list.chunk_by(|a, b| around(a).is_some() && around(a) == around(b)) {
                let narrow = group.iter().filter(|(p, _)| p.level < level).count();
                let mut runs: Vec<&RunFacts> =
                    group.iter().flat_map(|(_, runs)| runs.iter().copied()).collect();
                runs.sort_by_key(|run| (run.sequence, run.id));
                runs.truncate(self.conditions.runs_max());
                if let Some(wider) = around(&group[0])
                    && narrow >= THIN_PARTITIONS_MIN
                    && self.allowed(&runs)
                {
                    return Some(merge(&runs, wider, Reason::Thin));
                }
            }
            if partitions.keys().all(|p| p.level < level) || Partition::new(0, level + 1).is_none() {
                break;
            }
        }
        None
    }

    fn allowed(&self, set: &[&RunFacts]) -> bool {
        let bytes: u64 = set.iter().map(|run| run.bytes).sum();
        let small = bytes <= MERGE_BYTES_MAX && set.len() <= self.conditions.runs_max();
        (set.len() == 1 || small) && self.fits(set) && self.neighbours(set)
    }

    fn fits(&self, set: &[&RunFacts]) -> bool {
        set.iter().map(|run| run.bytes).sum::<u64>() <= self.conditions.room
            && !set.iter().any(|run| run.damaged)
            && self.conditions.is_free(&reach(set))
    }

    /// No other run that shares their time stands between them in sequence. Their last sequence counts as between: the
    /// new run will have it, and runs of equal sequence must never share time.
    fn neighbours(&self, set: &[&RunFacts]) -> bool {
        let first = set.iter().map(|run| run.sequence).min().unwrap_or(u64::MAX);
        let last = set.iter().map(|run| run.sequence).max().unwrap_or(0);
        let time = reach(set);
        let between =
            |run: &RunFacts| first < run.sequence && run.sequence <= last && run.time.overlaps(&time);
        !self
            .runs
            .iter()
            .any(|run| between(run) && !set.iter().any(|member| member.id == run.id))
    }
}

fn class(bytes: u64) -> u32 {
    (bytes / CLASS_BYTES).max(1).ilog(CLASS_FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const DAY: i64 = 86_400_000_000_000;
    const OLD: Duration = Duration::from_secs(3600);

    fn run(pack: u64, day: i64, bytes: u64) -> RunFacts {
        let partition = Partition::day(day * DAY);
        RunFacts {
            id: RunId { pack, run: 0 },
            partition,
            sequence: pack,
            level: Level::Small,
            time: partition.time(),
            rows: bytes / 2,
            bytes,
            age: Duration::from_secs(5),
            gone: 0.0,
            stranded: 0,
            damaged: false,
        }
    }

    fn wide(pack: u64, first_day: i64, last_day: i64, bytes: u64) -> RunFacts {
        let (first, last) = (Partition::day(first_day * DAY), Partition::day(last_day * DAY));
        RunFacts {
            partition: first.at_level(1),
            time: TimeRange {
                min: first.time().min,
                max: last.time().max,
            },
            ..run(pack, first_day, bytes)
        }
    }

    const BUSY: Conditions<'static> = Conditions {
        idle: Duration::ZERO,
        thrifty: false,
        room: 1 << 40,
        runs_max: MERGE_RUNS_MAX,
        merging: &[],
    };
    const RESTING: Conditions<'static> = Conditions {
        idle: Duration::from_secs(60),
        ..BUSY
    };

    fn check(runs: &[RunFacts], conditions: Conditions<'_>, expected: Option<(&[u64], Reason)>) {
        let found = plan(runs, &conditions);
        let short = found
            .as_ref()
            .map(|p| (p.runs.iter().map(|id| id.pack).collect::<Vec<_>>(), p.reason));
        assert_eq!(
            short,
            expected.map(|(packs, reason)| (packs.to_vec(), reason)),
            "{runs:?}"
        );
    }

    #[test]
    fn while_busy_only_many_of_one_size_are_merged() {
        let mut runs: Vec<RunFacts> = (1..=7).map(|i| run(i, 0, MIB)).collect();
        check(&runs, BUSY, None);
        runs.push(run(8, 0, 2 * MIB));
        check(&runs, BUSY, Some((&[1, 2, 3, 4, 5, 6, 7, 8], Reason::Tier)));
        runs[3].bytes = 500 * MIB;
        check(&runs, BUSY, None);
        check(
            &runs,
            Conditions {
                thrifty: true,
                ..RESTING
            },
            None,
        );
    }

    #[test]
    fn idle_time_merges_what_has_grown_by_half_and_rewrites_what_was_written_fast() {
        let big = run(1, 0, 100 * MIB);
        check(&[big, run(2, 0, 20 * MIB)], RESTING, None);
        check(
            &[big, run(2, 0, 30 * MIB), run(3, 0, 20 * MIB)],
            RESTING,
            Some((&[1, 2, 3], Reason::Idle)),
        );
        check(
            &[big, run(2, 0, MIB), run(3, 0, MIB)],
            RESTING,
            Some((&[2, 3], Reason::Idle)),
        );
        let fast = RunFacts {
            level: Level::Fast,
            ..run(2, 0, MIB)
        };
        check(&[big, fast], RESTING, Some((&[2], Reason::Idle)));
        check(&[big, fast], BUSY, None);
        let first = RunFacts {
            level: Level::Fast,
            ..big
        };
        check(&[first, fast], RESTING, Some((&[1, 2], Reason::Idle)));
        let tiny = RunFacts {
            level: Level::Fast,
            ..run(2, 0, 1000)
        };
        check(&[big, tiny], RESTING, None);
        check(&[big, RunFacts { age: OLD, ..tiny }], RESTING, None);
        check(
            &[RunFacts { age: OLD, ..big }, RunFacts { age: OLD, ..tiny }],
            RESTING,
            Some((&[1, 2], Reason::AtRest)),
        );
    }

    #[test]
    fn little_memory_means_fewer_runs_at_once() {
        let runs: Vec<RunFacts> = (1..=40).map(|i| run(i, 0, MIB)).collect();
        let at_once = |runs_max| {
            let conditions = Conditions { runs_max, ..BUSY };
            plan(&runs[..30], &conditions).map(|plan| plan.runs.len())
        };
        assert_eq!(at_once(64), Some(30));
        assert_eq!(at_once(20), Some(20));
        assert_eq!(at_once(0), Some(MERGE_RUNS_MIN));
        let crowded = plan(&runs, &Conditions { runs_max: 0, ..BUSY }).expect("a crowd");
        assert_eq!(
            (crowded.runs.len(), crowded.reason),
            (MERGE_RUNS_MIN, Reason::Crowded)
        );
    }

    #[test]
    fn what_shares_time_with_a_merge_under_way_is_left_alone() {
        let mut runs: Vec<RunFacts> = (1..=8).map(|i| run(i, 0, MIB)).collect();
        runs.extend((9..=16).map(|i| run(i, 5, MIB)));
        let first = plan(&runs, &BUSY).expect("two days of eight runs");
        assert_eq!(first.time, runs[8].time);
        assert_eq!(first.bytes, 8 * MIB);
        let under_way = [first.time];
        let conditions = Conditions {
            merging: &under_way,
            ..BUSY
        };
        check(&runs, conditions, Some((&[1, 2, 3, 4, 5, 6, 7, 8], Reason::Tier)));
        let both = [first.time, runs[0].time];
        let conditions = Conditions {
            merging: &both,
            idle: Duration::from_secs(60),
            ..BUSY
        };
        check(&runs, conditions, None);
        runs[0].gone = 1.0;
        check(&runs, conditions, None);
    }

    #[test]
    fn what_is_gone_goes() {
        let gone = |pack, share| RunFacts {
            gone: share,
            ..run(pack, pack as i64, 9 * MIB)
        };
        check(
            &[gone(1, 1.0), gone(2, 0.0), gone(3, 1.0)],
            BUSY,
            Some((&[1, 3], Reason::Gone)),
        );
        check(
            &[gone(1, 0.1), gone(2, 0.3), gone(3, 0.2)],
            BUSY,
            Some((&[2], Reason::Deleted)),
        );
        check(&[gone(1, 0.1)], BUSY, None);
        check(&[gone(1, 0.1)], RESTING, Some((&[1], Reason::Deleted)));
        check(&[gone(1, 0.01)], RESTING, None);
        check(&[gone(1, 0.5)], Conditions { room: MIB, ..RESTING }, None);
        check(
            &[RunFacts {
                damaged: true,
                ..gone(1, 0.5)
            }],
            RESTING,
            None,
        );
        check(
            &[RunFacts {
                damaged: true,
                ..gone(1, 1.0)
            }],
            BUSY,
            Some((&[1], Reason::Gone)),
        );
        let stranded = RunFacts {
            stranded: 50 * MIB,
            ..run(1, 0, MIB)
        };
        check(&[stranded], RESTING, Some((&[1], Reason::Stranded)));
        check(&[stranded], BUSY, None);
    }

    #[test]
    fn a_crowd_is_merged_even_on_battery() {
        let runs: Vec<RunFacts> = (1..=40)
            .map(|i| run(i, 0, if i % 2 == 0 { 900 * MIB / 40 } else { 1 }))
            .collect();
        let found = plan(
            &runs,
            &Conditions {
                thrifty: true,
                ..BUSY
            },
        )
        .expect("40 runs are too many");
        assert_eq!((found.reason, found.runs.len()), (Reason::Crowded, 16));
    }

    #[test]
    fn thin_days_at_rest_become_a_wider_partition() {
        let day = |pack: u64, bytes| RunFacts {
            age: OLD,
            ..run(pack, pack as i64, bytes)
        };
        let days: Vec<RunFacts> = (1..=4).map(|i| day(i, 1000)).collect();
        check(&days, RESTING, Some((&[1, 2, 3, 4], Reason::Thin)));
        check(&days[..3], RESTING, None);
        check(&[days[0], days[1], days[2], day(4, 50 * MIB)], RESTING, None);
        let grown = [
            wide(9, 1, 4, MIB),
            day(10, 1000),
            day(11, 1000),
            day(12, 1000),
            day(13, 1000),
        ]
        .map(|r| RunFacts { age: OLD, ..r });
        let found = plan(&grown, &RESTING).expect("four thin days beside a wide run");
        assert_eq!((found.runs.len(), found.partition.level), (5, 1));
    }

    #[test]
    fn an_older_value_never_comes_out_above_a_newer_one() {
        // A wide run stands between the second and the third in age.
        let runs = [run(1, 1, MIB), run(2, 1, MIB), wide(3, 0, 8, MIB), run(4, 1, MIB)];
        check(&runs, RESTING, None);
        let elsewhere = [run(1, 1, MIB), run(2, 1, MIB), wide(3, 2, 8, MIB), run(4, 1, MIB)];
        check(&elsewhere, RESTING, Some((&[1, 2, 4], Reason::Idle)));
    }

    proptest! {
        #[test]
        fn plans_are_valid_and_come_to_an_end(
            inputs in prop::collection::vec((0i64..12, 1u64..40 * MIB, any::<bool>(), 0u8..3), 1..80),
            idle in any::<bool>(), old in any::<bool>(),
        ) {
            let mut runs: Vec<RunFacts> = inputs.iter().enumerate().map(|(i, &(day, bytes, fast, wide_days))| {
                let base = if wide_days == 2 { wide(i as u64 + 1, day, day + 5, bytes) } else { run(i as u64 + 1, day, bytes) };
                let age = if old { OLD } else { Duration::from_secs(3) };
                RunFacts { level: if fast { Level::Fast } else { Level::Small }, age, ..base }
            }).collect();
            let conditions = if idle { RESTING } else { BUSY };
            for step in 0.. {
                prop_assert!(step < 200, "merging goes on and on");
                let Some(plan) = plan(&runs, &conditions) else { break };
                let (merged, rest): (Vec<RunFacts>, Vec<RunFacts>) = runs.iter().partition(|r| plan.runs.contains(&r.id));
                prop_assert_eq!(merged.len(), plan.runs.len());
                prop_assert!(merged.iter().all(|r| plan.partition.contains(r.partition)));
                let (first, last) = (merged.iter().map(|r| r.sequence).min(), merged.iter().map(|r| r.sequence).max());
                let time = TimeRange {
                    min: merged.iter().map(|r| r.time.min).min().unwrap_or(0),
                    max: merged.iter().map(|r| r.time.max).max().unwrap_or(0),
                };
                for other in &rest {
                    let between = first < Some(other.sequence) && Some(other.sequence) <= last;
                    prop_assert!(!between || !other.time.overlaps(&time));
                }
                let bytes = merged.iter().map(|r| r.bytes).sum();
                runs = rest;
                runs.push(RunFacts {
                    id: RunId { pack: 1000 + step, run: 0 },
                    partition: plan.partition,
                    sequence: last.unwrap_or(0),
                    level: Level::Small,
                    time,
                    rows: bytes / 2,
                    bytes,
                    age: merged[0].age,
                    gone: 0.0,
                    stranded: 0,
                    damaged: false,
                });
            }
            let mut of_partition: BTreeMap<Partition, usize> = BTreeMap::new();
            runs.iter().for_each(|r| *of_partition.entry(r.partition).or_default() += 1);
            prop_assert!(of_partition.values().all(|&n| n <= CROWD), "{of_partition:?}");
        }
    }
}
