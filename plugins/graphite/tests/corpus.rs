//! Good and bad lines, as carbon takes and refuses them.

use kymo_graphite::Graphite;
use kymo_plugin_api::Framing;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_fuzz as fuzz;

const GOOD: &[(&str, &[&str])] = &[
    ("a.b.c 1.5 1700000000", &["a.b.c value=1.5 1700000000000000000"]),
    (
        "a.b 1 1700000000\na.c -2e3 1700000001\r\n",
        &[
            "a.b value=1 1700000000000000000",
            "a.c value=-2000 1700000001000000000",
        ],
    ),
    (
        "disk.used;host=a;mount=/ 7 1700000000",
        &["disk.used,host=a,mount=/ value=7 1700000000000000000"],
    ),
    ("a;k=1;k=2 7 1", &["a,k=2 value=7 1000000000"]),
    ("a 1 1700000000.25", &["a value=1 1700000000250000000"]),
    ("a 1 -1", &["a value=1"]),
    ("a 1 N", &["a value=1"]),
    ("a 1", &["a value=1"]),
    ("  a \t 1  1  \n\n# comment\n", &["a value=1 1000000000"]),
    ("größe;ort=köln +3 1", &["größe,ort=köln value=3 1000000000"]),
    (
        "servers.web-01.cpu-0.cpu-idle 99.9 1",
        &["servers.web-01.cpu-0.cpu-idle value=99.9 1000000000"],
    ),
];

const BAD: &[(&str, &str)] = &[
    ("a", "missing value"),
    ("a x 1", "invalid value"),
    ("a 1x 1", "invalid value"),
    ("a 1 soon", "invalid timestamp"),
    ("a 1 1e99", "invalid timestamp"),
    ("a 1 1 1", "more than path, value and timestamp"),
    (";k=v 1 1", "missing path"),
    ("a;k 1 1", "tag without a value (use ;tag=value)"),
    ("a;k= 1 1", "missing tag value"),
    ("a;=v 1 1", "missing tag key"),
    ("a; 1 1", "tag without a value (use ;tag=value)"),
];

#[test]
fn description() {
    kit::check_description(&Graphite);
}

#[test]
fn good_lines() {
    kit::check_good(&Graphite, GOOD);
}

#[test]
fn bad_lines() {
    kit::check_bad(&Graphite, BAD);
    kit::check_bad(
        &Graphite,
        &[(b"a\xff 1 1", "invalid UTF-8"), (b"a \xff 1 ", "invalid value")],
    );
}

#[test]
fn any_bytes() {
    let good = GOOD.iter().map(|(input, _)| *input);
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _)| *input)).collect();
    fuzz::check_robust(&Graphite, &inputs);
}

#[test]
fn what_is_no_number_is_skipped_and_counted() {
    let got = kit::decode(
        &Graphite,
        &options(&[]),
        Framing::Lines,
        &[b"a nan 1\na inf 1\na 2 1\n"],
    );
    assert_eq!((got.rows.len(), got.rejections.len(), got.skipped), (1, 0, 2));
}

#[test]
fn columns_point_at_the_mistake() {
    for (line, column) in [
        ("a.b x 1", 5),
        ("a.b 1 x", 7),
        ("a.b;k 1 1", 5),
        ("a;k=v;l= 1 1", 7),
        ("a 1 1 x", 7),
    ] {
        let got = kit::decode(&Graphite, &options(&[]), Framing::Lines, &[line.as_bytes()]);
        assert_eq!(got.rejections[0].1, column, "{line}");
    }
}
