//! Small queries are answered on the thread that read the request, without waking another (docs/adr/0027). Whether one is small is
//! known when its data is opened, not from its text: so whatever may be small is tried within narrow limits, and what does not end
//! within them is begun again, with its real limits, on a thread that may block. Of the first attempt nothing is sent.

use super::context::QueryLimits;
use crate::lang::{Expr, MeasurementName, Query, SelectStatement, Source, Statement};
use std::time::Duration;

/// Longer it does not keep the connections of its thread waiting.
pub const TIME_MAX: Duration = Duration::from_millis(10);
/// Rows times columns that a small query reads: half a millisecond or so.
const VALUES_MAX: u64 = 200_000;
/// Windows times groups of a small query.
const BUCKETS_MAX: usize = 10_000;
/// Series in the result of a small query.
const GROUPS_MAX: usize = 1_000;
/// Bytes that a small query may hold.
const MEMORY_BYTES_MAX: usize = 16 << 20;

/// The limits within which a query is small: it reads little, and its answer is short.
pub fn limits(limits: &QueryLimits) -> QueryLimits {
    QueryLimits {
        memory_bytes_max: limits.memory_bytes_max.min(MEMORY_BYTES_MAX),
        buckets_max: limits.buckets_max.min(BUCKETS_MAX),
        groups_max: limits.groups_max.min(GROUPS_MAX),
        timeout: limits.timeout,
        values_max: Some(VALUES_MAX),
    }
}

/// May a query be small, as far as its text tells? One SELECT that writes nothing, of measurements by name. A regular expression may
/// have to look at every value of a tag, and forecasts search: neither is bounded by what is read.
pub fn may_be_small(query: &Query) -> bool {
    match &query.statements[..] {
        [Statement::Select(select)] => select.target.is_none() && is_plain(select),
        _ => false,
    }
}

fn is_plain(select: &SelectStatement) -> bool {
    let is_plain_source = |source: &Source| match source {
        Source::Measurement(measurement) => matches!(measurement.name, MeasurementName::Name(_)),
        Source::Subquery(subquery) => is_plain(&subquery.statement),
        Source::Join(_) => false,
    };
    let mut plain = true;
    let mut look = |expr: &Expr| match expr {
        Expr::Regex(_) => plain = false,
        Expr::Call(call) if call.name.starts_with("holt_winters") => plain = false,
        _ => {}
    };
    let fields = select.fields.iter().map(|field| &field.expr);
    let dimensions = select.dimensions.iter().map(|dimension| &dimension.expr);
    fields
        .chain(dimensions)
        .chain(&select.condition)
        .for_each(|expr| expr.walk(&mut look));
    plain && select.sources.iter().all(is_plain_source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{Params, parse};

    #[test]
    fn what_may_be_small() {
        for (text, expected) in [
            ("SELECT v FROM m WHERE host = 'a'", true),
            (
                "SELECT max(v) FROM (SELECT v FROM m) GROUP BY time(1m), host",
                true,
            ),
            ("SELECT v FROM a, b", true),
            ("SELECT v FROM m; SELECT v FROM m", false),
            ("SELECT v INTO o FROM m", false),
            ("SELECT v FROM m WHERE host =~ /a/", false),
            ("SELECT v FROM (SELECT v FROM m WHERE host !~ /a/)", false),
            ("SELECT /v/ FROM m", false),
            ("SELECT v FROM /m/", false),
            ("SELECT v FROM m GROUP BY /host/", false),
            (
                "SELECT holt_winters(mean(v), 3, 0) FROM m GROUP BY time(1m)",
                false,
            ),
            (
                "SELECT mean(a.v) FROM m AS a JOIN n AS b GROUP BY time(1m)",
                false,
            ),
            ("SHOW SERIES", false),
        ] {
            let query = parse(text, &Params::new()).expect("these are statements");
            assert_eq!(may_be_small(&query), expected, "{text}");
        }
    }
}
