//! Batches that are encoded and decoded again are what they were; other bytes are refused.

use super::super::packed::TABLE_ROWS_MAX;
use super::super::{DatabaseDefinition, FieldDefinition, SeriesDefinition};
use super::*;
use crate::model::{Bitmap, Column, FieldType, FieldValue, StringColumn, TimeRange, Values};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn column(rows: usize) -> impl Strategy<Value = Column> {
    let values = prop_oneof![
        prop::collection::vec(
            any::<f64>().prop_filter("NaN is not equal to itself", |f| !f.is_nan()),
            rows
        )
        .prop_map(Values::Float),
        prop::collection::vec(any::<i64>(), rows).prop_map(Values::Integer),
        prop::collection::vec(any::<u64>(), rows).prop_map(Values::Unsigned),
        prop::collection::vec(any::<bool>(), rows).prop_map(Values::Boolean),
        prop::collection::vec(".{0,5}", rows).prop_map(|texts| {
            let mut column = StringColumn::default();
            texts.iter().for_each(|t| column.push(t.as_bytes()));
            Values::String(column)
        }),
    ];
    let present = prop::option::of(prop::collection::vec(any::<u64>(), rows.div_ceil(64)));
    (values, present).prop_map(move |(values, present)| Column {
        values,
        present: present.map(|words| Bitmap::from_words(words, rows)),
    })
}

/// Tables with the same keys.
fn tables() -> impl Strategy<Value = Vec<Table>> {
    (0usize..80).prop_flat_map(|rows| {
        let series = prop_oneof![any::<u32>(), 0u32..9];
        let series = prop::collection::vec(series, rows);
        let times = prop::collection::vec(prop_oneof![any::<i64>(), 0i64..99], rows);
        let table = (0u16..2, any::<u32>(), prop::collection::vec(column(rows), 0..4));
        let tables = prop::collection::vec(table, 1..4);
        (series, times, any::<bool>(), tables).prop_map(|(series, times, sorted, tables)| {
            let mut keys: Vec<(u32, i64)> = series.into_iter().zip(times).collect();
            if sorted {
                keys.sort_unstable();
            }
            let table = |(shard, measurement, columns): (u16, u32, Vec<Column>)| Table {
                shard,
                measurement,
                series: keys.iter().map(|key| key.0).collect(),
                times: keys.iter().map(|key| key.1).collect(),
                columns: (0u16..).zip(columns).collect(),
            };
            tables.into_iter().map(table).collect()
        })
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    let few = prop::collection::vec(".{0,8}", 0..4);
    let many = prop::collection::vec("host=[a-c]{1,9},container=[0-9a-f]{9}", 30..60);
    let names = prop_oneof![3 => few, 1 => many];
    (prop::collection::vec(tables(), 0..4), names).prop_map(|(tables, names)| Batch {
        shards: 2,
        packed: Packed::default(),
        tables: tables.into_iter().flatten().collect(),
        definitions: Definitions {
            databases: names
                .iter()
                .map(|n| DatabaseDefinition {
                    id: 1,
                    name: n.clone(),
                })
                .collect(),
            series: names
                .iter()
                .map(|n| SeriesDefinition {
                    measurement: 1,
                    id: 2,
                    key: n.clone(),
                })
                .collect(),
            fields: names
                .iter()
                .map(|n| FieldDefinition {
                    measurement: 1,
                    id: 2,
                    name: n.clone(),
                    field_type: FieldType::String,
                })
                .collect(),
            ..Definitions::default()
        },
        commands: vec![
            Command::DropSeries {
                measurement: 3,
                series: vec![1, 2],
            },
            Command::Delete {
                measurement: 3,
                series: None,
                time: TimeRange::ALL,
            },
            Command::PutRecord {
                kind: "k".into(),
                name: "n".into(),
                value: "v".into(),
            },
        ],
    })
}

type Key = (u16, MeasurementId, u32, i64);

/// What the tables say, later rows over earlier ones.
fn points(batch: &Batch) -> BTreeMap<Key, BTreeMap<u16, FieldValue>> {
    let mut points: BTreeMap<Key, BTreeMap<u16, FieldValue>> = BTreeMap::new();
    for table in &batch.tables {
        for row in 0..table.times.len() {
            let key = (
                table.shard,
                table.measurement,
                table.series[row],
                table.times[row],
            );
            let values = table.columns.iter();
            let values = values.filter_map(|(field, column)| Some((*field, column.get(row)?)));
            points.entry(key).or_default().extend(values);
        }
    }
    points
}

#[test]
fn long_tables_are_cut_and_small_numbers_packed() {
    let rows = TABLE_ROWS_MAX * 2 + 1;
    let table = Table {
        shard: 0,
        measurement: 1,
        series: vec![5; rows],
        times: (0..rows as i64).rev().collect(),
        columns: vec![(
            0,
            Column {
                values: Values::Integer((0..rows as i64).map(|i| i % 100).collect()),
                present: None,
            },
        )],
    };
    let batch = Batch {
        shards: 1,
        tables: vec![table],
        ..Batch::default()
    };
    let encoded = EncodedBatch::encode(batch.clone());
    assert_eq!(encoded.tables().count(), 3);
    assert!(
        encoded.bytes().len() < rows * 2,
        "{} bytes",
        encoded.bytes().len()
    );
    assert_eq!(points(&encoded.decode()), points(&batch));
    assert_eq!(encoded.rows(), rows as u64);
}

fn gauges(hosts: u32, measurements: u32) -> Batch {
    let table = |measurement| Table {
        shard: (measurement % 2) as u16,
        measurement,
        series: (0..hosts).collect(),
        times: vec![1_700_000_000_000_000_000; hosts as usize],
        columns: vec![(
            0,
            Column {
                values: Values::Integer((0..i64::from(hosts)).map(|i| i * 7919 % 64).collect()),
                present: None,
            },
        )],
    };
    Batch {
        shards: 2,
        tables: (0..measurements).map(table).collect(),
        ..Batch::default()
    }
}

#[test]
fn tables_share_their_keys() {
    let (one, many) = (
        EncodedBatch::encode(gauges(50, 1)),
        EncodedBatch::encode(gauges(50, 101)),
    );
    let each = (many.bytes().len() - one.bytes().len()) / 100;
    assert!(each < 50 * 6 / 8 + 20, "{each} bytes for a table of 50 rows");
    let back = EncodedBatch::from_bytes(many.bytes()).expect("it was just encoded");
    assert_eq!(points(&back.decode()), points(&gauges(50, 101)));
    assert_eq!(back.rows(), 50 * 101);
}

#[test]
fn rows_of_few_series_are_told_apart() {
    let rows = 500u32;
    let mut batch = gauges(rows * 5, 1);
    let table = &mut batch.tables[0];
    table.series = (0..rows * 5).map(|row| row / 5).collect();
    table.times = (0..i64::from(rows) * 5).map(|row| row % 5 * 10).collect();
    let walk = |row: i64| row / 5 * 7919 % 101 + row % 5 * (row / 5 % 3);
    table.columns[0].1.values = Values::Integer((0..i64::from(rows) * 5).map(walk).collect());
    let encoded = EncodedBatch::encode(batch.clone());
    let bits = encoded.bytes().len() * 8 / (rows as usize * 5);
    assert!(bits < 5, "{bits} bits a number of 0 to 108");
    let back = EncodedBatch::from_bytes(encoded.bytes()).expect("it was just encoded");
    assert_eq!(points(&back.decode()), points(&batch));
}

#[test]
fn many_names_are_squeezed() {
    let name = |id: u32| SeriesDefinition {
        measurement: 1,
        id,
        key: format!(
            "host=h_{},container={:08x},endpoint=ep_{}",
            id / 100,
            id.wrapping_mul(2_654_435_761),
            id % 10
        ),
    };
    let mut batch = gauges(3, 1);
    batch.definitions.series = (0..5000).map(name).collect();
    let encoded = EncodedBatch::encode(batch.clone());
    let plain: usize = batch
        .definitions
        .series
        .iter()
        .map(|series| series.key.len() + 16)
        .sum();
    assert!(
        encoded.bytes().len() * 2 < plain,
        "{} of {plain}",
        encoded.bytes().len()
    );
    let back = EncodedBatch::from_bytes(encoded.bytes()).expect("it was just encoded");
    assert_eq!(back.definitions(), batch.definitions);
    assert_eq!(back.defined_series().len(), 5000);
    // Who claims more than lz4 can unpack to gets no memory for it.
    let mut bytes = encoded.bytes().to_vec();
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        EncodedBatch::from_bytes(&bytes),
        Err(BatchError::Inconsistent(_))
    ));
}

#[test]
fn other_versions_are_refused_by_name() {
    let mut bytes = EncodedBatch::encode(gauges(3, 1)).bytes().to_vec();
    bytes[0] = 3;
    assert!(matches!(
        EncodedBatch::from_bytes(&bytes),
        Err(BatchError::Version(3))
    ));
}

proptest! {
    #[test]
    fn batches_round_trip(batch in batch()) {
        let encoded = EncodedBatch::encode(batch.clone());
        let read = EncodedBatch::from_bytes(encoded.bytes()).map_err(|e| TestCaseError::fail(e.to_string()))?;
        for back in [encoded.decode(), read.decode()] {
            prop_assert_eq!(points(&back), points(&batch));
            prop_assert_eq!(&back.definitions, &batch.definitions);
            prop_assert_eq!(&back.commands, &batch.commands);
        }
        prop_assert_eq!(read.rows() as usize, points(&batch).len());
    }

    #[test]
    fn damaged_bytes_never_panic(batch in batch(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let mut bytes = EncodedBatch::encode(batch).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = EncodedBatch::from_bytes(&bytes) { drop(read.decode()) }
        if let Ok(read) = EncodedBatch::from_bytes(&bytes[..cut.index(bytes.len())]) { drop(read.decode()) }
    }
}

#[test]
fn the_format_is_version_4() {
    let batch = Batch {
        shards: 1,
        tables: vec![Table {
            shard: 0,
            measurement: 3,
            series: vec![7],
            times: vec![9],
            columns: vec![(
                2,
                Column {
                    values: Values::Integer(vec![-1]),
                    present: None,
                },
            )],
        }],
        ..Batch::default()
    };
    let golden = include_bytes!("../../../tests/golden/batch_v4.bin");
    if std::env::var_os("KYMO_WRITE_GOLDEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/batch_v4.bin");
        std::fs::write(path, EncodedBatch::encode(batch.clone()).bytes()).expect("written");
    }
    assert_eq!(
        EncodedBatch::encode(batch.clone()).bytes(),
        golden,
        "the format changed: raise BATCH_VERSION"
    );
    assert_eq!(
        EncodedBatch::from_bytes(golden).expect("a golden file").decode(),
        batch
    );
}
