//! Kymo's own Protobuf messages, as `schemas/kymo.proto` has them.
//!
//! Read from the wire without building messages: keys, texts and the series are borrowed from the input. The series of a
//! point is known by the very bytes of its measurement and tags.

use kymo_plugin_api::series::{column_of, tag_place};
use kymo_plugin_api::{
    Decoder, Field, Format, Framing, OptionError, Options, Origin, Rejection, Row, RowSink, SeriesParts,
    SeriesRef, SeriesSpelling, Value,
};
use kymo_plugin_reading::protobuf::{Broken, Message, Wire, zigzag};

/// The format. It has no options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protobuf;

impl Format for Protobuf {
    fn name(&self) -> &'static str {
        "protobuf"
    }

    fn about(&self) -> &'static str {
        "Kymo's own Protobuf messages: schemas/kymo.proto"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &["application/vnd.kymo.protobuf"]
    }

    fn counts(&self) -> &'static str {
        "point"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::LengthPrefixed, Framing::Whole]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        Ok(Box::new(ProtobufDecoder::default()))
    }
}

/// Fields of the messages.
mod number {
    pub const POINTS: u32 = 1;
    pub const MEASUREMENT: u32 = 1;
    pub const TAGS: u32 = 2;
    pub const FIELDS: u32 = 3;
    pub const TIME: u32 = 4;
    pub const KEY: u32 = 1;
    pub const TAG_VALUE: u32 = 2;
    pub const FLOAT: u32 = 2;
    pub const INTEGER: u32 = 3;
    pub const UNSIGNED: u32 = 4;
    pub const TEXT: u32 = 5;
    pub const BOOLEAN: u32 = 6;
}

#[derive(Default)]
struct ProtobufDecoder {
    /// Spellings that are not in one piece in the input.
    scratch: Vec<u8>,
}

/// What is wrong with a point, and at which of its bytes.
struct Fault(usize, &'static str);

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self(broken.at, "broken message")
    }
}

impl Decoder for ProtobufDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        // Lives here rather than in the decoder: it borrows from the piece.
        let mut fields = Vec::new();
        let mut batch = Message::new(piece);
        let mut index = 0;
        loop {
            let begin = batch.at();
            match batch.next_field() {
                Ok(None) => return,
                Ok(Some((number::POINTS, wire))) => {
                    index += 1;
                    let text = &piece[begin..batch.at()];
                    let point = match wire {
                        Wire::Bytes(point) => {
                            self.point(point, Origin { line: index, text }, &mut fields, sink)
                        }
                        _ => Err(Fault(0, "broken message")),
                    };
                    if let Err(Fault(at, reason)) = point {
                        // Behind the key and the length of the point.
                        let head = text.len() - wire.bytes().map_or(0, <[u8]>::len);
                        reject(index, text, head + at, reason, sink);
                    }
                }
                Ok(Some(_)) => {}
                Err(_) => return reject(index.max(1), &piece[begin..], 0, "broken message", sink),
            }
        }
    }
}

fn reject(line: u64, text: &[u8], at: usize, reason: &str, sink: &mut dyn RowSink) {
    sink.reject(&Rejection {
        origin: Origin { line, text },
        column: at as u64 + 1,
        reason,
        context: &[],
    });
}

impl ProtobufDecoder {
    fn point<'a>(
        &mut self,
        point: &'a [u8],
        origin: Origin<'_>,
        fields: &mut Vec<Field<'a>>,
        sink: &mut dyn RowSink,
    ) -> Result<(), Fault> {
        fields.clear();
        let mut message = Message::new(point);
        let mut time = None;
        // Measurement and tags come first and together from every encoder; otherwise they are put together.
        let (mut start, mut end, mut together) = (0, 0, true);
        self.scratch.clear();
        loop {
            let begin = message.at();
            let Some((field, wire)) = message.next_field()? else {
                break;
            };
            match (field, wire) {
                (number::MEASUREMENT | number::TAGS, Wire::Bytes(_)) => {
                    if together && end > start && end != begin {
                        together = false;
                        self.scratch.extend_from_slice(&point[start..end]);
                    }
                    if !together {
                        self.scratch.extend_from_slice(&point[begin..message.at()]);
                    } else if end == start {
                        start = begin;
                    }
                    end = message.at();
                }
                (number::FIELDS, Wire::Bytes(bytes)) => {
                    let inner = message.at() - bytes.len();
                    match read_field(bytes) {
                        Ok(field) => fields.push(field),
                        Err(Fault(at, reason)) => return Err(Fault(inner + at, reason)),
                    }
                }
                (number::TIME, Wire::Fixed64(value)) => time = Some(value as i64),
                (number::MEASUREMENT | number::TAGS | number::FIELDS | number::TIME, _) => {
                    return Err(Fault(begin, "broken message"));
                }
                _ => {}
            }
        }
        if fields.is_empty() {
            return Err(Fault(point.len(), "missing fields"));
        }
        let spelling = if together {
            &point[start..end]
        } else {
            &self.scratch
        };
        sink.row(&Row {
            series: SeriesRef {
                spelling,
                reader: &MeasurementAndTags {
                    point,
                    text: origin.text,
                },
            },
            time,
            fields,
            origin,
        });
        Ok(())
    }
}

fn read_field(bytes: &[u8]) -> Result<Field<'_>, Fault> {
    let mut message = Message::new(bytes);
    let (mut key, mut value) = ("", None);
    loop {
        let begin = message.at();
        let Some((field, wire)) = message.next_field()? else {
            break;
        };
        let text = || wire.text().ok_or(Fault(begin, "invalid UTF-8"));
        match (field, wire) {
            (number::KEY, _) => key = text()?,
            (number::FLOAT, Wire::Fixed64(bits)) => {
                let float = f64::from_bits(bits);
                if !float.is_finite() {
                    return Err(Fault(begin, "NaN and infinity cannot be stored"));
                }
                value = Some(Value::Float(float));
            }
            (number::INTEGER, Wire::Varint(v)) => value = Some(Value::Integer(zigzag(v))),
            (number::UNSIGNED, Wire::Varint(v)) => value = Some(Value::Unsigned(v)),
            (number::TEXT, _) => value = Some(Value::String(text()?)),
            (number::BOOLEAN, Wire::Varint(v)) => value = Some(Value::Boolean(v != 0)),
            (number::FLOAT..=number::BOOLEAN, _) => return Err(Fault(begin, "broken message")),
            _ => {}
        }
    }
    match value {
        _ if key.is_empty() => Err(Fault(bytes.len(), "missing field key")),
        None => Err(Fault(bytes.len(), "missing field value")),
        Some(value) => Ok(Field::new(key, value)),
    }
}

/// The spelling of a series is a message with nothing but measurement and tags. The point they are of says where they stand.
struct MeasurementAndTags<'a> {
    point: &'a [u8],
    text: &'a [u8],
}

impl<'a> MeasurementAndTags<'a> {
    /// Members of the point that `is_wanted` takes, from the byte on where each begins.
    fn members(&self, is_wanted: impl Fn(u32) -> bool) -> impl Iterator<Item = &'a [u8]> {
        let (point, mut message) = (self.point, Message::new(self.point));
        let all = std::iter::from_fn(move || {
            let begin = message.at();
            let (number, _) = message.next_field().ok()??;
            Some((number, point.get(begin..message.at())?))
        });
        all.filter(move |(number, _)| is_wanted(*number))
            .map(|(_, member)| member)
    }

    /// The column of the member of the point that holds this byte of the spelling.
    fn column(&self, spelling: &[u8], at: usize) -> Option<u64> {
        let mut end = 0;
        let mut members = self.members(|member| matches!(member, number::MEASUREMENT | number::TAGS));
        let holds = |member: &&[u8]| {
            end += member.len();
            at < end
        };
        tag_place(self.text, spelling, members.find(holds)?)
    }
}

impl SeriesSpelling for MeasurementAndTags<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let mut message = Message::new(spelling);
        let mut read = || -> Result<(), Fault> {
            loop {
                let begin = message.at();
                let utf8 = || Fault(begin, "invalid UTF-8");
                match message.next_field()? {
                    None => return Ok(()),
                    Some((number::MEASUREMENT, wire)) => {
                        parts.measurement = wire.text().ok_or_else(utf8)?.to_string();
                    }
                    Some((_, wire)) => {
                        let mut tag = Message::new(wire.bytes().unwrap_or_default());
                        let (mut key, mut value) = ("", "");
                        while let Some((field, wire)) =
                            tag.next_field().map_err(|_| Fault(begin, "broken message"))?
                        {
                            match field {
                                number::KEY => key = wire.text().ok_or_else(utf8)?,
                                number::TAG_VALUE => value = wire.text().ok_or_else(utf8)?,
                                _ => {}
                            }
                        }
                        parts.tags.push((key.to_string(), value.to_string()));
                    }
                }
            }
        };
        let column = |at| self.column(spelling, at).unwrap_or(1);
        read().map_err(|Fault(at, reason)| (column(at), reason.to_string()))?;
        if parts.measurement.is_empty() {
            return Err((1, "missing measurement".into()));
        }
        Ok(())
    }

    fn tag_column(&self, spelling: &[u8], tag: usize) -> Option<u64> {
        let tag = self.members(|member| member == number::TAGS).nth(tag)?;
        tag_place(self.text, spelling, tag)
    }

    fn field_column(&self, text: &[u8], field: usize, _: &str) -> Option<u64> {
        let field = self.members(|member| member == number::FIELDS).nth(field)?;
        column_of(text, field)
    }

    fn time_column(&self, text: &[u8]) -> Option<u64> {
        // Of several the last counts.
        column_of(text, self.members(|member| member == number::TIME).last()?)
    }
}
