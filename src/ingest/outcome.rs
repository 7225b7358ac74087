//! What became of a request, and InfluxDB's words for it.

use super::limits::Limits;
use super::reject::{Reject, RejectKind};
use crate::batch::Batch;
use kymo_plugin_api::Told;

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
    /// Values that the format does not store, by no fault of the sender.
    pub skipped: u64,
    /// The first of those unparsed or dropped, in order.
    pub rejects: Vec<Reject>,
    /// Points were dropped by no fault of the sender: the series index could not be read. Who can be told to send everything again
    /// should be.
    pub failed: Option<String>,
    /// What the format counts ([`kymo_plugin_api::Format::counts`]); empty: lines.
    pub counts: &'static str,
}

impl Outcome {
    /// Everything was good.
    pub fn is_clean(&self) -> bool {
        self.unparsed == 0 && self.dropped == 0
    }

    /// Is the format text, so that what was sent of a row can be read again on its own?
    pub fn is_text(&self) -> bool {
        matches!(self.counts, "" | "line")
    }

    /// The rejections that the sender is told of.
    pub fn told(&self, limits: &Limits) -> Vec<Told> {
        let told = self.rejects.iter().take(limits.rejections_told_max);
        let one = |reject: &Reject| Told {
            line: reject.line,
            column: reject.column,
            reason: reject.reason.clone(),
            text: reject.shown(limits.line_told_bytes_max),
        };
        told.map(one).collect()
    }

    /// Which part of a message was rejected, where the format is no text: InfluxDB's clients know it by the line itself, which here nobody can read.
    fn item(&self, reject: &Reject) -> Option<String> {
        if self.is_text() {
            return None;
        }
        let byte = match (reject.kind, reject.column) {
            (RejectKind::Unparsed, 2..) => format!(", byte {}", reject.column),
            _ => String::new(),
        };
        // Texts that stand for a part: a metric's name, a measurement.
        let name = match std::str::from_utf8(&reject.text) {
            Ok(text) if reject.kind == RejectKind::Unparsed && is_name(text) => format!(" ('{text}')"),
            _ => String::new(),
        };
        Some(format!("{} {}{name}{byte}", self.counts, reject.line))
    }

    /// The text of the error InfluxDB would answer; `None` when all was good.
    pub fn error(&self, limits: &Limits) -> Option<String> {
        if self.is_clean() {
            return None;
        }
        let of_kind = |kind| self.rejects.iter().filter(move |reject| reject.kind == kind);
        let mut lines: Vec<String> = of_kind(RejectKind::Unparsed)
            .take(limits.rejections_told_max)
            .map(|reject| {
                let text = reject.shown(limits.line_told_bytes_max);
                match self.item(reject) {
                    Some(item) => format!("unable to parse {item}: {}", reject.reason),
                    None => format!("unable to parse '{text}': {}", reject.reason),
                }
            })
            .collect();
        let untold = self.unparsed.saturating_sub(lines.len() as u64);
        if untold > 0 {
            let max = limits.rejections_told_max;
            lines.push(format!("and {untold} more (rejections_told_max {max})"));
        }
        let text = lines.join("\n");
        let dropped = match of_kind(RejectKind::Dropped).next() {
            Some(reject) => Some(match self.item(reject) {
                Some(item) => format!("{item}: {}", reject.reason),
                None => reject.reason.clone(),
            }),
            None => (self.dropped > 0).then(|| "points were not stored".into()),
        };
        Some(match dropped {
            // InfluxDB tells of dropped points only when every line could be read.
            Some(reason) if self.unparsed == 0 => {
                format!("partial write: {reason} dropped={}", self.dropped)
            }
            _ if self.rows > 0 => format!("partial write: {text} dropped={}", self.dropped),
            Some(reason) => format!("{text}\npartial write: {reason} dropped={}", self.dropped),
            None => text,
        })
    }
}

/// Can people read it as the name of something?
fn is_name(text: &str) -> bool {
    const NAME_BYTES_MAX: usize = 200;
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(|c: char| c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(kind: RejectKind, text: &str, reason: &str) -> Reject {
        Reject {
            kind,
            line: 2,
            column: 3,
            reason: reason.into(),
            text: text.into(),
            context: Vec::new(),
            is_cut: false,
            instead: None,
        }
    }

    #[test]
    fn texts_are_influxdbs() {
        let parse = || reject(RejectKind::Unparsed, "m", "missing fields");
        let clash = || reject(RejectKind::Dropped, "m f=1", "field type conflict: ..");
        let outcome = |rows, unparsed, dropped, rejects| Outcome {
            rows,
            unparsed,
            dropped,
            rejects,
            ..Outcome::default()
        };
        let cases = [
            (outcome(3, 0, 0, vec![]), None),
            (
                outcome(0, 1, 0, vec![parse()]),
                Some("unable to parse 'm': missing fields"),
            ),
            (
                outcome(2, 1, 0, vec![parse()]),
                Some("partial write: unable to parse 'm': missing fields dropped=0"),
            ),
            (
                outcome(2, 0, 4, vec![clash()]),
                Some("partial write: field type conflict: .. dropped=4"),
            ),
            (
                outcome(0, 0, 1, vec![clash()]),
                Some("partial write: field type conflict: .. dropped=1"),
            ),
            (
                outcome(0, 1, 1, vec![clash(), parse()]),
                Some("unable to parse 'm': missing fields\npartial write: field type conflict: .. dropped=1"),
            ),
            (
                outcome(0, 7, 0, vec![parse()]),
                Some("unable to parse 'm': missing fields\nand 6 more (rejections_told_max 100)"),
            ),
        ];
        for (outcome, want) in cases {
            assert_eq!(outcome.error(&Limits::default()).as_deref(), want);
        }
    }

    #[test]
    fn parts_of_messages_are_named_by_their_number() {
        let of = |rejects, unparsed, dropped| Outcome {
            rows: 1,
            unparsed,
            dropped,
            rejects,
            counts: "time series",
            ..Outcome::default()
        };
        let error = |outcome: Outcome| outcome.error(&Limits::default()).expect("not clean");
        assert_eq!(
            error(of(vec![reject(RejectKind::Unparsed, "\u{1}\u{2}", "bad")], 1, 0)),
            "partial write: unable to parse time series 2, byte 3: bad dropped=0"
        );
        assert_eq!(
            error(of(
                vec![reject(RejectKind::Unparsed, "http.requests", "bad")],
                1,
                0
            )),
            "partial write: unable to parse time series 2 ('http.requests'), byte 3: bad dropped=0"
        );
        assert_eq!(
            error(of(vec![reject(RejectKind::Dropped, "m value=1", "clash")], 0, 1)),
            "partial write: time series 2: clash dropped=1"
        );
    }

    #[test]
    fn what_is_told_is_bounded() {
        let limits = Limits {
            rejections_told_max: 2,
            line_told_bytes_max: 3,
            ..Limits::default()
        };
        let outcome = Outcome {
            unparsed: 3,
            rejects: vec![reject(RejectKind::Unparsed, "abcdef", "bad"); 3],
            ..Outcome::default()
        };
        let told = outcome.told(&limits);
        assert_eq!(told.len(), 2);
        assert_eq!(
            (told[0].line, told[0].column, told[0].text.as_str()),
            (2, 3, "abc..")
        );
        let error = outcome.error(&limits).expect("not clean");
        assert_eq!(error.lines().count(), 3, "{error}");
    }
}
