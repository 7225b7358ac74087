//! What a SELECT reads: measurements of the catalog, or the results of subqueries, and what its references are in them.

use super::error::QueryError;
use super::node::{Only, Reference};
use super::result::{ResultColumn, Series};
use super::value::Value;
use crate::catalog::{Measurement, TagPredicate};
use crate::model::{Column, FieldId, FieldType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One source of rows of one name.
pub enum Input {
    /// A measurement.
    Stored(Arc<Measurement>),
    /// What a subquery gave.
    Derived(Derived),
}

/// Rows of a subquery under one name.
pub struct Derived {
    /// Columns and their types.
    pub fields: Vec<(String, FieldType)>,
    /// Tags that the rows have.
    pub tag_keys: BTreeSet<String>,
    /// Rows by tags.
    pub series: Vec<DerivedSeries>,
}

/// Rows with the same tags.
pub struct DerivedSeries {
    tags: Vec<(String, String)>,
    times: Vec<i64>,
    columns: Vec<Column>,
}

/// What a reference is in an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// The `i`th column that is read.
    Field(usize),
    /// The `i`th tag that is read.
    Tag(usize),
}

/// Which columns and tags of an input are read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// For each reference of the statement.
    pub resolved: Vec<Resolved>,
    /// Fields: id (or position) and type.
    pub fields: Vec<(FieldId, FieldType)>,
    /// Tags.
    pub tags: Vec<String>,
}

impl Input {
    /// Its fields.
    pub fn fields(&self) -> Vec<(String, FieldType)> {
        match self {
            Self::Stored(m) => m
                .fields()
                .iter()
                .map(|(_, f)| (f.name.clone(), f.field_type))
                .collect(),
            Self::Derived(d) => d.fields.clone(),
        }
    }

    /// Its tags.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn tag_keys(&self) -> Result<Vec<String>, QueryError> {
        match self {
            Self::Stored(m) => Ok(m.view().tag_keys(None)?),
            Self::Derived(d) => Ok(d.tag_keys.iter().cloned().collect()),
        }
    }

    /// The type of a field.
    pub fn field_type(&self, name: &str) -> Option<FieldType> {
        match self {
            Self::Stored(m) => m.fields().by_name(name).map(|(_, t)| t),
            Self::Derived(d) => d.fields.iter().find(|(n, _)| n == name).map(|(_, t)| *t),
        }
    }

    fn field(&self, name: &str) -> Option<(FieldId, FieldType)> {
        match self {
            Self::Stored(m) => m.fields().by_name(name),
            Self::Derived(d) => {
                let at = d.fields.iter().position(|(n, _)| n == name)?;
                Some((at as FieldId, d.fields[at].1))
            }
        }
    }

    /// What the references of a statement are in here. A name that is no field is a tag.
    pub fn resolve(&self, references: &[Reference]) -> Wanted {
        let mut wanted = Wanted::default();
        for reference in references {
            let field = if reference.only == Some(Only::Tag) {
                None
            } else {
                self.field(&reference.name)
            };
            let resolved = match field {
                Some(field) => {
                    let at = wanted.fields.iter().position(|f| *f == field);
                    Resolved::Field(at.unwrap_or_else(|| {
                        wanted.fields.push(field);
                        wanted.fields.len() - 1
                    }))
                }
                None => {
                    // `f::field` where there is no such field is nothing, and a tag's name may not stand in for it.
                    let name = match reference.only {
                        Some(Only::Field) => String::new(),
                        _ => reference.name.clone(),
                    };
                    let at = wanted.tags.iter().position(|t| *t == name);
                    Resolved::Tag(at.unwrap_or_else(|| {
                        wanted.tags.push(name);
                        wanted.tags.len() - 1
                    }))
                }
            };
            wanted.resolved.push(resolved);
        }
        wanted
    }
}

impl Derived {
    /// The rows of a subquery, by name.
    pub fn of_series(series: Vec<Series>) -> BTreeMap<String, Self> {
        let mut by_name: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for one in series {
            by_name.entry(one.name.clone()).or_default().push(one);
        }
        by_name
            .into_iter()
            .map(|(name, series)| (name, Self::of_one_name(series)))
            .collect()
    }

    fn of_one_name(series: Vec<Series>) -> Self {
        let names: Vec<String> = series
            .first()
            .map(|s| s.columns[1..].to_vec())
            .unwrap_or_default();
        let mut types: Vec<Option<FieldType>> = vec![None; names.len()];
        for (known, column) in series
            .iter()
            .flat_map(|one| types_of(&one.values))
            .enumerate()
            .map(|(i, t)| (i % names.len(), t))
        {
            types[known] = wider(types[known], column);
        }
        let fields: Vec<(String, FieldType)> = names
            .into_iter()
            .zip(types)
            .map(|(name, t)| (name, t.unwrap_or(FieldType::Float)))
            .collect();
        let mut tag_keys = BTreeSet::new();
        let series = series.into_iter().map(|mut one| {
            tag_keys.extend(one.tags.iter().map(|(key, _)| key.clone()));
            let ascending = one.times.is_sorted();
            if !ascending && one.times.iter().rev().is_sorted() {
                one.reverse();
            }
            let columns = one.values.into_iter().zip(&fields);
            let mut columns: Vec<Column> = columns.map(|(column, (_, t))| column.into_column(*t)).collect();
            let mut times = one.times;
            if !times.is_sorted() {
                let mut order: Vec<u32> = (0..times.len() as u32).collect();
                order.sort_by_key(|&row| times[row as usize]);
                columns
                    .iter_mut()
                    .for_each(|column| *column = column.gather(&order));
                times = order.iter().map(|&row| times[row as usize]).collect();
            }
            DerivedSeries {
                tags: one.tags,
                times,
                columns,
            }
        });
        let series = series.collect();
        Self {
            fields,
            tag_keys,
            series,
        }
    }

    /// The series that satisfy a predicate.
    pub fn matching(&self, predicate: &TagPredicate) -> Vec<usize> {
        let wanted = |series: &usize| matches(predicate, &|key| self.series[*series].tag(key));
        (0..self.series.len()).filter(wanted).collect()
    }
}

impl DerivedSeries {
    /// The value of a tag that the subquery grouped by, if only an empty text.
    pub fn known_tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|(k, _)| k == key);
        found.map(|(_, v)| v.as_str())
    }

    /// The value of a tag; an empty one is none.
    pub fn tag(&self, key: &str) -> Option<&str> {
        let found = self.tags.iter().find(|(k, v)| k == key && !v.is_empty());
        found.map(|(_, v)| v.as_str())
    }

    /// Ascending.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// One a field of the input.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
}

/// The type of each column, if it has a value.
fn types_of(columns: &[ResultColumn]) -> impl Iterator<Item = Option<FieldType>> + '_ {
    columns.iter().map(|column| match column {
        ResultColumn::Typed(column) => {
            let some = column.present.as_ref().is_none_or(|p| p.count_ones() > 0);
            (some && !column.is_empty()).then_some(column.values.field_type())
        }
        ResultColumn::Coded(_) => Some(FieldType::String),
        ResultColumn::Mixed(values) => values.iter().map(Value::field_type).fold(None, wider),
    })
}

/// The type that holds values of both.
fn wider(known: Option<FieldType>, new: Option<FieldType>) -> Option<FieldType> {
    match (known, new) {
        (known, None) => known,
        (None, new) => new,
        (Some(FieldType::Integer | FieldType::Unsigned), Some(FieldType::Float)) => Some(FieldType::Float),
        (known, Some(_)) => known,
    }
}

/// Does a series with these tags satisfy a predicate?
fn matches<'a>(predicate: &TagPredicate, tag: &dyn Fn(&str) -> Option<&'a str>) -> bool {
    let text = |key: &str| tag(key).unwrap_or("");
    match predicate {
        TagPredicate::All => true,
        TagPredicate::Equals { key, value } => text(key) == value,
        TagPredicate::NotEquals { key, value } => text(key) != value,
        TagPredicate::Matches { key, regex } => regex.is_match(text(key)),
        TagPredicate::NotMatches { key, regex } => !regex.is_match(text(key)),
        TagPredicate::And(all) => all.iter().all(|p| matches(p, tag)),
        TagPredicate::Or(any) => any.iter().any(|p| matches(p, tag)),
        TagPredicate::Not(inner) => !matches(inner, tag),
    }
}
