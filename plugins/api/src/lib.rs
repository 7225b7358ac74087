//! The contract between Kymo and its ingest formats.
//!
//! A [`Format`] describes itself (name, content types, framing) and makes a [`Decoder`]. A decoder is given whole
//! frames (lines, datagrams, bodies; see [`Framing`]) and pushes borrowed [`Row`]s into a [`RowSink`]; what it cannot
//! read it pushes as a [`Rejection`], with the line and the column, and goes on. It does no I/O, reads no clock, keeps no
//! thread, and never panics, whatever the bytes.
//!
//! The crate has no dependencies and no types that allocate on the way of a row: everything is borrowed from the
//! input or from the decoder's own scratch space.
//!
//! Start with `plugins/line-protocol` as the model, and run [`kit`] in your tests.

pub mod kit;
pub mod series;

pub use series::{SeriesParts, SeriesRef, SeriesSpelling};

/// How a stream of bytes is cut into pieces that a decoder can read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Lines that end with `\n` (or `\r\n`). A piece is any number of whole lines.
    Lines,
    /// A u32 length, big-endian, before each message. A piece is one message.
    LengthPrefixed,
    /// No framing of its own: an HTTP body, a file, or a datagram is the piece.
    Whole,
}

/// One format: what it is called and how to read it.
pub trait Format: Send + Sync {
    /// The name users write: `line-protocol`, `statsd`, `json`, ..
    fn name(&self) -> &'static str;

    /// One line for `--help` and documentation.
    fn about(&self) -> &'static str;

    /// Media types that mean this format in an HTTP `Content-Type`, lower case, without parameters.
    fn content_types(&self) -> &'static [&'static str] {
        &[]
    }

    /// How streams of this format are cut.
    fn framing(&self) -> Framing;

    /// The options it understands, for `--help` and for refusing misspelt ones.
    fn options(&self) -> &'static [OptionHelp] {
        &[]
    }

    /// A decoder for one request, connection or socket.
    ///
    /// # Errors
    /// An unknown option, or a value it does not take.
    fn decoder(&self, options: &Options) -> Result<Box<dyn Decoder>, OptionError>;
}

/// Reads one request, connection or socket of a format.
pub trait Decoder: Send {
    /// Reads one piece (see [`Framing`]): rows and rejections go to `sink`, in input order.
    ///
    /// Cutting the same input differently at frame borders gives the same rows. Every byte of the input is accounted
    /// for: part of a row, of a rejection, or of what the format says is ignored (comments, blank lines).
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink);

    /// For formats that aggregate (statsd): the time between flushes in nanoseconds, `None` for all others.
    fn flush_interval(&self) -> Option<u64> {
        None
    }

    /// For formats that aggregate: emits what has been gathered since the last flush, stamped `now` (nanoseconds UTC).
    fn flush(&mut self, now: i64, sink: &mut dyn RowSink) {
        let _ = (now, sink);
    }
}

/// Takes what decoders read. Whatever is wrong with a row beyond its format (a type clash, a limit) is the sink's to
/// find and to report.
pub trait RowSink {
    /// One point.
    fn row(&mut self, row: &Row<'_>);

    /// Something that could not be read.
    fn reject(&mut self, rejection: &Rejection<'_>);
}

/// One point: a series, a time, and one or more fields.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Measurement and tags.
    pub series: SeriesRef<'a>,
    /// Nanoseconds UTC; `None` when the sender gave none (the sink takes the time of receipt).
    pub time: Option<i64>,
    /// At least one; keys unescaped.
    pub fields: &'a [Field<'a>],
    /// Where in the piece, for messages.
    pub origin: Origin<'a>,
}

/// One field of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// Unescaped.
    pub key: &'a str,
    /// Its value.
    pub value: Value<'a>,
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// 64-bit float; finite.
    Float(f64),
    /// Signed 64-bit.
    Integer(i64),
    /// Unsigned 64-bit.
    Unsigned(u64),
    /// true or false.
    Boolean(bool),
    /// Text, unescaped.
    String(&'a str),
}

/// Where something stands in the piece that was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Line (or message) number in the piece, from 1.
    pub line: u64,
    /// The text itself as received, without its line end; may be cut off by whoever prints it.
    pub text: &'a [u8],
}

/// Something that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// Where.
    pub origin: Origin<'a>,
    /// Byte in the line, from 1.
    pub column: u64,
    /// Why: `missing fields`, `invalid number`, ..; lower case, no full stop.
    pub reason: &'a str,
}

/// Settings of a decoder, by name. From the URL (`?precision=s`), flags, or a listen address.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pairs: Vec<(String, String)>,
}

/// One option a format takes.
#[derive(Clone, Copy, Debug)]
pub struct OptionHelp {
    /// Its name.
    pub name: &'static str,
    /// What it does and what values it takes, one line.
    pub about: &'static str,
}

/// An option that is unknown or has a value that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// The option's name.
    pub name: String,
    /// What is wrong, lower case: `invalid precision "x" (use n, u, ms, s, m or h)`.
    pub reason: String,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        self.pairs.retain(|(n, _)| *n != name);
        self.pairs.push((name, value));
        self
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "option {}: {}", self.name, self.reason)
    }
}

impl std::error::Error for OptionError {}
