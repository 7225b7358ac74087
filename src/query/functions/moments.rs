//! Sums over pairs of numbers for correlation and linear regression, kept around the means so that large numbers with small
//! differences lose nothing.

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: f64,
    /// The first pair; sums are of differences from it, which are exact for numbers near each other.
    origin: (f64, f64),
    mean_x: f64,
    mean_y: f64,
    /// Sums of squares and products of the distances from the means.
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Moments {
    /// Adds a pair; one with a number that is not finite is passed over.
    pub fn push(&mut self, x: f64, y: f64) {
        if !x.is_finite() || !y.is_finite() {
            return;
        }
        if self.count == 0.0 {
            self.origin = (x, y);
        }
        let (x, y) = (x - self.origin.0, y - self.origin.1);
        self.count += 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += dx / self.count;
        self.mean_y += dy / self.count;
        self.xx += dx * (x - self.mean_x);
        self.yy += dy * (y - self.mean_y);
        self.xy += dx * (y - self.mean_y);
    }

    /// Adds the pairs of another one.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0.0 {
            return;
        }
        if self.count == 0.0 {
            *self = *other;
            return;
        }
        // The other's means as seen from this origin.
        let (x, y) = (
            other.mean_x + (other.origin.0 - self.origin.0),
            other.mean_y + (other.origin.1 - self.origin.1),
        );
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        let count = self.count + other.count;
        let weight = self.count * other.count / count;
        self.xx += other.xx + dx * dx * weight;
        self.yy += other.yy + dy * dy * weight;
        self.xy += other.xy + dx * dy * weight;
        self.mean_x += dx * other.count / count;
        self.mean_y += dy * other.count / count;
        self.count = count;
    }

    /// Pairs.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Sample covariance; of two pairs at least.
    pub fn covariance(&self) -> Option<f64> {
        (self.count >= 2.0).then(|| self.xy / (self.count - 1.0))
    }

    /// Pearson's coefficient; both numbers must vary.
    pub fn correlation(&self) -> Option<f64> {
        let both = self.xx * self.yy;
        let coefficient = self.xy / (self.xx.sqrt() * self.yy.sqrt());
        (both > 0.0 && coefficient.is_finite()).then(|| coefficient.clamp(-1.0, 1.0))
    }

    /// Slope of the line through the pairs that leaves the least squares in y; x must vary.
    pub fn slope(&self) -> Option<f64> {
        (self.xx > 0.0)
            .then(|| self.xy / self.xx)
            .filter(|slope| slope.is_finite())
    }

    /// Where that line is at x = 0.
    pub fn intercept(&self) -> Option<f64> {
        let slope = self.slope()?;
        Some(self.origin.1 + self.mean_y - slope * (self.origin.0 + self.mean_x))
    }

    /// The share of y's variation that the line explains; x must vary. A y that does not vary is explained wholly.
    pub fn r2(&self) -> Option<f64> {
        self.slope()?;
        match self.correlation() {
            Some(r) => Some(r * r),
            None => Some(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(f64, f64)]) -> Moments {
        let mut moments = Moments::default();
        pairs.iter().for_each(|(x, y)| moments.push(*x, *y));
        moments
    }

    fn near(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} is not {b}");
    }

    #[test]
    fn lines_and_clouds() {
        let line = of(&[(1.0, 3.0), (2.0, 5.0), (3.0, 7.0)]);
        near(line.correlation(), 1.0);
        near(line.slope(), 2.0);
        near(line.intercept(), 1.0);
        near(line.r2(), 1.0);
        near(line.covariance(), 2.0);
        // Anscombe's first quartet.
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let quartet = of(&x.into_iter().zip(y).collect::<Vec<_>>());
        near(quartet.slope(), 0.500_090_909_090_909_1);
        near(quartet.intercept(), 3.000_090_909_090_908);
        near(quartet.correlation(), 0.816_420_516_344_840_4);
    }

    #[test]
    fn parts_amount_to_the_whole() {
        let pairs: Vec<(f64, f64)> = (0..100)
            .map(|i| (1e6 + f64::from(i * 37 % 17), f64::from(i * 11 % 13) - 1e6))
            .collect();
        let whole = of(&pairs);
        for cut in [0, 1, 40, 99, 100] {
            let mut parts = of(&pairs[..cut]);
            parts.merge(&of(&pairs[cut..]));
            assert_eq!(parts.count(), 100.0);
            let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-9 * b.abs(), "{cut}: {a} {b}"),
                other => panic!("{cut}: {other:?}"),
            };
            close(parts.correlation(), whole.correlation());
            close(parts.covariance(), whole.covariance());
            close(parts.slope(), whole.slope());
            close(parts.intercept(), whole.intercept());
        }
    }

    #[test]
    fn what_does_not_vary_has_no_coefficient() {
        assert_eq!(of(&[]).correlation(), None);
        assert_eq!(of(&[(1.0, 2.0)]).covariance(), None);
        let flat = of(&[(1.0, 5.0), (2.0, 5.0)]);
        assert_eq!(flat.correlation(), None);
        near(flat.slope(), 0.0);
        near(flat.r2(), 1.0);
        assert_eq!(of(&[(1.0, 5.0), (1.0, 6.0)]).slope(), None);
    }

    #[test]
    fn large_numbers_lose_nothing() {
        let far = 1e9;
        let pairs: Vec<(f64, f64)> = (0..1000)
            .map(|i| (far + f64::from(i % 7), -far - f64::from(i % 7) * 2.0))
            .collect();
        near(of(&pairs).correlation(), -1.0);
        near(of(&pairs).slope(), -2.0);
    }

    #[test]
    fn not_a_number_is_passed_over() {
        assert_eq!(of(&[(f64::NAN, 1.0), (1.0, f64::INFINITY)]), Moments::default());
    }
}
