//! Results as JSON, as InfluxDB writes them: whole, or one document a chunk.

use super::number::{self, json_text};
use super::quoted::{Quoted, together};
use super::{Encoder, Event, Text, TimeFormat, json_time, json_value};
use crate::model::{Bitmap, StringColumn, Values};
use crate::query::result::{Coded, Piece, ResultColumn, Series};
use jiff::tz::TimeZone;
use std::ops::Range;

/// One document for all statements, written as their rows come.
#[derive(Debug)]
pub struct Json {
    times: TimeFormat,
    zone: TimeZone,
    messages: Vec<String>,
    hint: Option<String>,
    place: Place,
    statements: usize,
    quoted: Quoted,
}

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The beginning of a statement.
    Statement,
    /// Rows of a series that goes on.
    Rows,
    /// A whole series.
    Series,
}

impl Json {
    /// Writes times so.
    pub fn new(times: TimeFormat) -> Self {
        Self {
            times,
            zone: TimeZone::UTC,
            messages: Vec::new(),
            hint: None,
            place: Place::Statement,
            statements: 0,
            quoted: Quoted::default(),
        }
    }
}

impl Encoder for Json {
    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Begin { id, messages, zone } => {
                out.put(if self.statements == 0 {
                    "{\"results\":["
                } else {
                    ","
                });
                self.statements += 1;
                self.zone = zone.unwrap_or(TimeZone::UTC);
                self.messages = messages;
                self.place = Place::Statement;
                out.put("{\"statement_id\":");
                number::integer(id, out);
            }
            Event::Piece(Piece { series, goes_on }) => {
                match self.place {
                    Place::Statement => out.put(",\"series\":["),
                    Place::Series => out.put(","),
                    Place::Rows => {}
                }
                if self.place != Place::Rows {
                    begin_series(&series, out);
                }
                let style = Style {
                    times: &self.times,
                    zone: &self.zone,
                    quoted: &mut self.quoted,
                };
                rows(&series, style, self.place == Place::Rows, out);
                if !goes_on {
                    end_series(&series, out);
                }
                self.place = if goes_on { Place::Rows } else { Place::Series };
            }
            Event::Hint(hint) => self.hint = Some(hint),
            Event::Busy => {}
            Event::End { error } => {
                match self.place {
                    Place::Statement => {}
                    // It failed on the way.
                    Place::Rows => out.put("]}]"),
                    Place::Series => out.put("]"),
                }
                end_statement(&self.messages, error.as_deref(), self.hint.take(), out);
                out.put("}");
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        out.put(if self.statements == 0 {
            "{\"results\":[]}"
        } else {
            "]}"
        });
        out.put("\n");
    }
}

/// One document, and a line, for each piece; all but the last piece of a statement say that more follow.
#[derive(Debug)]
pub struct ChunkedJson {
    times: TimeFormat,
    rows_max: usize,
    id: usize,
    zone: TimeZone,
    messages: Vec<String>,
    hint: Option<String>,
    /// Held back until it is known what follows.
    waiting: Option<Piece>,
    quoted: Quoted,
}

impl ChunkedJson {
    /// Writes times so, and at most so many rows a document.
    pub fn new(times: TimeFormat, rows_max: usize) -> Self {
        Self {
            times,
            rows_max: rows_max.max(1),
            id: 0,
            zone: TimeZone::UTC,
            messages: Vec::new(),
            hint: None,
            waiting: None,
            quoted: Quoted::default(),
        }
    }

    fn document(&mut self, piece: Option<Piece>, more: bool, error: Option<&str>, out: &mut Vec<u8>) {
        out.put("{\"results\":[{\"statement_id\":");
        number::integer(self.id, out);
        if let Some(Piece { series, goes_on }) = piece {
            out.put(",\"series\":[");
            begin_series(&series, out);
            let style = Style {
                times: &self.times,
                zone: &self.zone,
                quoted: &mut self.quoted,
            };
            rows(&series, style, false, out);
            if series.rows() > 0 {
                out.put("]");
            }
            out.put(if goes_on { ",\"partial\":true}]" } else { "}]" });
        }
        let messages = std::mem::take(&mut self.messages);
        let hint = if more { None } else { self.hint.take() };
        end_statement(&messages, error, hint, out);
        out.put(if more { ",\"partial\":true}]}" } else { "}]}" });
        out.put("\n");
    }

    fn piece(&mut self, piece: Piece, out: &mut Vec<u8>) {
        if let Some(before) = self.waiting.replace(piece) {
            self.document(Some(before), true, None, out);
        }
    }
}

impl Encoder for ChunkedJson {
    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Begin { id, messages, zone } => {
                self.id = id;
                self.zone = zone.unwrap_or(TimeZone::UTC);
                self.messages = messages;
            }
            Event::Piece(piece) => {
                // Rows of a series that goes on are gathered up to the size of a chunk.
                let piece = match self.waiting.take() {
                    Some(mut before) if before.goes_on && before.series.rows() < self.rows_max => {
                        before.series.append(piece.series);
                        Piece {
                            series: before.series,
                            goes_on: piece.goes_on,
                        }
                    }
                    before => {
                        self.waiting = before;
                        piece
                    }
                };
                let total = piece.series.rows();
                if total <= self.rows_max {
                    return self.piece(piece, out);
                }
                for start in (0..total).step_by(self.rows_max) {
                    let end = total.min(start + self.rows_max);
                    let part = Piece {
                        series: piece.series.slice(start..end),
                        goes_on: end < total || piece.goes_on,
                    };
                    self.piece(part, out);
                }
            }
            Event::Hint(hint) => self.hint = Some(hint),
            Event::Busy => {}
            Event::End { error } => {
                let last = self.waiting.take();
                self.document(last, false, error.as_deref(), out);
            }
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) {}
}

fn end_statement(messages: &[String], error: Option<&str>, hint: Option<String>, out: &mut Vec<u8>) {
    if !messages.is_empty() {
        out.put(",\"messages\":[");
        for (i, text) in messages.iter().enumerate() {
            if i > 0 {
                out.put(",");
            }
            out.put("{\"level\":\"warning\",\"text\":");
            json_text(text, out);
            out.put("}");
        }
        out.put("]");
    }
    if let Some(error) = error {
        out.put(",\"error\":");
        json_text(error, out);
    }
    if let Some(hint) = hint {
        out.put(",\"hint\":");
        json_text(&hint, out);
    }
}

/// Everything of a series that stands before its rows.
fn begin_series(series: &Series, out: &mut Vec<u8>) {
    out.put("{");
    if !series.name.is_empty() {
        out.put("\"name\":");
        json_text(&series.name, out);
        out.put(",");
    }
    if !series.tags.is_empty() {
        out.put("\"tags\":{");
        for (i, (key, value)) in series.tags.iter().enumerate() {
            if i > 0 {
                out.put(",");
            }
            json_text(key, out);
            out.put(":");
            json_text(value, out);
        }
        out.put("},");
    }
    out.put("\"columns\":[");
    for (i, column) in series.columns.iter().enumerate() {
        if i > 0 {
            out.put(",");
        }
        json_text(column, out);
    }
    out.put("]");
    if series.rows() > 0 {
        out.put(",\"values\":[");
    }
}

fn end_series(series: &Series, out: &mut Vec<u8>) {
    out.put(if series.rows() > 0 { "]}" } else { "}" });
}

/// Columns, ready to be written row by row.
enum Cells<'a> {
    Floats(&'a [f64], Option<&'a Bitmap>),
    Integers(&'a [i64], Option<&'a Bitmap>),
    Texts(&'a StringColumn, Option<&'a Bitmap>),
    /// Several columns, and the number of their set.
    Quoted(&'a [u32], usize),
    Others(&'a ResultColumn),
}

impl<'a> Cells<'a> {
    /// All columns of a series.
    fn all(columns: &'a [ResultColumn], quoted: &mut Quoted) -> Vec<Self> {
        quoted.tidy();
        let mut cells = Vec::with_capacity(columns.len());
        let mut rest = columns;
        while let Some(first) = rest.first() {
            let count = together(rest);
            let coded: Vec<&Coded> = rest[..count].iter().filter_map(coded).collect();
            cells.push(match coded.first() {
                Some(codes) => Self::Quoted(&codes.codes, quoted.set(&coded)),
                None => Self::of(first),
            });
            rest = &rest[count.max(1)..];
        }
        cells
    }

    fn of(column: &'a ResultColumn) -> Self {
        match column {
            ResultColumn::Typed(typed) => match &typed.values {
                Values::Float(v) => Self::Floats(v, typed.present.as_ref()),
                Values::Integer(v) => Self::Integers(v, typed.present.as_ref()),
                Values::String(v) => Self::Texts(v, typed.present.as_ref()),
                _ => Self::Others(column),
            },
            ResultColumn::Coded(_) | ResultColumn::Mixed(_) => Self::Others(column),
        }
    }

    /// Appends the values of a row, a comma after each.
    #[inline]
    fn write(&self, row: usize, quoted: &mut Quoted, out: &mut Vec<u8>) {
        let has = |present: &Option<&Bitmap>| present.is_none_or(|p| p.get(row));
        match self {
            Self::Integers(v, present) if has(present) => number::small_integer(v[row], out),
            Self::Quoted(codes, set) => return quoted.write(*set, codes[row], out),
            Self::Floats(v, present) if has(present) => number::float(v[row], out),
            Self::Texts(v, present) if has(present) => json_text(&v.text(row), out),
            Self::Floats(..) | Self::Integers(..) | Self::Texts(..) => out.put("null"),
            Self::Others(column) => json_value(&column.value(row), out),
        }
        out.push(b',');
    }
}

fn coded(column: &ResultColumn) -> Option<&Coded> {
    match column {
        ResultColumn::Coded(coded) => Some(coded),
        ResultColumn::Typed(_) | ResultColumn::Mixed(_) => None,
    }
}

/// How rows are written.
struct Style<'a> {
    times: &'a TimeFormat,
    zone: &'a TimeZone,
    quoted: &'a mut Quoted,
}

/// Appends rows; `follow` when some of the same series stand there already.
fn rows(series: &Series, style: Style<'_>, follow: bool, out: &mut Vec<u8>) {
    let Style { times, zone, quoted } = style;
    let cells = Cells::all(&series.values, quoted);
    let rows = series.rows();
    out.reserve(rows * (series.columns.len() * 8 + 24));
    // The last time, and where its text is: rows of one moment often stand together.
    let mut last: Option<(i64, Range<usize>)> = None;
    for row in 0..rows {
        out.put(if row > 0 || follow { ",[" } else { "[" });
        let begin = out.len();
        if series.has_time() {
            let time = series.times[row];
            match &last {
                Some((of, text)) if *of == time => out.extend_from_within(text.clone()),
                _ => {
                    json_time(time, times, zone, out);
                    out.push(b',');
                    last = Some((time, begin..out.len()));
                }
            }
        }
        cells.iter().for_each(|cell| cell.write(row, quoted, out));
        // In place of the last comma.
        if out.len() > begin {
            out.truncate(out.len() - 1);
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Precision;
    use std::sync::Arc;

    fn series(name: &str, values: &[i64]) -> Series {
        Series {
            name: name.into(),
            columns: Arc::new(["time".into(), "v".into()]),
            times: values.iter().map(|v| v * 10).collect(),
            values: vec![ResultColumn::Typed(crate::model::Column {
                values: Values::Integer(values.to_vec()),
                present: None,
            })],
            ..Series::default()
        }
    }

    fn piece(series: Series, goes_on: bool) -> Event {
        Event::Piece(Piece { series, goes_on })
    }

    fn times() -> TimeFormat {
        TimeFormat {
            epoch: Some(Precision::Nanosecond),
        }
    }

    fn encode(mut encoder: impl Encoder, events: Vec<Event>) -> String {
        let mut out = Vec::new();
        events.into_iter().for_each(|e| encoder.event(e, &mut out));
        encoder.finish(&mut out);
        String::from_utf8(out).expect("JSON is text")
    }

    fn two_statements() -> Vec<Event> {
        vec![
            Event::begin(0),
            piece(series("a", &[1, 2]), true),
            piece(series("a", &[3]), false),
            piece(series("b", &[4]), false),
            Event::End { error: None },
            Event::Begin {
                id: 1,
                messages: vec!["careful".into()],
                zone: None,
            },
            Event::End {
                error: Some("no \"x\"".into()),
            },
        ]
    }

    #[test]
    fn a_whole_answer_is_one_document() {
        let got = encode(Json::new(times()), two_statements());
        assert_eq!(
            got,
            r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","v"],"values":[[10,1],[20,2],[30,3]]},{"name":"b","columns":["time","v"],"values":[[40,4]]}]},{"statement_id":1,"messages":[{"level":"warning","text":"careful"}],"error":"no \"x\""}]}
"#
        );
        assert_eq!(encode(Json::new(times()), Vec::new()), "{\"results\":[]}\n");
        let empty = encode(
            Json::new(times()),
            vec![Event::begin(0), Event::End { error: None }],
        );
        assert_eq!(empty, "{\"results\":[{\"statement_id\":0}]}\n");
    }

    #[test]
    fn tags_and_times_that_come_again_are_written_as_if_they_did_not() {
        let (same, other) = (Arc::new(vec![0, 1, 0]), Arc::new(vec![1, 1, 0]));
        let tag = |codes: &Arc<Vec<u32>>, texts: [Option<&str>; 2]| {
            ResultColumn::Coded(Coded {
                codes: codes.clone(),
                texts: texts.iter().map(|text| text.map(Arc::from)).collect(),
            })
        };
        let floats = |values: &[f64]| {
            ResultColumn::Typed(crate::model::Column {
                values: Values::Float(values.to_vec()),
                present: None,
            })
        };
        let columns = ["time", "a", "b", "v", "c"].map(String::from);
        let mut rows = Series {
            name: "m".into(),
            columns: Arc::new(columns),
            times: vec![7, 7, 1000],
            values: vec![
                tag(&same, [Some("x\"y"), None]),
                tag(&same, [Some("p"), Some("q")]),
                floats(&[1.5, -0.0, 999.0]),
                tag(&other, [Some("u"), Some("w")]),
            ],
            ..Series::default()
        };
        let begin = r#"{"results":[{"statement_id":0,"series":[{"name":"m","columns":["time","a","b","v","c"],"values":["#;
        let values = r#"[7,"x\"y","p",1.5,"w"],[7,null,"q",-0,"w"],[1000,"x\"y","p",999,"u"]"#;
        let got = encode(
            Json::new(times()),
            vec![
                Event::begin(0),
                piece(rows.clone(), true),
                piece(rows.clone(), false),
                Event::End { error: None },
            ],
        );
        assert_eq!(got, format!("{begin}{values},{values}]}}]}}]}}\n"));
        let chunks = encode(
            ChunkedJson::new(times(), 100),
            vec![
                Event::begin(0),
                piece(rows.clone(), true),
                piece(rows.clone(), false),
                Event::End { error: None },
            ],
        );
        assert_eq!(chunks, got);
        // As texts, times have quotes; nothing else changes.
        rows.values.truncate(1);
        let got = encode(
            Json::new(TimeFormat::default()),
            vec![Event::begin(0), piece(rows, false), Event::End { error: None }],
        );
        let text = "1970-01-01T00:00:00.000000007Z";
        assert!(
            got.contains(&format!(
                r#""values":[["{text}","x\"y"],["{text}",null],["1970-01-01T00:00:00.000001Z","x\"y"]]"#
            )),
            "{got}"
        );
    }

    #[test]
    fn an_answer_that_fails_on_the_way_is_still_a_document() {
        let events = vec![
            Event::begin(0),
            piece(series("a", &[1]), true),
            Event::End {
                error: Some("gone".into()),
            },
        ];
        assert_eq!(
            encode(Json::new(times()), events),
            r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","v"],"values":[[10,1]]}],"error":"gone"}]}
"#
        );
    }

    #[test]
    fn chunks_say_what_follows() {
        let got = encode(ChunkedJson::new(times(), 2), two_statements());
        let want = [
            r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","v"],"values":[[10,1],[20,2]],"partial":true}],"partial":true}]}"#,
            r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","v"],"values":[[30,3]]}],"partial":true}]}"#,
            r#"{"results":[{"statement_id":0,"series":[{"name":"b","columns":["time","v"],"values":[[40,4]]}]}]}"#,
            r#"{"results":[{"statement_id":1,"messages":[{"level":"warning","text":"careful"}],"error":"no \"x\""}]}"#,
            "",
        ];
        assert_eq!(got, want.join("\n"));
        // Small pieces are gathered, large ones are cut.
        let got = encode(ChunkedJson::new(times(), 3), two_statements());
        assert!(
            got.starts_with(r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["time","v"],"values":[[10,1],[20,2],[30,3]]}],"partial":true}]}"#),
            "{got}"
        );
    }
}
