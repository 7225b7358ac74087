//! Percentiles in little memory: exact while there are few values, a t-digest beyond that. The only file that knows the
//! crate, which panics when it is given nothing or only NaN.
//!
//! Error: with [`CENTROIDS`] centroids the rank of what is given is off by less than 0.5 % of the values in the middle and
//! less than 0.1 % beyond the 5th and 95th percentile; the test below holds it to that.

use tdigests::TDigest;

/// Up to so many values percentiles are exact.
pub const EXACT_MAX: usize = 2_000;
/// Centroids that are kept beyond that.
pub const CENTROIDS: usize = 300;

/// Values whose percentiles will be asked for.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    /// Not yet in the digest.
    values: Vec<f64>,
    digest: Option<TDigest>,
}

impl Digest {
    /// Adds a value; infinities and NaN are passed over.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.values.len() == EXACT_MAX {
            self.compress();
        }
        self.values.push(value);
    }

    /// No values.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.digest.is_none()
    }

    fn compress(&mut self) {
        if self.values.is_empty() {
            return;
        }
        let new = TDigest::from_values(std::mem::take(&mut self.values));
        let mut all = match self.digest.take() {
            Some(known) => known.merge(&new),
            None => new,
        };
        all.compress(CENTROIDS);
        self.digest = Some(all);
    }

    /// Adds what another one has.
    pub fn merge(&mut self, mut other: Self) {
        if let Some(digest) = other.digest.take() {
            self.compress();
            self.digest = Some(match self.digest.take() {
                Some(known) => {
                    let mut all = known.merge(&digest);
                    all.compress(CENTROIDS);
                    all
                }
                None => digest,
            });
        }
        other.values.into_iter().for_each(|value| self.push(value));
    }

    /// The value below which so many percent lie: the nearest rank while it is exact. `None` without values.
    pub fn percentile(mut self, percent: f64) -> Option<f64> {
        if self.digest.is_some() {
            self.compress();
            return self
                .digest
                .map(|digest| digest.estimate_quantile(percent / 100.0));
        }
        let rank = (self.values.len() as f64 * percent / 100.0 + 0.5).floor() as usize;
        let at = rank.saturating_sub(1);
        if at >= self.values.len() {
            return None;
        }
        Some(*self.values.select_nth_unstable_by(at, f64::total_cmp).1)
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        self.values.capacity() * 8 + self.digest.as_ref().map_or(0, |d| d.centroids().len() * 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(seed: u64, count: usize, shape: u8) -> Vec<f64> {
        let mut state = seed | 1;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..count)
            .map(|i| match shape {
                0 => next(),
                1 => -(1.0 - next()).ln(),
                2 => i as f64,
                3 => (1.0 / (1e-6 + next())).min(1e6),
                _ => (next() * 5.0).floor(),
            })
            .collect()
    }

    #[test]
    fn few_values_are_exact() {
        let mut digest = Digest::default();
        assert_eq!(digest.clone().percentile(50.0), None);
        [5.0, 1.0, f64::NAN, 3.0, f64::INFINITY]
            .into_iter()
            .for_each(|v| digest.push(v));
        for (percent, want) in [(0.0, 1.0), (50.0, 3.0), (99.0, 5.0), (100.0, 5.0)] {
            assert_eq!(digest.clone().percentile(percent), Some(want), "{percent}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ranks_are_near(seed in any::<u64>(), count in 1usize..60_000, shape in 0u8..5, parts in 1usize..5) {
            let mut values = numbers(seed, count, shape);
            let mut digest = Digest::default();
            for part in values.chunks(count.div_ceil(parts)) {
                let mut one = Digest::default();
                part.iter().for_each(|v| one.push(*v));
                digest.merge(one);
            }
            values.sort_by(f64::total_cmp);
            for percent in [0.0, 0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9, 100.0] {
                let got = digest.clone().percentile(percent).expect("there are values");
                // A value has several ranks when it comes several times. Centroids of equal values round a little.
                let little = got.abs() * 1e-9;
                let below = values.partition_point(|v| *v < got - little) as f64 / count as f64;
                let upto = values.partition_point(|v| *v <= got + little) as f64 / count as f64;
                let share = percent / 100.0;
                let far = (below - share).max(share - upto).max(0.0);
                let allowed = if (5.0..=95.0).contains(&percent) { 0.005 } else { 0.001 };
                prop_assert!(far <= allowed + 1.0 / count as f64, "{} % of {} ({}): {}", percent, count, shape, far);
            }
        }
    }
}
