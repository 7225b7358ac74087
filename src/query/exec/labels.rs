//! What the series at hand is called: its group and its tags, page by page of the index, or of a subquery's series. Each
//! worker has its own.

use super::groups::Groups;
use crate::catalog::{SeriesView, TagReader};
use crate::model::SeriesId;
use crate::query::error::QueryError;
use crate::query::input::Derived;
use std::collections::HashMap;
use std::sync::Arc;

/// See the module.
pub struct Labels<'a> {
    source: Source<'a>,
    /// The first so many keys are the dimensions of GROUP BY, the others the tags that are read.
    dimensions: usize,
    /// For each key and code of the page, its text once it was asked for. A subquery's series are pages of their own.
    texts: Vec<Vec<Option<Arc<str>>>>,
    /// Groups by code, when there is one dimension.
    group_of: Vec<u32>,
    /// Groups by codes, when there are several.
    groups_of: HashMap<Box<[u16]>, u32>,
    codes: Vec<u16>,
    key: Vec<Arc<str>>,
    empty: Arc<str>,
}

enum Source<'a> {
    Stored { reader: TagReader, page: Option<u32> },
    Derived { series: &'a Derived, keys: Vec<String> },
}

/// No group is known for a code.
const UNKNOWN: u32 = u32::MAX;

impl<'a> Labels<'a> {
    /// Of a measurement.
    pub fn stored(view: &SeriesView, dimensions: &[String], tags: &[String]) -> Self {
        let keys = [dimensions, tags].concat();
        let reader = view.reader(&keys);
        Self::new(
            Source::Stored { reader, page: None },
            dimensions.len(),
            keys.len(),
        )
    }

    /// Of a subquery; its series go by their places.
    pub fn derived(series: &'a Derived, dimensions: &[String], tags: &[String]) -> Self {
        let keys = [dimensions, tags].concat();
        let count = keys.len();
        Self::new(Source::Derived { series, keys }, dimensions.len(), count)
    }

    fn new(source: Source<'a>, dimensions: usize, keys: usize) -> Self {
        Self {
            source,
            dimensions,
            texts: vec![Vec::new(); keys],
            group_of: Vec::new(),
            groups_of: HashMap::new(),
            codes: Vec::new(),
            key: Vec::new(),
            empty: "".into(),
        }
    }

    /// The group of a series.
    ///
    /// # Errors
    /// The index cannot be read.
    #[inline]
    pub fn group(&mut self, series: SeriesId, groups: &mut Groups) -> Result<u32, QueryError> {
        // Once for each series: mostly of a page that is turned to, and a code that is known.
        if let (1, Source::Stored { reader, page }) = (self.dimensions, &mut self.source) {
            let found = reader.page(series)?;
            if *page == Some(found.number()) {
                let known = self.group_of[usize::from(found.code(0, series))];
                if known != UNKNOWN {
                    return Ok(known);
                }
            }
        }
        self.found_group(series, groups)
    }

    fn found_group(&mut self, series: SeriesId, groups: &mut Groups) -> Result<u32, QueryError> {
        if self.dimensions == 0 {
            return match self.group_of[..] {
                [only] => Ok(only),
                _ => {
                    let only = groups.number(&[]);
                    self.group_of = vec![only];
                    Ok(only)
                }
            };
        }
        if matches!(self.source, Source::Derived { .. }) {
            self.key.clear();
            for dimension in 0..self.dimensions {
                let text = self
                    .text(series, dimension)?
                    .unwrap_or_else(|| self.empty.clone());
                self.key.push(text);
            }
            return Ok(groups.number(&self.key));
        }
        self.turn(series)?;
        let Source::Stored { reader, .. } = &mut self.source else {
            unreachable!("the other case has returned")
        };
        let page = reader.page(series)?;
        self.codes.clear();
        self.codes
            .extend((0..self.dimensions).map(|key| page.code(key, series)));
        let known = match &self.codes[..] {
            [code] => self.group_of[usize::from(*code)],
            codes => self.groups_of.get(codes).copied().unwrap_or(UNKNOWN),
        };
        if known != UNKNOWN {
            return Ok(known);
        }
        self.key.clear();
        for dimension in 0..self.dimensions {
            let text = self
                .text(series, dimension)?
                .unwrap_or_else(|| self.empty.clone());
            self.key.push(text);
        }
        let group = groups.number(&self.key);
        match &self.codes[..] {
            [code] => self.group_of[usize::from(*code)] = group,
            codes => {
                self.groups_of.insert(codes.into(), group);
            }
        }
        Ok(group)
    }

    /// The value of the `i`th tag that is read.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn tag(&mut self, series: SeriesId, i: usize) -> Result<Option<Arc<str>>, QueryError> {
        self.turn(series)?;
        self.text(series, self.dimensions + i)
    }

    /// Codes of another page mean something else.
    fn turn(&mut self, series: SeriesId) -> Result<(), QueryError> {
        let Source::Stored { reader, page } = &mut self.source else {
            return Ok(());
        };
        let found = reader.page(series)?;
        if *page == Some(found.number()) {
            return Ok(());
        }
        *page = Some(found.number());
        for (key, texts) in self.texts.iter_mut().enumerate() {
            texts.clear();
            texts.resize(found.codes(key), None);
        }
        if self.dimensions == 1 {
            self.group_of.clear();
            self.group_of.resize(found.codes(0), UNKNOWN);
        }
        self.groups_of.clear();
        Ok(())
    }

    /// The text of a key; the page is the right one.
    fn text(&mut self, series: SeriesId, key: usize) -> Result<Option<Arc<str>>, QueryError> {
        match &mut self.source {
            Source::Derived { series: all, keys } => {
                let tag = all.series[series as usize].known_tag(&keys[key]);
                Ok(tag.map(Into::into))
            }
            Source::Stored { reader, .. } => {
                let page = reader.page(series)?;
                let code = page.code(key, series);
                if code == 0 {
                    return Ok(None);
                }
                let text = &mut self.texts[key][usize::from(code)];
                if text.is_none() {
                    *text = page.value(key, code).map(Into::into);
                }
                Ok(text.clone())
            }
        }
    }
}
