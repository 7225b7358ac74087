//! What must be there: every operation by its sequence, and what they come to.

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
    /// `DELETE`: measurement, host or all, from and up to.
    Delete(usize, Option<u64>, (i64, i64)),
    /// `DROP SERIES`.
    DropSeries(usize, u64),
    /// `DROP MEASUREMENT`.
    DropMeasurement(usize),
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
}

impl Model {
    /// A batch is about to be written with this sequence.
    pub fn tried(&mut self, sequence: u64, op: Op) {
        if let Op::Write(points) = &op {
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
        let new = self.ops.range(self.applied + 1..);
        for (_, op) in new.take_while(|(at, _)| **at <= sequence) {
            apply(&mut self.points, op);
        }
        self.applied = sequence;
        &self.points
    }
}

fn apply(points: &mut Points, op: &Op) {
    match op {
        Op::Write(rows) => {
            for (key, time, fields) in rows {
                let point = points.entry(*key).or_default().entry(*time).or_default();
                point.extend(fields);
            }
        }
        Op::Delete(measurement, host, (from, to)) => {
            for ((m, h), series) in points.iter_mut() {
                if m == measurement && host.is_none_or(|host| host == *h) {
                    series.retain(|time, _| time < from || time > to);
                }
            }
        }
        Op::DropSeries(measurement, host) => drop(points.remove(&(*measurement, *host))),
        Op::DropMeasurement(measurement) => points.retain(|(m, _), _| m != measurement),
        Op::Nothing => {}
    }
    points.retain(|_, series| !series.is_empty());
}
