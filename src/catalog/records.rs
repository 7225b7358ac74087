//! Small named texts that must survive: users, continuous queries, subscriptions. The catalog keeps them; others give
//! them meaning.

use std::collections::BTreeMap;

/// By kind, then name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    by_kind: BTreeMap<String, BTreeMap<String, String>>,
}

impl Records {
    /// Adds or replaces one.
    pub fn put(&mut self, kind: &str, name: &str, value: &str) {
        self.by_kind
            .entry(kind.to_string())
            .or_default()
            .insert(name.to_string(), value.to_string());
    }

    /// Forgets one: was it there?
    pub fn remove(&mut self, kind: &str, name: &str) -> bool {
        self.by_kind
            .get_mut(kind)
            .is_some_and(|names| names.remove(name).is_some())
    }

    /// The text of one.
    pub fn get(&self, kind: &str, name: &str) -> Option<&str> {
        self.by_kind.get(kind)?.get(name).map(String::as_str)
    }

    /// All of a kind, by name.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&str, &str)> {
        self.by_kind
            .get(kind)
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// All.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let kinds = self.by_kind.iter();
        kinds.flat_map(|(kind, names)| {
            names
                .iter()
                .map(move |(n, v)| (kind.as_str(), n.as_str(), v.as_str()))
        })
    }
}
