//! What could not be stored, kept so that it can be told, looked at, and tried again after a fix.

use super::limits::Limits;
use kymo_plugin_api::{Rejection, Row, SeriesParts, Value};
use std::fmt::Write;

/// Why something was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    /// It could not be read. Its text is what the sender sent.
    Unparsed,
    /// It was read and cannot be stored: a type clash, a limit. Its text is line protocol, with its time in nanoseconds.
    Dropped,
}

/// Something that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Which of the two.
    pub kind: RejectKind,
    /// Line (or message) of the request, from 1.
    pub line: u64,
    /// Byte in it, from 1.
    pub column: u64,
    /// Why.
    pub reason: String,
    /// What to decode to try again: see the kinds.
    pub text: Vec<u8>,
    /// What must stand before the text for that (the header of CSV).
    pub context: Vec<u8>,
    /// The text was longer than is kept.
    pub is_cut: bool,
}

impl Reject {
    /// Of something that could not be read.
    pub fn unparsed(rejection: &Rejection<'_>, limits: &Limits) -> Self {
        let max = limits.line_kept_bytes_max;
        let text = rejection.origin.text;
        let is_cut = text.len() > max || rejection.context.len() > max;
        Self {
            kind: RejectKind::Unparsed,
            line: rejection.origin.line,
            column: rejection.column,
            reason: rejection.reason.to_string(),
            text: text[..text.len().min(max)].to_vec(),
            context: if is_cut {
                Vec::new()
            } else {
                rejection.context.to_vec()
            },
            is_cut,
        }
    }

    /// Of a point that cannot be stored. `time` is its own or the time of receipt.
    pub fn dropped(row: &Row<'_>, column: u64, time: i64, reason: String, limits: &Limits) -> Self {
        let mut text = line_protocol(row, time).into_bytes();
        let is_cut = text.len() > limits.line_kept_bytes_max;
        text.truncate(limits.line_kept_bytes_max);
        Self {
            kind: RejectKind::Dropped,
            line: row.origin.line,
            column,
            reason,
            text,
            context: Vec::new(),
            is_cut,
        }
    }

    /// The beginning of its text, for people.
    pub fn shown(&self, bytes_max: usize) -> String {
        let shown = &self.text[..self.text.len().min(bytes_max)];
        let more = if shown.len() < self.text.len() || self.is_cut {
            ".."
        } else {
            ""
        };
        String::from_utf8_lossy(shown).into_owned() + more
    }
}

/// A point as a line of line protocol, whatever format it came in.
fn line_protocol(row: &Row<'_>, time: i64) -> String {
    let mut parts = SeriesParts::default();
    let mut out = String::new();
    if row.series.reader.read(row.series.spelling, &mut parts).is_err() {
        return String::from_utf8_lossy(row.origin.text).into_owned();
    }
    escape(&parts.measurement, &[',', ' '], &mut out);
    for (key, value) in parts.tags.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(',');
        escape(key, &[',', '=', ' '], &mut out);
        out.push('=');
        escape(value, &[',', '=', ' '], &mut out);
    }
    for (at, field) in row.fields.iter().enumerate() {
        out.push(if at == 0 { ' ' } else { ',' });
        escape(field.key, &[',', '=', ' '], &mut out);
        let _ = match field.value {
            Value::Float(v) => write!(out, "={v:?}"),
            Value::Integer(v) => write!(out, "={v}i"),
            Value::Unsigned(v) => write!(out, "={v}u"),
            Value::Boolean(v) => write!(out, "={v}"),
            Value::String(v) => {
                out.push_str("=\"");
                escape(v, &['"', '\\'], &mut out);
                out.push('"');
                Ok(())
            }
        };
    }
    let _ = write!(out, " {time}");
    out
}

fn escape(text: &str, special: &[char], out: &mut String) {
    for c in text.chars() {
        if special.contains(&c) {
            out.push('\\');
        }
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::series::PlainSpelling;
    use kymo_plugin_api::{Field, Origin, SeriesRef};

    #[test]
    fn dropped_points_become_line_protocol() {
        let mut spelling = Vec::new();
        SeriesParts::spell("a b,c", &[("k=", "v w"), ("gone", ""), ("z", "ü")], &mut spelling);
        let fields = [
            Field::new("f 1", Value::Float(1e300)),
            Field::new("n", Value::Integer(-2)),
            Field::new("u", Value::Unsigned(3)),
            Field::new("t", Value::Boolean(true)),
            Field::new("s", Value::String("say \"hi\" \\ bye")),
        ];
        let row = Row {
            series: SeriesRef {
                spelling: &spelling,
                reader: &PlainSpelling,
            },
            time: None,
            fields: &fields,
            origin: Origin {
                line: 4,
                text: b"raw",
            },
        };
        let reject = Reject::dropped(&row, 1, 77, "why".into(), &Limits::default());
        assert_eq!(
            String::from_utf8(reject.text).expect("text"),
            r#"a\ b\,c,k\==v\ w,z=ü f\ 1=1e300,n=-2i,u=3u,t=true,s="say \"hi\" \\ bye" 77"#
        );
    }
}
