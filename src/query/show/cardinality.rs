//! SHOW .. CARDINALITY. Counts are exact, also where an estimate would do.

use super::names::{fields_of, with_series};
use super::tags::{KeyTest, count_tag_values, tag_keys_of};
use super::{Answer, count_matching, matching, page, sources, without_time};
use crate::catalog::Measurement;
use crate::lang::{CardinalityOf, Expr, ShowCardinality};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::value::Value;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

const ESTIMATE: &str = "cardinality estimation";

/// SHOW .. CARDINALITY.
pub fn cardinality(ctx: &Context<'_>, show: &ShowCardinality) -> Answer {
    let name = match &show.of {
        CardinalityOf::Series => "SHOW SERIES EXACT CARDINALITY",
        CardinalityOf::Measurement => "SHOW MEASUREMENT EXACT CARDINALITY",
        CardinalityOf::TagKey => "SHOW TAG KEY EXACT CARDINALITY",
        CardinalityOf::TagValues(_) => "SHOW TAG VALUES EXACT CARDINALITY",
        CardinalityOf::FieldKey => "SHOW FIELD KEY EXACT CARDINALITY",
    };
    if !show.dimensions.is_empty() {
        return Err(QueryError::statement(format!("{name} doesn't support GROUP BY")));
    }
    let condition = without_time(ctx, name, show.condition.as_ref())?;
    let condition = condition.as_ref();
    let count = |n: usize| vec![Value::Integer(n as i64)];
    // What InfluxDB estimates for a whole database has another name than what it counts.
    let whole = !show.exact && show.sources.is_empty() && condition.is_none();
    if let CardinalityOf::Measurement = show.of {
        let names = with_series(ctx, show.database.as_deref(), &show.sources, condition)?;
        return Ok(match (whole, names.len()) {
            (true, n) => vec![Series::table("", &[ESTIMATE], [count(n)])],
            (false, 0) => Vec::new(),
            (false, n) => vec![Series::table("", &["count"], [count(n)])],
        });
    }
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (name, all) in sources(ctx, show.database.as_deref(), &show.sources)? {
        ctx.check()?;
        let n = match &show.of {
            CardinalityOf::Series => series_of(&name, &all, condition)?,
            CardinalityOf::TagKey => tag_keys_of(&all, condition, &KeyTest::All)?.len(),
            CardinalityOf::TagValues(keys) => count_tag_values(&all, condition, &KeyTest::of(Some(keys))?)?,
            CardinalityOf::FieldKey | CardinalityOf::Measurement => fields_of(&all).len(),
        };
        counts.push((name, n));
    }
    let of_series = matches!(show.of, CardinalityOf::Series);
    if whole && of_series {
        let all = counts.iter().map(|(_, n)| n).sum();
        return Ok(vec![Series::table("", &[ESTIMATE], [count(all)])]);
    }
    let column = if of_series && !show.exact {
        ESTIMATE
    } else {
        "count"
    };
    let tables = counts.into_iter().filter(|(_, n)| *n > 0);
    let tables = tables.map(|(name, n)| Series::table(&name, &[column], [count(n)]));
    Ok(page(tables, show.limit, show.offset))
}

/// Different series of measurements of one name.
fn series_of(name: &str, all: &[Arc<Measurement>], condition: Option<&Expr>) -> Result<usize, QueryError> {
    if let [only] = all {
        return Ok(count_matching(only, condition)? as usize);
    }
    let mut keys = BTreeSet::new();
    for m in all {
        let wanted = matching(m, condition)?;
        m.view().walk_keys(name, &wanted, &mut |_, key| {
            keys.insert(key.canonical());
            ControlFlow::Continue(())
        })?;
    }
    Ok(keys.len())
}
