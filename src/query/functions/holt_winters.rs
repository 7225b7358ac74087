//! `holt_winters`: damped multiplicative Holt-Winters smoothing, its parameters found by the Nelder-Mead simplex from a
//! grid of guesses. Bounds, grid and stopping rule are InfluxDB's, so that forecasts agree.

use super::Point;
use crate::query::error::QueryError;
use crate::query::value::Value;

/// A forecast with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoltWinters {
    /// Points to forecast.
    pub horizon: usize,
    /// Points of a season; below 2 there is none.
    pub season: usize,
    /// Give the fitted points too.
    pub with_fit: bool,
    /// Nanoseconds between points.
    pub step: i64,
}

/// Where the search begins: alpha, beta, gamma and phi each take these values.
const GUESSES: [f64; 2] = [0.3, 0.7];
/// Weight of the first values in the first level and trend when there is no season.
const FIRST_WEIGHT: f64 = 0.5;
/// The search ends when the spread of errors over the simplex is below this.
const SPREAD_MIN: f64 = 1e-4;
/// Or after so many steps.
const STEPS_MAX: usize = 1000;
/// Points that are fitted at most, missing ones included: each step of the search looks at all of them.
pub const POINTS_MAX: usize = 20_000;

// Places of the parameters.
const ALPHA: usize = 0;
const BETA: usize = 1;
const GAMMA: usize = 2;
const PHI: usize = 3;
const LEVEL: usize = 4;
const TREND: usize = 5;
const SEASONS: usize = 6;

impl HoltWinters {
    /// The forecast; nothing for too few points. `check` is asked between steps whether to go on.
    ///
    /// # Errors
    /// More than [`POINTS_MAX`] points; what `check` gives.
    pub fn apply(
        &self,
        points: &[&Point],
        check: &dyn Fn() -> Result<(), QueryError>,
    ) -> Result<Vec<Point>, QueryError> {
        let points: Vec<(i64, f64)> = points
            .iter()
            .filter_map(|(t, v)| Some((*t, v.as_f64()?)))
            .collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Ok(Vec::new());
        };
        if points.len() < 2 || (self.is_seasonal() && points.len() < self.season) || self.step <= 0 {
            return Ok(Vec::new());
        }
        let span = self.rounded(last.0).saturating_sub(self.rounded(first.0));
        if span / self.step >= (POINTS_MAX - self.horizon.min(POINTS_MAX)) as i64 {
            return Err(QueryError::Limit(format!(
                "holt_winters would look at too many points (holt_winters_points_max {POINTS_MAX}); take longer windows or a shorter time"
            )));
        }
        if span <= 0 {
            return Ok(Vec::new());
        }
        let series = self.series(&points);
        if self.is_seasonal() && series.len() < self.season {
            return Ok(Vec::new());
        }
        let mut best: Option<(f64, Vec<f64>)> = None;
        let start = self.first_parameters(&series);
        let guesses = GUESSES.iter();
        for (a, b) in guesses.clone().flat_map(|a| GUESSES.map(|b| (*a, b))) {
            for (c, d) in guesses.clone().flat_map(|c| GUESSES.map(|d| (*c, d))) {
                let mut guess = start.clone();
                guess[..LEVEL].copy_from_slice(&[a, b, c, d]);
                let (error, found) = simplex(&guess, &mut |p| self.error(&series, p), check)?;
                if best.as_ref().is_none_or(|(least, _)| error < *least) {
                    best = Some((error, found));
                }
            }
        }
        let Some((_, mut parameters)) = best else {
            return Ok(Vec::new());
        };
        let forecast = self.forecast(&series, &mut parameters, self.horizon);
        let (skip, origin) = if self.with_fit {
            (0, first.0)
        } else {
            (series.len(), last.0 + self.step)
        };
        let rest = forecast.into_iter().skip(skip).enumerate();
        let time = |i: usize| origin.saturating_add(self.step.saturating_mul(i as i64));
        let known = rest.filter(|(_, value)| !value.is_nan());
        Ok(known.map(|(i, value)| (time(i), Value::Float(value))).collect())
    }

    fn is_seasonal(&self) -> bool {
        self.season >= 2
    }

    /// The nearest multiple of the step.
    fn rounded(&self, time: i64) -> i64 {
        let up = i64::from(time % self.step > self.step / 2);
        (time / self.step + up) * self.step
    }

    /// One value for each step, NaN where there is none.
    fn series(&self, points: &[(i64, f64)]) -> Vec<f64> {
        let mut at = self.rounded(points[0].0);
        let mut out = vec![points[0].1];
        for (time, value) in &points[1..] {
            let time = self.rounded(*time);
            if time <= at {
                continue;
            }
            at += self.step;
            while at != time {
                out.push(f64::NAN);
                at += self.step;
            }
            out.push(*value);
        }
        out
    }

    fn first_parameters(&self, y: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; SEASONS];
        if !self.is_seasonal() {
            out[LEVEL] = FIRST_WEIGHT * y[0];
            if y.len() > 1 && !y[1].is_nan() {
                out[TREND] = FIRST_WEIGHT * (y[1] - y[0]);
            }
            return out;
        }
        let m = self.season;
        let known = |value: &&f64| !value.is_nan();
        out[LEVEL] = y[..m]
            .iter()
            .filter(known)
            .fold(0.0, |sum, v| sum + 1.0 / m as f64 * v);
        for (before, after) in y.iter().take(m).zip(&y[m..]) {
            if !before.is_nan() && !after.is_nan() {
                out[TREND] += 1.0 / (m * m) as f64 * (after - before);
            }
        }
        let level = out[LEVEL];
        out.extend(y[..m].iter().map(|v| if v.is_nan() { 0.0 } else { v / level }));
        out
    }

    /// Fitted values, and `horizon` more. The seasons in the parameters are used up.
    fn forecast(&self, y: &[f64], parameters: &mut [f64], horizon: usize) -> Vec<f64> {
        for p in &mut parameters[..LEVEL] {
            *p = p.clamp(0.0, 1.0);
        }
        let (fixed, seasons) = parameters.split_at_mut(SEASONS);
        let (alpha, beta, gamma, phi) = (fixed[ALPHA], fixed[BETA], fixed[GAMMA], fixed[PHI]);
        let (mut level, mut trend, mut value) = (fixed[LEVEL], fixed[TREND], y[0]);
        let m = seasons.len();
        let mut damping = phi;
        let mut out = vec![value];
        for t in 1..y.len() + horizon {
            // The ring of seasons turns by one more at each step.
            let turn = t + m.saturating_sub(2);
            let (now, ahead) = if m == 0 {
                (1.0, 1.0)
            } else {
                (seasons[(t + turn - m) % m], seasons[(t + turn + t % m - m) % m])
            };
            let damped = level + phi * trend;
            let next = alpha * (value / now) + (1.0 - alpha) * damped;
            let next_trend = beta * (next - level) + (1.0 - beta) * phi * trend;
            let season = gamma * (value / damped) + (1.0 - gamma) * now;
            value = (next + damping * next_trend) * ahead;
            (level, trend) = (next, next_trend);
            damping += power(phi, t);
            if m > 0 {
                seasons[(t + turn) % m] = season;
            }
            out.push(value);
        }
        out
    }

    /// Sum of squared errors.
    fn error(&self, y: &[f64], parameters: &mut [f64]) -> f64 {
        let mut sum = 0.0;
        for (fitted, value) in self.forecast(y, parameters, 0).iter().zip(y) {
            if value.is_nan() {
                continue;
            }
            if fitted.is_nan() {
                return f64::INFINITY;
            }
            sum += (fitted - value) * (fitted - value);
        }
        sum
    }
}

/// By squares, in this order: the search depends on the last bit.
fn power(x: f64, mut n: usize) -> f64 {
    let (mut square, mut out) = (x, 1.0);
    while n > 0 {
        if n % 2 == 1 {
            out *= square;
        }
        square *= square;
        n /= 2;
    }
    out
}

/// Nelder and Mead's search for a small value of `f`, which may move the points it is asked about (into bounds).
fn simplex(
    start: &[f64],
    f: &mut dyn FnMut(&mut [f64]) -> f64,
    check: &dyn Fn() -> Result<(), QueryError>,
) -> Result<(f64, Vec<f64>), QueryError> {
    let n = start.len();
    let size = n as f64;
    let far = ((size + 1.0).sqrt() - 1.0 + size) / (size * std::f64::consts::SQRT_2);
    let near = ((size + 1.0).sqrt() - 1.0) / (size * std::f64::consts::SQRT_2);
    let mut corners: Vec<Vec<f64>> = vec![start.to_vec()];
    for i in 0..n {
        let moved = |(j, x): (usize, &f64)| x + if i == j { far } else { near };
        corners.push(start.iter().enumerate().map(moved).collect());
    }
    let mut values: Vec<f64> = corners.iter_mut().map(|corner| f(corner)).collect();
    for _ in 0..STEPS_MAX {
        check()?;
        let (mut worst, mut best) = (0, 0);
        for i in 0..=n {
            worst = if values[i] > values[worst] { i } else { worst };
            best = if values[i] < values[best] { i } else { best };
        }
        let mut second = best;
        for i in 0..=n {
            if values[i] > values[second] && values[i] < values[worst] {
                second = i;
            }
        }
        let others = |j: usize| {
            (0..=n)
                .filter(|i| *i != worst)
                .fold(0.0, |sum, i| sum + corners[i][j])
        };
        let middle: Vec<f64> = (0..n).map(|j| others(j) / size).collect();
        // A point on the line from the worst corner through the middle.
        let along = |from: &[f64], by: f64| -> Vec<f64> {
            middle.iter().zip(from).map(|(m, x)| m + by * (m - x)).collect()
        };
        let mut reflected = along(&corners[worst], 1.0);
        let at_reflected = f(&mut reflected);
        let mut replace: Option<(Vec<f64>, f64)> = None;
        if at_reflected < values[second] && at_reflected >= values[best] {
            replace = Some((reflected.clone(), at_reflected));
        }
        if at_reflected < values[best] {
            let mut expanded: Vec<f64> = middle
                .iter()
                .zip(&reflected)
                .map(|(m, r)| m + 2.0 * (r - m))
                .collect();
            let at_expanded = f(&mut expanded);
            replace = Some(if at_expanded < at_reflected {
                (expanded, at_expanded)
            } else {
                (reflected.clone(), at_reflected)
            });
        }
        let accepted = replace.is_some();
        if let Some((corner, value)) = replace {
            (corners[worst], values[worst]) = (corner, value);
        }
        // Whether to contract is judged by the values as they are now.
        if at_reflected >= values[second] {
            let outside = at_reflected < values[worst] && !accepted;
            let mut contracted: Vec<f64> = if outside {
                middle
                    .iter()
                    .zip(&reflected)
                    .map(|(m, r)| m + 0.5 * (r - m))
                    .collect()
            } else {
                middle
                    .iter()
                    .zip(&corners[worst])
                    .map(|(m, x)| m - 0.5 * (m - x))
                    .collect()
            };
            let at_contracted = f(&mut contracted);
            if at_contracted < values[worst] {
                (corners[worst], values[worst]) = (contracted, at_contracted);
            } else {
                let best_corner = corners[best].clone();
                for (_, corner) in corners.iter_mut().enumerate().filter(|(i, _)| *i != best) {
                    for (x, b) in corner.iter_mut().zip(&best_corner) {
                        *x = b + (*x - b) / 2.0;
                    }
                }
                values[worst] = f(&mut corners[worst]);
                values[second] = f(&mut corners[second]);
            }
        }
        let mean = values.iter().fold(0.0, |sum, v| sum + v) / (size + 1.0);
        let spread = values
            .iter()
            .fold(0.0, |sum, v| sum + (v - mean) * (v - mean) / size);
        if spread.sqrt() < SPREAD_MIN {
            break;
        }
    }
    let best = (0..=n).fold(0, |best, i| if values[i] < values[best] { i } else { best });
    let mut found = corners.swap_remove(best);
    // The parameters are what they were before the last look at them used them up.
    let parameters = found.clone();
    Ok((f(&mut found), parameters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::context::Why;

    fn apply(forecast: HoltWinters, values: &[Option<f64>]) -> Vec<(i64, f64)> {
        let points: Vec<Point> = values
            .iter()
            .enumerate()
            .filter_map(|(i, v)| Some((i as i64 * 10, Value::Float((*v)?))))
            .collect();
        let points: Vec<&Point> = points.iter().collect();
        let out = forecast.apply(&points, &|| Ok(())).expect("few points");
        out.iter()
            .map(|(t, v)| (*t, v.as_f64().expect("a number")))
            .collect()
    }

    #[test]
    fn a_season_goes_on() {
        let forecast = HoltWinters {
            horizon: 8,
            season: 4,
            with_fit: false,
            step: 10,
        };
        let season = [10.0, 20.0, 30.0, 20.0];
        let values: Vec<Option<f64>> = (0..40).map(|i| Some(season[i % 4])).collect();
        let got = apply(forecast, &values);
        assert_eq!(
            got.iter().map(|(t, _)| *t).collect::<Vec<_>>(),
            (40..48).map(|i| i * 10).collect::<Vec<i64>>()
        );
        // InfluxDB's forecast for the same values.
        let want = [
            16.58054707659312,
            18.633094828405735,
            33.47944849412931,
            20.237828377158287,
        ];
        for ((_, value), want) in got.iter().zip(want) {
            assert!((value - want).abs() < 1e-9, "{value} is not {want}");
        }
        let fitted = apply(
            HoltWinters {
                with_fit: true,
                ..forecast
            },
            &values,
        );
        assert_eq!(fitted.len(), 48);
        assert_eq!(fitted[0], (0, 10.0));
    }

    #[test]
    fn gaps_and_too_few_points() {
        let forecast = HoltWinters {
            horizon: 2,
            season: 0,
            with_fit: false,
            step: 10,
        };
        assert_eq!(apply(forecast, &[]), []);
        assert_eq!(apply(forecast, &[Some(1.0)]), []);
        let got = apply(
            forecast,
            &[Some(1.0), None, Some(3.0), Some(4.0), None, Some(6.0)],
        );
        assert_eq!(got.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [60, 70]);
        assert!(got.iter().all(|(_, v)| v.is_finite()));
        assert_eq!(
            apply(
                HoltWinters {
                    season: 4,
                    ..forecast
                },
                &[Some(1.0), Some(2.0)]
            ),
            []
        );
        let (near, far) = (
            (0, Value::Float(1.0)),
            (10 * POINTS_MAX as i64, Value::Float(1.0)),
        );
        assert!(forecast.apply(&[&near, &far], &|| Ok(())).is_err());
        let stopped = forecast.apply(&[&near, &(10, Value::Float(1.0))], &|| {
            Err(QueryError::Cancelled(Why::Killed))
        });
        assert_eq!(stopped, Err(QueryError::Cancelled(Why::Killed)));
    }
}
