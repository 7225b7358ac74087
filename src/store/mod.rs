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
pub mod index;
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
            let pack = keys::pack_of(&key)
                .ok_or_else(|| StoreError::damaged(keys::describe(&key), "a key too short"))?;
            headers.push((pack, PackHeader::decode(pack, &value)?));
            before = Some(pack);
        }
        let newest = headers
            .iter()
            .map(|(_, header)| header)
            .max_by_key(|header| header.commit);
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
            let live: Vec<(RunId, RunEntry)> = ids
                .zip(header.runs)
                .filter(|(id, _)| !replaced.contains(id))
                .collect();
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
        let mut write = state
            .names
            .prepare(engine, input.definitions, input.commands.iter())?;
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
        let dead = |measurement| {
            state
                .deletes
                .dead
                .get(&measurement)
                .map_or(0, |dead| dead.len() as u32)
        };
        let header = engine.ingest(|sink| write_pack(sink, pack, header, tables, dead))?;

        state.commit = header.commit;
        let empty = header.runs.is_empty();
        let ids = (0..).map(|run| RunId { pack, run });
        let new = ids
            .zip(header.runs)
            .map(|(id, entry)| Arc::new(Run { id, entry }));
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
            Command::Delete {
                measurement,
                series,
                time,
            } => {
                state
                    .deletes
                    .add(sequence, *measurement, series.as_deref(), *time);
            }
            Command::DropSeries { measurement, series } => {
                state.deletes.add_dead(*measurement, series.iter().copied());
            }
            _ => return self.runs(),
        }
        self.publish(&state, self.watermark())
    }

    fn publish(&self, state: &State, watermark: u64) -> Arc<RunSet> {
        let set = Arc::new(RunSet::new(
            self.core.clone(),
            watermark,
            &state.runs,
            &state.deletes,
        ));
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
            while let Some((_, more)) =
                tables.next_if(|(p, more)| *p == partition && more.measurement == rows.measurement)
            {
                measurement.push(&more)?;
            }
            measurement.finish()?;
        }
        header.runs.extend(run.finish());
    }
    sink.write(&keys::header(pack), header.encode(pack))?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{DatabaseDefinition, SeriesDefinition};
    use crate::model::{Column, FieldValue, TimeRange, Values};

    const DAY: i64 = 86_400_000_000_000;

    fn rows(measurement: u32, points: &[(u32, i64, i64)]) -> SortedRows {
        let values = Values::Integer(points.iter().map(|p| p.2).collect());
        SortedRows {
            measurement,
            series: points.iter().map(|p| p.0).collect(),
            times: points.iter().map(|p| p.1).collect(),
            columns: vec![(
                0,
                Column {
                    values,
                    present: None,
                },
            )],
        }
    }

    fn open(dir: &Path) -> (Store, Vec<Loaded>) {
        let mut loaded = Vec::new();
        let options = StoreOptions { cache_bytes: 1 << 20 };
        let store = Store::open(dir, options, &mut |l| loaded.push(l)).expect("a sound folder");
        (store, loaded)
    }

    fn seal(store: &Store, watermark: u64, tables: Vec<(i64, SortedRows)>) {
        let definitions = Definitions {
            databases: vec![DatabaseDefinition {
                id: 0,
                name: "d".into(),
            }],
            series: (0..3)
                .map(|id| SeriesDefinition {
                    measurement: 5,
                    id,
                    key: format!("m,host={id}"),
                })
                .collect(),
            ..Definitions::default()
        };
        let input = SealInput {
            watermark,
            definitions: &definitions,
            commands: &[],
            next_ids: [1, 1, 6],
        };
        store.seal(&input, tables.into_iter()).expect("an ordinary seal");
    }

    /// `run: series time value` of everything readable.
    fn read(store: &Store, series: SeriesFilter<'_>, time: TimeRange) -> Vec<(u32, i64, i64)> {
        let mut out = Vec::new();
        for blocks in store.runs().select(5, series, time).expect("sound data") {
            for i in 0..blocks.len() {
                let block = blocks.read(i, &[0, 7]).expect("sound data");
                assert!(block.columns[1].is_none());
                let values = block.columns[0].as_ref().expect("every row has it");
                for (id, rows) in &block.series {
                    for row in rows.clone() {
                        let Some(FieldValue::Integer(v)) = values.get(row) else {
                            panic!("an integer")
                        };
                        out.push((*id, block.times[row], v));
                    }
                }
            }
        }
        out
    }

    #[test]
    fn sealed_rows_names_and_the_watermark_are_there_after_reopening() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let many: Vec<_> = (0..20_000)
            .map(|i| (i / 10_000, i64::from(i), i64::from(i) * 3))
            .collect();
        {
            let (store, loaded) = open(dir.path());
            assert!(loaded.is_empty());
            seal(
                &store,
                7,
                vec![(0, rows(5, &many)), (1, rows(5, &[(2, DAY + 1, 9)]))],
            );
            seal(&store, 9, vec![]);
            seal(&store, 11, vec![(0, rows(5, &[(0, 3, 1)]))]);
        }
        let (store, loaded) = open(dir.path());
        assert_eq!(store.watermark(), 11);
        assert!(loaded.contains(&Loaded::NextIds([1, 1, 6])));
        let series: usize = loaded
            .iter()
            .map(|l| {
                if let Loaded::Definitions(d) = l {
                    d.series.len()
                } else {
                    0
                }
            })
            .sum();
        assert_eq!(series, 3);
        let mut all = many.clone();
        all.extend([(2, DAY + 1, 9), (0, 3, 1)]);
        assert_eq!(read(&store, SeriesFilter::All, TimeRange::ALL), all);
        let day_two = TimeRange {
            min: DAY,
            max: 2 * DAY,
        };
        assert_eq!(
            read(&store, SeriesFilter::Range(&(2..3)), day_two),
            [(2, DAY + 1, 9)]
        );
        assert_eq!(read(&store, SeriesFilter::Range(&(3..9)), TimeRange::ALL), []);
    }

    #[test]
    fn deletes_hide_rows_at_once_and_after_reopening() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let points = [(0, 1, 10), (0, 2, 20), (1, 1, 30), (2, 1, 40)];
        let left = [(0, 2, 20), (1, 1, 30)];
        {
            let (store, _) = open(dir.path());
            seal(&store, 5, vec![(0, rows(5, &points))]);
            let time = TimeRange { min: 0, max: 1 };
            store.apply_command(
                6,
                &Command::Delete {
                    measurement: 5,
                    series: Some(vec![0]),
                    time,
                },
            );
            let commands = [Command::DropSeries {
                measurement: 5,
                series: vec![2],
            }];
            store.apply_command(6, &commands[0]);
            assert_eq!(read(&store, SeriesFilter::All, TimeRange::ALL), left);
            let definitions = Definitions::default();
            let input = SealInput {
                watermark: 6,
                definitions: &definitions,
                commands: &commands,
                next_ids: [1, 1, 6],
            };
            store.seal(&input, std::iter::empty()).expect("an ordinary seal");
            // Written after the delete: it stays.
            seal(&store, 8, vec![(0, rows(5, &[(0, 1, 50)]))]);
        }
        let (store, loaded) = open(dir.path());
        assert!(loaded.contains(&Loaded::Command(Command::DropSeries {
            measurement: 5,
            series: vec![2]
        })));
        assert_eq!(
            read(&store, SeriesFilter::All, TimeRange::ALL),
            [left[0], left[1], (0, 1, 50)]
        );
    }

    #[test]
    fn tables_out_of_order_are_refused_and_nothing_of_them_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = open(dir.path());
        let definitions = Definitions::default();
        let input = SealInput {
            watermark: 3,
            definitions: &definitions,
            commands: &[],
            next_ids: [0; 3],
        };
        let tables = vec![(1, rows(5, &[(0, DAY, 1)])), (0, rows(5, &[(0, 1, 1)]))];
        assert!(matches!(
            store.seal(&input, tables.into_iter()),
            Err(StoreError::Order(_))
        ));
        assert_eq!(
            (store.watermark(), read(&store, SeriesFilter::All, TimeRange::ALL)),
            (0, vec![])
        );
        seal(&store, 3, vec![(0, rows(5, &[(0, 1, 1)]))]);
        assert_eq!(read(&store, SeriesFilter::All, TimeRange::ALL), [(0, 1, 1)]);
    }
}
