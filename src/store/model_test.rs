//! The store against a map: random writes, overwrites, deletes, dropped series, retention, seals, merges of whatever
//! neighbours, and restarts, in any order; everything readable must equal the map at every step, for readers that
//! took their view before as well.

use super::merge_policy::{Plan, Reason};
use super::partition::{Partition, choose};
use super::upkeep::RunLog;
use super::*;
use crate::batch::{Command, Definitions};
use crate::block::steps::StepNumbers;
use crate::model::{
    Column, FieldId, FieldType, FieldValue, MeasurementId, SeriesId, SortedRows, TimeRange, Values,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const DAY: i64 = 86_400_000_000_000;
const MEASUREMENTS: u32 = 2;
const FIELDS: [FieldType; 5] = [
    FieldType::Float,
    FieldType::Integer,
    FieldType::Unsigned,
    FieldType::String,
    FieldType::Boolean,
];

/// One point: series, time, and a value for some fields.
type Point = (SeriesId, i64, Vec<(FieldId, u64)>);
type Key = (MeasurementId, SeriesId, i64);
type Model = BTreeMap<Key, BTreeMap<FieldId, FieldValue>>;

#[derive(Clone, Debug)]
enum Step {
    /// Written and sealed: of which measurement.
    Seal(MeasurementId, Vec<Point>),
    /// Many regular rows, so that there are stripes and steps: series, rows, first time, seed of values.
    SealMany(u32, u32, i64, u64),
    Delete(MeasurementId, Option<Vec<SeriesId>>, i64, i64),
    DropSeries(MeasurementId, SeriesId),
    Expire(i64),
    /// Merges these neighbours, by position.
    Merge(usize, usize),
    /// Merges what the policy says, until it says nothing more.
    Settle,
    Reopen,
    /// Keeps what can be read now, to be compared at the end.
    Hold,
}

fn value(field: FieldId, n: u64) -> FieldValue {
    match FIELDS[usize::from(field)] {
        FieldType::Float => FieldValue::Float(n as f64 / 8.0),
        FieldType::Integer => FieldValue::Integer(n as i64 - 50),
        FieldType::Unsigned => FieldValue::Unsigned(n),
        FieldType::String => FieldValue::String(format!("text {n}")),
        FieldType::Boolean => FieldValue::Boolean(n.is_multiple_of(2)),
    }
}

fn push(column: &mut Column, v: Option<FieldValue>) {
    let Some(v) = v else {
        column.push_missing(1);
        return;
    };
    match (&mut column.values, v) {
        (Values::Float(to), FieldValue::Float(v)) => to.push(v),
        (Values::Integer(to), FieldValue::Integer(v)) => to.push(v),
        (Values::Unsigned(to), FieldValue::Unsigned(v)) => to.push(v),
        (Values::String(to), FieldValue::String(v)) => to.push(v.as_bytes()),
        (Values::Boolean(to), FieldValue::Boolean(v)) => to.push(v),
        _ => panic!("a value of another type"),
    }
    if let Some(present) = &mut column.present {
        present.push(true);
    }
}

fn rows(measurement: MeasurementId, points: &[Point]) -> SortedRows {
    let columns = (0..FIELDS.len() as FieldId).map(|field| {
        let mut column = Column::new(FIELDS[usize::from(field)]);
        for (_, _, fields) in points {
            let found = fields.iter().rev().find(|(f, _)| *f == field);
            push(&mut column, found.map(|(_, n)| value(field, *n)));
        }
        (field, column)
    });
    let (series, times) = points.iter().map(|p| (p.0, p.1)).unzip();
    SortedRows::from_unsorted(measurement, series, times, columns.collect())
}

fn many(series: u32, count: u32, start: i64, seed: u64) -> Vec<Point> {
    let of_series = |s: u32| {
        (0..count).map(move |i| {
            let n = (u64::from(i) * 7 + seed + u64::from(s)) % 100;
            let fields = if n == 13 {
                vec![(1, n)]
            } else {
                vec![(0, n), (1, n)]
            };
            (s, start + i64::from(i) * 10_000_000_000, fields)
        })
    };
    (0..series).flat_map(of_series).collect()
}

/// One test's store, and what must be in it.
struct Case {
    dir: tempfile::TempDir,
    store: Option<Store>,
    model: Model,
    sequence: u64,
    /// Told to the store and not yet part of a seal.
    commands: Vec<(u64, Command)>,
    expired: i64,
    held: Vec<(Arc<RunSet>, Model)>,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut case = Self {
            dir,
            store: None,
            model: Model::new(),
            sequence: 0,
            commands: Vec::new(),
            expired: i64::MIN,
            held: Vec::new(),
        };
        case.open();
        case
    }

    fn open(&mut self) {
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            ..StoreOptions::default()
        };
        let store = Store::open(self.dir.path(), options, &mut |_| {}).expect("a sound folder");
        // What the journal would replay.
        for (sequence, command) in &self.commands {
            store.apply_command(*sequence, command);
        }
        self.store = Some(store);
        self.expire();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open between steps")
    }

    fn expire(&self) {
        let before = (0..MEASUREMENTS).map(|m| (m, self.expired)).collect();
        self.store().set_expired(before);
    }

    fn seal(&mut self, measurement: MeasurementId, points: &[Point]) {
        self.sequence += 1;
        for (series, time, fields) in points {
            let row = self.model.entry((measurement, *series, *time)).or_default();
            row.extend(fields.iter().map(|&(field, n)| (field, value(field, n))));
        }
        let all = rows(measurement, points);
        let mut days = BTreeMap::new();
        all.times
            .iter()
            .for_each(|&t| *days.entry(Partition::day(t)).or_default() += 1);
        let tables = choose(&days).into_iter().map(|slice| {
            let inside: Vec<u32> = (0..all.len() as u32)
                .filter(|&row| slice.time.contains(all.times[row as usize]))
                .collect();
            (slice, all.gather(&inside))
        });
        let commands: Vec<Command> = self.commands.drain(..).map(|(_, command)| command).collect();
        let input = SealInput {
            watermark: self.sequence,
            level: match self.sequence % 3 {
                0 => crate::block::Level::Small,
                _ => crate::block::Level::Fast,
            },
            definitions: &Definitions::default(),
            series: &[],
            commands: &commands,
            next_ids: [1, 1, MEASUREMENTS],
            gone: None,
        };
        self.store
            .as_ref()
            .expect("open")
            .seal(&input, tables)
            .expect("an ordinary seal");
    }

    fn command(&mut self, command: Command) {
        self.sequence += 1;
        self.store().apply_command(self.sequence, &command);
        self.commands.push((self.sequence, command));
    }

    fn merge(&self, plan: &Plan) {
        let input = MergeInput {
            sequence: self.sequence,
            alive: &|_| true,
            stop: &|| false,
            bytes: 16 << 20,
        };
        self.store().merge(plan, &input).expect("sound runs");
        self.store().forget_spent_deletes().expect("a sound index");
        self.store().free_spent();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Seal(measurement, points) => {
                // A dropped series is not written again: it would get another id.
                let set = self.store().runs();
                let dead = set.deletes().dead.get(measurement).cloned().unwrap_or_default();
                let alive: Vec<Point> = points.iter().filter(|p| !dead.contains(p.0)).cloned().collect();
                self.seal(*measurement, &alive);
            }
            Step::SealMany(series, count, start, seed) => {
                let set = self.store().runs();
                let dead = set.deletes().dead.get(&0).cloned().unwrap_or_default();
                let mut points = many(*series, *count, *start, *seed);
                points.retain(|p| !dead.contains(p.0));
                self.seal(0, &points);
            }
            Step::Delete(measurement, series, from, len) => {
                let time = TimeRange {
                    min: *from,
                    max: from + len,
                };
                self.model.retain(|key, _| {
                    let hit = key.0 == *measurement && time.contains(key.2);
                    !hit || series.as_ref().is_some_and(|ids| !ids.contains(&key.1))
                });
                self.command(Command::Delete {
                    measurement: *measurement,
                    series: series.clone(),
                    time,
                });
            }
            Step::DropSeries(measurement, series) => {
                self.model
                    .retain(|key, _| (key.0, key.1) != (*measurement, *series));
                self.command(Command::DropSeries {
                    measurement: *measurement,
                    series: vec![*series],
                });
            }
            Step::Expire(before) => {
                self.expired = self.expired.max(*before);
                self.expire();
            }
            Step::Merge(from, count) => {
                let set = self.store().runs();
                let runs = set.runs();
                if !runs.is_empty() {
                    let from = from % runs.len();
                    // Any neighbours in sequence may be merged, if none with the last sequence stays out.
                    let mut to = runs.len().min(from + count);
                    while to < runs.len() && runs[to].entry.sequence == runs[to - 1].entry.sequence {
                        to += 1;
                    }
                    let chosen = &runs[from..to];
                    let partition = chosen[0].entry.partition.at_level(2);
                    self.merge(&Plan {
                        runs: chosen.iter().map(|run| run.id).collect(),
                        partition,
                        reason: Reason::Idle,
                        time: TimeRange::ALL,
                        bytes: 0,
                    });
                }
            }
            Step::Settle => {
                let mut log = RunLog::default();
                let conditions = merge_policy::Conditions {
                    idle: Duration::from_secs(60),
                    thrifty: false,
                    room: u64::MAX,
                    runs_max: 64,
                    merging: &[],
                };
                log.facts(self.store(), Duration::ZERO, &|_| true);
                for round in 0.. {
                    assert!(round < 100, "merging comes to an end");
                    let facts = log.facts(self.store(), Duration::from_secs(86_400), &|_| true);
                    match merge_policy::plan(&facts, &conditions) {
                        Some(plan) => self.merge(&plan),
                        None => break,
                    }
                }
            }
            Step::Reopen => {
                self.held.clear();
                self.store = None;
                self.open();
            }
            Step::Hold => self.held.push((self.store().runs(), self.visible())),
        }
    }

    fn visible(&self) -> Model {
        let visible = self.model.iter().filter(|(key, _)| key.2 >= self.expired);
        visible.map(|(key, fields)| (*key, fields.clone())).collect()
    }

    fn check(&self, what: &str) {
        let set = self.store().runs();
        compare(&read(&set), &self.visible(), what);
        for (set, model) in &self.held {
            compare(&read(set), model, &format!("held before {what}"));
        }
    }
}

fn compare(got: &Model, expected: &Model, what: &str) {
    let differing = expected
        .iter()
        .find(|(key, fields)| got.get(*key) != Some(fields));
    assert!(
        differing.is_none(),
        "after {what}: missing or wrong: {differing:?}"
    );
    let more = got.keys().find(|key| !expected.contains_key(*key));
    assert!(more.is_none(), "after {what}: should not be there: {more:?}");
}

/// Everything readable, later runs over earlier ones; statistics are checked on the way.
fn read(set: &RunSet) -> Model {
    let mut out = Model::new();
    let fields: Vec<FieldId> = (0..FIELDS.len() as FieldId).collect();
    for measurement in 0..MEASUREMENTS {
        let selected = set
            .select(measurement, SeriesFilter::All, TimeRange::ALL)
            .expect("sound data");
        for blocks in selected {
            for i in 0..blocks.len() {
                let block = blocks.read(i, &fields).expect("sound data");
                if blocks.is_whole(i) {
                    check_statistics(&blocks, i, &block);
                }
                for (series, rows) in &block.series {
                    for row in rows.clone() {
                        let time = block.times[row];
                        if time < set.unexpired(measurement, TimeRange::ALL).min {
                            continue;
                        }
                        let to = out.entry((measurement, *series, time)).or_default();
                        let columns = fields.iter().zip(&block.columns);
                        to.extend(columns.filter_map(|(f, c)| Some((*f, c.as_ref()?.get(row)?))));
                    }
                }
            }
        }
    }
    out
}

fn check_statistics(blocks: &RunBlocks, i: usize, block: &BlockRows) {
    for (field, column) in block.columns.iter().enumerate() {
        let stats = blocks.stats(i, field as FieldId);
        let count = column
            .as_ref()
            .map_or(0, |c| (0..c.len()).filter(|&row| c.has(row)).count());
        assert_eq!(stats.map_or(0, |s| s.count as usize), count);
    }
    let Some((steps, of_block)) = blocks.steps(i).expect("sound data") else {
        return;
    };
    let integers = blocks.step_stats(i, &steps, 1).expect("sound data");
    let mut row = 0;
    for step in of_block {
        let rows = row..row + steps.rows[step] as usize;
        row = rows.end;
        assert_eq!(
            (steps.first[step], steps.last[step]),
            (block.times[rows.start], block.times[rows.end - 1])
        );
        let (Some(stats), Some(column)) = (&integers, &block.columns[1]) else {
            continue;
        };
        let StepNumbers::Integer(numbers) = &stats.numbers else {
            panic!("field 1 has integers")
        };
        let values = rows.filter_map(|row| match column.get(row) {
            Some(FieldValue::Integer(v)) => Some(i128::from(v)),
            _ => None,
        });
        assert_eq!(numbers.sum[step], values.sum::<i128>());
    }
    assert_eq!(row, block.times.len());
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let series = 0u32..5;
    let measurement = 0..MEASUREMENTS;
    // Few different times, so that points are overwritten; some days apart, so that there are partitions.
    let time = prop_oneof![
        6 => (0i64..3, 0i64..30).prop_map(|(day, t)| day * DAY + t),
        1 => (0i64..2000, 0i64..3).prop_map(|(day, t)| (day - 1000) * DAY + t),
    ];
    let fields = prop::collection::vec((0..FIELDS.len() as FieldId, 0u64..200), 1..4);
    let point = (series.clone(), time.clone(), fields);
    let len = prop_oneof![0i64..10, 0i64..3 * DAY];
    let step = prop_oneof![
        6 => (measurement.clone(), prop::collection::vec(point, 0..40)).prop_map(|(m, p)| Step::Seal(m, p)),
        1 => (1u32..4, 1u32..12_000, 0i64..3, 0u64..100)
            .prop_map(|(series, rows, day, seed)| Step::SealMany(series, rows, day * DAY, seed)),
        2 => (measurement.clone(), prop::option::of(prop::collection::vec(series.clone(), 1..3)), time.clone(), len)
            .prop_map(|(m, s, from, len)| Step::Delete(m, s, from, len)),
        1 => (measurement, series).prop_map(|(m, s)| Step::DropSeries(m, s)),
        1 => time.prop_map(|t| Step::Expire(t - 500 * DAY)),
        4 => (0usize..50, 1usize..6).prop_map(|(from, count)| Step::Merge(from, count)),
        1 => Just(Step::Settle),
        2 => Just(Step::Reopen),
        1 => Just(Step::Hold),
    ];
    prop::collection::vec(step, 1..14)
}

fn cases() -> u32 {
    let given = std::env::var("KYMO_STORE_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    given.unwrap_or(40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_equals_a_map(steps in steps()) {
        let mut case = Case::new();
        for step in &steps {
            case.step(step);
            let long = format!("{step:?}");
            case.check(long.get(..300).unwrap_or(&long));
        }
    }
}

#[test]
fn overwritten_and_deleted_points_give_their_space_back() {
    let mut case = Case::new();
    // What merging does after each merge, too.
    let disk = |case: &Case| {
        case.store().free_spent();
        case.store().copy_names();
        folder_bytes(case.dir.path())
    };
    let empty = disk(&case);
    for seed in 0..5 {
        case.step(&Step::SealMany(3, 20_000, 0, seed * 17));
    }
    let five = disk(&case) - empty;
    case.step(&Step::Settle);
    case.check("merging");
    let one = disk(&case) - empty;
    assert!(
        one * 4 < five,
        "{five} bytes written five times over became {one}"
    );
    case.step(&Step::Delete(0, None, -1, i64::MAX));
    case.check("deleting");
    case.step(&Step::Settle);
    let none = disk(&case) - empty;
    assert!(none < 20_000, "{one} bytes, all deleted, became {none}");
    assert_eq!(case.store().counters().runs, 0);
    case.step(&Step::Reopen);
    case.check("reopening");
}

fn folder_bytes(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("it is there");
        // fjall's own journal is sparse and unused.
        if meta.is_dir() {
            bytes += folder_bytes(&entry.path());
        } else if entry.path().extension().is_none_or(|e| e != "jnl") {
            bytes += meta.len();
        }
    }
    bytes
}

#[test]
fn a_merge_that_is_given_up_or_meets_damage_changes_nothing() {
    let mut case = Case::new();
    for seed in 0..3 {
        case.step(&Step::SealMany(3, 9000, 0, seed));
    }
    let runs: Vec<RunId> = case.store().runs().runs().iter().map(|run| run.id).collect();
    let plan = Plan {
        runs: runs.clone(),
        partition: Partition::day(0),
        reason: Reason::Idle,
        time: TimeRange::ALL,
        bytes: 0,
    };
    let calls = std::cell::Cell::new(0);
    let input = MergeInput {
        sequence: case.sequence,
        alive: &|_| true,
        stop: &|| calls.replace(calls.get() + 1) == 1,
        bytes: 16 << 20,
    };
    assert!(matches!(
        case.store().merge(&plan, &input),
        Err(StoreError::Stopped)
    ));
    let gone = Plan {
        runs: vec![RunId { pack: 99, run: 0 }],
        ..plan.clone()
    };
    let input = MergeInput {
        stop: &|| false,
        ..input
    };
    assert!(matches!(
        case.store().merge(&gone, &input),
        Err(StoreError::Order(_))
    ));
    case.check("merges that failed");
    let files = || {
        let tables = case.dir.path().join("keyspaces/2/tables");
        std::fs::read_dir(tables).expect("tables").count()
    };
    assert_eq!(
        files(),
        3,
        "what the merge that was given up had written is removed"
    );
    case.merge(&plan);
    case.check("a merge that did not");
    assert_eq!(case.store().runs().runs().len(), 1);
    assert_eq!(files(), 1);
}

#[test]
fn a_snapshot_keeps_what_it_reads_until_it_is_dropped() {
    let mut case = Case::new();
    for seed in 0..2 {
        case.step(&Step::SealMany(2, 8000, 0, seed));
    }
    let selected = case
        .store()
        .runs()
        .select(0, SeriesFilter::All, TimeRange::ALL)
        .expect("sound data");
    case.step(&Step::Settle);
    assert_eq!(case.store().counters().packs, 3, "the old ones are being read");
    for blocks in &selected {
        for i in 0..blocks.len() {
            blocks.read(i, &[0, 1]).expect("it is still there");
        }
    }
    drop(selected);
    case.store().free_spent();
    assert_eq!(case.store().counters().packs, 1);
}

#[test]
fn strings_and_presence_survive_a_merge_of_interleaved_rows() {
    let mut case = Case::new();
    let interleaved = |offset: i64| -> Vec<Point> {
        (0..3000)
            .map(|i| (i as u32 % 3, i * 2 + offset, vec![((i % 5) as FieldId, i as u64)]))
            .collect()
    };
    case.step(&Step::Seal(1, interleaved(0)));
    case.step(&Step::Seal(1, interleaved(1)));
    case.step(&Step::Seal(1, interleaved(2)));
    case.step(&Step::Merge(0, 3));
    case.check("merging");
}
