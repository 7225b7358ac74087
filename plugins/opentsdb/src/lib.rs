//! OpenTSDB: `put metric timestamp value tag=value ..` over sockets, and the JSON of `/api/put`.
//!
//! `telnet` reads lines, `http` bodies; a body that begins with a brace or bracket is JSON. `answer` replies as OpenTSDB does.
//! docs/formats/ingest.md tells users.

mod answer;
mod http;
mod telnet;

use kymo_plugin_api::{Answer, Decoder, Format, Framing, OptionError, OptionHelp, Options, RowSink, Tally};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenTsdb;

impl Format for OpenTsdb {
    fn name(&self) -> &'static str {
        "opentsdb"
    }

    fn about(&self) -> &'static str {
        "OpenTSDB's put lines, and the JSON of /api/put"
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/api/put"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[
            OptionHelp {
                name: "summary",
                about: "over HTTP: answer with how many points were stored and how many not",
            },
            OptionHelp {
                name: "details",
                about: "over HTTP: answer with what was wrong, too",
            },
            OptionHelp {
                name: "sync",
                about: "taken and ignored: every answer here comes after the points are durable",
            },
            OptionHelp {
                name: "sync_timeout",
                about: "taken and ignored",
            },
        ]
    }

    fn decoder(&self, options: &Options, framing: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let is_set = |name: &str| {
            options
                .iter()
                .any(|(n, v)| n == name && !matches!(v, "false" | "0"))
        };
        Ok(Box::new(OpenTsdbDecoder {
            is_stream: framing != Framing::Whole,
            reply: answer::Reply {
                summary: is_set("summary"),
                details: is_set("details"),
            },
            scratch: Vec::new(),
        }))
    }
}

struct OpenTsdbDecoder {
    is_stream: bool,
    reply: answer::Reply,
    scratch: Vec<u8>,
}

impl Decoder for OpenTsdbDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        let is_json = matches!(piece.trim_ascii_start().first(), Some(b'{' | b'['));
        if is_json && !self.is_stream {
            http::decode(piece, &mut self.scratch, sink);
        } else {
            telnet::decode(piece, &mut self.scratch, sink);
        }
    }

    fn answer(&mut self, tally: &Tally<'_>) -> Option<Answer> {
        Some(self.reply.answer(tally))
    }
}
