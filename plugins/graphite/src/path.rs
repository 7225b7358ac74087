//! A path, and its tags: `disk.used;host=a;mount=/`.

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
}
