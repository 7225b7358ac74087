//! What databases and policies demand of the points that are written to them; kept as records.

use super::state::{Catalog, Database};
use crate::model::PolicyId;

/// Kind of the records with the limits of a policy, by its id: nanoseconds into the future and into the past.
pub const WRITE_LIMITS: &str = "write_limits";
/// Kind of the records of databases that promote numbers, by their names.
pub const NUMERIC_PROMOTION: &str = "numeric_promotion";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSettings {
    /// How far into the future points may lie, nanoseconds; 0 = no limit.
    pub future: i64,
    /// How far into the past.
    pub past: i64,
    /// Integers and floats may meet in a field: new fields are floats, and integers become floats in them.
    pub promotes: bool,
}

impl Catalog {
    /// The settings of a policy.
    pub fn write_settings(&self, policy: PolicyId) -> WriteSettings {
        let (limits, promoting) = self.with_records(|records| {
            let limits = records.get(WRITE_LIMITS, &policy.to_string()).map(str::to_string);
            let promoting: Vec<String> = records
                .of_kind(NUMERIC_PROMOTION)
                .map(|(name, _)| name.to_string())
                .collect();
            (limits, promoting)
        });
        let (future, past) = limits
            .as_deref()
            .and_then(|text| text.split_once(' '))
            .unwrap_or(("0", "0"));
        let has = |database: &Database| database.policies.iter().any(|p| p.id == policy);
        WriteSettings {
            future: future.parse().unwrap_or(0),
            past: past.parse().unwrap_or(0),
            promotes: promoting
                .iter()
                .any(|name| self.database(name).is_some_and(|database| has(&database))),
        }
    }
}

impl WriteSettings {
    /// Why a point may not have this time.
    #[inline]
    pub fn refuses(&self, time: i64, now: i64) -> Option<String> {
        if self.future <= 0 && self.past <= 0 {
            return None;
        }
        self.refuses_slowly(time, now)
    }

    fn refuses_slowly(&self, time: i64, now: i64) -> Option<String> {
        let limit = |name: &str, limit: i64| {
            let limit = crate::lang::format_duration(limit);
            Some(format!(
                "time {time} is beyond the {name} LIMIT {limit} of the retention policy"
            ))
        };
        if self.future > 0 && time > now.saturating_add(self.future) {
            limit("FUTURE", self.future)
        } else if self.past > 0 && time < now.saturating_sub(self.past) {
            limit("PAST", self.past)
        } else {
            None
        }
    }
}
