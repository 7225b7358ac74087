//! Whoever has a turn, and whatever happens meanwhile.

use super::*;

#[test]
fn whoever_has_a_turn_tells_what_there_is() {
    let (mut checked, mut folds) = (0, 0);
    let mut kinds = BTreeSet::new();
    for seed in 0..8 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut case = Case::new(folder.path(), seed);
        // So few that some are driven out before anybody looked at them.
        let few = seed % 3 == 2;
        // So few that most are looked at before somebody's turn.
        if seed % 3 == 1 {
            case.keeper.pending_rows_max = 1 + seed as usize;
        }
        if few {
            case.keeper.recent = Recent::new(6_000);
        }
        if seed % 4 < 2 {
            case.write();
            case.told.clear();
        }
        (0..=QUERIES.len()).for_each(|number| case.subscribe(number, None));
        for step in 0..60 {
            let what = format!("seed {seed}, step {step}");
            // Several that are only noted, often.
            for _ in 0..[1, 1, 4, 8][case.random.below(4) as usize] {
                case.write();
                case.keeper.hear();
            }
            match case.random.below(30) {
                0 => {
                    let number = case.random.below(QUERIES.len() as u64 + 1) as usize;
                    // Of a tail that lost its memory points come again.
                    if number < QUERIES.len() || !few {
                        case.follow();
                        case.reconnect(number);
                    }
                }
                1 if case.wild => case.now -= 15 * SECOND,
                _ => {}
            }
            case.now += case.random.below(3) as i64 * SECOND;
            if case.random.below(3) > 0 {
                case.turn(false);
                checked += case.check(&what);
            }
            if case.random.below(4) == 0 {
                case.keeper.close(case.now);
            }
            if !few {
                case.follow();
            }
        }
        case.turn(true);
        let what = format!("seed {seed}, in the end");
        assert_eq!(case.check(&what), QUERIES.len(), "{what}: all had their turn");
        if !few {
            case.follow();
            assert!(
                case.told.values().all(|times| *times == 1),
                "{what}: {:?}",
                case.told
            );
        }
        folds += case.keeper.figures.folds.load(Ordering::Relaxed);
        kinds.extend(case.clients.iter().flat_map(|client| client.kinds.clone()));
        case.engine.stop();
    }
    assert!(checked > 500 && folds > 300, "{checked} answers, {folds} folds");
    let all = ["correction", "final", "snapshot", "update"];
    assert!(all.iter().all(|kind| kinds.contains(*kind)), "{kinds:?}");
}
