//! Senders nobody here wrote, each with the format it speaks: what they sent, by their own account where they give one, is what is
//! stored.

use crate::clients::{timing, without_flush_times};
use crate::stored::{Fields, Point, contents, fields, point};
use crate::support::{PATIENCE, Server, form, free_address, get, node, program, python, run};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/");

/// A program that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().expect("the program starts"))
    }

    /// Ends it with SIGTERM, so that it sends what it has.
    fn terminate(mut self) {
        let pid = rustix::process::Pid::from_raw(self.0.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().expect("a port")
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn influxdb_client_of_version_2() {
    let Some(python) = python(&["influxdb_client"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("v2");
    let script = format!("{CLIENTS}influxdb_client_v2.py");
    assert_eq!(
        run(Command::new(python).args([&script, port(&server.http)])),
        "ok\n"
    );
    assert_eq!(
        server.rows(
            "v2",
            "SELECT degrees, note, place, \"a=b\", rain, visits FROM weather"
        ),
        [
            json!([
                1_700_000_000_000_000_000i64,
                25.3,
                "he said \"hi\"\\",
                "Prague, CZ",
                "c d",
                true,
                7
            ]),
            json!([1_700_000_001_000_000_000i64, 1, null, "Brno", null, null, null]),
            json!([
                1_700_000_002_000_000_000i64,
                -2.5,
                null,
                "Ostrava",
                null,
                null,
                null
            ]),
        ]
    );
    let mut stored = contents(&server, "v2");
    stored.retain(|(measurement, ..), _| measurement != "weather");
    let step = |i: i64| {
        let at = point(
            "steps",
            &[("host", &format!("h{}", i % 7))],
            1_700_000_000_000_000_000 + i,
        );
        (at, fields(json!({"value": i})))
    };
    assert_eq!(stored, (0..1000).map(step).collect());
}

#[test]
fn hot_shots() {
    let Some((node, modules)) = node("hot-shots") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let address = free_address();
    // One flush, at the end: SIGTERM reads what has come, and flushes.
    let listen = |way: &str| format!("statsd+{way}://{address}?flush_interval=86400&database={way}");
    let (udp, tcp) = (listen("udp"), listen("tcp"));
    let server = Server::start(
        folder.path(),
        &["--host-metrics", "off", "--listen", &udp, "--listen", &tcp],
    );
    let script = format!("{CLIENTS}hot_shots.js");
    let said = run(Command::new(node)
        .env("NODE_PATH", modules)
        .args([&script, port(&address)]));
    let sent: Value = serde_json::from_str(&said).expect("its account");
    let received = |way: &str| {
        let metrics = get(&server.url("/metrics")).expect("an answer").1;
        let of = format!("kymo_ingest_bytes_total{{from=\"statsd+{way}://{address}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&of));
        line.unwrap_or_else(|| panic!("{of}: {metrics}"))
            .parse::<i64>()
            .ok()
    };
    for way in ["udp", "tcp"] {
        wait_for("all of it has come", || received(way) >= sent[way].as_i64());
    }
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(folder.path());
    for way in ["udp", "tcp"] {
        let is = |kind: &'static str| [("way", way), ("metric_type", kind)];
        let flushed =
            |name: &str, tags: &[(&str, &str)], values: Value| (point(name, tags, 0), fields(values));
        let want = BTreeMap::from([
            flushed(
                "hs_hits",
                &[is("counter").as_slice(), &[("page", "home")]].concat(),
                json!({"value": 5}),
            ),
            flushed("hs_hits", &is("counter"), json!({"value": -1})),
            flushed("hs_level", &is("gauge"), json!({"value": 12.5})),
            flushed("hs_time", &is("timing"), timing(&[40.0, 60.0])),
            flushed("hs_size", &is("timing"), timing(&[1.5, 10.0])),
            flushed("hs_users", &is("set"), json!({"value": 2})),
        ]);
        assert_eq!(without_flush_times(contents(&server, way)), want, "{way}");
    }
}

#[test]
fn opentelemetry_exporter() {
    let Some(python) = python(&["opentelemetry.exporter.otlp.proto.http.metric_exporter"]) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let script = format!("{CLIENTS}otlp_exporter.py");
    let said = run(Command::new(python).args([&script, port(&server.http)]));
    let mut stored = contents(&server, "otel");
    let exports: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("the SDK's account"))
        .collect();
    assert!(!exports.is_empty(), "it exported nothing");
    for export in &exports {
        let scope = &export["resource_metrics"][0]["scope_metrics"][0];
        let metrics = scope["metrics"].as_array().expect("metrics");
        let names: Vec<&str> = metrics
            .iter()
            .filter_map(|metric| metric["name"].as_str())
            .collect();
        assert_eq!(names, ["requests", "open", "waits", "sizes", "temperature"]);
        for metric in metrics {
            for sent in metric["data"]["data_points"].as_array().expect("points") {
                take_otlp_point(&mut stored, metric["name"].as_str().expect("a name"), sent);
            }
        }
    }
    assert_eq!(stored, BTreeMap::new(), "more than was sent");
}

/// Takes what must be stored of one of the exporter's points out of what is stored.
fn take_otlp_point(stored: &mut BTreeMap<Point, Fields>, name: &str, sent: &Value) {
    let mut tags = vec![
        ("service.name", "shop"),
        ("build", "7"),
        ("otel.scope.name", "tests"),
        ("otel.scope.version", "1.0"),
    ];
    let attributes = sent["attributes"].as_object().expect("attributes");
    tags.extend(
        attributes
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str().expect("text"))),
    );
    let time = sent["time_unix_nano"].as_i64().expect("a time");
    let mut take = |name: &str, tags: &[(&str, &str)]| {
        let at = point(name, tags, time);
        stored
            .remove(&at)
            .unwrap_or_else(|| panic!("{at:?} is not stored"))
    };
    if sent.get("value").is_some() {
        assert_eq!(take(name, &tags), fields(json!({"value": sent["value"]})));
        return;
    }
    let want = json!({"count": sent["count"], "sum": sent["sum"], "min": sent["min"], "max": sent["max"]});
    assert_eq!(take(name, &tags), fields(want));
    // Of the buckets: how many values are not above a bound.
    let (buckets, bounds) = match sent.get("explicit_bounds") {
        Some(bounds) => (&sent["bucket_counts"], bounds.as_array().expect("bounds").clone()),
        None => {
            let positive = &sent["positive"];
            let counts = positive["bucket_counts"].as_array().expect("counts").len() as i32;
            let offset = positive["offset"].as_i64().expect("an offset") as i32;
            let base = 2f64.powf(2f64.powi(-sent["scale"].as_i64().expect("a scale") as i32));
            let bounds = (1..=counts).map(|at| json!(base.powi(offset + at)));
            (&positive["bucket_counts"], bounds.collect())
        }
    };
    let name = format!("{name}_bucket");
    let of_bound = |stored: &mut BTreeMap<Point, Fields>, bound: f64| {
        let near = stored.keys().find(|(measurement, tags, at)| {
            let le = tags.get("le").and_then(|le| le.parse::<f64>().ok());
            let is = |le: f64| le == bound || (le / bound - 1.0).abs() < 1e-12;
            *measurement == name && *at == time && le.is_some_and(is)
        });
        let at = near.cloned()?;
        let mut others = at.1.clone();
        others.remove("le");
        assert_eq!(others, point("", &tags, 0).1, "{at:?}");
        stored.remove(&at)
    };
    let (mut below, mut count) = (0, 0);
    for (bucket, bound) in buckets.as_array().expect("counts").iter().zip(&bounds) {
        let values = bucket.as_i64().expect("a count");
        below += values;
        match of_bound(stored, bound.as_f64().expect("a bound")) {
            Some(got) => {
                assert_eq!(got, fields(json!({"value": below})), "{name} {bound}");
                count += 1;
            }
            // Bounds of exponential histograms that no value is near need not be there.
            None => assert!(values == 0 && sent.get("scale").is_some(), "{name} {bound}"),
        }
    }
    assert!(count >= 4, "{name}: {count} buckets");
    let all = of_bound(stored, f64::INFINITY).expect("the last bucket");
    assert_eq!(all, fields(json!({"value": sent["count"]})));
}

/// What collectd's own CSV files say: by host, type path (`load/load`) and time in milliseconds, the values.
fn collectd_files(folder: &Path) -> BTreeMap<(String, i64), Vec<f64>> {
    let mut found = BTreeMap::new();
    let list = |path: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(path).expect("collectd wrote there");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    for plugin in list(&folder.join("box")) {
        for file in list(&plugin) {
            let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
            // `memory-used-2026-11-25`
            let kind = name(&file);
            let series = format!("{}/{}", name(&plugin), &kind[..kind.len() - 11]);
            for line in std::fs::read_to_string(&file).expect("a file").lines().skip(1) {
                let numbers: Vec<f64> = line
                    .split(',')
                    .map(|cell| cell.parse().expect("a number"))
                    .collect();
                found.insert(
                    (series.clone(), (numbers[0] * 1000.0).round() as i64),
                    numbers[1..].to_vec(),
                );
            }
        }
    }
    found
}

#[test]
fn collectd_by_network_and_by_graphite() {
    let Some(collectd) = program("collectd", "the Debian package collectd-core") else {
        return;
    };
    // collectd writes to no folder whose name begins with a dot.
    let folder = tempfile::Builder::new()
        .prefix("kymo")
        .tempdir()
        .expect("a folder");
    let (network, graphite) = (free_address(), free_address());
    let listen = [
        format!("collectd+udp://{network}?database=net"),
        format!("graphite+tcp://{graphite}?database=graph"),
    ];
    let data = folder.path().join("data");
    let server = Server::start(
        &data,
        &[
            "--host-metrics",
            "off",
            "--listen",
            &listen[0],
            "--listen",
            &listen[1],
        ],
    );
    let files = folder.path().join("csv");
    let config = folder.path().join("collectd.conf");
    let (network, graphite) = (port(&network), port(&graphite));
    let text = format!(
        "Hostname \"box\"\nFQDNLookup false\nInterval 0.2\nBaseDir \"{base}\"\nPIDFile \"{base}/pid\"\n\
         LoadPlugin load\nLoadPlugin memory\nLoadPlugin csv\nLoadPlugin network\nLoadPlugin write_graphite\n\
         <Plugin csv>\n DataDir \"{files}\"\n</Plugin>\n\
         <Plugin network>\n Server \"127.0.0.1\" \"{network}\"\n</Plugin>\n\
         <Plugin write_graphite>\n <Node \"kymo\">\n  Host \"127.0.0.1\"\n  Port \"{graphite}\"\n  Protocol \"tcp\"\n\
         \x20 AlwaysAppendDS true\n </Node>\n</Plugin>\n",
        base = folder.path().display(),
        files = files.display(),
    );
    std::fs::write(&config, text).expect("written");
    let running = Running::start(Command::new(collectd).arg("-f").arg("-C").arg(&config));
    wait_for("collectd sends by its network plug-in", || {
        let rows = server.query("net", "SELECT count(value) FROM memory_value");
        rows["results"][0]["series"][0]["values"][0][1].as_i64() >= Some(30)
    });
    running.terminate();
    let sent = collectd_files(&files);
    let memory = sent
        .keys()
        .filter(|(series, _)| series == "memory/memory-used")
        .count();
    assert!(memory >= 5, "collectd's own account is short: {sent:?}");

    // Series as the CSV files call them, and what they are called here.
    let mut names = BTreeMap::new();
    for (nth, term) in ["shortterm", "midterm", "longterm"].into_iter().enumerate() {
        let tags = vec![("host", "box"), ("type", "load")];
        let graphite = format!("box.load.load.{term}");
        names.insert(
            ("load/load".to_string(), nth),
            (format!("load_{term}"), tags, graphite),
        );
    }
    let kinds: BTreeSet<&String> = sent.keys().map(|(series, _)| series).collect();
    for series in kinds.into_iter().filter(|series| *series != "load/load") {
        let kind = series.strip_prefix("memory/memory-").expect("no other plug-ins");
        let tags = vec![("host", "box"), ("type", "memory"), ("type_instance", kind)];
        let graphite = format!("box.memory.memory-{kind}.value");
        names.insert((series.clone(), 0), ("memory_value".into(), tags, graphite));
    }
    assert!(names.len() >= 7, "{names:?}");
    // Collectd writes to its plug-ins one after the other, and ends where it is: the last interval may have come to some alone. All before it is
    // there, and nothing else is. Graphite's times are whole seconds: of the values of a second one is left.
    let last = sent.keys().map(|(_, ms)| *ms).max().expect("values");
    for (way, database, off) in [("network", "net", 1), ("graphite", "graph", 1000)] {
        let missing = |stored: &BTreeMap<Point, Fields>| {
            let is_there = |(series, ms): &(String, i64), nth: usize, value: f64| {
                let (name, tags, path) = &names[&(series.clone(), nth)];
                let (name, tags) = match way {
                    "network" => (name, tags.as_slice()),
                    _ => (path, [].as_slice()),
                };
                let (from, to) = (ms - off, ms + off);
                let range = point(name, tags, from * 1_000_000)..=point(name, tags, to * 1_000_000);
                let mut values = stored.range(range).map(|(_, fields)| fields["value"].as_f64());
                match way {
                    "network" => values.any(|got| got.is_some_and(|got| (got - value).abs() <= 1e-6)),
                    _ => values.next().is_some(),
                }
            };
            let wanted = sent.iter().filter(|((_, ms), _)| *ms < last - 300);
            let all = wanted.flat_map(|(at, values)| values.iter().enumerate().map(move |value| (at, value)));
            let missing = all.filter(|(at, (nth, value))| !is_there(at, *nth, **value));
            missing.map(|(at, _)| at.clone()).collect::<Vec<_>>()
        };
        wait_for(&format!("all of it is stored by {way}"), || {
            missing(&contents(&server, database)).is_empty()
        });
        let stored = contents(&server, database);
        assert!(
            stored.len()
                >= if way == "network" {
                    5 * names.len()
                } else {
                    names.len()
                }
        );
        for ((name, tags, time), got) in &stored {
            let is = |(its_name, its_tags, path): &&(String, Vec<(&str, &str)>, String)| match way {
                "network" => its_name == name && point("", its_tags, 0).1 == *tags,
                _ => path == name && tags.is_empty(),
            };
            let series = names.iter().find(|(_, called)| is(called));
            let ((series, nth), _) = series.unwrap_or_else(|| panic!("{way}: nobody sent {name} {tags:?}"));
            assert_eq!(got.keys().collect::<Vec<_>>(), ["value"]);
            let ms = time / 1_000_000;
            let near = sent.range((series.clone(), ms - off)..=(series.clone(), ms + off));
            let values: Vec<f64> = near.map(|(_, values)| values[*nth]).collect();
            let value = got["value"].as_f64().expect("a number");
            // As far as CSV shows it. What CSV itself did not get any more is newer than all it has.
            let is_known = values.iter().any(|sent| (sent - value).abs() <= 1e-6);
            assert!(
                is_known || ms + off > last,
                "{way} {series} at {time}: {value} and not {values:?}"
            );
        }
    }
}

#[test]
fn prometheus_remote_write_of_a_node_exporter() {
    let (Some(prometheus), Some(exporter)) = (
        program("prometheus", "the Debian package prometheus"),
        program(
            "prometheus-node-exporter",
            "the Debian package prometheus-node-exporter",
        ),
    ) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(&folder.path().join("data"));
    let (target, web) = (free_address(), free_address());
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['{target}']\n\
         remote_write:\n- url: http://{}/api/v1/write?db=prom\n  queue_config:\n    batch_send_deadline: 500ms\n",
        server.http
    );
    std::fs::write(&config, text).expect("written");
    let _exporter = Running::start(Command::new(exporter).arg(format!("--web.listen-address={target}")));
    let storage = folder.path().join("prometheus");
    let scraper = Running::start(
        Command::new(prometheus)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", storage.display()))
            .arg(format!("--web.listen-address={web}")),
    );
    let asked = |query: &str| -> Vec<Value> {
        let encoded = form(&[("query", query)]);
        let Ok((200, body)) = get(&format!("http://{web}/api/v1/query?{encoded}")) else {
            return Vec::new();
        };
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    let samples = |series: &Value| series["values"].as_array().map_or(0, Vec::len);
    wait_for("Prometheus scraped five times", || {
        asked("up{job=\"node\"}[1h]")
            .first()
            .is_some_and(|up| samples(up) >= 5)
    });
    // Its own store says what it scraped.
    let mut sent: BTreeMap<Point, Fields> = BTreeMap::new();
    for series in asked("{job=\"node\"}[1h]") {
        let labels = series["metric"].as_object().expect("labels");
        let labels = labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str().expect("text")));
        let (name, tags): (Vec<_>, Vec<_>) = labels.partition(|(key, _)| *key == "__name__");
        for sample in series["values"].as_array().expect("samples") {
            let time = (sample[0].as_f64().expect("seconds") * 1000.0).round() as i64 * 1_000_000;
            let value: f64 = sample[1].as_str().expect("text").parse().expect("a number");
            // Neither NaN nor infinity is stored.
            if value.is_finite() {
                sent.insert(point(name[0].1, &tags, time), fields(json!({"value": value})));
            }
        }
    }
    let names: BTreeSet<&String> = sent.keys().map(|(name, ..)| name).collect();
    assert!(
        names.len() >= 50 && sent.len() >= 1000,
        "{} of {names:?}",
        sent.len()
    );
    // Every sample is in Kymo, with its labels, time and value: it comes in some batches.
    wait_for("all of it is stored", || {
        let stored = contents(&server, "prom");
        sent.keys().all(|at| stored.contains_key(at))
    });
    let mut stored = contents(&server, "prom");
    for (at, fields) in &sent {
        assert_eq!(stored.remove(at).as_ref(), Some(fields), "{at:?}");
    }
    // And nothing else but what was scraped since it was asked.
    let last = sent.keys().map(|(.., time)| *time).max().expect("samples");
    let first = stored.keys().find(|(.., time)| *time < last);
    assert_eq!(first, None, "nobody sent it");
    scraper.terminate();
}
