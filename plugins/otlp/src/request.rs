//! Walks requests: resources, scopes, metrics, points.

use crate::buckets::{Bucket, Explicit, Exponential};
use crate::series::{
    ATTRIBUTE, Around, Attributes, LE, METRIC_NAME, QUANTILE, SCOPE_NAME, SCOPE_VERSION, SUFFIX, write,
};
use kymo_plugin_api::series::column_of;
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

impl Kind {
    /// The number of its attributes.
    fn attributes(self) -> u32 {
        match self {
            Self::Number | Self::Summary => 7,
            Self::Histogram => 9,
            Self::Exponential => 1,
        }
    }
}

/// Reads requests.
#[derive(Default)]
pub struct Reader {
    /// The spelling so far: resource, scope, metric, point, each adding to it.
    spelling: Vec<u8>,
    points: u64,
}

/// What is wrong, and the part of the request that is at fault.
struct Fault<'a> {
    reason: &'static str,
    part: &'a [u8],
}

const BROKEN: &str = "broken message";

impl<'a> Fault<'a> {
    fn new(reason: &'static str, part: &'a [u8]) -> Self {
        Self { reason, part }
    }
}

impl Reader {
    /// Reads a request. Its bytes are told where something is wrong, if they are what the sender sent. An error is the byte from which on it cannot
    /// be read.
    pub fn read(&mut self, request: &[u8], is_sent: bool, sink: &mut dyn RowSink) -> Result<(), usize> {
        self.points = 0;
        let around = Around {
            request: if is_sent { request } else { &[] },
            ..Around::default()
        };
        let read = each(request, 1, |resource| {
            self.resource_metrics(around, resource, sink)
        });
        read.map_err(|fault| column_of(request, fault.part).map_or(0, |column| column as usize - 1))
    }

    fn resource_metrics<'a>(
        &mut self,
        around: Around<'a>,
        resource_metrics: &'a [u8],
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault<'a>> {
        self.spelling.clear();
        // Members may come in any order; attributes must be known before the metrics.
        each(resource_metrics, 1, |resource| {
            each(resource, 1, |attribute| {
                write(ATTRIBUTE, attribute, &mut self.spelling);
                Ok(())
            })
        })?;
        let len = self.spelling.len();
        let around = Around {
            resource_metrics,
            ..around
        };
        each(resource_metrics, 2, |scope| {
            self.spelling.truncate(len);
            self.scope_metrics(around, scope, sink)
        })
    }

    fn scope_metrics<'a>(
        &mut self,
        around: Around<'a>,
        scope_metrics: &'a [u8],
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault<'a>> {
        each(scope_metrics, 1, |scope| {
            for (number, member) in [(1, SCOPE_NAME), (2, SCOPE_VERSION), (3, ATTRIBUTE)] {
                each(scope, number, |bytes| {
                    write(member, bytes, &mut self.spelling);
                    Ok(())
                })?;
            }
            Ok(())
        })?;
        let len = self.spelling.len();
        let around = Around {
            scope_metrics,
            ..around
        };
        each(scope_metrics, 2, |metric| {
            self.spelling.truncate(len);
            self.metric(around, metric, sink)
        })
    }

    fn metric<'a>(
        &mut self,
        around: Around<'a>,
        bytes: &'a [u8],
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault<'a>> {
        let mut name: &[u8] = &[];
        each(bytes, 1, |text| {
            name = text;
            Ok(())
        })?;
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
                each(points, 1, |point| {
                    self.points += 1;
                    self.spelling.truncate(len);
                    let origin = Origin {
                        line: self.points,
                        text: name,
                    };
                    let around = Around {
                        name,
                        point,
                        attributes: kind.attributes(),
                        ..around
                    };
                    if let Err(fault) = self.point(kind, around, origin, sink) {
                        sink.reject(&Rejection {
                            origin,
                            column: column_of(around.request, fault.part).unwrap_or(1),
                            reason: fault.reason,
                            context: &[],
                        });
                    }
                    Ok(())
                })
            })?;
        }
        Ok(())
    }

    fn point<'a>(
        &mut self,
        kind: Kind,
        around: Around<'a>,
        origin: Origin<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault<'a>> {
        let mut point = Point::read(kind, around.point)?;
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
            time => Some(i64::try_from(time).map_err(|_| Fault::new("time outside range", around.point))?),
        };
        let emit = |spelling: &[u8], fields: &[Field<'_>], sink: &mut dyn RowSink| {
            sink.row(&Row {
                series: SeriesRef {
                    spelling,
                    reader: &Attributes(around),
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
        let buckets = point
            .buckets()
            .map_err(|reason| Fault::new(reason, around.point))?;
        for (bound, count) in buckets {
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
    fn read(kind: Kind, bytes: &'a [u8]) -> Result<Self, Fault<'a>> {
        let mut message = Message::new(bytes);
        let mut out = Self::default();
        if let Kind::Exponential = kind {
            out.exponential = Some(Exponential::default());
        }
        loop {
            let part = &bytes[message.at()..];
            let placed = |_: Broken| Fault::new(BROKEN, part);
            let Some((number, wire)) = message.next_field().map_err(placed)? else {
                break;
            };
            out.member(kind, number, wire).map_err(placed)?;
        }
        if !matches!(kind, Kind::Number) {
            let count = Field::new("count", Value::Float(out.count as f64));
            out.fields.insert(0, count);
        }
        Ok(out)
    }

    fn member(&mut self, kind: Kind, number: u32, wire: Wire<'a>) -> Result<(), Broken> {
        let broken = Broken { at: 0 };
        let bytes = || wire.bytes().ok_or(broken);
        let double = || wire.double().ok_or(broken);
        let integer = || wire.integer().ok_or(broken);
        let mut float = |key, value: f64| self.fields.push(Field::new(key, Value::Float(value)));
        match (kind, number) {
            // Of all kinds alike.
            (_, 3) => self.time = integer()?,
            (kind, number) if number == kind.attributes() => self.attributes.push(bytes()?),
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
                let mut message = Message::new(bytes()?);
                let (mut quantile, mut value) = (0.0, 0.0);
                while let Some((number, wire)) = message.next_field()? {
                    match number {
                        1 => quantile = wire.double().ok_or(broken)?,
                        2 => value = wire.double().ok_or(broken)?,
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

    fn buckets(&self) -> Result<Vec<Bucket>, &'static str> {
        Ok(match &self.exponential {
            Some(exponential) => exponential.cumulate(self.count)?,
            None => self.explicit.cumulate()?,
        })
    }
}

/// Every member of a message with this number, which is to have bytes.
fn each<'a>(
    bytes: &'a [u8],
    wanted: u32,
    mut act: impl FnMut(&'a [u8]) -> Result<(), Fault<'a>>,
) -> Result<(), Fault<'a>> {
    let mut message = Message::new(bytes);
    loop {
        let part = &bytes[message.at()..];
        let broken = Fault::new(BROKEN, part);
        match message.next_field() {
            Ok(None) => return Ok(()),
            Ok(Some((number, wire))) if number == wanted => act(wire.bytes().ok_or(broken)?)?,
            Ok(Some(_)) => {}
            Err(_) => return Err(broken),
        }
    }
}
