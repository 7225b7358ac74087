//! Values of format version 1 as files: whatever encoders learn, what was written once must be read for ever.
//!
//! Every file `tests/golden/pack_v1*.bin` is read, and what the encoders write now must be one of them. When they choose other
//! bytes of the same format, `KYMO_WRITE_GOLDEN=NAME cargo test --lib golden` adds a file; the old ones stay. When an old one is
//! not read any more, the change is a new version that lacks a reader for the old one. tests/golden/read_pack.py, written from
//! docs/formats alone, reads them, too (tests/end_to_end/golden.rs).

use super::directory::Directory;
use super::engine::PackSink;
use super::frame;
use super::keys::{self, Part, RunId};
use super::pack::PackHeader;
use super::partition::Partition;
use super::writer::{RunAbout, RunWriter, STRIPE_VERSION};
use crate::block::steps::{StepKeys, StepStats};
use crate::block::{Level, decode_column, decode_rows};
use crate::model::{Bitmap, Column, SortedRows, StringColumn, Values};
use std::collections::BTreeMap;
use std::path::PathBuf;

const PACK: u64 = 3;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn files() -> Vec<Vec<u8>> {
    let all = std::fs::read_dir(folder()).expect("a folder");
    let paths = all.map(|entry| entry.expect("an entry").path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("pack_v1"))
    };
    paths
        .filter(is_ours)
        .map(|path| std::fs::read(path).expect("a file"))
        .collect()
}

fn random(i: u64) -> u64 {
    let z = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (z ^ z >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 13
}

/// Rows whose columns take every codec there is, or the first few of them.
fn rows(measurement: u32, series: u32, per_series: u64, columns_max: usize) -> SortedRows {
    let count = u64::from(series) * per_series;
    let all = || 0..count;
    let begin = 1_793_491_200_000_000_000i64;
    let sometimes = |column: Values| {
        let mut present = Bitmap::new();
        all().for_each(|i| present.push(i % 5 != 0));
        let mut column = column;
        // Rows without a value hold a default, as everywhere.
        match &mut column {
            Values::Integer(v) => v.iter_mut().step_by(5).for_each(|v| *v = 0),
            Values::Float(v) => v.iter_mut().step_by(5).for_each(|v| *v = 0.0),
            _ => {}
        }
        Column {
            values: column,
            present: Some(present),
        }
    };
    let always = |values| Column {
        values,
        present: None,
    };
    let integers = |f: &dyn Fn(u64) -> i64| Values::Integer(all().map(f).collect());
    let floats = |f: &dyn Fn(u64) -> f64| Values::Float(all().map(f).collect());
    let texts = |f: &dyn Fn(u64) -> String| {
        let mut column = StringColumn::default();
        all().for_each(|i| column.push(f(i).as_bytes()));
        Values::String(column)
    };
    let columns = vec![
        always(integers(&|_| 42)),
        always(integers(&|i| (random(i) % 1000) as i64)),
        always(integers(&|i| (i * 10 + random(i) % 3) as i64)),
        sometimes(integers(&|i| [200, 404, 1 << 40][(random(i) % 3) as usize])),
        always(integers(&|i| (random(i) << (random(i + 7) % 40)) as i64)),
        always(floats(&|i| (random(i) % 100_000) as f64 / 100.0)),
        sometimes(floats(&|i| {
            if i % 97 == 1 {
                f64::NAN
            } else {
                (i % 50) as f64 / 8.0
            }
        })),
        always(floats(&|i| (random(i) as f64).sqrt())),
        always(floats(&|i| {
            if i % 2 == 0 {
                -0.0
            } else {
                f64::from_bits(random(i) << 11 | i)
            }
        })),
        always(Values::Unsigned(
            all().map(|i| u64::MAX - random(i) % 7).collect(),
        )),
        always(texts(&|i| format!("state {}", random(i) % 4))),
        always(texts(&|i| format!("request {} took {} us", random(i), i))),
        always(floats(&|_| 2.5)),
        always(Values::Boolean(
            all().map(|i| random(i).is_multiple_of(3)).collect(),
        )),
    ];
    SortedRows {
        measurement,
        series: all().map(|i| (i / per_series) as u32).collect(),
        times: all()
            .map(|i| begin + (i % per_series) as i64 * 10_000_000_000)
            .collect(),
        columns: (0..).zip(columns).take(columns_max).collect(),
    }
}

/// Two blocks, every codec, and so few rows that they are in the directory.
fn expected() -> [SortedRows; 3] {
    [
        rows(1, 3, 3000, 3),
        rows(5, 3, 400, usize::MAX),
        rows(9, 2, 3, usize::MAX),
    ]
}

/// What a pack of two runs, one a level, is in fjall.
fn values() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut values = BTreeMap::new();
    let mut write = |key: &[u8], value: Vec<u8>| {
        values.insert(key.to_vec(), value);
        Ok(())
    };
    let mut sink = PackSink::new(&mut write);
    let mut header = PackHeader {
        commit: 7,
        watermark: 99,
        next_pack: 5,
        replaces: vec![RunId { pack: 1, run: 2 }],
        runs: Vec::new(),
    };
    for (run, level) in [Level::Fast, Level::Small].into_iter().enumerate() {
        let id = RunId {
            pack: PACK,
            run: run as u32,
        };
        let about = RunAbout {
            partition: Partition::day(1_793_491_200_000_000_000).at_level(run as u8),
            sequence: 98,
            deletes_applied: 97,
            level,
        };
        let mut writer = RunWriter::new(&mut sink, id, about);
        for table in expected() {
            let mut to = writer.measurement(table.measurement, 4);
            to.push(table).expect("rows in order");
            to.finish().expect("memory");
        }
        header.runs.extend(writer.finish());
    }
    sink.write(&keys::header(PACK), header.encode(PACK))
        .expect("memory");
    values
}

fn write_file(values: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in values {
        for part in [key, value] {
            out.extend((part.len() as u32).to_le_bytes());
            out.extend(part);
        }
    }
    out
}

fn read_file(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut part = || {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        bytes = rest;
        Some(part.to_vec())
    };
    let mut values = BTreeMap::new();
    while let Some(key) = part() {
        values.insert(key, part().expect("a value behind each key"));
    }
    values
}

/// As bits, so that NaN is itself.
fn bits(column: &Column) -> Vec<String> {
    let one = |i: usize| match (&column.values, column.has(i)) {
        (_, false) => "none".to_string(),
        (Values::Float(v), _) => format!("{:x}", v[i].to_bits()),
        _ => format!("{:?}", column.get(i)),
    };
    (0..column.len()).map(one).collect()
}

#[test]
fn values_of_version_1_are_read() {
    let files = files();
    assert!(!files.is_empty());
    for file in files {
        check(&read_file(&file));
    }
}

#[test]
fn values_are_written_as_in_a_golden_file() {
    let now = write_file(&values());
    match std::env::var("KYMO_WRITE_GOLDEN") {
        Ok(name) => std::fs::write(folder().join(format!("{name}.bin")), now).expect("the file"),
        Err(_) => assert!(
            files().contains(&now),
            "other bytes than in any golden file: see the module"
        ),
    }
}

fn check(stored: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let header_key = keys::header(PACK);
    let header = PackHeader::decode(PACK, &stored[&header_key]).expect("a sound header");
    assert_eq!((header.commit, header.watermark, header.next_pack), (7, 99, 5));
    assert_eq!(header.replaces, [RunId { pack: 1, run: 2 }]);
    assert_eq!(header.runs.len(), 2);
    let mut read = 1;
    for (run, entry) in (0..).zip(&header.runs) {
        let id = RunId { pack: PACK, run };
        assert_eq!(
            (entry.sequence, entry.deletes_applied, entry.partition.level),
            (98, 97, run as u8)
        );
        for table in expected() {
            let m = entry.measurement(table.measurement).expect("it is in there");
            assert_eq!(
                (m.rows, m.last_series, m.dead_series),
                (table.len() as u64, *table.series.last().expect("rows"), 4)
            );
            let key = keys::directory(id, table.measurement);
            let directory = Directory::decode(&key, &stored[&key]).expect("a sound directory");
            read += 1;
            let mut part = |part: Part| {
                let key = keys::stripe(id, table.measurement, 0, part);
                let value = stored.get(&key)?;
                read += 1;
                Some(
                    frame::open(&key, value, STRIPE_VERSION)
                        .expect("a sound value")
                        .to_vec(),
                )
            };
            let inline = directory.inline.clone();
            assert_eq!(inline.is_some(), table.len() < 100);
            let steps = part(Part::Steps).map(|bytes| StepKeys::decode(&bytes).expect("sound steps"));
            let mut chunks = |p: Part| inline.clone().unwrap_or_else(|| part(p).expect("it is stored"));
            let (mut series, mut times) = (Vec::new(), Vec::new());
            let bytes = chunks(Part::Rows);
            for block in &directory.blocks {
                let place = block.place.offset as usize..(block.place.offset + block.place.len) as usize;
                let (runs, t) = decode_rows(&bytes[place]).expect("sound rows");
                series.extend(runs.into_iter().flat_map(|(id, rows)| rows.map(move |_| id)));
                times.extend(t);
            }
            assert_eq!((series, times), (table.series.clone(), table.times.clone()));
            for (field, column) in &table.columns {
                let of_field = directory.field(*field).expect("it has values");
                let bytes = chunks(Part::Field(*field));
                let mut back = Column::new(column.values.field_type());
                for chunk in of_field.chunks.iter().flatten() {
                    let place = chunk.place.offset as usize..(chunk.place.offset + chunk.place.len) as usize;
                    let decoded = decode_column(&bytes[place], of_field.field_type).expect("a sound chunk");
                    back.extend_from(&decoded, 0..decoded.len());
                }
                assert_eq!(bits(&back), bits(column), "field {field}");
            }
            if let Some(steps) = steps {
                for (field, column) in &table.columns {
                    let key = keys::stripe(id, table.measurement, 0, Part::FieldSteps(*field));
                    let Some(value) = stored.get(&key) else { continue };
                    read += 1;
                    let bytes = frame::open(&key, value, STRIPE_VERSION).expect("a sound value");
                    let back = StepStats::decode(bytes, &steps, column.values.field_type())
                        .expect("sound statistics");
                    let now = StepStats::of(&steps, &table.times, column, 0).expect("numbers");
                    assert_eq!(format!("{back:?}"), format!("{now:?}"), "field {field}");
                }
            }
        }
    }
    assert_eq!(read, stored.len(), "everything in the file was read");
}
