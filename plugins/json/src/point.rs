//! One point as both shapes make it when care is needed, and values on their way into it.

use crate::settings::Settings;
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{Field, Origin, Row, RowSink, SeriesParts, SeriesRef, SeriesSpelling, Value};
use kymo_plugin_reading::json::{Fault, Scalar, place, place_of_last};
use kymo_plugin_reading::number;
use std::borrow::Cow;

/// See the module.
#[derive(Default)]
pub struct Point<'a> {
    pub measurement: Option<Cow<'a, str>>,
    pub tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub fields: Vec<(Cow<'a, str>, Scalar<'a>)>,
    pub time: Option<i64>,
}

impl Point<'_> {
    /// Pushes it as a row.
    pub fn emit(
        &self,
        settings: &Settings,
        origin: Origin<'_>,
        spelling: &mut Vec<u8>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let measurement = match (&settings.measurement, &self.measurement) {
            (Some(name), _) => name,
            (None, Some(name)) if !name.is_empty() => name.as_ref(),
            _ => return Err(Fault::new(0, "missing measurement")),
        };
        let tags: Vec<(&str, &str)> = self
            .tags
            .iter()
            .map(|(key, value)| (key.as_ref(), value.as_ref()))
            .collect();
        let reader = Emitted {
            settings,
            text: origin.text,
        };
        let mut fields = Vec::with_capacity(self.fields.len());
        for (key, scalar) in &self.fields {
            let value = value(scalar, settings.integers).map_err(|reason| {
                let column = reader.field_column(origin.text, fields.len(), key);
                Fault::new(column.unwrap_or(1) as usize - 1, reason)
            });
            if let Some(value) = value? {
                fields.push(Field::new(key, value));
            }
        }
        if fields.is_empty() {
            return Err(Fault::new(0, "missing fields"));
        }
        SeriesParts::spell(measurement, &tags, spelling);
        sink.row(&Row {
            series: SeriesRef {
                spelling,
                reader: &reader,
            },
            time: self.time,
            fields: &fields,
            origin,
        });
        Ok(())
    }
}

/// Reads the series of a point that was made with care; knows where its parts stand in its text.
struct Emitted<'a> {
    settings: &'a Settings,
    text: &'a [u8],
}

impl SeriesSpelling for Emitted<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let mut parts = SeriesParts::default();
        PlainSpelling.read(spelling, &mut parts).ok()?;
        let text = std::str::from_utf8(self.text).ok()?;
        let names = parts.tags.get(..=tag)?.iter().map(|(name, _)| name.as_str());
        let place = place_of_last(text, names, |path, name| match &self.settings.flat {
            None => *path == [self.settings.tags_key.as_str(), name],
            Some(mapping) => {
                let mut mapped = mapping.tags.iter().filter(|mapped| mapped.name == name);
                mapped.any(|mapped| path.join(".") == mapped.path)
            }
        });
        Some(place?.key as u64 + 1)
    }

    fn field_column(&self, text: &[u8], _: usize, name: &str) -> Option<u64> {
        let text = std::str::from_utf8(text).ok()?;
        let Some(mapping) = &self.settings.flat else {
            let place = place(text, |path| *path == [self.settings.fields_key.as_str(), name]);
            return Some(place?.key as u64 + 1);
        };
        let mapped = mapping.fields.iter().flatten().find(|mapped| mapped.name == name);
        let place = place(text, |path| match mapped {
            Some(mapped) => path.join(".") == mapped.path,
            None => path.join("_").replace('.', "_") == name.replace('.', "_"),
        });
        Some(place?.key as u64 + 1)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        self.settings.time_column(text)
    }
}

/// A field's value; null is none.
pub fn value<'a>(scalar: &'a Scalar<'_>, integers: bool) -> Result<Option<Value<'a>>, &'static str> {
    Ok(Some(match scalar {
        Scalar::Null => return Ok(None),
        Scalar::Boolean(value) => Value::Boolean(*value),
        Scalar::Text(text) => Value::String(text),
        Scalar::Number(text) => number_value(text, integers).ok_or("number out of range")?,
    }))
}

/// A number as JSON writes it. Integers beyond 64 bits are floats.
pub fn number_value(text: &str, integers: bool) -> Option<Value<'static>> {
    if integers && !text.contains(['.', 'e', 'E']) {
        if let Ok(value) = text.parse() {
            return Some(Value::Integer(value));
        }
        if let Ok(value) = text.parse() {
            return Some(Value::Unsigned(value));
        }
    }
    let (value, _) = number::float(text.as_bytes())?;
    value.is_finite().then_some(Value::Float(value))
}

/// A tag's value as text; null is none.
pub fn tag_text<'a>(scalar: Scalar<'a>) -> Option<Cow<'a, str>> {
    match scalar {
        Scalar::Text(text) => Some(text).filter(|text| !text.is_empty()),
        Scalar::Number(text) => Some(Cow::Borrowed(text)),
        Scalar::Boolean(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
        Scalar::Null => None,
    }
}

/// A time; null is none. `at` is where it stands.
pub fn time(scalar: &Scalar<'_>, settings: &Settings, at: usize) -> Result<Option<i64>, Fault> {
    let text = match scalar {
        Scalar::Null => return Ok(None),
        Scalar::Number(text) => *text,
        Scalar::Text(text) => text.as_ref(),
        Scalar::Boolean(_) => "",
    };
    match settings.time_unit.read(text) {
        Some(time) => Ok(Some(time)),
        None => Err(Fault::new(at, "invalid time")),
    }
}
