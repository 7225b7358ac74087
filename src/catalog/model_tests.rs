//! The series of a measurement against a naive model: a list of tags.

use super::state::Catalog;
use super::{Measurement, SeriesView, TagPredicate};
use crate::batch::Command;
use crate::model::SeriesId;
use proptest::prelude::*;
use regex::Regex;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

type Tags = BTreeMap<String, String>;

fn list(tags: &Tags) -> Vec<(String, String)> {
    tags.clone().into_iter().collect()
}

/// What each series ever made has, by id, and whether it is alive.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub series: BTreeMap<SeriesId, (Tags, bool)>,
}

impl Model {
    pub fn live(&self) -> impl Iterator<Item = (SeriesId, &Tags)> {
        let alive = self.series.iter().filter(|(_, (_, alive))| *alive);
        alive.map(|(id, (tags, _))| (*id, tags))
    }

    fn find(&self, tags: &Tags) -> Option<SeriesId> {
        self.live().find(|(_, known)| *known == tags).map(|(id, _)| id)
    }

    fn matching(&self, predicate: &TagPredicate) -> Vec<SeriesId> {
        self.live()
            .filter(|(_, tags)| holds(predicate, tags))
            .map(|(id, _)| id)
            .collect()
    }
}

fn holds(predicate: &TagPredicate, tags: &Tags) -> bool {
    let text = |key: &str| tags.get(key).map_or("", String::as_str);
    match predicate {
        TagPredicate::All => true,
        TagPredicate::Equals { key, value } => text(key) == value,
        TagPredicate::NotEquals { key, value } => text(key) != value,
        TagPredicate::Matches { key, regex } => regex.is_match(text(key)),
        TagPredicate::NotMatches { key, regex } => !regex.is_match(text(key)),
        TagPredicate::And(all) => all.iter().all(|p| holds(p, tags)),
        TagPredicate::Or(any) => any.iter().any(|p| holds(p, tags)),
        TagPredicate::Not(inner) => !holds(inner, tags),
    }
}

/// Asks everything that can be asked, and compares.
pub(super) fn check(view: &SeriesView, model: &Model, predicates: &[TagPredicate], ids: &RoaringBitmap) {
    let live: Vec<SeriesId> = model.live().map(|(id, _)| id).collect();
    assert_eq!(view.live_count(), live.len() as u64);
    assert_eq!(view.live().expect("sound").iter().collect::<Vec<_>>(), live);
    for predicate in predicates {
        let found: Vec<SeriesId> = view.matching(predicate).expect("sound").iter().collect();
        assert_eq!(found, model.matching(predicate), "{predicate:?}");
    }
    for within in [None, Some(ids)] {
        let wanted = |id: &SeriesId| within.is_none_or(|ids| ids.contains(*id));
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (_, tags) in model.live().filter(|(id, _)| wanted(id)) {
            for (key, value) in tags {
                values.entry(key.clone()).or_default().insert(value.clone());
            }
        }
        assert_eq!(
            view.tag_keys(within).expect("sound"),
            values.keys().cloned().collect::<Vec<_>>()
        );
        for key in ["a", "b", "c", "none"] {
            let want: Vec<String> = values.get(key).into_iter().flatten().cloned().collect();
            let mut found = Vec::new();
            let mut visit = |value: &str| {
                found.push(value.to_string());
                ControlFlow::Continue(())
            };
            view.walk_values(key, within, &mut visit).expect("sound");
            assert_eq!(view.count_values(key, within).expect("sound"), want.len() as u64);
            assert_eq!(found, want, "values of {key}");
        }
    }
    let mut keys = Vec::new();
    let mut visit = |id, key: crate::model::SeriesKey| {
        keys.push((id, key.tags));
        ControlFlow::Continue(())
    };
    let all = view.live().expect("sound");
    view.walk_keys("m", &all, &mut visit).expect("sound");
    let want: Vec<_> = model.live().map(|(id, tags)| (id, list(tags))).collect();
    assert_eq!(keys, want);
    let columns: Vec<String> = ["a", "c", "none"].map(str::to_string).to_vec();
    let mut reader = view.reader(&columns);
    for (id, tags) in model.live() {
        assert_eq!(view.tags(id).expect("sound"), Some(list(tags)));
        let page = reader.page(id).expect("sound");
        assert!(page.series().contains(&id));
        for (at, key) in columns.iter().enumerate() {
            let code = page.code(at, id);
            assert!(usize::from(code) < page.codes(at));
            assert_eq!(page.value(at, code), tags.get(key).map(String::as_str));
        }
    }
    assert_eq!(view.tags(SeriesId::MAX - 7).expect("sound"), None);
}

pub(super) fn tags() -> impl Strategy<Value = Tags> {
    prop::collection::btree_map("[abc]", "[xyz]{1,2}|x[0-9]{2}", 0..4)
}

pub(super) fn predicate() -> impl Strategy<Value = TagPredicate> {
    let key = || "[abcd]".prop_map(|key| key);
    let value = || "[xyz]{0,2}|x[0-9]{2}";
    let pattern = || {
        prop::sample::select(vec![
            "x",
            "^x",
            "^x.$",
            "^(x|y)$",
            "^$",
            "",
            ".*",
            "^(xy|zz|x11)$",
            "[0-9]",
            "^x1",
            "^(?:)$",
            "(?i)^X",
        ])
        .prop_map(|text| Regex::new(text).expect("a test's own pattern"))
    };
    let leaf = prop_oneof![
        Just(TagPredicate::All),
        (key(), value()).prop_map(|(key, value)| TagPredicate::Equals { key, value }),
        (key(), value()).prop_map(|(key, value)| TagPredicate::NotEquals { key, value }),
        (key(), pattern()).prop_map(|(key, regex)| TagPredicate::Matches { key, regex }),
        (key(), pattern()).prop_map(|(key, regex)| TagPredicate::NotMatches { key, regex }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(TagPredicate::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(TagPredicate::Or),
            inner.prop_map(|one| TagPredicate::Not(Box::new(one))),
        ]
    })
}

fn drop_some(catalog: &Catalog, measurement: &Measurement, model: &mut Model, every: u32, first: u32) {
    let mut series = Vec::new();
    for (id, (_, alive)) in &mut model.series {
        if *alive && id % every == first % every {
            *alive = false;
            series.push(*id);
        }
    }
    catalog.apply_command(&Command::DropSeries {
        measurement: measurement.id,
        series,
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn in_memory_it_equals_the_model(
        steps in prop::collection::vec((tags(), prop::option::weighted(0.1, (2u32..5, 0u32..5))), 0..120),
        predicates in prop::collection::vec(predicate(), 1..12),
        ids in prop::collection::btree_set(0u32..130, 0..60),
    ) {
        let catalog = Catalog::new();
        let measurement = catalog.measurement_or_create(0, "m").expect("below the limit");
        let mut model = Model::default();
        for (tags, drop) in steps {
            let id = measurement.series_or_create(&list(&tags)).expect("sound").expect("below the limit");
            match model.find(&tags) {
                Some(known) => prop_assert_eq!(id, known),
                None => {
                    let new = model.series.insert(id, (tags.clone(), true)).is_none();
                    prop_assert!(new, "ids are never used again");
                }
            }
            prop_assert_eq!(measurement.find_series(&list(&tags)).expect("sound"), Some(id));
            if let Some((every, first)) = drop {
                drop_some(&catalog, &measurement, &mut model, every, first);
            }
        }
        check(&measurement.view(), &model, &predicates, &ids.into_iter().collect());
    }
}
