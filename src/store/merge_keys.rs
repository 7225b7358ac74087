//! The first half of a merge: the (series, time) keys of several sorted sources become one order, with a note for each
//! row of where it comes from. Pure: blocks of keys come from a closure. The second half ([`super::merge`]) then
//! gathers one column after the other by these notes.
//!
//! Holds one block of keys a source. Of equal keys every source is noted, oldest first: values merge field by field, and
//! the newest that has one wins.

use super::error::StoreError;
use crate::block::RowKeys;
use crate::model::SeriesId;
use std::cmp::Ordering;
use std::ops::Range;

/// The keys of one block of a source.
#[derive(Debug)]
pub struct KeyBlock {
    /// Which block of the source.
    pub block: u32,
    series: Vec<SeriesId>,
    times: Vec<i64>,
    /// Which rows of the block these are; `None`: all.
    rows: Option<Vec<u32>>,
}

impl KeyBlock {
    /// Keys as decoded, without the rows that `hidden` says are gone.
    pub fn new(block: u32, keys: RowKeys, hidden: Option<&dyn Fn(SeriesId, i64) -> bool>) -> Self {
        let (runs, times) = keys;
        let mut series = vec![0; times.len()];
        for (id, rows) in runs {
            series[rows].fill(id);
        }
        let Some(hidden) = hidden else {
            return Self {
                block,
                series,
                times,
                rows: None,
            };
        };
        let rows: Vec<u32> = (0..times.len() as u32)
            .filter(|&row| !hidden(series[row as usize], times[row as usize]))
            .collect();
        Self {
            block,
            series: rows.iter().map(|&row| series[row as usize]).collect(),
            times: rows.iter().map(|&row| times[row as usize]).collect(),
            rows: Some(rows),
        }
    }

    fn key(&self, at: usize) -> (SeriesId, i64) {
        (self.series[at], self.times[at])
    }

    fn row(&self, at: usize) -> u32 {
        self.rows.as_ref().map_or(at as u32, |rows| rows[at])
    }
}

/// Gives the next block of keys of a source; `None` at its end.
pub type NextBlock<'a> = Box<dyn FnMut() -> Result<Option<KeyBlock>, StoreError> + 'a>;

/// Where a row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef {
    /// Which source; the higher wins.
    pub source: u32,
    /// Which block of it.
    pub block: u32,
    /// Which row of that.
    pub row: u32,
}

/// Where consecutive merged rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// So many consecutive rows of a block, from this one on.
    Rows(RowRef, u32),
    /// One row that several sources have: their places in [`Merged::folds`], oldest source first.
    Fold(Range<usize>),
}

/// Some merged rows.
#[derive(Debug, Default)]
pub struct Merged {
    /// One a row.
    pub series: Vec<SeriesId>,
    /// One a row.
    pub times: Vec<i64>,
    /// In the order of rows.
    pub origins: Vec<Origin>,
    /// See [`Origin::Fold`].
    pub folds: Vec<RowRef>,
}

/// See the module.
pub struct KeyMerge<'a> {
    sources: Vec<Source<'a>>,
}

struct Source<'a> {
    next: NextBlock<'a>,
    block: Option<KeyBlock>,
    at: usize,
}

impl<'a> KeyMerge<'a> {
    /// Over sources, oldest first.
    ///
    /// # Errors
    /// What a source gives.
    pub fn new(sources: Vec<NextBlock<'a>>) -> Result<Self, StoreError> {
        let mut merge = Self {
            sources: Vec::with_capacity(sources.len()),
        };
        for next in sources {
            let mut source = Source {
                next,
                block: None,
                at: 0,
            };
            source.advance(0)?;
            merge.sources.push(source);
        }
        Ok(merge)
    }

    /// The next up to `rows_max` rows; none at the end.
    ///
    /// # Errors
    /// What a source gives; a source whose keys do not ascend is damaged.
    pub fn next(&mut self, rows_max: usize) -> Result<Merged, StoreError> {
        let mut out = Merged::default();
        while out.times.len() < rows_max {
            // The smallest next key, and the smallest that another source has next: up to there rows come in one piece.
            let mut first: Option<((SeriesId, i64), usize)> = None;
            let mut second: Option<(SeriesId, i64)> = None;
            let mut equal = false;
            for (i, source) in self.sources.iter().enumerate() {
                let Some(key) = source.key() else { continue };
                match first.map_or(Ordering::Less, |(smallest, _)| key.cmp(&smallest)) {
                    Ordering::Less => {
                        second = first.map(|(smallest, _)| smallest);
                        first = Some((key, i));
                        equal = false;
                    }
                    Ordering::Equal => equal = true,
                    Ordering::Greater => second = Some(second.map_or(key, |s| s.min(key))),
                }
            }
            let Some((smallest, from)) = first else { break };
            if equal {
                self.fold(smallest, &mut out)?;
            } else {
                self.take(from, second, rows_max - out.times.len(), &mut out)?;
            }
        }
        Ok(out)
    }

    fn fold(&mut self, key: (SeriesId, i64), out: &mut Merged) -> Result<(), StoreError> {
        let start = out.folds.len();
        for (i, source) in self.sources.iter_mut().enumerate() {
            if source.key() == Some(key)
                && let Some(block) = &source.block
            {
                out.folds.push(RowRef {
                    source: i as u32,
                    block: block.block,
                    row: block.row(source.at),
                });
                source.advance(1)?;
            }
        }
        out.series.push(key.0);
        out.times.push(key.1);
        out.origins.push(Origin::Fold(start..out.folds.len()));
        Ok(())
    }

    fn take(
        &mut self,
        from: usize,
        limit: Option<(SeriesId, i64)>,
        rows_max: usize,
        out: &mut Merged,
    ) -> Result<(), StoreError> {
        let source = &mut self.sources[from];
        let Some(block) = &source.block else { return Ok(()) };
        let start = source.at;
        let end = match limit {
            None => block.times.len(),
            Some(limit) => gallop(block, start, limit),
        };
        let end = end.min(start + rows_max);
        out.series.extend_from_slice(&block.series[start..end]);
        out.times.extend_from_slice(&block.times[start..end]);
        let mut at = start;
        while at < end {
            let row = block.row(at);
            let len = match &block.rows {
                None => end - at,
                Some(rows) => (at + 1..end)
                    .position(|i| rows[i] != row + (i - at) as u32)
                    .map_or(end - at, |p| p + 1),
            };
            let begin = RowRef {
                source: from as u32,
                block: block.block,
                row,
            };
            out.origins.push(Origin::Rows(begin, len as u32));
            at += len;
        }
        source.advance(end - start)
    }
}

impl Source<'_> {
    fn key(&self) -> Option<(SeriesId, i64)> {
        self.block.as_ref().map(|block| block.key(self.at))
    }

    /// Steps over rows, and into the next block that has some.
    fn advance(&mut self, rows: usize) -> Result<(), StoreError> {
        self.at += rows;
        if self
            .block
            .as_ref()
            .is_some_and(|block| self.at < block.times.len())
        {
            return Ok(());
        }
        let last = self.block.take();
        let last = last.and_then(|block| (!block.times.is_empty()).then(|| block.key(block.times.len() - 1)));
        self.at = 0;
        while let Some(block) = (self.next)()? {
            let ascending = (1..block.times.len()).all(|i| block.key(i - 1) < block.key(i));
            let behind = block.times.is_empty() || last.is_none_or(|last| last < block.key(0));
            if !ascending || !behind {
                return Err(StoreError::damaged(
                    format!("block {} of a run that is merged", block.block),
                    "its rows are not in order",
                ));
            }
            if !block.times.is_empty() {
                self.block = Some(block);
                break;
            }
        }
        Ok(())
    }
}

/// The first row from `start` on that does not come before `limit`: doubling steps, then bisection.
fn gallop(block: &KeyBlock, start: usize, limit: (SeriesId, i64)) -> usize {
    let len = block.times.len();
    let mut step = 1;
    let mut low = start;
    while low + step < len && block.key(low + step) < limit {
        low += step;
        step *= 2;
    }
    let mut high = (low + step).min(len);
    while low < high {
        let middle = low + (high - low) / 2;
        if block.key(middle) < limit {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Key = (SeriesId, i64);

    fn source(
        rows: &[Key],
        block_rows: usize,
        hidden: &'static (dyn Fn(SeriesId, i64) -> bool + Sync),
    ) -> NextBlock<'static> {
        let mut blocks: Vec<KeyBlock> = Vec::new();
        for (block, keys) in rows.chunks(block_rows).enumerate() {
            let mut runs: Vec<(SeriesId, Range<usize>)> = Vec::new();
            for (row, (id, _)) in keys.iter().enumerate() {
                match runs.last_mut() {
                    Some((last, range)) if last == id => range.end = row + 1,
                    _ => runs.push((*id, row..row + 1)),
                }
            }
            let times = keys.iter().map(|k| k.1).collect();
            blocks.push(KeyBlock::new(block as u32, (runs, times), Some(hidden)));
        }
        let mut blocks = blocks.into_iter();
        Box::new(move || Ok(blocks.next()))
    }

    proptest! {
        #[test]
        fn merged_keys_are_those_of_a_map(
            inputs in prop::collection::vec((prop::collection::btree_set((0u32..5, 0i64..40), 0..60), 1usize..20), 0..5),
            rows_max in 1usize..30,
        ) {
            let hidden: &(dyn Fn(SeriesId, i64) -> bool + Sync) = &|series, time| (i64::from(series) + time) % 7 == 0;
            let mut expected: BTreeMap<Key, Vec<RowRef>> = BTreeMap::new();
            let mut sources = Vec::new();
            for (i, (rows, block_rows)) in inputs.iter().enumerate() {
                let rows: Vec<Key> = rows.iter().copied().collect();
                for (at, &key) in rows.iter().enumerate() {
                    if !hidden(key.0, key.1) {
                        let (block, row) = (at / block_rows, at % block_rows);
                        expected.entry(key).or_default().push(RowRef { source: i as u32, block: block as u32, row: row as u32 });
                    }
                }
                sources.push(source(&rows, *block_rows, hidden));
            }
            let mut merge = KeyMerge::new(sources).expect("sound sources");
            let mut got: Vec<(Key, Vec<RowRef>)> = Vec::new();
            loop {
                let merged = merge.next(rows_max).expect("sound sources");
                if merged.times.is_empty() { break }
                prop_assert!(merged.times.len() <= rows_max);
                let keys = merged.series.iter().copied().zip(merged.times.iter().copied());
                let refs = merged.origins.iter().flat_map(|origin| match origin {
                    Origin::Rows(begin, len) => (0..*len).map(|i| vec![RowRef { row: begin.row + i, ..*begin }]).collect::<Vec<_>>(),
                    Origin::Fold(range) => vec![merged.folds[range.clone()].to_vec()],
                });
                let before = got.len();
                got.extend(keys.zip(refs));
                prop_assert_eq!(got.len() - before, merged.times.len());
            }
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_source_out_of_order_is_damage() {
        let mut given = false;
        let wrong: NextBlock<'_> = Box::new(move || {
            let block = (!given).then(|| KeyBlock::new(0, (vec![(1, 0..2)], vec![5, 4]), None));
            given = true;
            Ok(block)
        });
        assert!(KeyMerge::new(vec![wrong]).is_err_and(|e| e.is_damage()));
    }
}
