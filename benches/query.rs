//! The executor on rows in the head: scan, windows, percentiles, filters, and the encoder. `cargo bench --bench query`.
//!
//! An engine in this process, 100 series with an hour of seconds, one integer and one float field; the whole way of a statement
//! from its text to its JSON, so figures are those of a query without its socket. `encode` writes rows that are there.

use criterion::{Criterion, Throughput};
use kymo::budget::{Budgets, Machine, Overrides};
use kymo::engine::{Engine, EngineOptions};
use kymo::ingest::Ingestor;
use kymo::lang::{Params, parse};
use kymo::query::encode::{Encoder, Event, Json, TimeFormat};
use kymo::query::statements::{QueryOptions, Target, run};
use kymo::query::{Cancel, Piece, QueryLimits, Series};
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{Field, Options, Origin, Row, RowSink, SeriesParts, SeriesRef, Value};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

const SERIES: i64 = 100;
const ROWS: i64 = 3600;
const SECOND: i64 = 1_000_000_000;

fn engine(folder: &Path) -> Arc<Engine> {
    let machine = Machine {
        cores: 2,
        memory: 4 << 30,
    };
    let budgets = Budgets::new(&machine, &Overrides::default());
    let engine = Engine::open(folder, EngineOptions::new(budgets, || 0)).expect("an engine");
    ask(&engine, "CREATE DATABASE d", &mut |_| {});
    let policy = engine.catalog().database("d").expect("it was created");
    let policy = policy.policy(None).expect("the default one").id;
    let mut spelling = Vec::new();
    for rows in (0..ROWS).collect::<Vec<_>>().chunks(600) {
        let limits = Target::limits(engine.as_ref());
        let options = Options::new();
        let mut ingestor = Ingestor::new(
            engine.catalog(),
            limits,
            policy,
            "bench",
            &options,
            0,
            engine.shards(),
        );
        for (&row, series) in rows.iter().flat_map(|row| (0..SERIES).map(move |s| (row, s))) {
            let (host, zone) = (format!("h{series}"), format!("z{}", series % 5));
            SeriesParts::spell("m", &[("host", &host), ("zone", &zone)], &mut spelling);
            // Something that wanders, the same at each start.
            let value = (row * 7919 + series * 104_729) % 1000;
            let field = |key, value| Field { key, value };
            ingestor.row(&Row {
                series: SeriesRef {
                    spelling: &spelling,
                    reader: &PlainSpelling,
                },
                time: Some(row * SECOND),
                fields: &[
                    field("i", Value::Integer(value)),
                    field("f", Value::Float(value as f64 / 8.0)),
                ],
                origin: Origin { line: 1, text: b"m" },
            });
        }
        let batch = ingestor.finish().batch.expect("rows");
        engine.commit(batch).expect("a commit");
    }
    engine
}

fn ask(engine: &Arc<Engine>, text: &str, sink: &mut dyn FnMut(Event)) {
    let statements = parse(text, &Params::new()).expect("a statement");
    let options = QueryOptions {
        database: Some("d".into()),
        policy: None,
        params: Params::new(),
        now: ROWS * SECOND,
        limits: QueryLimits::default(),
        deadline: None,
        rollups: kymo::query::RollupUse::default(),
        read_only_hint: false,
    };
    run(
        &statements,
        &options,
        engine.as_ref(),
        &Cancel::default(),
        &mut |event| {
            sink(event);
            ControlFlow::Continue(())
        },
    );
}

/// The length of a statement's JSON.
fn json(engine: &Arc<Engine>, text: &str) -> usize {
    let mut encoder = Json::new(TimeFormat::default());
    let mut out = Vec::new();
    ask(engine, text, &mut |event| encoder.event(event, &mut out));
    encoder.finish(&mut out);
    let got = String::from_utf8_lossy(&out);
    assert!(!got.contains("\"error\""), "{text}: {got}");
    out.len()
}

fn statements(c: &mut Criterion, engine: &Arc<Engine>) {
    let mut group = c.benchmark_group("statement");
    group.throughput(Throughput::Elements((SERIES * ROWS) as u64));
    for (name, text) in [
        ("scan, sum of all", "SELECT sum(i), sum(f) FROM m"),
        ("scan, sum by tag", "SELECT sum(i), sum(f) FROM m GROUP BY zone"),
        (
            "windows of a minute",
            "SELECT mean(f) FROM m WHERE time >= 0 GROUP BY time(1m), host",
        ),
        (
            "windows of a row each",
            "SELECT mean(f) FROM m WHERE time >= 0 GROUP BY time(1s), zone",
        ),
        (
            "percentile of a minute",
            "SELECT percentile(f, 95) FROM m WHERE time >= 0 GROUP BY time(1m), host",
        ),
        ("median of all", "SELECT median(i) FROM m"),
        ("filter, one row in a hundred", "SELECT i, f FROM m WHERE i > 989"),
        (
            "last rows",
            "SELECT i, f FROM m GROUP BY host ORDER BY time DESC LIMIT 1",
        ),
        (
            "last windows",
            "SELECT max(i) FROM m WHERE time >= 0 GROUP BY time(1m) ORDER BY time DESC LIMIT 5",
        ),
    ] {
        group.bench_function(name, |b| b.iter(|| black_box(json(engine, text))));
    }
    group.finish();
}

fn encode(c: &mut Criterion, engine: &Arc<Engine>) {
    let mut rows: Vec<Series> = Vec::new();
    ask(
        engine,
        "SELECT i, f, host FROM m WHERE time < 600s",
        &mut |event| {
            if let Event::Piece(piece) = event {
                rows.push(piece.series);
            }
        },
    );
    let cells: usize = rows
        .iter()
        .map(|series| series.rows() * series.columns.len())
        .sum();
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(cells as u64));
    group.bench_function("json, time, integer, float, text", |b| {
        b.iter(|| {
            let mut encoder = Json::new(TimeFormat::default());
            let mut out = Vec::new();
            let mut event = |event| encoder.event(event, &mut out);
            event(Event::Begin {
                id: 0,
                messages: Vec::new(),
                zone: None,
            });
            rows.iter()
                .for_each(|series| event(Event::Piece(Piece::whole(series.clone()))));
            out.len()
        });
    });
    group.finish();
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let engine = engine(folder.path());
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    statements(&mut criterion, &engine);
    encode(&mut criterion, &engine);
    criterion.final_summary();
    engine.stop();
}
