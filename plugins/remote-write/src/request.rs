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
        if let Some((labels, samples)) = plain(series) {
            return self.samples(samples, Series { labels, origin }, sink);
        }
        self.any_series(series, origin, sink)
    }

    fn any_series(&mut self, series: &[u8], origin: Origin<'_>, sink: &mut dyn RowSink) -> Result<(), Fault> {
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

    /// Samples one after the other, with nothing between, as [`plain`] found them.
    fn samples(&mut self, mut bytes: &[u8], series: Series<'_>, sink: &mut dyn RowSink) -> Result<(), Fault> {
        while let [_, len, rest @ ..] = bytes {
            let (one, rest) = rest.split_at_checked(usize::from(*len)).ok_or(Fault::BROKEN)?;
            bytes = rest;
            let (value, time) = match plain_sample(one) {
                Some(read) => read,
                None => sample(one)?,
            };
            self.sample(value, time, series, sink)?;
        }
        Ok(())
    }

    #[inline]
    fn sample(
        &mut self,
        value: f64,
        time: i64,
        series: Series<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        self.counts.samples += 1;
        if value.is_finite() {
            return row(series.labels, series.origin, time, value, sink);
        }
        sink.skip(1);
        Ok(())
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
                self.sample(value, time, series, sink)?;
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

/// Labels and samples of a time series that has nothing else, the labels first, each shorter than 128 bytes: what nearly all
/// are. They are passed over without being read; the sink knows the labels by their bytes.
#[inline]
fn plain(series: &[u8]) -> Option<(&[u8], &[u8])> {
    let labels = pass_over(LABELS, series)?;
    let samples = pass_over(field::SAMPLES, &series[labels..])?;
    (labels + samples == series.len()).then(|| series.split_at(labels))
}

/// Bytes of the messages with this number at the beginning of `bytes`.
#[inline]
fn pass_over(number: u32, bytes: &[u8]) -> Option<usize> {
    let key = (number << 3 | 2) as u8;
    let mut at = 0;
    while bytes.get(at) == Some(&key) {
        let len = *bytes.get(at + 1)?;
        if len >= 0x80 {
            return None;
        }
        at += 2 + usize::from(len);
    }
    (at <= bytes.len()).then_some(at)
}

/// A sample with its value and its time, in this order and nothing else.
#[inline]
fn plain_sample(bytes: &[u8]) -> Option<(f64, i64)> {
    let [0x09, rest @ ..] = bytes else { return None };
    let (value, rest) = rest.split_first_chunk::<8>()?;
    let [0x10, varint @ ..] = rest else { return None };
    // Longer ones are negative or nonsense.
    if varint.len() > 8 {
        return None;
    }
    let (last, more) = varint.split_last()?;
    if *last >= 0x80 || more.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    let bits = |value: u64, byte: &u8| value << 7 | u64::from(byte & 0x7F);
    Some((
        f64::from_le_bytes(*value),
        varint.iter().rev().fold(0, bits) as i64,
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::write_label;
    use kymo_plugin_api::kit::Collector;
    use proptest::prelude::*;

    fn message(number: u32, inner: &[u8], out: &mut Vec<u8>) {
        out.push((number << 3 | 2) as u8);
        let mut len = inner.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(inner);
    }

    /// A sample, its parts in either order or left out.
    fn sample_bytes(value: f64, time: i64, parts: &[bool]) -> Vec<u8> {
        let mut out = Vec::new();
        for is_value in parts {
            if *is_value {
                out.push(0x09);
                out.extend_from_slice(&value.to_le_bytes());
                continue;
            }
            out.push(0x10);
            let mut time = time as u64;
            while time >= 0x80 {
                out.push(time as u8 | 0x80);
                time >>= 7;
            }
            out.push(time as u8);
        }
        out
    }

    /// A part of a time series: a label, a sample, or another field.
    fn part() -> impl Strategy<Value = Vec<u8>> {
        let label = ("[a-z_]{0,4}|__name__", "[a-zé]{0,6}|[x]{150}");
        let time = prop_oneof![any::<i64>(), 0..2_000_000_000_000i64];
        let sample = (any::<f64>(), time, prop::collection::vec(any::<bool>(), 0..4));
        prop_oneof![
            3 => label.prop_map(|(name, value)| {
                let mut out = Vec::new();
                write_label(&name, &value, &mut out);
                out
            }),
            3 => sample.prop_map(|(value, time, parts)| {
                let mut out = Vec::new();
                message(field::SAMPLES, &sample_bytes(value, time, &parts), &mut out);
                out
            }),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ]
    }

    fn read(
        run: impl FnOnce(&mut Reader, Origin<'_>, &mut Collector) -> Result<(), Fault>,
    ) -> (Collector, String) {
        let (mut reader, mut collector) = (Reader::default(), Collector::default());
        let read = run(&mut reader, Origin { line: 1, text: b"" }, &mut collector);
        (collector, format!("{read:?} {}", reader.counts.samples))
    }

    proptest! {
        #[test]
        fn the_quick_way_reads_what_the_other_reads(parts in prop::collection::vec(part(), 0..6), sorted in any::<bool>()) {
            let mut parts = parts;
            if sorted {
                parts.sort_by_key(|part| part.first().copied());
            }
            let bytes = parts.concat();
            let quick = read(|reader, origin, sink| reader.series(&bytes, origin, sink));
            let other = read(|reader, origin, sink| reader.any_series(&bytes, origin, sink));
            prop_assert_eq!(quick, other);
        }
    }

    #[test]
    fn what_senders_send_goes_the_quick_way() {
        let mut series = Vec::new();
        write_label("__name__", "up", &mut series);
        write_label("job", "node", &mut series);
        let labels = series.len();
        let sample = sample_bytes(1.5, 1_793_491_200_000, &[true, false]);
        assert_eq!(plain_sample(&sample), Some((1.5, 1_793_491_200_000)));
        message(field::SAMPLES, &sample, &mut series);
        assert_eq!(plain(&series).map(|(found, _)| found.len()), Some(labels));
    }
}
