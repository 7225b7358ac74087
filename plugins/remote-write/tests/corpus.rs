//! Requests of both versions, made by prost and read by ours.

use kymo_plugin_api::kit::{self, Collector, options};
use kymo_plugin_api::{Format, Framing, Tally};
use kymo_plugin_fuzz as fuzz;
use kymo_remote_write::RemoteWrite;
use prost::Message;

/// Messages of 1.0 and 2.0, in the words of their specifications.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct WriteRequest {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
        #[prost(message, repeated, tag = "3")]
        pub metadata: Vec<Metadata>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub timestamp: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metadata {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(string, tag = "2")]
        pub family: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub sum: f64,
        #[prost(sint32, tag = "4")]
        pub schema: i32,
        #[prost(double, tag = "5")]
        pub zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub zero_count_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub zero_count_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub negative_deltas: Vec<i64>,
        #[prost(message, repeated, tag = "11")]
        pub positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub positive_counts: Vec<f64>,
        #[prost(int64, tag = "15")]
        pub timestamp: i64,
        #[prost(double, repeated, tag = "16")]
        pub custom_values: Vec<f64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        #[prost(uint32, tag = "2")]
        pub length: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(string, repeated, tag = "4")]
        pub symbols: Vec<String>,
        #[prost(message, repeated, tag = "5")]
        pub timeseries: Vec<TimeSeriesV2>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeriesV2 {
        #[prost(uint32, repeated, tag = "1")]
        pub labels_refs: Vec<u32>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "3")]
        pub histograms: Vec<Histogram>,
    }
}

use proto::{Histogram, Label, Request, Sample, Span, TimeSeries, TimeSeriesV2, WriteRequest};

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    let label = |(name, value): &(&str, &str)| Label {
        name: (*name).into(),
        value: (*value).into(),
    };
    pairs.iter().map(label).collect()
}

fn samples(values: &[(f64, i64)]) -> Vec<Sample> {
    let sample = |&(value, timestamp): &(f64, i64)| Sample { value, timestamp };
    values.iter().map(sample).collect()
}

fn series(pairs: &[(&str, &str)], values: &[(f64, i64)]) -> TimeSeries {
    TimeSeries {
        labels: labels(pairs),
        samples: samples(values),
        histograms: Vec::new(),
    }
}

fn v1(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    let metadata = vec![proto::Metadata {
        kind: 1,
        family: "up".into(),
    }];
    WriteRequest { timeseries, metadata }.encode_to_vec()
}

fn v2(timeseries: Vec<TimeSeriesV2>) -> Vec<u8> {
    let symbols = ["", "__name__", "up", "job", "a b", "instance", "ü"];
    Request {
        symbols: symbols.map(String::from).to_vec(),
        timeseries,
    }
    .encode_to_vec()
}

fn of_refs(refs: &[u32], values: &[(f64, i64)]) -> TimeSeriesV2 {
    TimeSeriesV2 {
        labels_refs: refs.to_vec(),
        samples: samples(values),
        histograms: Vec::new(),
    }
}

fn histogram() -> Histogram {
    let span = |offset, length| Span { offset, length };
    Histogram {
        count_int: Some(13),
        sum: 42.5,
        schema: 0,
        zero_threshold: 0.001,
        zero_count_int: Some(2),
        // Buckets 0, 1 (and 4): (0.5,1], (1,2], (8,16].
        positive_spans: vec![span(0, 2), span(2, 1)],
        positive_deltas: vec![3, -1, 2],
        // Bucket 1: [-2,-1).
        negative_spans: vec![span(1, 1)],
        negative_deltas: vec![2],
        timestamp: 5,
        ..Histogram::default()
    }
}

const HISTOGRAM_ROWS: &[&str] = &[
    "h_count,job=x value=13 5000000",
    "h_sum,job=x value=42.5 5000000",
    "h_bucket,job=x,le=-1 value=2 5000000",
    "h_bucket,job=x,le=0.001 value=4 5000000",
    "h_bucket,job=x,le=1 value=7 5000000",
    "h_bucket,job=x,le=2 value=9 5000000",
    "h_bucket,job=x,le=16 value=13 5000000",
    "h_bucket,job=x,le=+Inf value=13 5000000",
];

fn of_histogram(histogram: Histogram) -> Vec<u8> {
    v1(vec![TimeSeries {
        labels: labels(&[("__name__", "h"), ("job", "x")]),
        samples: Vec::new(),
        histograms: vec![histogram],
    }])
}

fn good() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let up = &[("__name__", "up"), ("instance", "ü"), ("job", "a b")][..];
    let custom = Histogram {
        count_float: Some(6.0),
        sum: 1.0,
        schema: -53,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_counts: vec![1.0, 2.0, 3.0],
        custom_values: vec![0.1, 0.5],
        timestamp: 1,
        ..Histogram::default()
    };
    vec![
        (
            v1(vec![
                series(up, &[(1.0, 1000), (2.5, 2000)]),
                series(&[("__name__", "m"), ("gone", "")], &[(-0.5, -1)]),
            ]),
            vec![
                "up,instance=ü,job=a b value=1 1000000000",
                "up,instance=ü,job=a b value=2.5 2000000000",
                "m value=-0.5 -1000000",
            ],
        ),
        (v1(vec![]), vec![]),
        (
            v2(vec![
                of_refs(&[1, 2, 3, 4, 5, 6], &[(1.0, 1000)]),
                of_refs(&[1, 2], &[(2.0, 1000)]),
            ]),
            vec![
                "up,job=a b,instance=ü value=1 1000000000",
                "up value=2 1000000000",
            ],
        ),
        (of_histogram(histogram()), HISTOGRAM_ROWS.to_vec()),
        (
            of_histogram(custom),
            vec![
                "h_count,job=x value=6 1000000",
                "h_sum,job=x value=1 1000000",
                "h_bucket,job=x,le=0.1 value=1 1000000",
                "h_bucket,job=x,le=0.5 value=3 1000000",
                "h_bucket,job=x,le=+Inf value=6 1000000",
            ],
        ),
        // Labels before and behind the samples.
        (
            {
                let front = series(&[("__name__", "m")], &[(1.0, 1)]).encode_to_vec();
                let back = series(&[("a", "b")], &[]).encode_to_vec();
                let series = [front, back].concat();
                [&[0x0A, series.len() as u8][..], &series].concat()
            },
            vec!["m,a=b value=1 1000000"],
        ),
    ]
}

fn bad() -> Vec<(Vec<u8>, &'static str)> {
    let with = |change: fn(&mut Histogram)| {
        let mut histogram = histogram();
        change(&mut histogram);
        of_histogram(histogram)
    };
    vec![
        (vec![0x0A], "broken message"),
        (vec![0x0A, 9, 1], "broken message"),
        (vec![0x0A, 2, 0x08, 1], "broken message"),
        (vec![0x0A, 2, 0x12, 9], "broken message"),
        (
            v1(vec![series(&[("job", "x")], &[(1.0, 1)])]),
            "missing label __name__",
        ),
        (
            v1(vec![series(&[("__name__", "m"), ("", "x")], &[(1.0, 1)])]),
            "label without a name",
        ),
        (
            v1(vec![series(&[("__name__", "m")], &[(1.0, i64::MAX)])]),
            "time outside range",
        ),
        (
            v2(vec![of_refs(&[1, 2, 3], &[(1.0, 1)])]),
            "label without a value",
        ),
        (
            v2(vec![of_refs(&[1, 99], &[(1.0, 1)])]),
            "label refers to a symbol that is not there",
        ),
        (with(|h| h.schema = 99), "unknown histogram schema"),
        (
            with(|h| h.positive_deltas = vec![1]),
            "histogram spans are longer than its buckets",
        ),
        (
            with(|h| h.positive_deltas = vec![1; 4]),
            "histogram has buckets outside of its spans",
        ),
        (
            with(|h| h.positive_deltas = vec![1, -5, 0]),
            "impossible count in a histogram",
        ),
        (
            with(|h| h.positive_spans[1].offset = -1),
            "histogram spans overlap",
        ),
    ]
}

#[test]
fn description() {
    kit::check_description(&RemoteWrite);
}

#[test]
fn good_requests() {
    for (request, rows) in good() {
        kit::check_good(&RemoteWrite, &[(request, rows.as_slice())]);
    }
}

#[test]
fn bad_requests() {
    kit::check_bad(&RemoteWrite, &bad());
}

#[test]
fn messages_tell_the_byte_of_the_time_series() {
    let two = series(&[("__name__", "m")], &[(1.0, 1), (2.0, i64::MAX)]);
    let deep = of_histogram(Histogram {
        schema: 99,
        ..histogram()
    });
    let behind = |bytes: &[u8], mark: &[u8]| {
        let at = bytes.windows(mark.len()).position(|part| part == mark);
        at.expect("it is there") as u64 + 1
    };
    let name = v1(vec![series(&[("__name__", "m"), ("", "x")], &[(1.0, 1)])]);
    kit::check_places(
        &RemoteWrite,
        &[],
        &[
            // Behind the head of the series (2), the label (2 + 13), the first sample (2 + 11) and the head of the second (2).
            (v1(vec![two]), 1, 33, "time outside range"),
            // Head, label.
            (name, 1, 18, "label without a name"),
            (
                v2(vec![of_refs(&[1, 2], &[]), of_refs(&[1, 99], &[(1.0, 1)])]),
                2,
                3,
                "label refers to a symbol that is not there",
            ),
            (vec![0x0A, 4, 0x0A, 0, 0x12, 9], 1, 5, "broken message"),
            (
                deep.clone(),
                1,
                behind(&deep, &[0x08, 13]),
                "unknown histogram schema",
            ),
        ],
    );
}

#[test]
fn rows_know_where_their_labels_and_samples_are() {
    let labels = [("__name__", "m"), ("job", "x"), ("env", "y")];
    let plain = v1(vec![series(&labels, &[(1.0, 1), (2.0, 2)])]);
    // Heads of 2 bytes; labels of 13, 8 and 8; samples of 11.
    let front = series(&labels[..2], &[(1.0, 1)]).encode_to_vec();
    let apart = [front, series(&labels[2..], &[]).encode_to_vec()].concat();
    let apart = [&[0x0A, apart.len() as u8][..], &apart].concat();
    kit::check_columns(
        &RemoteWrite,
        &[],
        &[
            (plain, &[18, 28], &[53], 53),
            (apart, &[18, 41], &[30], 30),
            // References are a byte each behind two heads.
            (
                v2(vec![of_refs(&[1, 2, 3, 4, 5, 6], &[(1.0, 1)])]),
                &[7, 9],
                &[13],
                13,
            ),
        ],
    );
}

#[test]
fn any_bytes() {
    let good = good().into_iter().map(|(request, _)| request);
    let inputs: Vec<Vec<u8>> = good
        .chain(bad().into_iter().map(|(request, _)| request))
        .collect();
    fuzz::check_robust(&RemoteWrite, &inputs);
}

#[test]
fn stale_markers_are_skipped_and_counted() {
    let stale = f64::from_bits(0x7FF0_0000_0000_0002);
    let mut gone = histogram();
    gone.sum = stale;
    let request = [
        v1(vec![series(
            &[("__name__", "m")],
            &[(stale, 1), (f64::INFINITY, 2), (3.0, 3)],
        )]),
        of_histogram(gone),
    ]
    .concat();
    let got = kit::decode(&RemoteWrite, &options(&[]), Framing::Whole, &[&request]);
    assert_eq!(
        (got.rows, got.skipped),
        (vec!["m value=3 3000000".to_string()], 3)
    );
}

#[test]
fn v2_is_told_what_was_written_and_v1_is_not() {
    let answer = |request: &[u8], rejected: u64| {
        let mut decoder = RemoteWrite
            .decoder(&options(&[]), Framing::Whole)
            .expect("no options");
        decoder.decode(request, &mut Collector::of(&RemoteWrite, request));
        decoder.answer(&Tally {
            rows: 0,
            rejected,
            rejections: &[],
            error: (rejected > 0).then_some("bad"),
        })
    };
    assert!(answer(&v1(vec![series(&[("__name__", "m")], &[(1.0, 1)])]), 0).is_none());
    let mut both = of_refs(&[1, 2], &[(1.0, 1), (2.0, 2)]);
    both.histograms.push(histogram());
    let good = answer(&v2(vec![both.clone()]), 0).expect("its own");
    assert_eq!((good.status, good.body.len()), (204, 0));
    let written: Vec<&str> = good.headers.iter().map(|(_, count)| count.as_str()).collect();
    assert_eq!(written, ["2", "1", "0"]);
    let bad = answer(&v2(vec![both]), 1).expect("its own");
    assert_eq!(
        (bad.status, bad.body, bad.headers[0].1.as_str()),
        (400, b"bad".to_vec(), "1")
    );
}
