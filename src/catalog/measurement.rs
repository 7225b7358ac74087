//! One measurement: its fields, its series, and how far their definitions have got on the way to disk.

use super::delta::Delta;
use super::view::SeriesView;
use crate::batch::{Definitions, FieldDefinition, MeasurementDefinition, SeriesDefinition};
use crate::model::{FieldId, FieldType, MeasurementId, PolicyId, SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::index::{Page, key_hash};
use roaring::RoaringBitmap;
use std::collections::HashMap;
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
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    fields: Arc<Fields>,
    series: Delta,
    /// The pages of the series, as views share them; made anew after a change.
    pages: Option<Arc<[Arc<Page>]>>,
    /// The next series' id.
    next: SeriesId,
    /// Series that exist or existed.
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
        self.count - self.dropped.len()
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
    /// A measurement that exists only in memory so far.
    pub(super) fn new(definition: MeasurementDefinition) -> Self {
        let state = State {
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
            state: RwLock::new(state),
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
        SeriesView::new(pages, state.dropped.clone(), state.live_count())
    }

    fn fresh_view(&self) -> SeriesView {
        let mut state = self.write();
        let pages: Arc<[Arc<Page>]> = state.series.pages().cloned().collect();
        state.pages = Some(pages.clone());
        SeriesView::new(pages, state.dropped.clone(), state.live_count())
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
        Ok(self.read().series.find(key_hash(tags), tags))
    }

    /// The series with these tags (sorted by key), made when it is not there. `None` when a limit is reached.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn series_or_create(&self, tags: &[(String, String)]) -> Result<Option<SeriesId>, StoreError> {
        let hash = key_hash(tags);
        let mut state = self.write();
        if let Some(id) = state.series.find(hash, tags) {
            return Ok(Some(id));
        }
        let id = state.next;
        if id == SeriesId::MAX || state.insert(id, hash, tags).is_none() {
            return Ok(None);
        }
        state.new.series.insert(id);
        Ok(Some(id))
    }

    /// Is the definition of this series in the journal?
    pub fn is_series_committed(&self, id: SeriesId) -> bool {
        !self.read().new.series.contains(id)
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

    /// As [`apply_field`](Self::apply_field), for a series.
    pub(super) fn apply_series(&self, id: SeriesId, key: &SeriesKey, sealed: bool) {
        let hash = key_hash(&key.tags);
        let mut state = self.write();
        let known = state.series.contains(id) || state.series.find(hash, &key.tags).is_some();
        if !known && state.insert(id, hash, &key.tags).is_none() {
            tracing::error!(measurement = self.name, id, "the series index is full");
        }
        state.new.series.remove(id);
        if !sealed {
            state.unsealed.series.insert(id);
        }
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
        for &id in series {
            if new.series.remove(id) {
                unsealed.series.insert(id);
            }
        }
    }

    /// Takes what is committed and not sealed. Put it back with [`unseal`](Self::unseal) when the seal fails.
    pub(super) fn take_unsealed(&self) -> Definitions {
        let unsealed = std::mem::take(&mut self.write().unsealed);
        let state = self.read();
        Definitions {
            measurements: unsealed.itself.then(|| self.definition()).into_iter().collect(),
            fields: unsealed
                .fields
                .iter()
                .filter_map(|&id| self.field_definition(&state, id))
                .collect(),
            series: unsealed
                .series
                .iter()
                .map(|id| self.series_definition(&state, id))
                .collect(),
            ..Definitions::default()
        }
    }

    /// Undoes [`take_unsealed`](Self::take_unsealed).
    pub(super) fn unseal(&self, itself: bool, fields: &[FieldId], series: &[SeriesId]) {
        let mut state = self.write();
        state.unsealed.itself |= itself;
        state.unsealed.fields.extend(fields);
        state.unsealed.series.extend(series);
    }

    /// Forgets series.
    pub(super) fn drop_series(&self, series: &[SeriesId]) {
        let mut state = self.write();
        for &id in series {
            if state.series.contains(id) && Arc::make_mut(&mut state.dropped).insert(id) {
                state.series.forget(id);
            }
        }
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
            key: SeriesKey {
                measurement: self.name.clone(),
                tags: state.series.tags(id).unwrap_or_default(),
            }
            .canonical(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
