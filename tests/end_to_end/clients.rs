//! Clients nobody here wrote send data and ask for it; what comes back is compared with what was sent.

use crate::stored::{Fields, Point, contents, fields, point};
use crate::support::{Server, free_address, program, python, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn influx_shell_writes_and_reads() {
    let Some(influx) = program("influx", "the Debian package influxdb-client") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let (host, port) = server.http.split_once(':').expect("host:port");
    let shell = |database: &str, q: &str| {
        let mut command = Command::new(&influx);
        command.args([
            "-host",
            host,
            "-port",
            port,
            "-precision",
            "ns",
            "-format",
            "csv",
            "-execute",
            q,
        ]);
        if !database.is_empty() {
            command.args(["-database", database]);
        }
        run(&mut command)
    };
    shell("", "CREATE DATABASE shell");
    assert!(shell("", "SHOW DATABASES").contains("shell"));
    shell(
        "shell",
        "INSERT cpu,host=a\\ b,region=eu usage=12.5,cores=4i,up=true,note=\"hi, there\" 1000000000",
    );
    shell("shell", "INSERT cpu,host=c usage=7 2000000000");
    assert_eq!(
        shell("shell", "SELECT * FROM cpu"),
        "name,time,cores,host,note,region,up,usage\n\
         cpu,1000000000,4,a b,\"hi, there\",eu,true,12.5\n\
         cpu,2000000000,,c,,,,7\n"
    );
    assert_eq!(
        shell(
            "shell",
            "SELECT mean(usage) FROM cpu WHERE time >= 0s AND time < 4s GROUP BY time(2s) fill(0)"
        ),
        "name,time,mean\ncpu,0,12.5\ncpu,2000000000,7\n"
    );
    assert!(shell("shell", "SHOW TAG VALUES WITH KEY = host").contains("cpu,host,a b"));
}

#[test]
fn python_influxdb_writes_and_reads() {
    let Some(python) = python(&["influxdb"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let port = server.http.rsplit(':').next().expect("a port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python_influxdb.py");
    let said = run(Command::new(python).args([script, port]));
    assert!(said.ends_with("ok\n"), "{said}");
    // The script compares all rows with what it wrote, as its client reads them; here they are seen without it.
    let stored = contents(&server, "py");
    assert_eq!(stored.len(), 1000);
    for i in 0..1000_i64 {
        let host = format!("h{}", i % 10);
        let at = point("load", &[("host", &host)], (i + 1) * 1_000_000_000);
        let want =
            json!({"value": i as f64 * 0.25, "text": format!("say \"{i}\", ok"), "even": i % 2 == 0, "n": i});
        assert_eq!(stored.get(&at), Some(&fields(want)), "{at:?}");
    }
}

#[test]
fn statsd_and_datadog_clients_are_aggregated() {
    let Some(python) = python(&["statsd", "datadog"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let udp = free_address();
    // One flush, at the end: SIGTERM reads what has come, and flushes.
    let server = Server::start(
        folder.path(),
        &[
            "--host-metrics",
            "off",
            "--listen",
            &format!("statsd+udp://{udp}?flush_interval=86400&database=d"),
        ],
    );
    let port = udp.rsplit(':').next().expect("a port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/statsd_clients.py");
    run(Command::new(python).args([script, port]));
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(folder.path());
    let second = 1_000_000_000_i64;
    let prod = ("env", "prod");
    let flushed = |name: &str, tags: &[(&str, &str)], values: Value| (point(name, tags, 0), fields(values));
    let want = BTreeMap::from([
        flushed("py_hits", &[("metric_type", "counter")], json!({"value": 30})),
        flushed("py_piped", &[("metric_type", "counter")], json!({"value": 2})),
        flushed("py_level", &[("metric_type", "gauge")], json!({"value": 7})),
        flushed("py_time", &[("metric_type", "timing")], timing(&[120.0, 320.0])),
        flushed(
            "dd_pages",
            &[prod, ("page", "home"), ("metric_type", "counter")],
            json!({"value": 5}),
        ),
        flushed("dd_users", &[prod, ("metric_type", "set")], json!({"value": 3})),
        flushed(
            "dd_size",
            &[prod, ("metric_type", "timing")],
            timing(&[1.5, 10.0]),
        ),
        (
            point(
                "statsd_events",
                &[prod, ("page", "home"), ("alert_type", "info")],
                1_700_000_000 * second,
            ),
            fields(json!({"title": "deploy", "text": "done\nwell"})),
        ),
        (
            point(
                "statsd_service_checks",
                &[prod, ("check", "disk"), ("hostname", "box")],
                1_700_000_001 * second,
            ),
            fields(json!({"status": 1, "message": "90 %"})),
        ),
    ]);
    assert_eq!(without_flush_times(contents(&server, "d")), want);
}

/// What is stored of the values of a timing, in order, that were sent between two flushes: docs/formats/statsd.md.
pub fn timing(values: &[f64]) -> Value {
    let (count, sum) = (values.len(), values.iter().sum::<f64>());
    let mean = sum / count as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count as f64;
    let (lower, upper) = (values[0], values[count - 1]);
    assert_eq!(
        count, 2,
        "the median of two is halfway, and their percentiles are the larger one"
    );
    json!({
        "count": count, "sum": sum, "mean": mean, "lower": lower, "upper": upper, "stddev": variance.sqrt(),
        "median": mean, "90_percentile": upper, "95_percentile": upper, "99_percentile": upper,
    })
}

/// Points with the time of the only flush, which is no sender's, have none.
pub fn without_flush_times(stored: BTreeMap<Point, Fields>) -> BTreeMap<Point, Fields> {
    let len = stored.len();
    let points = stored.into_iter().map(|((name, tags, time), fields)| {
        let time = if tags.contains_key("metric_type") { 0 } else { time };
        ((name, tags, time), fields)
    });
    let points: BTreeMap<Point, Fields> = points.collect();
    assert_eq!(points.len(), len, "a series was flushed twice");
    points
}
