//! The values of a tag, sorted, out of pages in memory and blocks on disk, as one stream.

use super::column::Column;
use super::generation::{Gathered, Stored};
use super::page::{PAGE_SERIES, Page};
use super::slots::Slots;
use super::terms::Terms;
use crate::store::StoreError;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The values that one source has.
pub enum Stream {
    /// Pages, here or in small parts.
    Pages(PageTerms),
    /// Blocks of a large part.
    Blocks(BlockTerms),
}

/// See [`Stream::Pages`].
pub struct PageTerms {
    columns: Vec<PageColumn>,
    /// Sorted by value, then column.
    terms: Vec<Term>,
    at: usize,
}

/// A value in a column. What a walk needs of it is here, where it is read in order, not in a column, where it is not.
struct Term {
    /// The first bytes of the value.
    prefix: u64,
    column: u32,
    code: u16,
    /// The slot that has it; [`SLOTS`] if there are several.
    slot: u16,
}

/// See [`Term::slot`]: no slot has this number.
const SLOTS: u16 = u16::MAX;

struct PageColumn {
    first: u32,
    column: Arc<Column>,
    /// Where the slots of each code end.
    ends: Vec<u16>,
    /// Slots by code.
    slots: Vec<u16>,
}

impl PageTerms {
    /// The values that the chosen slots of pages (ascending) have.
    pub fn new<'a>(key: &str, pages: impl Iterator<Item = (&'a Arc<Page>, &'a Slots)>) -> Self {
        let (mut columns, mut terms) = (Vec::new(), Vec::new());
        for (page, slots) in pages {
            let Some(column) = page.column(key) else { continue };
            let at = columns.len() as u32;
            let sorted = PageColumn::new(page, column, slots);
            let mut start = 0;
            for (code, &end) in (1..).zip(&sorted.ends[1..]) {
                if end > start {
                    terms.push(Term {
                        prefix: prefix(column.value(code)),
                        column: at,
                        code,
                        slot: match end - start {
                            1 => sorted.slots[usize::from(start)],
                            _ => SLOTS,
                        },
                    });
                }
                start = end;
            }
            columns.push(sorted);
        }
        let value = |term: &Term| -> &str {
            let column: &PageColumn = &columns[term.column as usize];
            column.column.value(term.code)
        };
        terms.sort_unstable_by(|a, b| {
            // Pages stay in order within a value.
            let by_value = a.prefix.cmp(&b.prefix).then_with(|| value(a).cmp(value(b)));
            by_value.then_with(|| a.column.cmp(&b.column))
        });
        Self {
            columns,
            terms,
            at: 0,
        }
    }

    fn value(&self) -> Option<&str> {
        self.terms.get(self.at).map(|term| self.value_of(term))
    }

    fn value_of(&self, term: &Term) -> &str {
        self.columns[term.column as usize].column.value(term.code)
    }

    /// Passes over the current value; its series go to `series`, if they are asked for.
    fn advance(&mut self, mut series: Option<&mut Gathered>) {
        let Some(first) = self.terms.get(self.at) else {
            return;
        };
        let mut end = self.at + 1;
        // Mostly the next begins with other bytes; then nothing else of it is looked at.
        while let Some(next) = self.terms.get(end) {
            if next.prefix != first.prefix || self.value_of(next) != self.value_of(first) {
                break;
            }
            end += 1;
        }
        if let Some(series) = &mut series {
            for term in &self.terms[self.at..end] {
                self.columns[term.column as usize].add_series(term, &mut series.ids);
            }
        }
        self.at = end;
    }
}

impl PageColumn {
    fn add_series(&self, term: &Term, ids: &mut Vec<u32>) {
        if term.slot != SLOTS {
            return ids.push(self.first + u32::from(term.slot));
        }
        let code = usize::from(term.code);
        let slots = &self.slots[usize::from(self.ends[code - 1])..usize::from(self.ends[code])];
        ids.extend(slots.iter().map(|&slot| self.first + u32::from(slot)));
    }

    fn new(page: &Page, column: &Arc<Column>, slots: &Slots) -> Self {
        let mut ends = vec![0u16; column.distinct() + 1];
        slots
            .iter()
            .for_each(|slot| ends[usize::from(column.code(slot))] += 1);
        // Series without the tag are left out.
        ends[0] = 0;
        let mut total = 0;
        for end in &mut ends {
            total += *end;
            *end = total;
        }
        let mut places: Vec<u16> = std::iter::once(0).chain(ends.iter().copied()).collect();
        let mut sorted = vec![0u16; usize::from(total)];
        for slot in slots.iter() {
            let code = usize::from(column.code(slot));
            if code > 0 {
                sorted[usize::from(places[code])] = slot as u16;
                places[code] += 1;
            }
        }
        Self {
            first: page.number() * PAGE_SERIES,
            column: column.clone(),
            ends,
            slots: sorted,
        }
    }
}

/// The first eight bytes as a number that sorts as they do.
fn prefix(value: &str) -> u64 {
    let mut first = [0; 8];
    let len = value.len().min(8);
    first[..len].copy_from_slice(&value.as_bytes()[..len]);
    u64::from_be_bytes(first)
}

/// See [`Stream::Blocks`].
pub struct BlockTerms {
    stored: Stored,
    /// Whether blocks are kept in the cache.
    cached: bool,
    next: u32,
    end: u32,
    block: Option<(u32, Arc<Terms>)>,
    at: usize,
}

impl BlockTerms {
    /// All values of a tag, from the first one that is not less than `from` on. A merge reads each block once: it is not `cached`.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn new(stored: &Stored, key: &str, from: &str, cached: bool) -> Result<Self, StoreError> {
        let (next, end) = match stored.large().tag(key) {
            Some((_, tag)) => (tag.block + tag.block_of(from), tag.block + tag.blocks()),
            None => (0, 0),
        };
        let mut terms = Self {
            stored: stored.clone(),
            cached,
            next,
            end,
            block: None,
            at: 0,
        };
        terms.load()?;
        if let Some((_, block)) = &terms.block {
            terms.at = block.lower_bound(from);
        }
        terms.settle()?;
        Ok(terms)
    }

    fn load(&mut self) -> Result<(), StoreError> {
        self.at = 0;
        self.block = None;
        if self.next < self.end {
            let block = if self.cached {
                self.stored.terms(self.next)?
            } else {
                self.stored.terms_once(self.next)?
            };
            self.block = Some((self.next, block));
            self.next += 1;
        }
        Ok(())
    }

    /// Stands on a value, unless there are no more.
    fn settle(&mut self) -> Result<(), StoreError> {
        while self
            .block
            .as_ref()
            .is_some_and(|(_, block)| self.at >= block.count())
        {
            self.load()?;
        }
        Ok(())
    }

    /// The current value.
    pub fn value(&self) -> Option<&str> {
        let (_, block) = self.block.as_ref()?;
        Some(block.value(self.at))
    }

    /// Passes over the current value; its series are added to `series`, if they are asked for.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn advance(&mut self, series: Option<&mut Gathered>) -> Result<(), StoreError> {
        if let (Some((number, block)), Some(series)) = (&self.block, series) {
            self.stored.add_series(block, *number, self.at, series)?;
        }
        self.at += 1;
        self.settle()
    }
}

impl Stream {
    /// The current value.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Pages(pages) => pages.value(),
            Self::Blocks(blocks) => blocks.value(),
        }
    }

    /// Passes over the current value; its series are added to `series`, if they are asked for.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn advance(&mut self, series: Option<&mut Gathered>) -> Result<(), StoreError> {
        match self {
            Self::Pages(pages) => {
                pages.advance(series);
                Ok(())
            }
            Self::Blocks(blocks) => blocks.advance(series),
        }
    }
}

/// Visits the values of several streams, sorted, each once; with their series, if they are asked for.
///
/// # Errors
/// Damage, input/output; whatever `visit` gives.
pub fn merge(
    streams: &mut [Stream],
    with_series: bool,
    visit: &mut dyn FnMut(&str, &mut Gathered) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    let mut value = String::new();
    let mut series = Gathered::default();
    if let [stream] = streams {
        // Nothing to compare with, as in most seals.
        while let Some(only) = stream.value() {
            value.clear();
            value.push_str(only);
            series.clear();
            stream.advance(with_series.then_some(&mut series))?;
            if visit(&value, &mut series)?.is_break() {
                break;
            }
        }
        return Ok(());
    }
    loop {
        let Some(least) = streams.iter().filter_map(Stream::value).min() else {
            return Ok(());
        };
        value.clear();
        value.push_str(least);
        series.clear();
        for stream in streams.iter_mut() {
            if stream.value() == Some(&*value) {
                stream.advance(with_series.then_some(&mut series))?;
            }
        }
        if visit(&value, &mut series)?.is_break() {
            return Ok(());
        }
    }
}
