//! Results as JSON and CSV, as InfluxDB writes them. An [`Encoder`] takes what happens while statements run and appends
//! text, so an answer is written while its rows are still being found, and is never held as a whole.

pub mod csv;
pub mod indent;
pub mod json;
pub mod number;
mod quoted;

pub use csv::Csv;
pub use indent::Indent;
pub use json::{ChunkedJson, Json};
pub use number::{Text, json_text};

use super::result::Piece;
use super::time::format_time;
use super::value::Value;
use crate::model::Precision;
use jiff::tz::TimeZone;

/// What happens while the statements of a text run, in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A statement begins.
    Begin {
        /// Its place in the text, from 0.
        id: usize,
        /// Warnings.
        messages: Vec<String>,
        /// Times are shown in this zone; `None` is UTC.
        zone: Option<TimeZone>,
    },
    /// Rows of it.
    Piece(Piece),
    /// It failed, as [`End`](Self::End) will tell; this would be right.
    Hint(String),
    /// It failed, as [`End`](Self::End) will tell; what it lacked others have now, and it may be asked again.
    Busy,
    /// It is over.
    End {
        /// Why it failed. What was found before is not all there is.
        error: Option<String>,
    },
}

impl Event {
    /// A statement begins, without warnings, in UTC.
    pub fn begin(id: usize) -> Self {
        Self::Begin {
            id,
            messages: Vec::new(),
            zone: None,
        }
    }
}

/// Writes an answer.
pub trait Encoder: Send {
    /// Appends what an event adds to the answer.
    fn event(&mut self, event: Event, out: &mut Vec<u8>);

    /// Appends the end of the answer.
    fn finish(&mut self, out: &mut Vec<u8>);
}

/// How times are written.
#[derive(Clone, Debug, Default)]
pub struct TimeFormat {
    /// As a number of these since 1970; `None` for RFC 3339.
    pub epoch: Option<Precision>,
}

/// Appends a time as JSON.
#[inline]
pub fn json_time(time: i64, times: &TimeFormat, zone: &TimeZone, out: &mut impl Text) {
    match times.epoch {
        Some(Precision::Nanosecond) => number::integer(time, out),
        Some(precision) => number::integer(time / precision.nanoseconds(), out),
        None => {
            let mut text = String::with_capacity(48);
            text.push('"');
            format_time(time, zone, &mut text);
            text.push('"');
            out.put(&text);
        }
    }
}

/// Appends a value as JSON.
pub fn json_value(value: &Value, out: &mut impl Text) {
    match value {
        Value::Null => out.put("null"),
        Value::Float(v) => number::float(*v, out),
        Value::Integer(v) => number::integer(*v, out),
        Value::Unsigned(v) => number::integer(*v, out),
        Value::Boolean(v) => out.put(if *v { "true" } else { "false" }),
        Value::String(v) => json_text(v, out),
    }
}
