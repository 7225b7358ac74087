//! Counters: how much they grew, with resets. A counter that is smaller than before began anew at zero.
//!
//! Each series counts for itself: what a group of them gives is the sum of what each gave. Nothing is extrapolated.

use crate::block::stats::FloatSum;
use crate::query::value::Value;

/// Nanoseconds.
const SECOND: f64 = 1e9;

/// A sample: when, and what the counter showed.
pub type Sample = (i64, Value);

/// The growth of one series between the samples it was given.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    series: u64,
    first: i64,
    last: Sample,
    increase: FloatSum,
}

/// The growth of one series in a part of a rolling window; parts that follow each other are put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    first: Sample,
    last: Sample,
    increase: FloatSum,
}

impl Stretch {
    /// Begins with a sample, or with the one before it.
    pub fn new(before: Option<&Sample>, sample: &Sample) -> Self {
        let from = before.unwrap_or(sample);
        let mut new = Self {
            first: from.clone(),
            last: from.clone(),
            increase: FloatSum::default(),
        };
        new.push(sample);
        new
    }

    /// Adds the next sample.
    pub fn push(&mut self, sample: &Sample) {
        if sample.0 > self.last.0 {
            self.increase.add(growth(&self.last.1, &sample.1));
            self.last = sample.clone();
        }
    }

    /// When and what its first and its last sample were, and how much it grew between them.
    pub fn parts(&self) -> (&Sample, &Sample, f64) {
        (&self.first, &self.last, self.increase.value())
    }

    /// Adds the part that follows.
    pub fn merge(&mut self, next: &Self) {
        // It may not reach back to the last sample of this one.
        self.push(&next.first);
        self.increase.add_sum(next.increase);
        self.last = next.last.clone();
    }
}

/// The growth of the counters of a group in a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Growth {
    open: Option<Run>,
    increase: FloatSum,
    /// Per second.
    rate: f64,
    /// Has any series shown two samples?
    known: bool,
}

/// How much larger a counter has become.
fn growth(before: &Value, now: &Value) -> f64 {
    let reset = |now: &Value| now.as_f64().unwrap_or(0.0);
    match (before, now) {
        (Value::Integer(a), Value::Integer(b)) if b >= a => (i128::from(*b) - i128::from(*a)) as f64,
        (Value::Unsigned(a), Value::Unsigned(b)) if b >= a => (b - a) as f64,
        (Value::Integer(_) | Value::Unsigned(_), Value::Integer(_) | Value::Unsigned(_)) => reset(now),
        _ => match (before.as_f64(), now.as_f64()) {
            (Some(a), Some(b)) if b >= a => b - a,
            _ => reset(now),
        },
    }
}

impl Growth {
    /// Adds a sample of a series, which come in ascending time, series after series. `before` is the series' sample before
    /// it, perhaps outside of the window.
    pub fn push(&mut self, series: u64, before: Option<&Sample>, sample: &Sample) {
        if self.open.as_ref().is_none_or(|open| open.series != series) {
            self.close();
            let from = before.unwrap_or(sample);
            self.open = Some(Run {
                series,
                first: from.0,
                last: from.clone(),
                increase: FloatSum::default(),
            });
        }
        if let Some(open) = &mut self.open
            && sample.0 > open.last.0
        {
            open.increase.add(growth(&open.last.1, &sample.1));
            open.last = sample.clone();
        }
    }

    /// Adds samples of a series of which only the first, the last and the growth between them are known; otherwise as
    /// [`push`](Self::push).
    pub fn push_known(
        &mut self,
        series: u64,
        before: Option<&Sample>,
        (first, last, increase): (&Sample, &Sample, f64),
    ) {
        self.push(series, before, first);
        if let Some(open) = &mut self.open
            && last.0 >= open.last.0
        {
            open.increase.add(increase);
            open.last = last.clone();
        }
    }

    /// Adds the growth of a whole series.
    pub fn add(&mut self, stretch: &Stretch) {
        self.grew(stretch.first.0, stretch.last.0, stretch.increase);
    }

    fn close(&mut self) {
        if let Some(run) = self.open.take() {
            self.grew(run.first, run.last.0, run.increase);
        }
    }

    fn grew(&mut self, first: i64, last: i64, increase: FloatSum) {
        if last > first {
            self.known = true;
            self.increase.add_sum(increase);
            self.rate += increase.value() / (last.wrapping_sub(first) as f64 / SECOND);
        }
    }

    /// How much all of them grew; `None` when no series had two samples.
    pub fn increase(mut self) -> Option<f64> {
        self.close();
        self.known.then_some(self.increase.value())
    }

    /// How fast, per so many nanoseconds: for each series its growth by the time between its first and last sample.
    pub fn rate(mut self, unit: i64) -> Option<f64> {
        self.close();
        self.known.then_some(self.rate * (unit as f64 / SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        samples: &[(u64, i64, i64)],
        before: Option<(i64, i64)>,
        increase: Option<f64>,
        rate: Option<f64>,
    ) {
        let mut growth = Growth::default();
        let mut last: Option<(u64, Sample)> = before.map(|(t, v)| (samples[0].0, (t, Value::Integer(v))));
        for (series, time, value) in samples {
            let sample = (*time, Value::Integer(*value));
            let known = last.as_ref().filter(|(of, _)| of == series).map(|(_, s)| s);
            growth.push(*series, known, &sample);
            last = Some((*series, sample));
        }
        assert_eq!(growth.clone().increase(), increase);
        assert_eq!(growth.rate(10), rate);
    }

    #[test]
    fn growth_resets_and_series() {
        check(&[(1, 0, 5)], None, None, None);
        check(&[(1, 0, 5), (1, 20, 9)], None, Some(4.0), Some(2.0));
        // The sample before the window counts.
        check(&[(1, 10, 9)], Some((0, 5)), Some(4.0), Some(4.0));
        // A reset to zero: 9 to 0 to 3.
        check(&[(1, 0, 5), (1, 10, 9), (1, 20, 3)], None, Some(7.0), Some(3.5));
        // Two series: the sum of both.
        check(
            &[(1, 0, 0), (1, 10, 10), (2, 0, 100), (2, 20, 140)],
            None,
            Some(50.0),
            Some(30.0),
        );
        check(&[(1, 0, 5), (1, 10, 5)], None, Some(0.0), Some(0.0));
    }

    #[test]
    fn large_integers_are_exact() {
        assert_eq!(
            growth(&Value::Integer(i64::MAX - 1), &Value::Integer(i64::MAX)),
            1.0
        );
        assert_eq!(
            growth(&Value::Unsigned(u64::MAX - 3), &Value::Unsigned(u64::MAX)),
            3.0
        );
        assert_eq!(growth(&Value::Float(2.0), &Value::Float(1.5)), 1.5);
    }
}
