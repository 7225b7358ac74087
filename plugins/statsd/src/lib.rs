//! statsd and DogStatsD: `name:value|type|@rate|#tag:value`, gathered, and flushed at an interval.
//!
//! `decoder` walks the lines; `line` reads metrics, `event` events and service checks, `tags` the three ways to
//! write tags, `number` numbers and times; `gather` holds what was sent since the last flush (`timing` the timers),
//! inside the bounds of `limits`. What is stored under which names is told in docs/formats/statsd.md.

mod decoder;
mod event;
mod gather;
mod limits;
mod line;
mod number;
mod tags;
mod timing;

use kymo_plugin_api::{Decoder, Format, Framing, OptionError, OptionHelp, Options};
use limits::Limits;
use timing::Percentile;

/// The format. Its options are `flush_interval`, `percentiles`, `gauge_expiry` and `state_bytes`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Statsd;

/// The options, read.
struct Settings {
    /// Nanoseconds.
    flush_interval: u64,
    percentiles: Vec<Percentile>,
    /// Flushes for which a gauge is told without being updated; `None`: for ever.
    gauge_expiry: Option<u64>,
}

const FLUSH_INTERVAL_SECONDS_MIN: f64 = 0.001;
const FLUSH_INTERVAL_SECONDS_MAX: f64 = 86_400.0;
const PERCENTILES_MAX: usize = 32;
const STATE_BYTES_MIN: usize = 1 << 16;
const STATE_BYTES_MAX: usize = 1 << 30;

impl Default for Settings {
    fn default() -> Self {
        Self {
            flush_interval: 10_000_000_000,
            percentiles: [90.0, 95.0, 99.0].map(Percentile::new).into(),
            gauge_expiry: None,
        }
    }
}

impl Format for Statsd {
    fn name(&self) -> &'static str {
        "statsd"
    }

    fn about(&self) -> &'static str {
        "statsd and DogStatsD metrics, events and service checks, summed up at every flush"
    }

    fn framings(&self) -> &'static [Framing] {
        &[Framing::Lines]
    }

    fn options(&self) -> &'static [OptionHelp] {
        &[
            OptionHelp {
                name: "flush_interval",
                about: "seconds between flushes, 0.001 to 86400 (default 10)",
            },
            OptionHelp {
                name: "percentiles",
                about: "of timings, above 0 to 100, with commas between, or none (default 90,95,99)",
            },
            OptionHelp {
                name: "gauge_expiry",
                about: "flushes without an update after which a gauge is forgotten, or off (default off)",
            },
            OptionHelp {
                name: "state_bytes",
                about: "bytes that may be held between flushes, 65536 to 1073741824 (default 67108864, less where memory is little)",
            },
        ]
    }

    fn decoder(&self, options: &Options, _: Framing) -> Result<Box<dyn Decoder>, OptionError> {
        options.refuse_unknown(self)?;
        let (mut settings, mut limits) = (Settings::default(), Limits::default());
        for (name, value) in options.iter() {
            let fail = |reason: String| OptionError::new(name, reason);
            match name {
                "flush_interval" => {
                    settings.flush_interval = flush_interval(value).ok_or_else(|| {
                        fail(format!(
                            "invalid flush_interval \"{value}\" (use seconds, 0.001 to 86400)"
                        ))
                    })?;
                }
                "percentiles" => {
                    settings.percentiles = percentiles(value).ok_or_else(|| {
                        fail(format!(
                            "invalid percentiles \"{value}\" (use none, or up to {PERCENTILES_MAX} numbers above 0 to 100)"
                        ))
                    })?;
                }
                "gauge_expiry" => {
                    settings.gauge_expiry = gauge_expiry(value).ok_or_else(|| {
                        fail(format!(
                            "invalid gauge_expiry \"{value}\" (use off or a number of flushes)"
                        ))
                    })?;
                }
                "state_bytes" => {
                    limits.state_bytes_max = state_bytes(value).ok_or_else(|| {
                        fail(format!(
                            "invalid state_bytes \"{value}\" (use a number from {STATE_BYTES_MIN} to {STATE_BYTES_MAX})"
                        ))
                    })?;
                }
                _ => {}
            }
        }
        Ok(Box::new(decoder::StatsdDecoder::new(settings, limits)))
    }
}

fn flush_interval(value: &str) -> Option<u64> {
    let seconds = number::read(value).ok()?;
    let fits = (FLUSH_INTERVAL_SECONDS_MIN..=FLUSH_INTERVAL_SECONDS_MAX).contains(&seconds);
    fits.then_some((seconds * 1e9).round() as u64)
}

fn percentiles(value: &str) -> Option<Vec<Percentile>> {
    if matches!(value, "" | "none") {
        return Some(Vec::new());
    }
    let mut percents = Vec::new();
    for text in value.split(',') {
        let percent = number::read(text.trim_ascii()).ok()?;
        if percent <= 0.0 || percent > 100.0 {
            return None;
        }
        if !percents.contains(&percent) {
            percents.push(percent);
        }
    }
    (percents.len() <= PERCENTILES_MAX).then(|| percents.into_iter().map(Percentile::new).collect())
}

fn state_bytes(value: &str) -> Option<usize> {
    let bytes = value.parse().ok()?;
    (STATE_BYTES_MIN..=STATE_BYTES_MAX)
        .contains(&bytes)
        .then_some(bytes)
}

fn gauge_expiry(value: &str) -> Option<Option<u64>> {
    match value {
        "" | "off" => Some(None),
        digits => digits.parse().ok().map(Some),
    }
}
