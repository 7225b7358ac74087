//! Checks that every format must pass. Call them from the plug-in's own tests with its own corpus:
//!
//! ```text
//! kit::check_good(&MyFormat, &[("temp 21.5", &["temp value=21.5"])]);
//! kit::check_bad(&MyFormat, &["temp", "= ="]);
//! kit::check_robust(&MyFormat, &["temp 21.5"]);
//! ```
//!
//! Rows are compared as text: `measurement,tag=value field=value,.. time`, tags in the sender's order, strings quoted, integers with
//! `i`, unsigned with `u`, no time when the sender gave none.

use crate::{Decoder, Format, Framing, Options, Rejection, Row, RowSink, SeriesParts, Value};

/// A sink that keeps everything, owned.
#[derive(Debug, Default, PartialEq)]
pub struct Collector {
    /// Rows as text.
    pub rows: Vec<String>,
    /// Line, column, reason.
    pub rejections: Vec<(u64, u64, String)>,
}

impl RowSink for Collector {
    fn row(&mut self, row: &Row<'_>) {
        let mut parts = SeriesParts::default();
        if let Err((column, reason)) = row.series.reader.read(row.series.spelling, &mut parts) {
            self.rejections.push((row.origin.line, column, reason));
            return;
        }
        let mut text = parts.measurement;
        parts
            .tags
            .iter()
            .for_each(|(key, value)| text.push_str(&format!(",{key}={value}")));
        for (i, field) in row.fields.iter().enumerate() {
            text.push_str(if i == 0 { " " } else { "," });
            text.push_str(&match field.value {
                Value::Float(v) => format!("{}={v}", field.key),
                Value::Integer(v) => format!("{}={v}i", field.key),
                Value::Unsigned(v) => format!("{}={v}u", field.key),
                Value::Boolean(v) => format!("{}={v}", field.key),
                Value::String(v) => format!("{}={v:?}", field.key),
            });
        }
        if let Some(time) = row.time {
            text.push_str(&format!(" {time}"));
        }
        self.rows.push(text);
    }

    fn reject(&mut self, rejection: &Rejection<'_>) {
        self.rejections.push((
            rejection.origin.line,
            rejection.column,
            rejection.reason.to_string(),
        ));
    }
}

/// Decodes pieces, then flushes if the format gathers.
pub fn decode(format: &dyn Format, options: &Options, pieces: &[&[u8]]) -> Collector {
    let mut decoder = format.decoder(options).expect("the test's own options");
    let mut collector = Collector::default();
    pieces
        .iter()
        .for_each(|piece| decoder.decode(piece, &mut collector));
    flush(decoder.as_mut(), &mut collector);
    collector
}

fn flush(decoder: &mut dyn Decoder, collector: &mut Collector) {
    if decoder.flush_interval().is_some() {
        decoder.flush(1_000_000_000, collector);
    }
}

/// Each input gives exactly these rows and no rejection.
///
/// # Panics
/// When it does not.
pub fn check_good(format: &dyn Format, cases: &[(&str, &[&str])]) {
    for (input, rows) in cases {
        let got = decode(format, &Options::new(), &[input.as_bytes()]);
        assert_eq!(got.rejections, [], "{input:?}");
        assert_eq!(got.rows, *rows, "{input:?}");
    }
}

/// Each input (one line or message) gives exactly one rejection, with this reason, at a sensible place, and no row.
///
/// # Panics
/// When it does not.
pub fn check_bad(format: &dyn Format, cases: &[(&str, &str)]) {
    for (input, reason) in cases {
        let got = decode(format, &Options::new(), &[input.as_bytes()]);
        assert_eq!(got.rows, [] as [String; 0], "{input:?}");
        assert_eq!(got.rejections.len(), 1, "{input:?}: {:?}", got.rejections);
        let (line, column, told) = &got.rejections[0];
        assert_eq!(told, reason, "{input:?}");
        let column_max = input.len() as u64 + 1;
        assert!(
            *line >= 1 && (1..=column_max).contains(column),
            "{input:?}: line {line}, column {column}"
        );
    }
}

/// Whatever the bytes: no panic, no more rows and rejections than bytes, a decoder that still works afterwards; and
/// cutting the input at frame borders changes nothing. `inputs` are mutated some thousand times.
///
/// # Panics
/// When one of it does not hold.
pub fn check_robust(format: &dyn Format, inputs: &[&str]) {
    let mut random = Random(0x5EED);
    let options = Options::new();
    for round in 0..4000 {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(3) {
            bytes.extend_from_slice(inputs[random.below(inputs.len())].as_bytes());
            bytes.push(b'\n');
        }
        for _ in 0..random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        let got = decode(format, &options, &[&bytes]);
        let emitted = got.rows.len() + got.rejections.len();
        assert!(
            format.framing() == Framing::Whole || emitted <= bytes.len() * 16 + 64,
            "round {round}: {emitted} rows"
        );
        if format.framing() == Framing::Lines && !bytes.contains(&b'"') {
            let pieces: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
            let cut = decode(format, &options, &pieces);
            assert_eq!(
                cut.rows,
                got.rows,
                "cut at lines: {:?}",
                String::from_utf8_lossy(&bytes)
            );
            assert_eq!(cut.rejections.len(), got.rejections.len());
        }
        let mut decoder = format.decoder(&options).expect("no options");
        let mut after = Collector::default();
        decoder.decode(&bytes, &mut after);
        let mut after = Collector::default();
        decoder.decode(inputs[0].as_bytes(), &mut after);
        flush(decoder.as_mut(), &mut after);
        assert!(
            !after.rows.is_empty(),
            "a good input after {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let mut unknown = Options::new();
    unknown.set("no-such-option", "x");
    assert!(
        format.decoder(&unknown).is_err(),
        "an unknown option must be refused"
    );
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const INTERESTING: &[u8] = b"\\\"=, \n\r\t:|@#;._-+0e\0\xff{[<";
    let at = random.below(bytes.len().max(1));
    match random.below(5) {
        0 if !bytes.is_empty() => drop(bytes.remove(at)),
        1 => bytes.insert(at.min(bytes.len()), INTERESTING[random.below(INTERESTING.len())]),
        2 if !bytes.is_empty() => bytes[at] = INTERESTING[random.below(INTERESTING.len())],
        3 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        _ => bytes.truncate(at),
    }
}

/// A small seeded generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}
