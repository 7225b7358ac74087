//! The keyspace `index`: names and what they stand for, dropped series, deletes, records.
//!
//! Written at each seal (only what is new), read whole at open, in bounded pieces. Values are drawn in
//! docs/formats/keys.md. Comes from the catalog by way of the seal, goes back to it by way of [`load`].

use super::deletes::{Delete, Deletes};
use super::engine::{Engine, IndexChanges};
use super::error::StoreError;
use super::frame;
use super::gone::Gone;
use super::index::SeriesIndex;
use super::keys::{self, index};
use crate::batch::{
    Command, DatabaseDefinition, Definitions, FieldDefinition, MeasurementDefinition, PolicyDefinition,
};
use crate::block::bytes::{Input, put, put_bytes, put_signed};
use crate::model::{FieldType, MeasurementId, PolicyId, SeriesId, TimeRange};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Version of every value in `index` but the format entry.
const VERSION: u8 = 1;
/// Definitions handed over in one go while loading.
const LOAD_DEFINITIONS: usize = 1024;

/// What is handed over at open, in this order: the series index, what was dropped, definitions (databases, policies, measurements, fields), then
/// commands.
#[derive(Clone)]
pub enum Loaded {
    /// The sealed series.
    Index(Arc<SeriesIndex>),
    /// What was dropped and is not to be defined again.
    Gone(Gone),
    /// Names. The same definition may come twice.
    Definitions(Definitions),
    /// What else the catalog must know: [`Command::DropSeries`] for dead series ids, [`Command::PutRecord`].
    Command(Command),
    /// The next free ids of databases, policies and measurements; they are never given out twice.
    NextIds([u32; 3]),
}

/// A prepared write.
#[derive(Default)]
pub struct IndexWrite {
    /// For [`Engine::index_write`].
    pub changes: IndexChanges,
}

/// Reads the whole index.
///
/// # Errors
/// Damage: without its names data cannot be told apart, and ids that are not known would be given out again.
pub fn load(engine: &Engine, take: &mut dyn FnMut(Loaded)) -> Result<Deletes, StoreError> {
    if let Some(value) = engine.index_get(index::GONE)? {
        take(Loaded::Gone(decoded(index::GONE, &value, |_, input| {
            Gone::get(input)
        })?));
    }
    let mut batch = Definitions::default();
    let mut deletes = Deletes::default();
    let mut pass = |batch: &mut Definitions| {
        if !batch.is_empty() {
            take(Loaded::Definitions(std::mem::take(batch)));
        }
    };
    engine.index_scan(&[index::DATABASE], |key, value| {
        batch.databases.push(decoded(key, value, database)?);
        Ok(())
    })?;
    engine.index_scan(&[index::POLICY], |key, value| {
        batch.policies.push(decoded(key, value, policy)?);
        Ok(())
    })?;
    pass(&mut batch);
    engine.index_scan(&[index::MEASUREMENT], |key, value| {
        batch.measurements.push(decoded(key, value, measurement)?);
        if batch.measurements.len() >= LOAD_DEFINITIONS {
            pass(&mut batch);
        }
        Ok(())
    })?;
    pass(&mut batch);
    engine.index_scan(&[index::FIELD], |key, value| {
        batch.fields.push(decoded(key, value, field)?);
        if batch.fields.len() >= LOAD_DEFINITIONS {
            pass(&mut batch);
        }
        Ok(())
    })?;
    pass(&mut batch);
    engine.index_scan(&[index::DEAD], |key, value| {
        let (measurement, dead) = decoded(key, value, dead_series)?;
        take(Loaded::Command(Command::DropSeries {
            measurement,
            series: dead.iter().collect(),
        }));
        deletes.dead.insert(measurement, Arc::new(dead));
        Ok(())
    })?;
    engine.index_scan(&[index::DELETE], |key, value| {
        deletes.list.push(Arc::new(decoded(key, value, delete)?));
        Ok(())
    })?;
    engine.index_scan(&[index::RECORD], |key, value| {
        take(Loaded::Command(decoded(key, value, record)?));
        Ok(())
    })?;
    if let Some(value) = engine.index_get(index::NEXT_IDS)? {
        take(Loaded::NextIds(decoded(index::NEXT_IDS, &value, next_ids)?));
    }
    Ok(deletes)
}

/// The series of a measurement that are durably dropped.
///
/// # Errors
/// Damage, input/output.
pub fn dropped_series(engine: &Engine, id: MeasurementId) -> Result<RoaringBitmap, StoreError> {
    let key = index::dead_series(id);
    match engine.index_get(&key)? {
        Some(value) => Ok(decoded(&key, &value, dead_series)?.1),
        None => Ok(RoaringBitmap::new()),
    }
}

/// The seed of the hashes of series' keys; 0 in stores that were made before there was one.
///
/// # Errors
/// Damage, input/output.
pub fn key_seed(engine: &Engine) -> Result<u64, StoreError> {
    let key = index::KEY_SEED;
    match engine.index_get(key)? {
        Some(value) => decoded(key, &value, |_, input| input.get()),
        None => Ok(0),
    }
}

/// The value that keeps a seed.
pub fn key_seed_value(seed: u64) -> Vec<u8> {
    let mut value = frame::begin(VERSION);
    put(&mut value, seed);
    frame::finish(index::KEY_SEED, value)
}

/// The last sequence that something in the store depends on, its own rows aside: the journal had it.
///
/// # Errors
/// Damage, input/output.
pub fn heard(engine: &Engine) -> Result<u64, StoreError> {
    let key = index::HEARD;
    match engine.index_get(key)? {
        Some(value) => decoded(key, &value, |_, input| input.get()),
        None => Ok(0),
    }
}

/// Is this measurement in the index?
///
/// # Errors
/// Damage, input/output.
pub fn has_measurement(engine: &Engine, id: MeasurementId) -> Result<bool, StoreError> {
    Ok(engine.index_get(&index::measurement(id))?.is_some())
}

impl IndexWrite {
    /// What a seal changes: new definitions first, then commands in order. Deletes are not in here: see the store's `deletes`.
    ///
    /// # Errors
    /// Damage of what must be read to be changed; input/output.
    pub fn prepare<'a>(
        engine: &Engine,
        definitions: &Definitions,
        commands: impl Iterator<Item = &'a Command>,
    ) -> Result<Self, StoreError> {
        let mut write = Self::default();
        for d in &definitions.databases {
            write.put(index::database(d.id), |out| put_bytes(out, d.name.as_bytes()));
        }
        for d in &definitions.policies {
            write.put_policy(engine, d)?;
        }
        for d in &definitions.measurements {
            write.put(index::measurement(d.id), |out| {
                put(out, u64::from(d.policy));
                put_bytes(out, d.name.as_bytes());
            });
        }
        for d in &definitions.fields {
            write.put(index::field(d.measurement, Some(d.id)), |out| {
                out.push(d.field_type as u8);
                put_bytes(out, d.name.as_bytes());
            });
        }
        for command in commands {
            match command {
                Command::DropDatabase(id) => write.drop_database(engine, *id)?,
                Command::DropPolicy(id) => write.drop_policy(engine, *id)?,
                Command::AlterPolicy(definition) => write.put_policy(engine, definition)?,
                Command::DropMeasurement(id) => write.drop_measurement(engine, *id)?,
                Command::DropSeries { measurement, series } => {
                    write.put_dead(engine, *measurement, series)?
                }
                Command::PutRecord { kind, name, value } => {
                    write.put(index::record(kind, name), |out| {
                        put_bytes(out, kind.as_bytes());
                        put_bytes(out, name.as_bytes());
                        put_bytes(out, value.as_bytes());
                    });
                }
                Command::RemoveRecord { kind, name } => write.remove(index::record(kind, name)),
                Command::Delete { .. } => {}
            }
        }
        Ok(write)
    }

    /// Sets a value.
    fn put(&mut self, key: Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        let mut value = frame::begin(VERSION);
        fill(&mut value);
        let value = frame::finish(&key, value);
        self.changes.insert(key, Some(value));
    }

    /// Removes a value.
    fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// Stores the next free ids.
    pub fn put_next_ids(&mut self, ids: [u32; 3]) {
        self.put(index::NEXT_IDS.to_vec(), |out| {
            ids.iter().for_each(|id| put(out, u64::from(*id)))
        });
    }

    /// Stores the numbers of what was dropped.
    pub fn put_gone(&mut self, gone: &Gone) {
        self.put(index::GONE.to_vec(), |out| gone.put(out));
    }

    /// Stores what was heard of.
    pub fn put_heard(&mut self, sequence: u64) {
        self.put(index::HEARD.to_vec(), |out| put(out, sequence));
    }

    /// Stores a delete.
    pub fn put_delete(&mut self, delete: &Delete) {
        self.put(index::delete(delete.sequence, delete.number), |out| {
            put(out, u64::from(delete.measurement));
            put_signed(out, delete.time.min);
            put_signed(out, delete.time.max);
            if let Some(series) = &delete.series {
                put_set(out, series);
            }
        });
    }

    /// Forgets a delete.
    pub fn remove_delete(&mut self, delete: &Delete) {
        self.remove(index::delete(delete.sequence, delete.number));
    }

    /// The entries under a prefix, as they will be after this write.
    fn entries(&self, engine: &Engine, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut found = IndexChanges::new();
        engine.index_scan(prefix, |key, value| {
            found.insert(key.to_vec(), Some(value.to_vec()));
            Ok(())
        })?;
        let changed = self
            .changes
            .range(prefix.to_vec()..)
            .take_while(|(key, _)| key.starts_with(prefix));
        found.extend(changed.map(|(key, value)| (key.clone(), value.clone())));
        Ok(found
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect())
    }

    /// A policy that becomes the default takes that from the others of its database.
    fn put_policy(&mut self, engine: &Engine, definition: &PolicyDefinition) -> Result<(), StoreError> {
        self.put(index::policy(definition.id), |out| {
            put_policy_fields(out, definition)
        });
        if definition.default {
            for (key, value) in self.entries(engine, &[index::POLICY])? {
                let other = decoded(&key, &value, policy)?;
                if other.database == definition.database && other.id != definition.id && other.default {
                    let other = PolicyDefinition {
                        default: false,
                        ..other
                    };
                    self.put(index::policy(other.id), |out| put_policy_fields(out, &other));
                }
            }
        }
        Ok(())
    }

    fn drop_database(&mut self, engine: &Engine, id: u32) -> Result<(), StoreError> {
        for (key, value) in self.entries(engine, &[index::POLICY])? {
            let policy = decoded(&key, &value, policy)?;
            if policy.database == id {
                self.drop_policy(engine, policy.id)?;
            }
        }
        self.remove(index::database(id));
        Ok(())
    }

    fn drop_policy(&mut self, engine: &Engine, id: PolicyId) -> Result<(), StoreError> {
        for (key, value) in self.entries(engine, &[index::MEASUREMENT])? {
            let measurement = decoded(&key, &value, measurement)?;
            if measurement.policy == id {
                self.drop_measurement(engine, measurement.id)?;
            }
        }
        self.remove(index::policy(id));
        Ok(())
    }

    fn drop_measurement(&mut self, engine: &Engine, id: MeasurementId) -> Result<(), StoreError> {
        for (key, _) in self.entries(engine, &index::field(id, None))? {
            self.remove(key);
        }
        self.remove(index::measurement(id));
        self.remove(index::dead_series(id));
        Ok(())
    }

    fn put_dead(
        &mut self,
        engine: &Engine,
        id: MeasurementId,
        series: &[SeriesId],
    ) -> Result<(), StoreError> {
        let key = index::dead_series(id);
        let mut dead: RoaringBitmap = series.iter().copied().collect();
        for (key, value) in self.entries(engine, &key)? {
            dead |= decoded(&key, &value, dead_series)?.1;
        }
        self.put(key, |out| put_set(out, &dead));
        Ok(())
    }
}

fn put_policy_fields(out: &mut Vec<u8>, d: &PolicyDefinition) {
    put(out, u64::from(d.database));
    put_bytes(out, d.name.as_bytes());
    put_signed(out, d.duration);
    put_signed(out, d.shard_duration);
    put(out, u64::from(d.replication));
    out.push(u8::from(d.default));
}

/// Series ids in roaring's portable format, to the end of the value.
fn put_set(out: &mut Vec<u8>, set: &RoaringBitmap) {
    set.serialize_into(out).expect("writing into memory cannot fail");
}

/// Checks the frame and decodes the payload; all of it must be used.
fn decoded<T>(
    key: &[u8],
    value: &[u8],
    decode: impl FnOnce(&[u8], &mut Input<'_>) -> Option<T>,
) -> Result<T, StoreError> {
    let mut input = Input(frame::open(key, value, VERSION)?);
    decode(key, &mut input)
        .filter(|_| input.is_empty())
        .ok_or_else(|| StoreError::damaged(keys::describe(key), "a value of another shape"))
}

fn next_ids(_: &[u8], input: &mut Input<'_>) -> Option<[u32; 3]> {
    Some([input.get_u32()?, input.get_u32()?, input.get_u32()?])
}

fn database(key: &[u8], input: &mut Input<'_>) -> Option<DatabaseDefinition> {
    Some(DatabaseDefinition {
        id: index::id_of(key)?,
        name: input.get_text()?,
    })
}

fn policy(key: &[u8], input: &mut Input<'_>) -> Option<PolicyDefinition> {
    Some(PolicyDefinition {
        id: index::id_of(key)?,
        database: input.get_u32()?,
        name: input.get_text()?,
        duration: input.get_signed()?,
        shard_duration: input.get_signed()?,
        replication: input.get_u32()?,
        default: input.byte()? == 1,
    })
}

fn measurement(key: &[u8], input: &mut Input<'_>) -> Option<MeasurementDefinition> {
    Some(MeasurementDefinition {
        id: index::id_of(key)?,
        policy: input.get_u32()?,
        name: input.get_text()?,
    })
}

fn field(key: &[u8], input: &mut Input<'_>) -> Option<FieldDefinition> {
    let id = u16::from_be_bytes(index::rest_of(key).try_into().ok()?);
    let field_type = FieldType::from_code(input.byte()?)?;
    Some(FieldDefinition {
        measurement: index::id_of(key)?,
        id,
        field_type,
        name: input.get_text()?,
    })
}

fn set(input: &mut Input<'_>) -> Option<RoaringBitmap> {
    RoaringBitmap::deserialize_from(&mut input.0).ok()
}

fn dead_series(key: &[u8], input: &mut Input<'_>) -> Option<(MeasurementId, RoaringBitmap)> {
    Some((index::id_of(key)?, set(input)?))
}

fn delete(key: &[u8], input: &mut Input<'_>) -> Option<Delete> {
    let (sequence, number) = key.get(1..)?.split_first_chunk::<8>()?;
    Some(Delete {
        sequence: u64::from_be_bytes(*sequence),
        number: u32::from_be_bytes(number.try_into().ok()?),
        measurement: input.get_u32()?,
        time: TimeRange {
            min: input.get_signed()?,
            max: input.get_signed()?,
        },
        series: if input.is_empty() { None } else { Some(set(input)?) },
    })
}

fn record(_: &[u8], input: &mut Input<'_>) -> Option<Command> {
    Some(Command::PutRecord {
        kind: input.get_text()?,
        name: input.get_text()?,
        value: input.get_text()?,
    })
}
