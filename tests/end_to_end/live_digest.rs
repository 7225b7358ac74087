//! Percentiles of a live window: exact while it has few values, near when it has many.

use crate::live::Live;
use crate::support::{PATIENCE, Random, Server};
use serde_json::{Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Values of a window up to which percentiles are exact: `EXACT_VALUES_MAX`.
const EXACT: usize = 128 << 10;
/// Values written at once.
const BATCH: usize = 12_000;
/// The rank of a digest's answer is off by less than so much.
const NEAR: f64 = 0.005;

/// How large a part of the values is not larger than one: from, to.
fn ranks(sorted: &[f64], value: f64) -> (f64, f64) {
    let below = sorted.partition_point(|other| *other < value) as f64;
    let upto = sorted.partition_point(|other| *other <= value) as f64;
    (below / sorted.len() as f64, upto / sorted.len() as f64)
}

#[test]
fn percentiles_are_exact_until_there_are_many_values() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--host-metrics", "off", "--live-cpu", "100"];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let mut live = Live::open(&server);
    let selects = [
        "SELECT count(v), percentile(v, 90), median(v) FROM m",
        "SELECT count(v), approx_percentile(v, 10), approx_median(v) FROM m",
    ];
    for (id, select) in selects.iter().enumerate() {
        let q = format!("{select} GROUP BY time(52w)");
        let id = id.to_string();
        live.send(json!({"type": "subscribe", "id": id, "db": "d", "lateness": "1d", "q": q}));
        assert_eq!(live.next()["type"], "snapshot");
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let start = now.expect("after 1970").as_nanos() as i64 - 20_000_000_000;
    let mut random = Random(7);
    let mut values: Vec<f64> = Vec::new();
    while values.len() < EXACT + 2 * BATCH {
        let mut lines = String::new();
        for _ in 0..BATCH {
            // Few small ones, many large ones.
            let value = (random.below(1_000_000) as f64 / 1000.0).sqrt();
            lines.push_str(&format!("m v={value} {}\n", start + values.len() as i64 * 1000));
            values.push(value);
        }
        server.write("d", &lines);
        let deadline = Instant::now() + PATIENCE * 2;
        let mut rows = [Vec::new(), Vec::new()];
        while rows.iter().any(|row: &Vec<Value>| row.is_empty()) {
            assert!(
                Instant::now() < deadline,
                "no update with {} values",
                values.len()
            );
            let message = live.next();
            assert_ne!(message["type"], "error", "{message}");
            let row = message["series"][0]["values"][0].as_array();
            if let Some(row) = row.filter(|row| row[1] == values.len()) {
                rows[usize::from(message["id"] == "1")] = row[2..].to_vec();
            }
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for (value, percent) in rows.iter().flatten().zip([0.9, 0.5, 0.1, 0.5]) {
            let value = value.as_f64().expect("a number");
            let (from, to) = ranks(&sorted, value);
            assert!(
                from - NEAR < percent && percent < to + NEAR,
                "{}: {rows:?}: {from} to {to}",
                values.len()
            );
        }
        if values.len() <= EXACT {
            let asked = &server.rows("d", "SELECT percentile(v, 90), median(v) FROM m")[0];
            assert_eq!(
                (&rows[0][0], &rows[0][1]),
                (&asked[1], &asked[2]),
                "{}",
                values.len()
            );
        }
    }
    let (_, metrics) = crate::support::get(&server.url("/metrics")).expect("metrics");
    let mut lines = metrics.lines();
    let folds = lines.find_map(|line| line.strip_prefix("kymo_live_folds_total "));
    assert_ne!(folds, Some("0"), "what is new was folded");
}
