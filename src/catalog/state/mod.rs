//! The catalog itself: databases, policies and measurements by name and by id.

mod names;
mod policy;
#[cfg(test)]
mod tests;

pub use policy::{Database, HIDDEN, Policy, PolicySettings, shard_duration};

use super::measurement::Measurement;
use super::records::Records;
use super::spelling::SpellingCache;
use crate::batch::{Command, DatabaseDefinition, Definitions, EncodedBatch, MeasurementDefinition};
use crate::model::{MeasurementId, PolicyId, SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::gone::Gone;
use crate::store::index::{NewSeries, SeriesIndex};
use names::Names;
use policy::check_name;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Databases a server may have.
pub const DATABASES_MAX: usize = 10_000;
/// Measurements a retention policy may have.
pub const MEASUREMENTS_PER_POLICY_MAX: usize = 1_000_000;
/// The policy a new database has, as InfluxDB calls it.
pub const DEFAULT_POLICY: &str = "autogen";
/// InfluxDB's shard group duration for a policy that keeps data for ever, nanoseconds.
pub const DEFAULT_SHARD_DURATION: i64 = 7 * 24 * 3_600_000_000_000;

/// Why something could not be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The name cannot be used.
    #[error("invalid name")]
    InvalidName,
    /// See [`DATABASES_MAX`].
    #[error("too many databases (limit {DATABASES_MAX})")]
    TooManyDatabases,
    /// See [`MEASUREMENTS_PER_POLICY_MAX`].
    #[error("too many measurements in a retention policy (limit {MEASUREMENTS_PER_POLICY_MAX})")]
    TooManyMeasurements,
    /// A policy of that name exists with other settings.
    #[error("retention policy already exists")]
    PolicyExists,
    /// No such database.
    #[error("database not found: {0}")]
    NoDatabase(String),
}

/// See the module. Shared by everything.
#[derive(Default)]
pub struct Catalog {
    names: RwLock<Names>,
    spellings: SpellingCache,
}

/// What a seal takes over.
#[derive(Debug, Default)]
pub struct Unsealed {
    /// Names; series are not in here but beside.
    pub definitions: Definitions,
    /// Series.
    pub series: Vec<NewSeries>,
    /// Commands, in order.
    pub commands: Vec<Command>,
    /// All that was ever dropped, if the commands drop something.
    pub gone: Option<Gone>,
}

impl Catalog {
    /// No databases.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on measurements find what is sealed of their series in here. To be called first.
    pub fn use_index(&self, index: Arc<SeriesIndex>) {
        self.write().index = index;
    }

    /// About how many bytes series take that are not sealed.
    pub fn delta_bytes(&self) -> usize {
        self.read().delta_bytes.load(Ordering::Relaxed)
    }

    /// The cache from spellings to series.
    pub fn spellings(&self) -> &SpellingCache {
        &self.spellings
    }

    /// All databases, by name.
    pub fn databases(&self) -> Vec<Arc<Database>> {
        self.read().databases.values().cloned().collect()
    }

    /// The database with this name.
    pub fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.read().databases.get(name).cloned()
    }

    /// All measurements of a policy, by name.
    pub fn measurements(&self, policy: PolicyId) -> Vec<Arc<Measurement>> {
        self.read()
            .policies
            .get(&policy)
            .map(|names| names.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The measurement with this name.
    pub fn measurement(&self, policy: PolicyId, name: &str) -> Option<Arc<Measurement>> {
        self.read().policies.get(&policy)?.get(name).cloned()
    }

    /// The measurement with this id, unless it was dropped.
    pub fn measurement_by_id(&self, id: MeasurementId) -> Option<Arc<Measurement>> {
        self.read().measurements.get(&id).cloned()
    }

    /// Series that exist, over all measurements.
    pub fn series_count(&self) -> u64 {
        let all: Vec<Arc<Measurement>> = self.read().measurements.values().cloned().collect();
        all.iter().map(|m| m.live_count()).sum()
    }

    /// Looks at the records.
    pub fn with_records<R>(&self, look: impl FnOnce(&Records) -> R) -> R {
        look(&self.read().records)
    }

    /// Makes a database with its default policy, unless it exists. Returns what a batch must define to make it
    /// durable; nothing when it already is.
    ///
    /// # Errors
    /// The name is not usable, or there are too many.
    pub fn create_database(
        &self,
        name: &str,
        policy: Option<PolicySettings>,
    ) -> Result<Definitions, CatalogError> {
        check_name(name)?;
        if let Some(settings) = &policy {
            check_name(&settings.name)?;
        }
        let mut names = self.write();
        if names.databases.contains_key(name) {
            drop(names);
            if let Some(settings) = policy {
                self.create_policy(
                    name,
                    PolicySettings {
                        default: true,
                        ..settings
                    },
                )?;
            }
            return Ok(self.define_database(name));
        }
        if names.databases.len() >= DATABASES_MAX {
            return Err(CatalogError::TooManyDatabases);
        }
        let id = names.next_database;
        names.put_database(DatabaseDefinition {
            id,
            name: name.to_string(),
        });
        names.new_databases.insert(id);
        let settings = policy.unwrap_or_default();
        let definition = settings.definition(names.next_policy, id, true);
        names.new_policies.insert(definition.id);
        names.put_policy(definition);
        drop(names);
        Ok(self.define_database(name))
    }

    /// Adds a policy to a database. Returns what a batch must define to make it durable.
    ///
    /// # Errors
    /// No such database, an unusable name, or a policy of that name with other settings.
    pub fn create_policy(
        &self,
        database: &str,
        settings: PolicySettings,
    ) -> Result<Definitions, CatalogError> {
        check_name(&settings.name)?;
        let mut names = self.write();
        let found = names
            .databases
            .get(database)
            .cloned()
            .ok_or_else(|| CatalogError::NoDatabase(database.to_string()))?;
        match found.policy(Some(&settings.name)) {
            Some(policy) => {
                let same = settings.definition(policy.id, found.id, policy.default);
                if same != **policy || (settings.default && !policy.default) {
                    return Err(CatalogError::PolicyExists);
                }
            }
            None => {
                let definition = settings.definition(names.next_policy, found.id, settings.default);
                names.new_policies.insert(definition.id);
                names.put_policy(definition);
            }
        }
        drop(names);
        Ok(self.define_database(database))
    }

    /// The hidden policy of a database with this name, made when it is not there. Batches that use it define it by way of
    /// [`define_database`](Self::define_database).
    ///
    /// # Errors
    /// No such database.
    pub fn hidden_policy_or_create(
        &self,
        database: &str,
        name: &str,
        duration: i64,
    ) -> Result<Arc<Policy>, CatalogError> {
        let name = format!("{HIDDEN}{name}");
        let find = |database: &Database| database.all_policies().find(|p| p.name == name).cloned();
        let mut names = self.write();
        let found = names.databases.get(database).cloned();
        let found = found.ok_or_else(|| CatalogError::NoDatabase(database.to_string()))?;
        if let Some(policy) = find(&found) {
            return Ok(policy);
        }
        let settings = PolicySettings {
            name: name.clone(),
            duration,
            shard_duration: 0,
            replication: 1,
            default: false,
        };
        let definition = settings.definition(names.next_policy, found.id, false);
        names.new_policies.insert(definition.id);
        names.put_policy(definition.clone());
        Ok(Arc::new(definition))
    }

    /// What a batch must define so that a database and its policies are durable.
    pub fn define_database(&self, name: &str) -> Definitions {
        let names = self.read();
        let mut out = Definitions::default();
        if let Some(database) = names.databases.get(name) {
            if names.new_databases.contains(&database.id) {
                out.databases.push(DatabaseDefinition {
                    id: database.id,
                    name: database.name.clone(),
                });
            }
            let new = database
                .all_policies()
                .filter(|policy| names.new_policies.contains(&policy.id));
            out.policies.extend(new.map(|policy| policy.as_ref().clone()));
        }
        out
    }

    /// The measurement with this name, made when it is not there.
    ///
    /// # Errors
    /// There are too many.
    pub fn measurement_or_create(
        &self,
        policy: PolicyId,
        name: &str,
    ) -> Result<Arc<Measurement>, CatalogError> {
        if let Some(found) = self.measurement(policy, name) {
            return Ok(found);
        }
        let mut names = self.write();
        let known = names.policies.entry(policy).or_default();
        if let Some(found) = known.get(name) {
            return Ok(found.clone());
        }
        if known.len() >= MEASUREMENTS_PER_POLICY_MAX {
            return Err(CatalogError::TooManyMeasurements);
        }
        let id = names.next_measurement;
        Ok(names.put_measurement(MeasurementDefinition {
            id,
            policy,
            name: name.to_string(),
        }))
    }

    /// Takes over definitions from the journal (`sealed == false`) or from the store, which has no series among them.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn apply_definitions(&self, definitions: &Definitions, sealed: bool) -> Result<(), StoreError> {
        let mut names = self.write();
        for database in &definitions.databases {
            names.new_databases.remove(&database.id);
            if names.gone.has_database(database.id) {
                continue;
            }
            if !names.databases.values().any(|known| known.id == database.id) {
                names.put_database(database.clone());
            }
            if !sealed {
                names.unsealed.databases.push(database.clone());
            }
        }
        for policy in &definitions.policies {
            names.new_policies.remove(&policy.id);
            if names.gone.has_policy(policy.id, policy.database) {
                continue;
            }
            let known = names
                .databases
                .values()
                .any(|db| db.all_policies().any(|p| p.id == policy.id));
            // A later batch may define it once more as it was when its request was made, and it may have been altered since.
            if known {
                continue;
            }
            names.put_policy(policy.clone());
            if !sealed {
                names.unsealed.policies.push(policy.clone());
            }
        }
        for definition in &definitions.measurements {
            if names.gone.has_measurement(definition.id, definition.policy) {
                continue;
            }
            let measurement = match names.measurements.get(&definition.id) {
                Some(known) => known.clone(),
                None => names.put_measurement(definition.clone()),
            };
            measurement.apply_itself(sealed);
        }
        let measurements: HashMap<MeasurementId, Arc<Measurement>> = {
            let fields = definitions.fields.iter().map(|field| field.measurement);
            let mut wanted: Vec<MeasurementId> = fields
                .chain(definitions.series.iter().map(|s| s.measurement))
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            wanted
                .into_iter()
                .filter_map(|id| Some((id, names.measurements.get(&id)?.clone())))
                .collect()
        };
        drop(names);
        for field in &definitions.fields {
            if let Some(measurement) = measurements.get(&field.measurement) {
                measurement.apply_field(field, sealed);
            }
        }
        for series in &definitions.series {
            if let Some(measurement) = measurements.get(&series.measurement) {
                match SeriesKey::parse(&series.key) {
                    Some(key) => measurement.apply_series(series.id, &key)?,
                    None => tracing::error!(key = series.key, "a stored series key cannot be read"),
                }
            }
        }
        Ok(())
    }

    /// A batch is durable: what it defines need not be sent again, and its commands take effect.
    pub fn commit(&self, batch: &EncodedBatch) {
        if batch.has_definitions() {
            let mut series: BTreeMap<MeasurementId, Vec<SeriesId>> = BTreeMap::new();
            for (measurement, id) in batch.defined_series() {
                series.entry(measurement).or_default().push(id);
            }
            self.commit_definitions(&batch.defined_names(), series);
        }
        for command in batch.commands() {
            self.apply_command(&command);
            self.write().unsealed_commands.push(command);
        }
    }

    fn commit_definitions(&self, definitions: &Definitions, series: BTreeMap<MeasurementId, Vec<SeriesId>>) {
        {
            let mut names = self.write();
            for database in &definitions.databases {
                if names.new_databases.remove(&database.id) && !names.gone.has_database(database.id) {
                    names.unsealed.databases.push(database.clone());
                }
            }
            for policy in &definitions.policies {
                let is_gone = names.gone.has_policy(policy.id, policy.database);
                if names.new_policies.remove(&policy.id) && !is_gone {
                    names.unsealed.policies.push(policy.clone());
                }
            }
        }
        self.by_measurement(definitions, series, |measurement, itself, fields, series| {
            measurement.commit(itself, fields, series);
        });
    }

    fn by_measurement(
        &self,
        d: &Definitions,
        series: BTreeMap<MeasurementId, Vec<SeriesId>>,
        act: impl Fn(&Measurement, bool, &[u16], &[SeriesId]),
    ) {
        type Ids = (bool, Vec<u16>, Vec<SeriesId>);
        let of_series = series
            .into_iter()
            .map(|(id, series)| (id, (false, Vec::new(), series)));
        let mut found: BTreeMap<MeasurementId, Ids> = of_series.collect();
        d.measurements
            .iter()
            .for_each(|m| found.entry(m.id).or_default().0 = true);
        d.fields
            .iter()
            .for_each(|f| found.entry(f.measurement).or_default().1.push(f.id));
        for (id, (itself, fields, series)) in found {
            if let Some(measurement) = self.measurement_by_id(id) {
                act(&measurement, itself, &fields, &series);
            }
        }
    }

    /// Carries out a command from a committed batch or from the store.
    pub fn apply_command(&self, command: &Command) {
        let mut names = self.write();
        // What is dropped may have been named by a batch that was refused. Its number is not given out again all the same: what the store
        // keeps of the drop would fall on others.
        match command {
            Command::DropDatabase(id) => names.next_database = names.next_database.max(id.saturating_add(1)),
            Command::DropPolicy(id) => names.next_policy = names.next_policy.max(id.saturating_add(1)),
            Command::DropMeasurement(measurement)
            | Command::DropSeries { measurement, .. }
            | Command::Delete { measurement, .. } => {
                names.next_measurement = names.next_measurement.max(measurement.saturating_add(1));
            }
            Command::AlterPolicy(_) | Command::PutRecord { .. } | Command::RemoveRecord { .. } => {}
        }
        match command {
            Command::DropDatabase(id) => {
                names.gone.databases.insert(*id);
                let found = names
                    .databases
                    .values()
                    .find(|database| database.id == *id)
                    .cloned();
                if let Some(database) = found {
                    names.databases.retain(|_, known| known.id != *id);
                    database
                        .all_policies()
                        .for_each(|policy| names.drop_policy(policy.id));
                }
            }
            Command::DropPolicy(id) => {
                names.drop_policy(*id);
                for database in names.databases.values_mut() {
                    if database.all_policies().any(|policy| policy.id == *id) {
                        let database = Arc::make_mut(database);
                        database.policies.retain(|policy| policy.id != *id);
                        database.hidden.retain(|policy| policy.id != *id);
                    }
                }
            }
            Command::AlterPolicy(policy) => {
                for database in names.databases.values_mut() {
                    if database.id != policy.database {
                        continue;
                    }
                    let Database { policies, hidden, .. } = Arc::make_mut(database);
                    for known in policies.iter_mut().chain(hidden) {
                        if known.id == policy.id {
                            *known = Arc::new(policy.clone());
                        } else if policy.default && known.default {
                            *known = Arc::new(Policy {
                                default: false,
                                ..known.as_ref().clone()
                            });
                        }
                    }
                }
            }
            Command::DropMeasurement(id) => {
                names.drop_measurement(*id);
            }
            Command::DropSeries { measurement, series } => {
                let known = names.measurements.get(measurement).cloned();
                match (known, series.iter().max()) {
                    (Some(known), _) => known.drop_series(series),
                    // The measurement, too, was first named by a batch that was refused; a later one defines it.
                    (None, Some(_)) if names.gone.measurements.contains(*measurement) => {}
                    (None, Some(last)) => {
                        let first = names.first_series.entry(*measurement).or_default();
                        *first = (*first).max(last.saturating_add(1));
                    }
                    (None, None) => {}
                }
            }
            Command::Delete { .. } => {}
            Command::PutRecord { kind, name, value } => names.records.put(kind, name, value),
            Command::RemoveRecord { kind, name } => {
                names.records.remove(kind, name);
            }
        }
        drop(names);
        let drops = !matches!(
            command,
            Command::PutRecord { .. } | Command::RemoveRecord { .. } | Command::Delete { .. }
        );
        if drops {
            self.spellings.clear();
        }
    }

    /// Takes what is committed and not sealed, for a seal to put it into the store. Commands of measurements and policies
    /// that are gone stay: the store must forget them too.
    pub fn take_unsealed(&self) -> Unsealed {
        let (mut unsealed, measurements) = {
            let mut names = self.write();
            let measurements: Vec<_> = names.measurements.values().cloned().collect();
            let unsealed = Unsealed {
                definitions: std::mem::take(&mut names.unsealed),
                gone: names.unsealed_gone(),
                commands: std::mem::take(&mut names.unsealed_commands),
                series: Vec::new(),
            };
            (unsealed, measurements)
        };
        measurements.iter().for_each(|m| m.take_unsealed(&mut unsealed));
        unsealed
    }

    /// The seal is durable: series need not be in memory any more.
    pub fn sealed(&self, unsealed: &Unsealed) {
        for series in &unsealed.series {
            if let Some(measurement) = self.measurement_by_id(series.measurement) {
                measurement.sealed(&series.ids);
            }
        }
    }

    /// The next database, policy and measurement id. Kept by the store, so that the ids of what was dropped are never given
    /// out again.
    pub fn next_ids(&self) -> [u32; 3] {
        let names = self.read();
        [names.next_database, names.next_policy, names.next_measurement]
    }

    /// The store says what was dropped before.
    pub fn never_define(&self, gone: &Gone) {
        self.write().gone.add(gone);
    }

    /// Ids below these are taken.
    pub fn raise_next_ids(&self, [database, policy, measurement]: [u32; 3]) {
        let mut names = self.write();
        names.next_database = names.next_database.max(database);
        names.next_policy = names.next_policy.max(policy);
        names.next_measurement = names.next_measurement.max(measurement);
    }

    /// Puts back what [`take_unsealed`](Self::take_unsealed) gave: the seal failed.
    pub fn restore_unsealed(&self, unsealed: Unsealed) {
        self.by_measurement(
            &unsealed.definitions,
            BTreeMap::new(),
            |measurement, itself, fields, _| {
                measurement.unseal(itself, fields, &RoaringBitmap::new());
            },
        );
        for series in &unsealed.series {
            if let Some(measurement) = self.measurement_by_id(series.measurement) {
                measurement.unseal(false, &[], &series.ids);
            }
        }
        let mut names = self.write();
        names.unsealed.databases.extend(unsealed.definitions.databases);
        names.unsealed.policies.extend(unsealed.definitions.policies);
        let newer = std::mem::replace(&mut names.unsealed_commands, unsealed.commands);
        names.unsealed_commands.extend(newer);
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}
