//! Limits of what is taken, each with a name, a default, and a place in the error.

/// See the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A line, or an element of a body.
    pub line_bytes_max: usize,
    /// A message behind its length.
    pub message_bytes_max: usize,
    /// A measurement, a tag with its value, a field key (InfluxDB's limit).
    pub key_bytes_max: usize,
    /// Tags of a series.
    pub tags_max: usize,
    /// Fields of a point.
    pub fields_max: usize,
    /// A string value.
    pub string_bytes_max: usize,
    /// Points of a request.
    pub rows_max: usize,
    /// Rejections of a request that are told in full; the rest is counted.
    pub rejections_told_max: usize,
    /// Bytes of a rejected line that are told.
    pub line_told_bytes_max: usize,
    /// Rejections of a request that are kept for trying again; the rest is counted.
    pub rejections_kept_max: usize,
    /// Bytes of a rejected line that are kept. Longer ones are cut off, and can be looked at but not tried again.
    pub line_kept_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: 1 << 20,
            message_bytes_max: 4 << 20,
            key_bytes_max: 65_535,
            tags_max: 256,
            fields_max: 4096,
            string_bytes_max: 1 << 20,
            rows_max: 5_000_000,
            rejections_told_max: 100,
            line_told_bytes_max: 1024,
            rejections_kept_max: 1000,
            line_kept_bytes_max: 64 << 10,
        }
    }
}
