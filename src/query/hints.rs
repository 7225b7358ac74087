//! What would be right, beside an error in InfluxDB's words: in a field of its own, so that clients that know the words go on
//! knowing them.

use super::context::Context;
use super::error::QueryError;
use super::functions;
use crate::lang::nearest;

/// A hint for an error, if there is one to give.
pub fn of(error: &QueryError, ctx: &Context<'_>) -> Option<String> {
    let QueryError::Statement(text) = error else {
        return None;
    };
    by_name(text, ctx).or_else(|| by_kind(text))
}

/// The nearest name to one that does not exist.
fn by_name(text: &str, ctx: &Context<'_>) -> Option<String> {
    let did_you_mean = |name: &str| format!("did you mean {name}?");
    if let Some(name) = text.strip_prefix("undefined function ") {
        let name = name.trim_end_matches("()");
        return Some(match nearest(name, functions::names()) {
            Some(found) => did_you_mean(found),
            None => synonym(name)?,
        });
    }
    if let Some(name) = text.strip_prefix("database not found: ") {
        let all: Vec<String> = ctx.catalog.databases().iter().map(|d| d.name.clone()).collect();
        return nearest(name, all.iter().map(String::as_str)).map(did_you_mean);
    }
    if let Some(name) = text.strip_prefix("retention policy not found: ") {
        let databases = ctx.catalog.databases();
        let policies = databases.iter().flat_map(|d| &d.policies);
        return nearest(name, policies.map(|p| p.name.as_str())).map(did_you_mean);
    }
    if let Some(name) = text.strip_prefix("measurement not found: ") {
        let database = ctx.database(None).ok()?;
        let policy = ctx.policy(&database, None).ok()?;
        let all = ctx.catalog.measurements(policy.id);
        return nearest(name, all.iter().map(|m| m.name.as_str())).map(did_you_mean);
    }
    None
}

/// What other languages call a function.
fn synonym(name: &str) -> Option<String> {
    let found = match name {
        "avg" | "average" => "mean",
        "std" | "stdev" | "stddev_samp" => "stddev",
        "variance" | "var" => "stddev",
        "quantile" | "p95" | "p99" | "percentile_cont" => "percentile",
        "irate" | "deriv" => "rate",
        "delta" | "idelta" | "diff" => "difference",
        "topk" => "top",
        "bottomk" => "bottom",
        "correlation" | "pearson" => "corr",
        "covariance" => "covar",
        "histogram" | "histogram_quantile" => "histogram_buckets",
        "length" | "num" => "count",
        _ => return None,
    };
    Some(format!("did you mean {found}?"))
}

/// What to write instead.
fn by_kind(text: &str) -> Option<String> {
    let hint = match text {
        "database name required" => {
            "name one: in the parameter db, or before the measurement as \"db\"..\"m\""
        }
        "mixing aggregate and non-aggregate queries is not supported" => {
            "every field stands inside of a function, or none does; last(f) gives the newest value, and tags go to GROUP BY"
        }
        "mixing multiple selector functions with tags or fields is not supported" => {
            "only one of first, last, max, min, percentile can have fields beside it: put the others into a query of their own"
        }
        "GROUP BY requires at least one aggregate function" => {
            "say what to make of the points of a window: mean(f), max(f), last(f), .."
        }
        "aggregate function distinct() cannot be combined with other functions or fields" => {
            "ask for distinct() in a query of its own; count(distinct(f)) can stand beside others"
        }
        "at least 1 non-time field must be queried" => "time comes with every row: name a field",
        "fill(none) must be used with a function" | "fill(linear) must be used with a function" => {
            "fill() is about windows: GROUP BY time(..)"
        }
        "time() is a function and expects at least one argument" => {
            "give the length of the windows: time(1m)"
        }
        "multiple time dimensions not allowed" => "one time(..) is enough",
        "cannot perform a binary expression on two literals" | "field must contain at least one variable" => {
            "name a field; a name stands bare or between double quotes, a text between single quotes"
        }
        _ => return by_beginning(text),
    };
    Some(hint.to_string())
}

fn by_beginning(text: &str) -> Option<String> {
    if let Some(name) = text.strip_prefix("aggregate function required inside the call to ") {
        return Some(format!("with GROUP BY time(..) write {name}(mean(f))"));
    }
    if let Some(name) = text.strip_suffix(" aggregate requires a GROUP BY interval") {
        return Some(format!(
            "add GROUP BY time(..), or take {name} of the field itself"
        ));
    }
    if let Some(name) = text.strip_prefix("expected field argument in ") {
        return Some(format!(
            "a function of a function stands in a subquery: SELECT {name}(v) FROM (SELECT .. AS v ..)",
            name = name.trim_end_matches("()")
        ));
    }
    if text.starts_with("unsupported ") && text.contains(" iterator type: ") {
        let kind = if text.contains("string") {
            "texts"
        } else {
            "truth values"
        };
        return Some(format!(
            "the field holds {kind}; count, first, last, mode and distinct take them"
        ));
    }
    if text.starts_with("invalid operator") || text.starts_with("invalid time comparison operator") {
        return Some(
            "time is compared by =, <, <=, > and >=; for several ranges write several queries".into(),
        );
    }
    if text.starts_with("invalid function call in condition") {
        return Some("WHERE is about points: to test what a function gives, SELECT .. FROM (SELECT mean(f) AS v ..) WHERE v > 1".into());
    }
    if text.starts_with("selector function ") && text.ends_with("cannot be combined with other functions") {
        return Some("ask for top() or bottom() in a query of its own".into());
    }
    if text.starts_with("type error: ") {
        return Some(
            "calculations take numbers; a cast like f::integer takes the values of one type only".into(),
        );
    }
    if text.starts_with("ORDER BY ") {
        return Some("give the column a name by AS, and sort by that".into());
    }
    None
}
