//! Technical analysis: exponential averages and what is made of them, Kaufman's and Chande's indicators. Each takes the
//! points of a sequence one after the other and gives a value for each once it is warm.
//!
//! Formulas as in the literature; where it leaves room (the weights while an average warms up, the value before the first
//! point), InfluxDB's choice.

use super::Point;
use crate::query::value::Value;
use std::collections::VecDeque;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indicator {
    /// `exponential_moving_average`
    Exponential,
    /// `double_exponential_moving_average`
    Double,
    /// `triple_exponential_moving_average`
    Triple,
    /// `triple_exponential_derivative`
    TripleDerivative,
    /// `relative_strength_index`
    RelativeStrength,
    /// `chande_momentum_oscillator`
    Chande,
    /// `kaufmans_efficiency_ratio`
    KaufmanRatio,
    /// `kaufmans_adaptive_moving_average`
    KaufmanAverage,
}

/// How an average begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmUp {
    /// Not at all: sums over the period instead of averages (`chande_momentum_oscillator` only).
    None,
    /// With an exponential average over fewer points.
    Exponential,
    /// With the arithmetic mean of the first points.
    Simple,
}

/// An indicator with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Momentum {
    /// Which.
    pub indicator: Indicator,
    /// Points it looks at.
    pub period: usize,
    /// Points for which it gives nothing; `None` until it is warm.
    pub hold: Option<usize>,
    /// See there.
    pub warm_up: WarmUp,
}

impl Momentum {
    /// The values of a sequence of points.
    pub fn apply(&self, points: &[&Point]) -> Vec<Point> {
        let hold = self.hold.unwrap_or(self.points_to_warm());
        let mut machine = Machine::new(self);
        let mut out = Vec::new();
        let numbers = points
            .iter()
            .filter_map(|(time, value)| Some((*time, value.as_f64()?)));
        for (count, (time, number)) in numbers.enumerate() {
            let value = machine.add(number);
            if count >= hold && !value.is_infinite() {
                out.push((time, Value::Float(value)));
            }
        }
        out
    }

    fn points_to_warm(&self) -> usize {
        let one = self.period.saturating_sub(1);
        let stages = |n: usize| match self.warm_up {
            WarmUp::Simple => one * n,
            _ => one,
        };
        match self.indicator {
            Indicator::Exponential => one,
            Indicator::Double => stages(2),
            Indicator::Triple => stages(3),
            Indicator::TripleDerivative => stages(3) + 1,
            Indicator::Chande if self.warm_up == WarmUp::None => one,
            Indicator::RelativeStrength | Indicator::Chande => self.period,
            Indicator::KaufmanRatio | Indicator::KaufmanAverage => self.period,
        }
    }
}

/// An exponential average.
#[derive(Clone, Copy)]
struct Average {
    period: usize,
    weight: f64,
    warm_up: WarmUp,
    count: usize,
    last: f64,
}

impl Average {
    fn new(period: usize, warm_up: WarmUp) -> Self {
        Self {
            period,
            weight: 2.0 / (period + 1) as f64,
            warm_up,
            count: 0,
            last: 0.0,
        }
    }

    /// Wilder's: it forgets by one over the period, and takes one point more to warm up.
    fn wilder(period: usize, warm_up: WarmUp) -> Self {
        Self {
            weight: 1.0 / period as f64,
            ..Self::new(period + 1, warm_up)
        }
    }

    fn is_warm(&self) -> bool {
        self.count == self.period
    }

    /// Does the next stage get its points already?
    fn feeds(&self) -> bool {
        self.is_warm() || self.warm_up == WarmUp::Exponential
    }

    fn add(&mut self, value: f64) -> f64 {
        let count = self.count as f64;
        self.last = match self.count {
            0 => value,
            _ if self.is_warm() => (value - self.last) * self.weight + self.last,
            _ if self.warm_up == WarmUp::Simple => (self.last * count + value) / (count + 1.0),
            _ => (value - self.last) * (2.0 / (count + 2.0)) + self.last,
        };
        self.count = (self.count + 1).min(self.period);
        self.last
    }
}

/// The last prices with their steps, for sums over a period.
struct Steps {
    period: usize,
    kept: VecDeque<(f64, f64)>,
}

impl Steps {
    /// As if the price had been 0 before.
    fn new(period: usize) -> Self {
        Self {
            period,
            kept: std::iter::repeat_n((0.0, 0.0), period).collect(),
        }
    }

    fn newest(&self) -> f64 {
        self.kept.back().map_or(0.0, |(price, _)| *price)
    }

    /// Adds a price and its step; gives back the oldest ones.
    fn push(&mut self, price: f64, step: f64) -> (f64, f64) {
        self.kept.push_back((price, step));
        if self.kept.len() > self.period {
            self.kept.pop_front().unwrap_or_default()
        } else {
            (0.0, 0.0)
        }
    }
}

enum Machine {
    Stages {
        indicator: Indicator,
        stages: [Average; 3],
        last: f64,
    },
    /// Averages of rises and falls.
    Rises {
        indicator: Indicator,
        up: Average,
        down: Average,
        last: f64,
    },
    Chande {
        steps: Steps,
        count: usize,
    },
    Kaufman {
        indicator: Indicator,
        steps: Steps,
        noise: f64,
        average: f64,
        /// Points until it is warm.
        left: usize,
    },
}

impl Machine {
    fn new(of: &Momentum) -> Self {
        let Momentum {
            indicator,
            period,
            warm_up,
            ..
        } = *of;
        match indicator {
            Indicator::Chande if warm_up == WarmUp::None => Self::Chande {
                steps: Steps::new(period),
                count: 0,
            },
            Indicator::RelativeStrength | Indicator::Chande => Self::Rises {
                indicator,
                up: Average::wilder(period, warm_up),
                down: Average::wilder(period, warm_up),
                last: 0.0,
            },
            Indicator::KaufmanRatio | Indicator::KaufmanAverage => Self::Kaufman {
                indicator,
                steps: Steps::new(period),
                noise: 0.0,
                average: 0.0,
                left: period + 1,
            },
            _ => Self::Stages {
                indicator,
                stages: [Average::new(period, warm_up); 3],
                last: 0.0,
            },
        }
    }

    fn add(&mut self, value: f64) -> f64 {
        match self {
            Self::Stages {
                indicator,
                stages: [one, two, three],
                last,
            } => {
                let first = one.add(value);
                let second = if one.feeds() { two.add(first) } else { first };
                // The derivative's third stage waits for the second, and that for the first.
                match indicator {
                    Indicator::Exponential => first,
                    Indicator::Double => 2.0 * first - second,
                    Indicator::Triple => {
                        let third = if two.feeds() { three.add(second) } else { second };
                        3.0 * first - 3.0 * second + third
                    }
                    _ => {
                        let fed = one.feeds() && two.feeds();
                        let third = if fed { three.add(second) } else { second };
                        (third / std::mem::replace(last, third) - 1.0) * 100.0
                    }
                }
            }
            Self::Rises {
                indicator,
                up,
                down,
                last,
            } => {
                let step = value - std::mem::replace(last, value);
                let (up, down) = (up.add(step.max(0.0)), down.add((-step).max(0.0)));
                match indicator {
                    Indicator::RelativeStrength => 100.0 - 100.0 / (1.0 + up / down),
                    _ => 100.0 * ((up - down) / (up + down)),
                }
            }
            Self::Chande { steps, count } => {
                let step = if *count == 0 { 0.0 } else { value - steps.newest() };
                *count += 1;
                steps.push(value, step);
                // Added up anew each time: what was taken off a sum would leave a rest.
                let (up, down) = steps.kept.iter().fold((0.0, 0.0), |(up, down), (_, step)| {
                    (up + step.max(0.0), down + (-step).max(0.0))
                });
                let all: f64 = up + down;
                if all == 0.0 {
                    0.0
                } else {
                    100.0 * ((up - down) / all)
                }
            }
            Self::Kaufman {
                indicator,
                steps,
                noise,
                average,
                left,
            } => {
                let step = (value - steps.newest()).abs();
                let (oldest, forgotten) = steps.push(value, step);
                let signal = (value - oldest).abs();
                *noise -= forgotten;
                *noise += step;
                let ratio = if signal == 0.0 || *noise == 0.0 {
                    0.0
                } else {
                    signal / *noise
                };
                if *indicator == Indicator::KaufmanRatio {
                    return ratio;
                }
                let (fast, slow) = (2.0 / 3.0, 2.0 / 31.0);
                let weight = ratio * (fast - slow) + slow;
                let out = *average + weight * weight * (value - *average);
                // Until it is warm the average begins anew at each price.
                *left = left.saturating_sub(1);
                *average = if *left > 0 { value } else { out };
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: [f64; 9] = [35.8, 17.45, 32.28, 40.02, 47.49, 47.02, -2.33, 35.24, 38.73];

    fn check(indicator: Indicator, hold: Option<usize>, warm_up: WarmUp, first: usize, want: &[f64]) {
        let points: Vec<Point> = PRICES
            .iter()
            .enumerate()
            .map(|(i, v)| (i as i64, Value::Float(*v)))
            .collect();
        let points: Vec<&Point> = points.iter().collect();
        let got = Momentum {
            indicator,
            period: 3,
            hold,
            warm_up,
        }
        .apply(&points);
        assert_eq!(got.first().map(|p| p.0), Some(first as i64), "{indicator:?}");
        for (got, want) in got.iter().zip(want) {
            let got = got.1.as_f64().expect("a number");
            assert!(
                (got - want).abs() < 1e-9,
                "{indicator:?} {warm_up:?}: {got} is not {want}"
            );
        }
    }

    /// The values are InfluxDB's for the same prices.
    #[test]
    fn indicators_of_period_three() {
        use Indicator::*;
        let exponential = WarmUp::Exponential;
        check(
            RelativeStrength,
            Some(0),
            exponential,
            0,
            &[
                100.0,
                49.379310344827594,
                68.6297974185828,
                75.19432240621832,
                80.19427954668106,
            ],
        );
        check(RelativeStrength, None, exponential, 3, &[75.19432240621832]);
        check(
            KaufmanRatio,
            Some(0),
            exponential,
            0,
            &[
                1.0,
                0.32225300092336107,
                0.4679617280371123,
                0.10312805474095812,
                1.0,
                0.9400510204081638,
            ],
        );
        check(
            KaufmanAverage,
            Some(0),
            exponential,
            0,
            &[
                15.911111111111113,
                34.57323344516502,
                19.228463548233535,
                32.404082208235806,
            ],
        );
        check(
            TripleDerivative,
            Some(0),
            exponential,
            1,
            &[-15.187254293399533, -4.247072456696765, 3.1030946549763794],
        );
        check(TripleDerivative, None, WarmUp::Simple, 7, &[-8.065476489059664]);
        check(
            Chande,
            Some(0),
            WarmUp::None,
            0,
            &[
                0.0,
                -100.0,
                -10.608800482218191,
                10.31280547409581,
                100.0,
                94.00510204081634,
                -73.92215046255892,
            ],
        );
        check(
            Chande,
            Some(0),
            WarmUp::Simple,
            0,
            &[100.0, 32.225300092336106, 46.796172803711215, 52.16371220020854],
        );
        check(
            Triple,
            Some(0),
            WarmUp::Simple,
            0,
            &[
                35.8,
                26.625,
                28.51,
                40.019999999999996,
                53.53083333333333,
                50.997187499999995,
            ],
        );
        check(
            Double,
            None,
            WarmUp::Simple,
            4,
            &[47.20416666666666, 48.64770833333334],
        );
        check(
            Triple,
            None,
            exponential,
            2,
            &[29.49175925925926, 39.257268518518515],
        );
    }
}
