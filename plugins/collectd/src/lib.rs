//! collectd's binary network protocol: UDP packets of parts, as its plug-in `network` sends them.
//!
//! `packet` reads parts, `decoder` makes rows of them, `types` knows what the values of a type are called.
//! docs/formats/ingest.md tells users.

mod decoder;
mod packet;
mod types;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Collectd;

impl Format for Collectd {
    fn name(&self) -> &'static str {
        "collectd"
    }

    fn about(&self) -> &'static str {
        "collectd's binary network protocol, unencrypted, stored as InfluxDB does"
    }

    fn counts(&self) -> &'static str {
        "part"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Whole, Framing::LengthPrefixed]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[
            OptionHelp {
                name: "multi_values",
                about: "split: a measurement plugin_name for each value of a type; join: one measurement plugin with a field for each (default split)",
            },
            OptionHelp {
                name: "types",
                about: "names of the values of further types, as in types.db: mytype:first,second;other:a,b",
            },
        ]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let join = options.one_of("multi_values", &[("split", false), ("join", true)])?;
        let types = types::Types::read(options.get("types").unwrap_or_default())?;
        Ok(Box::new(decoder::CollectdDecoder::new(
            types,
            join.unwrap_or(false),
        )))
    }
}
