//! Rows of two sides put side by side: of the series whose common tags are equal, the rows of equal time.

use crate::lang::JoinKind;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::resources::Held;
use crate::query::result::{ResultColumn, Series};
use crate::query::value::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Rows between two looks at whether the query was stopped.
const ROWS_PER_CHECK: usize = 8192;

/// The rows of a side, or of sides that were joined.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<String>,
    series: Vec<Rows>,
}

/// Rows with the same tags, in the order of time.
struct Rows {
    tags: Vec<(String, String)>,
    times: Vec<i64>,
    columns: Vec<ResultColumn>,
}

impl Rows {
    fn tag(&self, key: &str) -> &str {
        let found = self.tags.iter().find(|(k, _)| k == key);
        found.map_or("", |(_, value)| value)
    }
}

impl Table {
    /// What a SELECT gave.
    pub fn of(found: Vec<Series>) -> Self {
        let columns = found.first().map(|one| one.columns[1..].to_vec());
        let series = found.into_iter().map(|mut one| {
            if !one.times.is_sorted() {
                let mut order: Vec<usize> = (0..one.times.len()).collect();
                order.sort_by_key(|&row| one.times[row]);
                one = one.gather(&order);
            }
            Rows {
                tags: one.tags,
                times: one.times,
                columns: one.values,
            }
        });
        Self {
            columns: columns.unwrap_or_default(),
            series: series.collect(),
        }
    }

    /// As rows of this name.
    pub fn into_series(self, name: &str) -> Vec<Series> {
        let names: Arc<[String]> = std::iter::once("time".to_string()).chain(self.columns).collect();
        let of = |rows: Rows| Series {
            name: name.to_string(),
            tags: rows.tags,
            columns: names.clone(),
            times: rows.times,
            values: rows.columns,
        };
        self.series.into_iter().map(of).collect()
    }

    fn keys(&self) -> BTreeSet<&str> {
        let tags = self.series.iter().flat_map(|rows| &rows.tags);
        tags.map(|(key, _)| key.as_str()).collect()
    }
}

/// A row of the left side and one of the right; at least one of them is there.
type Pair = (Option<usize>, Option<usize>);

/// Joins tables, within the memory of a query.
pub(super) struct Matcher<'a> {
    ctx: &'a Context<'a>,
    held: Held<'a>,
    bytes: usize,
}

impl<'a> Matcher<'a> {
    /// Nothing joined yet.
    pub fn new(ctx: &'a Context<'_>) -> Self {
        Self {
            ctx,
            held: ctx.resources.memory.held(),
            bytes: 0,
        }
    }

    /// Joins from the left, each table in its own way to those before it.
    pub fn all(&mut self, tables: Vec<(JoinKind, Table)>) -> Result<Table, QueryError> {
        let mut tables = tables.into_iter();
        let mut joined = tables.next().map(|(_, table)| table).unwrap_or_default();
        for (kind, table) in tables {
            joined = self.two(kind, joined, table)?;
        }
        Ok(joined)
    }

    fn two(&mut self, kind: JoinKind, left: Table, right: Table) -> Result<Table, QueryError> {
        let (of_left, of_right) = (left.keys(), right.keys());
        let common: Vec<&str> = of_left.intersection(&of_right).copied().collect();
        let key = |rows: &Rows| -> Vec<String> { common.iter().map(|k| rows.tag(k).to_string()).collect() };
        let mut partners: HashMap<Vec<String>, Vec<usize>> = HashMap::new();
        for (at, rows) in right.series.iter().enumerate() {
            partners.entry(key(rows)).or_default().push(at);
        }
        let mut out = Table {
            columns: left.columns.iter().chain(&right.columns).cloned().collect(),
            series: Vec::new(),
        };
        let widths = (left.columns.len(), right.columns.len());
        let mut matched_right: Vec<Vec<bool>> = match kind {
            JoinKind::Full => right
                .series
                .iter()
                .map(|rows| vec![false; rows.times.len()])
                .collect(),
            _ => Vec::new(),
        };
        for rows in &left.series {
            self.ctx.check()?;
            let found = partners.get(&key(rows)).map_or(&[][..], Vec::as_slice);
            if kind == JoinKind::Asof {
                let of: Vec<&Rows> = found.iter().map(|&at| &right.series[at]).collect();
                self.as_of(rows, &of, widths, &mut out)?;
                continue;
            }
            let mut matched = vec![false; rows.times.len()];
            for &at in found {
                let other = &right.series[at];
                let pairs = self.equal_times(&rows.times, &other.times)?;
                for (l, r) in &pairs {
                    if let Some(l) = l {
                        matched[*l] = true;
                    }
                    if let (Some(r), Some(flags)) = (r, matched_right.get_mut(at)) {
                        flags[*r] = true;
                    }
                }
                self.push(rows, Some(other), &pairs, widths, &mut out)?;
            }
            if matches!(kind, JoinKind::Left | JoinKind::Full) {
                let alone = (0..matched.len()).filter(|row| !matched[*row]);
                let pairs: Vec<Pair> = alone.map(|row| (Some(row), None)).collect();
                self.push(rows, None, &pairs, widths, &mut out)?;
            }
        }
        for (other, matched) in right.series.iter().zip(&matched_right) {
            let alone = (0..matched.len()).filter(|row| !matched[*row]);
            let pairs: Vec<Pair> = alone.map(|row| (None, Some(row))).collect();
            self.push(other, Some(other), &pairs, widths, &mut out)?;
        }
        Ok(out)
    }

    /// Every row of the one with every row of the other that has the same time.
    fn equal_times(&self, left: &[i64], right: &[i64]) -> Result<Vec<Pair>, QueryError> {
        let mut pairs: Vec<Pair> = Vec::new();
        let room = self.ctx.resources.memory.bytes_max() / size_of::<Pair>();
        let mut from = 0;
        for (row, time) in left.iter().enumerate() {
            if row % ROWS_PER_CHECK == 0 {
                self.ctx.check()?;
            }
            from += right[from..].partition_point(|t| t < time);
            let equal = right[from..].iter().take_while(|t| *t == time).count();
            if pairs.len() + equal > room {
                return Err(QueryError::Limit(format!(
                    "the rows of a JOIN need more memory than a query may have ({}); narrow its time, or group by more tags",
                    self.ctx.resources.memory.limit()
                )));
            }
            pairs.extend((from..from + equal).map(|other| (Some(row), Some(other))));
        }
        Ok(pairs)
    }

    /// Each row of the left side with the latest of all partners at or before its time.
    fn as_of(
        &mut self,
        left: &Rows,
        right: &[&Rows],
        widths: (usize, usize),
        out: &mut Table,
    ) -> Result<(), QueryError> {
        let mut order: Vec<(i64, usize, usize)> = right
            .iter()
            .enumerate()
            .flat_map(|(at, rows)| rows.times.iter().enumerate().map(move |(row, t)| (*t, at, row)))
            .collect();
        order.sort_unstable();
        let mut columns = vec![ResultColumn::default(); widths.0 + widths.1];
        let mut next = 0;
        for (row, time) in left.times.iter().enumerate() {
            if row % ROWS_PER_CHECK == 0 {
                self.ctx.check()?;
            }
            while order.get(next).is_some_and(|(t, ..)| t <= time) {
                next += 1;
            }
            let latest = next.checked_sub(1).map(|at| order[at]);
            for (to, from) in columns.iter_mut().zip(&left.columns) {
                to.push(from.value(row));
            }
            for (at, to) in columns[widths.0..].iter_mut().enumerate() {
                to.push(match latest {
                    Some((_, series, row)) => right[series].columns[at].value(row),
                    None => Value::Null,
                });
            }
        }
        self.grow(left.times.len(), columns.len())?;
        out.series.push(Rows {
            tags: left.tags.clone(),
            times: left.times.clone(),
            columns,
        });
        Ok(())
    }

    /// Adds pairs of rows as a series with the tags of both.
    fn push(
        &mut self,
        left: &Rows,
        right: Option<&Rows>,
        pairs: &[Pair],
        widths: (usize, usize),
        out: &mut Table,
    ) -> Result<(), QueryError> {
        if pairs.is_empty() {
            return Ok(());
        }
        self.grow(pairs.len(), widths.0 + widths.1)?;
        let time = |(l, r): &Pair| match (l, r, right) {
            (Some(row), ..) => left.times[*row],
            (None, Some(row), Some(right)) => right.times[*row],
            _ => 0,
        };
        let mut columns: Vec<ResultColumn> = Vec::with_capacity(widths.0 + widths.1);
        for at in 0..widths.0 {
            let mut column = ResultColumn::default();
            for (row, _) in pairs {
                column.push(row.map_or(Value::Null, |row| left.columns[at].value(row)));
            }
            columns.push(column);
        }
        for at in 0..widths.1 {
            let mut column = ResultColumn::default();
            for (_, row) in pairs {
                column.push(match (row, right) {
                    (Some(row), Some(right)) => right.columns[at].value(*row),
                    _ => Value::Null,
                });
            }
            columns.push(column);
        }
        let mut tags = left.tags.clone();
        for (key, value) in right.iter().flat_map(|rows| &rows.tags) {
            if !tags.iter().any(|(known, _)| known == key) {
                tags.push((key.clone(), value.clone()));
            }
        }
        tags.sort();
        out.series.push(Rows {
            tags,
            times: pairs.iter().map(time).collect(),
            columns,
        });
        Ok(())
    }

    fn grow(&mut self, rows: usize, columns: usize) -> Result<(), QueryError> {
        self.bytes = self
            .bytes
            .saturating_add(rows.saturating_mul(8 + 9 * columns) + 200);
        self.held.set(self.bytes)
    }
}
