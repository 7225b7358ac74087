//! What is sealed: runs of columnar blocks, names, deletes, kept in fjall. The only home of fjall.
//!
//! Comes from the seal (sorted tables) and goes to queries (blocks). Everything blocks: never call it from an async
//! thread. A *pack* is what one seal or merge writes in one atomic ingestion: runs, and a header that lists them, carries the
//! watermark and names the runs they replace. Read in this order: [`keys`], [`frame`], [`partition`], [`directory`],
//! [`writer`], [`pack`], [`engine`], [`state`], [`seal`], [`runs`], [`merge_policy`], [`merge_keys`], [`merge`], [`upkeep`].

pub mod cache;
pub mod deletes;
pub mod directory;
mod ends;
pub mod engine;
pub mod error;
pub mod files;
pub mod frame;
pub mod gone;
pub mod index;
pub mod keys;
mod making;
pub mod merge;
pub mod merge_keys;
pub mod merge_policy;
mod mirror;
pub mod names;
pub mod pack;
pub mod partition;
pub mod pieces;
pub mod repair;
pub mod runs;
pub mod seal;
mod settle;
#[cfg(test)]
pub mod simulated;
mod space;
pub mod state;
pub mod upkeep;
pub mod verify;
pub mod writer;

#[cfg(test)]
mod golden_store_test;
#[cfg(test)]
mod golden_test;
#[cfg(test)]
mod model_test;

pub use error::StoreError;
pub use merge::{MergeInput, MergeResult};
pub use names::Loaded;
pub use runs::{BlockInfo, BlockRows, RunBlocks, RunSet, SeriesFilter};
pub use seal::SealInput;

use crate::batch::Command;
use arc_swap::ArcSwap;
use cache::Cache;
use engine::{Engine, PackSink};
use index::SeriesIndex;
use index::cache::IndexCache;
use keys::RunId;
use mirror::Mirror;
use names::IndexWrite;
use pack::{PackHeader, RunEntry};
use state::State;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a store is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreOptions {
    /// Bytes of directories and stripes kept in memory.
    pub cache_bytes: usize,
    /// Bytes of the series index kept in memory.
    pub index_cache_bytes: usize,
}

/// See the module. Shared.
pub struct Store {
    core: Arc<Core>,
    index: Arc<SeriesIndex>,
    runs: ArcSwap<RunSet>,
    /// Whoever ends a pack, one at a time: seals while they write, merges only for their last step.
    commit: Mutex<Commit>,
    /// The last sequence with a command that is durable in the journal: see [`hear`](Self::hear).
    heard: AtomicU64,
    /// Taken after `commit` where both are needed; never held during input or output.
    state: Mutex<State>,
    next_pack: AtomicU64,
    /// `None` on a simulated disk.
    mirror: Option<Mirror>,
}

/// This part of the cache is for what chunks decode to: the others are a tenth of the size, and save reads from disk.
const DECODED_SHARE: usize = 2;

/// What readers hold.
pub struct Core {
    engine: Engine,
    cache: Cache,
    /// What chunks decode to.
    decoded: Cache,
    index_cache: IndexCache,
    /// Of the hashes of series' keys.
    key_seed: u64,
}

struct Commit {
    /// Deletes up to this sequence are in the index.
    deletes_stored: u64,
    /// The index says that the store has heard of this sequence.
    heard_stored: u64,
    /// Number of the last commit that was tried.
    number: u64,
}

/// Figures for /metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreCounters {
    /// Runs.
    pub runs: u64,
    /// Packs on disk.
    pub packs: u64,
    /// Rows in runs.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Deletes that still hide something.
    pub deletes: u64,
    /// Bytes of fjall's files.
    pub disk_bytes: u64,
    /// fjall's files.
    pub files: u64,
    /// Files that were damaged at the start, and put back from a copy or made anew.
    pub healed_files: u64,
    /// Bytes written since the start.
    pub written_bytes: u64,
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// Cache hits since the start.
    pub cache_hits: u64,
    /// Cache misses since the start.
    pub cache_misses: u64,
    /// Generations of the series index.
    pub index_generations: u64,
    /// Bytes in the cache of the series index.
    pub index_cache_bytes: u64,
    /// Its hits since the start.
    pub index_cache_hits: u64,
    /// Its misses since the start.
    pub index_cache_misses: u64,
}

impl Store {
    /// Opens or makes the store in `dir`; hands everything the catalog must know to `load`, in the order of [`Loaded`].
    ///
    /// # Errors
    /// Another format, damage of the index, input/output.
    pub fn open(dir: &Path, options: StoreOptions, load: &mut dyn FnMut(Loaded)) -> Result<Self, StoreError> {
        let mut store = Self::open_on(Engine::open(dir)?, options, load)?;
        store.mirror = Some(Mirror::new(dir));
        store.copy_names();
        Ok(store)
    }

    /// As [`open`](Self::open), on keyspaces that are open.
    ///
    /// # Errors
    /// The same.
    pub fn open_on(
        engine: Engine,
        options: StoreOptions,
        load: &mut dyn FnMut(Loaded),
    ) -> Result<Self, StoreError> {
        let core = Arc::new(Core {
            key_seed: names::key_seed(&engine)?,
            engine,
            cache: Cache::new(options.cache_bytes - options.cache_bytes / DECODED_SHARE),
            decoded: Cache::new(options.cache_bytes / DECODED_SHARE),
            index_cache: IndexCache::new(options.index_cache_bytes),
        });
        let engine = &core.engine;
        let index = Arc::new(SeriesIndex::open(&core)?);
        load(Loaded::Index(index.clone()));
        let deletes = names::load(engine, load)?;
        let mut headers: Vec<(u64, PackHeader)> = Vec::new();
        let mut before = None;
        while let Some((key, value)) = engine.header_before(before)? {
            let pack = keys::pack_of(&key)
                .ok_or_else(|| StoreError::damaged(keys::describe(&key), "a key too short"))?;
            headers.push((pack, PackHeader::decode(pack, &value)?));
            before = Some(pack);
        }
        let deletes_stored = deletes.list.iter().map(|d| d.sequence).max().unwrap_or(0);
        let heard_stored = names::heard(engine)?;
        let (state, number, next_pack) = State::open(headers, deletes);
        let store = Self {
            index,
            runs: ArcSwap::from_pointee(state.run_set(&core)),
            core,
            commit: Mutex::new(Commit {
                deletes_stored,
                heard_stored,
                number,
            }),
            heard: AtomicU64::new(heard_stored),
            state: Mutex::new(state),
            next_pack: AtomicU64::new(next_pack),
            mirror: None,
        };
        store.free_spent();
        Ok(store)
    }

    /// Copies the small files that have changed and without which nothing could be read (docs/adr/0024).
    pub fn copy_names(&self) {
        if let Some(mirror) = &self.mirror {
            mirror.update();
        }
    }

    /// Highest sequence whose data is here.
    pub fn watermark(&self) -> u64 {
        self.runs.load().watermark()
    }

    /// What is here was made knowing of the commands up to this sequence, even if their batches are above the watermark: the journal had them.
    pub fn heard(&self) -> u64 {
        let commit = self.commit();
        commit.deletes_stored.max(commit.heard_stored)
    }

    /// The journal has, durably, a batch with commands. They come into effect after this: seals and merges leave out what they drop before
    /// the next seal has stored them. IMPORTANT: what does so says it has heard of them. If damage takes them from the end of the journal, where it
    /// looks as if a crash had cut them off, their sequences would be given to others, and deletes among those would pass over runs that
    /// already know of "everything up to there".
    pub fn hear(&self, sequence: u64) {
        self.heard.fetch_max(sequence, Ordering::Relaxed);
    }

    /// What can be read now.
    pub fn runs(&self) -> Arc<RunSet> {
        self.runs.load_full()
    }

    fn commit(&self) -> MutexGuard<'_, Commit> {
        // It is changed only after what it describes is durable, in one step.
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is somebody at the last step of a pack?
    #[cfg(test)]
    pub fn is_committing(&self) -> bool {
        self.commit.try_lock().is_err()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // As above.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_pack_number(&self) -> u64 {
        // Even a pack that fails used its number up: parts of it may be on disk.
        self.next_pack.fetch_add(1, Ordering::Relaxed)
    }

    /// The last step of a pack: its header. The lock that comes back is for [`committed`](Self::committed), when the ingestion
    /// is over.
    fn commit_pack<'s>(
        &'s self,
        sink: &mut PackSink<'_>,
        pack: u64,
        runs: Vec<RunEntry>,
        replaces: &[RunId],
        seal: Option<(MutexGuard<'s, Commit>, u64)>,
    ) -> Result<(MutexGuard<'s, Commit>, PackHeader), StoreError> {
        let (mut commit, watermark) = match seal {
            Some((commit, watermark)) => (commit, Some(watermark)),
            None => (self.commit(), None),
        };
        // Before what was made with it is durable. A seal's own rows tell of everything up to them.
        let heard = self.heard.load(Ordering::Relaxed);
        if heard > commit.heard_stored.max(watermark.unwrap_or(0)) {
            let mut write = IndexWrite::default();
            write.put_heard(heard);
            self.core.engine.index_write(&write.changes)?;
            commit.heard_stored = heard;
        }
        // A commit that fails may be durable all the same, so its number is used up, too.
        commit.number += 1;
        let header = {
            let state = self.state();
            PackHeader {
                commit: commit.number,
                watermark: watermark.unwrap_or(state.watermark),
                next_pack: self.next_pack.load(Ordering::Relaxed),
                replaces: [state.replaced(), replaces].concat(),
                runs,
            }
        };
        pieces::write(sink, &keys::header(pack), header.encode(pack))?;
        Ok((commit, header))
    }

    /// The pack is durable: makes it visible.
    fn committed(&self, _commit: &mut Commit, pack: u64, header: PackHeader) -> Arc<RunSet> {
        let mut state = self.state();
        state.committed(pack, header);
        self.publish(&state)
    }

    /// Rows that a delete or a dropped series hides are hidden from now on. It becomes durable with the next seal; until
    /// then replay calls this again. Other commands are for the catalog.
    pub fn apply_command(&self, sequence: u64, command: &Command) -> Arc<RunSet> {
        let mut state = self.state();
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
        self.publish(&state)
    }

    /// Newer sets take the place of older ones in the order of changes, since the lock is held.
    fn publish(&self, state: &State) -> Arc<RunSet> {
        let set = Arc::new(state.run_set(&self.core));
        self.runs.store(set.clone());
        set
    }

    /// Changes the cache's budget at once.
    pub fn set_cache_bytes(&self, bytes: usize) {
        self.core.cache.set_budget(bytes - bytes / DECODED_SHARE);
        self.core.decoded.set_budget(bytes / DECODED_SHARE);
    }

    /// The series index.
    pub fn series_index(&self) -> &SeriesIndex {
        &self.index
    }

    /// Changes the budget of the series index's cache at once.
    pub fn set_index_cache_bytes(&self, bytes: usize) {
        self.core.index_cache.set_budget(bytes);
    }

    /// Merges generations of the series index where there are too many of a size. Gives back whether there was anything to do.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `go_on` says no; damage, input/output. Nothing is changed then.
    pub fn merge_index(&self, go_on: &dyn Fn() -> bool) -> Result<bool, StoreError> {
        let engine = &self.core.engine;
        let gone = |measurement| names::dropped_series(engine, measurement);
        let alive = |measurement| names::has_measurement(engine, measurement);
        self.index.merge(&gone, &alive, go_on)
    }

    /// Figures for /metrics.
    pub fn counters(&self) -> StoreCounters {
        let runs = self.runs();
        let (cache_bytes, cache_hits, cache_misses) = self.core.cache.figures();
        let (decoded_bytes, decoded_hits, _) = self.core.decoded.figures();
        let (index_bytes, index_hits, index_misses) = self.core.index_cache.figures();
        StoreCounters {
            runs: runs.runs().len() as u64,
            packs: self.state().packs() as u64,
            rows: runs.runs().iter().map(|run| run.entry.rows).sum(),
            bytes: runs.runs().iter().map(|run| run.entry.bytes).sum(),
            deletes: runs.deletes().list.len() as u64,
            disk_bytes: self.core.engine.disk_bytes(),
            files: self.core.engine.files() as u64,
            healed_files: self.core.engine.healed(),
            written_bytes: self.core.engine.written_bytes(),
            cache_bytes: (cache_bytes + decoded_bytes) as u64,
            cache_hits: cache_hits + decoded_hits,
            cache_misses,
            index_generations: self.index.set().len() as u64,
            index_cache_bytes: index_bytes as u64,
            index_cache_hits: index_hits,
            index_cache_misses: index_misses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::index::NewSeries;
    use super::index::page::PageBuilder;
    use super::partition::{Partition, Slice};
    use super::*;
    use crate::batch::{DatabaseDefinition, Definitions, MeasurementDefinition};
    use crate::model::{Column, FieldValue, SortedRows, TimeRange, Values};

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
        let options = StoreOptions {
            cache_bytes: 1 << 20,
            index_cache_bytes: 1 << 20,
        };
        let store = Store::open(dir, options, &mut |l| loaded.push(l)).expect("a sound folder");
        (store, loaded)
    }

    /// Three series of measurement 5.
    fn series() -> Vec<NewSeries> {
        let mut page = PageBuilder::new(0);
        for slot in 0..3 {
            page.insert(slot, &[("host".to_string(), slot.to_string())]);
        }
        vec![NewSeries {
            measurement: 5,
            pages: vec![page.page().clone()],
            ids: (0..3).collect(),
        }]
    }

    fn slice(day: i64) -> Slice {
        let partition = Partition::day(day * DAY);
        Slice {
            partition,
            time: partition.time(),
            rows: 1,
        }
    }

    fn seal(store: &Store, watermark: u64, tables: Vec<(i64, SortedRows)>) {
        let tables = tables.into_iter().map(|(day, rows)| (slice(day), rows));
        let definitions = Definitions {
            databases: vec![DatabaseDefinition {
                id: 0,
                name: "d".into(),
            }],
            measurements: vec![MeasurementDefinition {
                id: 5,
                policy: 0,
                name: "m".into(),
            }],
            ..Definitions::default()
        };
        let input = SealInput {
            watermark,
            level: crate::block::Level::Fast,
            definitions: &definitions,
            series: &series(),
            commands: &[],
            next_ids: [1, 1, 6],
            gone: None,
        };
        store.seal(&input, tables).expect("an ordinary seal");
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
            assert!(matches!(&loaded[..], [Loaded::Index(index)] if index.set().is_empty()));
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
        assert!(loaded.iter().any(|l| matches!(l, Loaded::NextIds([1, 1, 6]))));
        let Some(Loaded::Index(index)) = loaded.first() else {
            panic!("the index comes first")
        };
        assert_eq!(index.set().len(), 1, "sealed again and again, stored once");
        assert_eq!(index.set().totals(5), index::Totals { series: 3, end: 3 });
        let host = [("host".to_string(), "1".to_string())];
        let found = index
            .set()
            .find(5, index::key_hash(index.key_seed(), &host), &host, &|_| true);
        assert_eq!(found.expect("sound data"), Some(1));
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

    /// A start that has no time to look at everything does so all the same when it cannot read which packs there are.
    #[test]
    fn a_header_that_cannot_be_read_is_put_back_however_much_there_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        seal(&open(dir.path()).0, 7, vec![(0, rows(5, &[(0, 1, 10)]))]);
        let tables = std::fs::read_dir(dir.path().join("keyspaces/2/tables")).expect("a keyspace");
        let paths: Vec<_> = tables.map(|entry| entry.expect("a file").path()).collect();
        assert_eq!(paths.len(), 1);
        let sound = std::fs::read(&paths[0]).expect("a table");
        let mut bytes = sound.clone();
        // Its first block, which is its only one.
        bytes[50] ^= 1;
        std::fs::write(&paths[0], bytes).expect("room");
        let engine = Engine::open_within(dir.path(), 0).expect("its copy is sound");
        assert_eq!(engine.healed(), 1);
        assert_eq!(std::fs::read(&paths[0]).expect("a table"), sound);
        drop(engine);
        assert_eq!(
            read(&open(dir.path()).0, SeriesFilter::All, TimeRange::ALL),
            [(0, 1, 10)]
        );
    }

    /// The same when the engine does not even open: what it needs of a table is not all at the very end, where a start looks.
    #[test]
    fn a_table_that_does_not_open_is_put_back_however_much_there_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        seal(&open(dir.path()).0, 7, vec![(0, rows(5, &[(0, 1, 10)]))]);
        let tables = std::fs::read_dir(dir.path().join("keyspaces/2/tables")).expect("a keyspace");
        let paths: Vec<_> = tables.map(|entry| entry.expect("a file").path()).collect();
        let sound = std::fs::read(&paths[0]).expect("a table");
        let (mut did_not_open, mut healed) = (0, 0);
        for at in (0..sound.len()).step_by(11) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            std::fs::write(&paths[0], bytes).expect("room");
            did_not_open += u64::from(Engine::open_as_is(dir.path()).is_err());
            let engine =
                Engine::open_within(dir.path(), 0).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            healed += engine.healed();
        }
        assert!(
            did_not_open > 10 && healed >= did_not_open,
            "{did_not_open}, {healed}"
        );
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
                level: crate::block::Level::Fast,
                definitions: &definitions,
                series: &[],
                commands: &commands,
                next_ids: [1, 1, 6],
                gone: None,
            };
            store.seal(&input, std::iter::empty()).expect("an ordinary seal");
            // Written after the delete: it stays.
            seal(&store, 8, vec![(0, rows(5, &[(0, 1, 50)]))]);
        }
        let (store, loaded) = open(dir.path());
        let dropped = Command::DropSeries {
            measurement: 5,
            series: vec![2],
        };
        assert!(
            loaded
                .iter()
                .any(|l| matches!(l, Loaded::Command(command) if *command == dropped))
        );
        assert_eq!(
            read(&store, SeriesFilter::All, TimeRange::ALL),
            [left[0], left[1], (0, 1, 50)]
        );
    }

    #[test]
    fn what_was_made_with_commands_of_the_journal_says_so() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let seals = [1, 2].map(|watermark| (watermark, rows(5, &[(0, watermark as i64, 10)])));
        {
            let (store, _) = open(dir.path());
            for (watermark, rows) in seals {
                seal(&store, watermark, vec![(0, rows)]);
            }
            // In the journal: the measurement is dropped.
            store.hear(4);
        }
        assert_eq!(open(dir.path()).0.heard(), 0, "nothing was made with it");
        let merge = |store: &Store| {
            let plan = merge_policy::Plan {
                runs: store.runs().runs().iter().map(|run| run.id).collect(),
                partition: Partition::day(0),
                reason: merge_policy::Reason::Gone,
                time: TimeRange::ALL,
                bytes: 0,
            };
            let input = MergeInput {
                sequence: 4,
                alive: &|_| false,
                stop: &|| false,
                bytes: 16 << 20,
            };
            store.merge(&plan, &input).expect("sound");
        };
        {
            let (store, _) = open(dir.path());
            store.hear(4);
            merge(&store);
        }
        {
            let (store, _) = open(dir.path());
            assert_eq!((store.watermark(), store.heard()), (2, 4));
            assert_eq!(read(&store, SeriesFilter::All, TimeRange::ALL), []);
            // What came while it was sealed may have decided what is left out.
            store.hear(9);
            seal(&store, 6, vec![(0, rows(5, &[(0, 1, 50)]))]);
        }
        assert_eq!(open(dir.path()).0.heard(), 9);
    }

    #[test]
    fn tables_out_of_order_are_refused_and_nothing_of_them_stays() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = open(dir.path());
        let definitions = Definitions::default();
        let input = SealInput {
            watermark: 3,
            level: crate::block::Level::Fast,
            definitions: &definitions,
            series: &[],
            commands: &[],
            next_ids: [0; 3],
            gone: None,
        };
        let tables = vec![(1, rows(5, &[(0, DAY, 1)])), (0, rows(5, &[(0, 1, 1)]))];
        assert!(matches!(
            store.seal(&input, tables.into_iter().map(|(day, rows)| (slice(day), rows))),
            Err(StoreError::Order(_))
        ));
        assert_eq!(
            (store.watermark(), read(&store, SeriesFilter::All, TimeRange::ALL)),
            (0, vec![])
        );
        seal(&store, 3, vec![(0, rows(5, &[(0, 1, 1)]))]);
        assert_eq!(read(&store, SeriesFilter::All, TimeRange::ALL), [(0, 1, 1)]);
    }

    #[test]
    fn long_texts_are_cut_into_small_blocks_and_merged_within_memory() {
        let text = |i: usize, version: usize| format!("{version} {i} ").repeat(2500);
        let rows = |version: usize| {
            let mut texts = crate::model::StringColumn::default();
            (0..400).for_each(|i| texts.push(text(i, version).as_bytes()));
            SortedRows {
                measurement: 5,
                series: vec![0; 400],
                times: (0..400).map(|i| (i * 2 + version) as i64).collect(),
                columns: vec![(
                    0,
                    Column {
                        values: Values::String(texts),
                        present: None,
                    },
                )],
            }
        };
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = open(dir.path());
        seal(&store, 1, vec![(0, rows(0))]);
        seal(&store, 2, vec![(0, rows(1))]);
        let blocks = |store: &Store| -> Vec<u32> {
            let selected = store.runs().select(5, SeriesFilter::All, TimeRange::ALL);
            let selected = selected.expect("sound");
            let blocks = selected
                .iter()
                .flat_map(|run| (0..run.len()).map(|i| run.block(i).rows));
            blocks.collect()
        };
        let width = text(0, 0).len();
        let block_rows = (writer::BLOCK_BYTES_MAX / width) as u32;
        assert!(
            blocks(&store).iter().all(|&rows| rows <= block_rows),
            "{:?}",
            blocks(&store)
        );
        let plan = merge_policy::Plan {
            runs: store.runs().runs().iter().map(|run| run.id).collect(),
            partition: Partition::day(0),
            reason: merge_policy::Reason::Idle,
            time: TimeRange::ALL,
            bytes: 0,
        };
        let input = MergeInput {
            sequence: 2,
            alive: &|_| true,
            stop: &|| false,
            bytes: 16 << 20,
        };
        store.merge(&plan, &input).expect("sound");
        let merged = blocks(&store);
        assert_eq!(merged.iter().sum::<u32>(), 800);
        assert!(
            merged.len() > 10 && merged.iter().all(|&rows| rows <= block_rows),
            "{merged:?}"
        );
        let selected = store.runs().select(5, SeriesFilter::All, TimeRange::ALL);
        let mut seen = 0;
        for run in selected.expect("sound") {
            for i in 0..run.len() {
                let block = run.read(i, &[0]).expect("sound");
                let column = block.columns[0].as_ref().expect("every row has it");
                for (row, &time) in block.times.iter().enumerate() {
                    let expected = text(time as usize / 2, time as usize % 2);
                    assert_eq!(column.get(row), Some(FieldValue::String(expected)));
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 800);
    }
}
