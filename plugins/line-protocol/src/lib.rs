//! InfluxDB line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.
//!
//! `decoder` walks the lines once, `number` reads numbers exactly, `series` takes a series apart when it is seen for the
//! first time. Nothing allocates on the way of a line, unless it has escapes.

mod decoder;
mod fast;
mod number;
mod series;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};

/// The format. Its option is `precision`, the unit of timestamps: n, ns, u, us, ms, s, m or h.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineProtocol;

impl Format for LineProtocol {
    fn name(&self) -> &'static str {
        "line-protocol"
    }

    fn about(&self) -> &'static str {
        "InfluxDB line protocol, as Telegraf and the InfluxDB clients send it"
    }

    fn content_types(&self) -> &'static [&'static str] {
        // InfluxDB ignores Content-Type, and its clients send anything: only a name of our own means this format.
        &["application/vnd.influx.line-protocol"]
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[OptionHelp {
            name: "precision",
            about: "unit of timestamps: n, ns, u, us, ms, s, m, h (default n)",
        }]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let precision = options.get("precision").unwrap_or("");
        let unit = nanoseconds(precision).ok_or_else(|| {
            let reason = format!("invalid precision \"{precision}\" (use n, u, ms, s, m or h)");
            OptionError::new("precision", reason)
        })?;
        Ok(Box::new(decoder::LineDecoder::new(unit)))
    }
}

fn nanoseconds(precision: &str) -> Option<i64> {
    Some(match precision {
        "" | "n" | "ns" => 1,
        "u" | "us" | "µ" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}
