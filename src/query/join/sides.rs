//! The sides of a join: what they are called, which fields and tags they have, and which of them a name means.

use crate::lang::{DataType, Expr, Join, JoinKind, MeasurementName, Source, VarRef};
use crate::model::FieldType;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::expand::{self, Schema};
use crate::query::from::measurements;
use crate::query::input::Input;
use std::collections::{BTreeMap, BTreeSet};

/// One source of a join.
pub(super) struct Side<'a> {
    /// What stands before the dot: its alias, or the measurement's name.
    pub label: String,
    /// How it is joined to those before it.
    pub kind: JoinKind,
    /// What it reads.
    pub source: &'a Source,
    /// Its fields.
    pub fields: BTreeMap<String, FieldType>,
    /// Tags that its rows have: all of a measurement, those that a subquery groups by.
    pub tags: BTreeSet<String>,
    /// Tags that a subquery groups by when the statement around it does.
    pub inherits: BTreeSet<String>,
}

impl Side<'_> {
    /// Can its rows be grouped by a tag?
    pub fn has_tag(&self, name: &str) -> bool {
        self.tags.contains(name) || self.inherits.contains(name)
    }
}

/// All sides, from the left.
pub(super) struct Sides<'a> {
    pub list: Vec<Side<'a>>,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A field of a side.
    Field(usize, String),
    /// A tag, of a side or of any.
    Tag(Option<usize>, String),
    /// Nothing that is there.
    Nothing,
}

fn fail<T>(text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::statement(text))
}

impl<'a> Sides<'a> {
    /// Of a join.
    pub fn of(ctx: &Context<'_>, join: &'a Join) -> Result<Self, QueryError> {
        let mut list = Vec::new();
        flatten(&join.left, JoinKind::Inner, &mut list);
        flatten(&join.right, join.kind, &mut list);
        let mut sides = Vec::new();
        for (source, kind) in list {
            let label = label(source)?;
            if sides.iter().any(|side: &Side<'_>| side.label == label) {
                return fail(format!(
                    "JOIN: two sources are called {label}; give one another name by AS"
                ));
            }
            let found = schema_of(ctx, source)?;
            sides.push(Side {
                label,
                kind,
                source,
                fields: found.own.fields,
                tags: found.own.tags,
                inherits: found.inherits,
            });
        }
        Ok(Self { list: sides })
    }

    /// The fields, by the names they have in the joined rows, and tags of all sides.
    pub fn schema(&self) -> Schema {
        let mut schema = Schema::default();
        for side in &self.list {
            for (name, field_type) in &side.fields {
                schema.add(joined(&side.label, name), *field_type);
            }
            schema
                .tags
                .extend(side.tags.iter().chain(&side.inherits).cloned());
        }
        schema
    }

    /// What a reference means.
    pub fn meaning(&self, var: &VarRef) -> Result<Meaning, QueryError> {
        for cut in (1..var.segments.len()).rev() {
            let label = var.segments[..cut].join(".");
            let Some(at) = self.list.iter().position(|side| side.label == label) else {
                continue;
            };
            let name = var.segments[cut..].join(".");
            let side = &self.list[at];
            let tag = var.kind == Some(DataType::Tag) || !side.fields.contains_key(&name);
            return Ok(match tag {
                true if side.has_tag(&name) => Meaning::Tag(Some(at), name),
                true if var.kind == Some(DataType::Tag) => Meaning::Nothing,
                _ => Meaning::Field(at, name),
            });
        }
        let name = &var.name;
        let mut with_field = Vec::new();
        if var.kind != Some(DataType::Tag) {
            let has = |(_, side): &(usize, &Side<'_>)| side.fields.contains_key(name);
            with_field.extend(self.list.iter().enumerate().filter(has).map(|(at, _)| at));
        }
        match with_field[..] {
            [at] => Ok(Meaning::Field(at, name.clone())),
            [] if self.list.iter().any(|side| side.has_tag(name)) => Ok(Meaning::Tag(None, name.clone())),
            [] if var.segments.len() > 1 => fail(format!(
                "JOIN: {} is no source; the sources are {}",
                var.segments[0],
                self.labels().join(", ")
            )),
            [] => Ok(Meaning::Nothing),
            [one, other, ..] => fail(format!(
                "JOIN: {name} is a field of several sources; write {} or {}",
                joined(&self.list[one].label, name),
                joined(&self.list[other].label, name)
            )),
        }
    }

    /// What they are called.
    pub fn labels(&self) -> Vec<String> {
        self.list.iter().map(|side| side.label.clone()).collect()
    }

    /// The sides whose fields an expression names.
    pub fn of_expr(&self, expr: &Expr) -> Result<BTreeSet<usize>, QueryError> {
        let (mut found, mut failed) = (BTreeSet::new(), None);
        expr.visit_vars(&mut |var| match self.meaning(var) {
            Ok(Meaning::Field(at, _)) => {
                found.insert(at);
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        });
        failed.map_or(Ok(found), Err)
    }

    /// Gives every reference the name it has on its own side.
    pub fn strip(&self, expr: &mut Expr) -> Result<(), QueryError> {
        self.rename(expr, &|_, name| name.to_string())
    }

    /// Gives every reference the name it has in the joined rows.
    pub fn qualify(&self, expr: &mut Expr) -> Result<(), QueryError> {
        self.rename(expr, &|side, name| joined(&side.label, name))
    }

    /// Takes the source off tags of GROUP BY.
    pub fn strip_tags(&self, expr: &mut Expr) -> Result<(), QueryError> {
        if let Expr::VarRef(var) = expr
            && let Meaning::Tag(_, name) | Meaning::Field(_, name) = self.meaning(var)?
        {
            *var = VarRef {
                at: var.at,
                ..VarRef::new(name)
            };
        }
        Ok(())
    }

    fn rename(&self, expr: &mut Expr, name_of: &dyn Fn(&Side<'_>, &str) -> String) -> Result<(), QueryError> {
        let mut failed = None;
        expr.walk_mut(&mut |part| {
            let (Expr::VarRef(var) | Expr::Distinct(var)) = part else {
                return;
            };
            if var.name == "time" && var.kind.is_none() {
                return;
            }
            match self.meaning(var) {
                Ok(Meaning::Field(at, name)) => {
                    var.name = name_of(&self.list[at], &name);
                    var.kind = var.kind.or(Some(DataType::AnyField));
                }
                Ok(Meaning::Tag(_, name)) => {
                    var.name = name;
                    var.kind = Some(DataType::Tag);
                }
                Ok(Meaning::Nothing) => {}
                Err(error) => failed = Some(error),
            }
            var.segments.clear();
        });
        failed.map_or(Ok(()), Err)
    }
}

/// What a field of a side is called in the joined rows.
pub(super) fn joined(label: &str, field: &str) -> String {
    format!("{label}.{field}")
}

fn flatten<'a>(source: &'a Source, kind: JoinKind, out: &mut Vec<(&'a Source, JoinKind)>) {
    match source {
        Source::Join(join) => {
            flatten(&join.left, kind, out);
            flatten(&join.right, join.kind, out);
        }
        other => out.push((other, kind)),
    }
}

fn label(source: &Source) -> Result<String, QueryError> {
    let (alias, name) = match source {
        Source::Measurement(measurement) => match &measurement.name {
            MeasurementName::Name(name) => (&measurement.alias, Some(name)),
            MeasurementName::Regex(_) => (&measurement.alias, None),
        },
        Source::Subquery(subquery) => (&subquery.alias, None),
        Source::Join(_) => (&None, None),
    };
    match (alias, name) {
        (Some(name), _) | (None, Some(name)) => Ok(name.clone()),
        (None, None) => fail("JOIN: a subquery or a regular expression needs a name: (SELECT ..) AS a"),
    }
}

/// What a source has.
struct Found {
    own: Schema,
    inherits: BTreeSet<String>,
}

fn schema_of(ctx: &Context<'_>, source: &Source) -> Result<Found, QueryError> {
    let mut own = Schema::default();
    let mut inherits = BTreeSet::new();
    match source {
        Source::Measurement(measurement) => {
            for stored in measurements(ctx, measurement)? {
                let input = Input::Stored(stored);
                for (name, field_type) in input.fields() {
                    own.add(name, field_type);
                }
                own.tags.extend(input.tag_keys()?);
            }
        }
        Source::Subquery(subquery) => {
            let statement = &subquery.statement;
            let mut inner = Schema::default();
            for source in &statement.sources {
                let found = schema_of(ctx, source)?;
                for (name, field_type) in found.own.fields {
                    inner.add(name, field_type);
                }
                inner
                    .tags
                    .extend(found.own.tags.into_iter().chain(found.inherits));
            }
            let dimensions = expand::dimensions(&statement.dimensions, &inner)?;
            let (_, columns) = expand::columns(statement, &inner, &dimensions)?;
            // The types are those that its rows turn out to have.
            columns
                .into_iter()
                .for_each(|column| own.add(column.name, FieldType::Float));
            own.tags.extend(dimensions);
            inherits = inner.tags;
        }
        Source::Join(join) => own = Sides::of(ctx, join)?.schema(),
    }
    Ok(Found { own, inherits })
}
