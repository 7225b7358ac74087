//! A database, its retention policies, and what may be chosen of them.

use super::{CatalogError, DEFAULT_POLICY, DEFAULT_SHARD_DURATION};
use crate::batch::PolicyDefinition;
use crate::model::{DatabaseId, PolicyId};
use std::sync::Arc;

/// A database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its id.
    pub id: DatabaseId,
    /// Its name.
    pub name: String,
    /// Its policies, in order of creation.
    pub policies: Vec<Arc<Policy>>,
    /// Policies that no statement and no writer can name: what Kymo keeps for itself beside the data (states of rollups).
    pub hidden: Vec<Arc<Policy>>,
}

/// A retention policy.
pub type Policy = PolicyDefinition;

impl Database {
    /// The policy with this name, or the default one.
    pub fn policy(&self, name: Option<&str>) -> Option<&Arc<Policy>> {
        match name {
            Some(name) => self.policies.iter().find(|policy| policy.name == name),
            None => self.policies.iter().find(|policy| policy.default),
        }
    }

    /// The hidden policy with this name.
    pub fn hidden_policy(&self, name: &str) -> Option<&Arc<Policy>> {
        let is = |policy: &&Arc<Policy>| policy.name.strip_prefix(HIDDEN) == Some(name);
        self.hidden.iter().find(is)
    }

    /// Its policies and the hidden ones.
    pub fn all_policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.iter().chain(&self.hidden)
    }
}

/// Names of hidden policies begin with it; no other name has control characters.
pub const HIDDEN: char = '\u{1}';

/// What a user chooses of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// Its name.
    pub name: String,
    /// Nanoseconds; 0 = for ever.
    pub duration: i64,
    /// Nanoseconds; 0 = InfluxDB's choice for the duration.
    pub shard_duration: i64,
    /// Kept and shown.
    pub replication: u32,
    /// Make it the default.
    pub default: bool,
}

impl Default for PolicySettings {
    fn default() -> Self {
        let name = DEFAULT_POLICY.to_string();
        Self {
            name,
            duration: 0,
            shard_duration: DEFAULT_SHARD_DURATION,
            replication: 1,
            default: true,
        }
    }
}

impl PolicySettings {
    pub(super) fn definition(&self, id: PolicyId, database: DatabaseId, default: bool) -> PolicyDefinition {
        PolicyDefinition {
            id,
            database,
            name: self.name.clone(),
            duration: self.duration,
            shard_duration: shard_duration(self.shard_duration, self.duration),
            replication: self.replication,
            default,
        }
    }
}

/// InfluxDB's shard group duration when none is given, by the policy's duration.
pub fn shard_duration(given: i64, duration: i64) -> i64 {
    const HOUR: i64 = 3_600_000_000_000;
    const DAY: i64 = 24 * HOUR;
    match (given, duration) {
        (0, 0) => 7 * DAY,
        (0, d) if d < 2 * DAY => HOUR,
        (0, d) if d < 180 * DAY => DAY,
        (0, _) => 7 * DAY,
        // InfluxDB's floor.
        (given, _) => given.max(HOUR),
    }
}

/// Names of databases and policies become parts of paths in InfluxDB; what it refuses is refused here too.
pub(super) fn check_name(name: &str) -> Result<(), CatalogError> {
    let usable = !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\'])
        && name.chars().all(|c| !c.is_control());
    if usable {
        Ok(())
    } else {
        Err(CatalogError::InvalidName)
    }
}
