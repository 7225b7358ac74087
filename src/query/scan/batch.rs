//! Rows as the executor gets them: runs of series over columns that are read when they are asked for.

use super::ScanError;
use crate::model::{Column, SeriesId};
use std::ops::Range;

/// Consecutive rows of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesRun {
    /// Whose.
    pub series: SeriesId,
    /// First row, in the coordinates of the batch's times and columns.
    pub start: u32,
    /// First row past it.
    pub end: u32,
}

impl SeriesRun {
    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// How many.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Rows of some series. Rows between the runs are not wanted.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Ascending in rows, none empty; times ascend in each. A series may have several.
    pub runs: &'a [SeriesRun],
    /// One a row.
    pub times: &'a [i64],
    /// The columns of the request.
    pub cells: &'a dyn Cells,
}

/// Columns by their place in the request.
pub trait Cells {
    /// A column, one entry a row; `None` when no row has a value.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    fn column(&self, i: usize) -> Result<Option<&Column>, ScanError>;

    /// Is it known without reading them that every row has a value of one of these columns?
    fn is_full(&self, columns: &[usize]) -> bool;

    /// The values of a column in some rows, which ascend. Few rows cost less than the column.
    ///
    /// # Errors
    /// As [`column`](Self::column).
    fn gather(&self, i: usize, rows: &[u32]) -> Result<Option<Column>, ScanError> {
        Ok(self.column(i)?.map(|column| column.gather(rows)))
    }
}

impl Batch<'_> {
    /// Rows in all runs.
    pub fn rows(&self) -> usize {
        self.runs.iter().map(SeriesRun::len).sum()
    }
}

/// Columns that are there.
pub struct Held(pub Vec<Option<Column>>);

impl Cells for Held {
    fn column(&self, i: usize) -> Result<Option<&Column>, ScanError> {
        Ok(self.0[i].as_ref())
    }

    fn is_full(&self, columns: &[usize]) -> bool {
        let full = |column: &Column| column.present.is_none();
        columns.iter().any(|&i| self.0[i].as_ref().is_some_and(full))
    }
}
