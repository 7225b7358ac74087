//! The spelling of a series: its labels as 1.0 encodes them, one message after the other. From a request of 1.0 that is a part of
//! the input; for others it is written.

use kymo_plugin_api::{SeriesParts, SeriesSpelling};
use kymo_plugin_reading::protobuf::{Broken, Message};

/// Fields of a time series, of a label, and one of ours: what is added to the name.
pub const LABELS: u32 = 1;
const NAME: u32 = 1;
const VALUE: u32 = 2;
const SUFFIX: u32 = 15;

/// The label with the metric's name.
const METRIC_NAME: &str = "__name__";

/// Reads spellings.
pub struct Labels;

/// Writes a label into a spelling.
pub fn write_label(name: &str, value: &str, out: &mut Vec<u8>) {
    let inner = string_len(name) + string_len(value);
    out.push((LABELS << 3 | 2) as u8);
    write_varint(inner as u64, out);
    write_string(NAME, name, out);
    write_string(VALUE, value, out);
}

/// Writes what is to be added to the name into a spelling.
pub fn write_suffix(suffix: &str, out: &mut Vec<u8>) {
    write_string(SUFFIX, suffix, out);
}

fn write_string(number: u32, text: &str, out: &mut Vec<u8>) {
    out.push((number << 3 | 2) as u8);
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn string_len(text: &str) -> usize {
    let mut len = 2 + text.len();
    let mut value = text.len() >> 7;
    while value > 0 {
        len += 1;
        value >>= 7;
    }
    len
}

impl SeriesSpelling for Labels {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let mut message = Message::new(spelling);
        let mut suffix = "";
        loop {
            let at = message.at() as u64 + 1;
            let broken = |_: Broken| (at, "broken message".to_string());
            let utf8 = || (at, "invalid UTF-8".to_string());
            let Some((number, wire)) = message.next_field().map_err(broken)? else {
                break;
            };
            if number == SUFFIX {
                suffix = wire.text().unwrap_or_default();
                continue;
            }
            let mut label = Message::new(wire.bytes().unwrap_or_default());
            let (mut name, mut value) = ("", "");
            while let Some((number, wire)) = label.next_field().map_err(broken)? {
                match number {
                    NAME => name = wire.text().ok_or_else(utf8)?,
                    VALUE => value = wire.text().ok_or_else(utf8)?,
                    _ => {}
                }
            }
            if name == METRIC_NAME {
                parts.measurement = value.to_string();
            } else if name.is_empty() {
                return Err((at, "label without a name".into()));
            } else if !value.is_empty() {
                parts.tags.push((name.to_string(), value.to_string()));
            }
        }
        if parts.measurement.is_empty() {
            return Err((1, format!("missing label {METRIC_NAME}")));
        }
        parts.measurement.push_str(suffix);
        Ok(())
    }
}
