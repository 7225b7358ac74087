//! The functions of the language: [`aggregate`] folds points into a value or a few, [`transform`] turns a sequence of
//! points into another ([`momentum`] and [`holt_winters`] have the long ones), [`math`] turns values into a value.

pub mod aggregate;
pub mod counter;
pub mod digest;
pub mod holt_winters;
pub mod lag;
pub mod math;
mod merge;
pub mod moments;
pub mod momentum;
pub mod sum;
pub mod transform;

use super::value::Value;

/// A time and what stands there.
pub type Point = (i64, Value);

/// Functions of points with the same kind of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `max(f)`: gives a point that exists.
    Selector,
    /// `mean(f)`: gives a value.
    Aggregate,
    /// `percentile(f, 95)`
    Percentile,
    /// `sample(f, n)`
    Sample,
    /// `distinct(f)`
    Distinct,
    /// `top(f, tag, .., n)`
    Ranked,
    /// `derivative(f, unit)`: a field, or a function by window, and a unit of time.
    Timed,
    /// `difference(f)`: a field, or a function by window.
    Steps,
    /// `moving_average(f, n)`
    MovingAverage,
    /// `exponential_moving_average(f, period, hold, warmup)`
    Averages,
    /// `kaufmans_efficiency_ratio(f, period, hold)`
    Kaufman,
    /// `chande_momentum_oscillator(f, period, hold, warmup)`
    Chande,
    /// `integral(f, unit)`
    Integral,
    /// `holt_winters(f(..), n, season)`
    Forecast,
    /// Kymo's own: see [`super::extension`].
    Extension,
}

/// All functions of points.
const FUNCTIONS: &[(&str, Family)] = &[
    ("approx_median", Family::Extension),
    ("approx_percentile", Family::Extension),
    ("bottom", Family::Ranked),
    ("chande_momentum_oscillator", Family::Chande),
    ("corr", Family::Extension),
    ("corr_lag", Family::Extension),
    ("count", Family::Aggregate),
    ("covar", Family::Extension),
    ("cumulative_sum", Family::Steps),
    ("derivative", Family::Timed),
    ("difference", Family::Steps),
    ("distinct", Family::Distinct),
    ("double_exponential_moving_average", Family::Averages),
    ("elapsed", Family::Timed),
    ("exponential_moving_average", Family::Averages),
    ("first", Family::Selector),
    ("histogram_buckets", Family::Extension),
    ("holt_winters", Family::Forecast),
    ("holt_winters_with_fit", Family::Forecast),
    ("increase", Family::Extension),
    ("integral", Family::Integral),
    ("kaufmans_adaptive_moving_average", Family::Kaufman),
    ("kaufmans_efficiency_ratio", Family::Kaufman),
    ("last", Family::Selector),
    ("max", Family::Selector),
    ("mean", Family::Aggregate),
    ("median", Family::Aggregate),
    ("min", Family::Selector),
    ("mode", Family::Aggregate),
    ("moving_average", Family::MovingAverage),
    ("non_negative_derivative", Family::Timed),
    ("non_negative_difference", Family::Steps),
    ("percentile", Family::Percentile),
    ("rate", Family::Extension),
    ("regr_intercept", Family::Extension),
    ("regr_r2", Family::Extension),
    ("regr_slope", Family::Extension),
    ("relative_strength_index", Family::Averages),
    ("sample", Family::Sample),
    ("spread", Family::Aggregate),
    ("stddev", Family::Aggregate),
    ("sum", Family::Aggregate),
    ("top", Family::Ranked),
    ("triple_exponential_derivative", Family::Averages),
    ("triple_exponential_moving_average", Family::Averages),
];

/// The family of a function of points; `None` for other names.
pub fn family(name: &str) -> Option<Family> {
    let at = FUNCTIONS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(FUNCTIONS[at].1)
}

/// The names of all functions, for hints.
pub fn names() -> impl Iterator<Item = &'static str> {
    let points = FUNCTIONS.iter().map(|(name, _)| *name);
    points.chain(math::NAMES.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(FUNCTIONS.is_sorted_by_key(|(name, _)| *name));
        assert!(
            math::NAMES
                .iter()
                .all(|name| math::arity(name).is_some() && family(name).is_none())
        );
    }
}
