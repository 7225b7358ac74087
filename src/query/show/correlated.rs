//! `SHOW CORRELATED WITH (SELECT ..)`: which series moved with one, over the same windows, the closest first.
//!
//! Every number field of the measurements in FROM is folded by the windows of the SELECT, series by series; of each series only
//! sums of pairs are held, so thousands of them cost one pass over their points.

use super::Answer;
use crate::catalog::Measurement;
use crate::lang::{
    Dimension, Expr, Field, Fill, MeasurementName, RegexLiteral, SelectStatement, ShowCorrelated, Source,
    VarRef,
};
use crate::model::{FieldType, Values};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::functions::moments::Moments;
use crate::query::functions::{Family, family};
use crate::query::result::{Piece, ResultColumn, Series, collect};
use crate::query::select::{self, Outer};
use crate::query::value::Value;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Windows that two series must have in common: two points always lie on a line.
const WINDOWS_MIN: f64 = 3.0;

fn fail<T>(text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::statement(text))
}

/// A series, and how closely it moved with the one that was asked about.
struct Found {
    series: String,
    field: String,
    coefficient: f64,
    windows: f64,
}

/// Runs it.
pub fn correlated(ctx: &Context<'_>, show: &ShowCorrelated) -> Answer {
    let with = &show.with;
    if with.time_dimension().is_none() {
        return fail("SHOW CORRELATED WITH compares windows: the SELECT needs GROUP BY time(..)");
    }
    let target = Target::of(ctx, with)?;
    let (time, _) = select::time_range(with, ctx.now)?;
    let outer = Outer {
        time,
        dimensions: Vec::new(),
        windows: None,
        ascending: true,
        depth: 1,
    };
    let everywhere = [Source::Measurement(crate::lang::Measurement {
        name: MeasurementName::Regex(RegexLiteral {
            pattern: String::new(),
        }),
        ..crate::lang::Measurement::named("")
    })];
    let sources = match show.sources.is_empty() {
        true => &everywhere[..],
        false => &show.sources[..],
    };
    let mut found = Vec::new();
    for source in sources {
        let Source::Measurement(source) = source else {
            return fail("SHOW CORRELATED looks in measurements");
        };
        for measurement in select::measurements(ctx, source)? {
            ctx.check()?;
            let candidates = Candidates {
                ctx,
                with,
                target: &target,
                outer: &outer,
                condition: show.condition.clone(),
            };
            candidates.of(&measurement, source, &mut found)?;
            if found.len() > ctx.limits.groups_max {
                return Err(QueryError::Limit(format!(
                    "too many series to compare with (query_groups_max {}); name fewer in FROM",
                    ctx.limits.groups_max
                )));
            }
        }
    }
    found.sort_by(|a: &Found, b: &Found| {
        // What differs by rounding alone goes by name.
        let rank = |found: &Found| (found.coefficient.abs() * 1e12).round();
        let closer = rank(b).total_cmp(&rank(a));
        closer
            .then_with(|| a.series.cmp(&b.series))
            .then_with(|| a.field.cmp(&b.field))
    });
    let rows = super::page(found, show.limit, show.offset)
        .into_iter()
        .map(|one| {
            vec![
                super::text(one.series),
                super::text(one.field),
                Value::Float(one.coefficient),
                Value::Integer(one.windows as i64),
            ]
        });
    let columns = ["series", "field", "corr", "windows"];
    Ok(super::some(Series::table("correlated", &columns, rows)))
}

/// The series that others are compared with.
struct Target {
    values: HashMap<i64, f64>,
    /// The series itself, if it is known: measurement, field, tags.
    own: Option<(String, String, Vec<(String, String)>)>,
    /// How its values were made, if of one field.
    made: Option<(Expr, String)>,
}

impl Target {
    fn of(ctx: &Context<'_>, with: &SelectStatement) -> Result<Self, QueryError> {
        let mut series = collect(|give| select::stream(ctx, with, give))?;
        if series.len() != 1 {
            return fail(format!(
                "SHOW CORRELATED WITH needs one series, and the SELECT gives {}{}",
                series.len(),
                if series.is_empty() {
                    ""
                } else {
                    ": choose one by WHERE"
                }
            ));
        }
        let series = series.remove(0);
        if series.values.len() != 1 {
            return fail("SHOW CORRELATED WITH needs one column in the SELECT");
        }
        let mut values = HashMap::new();
        each_number(&series.times, &series.values[0], &mut |time, value| {
            values.insert(time, value);
        });
        let made = made_of(with);
        let own = made
            .as_ref()
            .filter(|_| !series.tags.is_empty())
            .map(|(_, field)| {
                let tags = series.tags.iter().filter(|(_, v)| !v.is_empty());
                (series.name.clone(), field.clone(), tags.cloned().collect())
            });
        Ok(Self { values, own, made })
    }
}

/// The expression of a SELECT's only column, and its only field, when it is a function of that field in a measurement.
fn made_of(with: &SelectStatement) -> Option<(Expr, String)> {
    let [field] = with.fields.as_slice() else {
        return None;
    };
    if !matches!(with.sources.as_slice(), [Source::Measurement(_)]) {
        return None;
    }
    let mut names: Vec<&VarRef> = Vec::new();
    field.expr.visit_vars(&mut |var| names.push(var));
    let mut several = false;
    field.expr.visit_calls(&mut |call| {
        several |= matches!(
            family(&call.name),
            Some(Family::Ranked | Family::Distinct | Family::Sample)
        );
    });
    match names.as_slice() {
        [only] if !several && field.expr.has_call() => Some((field.expr.clone(), only.name.clone())),
        _ => None,
    }
}

/// Series that may have moved with the target.
struct Candidates<'a> {
    ctx: &'a Context<'a>,
    with: &'a SelectStatement,
    target: &'a Target,
    outer: &'a Outer,
    condition: Option<Expr>,
}

impl Candidates<'_> {
    fn of(
        &self,
        measurement: &Arc<Measurement>,
        source: &crate::lang::Measurement,
        found: &mut Vec<Found>,
    ) -> Result<(), QueryError> {
        let number = |t: FieldType| matches!(t, FieldType::Float | FieldType::Integer | FieldType::Unsigned);
        let fields: BTreeMap<String, FieldType> = measurement
            .fields()
            .iter()
            .map(|(_, field)| (field.name.clone(), field.field_type))
            .filter(|(_, t)| number(*t))
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = fields.into_keys().collect();
        let times = self.with.dimensions.iter().filter(|d| d.time().is_some());
        let select = SelectStatement {
            fields: names.iter().map(|name| self.column(name)).collect(),
            sources: vec![Source::Measurement(crate::lang::Measurement {
                name: MeasurementName::Name(measurement.name.clone()),
                alias: None,
                ..source.clone()
            })],
            condition: self.condition.clone(),
            dimensions: times
                .cloned()
                .chain([Dimension {
                    expr: Expr::Wildcard(None),
                }])
                .collect(),
            fill: Fill::None,
            tz: self.with.tz.clone(),
            ..SelectStatement::default()
        };
        let mut sums: Vec<Moments> = vec![Moments::default(); names.len()];
        select::run(self.ctx, &select, self.outer, &mut |piece: Piece| {
            for (column, sums) in piece.series.values.iter().zip(&mut sums) {
                each_number(&piece.series.times, column, &mut |time, value| {
                    if let Some(target) = self.target.values.get(&time) {
                        sums.push(*target, value);
                    }
                });
            }
            if !piece.goes_on {
                for (name, sums) in names.iter().zip(&mut sums) {
                    let sums = std::mem::take(sums);
                    let Some(coefficient) = sums.correlation().filter(|_| sums.count() >= WINDOWS_MIN) else {
                        continue;
                    };
                    let tags = piece.series.tags.iter().filter(|(_, v)| !v.is_empty()).cloned();
                    let tags: Vec<(String, String)> = tags.collect();
                    let own = self.target.own.as_ref();
                    if own.is_some_and(|(m, f, t)| *m == measurement.name && f == name && *t == tags) {
                        continue;
                    }
                    found.push(Found {
                        series: crate::model::SeriesKey::new(measurement.name.clone(), tags).canonical(),
                        field: name.clone(),
                        coefficient,
                        windows: sums.count(),
                    });
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// A field made into windows as the target was, or by its mean.
    fn column(&self, name: &str) -> Field {
        let own = || Expr::VarRef(VarRef::new(name));
        let expr = match &self.target.made {
            None => Expr::call("mean", vec![own()]),
            Some((made, _)) => {
                let mut expr = made.clone();
                expr.walk_mut(&mut |part| {
                    if let Expr::VarRef(_) = part {
                        *part = own();
                    }
                });
                expr
            }
        };
        Field {
            expr,
            alias: Some(name.to_string()),
        }
    }
}

/// Visits the numbers of a column with their times.
fn each_number(times: &[i64], column: &ResultColumn, visit: &mut dyn FnMut(i64, f64)) {
    if let ResultColumn::Typed(typed) = column
        && let Values::Float(values) = &typed.values
    {
        for (row, value) in values.iter().enumerate() {
            if typed.has(row) {
                visit(times[row], *value);
            }
        }
        return;
    }
    for (row, time) in times.iter().enumerate() {
        if let Some(value) = column.value(row).as_f64() {
            visit(*time, value);
        }
    }
}
