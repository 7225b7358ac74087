//! An engine in this process, without sockets: line protocol in, rows out.

use kymo::budget::{Budget, Budgets, Machine, Overrides};
use kymo::engine::{Engine, EngineOptions, OpenError};
use kymo::ingest::Ingestor;
use kymo::lang::{Params, parse};
use kymo::query::encode::{Encoder, Json, TimeFormat};
use kymo::query::statements::{QueryOptions, run};
use kymo::query::{Cancel, QueryLimits};
use kymo_plugin_api::{Framing, Options};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// See the module.
pub struct Db(pub Arc<Engine>);

/// Rows by (series, time): the values as JSON.
pub type Rows = BTreeMap<(String, i64), String>;

impl Db {
    /// Opens a folder.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::with_head(dir, 8 << 20)
    }

    /// As [`open`](Self::open), with so many bytes for unsealed points.
    pub fn with_head(dir: &Path, head: u64) -> Result<Self, OpenError> {
        let small = Overrides::default()
            .with(Budget::Shards, Some(2))
            .with(Budget::Head, Some(head))
            .with(Budget::BlockCache, Some(1 << 20));
        let options = EngineOptions::new(Budgets::new(&Machine::look(), &small), || 0);
        Engine::open(dir, options).map(Self)
    }

    /// Writes line protocol as one batch into database `d`: its sequence.
    pub fn write(&self, lines: &str) -> u64 {
        self.try_write(lines).expect("it is committed")
    }

    /// The same, if the engine takes it.
    pub fn try_write(&self, lines: &str) -> Result<u64, String> {
        let engine = &self.0;
        let catalog = engine.catalog();
        if catalog.database("d").is_none() {
            catalog.create_database("d", None).expect("a sound name");
        }
        let database = catalog.database("d").expect("it was made");
        let policy = database.policy(None).expect("it has a default").id;
        let options = Options::new();
        let format = engine.formats().by_name("line-protocol").expect("built in");
        let mut ingestor = Ingestor::new(catalog, engine.limits(), policy, format.name(), &options, 0, 2);
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        decoder.decode(lines.as_bytes(), &mut ingestor);
        let mut batch = ingestor.finish().batch.expect("good lines");
        let made = catalog.define_database("d");
        batch.definitions.databases.extend(made.databases);
        batch.definitions.policies.extend(made.policies);
        engine.commit(batch).map_err(|error| error.to_string())
    }

    /// Every row of a measurement, or why not.
    pub fn rows(&self, measurement: &str) -> Result<Rows, String> {
        self.rows_of("*", measurement)
    }

    /// The same of some columns.
    pub fn rows_of(&self, columns: &str, measurement: &str) -> Result<Rows, String> {
        let text = self.query(&format!("SELECT {columns} FROM {measurement} GROUP BY *"));
        let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let result = &answer["results"][0];
        if let Some(error) = result["error"].as_str() {
            return Err(error.to_string());
        }
        let mut rows = Rows::new();
        for series in result["series"].as_array().into_iter().flatten() {
            for row in series["values"].as_array().into_iter().flatten() {
                let time = row[0].as_i64().expect("times are numbers");
                let key = (series["tags"].to_string(), time);
                let values = format!("{} {row}", series["columns"]);
                assert!(rows.insert(key, values).is_none(), "a point twice");
            }
        }
        Ok(rows)
    }

    /// The answer of a query, JSON.
    pub fn query(&self, text: &str) -> String {
        let query = parse(text, &Params::new()).expect("a sound query");
        let options = QueryOptions {
            database: Some("d".into()),
            policy: None,
            params: Params::new(),
            now: 0,
            limits: QueryLimits::default(),
            deadline: None,
            rollups: kymo::query::RollupUse::default(),
            read_only_hint: false,
        };
        let mut json = Json::new(TimeFormat {
            epoch: Some(kymo::model::time::Precision::Nanosecond),
        });
        let mut out = Vec::new();
        run(
            &query,
            &options,
            self.0.as_ref(),
            &Cancel::default(),
            &mut |event| {
                json.event(event, &mut out);
                ControlFlow::Continue(())
            },
        );
        json.finish(&mut out);
        String::from_utf8(out).expect("JSON is text")
    }
}
