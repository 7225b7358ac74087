//! Reads lines.

use crate::name::{Name, series_end, skip, word};
use kymo_plugin_api::{Decoder, Field, Origin, Rejection, Row, RowSink, SeriesRef, Value};
use kymo_plugin_reading::number;
use kymo_plugin_reading::time::TimeUnit;
use memchr::memchr;

/// The decoder; it keeps nothing from line to line.
pub struct PrometheusDecoder {
    unit: TimeUnit,
}

impl PrometheusDecoder {
    pub fn new(unit: TimeUnit) -> Self {
        Self { unit }
    }

    /// Reads one line; a reason and where it holds when it cannot.
    fn read(&self, origin: Origin<'_>, sink: &mut dyn RowSink) -> Result<(), (usize, &'static str)> {
        let text = origin.text;
        let end = series_end(text).map_err(|at| (at, "labels without their closing brace"))?;
        let value_at = skip(text, end);
        let value = word(text, value_at);
        if value.is_empty() {
            return Err((value_at, "missing value"));
        }
        let number = std::str::from_utf8(value).ok().and_then(number::float_or_special);
        let number = number.ok_or((value_at, "invalid value"))?;
        let stamp_at = skip(text, value_at + value.len());
        let stamp = word(text, stamp_at);
        let mut time = None;
        let mut rest_at = stamp_at;
        if !stamp.is_empty() && stamp[0] != b'#' {
            let stamp = std::str::from_utf8(stamp).ok();
            time = Some(
                stamp
                    .and_then(|text| self.unit.number(text))
                    .ok_or((stamp_at, "invalid timestamp"))?,
            );
            rest_at = skip(text, stamp_at + stamp.map_or(0, str::len));
        }
        // An exemplar of OpenMetrics is no value.
        if !matches!(text.get(rest_at), None | Some(b'#')) {
            return Err((rest_at, "more than name, value and timestamp"));
        }
        if !number.is_finite() {
            sink.skip(1);
            return Ok(());
        }
        sink.row(&Row {
            series: SeriesRef {
                spelling: &text[..end],
                reader: &Name,
            },
            time,
            fields: &[Field::new("value", Value::Float(number))],
            origin,
        });
        Ok(())
    }
}

impl Decoder for PrometheusDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        let (mut rest, mut line) = (piece, 0);
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let text = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            line += 1;
            if text.is_empty() || text[0] == b'#' {
                continue;
            }
            let origin = Origin { line, text };
            if let Err((at, reason)) = self.read(origin, sink) {
                sink.reject(&Rejection {
                    origin,
                    column: at as u64 + 1,
                    reason,
                    context: &[],
                });
            }
        }
    }
}
