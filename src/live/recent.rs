//! The last committed batches: for what is folded next, and for tails of clients that come back. Their tables are unpacked once,
//! when somebody first reads them.
//!
//! Where many computations read them, the tables of a group of batches are put together once, sorted: finding a computation's series in
//! each of many small tables costs more than folding them.

use crate::batch::EncodedBatch;
use crate::catalog::Catalog;
use crate::model::{MeasurementId, SortedRows, TimeRange, concat_sorted, merge_sorted};
use crate::query::scan::{Scan, ScanError, ScanRequest, Source};
use crate::query::snapshot::Snapshot;
use crate::shard::part::HeadPart;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::watch::Watch;

/// Batches that are kept.
pub const RECENT_BATCHES_MAX: usize = 16_384;
/// Batches that are put together.
const GROUP: usize = 32;
/// Rows of a measurement in a group that are put together; beyond it they are large enough as they are.
const GROUP_ROWS_MAX: usize = 1 << 20;
/// Rows of a series that stand together in a batch, from which on copying them whole is faster than sorting.
const RUN_ROWS_MIN: usize = 8;
/// Batches are put together from so many computations on that read them.
const READERS_MIN: usize = 4;

/// See the module.
#[derive(Default)]
pub struct Recent {
    batches: VecDeque<Kept>,
    bytes: Cell<usize>,
    /// Bytes of batches that are kept while there are subscriptions, packed, unpacked and put together.
    bytes_max: usize,
    /// Every batch after this sequence is here.
    after: u64,
    /// Batches that went by before the first that is here.
    gone: u64,
    /// Tables of whole groups, by the group's number and the measurement.
    together: RefCell<HashMap<(u64, MeasurementId), Arc<HeadPart>>>,
    /// Computations that read.
    readers: usize,
}

/// A batch and what of it was unpacked.
struct Kept {
    sequence: u64,
    batch: Arc<EncodedBatch>,
    tables: Vec<RefCell<Option<Arc<HeadPart>>>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let unpacked =
            |table: &RefCell<Option<Arc<HeadPart>>>| table.borrow().as_ref().map_or(0, |part| part.bytes());
        self.batch.bytes().len() + self.tables.iter().map(unpacked).sum::<usize>()
    }
}

impl Recent {
    /// None yet; so many bytes may be kept.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Begins anew: only what comes after `sequence` is known.
    pub fn clear(&mut self, sequence: u64) {
        self.batches.clear();
        self.together.borrow_mut().clear();
        self.bytes.set(0);
        self.after = sequence;
        self.gone = 0;
    }

    /// So many computations are busy.
    pub fn read_by(&mut self, readers: usize) {
        self.readers = readers;
    }

    /// Are batches put together?
    pub fn is_shared(&self) -> bool {
        self.readers >= READERS_MIN
    }

    /// Does a group end with the last batch?
    pub fn is_group_whole(&self) -> bool {
        (self.gone + self.batches.len() as u64).is_multiple_of(GROUP as u64)
    }

    /// Adds the next batch.
    pub fn add(&mut self, sequence: u64, batch: Arc<EncodedBatch>) {
        let tables = batch.tables().map(|_| RefCell::default()).collect();
        self.bytes.set(self.bytes.get() + batch.bytes().len());
        self.batches.push_back(Kept {
            sequence,
            batch,
            tables,
        });
        while self.bytes.get() > self.bytes_max || self.batches.len() > RECENT_BATCHES_MAX {
            let Some(kept) = self.batches.pop_front() else {
                return;
            };
            self.bytes.set(self.bytes.get() - kept.bytes());
            self.after = kept.sequence;
            if self.gone.is_multiple_of(GROUP as u64) {
                self.forget_group(self.gone / GROUP as u64);
            }
            self.gone += 1;
        }
    }

    /// The first batch of a group is gone.
    fn forget_group(&self, group: u64) {
        self.together.borrow_mut().retain(|(of, _), part| {
            let stays = *of != group;
            if !stays {
                self.bytes.set(self.bytes.get() - part.bytes());
            }
            stays
        });
    }

    /// A table of the batch that was added last, unpacked; `None` when it was too large to be kept.
    pub fn newest(&self, table: usize) -> Option<Arc<HeadPart>> {
        self.batches.back().map(|kept| self.part(kept, table))
    }

    fn part(&self, kept: &Kept, table: usize) -> Arc<HeadPart> {
        let mut place = kept.tables[table].borrow_mut();
        let part = place.get_or_insert_with(|| {
            let part: HeadPart = kept.batch.table(table).read().into();
            self.bytes.set(self.bytes.get() + part.bytes());
            Arc::new(part)
        });
        part.clone()
    }

    /// Rows of the measurements that are watched, in the batches after one sequence up to that of a snapshot; `None` when some of these
    /// are not known any more.
    pub fn since(
        &self,
        after: u64,
        to: &Snapshot,
        watch: &mut Watch,
        catalog: &Catalog,
    ) -> Option<BatchScan> {
        if after < self.after {
            return None;
        }
        let first = self.batches.partition_point(|kept| kept.sequence <= after);
        let end = self
            .batches
            .partition_point(|kept| kept.sequence <= to.sequence());
        let mut scan = BatchScan::new(to.clone());
        let mut at = first;
        while at < end {
            let number = self.gone + at as u64;
            let is_group = number.is_multiple_of(GROUP as u64) && at + GROUP <= end;
            let batches = at..if is_group && self.is_shared() {
                at + GROUP
            } else {
                at + 1
            };
            at = batches.end;
            let mut tables: HashMap<MeasurementId, Vec<(&Kept, usize)>> = HashMap::new();
            for kept in self.batches.range(batches.clone()) {
                for (at, table) in kept.batch.tables().enumerate() {
                    let id = table.measurement();
                    if watch.watches(catalog, id) {
                        tables.entry(id).or_default().push((kept, at));
                    }
                }
            }
            for (id, tables) in tables {
                let parts = scan.parts.entry(id).or_default();
                if tables.len() > 1 && batches.len() == GROUP {
                    self.group(number / GROUP as u64, id, &tables, parts);
                } else {
                    parts.extend(tables.iter().map(|(kept, at)| self.part(kept, *at)));
                }
            }
        }
        Some(scan)
    }

    /// The rows of a measurement in the batches of a group.
    fn group(&self, group: u64, id: MeasurementId, tables: &[(&Kept, usize)], out: &mut Vec<Arc<HeadPart>>) {
        if let Some(part) = self.together.borrow().get(&(group, id)) {
            return out.push(part.clone());
        }
        let rows: usize = tables.iter().map(|(kept, at)| kept.batch.table(*at).len()).sum();
        let parts = tables.iter().map(|(kept, at)| self.part(kept, *at));
        if rows > GROUP_ROWS_MAX {
            return out.extend(parts);
        }
        let parts: Vec<Arc<HeadPart>> = parts.collect();
        let rows: Vec<&SortedRows> = parts.iter().map(|part| &***part).collect();
        let part = Arc::new(HeadPart::from(together(id, &rows)));
        self.bytes.set(self.bytes.get() + part.bytes());
        self.together.borrow_mut().insert((group, id), part.clone());
        // Hardly anybody will ask for one of them again.
        for (kept, at) in tables {
            if let Some(part) = kept.tables[*at].borrow_mut().take() {
                self.bytes.set(self.bytes.get() - part.bytes());
            }
        }
        out.push(part);
    }
}

/// Puts rows together: stretches of a series are copied whole where they are long, else all rows are sorted.
fn together(id: MeasurementId, inputs: &[&SortedRows]) -> SortedRows {
    let runs = |rows: &&SortedRows| rows.series.chunk_by(|a, b| a == b).count();
    let rows: usize = inputs.iter().map(|rows| rows.len()).sum();
    if rows >= RUN_ROWS_MIN * inputs.iter().map(runs).sum::<usize>() {
        merge_sorted(id, inputs)
    } else {
        concat_sorted(id, inputs)
    }
}

/// Some batches as all the data there is.
pub struct BatchScan {
    parts: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
    /// Says what has expired.
    snapshot: Snapshot,
}

impl BatchScan {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            parts: HashMap::new(),
            snapshot,
        }
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Scan for BatchScan {
    fn sources(&self, request: &ScanRequest) -> Result<Vec<Source>, ScanError> {
        let parts = self.parts.get(&request.measurement).into_iter().flatten();
        let parts = parts.filter(|part| request.time.overlaps(&part.time_range()));
        Ok(parts.map(|part| Source::Part(part.clone())).collect())
    }

    fn unexpired(&self, measurement: MeasurementId, time: TimeRange) -> TimeRange {
        self.snapshot.unexpired(measurement, time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;

    #[test]
    fn what_is_known_is_complete() {
        let batch = || Arc::new(EncodedBatch::encode(Batch::default()));
        let mut recent = Recent::new(64 << 20);
        recent.clear(10);
        for sequence in 11..=15 {
            recent.add(sequence, batch());
        }
        assert_eq!((recent.after, recent.batches.len()), (10, 5));
        (16..=15 + RECENT_BATCHES_MAX as u64).for_each(|sequence| recent.add(sequence, batch()));
        assert_eq!((recent.after, recent.batches.len()), (15, RECENT_BATCHES_MAX));
        let bytes: usize = recent.batches.iter().map(Kept::bytes).sum();
        assert_eq!(recent.bytes.get(), bytes);
        assert_eq!(recent.gone, 5);
        recent.clear(20);
        assert_eq!((recent.after, recent.bytes.get()), (20, 0));
    }

    #[test]
    fn long_stretches_and_short_ones_are_put_together_alike() {
        let rows = |series: u32, from: i64, len: i64| {
            let pairs = (0..series).flat_map(|s| (0..len).map(move |t| (s, from + t)));
            let (series, times): (Vec<u32>, Vec<i64>) = pairs.unzip();
            SortedRows::from_unsorted(1, series, times, Vec::new())
        };
        for len in [1, 20] {
            // Some of the rows of each are those of the one before again.
            let inputs: Vec<SortedRows> = (0..5).map(|i| rows(3, i * len - i, len)).collect();
            let inputs: Vec<&SortedRows> = inputs.iter().collect();
            assert!(together(1, &inputs) == concat_sorted(1, &inputs), "{len}");
        }
    }

    #[test]
    fn batches_put_together_hold_the_same_rows() {
        use crate::budget::{Budgets, Machine, Overrides};
        use crate::engine::{Committed, Engine, EngineOptions};
        use crate::ingest::Ingestor;
        use crate::lang::{Statement, parse_statement};
        use kymo_plugin_api::{Framing, Options};
        use std::time::Duration;

        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine {
            cores: 2,
            memory: 1 << 30,
        };
        let budgets = Budgets::new(&machine, &Overrides::default());
        let engine = Engine::open(folder.path(), EngineOptions::new(budgets, || 0)).expect("it opens");
        let catalog = engine.catalog().clone();
        catalog.create_database("d", None).expect("it can be made");
        let policy = catalog.database("d").and_then(|d| d.policy(None).map(|p| p.id));
        let formats = engine.formats();
        let format = formats.by_name("line-protocol").expect("it is built in");
        let commits = engine.subscribe_commits();
        let (mut apart, mut together) = (Recent::new(64 << 20), Recent::new(64 << 20));
        together.read_by(READERS_MIN);
        let mut sequences = Vec::new();
        for round in 0..5 * GROUP as i64 / 2 {
            let options = Options::new();
            let policy = policy.expect("the default one");
            let (limits, shards) = (engine.limits(), engine.shards());
            let mut rows = Ingestor::new(&catalog, limits, policy, "line-protocol", &options, 0, shards);
            // Series that come and go, fields that begin, points that replace others.
            let lines = format!(
                "m,host=h{} v={round},w{}=1i {}\nm,host=a v={round}.5 {round}\nother v=1 {round}\n",
                round % 7,
                round / 40,
                round / 2
            );
            let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
            decoder.decode(lines.as_bytes(), &mut rows);
            engine
                .commit(rows.finish().batch.expect("rows"))
                .expect("committed");
            while let Some(Committed::Batch(sequence, batch)) = commits.next(Duration::from_millis(1)) {
                apart.add(sequence, batch.clone());
                together.add(sequence, batch);
                sequences.push(sequence);
            }
        }
        let Ok(Statement::Select(select)) = parse_statement("SELECT v FROM m") else {
            panic!("a SELECT");
        };
        let mut watch = Watch::new(&select, "d").expect("no pattern");
        let snapshot = engine.snapshot();
        assert_eq!(sequences.last(), Some(&snapshot.sequence()), "all were heard of");
        for seen in [0, 1, 5, GROUP, GROUP + 1, 2 * GROUP + 3] {
            let after = seen.checked_sub(1).map_or(0, |at| sequences[at]);
            let mut rows = |recent: &Recent| {
                let scan = recent.since(after, &snapshot, &mut watch, &catalog);
                let (id, parts) = scan.expect("all is known").parts.into_iter().next().expect("m");
                let inputs: Vec<&SortedRows> = parts.iter().map(|part| &***part).collect();
                (merge_sorted(id, &inputs), parts.len())
            };
            let ((many, parts), (few, groups)) = (rows(&apart), rows(&together));
            assert!(many == few, "after {seen}");
            // Of a group that the client has seen in part each batch is read.
            assert_eq!(groups < parts, seen <= GROUP, "after {seen}: {groups}, {parts}");
        }
        let kept: usize = together.batches.iter().map(Kept::bytes).sum();
        let groups: usize = together.together.borrow().values().map(|part| part.bytes()).sum();
        assert_eq!(together.bytes.get(), kept + groups);
        engine.stop();
    }
}
