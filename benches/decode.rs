//! Decoding alone: bytes in, rows counted, nothing stored.
//!
//! `cargo bench --bench decode` measures the formats on data as their senders make it. `cargo bench --bench decode -- --file FORMAT PATH`
//! decodes a file of lines five times in pieces of 5,000 lines, as requests bring them, and prints CPU seconds, MB/s and lines/s.
//! `.. -- --ingest FORMAT PATH ROUNDS` takes such a file all the way but for sockets and the journal, and prints the least that each step
//! costs: rows to tables, these packed, batches to bytes, bytes to the head, the head to tables in order, and those into a store (below
//! `TMPDIR`).

use criterion::{BenchmarkId, Criterion, Throughput};
use kymo::batch::{Definitions, EncodedBatch};
use kymo::block::Level;
use kymo::catalog::Catalog;
use kymo::ingest::registry::Registry;
use kymo::ingest::{Ingestor, Limits, TablePool};
use kymo::shard::Group;
use kymo::shard::head::{PartMap, ShardHead};
use kymo::shard::seal::sealed_tables;
use kymo::store::{SealInput, Store, StoreOptions};
use kymo_plugin_api::{Decoder, Framing, Options, Rejection, Row, RowSink};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines of a request.
const LINES: usize = 5000;

/// Counts, and looks at every field so that nothing is optimised away.
#[derive(Default)]
struct Count {
    rows: u64,
    fields: u64,
    rejected: u64,
}

impl RowSink for Count {
    fn row(&mut self, row: &Row<'_>) {
        self.rows += 1;
        self.fields += row.fields.len() as u64;
        black_box((row.series.spelling, row.time, row.fields));
    }

    fn reject(&mut self, rejection: &Rejection<'_>) {
        self.rejected += 1;
        black_box(rejection.reason);
    }
}

fn decoder(format: &str) -> Box<dyn Decoder> {
    let formats = Registry::standard();
    let format = formats.by_name(format).expect("a format that is compiled in");
    format
        .decoder(&Options::default(), Framing::Whole)
        .expect("no options")
}

/// A request of each kind.
fn requests() -> Vec<(&'static str, &'static str, String)> {
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let (mut wide, mut narrow, mut statsd, mut json) =
        (String::new(), String::new(), String::new(), String::new());
    for i in 0..LINES as u64 {
        let (host, time) = (i % 1000, 1_793_491_200 + i / 1000 * 10);
        let tags = format!(
            "region=eu-west-{},datacenter=eu-west-1{},rack={},os=Ubuntu16.10,arch=x64,team=LON,service={},service_version=0,service_environment=staging",
            host % 3,
            ["a", "b", "c"][host as usize % 3],
            host % 100,
            host % 20
        );
        let fields: Vec<String> = [
            "user",
            "system",
            "idle",
            "nice",
            "iowait",
            "irq",
            "softirq",
            "steal",
            "guest",
            "guest_nice",
        ]
        .iter()
        .map(|name| format!("usage_{name}={}i", random(100)))
        .collect();
        wide.push_str(&format!(
            "cpu,hostname=host_{host},{tags} {} {time}000000000\n",
            fields.join(",")
        ));
        let value = match i % 4 {
            0 => format!("{}", random(100_000)),
            1 => format!("{}.{:02}", random(1000), random(100)),
            2 => format!("{}", random(1 << 30) * 4096),
            _ => format!("{}.{:014}", random(100), random(100_000_000_000_000)),
        };
        narrow.push_str(&format!(
            "node_metric_{:02},host=host_{host},job=node value={value} {time}000000000\n",
            i % 100
        ));
        statsd.push_str(&format!(
            "requests.{}:{}|{}|#host:host_{host},env:prod\n",
            i % 100,
            random(500),
            ["c", "ms", "g"][i as usize % 3]
        ));
        json.push_str(&format!(
            "{{\"measurement\":\"cpu\",\"tags\":{{\"host\":\"host_{host}\",\"region\":\"eu\"}},\"fields\":{{\"value\":{value}}},\"time\":{time}000000000}}\n"
        ));
    }
    vec![
        ("line-protocol", "ten integers and ten tags (w1)", wide),
        ("line-protocol", "one number (w3)", narrow),
        ("statsd", "counters, timings, gauges with two tags", statsd),
        ("json", "an object a line", json),
    ]
}

fn measure(c: &mut Criterion) {
    for (format, kind, text) in requests() {
        let mut group = c.benchmark_group(format);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(kind), |b| {
            b.iter(|| {
                let mut count = Count::default();
                decoder(format).decode(text.as_bytes(), &mut count);
                assert_eq!(count.rejected, 0);
                count.rows
            })
        });
        println!(
            "{format}, {kind}: {} lines of {} bytes",
            LINES,
            text.len() / LINES
        );
        group.finish();
    }
}

/// CPU seconds of this process, to a hundredth.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let numbers: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a name in brackets")
        .split(' ')
        .collect();
    let ticks = |at: usize| numbers[at].parse::<f64>().expect("a number");
    (ticks(12) + ticks(13)) / 100.0
}

/// A file, and where in it requests of so many lines are.
fn requests_of(path: &str) -> (Vec<u8>, Vec<Range<usize>>) {
    let text = std::fs::read(path).expect("a file that can be read");
    let ends = memchr::memchr_iter(b'\n', &text).map(|at| at + 1);
    let mut begin = 0;
    let mut requests = Vec::new();
    for end in ends.skip(LINES - 1).step_by(LINES).chain([text.len()]) {
        requests.push(std::mem::replace(&mut begin, end)..end);
    }
    requests.retain(|request| !request.is_empty());
    (text, requests)
}

fn measure_file(format: &str, path: &str) {
    let (text, requests) = requests_of(path);
    for round in 1..=5 {
        let (began, before) = (Instant::now(), cpu());
        let mut count = Count::default();
        for request in requests.iter().cloned() {
            decoder(format).decode(&text[request], &mut count);
        }
        let (cpu, wall) = (cpu() - before, began.elapsed().as_secs_f64());
        println!(
            "{round}: {} rows, {} fields, {} rejected; {cpu:.2} CPU s, {wall:.2} s; {:.0} MB and {:.2} M rows a CPU second",
            count.rows,
            count.fields,
            count.rejected,
            text.len() as f64 / cpu / 1e6,
            count.rows as f64 / cpu / 1e6
        );
    }
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of the steps that a row takes.
#[derive(Default)]
struct Steps(Vec<(&'static str, Duration)>);

impl Steps {
    fn take<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let done = work();
        let took = thread_cpu() - before;
        match self.0.iter_mut().find(|step| step.0 == name) {
            Some(step) => step.1 += took,
            None => self.0.push((name, took)),
        }
        done
    }
}

/// As the server has it: much of what is measured is memory that comes and goes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHARDS: u16 = 2;

/// As the engine is when the series are known: names are committed, tables are used again.
fn measure_ingest(format: &str, path: &str, rounds: usize) {
    let (text, requests) = requests_of(path);
    let mut least: Vec<(&str, f64)> = Vec::new();
    for _ in 0..rounds {
        let catalog = Catalog::new();
        catalog.create_database("d", None).expect("a good name");
        let database = catalog.database("d").expect("it was just made");
        let policy = database.policy(None).expect("made with it").id;
        let (limits, options, pool) = (Limits::default(), Options::new(), TablePool::default());
        let (mut steps, mut rows) = (Steps::default(), 0);
        let mut heads: Vec<(ShardHead, PartMap)> = (0..SHARDS)
            .map(|shard| (ShardHead::new(shard), PartMap::default()))
            .collect();
        // Once for the names: series are new once and known ever after.
        for request in requests.iter().cloned() {
            let mut ingestor =
                Ingestor::new(&catalog, &limits, policy, format, &options, 0, SHARDS).reusing(&pool);
            decoder(format).decode(&text[request], &mut ingestor);
            let batch = ingestor.finish().batch.expect("rows");
            catalog.commit(&EncodedBatch::encode(batch));
        }
        for (sequence, request) in (1..).zip(requests.iter().cloned()) {
            let mut decoder = decoder(format);
            let batch = steps.take("rows", || {
                let ingestor = Ingestor::new(&catalog, &limits, policy, format, &options, 0, SHARDS);
                let mut ingestor = ingestor.reusing(&pool);
                decoder.decode(&text[request], &mut ingestor);
                ingestor
            });
            let outcome = steps.take("packing", || batch.finish());
            rows += outcome.rows;
            let batch = outcome.batch.expect("rows");
            let batch = steps.take("encoding", || Arc::new(EncodedBatch::encode(batch)));
            let group = Group {
                first: sequence,
                last: sequence,
                batches: vec![batch],
            };
            group.batches.iter().for_each(|batch| catalog.commit(batch));
            for (head, parts) in &mut heads {
                let update = steps.take("head", || head.apply(&group));
                parts.extend(update.folded.into_iter().flatten());
            }
        }
        let frozen: Vec<Arc<PartMap>> = heads
            .into_iter()
            .map(|(mut head, mut parts)| {
                let update = steps.take("head", || head.freeze());
                parts.extend(update.folded.into_iter().flatten());
                Arc::new(parts)
            })
            .collect();
        let mut tables = steps.take("tables", || sealed_tables(&frozen, |_| true).collect::<Vec<_>>());
        let sealed: usize = tables.iter().map(|(_, table)| table.len()).sum();
        assert_eq!(sealed as u64, rows, "no two of the points are the same");
        let folder = tempfile::tempdir().expect("a folder");
        let options = StoreOptions {
            cache_bytes: 64 << 20,
            index_cache_bytes: 1 << 20,
        };
        let store = Store::open(folder.path(), options, &mut |_| {}).expect("an empty folder");
        let input = SealInput {
            watermark: requests.len() as u64,
            level: Level::Small,
            definitions: &Definitions::default(),
            series: &[],
            commands: &[],
            next_ids: [1, 1, 1],
            gone: None,
        };
        steps
            .take("storing", || store.seal(&input, tables.drain(..)))
            .expect("room on the disk");
        for (at, (name, took)) in steps.0.into_iter().enumerate() {
            let each = took.as_nanos() as f64 / rows as f64;
            match least.get_mut(at) {
                Some(least) => least.1 = least.1.min(each),
                None => least.push((name, each)),
            }
        }
    }
    let each: Vec<String> = least
        .iter()
        .map(|(name, each)| format!("{name} {each:.1}"))
        .collect();
    println!("CPU ns a row, the least of {rounds}: {}", each.join(", "));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--file") {
        return measure_file(&arguments[at + 1], &arguments[at + 2]);
    }
    if let Some(at) = arguments.iter().position(|a| a == "--ingest") {
        let rounds = arguments[at + 3].parse().expect("a number of rounds");
        return measure_ingest(&arguments[at + 1], &arguments[at + 2], rounds);
    }
    // As a test target there is nothing to measure.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}
