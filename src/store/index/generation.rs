//! A generation: an immutable pack of series, and how its values are read, checked at every read from disk.

use super::cache::{CacheKey, Cached};
use super::column::Column;
use super::header::Header;
use super::page::{Page, page_of};
use super::page_codec::{self, PageHeader};
use super::part::{Large, Part};
use super::place::{Kind, Place};
use super::postings;
use super::table::{Fingerprints, Ids};
use super::terms::Terms;
use crate::block::bytes::Input;
use crate::model::{MeasurementId, SeriesId};
use crate::store::engine::Bytes;
use crate::store::{Core, StoreError, frame};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Version of every value in `series`.
pub const VERSION: u8 = 1;

/// See the module. Its pack is dropped when nobody holds it any more.
pub struct Generation {
    /// The pack.
    pub pack: u64,
    /// What it has.
    pub header: Header,
    pub(super) core: Arc<Core>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("pack", &self.pack)
            .finish_non_exhaustive()
    }
}

/// A value of another shape than it should have.
pub(super) fn damaged(place: &Place) -> StoreError {
    StoreError::damaged(place.describe(), "contents of another shape")
}

impl Generation {
    /// Series in it, over all measurements.
    pub fn series(&self) -> u64 {
        self.header.measurements.iter().map(|entry| entry.series).sum()
    }

    fn place(&self, measurement: MeasurementId, kind: Kind, number: u32, part: u16) -> Place {
        Place {
            pack: self.pack,
            measurement,
            kind,
            number,
            part,
        }
    }

    /// A value, its frame checked; [`frame::body`] is the payload.
    fn value(&self, place: &Place) -> Result<Bytes, StoreError> {
        let key = place.key();
        let value = self.core.engine.series_get(&key, &|| place.describe())?;
        let value = value.ok_or_else(|| StoreError::damaged(place.describe(), "it is missing"))?;
        frame::open_at(&key, &value, VERSION, &|| place.describe())?;
        Ok(value)
    }

    /// What it has of a measurement.
    ///
    /// # Errors
    /// Damage, input/output: so with all that follows.
    pub fn part(&self, measurement: MeasurementId) -> Result<Arc<Part>, StoreError> {
        let place = self.place(measurement, Kind::Directory, 0, 0);
        let key = CacheKey { place, column: 0 };
        if let Some(Cached::Part(part)) = self.core.index_cache.get(&key) {
            return Ok(part);
        }
        let value = self.value(&place)?;
        let part = Part::decode(frame::body(&value), self.core.key_seed).ok_or_else(|| damaged(&place))?;
        let part = Arc::new(part);
        self.core.index_cache.insert(key, Cached::Part(part.clone()));
        Ok(part)
    }
}

/// The many series that a generation has of a measurement. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stored {
    generation: Arc<Generation>,
    measurement: MeasurementId,
    part: Arc<Part>,
}

impl Stored {
    /// `None`: there are few, and the part has them whole.
    pub fn new(generation: &Arc<Generation>, measurement: MeasurementId, part: &Arc<Part>) -> Option<Self> {
        matches!(**part, Part::Large(_)).then(|| Self {
            generation: generation.clone(),
            measurement,
            part: part.clone(),
        })
    }

    /// The seed of hashes of keys.
    pub fn key_seed(&self) -> u64 {
        self.generation.core.key_seed
    }

    /// The directory.
    pub fn large(&self) -> &Large {
        match &*self.part {
            Part::Large(large) => large,
            Part::Small(_) => unreachable!("looked at when it was made"),
        }
    }

    fn place(&self, kind: Kind, number: u32, part: u16) -> Place {
        self.generation.place(self.measurement, kind, number, part)
    }

    fn cached(
        &self,
        place: Place,
        column: u32,
        read: impl FnOnce(&[u8], Bytes) -> Option<Cached>,
    ) -> Result<Cached, StoreError> {
        let cache = &self.generation.core.index_cache;
        let key = CacheKey { place, column };
        if let Some(cached) = cache.get(&key) {
            return Ok(cached);
        }
        let value = self.generation.value(&place)?;
        let cached = read(frame::body(&value), value.clone()).ok_or_else(|| damaged(&place))?;
        cache.insert(key, cached.clone());
        Ok(cached)
    }

    /// The payload of a page, as it is stored; not kept in the cache.
    ///
    /// # Errors
    /// Damage, input/output: so with all that follows.
    pub fn page_bytes(&self, number: u32) -> Result<Vec<u8>, StoreError> {
        let value = self.generation.value(&self.place(Kind::Page, number, 0))?;
        Ok(frame::body(&value).to_vec())
    }

    /// A page, which must be one of [`Large::pages`].
    pub fn page(&self, number: u32) -> Result<Arc<Page>, StoreError> {
        let place = self.place(Kind::Page, number, 0);
        let read = |payload: &[u8], _| Some(Cached::Page(Arc::new(page_codec::decode(payload, number)?)));
        match self.cached(place, 0, read)? {
            Cached::Page(page) => Ok(page),
            _ => Err(damaged(&place)),
        }
    }

    /// A page that is not kept in the cache.
    pub fn page_once(&self, number: u32) -> Result<Arc<Page>, StoreError> {
        let place = self.place(Kind::Page, number, 0);
        let value = self.generation.value(&place)?;
        let page = page_codec::decode(frame::body(&value), number).ok_or_else(|| damaged(&place))?;
        Ok(Arc::new(page))
    }

    /// The column of a tag on a page; `None` where no series of this generation has it.
    pub fn column(&self, number: u32, key: &str) -> Result<Option<Arc<Column>>, StoreError> {
        let Some((at, _)) = self.large().tag(key) else {
            return Ok(None);
        };
        let place = self.place(Kind::Page, number, 0);
        let whole = CacheKey { place, column: 0 };
        if let Some(Cached::Page(page)) = self.generation.core.index_cache.get(&whole) {
            return Ok(page.column(key).cloned());
        }
        let read = |payload: &[u8], _| {
            let column = PageHeader::decode(payload)?.column(payload, key)?;
            Some(Cached::Column(Arc::new(column)))
        };
        match self.cached(place, at as u32 + 1, read)? {
            Cached::Column(column) => Ok(Some(column)),
            _ => Err(damaged(&place)),
        }
    }

    /// A page of the key table.
    pub fn fingerprints(&self, number: u32) -> Result<Arc<Fingerprints<Bytes>>, StoreError> {
        let place = self.place(Kind::Table, number, 0);
        let bits = self.large().page_bits;
        let read = |_: &[u8], value: Bytes| {
            let to = value.len() - frame::CHECKSUM_BYTES;
            Some(Cached::Fingerprints(Arc::new(Fingerprints::decode(
                value, 1, to, bits,
            )?)))
        };
        match self.cached(place, 0, read)? {
            Cached::Fingerprints(prints) => Ok(prints),
            _ => Err(damaged(&place)),
        }
    }

    /// The ids of a page of the key table.
    pub fn table_ids(&self, number: u32) -> Result<Arc<Ids<Bytes>>, StoreError> {
        let place = self.place(Kind::Table, number, 1);
        let read = |_: &[u8], value: Bytes| {
            let to = value.len() - frame::CHECKSUM_BYTES;
            Some(Cached::Ids(Arc::new(Ids::decode(value, 1, to)?)))
        };
        match self.cached(place, 0, read)? {
            Cached::Ids(ids) => Ok(ids),
            _ => Err(damaged(&place)),
        }
    }

    /// A page of the key table, whole: hashes and ids, in order of hashes. Not kept in the cache.
    pub fn table_page(&self, number: u32) -> Result<Vec<(u32, SeriesId)>, StoreError> {
        let place = self.place(Kind::Table, number, 0);
        let value = self.generation.value(&place)?;
        let prints = Fingerprints::decode(
            frame::body(&value),
            0,
            frame::body(&value).len(),
            self.large().page_bits,
        );
        let prints = prints.ok_or_else(|| damaged(&place))?;
        let place = self.place(Kind::Table, number, 1);
        let value = self.generation.value(&place)?;
        let ids = Ids::decode(frame::body(&value), 0, frame::body(&value).len());
        let ids = ids
            .filter(|ids| ids.count() == prints.count())
            .ok_or_else(|| damaged(&place))?;
        Ok(prints
            .hashes(number)
            .enumerate()
            .map(|(at, hash)| (hash, ids.get(at)))
            .collect())
    }

    /// The series with these tags (sorted by key), whose hash is known, if `wanted` takes it.
    pub fn find(
        &self,
        hash: u32,
        tags: &[(String, String)],
        wanted: &dyn Fn(SeriesId) -> bool,
    ) -> Result<Option<SeriesId>, StoreError> {
        let number = super::table::page_of_hash(hash, self.large().page_bits);
        let prints = self.fingerprints(number)?;
        for at in prints.find(hash) {
            let ids = self.table_ids(number)?;
            if at >= ids.count() {
                return Err(damaged(&self.place(Kind::Table, number, 1)));
            }
            let id = ids.get(at);
            if wanted(id)
                && self.large().ids.contains(id)
                && self.page(page_of(id))?.has_tags(super::page::slot_of(id), tags)
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// A block of terms, by its number over all tags.
    pub fn terms(&self, number: u32) -> Result<Arc<Terms>, StoreError> {
        let place = self.place(Kind::Terms, number, 0);
        let read = |payload: &[u8], _| Some(Cached::Terms(Arc::new(Terms::decode(payload)?)));
        match self.cached(place, 0, read)? {
            Cached::Terms(terms) => Ok(terms),
            _ => Err(damaged(&place)),
        }
    }

    /// A block of terms that is not kept in the cache.
    pub fn terms_once(&self, number: u32) -> Result<Arc<Terms>, StoreError> {
        let place = self.place(Kind::Terms, number, 0);
        let value = self.generation.value(&place)?;
        let terms = Terms::decode(frame::body(&value)).ok_or_else(|| damaged(&place))?;
        Ok(Arc::new(terms))
    }

    /// The series of a term of a block: adds them.
    pub fn add_series(
        &self,
        terms: &Terms,
        number: u32,
        at: usize,
        to: &mut Gathered,
    ) -> Result<(), StoreError> {
        use super::terms::Series;
        match terms.series(at) {
            Series::One(id) => to.ids.push(id),
            Series::Set(set) => {
                let set = postings::decode(&mut Input(set));
                to.set |= set.ok_or_else(|| damaged(&self.place(Kind::Terms, number, 0)))?;
            }
            Series::Apart => {
                let place = self.place(Kind::Terms, number, at as u16 + 1);
                let value = self.generation.value(&place)?;
                let set = postings::decode(&mut Input(frame::body(&value)));
                to.set |= set.ok_or_else(|| damaged(&place))?;
            }
        }
        Ok(())
    }
}

/// Series of one or more terms.
#[derive(Debug, Default)]
pub struct Gathered {
    /// One by one, in any order.
    pub ids: Vec<SeriesId>,
    /// And many at once.
    pub set: RoaringBitmap,
}

impl Gathered {
    /// Begins anew.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.set.clear();
    }

    /// Takes out what is gone.
    pub fn remove(&mut self, gone: &RoaringBitmap) {
        if !gone.is_empty() {
            self.ids.retain(|id| !gone.contains(*id));
            self.set -= gone;
        }
    }

    /// Is any of them in a set?
    pub fn touches(&self, set: &RoaringBitmap) -> bool {
        self.ids.iter().any(|id| set.contains(*id)) || !self.set.is_disjoint(set)
    }

    /// The only one, if there is just one.
    pub fn only(&self) -> Option<SeriesId> {
        match (&self.ids[..], self.set.len()) {
            ([id], 0) => Some(*id),
            ([], 1) => self.set.min(),
            _ => None,
        }
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.set.is_empty()
    }

    /// All of them.
    pub fn take(&mut self) -> RoaringBitmap {
        let mut ids = std::mem::take(&mut self.ids);
        let mut set = std::mem::take(&mut self.set);
        ids.sort_unstable();
        ids.dedup();
        if let Ok(more) = RoaringBitmap::from_sorted_iter(ids) {
            set |= more;
        }
        set
    }
}
