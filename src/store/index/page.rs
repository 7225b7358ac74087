//! A page: the tags of up to 2048 series with neighbouring ids, one column a tag key. Pure.
//!
//! GROUP BY a tag is `page.column(key)` once a page and `column.code(slot)` for each series. A page grows in memory
//! ([`PageBuilder`]); what readers hold is never changed under them.

use super::column::Column;
use super::slots::Slots;
use crate::model::SeriesId;
use hashbrown::HashTable;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Ids a page covers: [n x 2048, (n + 1) x 2048).
pub const PAGE_SERIES: u32 = 2048;
/// Bytes of memory a page may take before the next series goes to the next page; the ids between are never used.
pub const PAGE_BYTES_MAX: usize = 2 << 20;

/// The page of an id.
#[inline]
pub fn page_of(id: SeriesId) -> u32 {
    id / PAGE_SERIES
}

/// The slot of an id in its page.
#[inline]
pub fn slot_of(id: SeriesId) -> usize {
    (id % PAGE_SERIES) as usize
}

/// A hash of the tags (sorted by key) of a series that depends on where keys and values end. Stored: never change it. The seed is the
/// store's, so that nobody can choose series whose hashes meet.
pub fn key_hash(seed: u64, tags: &[(String, String)]) -> u64 {
    hash_of_texts(
        seed,
        tags.iter()
            .flat_map(|(key, value)| [key.as_str(), value.as_str()]),
    )
}

/// Of the texts' bytes, each behind its length.
fn hash_of_texts<'a>(seed: u64, texts: impl Iterator<Item = &'a str> + Clone) -> u64 {
    const ON_STACK: usize = 1024;
    let len: usize = texts.clone().map(|text| text.len() + 4).sum();
    let mut stack = [0u8; ON_STACK];
    let mut heap = Vec::new();
    let buffer = if len <= ON_STACK {
        &mut stack[..len]
    } else {
        heap.resize(len, 0);
        &mut heap[..]
    };
    let mut at = 0;
    for text in texts {
        buffer[at..at + 4].copy_from_slice(&(text.len() as u32).to_le_bytes());
        buffer[at + 4..at + 4 + text.len()].copy_from_slice(text.as_bytes());
        at += 4 + text.len();
    }
    xxh3_64_with_seed(buffer, seed)
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    number: u32,
    present: Slots,
    /// By key.
    columns: Vec<(Arc<str>, Arc<Column>)>,
}

impl Page {
    /// An empty page.
    pub fn new(number: u32) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// A page of these columns, by key.
    pub fn from_columns(number: u32, present: Slots, columns: Vec<(Arc<str>, Arc<Column>)>) -> Self {
        Self {
            number,
            present,
            columns,
        }
    }

    /// Its number: it covers ids from number x 2048 on.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Series in it.
    pub fn present(&self) -> &Slots {
        &self.present
    }

    /// Its columns, by key.
    pub fn columns(&self) -> &[(Arc<str>, Arc<Column>)] {
        &self.columns
    }

    /// The column of a tag, if a series in here has it.
    pub fn column(&self, key: &str) -> Option<&Arc<Column>> {
        let at = self.columns.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        Some(&self.columns[at].1)
    }

    /// The tags of a slot, by key.
    pub fn tags(&self, slot: usize) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.columns.iter().filter_map(move |(key, column)| {
            let code = column.code(slot);
            (code != 0).then(|| (&**key, column.value(code)))
        })
    }

    /// The [`key_hash`] of the series of a slot.
    pub fn key_hash(&self, seed: u64, slot: usize) -> u64 {
        hash_of_texts(seed, self.tags(slot).flat_map(|(key, value)| [key, value]))
    }

    /// Is this the series of a slot? Tags are sorted by key.
    pub fn has_tags(&self, slot: usize, tags: &[(String, String)]) -> bool {
        let mut wanted = tags.iter();
        self.present.contains(slot)
            && self
                .tags(slot)
                .all(|(key, value)| wanted.next().is_some_and(|(k, v)| k == key && v == value))
            && wanted.next().is_none()
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(|(_, column)| column.bytes() + 32).sum();
        columns + size_of::<Self>()
    }
}

/// A page that grows.
#[derive(Default)]
pub struct PageBuilder {
    page: Arc<Page>,
    /// For each column: codes by text, once there are more values than are quick to look through.
    codes: Vec<HashTable<u16>>,
    /// For each column: the code given out last.
    last: Vec<u16>,
    bytes: usize,
}

/// One page out of several with the same number.
pub fn join_pages(several: &[Arc<Page>], number: u32) -> Arc<Page> {
    let mut builder = PageBuilder::new(number);
    for page in several {
        for slot in page.present().iter() {
            let tags: Vec<(&str, &str)> = page.tags(slot).collect();
            builder
                .insert(slot, &tags)
                .expect("the text of a page was in a page, or several, before");
        }
    }
    builder.page().clone()
}

/// Values that are compared one by one before a hash table is made.
const FEW_VALUES: usize = 8;

impl PageBuilder {
    /// An empty page.
    pub fn new(number: u32) -> Self {
        Self {
            page: Arc::new(Page::new(number)),
            ..Self::default()
        }
    }

    /// The page as it is now; later changes are made to a copy.
    pub fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives a slot, which is empty, its tags (sorted by key). `None` when there is no room for their text.
    pub fn insert<T: AsRef<str>>(&mut self, slot: usize, tags: &[(T, T)]) -> Option<()> {
        let page = Arc::make_mut(&mut self.page);
        // Where the column of the tag before was: the keys of most series are the same, in the same order.
        let mut at = 0;
        for (key, value) in tags {
            let (key, value) = (key.as_ref(), value.as_ref());
            if page.columns.get(at).is_none_or(|(k, _)| **k != *key) {
                match page.columns.binary_search_by(|(k, _)| (**k).cmp(key)) {
                    Ok(found) => at = found,
                    Err(place) => {
                        at = place;
                        page.columns.insert(at, (key.into(), Arc::default()));
                        self.codes.insert(at, HashTable::new());
                        self.last.insert(at, 0);
                        self.bytes += 200 + key.len() + slot;
                    }
                }
            }
            let column = Arc::make_mut(&mut page.columns[at].1);
            let last = self.last[at];
            let code = if last != 0 && column.value(last) == value {
                last
            } else {
                intern(column, &mut self.codes[at], value, &mut self.bytes)?
            };
            column.set(slot, code);
            self.last[at] = code;
            self.bytes += 2;
            at += 1;
        }
        page.present.insert(slot);
        Some(())
    }

    /// Gives back the memory that only growing needs: the page is full.
    pub fn close(&mut self) {
        self.codes.iter_mut().for_each(|codes| *codes = HashTable::new());
    }
}

fn intern(column: &mut Column, codes: &mut HashTable<u16>, value: &str, bytes: &mut usize) -> Option<u16> {
    let distinct = column.distinct();
    let hash = |text: &str| xxh3_64(text.as_bytes());
    if distinct <= FEW_VALUES {
        if let Some(at) = column.values().position(|known| known == value) {
            return Some(at as u16 + 1);
        }
    } else {
        if codes.is_empty() {
            for code in 1..=distinct as u16 {
                codes.insert_unique(hash(column.value(code)), code, |&c| hash(column.value(c)));
            }
        }
        if let Some(&code) = codes.find(hash(value), |&code| column.value(code) == value) {
            return Some(code);
        }
    }
    let code = column.push_value(value)?;
    *bytes += value.len() + 8;
    if distinct > FEW_VALUES {
        codes.insert_unique(hash(value), code, |&c| hash(column.value(c)));
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn series() -> impl Strategy<Value = BTreeMap<String, String>> {
        prop::collection::btree_map("[a-d]", "[a-z]{1,3}|[0-9]", 0..4)
    }

    proptest! {
        #[test]
        fn a_page_gives_back_what_was_put_in(many in prop::collection::btree_map(0usize..2048, series(), 0..400), close_after in 0usize..400) {
            let mut builder = PageBuilder::new(3);
            for (i, (slot, tags)) in many.iter().enumerate() {
                if i == close_after {
                    builder.close();
                }
                let tags: Vec<_> = tags.clone().into_iter().collect();
                prop_assert!(builder.insert(*slot, &tags).is_some());
            }
            let page = builder.page();
            prop_assert_eq!(page.present().iter().collect::<Vec<_>>(), many.keys().copied().collect::<Vec<_>>());
            for slot in 0..2048 {
                let want: Vec<_> = many.get(&slot).into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                prop_assert_eq!(page.tags(slot).collect::<Vec<_>>(), want);
            }
            for (slot, tags) in &many {
                let mut tags: Vec<_> = tags.clone().into_iter().collect();
                prop_assert!(page.has_tags(*slot, &tags));
                prop_assert_eq!(page.key_hash(9, *slot), key_hash(9, &tags));
                tags.push(("z".into(), "z".into()));
                prop_assert!(!page.has_tags(*slot, &tags));
            }
            for (_, column) in page.columns() {
                let distinct: std::collections::BTreeSet<_> = column.values().collect();
                prop_assert_eq!(distinct.len(), column.distinct());
                for code in 0..=column.distinct() as u16 {
                    let want: Vec<_> = (0..2048).filter(|&slot| column.code(slot) == code).collect();
                    let mut verdicts = vec![false; column.distinct() + 1];
                    verdicts[usize::from(code)] = true;
                    prop_assert_eq!(column.with_codes(&verdicts).iter().collect::<Vec<_>>(), want.clone());
                    if code > 0 {
                        prop_assert_eq!(column.with_code(code).iter().collect::<Vec<_>>(), want);
                    }
                }
            }
        }
    }

    #[test]
    fn readers_keep_what_they_saw() {
        let tags = |v: &str| vec![("host".to_string(), v.to_string())];
        let mut builder = PageBuilder::new(0);
        builder.insert(0, &tags("a"));
        let before = builder.page().clone();
        builder.insert(1, &tags("b"));
        assert_eq!((before.present().len(), builder.page().present().len()), (1, 2));
        assert_eq!(before.tags(1).count(), 0);
    }

    #[test]
    fn hashes_know_where_texts_end_and_do_not_change() {
        let tags = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        let hash = |seed, list: &[(&str, &str)]| key_hash(seed, &tags(list));
        assert_ne!(hash(0, &[("a", "bc")]), hash(0, &[("ab", "c")]));
        assert_ne!(hash(0, &[("a", "bc")]), hash(1, &[("a", "bc")]));
        let long = "x".repeat(3000);
        assert_ne!(hash(0, &[("a", &long)]), hash(0, &[("b", &long)]));
        // Stored in every index: a change needs a new version of the format.
        assert_eq!(
            hash(0, &[("host", "a"), ("zone", "b")]),
            5_385_427_998_457_482_898
        );
    }
}
