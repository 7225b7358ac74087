//! Good and bad CSV: with a header and options, and annotated.

use kymo_csv::Csv;
use kymo_plugin_api::kit::{self, options};
use kymo_plugin_api::{Format, Framing, Options, Quoting};
use kymo_plugin_fuzz as fuzz;

const CPU: &[(&str, &str)] = &[
    ("measurement", "cpu"),
    ("tag_columns", "host,region"),
    ("time_column", "ts"),
    ("time_unit", "s"),
];

const GOOD: &[(&str, &[&str])] = &[
    (
        "ts,host,region,usage,cores,up,note\n1700000000,a,eu,1.5,4,true,fine\n1700000001,b,,2,,false,\"x, \"\"y\"\"\nz\"\n",
        &[
            "cpu,host=a,region=eu usage=1.5,cores=4,up=true,note=\"fine\" 1700000000000000000",
            "cpu,host=b usage=2,up=false,note=\"x, \\\"y\\\"\\nz\" 1700000001000000000",
        ],
    ),
    (
        "ts,host,usage\r\n1700000000.25,a,1e3\r\n",
        &["cpu,host=a usage=1000 1700000000250000000"],
    ),
    (
        "ts,usage\n2026-11-01T00:00:00Z,1",
        &["cpu usage=1 1793491200000000000"],
    ),
    ("\u{feff}usage\n1\n\n2\n", &["cpu usage=1", "cpu usage=2"]),
    ("ts,usage\n,1\n", &["cpu usage=1"]),
    (
        "# a comment\nts,note\n1,a\n2,#b\n",
        &["cpu note=\"a\" 1000000000", "cpu note=\"#b\" 2000000000"],
    ),
    ("größe,host\n1,köln\n", &["cpu,host=köln größe=1"]),
    ("ts,usage\n", &[]),
    ("", &[]),
];

const BAD: &[(&str, &str)] = &[
    ("ts,usage\n1,2,3", "3 cells where the header has 2"),
    ("ts,usage\n1", "1 cells where the header has 2"),
    ("ts,usage\nsoon,1", "invalid time in column \"ts\""),
    ("ts,usage\n1,", "missing fields"),
    ("ts,host\n1,a", "missing fields"),
];

const ANNOTATED: &[(&str, &[&str])] = &[
    // What `influx write` takes.
    (
        "#datatype measurement,tag,double,long,boolean,string,dateTime:RFC3339\nm,host,used,n,up,s,time\nmem,a,64.23,3,true,\"x y\",2020-01-01T00:00:00Z\nmem,b,72,4,false,z,2020-01-01T00:00:10Z\n",
        &[
            "mem,host=a used=64.23,n=3i,up=true,s=\"x y\" 1577836800000000000",
            "mem,host=b used=72,n=4i,up=false,s=\"z\" 1577836810000000000",
        ],
    ),
    (
        "#constant measurement,cpu\n#constant tag,cpu,cpu1\n#datatype ignored,field,dateTime:number\nx,usage,time\n1,2,1000\n",
        &["cpu,cpu=cpu1 usage=2 1000"],
    ),
    // What a Flux query answers: two tables.
    (
        "#group,false,false,true,true,false,false,true,true,true\r\n#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string,string\r\n#default,_result,,,,,,,,\r\n,result,table,_start,_stop,_time,_value,_field,_measurement,host\r\n,,0,2020-01-01T00:00:00Z,2020-01-02T00:00:00Z,2020-01-01T12:00:00Z,1.5,usage,cpu,a\r\n\r\n#group,false,false,true,false,true,true\r\n#datatype,string,long,dateTime:RFC3339,long,string,string\r\n#default,_result,,,,,\r\n,result,table,_time,_value,_field,_measurement\r\n,,1,2020-01-01T12:00:01Z,7,n,proc\r\n",
        &[
            "cpu,host=a usage=1.5 1577880000000000000",
            "proc n=7i 1577880001000000000",
        ],
    ),
];

#[test]
fn description() {
    kit::check_description(&Csv);
}

#[test]
fn good_csv() {
    kit::check_good_with(&Csv, CPU, GOOD);
    kit::check_good(&Csv, ANNOTATED);
}

#[test]
fn bad_csv() {
    kit::check_bad_with(&Csv, CPU, BAD);
    kit::check_bad(
        &Csv,
        &[(
            "a,b\n1,2",
            "missing measurement (give measurement or measurement_column)",
        )],
    );
    let strict = [
        ("measurement", "m"),
        ("types", "a:integer,b:boolean,c:unsigned,d:float"),
    ];
    kit::check_bad_with(
        &Csv,
        &strict,
        &[
            ("a\n1.5", "invalid integer in column \"a\""),
            ("b\nmaybe", "invalid boolean in column \"b\""),
            ("c\n-1", "invalid unsigned integer in column \"c\""),
            ("d\nNaN", "invalid number in column \"d\""),
            ("d\n1e999", "invalid number in column \"d\""),
        ],
    );
    let bytes: &[u8] = b"a,b\n1,\xff";
    kit::check_bad_with(&Csv, &[("measurement", "m")], &[(bytes, "invalid UTF-8")]);
    let wide = format!("{}\n1", "a,".repeat(9000));
    let got = kit::decode(&Csv, &options(CPU), Framing::Whole, &[wide.as_bytes()]);
    assert_eq!(got.rejections[0].2, "too many columns (columns_max 8192)");
}

#[test]
fn any_bytes() {
    let good = GOOD
        .iter()
        .map(|(input, _)| *input)
        .filter(|input| input.contains("1"));
    let inputs: Vec<&str> = good.chain(BAD.iter().map(|(input, _)| *input)).collect();
    fuzz::check_robust_with(&Csv, CPU, &inputs);
    let inputs: Vec<&str> = ANNOTATED.iter().map(|(input, _)| *input).collect();
    fuzz::check_robust(&Csv, &inputs);
}

#[test]
fn options_choose_columns_types_and_signs() {
    kit::check_good_with(
        &Csv,
        &[
            ("measurement_column", "name"),
            ("field_columns", "a,c"),
            ("types", "a:integer,c:string"),
            ("delimiter", ";"),
            ("quote", "'"),
        ],
        &[("name;a;b;c;time\nm;1;2;'3;4';5\n", &["m a=1i,c=\"3;4\" 5"])],
    );
    kit::check_good_with(
        &Csv,
        &[
            ("columns", "time,host,v"),
            ("tag_columns", "host"),
            ("measurement", "m"),
            ("delimiter", "tab"),
        ],
        &[("1\ta\t2\n3\tb\t4\n", &["m,host=a v=2 1", "m,host=b v=4 3"])],
    );
    for (pairs, option) in [
        (&[("time_unit", "x")][..], "time_unit"),
        (&[("types", "a:number")], "types"),
        (&[("delimiter", "ab")], "delimiter"),
        (&[("delimiter", "\"")], "quote"),
    ] {
        let error = Csv
            .decoder(&options(pairs), Framing::Whole)
            .err()
            .expect("refused");
        assert_eq!(error.name, option);
    }
}

#[test]
fn a_rejected_row_is_kept_with_its_header() {
    let input = "ts,usage\n1,1\nsoon,2\n3,3\n";
    let got = kit::decode(&Csv, &options(CPU), Framing::Whole, &[input.as_bytes()]);
    assert_eq!(got.rows, ["cpu usage=1 1000000000", "cpu usage=3 3000000000"]);
    assert_eq!(
        got.rejections,
        [(3, 1, "invalid time in column \"ts\"".to_string())]
    );
    assert_eq!(got.again, [b"ts,usage\nsoon,2".to_vec()]);
    // Without a header in the file there is none to keep.
    let options = options(&[
        ("columns", "ts,usage"),
        ("measurement", "m"),
        ("time_column", "ts"),
    ]);
    let got = kit::decode(&Csv, &options, Framing::Whole, &[b"soon,2\n"]);
    assert_eq!(got.again, [b"soon,2".to_vec()]);
}

#[test]
fn streams_keep_their_header_and_pieces_can_get_one() {
    let options = options(CPU);
    let got = kit::decode(
        &Csv,
        &options,
        Framing::Lines,
        &[b"ts,usage\n", b"1,1\n2,2\n", b"3,3\n"],
    );
    assert_eq!(got.rows.len(), 3);
    let keep = |options: &Options, pieces: &[&str]| {
        let mut preamble = Vec::new();
        pieces
            .iter()
            .for_each(|piece| Csv.keep_preamble(options, piece.as_bytes(), &mut preamble));
        String::from_utf8(preamble).expect("text")
    };
    assert_eq!(keep(&options, &["ts,usage\n1,1\n", "2,2\n"]), "ts,usage\n");
    let (annotated, _) = ANNOTATED[2];
    let tail = annotated.split("\r\n\r\n").nth(1).expect("two tables");
    let header = tail
        .lines()
        .take(4)
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    assert_eq!(keep(&Options::new(), &[annotated]), header);
    let mut columns = Options::new();
    columns.set("columns", "a,b");
    assert_eq!(keep(&columns, &["1,2\n"]), "");
}

#[test]
fn cells_have_columns() {
    let with = [("measurement", "m"), ("tag_columns", "b,a")];
    let table = "a,time,v,b\n\"x,\"\"y\",5,1.5,z";
    // Tags stand in the order of the header.
    kit::check_columns(&Csv, &with, &[(table, &[1, 15], &[11], 9)]);
    kit::check_columns(&Csv, &with, &[("a,b,v\n,z,1", &[2], &[4], 0)]);
}

#[test]
fn records_end_at_newlines_outside_of_quotes() {
    let with = options(&[("measurement", "m"), ("delimiter", ";"), ("quote", "'")]);
    let (delimiter, quote) = (b';', b'\'');
    assert_eq!(Csv.quoting(&with), Some(Quoting { delimiter, quote }));
    kit::check_cuts(&Csv, &with, b"s;v;time\n'a\n''b;';1;1\n\"c;2;2\n");
    let with = options(&[("measurement", "m")]);
    kit::check_cuts(&Csv, &with, b"s,v,time\n\"a\n\"\"b,\",1,1\nc,2,2\n");
}
