//! Walks records and makes rows of them.

use crate::places::{Cells, Places};
use crate::settings::{Kind, Settings};
use crate::table::{Annotations, Role, Table};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use kymo_plugin_api::{
    Decoder, Field, Framing, Origin, Rejection, Row, RowSink, SeriesParts, SeriesRef, Value,
};
use kymo_plugin_reading::number;
use memchr::{memchr, memchr_iter};

/// Columns a table may have.
const COLUMNS_MAX: usize = 8192;

/// The decoder of one request, connection or socket.
pub struct CsvDecoder {
    settings: Settings,
    /// Whether each piece begins anew: bodies and datagrams do, pieces of a stream go on.
    is_whole: bool,
    state: State,
    spelling: Vec<u8>,
    places: Places,
}

#[derive(Default)]
struct State {
    annotations: Annotations,
    table: Option<Table>,
}

/// The records of a piece, one after the other; cells unquoted.
struct Records<'a> {
    reader: Reader,
    rest: &'a [u8],
    line: u64,
    cells: Vec<u8>,
    ends: Vec<usize>,
}

/// A record in its text.
struct Record<'a> {
    line: u64,
    text: &'a [u8],
}

impl<'a> Records<'a> {
    fn new(settings: &Settings, piece: &'a [u8]) -> Self {
        let reader = ReaderBuilder::new()
            .delimiter(settings.delimiter)
            .quote(settings.quote)
            .build();
        Self {
            reader,
            rest: piece,
            line: 1,
            cells: vec![0; 256],
            ends: vec![0; 16],
        }
    }

    fn next(&mut self) -> Option<Result<Record<'a>, Record<'a>>> {
        // Blank lines are nothing, as csv-core has it; skipped here so that records begin where they seem to.
        loop {
            let len = match self.rest {
                [b'\n', ..] => {
                    self.line += 1;
                    1
                }
                [b'\r', ..] => 1,
                // A byte order mark.
                [0xEF, 0xBB, 0xBF, ..] => 3,
                [] => return None,
                _ => break,
            };
            self.rest = &self.rest[len..];
        }
        let begin = self.rest;
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let (result, r, w, e) = self.reader.read_record(
                &begin[read..],
                &mut self.cells[written..],
                &mut self.ends[ended..],
            );
            read += r;
            written += w;
            ended += e;
            match result {
                // An empty input says that the last record ends here.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.cells.resize(self.cells.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= COLUMNS_MAX => {
                    let end = memchr(b'\n', &begin[read..]).map_or(begin.len(), |len| read + len);
                    self.reader.reset();
                    return Some(Err(self.pass(begin, end)));
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.ends.truncate(ended.max(1));
        let record = self.pass(begin, read);
        Some(Ok(record))
    }

    fn pass(&mut self, begin: &'a [u8], len: usize) -> Record<'a> {
        let record = Record {
            line: self.line,
            text: begin[..len].trim_ascii_end(),
        };
        self.line += memchr_iter(b'\n', &begin[..len]).count() as u64;
        self.rest = &begin[len..];
        record
    }

    /// The cells of the record read last; `None` where one is no text.
    fn cells(&self) -> Option<Vec<&str>> {
        let mut from = 0;
        let one = |end: &usize| {
            let cell = std::str::from_utf8(&self.cells[from..*end]).ok();
            from = *end;
            cell
        };
        self.ends.iter().map(one).collect()
    }

    /// Ready for the next record.
    fn again(&mut self) {
        self.ends.resize(self.ends.capacity().clamp(16, COLUMNS_MAX), 0);
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        if self.is_whole {
            self.state = State::default();
        }
        let mut records = Records::new(&self.settings, piece);
        while let Some(record) = records.next() {
            let (record, read) = match record {
                Ok(record) => {
                    let read = match records.cells() {
                        Some(cells) => self.record(&record, &cells, sink),
                        None => {
                            let valid = std::str::from_utf8(record.text)
                                .err()
                                .map_or(0, |e| e.valid_up_to());
                            Err((valid, "invalid UTF-8".to_string()))
                        }
                    };
                    (record, read)
                }
                Err(record) => (
                    record,
                    Err((0, format!("too many columns (columns_max {COLUMNS_MAX})"))),
                ),
            };
            if let Err((at, reason)) = read {
                let header = self.state.table.as_ref().map(|table| table.header.as_slice());
                sink.reject(&Rejection {
                    origin: Origin {
                        line: record.line,
                        text: record.text,
                    },
                    column: at.min(record.text.len()) as u64 + 1,
                    reason: &reason,
                    context: header.unwrap_or_default(),
                });
            }
            records.again();
        }
    }
}

impl CsvDecoder {
    pub fn new(settings: Settings, framing: Framing) -> Self {
        Self {
            settings,
            is_whole: framing == Framing::Whole,
            state: State::default(),
            spelling: Vec::new(),
            places: Places::default(),
        }
    }

    fn record(
        &mut self,
        record: &Record<'_>,
        cells: &[&str],
        sink: &mut dyn RowSink,
    ) -> Result<(), (usize, String)> {
        if Annotations::is_one(cells[0]) {
            // After rows they begin a new table.
            self.state.table = None;
            self.state.annotations.add(cells, record.text);
            return Ok(());
        }
        if self.state.table.is_none() && cells[0].starts_with('#') {
            // A comment above the header.
            return Ok(());
        }
        if self.state.table.is_none() {
            let annotations = std::mem::take(&mut self.state.annotations);
            let Some(names) = &self.settings.columns else {
                self.state.table = Some(annotations.table(cells, record.text, &self.settings));
                return Ok(());
            };
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.state.table = Some(annotations.table(&names, b"", &self.settings));
        }
        let Some(table) = &self.state.table else {
            return Ok(());
        };
        self.places.clear();
        let mut reader = Cells {
            text: record.text,
            header: &table.header,
            delimiter: self.settings.delimiter,
            quote: self.settings.quote,
            places: &mut self.places,
        };
        row(table, record, cells, &mut reader, &mut self.spelling, sink)
    }
}

/// Makes a row of a record; where in the record and why when it cannot.
fn row(
    table: &Table,
    record: &Record<'_>,
    cells: &[&str],
    reader: &mut Cells<'_>,
    spelling: &mut Vec<u8>,
    sink: &mut dyn RowSink,
) -> Result<(), (usize, String)> {
    if cells.len() != table.columns.len() {
        let reason = format!(
            "{} cells where the header has {}",
            cells.len(),
            table.columns.len()
        );
        // Where the first cell too many is, or one is missing.
        return Err((reader.cell(table.columns.len()), reason));
    }
    let mut measurement = table.measurement.as_deref();
    let mut tags: Vec<(&str, &str)> = table.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut fields: Vec<Field<'_>> = Vec::new();
    let (mut time, mut field_name, mut field_value) = (None, None, None);
    reader.places.tags_of_all = tags.len();
    for (at, (column, cell)) in table.columns.iter().zip(cells).enumerate() {
        let place = || reader.cell(at);
        let cell = if cell.is_empty() {
            column.default.as_str()
        } else {
            cell
        };
        if cell.is_empty() {
            continue;
        }
        match &column.role {
            Role::Ignored => {}
            Role::Measurement => measurement = Some(cell),
            Role::Tag => {
                tags.push((&column.name, cell));
                reader.places.tags.push(at);
            }
            Role::Time(unit) => {
                let read = unit.read(cell.trim());
                let wrong = || (place(), format!("invalid time in column \"{}\"", column.name));
                time = Some(read.ok_or_else(wrong)?);
                reader.places.time = Some(at);
            }
            Role::FieldName => field_name = Some(cell),
            Role::Field(kind) | Role::FieldValue(kind) => {
                let value = value(cell, *kind).ok_or_else(|| {
                    let reason = format!("invalid {} in column \"{}\"", told(*kind), column.name);
                    (place(), reason)
                })?;
                if matches!(column.role, Role::FieldValue(_)) {
                    field_value = Some((at, value));
                } else {
                    fields.push(Field::new(&column.name, value));
                    reader.places.fields.push(at);
                }
            }
        }
    }
    if let (Some(name), Some((at, value))) = (field_name, field_value) {
        fields.push(Field::new(name, value));
        reader.places.fields.push(at);
    }
    let Some(measurement) = measurement.filter(|name| !name.is_empty()) else {
        return Err((
            0,
            "missing measurement (give measurement or measurement_column)".into(),
        ));
    };
    if fields.is_empty() {
        return Err((record.text.len(), "missing fields".into()));
    }
    SeriesParts::spell(measurement, &tags, spelling);
    sink.row(&Row {
        series: SeriesRef { spelling, reader },
        time,
        fields: &fields,
        origin: Origin {
            line: record.line,
            text: record.text,
        },
    });
    Ok(())
}

fn value(cell: &str, kind: Kind) -> Option<Value<'_>> {
    let float = || {
        let (value, len) = number::float(cell.trim().as_bytes())?;
        (len == cell.trim().len() && value.is_finite()).then_some(Value::Float(value))
    };
    let boolean = || match cell.trim() {
        "true" | "True" | "TRUE" | "t" | "T" if kind == Kind::Boolean => Some(Value::Boolean(true)),
        "false" | "False" | "FALSE" | "f" | "F" if kind == Kind::Boolean => Some(Value::Boolean(false)),
        "true" | "True" | "TRUE" => Some(Value::Boolean(true)),
        "false" | "False" | "FALSE" => Some(Value::Boolean(false)),
        _ => None,
    };
    match kind {
        Kind::Any => Some(float().or_else(boolean).unwrap_or(Value::String(cell))),
        Kind::Float => float(),
        Kind::Integer => cell.trim().parse().ok().map(Value::Integer),
        Kind::Unsigned => cell.trim().parse().ok().map(Value::Unsigned),
        Kind::Boolean => boolean(),
        Kind::String => Some(Value::String(cell)),
    }
}

fn told(kind: Kind) -> &'static str {
    match kind {
        Kind::Any | Kind::Float => "number",
        Kind::Integer => "integer",
        Kind::Unsigned => "unsigned integer",
        Kind::Boolean => "boolean",
        Kind::String => "text",
    }
}

/// Keeps the lines that say what columns are: annotations and header, the latest of a piece.
pub fn keep_header(settings: &Settings, piece: &[u8], preamble: &mut Vec<u8>) {
    let mut records = Records::new(settings, piece);
    let mut annotated = false;
    while let Some(record) = records.next() {
        let (Ok(record) | Err(record)) = record;
        let first = records
            .cells()
            .and_then(|cells| cells.first().map(|c| (*c).to_string()));
        records.again();
        let is_annotation = first.as_deref().is_some_and(Annotations::is_one);
        let is_comment = first.is_some_and(|cell| cell.starts_with('#'));
        let is_header = annotated || (preamble.is_empty() && settings.columns.is_none() && !is_comment);
        if is_annotation && !annotated {
            preamble.clear();
        }
        if is_annotation || is_header {
            preamble.extend_from_slice(record.text);
            preamble.push(b'\n');
        }
        annotated = is_annotation;
    }
}
