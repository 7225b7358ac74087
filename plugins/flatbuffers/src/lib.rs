//! Kymo's own FlatBuffers, as `schemas/kymo.fbs` has them: verified, then read where they lie.
//!
//! `schema` is made by flatc (see generate.sh) and committed; a test checks that it is current.

#[allow(
    unsafe_code,
    missing_docs,
    unused_qualifications,
    unused_imports,
    clippy::all,
    clippy::unwrap_used,
    clippy::disallowed_methods
)]
#[rustfmt::skip]
pub mod schema;

use flatbuffers::{InvalidFlatbuffer, VerifierOptions, root_with_opts};
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{
    Decoder, Field, Format, Framing, OptionError, Options, Origin, Rejection, Row, RowSink, SeriesParts,
    SeriesRef, SeriesSpelling, Value,
};
use schema::kymo::v_1::{self as kymo, Kind};

/// The format. It has no options.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlatBuffers;

/// Parts of a buffer may be used several times; so many bytes may be read for each that was sent.
const SHARING_MAX: usize = 32;
/// What numbers of 64 bits must be aligned to.
const ALIGNMENT: usize = 8;

impl Format for FlatBuffers {
    fn name(&self) -> &'static str {
        "flatbuffers"
    }

    fn about(&self) -> &'static str {
        "Kymo's own FlatBuffers: schemas/kymo.fbs"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &["application/vnd.kymo.flatbuffers"]
    }

    fn counts(&self) -> &'static str {
        "point"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::LengthPrefixed, Framing::Whole]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        Ok(Box::new(FlatBuffersDecoder::default()))
    }
}

#[derive(Default)]
struct FlatBuffersDecoder {
    /// For buffers that do not lie as they must.
    aligned: Vec<u8>,
    spelling: Vec<u8>,
}

impl Decoder for FlatBuffersDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        if piece.is_empty() {
            return;
        }
        let mut aligned = std::mem::take(&mut self.aligned);
        let buffer = align(piece, &mut aligned);
        if let Err((at, reason)) = self.batch(buffer, sink) {
            sink.reject(&Rejection {
                origin: Origin { line: 1, text: piece },
                column: at.min(piece.len()) as u64 + 1,
                reason: &reason,
                context: &[],
            });
        }
        self.aligned = aligned;
    }
}

/// The bytes as they lie, or a copy that lies right.
fn align<'a>(piece: &'a [u8], copy: &'a mut Vec<u8>) -> &'a [u8] {
    if (piece.as_ptr() as usize).is_multiple_of(ALIGNMENT) {
        return piece;
    }
    copy.clear();
    copy.resize(piece.len() + ALIGNMENT, 0);
    let start = (copy.as_ptr() as usize).next_multiple_of(ALIGNMENT) - copy.as_ptr() as usize;
    let place = &mut copy[start..start + piece.len()];
    place.copy_from_slice(piece);
    place
}

/// Where a buffer is broken.
fn place(error: &InvalidFlatbuffer) -> usize {
    match error {
        InvalidFlatbuffer::Utf8Error { range, .. }
        | InvalidFlatbuffer::MissingNullTerminator { range, .. }
        | InvalidFlatbuffer::RangeOutOfBounds { range, .. } => range.start,
        InvalidFlatbuffer::Unaligned { position, .. }
        | InvalidFlatbuffer::SignedOffsetOutOfBounds { position, .. } => *position,
        _ => 0,
    }
}

/// Reads the series of a point, whose parts say where in the buffer they are.
struct Place<'a>(kymo::Point<'a>);

impl SeriesSpelling for Place<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        PlainSpelling.read(spelling, parts)
    }

    fn tag_column(&self, _: &[u8], tag: usize) -> Option<u64> {
        let tag = self.0.tags()?.iter().nth(tag)?;
        Some(tag._tab.loc() as u64 + 1)
    }

    fn field_column(&self, _: &[u8], field: usize, _: &str) -> Option<u64> {
        let field = self.0.fields().iter().nth(field)?;
        Some(field._tab.loc() as u64 + 1)
    }

    fn time_column(&self, _: &[u8]) -> Option<u64> {
        Some(self.0._tab.loc() as u64 + 1)
    }
}

impl FlatBuffersDecoder {
    fn batch(&mut self, buffer: &[u8], sink: &mut dyn RowSink) -> Result<(), (usize, String)> {
        let identifier = buffer.get(4..8).unwrap_or_default();
        if identifier != b"KYMB" {
            return Err((0, "no buffer of Kymo (its identifier is KYMB)".into()));
        }
        let options = VerifierOptions {
            max_apparent_size: buffer.len().saturating_mul(SHARING_MAX),
            max_tables: buffer.len(),
            ..VerifierOptions::default()
        };
        let batch = root_with_opts::<kymo::Batch<'_>>(&options, buffer).map_err(|error| {
            let text = error.to_string();
            let reason = format!("broken buffer: {}", text.lines().next().unwrap_or(""));
            (place(&error), reason)
        })?;
        let mut fields = Vec::new();
        for (line, point) in (1..).zip(batch.points().into_iter().flatten()) {
            // What stands for the point in messages; there is no text of it.
            let origin = Origin {
                line,
                text: point.measurement().as_bytes(),
            };
            if let Err((at, reason)) = self.point(point, origin, &mut fields, sink) {
                sink.reject(&Rejection {
                    origin,
                    column: at as u64 + 1,
                    reason,
                    context: &[],
                });
            }
        }
        Ok(())
    }

    fn point<'a>(
        &mut self,
        point: kymo::Point<'a>,
        origin: Origin<'_>,
        fields: &mut Vec<Field<'a>>,
        sink: &mut dyn RowSink,
    ) -> Result<(), (usize, &'static str)> {
        fields.clear();
        for field in point.fields() {
            let value = match field.kind() {
                Kind::Float if !field.float().is_finite() => {
                    return Err((field._tab.loc(), "NaN and infinity cannot be stored"));
                }
                Kind::Float => Value::Float(field.float()),
                Kind::Integer => Value::Integer(field.integer()),
                Kind::Unsigned => Value::Unsigned(field.unsigned()),
                Kind::Text => Value::String(field.text().unwrap_or_default()),
                Kind::Boolean => Value::Boolean(field.boolean()),
                _ => return Err((field._tab.loc(), "unknown kind of field")),
            };
            fields.push(Field::new(field.key(), value));
        }
        if fields.is_empty() {
            return Err((point._tab.loc(), "missing fields"));
        }
        if point.measurement().is_empty() {
            return Err((point._tab.loc(), "missing measurement"));
        }
        let tags = point.tags().into_iter().flatten();
        let tags: Vec<(&str, &str)> = tags
            .map(|tag| (tag.key(), tag.value().unwrap_or_default()))
            .collect();
        SeriesParts::spell(point.measurement(), &tags, &mut self.spelling);
        sink.row(&Row {
            series: SeriesRef {
                spelling: &self.spelling,
                reader: &Place(point),
            },
            time: point.time(),
            fields,
            origin,
        });
        Ok(())
    }
}
