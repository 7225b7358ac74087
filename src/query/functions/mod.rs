//! The functions of the language: [`aggregate`] folds points into a value or a few, [`transform`] turns a sequence of
//! points into another, [`math`] turns values into a value.

pub mod aggregate;
pub mod math;
pub mod transform;

use super::value::Value;

/// A time and what stands there.
pub type Point = (i64, Value);

/// Function names, for hints.
pub const NAMES: &[&str] = &[
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "bottom",
    "ceil",
    "cos",
    "count",
    "cumulative_sum",
    "derivative",
    "difference",
    "distinct",
    "elapsed",
    "exp",
    "first",
    "floor",
    "integral",
    "last",
    "ln",
    "log",
    "log10",
    "log2",
    "max",
    "mean",
    "median",
    "min",
    "mode",
    "moving_average",
    "non_negative_derivative",
    "non_negative_difference",
    "percentile",
    "pow",
    "round",
    "sample",
    "sin",
    "spread",
    "sqrt",
    "stddev",
    "sum",
    "tan",
    "top",
];
