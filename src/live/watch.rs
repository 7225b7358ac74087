//! Which measurements a SELECT reads, so that a committed batch can be asked whether it matters.

use super::fields::Fields;
use crate::catalog::Catalog;
use crate::lang::{MeasurementName, SelectStatement};
use crate::model::MeasurementId;
use regex::Regex;
use std::collections::HashMap;

/// Measurements that are asked about are remembered, so many at most.
const KNOWN_MAX: usize = 100_000;

/// The sources of a SELECT.
pub struct Watch {
    database: String,
    sources: Vec<Source>,
    /// Measurements that are, or are not, among the sources.
    known: HashMap<MeasurementId, bool>,
    fields: Fields,
}

/// A measurement, or several by pattern, in a policy (the default one when not named).
struct Source {
    database: Option<String>,
    policy: Option<String>,
    name: Name,
}

enum Name {
    Exactly(String),
    Matching(Regex),
}

impl Watch {
    /// Of a statement whose sources are in `database` where they name none.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(statement: &SelectStatement, database: &str) -> Result<Self, String> {
        let mut sources = Vec::new();
        let mut failed = None;
        statement.visit_measurements(&mut |m| {
            let name = match &m.name {
                MeasurementName::Name(name) => Name::Exactly(name.clone()),
                MeasurementName::Regex(pattern) => match pattern.compile() {
                    Ok(regex) => Name::Matching(regex),
                    Err(error) => {
                        failed = Some(error.to_string());
                        return;
                    }
                },
            };
            sources.push(Source {
                database: m.database.clone(),
                policy: m.retention_policy.clone(),
                name,
            });
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Self {
                database: database.to_string(),
                sources,
                known: HashMap::new(),
                fields: Fields::of(statement),
            }),
        }
    }

    /// Which fields are read.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Names may mean something else from now on.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// The measurements that are read, those that there are; `None` where that is by pattern.
    pub fn all(&self, catalog: &Catalog) -> Option<Vec<MeasurementId>> {
        let mut all = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let Name::Exactly(name) = &source.name else {
                return None;
            };
            let database = catalog.database(source.database.as_deref().unwrap_or(&self.database))?;
            let policy = database.policy(source.policy.as_deref())?.id;
            all.extend(
                catalog
                    .measurement(policy, name)
                    .map(|measurement| measurement.id),
            );
        }
        Some(all)
    }

    /// Is this measurement read?
    pub fn watches(&mut self, catalog: &Catalog, id: MeasurementId) -> bool {
        if let Some(&watched) = self.known.get(&id) {
            return watched;
        }
        let watched = self.look_up(catalog, id);
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(id, watched);
        watched
    }

    fn look_up(&self, catalog: &Catalog, id: MeasurementId) -> bool {
        let Some(measurement) = catalog.measurement_by_id(id) else {
            return false;
        };
        self.sources.iter().any(|source| {
            let named = match &source.name {
                Name::Exactly(name) => *name == measurement.name,
                Name::Matching(regex) => regex.is_match(&measurement.name),
            };
            let database = source.database.as_deref().unwrap_or(&self.database);
            let policy = || {
                let database = catalog.database(database)?;
                database.policy(source.policy.as_deref()).map(|p| p.id)
            };
            named && policy() == Some(measurement.policy)
        })
    }
}
