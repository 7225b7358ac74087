//! Walks requests. 1.0 has time series with labels in field 1; 2.0 has symbols in field 4 and time series with references to
//! them in field 5; neither uses the other's fields.

use crate::histogram::{Histogram, Part};
use crate::labels::{LABELS, Labels, write_label, write_suffix};
use kymo_plugin_api::{Field, Origin, Rejection, Row, RowSink, SeriesRef, Value};
use kymo_plugin_reading::number::bound_text;
use kymo_plugin_reading::protobuf::{Broken, Message, Wire};

mod field {
    pub const SERIES: u32 = 1;
    pub const SYMBOLS: u32 = 4;
    pub const SERIES_V2: u32 = 5;
    pub const SAMPLES: u32 = 2;
    pub const HISTOGRAMS: u32 = 4;
    pub const HISTOGRAMS_V2: u32 = 3;
}

/// What is wrong with a time series.
#[derive(Debug)]
pub struct Fault(pub &'static str);

impl Fault {
    pub const BROKEN: Self = Self("broken message");
}

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Self::BROKEN
    }
}

/// What was read, for the answer.
#[derive(Default)]
pub struct Counts {
    pub is_v2: bool,
    pub samples: u64,
    pub histograms: u64,
}

/// Reads requests one after the other.
#[derive(Default)]
pub struct Reader {
    pub counts: Counts,
    /// Spellings that are no part of the input.
    spelling: Vec<u8>,
    extended: Vec<u8>,
}

/// A time series: the spelling of its labels, and where it came from.
#[derive(Clone, Copy)]
struct Series<'a> {
    labels: &'a [u8],
    origin: Origin<'a>,
}

impl Reader {
    /// Reads a request.
    pub fn read(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        let mut request = Message::new(piece);
        let mut symbols: Vec<&[u8]> = Vec::new();
        let mut index = 0;
        loop {
            let begin = request.at();
            let next = request.next_field();
            let text = &piece[begin..request.at().max(begin)];
            let (read, text, context) = match next {
                Ok(None) => return,
                Ok(Some((field::SYMBOLS, Wire::Bytes(symbol)))) => {
                    symbols.push(symbol);
                    continue;
                }
                Ok(Some((field::SERIES, Wire::Bytes(series)))) => {
                    index += 1;
                    (self.series(series, Origin { line: index, text }, sink), text, 0)
                }
                Ok(Some((field::SERIES_V2, Wire::Bytes(series)))) => {
                    index += 1;
                    self.counts.is_v2 = true;
                    let origin = Origin { line: index, text };
                    (self.series_v2(series, &symbols, origin, sink), text, begin)
                }
                Ok(Some(_)) => continue,
                Err(_) => (Err(Fault::BROKEN), &piece[begin..], 0),
            };
            if let Err(Fault(reason)) = read {
                sink.reject(&Rejection {
                    origin: Origin {
                        line: index.max(1),
                        text,
                    },
                    column: 1,
                    reason,
                    // The symbols of 2.0 stand before its series.
                    context: if index <= 1 { &piece[..context] } else { &[] },
                });
            }
            if next.is_err() {
                return;
            }
        }
    }

    fn series(&mut self, series: &[u8], origin: Origin<'_>, sink: &mut dyn RowSink) -> Result<(), Fault> {
        // Labels come first and together from every sender; otherwise they are put together.
        let mut spelling = std::mem::take(&mut self.spelling);
        spelling.clear();
        let mut message = Message::new(series);
        let (mut start, mut end, mut together) = (0, 0, true);
        loop {
            let begin = message.at();
            let Some((number, wire)) = message.next_field()? else {
                break;
            };
            if number != LABELS {
                continue;
            }
            wire.bytes().ok_or(Fault::BROKEN)?;
            if together && end > start && end != begin {
                together = false;
                spelling.extend_from_slice(&series[start..end]);
            }
            if !together {
                spelling.extend_from_slice(&series[begin..message.at()]);
            } else if end == start {
                start = begin;
            }
            end = message.at();
        }
        let labels = if together { &series[start..end] } else { &spelling };
        let read = self.values(series, Series { labels, origin }, field::HISTOGRAMS, sink);
        self.spelling = spelling;
        read
    }

    fn series_v2(
        &mut self,
        series: &[u8],
        symbols: &[&[u8]],
        origin: Origin<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let mut spelling = std::mem::take(&mut self.spelling);
        spelling.clear();
        let mut message = Message::new(series);
        let mut name = None;
        while let Some((number, wire)) = message.next_field()? {
            if number != LABELS {
                continue;
            }
            for reference in wire.varints() {
                let symbol = usize::try_from(reference?).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or(Fault("label refers to a symbol that is not there"))?;
                let symbol = std::str::from_utf8(symbol).map_err(|_| Fault("invalid UTF-8"))?;
                match name.take() {
                    None => name = Some(symbol),
                    Some(name) => write_label(name, symbol, &mut spelling),
                }
            }
        }
        if name.is_some() {
            return Err(Fault("label without a value"));
        }
        let series_ref = Series {
            labels: &spelling,
            origin,
        };
        let read = self.values(series, series_ref, field::HISTOGRAMS_V2, sink);
        self.spelling = spelling;
        read
    }

    /// The samples and histograms of a time series.
    fn values(
        &mut self,
        bytes: &[u8],
        series: Series<'_>,
        histograms: u32,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let mut message = Message::new(bytes);
        while let Some((number, wire)) = message.next_field()? {
            if number == field::SAMPLES {
                let (value, time) = sample(wire.bytes().ok_or(Fault::BROKEN)?)?;
                self.counts.samples += 1;
                if value.is_finite() {
                    row(series.labels, series.origin, time, value, sink)?;
                } else {
                    sink.skip(1);
                }
            } else if number == histograms {
                let histogram = Histogram::read(wire.bytes().ok_or(Fault::BROKEN)?)?;
                self.counts.histograms += 1;
                if histogram.is_finite() {
                    self.histogram(&histogram, series, sink)?;
                } else {
                    sink.skip(1);
                }
            }
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        histogram: &Histogram<'_>,
        series: Series<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        for part in histogram.parts()? {
            let out = &mut self.extended;
            out.clear();
            out.extend_from_slice(series.labels);
            let value = match part {
                Part::Count(count) => {
                    write_suffix("_count", out);
                    count
                }
                Part::Sum(sum) => {
                    write_suffix("_sum", out);
                    sum
                }
                Part::Bucket(bound, count) => {
                    write_suffix("_bucket", out);
                    write_label("le", &bound_text(bound), out);
                    count
                }
            };
            row(out, series.origin, histogram.time, value, sink)?;
        }
        Ok(())
    }
}

fn sample(bytes: &[u8]) -> Result<(f64, i64), Fault> {
    let mut message = Message::new(bytes);
    let (mut value, mut time) = (0.0, 0);
    while let Some((number, wire)) = message.next_field()? {
        match number {
            1 => value = wire.double().ok_or(Fault::BROKEN)?,
            2 => time = wire.integer().ok_or(Fault::BROKEN)? as i64,
            _ => {}
        }
    }
    Ok((value, time))
}

fn row(
    labels: &[u8],
    origin: Origin<'_>,
    milliseconds: i64,
    value: f64,
    sink: &mut dyn RowSink,
) -> Result<(), Fault> {
    let time = milliseconds
        .checked_mul(1_000_000)
        .ok_or(Fault("time outside range"))?;
    sink.row(&Row {
        series: SeriesRef {
            spelling: labels,
            reader: &Labels,
        },
        time: Some(time),
        fields: &[Field::new("value", Value::Float(value))],
        origin,
    });
    Ok(())
}
