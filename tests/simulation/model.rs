//! What must be there: every operation by its sequence, and what they come to.
//!
//! A request that was on its way while something was dropped may count as one that came before the drop, or not. Which of the two is taken from what is first
//! seen ([`Model::settle`]); from then on it must stay so.

use std::collections::{BTreeMap, BTreeSet};

/// Measurements that are written.
pub const MEASUREMENTS: [&str; 3] = ["m0", "m1", "m2"];

/// A series: measurement and host.
pub type Key = (usize, u64);

/// Fields of a point by name.
pub type Fields = BTreeMap<&'static str, i64>;

/// What a committed batch does.
#[derive(Clone, Debug)]
pub enum Op {
    /// Points.
    Write(Vec<(Key, i64, Fields)>),
    /// Points of a request that was made when the batches up to this sequence were seen. No two requests have equal values.
    Late(u64, Vec<(Key, i64, Fields)>),
    /// `DELETE`: measurement, host or all, from and up to.
    Delete(usize, Option<u64>, (i64, i64)),
    /// `DROP SERIES`.
    DropSeries(usize, u64),
    /// `DROP MEASUREMENT`.
    DropMeasurement(usize),
    /// `DROP DATABASE`, the only one.
    DropDatabase,
    /// `ALTER RETENTION POLICY`: hours, more than points are old.
    Retention(u64),
    /// Nothing that is seen: a database.
    Nothing,
}

/// Points by series and time.
pub type Points = BTreeMap<Key, BTreeMap<i64, Fields>>;

/// See the module.
#[derive(Default)]
pub struct Model {
    ops: BTreeMap<u64, Op>,
    acknowledged: u64,
    /// What all of them up to a sequence come to.
    points: Points,
    applied: u64,
    /// Every value a field ever had.
    ever: BTreeSet<(Key, i64, &'static str, i64)>,
    /// Do the rows count that this request has where these operations dropped something while it was on its way?
    settled: BTreeMap<(u64, Dropped), bool>,
}

/// The sequences of operations that drop a row.
type Dropped = Vec<u64>;

impl Model {
    /// A batch is about to be written with this sequence.
    pub fn tried(&mut self, sequence: u64, op: Op) {
        if let Op::Write(points) | Op::Late(_, points) = &op {
            for (key, time, fields) in points {
                self.ever
                    .extend(fields.iter().map(|(&name, &value)| (*key, *time, name, value)));
            }
        }
        self.ops.insert(sequence, op);
    }

    /// It was refused, and nothing of it can be on the disk.
    pub fn refused(&mut self, sequence: u64) {
        self.ops.remove(&sequence);
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, sequence: u64) {
        self.acknowledged = self.acknowledged.max(sequence);
    }

    /// A start found everything up to here.
    pub fn found(&mut self, last: u64) {
        assert!(
            last >= self.acknowledged,
            "acknowledged up to {}, found up to {last}",
            self.acknowledged
        );
        assert!(
            last == 0 || self.ops.contains_key(&last),
            "sequence {last} was never written"
        );
        self.ops.retain(|sequence, _| *sequence <= last);
        self.settled.retain(|(sequence, _), _| *sequence <= last);
        if self.applied > last {
            (self.applied, self.points) = (0, Points::new());
        }
        self.acknowledged = last;
    }

    /// Was this ever a value of the point?
    pub fn was_ever(&self, key: Key, time: i64, name: &'static str, value: i64) -> bool {
        self.ever.contains(&(key, time, name, value))
    }

    /// What everything up to a sequence comes to.
    pub fn up_to(&mut self, sequence: u64) -> &Points {
        if self.applied > sequence {
            (self.applied, self.points) = (0, Points::new());
        }
        let from = self.applied + 1;
        if from <= sequence {
            for (at, op) in self.ops.range(from..=sequence) {
                match op {
                    Op::Late(made, rows) => {
                        let rows = rows.iter().filter(|(key, time, _)| {
                            let dropped = dropped(&self.ops, (*made, *at), *key, *time);
                            dropped.is_empty() || self.settled.get(&(*at, dropped)) == Some(&true)
                        });
                        let rows = rows.cloned().collect();
                        apply(&mut self.points, &Op::Write(rows));
                    }
                    op => apply(&mut self.points, op),
                }
            }
        }
        self.applied = sequence;
        &self.points
    }

    /// Decides, for each request that was on its way while something was dropped and of which something is to be seen now, whether it counts. How many
    /// did not, and did.
    pub fn settle(&mut self, sequence: u64, found: &Points) -> [u64; 2] {
        let mut counts = [0, 0];
        // What later ones wrote or dropped: nothing is to be seen below.
        let mut written: BTreeSet<(Key, i64, &'static str)> = BTreeSet::new();
        let mut drops: Vec<&Op> = Vec::new();
        let first = self.ops.iter().find(|(_, op)| matches!(op, Op::Late(..)));
        let first = first.map_or(sequence + 1, |(at, _)| *at);
        for (at, op) in self
            .ops
            .range(first..)
            .rev()
            .skip_while(|(at, _)| **at > sequence)
        {
            match op {
                Op::Write(rows) => written.extend(rows.iter().flat_map(names)),
                Op::Late(made, rows) => {
                    let mut points: BTreeMap<(Key, i64), Fields> = BTreeMap::new();
                    for (key, time, fields) in rows {
                        points.entry((*key, *time)).or_default().extend(fields);
                    }
                    let mut parts: BTreeMap<Dropped, Vec<(Key, i64, Fields)>> = BTreeMap::new();
                    for ((key, time), fields) in points {
                        let dropped = dropped(&self.ops, (*made, *at), key, time);
                        parts.entry(dropped).or_default().push((key, time, fields));
                    }
                    for (dropped, rows) in parts {
                        let part = (*at, dropped);
                        let mut counts_now = part.1.is_empty() || self.settled.get(&part) == Some(&true);
                        if !part.1.is_empty() && !self.settled.contains_key(&part) {
                            let is_open = |(key, time, name): &(Key, i64, &'static str)| {
                                !written.contains(&(*key, *time, *name))
                                    && !drops.iter().any(|op| removes(op, *key, *time))
                            };
                            let all = rows.iter().flat_map(|(key, time, fields)| {
                                fields.iter().map(|(name, value)| ((*key, *time, *name), *value))
                            });
                            let Some(((key, time, name), value)) =
                                all.into_iter().find(|(place, _)| is_open(place))
                            else {
                                continue;
                            };
                            let seen = found.get(&key).and_then(|series| series.get(&time));
                            counts_now = seen.and_then(|fields| fields.get(name)) == Some(&value);
                            counts[usize::from(counts_now)] += 1;
                            self.settled.insert(part, counts_now);
                            if *at <= self.applied {
                                (self.applied, self.points) = (0, Points::new());
                            }
                        }
                        if counts_now {
                            written.extend(rows.iter().flat_map(names));
                        }
                    }
                }
                op => drops.push(op),
            }
        }
        counts
    }

    /// How long points are kept, as the last statement that said so up to a sequence has it: hours, or for ever.
    pub fn retention(&self, sequence: u64) -> Option<u64> {
        let ops = self.ops.range(..=sequence).rev();
        let mut said = ops.filter_map(|(_, op)| match op {
            Op::Retention(hours) => Some(Some(*hours)),
            Op::DropDatabase => Some(None),
            _ => None,
        });
        said.next().flatten()
    }
}

fn names((key, time, fields): &(Key, i64, Fields)) -> impl Iterator<Item = (Key, i64, &'static str)> {
    fields.keys().map(|name| (*key, *time, *name))
}

/// The operations between these two sequences that drop a row.
fn dropped(ops: &BTreeMap<u64, Op>, (made, at): (u64, u64), key: Key, time: i64) -> Dropped {
    let between = ops.range(made + 1..at);
    let dropping = between.filter(|(_, op)| removes(op, key, time));
    dropping.map(|(sequence, _)| *sequence).collect()
}

fn removes(op: &Op, (measurement, host): Key, time: i64) -> bool {
    match op {
        Op::Delete(m, h, (from, to)) => {
            *m == measurement && h.is_none_or(|h| h == host) && (*from..=*to).contains(&time)
        }
        Op::DropSeries(m, h) => (*m, *h) == (measurement, host),
        Op::DropMeasurement(m) => *m == measurement,
        Op::DropDatabase => true,
        Op::Write(_) | Op::Late(..) | Op::Retention(_) | Op::Nothing => false,
    }
}

fn apply(points: &mut Points, op: &Op) {
    if let Op::Write(rows) = op {
        for (key, time, fields) in rows {
            let point = points.entry(*key).or_default().entry(*time).or_default();
            point.extend(fields);
        }
        return;
    }
    for (key, series) in points.iter_mut() {
        series.retain(|time, _| !removes(op, *key, *time));
    }
    points.retain(|_, series| !series.is_empty());
}
