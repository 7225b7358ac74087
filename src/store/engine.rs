//! Opening fjall with the right options, and what the store asks of it: ingesting, reading, dropping whole packs. With `space.rs`
//! and `settle.rs` the one file that calls fjall.
//!
//! What was learnt from fjall 3.1.13 and lsm-tree 3.1.10 (docs/adr/0003): values of `blocks` are written once and never
//! compacted, each pack is its own tables and blob files, so a pack's space comes back when its key range is dropped
//! and the version history is trimmed. **Never** opens fjall snapshots or nonce iterators (`iter`): trimming would pull
//! the rug from under them; `get` and `range` hold the version they read.

use super::error::StoreError;
use super::keys;
use super::making;
use super::space::Space;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{CompressionType, KeyspaceCreateOptions, KvSeparationOptions, UserValue};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Values from here on live in blob files beside the tables.
pub const SEPARATION_BYTES: u32 = 4096;
/// A blob file is closed when it is this long; a pack begins its own.
const BLOB_FILE_BYTES: u64 = 256 << 20;
/// fjall's own cache: index blocks and small values. Decoded directories and stripes are in ours.
const ENGINE_CACHE_BYTES: u64 = 4 << 20;
/// How long the engine's own lock is waited for, and how long between looks.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// File descriptors fjall may keep open.
const OPEN_FILES_MAX: usize = 256;
/// What the options below are called on disk: they are frozen when a store is made, so a change needs a new name and a way to convert.
const FORMAT: &str =
    "kymo store 1; blocks, series: fifo, kv 4096/256M, partitioned; index: leveled, partitioned";
const FORMAT_VERSION: u8 = 1;

/// An index change: `None` removes the key.
pub type IndexChanges = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A stored value, cheap to clone and to hold.
pub type Bytes = UserValue;

/// The keyspaces.
pub struct Engine {
    // Declared before the database, so dropped before it.
    blocks: Space,
    series: Space,
    index: Space,
    _database: Option<fjall::Database>,
    written: AtomicU64,
    healed: u64,
    /// Held for reading while a pack is written, so that [`Engine::sweep`] takes no file away that is being made.
    writing: RwLock<()>,
}

/// Takes the values of one atomic write into `blocks`; see [`Engine::ingest`].
pub struct PackSink<'a> {
    write: &'a mut dyn FnMut(&[u8], Vec<u8>) -> fjall::Result<()>,
    last_key: Vec<u8>,
    bytes: u64,
}

impl Engine {
    /// Opens or makes the database in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Format`] when the folder is not ours or of another version; [`StoreError::Engine`] when another process has it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_within(dir, super::files::QUICK_BYTES)
    }

    /// Looks at no more than so many bytes of what has copies, unless it cannot be read without.
    pub(super) fn open_within(dir: &Path, quick_bytes: u64) -> Result<Self, StoreError> {
        let mut healed = super::files::heal_lists(dir, quick_bytes)?;
        let opened = Self::open_as_is(dir).and_then(|engine| engine.read_headers().map(|()| engine));
        let mut engine = match opened {
            Ok(engine) => engine,
            Err(damage) => {
                tracing::error!(%damage, "the store cannot be read: every file that has a copy is looked at");
                healed += super::files::heal_lists(dir, u64::MAX)?;
                Self::open_as_is(dir)?
            }
        };
        engine.healed = healed;
        Ok(engine)
    }

    /// Reads the headers of all packs: without one of them nothing can be read.
    fn read_headers(&self) -> Result<(), StoreError> {
        for space in [&self.blocks, &self.series] {
            let mut before = None;
            while let Some((key, value)) = Self::last_before(space, before)? {
                // Any version: whether it can be read is seen later.
                super::frame::open(&key, &value, value.first().copied().unwrap_or_default())?;
                before = keys::pack_of(&key);
                if before.is_none() {
                    return Err(StoreError::damaged(keys::describe(&key), "a key too short"));
                }
            }
        }
        Ok(())
    }

    /// As [`open`](Self::open), without putting damaged files back or making them anew.
    ///
    /// # Errors
    /// The same, and [`StoreError::Damaged`] for what [`open`](Self::open) would have healed.
    pub fn open_as_is(dir: &Path) -> Result<Self, StoreError> {
        super::files::check_lists(dir)?;
        super::files::remove_damaged_journal(dir).map_err(StoreError::Io)?;
        super::files::make_lock(dir).map_err(StoreError::Io)?;
        // Damage makes fjall panic here and there; a panic must not stop the program from saying which folder it is.
        let opened = std::panic::catch_unwind(|| {
            if making::is_unmade(dir).map_err(StoreError::Io)? {
                making::begin(dir).map_err(StoreError::Io)?;
                drop(Self::open_checked(dir)?);
                making::finish(dir).map_err(StoreError::Io)?;
            }
            Self::open_checked(dir)
        });
        opened.unwrap_or_else(|_| {
            Err(StoreError::damaged(
                "the storage engine's files",
                "opening them panicked",
            ))
        })
    }

    fn open_checked(dir: &Path) -> Result<Self, StoreError> {
        let place = "opening the store";
        let open = || {
            fjall::Database::builder(dir)
                .cache_size(ENGINE_CACHE_BYTES)
                .worker_threads(1)
                .journal_compression(CompressionType::None)
                .max_cached_files(Some(OPEN_FILES_MAX))
                .open()
        };
        let (mut opened, began) = (open(), Instant::now());
        // The folder is ours. A child of who had it before may hold its descriptors until it runs its own program.
        while matches!(opened, Err(fjall::Error::Locked)) && began.elapsed() < LOCK_PATIENCE {
            std::thread::sleep(LOCK_RETRY);
            opened = open();
        }
        let database = opened.map_err(|error| match error {
            fjall::Error::InvalidVersion(found) => {
                StoreError::Format(format!("fjall format {found:?}, this program reads 3"))
            }
            fjall::Error::Locked => StoreError::Engine("another process has the store open".into()),
            error => StoreError::from_fjall(place, error),
        })?;
        let index = database
            .keyspace(keys::INDEX, index_options)
            .map_err(|e| StoreError::from_fjall(place, e))?;
        let blocks = database
            .keyspace(keys::BLOCKS, block_options)
            .map_err(|e| StoreError::from_fjall(place, e))?;
        let series = database
            .keyspace(keys::SERIES, block_options)
            .map_err(|e| StoreError::from_fjall(place, e))?;
        let separated = blocks.is_kv_separated();
        let [blocks, series, index] = [blocks, series, index].map(Space::Fjall);
        Self::checked(blocks, series, index, separated, Some(database))
    }

    /// On a simulated disk.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(test)]
    pub fn open_simulated(disk: &super::simulated::Spaces) -> Result<Self, StoreError> {
        let [blocks, series, index] = disk.open().map(Space::Simulated);
        Self::checked(blocks, series, index, true, None)
    }

    fn checked(
        blocks: Space,
        series: Space,
        index: Space,
        separated: bool,
        database: Option<fjall::Database>,
    ) -> Result<Self, StoreError> {
        let engine = Self {
            blocks,
            series,
            index,
            _database: database,
            written: AtomicU64::new(0),
            healed: 0,
            writing: RwLock::new(()),
        };
        engine.check_format(separated)?;
        Ok(engine)
    }

    fn check_format(&self, separated: bool) -> Result<(), StoreError> {
        let key = keys::index::FORMAT;
        let Some(value) = self.index_get(key)? else {
            let fresh = self.index_is_empty()? && self.header_before(None)?.is_none();
            if !fresh {
                return Err(StoreError::Format("it has data but no format entry".into()));
            }
            let value =
                super::frame::finish(key, [super::frame::begin(FORMAT_VERSION), FORMAT.into()].concat());
            // Another in each store: see docs/adr/0013.
            let seed = super::names::key_seed_value(RandomState::new().hash_one(std::process::id()));
            return self.index_write(&BTreeMap::from([
                (key.to_vec(), Some(value)),
                (keys::index::KEY_SEED.to_vec(), Some(seed)),
            ]));
        };
        let found =
            super::frame::open(key, &value, FORMAT_VERSION).map_err(|e| StoreError::Format(e.to_string()))?;
        if found != FORMAT.as_bytes() || !separated {
            let found = String::from_utf8_lossy(found);
            return Err(StoreError::Format(format!(
                "it was made as {found:?}, this program needs {FORMAT:?}"
            )));
        }
        Ok(())
    }

    /// Files that were damaged when it was opened, and put back or made anew.
    pub fn healed(&self) -> u64 {
        self.healed
    }

    /// An atomic write into `blocks`: everything `fill` puts into the sink becomes durable and visible together when
    /// it returns, or, when it fails, nothing does (what it left behind goes with the next [`sweep`](Self::sweep)). Several
    /// may be under way at once. What `fill` returns is alive until the commit is over, so it can carry a lock.
    ///
    /// # Errors
    /// Whatever `fill` gives; input/output. A commit that fails is taken back (`settle.rs`); where that fails, too, whether the pack is there is known only
    /// after the next open.
    pub fn ingest<T>(
        &self,
        fill: impl FnOnce(&mut PackSink<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ingest_into(&self.blocks, fill)
    }

    /// As [`ingest`](Self::ingest), into `series`.
    ///
    /// # Errors
    /// The same.
    pub fn series_ingest<T>(
        &self,
        fill: impl FnOnce(&mut PackSink<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.ingest_into(&self.series, fill)
    }

    fn ingest_into<T>(
        &self,
        space: &Space,
        fill: impl FnOnce(&mut PackSink<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let place = "writing a pack";
        let _writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
        let (filled, bytes) = space.ingest(place, |write| {
            let mut write = |key: &[u8], value: Vec<u8>| write(key, Some(value));
            let mut sink = PackSink::new(&mut write);
            let filled = fill(&mut sink)?;
            Ok((filled, sink.bytes))
        })?;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Self::trim(space);
        Ok(filled)
    }

    /// A value of `blocks`, its frame unchecked.
    ///
    /// # Errors
    /// Damage in fjall's own structures; input/output.
    pub fn block_get(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        self.blocks
            .get(key)
            .map_err(|e| StoreError::from_fjall(&keys::describe(key), e))
    }

    /// As [`block_get`](Self::block_get), of a value that may be in pieces.
    ///
    /// # Errors
    /// The same, and damage in a piece.
    pub fn block_get_whole(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        let value = self.block_get(key)?;
        value
            .map(|value| Self::gather(&self.blocks, key, value))
            .transpose()
    }

    /// The last pack header before `pack`, or the very last: its key and value.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get).
    pub fn header_before(&self, pack: Option<u64>) -> Result<Option<(Vec<u8>, UserValue)>, StoreError> {
        Self::last_before(&self.blocks, pack)
    }

    /// As [`header_before`](Self::header_before), of `series`.
    ///
    /// # Errors
    /// The same.
    pub fn series_header_before(
        &self,
        pack: Option<u64>,
    ) -> Result<Option<(Vec<u8>, UserValue)>, StoreError> {
        Self::last_before(&self.series, pack)
    }

    fn last_before(space: &Space, pack: Option<u64>) -> Result<Option<(Vec<u8>, UserValue)>, StoreError> {
        let last = space.last_before(pack.map(keys::pack_start).as_ref().map(|key| &key[..]));
        let last = last.map_err(|e| StoreError::from_fjall("the list of packs", e))?;
        last.map(|(key, value)| {
            let value = Self::gather(space, &key, value)?;
            Ok((key, value))
        })
        .transpose()
    }

    fn gather(space: &Space, key: &[u8], value: UserValue) -> Result<UserValue, StoreError> {
        super::pieces::gather(key, value, |piece| {
            space
                .get(piece)
                .map_err(|e| StoreError::from_fjall(&keys::describe(piece), e))
        })
    }

    /// Forgets a pack and frees its files. Nobody may read it any more.
    ///
    /// # Errors
    /// Input/output; the pack may then be there after the next open, which drops it again.
    pub fn drop_pack(&self, pack: u64) -> Result<(), StoreError> {
        self.drop_pack_of(&self.blocks, pack)
    }

    /// As [`drop_pack`](Self::drop_pack), of `series`.
    ///
    /// # Errors
    /// The same.
    pub fn series_drop_pack(&self, pack: u64) -> Result<(), StoreError> {
        self.drop_pack_of(&self.series, pack)
    }

    fn drop_pack_of(&self, space: &Space, pack: u64) -> Result<(), StoreError> {
        space
            .drop_range(&keys::pack_start(pack)[..], &keys::pack_end(pack)[..])
            .map_err(|e| StoreError::from_fjall(&format!("dropping pack {pack}"), e))?;
        Self::trim(space);
        Ok(())
    }

    /// A value of `series`, its frame unchecked; `describe` says which, for errors.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get).
    pub fn series_get(
        &self,
        key: &[u8],
        describe: &dyn Fn() -> String,
    ) -> Result<Option<UserValue>, StoreError> {
        self.series
            .get(key)
            .map_err(|e| StoreError::from_fjall(&describe(), e))
    }

    /// Removes files that a write that failed left behind. Does nothing while another is being written.
    ///
    /// # Errors
    /// Input/output; the next open removes them as well.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let Ok(_idle) = self.writing.try_write() else {
            return Ok(());
        };
        self.blocks.sweep()?;
        self.series.sweep()
    }

    /// A value of `index`, its frame unchecked.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get).
    pub fn index_get(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        self.index
            .get(key)
            .map_err(|e| StoreError::from_fjall(&keys::describe(key), e))
    }

    fn index_is_empty(&self) -> Result<bool, StoreError> {
        let mut empty = true;
        self.index_scan(b"", |_, _| {
            empty = false;
            Ok(())
        })?;
        Ok(empty)
    }

    /// Visits the entries of `index` under a prefix, ascending, frames unchecked.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get), and whatever `visit` gives.
    pub fn index_scan(
        &self,
        prefix: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.index_scan_from(prefix, prefix, visit)
    }

    /// As [`index_scan`](Self::index_scan), beginning at the key `from`.
    ///
    /// # Errors
    /// The same.
    pub fn index_scan_from(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for entry in self.index.range(from) {
            let (key, value) = entry.map_err(|e| StoreError::from_fjall("the index", e))?;
            if !key.starts_with(prefix) {
                break;
            }
            visit(&key, &value)?;
        }
        Ok(())
    }

    /// Visits every entry of `index`, frames unchecked.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get), and whatever `visit` gives.
    pub fn index_entries(
        &self,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.index_scan(b"", visit)
    }

    /// Visits every entry of `blocks`, frames unchecked.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get), and whatever `visit` gives.
    pub fn block_entries(
        &self,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for entry in self.blocks.range(b"") {
            let (key, value) = entry.map_err(|e| StoreError::from_fjall("the packs", e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    /// Visits the entries of `series`, ascending, frames unchecked.
    ///
    /// # Errors
    /// As [`block_get`](Self::block_get), and whatever `visit` gives.
    pub fn series_entries(
        &self,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for entry in self.series.range(b"") {
            let (key, value) = entry.map_err(|e| StoreError::from_fjall("the index packs", e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    /// Writes index entries: atomic, durable on return.
    ///
    /// # Errors
    /// Input/output; then nothing is written.
    pub fn index_write(&self, changes: &IndexChanges) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let place = "writing the index";
        let fail = |e| StoreError::from_fjall(place, e);
        let bytes = self.index.ingest(place, |write| {
            let mut bytes = 0;
            for (key, value) in changes {
                bytes += key.len() + value.as_ref().map_or(0, Vec::len);
                write(key, value.clone()).map_err(fail)?;
            }
            Ok(bytes)
        })?;
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        Self::trim(&self.index);
        Ok(())
    }

    /// Frees files that no version needs. IMPORTANT: its failure is none of the write before it, which is durable and visible: whoever were told
    /// otherwise would write the same again and not know of the first, whose rows would come back after deletes were forgotten.
    fn trim(space: &Space) {
        if let Err(error) = space.trim() {
            tracing::warn!(%error, "cannot free files of the store; the next write tries again");
        }
    }

    /// Bytes handed to fjall since the store was opened.
    pub fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Bytes fjall's files take, journal excluded (it is a sparse, unused file).
    pub fn disk_bytes(&self) -> u64 {
        self.blocks.disk_space() + self.series.disk_space() + self.index.disk_space()
    }

    /// Tables and blob files, for metrics.
    pub fn files(&self) -> usize {
        [&self.blocks, &self.series, &self.index]
            .map(Space::files)
            .iter()
            .sum()
    }
}

impl<'a> PackSink<'a> {
    /// Hands values on to `write`.
    pub(super) fn new(write: &'a mut dyn FnMut(&[u8], Vec<u8>) -> fjall::Result<()>) -> Self {
        Self {
            write,
            last_key: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds a value, framed already.
    ///
    /// # Errors
    /// [`StoreError::Order`] when the key does not ascend (fjall would panic); input/output.
    pub fn write(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        if key <= &self.last_key[..] {
            return Err(StoreError::Order(format!(
                "{} after {}",
                keys::describe(key),
                keys::describe(&self.last_key)
            )));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.bytes += (key.len() + value.len()) as u64;
        (self.write)(key, value).map_err(|e| StoreError::from_fjall("writing a pack", e))
    }

    /// Bytes added so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn common_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(false))
        .filter_block_pinning_policy(PinningPolicy::all(false))
        .data_block_compression_policy(CompressionPolicy::disabled())
        // Keys looked up are there; a filter would only take room.
        .filter_policy(FilterPolicy::disabled())
}

fn block_options() -> KeyspaceCreateOptions {
    let separation = KvSeparationOptions::default()
        .separation_threshold(SEPARATION_BYTES)
        .file_target_size(BLOB_FILE_BYTES)
        .compression(CompressionType::None);
    common_options()
        .with_kv_separation(Some(separation))
        // Packs have key ranges of their own, so FIFO without a limit is "never compact": a compaction would put
        // several packs into one table, and dropping one of them would then free nothing.
        .compaction_strategy(Arc::new(fjall::compaction::Fifo::new(u64::MAX, None)))
}

fn index_options() -> KeyspaceCreateOptions {
    common_options().data_block_size_policy(BlockSizePolicy::all(8 * 1024))
}
