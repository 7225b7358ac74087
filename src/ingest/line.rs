//! A point as a line of line protocol, whatever format it came in.

use kymo_plugin_api::{Row, SeriesParts, Value};
use std::fmt::Write;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// For people, and to be decoded again if that gives the same point.
    pub text: String,
    /// Does it? Not every name can be written so: none that is empty, has a newline, or a backslash before what is escaped with one.
    pub is_exact: bool,
}

impl Line {
    /// Of a row at a time: its own or that of receipt. Tags without a value are left out.
    pub fn new(row: &Row<'_>, time: i64) -> Self {
        let mut parts = SeriesParts::default();
        if row.series.reader.read(row.series.spelling, &mut parts).is_err() {
            return Self {
                text: String::from_utf8_lossy(row.origin.text).into_owned(),
                is_exact: false,
            };
        }
        let mut line = Self {
            text: String::new(),
            is_exact: !row.fields.is_empty() && !parts.measurement.starts_with(['#', '\t']),
        };
        line.name(&parts.measurement, &[',', ' ']);
        for (key, value) in parts.tags.iter().filter(|(_, value)| !value.is_empty()) {
            line.text.push(',');
            line.name(key, &[',', '=', ' ']);
            line.text.push('=');
            line.name(value, &[',', '=', ' ']);
        }
        for (at, field) in row.fields.iter().enumerate() {
            line.text.push(if at == 0 { ' ' } else { ',' });
            // Blanks before the first key are passed over.
            line.is_exact &= at > 0 || !field.key.starts_with('\t');
            line.name(field.key, &[',', '=', ' ']);
            line.value(field.value);
        }
        let _ = write!(line.text, " {time}");
        line
    }

    fn name(&mut self, name: &str, special: &[char]) {
        let mut slashes = 0;
        for c in name.chars() {
            if special.contains(&c) {
                // Backslashes pair up from the left: the one that escapes must have no odd one before it.
                self.is_exact &= slashes % 2 == 0;
                self.text.push('\\');
            }
            slashes = if c == '\\' { slashes + 1 } else { 0 };
            self.text.push(c);
        }
        self.is_exact &= !name.is_empty() && slashes == 0 && !name.contains(['\n', '\r']);
    }

    fn value(&mut self, value: Value<'_>) {
        let text = &mut self.text;
        let _ = match value {
            Value::Float(v) => {
                self.is_exact &= v.is_finite();
                write!(text, "={v:?}")
            }
            Value::Integer(v) => write!(text, "={v}i"),
            Value::Unsigned(v) => write!(text, "={v}u"),
            Value::Boolean(v) => write!(text, "={v}"),
            Value::String(v) => {
                text.push_str("=\"");
                for c in v.chars() {
                    if matches!(c, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(c);
                }
                text.push('"');
                Ok(())
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::kit::{Collector, decode};
    use kymo_plugin_api::series::PlainSpelling;
    use kymo_plugin_api::{Field, Framing, Options, Origin, RowSink, SeriesRef};
    use proptest::prelude::*;

    /// The line, and the row as the kit shows rows.
    fn line(measurement: &str, tags: &[(&str, &str)], fields: &[Field<'_>], time: i64) -> (Line, Collector) {
        let mut spelling = Vec::new();
        SeriesParts::spell(measurement, tags, &mut spelling);
        let row = Row {
            series: SeriesRef {
                spelling: &spelling,
                reader: &PlainSpelling,
            },
            time: Some(time),
            fields,
            origin: Origin {
                line: 4,
                text: b"raw",
            },
        };
        let mut collector = Collector::default();
        collector.row(&row);
        (Line::new(&row, time), collector)
    }

    #[test]
    fn points_become_lines() {
        let fields = [
            Field::new("f 1", Value::Float(1e300)),
            Field::new("n", Value::Integer(-2)),
            Field::new("u", Value::Unsigned(3)),
            Field::new("t", Value::Boolean(true)),
            Field::new("s", Value::String("say \"hi\" \\ bye")),
        ];
        let tags = [("k=", "v w"), ("gone", ""), ("z", "ü")];
        let want = Line {
            text: r#"a\ b\,c,k\==v\ w,z=ü f\ 1=1e300,n=-2i,u=3u,t=true,s="say \"hi\" \\ bye" 77"#.into(),
            is_exact: true,
        };
        assert_eq!(line("a b,c", &tags, &fields, 77).0, want);
    }

    #[test]
    fn what_cannot_be_spelled_is_known() {
        let value = || Value::Float(1.0);
        let cases = [
            ("", "k", "v", "f", value()),
            ("#m", "k", "v", "f", value()),
            ("m", "", "v", "f", value()),
            ("m", "k", "v\\", "f", value()),
            ("m", "k", "v\\,", "f", value()),
            ("m", "k", "v\nother f=1", "f", value()),
            ("m", "k", "v", "", value()),
            ("m", "k", "v", "f\r", value()),
            ("m", "k", "v", "f", Value::Float(f64::NAN)),
        ];
        for (measurement, key, tag, field, value) in cases {
            let (line, _) = line(measurement, &[(key, tag)], &[Field::new(field, value)], 1);
            assert!(!line.is_exact, "{line:?}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[ab]{1,3}", 2 => "[a\\\\,= \"#\t\n\rü]{0,6}", 1 => ".{0,4}"]
    }

    proptest! {
        #[test]
        fn what_is_exact_gives_the_same_point(
            measurement in text(), key in text(), tag in text(), field in text(), string in text(), number: f64, time: i64
        ) {
            let fields = [
                Field::new(&field, Value::String(&string)),
                Field::new("n", Value::Float(number)),
            ];
            let (line, mut want) = line(&measurement, &[(&key, &tag)], &fields, time);
            if !line.is_exact || time == i64::MIN || tag.is_empty() {
                return Ok(());
            }
            let registry = crate::ingest::Registry::standard();
            let format = registry.by_name("line-protocol").expect("it is built in");
            let got = decode(format, &Options::new(), Framing::Whole, &[line.text.as_bytes()]);
            if got.rejections.iter().any(|(_, _, reason)| reason.contains("time outside range")) {
                return Ok(());
            }
            prop_assert_eq!(&got.rejections, &[], "{}", line.text);
            prop_assert_eq!(std::mem::take(&mut want.rows), got.rows, "{}", line.text);
        }
    }
}
