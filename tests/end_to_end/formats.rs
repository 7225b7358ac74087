//! Every format by way of HTTP and sockets: what is stored is what was sent.

use crate::support::{Server, free_address, get, post};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};

fn server() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    (folder, server)
}

/// POST with headers: status, body, and a header of the answer.
fn send(url: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String, Vec<(String, String)>) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut request = agent.post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = request.send(body).expect("an answer");
    let text = |value: &ureq::http::HeaderValue| value.to_str().unwrap_or_default().to_string();
    let all = response
        .headers()
        .iter()
        .map(|(n, v)| (n.to_string(), text(v)))
        .collect();
    (
        response.status().as_u16(),
        response.body_mut().read_to_string().unwrap_or_default(),
        all,
    )
}

#[test]
fn formats_are_chosen_by_name_and_content_type() {
    let (_folder, server) = server();
    let json = r#"{"measurement":"m","tags":{"by":"BY"},"fields":{"f":1},"time":1}"#;
    let csv = "by,f,time\nBY,1,1\n";
    let csv_options = "measurement=m&tag_columns=by";
    for (by, query, content_type, body) in [
        ("json-name", "format=json".to_string(), "", json),
        (
            "json-type",
            String::new(),
            "application/json; charset=utf-8",
            json,
        ),
        ("csv-name", format!("format=csv&{csv_options}"), "", csv),
        ("csv-type", csv_options.to_string(), "text/csv", csv),
        ("line-any", String::new(), "application/json", "m,by=BY f=1 1"),
        (
            "line-form",
            String::new(),
            "application/x-www-form-urlencoded",
            "m,by=BY f=1 1",
        ),
        (
            "prometheus",
            String::new(),
            "text/plain; version=0.0.4",
            "m{by=\"BY\"} 1 1",
        ),
        ("graphite", "format=graphite".into(), "", "m;by=BY 1 1"),
        ("opentsdb", "format=opentsdb".into(), "", "put m 1 1 by=BY"),
    ] {
        let headers: &[(&str, &str)] = match content_type {
            "" => &[],
            given => &[("Content-Type", given)],
        };
        let url = server.url(&format!("/write?db=d&{query}"));
        let (status, text, _) = send(&url, headers, body.replace("BY", by).as_bytes());
        assert_eq!((status, text.as_str()), (204, ""), "{by}");
        let q = format!("SELECT * FROM m WHERE \"by\" = '{by}'");
        assert_eq!(server.rows("d", &q).len(), 1, "{by}");
    }
    for (query, told) in [
        (
            "format=nonsense",
            "unknown format \\\"nonsense\\\"; this server knows line-protocol, statsd, json",
        ),
        (
            "format=json&mesurement=m",
            "option mesurement: unknown option (json takes:",
        ),
        ("format=csv&time_unit=x", "option time_unit: invalid time_unit"),
        ("format=csv&framing=length-prefixed", "invalid framing"),
    ] {
        let (status, text) = post(&server.url(&format!("/write?db=d&{query}")), b"").expect("an answer");
        assert!(status == 400 && text.contains(told), "{query}: {text}");
    }
}

#[test]
fn bad_points_are_told_with_line_and_column_and_good_ones_stored() {
    let (_folder, server) = server();
    let body =
        "{\"measurement\":\"m\",\"fields\":{\"f\":1},\"time\":1}\n{\"measurement\":\"m\",\"feilds\":{}}\n";
    let (status, text) = post(&server.url("/write?db=d&format=json"), body.as_bytes()).expect("an answer");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(status, 400);
    assert!(
        told["error"]
            .as_str()
            .expect("text")
            .starts_with("partial write: unable to parse '{"),
        "{told}"
    );
    assert_eq!(
        (&told["rejected"][0]["line"], &told["rejected"][0]["column"]),
        (&json!(2), &json!(20))
    );
    assert_eq!(server.rows("d", "SELECT f FROM m"), [json!([1, 1])]);
}

#[test]
fn every_limit_is_named_once_with_its_place_and_what_is_good_is_stored() {
    let (_folder, server) = server();
    let list =
        |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(",");
    let x = |count: usize| "x".repeat(count);
    let tags = list(257, &|i| format!("t{i}=1"));
    let fields = list(4097, &|i| format!("f{i}=1"));
    let behind = |text: &str, part: &str| text.find(part).expect("it is there") as u64 + 1;
    let (last_tag, last_field) = (behind(&tags, "t256=") + 2, behind(&fields, "f4096=") + 2);
    // The bad line, the column and the reason.
    let cases = [
        (
            format!("m s=\"{}\" 2", x(1 << 20)),
            1_048_577,
            "(line_bytes_max 1048576)",
        ),
        (format!("m,t={} a=1 2", x(65_536)), 3, "(key_bytes_max)"),
        (
            format!("m,s={x},t=b\\ {x},u=c a=1 2", x = x(40_000)),
            40_006,
            "(key_bytes_max)",
        ),
        (format!("{},t=b a=1 2", x(65_536)), 1, "(key_bytes_max)"),
        (format!("m a=1,{}=1 2", x(65_536)), 7, "(key_bytes_max)"),
        (
            format!("m,{tags} a=1 2"),
            last_tag,
            "too many tags: 257 (tags_max 256)",
        ),
        (
            format!("m {fields} 2"),
            last_field,
            "too many fields: 4097 (fields_max 4096)",
        ),
        ("m a=1 9223372036854775807".into(), 7, "time outside range"),
        ("m,t=1,u=1,t=2 a=1 2".into(), 11, "duplicate tags"),
        ("m,a=1,time=1 a=1 2".into(), 7, "input tag \"time\""),
        ("m a=1i 2".into(), 3, "field type conflict"),
        ("m a=1,time=3 2".into(), 7, "input field \"time\""),
    ];
    for (bad, column, reason) in &cases {
        let body = format!("m a=1 1\n{bad}\nm a=3 3\n");
        let (status, text) = post(&server.url("/write?db=d"), body.as_bytes()).expect("an answer");
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let shown = &told["rejected"];
        assert_eq!(
            (status, shown.as_array().map(Vec::len)),
            (400, Some(1)),
            "{reason}: {shown}"
        );
        assert_eq!(
            (&shown[0]["line"], &shown[0]["column"]),
            (&json!(2), &json!(column)),
            "{reason}"
        );
        let why = shown[0]["reason"].as_str().expect("text");
        assert!(why.contains(reason), "{why}");
        // Said once: in the list, in InfluxDB's text, and in the ledger.
        assert_eq!(
            told["error"].as_str().expect("text").matches(why).count(),
            1,
            "{reason}"
        );
        assert_eq!(server.rows("d", "SHOW REJECTED ON d").len(), 1, "{reason}");
        let (status, _) = send_delete(&server.url("/rejected?db=d"));
        assert_eq!(status, 200);
        assert_eq!(
            server.rows("d", "SELECT a FROM m"),
            [json!([1, 1]), json!([3, 3])],
            "{reason}"
        );
    }
}

#[test]
fn formats_of_text_tell_which_tag_value_or_time_is_wrong() {
    let (_folder, server) = server();
    server.query(
        "d",
        "CREATE RETENTION POLICY short ON d DURATION INF REPLICATION 1 PAST LIMIT 1h",
    );
    server.write("d", "clash value=\"text\" 1");
    let clash = "input field \"value\" on measurement \"clash\"";
    let old = "PAST LIMIT";
    let json = r#"{"measurement":"m","tags":{"a":"1","b":null,"time":"2"},"fields":{"v":1}}"#;
    let turned = r#"{"tags":{"a":"1","a":"2"},"measurement":"m","fields":{"v":1}}"#;
    let torn = r#"{"measurement":"m","fields":{"v":1},"tags":{"a":"1","a":"2"}}"#;
    let spread = "{ \"tags\" : {\"a\":\"1\", \"time\":\"2\"}, \"time\":1,\t\"measurement\" : \"m\",\"fields\":{\"v\":1}}";
    let deep = r#"{"measurement":"m","fields":{"v":1},"tags":{"a":"1","b":{"c":1}}}"#;
    let large = r#"{"measurement":"m","fields":{"v":1,"w":1e999}}"#;
    let timed = r#"{"measurement":"m","fields":{"v":1},"time":100}"#;
    let flat = r#"{"h":"a","o":{"x":1},"value":2}"#;
    let nested = r#"{"h":{"i":"a"}, "j":"b","v":1}"#;
    let put = r#"{"metric":"clash","timestamp":100,"value":2,"tags":{"a":"1"}}"#;
    for (format, bad, column, reason) in [
        ("json", json, 45, "input tag \"time\""),
        ("json", turned, 18, "duplicate tags"),
        // Measurement and tags are apart.
        ("json", torn, 53, "duplicate tags"),
        ("json", spread, 22, "input tag \"time\""),
        ("json", deep, 57, "tag \"b\" is no text"),
        ("json", large, 36, "number out of range"),
        ("graphite", "m;a=1;time=2 3 4", 7, "input tag \"time\""),
        ("json&time_unit=s&rp=short", timed, 44, old),
        ("json&shape=flat&measurement=clash&tag_keys=h", flat, 22, clash),
        (
            "json&measurement=m&tag_keys=h.i,j:time",
            nested,
            17,
            "input tag \"time\"",
        ),
        ("line-protocol&precision=s&rp=short", "m v=1 100", 7, old),
        ("graphite", "clash;a=1  2 1", 12, clash),
        ("graphite&rp=short", "m 1 100", 5, old),
        ("opentsdb", "put m 1 2 a=1  a=2", 16, "duplicate tags"),
        ("opentsdb", "put clash 100 2 a=1", 15, clash),
        ("opentsdb&rp=short", "put m 100 2 a=1", 7, old),
        ("opentsdb", put, 43, clash),
        ("prometheus", "clash{value=\"a\",b=\"x\"}  2 1000", 25, clash),
        ("prometheus", "m{a=\"1\",time=\"2\"} 3", 9, "input tag \"time\""),
        ("prometheus", "m{a=\"1\", a=\"2\"} 3", 10, "duplicate tags"),
        ("prometheus&rp=short", "m{a=\"1\"} 3 1000", 12, old),
        (
            "csv&measurement=clash&tag_columns=t",
            "t,value,time\n\"a,a\",2,1",
            7,
            clash,
        ),
        (
            "csv&measurement=m&tag_columns=a,time&time_column=ts",
            "a,time,v\nq,w,1",
            3,
            "input tag \"time\"",
        ),
        ("csv&measurement=m&rp=short", "v,time\n1,1", 3, old),
        // Where the cell stands, and not where its text is found first.
        (
            "csv&measurement=m&types=v:integer",
            "w,v\nx1,x",
            4,
            "invalid integer",
        ),
        (
            "csv&measurement=m",
            "w,v\n1,2,3",
            5,
            "3 cells where the header has 2",
        ),
        ("statsd", "clash:2|g|T1", 7, clash),
        ("statsd&rp=short", "m:1|c|T100", 8, old),
    ] {
        let line = bad.lines().count();
        let url = server.url(&format!("/write?db=d&format={format}"));
        let (status, text) = post(&url, format!("{bad}\n").as_bytes()).expect("an answer");
        let told: Value = serde_json::from_str(&text).expect("JSON");
        let shown = &told["rejected"][0];
        assert_eq!(
            (status, &shown["line"], &shown["column"]),
            (400, &json!(line), &json!(column)),
            "{bad}: {told}"
        );
        assert!(shown["reason"].as_str().expect("text").contains(reason), "{told}");
    }
}

#[test]
fn messages_tell_which_part_is_wrong() {
    let (_folder, server) = server();
    let label = |name: &[u8], value: &[u8]| {
        let mut inner = vec![0x0A, name.len() as u8];
        inner.extend_from_slice(name);
        inner.extend_from_slice(&[0x12, value.len() as u8]);
        inner.extend_from_slice(value);
        [&[0x0A, inner.len() as u8], &inner[..]].concat()
    };
    let series = |labels: &[Vec<u8>]| {
        let sample = [&[0x12, 0x09, 0x09][..], &1.5f64.to_le_bytes()].concat();
        let inner = [labels.concat(), sample].concat();
        [&[0x0A, inner.len() as u8], &inner[..]].concat()
    };
    let good = series(&[label(b"__name__", b"up")]);
    let bad = series(&[label(b"__name__", b"up"), label(b"job", b"\xFF")]);
    let url = server.url("/write?db=d&format=remote-write");
    let (status, text) = post(&url, &[&good[..], &good, &bad].concat()).expect("an answer");
    let told: Value = serde_json::from_str(&text).expect("JSON");
    // Behind the head of the series (2), and its first label (16).
    let want = "partial write: unable to parse time series 3, byte 19: invalid UTF-8 dropped=0";
    assert_eq!((status, &told["error"]), (400, &json!(want)));
    assert_eq!(
        (&told["rejected"][0]["line"], &told["rejected"][0]["column"]),
        (&json!(3), &json!(19))
    );
}

fn send_delete(url: &str) -> (u16, String) {
    let mut response = ureq::delete(url).call().expect("an answer");
    let body = response.body_mut().read_to_string().expect("text");
    (response.status().as_u16(), body)
}

#[test]
fn paths_of_their_own_senders_make_their_database_and_answer_in_their_way() {
    let (_folder, server) = server();
    // OpenTSDB.
    let put = |query: &str, body: &str| send(&server.url(&format!("/api/put{query}")), &[], body.as_bytes());
    let good = r#"{"metric":"sys.cpu","timestamp":1,"value":18,"tags":{"host":"a"}}"#;
    assert_eq!(put("", good).0, 204);
    let (status, text, _) = put("?details", &format!("[{good},{{\"metric\":\"x\"}}]"));
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (status, &told["failed"], &told["success"]),
        (400, &json!(1), &json!(1))
    );
    assert_eq!(told["errors"][0]["error"], "missing timestamp");
    assert_eq!(
        server.rows("metrics", "SELECT * FROM \"sys.cpu\""),
        [json!([1_000_000_000, "a", 18])]
    );
    // OTLP, in JSON.
    let otlp = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeMetrics":[{"metrics":[{"name":"t","gauge":{"dataPoints":[{"asDouble":1.5,"timeUnixNano":"7"}]}}]}]}]}"#;
    let (status, text, headers) = send(
        &server.url("/v1/metrics?db=otel"),
        &[("Content-Type", "application/json")],
        otlp.as_bytes(),
    );
    assert_eq!((status, text.as_str()), (200, "{}"));
    assert!(
        headers.contains(&("content-type".into(), "application/json".into())),
        "{headers:?}"
    );
    assert!(headers.iter().any(|(name, _)| name == "x-kymo-sequence"));
    assert_eq!(server.rows("otel", "SELECT * FROM t"), [json!([7, "shop", 1.5])]);
    // Remote write 1.0: labels __name__=up, job=j; a sample of 1 at 2 s. Snappy, as Prometheus sends it.
    let request = [
        &[0x0A, 0x28][..],
        &[0x0A, 0x0E, 0x0A, 8],
        b"__name__",
        &[0x12, 2],
        b"up",
        &[0x0A, 8, 0x0A, 3],
        b"job",
        &[0x12, 1],
        b"j",
        &[0x12, 12, 0x09, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 0x10, 0xD0, 0x0F],
    ]
    .concat();
    let body = snap::raw::Encoder::new()
        .compress_vec(&request)
        .expect("in memory");
    let headers = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
    ];
    let (status, text, _) = send(&server.url("/api/v1/write?db=prom"), &headers, &body);
    assert_eq!((status, text.as_str()), (204, ""));
    assert_eq!(
        server.rows("prom", "SELECT * FROM up"),
        [json!([2_000_000_000i64, "j", 1])]
    );
    // PUT is as good, and others are not allowed.
    assert_eq!(get(&server.url("/api/put")).expect("an answer").0, 405);
    // Databases of /write are not made.
    assert_eq!(
        post(&server.url("/write?db=nope"), b"m f=1")
            .expect("an answer")
            .0,
        404
    );
}

#[test]
fn formats_are_read_from_sockets() {
    let folder = tempfile::tempdir().expect("a folder");
    let [graphite, opentsdb, collectd, json, proto] = std::array::from_fn(|_| free_address());
    let listen = [
        format!("graphite+tcp://{graphite}?database=s"),
        format!("graphite+udp://{graphite}?database=s"),
        format!("opentsdb+tcp://{opentsdb}?database=s"),
        format!("collectd+udp://{collectd}?database=s"),
        format!("json+tcp://{json}?database=s&measurement=j&shape=flat"),
        format!("protobuf+tcp://{proto}?database=s"),
    ];
    let mut flags = vec!["--host-metrics", "off"];
    flags.extend(listen.iter().flat_map(|address| ["--listen", address.as_str()]));
    let server = Server::start(folder.path(), &flags);
    let stream = |address: &str, bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).expect("it listens");
        // In two packets, cut anywhere.
        let (front, back) = bytes.split_at(bytes.len() / 2);
        socket.write_all(front).expect("it reads");
        socket.flush().expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(30));
        socket.write_all(back).expect("it reads");
    };
    let datagram = |address: &str, bytes: &[u8]| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.send_to(bytes, address).expect("sent");
    };
    stream(&graphite, b"a.tcp;host=x 1 1\na.tcp;host=x 2 2\n");
    datagram(&graphite, b"a.udp 3 3\n");
    stream(&opentsdb, b"version\nput o 4 4 host=x\n");
    stream(&json, b"{\"f\":5,\"time\":5}\n{\"f\":6,\"time\":6}\n");
    // Measurement "p", field f=7.0; between two good messages one that is longer than any may be, which is passed over.
    let message = |time: u8| {
        let point = [
            &[0x0A, 1][..],
            b"p",
            &[0x1A, 12, 0x0A, 1],
            b"f",
            &[0x11, 0, 0, 0, 0, 0, 0, 0x1C, 0x40],
            &[0x21, time, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat();
        let batch = [&[0x0A, point.len() as u8][..], &point].concat();
        [&(batch.len() as u32).to_be_bytes()[..], &batch].concat()
    };
    let long = (4 << 20) + 1;
    let long = [&(long as u32).to_be_bytes()[..], &vec![0; long]].concat();
    stream(&proto, &[message(7), long, message(9)].concat());
    let part = |kind: u16, content: &[u8]| {
        [
            &kind.to_be_bytes()[..],
            &(content.len() as u16 + 4).to_be_bytes(),
            content,
        ]
        .concat()
    };
    let packet = [
        part(0, b"h\0"),
        part(1, &8u64.to_be_bytes()),
        part(2, b"cpu\0"),
        part(4, b"cpu\0"),
        part(6, &[&[0, 1, 1][..], &8f64.to_le_bytes()].concat()),
    ];
    datagram(&collectd, &packet.concat());
    let second = 1_000_000_000i64;
    for (q, want) in [
        (
            "SELECT * FROM \"a.tcp\"",
            vec![json!([second, "x", 1]), json!([2 * second, "x", 2])],
        ),
        ("SELECT * FROM \"a.udp\"", vec![json!([3 * second, 3])]),
        ("SELECT * FROM o", vec![json!([4 * second, "x", 4])]),
        ("SELECT * FROM j", vec![json!([5, 5]), json!([6, 6])]),
        ("SELECT * FROM p", vec![json!([7, 7]), json!([9, 7])]),
        (
            "SELECT * FROM cpu_value",
            vec![json!([8 * second, "h", "cpu", 8])],
        ),
    ] {
        let rows = server.wait_rows("s", q, |rows| rows.len() == want.len());
        assert_eq!(rows, want, "{q}");
    }
    let rejected = server.wait_rows("s", "SHOW REJECTED ON s", |rows| !rows.is_empty());
    let reason = "message too long: 4194305 bytes (message_bytes_max 4194304)";
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert!(rejected[0].to_string().contains(reason), "{rejected:?}");
}
