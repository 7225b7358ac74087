//! Prometheus' text exposition and OpenMetrics: `name{label="value"} 1.5 1700000000000`.
//!
//! `decoder` reads lines, `name` takes a name and its labels apart when they are seen for the first time.
//! docs/formats/ingest.md tells users.

mod decoder;
mod name;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};
use kymo_plugin_reading::time::{TIME_UNITS, TimeUnit};

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prometheus;

impl Format for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn about(&self) -> &'static str {
        "Prometheus text exposition and OpenMetrics, as exporters show it"
    }

    fn content_types(&self) -> &'static [&'static str] {
        &[
            "text/plain;version=0.0.4",
            "text/plain;version=1.0.0",
            "application/openmetrics-text",
        ]
    }

    fn paths(&self) -> &'static [&'static str] {
        &["/api/v1/import/prometheus"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[OptionHelp {
            name: "time_unit",
            about: "of timestamps: ms (the text format), s (OpenMetrics) or auto, by their size (default auto)",
        }]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let unit = options.get("time_unit").unwrap_or("auto");
        let unit = TimeUnit::from_name(unit).ok_or_else(|| {
            let reason = format!("invalid time_unit \"{unit}\" (use {TIME_UNITS})");
            OptionError::new("time_unit", reason)
        })?;
        Ok(Box::new(decoder::PrometheusDecoder::new(unit)))
    }
}
