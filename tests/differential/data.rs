//! Random points: regular, irregular and overwritten ones, some fields missing.

use std::collections::BTreeMap;

/// A small generator of its own, so that a seed gives the same data for ever.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    Text(String),
}

impl Value {
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Float(v) => Some(*v),
            Self::Integer(v) => Some(*v as f64),
            Self::Unsigned(v) => Some(*v as f64),
            _ => None,
        }
    }
}

/// A point as it was written.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Place in `Data::series`.
    pub series: usize,
    pub time: i64,
    pub fields: BTreeMap<&'static str, Value>,
}

pub type Tags = BTreeMap<&'static str, String>;

/// A data set.
pub struct Data {
    pub series: Vec<Tags>,
    /// In the order of writing; of two for the same series and time the later wins, field by field.
    pub written: Vec<Point>,
    /// What is left: sorted by (series, time).
    pub points: Vec<Point>,
    /// What `now()` is: a little after all points.
    pub now: i64,
    /// Nanoseconds of a unit of time.
    pub unit: i64,
}

pub const FIELDS: [&str; 5] = ["f", "i", "u", "b", "s"];
pub const NUMBERS: [&str; 3] = ["f", "i", "u"];
/// Units from one point of a series to the next, mostly.
pub const STEP: i64 = 10;
pub const SECOND: i64 = 1_000_000_000;

impl Data {
    /// So many points, with such a unit of time.
    pub fn new(random: &mut Random, count: usize, unit: i64) -> Self {
        let mut series: Vec<Tags> = Vec::new();
        for _ in 0..1 + random.below(7) {
            let mut tags = Tags::new();
            tags.insert("host", format!("h{}", random.below(6)));
            if random.chance(70) {
                tags.insert("region", format!("r{}", random.below(3)));
            }
            if !series.contains(&tags) {
                series.push(tags);
            }
        }
        let missing = *random.pick(&[0, 0, 20]);
        let mut written = Vec::new();
        let span = (count / series.len()).max(1) as i64;
        for n in 0..count {
            // Mostly as clients send: all series at each step of time. Some points late, some again, some at odd times.
            let regular = n as i64 / series.len() as i64;
            let (which, step) = match random.below(10) {
                0 => (
                    random.below(series.len() as u64) as usize,
                    random.below(span as u64) as i64,
                ),
                _ => (n % series.len(), regular),
            };
            let jitter = if random.chance(10) {
                random.below(STEP as u64) as i64
            } else {
                0
            };
            let mut fields = BTreeMap::new();
            for field in FIELDS {
                if random.chance(missing) {
                    continue;
                }
                fields.insert(field, value(random, field));
            }
            if !fields.is_empty() {
                written.push(Point {
                    series: which,
                    time: (step * STEP + jitter) * unit,
                    fields,
                });
            }
        }
        // Rows of equal time come in the order in which their series were first seen.
        let mut seen: Vec<usize> = Vec::new();
        for point in &written {
            if !seen.contains(&point.series) {
                seen.push(point.series);
            }
        }
        let place = |series: usize| seen.iter().position(|s| *s == series).expect("all are seen");
        let series = seen.iter().map(|&s| series[s].clone()).collect();
        written.iter_mut().for_each(|p| p.series = place(p.series));
        let mut folded: BTreeMap<(usize, i64), BTreeMap<&'static str, Value>> = BTreeMap::new();
        for point in &written {
            let to = folded.entry((point.series, point.time)).or_default();
            to.extend(point.fields.iter().map(|(k, v)| (*k, v.clone())));
        }
        let points = folded
            .into_iter()
            .map(|((series, time), fields)| Point { series, time, fields });
        Self {
            series,
            points: points.collect(),
            now: written.iter().map(|p| p.time).max().unwrap_or(0) + 25 * unit,
            unit,
            written,
        }
    }

    /// Do points go on for hours?
    pub fn is_long(&self) -> bool {
        self.unit == SECOND
    }
}

fn value(random: &mut Random, field: &str) -> Value {
    match field {
        "f" if random.chance(50) => Value::Float(random.below(50) as f64 / 4.0),
        "f" => Value::Float(random.below(1 << 40) as f64 / 1e7 - 3e4),
        "i" => Value::Integer(random.below(40) as i64 - 15),
        "u" => Value::Unsigned(random.below(1000)),
        "b" => Value::Boolean(random.chance(50)),
        _ => Value::Text(random.pick(&["up", "down", "a,b \"c\"", ""]).to_string()),
    }
}
