//! Good and bad packets.

use kymo_collectd::Collectd;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_api::{Format, Framing};
use kymo_plugin_fuzz as fuzz;

fn part(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u16 + 4;
    [&kind.to_be_bytes()[..], &len.to_be_bytes(), content].concat()
}

fn text(kind: u16, text: &str) -> Vec<u8> {
    part(kind, &[text.as_bytes(), b"\0"].concat())
}

fn number(kind: u16, number: u64) -> Vec<u8> {
    part(kind, &number.to_be_bytes())
}

enum V {
    Counter(u64),
    Gauge(f64),
    Derive(i64),
    Absolute(u64),
}

fn values(values: &[V]) -> Vec<u8> {
    let mut content = (values.len() as u16).to_be_bytes().to_vec();
    content.extend(values.iter().map(|v| match v {
        V::Counter(_) => 0,
        V::Gauge(_) => 1,
        V::Derive(_) => 2,
        V::Absolute(_) => 3,
    }));
    for value in values {
        content.extend(match value {
            V::Counter(v) | V::Absolute(v) => v.to_be_bytes(),
            V::Gauge(v) => v.to_le_bytes(),
            V::Derive(v) => v.to_be_bytes(),
        });
    }
    part(6, &content)
}

/// What collectd begins each packet with.
fn head() -> Vec<u8> {
    [
        text(0, "web-01"),
        number(8, 1_700_000_000 << 30),
        number(9, 10 << 30),
        text(2, "interface"),
        text(3, "eth0"),
        text(4, "if_octets"),
        text(5, ""),
    ]
    .concat()
}

fn good() -> Vec<(Vec<u8>, Vec<&'static str>)> {
    let rx = "interface_rx,host=web-01,instance=eth0,type=if_octets value=7 1700000000000000000";
    let tx = "interface_tx,host=web-01,instance=eth0,type=if_octets value=-8 1700000000000000000";
    vec![
        (
            [head(), values(&[V::Derive(7), V::Derive(-8)])].concat(),
            vec![rx, tx],
        ),
        // What is not said again holds.
        (
            [
                head(),
                values(&[V::Derive(7), V::Derive(-8)]),
                text(2, "cpu"),
                text(3, "0"),
                text(4, "cpu"),
                text(5, "idle"),
                values(&[V::Counter(5)]),
                number(1, 1_700_000_001),
                values(&[V::Absolute(6)]),
            ]
            .concat(),
            vec![
                rx,
                tx,
                "cpu_value,host=web-01,instance=0,type=cpu,type_instance=idle value=5 1700000000000000000",
                "cpu_value,host=web-01,instance=0,type=cpu,type_instance=idle value=6 1700000001000000000",
            ],
        ),
        (
            [
                text(0, "h"),
                number(8, 3 << 29),
                text(2, "load"),
                text(4, "load"),
                values(&[V::Gauge(0.5), V::Gauge(1.5), V::Gauge(2.5)]),
            ]
            .concat(),
            vec![
                "load_shortterm,host=h,type=load value=0.5 1500000000",
                "load_midterm,host=h,type=load value=1.5 1500000000",
                "load_longterm,host=h,type=load value=2.5 1500000000",
            ],
        ),
        // A type that is not known.
        (
            [
                text(0, "h"),
                text(2, "p"),
                text(4, "t"),
                values(&[V::Gauge(1.0), V::Gauge(2.0)]),
            ]
            .concat(),
            vec!["p_0,host=h,type=t value=1", "p_1,host=h,type=t value=2"],
        ),
        // A notification; parts of later versions; a signature.
        (
            [
                part(0x200, &[7; 40]),
                head(),
                number(0x101, 2),
                part(0x999, b"?"),
                text(0x100, "low on air"),
            ]
            .concat(),
            vec![
                "collectd_notifications,host=web-01,plugin=interface,instance=eth0,type=if_octets severity=\"warning\",message=\"low on air\" 1700000000000000000",
            ],
        ),
    ]
}

fn bad() -> Vec<(Vec<u8>, &'static str)> {
    let broken_values = [text(2, "p"), part(6, &[0, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0])].concat();
    vec![
        (head()[..7].to_vec(), "part is cut off"),
        (vec![0, 0, 0, 3], "part is cut off"),
        (vec![0], "part is cut off"),
        (part(0, b"no zero"), "invalid text"),
        (part(0, b"\xff\0"), "invalid text"),
        (part(1, &[0; 7]), "invalid number"),
        (number(1, u64::MAX), "time outside range"),
        (number(8, u64::MAX), "time outside range"),
        (broken_values, "invalid values"),
        (part(6, &[0, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0]), "invalid values"),
        (values(&[V::Gauge(1.0)]), "values without a plugin"),
        (
            part(0x210, &[0; 60]),
            "encrypted (set SecurityLevel to None or Sign)",
        ),
    ]
}

#[test]
fn description() {
    kit::check_description(&Collectd);
}

#[test]
fn good_packets() {
    for (packet, rows) in good() {
        kit::check_good(&Collectd, &[(packet, rows.as_slice())]);
    }
}

#[test]
fn bad_packets() {
    kit::check_bad(&Collectd, &bad());
}

#[test]
fn rows_know_where_in_the_packet_their_parts_are() {
    let value = |v| values(&[V::Gauge(v)]);
    let packet = [head(), value(1.0), text(5, "x"), text(3, "eth1"), value(2.0)].concat();
    // Parts of 11, 12, 12, 14, 9, 14, 5, 15, 6 and 9 bytes. What is said again counts from there on.
    kit::check_columns(
        &Collectd,
        &[],
        &[
            ([head(), value(1.0)].concat(), &[1, 50, 59][..], &[78][..], 12),
            (packet.clone(), &[1, 99, 59, 93], &[108], 12),
        ],
    );
    let cut = [packet, text(2, "p"), part(1, &[0; 3])].concat();
    let got = kit::decode(&Collectd, &options(&[]), Framing::Whole, &[&cut]);
    assert_eq!(got.rejections, [(13, 129, "invalid number".to_string())]);
}

#[test]
fn any_bytes() {
    let inputs: Vec<Vec<u8>> = good().into_iter().map(|(packet, _)| packet).collect();
    fuzz::check_robust(&Collectd, &inputs);
    fuzz::check_robust_with(&Collectd, &[("multi_values", "join")], &inputs);
}

#[test]
fn options_change_names() {
    let packet = [head(), values(&[V::Derive(7), V::Derive(-8)])].concat();
    kit::check_good_with(
        &Collectd,
        &[("multi_values", "join")],
        &[(
            &packet,
            &["interface,host=web-01,instance=eth0,type=if_octets rx=7,tx=-8 1700000000000000000"],
        )],
    );
    let packet = [
        text(0, "h"),
        text(2, "p"),
        text(4, "t"),
        values(&[V::Gauge(1.0), V::Gauge(2.0)]),
    ]
    .concat();
    kit::check_good_with(
        &Collectd,
        &[("types", "t:in,out; u:a")],
        &[(
            &packet,
            &["p_in,host=h,type=t value=1", "p_out,host=h,type=t value=2"],
        )],
    );
    assert!(
        Collectd
            .decoder(&options(&[("types", "t")]), Framing::Whole)
            .is_err()
    );
}

#[test]
fn what_is_no_number_is_skipped_and_counted() {
    let packet = [
        text(2, "p"),
        text(4, "if_octets"),
        values(&[V::Gauge(f64::NAN), V::Gauge(2.0)]),
    ]
    .concat();
    let got = kit::decode(&Collectd, &options(&[]), Framing::Whole, &[&packet]);
    assert_eq!(
        (got.rows, got.skipped),
        (vec!["p_tx,type=if_octets value=2".to_string()], 1)
    );
}
