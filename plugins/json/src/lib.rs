//! JSON: an object, an array of objects, or an object a line.
//!
//! `settings` reads the options; `body` walks what is outside of points; a point is `nested` (measurement, tags, fields,
//! time), which `shape` reads quicker where it looks like one before it, or `flat` (any object, by a mapping). docs/formats/ingest.md tells users.

mod body;
mod flat;
mod nested;
mod point;
mod settings;
mod shape;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn about(&self) -> &'static str {
        "JSON: an object, an array, or an object a line; other shapes than Kymo's own by options"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &["application/json", "application/x-ndjson", "application/jsonl"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines, Framing::LengthPrefixed, Framing::Whole]
    }

    fn options(&self) -> &'static [OptionHelp] {
        settings::OPTIONS
    }

    fn could_be(&self, body: &[u8]) -> bool {
        matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'['))
    }

    fn decoder(&self, options: &Options, framing: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let settings = settings::Settings::read(options)?;
        Ok(Box::new(body::JsonDecoder::new(settings, framing)))
    }
}
