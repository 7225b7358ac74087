//! The spelling of a series: its labels as 1.0 encodes them, one message after the other. From a request of 1.0 that is a part of
//! the input; for others it is written.

use kymo_plugin_api::series::{column_of, tag_place};
use kymo_plugin_api::{SeriesParts, SeriesSpelling};
use kymo_plugin_reading::protobuf::{Message, Wire};

/// Fields of a time series, of a label, and one of ours: what is added to the name.
pub const LABELS: u32 = 1;
const NAME: u32 = 1;
const VALUE: u32 = 2;
const SUFFIX: u32 = 15;

/// The label with the metric's name.
const METRIC_NAME: &str = "__name__";

/// Which way a time series has its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A message for each.
    One,
    /// Two references to symbols for each.
    Two,
}

/// Reads spellings; knows where the labels came from.
pub struct Labels<'a> {
    /// The row's text.
    pub text: &'a [u8],
    /// The time series, a part of it.
    pub series: &'a [u8],
    pub version: Version,
    /// The sample or histogram of the row, a part of the time series.
    pub from: &'a [u8],
}

impl<'a> Labels<'a> {
    /// The part of the time series that says a label; labels count as in the spelling, from 0.
    fn part(&self, label: usize) -> Option<&'a [u8]> {
        let mut message = Message::new(self.series);
        let mut before = 0;
        loop {
            let begin = message.at();
            let (number, wire) = message.next_field().ok()??;
            if number != LABELS {
                continue;
            }
            let member = self.series.get(begin..message.at())?;
            match self.version {
                Version::One if before == label => return Some(member),
                Version::One => before += 1,
                Version::Two => {
                    let references = match wire {
                        Wire::Bytes(bytes) => bytes,
                        _ => member,
                    };
                    let mut ends = references.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
                    // Where the references of the label begin, if they are here.
                    let all = wire.varints().count();
                    if (before + all).div_ceil(2) > label {
                        let skipped = (label * 2).saturating_sub(before);
                        let end = skipped.checked_sub(1).and_then(|last| ends.nth(last));
                        return references.get(end.map_or(0, |(at, _)| at + 1)..);
                    }
                    before += all;
                }
            }
        }
    }

    fn column(&self, spelling: &[u8], label: usize) -> Option<u64> {
        let part = self.part(label);
        // What a histogram adds stands in none of them.
        tag_place(self.text, spelling, part.unwrap_or(self.from))
    }
}

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

/// A label of a spelling: name and value.
fn label(wire: Wire<'_>) -> Result<(&str, &str), &'static str> {
    let mut message = Message::new(wire.bytes().unwrap_or_default());
    let (mut name, mut value) = ("", "");
    while let Some((number, wire)) = message.next_field().map_err(|_| "broken message")? {
        match number {
            NAME => name = wire.text().ok_or("invalid UTF-8")?,
            VALUE => value = wire.text().ok_or("invalid UTF-8")?,
            _ => {}
        }
    }
    Ok((name, value))
}

impl SeriesSpelling for Labels<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let mut message = Message::new(spelling);
        let (mut suffix, mut index) = ("", 0);
        let fail = |index, reason: &str| (self.column(spelling, index).unwrap_or(1), reason.to_string());
        while let Some((number, wire)) = message.next_field().map_err(|_| fail(index, "broken message"))? {
            if number == SUFFIX {
                suffix = wire.text().unwrap_or_default();
                continue;
            }
            let (name, value) = label(wire).map_err(|reason| fail(index, reason))?;
            if name == METRIC_NAME {
                parts.measurement = value.to_string();
            } else if name.is_empty() {
                return Err(fail(index, "label without a name"));
            } else if !value.is_empty() {
                parts.tags.push((name.to_string(), value.to_string()));
            }
            index += 1;
        }
        if parts.measurement.is_empty() {
            return Err((1, format!("missing label {METRIC_NAME}")));
        }
        parts.measurement.push_str(suffix);
        Ok(())
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let mut message = Message::new(spelling);
        let (mut index, mut before) = (0, 0);
        while let Some((number, wire)) = message.next_field().ok()? {
            if number == SUFFIX {
                continue;
            }
            let (name, value) = label(wire).ok()?;
            if name != METRIC_NAME && !value.is_empty() {
                if before == tag {
                    return self.column(spelling, index);
                }
                before += 1;
            }
            index += 1;
        }
        None
    }

    fn field_column(&self, text: &[u8], _: usize, _: &str) -> Option<u64> {
        column_of(text, self.from)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        column_of(text, self.from)
    }
}
