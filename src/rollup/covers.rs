//! The covers of all rollups: noted as batches are committed, asked by queries, written with each seal.

use super::cover::Cover;
use super::{BUILT, COVER, Definition, KIND, MEASUREMENTS_MAX};
use crate::batch::{Command, EncodedBatch, TableView};
use crate::catalog::{Catalog, Measurement};
use crate::model::{MeasurementId, TimeRange};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Rows of a batch are looked at one by one where they lie in more intervals than this.
const SPAN_MAX: i64 = 2;

/// See the module. Shared.
#[derive(Debug, Default)]
pub struct Rollups {
    some: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// With each the first id of measurements that were made after it was: those without a cover have no points but noted ones.
    definitions: BTreeMap<String, (Arc<Definition>, MeasurementId)>,
    covers: HashMap<MeasurementId, Vec<Entry>>,
    /// Measurements without a rollup.
    without: HashSet<MeasurementId>,
    /// The records in the store: their texts.
    kept: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    definition: Arc<Definition>,
    every: i64,
    cover: Cover,
}

/// Clean intervals of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct Clean {
    /// Whose.
    pub definition: Arc<Definition>,
    /// Their length.
    pub every: i64,
    /// [from, to), ascending, apart.
    pub ranges: Vec<(i64, i64)>,
}

/// Intervals to make states of.
#[derive(Clone, Debug, PartialEq)]
pub struct Due {
    /// For which rollup.
    pub definition: Arc<Definition>,
    /// Their length.
    pub every: i64,
    /// Of which measurement.
    pub source: MeasurementId,
    /// The first of them begins here, unless it is the beginning of time.
    pub from: i64,
    /// The last of them ends here.
    pub to: i64,
}

/// How far a rollup is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Which.
    pub definition: Arc<Definition>,
    /// For each measurement and length: what waits.
    pub waiting: Vec<(MeasurementId, i64, Vec<(i64, i64)>)>,
}

/// States were made: what [`BUILT`] records say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Length of the intervals.
    pub every: i64,
    /// Of which measurement.
    pub source: MeasurementId,
    /// Where the states are.
    pub states: MeasurementId,
    /// Of the intervals from here ..
    pub from: i64,
    /// .. to here.
    pub to: i64,
    /// Of what was committed up to here.
    pub as_of: u64,
}

impl Built {
    /// The command that says so.
    pub fn command(&self, definition: &Definition) -> Command {
        Command::PutRecord {
            kind: BUILT.to_string(),
            name: definition.key(),
            value: serde_json::to_string(self).expect("numbers serialise"),
        }
    }
}

impl Rollups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store knows; before anything of the journal is replayed.
    pub fn load(&self, catalog: &Catalog, sequence: u64) {
        let (definitions, kept) = catalog.with_records(|kept| {
            let definitions = kept
                .of_kind(KIND)
                .filter_map(|(_, text)| Definition::of_text(text));
            let definitions: Vec<Definition> = definitions.collect();
            let covers = kept.of_kind(COVER).map(|(n, v)| (n.to_string(), v.to_string()));
            (definitions, covers.collect::<BTreeMap<String, String>>())
        });
        let mut state = self.state();
        for definition in definitions {
            state.define(definition, &kept, catalog, sequence);
        }
        state.kept = kept;
        self.some.store(!state.definitions.is_empty(), Ordering::Release);
    }

    /// A batch is about to become visible. To be called in the order of sequences, behind the catalog.
    pub fn note(&self, sequence: u64, batch: &EncodedBatch, commands: &[Command], catalog: &Catalog) {
        let creates = |command: &Command| matches!(command, Command::PutRecord { kind, .. } if kind == KIND);
        if !self.some.load(Ordering::Acquire) && !commands.iter().any(creates) {
            return;
        }
        let mut state = self.state();
        let now = Instant::now();
        for table in batch.tables() {
            state.touch_table(&table, sequence, catalog, now);
        }
        for command in commands {
            state.command(command, sequence, catalog, now);
        }
        self.some.store(!state.definitions.is_empty(), Ordering::Release);
    }

    /// Records of what waits as of a sequence, where they are others than those that the store has.
    pub fn records(&self, sequence: u64) -> Vec<Command> {
        let mut state = self.state();
        let mut found = BTreeMap::new();
        for (source, entries) in &state.covers {
            for entry in entries {
                let name = cover_name(&entry.definition, entry.every, *source);
                found.insert(name, entry.cover.to_text(sequence));
            }
        }
        let kind = || COVER.to_string();
        let gone = state.kept.keys().filter(|name| !found.contains_key(*name));
        let mut commands: Vec<Command> = gone
            .map(|name| Command::RemoveRecord {
                kind: kind(),
                name: name.clone(),
            })
            .collect();
        let new = found
            .iter()
            .filter(|(name, text)| state.kept.get(*name) != Some(text));
        commands.extend(new.map(|(name, value)| Command::PutRecord {
            kind: kind(),
            name: name.clone(),
            value: value.clone(),
        }));
        state.kept = found;
        commands
    }

    /// Clean intervals of a measurement within [from, to), for a snapshot that sees everything up to a sequence; the longest intervals first.
    pub fn clean(&self, source: MeasurementId, from: i64, to: i64, sequence: u64) -> Vec<Clean> {
        if !self.some.load(Ordering::Acquire) {
            return Vec::new();
        }
        let state = self.state();
        let entries = state.covers.get(&source).into_iter().flatten();
        let mut all: Vec<Clean> = entries
            .map(|entry| Clean {
                definition: entry.definition.clone(),
                every: entry.every,
                ranges: entry.cover.clean(from, to, sequence),
            })
            .filter(|clean| !clean.ranges.is_empty())
            .collect();
        all.sort_by_key(|clean| std::cmp::Reverse(clean.every));
        all
    }

    /// The longest intervals that there are of a measurement.
    pub fn longest(&self, source: MeasurementId) -> Option<i64> {
        let state = self.state();
        let entries = state.covers.get(&source)?;
        entries.iter().map(|entry| entry.every).max()
    }

    /// What can be made: one stretch of each measurement and length, its latest.
    pub fn due(&self, before: i64, settle: Duration, patience: Duration) -> Vec<Due> {
        let state = self.state();
        let now = Instant::now();
        let mut all = Vec::new();
        for (source, entries) in &state.covers {
            for entry in entries {
                if let Some((from, to)) = entry.cover.due(before, now, settle, patience) {
                    all.push(Due {
                        definition: entry.definition.clone(),
                        every: entry.every,
                        source: *source,
                        from,
                        to,
                    });
                }
            }
        }
        all.sort_by_key(|due| (due.source, due.every));
        all
    }

    /// Are there any?
    pub fn is_empty(&self) -> bool {
        !self.some.load(Ordering::Acquire)
    }

    /// All of them.
    pub fn definitions(&self) -> Vec<Arc<Definition>> {
        let state = self.state();
        state
            .definitions
            .values()
            .map(|(definition, _)| definition.clone())
            .collect()
    }

    /// How far all are, by database and name.
    pub fn statuses(&self) -> Vec<Status> {
        let state = self.state();
        let mut all: BTreeMap<&str, Status> = BTreeMap::new();
        for (key, (definition, _)) in &state.definitions {
            all.insert(
                key,
                Status {
                    definition: definition.clone(),
                    waiting: Vec::new(),
                },
            );
        }
        for (source, entries) in &state.covers {
            for entry in entries {
                if let Some(status) = all.get_mut(entry.definition.key().as_str()) {
                    status.waiting.push((*source, entry.every, entry.cover.waiting()));
                }
            }
        }
        all.into_values().collect()
    }
}

/// The name of the record of a cover.
fn cover_name(definition: &Definition, every: i64, source: MeasurementId) -> String {
    format!("{}/{every}/{source}", definition.key())
}

/// The database whose visible policy a measurement is in.
fn database_of(catalog: &Catalog, measurement: &Measurement) -> Option<String> {
    let mut all = catalog.databases().into_iter();
    let has = |d: &Arc<crate::catalog::Database>| d.policies.iter().any(|p| p.id == measurement.policy);
    all.find(has).map(|database| database.name.clone())
}

impl State {
    /// `kept`: what the store says of its covers; nothing for a new one.
    fn define(
        &mut self,
        definition: Definition,
        kept: &BTreeMap<String, String>,
        catalog: &Catalog,
        sequence: u64,
    ) {
        let now = Instant::now();
        let definition = Arc::new(definition);
        self.undefine(&definition.key());
        self.without.clear();
        let [_, _, next] = catalog.next_ids();
        self.definitions
            .insert(definition.key(), (definition.clone(), next));
        let Some(database) = catalog.database(&definition.statement.database) else {
            return;
        };
        let measurements = database.policies.iter().flat_map(|p| catalog.measurements(p.id));
        let wanted = measurements.filter(|m| definition.has(&m.name));
        for measurement in wanted.take(MEASUREMENTS_MAX) {
            for &every in &definition.statement.every {
                // What the store says waits; what it says nothing of may have any points.
                let kept = kept.get(&cover_name(&definition, every, measurement.id));
                let text = kept.map_or("", String::as_str);
                let cover = Cover::of_text(every, text, sequence, now);
                let entries = self.covers.entry(measurement.id).or_default();
                entries.push(Entry {
                    definition: definition.clone(),
                    every,
                    cover,
                });
            }
        }
    }

    fn undefine(&mut self, key: &str) {
        self.definitions.remove(key);
        self.covers.retain(|_, entries| {
            entries.retain(|entry| entry.definition.key() != key);
            !entries.is_empty()
        });
    }

    /// A measurement that was not there when its rollups were made has no other points than those that are noted.
    fn meet(&mut self, id: MeasurementId, sequence: u64, catalog: &Catalog, now: Instant) {
        if self.covers.contains_key(&id) || self.without.contains(&id) {
            return;
        }
        let Some(measurement) = catalog.measurement_by_id(id) else {
            return;
        };
        let database = database_of(catalog, &measurement);
        let mut entries = Vec::new();
        for (definition, next) in self.definitions.values() {
            let statement = &definition.statement;
            if Some(&statement.database) != database.as_ref() || !definition.has(&measurement.name) {
                continue;
            }
            let of_it =
                |entries: &&Vec<Entry>| entries.iter().any(|e| Arc::ptr_eq(&e.definition, definition));
            if self.covers.values().filter(of_it).count() >= MEASUREMENTS_MAX {
                continue;
            }
            entries.extend(statement.every.iter().map(|&every| {
                let mut cover = Cover::new(every);
                if id < *next {
                    cover.touch(i64::MIN, i64::MAX, sequence, now);
                }
                Entry {
                    definition: definition.clone(),
                    every,
                    cover,
                }
            }));
        }
        if entries.is_empty() {
            self.without.insert(id);
        } else {
            self.covers.insert(id, entries);
        }
    }

    fn touch_table(&mut self, table: &TableView<'_>, sequence: u64, catalog: &Catalog, now: Instant) {
        let id = table.measurement();
        self.meet(id, sequence, catalog, now);
        let Some(entries) = self.covers.get_mut(&id) else {
            return;
        };
        let range = table.time_range();
        let mut times: Option<Vec<i64>> = None;
        for entry in entries {
            let cover = &mut entry.cover;
            if range.max.saturating_sub(range.min) <= entry.every.saturating_mul(SPAN_MAX) {
                cover.touch(range.min, range.max, sequence, now);
                continue;
            }
            let times = times.get_or_insert_with(|| {
                let mut times = table.times();
                times.sort_unstable();
                times
            });
            let mut stretch: Option<TimeRange> = None;
            for &time in times.iter() {
                match &mut stretch {
                    Some(known) if time < cover.end(known.max).saturating_add(entry.every) => {
                        known.max = time
                    }
                    _ => {
                        if let Some(known) = stretch {
                            cover.touch(known.min, known.max, sequence, now);
                        }
                        stretch = Some(TimeRange { min: time, max: time });
                    }
                }
            }
            if let Some(known) = stretch {
                cover.touch(known.min, known.max, sequence, now);
            }
        }
    }

    fn touch(&mut self, id: MeasurementId, time: TimeRange, sequence: u64, now: Instant) {
        for entry in self.covers.get_mut(&id).into_iter().flatten() {
            entry.cover.touch(time.min, time.max, sequence, now);
        }
    }

    fn command(&mut self, command: &Command, sequence: u64, catalog: &Catalog, now: Instant) {
        match command {
            Command::PutRecord { kind, value, .. } if kind == KIND => {
                if let Some(definition) = Definition::of_text(value) {
                    self.define(definition, &BTreeMap::new(), catalog, sequence);
                }
            }
            Command::PutRecord { kind, name, value } if kind == BUILT => {
                if let Ok(built) = serde_json::from_str::<Built>(value) {
                    self.built(name, &built, sequence, catalog);
                }
            }
            Command::RemoveRecord { kind, name } if kind == KIND => self.undefine(name),
            Command::Delete {
                measurement, time, ..
            } => self.touch(*measurement, *time, sequence, now),
            Command::DropDatabase(_) | Command::DropPolicy(_) | Command::DropMeasurement(_) => {
                let there = |id: &MeasurementId| {
                    let found = catalog.measurement_by_id(*id);
                    found.is_some_and(|m| database_of(catalog, &m).is_some())
                };
                self.covers.retain(|id, _| there(id));
                self.without.clear();
            }
            // Ids of series are never used again: the states of those that were dropped are read by nobody.
            Command::DropSeries { .. }
            | Command::AlterPolicy(_)
            | Command::PutRecord { .. }
            | Command::RemoveRecord { .. } => {}
        }
    }

    fn built(&mut self, key: &str, built: &Built, sequence: u64, catalog: &Catalog) {
        let entries = self.covers.get_mut(&built.source).into_iter().flatten();
        for entry in entries {
            if entry.every != built.every || entry.definition.key() != key {
                continue;
            }
            // Made for a rollup of this name that was dropped since: then its states are gone, too.
            let source = catalog.measurement_by_id(built.source);
            let states = source.and_then(|source| entry.definition.states(catalog, &source, built.every));
            if states.is_some_and(|states| states.id == built.states) {
                entry.cover.built(built.from, built.to, built.as_of, sequence);
            }
        }
    }
}
