//! Senders nobody here wrote, each with the format it speaks: what they sent, by their own account where they give one, is what is
//! stored.

use crate::support::{PATIENCE, Server, form, free_address, get, node, program, python, run};
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
    assert_eq!(
        server.rows("v2", "SELECT count(value), sum(value) FROM steps"),
        [json!([0, 1000, 499_500])]
    );
}

#[test]
fn hot_shots() {
    let Some((node, modules)) = node("hot-shots") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let script = format!("{CLIENTS}hot_shots.js");
    let said = run(Command::new(node)
        .env("NODE_PATH", modules)
        .args([&script, port(&server.statsd)]));
    assert_eq!(said, "ok\n");
    // What was sent last is still on its way; SIGTERM reads it and flushes.
    std::thread::sleep(Duration::from_millis(500));
    let data = server.data.clone();
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    for way in ["udp", "tcp"] {
        let one = |q: &str| server.rows("statsd", &format!("{q} WHERE way = '{way}'"))[0][1].clone();
        assert_eq!(one("SELECT sum(value) FROM hs_hits"), json!(5), "{way}");
        assert_eq!(one("SELECT last(value) FROM hs_level"), json!(12.5), "{way}");
        assert_eq!(one("SELECT sum(\"count\") FROM hs_time"), json!(2), "{way}");
        assert_eq!(one("SELECT max(upper) FROM hs_time"), json!(60), "{way}");
        assert_eq!(one("SELECT last(value) FROM hs_users"), json!(2), "{way}");
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
    assert_eq!(
        run(Command::new(python).args([&script, port(&server.http)])),
        "ok\n"
    );
    let one = |q: &str| server.rows("otel", q)[0].as_array().expect("a row")[1..].to_vec();
    let shop = "WHERE \"service.name\" = 'shop' AND build = '7' AND \"otel.scope.name\" = 'tests'";
    assert_eq!(
        one(&format!("SELECT last(value) FROM requests {shop} AND path = '/'")),
        [json!(12)]
    );
    assert_eq!(
        one(&format!(
            "SELECT last(value) FROM requests {shop} AND path = '/buy now'"
        )),
        [json!(1)]
    );
    assert_eq!(one(&format!("SELECT last(value) FROM open {shop}")), [json!(-3)]);
    assert_eq!(
        one(&format!(
            "SELECT last(value) FROM temperature {shop} AND \"where\" = 'cpu'"
        )),
        [json!(36.6)]
    );
    for (name, sum, max) in [("waits", 861, 800), ("sizes", 1007, 1000)] {
        assert_eq!(
            one(&format!(
                "SELECT last(\"count\"), last(sum), last(min), last(max) FROM {name} {shop}"
            )),
            [json!(4), json!(sum), json!(1), json!(max)]
        );
        assert_eq!(
            one(&format!(
                "SELECT max(value) FROM {name}_bucket {shop} AND le = '+Inf'"
            )),
            [json!(4)]
        );
    }
    assert_eq!(
        one(&format!(
            "SELECT last(value) FROM waits_bucket {shop} AND le = '50'"
        )),
        [json!(3)]
    );
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

    // Over UDP, 1 value may be on its way when the account is read; what is there is what was sent, as far as CSV shows it.
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-6;
    let mut compared = BTreeMap::new();
    let mut compare = |way: &'static str, series: &str, nth: usize, rows: &[Value], unit: i64| {
        for row in rows {
            let (time, value) = (
                row[0].as_i64().expect("a time"),
                row[1].as_f64().expect("a value"),
            );
            let near = (time / 1_000_000 - unit..=time / 1_000_000 + unit)
                .filter_map(|ms| sent.get(&(series.to_string(), ms)));
            let values: Vec<f64> = near.map(|values| values[nth]).collect();
            assert!(
                values.iter().any(|v| same(*v, value)),
                "{way} {series}: {row} and not {values:?}"
            );
            *compared.entry((way, series.to_string())).or_insert(0) += 1;
        }
    };
    for (nth, term) in ["shortterm", "midterm", "longterm"].into_iter().enumerate() {
        wait_for("all of it is stored", || {
            server
                .rows("net", &format!("SELECT value FROM load_{term}"))
                .len()
                >= memory - 1
        });
        let rows = server.rows(
            "net",
            &format!("SELECT value FROM load_{term} WHERE host = 'box'"),
        );
        compare("network", "load/load", nth, &rows, 1);
        // Graphite's times are whole seconds: of the values of a second one is left.
        let rows = server.rows("graph", &format!("SELECT value FROM \"box.load.load.{term}\""));
        compare("graphite", "load/load", nth, &rows, 1000);
    }
    for kind in ["used", "free", "cached", "buffered"] {
        let series = format!("memory/memory-{kind}");
        let rows = server.rows(
            "net",
            &format!("SELECT value FROM memory_value WHERE type_instance = '{kind}'"),
        );
        compare("network", &series, 0, &rows, 1);
        let rows = server.rows(
            "graph",
            &format!("SELECT value FROM \"box.memory.memory-{kind}.value\""),
        );
        compare("graphite", &series, 0, &rows, 1000);
    }
    assert_eq!(compared.len(), 10, "{compared:?}");
    let network = compared.iter().filter(|((way, _), _)| *way == "network");
    network.for_each(|((_, series), count)| assert!(*count >= 5, "{series}: {count} values"));
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
        asked("up{job=\"node\"}[5m]")
            .first()
            .is_some_and(|up| samples(up) >= 5)
    });
    // Its own store says what it scraped: every sample of these is in Kymo, with its labels, time and value.
    let metrics = [
        "node_load1",
        "node_memory_MemFree_bytes",
        "node_cpu_seconds_total",
        "node_network_receive_bytes_total",
        "up",
    ];
    let scraped: Vec<Value> = metrics
        .iter()
        .flat_map(|name| asked(&format!("{name}{{job=\"node\"}}[5m]")))
        .collect();
    assert!(scraped.len() >= 10, "{} series", scraped.len());
    let mut compared = 0;
    for series in &scraped {
        let labels = series["metric"].as_object().expect("labels");
        let name = labels["__name__"].as_str().expect("a name");
        let tags: Vec<String> = labels
            .iter()
            .filter(|(key, _)| *key != "__name__")
            .map(|(key, value)| format!("\"{key}\" = '{}'", value.as_str().expect("text")))
            .collect();
        let wanted: Vec<Value> = series["values"]
            .as_array()
            .expect("samples")
            .iter()
            .map(|sample| {
                let time = (sample[0].as_f64().expect("seconds") * 1000.0).round() as i64 * 1_000_000;
                let value: f64 = sample[1].as_str().expect("text").parse().expect("a number");
                json!([time, value])
            })
            .collect();
        let (first, last) = (&wanted[0][0], &wanted[wanted.len() - 1][0]);
        let q = format!(
            "SELECT value FROM {name} WHERE {} AND time >= {first} AND time <= {last}",
            tags.join(" AND ")
        );
        let number = |row: &Value| (row[0].as_i64(), row[1].as_f64());
        let stored = server.wait_rows("prom", &q, |rows| rows.len() >= wanted.len());
        assert_eq!(
            stored.iter().map(number).collect::<Vec<_>>(),
            wanted.iter().map(number).collect::<Vec<_>>(),
            "{q}"
        );
        compared += wanted.len();
    }
    assert!(compared >= 50, "{compared} samples");
    scraper.terminate();
}
