//! One measurement: its fields, its series, and how far their definitions have got on the way to disk.

use super::delta::Delta;
use super::near::Near;
use super::state::Unsealed;
use super::view::SeriesView;
use crate::batch::{Definitions, FieldDefinition, MeasurementDefinition, SeriesDefinition};
use crate::model::{FieldId, FieldType, MeasurementId, PolicyId, SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::index::{NewSeries, PAGE_SERIES, Page, SeriesIndex, key_hash, page_of};
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Fields a measurement may have.
pub const FIELDS_PER_MEASUREMENT_MAX: usize = 16_384;

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub field_type: FieldType,
}

/// The fields of a measurement, by id and by name.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    by_id: Vec<Option<Field>>,
    by_name: HashMap<String, FieldId>,
}

/// See the module.
pub struct Measurement {
    /// Its id.
    pub id: MeasurementId,
    /// Of which policy.
    pub policy: PolicyId,
    /// Its name.
    pub name: String,
    /// What is sealed of its series.
    index: Arc<SeriesIndex>,
    state: RwLock<State>,
    /// Rows that a shard got from the last request: about so many will come with the next.
    rows_hint: AtomicUsize,
}

/// No hint says more.
const ROWS_HINT_MAX: usize = 1 << 14;

#[derive(Default)]
struct State {
    fields: Arc<Fields>,
    series: Delta,
    /// The pages of the series, as views share them; made anew after a change.
    pages: Option<Arc<[Arc<Page>]>>,
    /// The next series' id.
    next: SeriesId,
    /// Series that exist or existed, sealed or not.
    count: u64,
    dropped: Arc<RoaringBitmap>,
    new: Pending,
    unsealed: Pending,
}

/// Definitions in one state.
#[derive(Default)]
struct Pending {
    itself: bool,
    fields: Vec<FieldId>,
    series: RoaringBitmap,
}

impl Fields {
    /// Fields in order of creation.
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, &Field)> {
        self.by_id
            .iter()
            .enumerate()
            .filter_map(|(id, field)| Some((id as FieldId, field.as_ref()?)))
    }

    /// The field with this name.
    pub fn by_name(&self, name: &str) -> Option<(FieldId, FieldType)> {
        let id = *self.by_name.get(name)?;
        Some((id, self.get(id)?.field_type))
    }

    /// The field with this id.
    pub fn get(&self, id: FieldId) -> Option<&Field> {
        self.by_id.get(usize::from(id))?.as_ref()
    }

    fn put(&mut self, id: FieldId, field: Field) {
        let at = usize::from(id);
        if self.by_id.len() <= at {
            self.by_id.resize(at + 1, None);
        }
        self.by_name.insert(field.name.clone(), id);
        self.by_id[at] = Some(field);
    }
}

impl State {
    fn live_count(&self) -> u64 {
        self.count.saturating_sub(self.dropped.len())
    }

    /// The id of a new series.
    fn next_id(&self) -> Option<SeriesId> {
        let next = if self.series.is_full(self.next) {
            (page_of(self.next) + 1).checked_mul(PAGE_SERIES)?
        } else {
            self.next
        };
        (next < SeriesId::MAX).then_some(next)
    }

    fn insert(&mut self, id: SeriesId, hash: u64, tags: &[(String, String)]) -> Option<()> {
        self.series.insert(id, hash, tags)?;
        self.pages = None;
        self.next = self.next.max(id + 1);
        self.count += 1;
        Some(())
    }
}

impl Measurement {
    /// About so many rows will come for a shard with the next request.
    pub fn rows_hint(&self) -> usize {
        self.rows_hint.load(Ordering::Relaxed)
    }

    /// So many came with this one.
    pub fn set_rows_hint(&self, rows: usize) {
        self.rows_hint.store(rows.min(ROWS_HINT_MAX), Ordering::Relaxed);
    }

    /// A measurement that is not known to be durable. Of those that are, the index knows the series.
    pub(super) fn new(
        definition: MeasurementDefinition,
        index: Arc<SeriesIndex>,
        delta_bytes: Arc<AtomicUsize>,
    ) -> Self {
        let totals = index.set().totals(definition.id);
        let state = State {
            series: Delta::new(delta_bytes),
            next: totals.end,
            count: totals.series,
            new: Pending {
                itself: true,
                ..Pending::default()
            },
            ..State::default()
        };
        let MeasurementDefinition { id, policy, name } = definition;
        Self {
            id,
            policy,
            name,
            index,
            state: RwLock::new(state),
            rows_hint: AtomicUsize::new(0),
        }
    }

    /// Its fields as of now.
    pub fn fields(&self) -> Arc<Fields> {
        self.read().fields.clone()
    }

    /// Its series as of now.
    pub fn view(&self) -> SeriesView {
        let state = self.read();
        let pages = match &state.pages {
            Some(pages) => pages.clone(),
            None => {
                drop(state);
                return self.fresh_view();
            }
        };
        self.view_of(&state, pages)
    }

    fn fresh_view(&self) -> SeriesView {
        let mut state = self.write();
        let pages: Arc<[Arc<Page>]> = state.series.pages().cloned().collect();
        state.pages = Some(pages.clone());
        self.view_of(&state, pages)
    }

    /// IMPORTANT: the index is asked while the state is locked: what leaves the state at a seal is in the index before.
    fn view_of(&self, state: &State, pages: Arc<[Arc<Page>]>) -> SeriesView {
        SeriesView::new(
            pages,
            self.index.of(self.id),
            state.dropped.clone(),
            state.live_count(),
        )
    }

    /// Number of series that exist, exactly.
    pub fn live_count(&self) -> u64 {
        self.read().live_count()
    }

    /// The field with this name, made with this type when it is not there. `None` when there are too many.
    pub fn field_or_create(&self, name: &str, field_type: FieldType) -> Option<(FieldId, FieldType)> {
        if let Some(found) = self.read().fields.by_name(name) {
            return Some(found);
        }
        let mut state = self.write();
        if let Some(found) = state.fields.by_name(name) {
            return Some(found);
        }
        let id = state.fields.by_id.len();
        if id >= FIELDS_PER_MEASUREMENT_MAX {
            return None;
        }
        let id = id as FieldId;
        Arc::make_mut(&mut state.fields).put(
            id,
            Field {
                name: name.to_string(),
                field_type,
            },
        );
        state.new.fields.push(id);
        Some((id, field_type))
    }

    /// The series with these tags (sorted by key), if it exists.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn find_series(&self, tags: &[(String, String)]) -> Result<Option<SeriesId>, StoreError> {
        let hash = key_hash(self.index.key_seed(), tags);
        let (set, dropped) = {
            let state = self.read();
            if let Some(id) = state.series.find(hash, tags) {
                return Ok(Some(id));
            }
            (self.index.set(), state.dropped.clone())
        };
        set.find(self.id, hash, tags, &|id| !dropped.contains(id))
    }

    /// The series with these tags (sorted by key), made when it is not there. `None` when a limit is reached.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn series_or_create(&self, tags: &[(String, String)]) -> Result<Option<SeriesId>, StoreError> {
        self.series_or_create_near(tags, &mut Near::default())
    }

    /// The same, of a series that may well come behind the one that was asked for before.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn series_or_create_near(
        &self,
        tags: &[(String, String)],
        near: &mut Near,
    ) -> Result<Option<SeriesId>, StoreError> {
        if let Some(id) = near.find(self.id, tags, &|| self.view())?
            && !self.read().dropped.contains(id)
        {
            near.was(self.id, id, false);
            return Ok(Some(id));
        }
        let found = self.search_or_create(tags)?;
        if let Some((id, is_new)) = found {
            near.was(self.id, id, is_new);
        }
        Ok(found.map(|(id, _)| id))
    }

    /// The series, and whether it was made.
    fn search_or_create(&self, tags: &[(String, String)]) -> Result<Option<(SeriesId, bool)>, StoreError> {
        let hash = key_hash(self.index.key_seed(), tags);
        // The version of the index that is known not to have it.
        let mut searched = None;
        loop {
            let (set, dropped) = {
                let mut state = self.write();
                if let Some(id) = state.series.find(hash, tags) {
                    return Ok(Some((id, false)));
                }
                let set = self.index.set();
                if searched == Some(set.version) || !set.has(self.id) {
                    let Some(id) = state.next_id() else {
                        return Ok(None);
                    };
                    if state.insert(id, hash, tags).is_none() {
                        return Ok(None);
                    }
                    state.new.series.insert(id);
                    return Ok(Some((id, true)));
                }
                (set, state.dropped.clone())
            };
            // Without the lock: this may read from disk.
            let found = set.find(self.id, hash, tags, &|id| !dropped.contains(id))?;
            if let Some(id) = found {
                return Ok(Some((id, false)));
            }
            searched = Some(set.version);
        }
    }

    /// Is the definition of this series in the journal?
    pub fn is_series_committed(&self, id: SeriesId) -> bool {
        !self.read().new.series.contains(id)
    }

    /// Was a series with this id ever defined?
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn knows_series(&self, id: SeriesId) -> Result<bool, StoreError> {
        let state = self.read();
        Ok(state.series.contains(id)
            || state.dropped.contains(id)
            || self.index.set().contains(self.id, id)?)
    }

    /// Adds what a batch with these series must define: everything not yet known to be committed.
    pub fn define_new(&self, series: &RoaringBitmap, into: &mut Definitions) {
        let state = self.read();
        if state.new.itself {
            into.measurements.push(self.definition());
        }
        into.fields.extend(
            state
                .new
                .fields
                .iter()
                .filter_map(|&id| self.field_definition(&state, id)),
        );
        if series.is_empty() {
            return;
        }
        let wanted = series & &state.new.series;
        into.series
            .extend(wanted.iter().map(|id| self.series_definition(&state, id)));
    }

    /// Takes over a definition that comes from the journal (`sealed == false`) or from the store.
    pub(super) fn apply_field(&self, definition: &FieldDefinition, sealed: bool) {
        let mut state = self.write();
        let field = Field {
            name: definition.name.clone(),
            field_type: definition.field_type,
        };
        Arc::make_mut(&mut state.fields).put(definition.id, field);
        let known = state.new.fields.iter().position(|&id| id == definition.id);
        if let Some(at) = known {
            state.new.fields.remove(at);
        }
        if !sealed && !state.unsealed.fields.contains(&definition.id) {
            state.unsealed.fields.push(definition.id);
        }
    }

    /// A definition that comes from the journal.
    ///
    /// # Errors
    /// Damage, input/output: whether it is sealed already cannot be told.
    pub(super) fn apply_series(&self, id: SeriesId, key: &SeriesKey) -> Result<(), StoreError> {
        let mut state = self.write();
        let known = state.series.contains(id)
            || state.dropped.contains(id)
            || self.index.set().contains(self.id, id)?;
        if known {
            state.next = state.next.max(id.saturating_add(1));
        } else if state
            .insert(id, key_hash(self.index.key_seed(), &key.tags), &key.tags)
            .is_none()
        {
            tracing::error!(measurement = self.name, id, "the series index is full");
        } else {
            state.unsealed.series.insert(id);
        }
        state.new.series.remove(id);
        Ok(())
    }

    /// As [`apply_field`](Self::apply_field), for the measurement itself.
    pub(super) fn apply_itself(&self, sealed: bool) {
        let mut state = self.write();
        state.new.itself = false;
        state.unsealed.itself |= !sealed;
    }

    /// A batch with these fields' and series' definitions is durable.
    pub(super) fn commit(&self, itself: bool, fields: &[FieldId], series: &[SeriesId]) {
        let mut state = self.write();
        let State { new, unsealed, .. } = &mut *state;
        if itself && std::mem::take(&mut new.itself) {
            unsealed.itself = true;
        }
        for id in fields {
            if let Some(at) = new.fields.iter().position(|f| f == id) {
                new.fields.remove(at);
                unsealed.fields.push(*id);
            }
        }
        let committed = &series.iter().copied().collect::<RoaringBitmap>() & &new.series;
        new.series -= &committed;
        unsealed.series |= committed;
    }

    /// Takes what is committed and not sealed. Put it back with [`unseal`](Self::unseal) when the seal fails, or say that it
    /// is [`sealed`](Self::sealed).
    pub(super) fn take_unsealed(&self, into: &mut Unsealed) {
        let mut state = self.write();
        let unsealed = std::mem::take(&mut state.unsealed);
        let definitions = &mut into.definitions;
        if unsealed.itself {
            definitions.measurements.push(self.definition());
        }
        let fields = unsealed.fields.iter();
        definitions
            .fields
            .extend(fields.filter_map(|&id| self.field_definition(&state, id)));
        if !unsealed.series.is_empty() {
            let pages = state.series.pages().filter(|page| {
                let first = page.number() * PAGE_SERIES;
                unsealed
                    .series
                    .range_cardinality(first..=first + (PAGE_SERIES - 1))
                    > 0
            });
            into.series.push(NewSeries {
                measurement: self.id,
                pages: pages.cloned().collect(),
                ids: unsealed.series,
            });
        }
    }

    /// Undoes [`take_unsealed`](Self::take_unsealed).
    pub(super) fn unseal(&self, itself: bool, fields: &[FieldId], series: &RoaringBitmap) {
        let mut state = self.write();
        state.unsealed.itself |= itself;
        state.unsealed.fields.extend(fields);
        state.unsealed.series |= series;
    }

    /// These series are in the index now: they need not be in memory.
    pub(super) fn sealed(&self, series: &RoaringBitmap) {
        let mut state = self.write();
        state.series.remove(series);
        state.pages = None;
    }

    /// Forgets series.
    pub(super) fn drop_series(&self, series: &[SeriesId]) {
        let mut state = self.write();
        let State {
            next,
            series: delta,
            dropped,
            ..
        } = &mut *state;
        let dropped = Arc::make_mut(dropped);
        for &id in series {
            if id >= *next {
                // Given out for a batch that was refused. IMPORTANT: not to be given out again, for the store takes it for dropped.
                *next = id.saturating_add(1);
            } else if dropped.insert(id) {
                delta.forget(id, self.index.key_seed());
            }
        }
    }

    /// Series below this one are never given out again.
    pub(super) fn raise_next_series(&self, first: SeriesId) {
        let mut state = self.write();
        state.next = state.next.max(first);
    }

    /// What says that this measurement exists.
    pub fn definition(&self) -> MeasurementDefinition {
        MeasurementDefinition {
            id: self.id,
            policy: self.policy,
            name: self.name.clone(),
        }
    }

    fn field_definition(&self, state: &State, id: FieldId) -> Option<FieldDefinition> {
        let field = state.fields.get(id)?;
        Some(FieldDefinition {
            measurement: self.id,
            id,
            name: field.name.clone(),
            field_type: field.field_type,
        })
    }

    fn series_definition(&self, state: &State, id: SeriesId) -> SeriesDefinition {
        SeriesDefinition {
            measurement: self.id,
            id,
            key: state.series.canonical(&self.name, id),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
