//! One life of the process: the core as the server has it, without its threads.

use super::model::{Key, MEASUREMENTS, Op};
use super::world::World;
use crate::batch::Batch;
use crate::budget::{Budget, Budgets, Current, Machine, Overrides};
use crate::catalog::Catalog;
use crate::engine::merger::{MergeControl, Merger};
use crate::engine::recovery::{Core, Recovery};
use crate::engine::sealer::Sealer;
use crate::engine::{FromJournal, OpenError, Pending};
use crate::ingest::{Ingestor, Limits, Registry};
use crate::journal::simulated::SimDisk;
use crate::journal::thread::{Shared, commit};
use crate::journal::writer::Writer;
use crate::query::scan::Scan;
use crate::query::snapshot::Snapshot;
use crate::query::statements::{QueryOptions, Target, run};
use crate::query::{Cancel, QueryLimits, Running, Value, Workers};
use crate::rejected::Entry;
use crate::shard::dispatch::Dispatcher;
use crate::store::engine::Engine as Keyspaces;
use crate::store::merge_policy::{Conditions, plan};
use crate::store::upkeep::RunLog;
use crate::store::{Store, StoreError};
use kymo_plugin_api::{Framing, Options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes of a segment: small, so that there are many.
const SEGMENT: u64 = 4 << 10;
/// What one group adds at most before anybody looks.
pub const GROUP_BYTES: usize = 40 << 10;

static WORKERS: Workers = Workers::new(0);

/// See the module.
pub struct Life {
    core: Core,
    sealer: Mutex<Sealer>,
    merger: Merger,
    log: Mutex<RunLog>,
    writer: Mutex<Writer<SimDisk>>,
    outcome: Mutex<FromJournal>,
    shared: Shared,
    shards: u16,
    limits: Limits,
    registry: Registry,
    running: Arc<Running>,
    world: Arc<World>,
    /// What the statement that runs does, once it is committed.
    pub statement: Mutex<Op>,
}

impl Life {
    /// Opens what the disk has, as the server does.
    pub fn open(world: &Arc<World>, shards: u16, dir: &Path) -> Result<(Self, Recovery), OpenError> {
        let small = Overrides::default()
            .with(Budget::Shards, Some(u64::from(shards)))
            .with(Budget::Head, Some(world.size.head_bytes as u64))
            .with(Budget::BlockCache, Some(1 << 20))
            .with(Budget::IndexCache, Some(1 << 20))
            .with(Budget::Spellings, Some(1 << 20));
        let machine = Machine {
            cores: 1,
            memory: 1 << 30,
        };
        let budgets = Arc::new(Current::new(Budgets::new(&machine, &small)));
        let core = Core::open(
            &budgets.get(),
            |options, load| Store::open_on(Keyspaces::open_simulated(&world.spaces)?, options, load),
            |shards, head| Ok(Dispatcher::inline(shards, head)),
        )?;
        let mut sealer = Sealer::new(&core, Arc::default());
        sealer.pause = |_| {};
        let (recovery, existing) = core.replay(&world.disk, dir, world.size.head_bytes, &mut sealer)?;
        let mut outcome = FromJournal::new(&core, budgets.clone());
        outcome.patience = Duration::ZERO;
        let life = Self {
            merger: Merger {
                catalog: core.catalog.clone(),
                head: core.head.clone(),
                store: core.store.clone(),
                control: Arc::new(MergeControl::default()),
                counters: Arc::default(),
                budgets: budgets.clone(),
                folder: dir.to_path_buf(),
                now: || 0,
            },
            outcome: Mutex::new(outcome),
            core,
            sealer: Mutex::new(sealer),
            log: Mutex::default(),
            writer: Mutex::new(Writer::new(world.disk.clone(), SEGMENT, existing)),
            shared: Shared::default(),
            shards,
            limits: Limits::default(),
            registry: Registry::standard(),
            running: Arc::default(),
            world: world.clone(),
            statement: Mutex::new(Op::Nothing),
        };
        Ok((life, recovery))
    }

    /// The last sequence that is seen.
    pub fn sequence(&self) -> u64 {
        self.core.head.sequence()
    }

    /// Is there room in memory for another group?
    pub fn has_room(&self) -> bool {
        let (active, frozen) = self.core.head.bytes();
        // At twice the budget writers are refused.
        active + frozen + self.core.catalog.delta_bytes() < self.world.size.head_bytes * 3 / 2
    }

    /// Is it time for a seal?
    pub fn is_full(&self) -> bool {
        self.core.head.bytes().0 + self.core.catalog.delta_bytes() >= self.world.size.head_bytes
    }

    /// Would a seal not have to wait for a merge's last step?
    pub fn may_seal(&self) -> bool {
        !self.core.store.is_committing()
    }

    /// A batch of points.
    pub fn batch(&self, points: &[(Key, i64, BTreeMap<&'static str, i64>)]) -> Batch {
        let catalog = &self.core.catalog;
        if catalog.database("d").is_none() {
            catalog.create_database("d", None).expect("a sound name");
        }
        let policy = catalog
            .database("d")
            .expect("made")
            .policy(None)
            .expect("default")
            .id;
        let format = self.registry.by_name("line-protocol").expect("built in");
        let options = Options::new();
        let mut sink = Ingestor::new(
            catalog,
            &self.limits,
            policy,
            format.name(),
            &options,
            0,
            self.shards,
        );
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        let mut lines = String::new();
        for ((measurement, host), time, fields) in points {
            let fields: Vec<String> = fields.iter().map(|(name, value)| field(name, *value)).collect();
            lines += &format!(
                "{},host=h{host} {} {time}\n",
                MEASUREMENTS[*measurement],
                fields.join(",")
            );
        }
        decoder.decode(lines.as_bytes(), &mut sink);
        let outcome = sink.finish();
        let mut batch = outcome.batch.expect("sound lines");
        let made = catalog.define_database("d");
        batch.definitions.databases.extend(made.databases);
        batch.definitions.policies.extend(made.policies);
        batch
    }

    /// One group through the journal, as its thread does it.
    pub fn commit_group(&self, group: Vec<(Batch, Op)>) -> usize {
        let mut writer = self.writer.lock().expect("one thread");
        let first = writer.next_sequence();
        let mut entries = Vec::new();
        for (sequence, (batch, op)) in (first..).zip(group) {
            self.world.model().tried(sequence, op);
            let world = self.world.clone();
            entries.push(Pending {
                batch: Arc::new(crate::batch::EncodedBatch::encode(batch)),
                ack: Box::new(move |result| world.answered(sequence, result)),
            });
        }
        let count = entries.len();
        let mut outcome = self.outcome.lock().expect("one thread");
        commit(&mut writer, &mut *outcome, entries, &self.shared);
        count
    }

    /// Runs statements: the answer as JSON.
    pub fn query(&self, text: &str) -> serde_json::Value {
        use crate::query::encode::{Encoder, Json, TimeFormat};
        let query = crate::lang::parse(text, &crate::lang::Params::new()).expect("a sound query");
        let options = QueryOptions {
            database: Some("d".into()),
            policy: None,
            params: crate::lang::Params::new(),
            now: 0,
            limits: QueryLimits::default(),
            deadline: None,
            read_only_hint: false,
            rollups: crate::query::RollupUse::default(),
        };
        let mut json = Json::new(TimeFormat {
            epoch: Some(crate::model::time::Precision::Nanosecond),
        });
        let mut out = Vec::new();
        run(&query, &options, self, &Cancel::default(), &mut |event| {
            json.event(event, &mut out);
            std::ops::ControlFlow::Continue(())
        });
        json.finish(&mut out);
        serde_json::from_slice(&out).expect("JSON")
    }

    /// Freezes the head, writes it, and lets the journal go.
    pub fn seal(&self) -> Result<(), StoreError> {
        let world = &self.world;
        let sequence = self
            .sealer
            .lock()
            .expect("one seal at a time")
            .seal(crate::block::Level::Fast, &|| world.is_off())?;
        if let Err(error) = self.writer.lock().expect("one thread").release(sequence) {
            assert!(world.is_off(), "{error}");
        }
        Ok(())
    }

    /// As when nothing comes for a while.
    pub fn rest(&self) {
        let sequence = self.core.store.watermark();
        if let Err(error) = self.writer.lock().expect("one thread").rest(sequence) {
            assert!(self.world.is_off(), "{error}");
        }
    }

    /// The most useful merge, if there is any.
    pub fn merge(&self, now: Duration, idle: Duration) -> bool {
        self.core.store.free_spent();
        let alive = |measurement| self.core.catalog.measurement_by_id(measurement).is_some();
        let sequence = self.sequence();
        let facts = self
            .log
            .lock()
            .expect("one thread")
            .facts(&self.core.store, now, &alive);
        let conditions = Conditions {
            idle,
            thrifty: false,
            room: u64::MAX,
            runs_max: 16,
            merging: &[],
        };
        let Some(plan) = plan(&facts, &conditions) else {
            return false;
        };
        match self.merger.merge(&plan, sequence, 64 << 20, &alive) {
            Ok(()) => true,
            Err(error) if error.is_damage() => {
                self.log.lock().expect("one thread").damaged(&plan.runs);
                false
            }
            Err(_) => false,
        }
    }

    /// Generations of the series index.
    pub fn merge_index(&self) -> bool {
        self.core.store.merge_index(&|| true).unwrap_or(false)
    }
}

fn field(name: &str, value: i64) -> String {
    match name {
        "v" => format!("v={value}i"),
        "w" => format!("w={value}.5"),
        _ => format!("{name}=\"{value}\""),
    }
}

impl Target for Life {
    fn catalog(&self) -> &Catalog {
        &self.core.catalog
    }

    fn snapshot(&self) -> Arc<dyn Scan> {
        Arc::new(Snapshot::new(
            self.core.head.snapshot(),
            self.core.rollups.clone(),
        ))
    }

    fn commit(&self, batch: Batch) -> Result<u64, String> {
        let op = self.statement.lock().expect("one thread").clone();
        self.commit_group(vec![(batch, op)]);
        Ok(self.sequence())
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    fn workers(&self) -> &Workers {
        &WORKERS
    }

    fn running(&self) -> &Arc<Running> {
        &self.running
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn rejected(&self, _: Option<&str>) -> Result<Vec<Entry>, String> {
        Ok(Vec::new())
    }

    fn figures(&self) -> Vec<(String, String, Value)> {
        Vec::new()
    }
}
