//! Messages made by an implementation that is not ours (prost, from the very schema) and read by ours.

use kymo_plugin_api::Framing;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_fuzz as fuzz;
use kymo_protobuf::Protobuf;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use std::sync::OnceLock;

fn descriptor(name: &str) -> MessageDescriptor {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas");
        let files = protox::compile(["kymo.proto"], [folder]).expect("the schema compiles");
        DescriptorPool::from_file_descriptor_set(files).expect("the schema makes sense")
    });
    pool.get_message_by_name(&format!("kymo.v1.{name}"))
        .expect("in the schema")
}

fn message(name: &str, members: &[(&str, Value)]) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor(name));
    for (member, value) in members {
        message.set_field_by_name(member, value.clone());
    }
    message
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn list(messages: Vec<DynamicMessage>) -> Value {
    Value::List(messages.into_iter().map(Value::Message).collect())
}

fn tag(key: &str, value: &str) -> DynamicMessage {
    message("Tag", &[("key", text(key)), ("value", text(value))])
}

fn field(key: &str, kind: &str, value: Value) -> DynamicMessage {
    message("Field", &[("key", text(key)), (kind, value)])
}

fn f(value: f64) -> DynamicMessage {
    field("f", "float", Value::F64(value))
}

fn point(
    name: &str,
    tags: Vec<DynamicMessage>,
    fields: Vec<DynamicMessage>,
    time: Option<i64>,
) -> DynamicMessage {
    let mut members = vec![
        ("measurement", text(name)),
        ("tags", list(tags)),
        ("fields", list(fields)),
    ];
    members.extend(time.map(|time| ("time", Value::I64(time))));
    message("Point", &members)
}

fn batch(points: Vec<DynamicMessage>) -> Vec<u8> {
    message("Batch", &[("points", list(points))]).encode_to_vec()
}

fn good() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let fields = vec![
        f(1.5),
        field("i", "integer", Value::I64(i64::MIN)),
        field("u", "unsigned", Value::U64(u64::MAX)),
        field("s", "text", text("größe")),
        field("b", "boolean", Value::Bool(true)),
        field("zero", "float", Value::F64(0.0)),
        field("none", "text", text("")),
        field("no", "boolean", Value::Bool(false)),
    ];
    vec![
        (
            batch(vec![
                point("cpu", vec![tag("host", "a"), tag("az", "ü")], fields, Some(-7)),
                point("m", vec![], vec![f(2.0)], None),
                point("m", vec![], vec![f(3.0)], Some(0)),
            ]),
            vec![
                "cpu,host=a,az=ü f=1.5,i=-9223372036854775808i,u=18446744073709551615u,s=\"größe\",b=true,zero=0,none=\"\",no=false -7",
                "m f=2",
                "m f=3 0",
            ],
        ),
        (batch(vec![]), vec![]),
        // Tags behind the fields, as no encoder writes them and every decoder must read them.
        (
            {
                let front = point("m", vec![tag("a", "1")], vec![f(1.0)], None).encode_to_vec();
                let back = message("Point", &[("tags", list(vec![tag("b", "2")]))]).encode_to_vec();
                let point = [front, back].concat();
                [&[0x0A, point.len() as u8][..], &point].concat()
            },
            vec!["m,a=1,b=2 f=1"],
        ),
    ]
}

fn bad() -> Vec<(Vec<u8>, &'static str)> {
    let not_text = |bytes: Vec<u8>| {
        let at = bytes.iter().position(|&b| b == b'?').expect("a mark");
        let mut bytes = bytes;
        bytes[at] = 0xFF;
        bytes
    };
    vec![
        (vec![0x0A], "broken message"),
        (vec![0x0A, 5, 1], "broken message"),
        (vec![0x08, 1], "broken message"),
        (vec![0x0A, 1, 0x0A], "broken message"),
        (vec![0x0A, 2, 0x08, 1], "broken message"),
        (
            batch(vec![point("", vec![], vec![f(1.0)], None)]),
            "missing measurement",
        ),
        (batch(vec![point("m", vec![], vec![], None)]), "missing fields"),
        (
            batch(vec![point("m", vec![], vec![f(f64::NAN)], None)]),
            "NaN and infinity cannot be stored",
        ),
        (
            batch(vec![point(
                "m",
                vec![],
                vec![message("Field", &[("key", text("f"))])],
                None,
            )]),
            "missing field value",
        ),
        (
            batch(vec![point(
                "m",
                vec![],
                vec![message("Field", &[("float", Value::F64(1.0))])],
                None,
            )]),
            "missing field key",
        ),
        (
            not_text(batch(vec![point("m?", vec![], vec![f(1.0)], None)])),
            "invalid UTF-8",
        ),
        (
            not_text(batch(vec![point("m", vec![tag("a", "?")], vec![f(1.0)], None)])),
            "invalid UTF-8",
        ),
        (
            not_text(batch(vec![point(
                "m",
                vec![],
                vec![field("s", "text", text("?"))],
                None,
            )])),
            "invalid UTF-8",
        ),
    ]
}

#[test]
fn description() {
    kit::check_description(&Protobuf);
}

#[test]
fn good_messages() {
    for (message, rows) in good() {
        kit::check_good(&Protobuf, &[(message, rows.as_slice())]);
    }
}

#[test]
fn bad_messages() {
    kit::check_bad(&Protobuf, &bad());
}

/// Where `mark` stands in the bytes, from 1.
fn place(bytes: &[u8], mark: &[u8]) -> u64 {
    let at = bytes.windows(mark.len()).position(|part| part == mark);
    at.expect("it is there") as u64 + 1
}

#[test]
fn points_know_where_their_parts_are() {
    let fields = vec![f(1.5), field("i", "integer", Value::I64(-1))];
    let whole = batch(vec![point(
        "cpu",
        vec![tag("host", "a"), tag("az", "b")],
        fields,
        Some(-7),
    )]);
    // A member begins four bytes before the text of its first member: two heads.
    let of = |bytes: &[u8], name: &str| place(bytes, name.as_bytes()) - 4;
    let fields = [
        place(&whole, &[0x0A, 1, b'f']) - 2,
        place(&whole, &[0x0A, 1, b'i']) - 2,
    ];
    let (turned, _) = good().remove(2);
    let apart = [
        place(&turned, &[0x0A, 1, b'a']) - 2,
        place(&turned, &[0x0A, 1, b'b']) - 2,
    ];
    let field = [place(&turned, &[0x0A, 1, b'f']) - 2];
    kit::check_columns(
        &Protobuf,
        &[],
        &[
            (
                &whole,
                &[of(&whole, "host"), of(&whole, "az")],
                &fields,
                place(&whole, &(-7i64).to_le_bytes()) - 1,
            ),
            (&turned, &apart, &field, 0),
        ],
    );
    assert!(apart[1] > field[0], "the second tag stands behind the field");
    let nan = batch(vec![point("m", vec![], vec![f(1.0), f(f64::NAN)], None)]);
    let at = place(&nan, &f64::NAN.to_le_bytes()) - 1;
    kit::check_places(
        &Protobuf,
        &[],
        &[(&nan, 1, at, "NaN and infinity cannot be stored")],
    );
}

#[test]
fn any_bytes() {
    let good = good().into_iter().map(|(message, _)| message);
    let inputs: Vec<Vec<u8>> = good
        .chain(bad().into_iter().map(|(message, _)| message))
        .collect();
    fuzz::check_robust(&Protobuf, &inputs);
}

#[test]
fn bad_points_do_not_hide_good_ones() {
    let message = batch(vec![
        point("m", vec![], vec![f(1.0)], None),
        point("m", vec![], vec![], None),
        point("m", vec![], vec![f(3.0)], None),
    ]);
    let got = kit::decode(&Protobuf, &options(&[]), Framing::LengthPrefixed, &[&message]);
    assert_eq!(got.rows, ["m f=1", "m f=3"]);
    assert_eq!(got.rejections, [(2, 6, "missing fields".to_string())]);
}

#[test]
fn members_of_later_versions_are_passed_over() {
    let unknown = [0x7A, 2, b'h', b'i'];
    let inner = [
        point("m", vec![], vec![f(1.0)], None).encode_to_vec(),
        unknown.to_vec(),
    ]
    .concat();
    let message = [&unknown[..], &[0x0A, inner.len() as u8], &inner].concat();
    kit::check_good(&Protobuf, &[(message, &["m f=1"])]);
}
