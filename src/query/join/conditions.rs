//! WHERE of a join, taken apart: what belongs to one side is tested there, before anything is joined.

use super::sides::{Meaning, Sides};
use crate::lang::{BinaryOp, Expr};
use crate::query::error::QueryError;
use std::collections::BTreeSet;

/// See the module.
pub(super) struct Conditions {
    /// For each side: what is tested there, times included.
    pub of_sides: Vec<Option<Expr>>,
    /// What names several sides.
    pub mixed: Vec<Expr>,
    /// What is about time alone.
    pub times: Vec<Expr>,
}

impl Conditions {
    /// Of a statement's WHERE.
    pub fn of(condition: Option<&Expr>, sides: &Sides<'_>) -> Result<Self, QueryError> {
        let mut parts = Vec::new();
        if let Some(condition) = condition {
            conjuncts(condition, &mut parts);
        }
        let mut of_sides: Vec<Vec<Expr>> = sides.list.iter().map(|_| Vec::new()).collect();
        let (mut mixed, mut times) = (Vec::new(), Vec::new());
        for part in parts {
            let place = Place::of(part, sides)?;
            if place.only_time {
                times.push(part.clone());
                of_sides.iter_mut().for_each(|side| side.push(part.clone()));
                continue;
            }
            let named: Vec<usize> = place.sides.into_iter().collect();
            match named[..] {
                [] => {
                    // Tags without a source: of every side that has one of them.
                    for (at, side) in sides.list.iter().enumerate() {
                        if place.tags.iter().any(|tag| side.has_tag(tag)) {
                            of_sides[at].push(stripped(part, sides)?);
                        }
                    }
                    if !sides
                        .list
                        .iter()
                        .any(|side| place.tags.iter().any(|t| side.has_tag(t)))
                    {
                        of_sides.iter_mut().for_each(|side| side.push(part.clone()));
                    }
                }
                [at] => of_sides[at].push(stripped(part, sides)?),
                _ => mixed.push(part.clone()),
            }
        }
        let of_sides = of_sides.into_iter().map(|all| Expr::join(BinaryOp::And, all));
        Ok(Self {
            of_sides: of_sides.collect(),
            mixed,
            times,
        })
    }
}

fn stripped(part: &Expr, sides: &Sides<'_>) -> Result<Expr, QueryError> {
    let mut own = part.clone();
    sides.strip(&mut own)?;
    Ok(own)
}

/// What a part of WHERE names.
struct Place {
    sides: BTreeSet<usize>,
    tags: BTreeSet<String>,
    only_time: bool,
}

impl Place {
    fn of(part: &Expr, sides: &Sides<'_>) -> Result<Self, QueryError> {
        let mut place = Self {
            sides: BTreeSet::new(),
            tags: BTreeSet::new(),
            only_time: true,
        };
        let mut failed = None;
        part.visit_vars(&mut |var| {
            if var.name == "time" && var.kind.is_none() {
                return;
            }
            place.only_time = false;
            match sides.meaning(var) {
                Ok(Meaning::Field(at, _) | Meaning::Tag(Some(at), _)) => {
                    place.sides.insert(at);
                }
                Ok(Meaning::Tag(None, name)) => {
                    place.tags.insert(name);
                }
                Ok(Meaning::Nothing) => {}
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(place), Err)
    }
}

fn conjuncts<'a>(expr: &'a Expr, out: &mut Vec<&'a Expr>) {
    match expr.unparen() {
        Expr::Binary(b) if b.op == BinaryOp::And => {
            conjuncts(&b.lhs, out);
            conjuncts(&b.rhs, out);
        }
        other => out.push(other),
    }
}
