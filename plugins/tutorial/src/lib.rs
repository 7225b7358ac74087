//! Thermometers: `kitchen 21.5 1700000000`, a line a reading. The plug-in that docs/plugins.md builds.

use kymo_plugin_api::{
    Decoder, Field, Format, Framing, OptionError, OptionHelp, Options, Origin, Rejection, Row, RowSink,
    SeriesParts, SeriesRef, SeriesSpelling, Value,
};
use kymo_plugin_reading::{number, time};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thermometer;

impl Format for Thermometer {
    fn name(&self) -> &'static str {
        "thermometer"
    }

    fn about(&self) -> &'static str {
        "readings of thermometers: room, degrees, seconds since 1970"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &["text/x-thermometer"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[OptionHelp {
            name: "scale",
            about: "celsius or fahrenheit (default celsius)",
        }]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let fahrenheit = options.one_of("scale", &[("celsius", false), ("fahrenheit", true)])?;
        Ok(Box::new(Readings {
            fahrenheit: fahrenheit.unwrap_or(false),
        }))
    }
}

struct Readings {
    fahrenheit: bool,
}

impl Decoder for Readings {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        for (line, text) in (1..).zip(piece.split(|&byte| byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let origin = Origin { line, text };
            if let Err((column, reason)) = self.line(origin, sink) {
                sink.reject(&Rejection {
                    origin,
                    column,
                    reason,
                    context: &[],
                });
            }
        }
    }
}

impl Readings {
    fn line(&self, origin: Origin<'_>, sink: &mut dyn RowSink) -> Result<(), (u64, &'static str)> {
        let text = std::str::from_utf8(origin.text)
            .map_err(|error| (error.valid_up_to() as u64 + 1, "invalid UTF-8"))?;
        let column = |part: &str| (part.as_ptr() as usize - text.as_ptr() as usize) as u64 + 1;
        let end = text.len() as u64 + 1;
        let mut words = text.split_ascii_whitespace();
        let room = words.next().ok_or((1, "missing room"))?;
        let degrees = words.next().ok_or((end, "missing degrees"))?;
        let value = number::float(degrees.as_bytes())
            .filter(|(value, len)| *len == degrees.len() && value.is_finite())
            .ok_or((column(degrees), "invalid degrees"))?
            .0;
        let time = match words.next() {
            None => None,
            Some(stamp) => Some(time::seconds(stamp).ok_or((column(stamp), "invalid time"))?),
        };
        if let Some(more) = words.next() {
            return Err((column(more), "more than room, degrees and time"));
        }
        let celsius = if self.fahrenheit {
            (value - 32.0) / 1.8
        } else {
            value
        };
        sink.row(&Row {
            series: SeriesRef {
                spelling: room.as_bytes(),
                reader: &Room,
            },
            time,
            fields: &[Field::new("celsius", Value::Float(celsius))],
            origin,
        });
        Ok(())
    }
}

/// A series is spelt by the room alone.
struct Room;

impl SeriesSpelling for Room {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let room = std::str::from_utf8(spelling).map_err(|_| (1, "invalid UTF-8".to_string()))?;
        parts.measurement.push_str("temperature");
        parts.tags.push(("room".into(), room.into()));
        Ok(())
    }
}
