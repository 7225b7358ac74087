//! What became of a request, and InfluxDB's words for it.

use super::limits::Limits;
use crate::batch::Batch;

/// See the module.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What is to be committed; `None` when no row was good.
    pub batch: Option<Batch>,
    /// Rows in it.
    pub rows: u64,
    /// Lines that could not be read.
    pub unparsed: u64,
    /// Points that were read and cannot be stored: a type clash, a limit.
    pub dropped: u64,
    /// `unable to parse '..': ..`, a line each, as far as they are told.
    pub parse_errors: Vec<String>,
    /// Why the first point was dropped.
    pub drop_reason: Option<String>,
}

impl Outcome {
    /// Everything was good.
    pub fn is_clean(&self) -> bool {
        self.unparsed == 0 && self.dropped == 0
    }

    /// The text of the error InfluxDB would answer; `None` when all was good.
    pub fn error(&self, limits: &Limits) -> Option<String> {
        if self.is_clean() {
            return None;
        }
        let mut text = self.parse_errors.join("\n");
        let untold = self.unparsed.saturating_sub(self.parse_errors.len() as u64);
        if untold > 0 {
            let max = limits.rejections_told_max;
            text.push_str(&format!("\nand {untold} more (rejections_told_max {max})"));
        }
        // InfluxDB tells of dropped points only when every line could be read.
        match &self.drop_reason {
            Some(reason) if self.unparsed == 0 => {
                Some(format!("partial write: {reason} dropped={}", self.dropped))
            }
            _ if self.rows > 0 => Some(format!("partial write: {text} dropped={}", self.dropped)),
            Some(reason) if self.dropped > 0 => Some(format!(
                "{text}\npartial write: {reason} dropped={}",
                self.dropped
            )),
            _ => Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_influxdbs() {
        let parse = || vec!["unable to parse 'm': missing fields".to_string()];
        let drop = || Some("field type conflict: ..".to_string());
        let cases = [
            (
                Outcome {
                    rows: 3,
                    ..Outcome::default()
                },
                None,
            ),
            (
                Outcome {
                    unparsed: 1,
                    parse_errors: parse(),
                    ..Outcome::default()
                },
                Some("unable to parse 'm': missing fields"),
            ),
            (
                Outcome {
                    rows: 2,
                    unparsed: 1,
                    parse_errors: parse(),
                    ..Outcome::default()
                },
                Some("partial write: unable to parse 'm': missing fields dropped=0"),
            ),
            (
                Outcome {
                    rows: 2,
                    dropped: 4,
                    drop_reason: drop(),
                    ..Outcome::default()
                },
                Some("partial write: field type conflict: .. dropped=4"),
            ),
            (
                Outcome {
                    dropped: 1,
                    drop_reason: drop(),
                    ..Outcome::default()
                },
                Some("partial write: field type conflict: .. dropped=1"),
            ),
        ];
        for (outcome, want) in cases {
            assert_eq!(outcome.error(&Limits::default()).as_deref(), want);
        }
    }
}
