//! A store as version 1 of its formats wrote it, value by value: later programs must read it, or say which version they cannot read.
//! `KYMO_GOLDEN=write cargo test --lib golden` writes the file anew; that is right only together with a new version.

use super::index::NewSeries;
use super::index::page::PageBuilder;
use super::partition::{Partition, Slice};
use super::*;
use crate::batch::{Command, DatabaseDefinition, Definitions, FieldDefinition, MeasurementDefinition};
use crate::block::bytes::{Input, put, put_bytes};
use crate::model::bitmap::Bitmap;
use crate::model::{Column, FieldType, FieldValue, SeriesId, SortedRows, TimeRange, Values};
use std::collections::BTreeMap;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/store_v1.bin");
/// Many series in one measurement, so that there are terms, a key table and pages; few in the other.
const MANY: SeriesId = 5000;
const FEW: SeriesId = 3;
const STEP: i64 = 10_000_000_000;

/// Keyspace, key, value.
type Entry = (u8, Vec<u8>, Vec<u8>);

fn tags(id: SeriesId) -> Vec<(String, String)> {
    let mut tags = vec![("host".to_string(), format!("h{}", id % 70))];
    if !id.is_multiple_of(3) {
        tags.push(("zone".to_string(), format!("zone {}", id % 4)));
    }
    tags.push(("~n".to_string(), id.to_string()));
    tags
}

fn series(measurement: u32, count: SeriesId) -> NewSeries {
    let mut pages: BTreeMap<u32, PageBuilder> = BTreeMap::new();
    for id in 0..count {
        let number = index::page_of(id);
        let page = pages.entry(number).or_insert_with(|| PageBuilder::new(number));
        page.insert(index::slot_of(id), &tags(id)).expect("room");
    }
    NewSeries {
        measurement,
        pages: pages.values().map(|page| page.page().clone()).collect(),
        ids: (0..count).collect(),
    }
}

/// Rows of a measurement: series, time, a float that some lack, and a text.
fn rows(measurement: u32, count: SeriesId) -> SortedRows {
    let points: Vec<(SeriesId, i64)> = (0..count)
        .flat_map(|id| (0..5).map(move |i| (id, i64::from(i) * STEP)))
        .collect();
    let mut texts = crate::model::StringColumn::default();
    points
        .iter()
        .for_each(|(id, _)| texts.push(format!("text {}", id % 9).as_bytes()));
    let mut present = Bitmap::default();
    points
        .iter()
        .for_each(|(id, _)| present.push(!id.is_multiple_of(5)));
    let column = |values, present| Column { values, present };
    let floats = points
        .iter()
        .map(|(id, time)| f64::from(*id) / 8.0 + *time as f64);
    SortedRows {
        measurement,
        series: points.iter().map(|point| point.0).collect(),
        times: points.iter().map(|point| point.1).collect(),
        columns: vec![
            (0, column(Values::Float(floats.collect()), Some(present))),
            (1, column(Values::String(texts), None)),
        ],
    }
}

fn definitions() -> Definitions {
    let measurement = |id, name: &str| MeasurementDefinition {
        id,
        policy: 0,
        name: name.into(),
    };
    let field = |measurement, id, name: &str, field_type| FieldDefinition {
        measurement,
        id,
        name: name.into(),
        field_type,
    };
    Definitions {
        databases: vec![DatabaseDefinition {
            id: 0,
            name: "d".into(),
        }],
        measurements: vec![measurement(1, "many"), measurement(2, "few")],
        fields: vec![
            field(1, 0, "f", FieldType::Float),
            field(1, 1, "s", FieldType::String),
        ],
        ..Definitions::default()
    }
}

fn make(dir: &Path) {
    let store = Store::open(dir, StoreOptions::default(), &mut |_| {}).expect("a new folder");
    let partition = Partition::day(0);
    let slice = Slice {
        partition,
        time: partition.time(),
        rows: 1,
    };
    let delete = Command::Delete {
        measurement: 1,
        series: Some(vec![7]),
        time: TimeRange { min: 0, max: STEP },
    };
    let drop = Command::DropSeries {
        measurement: 1,
        series: vec![11],
    };
    let seal = |watermark, commands: &[Command], tables: Vec<(Slice, SortedRows)>| {
        let input = SealInput {
            watermark,
            level: crate::block::Level::Fast,
            definitions: &definitions(),
            series: &[series(1, MANY), series(2, FEW)],
            commands,
            next_ids: [1, 1, 3],
            gone: None,
        };
        store.seal(&input, tables.into_iter()).expect("an ordinary seal");
    };
    seal(5, &[], vec![(slice, rows(1, MANY)), (slice, rows(2, FEW))]);
    store.apply_command(6, &delete);
    store.apply_command(7, &drop);
    seal(8, &[delete, drop], Vec::new());
}

fn entries(engine: &Engine) -> Vec<Entry> {
    let mut out = Vec::new();
    for keyspace in 0..3u8 {
        let mut take = |key: &[u8], value: &[u8]| {
            out.push((keyspace, key.to_vec(), value.to_vec()));
            Ok(())
        };
        let taken = match keyspace {
            0 => engine.index_entries(&mut take),
            1 => engine.series_entries(&mut take),
            _ => engine.block_entries(&mut take),
        };
        taken.expect("sound");
    }
    out
}

fn golden() -> Vec<Entry> {
    if std::env::var("KYMO_GOLDEN").is_ok_and(|what| what == "write") {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path());
        let engine = Engine::open(dir.path()).expect("just made");
        let mut bytes = Vec::new();
        for (keyspace, key, value) in entries(&engine) {
            put(&mut bytes, u64::from(keyspace));
            put_bytes(&mut bytes, &key);
            put_bytes(&mut bytes, &value);
        }
        std::fs::write(GOLDEN, bytes).expect("written");
    }
    let bytes = std::fs::read(GOLDEN).expect("it is in the repository");
    let mut input = Input(&bytes);
    let mut out = Vec::new();
    while !input.is_empty() {
        let mut next = || {
            let keyspace = input.byte()?;
            Some((keyspace, input.get_bytes()?.to_vec(), input.get_bytes()?.to_vec()))
        };
        out.push(next().expect("whole entries"));
    }
    out
}

/// A store of these values.
fn restore(dir: &Path, entries: &[Entry]) {
    let engine = Engine::open(dir).expect("a new folder");
    let of = |wanted: u8| entries.iter().filter(move |(keyspace, ..)| *keyspace == wanted);
    let index = of(0).map(|(_, key, value)| (key.clone(), Some(value.clone())));
    engine.index_write(&index.collect()).expect("written");
    let fill = |wanted: u8, sink: &mut PackSink<'_>| {
        of(wanted).try_for_each(|(_, key, value)| sink.write(key, value.clone()))
    };
    engine.series_ingest(|sink| fill(1, sink)).expect("written");
    engine.ingest(|sink| fill(2, sink)).expect("written");
}

#[test]
fn what_version_1_wrote_is_read() {
    let dir = tempfile::tempdir().expect("a folder");
    restore(dir.path(), &golden());
    let mut loaded = Vec::new();
    let store = Store::open(dir.path(), StoreOptions::default(), &mut |l| loaded.push(l)).expect("version 1");
    assert_eq!(store.watermark(), 8);
    let names = loaded.iter().filter_map(|l| match l {
        Loaded::Definitions(d) => Some(d.measurements.iter().map(|m| m.name.clone())),
        _ => None,
    });
    assert_eq!(names.flatten().collect::<Vec<_>>(), ["many", "few"]);

    let index = store.series_index();
    let set = index.set();
    for (measurement, count) in [(1, MANY), (2, FEW)] {
        assert_eq!(index.of(measurement).ids().expect("sound"), (0..count).collect());
        for id in (0..count).step_by(97) {
            let hash = index::key_hash(index.key_seed(), &tags(id));
            let found = set.find(measurement, hash, &tags(id), &|_| true).expect("sound");
            assert_eq!(found, Some(id));
        }
        let stranger = tags(MANY);
        let hash = index::key_hash(index.key_seed(), &stranger);
        assert_eq!(
            set.find(measurement, hash, &stranger, &|_| true).expect("sound"),
            None
        );
    }
    let mut flaws = Vec::new();
    index::verify::verify(index, &mut |place, reason| flaws.push((place, reason)));
    assert_eq!(flaws, []);

    for (measurement, count) in [(1, MANY), (2, FEW)] {
        let expected = rows(measurement, count);
        let mut seen = 0;
        let selected = store
            .runs()
            .select(measurement, SeriesFilter::All, TimeRange::ALL);
        for blocks in selected.expect("sound") {
            for i in 0..blocks.len() {
                let block = blocks.read(i, &[0, 1]).expect("sound");
                for (id, range) in &block.series {
                    for row in range.clone() {
                        let at = expected.rows_of(*id).start + (block.times[row] / STEP) as usize;
                        for field in 0..2 {
                            let value = block.columns[field].as_ref().and_then(|column| column.get(row));
                            let value: Option<FieldValue> = value;
                            assert_eq!(value, expected.columns[field].1.get(at));
                        }
                        seen += 1;
                    }
                }
            }
        }
        // One series was dropped, and two points of another deleted.
        assert_eq!(seen, count * 5 - if measurement == 1 { 7 } else { 0 });
    }
}

#[test]
fn another_version_is_named_in_the_error() {
    for keyspace in 0..3u8 {
        let mut entries = golden();
        for (of, key, value) in &mut entries {
            // The entry that names the format of the whole store has its own message.
            if *of == keyspace && key != keys::index::FORMAT {
                value.truncate(value.len() - frame::CHECKSUM_BYTES);
                value[0] = 9;
                *value = frame::finish(key, std::mem::take(value));
            }
        }
        let dir = tempfile::tempdir().expect("a folder");
        restore(dir.path(), &entries);
        let Err(error) = Store::open(dir.path(), StoreOptions::default(), &mut |_| {}) else {
            panic!("keyspace {keyspace} of version 9 was read");
        };
        assert!(
            error.to_string().contains("version 9, this program reads 1"),
            "{error}"
        );
    }
}
