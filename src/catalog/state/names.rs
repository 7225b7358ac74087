//! The tables of names and ids behind the catalog's lock.

use super::policy::{Database, HIDDEN, Policy};
use crate::batch::{Command, DatabaseDefinition, Definitions, MeasurementDefinition, PolicyDefinition};
use crate::catalog::measurement::Measurement;
use crate::catalog::records::Records;
use crate::model::{DatabaseId, MeasurementId, PolicyId, SeriesId};
use crate::store::gone::Gone;
use crate::store::index::SeriesIndex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

#[derive(Default)]
pub(super) struct Names {
    /// What is sealed of series.
    pub(super) index: Arc<SeriesIndex>,
    /// About how many bytes series take that are not sealed.
    pub(super) delta_bytes: Arc<AtomicUsize>,
    pub(super) databases: BTreeMap<String, Arc<Database>>,
    pub(super) policies: HashMap<PolicyId, BTreeMap<String, Arc<Measurement>>>,
    pub(super) measurements: HashMap<MeasurementId, Arc<Measurement>>,
    pub(super) records: Records,
    pub(super) next_database: DatabaseId,
    pub(super) next_policy: PolicyId,
    pub(super) next_measurement: MeasurementId,
    /// What was dropped: a request that was on its way then does not define it again.
    pub(super) gone: Gone,
    /// Of measurements that nothing has defined yet: the first series that was not dropped.
    pub(super) first_series: HashMap<MeasurementId, SeriesId>,
    /// Not known to be in the journal.
    pub(super) new_databases: HashSet<DatabaseId>,
    pub(super) new_policies: HashSet<PolicyId>,
    /// In the journal, not in the store.
    pub(super) unsealed: Definitions,
    pub(super) unsealed_commands: Vec<Command>,
}

impl Names {
    pub(super) fn put_database(&mut self, definition: DatabaseDefinition) {
        self.next_database = self.next_database.max(definition.id + 1);
        let DatabaseDefinition { id, name } = definition;
        // A replay meets names again whose later owners the store may know already: they were written ahead of its watermark. The
        // older owner is dropped by what is replayed next, and stands under a key that no name can be until then.
        let is_taken = self.databases.get(&name).is_some_and(|known| known.id > id);
        self.databases.insert(
            if is_taken {
                format!("{name}\0{id}")
            } else {
                name.clone()
            },
            Arc::new(Database {
                id,
                name,
                policies: Vec::new(),
                hidden: Vec::new(),
            }),
        );
    }

    pub(super) fn put_policy(&mut self, definition: PolicyDefinition) {
        self.next_policy = self.next_policy.max(definition.id + 1);
        self.policies.entry(definition.id).or_default();
        let Some(database) = self
            .databases
            .values_mut()
            .find(|db| db.id == definition.database)
        else {
            return;
        };
        let database = Arc::make_mut(database);
        if definition.name.starts_with(HIDDEN) {
            database.hidden.push(Arc::new(definition));
            return;
        }
        // Likewise: what stood beside a later one is dropped, or made the default again, by what is replayed next.
        let is_older = database.policies.iter().any(|known| known.id > definition.id);
        if is_older {
            database.policies.push(Arc::new(PolicyDefinition {
                default: false,
                ..definition
            }));
            return;
        }
        if definition.default {
            for known in database.policies.iter_mut().filter(|known| known.default) {
                *known = Arc::new(Policy {
                    default: false,
                    ..known.as_ref().clone()
                });
            }
        }
        database.policies.push(Arc::new(definition));
    }

    pub(super) fn put_measurement(&mut self, definition: MeasurementDefinition) -> Arc<Measurement> {
        self.next_measurement = self.next_measurement.max(definition.id + 1);
        let (policy, name) = (definition.policy, definition.name.clone());
        let measurement = Arc::new(Measurement::new(
            definition,
            self.index.clone(),
            self.delta_bytes.clone(),
        ));
        if let Some(first) = self.first_series.remove(&measurement.id) {
            measurement.raise_next_series(first);
        }
        self.measurements.insert(measurement.id, measurement.clone());
        let names = self.policies.entry(policy).or_default();
        // As with databases; the older one is known by its id until it is dropped.
        if names.get(&name).is_none_or(|known| known.id < measurement.id) {
            names.insert(name, measurement.clone());
        }
        measurement
    }

    /// All that was dropped, if what is not sealed yet drops something.
    pub(super) fn unsealed_gone(&self) -> Option<Gone> {
        let drops = |command: &Command| {
            matches!(
                command,
                Command::DropDatabase(_) | Command::DropPolicy(_) | Command::DropMeasurement(_)
            )
        };
        self.unsealed_commands
            .iter()
            .any(drops)
            .then(|| self.gone.clone())
    }

    pub(super) fn drop_policy(&mut self, id: PolicyId) {
        self.gone.policies.insert(id);
        for measurement in self
            .policies
            .remove(&id)
            .into_iter()
            .flat_map(BTreeMap::into_values)
        {
            self.gone.measurements.insert(measurement.id);
            self.measurements.remove(&measurement.id);
        }
    }

    pub(super) fn drop_measurement(&mut self, id: MeasurementId) {
        self.gone.measurements.insert(id);
        self.first_series.remove(&id);
        if let Some(measurement) = self.measurements.remove(&id)
            && let Some(names) = self.policies.get_mut(&measurement.policy)
            && names.get(&measurement.name).is_some_and(|owner| owner.id == id)
        {
            names.remove(&measurement.name);
        }
    }
}
