//! One timing between two flushes: exact count, sum, mean, spread and ends; median and percentiles from the values
//! kept, which are all of them up to a limit, and a random sample of all beyond.

use kymo_plugin_api::{Field, Value};

/// One of the percentiles that are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentile {
    /// Above 0, at most 100.
    percent: f64,
    /// `90_percentile`.
    field: String,
}

impl Percentile {
    /// Of a percentage above 0, at most 100.
    pub fn new(percent: f64) -> Self {
        let field = format!("{percent}_percentile");
        Self { percent, field }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Timing {
    /// Values, not scaled.
    seen: u64,
    /// Values, each for as many as it stands for.
    weight: f64,
    sum: f64,
    lower: f64,
    upper: f64,
    /// Of West's incremental algorithm: the mean so far, and the weighted squares of distances from it. A sum of squares
    /// would cancel when the spread is small beside the values.
    mean: f64,
    squares: f64,
    kept: Vec<f64>,
}

impl Timing {
    /// Without values: it must get one before [`fields`](Self::fields).
    pub fn new() -> Self {
        Self {
            seen: 0,
            weight: 0.0,
            sum: 0.0,
            lower: f64::INFINITY,
            upper: f64::NEG_INFINITY,
            mean: 0.0,
            squares: 0.0,
            kept: Vec::new(),
        }
    }

    /// Values kept.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Adds a finite value that stands for `weight` values. It is kept when `may_grow`, or with the chance that keeps the sample even.
    pub fn add(&mut self, value: f64, weight: f64, may_grow: bool, random: &mut Random) {
        self.seen += 1;
        self.weight += weight;
        self.sum += value * weight;
        self.lower = self.lower.min(value);
        self.upper = self.upper.max(value);
        let distance = value - self.mean;
        self.mean += distance * (weight / self.weight);
        self.squares += weight * distance * (value - self.mean);
        if may_grow {
            self.kept.push(value);
        } else if let Some(place) = self.kept.get_mut(random.below(self.seen) as usize) {
            *place = value;
        }
    }

    /// The fields to store.
    pub fn fields<'a>(&mut self, percentiles: &'a [Percentile], fields: &mut Vec<Field<'a>>) {
        self.kept.sort_unstable_by(f64::total_cmp);
        let mut float = |key: &'a str, value: f64| {
            let value = Value::Float(value);
            fields.push(Field { key, value });
        };
        float("sum", self.sum);
        float("mean", self.sum / self.weight);
        float("lower", self.lower);
        float("upper", self.upper);
        float("stddev", (self.squares / self.weight).max(0.0).sqrt());
        float("median", median(&self.kept));
        for percentile in percentiles {
            float(&percentile.field, nearest_rank(&self.kept, percentile.percent));
        }
        let count = Field {
            key: "count",
            value: Value::Integer(self.weight.round() as i64),
        };
        fields.insert(0, count);
    }
}

/// The middle of sorted values, or halfway between the two in the middle; NaN of none.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(&value), 1) => value,
        (Some(&value), _) => sorted[middle - 1] / 2.0 + value / 2.0,
        (None, _) => f64::NAN,
    }
}

/// The smallest of sorted values that at least `percent` of them do not exceed; NaN of none.
fn nearest_rank(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent * sorted.len() as f64 / 100.0).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// A small seeded generator (xorshift64*): the same lines give the same samples.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Always the same.
    pub fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// From 0 up to, not with, `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        ((u128::from(bits) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(values: &[(f64, f64)], kept_max: usize, percents: &[f64]) -> Vec<(String, f64)> {
        let (mut timing, mut random) = (Timing::new(), Random::new());
        for (value, weight) in values {
            timing.add(*value, *weight, timing.kept() < kept_max, &mut random);
        }
        let percentiles: Vec<Percentile> = percents.iter().map(|p| Percentile::new(*p)).collect();
        let mut fields = Vec::new();
        timing.fields(&percentiles, &mut fields);
        let number = |value| match value {
            Value::Float(v) => v,
            Value::Integer(v) => v as f64,
            other => panic!("{other:?}"),
        };
        fields
            .iter()
            .map(|f| (f.key.to_string(), number(f.value)))
            .collect()
    }

    #[test]
    fn agrees_with_a_naive_model() {
        let mut random = Random::new();
        for round in 1..200u64 {
            // All of one weight, and as many as that says in the model.
            let weight = 1 + random.below(3);
            let values: Vec<f64> = (0..1 + random.below(round))
                .map(|_| random.below(50) as f64 - 10.0)
                .collect();
            let input: Vec<(f64, f64)> = values.iter().map(|v| (*v, weight as f64)).collect();
            let percents = [0.1, 50.0, 90.0, 95.0, 99.9, 100.0];
            let got = fields(&input, usize::MAX, &percents);

            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let median = (sorted[(values.len() - 1) / 2] + sorted[values.len() / 2]) / 2.0;
            let mut want = vec![n * weight as f64, mean * n * weight as f64, mean];
            want.extend([sorted[0], sorted[values.len() - 1], variance.sqrt(), median]);
            for percent in percents {
                let enough = |v: &&f64| {
                    let below = sorted.iter().filter(|w| w <= v).count() as f64;
                    below * 100.0 >= percent * n
                };
                want.push(*sorted.iter().find(enough).expect("the largest is enough"));
            }
            assert_eq!(got.len(), want.len());
            for ((key, got), want) in got.iter().zip(&want) {
                assert!(
                    (got - want).abs() < 1e-9,
                    "{key}: {got}, not {want}, of {values:?}"
                );
            }
        }
    }

    #[test]
    fn a_small_spread_beside_large_values_is_exact() {
        let got = fields(
            &[
                (1e9 + 4.0, 1.0),
                (1e9 + 7.0, 1.0),
                (1e9 + 13.0, 1.0),
                (1e9 + 16.0, 1.0),
            ],
            9,
            &[],
        );
        assert_eq!(got[5], ("stddev".to_string(), 22.5f64.sqrt()));
    }

    #[test]
    fn beyond_the_limit_an_even_sample_is_kept() {
        // Rising values: a sample that forgot the first or the last ones would be far off.
        let values: Vec<(f64, f64)> = (1..=100_000).map(|v| (f64::from(v), 1.0)).collect();
        let got = fields(&values, 2000, &[10.0, 90.0]);
        let near = |key: &str, want: f64, error: f64| {
            let value = got.iter().find(|(k, _)| k == key).expect("a field").1;
            assert!((value - want).abs() <= error, "{key}: {value}, not {want}");
        };
        near("count", 100_000.0, 0.0);
        near("lower", 1.0, 0.0);
        near("upper", 100_000.0, 0.0);
        near("mean", 50_000.5, 0.0);
        near("median", 50_000.0, 4000.0);
        near("10_percentile", 10_000.0, 3000.0);
        near("90_percentile", 90_000.0, 3000.0);
    }
}
