//! The InfluxDB 1.x HTTP API, with the codes and texts its clients rely on.

use crate::support::{PATIENCE, Server, form, get, post};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    (folder, server)
}

#[test]
fn write_answers_with_the_codes_clients_rely_on() {
    let (_folder, server) = server();
    let cases: &[(&str, &str, u16, &str)] = &[
        ("/write?db=d", "m f=1 1", 204, ""),
        (
            "/write?db=d&precision=s&consistency=one&rp=autogen",
            "m f=1 1",
            204,
            "",
        ),
        ("/write?db=d&rp=&precision=&consistency=", "m f=1 1", 204, ""),
        ("/write", "m f=1", 400, r#"{"error":"database is required"}"#),
        (
            "/write?db=nope",
            "m f=1",
            404,
            r#"{"error":"database not found: \"nope\""}"#,
        ),
        (
            "/write?db=d",
            "m f",
            400,
            r#"{"error":"unable to parse 'm f': invalid field format","rejected":[{"line":1,"column":4,"reason":"invalid field format","text":"m f"}]}"#,
        ),
        (
            "/write?db=d",
            "m",
            400,
            r#"{"error":"unable to parse 'm': missing fields","rejected":[{"line":1,"column":2,"reason":"missing fields","text":"m"}]}"#,
        ),
        (
            "/write?db=d",
            "m f=1 2\nbad\nm f=2 3",
            400,
            r#"{"error":"partial write: unable to parse 'bad': missing fields dropped=0","rejected":[{"line":2,"column":4,"reason":"missing fields","text":"bad"}]}"#,
        ),
        (
            "/write?db=d",
            "m f=1i 4",
            400,
            r#"{"error":"partial write: field type conflict: input field \"f\" on measurement \"m\" is type integer, already exists as type float dropped=1","rejected":[{"line":1,"column":3,"reason":"field type conflict: input field \"f\" on measurement \"m\" is type integer, already exists as type float","text":"m f=1i 4"}]}"#,
        ),
    ];
    for (path, body, status, text) in cases {
        let got = post(&server.url(path), body.as_bytes()).expect("an answer");
        assert_eq!((got.0, got.1.trim()), (*status, *text), "{path} {body}");
    }
    // 1 ns, 1 s, then the two good lines of the partial write.
    assert_eq!(server.rows("d", "SELECT count(f) FROM m"), [json!([0, 4])]);
}

#[test]
fn gzip_precision_and_v2_writes_are_stored() {
    let (_folder, server) = server();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"m,t=gzip f=1 1000").expect("in memory");
    let body = gzip.finish().expect("in memory");
    let response = ureq::post(&server.url("/write?db=d&precision=ms"))
        .header("Content-Encoding", "gzip")
        .send(&body)
        .expect("accepted");
    assert_eq!(response.status(), 204);
    assert_eq!(
        post(
            &server.url("/api/v2/write?bucket=d&org=o&precision=s"),
            b"m,t=v2 f=2 2"
        )
        .expect("ok")
        .0,
        204
    );
    assert_eq!(
        post(
            &server.url("/api/v2/write?bucket=d/autogen"),
            b"m,t=v2 f=3 3000000000"
        )
        .expect("ok")
        .0,
        204
    );
    assert_eq!(
        server.rows("d", "SELECT f, t FROM m"),
        [
            json!([1_000_000_000, 1, "gzip"]),
            json!([2_000_000_000, 2, "v2"]),
            json!([3_000_000_000i64, 3, "v2"])
        ]
    );
}

#[test]
fn ping_health_and_metrics() {
    let (_folder, server) = server();
    let response = ureq::get(&server.url("/ping"))
        .header("X-Request-Id", "abc")
        .call()
        .expect("204");
    assert_eq!(response.status(), 204);
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
            .to_string()
    };
    assert!(header("X-Influxdb-Version").starts_with("1.8"));
    assert_eq!(
        (header("X-Request-Id"), header("Request-Id")),
        ("abc".into(), "abc".into())
    );
    let (status, health) = get(&server.url("/health")).expect("an answer");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!(
        (status, &health["status"], &health["name"]),
        (200, &json!("pass"), &json!("influxdb"))
    );
    server.write("d", "m f=1");
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert!(value("kymo_journal_commits_total") >= 1.0);
    assert!(value("kymo_ingest_rows_total") >= 1.0);
    assert!(value("kymo_sequence_durable") >= 1.0);
    // Prometheus refuses a page that describes a name twice.
    let mut described: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let all = described.len();
    described.sort_unstable();
    described.dedup();
    assert_eq!(described.len(), all, "{metrics}");
}

#[test]
fn query_formats_and_errors() {
    let (_folder, server) = server();
    server.write(
        "d",
        "cpu,host=a v=1.5,n=2i 1000000000\ncpu,host=b v=2.5 61000000000",
    );
    let ask = |parameters: &[(&str, &str)]| server.query_text(parameters);
    let cases: &[(&[(&str, &str)], u16, &str)] = &[
        (
            &[("db", "d"), ("q", "SELECT v FROM cpu")],
            200,
            r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","columns":["time","v"],"values":[["1970-01-01T00:00:01Z",1.5],["1970-01-01T00:01:01Z",2.5]]}]}]}"#,
        ),
        (
            &[
                ("db", "d"),
                ("epoch", "s"),
                ("q", "SELECT n FROM cpu; SELECT sum(v) FROM cpu GROUP BY host"),
            ],
            200,
            r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","columns":["time","n"],"values":[[1,2]]}]},{"statement_id":1,"series":[{"name":"cpu","tags":{"host":"a"},"columns":["time","sum"],"values":[[0,1.5]]},{"name":"cpu","tags":{"host":"b"},"columns":["time","sum"],"values":[[0,2.5]]}]}]}"#,
        ),
        (
            &[("db", "d")],
            400,
            r#"{"error":"missing required parameter \"q\""}"#,
        ),
        (
            &[("db", "d"), ("q", "SELECT FROM")],
            400,
            r#"{"error":"error parsing query: found FROM, expected identifier, string, number, bool at line 1, char 8","hint":"a name is missing before FROM"}"#,
        ),
        (
            &[("db", "d"), ("q", "SELECT maen(v) FROM cpu")],
            200,
            r#"{"results":[{"statement_id":0,"error":"undefined function maen()","hint":"did you mean mean?"}]}"#,
        ),
        (
            &[
                ("db", "d"),
                ("chunked", "true"),
                ("q", "SELECT max(v), v, min(v) FROM cpu"),
            ],
            200,
            r#"{"results":[{"statement_id":0,"error":"mixing multiple selector functions with tags or fields is not supported","hint":"only one of first, last, max, min, percentile can have fields beside it: put the others into a query of their own"}]}"#,
        ),
        (
            &[("db", "nope"), ("q", "SELECT v FROM cpu")],
            200,
            r#"{"results":[{"statement_id":0,"error":"database not found: nope"}]}"#,
        ),
        (
            &[("db", "d"), ("q", "SELECT v FROM nothing")],
            200,
            r#"{"results":[{"statement_id":0}]}"#,
        ),
        (
            &[
                ("db", "d"),
                ("epoch", "ms"),
                ("chunked", "true"),
                ("chunk_size", "1"),
                ("q", "SELECT v FROM cpu"),
            ],
            200,
            concat!(
                r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","columns":["time","v"],"values":[[1000,1.5]],"partial":true}],"partial":true}]}"#,
                "\n",
                r#"{"results":[{"statement_id":0,"series":[{"name":"cpu","columns":["time","v"],"values":[[61000,2.5]]}]}]}"#
            ),
        ),
    ];
    for (parameters, status, text) in cases {
        let got = ask(parameters);
        assert_eq!((got.0, got.1.trim()), (*status, *text), "{parameters:?}");
    }
    let mut csv = ureq::get(&server.url("/query?db=d&epoch=ns&q=SELECT+v+FROM+cpu"))
        .header("Accept", "application/csv")
        .call()
        .expect("an answer");
    assert_eq!(
        csv.body_mut().read_to_string().expect("text"),
        "name,tags,time,v\ncpu,,1000000000,1.5\ncpu,,61000000000,2.5\n"
    );
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let (folder, server) = server();
    let address = crate::support::free_address();
    let output = std::process::Command::new(crate::support::KYMO)
        .args([
            "serve",
            "--data-dir",
            &folder.path().to_string_lossy(),
            "--http",
            &address,
        ])
        .args(["--line-tcp", "off", "--line-udp", "off", "--statsd", "off"])
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("in use") && said.contains(&server.pid().to_string()),
        "{said}"
    );
}

#[test]
fn the_host_database_answers_the_first_query() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let rows = server.wait_rows("host", "SELECT used, total FROM mem", |rows| !rows.is_empty());
    let (used, total) = (
        rows[0][1].as_f64().expect("used"),
        rows[0][2].as_f64().expect("total"),
    );
    assert!(0.0 < used && used <= total, "{rows:?}");
    for measurement in ["cpu", "system", "mem", "disk", "net", "processes"] {
        let q = format!("SELECT * FROM {measurement} LIMIT 1");
        // Rates need two looks at the machine; the first query may come before the second.
        server.wait_rows("host", &q, |rows| !rows.is_empty());
    }
}

#[test]
fn clients_that_close_their_side_are_answered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let ask = |head: &str, body: &str| {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        let length = body.len();
        let request = format!(
            "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    // Small ones are decoded at once, large ones on a thread of their own.
    let large: String = (2..=20_000).map(|i| format!("m v={i} {i}\n")).collect();
    for body in ["m v=1 1\n", &large] {
        let answer = ask("POST /write?db=d", body);
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
    let answer = ask("GET /query?db=d&q=SELECT+count(v)+FROM+m", "");
    assert!(answer.contains("20000"), "{answer}");
}

/// A figure of /metrics; it is asked until it answers.
fn gauge(server: &Server, name: &str) -> u64 {
    let (status, metrics) = get(&server.url("/metrics")).expect("an answer");
    assert_eq!(status, 200);
    let line = metrics.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {metrics}"))
}

/// Those that never finish a request make room for those that do, long before their time is over; who is being answered stays.
#[test]
fn health_answers_while_slow_clients_hold_every_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["--memory", "64MiB", "--head-patience", "3600"];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let mut events = TcpStream::connect(&server.http).expect("it listens");
    let query = form(&[("db", "d"), ("q", "SELECT v FROM m")]);
    write!(events, "GET /live/sse?{query} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    events.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut seen = Vec::new();
    let mut read_until = |text: &str| {
        let mut buffer = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(text) {
            let read = events.read(&mut buffer).expect("events go on");
            assert!(read > 0, "{text} in {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..read]);
        }
    };
    read_until("snapshot");
    let more = gauge(&server, "kymo_http_connections_max") as usize + 100;
    let heads = "POST /write?db=d HTTP/1.1\r\nHost: x\r\nX-Slow: ";
    let bodies = "POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nm v=";
    for begun in [heads, bodies] {
        let begin = |_| {
            let mut stream = TcpStream::connect(&server.http).expect("it listens");
            stream.write_all(begun.as_bytes()).expect("sent");
            stream
        };
        let _slow: Vec<TcpStream> = (0..more).map(begin).collect();
        for _ in 0..20 {
            let (status, _) = get(&server.url("/health")).expect("health answers");
            assert_eq!(status, 200);
        }
    }
    assert!(gauge(&server, "kymo_http_connections_shed_total") >= 200);
    assert!(gauge(&server, "kymo_http_connections") <= more as u64);
    server.write("d", "m v=4711");
    read_until("4711");
}
