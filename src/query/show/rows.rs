//! Answers of any length, in bounded memory: rows go out in pieces as they come, and what must be sorted first is sorted a part
//! at a time.

use super::text;
use crate::query::error::QueryError;
use crate::query::resources::{Held, Memory};
use crate::query::result::{Give, Piece, Series};
use crate::query::value::Value;
use std::ops::ControlFlow;

/// Rows of a piece.
const PIECE_ROWS: usize = 10_000;
/// What a key takes besides its text.
const KEY_BYTES: usize = 32;
/// Of the query's memory, what keys that are sorted may take.
const MEMORY_SHARE: usize = 4;
/// Bytes between two looks at the query's memory.
const COUNT_EVERY: usize = 1 << 20;

/// The rows of one series, from OFFSET on, as many as LIMIT says.
pub(super) struct Rows<'g, 'f> {
    name: String,
    columns: &'static [&'static str],
    skip: u64,
    left: u64,
    rows: Vec<Vec<Value>>,
    /// Complete, but not known to be the last.
    waiting: Option<Series>,
    give: &'g mut Give<'f>,
}

impl<'g, 'f> Rows<'g, 'f> {
    /// A limit of 0 is none.
    pub fn new(
        name: &str,
        columns: &'static [&'static str],
        (limit, offset): (u64, u64),
        give: &'g mut Give<'f>,
    ) -> Self {
        Self {
            name: name.to_string(),
            columns,
            skip: offset,
            left: if limit == 0 { u64::MAX } else { limit },
            rows: Vec::new(),
            waiting: None,
            give,
        }
    }

    /// How many more rows are of any use.
    pub fn wanted(&self) -> usize {
        usize::try_from(self.skip.saturating_add(self.left)).unwrap_or(usize::MAX)
    }

    /// The next row. Break: no more are wanted.
    pub fn push<const N: usize>(&mut self, row: [&str; N]) -> ControlFlow<()> {
        if self.skip > 0 {
            self.skip -= 1;
            return ControlFlow::Continue(());
        }
        if self.left == 0 {
            return ControlFlow::Break(());
        }
        self.left -= 1;
        self.rows.push(row.iter().map(text).collect());
        if self.rows.len() >= PIECE_ROWS {
            self.send()?;
        }
        match self.left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn send(&mut self) -> ControlFlow<()> {
        let series = Series::table(&self.name, self.columns, std::mem::take(&mut self.rows));
        match self.waiting.replace(series) {
            Some(series) => (self.give)(Piece {
                series,
                goes_on: true,
            }),
            None => ControlFlow::Continue(()),
        }
    }

    /// There are no more. Break: nobody listens.
    pub fn finish(mut self) -> ControlFlow<()> {
        if !self.rows.is_empty() {
            self.send()?;
        }
        match self.waiting.take() {
            Some(series) => (self.give)(Piece::whole(series)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// The smallest keys of those that are pushed, each once, as many as memory and the caller have room for.
pub(super) struct Smallest<'a> {
    /// Only keys behind this one.
    after: Option<String>,
    keys: Vec<String>,
    count_max: usize,
    bytes: usize,
    bytes_max: usize,
    counted: usize,
    held: Held<'a>,
    /// There are others, all of them greater than the last one kept.
    more: bool,
    bound: Option<String>,
}

impl<'a> Smallest<'a> {
    /// Of the keys behind `after`, no more than `count_max`, within the query's memory.
    pub fn new(memory: &'a Memory, after: Option<String>, count_max: usize) -> Self {
        Self {
            after,
            keys: Vec::new(),
            count_max,
            bytes: 0,
            bytes_max: (memory.bytes_max() / MEMORY_SHARE).max(2),
            counted: 0,
            held: memory.held(),
            more: false,
            bound: None,
        }
    }

    /// Another key.
    ///
    /// # Errors
    /// The query's memory is used up.
    pub fn push(&mut self, key: String) -> Result<(), QueryError> {
        let behind = self.after.as_ref().is_none_or(|after| key > *after);
        if !behind || self.bound.as_ref().is_some_and(|bound| key > *bound) {
            return Ok(());
        }
        self.bytes += key.len() + KEY_BYTES;
        self.keys.push(key);
        if self.bytes > self.bytes_max || self.keys.len() / 2 > self.count_max {
            self.tidy();
        }
        if self.bytes > self.counted + COUNT_EVERY {
            self.counted = self.bytes;
            self.held.set(self.bytes)?;
        }
        Ok(())
    }

    /// Sorts, and lets go of what there is no room for.
    fn tidy(&mut self) {
        self.keys.sort_unstable();
        self.keys.dedup();
        let bytes = |keys: &[String]| keys.iter().map(|key| key.len() + KEY_BYTES).sum::<usize>();
        let mut keep = self.keys.len().min(self.count_max);
        // Half, so that the next time is not soon.
        while keep > 1 && bytes(&self.keys[..keep]) > self.bytes_max / 2 {
            keep = keep.div_ceil(2);
        }
        if keep < self.keys.len() {
            self.keys.truncate(keep);
            self.more = true;
            self.bound = self.keys.last().cloned();
        }
        self.bytes = bytes(&self.keys);
    }

    /// No more keys than these are wanted.
    pub fn count_max(&self) -> usize {
        self.count_max
    }

    /// Are all that are wanted there already, and smaller than whatever begins so or comes behind?
    pub fn is_before(&mut self, begin: &str) -> bool {
        if self.bound.as_deref().is_some_and(|bound| bound < begin) {
            return true;
        }
        if self.keys.len() < self.count_max {
            return false;
        }
        self.tidy();
        let last = self.keys.get(self.count_max.saturating_sub(1));
        last.is_some_and(|last| last.as_str() < begin)
    }

    /// The keys, sorted, and whether there are others behind them.
    pub fn finish(mut self) -> (Vec<String>, bool) {
        self.tidy();
        (self.keys, self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_sorted_whatever_the_memory() {
        let keys: Vec<String> = (0..5000u64).map(|i| format!("m,t={}", i * 7919 % 3001)).collect();
        let mut expected = keys.clone();
        expected.sort_unstable();
        expected.dedup();
        for (bytes_max, passes) in [(64 << 20, 1..=1), (100_000, 6..=60), (1, 2000..=4000)] {
            let memory = Memory::new(bytes_max.max(4 << 20));
            let (mut found, mut after, mut walks) = (Vec::new(), None, 0);
            loop {
                walks += 1;
                let mut smallest = Smallest::new(&memory, after, usize::MAX);
                smallest.bytes_max = (bytes_max / MEMORY_SHARE).max(2);
                keys.iter()
                    .for_each(|key| smallest.push(key.clone()).expect("within memory"));
                let (some, more) = smallest.finish();
                after = some.last().cloned();
                found.extend(some);
                if !more {
                    break;
                }
            }
            assert_eq!(found, expected);
            assert!(passes.contains(&walks), "{walks} walks with {bytes_max} bytes");
        }
        let memory = Memory::new(4 << 20);
        let mut smallest = Smallest::new(&memory, Some(expected[9].clone()), 5);
        for key in &keys {
            smallest.push(key.clone()).expect("within memory");
            assert!(smallest.keys.len() <= 12, "no more than are wanted, about");
        }
        assert_eq!(smallest.finish(), (expected[10..15].to_vec(), true));
    }

    #[test]
    fn rows_go_out_in_pieces_from_offset_on() {
        let check = |page: (u64, u64), count: usize, pieces: &[usize], pushed: usize| {
            let mut got = Vec::new();
            let mut give = |piece: Piece| {
                got.push((piece.series.rows(), piece.goes_on));
                ControlFlow::Continue(())
            };
            let mut rows = Rows::new("m", &["key"], page, &mut give);
            let taken = (0..count).position(|i| rows.push([&i.to_string()]).is_break());
            assert_eq!(taken.map_or(count, |at| at + 1), pushed, "{page:?}");
            assert!(rows.finish().is_continue());
            let last = pieces.len().wrapping_sub(1);
            let expected: Vec<(usize, bool)> = pieces
                .iter()
                .enumerate()
                .map(|(at, &n)| (n, at != last))
                .collect();
            assert_eq!(got, expected, "{page:?}");
        };
        check((0, 0), 0, &[], 0);
        check((0, 0), 7, &[7], 7);
        check((0, 0), 20_000, &[10_000, 10_000], 20_000);
        check((0, 5), 20_006, &[10_000, 10_000, 1], 20_006);
        check((3, 2), 100, &[3], 5);
        check((3, 200), 100, &[], 100);
    }
}
