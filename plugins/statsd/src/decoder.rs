//! Walks the lines of a piece: metrics are gathered until the flush; events, service checks and metrics with a time of
//! their own are rows at once.

use crate::Settings;
use crate::event::{self, CHECK_START, EVENT_START};
use crate::gather::{Gathered, counter_out_of_range};
use crate::limits::{LINE_BYTES_MAX, Limits};
use crate::line::{self, Amount, Kind, Metric};
use crate::number;
use crate::tags::{self, Fault, METRIC_TYPE, Tags};
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{
    Decoder, Field, Origin, Rejection, Row, RowSink, SeriesParts, SeriesRef, SeriesSpelling, Value,
};
use memchr::memchr;

/// The measurement of events.
const EVENTS: &str = "statsd_events";
/// The measurement of service checks.
const CHECKS: &str = "statsd_service_checks";

/// The decoder of a socket or connection.
pub struct StatsdDecoder {
    settings: Settings,
    gathered: Gathered,
    /// Reused from line to line.
    measurement: String,
    spelling: Vec<u8>,
    amounts: Vec<Amount>,
}

impl StatsdDecoder {
    pub fn new(settings: Settings, limits: Limits) -> Self {
        Self {
            settings,
            gathered: Gathered::new(limits),
            measurement: String::new(),
            spelling: Vec::new(),
            amounts: Vec::new(),
        }
    }

    fn line<'a>(
        &mut self,
        origin: Origin<'a>,
        tags: &mut Tags<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        if origin.text.len() > LINE_BYTES_MAX {
            let reason = format!("line too long (line_bytes_max {LINE_BYTES_MAX})");
            return Err(Fault::new(LINE_BYTES_MAX, reason));
        }
        let text = std::str::from_utf8(origin.text)
            .map_err(|error| Fault::new(error.valid_up_to(), "invalid UTF-8"))?;
        if text.starts_with(EVENT_START) {
            self.event(text, origin, tags, sink)
        } else if text.starts_with(CHECK_START) {
            self.check(text, origin, tags, sink)
        } else {
            self.metric(text, origin, tags, sink)
        }
    }

    fn metric<'a>(
        &mut self,
        text: &'a str,
        origin: Origin<'a>,
        tags: &mut Tags<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        self.amounts.clear();
        let metric = line::read(text, tags, &mut self.amounts)?;
        self.measurement.clear();
        for (i, part) in metric.name.split('.').enumerate() {
            self.measurement.push_str(if i == 0 { "" } else { "_" });
            self.measurement.push_str(part);
        }
        // Not through `tags::push`, which keeps this key for us.
        tags.push((METRIC_TYPE, metric.kind.name()));
        tags::settle(tags);
        SeriesParts::spell(&self.measurement, tags, &mut self.spelling);
        let fault = |reason| Fault::new(metric.value_at, reason);
        match metric.time {
            Some(_) => self.row_at_once(&metric, origin, sink).map_err(fault),
            None => self.gather(&metric).map_err(fault),
        }
    }

    fn gather(&mut self, metric: &Metric<'_>) -> Result<(), String> {
        let (series, amounts) = (&self.spelling, &self.amounts);
        match metric.kind {
            Kind::Counter => self.gathered.count(series, scaled_sum(amounts, metric.weight)),
            Kind::Gauge => self.gathered.gauge(series, amounts),
            Kind::Timing => self.gathered.time(series, amounts, metric.weight),
            Kind::Set => self.gathered.member(series, metric.value),
        }
    }

    /// A counter or gauge with a time: nothing before or after it counts. So a sign is but a sign, as DogStatsD has it.
    fn row_at_once(
        &self,
        metric: &Metric<'_>,
        origin: Origin<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), String> {
        let value = if metric.kind == Kind::Counter {
            let sum = number::nearest(scaled_sum(&self.amounts, metric.weight));
            Value::Integer(sum.ok_or_else(counter_out_of_range)?)
        } else {
            Value::Float(self.amounts.last().map_or(0.0, |amount| amount.number))
        };
        self.row(metric.time, &[Field { key: "value", value }], origin, sink);
        Ok(())
    }

    fn event<'a>(
        &mut self,
        text: &'a str,
        origin: Origin<'a>,
        tags: &mut Tags<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let event = event::read_event(text, tags)?;
        tags::settle(tags);
        SeriesParts::spell(EVENTS, tags, &mut self.spelling);
        let field = |key, value| Field {
            key,
            value: Value::String(value),
        };
        let fields = [field("title", &*event.title), field("text", &*event.text)];
        self.row(event.time, &fields, origin, sink);
        Ok(())
    }

    fn check<'a>(
        &mut self,
        text: &'a str,
        origin: Origin<'a>,
        tags: &mut Tags<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let check = event::read_check(text, tags)?;
        tags::settle(tags);
        SeriesParts::spell(CHECKS, tags, &mut self.spelling);
        let status = Field {
            key: "status",
            value: Value::Integer(check.status),
        };
        match check.message {
            None => self.row(check.time, &[status], origin, sink),
            Some(message) => {
                let value = Value::String(&message);
                self.row(
                    check.time,
                    &[
                        status,
                        Field {
                            key: "message",
                            value,
                        },
                    ],
                    origin,
                    sink,
                );
            }
        }
        Ok(())
    }

    /// A row of the series spelt last.
    fn row(&self, time: Option<i64>, fields: &[Field<'_>], origin: Origin<'_>, sink: &mut dyn RowSink) {
        sink.row(&Row {
            series: SeriesRef {
                spelling: &self.spelling,
                reader: &Written,
            },
            time,
            fields,
            origin,
        });
    }
}

impl Decoder for StatsdDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        // They point into the piece, so they live here rather than in the decoder.
        let mut tags = Tags::new();
        let (mut rest, mut number) = (piece, 0);
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let text = trim(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            number += 1;
            if text.is_empty() {
                continue;
            }
            tags.clear();
            let origin = Origin { line: number, text };
            if let Err(fault) = self.line(origin, &mut tags, sink) {
                sink.reject(&Rejection {
                    origin,
                    column: fault.at.min(text.len()) as u64 + 1,
                    reason: &fault.reason,
                    context: &[],
                });
            }
        }
    }

    fn flush_interval(&self) -> Option<u64> {
        Some(self.settings.flush_interval)
    }

    fn flush(&mut self, now: i64, sink: &mut dyn RowSink) {
        let settings = &self.settings;
        self.gathered
            .flush(now, &settings.percentiles, settings.gauge_expiry, sink);
    }
}

/// Reads the series of a row; knows where value and time stand in its line.
struct Written;

impl SeriesSpelling for Written {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    /// Of metrics and service checks: an event's texts are limited by its line.
    fn field_column(&self, text: &[u8], _: usize, _: &str) -> Option<u64> {
        let at = match text.strip_prefix(CHECK_START.as_bytes()) {
            Some(rest) => CHECK_START.len() + memchr(b'|', rest)? + 1,
            None => memchr(b':', text)? + 1,
        };
        Some(at as u64 + 1)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        let is_metric =
            !text.starts_with(EVENT_START.as_bytes()) && !text.starts_with(CHECK_START.as_bytes());
        let begin: &[u8] = if is_metric { b"|T" } else { b"|d:" };
        let at = memchr::memmem::rfind(text, begin)?;
        Some((at + begin.len()) as u64 + 1)
    }
}

fn scaled_sum(amounts: &[Amount], weight: f64) -> f64 {
    amounts.iter().map(|amount| amount.number * weight).sum()
}

/// Blanks around a line are nothing, but for those at the end of an event, whose text is counted.
fn trim(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line).trim_ascii_start();
    if line.starts_with(EVENT_START.as_bytes()) {
        line
    } else {
        line.trim_ascii_end()
    }
}
