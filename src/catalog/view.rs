//! The series of a measurement at one moment, for queries: those in memory and those on disk. Reading it may touch the disk
//! and so may fail; no lock is held.

use super::evaluate::{matching_stored, select};
use super::predicate::TagPredicate;
use super::reader::TagReader;
use crate::model::{SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::index::part::pages_of;
use crate::store::index::slots::id_of;
use crate::store::index::walk::{self, BlockTerms, PageTerms, Stream};
use crate::store::index::{IdSet, Page, Sealed, Share, Slots, join_pages, page_of, slot_of};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SeriesView {
    /// Series that are not sealed, and maybe some that have just been.
    pages: Arc<[Arc<Page>]>,
    sealed: Sealed,
    dropped: Arc<RoaringBitmap>,
    live_count: u64,
}

impl SeriesView {
    pub(super) fn new(
        pages: Arc<[Arc<Page>]>,
        sealed: Sealed,
        dropped: Arc<RoaringBitmap>,
        live_count: u64,
    ) -> Self {
        Self {
            pages,
            sealed,
            dropped,
            live_count,
        }
    }

    /// Number of series that exist, exactly.
    pub fn live_count(&self) -> u64 {
        self.live_count
    }

    /// Series that were dropped.
    pub fn dropped(&self) -> &RoaringBitmap {
        &self.dropped
    }

    pub(super) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    pub(super) fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// Series that exist.
    ///
    /// # Errors
    /// Damage, input/output: so with all that follows.
    pub fn live(&self) -> Result<RoaringBitmap, StoreError> {
        let mut unsealed = IdSet::default();
        for page in self.pages.iter() {
            unsealed.push(page.number(), page.present());
        }
        Ok((unsealed.finish() | self.sealed.ids()?) - &*self.dropped)
    }

    /// The series that satisfy a predicate.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn matching(&self, predicate: &TagPredicate) -> Result<RoaringBitmap, StoreError> {
        if let TagPredicate::All = predicate {
            return self.live();
        }
        let of_pages = |pages: &[Arc<Page>]| {
            let mut found = IdSet::default();
            for page in pages {
                found.push(page.number(), &select(page, predicate));
            }
            found.finish()
        };
        let mut found = of_pages(&self.pages);
        for share in self.sealed.shares()? {
            found |= match &share {
                Share::Pages(_) => of_pages(share.pages()),
                Share::Stored(stored) => matching_stored(stored, predicate)?,
            };
        }
        Ok(found - &*self.dropped)
    }

    /// Tag keys that series have, sorted; of the series in `within`, where that is given.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn tag_keys(&self, within: Option<&RoaringBitmap>) -> Result<Vec<String>, StoreError> {
        let mut keys: BTreeSet<Arc<str>> = BTreeSet::new();
        let shares = self.sealed.shares()?;
        for page in self.pages.iter().chain(shares.iter().flat_map(Share::pages)) {
            let wanted = self.wanted(page, within);
            for (key, column) in page.columns() {
                if !keys.contains(key) {
                    let mut having = column.present();
                    having.keep(&wanted);
                    if !having.is_empty() {
                        keys.insert(key.clone());
                    }
                }
            }
        }
        for share in &shares {
            let Share::Stored(stored) = share else { continue };
            for tag in &stored.large().tags {
                if keys.contains(&tag.key) {
                    continue;
                }
                let having = tag.having.as_ref().unwrap_or(&stored.large().ids);
                let used = match within {
                    None if self.dropped.is_empty() => true,
                    None => !having.is_subset(&self.dropped),
                    Some(within) if self.dropped.is_empty() => !having.is_disjoint(within),
                    Some(within) => !(having & within).is_subset(&self.dropped),
                };
                if used {
                    keys.insert(tag.key.clone());
                }
            }
        }
        Ok(keys.into_iter().map(|key| key.to_string()).collect())
    }

    /// Visits the distinct values of a tag, sorted; of the series in `within`, where that is given.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn walk_values(
        &self,
        key: &str,
        within: Option<&RoaringBitmap>,
        visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let shares = self.sealed.shares()?;
        let pages = self.pages.iter().chain(shares.iter().flat_map(Share::pages));
        let pages: Vec<(&Arc<Page>, Slots)> = pages.map(|page| (page, self.wanted(page, within))).collect();
        let pages = pages.iter().map(|(page, slots)| (*page, slots));
        let mut streams = vec![Stream::Pages(PageTerms::new(key, pages))];
        for share in &shares {
            if let Share::Stored(stored) = share {
                streams.push(Stream::Blocks(BlockTerms::new(stored, key, "", true)?));
            }
        }
        // Without a choice no series is looked at.
        let chosen = match within {
            _ if streams.len() == 1 => None,
            Some(within) => Some(within - &*self.dropped),
            None if self.dropped.is_empty() => None,
            None => Some(self.live()?),
        };
        walk::merge(&mut streams, chosen.is_some(), &mut |value, series| {
            let used = chosen.as_ref().is_none_or(|chosen| series.touches(chosen));
            Ok(if used {
                visit(value)
            } else {
                ControlFlow::Continue(())
            })
        })
    }

    /// How many distinct values a tag has; of the series in `within`, where that is given.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn count_values(&self, key: &str, within: Option<&RoaringBitmap>) -> Result<u64, StoreError> {
        if within.is_none() && self.dropped.is_empty() && self.pages.is_empty() {
            // Where one generation has everything it was counted when it was written.
            if let [Share::Stored(stored)] = &self.sealed.shares()?[..] {
                return Ok(stored.large().tag(key).map_or(0, |(_, tag)| tag.distinct));
            }
        }
        let mut count = 0;
        self.walk_values(key, within, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Series of a page that exist and are wanted.
    fn wanted(&self, page: &Page, within: Option<&RoaringBitmap>) -> Slots {
        let mut wanted = page.present().clone();
        if !self.dropped.is_empty() {
            wanted.subtract(&Slots::of_ids(&self.dropped, page.number()));
        }
        if let Some(within) = within {
            wanted.keep(&Slots::of_ids(within, page.number()));
        }
        wanted
    }

    /// The tags of a series that exists, sorted by key; `None` when there is none. Of a dropped one, as long as they are known.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn tags(&self, id: SeriesId) -> Result<Option<Vec<(String, String)>>, StoreError> {
        let page = self.page(page_of(id), &self.sealed.shares()?)?;
        let page = page.filter(|page| page.present().contains(slot_of(id)));
        Ok(page.map(|page| {
            let tags = page.tags(slot_of(id));
            tags.map(|(k, v)| (k.to_string(), v.to_string())).collect()
        }))
    }

    /// Visits series in order of their ids with their keys; `name` is the measurement's.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn walk_keys(
        &self,
        name: &str,
        series: &RoaringBitmap,
        visit: &mut dyn FnMut(SeriesId, SeriesKey) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let shares = self.sealed.shares()?;
        for number in pages_of(series) {
            let Some(page) = self.page(number, &shares)? else {
                continue;
            };
            let mut wanted = Slots::of_ids(series, number);
            wanted.keep(page.present());
            for slot in wanted.iter() {
                let tags = page.tags(slot).map(|(k, v)| (k.to_string(), v.to_string()));
                let key = SeriesKey {
                    measurement: name.to_string(),
                    tags: tags.collect(),
                };
                if visit(id_of(number, slot), key).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What there is of a page.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub(super) fn page_at(&self, number: u32) -> Result<Option<Arc<Page>>, StoreError> {
        self.page(number, &self.sealed.shares()?)
    }

    /// What there is of a page, put together.
    fn page(&self, number: u32, shares: &[Share]) -> Result<Option<Arc<Page>>, StoreError> {
        let mut found: Vec<Arc<Page>> = Vec::new();
        if let Ok(at) = self.pages.binary_search_by_key(&number, |page| page.number()) {
            found.push(self.pages[at].clone());
        }
        for share in shares {
            found.extend(share.page(number)?);
        }
        Ok(match &found[..] {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(join_pages(several, number)),
        })
    }

    /// Reads the values of some tags, page by page, as a scan ascends by id.
    pub fn reader(&self, keys: &[String]) -> TagReader {
        TagReader::new(self.clone(), keys)
    }
}
