//! How a row names its series without taking the name apart every time.
//!
//! Most rows belong to a series that was seen a moment ago. So a row carries the *spelling*: bytes that, within one
//! format, stand for exactly one series. The sink looks these bytes up as they are; only on the first sight does it ask for the
//! parts.

/// The series of a row: its spelling, and how to take that apart.
#[derive(Clone, Copy)]
pub struct SeriesRef<'a> {
    /// Within one format, equal bytes mean the same measurement and tags.
    pub spelling: &'a [u8],
    /// Reads the spelling.
    pub reader: &'a dyn SeriesSpelling,
}

/// Takes a spelling apart.
pub trait SeriesSpelling {
    /// Fills `parts` (which is empty) with the measurement and tags, unescaped, in any order.
    ///
    /// # Errors
    /// The column (byte from 1) and the reason, when the spelling is no valid series: `missing tag value`, ..
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)>;

    /// The column where a tag begins; `tag` counts as [`read`](Self::read) gives them, from 0. Of the spelling or, where that is no part of
    /// the row's text, of the text (see [`tag_place`]). Asked for messages only, of spellings that can be read. `None`: that is not known.
    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let _ = (spelling, tag);
        None
    }

    /// The column in the row's text where a field stands (its key or, where the sender names none, its value); `field` counts as in the row,
    /// from 0, `key` is its key. For messages only. `None`: it stands where its key does, if that is found.
    fn field_column(&self, text: &[u8], field: usize, key: &str) -> Option<u64> {
        let _ = (text, field, key);
        None
    }

    /// What must stand before the row's text when that is tried again on its own (the header of CSV); mostly empty. For rejections only.
    fn context(&self) -> &[u8] {
        &[]
    }

    /// The column in the row's text where its time stands. For messages only, of rows that have one. `None`: that is not known.
    fn time_column(&self, text: &[u8]) -> Option<u64> {
        let _ = text;
        None
    }
}

/// The column in `whole` where `part`, a slice of it, begins, from 1. `None`: it is a slice of something else.
pub fn column_of(whole: &[u8], part: &[u8]) -> Option<u64> {
    let from = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (from + part.len() <= whole.len()).then_some(from as u64 + 1)
}

/// What [`SeriesSpelling::tag_column`] tells of a tag that is `part` of a row's text.
pub fn tag_place(text: &[u8], spelling: &[u8], part: &[u8]) -> Option<u64> {
    let column = column_of(text, part)?;
    let begin = column_of(text, spelling).unwrap_or(1);
    column.checked_sub(begin - 1)
}

/// A measurement and its tags, unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeriesParts {
    /// The measurement.
    pub measurement: String,
    /// Tags in the sender's order.
    pub tags: Vec<(String, String)>,
}

impl SeriesParts {
    /// Ready for the next series.
    pub fn clear(&mut self) {
        self.measurement.clear();
        self.tags.clear();
    }

    /// The first tag whose key is that of one before it, counted from 0.
    pub fn repeated_tag(&self) -> Option<usize> {
        let mut keys: Vec<&str> = self.tags.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        if keys.windows(2).all(|pair| pair[0] != pair[1]) {
            return None;
        }
        let is_repeated = |tag: &usize| self.tags[..*tag].iter().any(|(key, _)| *key == self.tags[*tag].0);
        (0..self.tags.len()).find(is_repeated)
    }

    /// Writes a spelling for formats that have none of their own: lengths and texts, so no two series share one.
    /// Read it back with [`PlainSpelling`].
    pub fn spell(measurement: &str, tags: &[(&str, &str)], out: &mut Vec<u8>) {
        out.clear();
        let mut text = |t: &str| {
            out.extend_from_slice(&(t.len() as u32).to_le_bytes());
            out.extend_from_slice(t.as_bytes());
        };
        text(measurement);
        for (key, value) in tags {
            text(key);
            text(value);
        }
    }
}

/// Reads what [`SeriesParts::spell`] wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainSpelling;

impl SeriesSpelling for PlainSpelling {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let broken = || (1, "broken series spelling".to_string());
        let mut rest = spelling;
        let mut text = || -> Result<Option<String>, (u64, String)> {
            if rest.is_empty() {
                return Ok(None);
            }
            let (len, after) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
            let (bytes, after) = after
                .split_at_checked(u32::from_le_bytes(*len) as usize)
                .ok_or_else(broken)?;
            rest = after;
            Ok(Some(String::from_utf8(bytes.to_vec()).map_err(|_| broken())?))
        };
        parts.measurement = text()?.ok_or_else(broken)?;
        while let Some(key) = text()? {
            parts.tags.push((key, text()?.ok_or_else(broken)?));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_columns() {
        let text = b"m,a=b c".to_vec();
        let other = text.clone();
        assert_eq!(column_of(&text, &text[2..5]), Some(3));
        assert_eq!(column_of(&text, &text[7..]), Some(8));
        assert_eq!(column_of(&text[..4], &text[2..5]), None);
        assert_eq!(column_of(&text[3..], &text[2..5]), None);
        assert_eq!(column_of(&text, &other[2..5]), None);
        // As the spelling counts where it is a part of the text, else as the text does.
        assert_eq!(tag_place(&text, &text[2..5], &text[4..5]), Some(3));
        assert_eq!(tag_place(&text, &other[2..5], &text[4..5]), Some(5));
        assert_eq!(tag_place(&text, &text[2..5], &text[..1]), None);
    }

    #[test]
    fn plain_spelling_round_trips() {
        let mut spelling = Vec::new();
        SeriesParts::spell("m", &[("a", "1"), ("b", "")], &mut spelling);
        let mut parts = SeriesParts::default();
        assert_eq!(PlainSpelling.read(&spelling, &mut parts), Ok(()));
        assert_eq!(parts.measurement, "m");
        assert_eq!(
            parts.tags,
            [("a".into(), "1".into()), ("b".into(), String::new())]
        );
        for cut in 1..spelling.len() {
            let _ = PlainSpelling.read(&spelling[..cut], &mut SeriesParts::default());
        }
        assert!(
            PlainSpelling
                .read(&spelling[..3], &mut SeriesParts::default())
                .is_err()
        );
    }
}
