//! A join of the rows themselves: of those with the same time and the same tags, as far as both sides have them.

use super::conditions::Conditions;
use super::rows::{Matcher, Table};
use super::sides::{Meaning, Sides, joined};
use super::{dimensions, keep_name};
use crate::lang::{BinaryOp, Dimension, Expr, Field, JoinKind, SelectStatement, SortField};
use crate::model::TimeRange;
use crate::model::time::TIME_MIN;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::{Derived, Input};
use crate::query::result::{Give, Series, collect};
use crate::query::select::{self, Outer};
use std::collections::BTreeSet;

/// Runs it.
pub(super) fn run(
    ctx: &Context<'_>,
    statement: &SelectStatement,
    sides: &Sides<'_>,
    conditions: &Conditions,
    outer: &Outer,
    give: &mut Give<'_>,
) -> Result<(), QueryError> {
    let dimensions = dimensions(statement, sides, outer)?;
    let mut rest = statement.clone();
    for (field, written) in rest.fields.iter_mut().zip(&statement.fields) {
        sides.qualify(&mut field.expr)?;
        field.alias = keep_name(&written.expr, &written.alias, &field.expr);
    }
    for dimension in &mut rest.dimensions {
        sides.strip_tags(&mut dimension.expr)?;
    }
    let mut mixed = conditions.mixed.clone();
    for part in &mut mixed {
        sides.qualify(part)?;
    }
    let parts = mixed.into_iter().chain(conditions.times.iter().cloned());
    rest.condition = Expr::join(BinaryOp::And, parts.collect());
    rest.sources = Vec::new();
    let wanted = Wanted::of(statement, sides, conditions, &dimensions)?;
    let name = sides.labels().join("_");
    let mut matcher = Matcher::new(ctx);
    select::run_over(
        ctx,
        &rest,
        outer,
        &mut |handed_down| {
            let mut tables = Vec::new();
            for (at, side) in sides.list.iter().enumerate() {
                let own = SideSelect {
                    ctx,
                    sides,
                    at,
                    wanted: &wanted,
                    condition: conditions.of_sides[at].clone(),
                };
                let series = own.rows(handed_down)?;
                tables.push((side.kind, Table::of(series)));
            }
            let table = matcher.all(tables)?;
            let inputs = Derived::of_series(table.into_series(&name));
            let input = |(name, derived)| (name, vec![Input::Derived(derived)]);
            Ok(inputs.into_iter().map(input).collect())
        },
        give,
    )
}

/// What is read of each side.
struct Wanted {
    fields: Vec<BTreeSet<String>>,
    tags: Vec<BTreeSet<String>>,
}

impl Wanted {
    fn of(
        statement: &SelectStatement,
        sides: &Sides<'_>,
        conditions: &Conditions,
        dimensions: &[String],
    ) -> Result<Self, QueryError> {
        let mut fields: Vec<BTreeSet<String>> = sides.list.iter().map(|_| BTreeSet::new()).collect();
        let mut tags: BTreeSet<String> = dimensions.iter().cloned().collect();
        let mut all = false;
        let columns = statement.fields.iter().map(|field| &field.expr);
        let (mut vars, mut wild) = (Vec::new(), false);
        for expr in columns.chain(&conditions.mixed) {
            expr.visit_vars(&mut |var| vars.push(var.clone()));
        }
        for field in &statement.fields {
            field
                .expr
                .walk(&mut |part| wild |= matches!(part, Expr::Wildcard(_) | Expr::Regex(_)));
        }
        all |= wild;
        for var in vars {
            match sides.meaning(&var)? {
                Meaning::Field(at, name) => {
                    fields[at].insert(name);
                }
                Meaning::Tag(_, name) => {
                    tags.insert(name);
                }
                Meaning::Nothing => {}
            }
        }
        for (side, fields) in sides.list.iter().zip(&mut fields) {
            // Of a side that no column names all rows count.
            if all || fields.is_empty() {
                fields.extend(side.fields.keys().cloned());
            }
        }
        let shared = |tag: &&String| sides.list.iter().filter(|side| side.tags.contains(*tag)).count() > 1;
        let tags_of = |at: usize| -> BTreeSet<String> {
            let side = &sides.list[at];
            let common = side.tags.iter().filter(|tag| all || shared(tag)).cloned();
            common
                .chain(tags.iter().filter(|tag| side.has_tag(tag)).cloned())
                .collect()
        };
        Ok(Self {
            fields,
            tags: (0..sides.list.len()).map(tags_of).collect(),
        })
    }
}

/// The SELECT of one side.
struct SideSelect<'a> {
    ctx: &'a Context<'a>,
    sides: &'a Sides<'a>,
    at: usize,
    wanted: &'a Wanted,
    condition: Option<Expr>,
}

impl SideSelect<'_> {
    fn rows(&self, handed_down: &Outer) -> Result<Vec<Series>, QueryError> {
        let side = &self.sides.list[self.at];
        let named = |name: &String| Field {
            expr: Expr::var(name),
            alias: Some(joined(&side.label, name)),
        };
        let fields: Vec<Field> = self.wanted.fields[self.at].iter().map(named).collect();
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let tags = self.wanted.tags[self.at].iter();
        let select = SelectStatement {
            fields,
            sources: vec![side.source.clone()],
            condition: self.condition.clone(),
            dimensions: tags.map(|tag| Dimension { expr: Expr::var(tag) }).collect(),
            ..SelectStatement::default()
        };
        let outer = Outer {
            time: handed_down.time,
            dimensions: Vec::new(),
            windows: handed_down.windows.clone(),
            ascending: true,
            depth: handed_down.depth,
        };
        let mut found = collect(|give| select::run(self.ctx, &select, &outer, give))?;
        if side.kind == JoinKind::Asof && handed_down.time.min > TIME_MIN {
            found.extend(self.latest_before(&select, &outer)?);
        }
        Ok(found)
    }

    /// The row before the first time of each series: the rows of the left side begin with it.
    fn latest_before(&self, select: &SelectStatement, outer: &Outer) -> Result<Vec<Series>, QueryError> {
        let before = TimeRange {
            min: TIME_MIN,
            max: outer.time.min.saturating_sub(1),
        };
        let latest = SelectStatement {
            condition: self.condition.as_ref().and_then(without_times),
            limit: 1,
            sort_fields: vec![SortField {
                name: Some("time".into()),
                ascending: false,
            }],
            ..select.clone()
        };
        let outer = Outer {
            time: before,
            ascending: false,
            ..outer.clone()
        };
        collect(|give| select::run(self.ctx, &latest, &outer, give))
    }
}

/// A condition without its bounds of time.
fn without_times(expr: &Expr) -> Option<Expr> {
    match expr.unparen() {
        Expr::Binary(b) if b.op == BinaryOp::And => {
            let sides = [without_times(&b.lhs), without_times(&b.rhs)];
            Expr::join(BinaryOp::And, sides.into_iter().flatten().collect())
        }
        other => {
            let mut only_time = true;
            other.visit_vars(&mut |var| only_time &= var.name == "time");
            (!only_time).then(|| other.clone())
        }
    }
}
