//! Requests made by prost and read by ours; the same in JSON.

use kymo_otlp::Otlp;
use kymo_plugin_api::kit::{self, Collector, options};
use kymo_plugin_api::{Answer, Format, Framing, Tally};
use kymo_plugin_fuzz as fuzz;
use prost::Message;

/// OTLP's messages, as far as they matter here, in the words of its specification.
mod proto {
    macro_rules! message {
        ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
            #[derive(Clone, PartialEq, prost::Message)]
            pub struct $name { $($(#[$attribute])* pub $field: $type,)* }
        };
    }
    message!(Request {
        #[prost(message, repeated, tag = "1")]
        resource_metrics: Vec<ResourceMetrics>,
    });
    message!(ResourceMetrics {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scope_metrics: Vec<ScopeMetrics>,
    });
    message!(Resource {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
    });
    message!(ScopeMetrics {
        #[prost(message, optional, tag = "1")]
        scope: Option<Scope>,
        #[prost(message, repeated, tag = "2")]
        metrics: Vec<Metric>,
    });
    message!(Scope {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "2")]
        version: String,
    });
    message!(Metric {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(string, tag = "3")]
        unit: String,
        #[prost(message, optional, tag = "5")]
        gauge: Option<Numbers>,
        #[prost(message, optional, tag = "7")]
        sum: Option<Numbers>,
        #[prost(message, optional, tag = "9")]
        histogram: Option<Histograms>,
        #[prost(message, optional, tag = "10")]
        exponential: Option<Exponentials>,
        #[prost(message, optional, tag = "11")]
        summary: Option<Summaries>,
    });
    message!(Numbers {
        #[prost(message, repeated, tag = "1")]
        points: Vec<Number>,
        #[prost(int32, tag = "2")]
        temporality: i32,
        #[prost(bool, tag = "3")]
        is_monotonic: bool,
    });
    message!(Histograms {
        #[prost(message, repeated, tag = "1")]
        points: Vec<Histogram>,
    });
    message!(Exponentials {
        #[prost(message, repeated, tag = "1")]
        points: Vec<Exponential>,
    });
    message!(Summaries {
        #[prost(message, repeated, tag = "1")]
        points: Vec<Summary>,
    });
    message!(Number {
        #[prost(fixed64, tag = "2")]
        start: u64,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(double, optional, tag = "4")]
        as_double: Option<f64>,
        #[prost(sfixed64, optional, tag = "6")]
        as_int: Option<i64>,
        #[prost(message, repeated, tag = "7")]
        attributes: Vec<KeyValue>,
        #[prost(uint32, tag = "8")]
        flags: u32,
    });
    message!(Histogram {
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, optional, tag = "5")]
        sum: Option<f64>,
        #[prost(fixed64, repeated, tag = "6")]
        counts: Vec<u64>,
        #[prost(double, repeated, tag = "7")]
        bounds: Vec<f64>,
        #[prost(message, repeated, tag = "9")]
        attributes: Vec<KeyValue>,
        #[prost(double, optional, tag = "11")]
        min: Option<f64>,
        #[prost(double, optional, tag = "12")]
        max: Option<f64>,
    });
    message!(Exponential {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, optional, tag = "5")]
        sum: Option<f64>,
        #[prost(sint32, tag = "6")]
        scale: i32,
        #[prost(fixed64, tag = "7")]
        zero_count: u64,
        #[prost(message, optional, tag = "8")]
        positive: Option<Buckets>,
        #[prost(message, optional, tag = "9")]
        negative: Option<Buckets>,
    });
    message!(Buckets {
        #[prost(sint32, tag = "1")]
        offset: i32,
        #[prost(uint64, repeated, tag = "2")]
        counts: Vec<u64>,
    });
    message!(Summary {
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(fixed64, tag = "4")]
        count: u64,
        #[prost(double, tag = "5")]
        sum: f64,
        #[prost(message, repeated, tag = "6")]
        quantiles: Vec<Quantile>,
    });
    message!(Quantile {
        #[prost(double, tag = "1")]
        quantile: f64,
        #[prost(double, tag = "2")]
        value: f64,
    });
    message!(KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<AnyValue>,
    });
    message!(AnyValue {
        #[prost(string, optional, tag = "1")]
        text: Option<String>,
        #[prost(bool, optional, tag = "2")]
        boolean: Option<bool>,
        #[prost(int64, optional, tag = "3")]
        integer: Option<i64>,
        #[prost(double, optional, tag = "4")]
        double: Option<f64>,
        #[prost(message, optional, tag = "5")]
        array: Option<Array>,
        #[prost(bytes = "vec", optional, tag = "7")]
        bytes: Option<Vec<u8>>,
    });
    message!(Array {
        #[prost(message, repeated, tag = "1")]
        values: Vec<AnyValue>,
    });
    message!(Response {
        #[prost(message, optional, tag = "1")]
        partial_success: Option<PartialSuccess>,
    });
    message!(PartialSuccess {
        #[prost(int64, tag = "1")]
        rejected_data_points: i64,
        #[prost(string, tag = "2")]
        error_message: String,
    });
    message!(Status {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
    });
}

use proto::{
    AnyValue, Array, Buckets, Exponential, Exponentials, Histogram, Histograms, KeyValue, Metric, Number,
    Numbers, Quantile, Request, Resource, ResourceMetrics, Scope, ScopeMetrics, Summaries, Summary,
};

fn text(text: &str) -> AnyValue {
    AnyValue {
        text: Some(text.into()),
        ..AnyValue::default()
    }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(value),
    }
}

fn request(metrics: Vec<Metric>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            attribute("service.name", text("shop")),
            attribute("host", text("a")),
        ],
    };
    let scope = Scope {
        name: "lib".into(),
        version: "1".into(),
    };
    let scope_metrics = vec![ScopeMetrics {
        scope: Some(scope),
        metrics,
    }];
    let resource_metrics = vec![ResourceMetrics {
        resource: Some(resource),
        scope_metrics,
    }];
    Request { resource_metrics }.encode_to_vec()
}

fn metric(name: &str) -> Metric {
    Metric {
        name: name.into(),
        unit: "s".into(),
        ..Metric::default()
    }
}

fn gauge(name: &str, points: Vec<Number>) -> Metric {
    let gauge = Numbers {
        points,
        ..Numbers::default()
    };
    Metric {
        gauge: Some(gauge),
        ..metric(name)
    }
}

fn double(value: f64, time: u64) -> Number {
    Number {
        as_double: Some(value),
        time,
        start: 1,
        ..Number::default()
    }
}

fn sum_of_all_kinds() -> Metric {
    let array = Array {
        values: vec![
            text("x"),
            AnyValue {
                integer: Some(-1),
                ..AnyValue::default()
            },
        ],
    };
    let attributes = vec![
        attribute("host", text("b")),
        attribute(
            "ok",
            AnyValue {
                boolean: Some(true),
                ..AnyValue::default()
            },
        ),
        attribute(
            "n",
            AnyValue {
                integer: Some(-7),
                ..AnyValue::default()
            },
        ),
        attribute(
            "d",
            AnyValue {
                double: Some(0.5),
                ..AnyValue::default()
            },
        ),
        attribute(
            "list",
            AnyValue {
                array: Some(array),
                ..AnyValue::default()
            },
        ),
        attribute(
            "raw",
            AnyValue {
                bytes: Some(vec![0xAB, 1]),
                ..AnyValue::default()
            },
        ),
        attribute("none", text("")),
    ];
    let point = Number {
        as_int: Some(-3),
        time: 5,
        attributes,
        ..Number::default()
    };
    let sum = Numbers {
        points: vec![point],
        temporality: 2,
        is_monotonic: true,
    };
    Metric {
        sum: Some(sum),
        ..metric("requests")
    }
}

fn histogram(counts: Vec<u64>, bounds: Vec<f64>) -> Metric {
    let point = Histogram {
        time: 9,
        count: 6,
        sum: Some(12.5),
        min: Some(0.5),
        max: Some(8.0),
        counts,
        bounds,
        attributes: vec![attribute("path", text("/"))],
    };
    Metric {
        histogram: Some(Histograms { points: vec![point] }),
        ..metric("latency")
    }
}

fn exponential(scale: i32) -> Metric {
    let point = Exponential {
        time: 9,
        count: 7,
        sum: Some(1.0),
        scale,
        zero_count: 2,
        // (0.5,1], (2,4]
        positive: Some(Buckets {
            offset: -1,
            counts: vec![1, 0, 3],
        }),
        // [-2,-1)
        negative: Some(Buckets {
            offset: 0,
            counts: vec![1],
        }),
        ..Exponential::default()
    };
    Metric {
        exponential: Some(Exponentials { points: vec![point] }),
        ..metric("e")
    }
}

fn summary() -> Metric {
    let quantile = |quantile, value| Quantile { quantile, value };
    let point = Summary {
        time: 9,
        count: 4,
        sum: 10.0,
        quantiles: vec![quantile(0.5, 2.0), quantile(0.99, 3.5)],
    };
    Metric {
        summary: Some(Summaries { points: vec![point] }),
        ..metric("s")
    }
}

const ALL: &str = "service.name=shop,host=a,otel.scope.name=lib,otel.scope.version=1";

fn good() -> Vec<(Vec<u8>, Vec<String>)> {
    let rows = |rows: &[&str]| rows.iter().map(|row| row.replace("..", ALL)).collect();
    vec![
        (
            request(vec![
                gauge("temp", vec![double(1.5, 7), double(2.5, 0)]),
                sum_of_all_kinds(),
            ]),
            rows(&[
                "temp,.. value=1.5 7",
                "temp,.. value=2.5",
                "requests,service.name=shop,host=b,otel.scope.name=lib,otel.scope.version=1,ok=true,n=-7,d=0.5,list=[\"x\",-1],raw=ab01 value=-3 5",
            ]),
        ),
        (
            request(vec![histogram(vec![1, 2, 3], vec![1.0, 5.0])]),
            rows(&[
                "latency,..,path=/ count=6,sum=12.5,min=0.5,max=8 9",
                "latency_bucket,..,path=/,le=1 value=1 9",
                "latency_bucket,..,path=/,le=5 value=3 9",
                "latency_bucket,..,path=/,le=+Inf value=6 9",
            ]),
        ),
        (
            request(vec![histogram(vec![], vec![])]),
            rows(&["latency,..,path=/ count=6,sum=12.5,min=0.5,max=8 9"]),
        ),
        (
            request(vec![exponential(0)]),
            rows(&[
                "e,.. count=7,sum=1 9",
                "e_bucket,..,le=-1 value=1 9",
                "e_bucket,..,le=0 value=3 9",
                "e_bucket,..,le=1 value=4 9",
                "e_bucket,..,le=4 value=7 9",
                "e_bucket,..,le=+Inf value=7 9",
            ]),
        ),
        (
            request(vec![summary()]),
            rows(&[
                "s,.. count=4,sum=10 9",
                "s,..,quantile=0.5 value=2 9",
                "s,..,quantile=0.99 value=3.5 9",
            ]),
        ),
        (request(vec![]), vec![]),
        (Vec::new(), vec![]),
        (b"{}".to_vec(), vec![]),
    ]
}

const JSON: &str = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}},{"key":"n","value":{"intValue":"-5"}},{"key":"l","value":{"arrayValue":{"values":[{"boolValue":true},{"stringValue":"x"}]}}}]},
 "scopeMetrics":[{"scope":{"name":"lib"},"schemaUrl":"x","metrics":[
  {"name":"temp","unit":"C","gauge":{"dataPoints":[{"asDouble":1.5,"timeUnixNano":"7","attributes":[{"key":"k","value":{"doubleValue":2}}]},{"asInt":"-3","timeUnixNano":8}]}},
  {"name":"h","histogram":{"aggregationTemporality":2,"dataPoints":[{"count":"3","sum":4.5,"bucketCounts":["1","2"],"explicitBounds":[1],"timeUnixNano":"9"}]}},
  {"name":"e","exponentialHistogram":{"dataPoints":[{"count":1,"scale":0,"positive":{"offset":-1,"bucketCounts":["1"]},"timeUnixNano":"9"}]}}
 ]}]}]}"#;

const JSON_ROWS: &[&str] = &[
    "temp,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib,k=2 value=1.5 7",
    "temp,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib value=-3 8",
    "h,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib count=3,sum=4.5 9",
    "h_bucket,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib,le=1 value=1 9",
    "h_bucket,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib,le=+Inf value=3 9",
    "e,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib count=1 9",
    "e_bucket,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib,le=1 value=1 9",
    "e_bucket,service.name=shop,n=-5,l=[true,\"x\"],otel.scope.name=lib,le=+Inf value=1 9",
];

#[test]
fn description() {
    kit::check_description(&Otlp);
}

#[test]
fn good_requests() {
    for (request, rows) in good() {
        kit::check_good(&Otlp, &[(request, rows.as_slice())]);
    }
    kit::check_good(&Otlp, &[(JSON, JSON_ROWS)]);
}

#[test]
fn bad_requests() {
    kit::check_bad(
        &Otlp,
        &[
            (&[0x0A][..], "broken message"),
            (&[0x0A, 5, 1], "broken message"),
            (&[0x08, 1, 0x0B], "broken message"),
            (&[0x0A, 2, 0x12, 9], "broken message"),
            (b"{", "expected ',' or '}', found the end"),
            (b"{\"resourceMetrics\":1}", "expected '{', found '1'"),
            (b"{} x", "something follows the JSON"),
            (b"{\"\xff\":1}", "invalid UTF-8"),
        ],
    );
    // Points that make no sense are refused one by one. (Their requests are not kept: the points are what can be told.)
    for (metric, reason) in [
        (
            histogram(vec![1], vec![1.0, 2.0]),
            "histogram has not one count more than bounds",
        ),
        (
            histogram(vec![1; 3], vec![2.0, 1.0]),
            "histogram bounds are not in order",
        ),
        (exponential(99), "unknown scale of an exponential histogram"),
        (gauge("", vec![double(1.0, 1)]), "metric without a name"),
        (gauge("t", vec![double(1.0, u64::MAX)]), "time outside range"),
    ] {
        let got = kit::decode(
            &Otlp,
            &options(&[]),
            Framing::Whole,
            &[&request(vec![metric, gauge("ok", vec![double(1.0, 1)])])],
        );
        let reasons: Vec<&str> = got
            .rejections
            .iter()
            .map(|(_, _, reason)| reason.as_str())
            .collect();
        assert_eq!(reasons, [reason]);
        assert!(
            got.rows.last().is_some_and(|row| row.starts_with("ok,")),
            "{:?}",
            got.rows
        );
    }
}

/// Where `mark` stands in the bytes, from 1.
fn place(bytes: &[u8], mark: &[u8]) -> u64 {
    let at = bytes.windows(mark.len()).position(|part| part == mark);
    at.expect("it is there") as u64 + 1
}

#[test]
fn points_know_where_in_the_request_they_and_their_attributes_are() {
    let mut second = double(2.0, 7);
    second.attributes = vec![attribute("zone", text("z")), attribute("host", text("b"))];
    let sent = request(vec![gauge("temp", vec![double(1.0, 6), second])]);
    // Behind the head of the key.
    let of = |name: &[u8]| place(&sent, name) - 2;
    let nearest = place(&sent, b"zone") + 11;
    assert_eq!(&sent[nearest as usize + 1..][..4], b"host");
    let (before, point) = (
        place(&sent, &6u64.to_le_bytes()) + 8,
        place(&sent, &7u64.to_le_bytes()),
    );
    let columns = kit::decode(&Otlp, &options(&[]), Framing::Whole, &[&sent]).columns;
    assert_eq!(
        columns.tags,
        [
            of(b"service.name"),
            nearest,
            place(&sent, b"lib"),
            place(&sent, b"1"),
            of(b"zone")
        ]
    );
    assert!(
        columns.time == columns.fields[0] && (before..=point).contains(&columns.time),
        "{columns:?}, {point}"
    );
    let json = kit::decode(&Otlp, &options(&[]), Framing::Whole, &[JSON.as_bytes()]).columns;
    assert_eq!((json.tags, json.time), (vec![], 0), "bytes that nobody sent");
    let mut unclear = double(1.0, 1);
    unclear.attributes = vec![attribute("a", text("x")), attribute("", text("nameless"))];
    let bad = request(vec![gauge("temp", vec![double(1.0, 6), unclear])]);
    let late = request(vec![gauge("temp", vec![double(1.0, u64::MAX)])]);
    let at = kit::decode(&Otlp, &options(&[]), Framing::Whole, &[&late]).rejections[0].1;
    let ranges = place(&late, b"temp")..place(&late, &u64::MAX.to_le_bytes());
    assert!(ranges.contains(&at), "{at}, {ranges:?}");
    let nameless = place(&bad, b"nameless") - 4;
    kit::check_places(&Otlp, &[], &[(&bad, 2, nameless, "attribute without a key")]);
}

#[test]
fn any_bytes() {
    let mut inputs: Vec<Vec<u8>> = vec![JSON.into()];
    inputs.extend(
        good()
            .into_iter()
            .map(|(request, _)| request)
            .filter(|request| !request.is_empty()),
    );
    fuzz::check_robust(&Otlp, &inputs);
}

#[test]
fn points_without_a_value_are_skipped_and_counted() {
    let none = Number {
        flags: 1,
        ..double(1.0, 1)
    };
    let request = request(vec![gauge(
        "t",
        vec![none, double(f64::NAN, 1), Number::default(), double(2.0, 1)],
    )]);
    let got = kit::decode(&Otlp, &options(&[]), Framing::Whole, &[&request]);
    assert_eq!((got.rows.len(), got.rejections.len(), got.skipped), (1, 0, 3));
}

#[test]
fn answers_are_otlps() {
    let answer = |request: &[u8], rows: u64, rejected: u64| -> Answer {
        let mut decoder = Otlp.decoder(&options(&[]), Framing::Whole).expect("no options");
        decoder.decode(request, &mut Collector::of(&Otlp, request));
        let answer = decoder.answer(&Tally {
            rows,
            rejected,
            rejections: &[],
            error: (rejected > 0).then_some("b\"d"),
        });
        answer.expect("its own")
    };
    let request = request(vec![gauge("t", vec![double(1.0, 1)])]);
    let good = answer(&request, 1, 0);
    assert_eq!(
        (good.status, good.content_type, good.body.len()),
        (200, "application/x-protobuf", 0)
    );
    let partial = answer(&request, 1, 2);
    let response = proto::Response::decode(partial.body.as_slice()).expect("a response");
    let told = response.partial_success.expect("told");
    assert_eq!(
        (
            partial.status,
            told.rejected_data_points,
            told.error_message.as_str()
        ),
        (200, 2, "b\"d")
    );
    let refused = answer(b"\x0A\x05", 0, 1);
    let status = proto::Status::decode(refused.body.as_slice()).expect("a status");
    assert_eq!(
        (refused.status, status.code, status.message.as_str()),
        (400, 3, "b\"d")
    );
    let json = |answer: Answer| {
        (
            answer.status,
            answer.content_type,
            String::from_utf8(answer.body).expect("text"),
        )
    };
    assert_eq!(
        json(answer(JSON.as_bytes(), 8, 0)),
        (200, "application/json", "{}".into())
    );
    assert_eq!(
        json(answer(JSON.as_bytes(), 8, 1)).2,
        r#"{"partialSuccess":{"rejectedDataPoints":"1","errorMessage":"b\"d"}}"#
    );
    assert_eq!(
        json(answer(b"{", 0, 1)),
        (400, "application/json", r#"{"code":3,"message":"b\"d"}"#.into())
    );
}
