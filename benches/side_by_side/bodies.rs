//! The same points as requests of different formats: from lines of gen.rs (no escapes in them) to JSON as Kymo and VictoriaMetrics
//! take it, and to remote write.

use std::collections::HashMap;
use std::fmt::Write;

/// A line taken apart.
struct Point<'a> {
    measurement: &'a str,
    tags: Vec<(&'a str, &'a str)>,
    /// Names and numbers as text, integers without their `i`.
    fields: Vec<(&'a str, &'a str)>,
    nanoseconds: &'a str,
}

impl<'a> Point<'a> {
    fn read(line: &'a str) -> Self {
        let mut parts = line.split(' ');
        let mut part = || parts.next().expect("three parts");
        let (key, fields, nanoseconds) = (part(), part(), part());
        let pairs = |text: &'a str| {
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.collect::<Vec<_>>()
        };
        let (measurement, tags) = key.split_once(',').expect("tags");
        let fields = pairs(fields)
            .into_iter()
            .map(|(k, v)| (k, v.trim_end_matches('i')));
        Self {
            measurement,
            tags: pairs(tags),
            fields: fields.collect(),
            nanoseconds,
        }
    }

    fn milliseconds(&self) -> &'a str {
        &self.nanoseconds[..self.nanoseconds.len() - 6]
    }

    /// As InfluxDB's users of Prometheus call it: the measurement, and the field unless that is just the value.
    fn metric(&self, field: &str) -> String {
        match field {
            "value" => self.measurement.to_string(),
            _ => format!("{}_{field}", self.measurement),
        }
    }
}

/// Kymo's own shape: a point a line, all fields in it.
pub fn kymo_json(lines: &[&str]) -> Vec<u8> {
    let mut out = String::new();
    for line in lines {
        let point = Point::read(line);
        let _ = write!(out, "{{\"measurement\":\"{}\",\"tags\":{{", point.measurement);
        for (at, (key, value)) in point.tags.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\"{key}\":\"{value}\"");
        }
        out.push_str("},\"fields\":{");
        for (at, (key, value)) in point.fields.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let _ = write!(out, "{comma}\"{key}\":{value}");
        }
        let _ = writeln!(out, "}},\"time\":{}}}", point.nanoseconds);
    }
    out.into_bytes()
}

/// VictoriaMetrics' shape: a series a line, with all its samples in this request, as its own export writes them.
pub fn vm_json(lines: &[&str]) -> Vec<u8> {
    let mut order = Vec::new();
    let mut series: HashMap<String, (String, String)> = HashMap::new();
    for line in lines {
        let point = Point::read(line);
        let mut tags = String::new();
        for (key, value) in &point.tags {
            let _ = write!(tags, ",\"{key}\":\"{value}\"");
        }
        for (field, value) in &point.fields {
            let head = format!("{{\"metric\":{{\"__name__\":\"{}\"{tags}}}", point.metric(field));
            let (values, times) = series.entry(head.clone()).or_insert_with(|| {
                order.push(head);
                Default::default()
            });
            if !values.is_empty() {
                values.push(',');
                times.push(',');
            }
            values.push_str(value);
            times.push_str(point.milliseconds());
        }
    }
    let mut out = String::new();
    for head in order {
        let (values, times) = &series[&head];
        let _ = writeln!(out, "{head},\"values\":[{values}],\"timestamps\":[{times}]}}");
    }
    out.into_bytes()
}

/// Remote write 1.0, as Prometheus sends what it has just scraped: a time series with one sample for each value.
pub fn remote_write(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut series = Vec::new();
    for line in lines {
        let point = Point::read(line);
        for (field, value) in &point.fields {
            series.clear();
            label("__name__", &point.metric(field), &mut series);
            let mut tags = point.tags.clone();
            tags.sort_unstable();
            for (key, value) in tags {
                label(key, value, &mut series);
            }
            let value: f64 = value.parse().expect("a number");
            let time: u64 = point.milliseconds().parse().expect("a time");
            let mut sample = vec![0x09];
            sample.extend_from_slice(&value.to_le_bytes());
            sample.push(0x10);
            varint(time, &mut sample);
            bytes(2, &sample, &mut series);
            bytes(1, &series, &mut out);
        }
    }
    snap::raw::Encoder::new().compress_vec(&out).expect("in memory")
}

fn label(name: &str, value: &str, out: &mut Vec<u8>) {
    let mut label = Vec::new();
    bytes(1, name.as_bytes(), &mut label);
    bytes(2, value.as_bytes(), &mut label);
    bytes(1, &label, out);
}

fn bytes(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
