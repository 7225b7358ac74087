//! A part of the head: sorted rows that no longer change, and a rough outline of where in them what is, made when the first
//! query asks for it.

use crate::model::{SeriesId, SortedRows, TimeRange};
use std::ops::{Deref, Range};
use std::sync::OnceLock;

/// Rows of a stretch; the last one of a part has fewer.
pub const STRETCH_ROWS: usize = 8192;

/// See the module. Reads as the [`SortedRows`] it holds.
pub struct HeadPart {
    rows: SortedRows,
    outline: OnceLock<Vec<Stretch>>,
}

/// What is known of consecutive rows of a part, as a directory knows it of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which rows.
    pub rows: Range<usize>,
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Smallest and largest timestamp.
    pub time: TimeRange,
}

impl HeadPart {
    /// The stretches, in the order of the rows.
    pub fn outline(&self) -> &[Stretch] {
        self.outline.get_or_init(|| {
            let starts = (0..self.rows.len()).step_by(STRETCH_ROWS);
            starts.map(|start| self.stretch(start)).collect()
        })
    }

    fn stretch(&self, start: usize) -> Stretch {
        let rows = start..self.rows.len().min(start + STRETCH_ROWS);
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for &time in &self.rows.times[rows.clone()] {
            min = min.min(time);
            max = max.max(time);
        }
        Stretch {
            first_series: self.rows.series[rows.start],
            last_series: self.rows.series[rows.end - 1],
            time: TimeRange { min, max },
            rows,
        }
    }
}

impl From<SortedRows> for HeadPart {
    fn from(rows: SortedRows) -> Self {
        Self {
            rows,
            outline: OnceLock::new(),
        }
    }
}

impl Deref for HeadPart {
    type Target = SortedRows;

    fn deref(&self) -> &SortedRows {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outline_covers_all_rows() {
        let rows = 2 * STRETCH_ROWS + 5;
        let series: Vec<SeriesId> = (0..rows as u32).map(|i| i / 10_000).collect();
        let times: Vec<i64> = (0..rows as i64).map(|i| 7 + i % 10_000).collect();
        let part = HeadPart::from(SortedRows::from_unsorted(1, series, times, Vec::new()));
        let outline = part.outline();
        let ends: Vec<usize> = outline.iter().map(|s| s.rows.end).collect();
        assert_eq!(ends, [STRETCH_ROWS, 2 * STRETCH_ROWS, rows]);
        assert_eq!((outline[1].first_series, outline[1].last_series), (0, 1));
        assert_eq!(
            outline[0].time,
            TimeRange {
                min: 7,
                max: 7 + 8191
            }
        );
        assert_eq!(
            outline[1].time,
            TimeRange {
                min: 7,
                max: 7 + 9999
            }
        );
        assert!(HeadPart::from(SortedRows::empty(1)).outline().is_empty());
    }
}
