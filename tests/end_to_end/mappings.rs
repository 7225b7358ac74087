//! Saved mappings: kept through a restart, used by HTTP, sockets and `kymo write`, dropped with their database.

use crate::support::{KYMO, Server, free_address, get, post};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;

const SENSOR: &str = r#"{"ts":1700000000,"host":"a","meta":{"dc":"x"},"cpu":{"user":1.5},"up":true}"#;
const OPTIONS: &str = "format=json&measurement=sys&tag_keys=host,meta.dc&time_key=ts&time_unit=s";

fn request(method: &str, url: &str) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let sent = match method {
        "PUT" => agent.put(url).send_empty(),
        "DELETE" => agent.delete(url).call(),
        _ => agent.get(url).call(),
    };
    let mut response = sent.expect("an answer");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_string().expect("text");
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

fn put(server: &Server, query: &str) -> (u16, Value) {
    request("PUT", &server.url(&format!("/mappings?{query}")))
}

/// The points of `sys` without their times.
fn stored(server: &Server, database: &str) -> Vec<Value> {
    let rows = server.rows(database, "SELECT cpu_user, host, dc FROM sys");
    rows.iter().map(|row| json!([row[1], row[2], row[3]])).collect()
}

#[test]
fn a_mapping_outlives_a_restart_and_goes_with_its_database() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.create("other");
    assert_eq!(put(&server, &format!("db=d&name=sensors&{OPTIONS}")).0, 204);
    let shown = json!({"mappings": [{"name": "sensors", "format": "json", "options": {
        "measurement": "sys", "tag_keys": "host,meta.dc", "time_key": "ts", "time_unit": "s"}}]});
    assert_eq!(
        request("GET", &server.url("/mappings?db=d")),
        (200, shown.clone())
    );
    assert_eq!(
        request("GET", &server.url("/mappings?db=other")),
        (200, json!({"mappings": []}))
    );
    server.kill();

    let server = Server::quiet(folder.path());
    assert_eq!(
        request("GET", &server.url("/mappings?db=d&name=sensors")),
        (200, shown)
    );
    let url = server.url("/write?db=d&mapping=sensors");
    assert_eq!(post(&url, SENSOR.as_bytes()).expect("an answer").0, 204);
    // What is given beside it counts; the format may be named, too.
    let beside = server.url("/write?db=d&format=json&mapping=sensors&time_unit=ms");
    assert_eq!(
        post(&beside, SENSOR.replace("\"a\"", "\"b\"").as_bytes())
            .expect("an answer")
            .0,
        204
    );
    assert_eq!(
        server.rows("d", "SELECT cpu_user, host, dc FROM sys"),
        [
            json!([1_700_000_000_000_000i64, 1.5, "b", "x"]),
            json!([1_700_000_000_000_000_000i64, 1.5, "a", "x"])
        ]
    );
    for (query, status, error) in [
        (
            "db=other&mapping=sensors",
            404,
            "mapping not found: \"sensors\" on \"other\"",
        ),
        ("db=d&mapping=none", 404, "mapping not found"),
        (
            "db=d&format=csv&mapping=sensors",
            400,
            "mapping \"sensors\" is one of format json, not csv",
        ),
        ("db=d&mapping=sensors&tag_key=x", 400, "unknown option"),
    ] {
        let (got, body) =
            post(&server.url(&format!("/write?{query}")), SENSOR.as_bytes()).expect("an answer");
        assert!(
            got == status && body.contains(&error.replace('"', "\\\"")),
            "{query}: {got} {body}"
        );
    }
    // Another shape under the same name: points go where it says now, not where the same bytes went before.
    assert_eq!(
        put(
            &server,
            &format!("db=d&name=sensors&{}", OPTIONS.replace("=sys", "=moved"))
        )
        .0,
        204
    );
    assert_eq!(post(&url, SENSOR.as_bytes()).expect("an answer").0, 204);
    assert_eq!(
        server.rows("d", "SELECT count(cpu_user) FROM moved"),
        [json!([0, 1])]
    );

    assert_eq!(
        request("DELETE", &server.url("/mappings?db=d&name=sensors")).0,
        204
    );
    assert_eq!(
        request("DELETE", &server.url("/mappings?db=d&name=sensors")).0,
        404
    );
    assert_eq!(put(&server, &format!("db=d&name=again&{OPTIONS}")).0, 204);
    server.query("d", "DROP DATABASE d");
    server.create("d");
    let (status, body) = get(&server.url("/mappings?db=d")).expect("an answer");
    assert_eq!((status, body.trim()), (200, "{\"mappings\":[]}"));
}

#[test]
fn what_cannot_be_a_mapping_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let long = format!("db=d&name=m&format=json&tag_keys={}", "k".repeat(20_000));
    for (query, status, error) in [
        ("name=m&format=json", 400, "database is required"),
        ("db=none&name=m&format=json", 404, "database not found"),
        ("db=d&format=json", 400, "the mapping has no name"),
        ("db=d&name=m", 400, "the mapping has no format"),
        ("db=d&name=m&format=nonsense", 400, "unknown format"),
        ("db=d&name=m&format=json&tag_key=host", 400, "unknown option"),
        ("db=d&name=m&format=json&time_unit=days", 400, "invalid time_unit"),
        ("db=d&name=a%0Ab&format=json", 400, "invalid name of a mapping"),
        (&long, 400, "options_bytes_max"),
    ] {
        let (got, body) = put(&server, query);
        let text = body["error"].as_str().unwrap_or_default();
        assert!(got == status && text.contains(error), "{query}: {got} {body}");
    }
}

#[test]
fn files_are_written_by_a_mapping() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(&folder.path().join("data"));
    server.create("d");
    assert_eq!(put(&server, &format!("db=d&name=sensors&{OPTIONS}")).0, 204);
    let table = "format=csv&measurement=sys&quote='&columns=ts,host,dc,cpu_user&tag_columns=host,dc&time_column=ts&time_unit=s";
    assert_eq!(put(&server, &format!("db=d&name=table&{table}")).0, 204);
    let file = folder.path().join("points");
    let write = |mapping: &str, text: &str, more: &[&str]| {
        std::fs::write(&file, text).expect("written");
        let mut command = Command::new(KYMO);
        command.args([
            "write",
            "--url",
            &server.url(""),
            "--database",
            "d",
            "--mapping",
            mapping,
        ]);
        command.args(more).arg(&file).output().expect("it runs")
    };
    let output = write("sensors", &format!("[{SENSOR}]"), &[]);
    assert!(output.status.success(), "{output:?}");
    // How a table is cut into batches is the mapping's, too: no header, a newline between its quotes.
    let output = write(
        "table",
        "1700000001,'b\n1',y,2\n1700000002,c,z,3\n",
        &["--batch-size", "1"],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        stored(&server, "d"),
        [
            json!([1.5, "a", "x"]),
            json!([2, "b\n1", "y"]),
            json!([3, "c", "z"])
        ]
    );
    let output = write("none", SENSOR, &[]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("mapping not found"),
        "{output:?}"
    );
    let output = write("table", "x\n", &["--format", "json"]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("is one of format csv"),
        "{output:?}"
    );
}

#[test]
fn sockets_read_by_a_mapping_and_keep_what_comes_before_it_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tcp, udp) = (free_address(), free_address());
    let listen = [
        format!("json+tcp://{tcp}?database=d&mapping=sensors"),
        format!("json+udp://{udp}?database=d&mapping=sensors"),
    ];
    let server = Server::start(
        folder.path(),
        &[
            "--host-metrics",
            "off",
            "--listen",
            &listen[0],
            "--listen",
            &listen[1],
        ],
    );
    server.create("d");
    let datagrams = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let send = |host: &str| {
        let point = SENSOR.replace("\"a\"", &format!("\"{host}\""));
        let mut stream = TcpStream::connect(&tcp).expect("it listens");
        stream.write_all(format!("{point}\n").as_bytes()).expect("sent");
        let point = point.replace("1700000000", "1700000001");
        datagrams.send_to(point.as_bytes(), &udp).expect("sent");
    };
    send("early");
    let rejected = || server.rows("d", "SHOW REJECTED ON d").len();
    server.wait_rows("d", "SHOW REJECTED ON d", |rows| rows.len() == 2);
    let (_, list) = get(&server.url("/rejected?db=d")).expect("an answer");
    assert!(
        list.contains("mapping not found: \\\"sensors\\\" on \\\"d\\\""),
        "{list}"
    );

    assert_eq!(put(&server, &format!("db=d&name=sensors&{OPTIONS}")).0, 204);
    send("late");
    let point = |host: &str| json!([1.5, host, "x"]);
    server.wait_rows("d", "SELECT cpu_user FROM sys", |rows| rows.len() == 2);
    assert_eq!(stored(&server, "d"), [point("late"), point("late")]);
    // Nothing was lost.
    let (status, told) = post(&server.url("/rejected/replay?db=d"), b"").expect("an answer");
    assert!(status == 200 && told.contains("\"stored\":2"), "{told}");
    assert_eq!(stored(&server, "d").len(), 4);
    assert_eq!(rejected(), 0);
}
