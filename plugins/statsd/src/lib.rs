//! Being written.
use kymo_plugin_api::{Decoder, Format, Framing, OptionError, Options};
/// statsd.
pub struct Statsd;
impl Format for Statsd {
    fn name(&self) -> &'static str { "statsd" }
    fn about(&self) -> &'static str { "statsd" }
    fn framing(&self) -> Framing { Framing::Lines }
    fn decoder(&self, _: &Options) -> Result<Box<dyn Decoder>, OptionError> {
        Err(OptionError { name: String::new(), reason: "not there yet".into() })
    }
}
