//! Where the cells of a record stand in its text, for messages about rows that were read and cannot be stored.

use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{SeriesParts, SeriesSpelling};

/// Which cells of a record became what.
#[derive(Default)]
pub struct Places {
    /// Tags that all rows of the table have, which no cell says.
    pub tags_of_all: usize,
    /// Cells of the other tags, in their order.
    pub tags: Vec<usize>,
    /// Cells of the fields.
    pub fields: Vec<usize>,
    pub time: Option<usize>,
}

impl Places {
    /// Ready for the next record.
    pub fn clear(&mut self) {
        self.tags.clear();
        self.fields.clear();
        self.time = None;
    }
}

/// Reads the series of a record, and knows where its parts came from.
pub struct Cells<'a> {
    /// The record.
    pub text: &'a [u8],
    /// The lines that say what the cells are.
    pub header: &'a [u8],
    pub delimiter: u8,
    pub quote: u8,
    pub places: &'a mut Places,
}

impl Cells<'_> {
    /// The byte where a cell begins.
    pub fn cell(&self, index: usize) -> usize {
        let (mut before, mut quoted) = (0, false);
        for (at, byte) in self.text.iter().enumerate() {
            if before == index {
                return at;
            }
            // A doubled quote ends and begins.
            quoted ^= *byte == self.quote;
            before += usize::from(*byte == self.delimiter && !quoted);
        }
        self.text.len()
    }

    fn column(&self, cell: Option<&usize>) -> Option<u64> {
        // An empty cell at the end, which has a default, has no byte of its own.
        let last = self.text.len().saturating_sub(1);
        cell.map(|cell| self.cell(*cell).min(last) as u64 + 1)
    }
}

impl SeriesSpelling for Cells<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    fn context(&self) -> &[u8] {
        self.header
    }

    fn tag_column(&self, _: &[u8], tag: usize) -> Option<u64> {
        let tag = tag.checked_sub(self.places.tags_of_all)?;
        self.column(self.places.tags.get(tag))
    }

    fn field_column(&self, _: &[u8], field: usize, _: &str) -> Option<u64> {
        self.column(self.places.fields.get(field))
    }

    fn time_column(&self, _: &[u8]) -> Option<u64> {
        self.column(self.places.time.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_places() {
        let mut places = Places::default();
        let text = b"a;;\"x;\"\";\";b";
        let cells = Cells {
            text,
            header: b"",
            delimiter: b';',
            quote: b'"',
            places: &mut places,
        };
        let begins: Vec<usize> = (0..5).map(|cell| cells.cell(cell)).collect();
        assert_eq!(begins, [0, 2, 3, 11, text.len()]);
    }
}
