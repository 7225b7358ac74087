//! An engine in this process, with the data where a test wants it, asked in InfluxQL.

use crate::data::{Data, Point, Value};
use crate::naive::{Answer, Rows};
use kymo::budget::{Budgets, Machine, Overrides};
use kymo::engine::{Engine, EngineOptions};
use kymo::ingest::Ingestor;
use kymo::lang::{Params, parse};
use kymo::query::encode::Event;
use kymo::query::statements::{QueryOptions, Target, run};
use kymo::query::{Cancel, QueryLimits, Series, Value as Given};
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{Field, Options, Origin, Row, RowSink, SeriesParts, SeriesRef};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where the data is.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// All in the head, in many small parts.
    Head,
    /// All in one run.
    Sealed,
    /// Some runs on top of each other, and parts of the head.
    Mixed,
    /// All in one run that several were merged into.
    Merged,
}

pub struct Server {
    engine: Arc<Engine>,
    now: i64,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn with(data: &Data, layout: Layout) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || {
            let machine = Machine {
                cores: 2,
                memory: 1 << 30,
            };
            let budgets = Budgets::new(&machine, &Overrides::default());
            Engine::open(folder.path(), EngineOptions::new(budgets, || 0)).expect("an engine")
        };
        let mut engine = open();
        ask(&engine, 0, "CREATE DATABASE d").expect("a database");
        let lots = data.written.chunks(data.written.len().div_ceil(7).max(1));
        for (number, lot) in lots.enumerate() {
            for batch in lot.chunks(lot.len().div_ceil(3).max(1)) {
                write(&engine, data, batch);
            }
            // Stopping seals.
            if matches!((layout, number), (Layout::Mixed | Layout::Merged, 1 | 3 | 4)) {
                engine.stop();
                drop(engine);
                engine = open();
            }
        }
        if matches!(layout, Layout::Sealed | Layout::Merged) {
            engine.stop();
            drop(engine);
            engine = open();
        }
        if matches!(layout, Layout::Merged) {
            wait_merged(&engine);
        }
        Self {
            engine,
            now: data.now,
            _folder: folder,
        }
    }

    pub fn ask(&self, text: &str) -> Answer {
        match ask(&self.engine, self.now, text) {
            Ok(series) => Answer::Rows(series.iter().map(rows).collect()),
            Err(error) => Answer::Error(error),
        }
    }

    pub fn stop(self) {
        self.engine.stop();
    }
}

/// Waits until an idle server has merged all runs into one.
fn wait_merged(engine: &Arc<Engine>) {
    for _ in 0..600 {
        let merges = engine.merge_figures().merges.load(Ordering::Relaxed);
        if merges > 0 && engine.store_figures().runs == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{} runs after a minute", engine.store_figures().runs);
}

fn rows(series: &Series) -> Rows {
    Rows {
        tags: series.tags.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        rows: (0..series.rows())
            .map(|row| {
                let values = series.row(row).map(|value| match value {
                    Given::Null => None,
                    // As JSON shows it: what is not finite (the stddev of one point) is null.
                    Given::Float(v) => v.is_finite().then_some(Value::Float(v)),
                    Given::Integer(v) => Some(Value::Integer(v)),
                    Given::Unsigned(v) => Some(Value::Unsigned(v)),
                    Given::Boolean(v) => Some(Value::Boolean(v)),
                    Given::String(v) => Some(Value::Text(v.to_string())),
                });
                (series.times[row], values.collect())
            })
            .collect(),
    }
}

/// The series of one statement, their pieces put together.
fn ask(engine: &Arc<Engine>, now: i64, text: &str) -> Result<Vec<Series>, String> {
    let statements = parse(text, &Params::new()).map_err(|e| e.to_string())?;
    let options = QueryOptions {
        database: Some("d".into()),
        policy: None,
        params: Params::new(),
        now,
        limits: QueryLimits::default(),
        deadline: None,
        rollups: kymo::query::RollupUse::default(),
        read_only_hint: false,
    };
    let (mut found, mut open, mut failed): (Vec<Series>, bool, Option<String>) = (Vec::new(), false, None);
    run(
        &statements,
        &options,
        engine.as_ref(),
        &Cancel::default(),
        &mut |event| {
            match event {
                Event::Begin { .. } | Event::Hint(_) | Event::Busy => {}
                Event::Piece(piece) => {
                    match found.last_mut() {
                        Some(last) if open => last.append(piece.series),
                        _ => found.push(piece.series),
                    }
                    open = piece.goes_on;
                }
                Event::End { error } => failed = failed.take().or(error),
            }
            ControlFlow::Continue(())
        },
    );
    failed.map_or(Ok(found), Err)
}

fn write(engine: &Arc<Engine>, data: &Data, points: &[Point]) {
    let database = engine.catalog().database("d").expect("it was created");
    let policy = database.policy(None).expect("the default one");
    let mut ingestor = Ingestor::new(
        engine.catalog(),
        Target::limits(engine.as_ref()),
        policy.id,
        "test",
        &Options::new(),
        0,
        engine.shards(),
    );
    let mut spelling = Vec::new();
    for point in points {
        let tags: Vec<(&str, &str)> = data.series[point.series]
            .iter()
            .map(|(k, v)| (*k, v.as_str()))
            .collect();
        SeriesParts::spell("m", &tags, &mut spelling);
        let fields: Vec<Field<'_>> = point
            .fields
            .iter()
            .map(|(key, value)| Field {
                key,
                value: match value {
                    Value::Float(v) => kymo_plugin_api::Value::Float(*v),
                    Value::Integer(v) => kymo_plugin_api::Value::Integer(*v),
                    Value::Unsigned(v) => kymo_plugin_api::Value::Unsigned(*v),
                    Value::Boolean(v) => kymo_plugin_api::Value::Boolean(*v),
                    Value::Text(v) => kymo_plugin_api::Value::String(v),
                },
            })
            .collect();
        ingestor.row(&Row {
            series: SeriesRef {
                spelling: &spelling,
                reader: &PlainSpelling,
            },
            time: Some(point.time),
            fields: &fields,
            origin: Origin { line: 1, text: b"m" },
        });
    }
    let outcome = ingestor.finish();
    assert_eq!(outcome.error(Target::limits(engine.as_ref())), None);
    if let Some(batch) = outcome.batch {
        engine.commit(batch).expect("a commit");
    }
}
