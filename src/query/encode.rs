//! Results as JSON and CSV, as InfluxDB writes them.

use super::result::Series;
use super::statements::StatementResult;
use super::time::format_time;
use super::value::Value;
use crate::model::Precision;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// How times are written.
#[derive(Clone, Debug, Default)]
pub struct TimeFormat {
    /// As a number of these since 1970; `None` for RFC 3339.
    pub epoch: Option<Precision>,
}

/// Appends one result of a statement as JSON.
pub fn json_result(result: &StatementResult, times: &TimeFormat, out: &mut String) {
    let zone = result.zone.clone().unwrap_or(TimeZone::UTC);
    let _ = write!(out, "{{\"statement_id\":{}", result.id);
    if !result.series.is_empty() {
        out.push_str(",\"series\":[");
        for (i, series) in result.series.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            let partial = result.partial && i + 1 == result.series.len();
            json_series(series, times, &zone, partial, out);
        }
        out.push(']');
    }
    if !result.messages.is_empty() {
        out.push_str(",\"messages\":[");
        for (i, text) in result.messages.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str("{\"level\":\"warning\",\"text\":");
            json_text(text, out);
            out.push('}');
        }
        out.push(']');
    }
    if let Some(error) = &result.error {
        out.push_str(",\"error\":");
        json_text(error, out);
    }
    if result.more {
        out.push_str(",\"partial\":true");
    }
    out.push('}');
}

/// Appends a series as JSON.
pub fn json_series(series: &Series, times: &TimeFormat, zone: &TimeZone, partial: bool, out: &mut String) {
    out.push('{');
    if !series.name.is_empty() {
        out.push_str("\"name\":");
        json_text(&series.name, out);
        out.push(',');
    }
    if !series.tags.is_empty() {
        out.push_str("\"tags\":{");
        for (i, (key, value)) in series.tags.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            json_text(key, out);
            out.push(':');
            json_text(value, out);
        }
        out.push_str("},");
    }
    out.push_str("\"columns\":[");
    for (i, column) in series.columns.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        json_text(column, out);
    }
    out.push(']');
    let rows = series.rows();
    if rows > 0 {
        out.push_str(",\"values\":[");
        for row in 0..rows {
            out.push_str(if row > 0 { ",[" } else { "[" });
            if series.has_time() {
                json_time(series.times[row], times, zone, out);
            }
            for (i, value) in series.row(row).iter().enumerate() {
                if i > 0 || series.has_time() {
                    out.push(',');
                }
                json_value(value, out);
            }
            out.push(']');
        }
        out.push(']');
    }
    if partial {
        out.push_str(",\"partial\":true");
    }
    out.push('}');
}

fn json_time(time: i64, times: &TimeFormat, zone: &TimeZone, out: &mut String) {
    match times.epoch {
        Some(precision) => push_integer(time / precision.nanoseconds(), out),
        None => {
            out.push('"');
            format_time(time, zone, out);
            out.push('"');
        }
    }
}

fn push_integer(value: i64, out: &mut String) {
    out.push_str(itoa::Buffer::new().format(value));
}

/// Appends a value as JSON.
pub fn json_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Float(v) => push_float(*v, out),
        Value::Integer(v) => push_integer(*v, out),
        Value::Unsigned(v) => out.push_str(itoa::Buffer::new().format(*v)),
        Value::Boolean(v) => out.push_str(if *v { "true" } else { "false" }),
        Value::String(v) => json_text(v, out),
    }
}

/// A float as Go writes it: shortest digits that read back the same, an exponent for very large and very small ones.
fn push_float(value: f64, out: &mut String) {
    let magnitude = value.abs();
    if !value.is_finite() {
        out.push_str("null");
    } else if value == value.trunc() && magnitude < 1e15 && (value != 0.0 || value.is_sign_positive()) {
        push_integer(value as i64, out);
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{digits}e{sign}{:02}", exponent.abs());
    } else if (1e-4..1e15).contains(&magnitude) {
        out.push_str(zmij::Buffer::new().format_finite(value));
    } else {
        let _ = write!(out, "{value}");
    }
}

/// Appends a text as JSON.
pub fn json_text(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape: &str = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1F => "",
            _ => continue,
        };
        out.push_str(&text[plain..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// JSON on several lines, four spaces a level, as Go indents.
pub fn indent(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut level, mut in_text, mut escaped) = (0usize, false, false);
    let line = |level: usize, out: &mut String| {
        out.push('\n');
        (0..level).for_each(|_| out.push_str("    "));
    };
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            (in_text, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                match chars.next_if(|n| matches!(n, '}' | ']')) {
                    Some(close) => out.push(close),
                    None => {
                        level += 1;
                        line(level, &mut out);
                    }
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(level, &mut out);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(level, &mut out);
            }
            ':' => out.push_str(": "),
            _ => out.push(c),
        }
    }
    out
}

/// Writes results as CSV: `name,tags` and the columns; a header whenever they change, an empty line between statements.
#[derive(Debug, Default)]
pub struct Csv {
    columns: Vec<String>,
    statement: Option<usize>,
}

impl Csv {
    /// Appends one result of a statement.
    pub fn result(&mut self, result: &StatementResult, times: &TimeFormat, out: &mut String) {
        if let Some(error) = &result.error {
            out.push_str("error\n");
            csv_text(error, out);
            out.push('\n');
            return;
        }
        for series in &result.series {
            if self.statement != Some(result.id) || self.columns != series.columns {
                if self.statement.is_some() {
                    out.push('\n');
                }
                self.statement = Some(result.id);
                self.columns.clone_from(&series.columns);
                out.push_str("name,tags");
                for column in &series.columns {
                    out.push(',');
                    csv_text(column, out);
                }
                out.push('\n');
            }
            let tags: Vec<String> = series.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let tags = tags.join(",");
            for row in 0..series.rows() {
                csv_text(&series.name, out);
                out.push(',');
                csv_text(&tags, out);
                if series.has_time() {
                    out.push(',');
                    push_integer(
                        series.times[row] / times.epoch.unwrap_or_default().nanoseconds(),
                        out,
                    );
                }
                for value in series.row(row) {
                    out.push(',');
                    match value {
                        Value::Null => {}
                        Value::String(text) => csv_text(text, out),
                        value => json_value(value, out),
                    }
                }
                out.push('\n');
            }
        }
    }
}

fn csv_text(text: &str, out: &mut String) {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') {
        let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
    } else {
        out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_as_go_writes_them() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (1e15, "1000000000000000"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-07"),
            (0.000_001, "0.000001"),
            (123_456_789.123, "123456789.123"),
            (f64::NAN, "null"),
            (f64::MAX, "1.7976931348623157e+308"),
        ];
        for (value, want) in cases {
            let mut out = String::new();
            push_float(value, &mut out);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn texts_and_indentation() {
        let mut out = String::new();
        json_text("a\"b\\c\n\u{1}é", &mut out);
        assert_eq!(out, r#""a\"b\\c\n\u0001é""#);
        assert_eq!(
            indent(r#"{"a":[1,"x,{"],"b":{},"c":[]}"#),
            "{\n    \"a\": [\n        1,\n        \"x,{\"\n    ],\n    \"b\": {},\n    \"c\": []\n}"
        );
    }
}
