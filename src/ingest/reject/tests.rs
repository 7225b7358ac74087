//! What is kept of points that a limit refuses can be tried again, in whatever format they came.

use super::*;
use crate::catalog::Catalog;
use crate::ingest::{Ingestor, Outcome, Registry};
use flatbuffers::FlatBufferBuilder;
use kymo_flatbuffers::schema::kymo::v_1 as kymo;
use kymo_plugin_api::{Framing, Options};

fn ingest(format: &str, message: &[u8], limits: &Limits) -> Outcome {
    let catalog = Catalog::new();
    catalog.create_database("d", None).expect("a database");
    let database = catalog.database("d").expect("it was made");
    let policy = database.policy(None).expect("the default one").id;
    let registry = Registry::standard();
    let format = registry.by_name(format).expect("it is built in");
    let options = match format.name() {
        "csv" => kymo_plugin_api::kit::options(&[("measurement", "m"), ("tag_columns", "a,b")]),
        _ => Options::new(),
    };
    let mut ingestor =
        Ingestor::new(&catalog, limits, policy, format.name(), &options, 5, 2).counting(format.counts());
    let mut decoder = format.decoder(&options, Framing::Whole).expect("its own options");
    decoder.decode(message, &mut ingestor);
    ingestor.finish()
}

/// A member of a Protobuf message: bytes behind their number and length.
fn member(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    let bytes = parts.concat();
    [&[number << 3 | 2, bytes.len() as u8][..], &bytes].concat()
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn fixed(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn protobuf() -> Vec<u8> {
    let pair = |key: &[u8], value: &[u8]| member(2, &[&member(1, &[key]), &member(2, &[value])]);
    let field = member(3, &[&member(1, &[b"f"]), &double(2, 1.5)]);
    let point = [
        &member(1, &[b"m"])[..],
        &pair(b"a", b"x y"),
        &pair(b"b", b"2"),
        &field,
        &fixed(4, 7),
    ];
    member(1, &point)
}

fn flat(measurement: &str, value: &str) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let b = &mut builder;
    let tags: Vec<_> = [("a", value), ("b", "2")]
        .into_iter()
        .map(|(key, value)| {
            let (key, value) = (Some(b.create_string(key)), Some(b.create_string(value)));
            kymo::Tag::create(b, &kymo::TagArgs { key, value })
        })
        .collect();
    let field = kymo::FieldArgs {
        key: Some(b.create_string("f")),
        float: 1.5,
        ..kymo::FieldArgs::default()
    };
    let field = kymo::Field::create(b, &field);
    let point = kymo::PointArgs {
        measurement: Some(b.create_string(measurement)),
        tags: Some(b.create_vector(&tags)),
        fields: Some(b.create_vector(&[field])),
        time: Some(7),
    };
    let point = kymo::Point::create(b, &point);
    let points = Some(b.create_vector(&[point]));
    let batch = kymo::Batch::create(b, &kymo::BatchArgs { points });
    kymo::finish_batch_buffer(b, batch);
    builder.finished_data().to_vec()
}

fn remote_write() -> Vec<u8> {
    let label = |name: &[u8], value: &[u8]| member(1, &[&member(1, &[name]), &member(2, &[value])]);
    let sample = member(2, &[&double(1, 1.5), &[0x10, 7]]);
    let labels = [label(b"__name__", b"m"), label(b"a", b"x y"), label(b"b", b"2")];
    member(1, &[&labels.concat(), &sample])
}

fn remote_write_2() -> Vec<u8> {
    let symbols = ["", "__name__", "m", "a", "x y", "b", "2"].map(|symbol| member(4, &[symbol.as_bytes()]));
    let sample = member(2, &[&double(1, 1.5), &[0x10, 7]]);
    let series = member(5, &[&member(1, &[&[1, 2, 3, 4, 5, 6]]), &sample]);
    [symbols.concat(), series].concat()
}

fn otlp() -> Vec<u8> {
    let attribute =
        |key: &[u8], value: &[u8]| member(7, &[&member(1, &[key]), &member(2, &[&member(1, &[value])])]);
    let point = member(
        1,
        &[
            &attribute(b"a", b"x y"),
            &attribute(b"b", b"2"),
            &fixed(3, 7),
            &double(4, 1.5),
        ],
    );
    let metric = member(2, &[&member(1, &[b"m"]), &member(5, &[&point])]);
    member(1, &[&member(2, &[&metric])])
}

fn collectd() -> Vec<u8> {
    let part = |kind: u16, content: &[u8]| {
        let len = content.len() as u16 + 4;
        [&kind.to_be_bytes()[..], &len.to_be_bytes(), content].concat()
    };
    let gauge = [&[0, 1, 1][..], &1.5f64.to_le_bytes()].concat();
    [
        part(0, b"x y\0"),
        part(1, &7u64.to_be_bytes()),
        part(2, b"m\0"),
        part(4, b"gauge\0"),
        part(6, &gauge),
    ]
    .concat()
}

fn tight() -> Limits {
    Limits {
        tags_max: 1,
        ..Limits::default()
    }
}

const REASON: &str = "too many tags: 2 (tags_max 1)";

#[test]
fn points_of_formats_that_are_no_text_are_kept_as_line_protocol() {
    // The message, what its sender is shown of it, and what is kept.
    let line = "m,a=x\\ y,b=2 f=1.5 7";
    let millisecond = "m,a=x\\ y,b=2 value=1.5 7000000";
    let (whole, series) = (protobuf(), remote_write());
    let series_2 = remote_write_2();
    let series_2_shown = &series_2[series_2.len() - 23..];
    let cases: [(&str, Vec<u8>, &[u8], &str); 6] = [
        ("protobuf", whole.clone(), &whole, line),
        ("flatbuffers", flat("m", "x y"), b"m", line),
        ("remote-write", series.clone(), &series, millisecond),
        ("remote-write", series_2.clone(), series_2_shown, millisecond),
        ("otlp", otlp(), b"m", "m,a=x\\ y,b=2 value=1.5 7"),
        (
            "collectd",
            collectd(),
            b"\x00\x06\x00\x0F",
            "m_value,host=x\\ y,type=gauge value=1.5 7000000000",
        ),
    ];
    for (format, message, shown, want) in cases {
        let outcome = ingest(format, &message, &tight());
        assert_eq!(
            (outcome.rows, outcome.unparsed, outcome.dropped),
            (0, 1, 0),
            "{format}"
        );
        let reject = outcome.rejects[0].clone();
        // Who sent it is told as before.
        assert_eq!(
            (reject.kind, reject.line > 0),
            (RejectKind::Unparsed, true),
            "{format}"
        );
        assert_eq!(reject.reason, REASON, "{format}");
        assert!(reject.column > 1, "{format}: column {}", reject.column);
        assert!(reject.text.starts_with(shown), "{format}: {:?}", reject.text);
        let kept = reject.kept();
        assert_eq!(String::from_utf8_lossy(&kept.text), want, "{format}");
        assert_eq!((kept.kind, kept.is_cut), (RejectKind::Dropped, false), "{format}");
        // The cause is still there; it is gone.
        let again = ingest("line-protocol", &kept.text, &tight());
        assert_eq!((again.rows, again.unparsed), (0, 1), "{format}");
        assert_eq!(again.rejects[0].reason, REASON, "{format}");
        let stored = ingest("line-protocol", &kept.text, &Limits::default());
        assert_eq!(
            (stored.rows, stored.unparsed + stored.dropped),
            (1, 0),
            "{format}"
        );
    }
}

#[test]
fn of_text_what_was_sent_is_kept() {
    let json = r#"{"measurement":"m","tags":{"a":"x y","b":"2"},"fields":{"f":1}}"#;
    for (format, text, context) in [
        ("line-protocol", "m,a=x\\ y,b=2 f=1 7", ""),
        ("json", json, ""),
        ("csv", "x y,2,1", "a,b,f\n"),
        ("graphite", "m;a=x;b=2 1 7", ""),
        ("opentsdb", "put m 7 1 a=x b=2", ""),
        ("prometheus", "m{a=\"x y\",b=\"2\"} 1", ""),
    ] {
        let outcome = ingest(format, format!("{context}{text}\n").as_bytes(), &tight());
        let [reject] = &outcome.rejects[..] else {
            panic!("{format}: {:?}", outcome.rejects);
        };
        assert_eq!(
            (reject.reason.as_str(), &reject.instead),
            (REASON, &None),
            "{format}"
        );
        let kept = reject.clone().kept();
        assert_eq!(kept.kind, RejectKind::Unparsed, "{format}");
        assert_eq!(String::from_utf8_lossy(&kept.text), text);
        assert_eq!(String::from_utf8_lossy(&kept.context), context);
    }
}

#[test]
fn what_line_protocol_cannot_spell_is_kept_as_it_was_sent() {
    let limits = Limits::default();
    for (measurement, value, reason) in [
        ("", "x", "missing measurement"),
        ("m", "x\\", "tag value ends with a backslash"),
    ] {
        let outcome = ingest("flatbuffers", &flat(measurement, value), &limits);
        let reject = &outcome.rejects[0];
        assert_eq!((reject.reason.as_str(), &reject.instead), (reason, &None));
    }
    // It would be two lines, of which one is a point of its own.
    let two = "x\\\n b c=1";
    let outcome = ingest("flatbuffers", &flat("m", two), &tight());
    assert_eq!((outcome.unparsed, &outcome.rejects[0].instead), (1, &None));
    let json = r#"{"measurement":"m","tags":{"a":"x\ny f=1"},"fields":{"f":1}}"#;
    let both = format!("{json}\n{}", json.replace(":1}", ":\"text\"}"));
    let outcome = ingest("json", both.as_bytes(), &limits);
    assert_eq!((outcome.rows, outcome.dropped), (1, 1));
    let reject = outcome.rejects[0].clone();
    assert_eq!(reject.kind, RejectKind::Dropped, "its sender is told as before");
    let kept = reject.kept();
    assert_eq!(kept.kind, RejectKind::Unparsed);
    assert!(both.as_bytes().ends_with(&kept.text));
}

#[test]
fn what_is_kept_is_bounded() {
    let limits = Limits {
        line_kept_bytes_max: 10,
        ..tight()
    };
    let reject = ingest("otlp", &otlp(), &limits).rejects[0].clone();
    assert!(!reject.is_cut, "its sender is told by a short name");
    let kept = reject.kept();
    assert_eq!((kept.text.as_slice(), kept.is_cut), (&b"m,a=x\\ y,b"[..], true));
}
