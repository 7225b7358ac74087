//! Good and bad lines, as exporters write them.

use kymo_plugin_api::Framing;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_fuzz as fuzz;
use kymo_prometheus::Prometheus;

const GOOD: &[(&str, &[&str])] = &[
    ("up 1", &["up value=1"]),
    (
        "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\nhttp_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n",
        &["http_requests_total,method=post,code=200 value=1027 1395066363000000000"],
    ),
    (
        "msdos_file_access_time_seconds{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"Cannot find file:\\n\\\"FILE.TXT\\\"\"} 1.458255915e9",
        &[
            "msdos_file_access_time_seconds,path=C:\\DIR\\FILE.TXT,error=Cannot find file:\n\"FILE.TXT\" value=1458255915",
        ],
    ),
    (
        "rpc_seconds{quantile=\"0.01\"} 3102\nrpc_seconds_sum 1.7560473e+07",
        &[
            "rpc_seconds,quantile=0.01 value=3102",
            "rpc_seconds_sum value=17560473",
        ],
    ),
    ("h_bucket{le=\"+Inf\"} 144320", &["h_bucket,le=+Inf value=144320"]),
    ("a{} 1", &["a value=1"]),
    ("a { b = \"c\" , d=\"e\", } 1", &["a,b=c,d=e value=1"]),
    ("a{b=\"}{ ,\"} 1", &["a,b=}{ , value=1"]),
    ("a{b=\"\"} 1", &["a value=1"]),
    (
        "{\"http.requests\",method=\"post\"} 1",
        &["http.requests,method=post value=1"],
    ),
    ("{\"my.label\"=\"x\",\"name\"} 2", &["name,my.label=x value=2"]),
    ("{__name__=\"a\",b=\"c\"} 2", &["a,b=c value=2"]),
    // OpenMetrics: seconds, exemplars, EOF.
    (
        "a_total{b=\"c\"} 17 1520879607.789 # {trace_id=\"x\"} 9.8 1520879607.7\n# EOF\n",
        &["a_total,b=c value=17 1520879607789000000"],
    ),
    ("a_total 17 # {trace_id=\"x\"} 9.8", &["a_total value=17"]),
    ("a 1 1395066363", &["a value=1 1395066363000000000"]),
    ("größe{ort=\"köln\"} 1", &["größe,ort=köln value=1"]),
    ("job:rate:5m 0.5", &["job:rate:5m value=0.5"]),
];

const BAD: &[(&str, &str)] = &[
    ("a", "missing value"),
    ("a{b=\"c\"}", "missing value"),
    ("a x", "invalid value"),
    ("a 1 x", "invalid timestamp"),
    ("a 1 2026-11-01", "invalid timestamp"),
    ("a 1 1 1", "more than name, value and timestamp"),
    ("a{b=\"c\" 1", "labels without their closing brace"),
    ("a{b} 1", "expected '=' after a label's name"),
    ("a{b=c} 1", "expected a label's value in quotes"),
    ("a{b=\"c\"d=\"e\"} 1", "expected ',' or '}' after a label"),
    ("a{=\"c\"} 1", "invalid label name"),
    (
        "a{b=\"\\x\"} 1",
        "invalid escape in a label (use \\\\, \\\" or \\n)",
    ),
    ("{b=\"c\"} 1", "missing name"),
    ("a{\"b\"} 1", "name twice"),
    ("a\"b 1", "invalid name"),
];

#[test]
fn description() {
    kit::check_description(&Prometheus);
}

#[test]
fn good_lines() {
    kit::check_good(&Prometheus, GOOD);
}

#[test]
fn bad_lines() {
    kit::check_bad(&Prometheus, BAD);
    kit::check_bad(&Prometheus, &[(b"a\xff 1", "invalid UTF-8")]);
}

#[test]
fn any_bytes() {
    let good = GOOD.iter().map(|(input, _)| *input);
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _)| *input)).collect();
    fuzz::check_robust(&Prometheus, &inputs);
}

#[test]
fn what_is_no_number_is_skipped_and_counted() {
    let got = kit::decode(
        &Prometheus,
        &options(&[]),
        Framing::Lines,
        &[b"a NaN\na +Inf 1\na{b=\"c\"} -Inf\na 2\n"],
    );
    assert_eq!((got.rows.len(), got.rejections.len(), got.skipped), (1, 0, 3));
}

#[test]
fn units_and_columns() {
    let read = |pairs: &[(&str, &str)], line: &str| {
        kit::decode(&Prometheus, &options(pairs), Framing::Lines, &[line.as_bytes()])
    };
    assert_eq!(
        read(&[("time_unit", "ms")], "a 1 1000").rows,
        ["a value=1 1000000000"]
    );
    assert_eq!(
        read(&[("time_unit", "s")], "a 1 1000").rows,
        ["a value=1 1000000000000"]
    );
    for (line, column) in [
        ("a{b=\"c\"} x", 10),
        ("a 1 x", 5),
        ("a{b=\"c\",=\"d\"} 1", 9),
        ("a{b=c} 1", 5),
    ] {
        assert_eq!(read(&[], line).rejections[0].1, column, "{line}");
    }
}
