//! Decoding alone: bytes in, rows counted, nothing stored.
//!
//! `cargo bench --bench decode` measures the formats on data as their senders make it. `cargo bench --bench decode -- --file FORMAT PATH`
//! decodes a file of lines five times in pieces of 5,000 lines, as requests bring them, and prints CPU seconds, MB/s and lines/s.

use criterion::{BenchmarkId, Criterion, Throughput};
use kymo::ingest::registry::Registry;
use kymo_plugin_api::{Decoder, Framing, Options, Rejection, Row, RowSink};
use std::hint::black_box;
use std::time::Instant;

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

fn measure_file(format: &str, path: &str) {
    let text = std::fs::read(path).expect("a file that can be read");
    let ends = text
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'\n')
        .map(|(at, _)| at + 1);
    let mut cuts: Vec<usize> = ends.skip(LINES - 1).step_by(LINES).collect();
    cuts.push(text.len());
    for round in 1..=5 {
        let (began, before) = (Instant::now(), cpu());
        let (mut count, mut start) = (Count::default(), 0);
        for &end in &cuts {
            decoder(format).decode(&text[start..end], &mut count);
            start = end;
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

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--file") {
        return measure_file(&arguments[at + 1], &arguments[at + 2]);
    }
    // As a test target there is nothing to measure.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}
