//! Good and bad JSON, in Kymo's own shape and in others'.

use kymo_json::Json;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_api::{Format, Framing};
use kymo_plugin_fuzz as fuzz;
use proptest::prelude::*;

const GOOD: &[(&str, &[&str])] = &[
    (
        r#"{"measurement":"cpu","tags":{"host":"a","az":"b"},"fields":{"usage":1.5,"up":true,"note":"x"},"time":7}"#,
        &[r#"cpu,host=a,az=b usage=1.5,up=true,note="x" 7"#],
    ),
    // Any order, any blanks, no tags, no time.
    (
        r#" { "time" : 7 , "fields" : { "f" : -2 } , "measurement" : "m" } "#,
        &["m f=-2 7"],
    ),
    (
        r#"{"tags":{"a":"b"},"measurement":"m","fields":{"f":1}}"#,
        &["m,a=b f=1"],
    ),
    (
        r#"{"tags":{"a":"b"},"time":1,"measurement":"m","fields":{"f":1}}"#,
        &["m,a=b f=1 1"],
    ),
    (
        r#"{"measurement":"m","tags":{},"fields":{"f":1},"time":null}"#,
        &["m f=1"],
    ),
    (r#"{"measurement":"m","tags":null,"fields":{"f":1}}"#, &["m f=1"]),
    // Several.
    (
        "[{\"measurement\":\"m\",\"fields\":{\"f\":1}},\n {\"measurement\":\"m\",\"fields\":{\"f\":2}}]",
        &["m f=1", "m f=2"],
    ),
    (
        "{\"measurement\":\"m\",\"fields\":{\"f\":1}}\n\n{\"measurement\":\"m\",\"fields\":{\"f\":2}}\r\n",
        &["m f=1", "m f=2"],
    ),
    ("[]", &[]),
    ("", &[]),
    // Escapes, braces and quotes in texts.
    (
        r#"{"measurement":"a \"b\"","tags":{"k\u00e9":"v}\\x"},"fields":{"f\n":"{\"}"},"time":1}"#,
        &["a \"b\",ké=v}\\x f\n=\"{\\\"}\" 1"],
    ),
    (
        r#"{"measurement":"m","tags":{"a":"}","b":"{"},"fields":{"f":1}}"#,
        &["m,a=},b={ f=1"],
    ),
    (
        r#"{"measurement":"größe","tags":{"ort":"köln"},"fields":{"f":1}}"#,
        &["größe,ort=köln f=1"],
    ),
    // Numbers and booleans as tags; null and empty ones are none; null fields are none.
    (
        r#"{"measurement":"m","tags":{"n":1.50,"t":true,"x":null,"y":""},"fields":{"f":1,"g":null}}"#,
        &["m,n=1.50,t=true f=1"],
    ),
    (
        r#"{"measurement":"m","fields":{"a":1e3,"b":-0.5,"c":0,"d":123456789012345678901234567890,"e":1E-2}}"#,
        &["m a=1000,b=-0.5,c=0,d=123456789012345680000000000000,e=0.01"],
    ),
    (
        r#"{"measurement":"m","fields":{"f":1},"time":"2026-11-01T00:00:00.5Z"}"#,
        &["m f=1 1793491200500000000"],
    ),
    (r#"{"measurement":"m","fields":{"f":1},"time":-5}"#, &["m f=1 -5"]),
];

const BAD: &[(&str, &str)] = &[
    ("x", "expected an object, found 'x'"),
    ("1", "expected an object, found '1'"),
    ("{}", "missing measurement"),
    (r#"{"measurement":"m"}"#, "missing fields"),
    (r#"{"measurement":"m","fields":{}}"#, "missing fields"),
    (r#"{"measurement":"m","fields":{"f":null}}"#, "missing fields"),
    (r#"{"fields":{"f":1}}"#, "missing measurement"),
    (r#"{"measurement":"","fields":{"f":1}}"#, "missing measurement"),
    (
        r#"{"measurement":1,"fields":{"f":1}}"#,
        "expected a text, found '1'",
    ),
    (
        r#"{"measurement":"m","feilds":{"f":1}}"#,
        "unknown key \"feilds\" (known are measurement, tags, fields, time; or use shape=flat)",
    ),
    (
        r#"{"measurement":"m","measurement":"n","fields":{"f":1}}"#,
        "key \"measurement\" twice",
    ),
    (
        r#"{"measurement":"m","fields":{"f":{"g":1}}}"#,
        "field \"f\" is no text, number or boolean (shape=flat takes nested values)",
    ),
    (
        r#"{"measurement":"m","tags":{"a":[]},"fields":{"f":1}}"#,
        "tag \"a\" is no text, number or boolean",
    ),
    (
        r#"{"measurement":"m","tags":[],"fields":{"f":1}}"#,
        "expected '{', found '['",
    ),
    (
        r#"{"measurement":"m","tags":{"a" "b"},"fields":{"f":1}}"#,
        "expected ':', found '\"'",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1},"time":"soon"}"#,
        "invalid time",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1},"time":true}"#,
        "invalid time",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1},"time":1e30}"#,
        "invalid time",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1e999}}"#,
        "number out of range",
    ),
    (r#"{"measurement":"m","fields":{"f":01}}"#, "invalid number"),
    (r#"{"measurement":"m","fields":{"f":1.}}"#, "invalid number"),
    (
        r#"{"measurement":"m","fields":{"f":NaN}}"#,
        "expected a text, a number, true, false or null, found 'N'",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1}"#,
        "expected ',' or '}', found the end",
    ),
    (
        r#"{"measurement":"m","fields":{"f":1 "g":2}}"#,
        "expected ',' or '}', found '\"'",
    ),
    (
        r#"{"measurement":"m","fields":{"f":"open}}"#,
        "a text without its closing quote",
    ),
    ("[", "expected ',' or ']', found the end"),
];

#[test]
fn description() {
    kit::check_description(&Json);
    assert!(Json.could_be(b" [") && Json.could_be(b"{") && !Json.could_be(b"cpu f=1"));
}

#[test]
fn good_json() {
    kit::check_good(&Json, GOOD);
}

#[test]
fn bad_json() {
    kit::check_bad(&Json, BAD);
}

#[test]
fn any_bytes() {
    let good = GOOD.iter().map(|(input, _)| *input);
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _)| *input)).collect();
    fuzz::check_robust(&Json, &inputs);
    fuzz::check_robust_with(
        &Json,
        &[("tag_keys", "tags.host,measurement"), ("measurement", "m")],
        &inputs,
    );
    fuzz::check_robust_with(
        &Json,
        &[("rows", "fields.f"), ("shape", "flat"), ("measurement", "m")],
        &inputs,
    );
}

#[test]
fn bad_points_do_not_hide_good_ones() {
    let lines = b"{\"measurement\":\"m\",\"fields\":{\"f\":1}}\n{\"measurement\":\"m\" \"fields\"}\n[{\"measurement\":\"m\",\"fields\":{\"f\":2}},\n{\"measurement\":\"m\"},\n{\"measurement\":\"m\",\"fields\":{\"f\":3}}\n]\n";
    for framing in [Framing::Whole, Framing::LengthPrefixed] {
        let got = kit::decode(&Json, &options(&[]), framing, &[lines]);
        assert_eq!(got.rows, ["m f=1", "m f=2", "m f=3"]);
        assert_eq!(
            got.rejections,
            [
                (2, 20, "expected ',' or '}', found '\"'".to_string()),
                (4, 1, "missing fields".to_string())
            ]
        );
    }
    let got = kit::decode(
        &Json,
        &options(&[]),
        Framing::Lines,
        &[b"{\"measurement\":\"m\",\"fields\":{\"f\":1}}\n\xff\n{\"measurement\":\"m\",\"fields\":{\"f\":2}}\n"],
    );
    assert_eq!(got.rows, ["m f=1", "m f=2"]);
    assert_eq!(got.rejections, [(2, 1, "invalid UTF-8".to_string())]);
}

#[test]
fn times_and_integers_are_read_as_told() {
    let with = |pairs: &[(&str, &str)], input: &str| {
        let got = kit::decode(&Json, &options(pairs), Framing::Whole, &[input.as_bytes()]);
        assert_eq!(got.rejections, [], "{input}");
        got.rows.join("\n")
    };
    let at = |time: &str| format!("{{\"measurement\":\"m\",\"fields\":{{\"f\":1}},\"time\":{time}}}");
    for (unit, time, want) in [
        ("s", "1700000000", 1_700_000_000_000_000_000i64),
        ("s", "1700000000.25", 1_700_000_000_250_000_000),
        ("ms", "1700000000001", 1_700_000_000_001_000_000),
        ("auto", "1700000000001", 1_700_000_000_001_000_000),
        ("rfc3339", "\"1970-01-01T00:00:01Z\"", 1_000_000_000),
        ("s", "\"1700000000\"", 1_700_000_000_000_000_000),
    ] {
        assert_eq!(with(&[("time_unit", unit)], &at(time)), format!("m f=1 {want}"));
        assert_eq!(with(&[("precision", unit)], &at(time)), format!("m f=1 {want}"));
    }
    let numbers = r#"{"measurement":"m","fields":{"a":1,"b":-9223372036854775808,"c":18446744073709551615,"d":1.0,"e":18446744073709551616}}"#;
    assert_eq!(
        with(&[("integers", "on")], numbers),
        "m a=1i,b=-9223372036854775808i,c=18446744073709551615u,d=1,e=18446744073709552000"
    );
}

#[test]
fn other_shapes_by_options() {
    let input = r#"{"ts":1700000000,"host":"a","meta":{"dc":"x","rack":7},"cpu":{"user":1.5,"cores":[1,2]},"up":true,"gone":null}"#;
    for (pairs, want) in [
        (
            &[
                ("measurement", "sys"),
                ("tag_keys", "host,meta.dc,meta.rack:shelf"),
                ("time_key", "ts"),
                ("time_unit", "s"),
            ][..],
            "sys,host=a,dc=x,shelf=7 cpu_user=1.5,cpu_cores_0=1,cpu_cores_1=2,up=true 1700000000000000000",
        ),
        (
            &[
                ("measurement_key", "host"),
                ("field_keys", "cpu.user:usage,up"),
                ("time_key", "ts"),
                ("time_unit", "s"),
            ],
            "a usage=1.5,up=true 1700000000000000000",
        ),
        (
            &[
                ("measurement_key", "meta.dc"),
                ("shape", "flat"),
                ("time_key", "ts"),
            ],
            r#"x host="a",meta_rack=7,cpu_user=1.5,cpu_cores_0=1,cpu_cores_1=2,up=true 1700000000"#,
        ),
    ] {
        kit::check_good_with(&Json, pairs, &[(input, &[want])]);
    }
    kit::check_good_with(
        &Json,
        &[("rows", "data.items"), ("measurement", "m"), ("shape", "flat")],
        &[
            (
                r#"{"data":{"n":2,"items":[{"f":1},{"f":2}]},"x":1}"#,
                &["m f=1", "m f=2"][..],
            ),
            (r#"{"f":1}"#, &["m f=1"]),
            (
                r#"[{"data":{"items":[{"f":1}]}},{"data":{"items":[]}}]"#,
                &["m f=1"],
            ),
        ],
    );
    kit::check_bad_with(
        &Json,
        &[("rows", "items"), ("measurement", "m")],
        &[
            (r#"{"items":[{"fields":{}}]}"#, "missing fields"),
            (r#"{"items":[1]}"#, "expected an object, found '1'"),
        ],
    );
    kit::check_good_with(
        &Json,
        &[
            ("measurement_key", "name"),
            ("tags_key", "labels"),
            ("fields_key", "values"),
            ("time_key", "at"),
        ],
        &[(
            r#"{"name":"m","labels":{"a":"b"},"values":{"f":1},"at":1}"#,
            &["m,a=b f=1 1"],
        )],
    );
}

#[test]
fn options_that_are_wrong_are_refused() {
    for (pairs, option) in [
        (&[("time_unit", "fortnight")][..], "time_unit"),
        (&[("integers", "maybe")], "integers"),
        (&[("shape", "round")], "shape"),
        (&[("shape", "nested"), ("tag_keys", "a")], "shape"),
        (&[("tag_keys", "a,,b")], "tag_keys"),
        (&[("tag_keys", ":name")], "tag_keys"),
    ] {
        let error = Json
            .decoder(&options(pairs), Framing::Whole)
            .err()
            .expect("refused");
        assert_eq!(error.name, option, "{pairs:?}");
    }
}

proptest! {
    /// The fast way and the careful way read the same: an escape in a key forces care.
    #[test]
    fn fast_and_careful_agree(
        tags in prop::collection::btree_map("[a-c{}]{1,3}", "[a-z{}:, ]{1,5}", 0..4),
        fields in prop::collection::btree_map("[f-h]{1,3}", prop_oneof!["-?[1-9][0-9]{0,20}", "-?0\\.[0-9]{1,9}", "[1-9]e-?[0-9]{1,2}", "true", "\"[a-z}{ ]{0,5}\""], 1..5),
        time in prop::option::of(1i64..i64::MAX),
    ) {
        let object = |name: &str, escaped: &str| {
            let list = |pairs: Vec<String>| pairs.join(",");
            let tags = list(tags.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect());
            let fields = list(fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect());
            let time = time.map(|t| format!(",\"time\":{t}")).unwrap_or_default();
            format!("{{\"{escaped}\":\"{name}\",\"tags\":{{{tags}}},\"fields\":{{{fields}}}{time}}}")
        };
        let read = |input: String| kit::decode(&Json, &options(&[]), Framing::Whole, &[input.as_bytes()]);
        let (fast, careful) = (read(object("m", "measurement")), read(object("m", "\\u006deasurement")));
        prop_assert_eq!(fast.rejections, []);
        prop_assert_eq!(fast.rows, careful.rows);
    }
}

#[test]
fn names_with_quotes_are_found_however_they_are_written() {
    let with = [("fields_key", "f\"s"), ("time_key", "t")];
    kit::check_good_with(
        &Json,
        &with,
        &[(
            r#"{"measurement":"m","f\"s":{"v":1},"t":1793491200000000000}"#,
            &["m v=1 1793491200000000000"],
        )],
    );
    kit::check_bad_with(
        &Json,
        &with,
        &[(
            r#"{"measurement":"m","f"s":{"v":1},"t":1}"#,
            "expected ':', found 's'",
        )],
    );
}

/// Points as a program prints them: `$n`, `$t`, `$v`, `$w` and `$z` are name, tags, two values and time.
const PRINTED: &[&str] = &[
    r#"{"measurement":"$n","tags":{$t},"fields":{"v":$v},"time":$z}"#,
    r#"{"measurement":"$n","tags":{$t},"fields":{"v":$v,"w":$w},"time":$z}"#,
    r#"{"measurement":"$n","tags":{$t},"fields":{"w":$w,"v":$v}}"#,
    r#"{ "time": $z, "tags": { $t }, "measurement": "$n", "fields": { "v": $v } }"#,
    r#"{"fields":{"v":$v},"measurement":"$n"}"#,
    r#"{"tags":{$t},"fields":{"v":$v},"measurement":"$n","time":"$z"}"#,
    r#"{"measurement":"$n","fields":{"v":$v},"tags":{$t},"time":$z}"#,
    r#"{"measurement":"$n","fields":{"v":$v,"s":"$n"},"time":$z}"#,
];

/// What may stand in a place, right or wrong.
fn printed() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[a-c]{0,3}", Just("a\\\"b".to_string()), Just("}é".to_string())];
    let tags = prop_oneof![
        4 => "\"k\":\"[a-z]{0,2}\"",
        1 => Just(String::new()),
        1 => Just(r#""k":"}","l":"x""#.to_string()),
        1 => Just(r#""k":"\u0061""#.to_string()),
        1 => Just(r#""k":{}"#.to_string()),
        1 => Just(r#""k":"},""#.to_string()),
    ];
    let value = || {
        prop_oneof![
            4 => "-?[1-9][0-9]{0,17}(\\.[0-9]{1,3})?",
            1 => "[0-9]{1,2}\\.?e?[0-9]{0,1}",
            1 => prop::sample::select(vec!["null", "true", "\"x\"", "\"a\\\"b\"", "\"a\nb\"", "[1]", "{}", "", "tru"])
                .prop_map(str::to_string),
        ]
    };
    let time = prop_oneof![
        3 => Just("1793491200000000000".to_string()),
        1 => "17934912000[0-9]{1,8}",
        1 => prop::sample::select(vec!["2026-11-01T00:00:00Z", "1", "01", "1.5", "null", "-1", "17934912000000000001"])
            .prop_map(str::to_string),
    ];
    (prop::sample::select(PRINTED), name, tags, value(), value(), time).prop_map(|(text, n, t, v, w, z)| {
        text.replace("$n", &n)
            .replace("$t", &t)
            .replace("$v", &v)
            .replace("$w", &w)
            .replace("$z", &z)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    /// A point is read in the same way whatever stood before it, and so however many points look like it.
    #[test]
    fn points_that_look_like_others_are_read_as_if_they_stood_alone(
        points in prop::collection::vec(printed(), 1..12),
        twice in any::<bool>(),
        integers in any::<bool>(),
        measurement in any::<bool>(),
    ) {
        // What a mistake does to the points after it is another matter: those are not in here.
        let mut given = options(if integers { &[("integers", "on")] } else { &[] });
        if measurement {
            given.set("measurement", "all");
        }
        let read = |input: &str| kit::decode(&Json, &given, Framing::Lines, &[input.as_bytes()]);
        let points: Vec<&String> = points.iter().filter(|point| !point.contains('\n')).collect();
        let points: Vec<&String> = if twice { points.iter().chain(&points).copied().collect() } else { points };
        let whole = kit::decode(&Json, &given, Framing::Whole, &[format!("[{}]", points.iter().filter(|p| read(p).rejections.is_empty()).map(|p| p.as_str()).collect::<Vec<_>>().join(",\n")).as_bytes()]);
        let mut rows = Vec::new();
        for point in &points {
            rows.extend(read(point).rows);
        }
        prop_assert_eq!(&whole.rejections, &[]);
        prop_assert_eq!(&whole.rows, &rows);
        // Wrong ones are wrong, and say the same, behind a right one of each kind.
        for point in points {
            let alone = read(point);
            let before: Vec<String> = PRINTED.iter().map(|text| {
                text.replace("$n", "m").replace("$t", "\"k\":\"a\"").replace("$v", "1").replace("$w", "2").replace("$z", "1793491200000000000")
            }).filter(|text| read(text).rejections.is_empty()).collect();
            let behind = kit::decode(&Json, &given, Framing::Whole, &[format!("{}\n{point}", before.join("\n")).as_bytes()]);
            let said = |of: &kit::Collector| of.rejections.iter().map(|(_, column, reason)| (*column, reason.clone())).collect::<Vec<_>>();
            prop_assert_eq!(said(&behind), said(&alone));
            prop_assert_eq!(&behind.rows[before.len()..], &alone.rows[..]);
        }
    }
}

/// Where `part` stands in a text, as a column.
fn at(text: &str, part: &str) -> u64 {
    text.find(part).expect("it is there") as u64 + 1
}

#[test]
fn parts_have_columns() {
    let together = r#"{"measurement":"m","tags":{"a":"1","b":null,"c":"3"},"fields":{"v":1},"time":100}"#;
    let apart = r#"{"tags": {"a":"1","b":null,"c":"3"},"time":100,"fields":{"v":1},"measurement":"m"}"#;
    let turned = r#"{"fields":{"v":1},"time":100, "tags":{"a":"1" , "c":"3"},"measurement":"m"}"#;
    for text in [together, apart, turned] {
        let tags = ["\"a\"", "\"c\""].map(|tag| at(text, tag));
        // A field is found by its key.
        kit::check_columns(&Json, &[], &[(text, &tags, &[0], at(text, "100"))]);
    }
    let flat = r#"{"h":{"i":"x"},"time":100,"o":{"v":1},"j":"y"}"#;
    let with = [("shape", "flat"), ("measurement", "m"), ("tag_keys", "h.i,j")];
    let tags = ["\"i\"", "\"j\""].map(|tag| at(flat, tag));
    kit::check_columns(
        &Json,
        &with,
        &[(flat, &tags, &[at(flat, "\"v\"")], at(flat, "100"))],
    );
}
