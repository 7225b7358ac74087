//! Prometheus remote write 1.0 and 2.0, told apart by their fields. Bodies are snappy-compressed; the server has unpacked them before.
//!
//! `request` walks requests of both versions, `labels` is how series are spelt, `histogram` takes native histograms apart into the
//! series of classic ones. docs/formats/ingest.md tells users.

mod histogram;
mod labels;
mod request;

use kymo_plugin_api::{Answer, Decoder, Format, Framing, OptionError, Options, RowSink, Tally};

/// The format. It has no options.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoteWrite;

impl Format for RemoteWrite {
    fn name(&self) -> &'static str {
        "remote-write"
    }

    fn about(&self) -> &'static str {
        "Prometheus remote write 1.0 and 2.0"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &[
            "application/x-protobuf",
            "application/x-protobuf;proto=prometheus.writerequest",
            "application/x-protobuf;proto=io.prometheus.write.v2.request",
        ]
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/api/v1/write", "/api/v1/prom/write"]
    }

    fn counts(&self) -> &'static str {
        "time series"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::LengthPrefixed, Framing::Whole]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        Ok(Box::new(RemoteWriteDecoder::default()))
    }
}

#[derive(Default)]
struct RemoteWriteDecoder {
    reader: request::Reader,
}

impl Decoder for RemoteWriteDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        self.reader.read(piece, sink);
    }

    fn answer(&mut self, tally: &Tally<'_>) -> Option<Answer> {
        let counts = &self.reader.counts;
        if !counts.is_v2 {
            return None;
        }
        // 2.0 asks for what was written. Histograms are several rows each; what is rejected is taken off the samples first.
        let samples = counts.samples.saturating_sub(tally.rejected);
        let header = |name, count: u64| (name, count.to_string());
        Some(Answer {
            status: if tally.rejected == 0 { 204 } else { 400 },
            content_type: if tally.error.is_some() {
                "text/plain; charset=utf-8"
            } else {
                ""
            },
            headers: vec![
                header("X-Prometheus-Remote-Write-Samples-Written", samples),
                header("X-Prometheus-Remote-Write-Histograms-Written", counts.histograms),
                header("X-Prometheus-Remote-Write-Exemplars-Written", 0),
            ],
            body: tally.error.unwrap_or_default().as_bytes().to_vec(),
        })
    }
}
