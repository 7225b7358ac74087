//! The disk, the clock, chance, and what a life does with them.

use super::life::{GROUP_BYTES, Life};
use super::model::{Fields, Key, MEASUREMENTS, Model, Op, Points};
use crate::batch::Batch;
use crate::journal::simulated::{Random, SimDisk};
use crate::shard::CommitError;
use crate::store::simulated::{Fate, Spaces, Step};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const HOSTS: u64 = 4;
/// Points lie this far apart, so that they fill a few days and often meet.
const SLOT: i64 = 4_400_000_000_000;
const SLOTS: u64 = 60;

/// How much a seed does.
#[derive(Clone, Copy)]
pub struct Size {
    lives: u64,
    /// In each life.
    acts: u64,
    /// The power goes after at most so many operations of the disk.
    crash_in: u64,
    /// Points of an ordinary batch and of a large one.
    points: (u64, u64),
    /// Unsealed points in memory.
    pub head_bytes: usize,
}

const ORDINARY: Size = Size {
    lives: 4,
    acts: 25,
    crash_in: 450,
    points: (20, 100),
    head_bytes: 24 << 10,
};
/// The same with less of everything, so that seals and merges come as often: many more seeds in the same time.
const SMALL: Size = Size {
    lives: 3,
    acts: 12,
    crash_in: 160,
    points: (6, 30),
    head_bytes: 6 << 10,
};
/// Seeds from here on are small.
const SMALL_SEEDS: u64 = 10_000_000;
/// In seeds from here on requests wait on their way, for as long as chance has it, while others are committed and things are dropped.
pub const LATE_SEEDS: u64 = 20_000_000;
/// Requests that wait at once.
const WAITING_MAX: usize = 6;
/// Values of requests that wait; no other has them.
const LATE_VALUES: u64 = 1000;

/// What was done, to see that everything was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Operations of the disk that could have been the last.
    pub crash_points: u64,
    /// Times the power went.
    pub crashes: u64,
    /// Times only the process ended.
    pub restarts: u64,
    /// Starts that a fault or a power failure ended.
    pub failed_starts: u64,
    /// Batches acknowledged.
    pub acknowledged: u64,
    /// Batches refused because the disk or the memory for unsealed points was full.
    pub full: u64,
    /// Writes, syncs or ingestions that failed while the power was on.
    pub faults: u64,
    /// Seals.
    pub seals: u64,
    /// Merges of runs and of generations of the index.
    pub merges: u64,
    /// Comparisons of everything with the model.
    pub checks: u64,
    /// What went on while a seal or a merge wrote.
    pub meanwhile: u64,
    /// Bits that rotted: the start refused, a query failed or the recovery told, nothing changed.
    pub rot: [u64; 3],
    /// The most memory a replay took.
    pub replay_bytes: u64,
    /// Requests that were committed after they had waited.
    pub late: u64,
    /// Of those that waited while something was dropped, as far as that was seen: they did not count, or did.
    pub settled: [u64; 2],
}

impl Tally {
    /// Of another seed.
    pub fn add(&mut self, other: &Self) {
        self.crash_points += other.crash_points;
        self.crashes += other.crashes;
        self.restarts += other.restarts;
        self.failed_starts += other.failed_starts;
        self.acknowledged += other.acknowledged;
        self.full += other.full;
        self.faults += other.faults;
        self.seals += other.seals;
        self.merges += other.merges;
        self.checks += other.checks;
        self.meanwhile += other.meanwhile;
        for (own, other) in self.rot.iter_mut().zip(other.rot) {
            *own += other;
        }
        self.replay_bytes = self.replay_bytes.max(other.replay_bytes);
        self.late += other.late;
        for (own, other) in self.settled.iter_mut().zip(other.settled) {
            *own += other;
        }
    }

    /// Nothing was left out.
    pub fn check(&self) {
        let all = [
            self.crashes,
            self.restarts,
            self.failed_starts,
            self.acknowledged,
            self.full,
            self.faults,
            self.seals,
            self.merges,
            self.checks,
            self.meanwhile,
        ];
        assert!(all.iter().chain(&self.rot).all(|&count| count > 0), "{self:#?}");
    }
}

/// What somebody else does while a step of the store is about to fail.
pub type Meanwhile = Box<dyn FnOnce() + Send>;

/// See the module.
pub struct World {
    /// How much it does.
    pub size: Size,
    /// The journal's files.
    pub disk: SimDisk,
    /// The store's keyspaces.
    pub spaces: Spaces,
    random: Mutex<Random>,
    model: Mutex<Model>,
    life: Mutex<Option<Arc<Life>>>,
    /// Nanoseconds.
    clock: AtomicU64,
    /// One step of the store in so many fails; 0: none.
    faulty: u64,
    /// Under one step of the store in so many others go on.
    slow: u64,
    nested: AtomicBool,
    sealing: AtomicBool,
    /// The journal takes nothing more in this life.
    poisoned: AtomicBool,
    tally: Mutex<Tally>,
    /// The next steps of the store fail, each after this was done.
    pub failures: Mutex<VecDeque<Meanwhile>>,
    /// Requests that were made, and wait; those of seeds that have such.
    waiting: Option<Mutex<Vec<Waiting>>>,
    late_values: AtomicU64,
    /// Tell what is done: `KYMO_CORE_TRACE`.
    traced: bool,
}

/// A request whose names are resolved: the last sequence that was seen then.
struct Waiting {
    made: u64,
    points: Vec<(Key, i64, Fields)>,
    batch: Batch,
}

impl World {
    /// Some lives of one folder.
    pub fn run(seed: u64, dir: &Path) -> Tally {
        // Of the seed before, whose last life had damage.
        let _ = std::fs::remove_file(dir.join(crate::engine::losses::NAME));
        let world = Self::new(seed);
        let size = world.size;
        let rots = seed % 8 == 7;
        for life in 0..size.lives {
            if rots && life + 1 == size.lives {
                world.rotten_start(dir);
                break;
            }
            world.live(dir, life + 1 == size.lives);
        }
        let tally = world.tally().clone();
        // The life points to the world.
        world.life.lock().expect("one thread").take();
        tally
    }

    /// Nothing has been done yet.
    pub fn new(seed: u64) -> Arc<Self> {
        let mut random = Random(seed);
        let size = if seed < SMALL_SEEDS { ORDINARY } else { SMALL };
        let faulty = [0, 40, 150][random.below(3) as usize];
        let slow = [2, 8, 40][random.below(3) as usize];
        Arc::new_cyclic(|own: &std::sync::Weak<Self>| {
            let own = own.clone();
            let hook = move |step| own.upgrade().map_or(Fate::Done, |world| world.step(step));
            Self {
                size,
                disk: SimDisk::default(),
                spaces: Spaces::new(Arc::new(hook)),
                random: Mutex::new(random),
                model: Mutex::default(),
                life: Mutex::default(),
                clock: AtomicU64::new(0),
                faulty,
                slow,
                nested: AtomicBool::new(false),
                sealing: AtomicBool::new(false),
                poisoned: AtomicBool::new(false),
                tally: Mutex::default(),
                failures: Mutex::default(),
                waiting: (seed >= LATE_SEEDS).then(Mutex::default),
                late_values: AtomicU64::new(LATE_VALUES),
                traced: std::env::var_os("KYMO_CORE_TRACE").is_some(),
            }
        })
    }

    fn below(&self, limit: u64) -> u64 {
        self.random.lock().expect("one thread").below(limit)
    }

    fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// What must be there.
    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().expect("one thread")
    }

    /// What was done so far.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("one thread")
    }

    /// Is the power gone?
    pub fn is_off(&self) -> bool {
        self.disk.with(|image| image.crash_in == Some(0))
    }

    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{}", what());
        }
    }

    /// The journal or the shards have answered.
    pub fn answered(&self, sequence: u64, result: Result<u64, CommitError>) {
        self.trace(|| format!("  {sequence}: {result:?}"));
        match result {
            Ok(told) => {
                assert_eq!(told, sequence);
                self.model().acknowledged(sequence);
                self.tally().acknowledged += 1;
            }
            Err(error) if error.passes() => {
                self.model().refused(sequence);
                self.tally().full += 1;
            }
            Err(_) => self.poisoned.store(true, Relaxed),
        }
    }

    /// A step of the store: others go on meanwhile, then it succeeds or not.
    fn step(&self, step: Step) -> Fate {
        let failure = self.failures.lock().expect("one thread").pop_front();
        if let Some(meanwhile) = failure {
            meanwhile();
            return Fate::Failed(ErrorKind::Other);
        }
        self.clock.fetch_add(self.below(50_000_000), Relaxed);
        self.tally().crash_points += 1;
        if self.one_in(self.slow) && !self.nested.swap(true, Relaxed) {
            let life = self.life.lock().expect("one thread").clone();
            if let Some(life) = life
                && !self.is_off()
            {
                self.trace(|| format!(" while {step:?} {{"));
                self.tally().meanwhile += 1;
                self.meanwhile(&life);
                self.trace(|| " }".into());
            }
            self.nested.store(false, Relaxed);
        }
        let was_off = self.is_off();
        let may_be_durable = matches!(step, Step::Finish | Step::Drop) && self.one_in(2);
        if self.disk.step().is_err() {
            return match may_be_durable && !was_off {
                true => Fate::FailedDurably,
                false => Fate::Failed(ErrorKind::Other),
            };
        }
        if self.faulty > 0 && self.one_in(self.faulty) {
            self.tally().faults += 1;
            let fate = match self.below(3) {
                0 if may_be_durable => Fate::FailedDurably,
                1 => Fate::Failed(ErrorKind::Other),
                _ => Fate::Failed(ErrorKind::StorageFull),
            };
            self.trace(|| format!(" {step:?} {fate:?}"));
            return fate;
        }
        Fate::Done
    }

    /// While a seal or a merge writes.
    fn meanwhile(&self, life: &Life) {
        for _ in 0..=self.below(2) {
            self.wait(life);
            match self.below(8) {
                0 => self.delete(life),
                1 => self.check(life),
                2 | 3 if !self.sealing.load(Relaxed) && life.may_seal() => self.seal(life),
                _ => self.write(life),
            }
        }
    }

    fn live(self: &Arc<Self>, dir: &Path, last: bool) {
        let crash_in = if last {
            None
        } else {
            Some(1 + self.below(self.size.crash_in))
        };
        let one_of = |n| self.one_in(n).then(|| self.below(25));
        let (fail_sync_in, fail_write_in) = (one_of(6), one_of(8));
        self.disk.with(|image| {
            image.crash_in = crash_in;
            if !last {
                (image.fail_sync_in, image.fail_write_in) = (fail_sync_in, fail_write_in);
            }
        });
        self.poisoned.store(false, Relaxed);
        // Power takes what no sync covers.
        let _ = std::fs::remove_file(dir.join("replaying"));
        let shards = 1 + self.below(3) as u16;
        let opened = loop {
            match Life::open(self, shards, dir) {
                Ok(opened) => break Some(opened),
                Err(error) => {
                    self.tally().failed_starts += 1;
                    if self.is_off() || !last {
                        break None;
                    }
                    assert!(self.faulty > 0, "it does not start: {error}");
                }
            }
        };
        let Some((life, recovery)) = opened else {
            self.crash();
            return;
        };
        assert_eq!(
            (recovery.damaged, recovery.quarantined),
            (0, 0),
            "a crash is no damage"
        );
        assert!(
            recovery.peak_bytes < self.size.head_bytes + GROUP_BYTES,
            "a replay took {} bytes",
            recovery.peak_bytes
        );
        {
            let mut tally = self.tally();
            tally.replay_bytes = tally.replay_bytes.max(recovery.peak_bytes as u64);
        }
        self.trace(|| format!("opened at {}, {shards} shards", life.sequence()));
        self.model().found(life.sequence());
        let life = Arc::new(life);
        self.check(&life);
        *self.life.lock().expect("one thread") = Some(life.clone());
        for _ in 0..self.size.acts {
            if self.is_off() {
                break;
            }
            self.act(&life);
        }
        if !self.is_off() {
            self.check(&life);
        }
        drop(life);
        self.life.lock().expect("one thread").take();
        if let Some(waiting) = &self.waiting {
            waiting.lock().expect("one thread").clear();
        }
        self.crash();
    }

    fn crash(&self) {
        self.trace(|| "the end".into());
        if self.one_in(3) {
            self.disk.restart();
            self.tally().restarts += 1;
        } else {
            self.disk.reboot(&mut self.random.lock().expect("one thread"));
            self.tally().crashes += 1;
        }
    }

    fn act(&self, life: &Life) {
        self.wait(life);
        match self.below(20) {
            0 | 1 => self.delete(life),
            2 | 3 => self.seal(life),
            4..=6 => {
                let idle = Duration::from_secs(10 * self.below(2));
                let now = Duration::from_nanos(self.clock.fetch_add(1_000_000_000, Relaxed));
                let merged = life.merge(now, idle);
                self.trace(|| format!("merged: {merged}"));
                self.tally().merges += u64::from(merged);
            }
            7 => {
                // It holds what a seal needs.
                self.sealing.store(true, Relaxed);
                self.tally().merges += u64::from(life.merge_index());
                self.sealing.store(false, Relaxed);
            }
            8 => life.rest(),
            9 => self.check(life),
            10 => {
                let full = self.one_in(2);
                self.disk.with(|image| image.full = full);
            }
            _ => self.write(life),
        }
        if life.is_full() && !self.is_off() {
            self.seal(life);
        }
    }

    fn seal(&self, life: &Life) {
        // A seal that gave up leaves the head frozen; only a start goes on from there.
        if self.is_off() {
            return;
        }
        self.sealing.store(true, Relaxed);
        self.trace(|| format!("seal {}", life.sequence()));
        let sealed = life.seal();
        self.trace(|| format!("sealed: {sealed:?}"));
        if sealed.is_ok() {
            self.tally().seals += 1;
        }
        self.sealing.store(false, Relaxed);
    }

    fn may_commit(&self, life: &Life) -> bool {
        !self.poisoned.load(Relaxed) && !self.is_off() && life.has_room()
    }

    fn write(&self, life: &Life) {
        if !self.may_commit(life) {
            return;
        }
        let group = (0..=self.below(2)).map(|_| {
            let (few, many) = self.size.points;
            let count = if self.one_in(8) { many } else { 1 + self.below(few) };
            let points: Vec<(Key, i64, Fields)> = (0..count).map(|_| self.point()).collect();
            (life.batch(&points), Op::Write(points))
        });
        let group: Vec<_> = group.collect();
        self.trace(|| format!("write {}", group.len()));
        life.commit_group(group);
    }

    /// Makes requests that wait, commits some of those that did, and loses others, in seeds that have such.
    fn wait(&self, life: &Life) {
        let Some(waiting) = &self.waiting else { return };
        match self.below(8) {
            0..=2 => self.make(life),
            3 | 4 if self.may_commit(life) => {
                let mut group = Vec::new();
                for _ in 0..=self.below(3) {
                    let mut waiting = waiting.lock().expect("one thread");
                    if !waiting.is_empty() {
                        let at = self.below(waiting.len() as u64) as usize;
                        let Waiting { made, points, batch } = waiting.remove(at);
                        group.push((batch, Op::Late(made, points)));
                    }
                }
                if group.is_empty() {
                    return;
                }
                self.tally().late += group.len() as u64;
                self.trace(|| format!("late {:?}", group.iter().map(|(_, op)| op).collect::<Vec<_>>()));
                life.commit_group(group);
            }
            5 => {
                let mut waiting = waiting.lock().expect("one thread");
                if self.one_in(4) && !waiting.is_empty() {
                    let at = self.below(waiting.len() as u64) as usize;
                    waiting.remove(at);
                }
            }
            6 if self.may_commit(life) => self.drop_all(life),
            _ => {}
        }
    }

    /// Makes a request that waits, if there are not too many.
    fn make(&self, life: &Life) {
        let Some(waiting) = &self.waiting else { return };
        let mut waiting = waiting.lock().expect("one thread");
        if waiting.len() == WAITING_MAX {
            return;
        }
        let few = self.below(self.size.points.0);
        let points: Vec<_> = (0..=few).map(|_| self.late_point()).collect();
        let (made, batch) = (life.sequence(), life.batch(&points));
        self.trace(|| format!("made after {made}: {points:?}"));
        waiting.push(Waiting { made, points, batch });
    }

    fn late_point(&self) -> (Key, i64, Fields) {
        let (key, time, mut fields) = self.point();
        let value = self.late_values.fetch_add(1, Relaxed) as i64;
        fields.values_mut().for_each(|own| *own = value);
        (key, time, fields)
    }

    /// Drops more than rows, or alters what has them; often a request is made at once that names all of it anew.
    fn drop_all(&self, life: &Life) {
        let hours = 1000 + self.below(100_000);
        let measurement = self.below(MEASUREMENTS.len() as u64) as usize;
        let (text, op) = match self.below(6) {
            0 => ("DROP DATABASE d".to_string(), Op::DropDatabase),
            1..=3 => (
                format!("DROP MEASUREMENT {}", MEASUREMENTS[measurement]),
                Op::DropMeasurement(measurement),
            ),
            _ => (
                format!("ALTER RETENTION POLICY autogen ON d DURATION {hours}h"),
                Op::Retention(hours),
            ),
        };
        self.command(life, &text, op);
        if self.one_in(2) {
            self.make(life);
        }
    }

    fn command(&self, life: &Life, text: &str, op: Op) {
        self.trace(|| text.to_string());
        *life.statement.lock().expect("one thread") = op;
        life.query(text);
    }

    fn point(&self) -> (Key, i64, Fields) {
        let key = (self.below(MEASUREMENTS.len() as u64) as usize, self.below(HOSTS));
        let mut fields = Fields::new();
        for (name, often) in [("v", 1), ("w", 2), ("s", 4)] {
            if self.one_in(often) {
                fields.insert(name, self.below(1000) as i64);
            }
        }
        (key, self.below(SLOTS) as i64 * SLOT, fields)
    }

    fn delete(&self, life: &Life) {
        if !self.may_commit(life) {
            return;
        }
        let (measurement, host) = (self.below(MEASUREMENTS.len() as u64) as usize, self.below(HOSTS));
        let from = self.below(SLOTS) as i64 * SLOT;
        let to = from + self.below(SLOTS / 4) as i64 * SLOT;
        let name = MEASUREMENTS[measurement];
        let (text, op) = match self.below(10) {
            0 => (
                format!("DROP MEASUREMENT {name}"),
                Op::DropMeasurement(measurement),
            ),
            1 | 2 => (
                format!("DROP SERIES FROM {name} WHERE host = 'h{host}'"),
                Op::DropSeries(measurement, host),
            ),
            3..=5 => (
                format!("DELETE FROM {name} WHERE time >= {from} AND time <= {to}"),
                Op::Delete(measurement, None, (from, to)),
            ),
            _ => (
                format!("DELETE FROM {name} WHERE host = 'h{host}' AND time >= {from} AND time <= {to}"),
                Op::Delete(measurement, Some(host), (from, to)),
            ),
        };
        self.command(life, &text, op);
    }

    /// Everything there is, and sums of it, against the model.
    pub fn check(&self, life: &Life) {
        self.tally().checks += 1;
        let (from, to) = (self.below(SLOTS) as i64 * SLOT, self.below(SLOTS) as i64 * SLOT);
        let mut model = self.model();
        let found = all(life, false).expect("nothing is damaged");
        self.settle(&mut model, life, &found);
        let kept = model.retention(life.sequence());
        let points = model.up_to(life.sequence());
        assert_same(&found, points);
        let policies = life.query("SHOW RETENTION POLICIES ON d");
        let policy = &policies["results"][0]["series"][0]["values"][0];
        let expected = kept.map_or("0s".to_string(), |hours| format!("{hours}h0m0s"));
        assert!(
            policy.is_null() || policy[1] == expected.as_str(),
            "{policies}, not {expected}"
        );
        for (measurement, name) in MEASUREMENTS.iter().enumerate() {
            let answer = life.query(&format!(
                "SELECT count(v), sum(v), min(v), max(v) FROM {name} WHERE time >= {from} AND time <= {to} GROUP BY host"
            ));
            let mut sums: BTreeMap<u64, [i64; 4]> = BTreeMap::new();
            for series in answer["results"][0]["series"].as_array().into_iter().flatten() {
                let row = &series["values"][0];
                let numbers = [1, 2, 3, 4].map(|i| row[i].as_i64().unwrap_or_default());
                if numbers[0] > 0 {
                    sums.insert(host(&series["tags"]["host"]), numbers);
                }
            }
            let mut expected = BTreeMap::new();
            for ((m, host), series) in points {
                let in_range = series.iter().filter(|(time, _)| from <= **time && **time <= to);
                let values: Vec<i64> = in_range.filter_map(|(_, f)| f.get("v").copied()).collect();
                if let (true, Some(min), Some(max)) =
                    (*m == measurement, values.iter().min(), values.iter().max())
                {
                    expected.insert(*host, [values.len() as i64, values.iter().sum(), *min, *max]);
                }
            }
            assert_eq!(sums, expected, "{name} from {from} to {to}");
        }
    }

    fn settle(&self, model: &mut Model, life: &Life, found: &Points) {
        let counts = model.settle(life.sequence(), found);
        for (own, count) in self.tally().settled.iter_mut().zip(counts) {
            *own += count;
        }
    }

    /// One bit of what is at rest turns over: the start refuses, or the queries that need it fail, or nothing changes.
    fn rotten_start(self: &Arc<Self>, dir: &Path) {
        let in_journal = self.one_in(2);
        let (a, b, c) = (self.below(1 << 30), self.below(1 << 30), self.below(1 << 30));
        if in_journal {
            self.disk.rot(a, b);
        } else {
            self.spaces.rot(a, b, c);
        }
        let _ = std::fs::remove_file(dir.join("replaying"));
        let mut tries = 0;
        let opened = loop {
            match Life::open(self, 2, dir) {
                Err(_) if self.faulty > 0 && tries < 50 => tries += 1,
                other => break other,
            }
        };
        let outcome = match opened {
            Err(error) => {
                assert!(
                    !in_journal,
                    "damage in the journal must not keep it from opening: {error}"
                );
                0
            }
            Ok((life, recovery)) => {
                // A start that failed may have noted what is lost, and sealed what follows: then the next one finds no gap any more.
                let is_damaged = recovery.damaged > 0 || recovery.lost > 0 || recovery.quarantined > 0;
                let found = all(&life, is_damaged);
                let told = is_damaged || found.is_err();
                let mut model = self.model();
                for (key, series) in found.iter().flatten() {
                    for (time, fields) in series {
                        for (name, value) in fields {
                            assert!(
                                model.was_ever(*key, *time, name, *value),
                                "{key:?} {time} {name}={value}"
                            );
                        }
                    }
                }
                if let (false, Ok(found)) = (told, &found) {
                    self.settle(&mut model, &life, found);
                    assert_same(found, model.up_to(life.sequence()));
                }
                1 + usize::from(!told)
            }
        };
        for sequence in crate::engine::attempt::aside(dir).expect("a folder") {
            let _ = std::fs::remove_file(dir.join(crate::engine::attempt::file_name(sequence)));
        }
        self.tally().rot[outcome] += 1;
    }
}

/// Says only what differs.
fn assert_same(found: &Points, model: &Points) {
    if found == model {
        return;
    }
    let mut differs = Vec::new();
    for key in found.keys().chain(model.keys()).collect::<BTreeSet<_>>() {
        let (found, model) = (found.get(key), model.get(key));
        let times = found.into_iter().chain(model).flat_map(BTreeMap::keys);
        for time in times.collect::<BTreeSet<_>>() {
            let of = |points: Option<&BTreeMap<i64, Fields>>| points.and_then(|p| p.get(time)).cloned();
            if of(found) != of(model) {
                differs.push(format!("{key:?} {time}: {:?}, not {:?}", of(found), of(model)));
            }
        }
    }
    panic!("found is not what was written:\n{}", differs.join("\n"));
}

fn host(tag: &serde_json::Value) -> u64 {
    let tag = tag.as_str().and_then(|tag| tag.strip_prefix('h'));
    tag.and_then(|number| number.parse().ok()).expect("a host")
}

/// Every point that queries give. What was lost may have been a DROP SERIES: then the dropped series stands beside the one that was made
/// after it.
fn all(life: &Life, is_lossy: bool) -> Result<Points, String> {
    let mut points = Points::new();
    for (measurement, name) in MEASUREMENTS.iter().enumerate() {
        let answer = life.query(&format!("SELECT * FROM {name} GROUP BY *"));
        let result = &answer["results"][0];
        if let Some(error) = result["error"].as_str() {
            if error.contains("database not found") {
                continue;
            }
            return Err(error.to_string());
        }
        for series in result["series"].as_array().into_iter().flatten() {
            let columns = series["columns"].as_array().expect("columns");
            let key = (measurement, host(&series["tags"]["host"]));
            for row in series["values"].as_array().expect("rows") {
                let mut fields = Fields::new();
                for (column, value) in columns.iter().zip(row.as_array().expect("a row")) {
                    let (name, value) = match column.as_str().expect("a name") {
                        "v" => ("v", value.as_i64()),
                        "w" => ("w", value.as_f64().map(|value| (value - 0.5) as i64)),
                        "s" => ("s", value.as_str().map(|text| text.parse().expect("a number"))),
                        _ => continue,
                    };
                    fields.extend(value.map(|value| (name, value)));
                }
                let time = row[0].as_i64().expect("a time");
                let twice = points.entry(key).or_default().insert(time, fields);
                assert!(is_lossy || twice.is_none(), "a point twice: {key:?} {time}");
            }
        }
    }
    Ok(points)
}
