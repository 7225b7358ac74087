//! What a SELECT gives.

use super::value::Value;

/// One series of a result: a name, tags, and rows. The first column is the time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The measurement, or what a SHOW statement calls it.
    pub name: String,
    /// Of GROUP BY, sorted by key.
    pub tags: Vec<(String, String)>,
    /// Names of all columns.
    pub columns: Vec<String>,
    /// One a row when the first column is a time; else empty.
    pub times: Vec<i64>,
    /// Row by row: all columns but the time.
    pub values: Vec<Value>,
}

impl Series {
    /// Values a row has.
    pub fn width(&self) -> usize {
        self.columns.len() - usize::from(self.has_time())
    }

    /// Is the first column a time?
    pub fn has_time(&self) -> bool {
        !self.times.is_empty()
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        match self.width() {
            0 => self.times.len(),
            width => self.values.len() / width,
        }
    }

    /// The values of a row.
    pub fn row(&self, row: usize) -> &[Value] {
        let width = self.width();
        &self.values[row * width..(row + 1) * width]
    }

    /// A table without times, as SHOW statements give.
    pub fn table(name: &str, columns: &[&str], rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        Self {
            name: name.to_string(),
            columns: columns.iter().map(|c| (*c).to_string()).collect(),
            values: rows.into_iter().flatten().collect(),
            ..Self::default()
        }
    }

    /// Reverses the rows.
    pub fn reverse(&mut self) {
        let width = self.width();
        self.times.reverse();
        if width > 0 {
            let rows: Vec<Value> = self.values.chunks(width).rev().flatten().cloned().collect();
            self.values = rows;
        }
    }

    /// Keeps `limit` rows (0 for all) after the first `offset`.
    pub fn limit(&mut self, limit: u64, offset: u64) {
        let rows = self.rows();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(rows);
        let limit = if limit == 0 {
            usize::MAX
        } else {
            usize::try_from(limit).unwrap_or(usize::MAX)
        };
        let end = start.saturating_add(limit).min(rows);
        if (start, end) == (0, rows) {
            return;
        }
        let width = self.width();
        if self.has_time() {
            self.times = self.times[start..end].to_vec();
        }
        self.values.truncate(end * width);
        self.values.drain(..start * width);
    }
}
