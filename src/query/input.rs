//! What a SELECT reads: measurements of the catalog, or the results of subqueries, behind one interface.

use super::context::Context;
use super::error::QueryError;
use super::node::{Only, Reference};
use super::result::{ResultColumn, Series};
use super::scan::{ColumnSlice, ScanRequest, SeriesRows, SeriesSet};
use super::value::Value;
use crate::catalog::{Measurement, TagPredicate, TagReader};
use crate::model::{Column, FieldId, FieldType, SeriesId, TimeRange};
use crate::store::StoreError;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
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
#[derive(Debug, Default)]
pub struct Wanted {
    /// For each reference of the statement.
    pub resolved: Vec<Resolved>,
    /// Fields: id (or position) and type.
    pub fields: Vec<(FieldId, FieldType)>,
    /// Tags.
    pub tags: Vec<String>,
}

/// Consecutive rows of one series of an input.
pub struct Rows<'a> {
    /// Which group of GROUP BY it belongs to, by [`Groups`].
    pub group: usize,
    /// Values of the wanted tags; `None` where the series has no such tag.
    pub tags: &'a [Option<Arc<str>>],
    /// Ascending.
    pub times: &'a [i64],
    /// One a wanted field.
    pub columns: &'a [ColumnSlice<'a>],
    /// Grows with every series: rows of equal time come in this order.
    pub series: u64,
}

/// The groups of GROUP BY: tag values in the order of the dimensions.
#[derive(Debug, Default)]
pub struct Groups {
    numbers: HashMap<Vec<Arc<str>>, usize>,
    /// Tag values by number.
    pub list: Vec<Vec<Arc<str>>>,
}

impl Groups {
    fn number(&mut self, tags: Vec<Arc<str>>) -> usize {
        let next = self.list.len();
        *self.numbers.entry(tags.clone()).or_insert_with(|| {
            self.list.push(tags);
            next
        })
    }
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

    /// Visits the rows of all series that a predicate wants.
    ///
    /// # Errors
    /// What `visit` gives; damage; too many groups.
    pub fn scan(
        &self,
        ctx: &Context<'_>,
        request: &InputRequest<'_>,
        groups: &mut Groups,
        visit: &mut dyn FnMut(&Rows<'_>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        match self {
            Self::Stored(measurement) => scan_stored(measurement, ctx, request, groups, visit),
            Self::Derived(derived) => derived.scan(ctx, request, groups, visit),
        }
    }
}

/// What to read of an input.
pub struct InputRequest<'a> {
    /// Columns and tags.
    pub wanted: &'a Wanted,
    /// GROUP BY.
    pub dimensions: &'a [String],
    /// Which series.
    pub predicate: &'a TagPredicate,
    /// Which times.
    pub time: TimeRange,
}

/// The values of the tags of the series at hand: read page by page, each text made once a page.
struct TagValues {
    reader: TagReader,
    page: Option<u32>,
    texts: Vec<Vec<Option<Arc<str>>>>,
}

impl TagValues {
    fn new(reader: TagReader, keys: usize) -> Self {
        Self {
            reader,
            page: None,
            texts: vec![Vec::new(); keys],
        }
    }

    /// The codes of a series, by key: is it on another page than the one before, so that they mean something else?
    fn codes(&mut self, series: SeriesId, codes: &mut Vec<u16>) -> Result<bool, StoreError> {
        let page = self.reader.page(series)?;
        let turned = self.page != Some(page.number());
        if turned {
            self.page = Some(page.number());
            for (key, texts) in self.texts.iter_mut().enumerate() {
                texts.clear();
                texts.resize(page.codes(key), None);
            }
        }
        codes.clear();
        codes.extend((0..self.texts.len()).map(|key| page.code(key, series)));
        Ok(turned)
    }

    fn text(&mut self, series: SeriesId, key: usize, code: u16) -> Result<Option<Arc<str>>, StoreError> {
        if code == 0 {
            return Ok(None);
        }
        let text = &mut self.texts[key][usize::from(code)];
        if text.is_none() {
            *text = self.reader.page(series)?.value(key, code).map(Into::into);
        }
        Ok(text.clone())
    }
}

fn scan_stored(
    measurement: &Measurement,
    ctx: &Context<'_>,
    request: &InputRequest<'_>,
    groups: &mut Groups,
    visit: &mut dyn FnMut(&Rows<'_>) -> Result<ControlFlow<()>, QueryError>,
) -> Result<(), QueryError> {
    let view = measurement.view();
    let all = matches!(request.predicate, TagPredicate::All) && view.dropped().is_empty();
    let series = if all {
        None
    } else {
        Some(view.matching(request.predicate)?)
    };
    if series.as_ref().is_some_and(RoaringBitmap::is_empty) {
        return Ok(());
    }
    let scan_request = ScanRequest {
        measurement: measurement.id,
        series: series.map_or(SeriesSet::All, |set| SeriesSet::Chosen(Arc::new(set))),
        time: request.time,
        fields: request.wanted.fields.iter().map(|(id, _)| *id).collect(),
    };
    let grouped = request.dimensions.len();
    let keys = [request.dimensions, &request.wanted.tags].concat();
    let mut tags = TagValues::new(view.reader(&keys), keys.len());
    let mut failed = None;
    let mut number_of: HashMap<Vec<u16>, usize> = HashMap::new();
    let mut codes = Vec::new();
    let (mut last, mut group, mut tag_values) = (None, 0, Vec::new());
    let mut enter =
        |series: SeriesId, groups: &mut Groups| -> Result<(usize, Vec<Option<Arc<str>>>), StoreError> {
            if tags.codes(series, &mut codes)? {
                number_of.clear();
            }
            let group = match number_of.get(&codes[..grouped]) {
                Some(&group) => group,
                None => {
                    let mut texts = Vec::with_capacity(grouped);
                    for (key, &code) in codes[..grouped].iter().enumerate() {
                        texts.push(tags.text(series, key, code)?.unwrap_or_else(|| "".into()));
                    }
                    let group = groups.number(texts);
                    number_of.insert(codes[..grouped].to_vec(), group);
                    group
                }
            };
            let mut values = Vec::with_capacity(codes.len() - grouped);
            for (key, &code) in codes.iter().enumerate().skip(grouped) {
                values.push(tags.text(series, key, code)?);
            }
            Ok((group, values))
        };
    ctx.scan.scan(&scan_request, &mut |rows: &SeriesRows<'_>| {
        if last != Some(rows.series) {
            last = Some(rows.series);
            match enter(rows.series, groups) {
                Ok(found) => (group, tag_values) = found,
                Err(error) => {
                    failed = Some(error.into());
                    return ControlFlow::Break(());
                }
            }
        }
        let found = Rows {
            group,
            tags: &tag_values,
            times: rows.times,
            columns: rows.columns,
            series: u64::from(rows.series),
        };
        let limit = ctx.limits.groups_max;
        let outcome = if groups.list.len() > limit {
            Err(QueryError::Limit(format!(
                "too many series in the result (query_groups_max {limit})"
            )))
        } else {
            ctx.check().and_then(|()| visit(&found))
        };
        outcome.unwrap_or_else(|error| {
            failed = Some(error);
            ControlFlow::Break(())
        })
    })?;
    failed.map_or(Ok(()), Err)
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

    fn scan(
        &self,
        ctx: &Context<'_>,
        request: &InputRequest<'_>,
        groups: &mut Groups,
        visit: &mut dyn FnMut(&Rows<'_>) -> Result<ControlFlow<()>, QueryError>,
    ) -> Result<(), QueryError> {
        for (number, series) in self.series.iter().enumerate() {
            ctx.check()?;
            let tag = |key: &str| {
                series
                    .tags
                    .iter()
                    .find(|(k, v)| k == key && !v.is_empty())
                    .map(|(_, v)| v.as_str())
            };
            if !matches(request.predicate, &tag) {
                continue;
            }
            // The subquery read no other times. A window that it gave may begin before them, and is a row all the same.
            let (start, end) = (0, series.times.len());
            if end == 0 {
                continue;
            }
            let texts = request.dimensions.iter().map(|d| tag(d).unwrap_or("").into());
            let group = groups.number(texts.collect());
            // A tag that the subquery grouped by is there, if only as an empty text.
            let known = |key: &String| series.tags.iter().find(|(k, _)| k == key);
            let tags = request.wanted.tags.iter();
            let tags: Vec<Option<Arc<str>>> = tags
                .map(|key| known(key).map(|(_, v)| v.as_str().into()))
                .collect();
            let columns: Vec<ColumnSlice<'_>> = request
                .wanted
                .fields
                .iter()
                .map(|(at, _)| ColumnSlice {
                    column: Some(&series.columns[usize::from(*at)]),
                    start,
                })
                .collect();
            let rows = Rows {
                group,
                tags: &tags,
                times: &series.times[start..end],
                columns: &columns,
                series: number as u64,
            };
            if visit(&rows)?.is_break() {
                break;
            }
        }
        Ok(())
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

impl Rows<'_> {
    /// The value of a reference in a row.
    pub fn value(&self, resolved: Resolved, row: usize) -> Value {
        match resolved {
            Resolved::Field(at) => {
                let slice = &self.columns[at];
                slice
                    .column
                    .map(|c| Value::of_column(c, slice.start + row))
                    .unwrap_or_default()
            }
            Resolved::Tag(at) => self.tags[at].clone().map(Value::String).unwrap_or_default(),
        }
    }
}
