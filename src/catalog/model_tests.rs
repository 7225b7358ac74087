//! The series of a measurement against a naive model: a list of tags.

use super::state::Catalog;
use super::{Measurement, SeriesView, TagPredicate};
use crate::batch::{Batch, Command, Definitions, EncodedBatch, SeriesDefinition};
use crate::model::{MeasurementId, SeriesId, SeriesKey};
use crate::store::StoreError;
use crate::store::index::verify::verify;
use crate::store::{Loaded, SealInput, Store, StoreOptions};
use proptest::prelude::*;
use regex::Regex;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

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
    let mut visit = |id, key: SeriesKey| {
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

/// A catalog over a store: what the engine does with them, without rows.
struct Case {
    dir: tempfile::TempDir,
    open: Option<(Store, Catalog)>,
    measurement: MeasurementId,
    model: Model,
    /// Batches and commands since the last seal, as the journal has them.
    journal: Vec<(Definitions, Vec<Command>)>,
    sequence: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Points of a series arrive; the id is the next one.
    Create(Tags),
    /// The journal brings a series under this id: others before it were never committed.
    Skip(u32, Tags),
    Drop(u32, u32),
    Seal,
    /// The seal's first half, and then a crash.
    SealAndCrash,
    Merge,
    Reopen,
    Check,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => tags().prop_map(Step::Create),
        10 => ((0u32..3000), tags()).prop_map(|(skip, tags)| Step::Skip(skip, tags)),
        3 => (2u32..5, 0u32..5).prop_map(|(every, first)| Step::Drop(every, first)),
        6 => Just(Step::Seal),
        2 => Just(Step::SealAndCrash),
        4 => Just(Step::Merge),
        3 => Just(Step::Reopen),
        2 => Just(Step::Check),
    ]
}

impl Case {
    fn new() -> Self {
        let mut case = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
            open: None,
            measurement: 0,
            model: Model::default(),
            journal: Vec::new(),
            sequence: 0,
        };
        case.reopen();
        let made = case.catalog().create_database("d", None).expect("a good name");
        case.commit(made, Vec::new());
        let policy = case.catalog().database("d").expect("just made").policies[0].id;
        let measurement = case
            .catalog()
            .measurement_or_create(policy, "m")
            .expect("below the limit");
        case.measurement = measurement.id;
        let mut definitions = Definitions::default();
        measurement.define_new(&RoaringBitmap::new(), &mut definitions);
        case.commit(definitions, Vec::new());
        case
    }

    fn store(&self) -> &Store {
        &self.open.as_ref().expect("open between steps").0
    }

    fn catalog(&self) -> &Catalog {
        &self.open.as_ref().expect("open between steps").1
    }

    fn measurement(&self) -> Arc<Measurement> {
        self.catalog()
            .measurement_by_id(self.measurement)
            .expect("it is never dropped")
    }

    fn reopen(&mut self) {
        self.open = None;
        let catalog = Catalog::new();
        // Too small to keep much: values are read again and again.
        let options = StoreOptions {
            cache_bytes: 1 << 16,
            index_cache_bytes: 1 << 16,
        };
        let store = Store::open(self.dir.path(), options, &mut |loaded| match loaded {
            Loaded::Index(index) => catalog.use_index(index),
            Loaded::Gone(gone) => catalog.never_define(&gone),
            Loaded::Definitions(definitions) => {
                catalog.apply_definitions(&definitions, true).expect("sound data");
            }
            Loaded::Command(command) => catalog.apply_command(&command),
            Loaded::NextIds(ids) => catalog.raise_next_ids(ids),
        })
        .expect("a sound folder");
        for (definitions, commands) in &self.journal {
            catalog.apply_definitions(definitions, false).expect("sound data");
            commands.iter().for_each(|command| catalog.apply_command(command));
            let batch = EncodedBatch::encode(Batch {
                shards: 1,
                commands: commands.clone(),
                ..Batch::default()
            });
            catalog.commit(&batch);
        }
        self.open = Some((store, catalog));
    }

    fn commit(&mut self, definitions: Definitions, commands: Vec<Command>) {
        self.sequence += 1;
        let batch = Batch {
            shards: 1,
            definitions: definitions.clone(),
            commands: commands.clone(),
            ..Batch::default()
        };
        self.catalog().commit(&EncodedBatch::encode(batch));
        for command in &commands {
            self.store().apply_command(self.sequence, command);
        }
        self.journal.push((definitions, commands));
    }

    fn create(&mut self, tags: &Tags) {
        let measurement = self.measurement();
        let id = measurement
            .series_or_create(&list(tags))
            .expect("sound")
            .expect("below the limit");
        match self.model.find(tags) {
            Some(known) => assert_eq!(id, known),
            None => {
                let new = self.model.series.insert(id, (tags.clone(), true)).is_none();
                assert!(new, "ids are never used again");
                let mut definitions = Definitions::default();
                measurement.define_new(&[id].into_iter().collect(), &mut definitions);
                self.commit(definitions, Vec::new());
            }
        }
        assert_eq!(measurement.find_series(&list(tags)).expect("sound"), Some(id));
    }

    fn skip(&mut self, skip: u32, tags: &Tags) {
        if self.model.find(tags).is_some() {
            return;
        }
        let id = self.model.series.keys().next_back().map_or(0, |last| last + 1) + skip;
        let definition = SeriesDefinition {
            measurement: self.measurement,
            id,
            key: SeriesKey::new("m", list(tags)).canonical(),
        };
        let definitions = Definitions {
            series: vec![definition],
            ..Definitions::default()
        };
        self.catalog()
            .apply_definitions(&definitions, false)
            .expect("sound");
        self.journal.push((definitions, Vec::new()));
        self.model.series.insert(id, (tags.clone(), true));
    }

    fn drop_some(&mut self, every: u32, first: u32) {
        let mut series = Vec::new();
        for (id, (_, alive)) in &mut self.model.series {
            if *alive && id % every == first % every {
                *alive = false;
                series.push(*id);
            }
        }
        let command = Command::DropSeries {
            measurement: self.measurement,
            series,
        };
        self.commit(Definitions::default(), vec![command]);
    }

    fn seal(&mut self, forget: bool) {
        let unsealed = self.catalog().take_unsealed();
        let input = SealInput {
            watermark: self.sequence,
            level: crate::block::Level::Fast,
            definitions: &unsealed.definitions,
            series: &unsealed.series,
            commands: &unsealed.commands,
            next_ids: self.catalog().next_ids(),
            gone: unsealed.gone.as_ref(),
        };
        self.store()
            .seal(&input, std::iter::empty())
            .expect("an ordinary seal");
        if forget {
            self.catalog().sealed(&unsealed);
            self.journal.clear();
        } else {
            self.reopen();
        }
    }

    fn run(&mut self, step: &Step, predicates: &[TagPredicate], ids: &RoaringBitmap) {
        match step {
            Step::Create(tags) => self.create(tags),
            Step::Skip(skip, tags) => self.skip(*skip, tags),
            Step::Drop(every, first) => self.drop_some(*every, *first),
            Step::Seal => self.seal(true),
            Step::SealAndCrash => self.seal(false),
            Step::Merge => while self.store().merge_index(&|| true).expect("sound") {},
            Step::Reopen => self.reopen(),
            Step::Check => check(&self.measurement().view(), &self.model, predicates, ids),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 60, ..ProptestConfig::with_cases(12) })]
    #[test]
    fn sealed_merged_and_reopened_it_equals_the_model(
        steps in prop::collection::vec(step(), 0..150),
        predicates in prop::collection::vec(predicate(), 1..8),
        ids in prop::collection::btree_set(0u32..400, 0..120),
    ) {
        let mut case = Case::new();
        let ids: RoaringBitmap = ids.into_iter().collect();
        for step in &steps {
            case.run(step, &predicates, &ids);
        }
        // A view is not changed by what happens after it was taken.
        let (before, model) = (case.measurement().view(), case.model.clone());
        for step in [Step::Drop(2, 0), Step::Seal, Step::Create(Tags::new()), Step::Seal, Step::Merge] {
            case.run(&step, &predicates, &ids);
        }
        check(&before, &model, &predicates, &ids);
        drop(before);
        case.run(&Step::Check, &predicates, &ids);
        case.run(&Step::Reopen, &predicates, &ids);
        case.run(&Step::Check, &predicates, &ids);
        let index = case.store().series_index();
        let mut flaws = Vec::new();
        let series = verify(index, &mut |place, reason| flaws.push((place, reason)));
        prop_assert_eq!(flaws, []);
        prop_assert_eq!(series, index.of(case.measurement).ids().expect("sound").len());
        for (tags, alive) in case.model.series.clone().into_values() {
            if alive {
                case.create(&tags);
            }
        }
    }
}

#[test]
fn what_was_replaced_stays_dead_while_its_pack_is_on_disk() {
    let tags = |n: u32| Tags::from([("a".to_string(), format!("x{n}"))]);
    let nothing = RoaringBitmap::new();
    let mut case = Case::new();
    case.run(&Step::Create(tags(0)), &[], &nothing);
    case.run(&Step::Seal, &[], &nothing);
    // Somebody reads the first generation while the second replaces it, and the third the second.
    let reader = case.measurement().view();
    for n in 1..3 {
        case.run(&Step::Create(tags(n)), &[], &nothing);
        case.run(&Step::Seal, &[], &nothing);
    }
    assert!(reader.live().expect("sound").contains(0));
    drop(reader);
    case.run(&Step::Reopen, &[], &nothing);
    case.run(&Step::Check, &[], &nothing);
}

#[test]
fn space_of_dropped_series_comes_back() {
    let nothing = RoaringBitmap::new();
    let mut case = Case::new();
    for n in 0..4000 {
        let tags = Tags::from([
            (
                "container".to_string(),
                format!("{:08x}", n * 2_654_435_761u64 % 0xffff_ffff),
            ),
            ("host".to_string(), format!("h{}", n % 50)),
        ]);
        case.run(&Step::Create(tags), &[], &nothing);
    }
    case.run(&Step::Seal, &[], &nothing);
    let bytes = |case: &Case| case.store().counters().disk_bytes;
    let sealed = |case: &Case| {
        let index = case.store().series_index();
        index.of(case.measurement).ids().expect("sound").len()
    };
    assert!(
        !case.store().merge_index(&|| true).expect("sound"),
        "nothing was dropped"
    );
    let all = bytes(&case);
    case.run(&Step::Drop(10, 0), &[], &nothing);
    case.run(&Step::Seal, &[], &nothing);
    assert!(
        !case.store().merge_index(&|| true).expect("sound"),
        "a tenth is not worth it"
    );
    assert_eq!(sealed(&case), 4000);
    case.run(&Step::Drop(2, 1), &[], &nothing);
    case.run(&Step::Seal, &[], &nothing);
    assert!(matches!(
        case.store().merge_index(&|| false),
        Err(StoreError::Stopped)
    ));
    assert!(
        case.store().merge_index(&|| true).expect("sound"),
        "given up, begun again"
    );
    let live = case.measurement().live_count();
    assert_eq!(sealed(&case), live);
    assert!(!case.store().merge_index(&|| true).expect("sound"), "that is all");
    assert!(
        bytes(&case) < all * 3 / 4,
        "{} of {all} bytes are left",
        bytes(&case)
    );
    case.run(&Step::Reopen, &[], &nothing);
    case.run(&Step::Check, &[], &nothing);
    assert_eq!(case.measurement().live_count(), live);
}

#[test]
fn two_tags_of_a_large_part_are_both_looked_at() {
    let nothing = RoaringBitmap::new();
    let mut case = Case::new();
    // Series of one value of `a` share a page with those of others that have the same `b`.
    for n in 0..900u32 {
        let tags = [("a", format!("x{:02}", n / 20)), ("b", format!("y{}", n % 5))];
        let tags = tags.map(|(key, value)| (key.to_string(), value));
        case.run(&Step::Create(Tags::from(tags)), &[], &nothing);
    }
    case.run(&Step::Seal, &[], &nothing);
    let equals = |key: &str, value: &str| TagPredicate::Equals {
        key: key.into(),
        value: value.into(),
    };
    let predicates = [
        TagPredicate::And(vec![equals("a", "x07"), equals("b", "y3")]),
        TagPredicate::And(vec![
            equals("b", "y3"),
            TagPredicate::Not(Box::new(equals("a", "x07"))),
            equals("a", "x08"),
        ]),
    ];
    case.run(&Step::Check, &predicates, &nothing);
}
