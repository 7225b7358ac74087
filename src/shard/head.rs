//! One shard's slice of the head: for each measurement a short list of sorted, immutable parts. Pure.
//!
//! A group of batches is kept as it is ([`super::recent`]). When [`FAN_IN`] groups have come they are folded into one part a measurement, and
//! when `FAN_IN` folded parts of the same size class have gathered, these are merged: a query never meets more than `FAN_IN`
//! times the number of classes, and the lists of a measurement change once in `FAN_IN` groups.
//!
//! What it takes is counted in sizes (`size.rs`). Parts stay packed until a query asks for them; while queries ask for a measurement's parts, the new ones are unpacked here, so
//! that the queries find them ready.

use super::Group;
use super::part::{Asks, HeadPart, Source};
use super::recent::Recent;
use super::size::Size;
use crate::batch::{Command, EncodedBatch};
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
    /// This group, newer than all others.
    pub fresh: Option<Arc<Recent>>,
    /// What the shard's head counts for afterwards, in bytes; see `size.rs`.
    pub bytes: usize,
}

/// See the module.
pub struct ShardHead {
    shard: u16,
    parts: HashMap<MeasurementId, Vec<Arc<HeadPart>>>,
    /// Groups that are not folded yet, oldest first.
    recent: Vec<Arc<Recent>>,
    asks: Arc<Asks>,
    /// Measurements that queries ask for, and from how many groups to come theirs will be unpacked at once.
    interests: HashMap<MeasurementId, usize>,
    size: Size,
}

impl ShardHead {
    /// An empty head for this shard.
    pub fn new(shard: u16) -> Self {
        Self {
            shard,
            parts: HashMap::new(),
            recent: Vec::new(),
            asks: Arc::default(),
            interests: HashMap::new(),
            size: Size::default(),
        }
    }

    /// Takes the shard's rows of a group.
    pub fn apply(&mut self, group: &Group) -> Update {
        let mut folded: Option<HashMap<MeasurementId, Parts>> = None;
        let mut added = 0;
        for (at, batch) in group.batches.iter().enumerate() {
            for delete in RowDelete::of_commands(batch.commands()) {
                // Rows that came before it, in this group too, are deleted with the others.
                let lists = folded.get_or_insert_default();
                self.add(&group.batches[added..at]);
                added = at;
                self.fold(lists);
                lists.insert(delete.measurement, self.delete(&delete));
            }
        }
        let mut fresh = self.add(&group.batches[added..]);
        if self.recent.len() >= FAN_IN {
            self.fold(folded.get_or_insert_default());
            fresh = None;
        }
        Update {
            folded: folded.map(|lists| lists.into_iter().collect()),
            fresh,
            bytes: self.size.bytes(),
        }
    }

    /// Empties the head: what it held now belongs to the seal. The lists that the update brings keep the parts alive.
    pub fn freeze(&mut self) -> Update {
        let mut lists = HashMap::new();
        self.fold(&mut lists);
        self.parts.clear();
        self.size = Size::default();
        Update {
            folded: Some(lists.into_iter().collect()),
            fresh: None,
            bytes: 0,
        }
    }

    /// Takes the shard's tables of some batches.
    fn add(&mut self, batches: &[Arc<EncodedBatch>]) -> Option<Arc<Recent>> {
        let recent = Arc::new(Recent::new(self.shard, batches, &self.asks)?);
        self.size.add_recent(recent.bytes());
        for measurement in self.asks.take() {
            self.size.unpack(measurement);
            self.interests.insert(measurement, FAN_IN);
        }
        self.interests.retain(|measurement, groups| {
            if let Some(parts) = recent.parts(*measurement) {
                for part in parts.iter() {
                    part.unpack();
                }
                *groups -= 1;
            }
            *groups > 0
        });
        self.recent.push(recent.clone());
        Some(recent)
    }

    /// Puts the recent groups together, and what else has gathered.
    fn fold(&mut self, lists: &mut HashMap<MeasurementId, Parts>) {
        let mut gathered: HashMap<MeasurementId, Vec<Piece>> = HashMap::new();
        self.size.clear_recent();
        for recent in std::mem::take(&mut self.recent) {
            if recent.is_indexed() {
                // Somebody asked for some of it, which may be unpacked.
                for (measurement, parts) in recent.all() {
                    let pieces = gathered.entry(measurement).or_default();
                    pieces.extend(parts.iter().cloned().map(Piece::Part));
                }
                continue;
            }
            for (batch, table) in recent.tables() {
                let pieces = gathered.entry(table.measurement()).or_default();
                pieces.push(Piece::Source(Source::of_table(batch, &table)));
            }
        }
        for (measurement, pieces) in gathered {
            let parts = self.parts.entry(measurement).or_default();
            let part = put_together(measurement, pieces, &self.asks);
            self.size.add(&part);
            parts.push(part);
            while let Some(start) = gathered_class(parts) {
                let merged = HeadPart::merged(measurement, &parts[start..], &self.asks);
                for part in parts.drain(start..) {
                    self.size.remove(&part);
                }
                self.size.add(&merged);
                parts.push(Arc::new(merged));
            }
            lists.insert(measurement, parts.as_slice().into());
        }
    }

    fn delete(&mut self, delete: &RowDelete) -> Parts {
        let Some(parts) = self.parts.get_mut(&delete.measurement) else {
            return Parts::from([]);
        };
        parts.iter().for_each(|part| self.size.remove(part));
        *parts = delete.apply(parts);
        parts.iter().for_each(|part| self.size.add(part));
        parts.as_slice().into()
    }
}

/// What groups hold of a measurement.
enum Piece {
    Part(Arc<HeadPart>),
    Source(Source),
}

/// One part of what groups hold of a measurement, in order of arrival.
fn put_together(measurement: MeasurementId, pieces: Vec<Piece>, asks: &Arc<Asks>) -> Arc<HeadPart> {
    let mut parts: Vec<Arc<HeadPart>> = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    let packed = |sources: Vec<Source>| Arc::new(HeadPart::of_sources(measurement, sources, asks));
    for piece in pieces {
        match piece {
            Piece::Source(source) => sources.push(source),
            Piece::Part(part) => {
                if !sources.is_empty() {
                    parts.push(packed(std::mem::take(&mut sources)));
                }
                parts.push(part);
            }
        }
    }
    if !sources.is_empty() {
        parts.push(packed(sources));
    }
    match parts.as_slice() {
        [one] => one.clone(),
        many => Arc::new(HeadPart::merged(measurement, many, asks)),
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
                                head.done(ticket, at, shard.freeze());
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
                .expect("a new group")
                .parts(1)
                .expect("a new part")[0]
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
