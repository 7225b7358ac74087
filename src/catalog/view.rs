//! The series of a measurement at one moment, for queries. Reading it may touch the disk and so may fail; no lock is held.

use super::evaluate::select;
use super::predicate::TagPredicate;
use crate::model::{SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::index::slots::id_of;
use crate::store::index::{Column, IdSet, PAGE_SERIES, Page, Slots, page_of, slot_of};
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SeriesView {
    pages: Arc<[Arc<Page>]>,
    dropped: Arc<RoaringBitmap>,
    live_count: u64,
}

impl SeriesView {
    pub(super) fn new(pages: Arc<[Arc<Page>]>, dropped: Arc<RoaringBitmap>, live_count: u64) -> Self {
        Self {
            pages,
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

    /// Series that exist.
    ///
    /// # Errors
    /// Damage, input/output: so with all that follows.
    pub fn live(&self) -> Result<RoaringBitmap, StoreError> {
        let mut all = IdSet::default();
        self.pages
            .iter()
            .for_each(|page| all.push(page.number(), page.present()));
        Ok(all.finish() - &*self.dropped)
    }

    /// The series that satisfy a predicate.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn matching(&self, predicate: &TagPredicate) -> Result<RoaringBitmap, StoreError> {
        let mut found = IdSet::default();
        for page in self.pages.iter() {
            found.push(page.number(), &select(page, predicate));
        }
        Ok(found.finish() - &*self.dropped)
    }

    /// Tag keys that series have, sorted; of the series in `within`, where that is given.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn tag_keys(&self, within: Option<&RoaringBitmap>) -> Result<Vec<String>, StoreError> {
        let mut keys = BTreeSet::new();
        for page in self.pages.iter() {
            let wanted = self.wanted(page, within);
            for (key, column) in page.columns() {
                if !keys.contains(&**key) {
                    let mut having = column.present();
                    having.keep(&wanted);
                    if !having.is_empty() {
                        keys.insert(key.to_string());
                    }
                }
            }
        }
        Ok(keys.into_iter().collect())
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
        let mut values: Vec<(&Column, u16)> = Vec::new();
        for page in self.pages.iter() {
            let Some(column) = page.column(key) else { continue };
            let wanted = self.wanted(page, within);
            if wanted == *page.present() {
                values.extend((1..=column.distinct() as u16).map(|code| (&**column, code)));
            } else {
                let mut seen = vec![false; column.distinct() + 1];
                wanted
                    .iter()
                    .for_each(|slot| seen[usize::from(column.code(slot))] = true);
                let codes = (1..=column.distinct() as u16).filter(|&code| seen[usize::from(code)]);
                values.extend(codes.map(|code| (&**column, code)));
            }
        }
        values.sort_unstable_by(|a, b| a.0.value(a.1).cmp(b.0.value(b.1)));
        values.dedup_by(|a, b| a.0.value(a.1) == b.0.value(b.1));
        for (column, code) in values {
            if visit(column.value(code)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// How many distinct values a tag has; of the series in `within`, where that is given.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn count_values(&self, key: &str, within: Option<&RoaringBitmap>) -> Result<u64, StoreError> {
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
        wanted.subtract(&Slots::of_ids(&self.dropped, page.number()));
        if let Some(within) = within {
            wanted.keep(&Slots::of_ids(within, page.number()));
        }
        wanted
    }

    /// The tags of a series that exists or existed, sorted by key; `None` when there never was one.
    ///
    /// # Errors
    /// See [`live`](Self::live).
    pub fn tags(&self, id: SeriesId) -> Result<Option<Vec<(String, String)>>, StoreError> {
        let page = self
            .page(page_of(id))
            .filter(|page| page.present().contains(slot_of(id)));
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
        for page in self.pages.iter() {
            let mut wanted = Slots::of_ids(series, page.number());
            wanted.keep(page.present());
            for slot in wanted.iter() {
                let tags = page.tags(slot).map(|(k, v)| (k.to_string(), v.to_string()));
                let key = SeriesKey {
                    measurement: name.to_string(),
                    tags: tags.collect(),
                };
                if visit(id_of(page.number(), slot), key).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn page(&self, number: u32) -> Option<&Arc<Page>> {
        let at = self
            .pages
            .binary_search_by_key(&number, |page| page.number())
            .ok()?;
        Some(&self.pages[at])
    }

    /// Reads the values of some tags, page by page, as a scan ascends by id.
    pub fn reader(&self, keys: &[String]) -> TagReader {
        TagReader {
            view: self.clone(),
            keys: keys.into(),
            page: None,
        }
    }
}

/// See [`SeriesView::reader`]. Each worker has its own.
#[derive(Clone, Debug)]
pub struct TagReader {
    view: SeriesView,
    keys: Arc<[String]>,
    page: Option<TagPage>,
}

/// The values of some tags of the series of a page.
#[derive(Clone, Debug)]
pub struct TagPage {
    number: u32,
    /// For each key; `None` where no series has it.
    columns: Vec<Option<Arc<Column>>>,
}

impl TagReader {
    /// The page of a series: the same as before, nearly always.
    ///
    /// # Errors
    /// Damage, input/output.
    #[inline]
    pub fn page(&mut self, series: SeriesId) -> Result<&TagPage, StoreError> {
        let number = page_of(series);
        if self.page.as_ref().is_none_or(|page| page.number != number) {
            self.page = Some(self.load(number)?);
        }
        Ok(self.page.as_ref().expect("just loaded"))
    }

    fn load(&self, number: u32) -> Result<TagPage, StoreError> {
        let page = self.view.page(number);
        let column = |key: &String| page.and_then(|page| page.column(key).cloned());
        Ok(TagPage {
            number,
            columns: self.keys.iter().map(column).collect(),
        })
    }
}

impl TagPage {
    /// Its number: as long as it stays the same, codes mean the same.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The ids it covers.
    pub fn series(&self) -> std::ops::Range<SeriesId> {
        let first = self.number * PAGE_SERIES;
        first..first.saturating_add(PAGE_SERIES)
    }

    /// The code of a series' value of the `key`th tag; 0 where it has no such tag. Codes mean something only within this page.
    #[inline]
    pub fn code(&self, key: usize, series: SeriesId) -> u16 {
        self.columns[key]
            .as_ref()
            .map_or(0, |column| column.code(slot_of(series)))
    }

    /// Codes of the `key`th tag are below this.
    pub fn codes(&self, key: usize) -> usize {
        self.columns[key].as_ref().map_or(0, |column| column.distinct()) + 1
    }

    /// The value behind a code of the `key`th tag; `None` for 0.
    pub fn value(&self, key: usize, code: u16) -> Option<&str> {
        let column = self.columns[key].as_ref().filter(|_| code != 0)?;
        Some(column.value(code))
    }
}
