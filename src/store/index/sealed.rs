//! The sealed series of one measurement: the union of what its generations have. Their series are different ones.

use super::column::Column;
use super::generation::{Generation, Stored};
use super::header::Entry;
use super::page::Page;
use super::part::Part;
use crate::model::{MeasurementId, SeriesId};
use crate::store::StoreError;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// See the module. Holding it keeps what it reads on disk.
#[derive(Clone, Debug, Default)]
pub struct Sealed {
    measurement: MeasurementId,
    generations: Arc<[Arc<Generation>]>,
}

/// What is known of a measurement's sealed series without reading anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Series that are or were there: those in the index, and those that were dropped and taken out of it.
    pub series: u64,
    /// Ids below this are taken.
    pub end: SeriesId,
}

/// One generation's share.
#[derive(Clone, Debug)]
pub enum Share {
    /// Few series, whole: pages, ascending.
    Pages(Arc<Part>),
    /// Many.
    Stored(Stored),
}

impl Sealed {
    pub(super) fn new(measurement: MeasurementId, generations: &[Arc<Generation>]) -> Self {
        let having = generations.iter().filter(|g| {
            let entry = g.header.entry(measurement);
            entry.is_some_and(|entry| entry.series > 0)
        });
        Self {
            measurement,
            generations: having.cloned().collect(),
        }
    }

    /// No generation has any.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    /// Generations that have some.
    pub fn generations(&self) -> usize {
        self.generations.len()
    }

    /// What each generation has.
    ///
    /// # Errors
    /// Damage, input/output: so with all that follows.
    pub fn shares(&self) -> Result<Vec<Share>, StoreError> {
        let shares = self.generations.iter().map(|generation| {
            let part = generation.part(self.measurement)?;
            Ok(match Stored::new(generation, self.measurement, &part) {
                Some(stored) => Share::Stored(stored),
                None => Share::Pages(part),
            })
        });
        shares.collect()
    }

    /// The ids of all.
    pub fn ids(&self) -> Result<RoaringBitmap, StoreError> {
        let mut ids = RoaringBitmap::new();
        for generation in self.generations.iter() {
            ids |= generation.part(self.measurement)?.ids();
        }
        Ok(ids)
    }
}

impl Share {
    /// Its pages, when they are here.
    pub fn pages(&self) -> &[Arc<Page>] {
        match self {
            Self::Pages(part) => match &**part {
                Part::Small(small) => &small.pages,
                Part::Large(_) => &[],
            },
            Self::Stored(_) => &[],
        }
    }

    /// The page with this number, whole.
    ///
    /// # Errors
    /// Damage, input/output: so with what follows.
    pub fn page(&self, number: u32) -> Result<Option<Arc<Page>>, StoreError> {
        match self {
            Self::Stored(stored) if stored.large().has_page(number) => Ok(Some(stored.page(number)?)),
            Self::Stored(_) => Ok(None),
            Self::Pages(part) => Ok(match &**part {
                Part::Small(small) => small.page(number).cloned(),
                Part::Large(_) => None,
            }),
        }
    }

    /// The columns of some tags on a page, if it has the page; `None` where no series has the tag.
    pub fn columns(
        &self,
        number: u32,
        keys: &[String],
    ) -> Result<Option<Vec<Option<Arc<Column>>>>, StoreError> {
        match self {
            Self::Stored(stored) if stored.large().has_page(number) => {
                let columns = keys.iter().map(|key| stored.column(number, key));
                Ok(Some(columns.collect::<Result<_, _>>()?))
            }
            _ => {
                let page = self.page(number)?;
                Ok(page.map(|page| keys.iter().map(|key| page.column(key).cloned()).collect()))
            }
        }
    }
}

pub(super) fn totals<'a>(entries: impl Iterator<Item = &'a Entry>) -> Totals {
    entries.fold(Totals::default(), |totals, entry| Totals {
        series: totals.series + entry.series + entry.removed,
        end: totals.end.max(entry.end),
    })
}
