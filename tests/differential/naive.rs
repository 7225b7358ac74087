//! What a query means, written as plainly as it can be.

use crate::data::{Data, Point, Value};
use crate::queries::{Argument, Call, Columns, FieldTest, Fill, Query, TagTest};
use std::collections::BTreeMap;

/// What a statement gave.
#[derive(Clone, Debug)]
pub enum Answer {
    Rows(Vec<Rows>),
    Error(String),
}

/// A row: its time and the other columns.
pub type RowOf = (i64, Vec<Option<Value>>);

/// A series.
#[derive(Clone, Debug)]
pub struct Rows {
    pub tags: BTreeMap<String, String>,
    pub rows: Vec<RowOf>,
}

impl Answer {
    /// Where two answers differ; floats may by a billionth.
    pub fn difference(got: &Self, want: &Self) -> Option<String> {
        let (got, want) = match (got, want) {
            (Self::Rows(got), Self::Rows(want)) => (got, want),
            (Self::Error(error), _) | (_, Self::Error(error)) => return Some(error.clone()),
        };
        if got.len() != want.len() {
            return Some(format!("{} series for {}", got.len(), want.len()));
        }
        for (got, want) in got.iter().zip(want) {
            if got.tags != want.tags {
                return Some(format!("tags {:?} for {:?}", got.tags, want.tags));
            }
            if got.rows.len() != want.rows.len() {
                return Some(format!(
                    "{:?}: {} rows for {}",
                    got.tags,
                    got.rows.len(),
                    want.rows.len()
                ));
            }
            for (got, want) in got.rows.iter().zip(&want.rows) {
                let same = |(a, b): (&Option<Value>, &Option<Value>)| match (a, b) {
                    (Some(Value::Float(a)), Some(Value::Float(b))) => {
                        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
                    }
                    (a, b) => a == b,
                };
                if got.0 != want.0 || !got.1.iter().zip(&want.1).all(same) || got.1.len() != want.1.len() {
                    return Some(format!("row {got:?} for {want:?}"));
                }
            }
        }
        None
    }
}

/// The answer.
pub fn answer(data: &Data, query: &Query) -> Answer {
    let min = query.min.unwrap_or(i64::MIN);
    let max = match (query.max, query.window) {
        (Some(max), _) => max,
        (None, Some(_)) => data.now,
        (None, None) => i64::MAX,
    };
    let wanted = |p: &&Point| {
        query.tag_test.as_ref().is_none_or(|t| tag_holds(data, p, t))
            && query.field_tests.iter().all(|t| field_holds(p, t))
    };
    let key = |series: usize| -> Vec<String> {
        let tag = |key: &&str| data.series[series].get(*key).cloned().unwrap_or_default();
        query.group.iter().map(tag).collect()
    };
    // For each group the points in the time range, and those before its first window.
    let mut groups: BTreeMap<Vec<String>, [Vec<&Point>; 2]> = BTreeMap::new();
    let first = match (query.min, query.window, &query.columns) {
        (Some(min), Some(window), Columns::Calls(_)) => Some(start_of(min, window)),
        _ => None,
    };
    // Rolling windows look back from before the time range.
    let min = match (first, query.window, query.over) {
        (Some(first), Some((step, _)), Some(over)) => (first + step - over).min(min),
        _ => min,
    };
    for point in data.points.iter().filter(wanted) {
        let before = query.fill == Fill::Previous && first.is_some_and(|first| point.time < first);
        if before || (min..=max).contains(&point.time) {
            let group = groups.entry(key(point.series)).or_default();
            group[usize::from(before)].push(point);
        }
    }
    let mut out = Vec::new();
    for (key, [mut points, mut before]) in groups {
        points.sort_by_key(|p| (p.time, p.series));
        before.sort_by_key(|p| (p.time, p.series));
        let mut rows = match &query.columns {
            Columns::Raw(list) => raw(data, list, &points),
            Columns::Calls(calls) => match query.window {
                None => single(query, calls, &points),
                Some(window) => windowed(query, calls, window, &points, &before, max),
            },
        };
        if query.descending {
            rows.reverse();
        }
        let mut rows: Vec<RowOf> = rows.into_iter().skip(query.offset).collect();
        if query.limit > 0 {
            rows.truncate(query.limit);
        }
        if !rows.is_empty() {
            let names = query.group.iter().map(|g| (*g).to_string());
            out.push(Rows {
                tags: names.zip(key).collect(),
                rows,
            });
        }
    }
    // Without any point in the time range, fill(n) has its windows all the same.
    let paged = (query.offset, query.slimit, query.soffset) != (0, 0, 0);
    if let (true, Fill::Number(n), Some(first), Columns::Calls(calls), Some(window), false) = (
        out.is_empty(),
        query.fill,
        first,
        &query.columns,
        query.window,
        paged,
    ) {
        let series = (0..data.series.len()).filter(|s| {
            let point = Point {
                series: *s,
                ..Point::default()
            };
            query.tag_test.as_ref().is_none_or(|t| tag_holds(data, &point, t))
        });
        let keys: std::collections::BTreeSet<Vec<String>> = series.map(key).collect();
        for key in keys {
            let last = start_of(max, window);
            let times = (0..).map(|i| first + i * window.0).take_while(|t| *t <= last);
            let mut rows: Vec<RowOf> = times
                .map(|t| (t, vec![Some(Value::Integer(n)); calls.len()]))
                .collect();
            if query.descending {
                rows.reverse();
            }
            if query.limit > 0 {
                rows.truncate(query.limit);
            }
            let names = query.group.iter().map(|g| (*g).to_string());
            out.extend((!rows.is_empty()).then(|| Rows {
                tags: names.zip(key).collect(),
                rows,
            }));
        }
    }
    // Series are counted from the first, whatever the order of the answer.
    let mut out: Vec<Rows> = out.into_iter().skip(query.soffset).collect();
    if query.slimit > 0 {
        out.truncate(query.slimit);
    }
    if query.descending {
        out.reverse();
    }
    Answer::Rows(out)
}

fn tag_holds(data: &Data, point: &Point, test: &TagTest) -> bool {
    let tag = |key: &str| data.series[point.series].get(key).cloned().unwrap_or_default();
    match test {
        TagTest::Equal(key, value) => tag(key) == *value,
        TagTest::NotEqual(key, value) => tag(key) != *value,
        TagTest::Ends(key, digits) => tag(key).chars().last().is_some_and(|c| digits.contains(&c)),
    }
}

fn field_holds(point: &Point, test: &FieldTest) -> bool {
    match test {
        FieldTest::Text(equal, text) => match point.fields.get("s") {
            Some(Value::Text(s)) => (s == text) == *equal,
            _ => false,
        },
        FieldTest::Fields(a, b) => match (number(point, a), number(point, b)) {
            (Some(a), Some(b)) => a > b,
            _ => false,
        },
        FieldTest::Number(field, op, bound) => match number(point, field) {
            None => false,
            Some(v) => match *op {
                "<" => v < *bound,
                "<=" => v <= *bound,
                ">" => v > *bound,
                ">=" => v >= *bound,
                "=" => v == *bound,
                _ => v != *bound,
            },
        },
    }
}

fn number(point: &Point, field: &str) -> Option<f64> {
    point.fields.get(field).and_then(Value::number)
}

fn raw(data: &Data, list: &[&'static str], points: &[&Point]) -> Vec<RowOf> {
    let is_tag = |name: &str| name == "host" || name == "region";
    let row = |p: &&Point| {
        let some = list.iter().any(|c| !is_tag(c) && p.fields.contains_key(c));
        let value = |c: &&'static str| match is_tag(c) {
            true => data.series[p.series].get(*c).map(|t| Value::Text(t.clone())),
            false => p.fields.get(*c).cloned(),
        };
        some.then(|| (p.time, list.iter().map(value).collect()))
    };
    // Of equal times by the tags that are selected, in the order of their names.
    let mut tags: Vec<&str> = list.iter().copied().filter(|name| is_tag(name)).collect();
    tags.sort_unstable();
    let of_series = |p: &Point| -> Vec<Option<&String>> {
        let tag = |tag: &&str| data.series[p.series].get(*tag);
        tags.iter().map(tag).collect()
    };
    let mut points = points.to_vec();
    points.sort_by_key(|p| (p.time, of_series(p), p.series));
    points.iter().filter_map(row).collect()
}

/// The values that a call sees: time and value, ascending.
fn values(call: &Call, points: &[&Point]) -> Vec<(i64, Value)> {
    let value = |p: &Point| match &call.argument {
        Argument::Field(field) => p.fields.get(field).cloned(),
        Argument::Linear(a, n, b) => match (p.fields.get(a)?, p.fields.get(b)?) {
            (Value::Integer(a), Value::Integer(b)) => Some(Value::Integer(a * n + b)),
            (a, b) => Some(Value::Float(a.number()? * *n as f64 + b.number()?)),
        },
    };
    points.iter().filter_map(|p| Some((p.time, value(p)?))).collect()
}

fn order(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (a, b) => a.number().partial_cmp(&b.number()).expect("numbers"),
    }
}

/// What a call gives of some values: the point's time, for those that choose one, and the value. There may be a point without
/// a value.
fn call_of(call: &Call, values: &[(i64, Value)]) -> Option<(i64, Option<Value>)> {
    if call.function == "stddev" && values.len() == 1 {
        return Some((0, None));
    }
    value_of(call, values).map(|(time, value)| (time, Some(value)))
}

fn value_of(call: &Call, values: &[(i64, Value)]) -> Option<(i64, Value)> {
    let first = values.first()?;
    let numbers: Vec<f64> = values.iter().filter_map(|(_, v)| v.number()).collect();
    let n = values.len();
    let sum: f64 = numbers.iter().sum();
    let like = |x: f64| match first.1 {
        Value::Integer(_) => Value::Integer(x as i64),
        Value::Unsigned(_) => Value::Unsigned(x as u64),
        _ => Value::Float(x),
    };
    let mut sorted: Vec<&(i64, Value)> = values.iter().collect();
    sorted.sort_by(|a, b| order(&a.1, &b.1).then(a.0.cmp(&b.0)));
    let of_same_time = |time: i64| {
        let there = values.iter().filter(|(t, _)| *t == time);
        there.max_by(|a, b| order(&a.1, &b.1)).cloned()
    };
    Some(match call.function {
        "count" => (0, Value::Integer(n as i64)),
        "sum" => (0, like(sum)),
        "mean" => (0, Value::Float(sum / n as f64)),
        "min" => sorted[0].clone(),
        "max" => {
            let largest = &sorted[n - 1].1;
            sorted.iter().find(|(_, v)| v == largest).map(|p| (*p).clone())?
        }
        "first" => of_same_time(values[0].0)?,
        "last" => of_same_time(values[n - 1].0)?,
        "spread" => {
            let (low, high) = (sorted[0].1.number()?, sorted[n - 1].1.number()?);
            (0, like(high - low))
        }
        "stddev" => {
            let mean = sum / n as f64;
            let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
            (0, Value::Float((squares / (n - 1) as f64).sqrt()))
        }
        "median" => {
            let at = |i: usize| sorted[i].1.number();
            let middle = if n % 2 == 1 {
                at(n / 2)?
            } else {
                (at(n / 2 - 1)? + at(n / 2)?) / 2.0
            };
            (0, Value::Float(middle))
        }
        "mode" => {
            // The most frequent; of these the one that came first, of these the smallest.
            let equal = sorted.chunk_by(|a, b| a.1 == b.1);
            let best = equal.min_by_key(|group| (std::cmp::Reverse(group.len()), group[0].0))?;
            (0, best[0].1.clone())
        }
        "percentile" => {
            let rank = (n as f64 * call.parameter? as f64 / 100.0 + 0.5).floor() as i64 - 1;
            let at = usize::try_from(rank).ok().filter(|&at| at < n)?;
            sorted[at].clone()
        }
        other => panic!("{other} is not known here"),
    })
}

fn is_selector(call: &Call) -> bool {
    ["min", "max", "first", "last", "percentile"].contains(&call.function)
}

fn single(query: &Query, calls: &[Call], points: &[&Point]) -> Vec<RowOf> {
    let found: Vec<Option<(i64, Option<Value>)>> =
        calls.iter().map(|c| call_of(c, &values(c, points))).collect();
    if found.iter().all(Option::is_none) {
        return Vec::new();
    }
    let time = match (&found[..], calls) {
        ([Some((time, _))], [call]) if is_selector(call) => *time,
        _ => query.min.unwrap_or(0),
    };
    vec![(time, found.into_iter().map(|f| f.and_then(|(_, v)| v)).collect())]
}

fn start_of(time: i64, (step, offset): (i64, i64)) -> i64 {
    (time - offset).div_euclid(step) * step + offset
}

fn windowed(
    query: &Query,
    calls: &[Call],
    window: (i64, i64),
    points: &[&Point],
    before: &[&Point],
    max: i64,
) -> Vec<RowOf> {
    let (start, step) = (|t: i64| start_of(t, window), window.0);
    // For each call its values by window, gaps filled.
    let mut columns: Vec<BTreeMap<i64, Option<Value>>> = Vec::new();
    let mut any = false;
    for call in calls {
        let mut by_window: BTreeMap<i64, Vec<(i64, Value)>> = BTreeMap::new();
        for (time, value) in values(call, points) {
            any = true;
            let over = query.over.unwrap_or(step);
            let mut label = start(time);
            while label + step - over <= time && label <= start(max) {
                if query.min.is_none_or(|min| label >= start(min)) {
                    by_window.entry(label).or_default().push((time, value.clone()));
                }
                label += step;
            }
        }
        let found: BTreeMap<i64, Option<Value>> = by_window
            .iter()
            .filter_map(|(w, values)| Some((*w, call_of(call, values)?.1)))
            .collect();
        // What the last window with points gave, before the first that is wanted.
        let carried = values(call, before).last().and_then(|(last, _)| {
            let in_it: Vec<(i64, Value)> = values(call, before)
                .into_iter()
                .filter(|(t, _)| start(*t) == start(*last))
                .collect();
            call_of(call, &in_it)?.1
        });
        any |= carried.is_some();
        let mut column: BTreeMap<i64, Option<Value>> = found.iter().map(|(w, v)| (*w, v.clone())).collect();
        // A call without any point has no rows of its own.
        let first = match (query.min, found.keys().next()) {
            (_, None) if carried.is_none() => None,
            (Some(min), _) => Some(start(min)),
            (None, first) => first.copied(),
        };
        if let (Some(first), true) = (first, query.fill != Fill::None) {
            let mut at = first;
            while at <= start(max) {
                let value = match found.get(&at) {
                    Some(value) => value.clone(),
                    None if found.range(..at).next().is_none() && carried.is_some() => carried.clone(),
                    None => gap(query, call, &found, at, step),
                };
                column.insert(at, value);
                at += step;
            }
        }
        columns.push(column);
    }
    if !any {
        return Vec::new();
    }
    let mut times: Vec<i64> = columns.iter().flat_map(|c| c.keys().copied()).collect();
    times.sort_unstable();
    times.dedup();
    // Where another call has a row and this one nothing, stands what fill(n) says, too.
    // A point without a value (stddev of one) is a point all the same.
    let value = |time: &i64, column: &BTreeMap<i64, Option<Value>>| match (column.get(time), query.fill) {
        (Some(there), _) => there.clone(),
        (None, Fill::Number(n)) => Some(Value::Integer(n)),
        (None, _) => None,
    };
    let row = |time: &i64| {
        let values = columns.iter().map(|column| value(time, column));
        (*time, values.collect())
    };
    times.iter().map(row).collect()
}

/// What stands in an empty window.
fn gap(
    query: &Query,
    call: &Call,
    found: &BTreeMap<i64, Option<Value>>,
    at: i64,
    step: i64,
) -> Option<Value> {
    let before = found.range(..at).next_back();
    match query.fill {
        Fill::None => None,
        Fill::Default if call.function == "count" => Some(Value::Integer(0)),
        Fill::Default => None,
        Fill::Previous => before.and_then(|(_, v)| v.clone()),
        Fill::Number(n) => match found.values().flatten().next() {
            Some(Value::Float(_)) => Some(Value::Float(n as f64)),
            Some(Value::Unsigned(_)) if n >= 0 => Some(Value::Unsigned(n as u64)),
            None if call.function == "stddev" => Some(Value::Float(n as f64)),
            _ => Some(Value::Integer(n)),
        },
        Fill::Linear => {
            let ((t0, a), (t1, b)) = (before?, found.range(at..).next()?);
            let (run, so_far) = (((t1 - t0) / step) as f64, ((at - t0) / step) as f64);
            let line = |a: f64, b: f64| (b - a) / run * so_far + a;
            Some(match (a.as_ref()?, b.as_ref()?) {
                (Value::Float(a), Value::Float(b)) => Value::Float(line(*a, *b)),
                (Value::Integer(a), Value::Integer(b)) => Value::Integer(line(*a as f64, *b as f64) as i64),
                (Value::Unsigned(a), Value::Unsigned(b)) => {
                    Value::Unsigned(line(*a as f64, *b as f64) as u64)
                }
                _ => return None,
            })
        }
    }
}
