//! Graphite's plaintext protocol: `path value timestamp`, with tags as `path;tag=value`.
//!
//! `decoder` reads lines, `path` takes a path apart when it is seen for the first time. docs/formats/ingest.md tells users.

mod decoder;
mod path;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};

/// The format. It has no options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Graphite;

impl Format for Graphite {
    fn name(&self) -> &'static str {
        "graphite"
    }

    fn about(&self) -> &'static str {
        "Graphite's plaintext protocol, with tags, as carbon takes it"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        Ok(Box::new(decoder::GraphiteDecoder))
    }
}
