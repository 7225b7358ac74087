//! Good and bad lines, as InfluxDB 1.x takes and refuses them.

use kymo_line_protocol::LineProtocol;
use kymo_plugin_api::{Framing, kit};
use kymo_plugin_fuzz as fuzz;

const GOOD: &[(&str, &[&str])] = &[
    ("m f=1", &["m f=1"]),
    ("m f=1 5\nm f=2 6\n", &["m f=1 5", "m f=2 6"]),
    ("\n\n  m f=1  5  \r\n# a comment\n#\n", &["m f=1 5"]),
    (
        "cpu,host=a,az=b u=1.5,n=-2i,c=3u,t=true,s=\"x\" 1700000000000000000",
        &["cpu,host=a,az=b u=1.5,n=-2i,c=3u,t=true,s=\"x\" 1700000000000000000"],
    ),
    (
        "m a=t,b=T,c=true,d=True,e=TRUE,f=f,g=F,h=false,i=False,j=FALSE",
        &["m a=true,b=true,c=true,d=true,e=true,f=false,g=false,h=false,i=false,j=false"],
    ),
    ("m f=1e3,g=-1.5E-3,h=.5,i=1.", &["m f=1000,g=-0.0015,h=0.5,i=1"]),
    (
        r#"m,k\ 1=v\,2 a\=b=1,s="he said \"hi\", a=b \\ c" -1"#,
        &[r#"m,k 1=v,2 a=b=1,s="he said \"hi\", a=b \\ c" -1"#],
    ),
    ("m s=\"two\nlines\" 1\nm f=2", &["m s=\"two\\nlines\" 1", "m f=2"]),
    ("m s=\"\"", &["m s=\"\""]),
    (
        "größe,ort=köln wert=1,text=\"ü\" 1",
        &["größe,ort=köln wert=1,text=\"ü\" 1"],
    ),
    (
        "m f=9223372036854775807i -9223372036854775806",
        &["m f=9223372036854775807i -9223372036854775806"],
    ),
    ("m,a=1,b=2 f=1,f=2", &["m,a=1,b=2 f=1,f=2"]),
];

const BAD: &[(&str, &str)] = &[
    ("m", "missing fields"),
    ("m,t=a", "missing fields"),
    ("m ", "missing fields"),
    (",t=a f=1", "missing measurement"),
    ("m, f=1", "missing tag key"),
    ("m,t f=1", "missing tag value"),
    ("m,t= f=1", "missing tag value"),
    ("m,=a f=1", "missing tag key"),
    ("m,t=a,t=b f=1", "duplicate tags"),
    ("m f", "invalid field format"),
    ("m f=", "missing field value"),
    ("m =1", "missing field key"),
    ("m f=1,", "invalid field format"),
    ("m f=1,g", "invalid field format"),
    ("m f=abc", "invalid boolean"),
    ("m f=1x", "invalid number"),
    ("m f=NaN", "invalid number"),
    ("m f=+Inf", "invalid number"),
    ("m f=1.5i", "invalid number"),
    ("m f=\"open", "unbalanced quotes"),
    ("m f=1 12x", "bad timestamp"),
    ("m f=1 1.5", "bad timestamp"),
    (
        "m f=1 9223372036854775807",
        "time outside range -9223372036854775806 - 9223372036854775806",
    ),
    (
        "m f=9223372036854775808i",
        "unable to parse integer 9223372036854775808: strconv.ParseInt: parsing \"9223372036854775808\": value out of range",
    ),
];

#[test]
fn description() {
    kit::check_description(&LineProtocol);
}

#[test]
fn good_lines() {
    kit::check_good(&LineProtocol, GOOD);
}

#[test]
fn bad_lines() {
    kit::check_bad(&LineProtocol, BAD);
}

#[test]
fn any_bytes() {
    let inputs: Vec<&str> = GOOD.iter().map(|(input, _)| *input).collect();
    fuzz::check_robust(&LineProtocol, &inputs);
}

#[test]
fn bad_lines_do_not_hide_good_ones() {
    let got = kit::decode(
        &LineProtocol,
        &kit::options(&[]),
        Framing::Lines,
        &[b"m f=1 1\nm f=\"open 2\nm f=3 3\nbad\nm f=4 4"],
    );
    assert_eq!(got.rows, ["m f=1 1", "m f=3 3", "m f=4 4"]);
    let places: Vec<(u64, &str)> = got
        .rejections
        .iter()
        .map(|(line, _, reason)| (*line, reason.as_str()))
        .collect();
    assert_eq!(places, [(2, "unbalanced quotes"), (4, "missing fields")]);
}

#[test]
fn bytes_that_are_no_text_are_refused_alone() {
    let got = kit::decode(
        &LineProtocol,
        &kit::options(&[]),
        Framing::Lines,
        &[b"m f=1 1\nm\xff f=2 2\nm f=3 3\n"],
    );
    assert_eq!(got.rows, ["m f=1 1", "m f=3 3"]);
    assert_eq!(got.rejections, [(2, 2, "invalid UTF-8".to_string())]);
}

#[test]
fn precision_scales_timestamps() {
    for (precision, nanoseconds) in [
        ("", 1i64),
        ("n", 1),
        ("u", 1000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("h", 3_600_000_000_000),
    ] {
        let options = kit::options(&[("precision", precision)]);
        let got = kit::decode(&LineProtocol, &options, Framing::Whole, &[b"m f=1 7"]);
        assert_eq!(got.rows, [format!("m f=1 {}", 7 * nanoseconds)]);
    }
    let options = kit::options(&[("precision", "s")]);
    let got = kit::decode(&LineProtocol, &options, Framing::Whole, &[b"m f=1 9223372037"]);
    assert!(got.rejections[0].2.contains("time outside range"), "{got:?}");
}

mod ways {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|v| format!("{v}i")),
            any::<u64>().prop_map(|v| format!("{v}u")),
            any::<f64>()
                .prop_filter("finite", |v| v.is_finite())
                .prop_map(|v| format!("{v:?}")),
            (0u64..99999, 0u32..6).prop_map(|(v, digits)| format!(
                "{:.*}",
                digits as usize,
                v as f64 / 100.0
            )),
            any::<bool>().prop_map(|v| v.to_string()),
            "[ -~&&[^\"\\\\]]{0,8}".prop_map(|v| format!("\"{v}\"")),
        ]
    }

    fn line() -> impl Strategy<Value = String> {
        let fields = prop::collection::vec(("[a-d]{1,3}", value()), 1..5);
        let time = prop::option::of(prop_oneof![0i64..100_000_000_000, any::<i64>()]);
        (
            "[a-c]{1,4}",
            prop::collection::vec("[a-z]{1,4}", 0..3),
            fields,
            time,
        )
            .prop_map(|(measurement, tags, fields, time)| {
                let tags: String = tags
                    .iter()
                    .enumerate()
                    .map(|(i, v)| format!(",t{i}={v}"))
                    .collect();
                let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={v}")).collect();
                let time = time.map(|t| format!(" {t}")).unwrap_or_default();
                format!("{measurement}{tags} {}{time}\n", fields.join(","))
            })
    }

    proptest! {
        /// Two blanks between series and fields are the ordinary walk's; one is the quick one's. Both must see the same.
        #[test]
        fn the_quick_way_and_the_ordinary_one_agree(lines in prop::collection::vec(line(), 1..20)) {
            let quick: String = lines.concat();
            let ordinary: String = lines.iter().map(|line| line.replacen(' ', "  ", 1)).collect();
            let read = |text: &str| kit::decode(&LineProtocol, &kit::options(&[]), Framing::Whole, &[text.as_bytes()]);
            prop_assert_eq!(read(&quick).rows, read(&ordinary).rows);
            prop_assert_eq!(read(&quick).rejections.len(), read(&ordinary).rejections.len());
        }
    }
}
