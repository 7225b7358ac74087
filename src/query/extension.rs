//! Functions that InfluxQL does not have: their arguments, and the shape of their columns. `folds.rs` computes them.

use super::error::QueryError;
use crate::lang::{BinaryOp, Call, CaseBranch, CaseExpr, Expr};

/// Percentiles, and bounds of buckets, of one call.
pub const SPLIT_MAX: usize = 100;

/// A function of the values of a few fields in the rows of a group and window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fold {
    /// `corr(x, y)`: Pearson's coefficient.
    Correlation,
    /// `covar(x, y)`: sample covariance.
    Covariance,
    /// `regr_slope(y, x)`
    Slope,
    /// `regr_intercept(y, x)`
    Intercept,
    /// `regr_r2(y, x)`
    R2,
    /// `corr_lag(x, y, max_lag)`: the shift of y in nanoseconds with the largest coefficient.
    BestLag {
        /// Nanoseconds.
        max: i64,
        /// Give the coefficient instead.
        coefficient: bool,
    },
    /// `increase(f)`
    Increase,
    /// `rate(f, unit)`: per so many nanoseconds.
    Rate(i64),
    /// `approx_percentile(f, p)`; `approx_median(f)` is that of 50.
    ApproxPercentile(f64),
}

fn fail<T>(text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::statement(text))
}

fn arguments(call: &Call, least: usize, most: usize) -> Result<(), QueryError> {
    let (name, got) = (&call.name, call.args.len());
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let expected = match most {
        _ if least == most => format!("expected {least}"),
        usize::MAX => format!("expected at least {least}"),
        _ => format!("expected at least {least} but no more than {most}"),
    };
    fail(format!(
        "invalid number of arguments for {name}, {expected}, got {got}"
    ))
}

fn number(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Integer(n) => Some(*n as f64),
        Expr::Number(n) => Some(*n),
        _ => None,
    }
}

/// Checks the arguments that are no fields.
///
/// # Errors
/// They make no sense.
pub fn check(call: &Call) -> Result<(), QueryError> {
    let name = &call.name;
    match name.as_str() {
        "corr" | "covar" | "regr_slope" | "regr_intercept" | "regr_r2" => arguments(call, 2, 2),
        "corr_lag" => {
            arguments(call, 3, 3)?;
            match &call.args[2] {
                Expr::Duration(lag) if *lag > 0 => Ok(()),
                _ => fail("third argument to corr_lag must be a positive duration, the largest lag"),
            }
        }
        "increase" | "approx_median" => arguments(call, 1, 1),
        "rate" => {
            arguments(call, 1, 2)?;
            match call.args.get(1) {
                None => Ok(()),
                Some(Expr::Duration(unit)) if *unit > 0 => Ok(()),
                Some(_) => fail("second argument to rate must be a positive duration"),
            }
        }
        "approx_percentile" => {
            arguments(call, 2, SPLIT_MAX + 1)?;
            let percent = |arg: &Expr| number(arg).is_some_and(|p| (0.0..=100.0).contains(&p));
            if call.args[1..].iter().all(percent) {
                Ok(())
            } else {
                fail("approx_percentile() takes percentages from 0 to 100")
            }
        }
        "histogram_buckets" => {
            arguments(call, 2, SPLIT_MAX + 1)?;
            let bounds: Option<Vec<f64>> = call.args[1..].iter().map(number).collect();
            match bounds {
                Some(bounds) if bounds.windows(2).all(|pair| pair[0] < pair[1]) => Ok(()),
                Some(_) => fail("the bounds of histogram_buckets() must ascend"),
                None => fail("the bounds of histogram_buckets() must be numbers"),
            }
        }
        _ => fail(format!("undefined function {name}()")),
    }
}

/// The arguments that are fields.
pub fn fields(call: &Call) -> &[Expr] {
    let count = match call.name.as_str() {
        "corr" | "covar" | "regr_slope" | "regr_intercept" | "regr_r2" | "corr_lag" => 2,
        _ => 1,
    };
    &call.args[..count.min(call.args.len())]
}

/// The function of a checked call.
pub fn fold(call: &Call) -> Option<Fold> {
    const SECOND: i64 = 1_000_000_000;
    Some(match call.name.as_str() {
        "corr" => Fold::Correlation,
        "covar" => Fold::Covariance,
        "regr_slope" => Fold::Slope,
        "regr_intercept" => Fold::Intercept,
        "regr_r2" => Fold::R2,
        "corr_lag" => Fold::BestLag {
            max: match call.args.get(2) {
                Some(Expr::Duration(max)) => *max,
                _ => return None,
            },
            coefficient: matches!(call.args.get(3), Some(Expr::Boolean(true))),
        },
        "increase" => Fold::Increase,
        "rate" => Fold::Rate(match call.args.get(1) {
            Some(Expr::Duration(unit)) => *unit,
            _ => SECOND,
        }),
        "approx_median" => Fold::ApproxPercentile(50.0),
        "approx_percentile" => Fold::ApproxPercentile(number(call.args.get(1)?)?),
        _ => return None,
    })
}

/// Writes a call that gives several columns as several calls, each with what its column's name ends in; another expression
/// stays as it is.
///
/// # Errors
/// Such a call stands inside of something else.
pub fn split(expr: &Expr) -> Result<Vec<(String, Expr)>, QueryError> {
    if let Expr::Call(call) = expr {
        match call.name.as_str() {
            "percentile" | "approx_percentile" if call.args.len() > 2 => return Ok(percentiles(call)),
            "histogram_buckets" => return Ok(buckets(call)),
            "corr_lag" => return Ok(lags(call)),
            _ => {}
        }
    }
    let mut inside = None;
    expr.visit_calls(&mut |call| {
        let several = match call.name.as_str() {
            "percentile" | "approx_percentile" => call.args.len() > 2,
            name => matches!(name, "histogram_buckets" | "corr_lag"),
        };
        if several {
            inside.get_or_insert(&call.name);
        }
    });
    match inside {
        Some(name) => fail(format!(
            "{name}() gives several columns and cannot stand inside of something else"
        )),
        None => Ok(vec![(String::new(), expr.clone())]),
    }
}

fn percentiles(call: &Call) -> Vec<(String, Expr)> {
    let one = |percent: &Expr| {
        let args = vec![call.args[0].clone(), percent.clone()];
        let number = number(percent).unwrap_or_default();
        (format!("_{number}"), Expr::Call(Call { args, ..call.clone() }))
    };
    call.args[1..].iter().map(one).collect()
}

fn lags(call: &Call) -> Vec<(String, Expr)> {
    let with = |coefficient: bool| {
        let mut args = call.args.clone();
        args.push(Expr::Boolean(coefficient));
        Expr::Call(Call { args, ..call.clone() })
    };
    vec![("_lag".into(), with(false)), ("_corr".into(), with(true))]
}

/// Each bucket counts the values above the bound before and up to its own: `sum(CASE WHEN f <= 10 THEN 1 ELSE 0 END)`.
fn buckets(call: &Call) -> Vec<(String, Expr)> {
    let field = &call.args[0];
    let bounds = &call.args[1..];
    let up_to = |bound: &Expr| Expr::binary(BinaryOp::Lte, field.clone(), bound.clone());
    let above = |bound: &Expr| Expr::binary(BinaryOp::Gt, field.clone(), bound.clone());
    let bucket = |at: usize| {
        let inside = match (at.checked_sub(1).map(|i| &bounds[i]), bounds.get(at)) {
            (None, Some(high)) => up_to(high),
            (Some(low), Some(high)) => Expr::binary(BinaryOp::And, above(low), up_to(high)),
            (Some(low), None) => above(low),
            (None, None) => Expr::Boolean(true),
        };
        // A row without the field is in no bucket, and says nothing of any.
        let known = Expr::binary(BinaryOp::Or, up_to(&bounds[0]), above(&bounds[0]));
        let branch = |condition, value| CaseBranch {
            condition,
            value: Expr::Integer(value),
        };
        let case = CaseExpr {
            branches: vec![branch(inside, 1), branch(known, 0)],
            otherwise: None,
        };
        let name = match bounds.get(at).and_then(number) {
            Some(bound) => format!("_{bound}"),
            None => "_inf".into(),
        };
        (name, Expr::call("sum", vec![Expr::Case(Box::new(case))]))
    };
    (0..=bounds.len()).map(bucket).collect()
}
