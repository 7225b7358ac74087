//! One shard's slice of the head: for each measurement a short list of sorted, immutable parts. Pure.
//!
//! A group of batches becomes one part a measurement. When [`FAN_IN`] groups have come they are folded into one part a measurement, and
//! when `FAN_IN` folded parts of the same size class have gathered, these are merged: a query never meets more than `FAN_IN`
//! times the number of classes, and the lists of a measurement change once in `FAN_IN` groups.
//!
//! Parts stay packed until a query asks for them; while queries ask for a measurement's parts, the new ones are unpacked here, so
//! that the queries find them ready.

use super::Group;
use super::part::{HeadPart, Interest, Source};
use crate::batch::Command;
use crate::model::{MeasurementId, SeriesId, TimeRange};
use hashbrown::HashMap;
use std::sync::Arc;

/// Groups that are folded into one, and parts of one size class that are merged into one of the next.
pub const FAN_IN: usize = 32;

/// Parts of one measurement, oldest first: where two have the same point, the later holds the newer values.
pub type Parts = Arc<[Arc<HeadPart>]>;

/// Parts by measurement.
pub type PartMap = HashMap<MeasurementId, Parts>;

/// What applying a group changed.
#[derive(Default)]
pub struct Update {
    /// Groups were folded: these lists are new, and no group stands apart any more.
    pub folded: Option<Vec<(MeasurementId, Parts)>>,
    /// Parts of this group, newer than all others.
    pub fresh: Option<Arc<PartMap>>,
    /// Bytes of all parts of the shard afterwards.
    pub bytes: usize,
}

/// See the module.
pub struct ShardHead {
    shard: u16,
    parts: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
    /// Groups that are not folded yet, oldest first.
    recent: Vec<Arc<PartMap>>,
    interests: HashMap<MeasurementId, Interest>,
    bytes: usize,
}

impl ShardHead {
    /// An empty head for this shard.
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            parts: HashMap::new(),
            recent: Vec::new(),
            interests: HashMap::new(),
            bytes: 0,
        }
    }

    /// Takes the shard's rows of a group.
    pub fn apply(&mut self, group: &Group) -> Update {
        let mut fresh: HashMap<MeasurementId, Vec<Source>> = HashMap::new();
        let mut folded: Option<HashMap<MeasurementId, Parts>> = None;
        for batch in &group.batches {
            for delete in RowDelete::of_commands(batch.commands()) {
                // Rows that came before it, in this group too, are deleted with the others.
                let lists = folded.get_or_insert_default();
                self.add_group(std::mem::take(&mut fresh));
                self.fold(lists);
                lists.insert(delete.measurement, self.delete(&delete));
            }
            for table in batch.tables().filter(|table| table.shard() == self.shard) {
                fresh
                    .entry(table.measurement())
                    .or_default()
                    .push(Source::of_table(batch, &table));
            }
        }
        let mut fresh = self.add_group(fresh);
        if self.recent.len() >= FAN_IN {
            self.fold(folded.get_or_insert_default());
            fresh = None;
        }
        Update {
            folded: folded.map(|lists| lists.into_iter().collect()),
            fresh,
            bytes: self.bytes,
        }
    }

    /// Empties the head: what it held now belongs to the seal. The published lists keep the parts alive.
    pub fn freeze(&mut self) {
        self.parts.clear();
        self.recent.clear();
        self.interests.retain(|_, interest| interest.lasts());
        self.bytes = 0;
    }

    fn add_group(&mut self, tables: HashMap<MeasurementId, Vec<Source>>) -> Option<Arc<PartMap>> {
        if tables.is_empty() {
            return None;
        }
        let mut map = PartMap::with_capacity(tables.len());
        for (measurement, sources) in tables {
            let interest = self.interests.entry(measurement).or_default();
            let part = HeadPart::of_sources(measurement, sources, interest);
            if interest.is_for_another() {
                part.unpack();
            }
            self.bytes += part.bytes();
            map.insert(measurement, Parts::from([Arc::new(part)]));
        }
        let map = Arc::new(map);
        self.recent.push(map.clone());
        Some(map)
    }

    /// Puts the recent groups together, and what else has gathered.
    fn fold(&mut self, lists: &mut HashMap<MeasurementId, Parts>) {
        let mut gathered: HashMap<MeasurementId, Vec<Arc<HeadPart>>> = HashMap::new();
        for map in std::mem::take(&mut self.recent) {
            for (measurement, parts) in map.iter() {
                gathered
                    .entry(*measurement)
                    .or_default()
                    .extend(parts.iter().cloned());
            }
        }
        for (measurement, recent) in gathered {
            let interest = self.interests.entry(measurement).or_default();
            let parts = self.parts.entry(measurement).or_default();
            let mut merge = |merging: &[Arc<HeadPart>]| {
                let merged = HeadPart::merged(measurement, merging, interest);
                self.bytes -= merging.iter().map(|part| part.bytes()).sum::<usize>();
                self.bytes += merged.bytes();
                Arc::new(merged)
            };
            match recent.as_slice() {
                [one] => parts.push(one.clone()),
                many => parts.push(merge(many)),
            }
            while let Some(start) = gathered_class(parts) {
                let merged = merge(&parts[start..]);
                parts.truncate(start);
                parts.push(merged);
            }
            lists.insert(measurement, parts.as_slice().into());
        }
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

#[cfg(test)]
mod tests {
    use super::super::publish::{Head, HeadSnapshot, Observer};
    use super::*;
    use crate::batch::{Batch, EncodedBatch, Table};
    use crate::model::{Column, FieldValue, Values};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SHARDS: u16 = 2;

    struct Nobody;

    impl Observer<()> for Nobody {
        fn before(&self, _: &Group) -> bool {
            false
        }
        fn runs(&self) -> Arc<()> {
            Arc::default()
        }
        fn after(&self, _: &Group) {}
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many rows of a measurement, from a series and a time on.
        Write {
            measurement: MeasurementId,
            series: u32,
            time: i64,
            rows: u32,
        },
        Delete {
            measurement: MeasurementId,
            series: Option<u32>,
            time: TimeRange,
        },
        Query(MeasurementId),
        Freeze,
    }

    fn step() -> impl Strategy<Value = Step> {
        let write = (0..3u32, 0..200u32, 0..40i64, 1..60u32);
        let write = write.prop_map(|(measurement, series, time, rows)| Step::Write {
            measurement,
            series,
            time,
            rows,
        });
        let delete = (0..3u32, prop::option::of(0..200u32), 0..40i64, 0..40i64);
        let delete = delete.prop_map(|(measurement, series, min, len)| Step::Delete {
            measurement,
            series,
            time: TimeRange { min, max: min + len },
        });
        prop_oneof![40 => write, 1 => delete, 3 => (0..3u32).prop_map(Step::Query), 1 => Just(Step::Freeze)]
    }

    fn batch(step: &Step, value: i64) -> Batch {
        match step {
            Step::Write {
                measurement,
                series,
                time,
                rows,
            } => {
                let series: Vec<u32> = (0..*rows).map(|i| series + i % 7).collect();
                let times: Vec<i64> = (0..*rows).map(|i| time + i64::from(i) / 3).collect();
                let values = (0..i64::from(*rows)).map(|i| value * 100 + i).collect();
                let column = Column {
                    values: Values::Integer(values),
                    present: None,
                };
                let table = Table {
                    shard: 0,
                    measurement: *measurement,
                    series,
                    times,
                    columns: vec![(1, column)],
                };
                Batch {
                    shards: 1,
                    tables: vec![table],
                    ..Batch::default()
                }
                .resplit(SHARDS)
            }
            Step::Delete {
                measurement,
                series,
                time,
            } => Batch {
                shards: SHARDS,
                commands: vec![Command::Delete {
                    measurement: *measurement,
                    series: series.map(|series| vec![series]),
                    time: *time,
                }],
                ..Batch::default()
            },
            Step::Query(_) | Step::Freeze => Batch {
                shards: SHARDS,
                ..Batch::default()
            },
        }
    }

    type Model = BTreeMap<(MeasurementId, SeriesId, i64), FieldValue>;

    fn read(snapshot: &HeadSnapshot<()>, measurement: MeasurementId, into: &mut Model) {
        for part in snapshot.parts(measurement) {
            let time = part.time_range();
            assert!(part.len() <= part.rows_max());
            for row in 0..part.len() {
                assert!(time.contains(part.times[row]), "outside the range it says");
                let value = part.columns[0].1.get(row).expect("every row has a value");
                into.insert((measurement, part.series[row], part.times[row]), value);
            }
        }
    }

    fn change(model: &mut Model, batch: &Batch) {
        for command in &batch.commands {
            let Command::Delete {
                measurement,
                series,
                time,
            } = command
            else {
                continue;
            };
            model.retain(|(m, s, t), _| {
                m != measurement || !time.contains(*t) || series.as_ref().is_some_and(|ids| !ids.contains(s))
            });
        }
        for table in &batch.tables {
            for row in 0..table.times.len() {
                let value = table.columns[0].1.get(row).expect("every row has a value");
                model.insert((table.measurement, table.series[row], table.times[row]), value);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_comes_it_equals_a_map(steps in prop::collection::vec(step(), 1..150), group in 1..4usize) {
            let head = Head::new(SHARDS, 0, Arc::default(), Nobody);
            let mut shards: Vec<ShardHead> = (0..SHARDS).map(ShardHead::new).collect();
            let (mut model, mut sequence) = (Model::new(), 0);
            let mut sealed = Model::new();
            for steps in steps.chunks(group) {
                let batches: Vec<Batch> = steps.iter().zip(sequence as i64..).map(|(step, at)| batch(step, at)).collect();
                batches.iter().for_each(|batch| change(&mut model, batch));
                batches.iter().for_each(|batch| change(&mut sealed, &Batch { tables: Vec::new(), ..batch.clone() }));
                let encoded = batches.into_iter().map(|batch| Arc::new(EncodedBatch::encode(batch)));
                let group = Arc::new(Group { first: sequence + 1, last: sequence + steps.len() as u64, batches: encoded.collect() });
                sequence = group.last;
                let ticket = head.expect_group(group.clone(), Vec::new());
                for (shard, at) in shards.iter_mut().zip(0..) {
                    head.done(ticket, at, shard.apply(&group));
                }
                for step in steps {
                    match step {
                        Step::Query(measurement) => read(&head.snapshot(), *measurement, &mut Model::new()),
                        Step::Freeze => {
                            let ticket = head.expect_freeze(sequence);
                            for (shard, at) in shards.iter_mut().zip(0..) {
                                shard.freeze();
                                head.done(ticket, at, Update::default());
                            }
                            prop_assert_eq!(head.wait_frozen().0, sequence);
                            (0..3).for_each(|measurement| read(&head.snapshot(), measurement, &mut sealed));
                            head.thaw();
                        }
                        Step::Write { .. } | Step::Delete { .. } => {}
                    }
                }
            }
            (0..3).for_each(|measurement| read(&head.snapshot(), measurement, &mut sealed));
            prop_assert_eq!(sealed, model);
            for shard in &shards {
                let parts: usize = shard.parts.values().map(Vec::len).sum();
                prop_assert!(shard.recent.len() < FAN_IN && parts <= 3 * 4 * FAN_IN);
            }
        }
    }

    #[test]
    fn parts_are_unpacked_for_those_who_ask() {
        let mut shard = ShardHead::new(0);
        let apply = |shard: &mut ShardHead| {
            let write = Step::Write {
                measurement: 1,
                series: 0,
                time: 0,
                rows: 50,
            };
            let batches = vec![Arc::new(EncodedBatch::encode(batch(&write, 1).resplit(1)))];
            shard
                .apply(&Group {
                    first: 1,
                    last: 1,
                    batches,
                })
                .fresh
                .expect("a new part")[&1][0]
                .clone()
        };
        let part = apply(&mut shard);
        assert!(!part.is_unpacked() && !apply(&mut shard).is_unpacked());
        assert_eq!(part.borrow_rows().len(), 50);
        assert!(
            !part.is_unpacked() && !apply(&mut shard).is_unpacked(),
            "a seal leaves it packed"
        );
        assert_eq!(part.len(), 50);
        assert!(part.is_unpacked() && apply(&mut shard).is_unpacked());
    }
}
