//! OTLP/HTTP metrics: gauges, sums, histograms, exponential histograms and summaries, as Protobuf or JSON.
//!
//! `request` walks requests and makes rows, `series` is how series are spelt and what attributes are as tags, `buckets` reads
//! histograms, `json` turns OTLP's JSON into its Protobuf, `answer` replies as OTLP asks. docs/formats/ingest.md tells users.

mod answer;
mod buckets;
mod json;
mod request;
mod series;

use kymo_plugin_api::{
    Answer, Decoder, Format, Framing, OptionError, Options, Origin, Rejection, RowSink, Tally,
};

/// The format. It has no options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Otlp;

impl Format for Otlp {
    fn name(&self) -> &'static str {
        "otlp"
    }

    fn about(&self) -> &'static str {
        "OpenTelemetry metrics (OTLP/HTTP), Protobuf or JSON"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/v1/metrics", "/api/v1/otlp/v1/metrics"]
    }

    fn counts(&self) -> &'static str {
        "point"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::LengthPrefixed, Framing::Whole]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        Ok(Box::new(OtlpDecoder::default()))
    }
}

#[derive(Default)]
struct OtlpDecoder {
    reader: request::Reader,
    is_json: bool,
    is_broken: bool,
}

impl Decoder for OtlpDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        // A request in Protobuf begins with the key of its only member.
        self.is_json = piece.trim_ascii_start().first() == Some(&b'{');
        self.is_broken = false;
        let mut encoded = Vec::new();
        let request = if self.is_json {
            match json::to_protobuf(piece, &mut encoded) {
                Ok(()) => encoded.as_slice(),
                Err((at, reason)) => {
                    self.is_broken = true;
                    return reject(piece, at, &reason, sink);
                }
            }
        } else {
            piece
        };
        if let Err(at) = self.reader.read(request, !self.is_json, sink) {
            self.is_broken = true;
            reject(request, at, "broken message", sink);
        }
    }

    fn answer(&mut self, tally: &Tally<'_>) -> Option<Answer> {
        Some(answer::answer(tally, self.is_json, self.is_broken))
    }
}

fn reject(text: &[u8], at: usize, reason: &str, sink: &mut dyn RowSink) {
    sink.reject(&Rejection {
        origin: Origin { line: 1, text },
        column: at.min(text.len()) as u64 + 1,
        reason,
        context: &[],
    });
}
