//! What is sealed: runs of columnar blocks, names, deletes, kept in fjall. The only home of fjall.
//!
//! Comes from the seal (sorted tables) and goes to queries (blocks). Everything blocks: never call it from an async
//! thread. A *pack* is what one seal writes in one atomic ingestion: runs, one a partition, and a header that lists them
//! and carries the watermark. Read in this order: [`keys`], [`frame`], [`directory`], [`writer`], [`pack`], [`engine`], [`runs`].

pub mod cache;
pub mod deletes;
pub mod dictionary;
pub mod directory;
pub mod engine;
pub mod error;
pub mod frame;
pub mod keys;
pub mod names;
pub mod pack;
pub mod runs;
pub mod writer;

pub use error::StoreError;
pub use names::Loaded;
pub use runs::{BlockInfo, BlockRows, RunBlocks, RunSet, SeriesFilter};

use crate::batch::{Command, Definitions};
use crate::block::Level;
use crate::model::SortedRows;
use arc_swap::ArcSwap;
use cache::Cache;
use deletes::Deletes;
use engine::Engine;
use keys::RunId;
use names::Names;
use pack::{PackHeader, RunEntry};
use runs::Run;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use writer::{RunWriter, STRIPE_BLOCKS, WriteOptions};

/// The partition of a timestamp: days since 1970-01-01 UTC.
pub fn partition_of(time: i64) -> i64 {
    time.div_euclid(86_400_000_000_000)
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bytes of directories and stripes kept in memory.
    pub cache_bytes: usize,
}

/// What a seal brings besides its tables.
pub struct SealInput<'a> {
    /// The last sequence whose data is in the tables; grows from seal to seal.
    pub watermark: u64,
    /// Names not stored yet.
    pub definitions: &'a Definitions,
    /// Commands not stored yet, in order. Deletes are known from [`Store::apply_command`].
    pub commands: &'a [Command],
    /// The next free ids of databases, policies and measurements.
    pub next_ids: [u32; 3],
}

/// See the module. Shared.
pub struct Store {
    core: Arc<Core>,
    runs: ArcSwap<RunSet>,
    /// Whoever changes the store, one at a time.
    state: Mutex<State>,
}

/// What readers hold.
pub struct Core {
    engine: Engine,
    cache: Cache,
}

struct State {
    names: Names,
    deletes: Deletes,
    /// Deletes up to this sequence are in the index.
    deletes_stored: u64,
    commit: u64,
    next_pack: u64,
    replaced: Vec<RunId>,
    runs: Vec<Arc<Run>>,
    /// Packs without runs: each is dropped when a newer header stands.
    empty_packs: Vec<u64>,
}

/// Figures for /metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreCounters {
    /// Runs.
    pub runs: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Bytes of fjall's files.
    pub disk_bytes: u64,
    /// fjall's files.
    pub files: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// Cache hits since the start.
    pub cache_hits: u64,
    /// Cache misses since the start.
    pub cache_misses: u64,
}

impl Store {
    /// Opens or makes the store in `dir`; hands everything the catalog must know to `load`, in the order of [`Loaded`].
    ///
    /// # Errors
    /// Another format, damage of the index, input/output.
    pub fn open(dir: &Path, options: StoreOptions, load: &mut dyn FnMut(Loaded)) -> Result<Self, StoreError> {
        let engine = Engine::open(dir)?;
        let (names, deletes) = names::load(&engine, load)?;
        let mut headers: Vec<(u64, PackHeader)> = Vec::new();
        let mut before = None;
        while let Some((key, value)) = engine.header_before(before)? {
            let pack = keys::pack_of(&key).ok_or_else(|| StoreError::damaged(keys::describe(&key), "a key too short"))?;
            headers.push((pack, PackHeader::decode(pack, &value)?));
            before = Some(pack);
        }
        let newest = headers.iter().map(|(_, header)| header).max_by_key(|header| header.commit);
        let (commit, watermark, next_pack, replaced) = newest
            .map(|h| (h.commit, h.watermark, h.next_pack, h.replaces.clone()))
            .unwrap_or_default();
        let core = Arc::new(Core {
            engine,
            cache: Cache::new(options.cache_bytes),
        });
        let mut runs = Vec::new();
        let mut empty_packs = Vec::new();
        for (pack, header) in headers {
            let ids = (0..).map(|run| RunId { pack, run });
            let live: Vec<(RunId, RunEntry)> =
                ids.zip(header.runs).filter(|(id, _)| !replaced.contains(id)).collect();
            if live.is_empty() {
                empty_packs.push(pack);
            }
            runs.extend(live.into_iter().map(|(id, entry)| Arc::new(Run { id, entry })));
        }
        runs.sort_by_key(|run| (run.entry.sequence, run.id));
        let deletes_stored = deletes.list.iter().map(|d| d.sequence).max().unwrap_or(0);
        let state = State {
            names,
            deletes,
            deletes_stored,
            commit,
            next_pack: next_pack.max(1),
            replaced,
            runs,
            empty_packs,
        };
        let set = RunSet::new(core.clone(), watermark, &state.runs, &state.deletes);
        Ok(Self {
            core,
            runs: ArcSwap::from_pointee(set),
            state: Mutex::new(state),
        })
    }

    /// Highest sequence whose data is here.
    pub fn watermark(&self) -> u64 {
        self.runs.load().watermark()
    }

    /// What can be read now.
    pub fn runs(&self) -> Arc<RunSet> {
        self.runs.load_full()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is made after what it describes is durable, in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes names first, then all tables with the new watermark, atomically. Durable on return.
    ///
    /// # Errors
    /// Tables not in order of (partition, measurement), a watermark that does not grow; input/output. Nothing is visible then;
    /// the same may be tried again.
    pub fn seal(
        &self,
        input: &SealInput<'_>,
        tables: impl Iterator<Item = (i64, SortedRows)>,
    ) -> Result<Arc<RunSet>, StoreError> {
        let mut state = self.lock();
        if input.watermark < self.watermark() {
            return Err(StoreError::Order(format!(
                "watermark {} after {}",
                input.watermark,
                self.watermark()
            )));
        }
        let engine = &self.core.engine;
        let mut write = state.names.prepare(engine, input.definitions, input.commands.iter())?;
        write.put_next_ids(input.next_ids);
        let stored = input.watermark;
        for delete in state.deletes.list.iter() {
            if delete.sequence > state.deletes_stored && delete.sequence <= stored {
                write.put_delete(delete);
            }
        }
        engine.index_write(&write.changes)?;
        state.names.committed(&write);
        state.deletes_stored = state.deletes_stored.max(stored);

        let pack = state.next_pack;
        // Even a pack that fails used its number up: parts of it may be on disk.
        state.next_pack += 1;
        let header = PackHeader {
            commit: state.commit + 1,
            watermark: input.watermark,
            next_pack: state.next_pack,
            replaces: state.replaced.clone(),
            runs: Vec::new(),
        };
        let dead = |measurement| state.deletes.dead.get(&measurement).map_or(0, |dead| dead.len() as u32);
        let header = engine.ingest(|sink| write_pack(sink, pack, header, tables, dead))?;

        state.commit = header.commit;
        let empty = header.runs.is_empty();
        let ids = (0..).map(|run| RunId { pack, run });
        let new = ids.zip(header.runs).map(|(id, entry)| Arc::new(Run { id, entry }));
        state.runs.extend(new);
        for old in std::mem::take(&mut state.empty_packs) {
            // Only room is lost when this fails; the next open tries again.
            if let Err(error) = engine.drop_pack(old) {
                tracing::warn!(pack = old, %error, "cannot drop an empty pack");
            }
        }
        if empty {
            state.empty_packs.push(pack);
        }
        Ok(self.publish(&state, input.watermark))
    }

    /// Rows that a delete or a dropped series hides are hidden from now on. It becomes durable with the next seal; until
    /// then replay calls this again. Other commands are for the catalog.
    pub fn apply_command(&self, sequence: u64, command: &Command) -> Arc<RunSet> {
        let mut state = self.lock();
        match command {
            Command::Delete { measurement, series, time } => {
                state.deletes.add(sequence, *measurement, series.as_deref(), *time);
            }
            Command::DropSeries { measurement, series } => {
                state.deletes.add_dead(*measurement, series.iter().copied());
            }
            _ => return self.runs(),
        }
        self.publish(&state, self.watermark())
    }

    fn publish(&self, state: &State, watermark: u64) -> Arc<RunSet> {
        let set = Arc::new(RunSet::new(self.core.clone(), watermark, &state.runs, &state.deletes));
        self.runs.store(set.clone());
        set
    }

    /// Changes the cache's budget at once.
    pub fn set_cache_bytes(&self, bytes: usize) {
        self.core.cache.set_budget(bytes);
    }

    /// Figures for /metrics.
    pub fn counters(&self) -> StoreCounters {
        let runs = self.runs();
        let (cache_bytes, cache_hits, cache_misses) = self.core.cache.figures();
        StoreCounters {
            runs: runs.runs().len() as u64,
            rows: runs.runs().iter().map(|run| run.entry.rows).sum(),
            bytes: runs.runs().iter().map(|run| run.entry.bytes).sum(),
            disk_bytes: self.core.engine.disk_bytes(),
            files: self.core.engine.files() as u64,
            written_bytes: self.core.engine.written_bytes(),
            cache_bytes: cache_bytes as u64,
            cache_hits,
            cache_misses,
        }
    }
}

/// Writes the runs of a pack, one a partition, and its header.
fn write_pack(
    sink: &mut engine::PackSink<'_>,
    pack: u64,
    mut header: PackHeader,
    tables: impl Iterator<Item = (i64, SortedRows)>,
    dead: impl Fn(u32) -> u32,
) -> Result<PackHeader, StoreError> {
    let options = WriteOptions {
        level: Level::Fast,
        stripe_blocks: STRIPE_BLOCKS,
    };
    let mut tables = tables.peekable();
    let mut last = i64::MIN;
    while let Some(&(partition, _)) = tables.peek() {
        if partition <= last && !header.runs.is_empty() {
            return Err(StoreError::Order(format!("partition {partition} after {last}")));
        }
        last = partition;
        let id = RunId {
            pack,
            run: header.runs.len() as u32,
        };
        let mut run = RunWriter::new(sink, id, partition, header.watermark, header.watermark, options);
        while let Some((_, rows)) = tables.next_if(|(p, _)| *p == partition) {
            let mut measurement = run.measurement(rows.measurement, dead(rows.measurement));
            measurement.push(&rows)?;
            measurement.finish()?;
        }
        header.runs.extend(run.finish());
    }
    sink.write(&keys::header(pack), header.encode(pack))?;
    Ok(header)
}
