//! Tables that are used again make the batches that new ones make: any requests, measurements and series dropped between them, settings
//! changed.

use super::EncodedBatch;
use super::any_query::{ask, decoded, engine};
use crate::batch::Batch;
use crate::ingest::TablePool;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    /// A request; is it committed?
    Lines(String, bool),
    Ask(&'static str),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let field = (0..4u8, 0..5u8, 0..100i32).prop_map(|(name, kind, n)| match kind {
        0 => format!("i{name}={n}i"),
        1 => format!("s{name}=\"{n}\""),
        2 => format!("b{name}={}", n % 2 == 0),
        // Refused where it is a float elsewhere, unless numbers are promoted.
        3 => format!("f{name}={n}i"),
        _ => format!("f{name}={n}.5"),
    });
    let fields = prop::collection::vec(field, 1..4);
    let line = (0..5u8, 0..200u8, fields, 0..50u32).prop_map(|(measurement, host, fields, time)| {
        format!("m{measurement},host=h{host} {} {time}\n", fields.join(","))
    });
    let lines = prop::collection::vec(line, 1..60).prop_map(|lines| lines.concat());
    let asked = prop_oneof![
        Just("DROP MEASUREMENT m0"),
        Just("DROP SERIES FROM m1 WHERE host =~ /1/"),
        Just("DROP DATABASE d; CREATE DATABASE d"),
        Just("ALTER DATABASE d NUMERIC PROMOTION ON"),
        Just("ALTER DATABASE d NUMERIC PROMOTION OFF"),
        Just("ALTER RETENTION POLICY autogen ON d PAST LIMIT 1h"),
    ];
    let step = prop_oneof![
        5 => (lines, any::<bool>()).prop_map(|(text, committed)| Step::Lines(text, committed)),
        1 => asked.prop_map(Step::Ask),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn used_tables_are_as_good_as_new(steps in steps()) {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = engine(folder.path());
        ask(&engine, "CREATE DATABASE d");
        let pool = TablePool::default();
        for step in steps {
            match step {
                Step::Ask(statement) => ask(&engine, statement),
                Step::Lines(lines, committed) => {
                    // Those with a pool first: then what is new is new for both.
                    let again = decoded(&engine, &lines, Some(&pool));
                    let fresh = decoded(&engine, &lines, None);
                    let bytes = |batch: Option<&Batch>| batch.map(|b| EncodedBatch::encode(b.clone()).bytes().to_vec());
                    prop_assert_eq!(bytes(again.as_ref()), bytes(fresh.as_ref()));
                    if let Some(batch) = again.filter(|_| committed) {
                        engine.commit(batch).expect("a commit");
                    }
                }
            }
        }
        engine.stop();
    }
}
