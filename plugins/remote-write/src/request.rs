//! Walks requests. 1.0 has time series with labels in field 1; 2.0 has symbols in field 4 and time series with references to
//! them in field 5; neither uses the other's fields.

use crate::histogram::{Histogram, Part};
use crate::labels::{LABELS, Labels, Version, write_label, write_suffix};
use kymo_plugin_api::series::column_of;
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

/// The same, and the part of the request that is at fault.
#[derive(Debug)]
struct Placed<'a> {
    reason: &'static str,
    part: &'a [u8],
}

impl<'a> Placed<'a> {
    fn new(fault: impl Into<Fault>, part: &'a [u8]) -> Self {
        let Fault(reason) = fault.into();
        Self { reason, part }
    }
}

/// The fields of a message, and where each begins; what is broken is told with its place.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, u32, Wire<'_>), Placed<'_>>> {
    let mut message = Message::new(bytes);
    std::iter::from_fn(move || {
        let begin = message.at();
        let field = message.next_field().transpose()?;
        let placed = |broken: Broken| Placed::new(broken, &bytes[broken.at..]);
        Some(field.map(|(number, wire)| (begin, number, wire)).map_err(placed))
    })
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
    message: &'a [u8],
    version: Version,
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
                Err(broken) => (Err(Placed::new(broken, &[])), &piece[begin..], 0),
            };
            if let Err(Placed { reason, part }) = read {
                sink.reject(&Rejection {
                    origin: Origin {
                        line: index.max(1),
                        text,
                    },
                    column: column_of(text, part).unwrap_or(1),
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

    fn series<'a>(
        &mut self,
        message: &'a [u8],
        origin: Origin<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Placed<'a>> {
        let Some((labels, samples)) = plain(message) else {
            return self.any_series(message, origin, sink);
        };
        let series = Series {
            labels,
            origin,
            message,
            version: Version::One,
        };
        self.samples(samples, series, sink)
    }

    fn any_series<'a>(
        &mut self,
        message: &'a [u8],
        origin: Origin<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Placed<'a>> {
        // Labels come first and together from every sender; otherwise they are put together.
        let mut spelling = std::mem::take(&mut self.spelling);
        spelling.clear();
        let (mut start, mut end, mut together) = (0, 0, true);
        for field in fields(message) {
            let (begin, number, wire) = field?;
            if number != LABELS {
                continue;
            }
            let label = wire
                .bytes()
                .ok_or(Placed::new(Fault::BROKEN, &message[begin..]))?;
            let after = place_after(message, label);
            if together && end > start && end != begin {
                together = false;
                spelling.extend_from_slice(&message[start..end]);
            }
            if !together {
                spelling.extend_from_slice(&message[begin..after]);
            } else if end == start {
                start = begin;
            }
            end = after;
        }
        let labels = if together { &message[start..end] } else { &spelling };
        let series = Series {
            labels,
            origin,
            message,
            version: Version::One,
        };
        let read = self.values(message, series, field::HISTOGRAMS, sink);
        self.spelling = spelling;
        read
    }

    fn series_v2<'a>(
        &mut self,
        message: &'a [u8],
        symbols: &[&[u8]],
        origin: Origin<'a>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Placed<'a>> {
        let mut spelling = std::mem::take(&mut self.spelling);
        spelling.clear();
        let mut name = None;
        for field in fields(message) {
            let (begin, number, wire) = field?;
            if number != LABELS {
                continue;
            }
            let placed = |fault: Fault| Placed::new(fault, &message[begin..]);
            for reference in wire.varints() {
                let reference = reference.map_err(|broken| placed(broken.into()))?;
                let symbol = usize::try_from(reference).ok().and_then(|at| symbols.get(at));
                let symbol = symbol.ok_or(Fault("label refers to a symbol that is not there"));
                let symbol = std::str::from_utf8(symbol.map_err(placed)?);
                let symbol = symbol.map_err(|_| placed(Fault("invalid UTF-8")))?;
                match name.take() {
                    None => name = Some(symbol),
                    Some(name) => write_label(name, symbol, &mut spelling),
                }
            }
        }
        if name.is_some() {
            return Err(Placed::new(Fault("label without a value"), message));
        }
        let series = Series {
            labels: &spelling,
            origin,
            message,
            version: Version::Two,
        };
        let read = self.values(message, series, field::HISTOGRAMS_V2, sink);
        self.spelling = spelling;
        read
    }

    /// Samples one after the other, with nothing between, as [`plain`] found them.
    fn samples<'a>(
        &mut self,
        mut bytes: &'a [u8],
        series: Series<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Placed<'a>> {
        while let [_, len, rest @ ..] = bytes {
            let (one, rest) = rest
                .split_at_checked(usize::from(*len))
                .ok_or(Placed::new(Fault::BROKEN, bytes))?;
            bytes = rest;
            self.sample(one, series, sink)
                .map_err(|fault| Placed::new(fault, one))?;
        }
        Ok(())
    }

    #[inline]
    fn sample(&mut self, bytes: &[u8], series: Series<'_>, sink: &mut dyn RowSink) -> Result<(), Fault> {
        let (value, time) = match plain_sample(bytes) {
            Some(read) => read,
            None => sample(bytes)?,
        };
        self.counts.samples += 1;
        if value.is_finite() {
            return row(series.labels, series, bytes, time, value, sink);
        }
        sink.skip(1);
        Ok(())
    }

    /// The samples and histograms of a time series.
    fn values<'a>(
        &mut self,
        bytes: &'a [u8],
        series: Series<'_>,
        histograms: u32,
        sink: &mut dyn RowSink,
    ) -> Result<(), Placed<'a>> {
        for field in fields(bytes) {
            let (begin, number, wire) = field?;
            if number != field::SAMPLES && number != histograms {
                continue;
            }
            let inner = wire.bytes().ok_or(Placed::new(Fault::BROKEN, &bytes[begin..]))?;
            let read = match number == histograms {
                true => self.any_histogram(inner, series, sink),
                false => self.sample(inner, series, sink),
            };
            read.map_err(|fault| Placed::new(fault, inner))?;
        }
        Ok(())
    }

    fn any_histogram(
        &mut self,
        bytes: &[u8],
        series: Series<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let histogram = Histogram::read(bytes)?;
        self.counts.histograms += 1;
        if histogram.is_finite() {
            return self.histogram(&histogram, bytes, series, sink);
        }
        sink.skip(1);
        Ok(())
    }

    fn histogram(
        &mut self,
        histogram: &Histogram<'_>,
        bytes: &[u8],
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
            row(out, series, bytes, histogram.time, value, sink)?;
        }
        Ok(())
    }
}

/// The byte of `message` behind `part` of it.
fn place_after(message: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize + part.len() - message.as_ptr() as usize
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

/// A row of a sample or histogram, `from`.
fn row(
    labels: &[u8],
    series: Series<'_>,
    from: &[u8],
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
            reader: &Labels {
                text: series.origin.text,
                series: series.message,
                version: series.version,
                from,
            },
        },
        time: Some(time),
        fields: &[Field::new("value", Value::Float(value))],
        origin: series.origin,
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

    fn read<'a>(
        run: impl FnOnce(&mut Reader, Origin<'static>, &mut Collector) -> Result<(), Placed<'a>>,
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
