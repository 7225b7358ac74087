//! Good and bad points, over sockets and over HTTP.

use kymo_opentsdb::OpenTsdb;
use kymo_plugin_api::kit::{self, Collector, options};
use kymo_plugin_api::{Format, Framing, Tally, Told};
use kymo_plugin_fuzz as fuzz;

const GOOD: &[(&str, &[&str])] = &[
    (
        "put sys.cpu.user 1356998400 42.5 host=web01 cpu=0",
        &["sys.cpu.user,host=web01,cpu=0 value=42.5 1356998400000000000"],
    ),
    (
        "put m 1356998400001 1 a=b\r\nput m 1356998400.25 -2 a=b\n",
        &[
            "m,a=b value=1 1356998400001000000",
            "m,a=b value=-2 1356998400250000000",
        ],
    ),
    (
        "  put   m  1  1e3   a=b  c=d=e ",
        &["m,a=b,c=d=e value=1000 1000000000"],
    ),
    ("put m 1 1", &["m value=1 1000000000"]),
    ("version\n\nstats\nhelp\nexit\n", &[]),
    ("put größe 1 1 ort=köln", &["größe,ort=köln value=1 1000000000"]),
    (
        r#"{"metric":"sys.cpu.nice","timestamp":1346846400,"value":18,"tags":{"host":"web01","dc":"lga"}}"#,
        &["sys.cpu.nice,host=web01,dc=lga value=18 1346846400000000000"],
    ),
    (
        r#" [ {"metric":"m","timestamp":1346846400001,"value":"1.5","tags":{"n":1}} , {"timestamp":"2","value":2,"metric":"m","x":[1]} ] "#,
        &["m,n=1 value=1.5 1346846400001000000", "m value=2 2000000000"],
    ),
    ("[]", &[]),
];

const BAD: &[(&str, &str)] = &[
    (
        "get m 1 1",
        "unknown command (use put metric timestamp value tag=value ..)",
    ),
    ("put", "missing metric"),
    ("put m", "missing timestamp"),
    ("put m 1", "missing value"),
    ("put m soon 1 a=b", "invalid timestamp"),
    ("put m -1 1 a=b", "invalid timestamp"),
    ("put m 1 x a=b", "invalid value"),
    ("put m 1 1 a", "invalid tag (use tag=value)"),
    ("put m 1 1 =b", "missing tag key"),
    ("put m 1 1 a=", "missing tag value"),
    ("{}", "missing metric"),
    (r#"{"metric":"m","value":1}"#, "missing timestamp"),
    (r#"{"metric":"m","timestamp":1}"#, "missing value"),
    (r#"{"metric":"m","timestamp":1,"value":true}"#, "invalid value"),
    (
        r#"{"metric":"m","timestamp":null,"value":1}"#,
        "invalid timestamp",
    ),
    (
        r#"{"metric":"m","timestamp":1,"value":1,"tags":{"a":""}}"#,
        "missing tag value",
    ),
    (
        r#"{"metric":"m" "timestamp":1}"#,
        "expected ',' or '}', found '\"'",
    ),
    (r#"{"metric":"m""#, "expected ',' or '}', found the end"),
];

#[test]
fn description() {
    kit::check_description(&OpenTsdb);
}

#[test]
fn good_points() {
    kit::check_good(&OpenTsdb, GOOD);
}

#[test]
fn bad_points() {
    kit::check_bad(&OpenTsdb, BAD);
    kit::check_bad(
        &OpenTsdb,
        &[
            (&b"put m\xff 1 1"[..], "invalid UTF-8"),
            (b"put m 1 1 a=\xff", "invalid UTF-8"),
            (b"{\"metric\":\"\xff\"}", "invalid UTF-8"),
        ],
    );
}

#[test]
fn any_bytes() {
    let good = GOOD.iter().map(|(input, _)| *input);
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _)| *input)).collect();
    fuzz::check_robust(&OpenTsdb, &inputs);
}

#[test]
fn bad_points_do_not_hide_good_ones() {
    let body = r#"[{"metric":"m","timestamp":1,"value":1},{"metric":"m"},{"metric":"m","timestamp":2,"value":"NaN"},{"metric":"m","timestamp":3,"value":3},{]"#;
    let got = kit::decode(&OpenTsdb, &options(&[]), Framing::Whole, &[body.as_bytes()]);
    assert_eq!(got.rows, ["m value=1 1000000000", "m value=3 3000000000"]);
    let reasons: Vec<(u64, &str)> = got.rejections.iter().map(|(n, _, r)| (*n, r.as_str())).collect();
    assert_eq!(
        reasons,
        [
            (2, "missing timestamp"),
            (5, "expected a name in quotes, found ']'")
        ]
    );
    assert_eq!(got.skipped, 1);
    let columns: Vec<u64> = ["put m x 1", "put m 1 x", "put m 1 1 a", "put m 1 1 a=b  c"]
        .iter()
        .map(|line| kit::decode(&OpenTsdb, &options(&[]), Framing::Lines, &[line.as_bytes()]).rejections[0].1)
        .collect();
    assert_eq!(columns, [7, 9, 11, 16]);
}

#[test]
fn answers_are_opentsdbs() {
    let told = [Told {
        line: 1,
        column: 1,
        reason: "invalid \"value\"".into(),
        text: r#"{"metric":"m"}"#.into(),
    }];
    let answer = |pairs: &[(&str, &str)], rejected: usize| {
        let mut decoder = OpenTsdb
            .decoder(&options(pairs), Framing::Whole)
            .expect("options");
        decoder.decode(b"[]", &mut Collector::default());
        let answer = decoder.answer(&Tally {
            rows: 3,
            rejected: rejected as u64,
            rejections: &told[..rejected],
            error: (rejected > 0).then_some("bad"),
        });
        let answer = answer.expect("its own");
        (answer.status, String::from_utf8(answer.body).expect("text"))
    };
    assert_eq!(answer(&[], 0), (204, String::new()));
    assert_eq!(
        answer(&[("summary", "")], 0),
        (200, r#"{"failed":0,"success":3}"#.into())
    );
    assert_eq!(
        answer(&[("details", "")], 1),
        (
            400,
            r#"{"errors":[{"datapoint":{"metric":"m"},"error":"invalid \"value\""}],"failed":1,"success":3}"#
                .into()
        )
    );
    assert_eq!(
        answer(&[], 1),
        (
            400,
            r#"{"error":{"code":400,"message":"One or more data points had errors","details":"bad"}}"#.into()
        )
    );
}

#[test]
fn parts_have_columns() {
    let cases: [(&str, &[u64], &[u64], u64); 3] = [
        ("put m 5 1.5 a=1  b=2", &[13, 18], &[9], 7),
        ("put  m 5  1.5 a=1", &[15], &[11], 8),
        (
            r#"{"metric":"m","tags":{"a":"1","b":"2"},"timestamp":5,"value":1.5}"#,
            &[23, 31],
            &[62],
            52,
        ),
    ];
    kit::check_columns(&OpenTsdb, &[], &cases);
}
