//! Everything that could grow with what is sent, and how far it may. Errors name the limit.

/// A line, without its line end.
pub const LINE_BYTES_MAX: usize = 65_536;
/// Tags of a metric, event or check, `metric_type` not among them.
pub const TAGS_MAX: usize = 255;
/// Below this, scaled counts soon leave the range of integers.
pub const SAMPLE_RATE_MIN: f64 = 1e-9;
/// The size of a timing, whatever its sign: so that squares and sums stay finite.
pub const TIMING_ABS_MAX: f64 = 1e100;

/// Limits of what is held between flushes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Counters, gauges, sets and timings together.
    pub series_max: usize,
    /// Values kept of one timing for its median and percentiles; beyond it, a random sample of so many is kept.
    pub timing_samples_max: usize,
    /// Different values of one set.
    pub set_members_max: usize,
    /// Names, tags, samples and set members together. When it is reached, timings go on with a random sample as large as they have;
    /// new series and new set members are refused.
    pub state_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 100_000,
            timing_samples_max: 10_000,
            set_members_max: 100_000,
            state_bytes_max: 64 << 20,
        }
    }
}
