//! Definitions wait until they are sealed; names and ids that are dropped.

use super::*;
use crate::batch::Batch;
use crate::model::FieldType;

fn commit(catalog: &Catalog, definitions: Definitions) -> Definitions {
    let batch = Batch {
        shards: 1,
        definitions: definitions.clone(),
        ..Batch::default()
    };
    catalog.commit(&EncodedBatch::encode(batch));
    definitions
}

#[test]
fn definitions_are_sent_until_committed_and_survive_replay() {
    let catalog = Catalog::new();
    let created = catalog.create_database("d", None).expect("a good name");
    assert_eq!((created.databases.len(), created.policies.len()), (1, 1));
    assert_eq!(
        catalog.create_database("d", None),
        Ok(created.clone()),
        "not committed: sent again"
    );
    let mut all = commit(&catalog, created);
    assert!(catalog.define_database("d").is_empty(), "committed: no need");

    let policy = catalog
        .database("d")
        .and_then(|d| d.policy(None).cloned())
        .expect("made with it");
    let cpu = catalog
        .measurement_or_create(policy.id, "cpu")
        .expect("below the limit");
    let tags = vec![("host".to_string(), "a".to_string())];
    let series = cpu
        .series_or_create(&tags)
        .expect("in memory")
        .expect("below the limit");
    assert_eq!(
        cpu.field_or_create("v", FieldType::Float),
        Some((0, FieldType::Float))
    );
    assert_eq!(
        cpu.field_or_create("v", FieldType::String),
        Some((0, FieldType::Float)),
        "first writer wins"
    );
    let used: RoaringBitmap = [series].into_iter().collect();
    let mut define = Definitions::default();
    cpu.define_new(&used, &mut define);
    assert_eq!(
        (
            define.measurements.len(),
            define.fields.len(),
            define.series.len()
        ),
        (1, 1, 1)
    );
    assert!(!cpu.is_series_committed(series));
    let define = commit(&catalog, define);
    assert!(cpu.is_series_committed(series));
    let mut again = Definitions::default();
    cpu.define_new(&used, &mut again);
    assert!(again.is_empty());

    all.measurements.extend(define.measurements);
    all.fields.extend(define.fields);
    all.series.extend(define.series);
    let replayed = Catalog::new();
    for _ in 0..2 {
        replayed.apply_definitions(&all, false).expect("in memory");
    }
    let found = replayed.measurement(policy.id, "cpu").expect("defined");
    assert_eq!(
        (found.id, found.find_series(&tags).expect("in memory")),
        (cpu.id, Some(series))
    );
    let sort = |catalog: &Catalog| {
        let mut unsealed = catalog.take_unsealed();
        unsealed.definitions.databases.dedup();
        unsealed.definitions.policies.dedup();
        let series: Vec<_> = unsealed
            .series
            .iter()
            .map(|s| (s.measurement, s.ids.clone()))
            .collect();
        (unsealed.definitions, series)
    };
    assert_eq!(sort(&replayed), sort(&catalog), "both must still seal the same");
    let nothing = catalog.take_unsealed();
    assert!(nothing.definitions.is_empty() && nothing.series.is_empty());
}

#[test]
fn a_replay_leaves_names_to_their_later_owners() {
    let make = |catalog: &Catalog, name: &str| {
        let policy = catalog
            .database("d")
            .and_then(|d| d.policy(None).cloned())
            .expect("made with it")
            .id;
        let made = catalog
            .measurement_or_create(policy, name)
            .expect("below the limit");
        let mut all = catalog.define_database("d");
        made.define_new(&RoaringBitmap::new(), &mut all);
        commit(catalog, all.clone());
        (made.id, policy, all)
    };
    let catalog = Catalog::new();
    catalog.create_database("d", None).expect("a good name");
    let (first, _, define_first) = make(&catalog, "m");
    catalog.apply_command(&Command::DropMeasurement(first));
    let (second, old, define_second) = make(&catalog, "m");
    let dropped = catalog.database("d").expect("made").id;
    catalog.apply_command(&Command::DropDatabase(dropped));
    catalog.create_database("d", None).expect("a good name");
    let (third, new, define_third) = make(&catalog, "m");
    // The names of a seal whose pack did not get through, then everything from the beginning.
    for stored in [&[][..], &[&define_second], &[&define_third]] {
        let again = Catalog::new();
        for definitions in stored {
            again.apply_definitions(definitions, true).expect("no index");
        }
        let replay = |definitions| again.apply_definitions(definitions, false).expect("no index");
        replay(&define_first);
        again.apply_command(&Command::DropMeasurement(first));
        replay(&define_second);
        if stored != [&define_third] {
            assert_eq!(again.measurement(old, "m").map(|m| m.id), Some(second));
        }
        again.apply_command(&Command::DropDatabase(dropped));
        replay(&define_third);
        assert_eq!(again.measurement(new, "m").map(|m| m.id), Some(third));
        assert_eq!(again.measurement_by_id(second).map(|m| m.id), None);
        let database = again.database("d").expect("it is there");
        assert_eq!(
            database.policy(None).map(|p| (p.id, p.default)),
            Some((new, true))
        );
        assert_eq!(again.databases().len(), 1);
    }
}

#[test]
fn dropping_forgets_names_and_never_reuses_ids() {
    let catalog = Catalog::new();
    commit(&catalog, catalog.create_database("d", None).expect("a good name"));
    let policy = catalog
        .database("d")
        .and_then(|d| d.policy(None).cloned())
        .expect("made with it");
    let first = catalog
        .measurement_or_create(policy.id, "m")
        .expect("below the limit")
        .id;
    catalog.apply_command(&Command::DropMeasurement(first));
    assert!(catalog.measurement(policy.id, "m").is_none());
    let second = catalog
        .measurement_or_create(policy.id, "m")
        .expect("below the limit")
        .id;
    assert_ne!(first, second);
    catalog.apply_command(&Command::DropDatabase(policy.database));
    assert!(catalog.database("d").is_none() && catalog.measurement_by_id(second).is_none());
    commit(&catalog, catalog.create_database("d", None).expect("a good name"));
    assert_ne!(catalog.database("d").expect("made again").id, policy.database);
}

#[test]
fn names_that_influxdb_refuses_are_refused() {
    let catalog = Catalog::new();
    for name in ["", ".", "..", "a/b", "a\\b", "a\nb"] {
        assert_eq!(
            catalog.create_database(name, None),
            Err(CatalogError::InvalidName),
            "{name:?}"
        );
    }
}
