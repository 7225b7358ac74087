//! Checks that every format must pass. Call them from the plug-in's own tests with its own corpus:
//!
//! ```text
//! kit::check_description(&MyFormat);
//! kit::check_good(&MyFormat, &[("temp 21.5", &["temp value=21.5"])]);
//! kit::check_bad(&MyFormat, &[("temp", "missing value")]);
//! kit::check_robust(&MyFormat, &["temp 21.5"]);
//! ```
//!
//! Each has a twin `.._with` that takes options. Inputs are text or bytes.
//!
//! Rows are compared as text: `measurement,tag=value field=value,.. time`, tags in the sender's order, strings quoted, integers with
//! `i`, unsigned with `u`, no time when the sender gave none.

use crate::series::column_of;
use crate::{Decoder, Format, Framing, Options, Quotes, Rejection, Row, RowSink, SeriesParts, Value};

/// Rounds of [`check_robust`].
const ROUNDS: usize = 4000;

/// Where the tags, fields and time of a row stand, as messages tell it: bytes of its text from 1, or of the piece where the text is no
/// part of that; 0 is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// In the order of the tags.
    pub tags: Vec<u64>,
    /// In the order of the fields.
    pub fields: Vec<u64>,
    /// 0 without a time, too.
    pub time: u64,
}

/// A sink that keeps everything, owned.
#[derive(Debug, Default, PartialEq)]
pub struct Collector {
    /// Rows as text.
    pub rows: Vec<String>,
    /// Line, column, reason.
    pub rejections: Vec<(u64, u64, String)>,
    /// What must be decoded to see each rejection again.
    pub again: Vec<Vec<u8>>,
    /// Values that were skipped.
    pub skipped: u64,
    /// Fields of all rows.
    pub fields: usize,
    /// Where the parts of the row before stand.
    pub columns: Columns,
    /// Bytes of the piece, where columns may be columns of it: formats that count no lines.
    pub piece_bytes: Option<usize>,
}

impl Collector {
    /// For a piece of a format.
    pub fn of(format: &dyn Format, piece: &[u8]) -> Self {
        let mut made = Self::default();
        made.begin(format, piece);
        made
    }

    fn begin(&mut self, format: &dyn Format, piece: &[u8]) {
        self.piece_bytes = (format.counts() != "line").then_some(piece.len());
    }
}

impl RowSink for Collector {
    fn row(&mut self, row: &Row<'_>) {
        self.fields += row.fields.len();
        let mut parts = SeriesParts::default();
        if let Err((column, reason)) = row.series.reader.read(row.series.spelling, &mut parts) {
            let begin = column_of(row.origin.text, row.series.spelling).unwrap_or(1);
            self.rejections
                .push((row.origin.line, begin + column - 1, reason));
            self.again.push(row.origin.text.to_vec());
            return;
        }
        let longest = row.series.spelling.len().max(row.origin.text.len()) as u64;
        let mut columns =
            (0..parts.tags.len() + 1).map(|tag| row.series.reader.tag_column(row.series.spelling, tag));
        assert_eq!(columns.next_back(), Some(None), "there is no such tag");
        let all: Vec<u64> = columns.flatten().collect();
        let rises = all.windows(2).all(|pair| pair[0] < pair[1]);
        let longest = longest.max(self.piece_bytes.unwrap_or(0) as u64);
        assert!(
            (rises || self.piece_bytes.is_some()) && all.iter().all(|column| (1..=longest).contains(column)),
            "columns of tags {all:?}"
        );
        let text = row.origin.text;
        let fields = row.fields.iter().enumerate();
        let places = fields.map(|(at, field)| row.series.reader.field_column(text, at, field.key));
        let places: Vec<Option<u64>> = places.collect();
        let time = row.time.and_then(|_| row.series.reader.time_column(text));
        let column_max = text.len().max(self.piece_bytes.unwrap_or(0)) as u64 + 1;
        assert!(
            places
                .iter()
                .chain([&time])
                .flatten()
                .all(|column| (1..=column_max).contains(column)),
            "columns of fields {places:?} and time {time:?}"
        );
        let known = |column: Option<u64>| column.unwrap_or(0);
        let begin = column_of(text, row.series.spelling).unwrap_or(1);
        self.columns = Columns {
            tags: all.iter().map(|column| begin + column - 1).collect(),
            fields: places.into_iter().map(known).collect(),
            time: known(time),
        };
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
        self.again
            .push([rejection.context, rejection.origin.text].concat());
    }

    fn skip(&mut self, values: u64) {
        self.skipped += values;
    }
}

/// Options of names and values.
pub fn options(pairs: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    for (name, value) in pairs {
        options.set(name, *value);
    }
    options
}

/// Decodes pieces cut by `framing`, then flushes if the format gathers.
///
/// # Panics
/// When the options are not taken.
pub fn decode(format: &dyn Format, options: &Options, framing: Framing, pieces: &[&[u8]]) -> Collector {
    let mut decoder = format.decoder(options, framing).expect("the test's own options");
    let mut collector = Collector::default();
    for piece in pieces {
        collector.begin(format, piece);
        decoder.decode(piece, &mut collector);
    }
    flush(decoder.as_mut(), &mut collector);
    collector
}

fn whole(format: &dyn Format, options: &Options, input: &[u8]) -> Collector {
    decode(format, options, Framing::Whole, &[input])
}

fn flush(decoder: &mut dyn Decoder, collector: &mut Collector) {
    if decoder.flush_interval().is_some() {
        decoder.flush(1_000_000_000, collector);
    }
}

fn shown(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// What the format says of itself makes sense.
///
/// # Panics
/// When it does not.
pub fn check_description(format: &dyn Format) {
    let name = format.name();
    let is_word = |text: &str, also: u8| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == also;
        !text.is_empty() && text.bytes().all(plain)
    };
    assert!(is_word(name, b'-'), "the name {name:?}");
    assert!(
        !format.about().is_empty() && !format.about().contains('\n'),
        "{name}: about"
    );
    assert!(!format.framings().is_empty(), "{name}: no framing");
    for media in format.content_types() {
        let fits = media.contains('/') && *media == media.to_ascii_lowercase() && !media.contains(' ');
        assert!(fits, "{name}: content type {media:?}");
    }
    for path in format.paths() {
        assert!(
            path.starts_with('/') && !path.ends_with('/'),
            "{name}: path {path:?}"
        );
    }
    for option in format.options() {
        assert!(is_word(option.name, b'_'), "{name}: option {:?}", option.name);
        assert!(!option.about.is_empty(), "{name}: option {:?}", option.name);
    }
    for framing in format.framings() {
        let made = format.decoder(&Options::new(), *framing);
        assert!(made.is_ok(), "{name}: no decoder for {}", framing.name());
    }
    let unknown = options(&[("no_such_option", "x")]);
    let Err(error) = format.decoder(&unknown, Framing::Whole) else {
        panic!("{name}: an unknown option must be refused");
    };
    assert_eq!(error.name, "no_such_option", "{name}");
}

/// Each input gives exactly these rows and no rejection.
///
/// # Panics
/// When it does not.
pub fn check_good<I: AsRef<[u8]>, R: AsRef<str>>(format: &dyn Format, cases: &[(I, &[R])]) {
    check_good_with(format, &[], cases);
}

/// [`check_good`] with options.
///
/// # Panics
/// When it does not hold.
pub fn check_good_with<I: AsRef<[u8]>, R: AsRef<str>>(
    format: &dyn Format,
    with: &[(&str, &str)],
    cases: &[(I, &[R])],
) {
    for (input, rows) in cases {
        let input = input.as_ref();
        let got = whole(format, &options(with), input);
        let rows: Vec<&str> = rows.iter().map(AsRef::as_ref).collect();
        assert_eq!(got.rejections, [], "{:?}", shown(input));
        assert_eq!(got.rows, rows, "{:?}", shown(input));
    }
}

/// Each input (one line or message) gives exactly one rejection, with this reason, at a sensible place, and no row. What is
/// kept of it gives the same rejection again.
///
/// # Panics
/// When it does not.
pub fn check_bad<I: AsRef<[u8]>, R: AsRef<str>>(format: &dyn Format, cases: &[(I, R)]) {
    check_bad_with(format, &[], cases);
}

/// [`check_bad`] with options.
///
/// # Panics
/// When it does not hold.
pub fn check_bad_with<I: AsRef<[u8]>, R: AsRef<str>>(
    format: &dyn Format,
    with: &[(&str, &str)],
    cases: &[(I, R)],
) {
    for (input, reason) in cases {
        let (input, reason) = (input.as_ref(), reason.as_ref());
        let got = whole(format, &options(with), input);
        assert_eq!(got.rows, [] as [String; 0], "{:?}", shown(input));
        assert_eq!(
            got.rejections.len(),
            1,
            "{:?}: {:?}",
            shown(input),
            got.rejections
        );
        let (line, column, told) = &got.rejections[0];
        assert_eq!(told, reason, "{:?}", shown(input));
        let column_max = input.len() as u64 + 1;
        assert!(
            *line >= 1 && (1..=column_max).contains(column),
            "{:?}: line {line}, column {column}",
            shown(input)
        );
        let again = whole(format, &options(with), &got.again[0]);
        let reasons: Vec<&str> = again.rejections.iter().map(|(_, _, r)| r.as_str()).collect();
        assert_eq!(
            (again.rows.len(), reasons),
            (0, vec![reason]),
            "again: {:?}",
            shown(&got.again[0])
        );
    }
}

/// The last row of each input has its tags, fields and time at these columns.
///
/// # Panics
/// When they are elsewhere.
pub fn check_columns<I: AsRef<[u8]>>(
    format: &dyn Format,
    with: &[(&str, &str)],
    cases: &[(I, &[u64], &[u64], u64)],
) {
    for (input, tags, fields, time) in cases {
        let got = whole(format, &options(with), input.as_ref()).columns;
        let want = Columns {
            tags: tags.to_vec(),
            fields: fields.to_vec(),
            time: *time,
        };
        assert_eq!(got, want, "{:?}", shown(input.as_ref()));
    }
}

/// Each input gives one rejection, of this part, at this column.
///
/// # Panics
/// When it does not.
pub fn check_places<I: AsRef<[u8]>>(
    format: &dyn Format,
    with: &[(&str, &str)],
    cases: &[(I, u64, u64, &str)],
) {
    for (input, line, column, reason) in cases {
        let got = whole(format, &options(with), input.as_ref()).rejections;
        let want = [(*line, *column, (*reason).to_string())];
        assert_eq!(got, want, "{:?}", shown(input.as_ref()));
    }
}

/// Whatever the bytes: no panic, no more rows, fields and rejections than bytes can make, a decoder that still works afterwards; and
/// cutting the input at frame borders changes nothing. `inputs` are mutated some thousand times, always the same way. The crate
/// `kymo-plugin-fuzz` does the same with other inputs in each run.
///
/// # Panics
/// When one of it does not hold.
pub fn check_robust<I: AsRef<[u8]>>(format: &dyn Format, inputs: &[I]) {
    check_robust_with(format, &[], inputs);
}

/// [`check_robust`] with options.
///
/// # Panics
/// When it does not hold.
pub fn check_robust_with<I: AsRef<[u8]>>(format: &dyn Format, with: &[(&str, &str)], inputs: &[I]) {
    let mut random = Random(0x5EED);
    let options = options(with);
    let first = inputs[0].as_ref();
    let lines = format.framings().contains(&Framing::Lines);
    for _ in 0..ROUNDS {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(3) {
            bytes.extend_from_slice(inputs[random.below(inputs.len())].as_ref());
            if lines {
                bytes.push(b'\n');
            }
        }
        for _ in 0..random.below(4) {
            mutate(&mut bytes, &mut random);
        }
        check_input(format, &options, first, &bytes);
    }
}

/// One round of [`check_robust`]; `first` is a good input.
///
/// # Panics
/// When it does not hold.
pub fn check_input(format: &dyn Format, options: &Options, first: &[u8], bytes: &[u8]) {
    let lines = format.framings().contains(&Framing::Lines);
    let got = whole(format, options, bytes);
    let emitted = got.rows.len() + got.rejections.len() + got.fields;
    assert!(
        emitted <= bytes.len() * 16 + 64,
        "{emitted} rows, fields and rejections of {} bytes: {:?}",
        bytes.len(),
        shown(bytes)
    );
    for (line, column, reason) in &got.rejections {
        let sensible = *line >= 1 && (1..=bytes.len() as u64 + 1).contains(column) && !reason.is_empty();
        assert!(
            sensible,
            "line {line}, column {column}, {reason:?}: {:?}",
            shown(bytes)
        );
    }
    // A newline inside quotes belongs to the text for those that see it; where a stream is cut, only those that say so do.
    if lines && (format.quoting(options).is_some() || !bytes.contains(&b'"')) {
        check_cuts(format, options, bytes);
    }
    let mut decoder = format.decoder(options, Framing::Whole).expect("taken above");
    decoder.decode(bytes, &mut Collector::of(format, bytes));
    let mut after = Collector::of(format, first);
    decoder.decode(first, &mut after);
    flush(decoder.as_mut(), &mut after);
    assert!(!after.rows.is_empty(), "a good input after {:?}", shown(bytes));
}

/// A stream of lines gives the same, wherever between lines (or records, where newlines may stand in quotes) it is cut.
///
/// # Panics
/// When it does not.
pub fn check_cuts(format: &dyn Format, options: &Options, bytes: &[u8]) {
    let mut quotes = format.quoting(options).map(Quotes::new);
    let is_end = |byte: &u8| match &mut quotes {
        Some(quotes) => quotes.is_end(*byte),
        None => *byte == b'\n',
    };
    let pieces: Vec<&[u8]> = bytes.split_inclusive(is_end).collect();
    let one = decode(format, options, Framing::Lines, &[bytes]);
    let cut = decode(format, options, Framing::Lines, &pieces);
    assert_eq!(cut.rows, one.rows, "cut at lines: {:?}", shown(bytes));
    assert_eq!(
        cut.rejections.len(),
        one.rejections.len(),
        "cut at lines: {:?}",
        shown(bytes)
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
