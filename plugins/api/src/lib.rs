//! The contract between Kymo and its ingest formats. `docs/plugins.md` is the tutorial, `plugins/tutorial` the plug-in it
//! builds.
//!
//! A [`Format`] describes itself (name, content types, HTTP paths, framings, options) and makes a [`Decoder`]. A decoder is
//! given whole frames (lines, messages, datagrams, bodies; see [`Framing`]) and pushes borrowed [`Row`]s into a
//! [`RowSink`]; what it cannot read it pushes as a [`Rejection`], with the line and the column, and goes on. It does no
//! I/O, reads no clock, keeps no thread, and never panics, whatever the bytes.
//!
//! The crate has no dependencies and no types that allocate on the way of a row: everything is borrowed from the
//! input or from the decoder's own scratch space.
//!
//! Run [`kit`] in your tests: it checks what the server relies on.

pub mod kit;
pub mod options;
pub mod quotes;
pub mod series;

pub use options::{OptionError, OptionHelp, Options};
pub use quotes::{Quotes, Quoting};
pub use series::{SeriesParts, SeriesRef, SeriesSpelling};

/// How a stream of bytes (TCP, a Unix socket, a file) is cut into pieces that a decoder can read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Lines that end with `\n` (or `\r\n`). A piece is any number of whole lines; a line may go on inside quotes (see [`Format::quoting`]).
    Lines,
    /// A u32 length, big-endian, before each message. A piece is one message, without its length.
    LengthPrefixed,
    /// Not cut: an HTTP body, a file, or a datagram is the piece.
    Whole,
}

impl Framing {
    /// As users write it: `lines`, `length-prefixed`, `whole`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::LengthPrefixed => "length-prefixed",
            Self::Whole => "whole",
        }
    }

    /// The framing of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Lines, Self::LengthPrefixed, Self::Whole]
            .into_iter()
            .find(|framing| framing.name() == name)
    }
}

/// One format: what it is called and how to read it.
pub trait Format: Send + Sync {
    /// The name users write: `line-protocol`, `statsd`, `json`, ..
    fn name(&self) -> &'static str;

    /// One line for `--help` and documentation.
    fn about(&self) -> &'static str;

    /// Media types that mean this format in an HTTP `Content-Type`, lower case. One with parameters
    /// (`text/plain;version=0.0.4`) asks that the request has these, too.
    fn content_types(&self) -> &'static [&'static str] {
        &[]
    }

    /// HTTP paths to which this format's own senders post, beside `/write`: `/api/put`, `/v1/metrics`, ..
    fn paths(&self) -> &'static [&'static str] {
        &[]
    }

    /// How streams of this format may be cut, the usual way first. [`Framing::Whole`] alone: it cannot be read from
    /// a stream. Bodies and datagrams come whole, whatever stands here.
    fn framings(&self) -> &'static [Framing];

    /// For formats whose lines go on inside quotes (CSV): how, with these options. Streams and files are then cut at newlines that stand in
    /// no quotes.
    fn quoting(&self, options: &Options) -> Option<Quoting> {
        let _ = options;
        None
    }

    /// The options it understands, for `--help` and for refusing misspelt ones.
    fn options(&self) -> &'static [OptionHelp] {
        &[]
    }

    /// What [`Origin::line`] counts, for messages. Where it is anything but a line, the part is named by its number (and by its text, where
    /// that can be read), and columns are bytes: of the text or, where what is at fault is no part of it, of the piece. A row that a limit refuses is
    /// then kept as line protocol, since its text may be no more than a name.
    fn counts(&self) -> &'static str {
        "line"
    }

    /// Could this body be of this format? Asked only where a `Content-Type` chose the format: many senders of line
    /// protocol send any content type, since InfluxDB ignores it.
    fn could_be(&self, body: &[u8]) -> bool {
        let _ = body;
        true
    }

    /// For formats whose lines lean on earlier ones (the header of CSV): keeps in `preamble` the lines of `piece` that
    /// must stand before the next piece when that is decoded on its own. Starts empty.
    fn keep_preamble(&self, options: &Options, piece: &[u8], preamble: &mut Vec<u8>) {
        let _ = (options, piece, preamble);
    }

    /// A decoder for one request, connection or socket, whose pieces are cut by `framing`.
    ///
    /// # Errors
    /// An unknown option (see [`Options::refuse_unknown`]), or a value it does not take.
    fn decoder(&self, options: &Options, framing: Framing) -> Result<Box<dyn Decoder>, OptionError>;
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

    /// How a sender at one of the format's own [paths](Format::paths) wants to be answered once the rows are durable. `None`:
    /// as everybody, with 204, or 400 and the error.
    fn answer(&mut self, tally: &Tally<'_>) -> Option<Answer> {
        let _ = tally;
        None
    }
}

/// Takes what decoders read. Whatever is wrong with a row beyond its format (a type clash, a limit) is the sink's to
/// find and to report.
pub trait RowSink {
    /// One point.
    fn row(&mut self, row: &Row<'_>);

    /// Something that could not be read.
    fn reject(&mut self, rejection: &Rejection<'_>);

    /// Values that the format says are not stored and are no fault of the sender: Prometheus' stale markers, a NaN. They are
    /// counted.
    fn skip(&mut self, values: u64) {
        let _ = values;
    }
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

impl<'a> Field<'a> {
    /// A field.
    #[inline]
    pub fn new(key: &'a str, value: Value<'a>) -> Self {
        Self { key, value }
    }
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
    /// Line (or message, or element) number in the piece, from 1.
    pub line: u64,
    /// The text itself as received, without its line end; may be cut off by whoever prints it.
    pub text: &'a [u8],
}

/// Something that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// Where. Its text, decoded on its own by a fresh decoder with the same options, gives the same rejection: that is
    /// how a rejected line can be tried again after a fix.
    pub origin: Origin<'a>,
    /// Byte in the text, from 1. Of formats that count no lines, see [`Format::counts`].
    pub column: u64,
    /// Why: `missing fields`, `invalid number`, ..; lower case, no full stop.
    pub reason: &'a str,
    /// What must stand before the text for that (the header of CSV); mostly empty.
    pub context: &'a [u8],
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub struct Tally<'a> {
    /// Points stored.
    pub rows: u64,
    /// What was rejected or could not be stored: all of it is counted, the first hundred are told.
    pub rejected: u64,
    /// Those that are told.
    pub rejections: &'a [Told],
    /// All of it in one text, as other senders are told; `None` when everything was stored.
    pub error: Option<&'a str>,
}

/// A rejection as it is told to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// See [`Origin::line`].
    pub line: u64,
    /// See [`Rejection::column`].
    pub column: u64,
    /// See [`Rejection::reason`].
    pub reason: String,
    /// The beginning of the text.
    pub text: String,
}

/// A reply over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 204, 400, ..
    pub status: u16,
    /// Of the body, if there is one.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}
