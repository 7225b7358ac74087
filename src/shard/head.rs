//! One shard's slice of the head: for each measurement a short list of sorted, immutable parts. Pure.
//!
//! A group of batches becomes one part a measurement. When [`FAN_IN`] parts of the same size class have gathered they
//! are merged, so that a query never meets more than `FAN_IN` times the number of classes, and a row is copied only once a
//! class. Parts stay packed until a query asks for them; while queries ask for a measurement's parts, the new ones are unpacked
//! here, so that the queries find them ready.

use super::Group;
use super::part::{HeadPart, Source};
use crate::batch::Command;
use crate::model::{MeasurementId, SeriesId, TimeRange};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Parts of one size class that are merged into one of the next.
pub const FAN_IN: usize = 32;

/// Parts of one measurement, oldest first: where two have the same point, the later holds the newer values.
pub type Parts = Arc<[Arc<HeadPart>]>;

/// All parts of one shard.
pub type PartMap = HashMap<MeasurementId, Parts>;

/// What applying a group changed: the new lists of the measurements it touched.
#[derive(Default)]
pub struct Update {
    /// The new lists.
    pub lists: Vec<(MeasurementId, Parts)>,
    /// Bytes of all parts of the shard afterwards.
    pub bytes: usize,
}

/// See the module.
pub struct ShardHead {
    shard: u16,
    parts: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
    bytes: usize,
}

impl ShardHead {
    /// An empty head for this shard.
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            parts: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes the shard's rows of a group.
    pub fn apply(&mut self, group: &Group) -> Update {
        let mut gathered: HashMap<MeasurementId, Vec<Source>> = HashMap::new();
        let mut lists: HashMap<MeasurementId, Parts> = HashMap::new();
        for batch in &group.batches {
            for delete in RowDelete::of_commands(batch.commands()) {
                // Rows that came before it in this group are deleted with the others.
                if let Some(tables) = gathered.remove(&delete.measurement) {
                    self.push(delete.measurement, tables);
                }
                lists.insert(delete.measurement, self.delete(&delete));
            }
            for table in batch.tables().filter(|table| table.shard() == self.shard) {
                gathered
                    .entry(table.measurement())
                    .or_default()
                    .push(Source::of_table(batch, &table));
            }
        }
        for (measurement, tables) in gathered {
            lists.insert(measurement, self.push(measurement, tables));
        }
        Update {
            lists: lists.into_iter().collect(),
            bytes: self.bytes,
        }
    }

    /// Empties the head: what it held now belongs to the seal. The published lists keep the parts alive.
    pub fn freeze(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }

    fn delete(&mut self, delete: &RowDelete) -> Parts {
        let Some(parts) = self.parts.get_mut(&delete.measurement) else {
            return Parts::from([]);
        };
        self.bytes -= parts.iter().map(|part| part.bytes()).sum::<usize>();
        *parts = delete.apply(parts);
        self.bytes += parts.iter().map(|part| part.bytes()).sum::<usize>();
        parts.as_slice().into()
    }

    fn push(&mut self, measurement: MeasurementId, tables: Vec<Source>) -> Parts {
        let parts = match self.parts.entry(measurement) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Vec::new()),
        };
        let newest = &parts[parts.len().saturating_sub(FAN_IN)..];
        let wanted = newest.iter().any(|part| part.was_asked());
        let part = HeadPart::of_sources(measurement, tables);
        self.bytes += part.bytes();
        if wanted {
            part.unpack();
        }
        parts.push(Arc::new(part));
        while let Some(start) = gathered_class(parts) {
            let sources = parts[start..].iter().flat_map(|part| part.sources()).collect();
            let wanted = parts[start..].iter().any(|part| part.was_asked());
            let merged = HeadPart::of_sources(measurement, sources);
            if wanted {
                merged.unpack();
            }
            self.bytes -= parts[start..].iter().map(|part| part.bytes()).sum::<usize>();
            self.bytes += merged.bytes();
            parts.truncate(start);
            parts.push(Arc::new(merged));
        }
        parts.as_slice().into()
    }
}

/// Points that a command deletes.
pub(super) struct RowDelete {
    pub measurement: MeasurementId,
    series: Option<Vec<SeriesId>>,
    time: TimeRange,
}

impl RowDelete {
    fn of_commands(commands: Vec<Command>) -> impl Iterator<Item = Self> {
        commands.into_iter().filter_map(|command| match command {
            Command::Delete {
                measurement,
                series,
                time,
            } => {
                let series = series.map(|mut ids| {
                    ids.sort_unstable();
                    ids
                });
                Some(Self {
                    measurement,
                    series,
                    time,
                })
            }
            _ => None,
        })
    }

    pub fn of_group(group: &Group) -> impl Iterator<Item = Self> + '_ {
        group
            .batches
            .iter()
            .flat_map(|batch| Self::of_commands(batch.commands()))
    }

    fn hits(&self, series: SeriesId, time: i64) -> bool {
        self.time.contains(time)
            && self
                .series
                .as_ref()
                .is_none_or(|ids| ids.binary_search(&series).is_ok())
    }

    /// The parts without the deleted rows; untouched parts stay the same ones.
    fn apply(&self, parts: &[Arc<HeadPart>]) -> Vec<Arc<HeadPart>> {
        let kept = parts.iter().filter_map(|part| {
            if !self.time.overlaps(&part.time_range()) {
                return Some(part.clone());
            }
            let rows = part.borrow_rows();
            let keep: Vec<u32> = (0..rows.len() as u32)
                .filter(|&row| !self.hits(rows.series[row as usize], rows.times[row as usize]))
                .collect();
            match keep.len() {
                0 => None,
                n if n == rows.len() => Some(part.clone()),
                _ => Some(Arc::new(rows.gather(&keep).into())),
            }
        });
        kept.collect()
    }

    pub fn apply_to_map(&self, map: &mut Arc<PartMap>) {
        if let Some(parts) = map.get(&self.measurement) {
            let kept = self.apply(parts);
            Arc::make_mut(map).insert(self.measurement, kept.into());
        }
    }
}

/// Where the newest parts that should be merged begin, if there are enough of one class.
fn gathered_class(parts: &[Arc<HeadPart>]) -> Option<usize> {
    let newest = class(parts.last()?.rows_max());
    let start = parts
        .iter()
        .rposition(|part| class(part.rows_max()) > newest)
        .map_or(0, |at| at + 1);
    (parts.len() - start >= FAN_IN).then_some(start)
}

/// The size class of a part: how often its rows can be divided by the fan-in.
fn class(rows: usize) -> u32 {
    rows.max(1).ilog(FAN_IN)
}
