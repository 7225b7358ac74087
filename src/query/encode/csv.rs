//! Results as CSV: `name,tags` and the columns; a header whenever they change, an empty line between statements.

use super::{Encoder, Event, Text, TimeFormat, number};
use crate::query::result::Series;
use crate::query::value::Value;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub struct Csv {
    times: TimeFormat,
    statement: usize,
    /// The statement and columns of the last header.
    header: Option<(usize, Arc<[String]>)>,
}

impl Csv {
    /// Writes times so.
    pub fn new(times: TimeFormat) -> Self {
        Self {
            times,
            ..Self::default()
        }
    }

    fn series(&mut self, series: &Series, out: &mut Vec<u8>) {
        let same = |(statement, columns): &(usize, Arc<[String]>)| {
            *statement == self.statement && *columns == series.columns
        };
        if !self.header.as_ref().is_some_and(same) {
            if self.header.is_some() {
                out.put("\n");
            }
            self.header = Some((self.statement, series.columns.clone()));
            out.put("name,tags");
            for column in series.columns.iter() {
                out.put(",");
                text(column, out);
            }
            out.put("\n");
        }
        let tags: Vec<String> = series.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut begin = String::new();
        text(&series.name, &mut begin);
        begin.push(',');
        text(&tags.join(","), &mut begin);
        for row in 0..series.rows() {
            out.put(&begin);
            if series.has_time() {
                out.put(",");
                let unit = self.times.epoch.unwrap_or_default().nanoseconds();
                number::integer(series.times[row] / unit, out);
            }
            for value in series.row(row) {
                out.put(",");
                match value {
                    Value::Null => {}
                    Value::String(given) => text(&given, out),
                    value => super::json_value(&value, out),
                }
            }
            out.put("\n");
        }
    }
}

impl Encoder for Csv {
    fn event(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Begin { id, .. } => self.statement = id,
            Event::Piece(piece) => self.series(&piece.series, out),
            Event::End { error: Some(error) } => {
                out.put("error\n");
                text(&error, out);
                out.put("\n");
            }
            Event::Hint(_) | Event::Busy | Event::End { error: None } => {}
        }
    }

    fn finish(&mut self, _: &mut Vec<u8>) {}
}

fn text(text: &str, out: &mut impl Text) {
    if text.contains([',', '"', '\n', '\r']) || text.starts_with(' ') {
        out.put(&format!("\"{}\"", text.replace('"', "\"\"")));
    } else {
        out.put(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::result::{Piece, ResultColumn};

    #[test]
    fn headers_come_when_columns_change() {
        let series = |name: &str, column: &str, value: Value| Series {
            name: name.into(),
            tags: vec![("host".into(), "a,b".into())],
            columns: Arc::new(["time".into(), column.into()]),
            times: vec![5],
            values: vec![ResultColumn::from(value)],
        };
        let mut csv = Csv::default();
        let mut out = Vec::new();
        let mut events = vec![Event::begin(0)];
        for one in [
            series("m", "v", Value::Float(1.5)),
            series("n", "v", Value::Null),
            series("n", "w", Value::String("x \"y\"".into())),
        ] {
            events.push(Event::Piece(Piece::whole(one)));
        }
        events.push(Event::End { error: None });
        events.push(Event::begin(1));
        events.push(Event::End {
            error: Some("no".into()),
        });
        events.into_iter().for_each(|e| csv.event(e, &mut out));
        csv.finish(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "name,tags,time,v\nm,\"host=a,b\",5,1.5\nn,\"host=a,b\",5,\n\nname,tags,time,w\nn,\"host=a,b\",5,\"x \"\"y\"\"\"\nerror\nno\n"
        );
    }
}
