//! A path, and its tags: `disk.used;host=a;mount=/`.

use crate::decoder::word;
use kymo_plugin_api::{SeriesParts, SeriesSpelling};

/// The spelling of a series is its path as it was sent.
pub struct Path;

impl SeriesSpelling for Path {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let text = std::str::from_utf8(spelling)
            .map_err(|error| (error.valid_up_to() as u64 + 1, "invalid UTF-8".to_string()))?;
        let mut pieces = text.split(';');
        let name = pieces.next().unwrap_or_default();
        if name.is_empty() {
            return Err((1, "missing path".into()));
        }
        parts.measurement.push_str(name);
        let mut at = name.len() + 2;
        for piece in pieces {
            let fail = |reason: &str| Err((at as u64, reason.to_string()));
            match piece.split_once('=') {
                None => return fail("tag without a value (use ;tag=value)"),
                Some(("", _)) => return fail("missing tag key"),
                Some((_, "")) => return fail("missing tag value"),
                // Of two with one key, the later counts, as in Graphite.
                Some((key, value)) => match parts.tags.iter_mut().find(|(known, _)| known == key) {
                    Some((_, known)) => *known = value.to_string(),
                    None => parts.tags.push((key.to_string(), value.to_string())),
                },
            }
            at += piece.len() + 1;
        }
        Ok(())
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let pieces: Vec<&[u8]> = spelling.split(|b| *b == b';').collect();
        let key = |piece: &usize| pieces[*piece].split(|b| *b == b'=').next();
        // Those whose key has not come before, as they are counted.
        let is_first = |piece: &usize| (1..*piece).all(|before| key(&before) != key(piece));
        let piece = (1..pieces.len()).filter(is_first).nth(tag)?;
        let before: usize = pieces[..piece].iter().map(|piece| piece.len() + 1).sum();
        Some(before as u64 + 1)
    }

    fn field_column(&self, text: &[u8], _: usize, _: &str) -> Option<u64> {
        word_column(text, 1)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        word_column(text, 2)
    }
}

/// The column of a word of a line, counted from 0.
fn word_column(text: &[u8], index: usize) -> Option<u64> {
    let before = (0..index).fold(0, |from, _| word(text, from).1);
    let (word, end) = word(text, before);
    (!word.is_empty()).then_some((end - word.len()) as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_places() {
        let columns: Vec<Option<u64>> = (0..4)
            .map(|tag| Path.tag_column(b"a.b;k=1;l=2;k=3;m=4", tag))
            .collect();
        assert_eq!(columns, [Some(5), Some(9), Some(17), None]);
    }

    #[test]
    fn value_and_time_have_places() {
        let line = b"a.b;k=1  2.5\t17";
        assert_eq!(Path.field_column(line, 0, "value"), Some(10));
        assert_eq!(Path.time_column(line), Some(14));
        assert_eq!(Path.time_column(b"a 1"), None);
    }
}
