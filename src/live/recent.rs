//! The last committed batches: for what is folded next, and for tails of clients that come back. They stay packed until somebody
//! reads them, and then only the fields that anybody names are unpacked.
//!
//! Where many computations read a measurement, its tables of all batches that came since they last did are put together once, series by
//! series: finding a computation's series in each of many tables costs more than folding them.

use super::fields::Fields;
use super::spare::Spare;
use super::watch::Watch;
use crate::batch::{EncodedBatch, TableView};
use crate::catalog::Catalog;
use crate::model::by_series::{Table, append_by_series, each_row};
use crate::model::{Column, FieldId, MeasurementId, SeriesRuns, SortedRows, TimeRange, merge_sorted};
use crate::query::scan::{Scan, ScanError, ScanRequest, Source};
use crate::query::snapshot::Snapshot;
use crate::shard::part::HeadPart;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Batches that are kept.
pub const RECENT_BATCHES_MAX: usize = 16_384;
/// Fewer tables are read one by one.
const TOGETHER_TABLES_MIN: usize = 3;

/// Which rows of a table are of which series, and the time of each row.
pub type Keys = (SeriesRuns, Vec<i64>);

/// A table of a batch that is here: the batch's number, and which of its tables.
pub type Place = (u64, usize);

/// See the module.
#[derive(Default)]
pub struct Recent {
    batches: VecDeque<Kept>,
    /// Where the tables of each measurement are, oldest first.
    tables: HashMap<MeasurementId, VecDeque<Place>>,
    packed_bytes: usize,
    unpacked_bytes: Cell<usize>,
    /// What was unpacked, for what will be.
    used: RefCell<Spare>,
    /// Tables that were unpacked in the middle of somebody's turn, at their cost alone.
    #[cfg(test)]
    pub alone: Cell<usize>,
    /// Bytes of batches that are kept while there are subscriptions, packed, unpacked and put together.
    bytes_max: usize,
    /// Every batch after this sequence is here.
    after: u64,
    /// Batches that went by before the first that is here.
    gone: u64,
    /// Others are not unpacked.
    fields: Fields,
    /// What is unpacked, by its first table: of a table alone, or of several of the measurement put together.
    unpacked: RefCell<BTreeMap<(MeasurementId, Place), Unpacked>>,
    /// The same, oldest first. Some may be gone already.
    order: RefCell<VecDeque<(MeasurementId, Place)>>,
}

/// Rows of a measurement.
struct Unpacked {
    part: Arc<HeadPart>,
    /// It holds all tables of the measurement up to this one; of a table alone `None`.
    until: Option<Place>,
}

/// A batch.
struct Kept {
    sequence: u64,
    batch: Arc<EncodedBatch>,
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
        self.needed() + self.used.borrow().bytes()
    }

    /// The same without what is only kept to be used again.
    fn needed(&self) -> usize {
        self.packed_bytes + self.unpacked_bytes.get()
    }

    /// To be called once a second or so: gives back what nobody seems to need again.
    pub fn look(&mut self) {
        self.used.get_mut().look();
    }

    /// Of these what is unpacked and put together: it can be made again.
    fn unpacked_bytes_max(&self) -> usize {
        self.bytes_max / 8 * 5
    }

    /// Begins anew: only what comes after `sequence` is known.
    pub fn clear(&mut self, sequence: u64) {
        self.batches.clear();
        self.tables.clear();
        self.packed_bytes = 0;
        self.forget_unpacked();
        self.after = sequence;
        self.gone = 0;
    }

    /// From now on these fields are wanted, and no others.
    pub fn want(&mut self, fields: Fields) {
        self.want_also(&fields);
        self.fields = fields;
    }

    /// From now on these fields are wanted, too.
    pub fn want_also(&mut self, fields: &Fields) {
        if !self.fields.cover(fields) {
            // What is unpacked lacks some.
            self.forget_unpacked();
            self.fields.add(fields);
        }
    }

    fn forget_unpacked(&mut self) {
        self.used.get_mut().clear();
        self.unpacked.borrow_mut().clear();
        self.order.borrow_mut().clear();
        self.unpacked_bytes.set(0);
    }

    /// A batch of so many bytes drives out none from this number on.
    pub fn stays_from(&self, bytes: usize) -> u64 {
        let mut held = self.needed() + bytes;
        let mut gone = 0;
        for kept in &self.batches {
            if held <= self.bytes_max && self.batches.len() - gone < RECENT_BATCHES_MAX {
                break;
            }
            held -= kept.batch.bytes().len();
            gone += 1;
        }
        self.gone + gone as u64
    }

    /// Adds the next batch: its number; `None` when it is too large to be kept.
    pub fn add(&mut self, sequence: u64, batch: Arc<EncodedBatch>) -> Option<u64> {
        let number = self.gone + self.batches.len() as u64;
        for table in batch.tables() {
            let tables = self.tables.entry(table.measurement()).or_default();
            tables.push_back((number, table.at()));
        }
        self.packed_bytes += batch.bytes().len();
        self.batches.push_back(Kept { sequence, batch });
        while self.bytes() > self.bytes_max && self.used.get_mut().give_back() {}
        while self.bytes() > self.bytes_max || self.batches.len() > RECENT_BATCHES_MAX {
            let Some(kept) = self.batches.pop_front() else {
                break;
            };
            self.packed_bytes -= kept.batch.bytes().len();
            self.after = kept.sequence;
            self.gone += 1;
            for table in kept.batch.tables() {
                self.forget(table.measurement(), (self.gone - 1, table.at()));
            }
        }
        (number >= self.gone).then_some(number)
    }

    /// A table is gone.
    fn forget(&mut self, id: MeasurementId, place: Place) {
        if let Some(tables) = self.tables.get_mut(&id) {
            tables.pop_front();
            if tables.is_empty() {
                self.tables.remove(&id);
            }
        }
        self.drop_unpacked(&(id, place));
    }

    fn drop_unpacked(&self, key: &(MeasurementId, Place)) {
        let unpacked = self.unpacked.borrow_mut().remove(key);
        self.retire(unpacked);
    }

    /// It is not needed any more; its memory is.
    fn retire(&self, unpacked: Option<Unpacked>) {
        let Some(Unpacked { part, .. }) = unpacked else {
            return;
        };
        self.unpacked_bytes.set(self.unpacked_bytes.get() - part.bytes());
        let room = self
            .unpacked_bytes_max()
            .saturating_sub(self.unpacked_bytes.get());
        self.used.borrow_mut().keep(part, room);
    }

    /// Series and times of tables that are here.
    pub fn keys(&self, tables: &[Place]) -> Vec<Keys> {
        tables.iter().map(|place| self.table(*place).runs()).collect()
    }

    /// Nothing in these tables lies outside.
    pub fn time_range(&self, tables: &[Place]) -> TimeRange {
        let nothing = TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        };
        let times = tables.iter().map(|place| self.table(*place).time_range());
        times.fold(nothing, |all, one| TimeRange {
            min: all.min.min(one.min),
            max: all.max.max(one.max),
        })
    }

    fn table(&self, (number, at): Place) -> TableView<'_> {
        self.batches[(number - self.gone) as usize].batch.table(at)
    }

    /// Tables of a measurement are about to be read. `keys` are [theirs](Self::keys).
    pub fn unpack(&self, catalog: &Catalog, id: MeasurementId, tables: &[Place], keys: Vec<Keys>) {
        let wanted = self.wanted(catalog, id);
        for (place, keys) in tables.iter().zip(keys) {
            let columns = self.table(*place).columns(&keys.0, &wanted);
            self.keep(id, *place, None, part(id, keys, columns));
        }
    }

    /// Tables of a measurement, all that came since this was called before, are about to be read by many. `keys` are [those](Self::keys) of the
    /// last of them.
    pub fn put_together(&self, catalog: &Catalog, id: MeasurementId, tables: &[Place], keys: Vec<Keys>) {
        let known = tables.len() - keys.len();
        let gone = tables.partition_point(|(number, _)| *number < self.gone);
        let (before, tables) = (&tables[gone.min(known)..known], &tables[gone..]);
        // Somebody may have had some of them unpacked.
        let unpacked = self.unpacked.borrow();
        let single = |place: &Place| match unpacked.get(&(id, *place)) {
            Some(Unpacked { part, until: None }) => Some(part.clone()),
            _ => None,
        };
        let singles: Vec<Option<Arc<HeadPart>>> = tables.iter().map(single).collect();
        drop(unpacked);
        let keys_of = |(single, place): (&Option<Arc<HeadPart>>, &Place)| match single {
            Some(part) => (part.runs().unwrap_or_default().to_vec(), part.times.clone()),
            None => self.table(*place).runs(),
        };
        let mut all: Vec<Keys> = singles.iter().zip(before).map(keys_of).collect();
        all.extend(keys.into_iter().skip(gone.saturating_sub(known)));
        let keys = all;
        let (Some(first), Some(last)) = (tables.first(), tables.last()) else {
            return;
        };
        if tables.len() < TOGETHER_TABLES_MIN {
            return self.unpack(catalog, id, tables, keys);
        }
        tables.iter().for_each(|place| self.drop_unpacked(&(id, *place)));
        self.order
            .borrow_mut()
            .retain(|(of, place)| *of != id || tables.binary_search(place).is_err());
        let wanted = self.wanted(catalog, id);
        let views = keys.iter().zip(tables).map(|((runs, times), place)| Table {
            runs,
            times,
            fields: self
                .table(*place)
                .fields()
                .filter(|(field, _)| wanted(*field))
                .collect(),
        });
        let read = |at: usize, field: FieldId| match &singles[at] {
            Some(part) => {
                let column = part.columns.iter().find(|(known, _)| *known == field);
                column.map(|(_, column)| column.clone())
            }
            None => self.table(tables[at]).column_of(&keys[at].0, field),
        };
        let count = keys.iter().map(|(_, times)| times.len()).sum();
        let used = self.used.borrow_mut().take(count);
        let together = match append_by_series(id, &views.collect::<Vec<_>>(), &read, used) {
            Some((rows, runs)) => HeadPart::of_series(rows, runs),
            None => {
                let unpacked = tables.iter().zip(keys).map(|(place, keys)| {
                    let columns = self.table(*place).columns(&keys.0, &wanted);
                    rows(id, keys, columns).0
                });
                let unpacked: Vec<SortedRows> = unpacked.collect();
                HeadPart::from(merge_sorted(id, &unpacked.iter().collect::<Vec<_>>()))
            }
        };
        self.keep(id, *first, Some(*last), together);
    }

    /// Which fields of a measurement are unpacked.
    fn wanted(&self, catalog: &Catalog, id: MeasurementId) -> impl Fn(FieldId) -> bool + use<> {
        // Of a measurement that is gone nothing is read.
        let ids = match catalog.measurement_by_id(id) {
            Some(measurement) => self.fields.ids(&measurement),
            None => Some(Vec::new()),
        };
        move |field| ids.as_ref().is_none_or(|ids| ids.contains(&field))
    }

    /// Nobody will ask again for what a measurement's rows were up to this sequence.
    pub fn spare(&self, id: MeasurementId, sequence: u64) {
        let gone = self.gone + self.batches.partition_point(|kept| kept.sequence <= sequence) as u64;
        let mut unpacked = self.unpacked.borrow_mut();
        let of_measurement = unpacked.range((id, (0, 0))..(id, (gone, 0)));
        let read = of_measurement.filter(|(_, one)| one.until.is_none_or(|until| until.0 < gone));
        let read: Vec<(MeasurementId, Place)> = read.map(|(key, _)| *key).collect();
        for key in &read {
            self.retire(unpacked.remove(key));
        }
        if !read.is_empty() {
            self.order.borrow_mut().retain(|key| !read.contains(key));
        }
    }

    fn keep(&self, id: MeasurementId, place: Place, until: Option<Place>, part: HeadPart) -> Arc<HeadPart> {
        let part = Arc::new(part);
        self.drop_unpacked(&(id, place));
        self.unpacked_bytes.set(self.unpacked_bytes.get() + part.bytes());
        let unpacked = Unpacked {
            part: part.clone(),
            until,
        };
        self.unpacked.borrow_mut().insert((id, place), unpacked);
        let mut order = self.order.borrow_mut();
        order.push_back((id, place));
        let mut used = self.used.borrow_mut();
        while self.unpacked_bytes.get() + used.bytes() > self.unpacked_bytes_max() && used.give_back() {}
        drop(used);
        // Who wants it again unpacks it again.
        while self.unpacked_bytes.get() > self.unpacked_bytes_max() || order.len() > 2 * RECENT_BATCHES_MAX {
            let Some(oldest) = order.pop_front() else {
                break;
            };
            self.drop_unpacked(&oldest);
        }
        part
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
        let number = |sequence: u64| self.batches.partition_point(|kept| kept.sequence <= sequence) as u64;
        let (begin, end) = (self.gone + number(after), self.gone + number(to.sequence()));
        let mut scan = BatchScan::new(to.clone());
        if begin == end {
            return Some(scan);
        }
        for (id, tables) in &self.tables {
            if !watch.watches(catalog, *id) {
                continue;
            }
            let first = tables.partition_point(|(number, _)| *number < begin);
            let mut parts = Vec::new();
            let mut known = None;
            for place in tables.range(first..) {
                if place.0 >= end {
                    break;
                }
                if known.is_some_and(|known| *place <= known) {
                    continue;
                }
                let unpacked = self.unpacked.borrow();
                match unpacked.get(&(*id, *place)) {
                    Some(Unpacked { part, until: None }) => parts.push(part.clone()),
                    Some(Unpacked {
                        part,
                        until: Some(until),
                    }) if until.0 < end => {
                        parts.push(part.clone());
                        known = Some(*until);
                    }
                    _ => {
                        drop(unpacked);
                        #[cfg(test)]
                        self.alone.set(self.alone.get() + 1);
                        let table = self.table(*place);
                        let keys = table.runs();
                        let columns = table.columns(&keys.0, self.wanted(catalog, *id));
                        parts.push(self.keep(*id, *place, None, part(*id, keys, columns)));
                    }
                }
            }
            if !parts.is_empty() {
                scan.parts.insert(*id, parts);
            }
        }
        Some(scan)
    }
}

fn rows(id: MeasurementId, (runs, times): Keys, columns: Vec<(FieldId, Column)>) -> (SortedRows, SeriesRuns) {
    let rows = SortedRows {
        measurement: id,
        series: each_row(&runs, times.len()),
        times,
        columns,
    };
    (rows, runs)
}

fn part(id: MeasurementId, keys: Keys, columns: Vec<(FieldId, Column)>) -> HeadPart {
    let (rows, runs) = rows(id, keys, columns);
    HeadPart::of_series(rows, runs)
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
        let mut recent = Recent::new(BYTES_MAX);
        recent.clear(10);
        for sequence in 11..=15 {
            recent.add(sequence, batch());
        }
        assert_eq!((recent.after, recent.batches.len()), (10, 5));
        assert_eq!(recent.stays_from(1), 0);
        for sequence in 16..=15 + RECENT_BATCHES_MAX as u64 {
            recent.add(sequence, batch());
        }
        assert_eq!((recent.after, recent.batches.len()), (15, RECENT_BATCHES_MAX));
        let bytes: usize = recent.batches.iter().map(|kept| kept.batch.bytes().len()).sum();
        assert_eq!(recent.packed_bytes, bytes);
        assert_eq!(recent.gone, 5);
        assert_eq!((recent.stays_from(1), recent.tables.is_empty()), (6, true));
        let all = 5 + RECENT_BATCHES_MAX as u64;
        assert_eq!(recent.stays_from(BYTES_MAX + 1), all);
        let room = BYTES_MAX - recent.packed_bytes;
        let one = recent.batches[0].batch.bytes().len();
        recent.batches.truncate(10);
        recent.packed_bytes = 10 * one;
        let room = room + bytes - 10 * one;
        assert_eq!((recent.stays_from(room), recent.stays_from(room + one)), (5, 6));
        recent.clear(20);
        assert_eq!((recent.after, recent.packed_bytes), (20, 0));
    }

    const BYTES_MAX: usize = 64 << 20;
    /// Batches that are put together.
    const GROUP: usize = 32;

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
        let (mut apart, mut together) = (Recent::new(BYTES_MAX), Recent::new(BYTES_MAX));
        together.want(Fields::All);
        apart.want(Fields::All);
        let mut sequences = Vec::new();
        let mut waiting: BTreeMap<MeasurementId, Vec<Place>> = BTreeMap::new();
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
                let number = together.add(sequence, batch.clone()).expect("it is small");
                for table in batch.tables() {
                    let waiting = waiting.entry(table.measurement()).or_default();
                    waiting.push((number, table.at()));
                }
                sequences.push(sequence);
            }
            if round % GROUP as i64 == GROUP as i64 - 1 {
                for (id, tables) in std::mem::take(&mut waiting) {
                    let keys = together.keys(&tables);
                    // Of some their keys are known already.
                    let known = keys.into_iter().skip(tables.len() / 3).collect();
                    together.put_together(&catalog, id, &tables, known);
                }
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
            // Of what was put together and was seen in part each batch is read.
            assert_eq!(groups < parts, seen <= GROUP, "after {seen}: {groups}, {parts}");
        }
        let counted = |recent: &Recent| -> usize {
            let unpacked = recent.unpacked.borrow();
            unpacked.values().map(|one| one.part.bytes()).sum()
        };
        assert_eq!(together.unpacked_bytes.get(), counted(&together));
        // What everybody has read is not held; what comes after it is.
        let id = catalog
            .measurement(policy.expect("the default one"), "m")
            .expect("m")
            .id;
        let held = |recent: &Recent| {
            recent
                .unpacked
                .borrow()
                .keys()
                .filter(|(of, _)| *of == id)
                .count()
        };
        assert!(held(&together) >= 2, "{}", held(&together));
        let before = held(&together);
        together.spare(id, sequences[GROUP - 2]);
        let first = (id, (0, 0));
        assert!(
            together.unpacked.borrow().contains_key(&first),
            "the first ones reach further"
        );
        together.spare(id, sequences[2 * GROUP + 5]);
        assert!(held(&together) < before);
        assert_eq!(together.unpacked_bytes.get(), counted(&together));
        let Ok(Statement::Select(one)) = parse_statement("SELECT other FROM m") else {
            panic!("a SELECT");
        };
        together.want(Fields::of(&one));
        together.forget_unpacked();
        let scan = together
            .since(0, &snapshot, &mut watch, &catalog)
            .expect("all is known");
        assert!(
            scan.parts[&id].iter().all(|part| part.columns.is_empty()),
            "nobody names the others"
        );
        together.want(Fields::All);
        let scan = together
            .since(0, &snapshot, &mut watch, &catalog)
            .expect("all is known");
        assert!(scan.parts[&id].iter().all(|part| !part.columns.is_empty()));
        engine.stop();
    }
}
