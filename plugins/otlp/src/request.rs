//! Walks requests: resources, scopes, metrics, points.

use crate::buckets::{Bucket, Explicit, Exponential};
use crate::series::{
    ATTRIBUTE, Attributes, LE, METRIC_NAME, QUANTILE, SCOPE_NAME, SCOPE_VERSION, SUFFIX, write,
};
use kymo_plugin_api::{Field, Origin, Rejection, Row, RowSink, SeriesRef, Value};
use kymo_plugin_reading::number::bound_text;
use kymo_plugin_reading::protobuf::{Broken, Message, Wire, zigzag};

/// A point of which its sender says that there is no value.
const NO_RECORDED_VALUE: u64 = 1;

/// What a metric's points are.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Histogram,
    Exponential,
    Summary,
}

/// Reads requests.
#[derive(Default)]
pub struct Reader {
    /// The spelling so far: resource, scope, metric, point, each adding to it.
    spelling: Vec<u8>,
    points: u64,
}

/// What is wrong with a point.
struct Fault(&'static str);

impl From<Broken> for Fault {
    fn from(_: Broken) -> Self {
        Self("broken message")
    }
}

impl From<&'static str> for Fault {
    fn from(reason: &'static str) -> Self {
        Self(reason)
    }
}

impl Reader {
    /// Reads a request. An error is the byte from which on it cannot be read.
    pub fn read(&mut self, request: &[u8], sink: &mut dyn RowSink) -> Result<(), usize> {
        self.points = 0;
        let mut message = Message::new(request);
        loop {
            let begin = message.at();
            let Some((number, wire)) = message.next_field().map_err(|broken| broken.at)? else {
                return Ok(());
            };
            if number == 1 {
                self.resource_metrics(wire, sink).map_err(|_| begin)?;
            }
        }
    }

    fn resource_metrics(&mut self, wire: Wire<'_>, sink: &mut dyn RowSink) -> Result<(), Broken> {
        let bytes = bytes(wire)?;
        self.spelling.clear();
        // Members may come in any order; attributes must be known before the metrics.
        each(bytes, 1, |resource| {
            each_bytes(resource, 1, |attribute| {
                write(ATTRIBUTE, attribute, &mut self.spelling)
            })
        })?;
        let len = self.spelling.len();
        each(bytes, 2, |scope| {
            self.spelling.truncate(len);
            self.scope_metrics(scope, sink)
        })
    }

    fn scope_metrics(&mut self, wire: Wire<'_>, sink: &mut dyn RowSink) -> Result<(), Broken> {
        let bytes = bytes(wire)?;
        each(bytes, 1, |scope| {
            each_bytes(scope, 1, |name| write(SCOPE_NAME, name, &mut self.spelling))?;
            each_bytes(scope, 2, |version| {
                write(SCOPE_VERSION, version, &mut self.spelling)
            })?;
            each_bytes(scope, 3, |attribute| {
                write(ATTRIBUTE, attribute, &mut self.spelling)
            })
        })?;
        let len = self.spelling.len();
        each(bytes, 2, |metric| {
            self.spelling.truncate(len);
            self.metric(metric, sink)
        })
    }

    fn metric(&mut self, wire: Wire<'_>, sink: &mut dyn RowSink) -> Result<(), Broken> {
        let bytes = bytes(wire)?;
        let mut name: &[u8] = &[];
        each_bytes(wire, 1, |text| name = text)?;
        write(METRIC_NAME, name, &mut self.spelling);
        let len = self.spelling.len();
        for (number, kind) in [
            (5, Kind::Number),
            (7, Kind::Number),
            (9, Kind::Histogram),
            (10, Kind::Exponential),
            (11, Kind::Summary),
        ] {
            each(bytes, number, |points| {
                each_bytes(points, 1, |point| {
                    self.points += 1;
                    self.spelling.truncate(len);
                    let origin = Origin {
                        line: self.points,
                        text: name,
                    };
                    if let Err(Fault(reason)) = self.point(kind, point, origin, sink) {
                        sink.reject(&Rejection {
                            origin,
                            column: 1,
                            reason,
                            context: &[],
                        });
                    }
                })
            })?;
        }
        Ok(())
    }

    fn point(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        origin: Origin<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        let mut point = Point::read(kind, bytes)?;
        if point.flags & NO_RECORDED_VALUE != 0 {
            sink.skip(1);
            return Ok(());
        }
        for attribute in &point.attributes {
            write(ATTRIBUTE, attribute, &mut self.spelling);
        }
        let len = self.spelling.len();
        // A sender that does not know the time says 0.
        let time = match point.time {
            0 => None,
            time => Some(i64::try_from(time).map_err(|_| Fault("time outside range"))?),
        };
        let emit = |spelling: &[u8], fields: &[Field<'_>], sink: &mut dyn RowSink| {
            sink.row(&Row {
                series: SeriesRef {
                    spelling,
                    reader: &Attributes,
                },
                time,
                fields,
                origin,
            });
        };
        let fields: Vec<Field<'_>> = point
            .fields
            .drain(..)
            .filter(|field| is_finite(&field.value))
            .collect();
        if fields.is_empty() {
            sink.skip(1);
            return Ok(());
        }
        emit(&self.spelling, &fields, sink);
        for (bound, count) in point.buckets()? {
            self.spelling.truncate(len);
            write(SUFFIX, b"_bucket", &mut self.spelling);
            write(LE, bound_text(bound).as_bytes(), &mut self.spelling);
            emit(&self.spelling, &[Field::new("value", Value::Float(count))], sink);
        }
        for (quantile, value) in point.quantiles {
            if !value.is_finite() {
                sink.skip(1);
                continue;
            }
            self.spelling.truncate(len);
            write(QUANTILE, bound_text(quantile).as_bytes(), &mut self.spelling);
            emit(&self.spelling, &[Field::new("value", Value::Float(value))], sink);
        }
        Ok(())
    }
}

fn is_finite(value: &Value<'_>) -> bool {
    !matches!(value, Value::Float(value) if !value.is_finite())
}

/// A point of any kind.
#[derive(Default)]
struct Point<'a> {
    attributes: Vec<&'a [u8]>,
    time: u64,
    flags: u64,
    fields: Vec<Field<'static>>,
    count: u64,
    explicit: Explicit<'a>,
    exponential: Option<Exponential<'a>>,
    quantiles: Vec<(f64, f64)>,
}

impl<'a> Point<'a> {
    fn read(kind: Kind, bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut message = Message::new(bytes);
        let mut out = Self::default();
        if let Kind::Exponential = kind {
            out.exponential = Some(Exponential::default());
        }
        while let Some((number, wire)) = message.next_field()? {
            out.member(kind, number, wire)?;
        }
        if !matches!(kind, Kind::Number) {
            let count = Field::new("count", Value::Float(out.count as f64));
            out.fields.insert(0, count);
        }
        Ok(out)
    }

    fn member(&mut self, kind: Kind, number: u32, wire: Wire<'a>) -> Result<(), Fault> {
        let double = || wire.double().ok_or(Fault("broken message"));
        let integer = || wire.integer().ok_or(Fault("broken message"));
        let mut float = |key, value: f64| self.fields.push(Field::new(key, Value::Float(value)));
        match (kind, number) {
            // Of all kinds alike.
            (_, 3) => self.time = integer()?,
            (Kind::Number | Kind::Summary, 7) | (Kind::Histogram, 9) | (Kind::Exponential, 1) => {
                self.attributes.push(bytes_of(wire)?);
            }
            (Kind::Number | Kind::Summary, 8) | (Kind::Histogram | Kind::Exponential, 10) => {
                self.flags = integer()?;
            }
            (Kind::Number, 4) => float("value", double()?),
            (Kind::Number, 6) => float("value", integer()? as i64 as f64),
            (Kind::Histogram | Kind::Exponential | Kind::Summary, 4) => self.count = integer()?,
            (Kind::Histogram | Kind::Exponential | Kind::Summary, 5) => float("sum", double()?),
            (Kind::Histogram, 6) => self.explicit.counts.push(wire),
            (Kind::Histogram, 7) => self.explicit.bounds.push(wire),
            (Kind::Histogram, 11) | (Kind::Exponential, 12) => float("min", double()?),
            (Kind::Histogram, 12) | (Kind::Exponential, 13) => float("max", double()?),
            (Kind::Summary, 6) => {
                let mut message = Message::new(bytes_of(wire)?);
                let (mut quantile, mut value) = (0.0, 0.0);
                while let Some((number, wire)) = message.next_field()? {
                    match number {
                        1 => quantile = wire.double().ok_or(Fault("broken message"))?,
                        2 => value = wire.double().ok_or(Fault("broken message"))?,
                        _ => {}
                    }
                }
                self.quantiles.push((quantile, value));
            }
            (Kind::Exponential, number) => {
                let Some(exponential) = &mut self.exponential else {
                    return Ok(());
                };
                match number {
                    6 => exponential.scale = zigzag(integer()?),
                    7 => exponential.zero_count = integer()?,
                    8 => exponential.positive = Some(wire),
                    9 => exponential.negative = Some(wire),
                    14 => exponential.zero_threshold = double()?,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn buckets(&self) -> Result<Vec<Bucket>, Fault> {
        Ok(match &self.exponential {
            Some(exponential) => exponential.cumulate(self.count)?,
            None => self.explicit.cumulate()?,
        })
    }
}

fn bytes(wire: Wire<'_>) -> Result<&[u8], Broken> {
    wire.bytes().ok_or(Broken { at: 0 })
}

fn bytes_of(wire: Wire<'_>) -> Result<&[u8], Fault> {
    wire.bytes().ok_or(Fault("broken message"))
}

/// Every member of a message with this number.
fn each<'a>(
    bytes: &'a [u8],
    wanted: u32,
    mut act: impl FnMut(Wire<'a>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut message = Message::new(bytes);
    while let Some((number, wire)) = message.next_field()? {
        if number == wanted {
            act(wire)?;
        }
    }
    Ok(())
}

/// The same for members that are bytes.
fn each_bytes<'a>(of: Wire<'a>, wanted: u32, mut act: impl FnMut(&'a [u8])) -> Result<(), Broken> {
    each(bytes(of)?, wanted, |wire| {
        act(bytes(wire)?);
        Ok(())
    })
}
