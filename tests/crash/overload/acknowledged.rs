//! Ways in that acknowledge, what each of them has acknowledged, and whether it is there.

use super::clients;
use crate::support::Server;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// A way in that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Lines,
    Json,
    RemoteWrite,
}

pub const WAYS: [Way; 3] = [Way::Lines, Way::Json, Way::RemoteWrite];

impl Way {
    /// Where the points go that name their requests.
    pub fn measurement(self) -> &'static str {
        match self {
            Self::Lines => "m",
            Self::Json => "j",
            Self::RemoteWrite => "r",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::RemoteWrite => "value",
            _ => "v",
        }
    }

    /// Sends a request of a point that names it and of others: the status, 0 without an answer.
    pub fn send(self, server: &Server, measurement: &str, id: u64, filler: &[u8]) -> u16 {
        let w = (id % 50).to_string();
        let (path, headers, mut body): (_, &[(&str, &str)], _) = match self {
            Self::Lines => ("/write?db=d", &[], format!("{measurement},w={w} v={id}i {id}\n").into_bytes()),
            Self::Json => (
                "/write?db=d&format=json&integers=on",
                &[],
                format!("{{\"measurement\":\"{measurement}\",\"tags\":{{\"w\":\"{w}\"}},\"fields\":{{\"v\":{id}}},\"time\":{id}}}\n")
                    .into_bytes(),
            ),
            Self::RemoteWrite => (
                "/api/v1/write?db=d",
                &[("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")],
                series(&[("__name__", measurement), ("w", &w)], &[(id as f64, id as i64)]),
            ),
        };
        body.extend_from_slice(filler);
        if self == Self::RemoteWrite {
            body = snap::raw::Encoder::new().compress_vec(&body).expect("in memory");
        }
        clients::post_as(&server.url(path), headers, &body)
    }
}

/// JSON points of another measurement.
pub fn json_filler(bytes: usize) -> Vec<u8> {
    let mut out = String::new();
    for i in 0.. {
        if out.len() > bytes {
            break;
        }
        out += &format!(
            "{{\"measurement\":\"fj\",\"tags\":{{\"host\":\"h{}\"}},\"fields\":{{\"v\":{i}}},\"time\":{i}}}\n",
            i % 997
        );
    }
    out.into_bytes()
}

/// Samples of other metrics.
pub fn samples_filler(samples: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for i in 0..samples / 10 {
        let host = format!("h{i}");
        let values: Vec<(f64, i64)> = (0..10).map(|at| (at as f64, at)).collect();
        out.extend(series(&[("__name__", "fr"), ("host", &host)], &values));
    }
    out
}

/// A whole `WriteRequest` of so many samples, compressed.
pub fn samples(count: usize) -> Vec<u8> {
    let plain = samples_filler(count);
    snap::raw::Encoder::new().compress_vec(&plain).expect("in memory")
}

/// A `TimeSeries` of a `WriteRequest`: milliseconds and values.
fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 1, name.as_bytes());
        field(&mut label, 2, value.as_bytes());
        field(&mut inner, 1, &label);
    }
    for (value, time) in samples {
        let mut sample = vec![1 << 3 | 1];
        sample.extend(value.to_le_bytes());
        sample.push(2 << 3);
        varint(&mut sample, *time as u64);
        field(&mut inner, 2, &sample);
    }
    let mut out = Vec::new();
    field(&mut out, 1, &inner);
    out
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Ids of requests that were acknowledged, by way.
#[derive(Default)]
pub struct Acknowledged([Mutex<BTreeSet<u64>>; WAYS.len()]);

impl Acknowledged {
    fn ids(&self, way: Way) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.0[way as usize].lock().expect("unpoisoned")
    }

    pub fn add(&self, way: Way, id: u64) {
        self.ids(way).insert(id);
    }

    pub fn of(&self, way: Way) -> usize {
        self.ids(way).len()
    }

    /// Every request that was acknowledged is there.
    pub fn are_there(&self, server: &Server, when: &str) {
        for way in WAYS {
            let query = format!("SELECT {} FROM {}", way.field(), way.measurement());
            let found: BTreeSet<u64> = server
                .rows("d", &query)
                .iter()
                .map(|row| row[1].as_f64().expect("a number") as u64)
                .collect();
            let ids = self.ids(way);
            let lost: Vec<&u64> = ids.difference(&found).collect();
            assert!(
                lost.is_empty(),
                "{when}: {way:?}: acknowledged and gone: {lost:?}"
            );
            eprintln!(
                "{when}: {way:?}: all {} acknowledged requests, of {} that are there",
                ids.len(),
                found.len()
            );
        }
    }
}
