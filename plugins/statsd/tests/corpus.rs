//! Good and bad lines of statsd, DogStatsD, and the tags of InfluxDB and Graphite.

use kymo_plugin_api::kit::{self, Collector, options};
use kymo_plugin_api::{Decoder, Format, Framing};
use kymo_plugin_fuzz as fuzz;
use kymo_statsd::Statsd;

/// Rows of a flush bear the kit's time, 1000000000.
const GOOD: &[(&str, &[&str])] = &[
    ("hits:1|c", &["hits,metric_type=counter value=1i 1000000000"]),
    // Counters are summed up and scaled.
    (
        "hits:1|c\nhits:2|c\nhits:-5|c",
        &["hits,metric_type=counter value=-2i 1000000000"],
    ),
    (
        "hits:2|c|@0.1\nhits:1|c",
        &["hits,metric_type=counter value=21i 1000000000"],
    ),
    ("hits:1|c|@0.3", &["hits,metric_type=counter value=3i 1000000000"]),
    (
        "hits:1|c|@0.3\nhits:1|c|@0.3",
        &["hits,metric_type=counter value=7i 1000000000"],
    ),
    (
        "bytes:1.5|c\nbytes:1e3|c",
        &["bytes,metric_type=counter value=1002i 1000000000"],
    ),
    ("hits:0|c", &["hits,metric_type=counter value=0i 1000000000"]),
    // Gauges.
    (
        "load:3|g\nload:+2|g\nload:-1.5|g",
        &["load,metric_type=gauge value=3.5 1000000000"],
    ),
    ("load:-2|g", &["load,metric_type=gauge value=-2 1000000000"]),
    (
        "load:0|g\nload:-2|g|@0.5",
        &["load,metric_type=gauge value=-2 1000000000"],
    ),
    ("load:7:+1:+2|g", &["load,metric_type=gauge value=10 1000000000"]),
    // Sets: a member is any text.
    (
        "users:a|s\nusers:b|s|@0.1\nusers:a|s",
        &["users,metric_type=set value=2i 1000000000"],
    ),
    (
        "hosts:::1|s\nhosts:::2|s\nhosts:::1|s",
        &["hosts,metric_type=set value=2i 1000000000"],
    ),
    // Timings.
    (
        "t:10|ms\nt:30|ms",
        &[
            "t,metric_type=timing count=2i,sum=40,mean=20,lower=10,upper=30,stddev=10,median=20,90_percentile=30,\
           95_percentile=30,99_percentile=30 1000000000",
        ],
    ),
    (
        "t:10:20:60|ms|@0.5",
        &[
            "t,metric_type=timing count=6i,sum=180,mean=30,lower=10,upper=60,stddev=21.602468994692867,median=20,\
           90_percentile=60,95_percentile=60,99_percentile=60 1000000000",
        ],
    ),
    (
        "t:1|h\nt:2|d\nt:3|ms",
        &[
            "t,metric_type=timing count=3i,sum=6,mean=2,lower=1,upper=3,stddev=0.816496580927726,median=2,\
           90_percentile=3,95_percentile=3,99_percentile=3 1000000000",
        ],
    ),
    (
        "t:-0.5|d",
        &[
            "t,metric_type=timing count=1i,sum=-0.5,mean=-0.5,lower=-0.5,upper=-0.5,stddev=0,median=-0.5,\
           90_percentile=-0.5,95_percentile=-0.5,99_percentile=-0.5 1000000000",
        ],
    ),
    // Names and the three kinds of tags; all of one key and value are one series, whatever their order.
    (
        "app.web.hits:1|c\napp_web_hits:1|c",
        &["app_web_hits,metric_type=counter value=2i 1000000000"],
    ),
    (
        "hits:1|c|#host:a,az:b\nhits,az=b,host=a:1|c\nhits;host=a;az=b:1|c\nhits,az=b:1|c|#host:a",
        &["hits,az=b,host=a,metric_type=counter value=4i 1000000000"],
    ),
    (
        "hits:1|c|#canary,zone:,url:http://x:1,,",
        &["hits,canary=true,metric_type=counter,url=http://x:1 value=1i 1000000000"],
    ),
    ("hits:1|c|#", &["hits,metric_type=counter value=1i 1000000000"]),
    (
        "hits:1|c|#a:1,a:2\nhits,a=1:1|c|#a:2",
        &["hits,a=2,metric_type=counter value=2i 1000000000"],
    ),
    (
        "hits;q=a,b=c:1|c",
        &["hits,metric_type=counter,q=a,b=c value=1i 1000000000"],
    ),
    (
        "größe:1|c|#ort:köln",
        &["größe,metric_type=counter,ort=köln value=1i 1000000000"],
    ),
    // Sections in any order, those of later versions skipped.
    (
        "hits:1|c|#a:b|@0.5|c:83c0a99c|e:it-false|card:low|",
        &["hits,a=b,metric_type=counter value=2i 1000000000"],
    ),
    (
        "hits:1|c|c:in-1/x|#a:b|#d:e",
        &["hits,a=b,d=e,metric_type=counter value=1i 1000000000"],
    ),
    // With a time: at once, nothing summed up.
    (
        "hits:1:2|c|#a:b|T1656581400|@0.5\nhits:1|c",
        &[
            "hits,a=b,metric_type=counter value=6i 1656581400000000000",
            "hits,metric_type=counter value=1i 1000000000",
        ],
    ),
    (
        "load:5|g\nload:-7|g|T10",
        &[
            "load,metric_type=gauge value=-7 10000000000",
            "load,metric_type=gauge value=5 1000000000",
        ],
    ),
    // Several in a packet, blank lines, line ends.
    (
        "\r\n\na:1|c\r\n  b:1|c \n\n",
        &[
            "a,metric_type=counter value=1i 1000000000",
            "b,metric_type=counter value=1i 1000000000",
        ],
    ),
    // Kinds of one name are series of their own. The order is that of kinds, then names, then tags.
    (
        "m:b|s\nm:1|g\nm:1|c\nlong:1|c\nb:1|c|#z:1\nb:1|c|#a:1",
        &[
            "b,a=1,metric_type=counter value=1i 1000000000",
            "b,metric_type=counter,z=1 value=1i 1000000000",
            "long,metric_type=counter value=1i 1000000000",
            "m,metric_type=counter value=1i 1000000000",
            "m,metric_type=gauge value=1 1000000000",
            "m,metric_type=set value=1i 1000000000",
        ],
    ),
    // Events.
    (
        "_e{5,4}:title|text",
        &["statsd_events title=\"title\",text=\"text\""],
    ),
    (
        "_e{6,9}:a|b: c|one\\n|two|d:1656581400|h:web1|k:deploys|p:low|s:ci|t:error|#env:prod,urgent|c:83c0|x:y",
        &[
            "statsd_events,aggregation_key=deploys,alert_type=error,env=prod,hostname=web1,priority=low,\
           source_type_name=ci,urgent=true title=\"a|b: c\",text=\"one\\n|two\" 1656581400000000000",
        ],
    ),
    ("_e{6,3}:größ|ü \n", &["statsd_events title=\"größ\",text=\"ü \""]),
    ("_e{1,0}:x|", &["statsd_events title=\"x\",text=\"\""]),
    ("_e{1,0}:x||p:\r\n", &["statsd_events title=\"x\",text=\"\""]),
    // Service checks.
    (
        "_sc|redis.up|0",
        &["statsd_service_checks,check=redis.up status=0i"],
    ),
    (
        "_sc|redis.up|2|d:10|h:db1|#env:dev,check:x|m:timed out\\nafter m\\: 10s|c:83c0",
        &[
            "statsd_service_checks,check=redis.up,env=dev,hostname=db1 status=2i,message=\"timed out\\nafter m: 10s\" 10000000000",
        ],
    ),
];

/// A line, the column, the reason.
const BAD: &[(&str, u64, &str)] = &[
    ("hits", 5, "missing value"),
    ("hits|c", 5, "missing value"),
    ("hits|c|#a:b", 5, "missing value"),
    ("hits:", 6, "missing value"),
    ("hits:|c", 6, "missing value"),
    ("hits:|s", 6, "missing value"),
    ("hits:1::2|c", 8, "missing value"),
    ("hits:1:|c", 8, "missing value"),
    (":1|c", 1, "missing name"),
    (",a=b:1|c", 1, "missing name"),
    ("hits\\:1|c", 5, "name ends with a backslash"),
    ("hits:1", 7, "missing type"),
    ("hits:1|", 8, "missing type"),
    ("hits:1||@0.1", 8, "missing type"),
    ("hits:1|x", 8, "unknown type (use c, g, ms, h, d or s)"),
    ("hits:1|C", 8, "unknown type (use c, g, ms, h, d or s)"),
    ("hits:1|c:2|c", 8, "unknown type (use c, g, ms, h, d or s)"),
    ("hits:one|c", 6, "invalid number"),
    ("hits:1:x:3|c", 8, "invalid number"),
    ("hits:nan|g", 6, "invalid number"),
    ("hits:-inf|g", 6, "invalid number"),
    ("hits:+|g", 6, "invalid number"),
    ("hits: 1|c", 6, "invalid number"),
    ("hits:1e999|g", 6, "number out of range"),
    ("hits:1e19|c", 6, "counter out of range of 64-bit integers"),
    ("hits:1e18|c|@0.01", 6, "counter out of range of 64-bit integers"),
    ("hits:1e19|c|T5", 6, "counter out of range of 64-bit integers"),
    ("load:1e308:+1e308|g", 6, "gauge out of range"),
    ("t:1:-1e101|ms", 5, "timing too large (timing_abs_max 1e100)"),
    (
        "hits:1|c|@0",
        11,
        "invalid sample rate (must be above 0 and at most 1)",
    ),
    (
        "hits:1|c|@2",
        11,
        "invalid sample rate (must be above 0 and at most 1)",
    ),
    (
        "hits:1|c|@-1",
        11,
        "invalid sample rate (must be above 0 and at most 1)",
    ),
    (
        "hits:1|c|@",
        11,
        "invalid sample rate (must be above 0 and at most 1)",
    ),
    (
        "hits:1|g|@x",
        11,
        "invalid sample rate (must be above 0 and at most 1)",
    ),
    (
        "hits:1|c|@1e-10",
        11,
        "sample rate too small (sample_rate_min 1e-9)",
    ),
    ("hits:1|c|@0.5|@0.5", 15, "duplicate sample rate"),
    ("hits:1|c|0.1", 10, "unknown section"),
    ("hits:1|c|:x", 10, "unknown section"),
    ("hits:1|c|ü", 10, "unknown section"),
    ("hits,:1|c", 6, "missing tag key"),
    ("hits,a=b,:1|c", 10, "missing tag key"),
    ("hits,=b:1|c", 6, "missing tag key"),
    ("hits,a:1|c", 7, "missing tag value"),
    ("hits;a=:1|c", 8, "missing tag value"),
    ("hits:1|c|#:b", 11, "missing tag key"),
    ("hits:1|c|#a:b,:", 15, "missing tag key"),
    (
        "hits:1|c|#a:b,metric_type:x",
        15,
        "tag key \"metric_type\" is reserved",
    ),
    ("hits;time=5:1|c", 6, "tag key \"time\" is reserved"),
    ("hits:1|c|#a:b\\", 11, "tag ends with a backslash"),
    ("t:1|ms|T5", 8, "timestamp is only for counters and gauges"),
    ("t:1|s|T5", 7, "timestamp is only for counters and gauges"),
    ("t:1|d|T5", 7, "timestamp is only for counters and gauges"),
    ("hits:1|c|T", 11, "invalid timestamp"),
    ("hits:1|c|T-5", 11, "invalid timestamp"),
    ("hits:1|c|T1.5", 11, "invalid timestamp"),
    ("hits:1|c|T9223372037", 11, "time outside range"),
    ("hits:1|c|T99999999999999999999", 11, "time outside range"),
    ("hits:1|c|T5|T6", 13, "duplicate timestamp"),
    (
        "_e{5,4}",
        1,
        "invalid event header (use _e{title bytes,text bytes}:)",
    ),
    (
        "_e{5}:title|text",
        1,
        "invalid event header (use _e{title bytes,text bytes}:)",
    ),
    (
        "_e{-5,4}:title|text",
        1,
        "invalid event header (use _e{title bytes,text bytes}:)",
    ),
    (
        "_e{4,4}:title|text",
        13,
        "event lengths do not fit its title and text",
    ),
    (
        "_e{5,3}:title|text",
        18,
        "event lengths do not fit its title and text",
    ),
    (
        "_e{5,5}:title|text",
        15,
        "event lengths do not fit its title and text",
    ),
    ("_e{1,1}:ü|x", 9, "event lengths do not fit its title and text"),
    (
        "_e{18446744073709551615,1}:x|x",
        28,
        "event lengths do not fit its title and text",
    ),
    ("_e{0,1}:|x", 9, "missing event title"),
    ("_e{1,1}:x|x|d:now", 15, "invalid timestamp"),
    ("_e{1,1}:x|x|loose", 13, "unknown section"),
    ("_e{1,1}:x|x|h:a\\", 13, "tag ends with a backslash"),
    ("_sc|", 5, "missing check name"),
    ("_sc||0", 5, "missing check name"),
    ("_sc|redis", 10, "missing check status"),
    ("_sc|redis|4", 11, "invalid check status (use 0, 1, 2 or 3)"),
    ("_sc|redis||#a:b", 11, "invalid check status (use 0, 1, 2 or 3)"),
    ("_sc|redis|0|d:", 15, "invalid timestamp"),
];

fn decoder(pairs: &[(&str, &str)]) -> Box<dyn Decoder> {
    Statsd
        .decoder(&options(pairs), Framing::Lines)
        .expect("good options")
}

fn flush(decoder: &mut dyn Decoder, now: i64) -> Vec<String> {
    let mut collector = Collector::default();
    decoder.flush(now, &mut collector);
    collector.rows
}

#[test]
fn description() {
    kit::check_description(&Statsd);
}

#[test]
fn good_lines() {
    kit::check_good(&Statsd, GOOD);
}

#[test]
fn bad_lines() {
    let reasons: Vec<(&str, &str)> = BAD.iter().map(|(input, _, reason)| (*input, *reason)).collect();
    kit::check_bad(&Statsd, &reasons);
    for (input, column, _) in BAD {
        let got = kit::decode(&Statsd, &options(&[]), Framing::Whole, &[input.as_bytes()]);
        assert_eq!(got.rejections[0].1, *column, "{input:?}");
    }
}

#[test]
fn any_bytes() {
    let good = GOOD.iter().map(|(input, _)| *input);
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _, _)| *input)).collect();
    fuzz::check_robust(&Statsd, &inputs);
}

#[test]
fn bad_lines_do_not_hide_good_ones() {
    let got = kit::decode(
        &Statsd,
        &options(&[]),
        Framing::Lines,
        &[b"a:1|c\nbad\n\na:x|c\na\xff:1|c\n_sc|x|9\na:2|c"],
    );
    assert_eq!(got.rows, ["a,metric_type=counter value=3i 1000000000"]);
    let want = [
        (2, 4, "missing value"),
        (4, 3, "invalid number"),
        (5, 2, "invalid UTF-8"),
        (6, 7, "invalid check status (use 0, 1, 2 or 3)"),
    ];
    assert_eq!(
        got.rejections,
        want.map(|(line, column, reason)| (line, column, reason.to_string()))
    );
}

#[test]
fn a_line_is_taken_whole_or_not_at_all() {
    let got = kit::decode(
        &Statsd,
        &options(&[]),
        Framing::Lines,
        &[b"a:1:2:x|c\nt:1:2:x|ms\ng:1:x|g\ns:1|s|@x"],
    );
    assert_eq!(got.rows, [] as [String; 0]);
    assert_eq!(got.rejections.len(), 4);
}

#[test]
fn only_gauges_outlive_a_flush() {
    let mut decoder = decoder(&[]);
    let mut collector = Collector::default();
    decoder.decode(b"c:1|c\ng:5|g\ns:a|s\nt:1|ms\n", &mut collector);
    assert_eq!(flush(decoder.as_mut(), 1).len(), 4);
    assert_eq!(flush(decoder.as_mut(), 2), ["g,metric_type=gauge value=5 2"]);
    decoder.decode(b"g:+1|g\nc:2|c\n", &mut collector);
    assert_eq!(
        flush(decoder.as_mut(), 3),
        [
            "c,metric_type=counter value=2i 3",
            "g,metric_type=gauge value=6 3"
        ]
    );
    for now in 4..100 {
        assert_eq!(
            flush(decoder.as_mut(), now),
            [format!("g,metric_type=gauge value=6 {now}")]
        );
    }
    assert_eq!(collector, Collector::default());
}

#[test]
fn gauges_expire_after_idle_flushes() {
    for (expiry, told) in [("0", 1), ("1", 2), ("3", 4), ("off", 20)] {
        let mut decoder = decoder(&[("gauge_expiry", expiry)]);
        decoder.decode(b"g:5|g", &mut Collector::default());
        let flushes = (0..20)
            .filter(|now| !flush(decoder.as_mut(), *now).is_empty())
            .count();
        assert_eq!(flushes, told, "{expiry}");
    }
    let mut decoder = decoder(&[("gauge_expiry", "1")]);
    for now in 0..5 {
        // An update, even to the same value, keeps it.
        decoder.decode(b"g:5|g", &mut Collector::default());
        assert_eq!(flush(decoder.as_mut(), 2 * now).len(), 1);
        assert_eq!(flush(decoder.as_mut(), 2 * now + 1).len(), 1);
    }
    assert_eq!(flush(decoder.as_mut(), 10), [] as [String; 0]);
    // Forgotten is forgotten: a change starts from 0.
    decoder.decode(b"g:+1|g", &mut Collector::default());
    assert_eq!(flush(decoder.as_mut(), 11), ["g,metric_type=gauge value=1 11"]);
}

#[test]
fn options_are_read() {
    for (seconds, nanoseconds) in [
        ("10", 10_000_000_000),
        ("0.5", 500_000_000),
        ("86400", 86_400_000_000_000),
    ] {
        assert_eq!(
            decoder(&[("flush_interval", seconds)]).flush_interval(),
            Some(nanoseconds)
        );
    }
    assert_eq!(decoder(&[]).flush_interval(), Some(10_000_000_000));
    for (percentiles, fields) in [
        ("none", ""),
        ("", ""),
        ("50", ",50_percentile=2"),
        ("99.9, 25,25", ",99.9_percentile=4,25_percentile=1"),
        ("100", ",100_percentile=4"),
    ] {
        let got = kit::decode(
            &Statsd,
            &options(&[("percentiles", percentiles)]),
            Framing::Whole,
            &[b"t:4:3:2:1|ms"],
        );
        let (_, after) = got.rows[0].split_once("median=2.5").expect("a median");
        assert_eq!(after, format!("{fields} 1000000000"), "{percentiles:?}");
    }
}

#[test]
fn options_that_are_wrong_are_refused() {
    for (name, value, reason) in [
        (
            "precision",
            "s",
            "unknown option (statsd takes: flush_interval, percentiles, gauge_expiry, state_bytes)",
        ),
        (
            "flush_interval",
            "0",
            "invalid flush_interval \"0\" (use seconds, 0.001 to 86400)",
        ),
        (
            "flush_interval",
            "10s",
            "invalid flush_interval \"10s\" (use seconds, 0.001 to 86400)",
        ),
        (
            "flush_interval",
            "1e99",
            "invalid flush_interval \"1e99\" (use seconds, 0.001 to 86400)",
        ),
        (
            "percentiles",
            "0",
            "invalid percentiles \"0\" (use none, or up to 32 numbers above 0 to 100)",
        ),
        (
            "percentiles",
            "90,",
            "invalid percentiles \"90,\" (use none, or up to 32 numbers above 0 to 100)",
        ),
        (
            "percentiles",
            "101",
            "invalid percentiles \"101\" (use none, or up to 32 numbers above 0 to 100)",
        ),
        (
            "gauge_expiry",
            "-1",
            "invalid gauge_expiry \"-1\" (use off or a number of flushes)",
        ),
        (
            "state_bytes",
            "65535",
            "invalid state_bytes \"65535\" (use a number from 65536 to 1073741824)",
        ),
    ] {
        let error = Statsd
            .decoder(&options(&[(name, value)]), Framing::Lines)
            .err()
            .expect("an error");
        assert_eq!((error.name.as_str(), error.reason.as_str()), (name, reason));
    }
    let many: Vec<String> = (1..=33).map(|p| p.to_string()).collect();
    assert!(
        Statsd
            .decoder(&options(&[("percentiles", &many.join(","))]), Framing::Lines)
            .is_err()
    );
    assert!(
        Statsd
            .decoder(
                &options(&[("percentiles", &many[..32].join(","))]),
                Framing::Lines
            )
            .is_ok()
    );
}

#[test]
fn what_is_held_between_flushes_has_a_limit() {
    let lines: String = (0..2000).map(|i| format!("series.{i}.of.many:1|c\n")).collect();
    let refused = |given: &[(&str, &str)]| {
        let got = kit::decode(&Statsd, &options(given), Framing::Whole, &[lines.as_bytes()]);
        let reason = "too much held between flushes (state_bytes_max 65536)";
        got.rejections.iter().filter(|r| r.2.contains(reason)).count()
    };
    assert_eq!(refused(&[]), 0);
    let refused = refused(&[("state_bytes", "65536")]);
    assert!((1000..1900).contains(&refused), "{refused}");
}

#[test]
fn what_is_too_long_is_refused() {
    let tags = |count: usize| {
        (0..count)
            .map(|i| format!("k{i}:v"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let long = |bytes: usize| format!("{}:1|c", "n".repeat(bytes - 4));
    for (line, reason) in [
        (format!("m:1|c|#{}", tags(255)), None),
        (
            format!("m:1|c|#{}", tags(256)),
            Some("too many tags (tags_max 255)"),
        ),
        (long(65_536), None),
        (long(65_537), Some("line too long (line_bytes_max 65536)")),
    ] {
        let got = kit::decode(&Statsd, &options(&[]), Framing::Whole, &[line.as_bytes()]);
        assert_eq!(got.rejections.first().map(|(_, _, told)| told.as_str()), reason);
        assert_eq!(got.rows.len(), usize::from(reason.is_none()));
    }
}

#[test]
fn a_flood_of_series_and_timings_stays_within_the_limits() {
    let mut decoder = decoder(&[]);
    let mut collector = Collector::default();
    let mut piece = String::new();
    for i in 0..100_100 {
        piece.push_str(&format!("n{i}:1|c\n"));
    }
    decoder.decode(piece.as_bytes(), &mut collector);
    assert_eq!(collector.rejections.len(), 100);
    assert_eq!(
        collector.rejections[0],
        (100_001, 9, "too many series (series_max 100000)".to_string())
    );
    assert_eq!(flush(decoder.as_mut(), 1).len(), 100_000);
    let values = format!("t{}|ms\n", ":1:3".repeat(10_000));
    decoder.decode(values.as_bytes(), &mut collector);
    let rows = flush(decoder.as_mut(), 2);
    assert!(
        rows[0].contains(" count=20000i,sum=40000,mean=2,lower=1,upper=3,stddev=1,"),
        "{rows:?}"
    );
    assert_eq!(collector.rejections.len(), 100);
}
