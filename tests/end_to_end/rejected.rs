//! What was not stored is kept, found, and stored after all once the mistake is mended.

use crate::support::{KYMO, Server, post, run};
use serde_json::{Value, json};
use std::net::UdpSocket;
use std::process::Command;

fn rejected(server: &Server, arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(KYMO)
        .arg("rejected")
        .args(arguments)
        .args(["--url", &server.url("")])
        .output()
        .expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn a_typo_over_udp_is_found_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let datagram = b"m f=1 1\nm,host f=2 2\nm f=3 3";
    socket.send_to(datagram, &server.line_udp).expect("sent");
    let q = "SHOW REJECTED ON metrics";
    let found = server.wait_rows("", q, |rows| rows.len() == 1);
    server.wait_rows("metrics", "SELECT f FROM m", |rows| rows.len() == 2);
    let data = server.data.clone();
    server.kill();
    let server = Server::quiet(&data);
    assert_eq!(server.rows("", q), found, "it survives a crash");
    let answer = server.query("", q);
    let series = &answer["results"][0]["series"][0];
    assert_eq!(
        series["columns"],
        json!([
            "time", "id", "database", "source", "format", "line", "column", "reason", "text"
        ])
    );
    let row = found[0].as_array().expect("a row");
    assert_eq!(row[2], "metrics");
    assert!(
        row[3]
            .as_str()
            .is_some_and(|s| s.starts_with("line-protocol+udp://")),
        "{row:?}"
    );
    assert_eq!(
        row[4..9],
        [
            json!("line-protocol"),
            json!(2),
            json!(3),
            json!("missing tag value"),
            json!("m,host f=2 2")
        ]
    );
    assert!(server.rows("", "SHOW REJECTED ON other").is_empty());
    // The command line shows it, too.
    let (good, table, _) = rejected(&server, &["--database", "metrics"]);
    assert!(
        good && table.contains("missing tag value") && table.contains("2:3"),
        "{table}"
    );
    let (_, text, _) = rejected(&server, &["list", "--format", "text"]);
    assert_eq!(text, "m,host f=2 2\n");
    // Trying again changes nothing as long as the mistake is in the line itself.
    let (good, said, error) = rejected(&server, &["replay"]);
    assert!(
        !good && said.contains("1 tried again, 0 stored") && error.contains("missing tag value"),
        "{said} {error}"
    );
    let (good, said, _) = rejected(&server, &["discard", "--reason", "missing tag"]);
    assert!(good && said.contains("1 discarded"), "{said}");
    assert!(server.rows("", "SHOW REJECTED").is_empty());
}

#[test]
fn a_type_clash_is_stored_after_a_fix_with_its_own_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "m,host=a f=1i 1\nother f=1 1");
    for (query, headers, body) in [
        ("precision=s", None, "m,host=b f=2.5 2\nm,host=b f=3i 3"),
        (
            "format=json",
            None,
            r#"{"measurement":"m","tags":{"host":"j s"},"fields":{"f":4.5},"time":4000000000}"#,
        ),
        (
            "measurement=m&tag_columns=host&time_unit=s",
            Some("text/csv"),
            "time,host,f\n5,c,5.5\n",
        ),
    ] {
        let mut request = ureq::post(&server.url(&format!("/write?db=d&{query}")))
            .config()
            .http_status_as_error(false)
            .build();
        if let Some(content_type) = headers {
            request = request.header("Content-Type", content_type);
        }
        assert_eq!(request.send(body).expect("an answer").status(), 400, "{body}");
    }
    // Told means kept: no crash may lose it.
    let data = server.data.clone();
    server.kill();
    let server = Server::quiet(&data);
    assert_eq!(server.rows("", "SHOW REJECTED").len(), 3);
    let newest = server.rows("", "SHOW REJECTED LIMIT 1");
    assert_eq!(
        newest[0][8], "m,host=c f=5.5 5000000000",
        "as line protocol, whatever it came as"
    );
    assert_eq!(
        server.rows("", "SHOW REJECTED LIMIT 1 OFFSET 2")[0][8],
        "m,host=b f=2.5 2000000000"
    );
    // The fix: the measurement begins anew, with floats.
    server.query("d", "DROP MEASUREMENT m");
    let said =
        run(Command::new(KYMO).args(["rejected", "replay", "--url", &server.url(""), "--database", "d"]));
    assert_eq!(said, "3 tried again, 3 stored (3 points)\n");
    assert_eq!(
        server.rows("d", "SELECT f, host FROM m"),
        [
            json!([2_000_000_000i64, 2.5, "b"]),
            json!([4_000_000_000i64, 4.5, "j s"]),
            json!([5_000_000_000i64, 5.5, "c"])
        ]
    );
    assert!(server.rows("", "SHOW REJECTED").is_empty());
    // And again is the same.
    let data = server.data.clone();
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    assert!(server.rows("", "SHOW REJECTED").is_empty(), "taken out for good");
    assert_eq!(server.rows("d", "SELECT f FROM m").len(), 3);
}

/// A row of a table that was read and cannot be stored is kept with its header, without which it would be one itself and be gone.
#[test]
fn rows_of_a_table_do_not_vanish_when_they_are_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let url = server.url("/write?db=d&format=csv&measurement=m&tag_columns=host");
    let table = b"host,v,time\na,1,1\nb\\,2,2\nc,3,3\n";
    let (status, told) = post(&url, table).expect("an answer");
    assert!(status == 400 && told.contains("ends with a backslash"), "{told}");
    for _ in 0..2 {
        let (_, said, why) = rejected(&server, &["replay"]);
        assert!(said.contains("0 stored"), "{said}");
        assert!(why.contains("ends with a backslash"), "{why}");
        assert_eq!(server.rows("", "SHOW REJECTED").len(), 1);
    }
    assert_eq!(server.rows("d", "SELECT count(v) FROM m"), [json!([0, 2])]);
}

#[test]
fn lines_without_a_time_keep_that_of_their_arrival() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "m f=\"text\" 1");
    // One clash and one line that cannot be read, neither with a time.
    assert_eq!(
        post(&server.url("/write?db=d"), b"m f=2\nm f=x")
            .expect("an answer")
            .0,
        400
    );
    let times: Vec<Value> = server
        .rows("", "SHOW REJECTED")
        .iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!((times.len(), &times[0]), (2, &times[1]), "of one request");
    server.query("d", "DROP MEASUREMENT m");
    let (good, said, _) = rejected(&server, &["replay", "--reason", "conflict"]);
    assert!(good && said.contains("1 stored"), "{said}");
    assert_eq!(server.rows("d", "SELECT f FROM m"), [json!([times[0], 2])]);
    assert_eq!(server.rows("", "SHOW REJECTED").len(), 1);
}

/// A member of a Protobuf message: bytes behind their number and length.
fn member(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.concat();
    let mut member = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len > 127 {
        member.push(len as u8 | 128);
        len >>= 7;
    }
    member.push(len as u8);
    [member, bytes].concat()
}

/// A gauge of OTLP: name, times and value.
fn gauge(name: &str, times: &[u64], value: f64) -> Vec<u8> {
    let point = |time: &u64| {
        let fixed = |head: u8, bytes: [u8; 8]| [&[head][..], &bytes].concat();
        member(
            1,
            &[
                &fixed(0x19, time.to_le_bytes()),
                &fixed(0x21, value.to_le_bytes()),
            ],
        )
    };
    let points: Vec<u8> = times.iter().flat_map(point).collect();
    let metric = member(2, &[&member(1, &[name.as_bytes()]), &member(5, &[&points])]);
    member(1, &[&member(2, &[&metric])])
}

/// A time series of remote write 1.0 with so many labels beside its name, and a sample of 1.5 at 7 ms.
fn series(name: &str, labels: usize) -> Vec<u8> {
    let label = |name: &str, value: &str| {
        member(
            1,
            &[&member(1, &[name.as_bytes()]), &member(2, &[value.as_bytes()])],
        )
    };
    let mut message = label("__name__", name);
    message.extend((0..labels).flat_map(|i| label(&format!("t{i}"), "v")));
    let sample = [&[0x09][..], &1.5f64.to_le_bytes(), &[0x10, 7]].concat();
    message.extend(member(2, &[&sample]));
    member(1, &[&message])
}

/// No limit can be lifted while a server runs. What it keeps is the point itself all the same, so that a later one can store it.
#[test]
fn points_of_formats_that_are_no_text_are_kept_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "clash value=\"text\" 1");
    let outside = i64::MAX as u64;
    let send = |format: &str, body: &[u8], told: &str| {
        let url = server.url(&format!("/write?db=d&format={format}"));
        let (status, text) = post(&url, body).expect("an answer");
        assert_eq!(status, 400, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let error = answer["error"].as_str().expect("text");
        assert!(error.starts_with(told), "{error}");
        assert_eq!(answer["rejected"].as_array().map(Vec::len), Some(1), "{answer}");
        answer["rejected"][0].clone()
    };
    // Its sender is told of it by its name, as before.
    let told = send(
        "otlp",
        &gauge("t", &[7, outside], 2.5),
        "partial write: unable to parse point 2 ('t'), byte 34: time outside range",
    );
    assert_eq!((&told["text"], &told["column"]), (&json!("t"), &json!(34)));
    let many = [series("up", 1), series("up", 257)].concat();
    let told = send(
        "remote-write",
        &many,
        "partial write: unable to parse time series 2, byte ",
    );
    assert_eq!(told["reason"], "too many tags: 257 (tags_max 256)");
    send(
        "otlp",
        &gauge("clash", &[8], 3.5),
        "partial write: point 1: field type conflict",
    );
    let rows = server.rows("", "SHOW REJECTED ON d");
    let tags: String = (0..257).map(|i| format!(",t{i}=v")).collect();
    let texts: Vec<(&Value, &Value)> = rows.iter().map(|row| (&row[4], &row[8])).collect();
    let line = json!("line-protocol");
    let want = [
        json!("clash value=3.5 8"),
        json!(format!("up{tags} value=1.5 7000000")),
        json!(format!("t value=2.5 {outside}")),
    ];
    assert_eq!(texts, want.iter().map(|text| (&line, text)).collect::<Vec<_>>());
    server.query("d", "DROP MEASUREMENT clash");
    for stored in [1, 0] {
        let (_, said, why) = rejected(&server, &["replay"]);
        let tried = 2 + stored;
        assert!(
            said.contains(&format!("{tried} tried again, {stored} stored")),
            "{said}"
        );
        // They were read, and are refused for what they were before.
        assert!(
            why.contains("time outside range") && why.contains("too many tags: 257 (tags_max 256)"),
            "{why}"
        );
        assert_eq!(server.rows("", "SHOW REJECTED ON d"), rows[1..]);
    }
    for (q, want) in [
        ("SELECT * FROM t", json!([7, 2.5])),
        ("SELECT * FROM up", json!([7_000_000, "v", 1.5])),
        ("SELECT * FROM clash", json!([8, 3.5])),
    ] {
        assert_eq!(server.rows("d", q), [want], "{q}");
    }
}
