//! Sealing, merging and scanning a run, and the commit of a group to the journal. `cargo bench --bench store`.
//!
//! The rows are those of the side-by-side workload cpu: ten integers that wander between 0 and 100, every 10 s, some
//! thousand rows a series. A folder below `TMPDIR` takes what is written, so that is the disk that is measured.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use kymo::batch::Definitions;
use kymo::journal::{disk::Folder, writer::Existing, writer::Writer};
use kymo::model::{Column, FieldId, SeriesId, SortedRows, TimeRange, Values};
use kymo::store::merge_policy::{Plan, Reason};
use kymo::store::partition::{Partition, Slice};
use kymo::store::{MergeInput, RunBlocks, SealInput, SeriesFilter, Store, StoreOptions};
use std::hint::black_box;
use std::path::Path;

const SERIES: SeriesId = 200;
const ROWS: i64 = 1000;
const FIELDS: FieldId = 10;
const BEGIN: i64 = 1_793_491_200_000_000_000;
const STEP: i64 = 10_000_000_000;
const MEASUREMENT: u32 = 1;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 31)
}

/// Every series, from row `first` on.
fn rows(first: i64) -> SortedRows {
    let mut state = first as u64;
    let mut out = SortedRows::empty(MEASUREMENT);
    for series in 0..SERIES {
        out.series.extend((0..ROWS).map(|_| series));
        out.times
            .extend((first..first + ROWS).map(|row| BEGIN + row * STEP));
    }
    for field in 0..FIELDS {
        let mut values = Vec::with_capacity(out.len());
        for _ in 0..SERIES {
            let mut value = (random(&mut state) % 100) as i64;
            for _ in 0..ROWS {
                // -1, 0 and 1, mostly 0.
                let step = [-1, 0, 0, 1][(random(&mut state) >> 32) as usize % 4];
                value = (value + step).clamp(0, 100);
                values.push(value);
            }
        }
        let values = Values::Integer(values);
        out.columns.push((
            field,
            Column {
                values,
                present: None,
            },
        ));
    }
    out
}

fn open(folder: &Path) -> Store {
    let options = StoreOptions {
        cache_bytes: 256 << 20,
        index_cache_bytes: 1 << 20,
    };
    Store::open(folder, options, &mut |_| {}).expect("an empty folder")
}

fn day() -> Partition {
    Partition::day(BEGIN)
}

fn seal(store: &Store, watermark: u64, rows: SortedRows) {
    let input = SealInput {
        watermark,
        level: kymo::block::Level::Fast,
        definitions: &Definitions::default(),
        series: &[],
        commands: &[],
        next_ids: [1, 1, 1],
        gone: None,
    };
    let slice = Slice {
        partition: day(),
        time: day().time(),
        rows: rows.len() as u64,
    };
    store
        .seal(&input, std::iter::once((slice, rows)))
        .expect("room on the disk");
}

fn merge(store: &Store) {
    let plan = Plan {
        runs: store.runs().runs().iter().map(|run| run.id).collect(),
        partition: day(),
        reason: Reason::Idle,
        time: TimeRange::ALL,
        bytes: 0,
    };
    let input = MergeInput {
        sequence: 2,
        alive: &|_| true,
        stop: &|| false,
        bytes: 64 << 20,
    };
    store.merge(&plan, &input).expect("sound runs");
}

fn selected(store: &Store) -> Vec<RunBlocks> {
    let all = store
        .runs()
        .select(MEASUREMENT, SeriesFilter::All, TimeRange::ALL);
    all.expect("sound runs")
}

/// Decodes the keys and some fields of every row.
fn scan(runs: &[RunBlocks], fields: &[FieldId]) -> usize {
    let mut rows = 0;
    for run in runs {
        for block in 0..run.len() {
            let read = run.read(block, fields).expect("a sound block");
            rows += black_box(read).times.len();
        }
    }
    rows
}

fn measure_store(c: &mut Criterion) {
    let rows_in_all = SERIES as u64 * ROWS as u64;
    let mut group = c.benchmark_group("store");
    group.sample_size(10);
    group.throughput(Throughput::Elements(rows_in_all));
    let one = rows(0);
    group.bench_function("seal, rows of 10 fields", |b| {
        let prepare = || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = open(folder.path());
            (folder, store, one.clone())
        };
        let run = |(folder, store, rows): (tempfile::TempDir, Store, SortedRows)| {
            seal(&store, 1, rows);
            (folder, store)
        };
        b.iter_batched(prepare, run, BatchSize::PerIteration)
    });
    group.throughput(Throughput::Elements(2 * rows_in_all));
    group.bench_function("merge, rows of 10 fields", |b| {
        let prepare = || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = open(folder.path());
            seal(&store, 1, rows(0));
            seal(&store, 2, rows(ROWS));
            (folder, store)
        };
        let run = |(folder, store): (tempfile::TempDir, Store)| {
            merge(&store);
            (folder, store)
        };
        b.iter_batched(prepare, run, BatchSize::PerIteration)
    });
    group.finish();

    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    seal(&store, 1, rows(0));
    seal(&store, 2, rows(ROWS));
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(2 * rows_in_all));
    let all: Vec<FieldId> = (0..FIELDS).collect();
    let mut measure = |name: &str, runs: &[RunBlocks]| {
        for fields in [&all[..1], &all[..]] {
            let id = BenchmarkId::new(name, format!("{} of 10 fields", fields.len()));
            group.bench_with_input(id, fields, |b, fields| b.iter(|| scan(runs, fields)));
        }
    };
    measure("sealed", &selected(&store));
    merge(&store);
    measure("merged", &selected(&store));
    group.finish();
}

/// What an acknowledgement waits for: frames written and synced.
fn measure_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit");
    for (payloads, bytes) in [(1, 4 << 10), (16, 4 << 10), (1, 64 << 10), (1, 1 << 20)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Folder::open(folder.path()).expect("a folder");
        let existing = Existing {
            next_number: 1,
            next_sequence: 1,
            ..Existing::default()
        };
        let mut writer = Writer::new(disk, 16 << 20, existing);
        let payload = vec![7u8; bytes];
        let payloads = vec![&payload[..]; payloads];
        group.throughput(Throughput::Bytes((payloads.len() * bytes) as u64));
        let id = format!("{} of {} KiB", payloads.len(), bytes >> 10);
        group.bench_function(id, |b| {
            b.iter(|| {
                let (written, error) = writer.commit(&payloads);
                assert!(written == payloads.len() && error.is_none(), "{error:?}");
                writer.release(writer.next_sequence() - 1).expect("a file less");
            })
        });
    }
    group.finish();
}

fn main() {
    // As a test target there is nothing to measure.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure_store(&mut criterion);
    measure_commit(&mut criterion);
    criterion.final_summary();
}
