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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::ingest::{Ingestor, Outcome, Registry};
    use kymo_plugin_api::{Framing, Options};

    fn ingest(lines: &str, limits: &Limits) -> Outcome {
        let catalog = Catalog::new();
        catalog.create_database("d", None).expect("a database");
        let database = catalog.database("d").expect("it was made");
        let policy = database.policy(None).expect("the default one").id;
        let registry = Registry::standard();
        let format = registry.by_name("line-protocol").expect("it is built in");
        let options = Options::new();
        let mut ingestor = Ingestor::new(&catalog, limits, policy, "line-protocol", &options, 0, 2);
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        decoder.decode(lines.as_bytes(), &mut ingestor);
        ingestor.finish()
    }

    fn told(outcome: &Outcome) -> Vec<(u64, u64, &str)> {
        let rejects = outcome.rejects.iter();
        rejects
            .map(|reject| (reject.line, reject.column, reject.reason.as_str()))
            .collect()
    }

    #[test]
    fn a_string_too_long_is_refused_alone() {
        let limits = Limits {
            string_bytes_max: 5,
            ..Limits::default()
        };
        let lines = "m s=\"12345\" 1\nm a=1,s=\"123456\" 2\nm s=\"\" 3\n";
        let outcome = ingest(lines, &limits);
        assert_eq!(
            told(&outcome),
            [(2, 7, "string too long: 6 bytes (string_bytes_max 5)")]
        );
        assert_eq!((outcome.rows, outcome.unparsed, outcome.dropped), (2, 1, 0));
    }

    #[test]
    fn points_beyond_those_of_a_request_are_dropped_and_all_of_them_counted() {
        let limits = Limits {
            rows_max: 3,
            rejections_kept_max: 2,
            ..Limits::default()
        };
        let lines: String = (1..=7).map(|time| format!("m a={time} {time}\n")).collect();
        let outcome = ingest(&lines, &limits);
        let reason = "too many points in one request (rows_max 3)";
        assert_eq!(told(&outcome), [(4, 1, reason), (5, 1, reason)]);
        assert_eq!((outcome.rows, outcome.unparsed, outcome.dropped), (3, 0, 4));
        assert_eq!(
            outcome.error(&limits),
            Some(format!("partial write: {reason} dropped=4"))
        );
    }
}
