//! CSV: a header and rows, or InfluxDB's annotated CSV.
//!
//! `settings` reads the options, `table` knows what each column is (from the header, or from annotations), `decoder` walks
//! records (csv-core finds the cells) and makes rows, `places` finds cells again for messages. docs/formats/ingest.md tells users.

mod decoder;
mod places;
mod settings;
mod table;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options, Quoting};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Csv;

impl Format for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn about(&self) -> &'static str {
        "CSV with a header whose columns are told by options, and InfluxDB's annotated CSV"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &["text/csv", "application/csv"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn quoting(&self, options: &Options) -> Option<Quoting> {
        let settings = settings::Settings::read(options).ok()?;
        Some(Quoting {
            delimiter: settings.delimiter,
            quote: settings.quote,
        })
    }

    fn options(&self) -> &'static [OptionHelp] {
        settings::OPTIONS
    }

    fn keep_preamble(&self, options: &Options, piece: &[u8], preamble: &mut Vec<u8>) {
        if let Ok(settings) = settings::Settings::read(options) {
            decoder::keep_header(&settings, piece, preamble);
        }
    }

    fn decoder(&self, options: &Options, framing: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let settings = settings::Settings::read(options)?;
        Ok(Box::new(decoder::CsvDecoder::new(settings, framing)))
    }
}
