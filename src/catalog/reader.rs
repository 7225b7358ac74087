//! The values of some tags, page by page, as a scan ascends by series id: GROUP BY a tag is an array look-up for each series.

use super::view::SeriesView;
use crate::model::SeriesId;
use crate::store::StoreError;
use crate::store::index::{Column, PAGE_SERIES, Share, page_of, slot_of};
use std::ops::Range;
use std::sync::Arc;

/// See the module and [`SeriesView::reader`]. Each worker has its own.
#[derive(Clone, Debug)]
pub struct TagReader {
    view: SeriesView,
    shares: Option<Arc<[Share]>>,
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
    pub(super) fn new(view: SeriesView, keys: &[String]) -> Self {
        Self {
            view,
            shares: None,
            keys: keys.into(),
            page: None,
        }
    }

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

    fn load(&mut self, number: u32) -> Result<TagPage, StoreError> {
        let shares = match &self.shares {
            Some(shares) => shares.clone(),
            None => {
                let shares: Arc<[Share]> = self.view.sealed().shares()?.into();
                self.shares = Some(shares.clone());
                shares
            }
        };
        let mut found: Vec<Vec<Option<Arc<Column>>>> = Vec::new();
        let pages = self.view.pages();
        if let Ok(at) = pages.binary_search_by_key(&number, |page| page.number()) {
            found.push(
                self.keys
                    .iter()
                    .map(|key| pages[at].column(key).cloned())
                    .collect(),
            );
        }
        for share in shares.iter() {
            found.extend(share.columns(number, &self.keys)?);
        }
        let columns = match found.len() {
            0 => vec![None; self.keys.len()],
            1 => found.remove(0),
            _ => (0..self.keys.len())
                .map(|key| joined(found.iter().filter_map(|columns| columns[key].as_ref())))
                .collect(),
        };
        Ok(TagPage { number, columns })
    }
}

/// One column out of several of the same page.
fn joined<'a>(several: impl Iterator<Item = &'a Arc<Column>>) -> Option<Arc<Column>> {
    let several: Vec<&Arc<Column>> = several.collect();
    match &several[..] {
        [] => None,
        [one] => Some((*one).clone()),
        _ => Some(Arc::new(Column::joined(&several))),
    }
}

impl TagPage {
    /// Its number: as long as it stays the same, codes mean the same.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The ids it covers.
    pub fn series(&self) -> Range<SeriesId> {
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
