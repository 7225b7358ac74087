//! Bodies of `/api/put`: an object or an array of `{"metric":"m","timestamp":1,"value":2,"tags":{"a":"b"}}`.

use crate::telnet::timestamp;
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{
    Field, Origin, Rejection, Row, RowSink, SeriesParts, SeriesRef, SeriesSpelling, Value,
};
use kymo_plugin_reading::json::{Cursor, Fault, Scalar, place, place_of_last};
use kymo_plugin_reading::number;
use std::borrow::Cow;

/// Reads a body.
pub fn decode(piece: &[u8], spelling: &mut Vec<u8>, sink: &mut dyn RowSink) {
    let reject = |text: &[u8], number: u64, at: usize, reason: &str, sink: &mut dyn RowSink| {
        sink.reject(&Rejection {
            origin: Origin { line: number, text },
            column: at as u64 + 1,
            reason,
            context: &[],
        });
    };
    let text = match std::str::from_utf8(piece) {
        Ok(text) => text,
        Err(error) => return reject(piece, 1, error.valid_up_to(), "invalid UTF-8", sink),
    };
    let mut cursor = Cursor::new(text, 0);
    let mut first = true;
    let mut number = 0;
    let is_array = cursor.peek() == Some(b'[');
    if is_array {
        cursor.pass(1);
    }
    loop {
        cursor.peek();
        let mut start = cursor.at();
        let more = match is_array {
            true => cursor.more(b']', &mut first),
            false => Ok(std::mem::take(&mut first)),
        };
        let object = match more {
            Ok(false) => break,
            Ok(true) => {
                cursor.peek();
                start = cursor.at();
                number += 1;
                cursor.skip()
            }
            Err(fault) => Err(fault),
        };
        match object {
            Ok(object) => {
                let origin = Origin {
                    line: number,
                    text: object.as_bytes(),
                };
                if let Err(fault) = point(origin, object, spelling, sink) {
                    reject(object.as_bytes(), number, fault.at, &fault.reason, sink);
                }
            }
            // Where it goes on is unknown.
            Err(fault) => {
                let rest = &text.as_bytes()[start..];
                return reject(rest, number.max(1), fault.at - start, &fault.reason, sink);
            }
        }
    }
    if cursor.peek().is_some() {
        let rest = &text.as_bytes()[cursor.at()..];
        reject(rest, number + 1, 0, "something follows the JSON", sink);
    }
}

fn point(
    origin: Origin<'_>,
    object: &str,
    spelling: &mut Vec<u8>,
    sink: &mut dyn RowSink,
) -> Result<(), Fault> {
    let mut cursor = Cursor::new(object, 0);
    let (mut metric, mut time, mut value) = (None, None, None);
    let mut tags: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        let key = cursor.key()?;
        cursor.peek();
        let at = cursor.at();
        match key.as_ref() {
            "metric" => metric = Some(cursor.string()?),
            "timestamp" => {
                let stamp = scalar_text(cursor.scalar()?);
                let stamp = stamp.as_deref().and_then(timestamp);
                time = Some(stamp.ok_or_else(|| Fault::new(at, "invalid timestamp"))?);
            }
            "value" => {
                let number = scalar_text(cursor.scalar()?);
                let number = number.as_deref().and_then(number::float_or_special);
                value = Some(number.ok_or_else(|| Fault::new(at, "invalid value"))?);
            }
            "tags" => {
                let mut first = true;
                cursor.enter(b'{')?;
                while cursor.more(b'}', &mut first)? {
                    let key = cursor.key()?;
                    cursor.peek();
                    let at = cursor.at();
                    let value = scalar_text(cursor.scalar()?).filter(|value| !value.is_empty());
                    let value = value.ok_or_else(|| Fault::new(at, "missing tag value"))?;
                    tags.push((key, value));
                }
            }
            // OpenTSDB ignores others.
            _ => drop(cursor.skip()?),
        }
    }
    let missing = |what: &'static str| Fault::new(object.len(), what);
    let metric = metric
        .filter(|metric| !metric.is_empty())
        .ok_or_else(|| missing("missing metric"))?;
    let time = time.ok_or_else(|| missing("missing timestamp"))?;
    let value = value.ok_or_else(|| missing("missing value"))?;
    if !value.is_finite() {
        sink.skip(1);
        return Ok(());
    }
    let tags: Vec<(&str, &str)> = tags.iter().map(|(k, v)| (k.as_ref(), v.as_ref())).collect();
    SeriesParts::spell(&metric, &tags, spelling);
    sink.row(&Row {
        series: SeriesRef {
            spelling,
            reader: &Object { text: object },
        },
        time: Some(time),
        fields: &[Field::new("value", Value::Float(value))],
        origin,
    });
    Ok(())
}

/// Reads the series of a point; knows where its parts stand.
struct Object<'a> {
    text: &'a str,
}

impl SeriesSpelling for Object<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let mut parts = SeriesParts::default();
        PlainSpelling.read(spelling, &mut parts).ok()?;
        let names = parts.tags.get(..=tag)?.iter().map(|(name, _)| name.as_str());
        let place = place_of_last(self.text, names, |path, name| *path == ["tags", name]);
        Some(place?.key as u64 + 1)
    }

    fn field_column(&self, _: &[u8], _: usize, key: &str) -> Option<u64> {
        Some(place(self.text, |path| *path == [key])?.value as u64 + 1)
    }

    fn time_column(&self, _: &[u8]) -> Option<u64> {
        Some(place(self.text, |path| *path == ["timestamp"])?.value as u64 + 1)
    }
}

/// Numbers and texts are the same to OpenTSDB.
fn scalar_text(scalar: Scalar<'_>) -> Option<Cow<'_, str>> {
    match scalar {
        Scalar::Text(text) => Some(text),
        Scalar::Number(text) => Some(Cow::Borrowed(text)),
        Scalar::Boolean(_) | Scalar::Null => None,
    }
}
