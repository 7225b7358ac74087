//! The series of one measurement: ids to tag values by columns, keys to ids by a hash table of ids.
//!
//! No key is kept as text: a series' tags are its codes in the tag columns, so 1 M series cost some tens of bytes
//! each, and grouping by a tag is an array look-up.

use super::dictionary::Dictionary;
use super::predicate::TagPredicate;
use crate::model::{SeriesId, SeriesKey};
use hashbrown::HashTable;
use roaring::RoaringBitmap;
use xxhash_rust::xxh3::Xxh3;

/// The values of one tag over all series.
pub struct TagColumn {
    key: String,
    values: Dictionary,
    codes: Vec<u32>,
}

/// See the module.
#[derive(Default)]
pub struct SeriesIndex {
    columns: Vec<TagColumn>,
    /// Hash of each series' tags, so that the table can grow without rebuilding keys.
    hashes: Vec<u64>,
    ids: HashTable<SeriesId>,
    dropped: RoaringBitmap,
}

impl TagColumn {
    /// The tag's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The code of a series; 0 when it has no such tag.
    #[inline]
    pub fn code(&self, series: SeriesId) -> u32 {
        self.codes.get(series as usize).copied().unwrap_or(0)
    }

    /// The value behind a code; empty for 0.
    pub fn value(&self, code: u32) -> &str {
        self.values.text(code)
    }

    /// The code of a value, if any series ever had it.
    pub fn code_of(&self, value: &str) -> Option<u32> {
        self.values.code(value)
    }

    /// Codes by series id. Series past the end have none.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// Codes given out, 0 included.
    pub fn code_count(&self) -> usize {
        self.values.len()
    }
}

impl SeriesIndex {
    /// Ids given out: 0 to this, dropped ones included.
    pub fn series_count(&self) -> u32 {
        self.hashes.len() as u32
    }

    /// Series that exist.
    pub fn live(&self) -> RoaringBitmap {
        let mut all = RoaringBitmap::new();
        all.insert_range(0..self.series_count());
        all - &self.dropped
    }

    /// Series that were dropped.
    pub fn dropped(&self) -> &RoaringBitmap {
        &self.dropped
    }

    /// Number of series that exist, exactly.
    pub fn live_count(&self) -> u64 {
        u64::from(self.series_count()) - self.dropped.len()
    }

    /// Tag columns, by key.
    pub fn columns(&self) -> &[TagColumn] {
        &self.columns
    }

    /// Tag keys that a live series has, sorted.
    pub fn tag_keys(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.key.as_str()).collect()
    }

    /// The column of a tag.
    pub fn tag_column(&self, key: &str) -> Option<&TagColumn> {
        self.columns
            .binary_search_by(|column| column.key.as_str().cmp(key))
            .ok()
            .map(|at| &self.columns[at])
    }

    /// The id of the series with these tags (sorted by key), if it exists.
    pub fn find(&self, tags: &[(String, String)]) -> Option<SeriesId> {
        let wanted = self.codes_of(tags)?;
        let same = |&id: &SeriesId| {
            let mut wanted = wanted.iter().peekable();
            self.columns.iter().enumerate().all(|(at, column)| {
                let code = wanted
                    .next_if(|(column, _)| *column == at)
                    .map_or(0, |(_, code)| *code);
                column.code(id) == code
            })
        };
        self.ids.find(hash(tags), same).copied()
    }

    /// Positions of the tags' columns and the values' codes; `None` when a key or value was never seen.
    fn codes_of(&self, tags: &[(String, String)]) -> Option<Vec<(usize, u32)>> {
        tags.iter()
            .map(|(key, value)| {
                let at = self
                    .columns
                    .binary_search_by(|column| column.key.as_str().cmp(key))
                    .ok()?;
                Some((at, self.columns[at].values.code(value)?))
            })
            .collect()
    }

    /// Adds a series that is not there yet. `None` when a limit of ids or text is reached.
    pub fn insert(&mut self, tags: &[(String, String)]) -> Option<SeriesId> {
        let id = u32::try_from(self.hashes.len())
            .ok()
            .filter(|&id| id < u32::MAX)?;
        self.insert_at(id, tags)
    }

    /// Adds a series under a given id, as replay and loading do; ids between are filled with dropped series, to be
    /// replaced when their definition comes.
    pub fn insert_at(&mut self, id: SeriesId, tags: &[(String, String)]) -> Option<SeriesId> {
        while self.series_count() <= id {
            self.dropped.insert(self.series_count());
            self.hashes.push(0);
        }
        for (key, value) in tags {
            let at = match self
                .columns
                .binary_search_by(|column| column.key.as_str().cmp(key))
            {
                Ok(at) => at,
                Err(at) => {
                    let column = TagColumn {
                        key: key.clone(),
                        values: Dictionary::default(),
                        codes: Vec::new(),
                    };
                    self.columns.insert(at, column);
                    at
                }
            };
            let column = &mut self.columns[at];
            let code = column.values.intern(value)?;
            if column.codes.len() <= id as usize {
                column.codes.resize(id as usize + 1, 0);
            }
            column.codes[id as usize] = code;
        }
        let hash = hash(tags);
        self.hashes[id as usize] = hash;
        self.dropped.remove(id);
        let hashes = &self.hashes;
        self.ids.insert_unique(hash, id, |&id| hashes[id as usize]);
        Some(id)
    }

    /// Forgets series. Their ids are not used again.
    pub fn drop_series(&mut self, series: impl IntoIterator<Item = SeriesId>) {
        for id in series {
            if id < self.series_count() && self.dropped.insert(id) {
                let hash = self.hashes[id as usize];
                if let Ok(entry) = self.ids.find_entry(hash, |&other| other == id) {
                    entry.remove();
                }
            }
        }
    }

    /// The tags of a series, sorted by key.
    pub fn tags(&self, id: SeriesId) -> Vec<(String, String)> {
        let tags = self
            .columns
            .iter()
            .map(|column| (column, column.code(id)))
            .filter(|(_, code)| *code != 0);
        tags.map(|(column, code)| (column.key.clone(), column.value(code).to_string()))
            .collect()
    }

    /// The key of a series of this measurement.
    pub fn key(&self, measurement: &str, id: SeriesId) -> SeriesKey {
        SeriesKey {
            measurement: measurement.to_string(),
            tags: self.tags(id),
        }
    }

    /// The live series that satisfy a predicate.
    pub fn matching(&self, predicate: &TagPredicate) -> RoaringBitmap {
        match predicate {
            TagPredicate::All => self.live(),
            TagPredicate::And(all) => {
                let mut sets = all.iter().map(|p| self.matching(p));
                let first = sets.next().unwrap_or_else(|| self.live());
                sets.fold(first, |a, b| a & b)
            }
            TagPredicate::Or(any) => any
                .iter()
                .map(|p| self.matching(p))
                .fold(RoaringBitmap::new(), |a, b| a | b),
            TagPredicate::Not(inner) => self.live() - self.matching(inner),
            TagPredicate::Equals { key, value } => self.with_value(key, value),
            TagPredicate::NotEquals { key, value } => self.live() - self.with_value(key, value),
            TagPredicate::Matches { key, regex } => self.with_values(key, |value| regex.is_match(value)),
            TagPredicate::NotMatches { key, regex } => self.with_values(key, |value| !regex.is_match(value)),
        }
    }

    fn with_value(&self, key: &str, value: &str) -> RoaringBitmap {
        match self.tag_column(key) {
            None if value.is_empty() => self.live(),
            None => RoaringBitmap::new(),
            Some(column) => match column.code_of(value) {
                None => RoaringBitmap::new(),
                Some(0) => self.select(column, |code| code == 0),
                Some(wanted) => self.select(column, |code| code == wanted),
            },
        }
    }

    fn with_values(&self, key: &str, wanted: impl Fn(&str) -> bool) -> RoaringBitmap {
        match self.tag_column(key) {
            None if wanted("") => self.live(),
            None => RoaringBitmap::new(),
            Some(column) => {
                // Each distinct value is looked at once, not each series.
                let verdicts: Vec<bool> = (0..column.code_count() as u32)
                    .map(|c| wanted(column.value(c)))
                    .collect();
                self.select(column, |code| verdicts[code as usize])
            }
        }
    }

    fn select(&self, column: &TagColumn, wanted: impl Fn(u32) -> bool) -> RoaringBitmap {
        let with = column
            .codes
            .iter()
            .zip(0u32..)
            .filter(|(code, _)| wanted(**code))
            .map(|(_, id)| id);
        let mut chosen = RoaringBitmap::from_sorted_iter(with).expect("ids ascend");
        if wanted(0) {
            chosen.insert_range(column.codes.len() as u32..self.series_count());
        }
        chosen - &self.dropped
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let columns: usize = self
            .columns
            .iter()
            .map(|c| c.values.bytes() + c.codes.capacity() * 4)
            .sum();
        columns + self.hashes.capacity() * 8 + self.ids.capacity() * 5
    }
}

/// A hash of tags that depends on where keys and values end.
fn hash(tags: &[(String, String)]) -> u64 {
    let mut hasher = Xxh3::new();
    for text in tags.iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(text.len() as u32).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn predicates_treat_a_missing_tag_as_empty() {
        let mut index = SeriesIndex::default();
        for series in [
            &[("host", "a")][..],
            &[("host", "b"), ("az", "x")],
            &[],
            &[("az", "y")],
        ] {
            index.insert(&tags(series));
        }
        let key = || "host".to_string();
        let re = |text: &str| Regex::new(text).expect("a test's own pattern");
        let cases: Vec<(TagPredicate, &[u32])> = vec![
            (TagPredicate::All, &[0, 1, 2, 3]),
            (
                TagPredicate::Equals {
                    key: key(),
                    value: "a".into(),
                },
                &[0],
            ),
            (
                TagPredicate::Equals {
                    key: key(),
                    value: "".into(),
                },
                &[2, 3],
            ),
            (
                TagPredicate::NotEquals {
                    key: key(),
                    value: "a".into(),
                },
                &[1, 2, 3],
            ),
            (
                TagPredicate::NotEquals {
                    key: key(),
                    value: "".into(),
                },
                &[0, 1],
            ),
            (
                TagPredicate::Matches {
                    key: key(),
                    regex: re("a|b"),
                },
                &[0, 1],
            ),
            (
                TagPredicate::Matches {
                    key: key(),
                    regex: re("^$"),
                },
                &[2, 3],
            ),
            (
                TagPredicate::NotMatches {
                    key: key(),
                    regex: re("a"),
                },
                &[1, 2, 3],
            ),
            (
                TagPredicate::Equals {
                    key: "nope".into(),
                    value: "".into(),
                },
                &[0, 1, 2, 3],
            ),
            (
                TagPredicate::Equals {
                    key: "nope".into(),
                    value: "x".into(),
                },
                &[],
            ),
            (
                TagPredicate::Not(Box::new(TagPredicate::Equals {
                    key: key(),
                    value: "a".into(),
                })),
                &[1, 2, 3],
            ),
        ];
        for (predicate, want) in cases {
            assert_eq!(
                index.matching(&predicate).iter().collect::<Vec<_>>(),
                want,
                "{predicate:?}"
            );
        }
        index.drop_series([1]);
        assert_eq!(index.find(&tags(&[("az", "x"), ("host", "b")])), None);
        assert_eq!(index.live().iter().collect::<Vec<_>>(), [0, 2, 3]);
        assert_eq!(index.insert(&tags(&[("az", "x"), ("host", "b")])), Some(4));
    }

    proptest! {
        #[test]
        fn find_equals_a_map(series in prop::collection::vec(prop::collection::btree_map("[ab]{1,2}", "[xy]{1,2}", 0..4), 0..60)) {
            let mut index = SeriesIndex::default();
            let mut model = std::collections::BTreeMap::new();
            for map in series {
                let tags: Vec<_> = map.into_iter().collect();
                let id = match index.find(&tags) { Some(id) => id, None => index.insert(&tags).expect("below every limit") };
                prop_assert_eq!(*model.entry(tags.clone()).or_insert(id), id);
                prop_assert_eq!(index.tags(id), tags);
            }
            prop_assert_eq!(u64::from(index.series_count()), model.len() as u64);
        }
    }
}
