//! What is more than there may be is refused, or ends with an error that says which limit it was.

use super::*;
use crate::live::evaluate::GROUPS_MAX;

#[test]
fn what_all_remember_is_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let bytes_max = 40_000;
    case.keeper.shares.remembered = bytes_max;
    let subscribe = |case: &mut Case, q: &str| {
        let from = Some(BEGIN);
        case.subscriber(Wanted { from, ..wanted(q) }, || {})
    };
    let by_host = "SELECT count(v) FROM m GROUP BY time(1m), host";
    let small = subscribe(&mut case, "SELECT count(v) FROM m GROUP BY time(1m)");
    let many_windows = subscribe(&mut case, "SELECT count(v) FROM m GROUP BY time(10ms)");
    let many_groups = subscribe(&mut case, by_host);
    let told = |outbox: &Outbox| texts(outbox).concat();
    let counted = |keeper: &Keeper| {
        keeper
            .entries
            .values()
            .map(|entry| entry.remembered)
            .sum::<usize>()
    };
    // Windows are forgotten first, and nobody ends for them.
    for at in 0..600 {
        case.commit(&format!("m,host=a v={at}i {}", BEGIN + at * 10_000_000));
        case.keeper.hear();
        if at % 50 == 49 {
            case.turn(true);
            assert!(case.keeper.remembered <= bytes_max, "{at}");
            assert_eq!(case.keeper.remembered, counted(&case.keeper));
        }
    }
    assert_eq!(case.keeper.entries.len(), 3);
    assert!(told(&many_windows).contains("snapshot") && told(&small).contains(",600]"));
    // Groups cannot be forgotten: who has most of them ends, and is told why; the others go on.
    let mut ended = String::new();
    for at in 600..900 {
        case.commit(&format!("m,host=host{at} v=1i {}", BEGIN + at * 10_000_000));
        case.keeper.hear();
        case.turn(true);
        assert!(case.keeper.remembered <= bytes_max, "{at}");
        ended += &told(&many_groups);
    }
    let limit = super::super::REMEMBERED_LIMIT;
    let error = format!("the subscription has ended: {limit}");
    assert!(ended.contains(&error) && error.contains("live_bytes"), "{ended}");
    assert_eq!(case.keeper.entries.len(), 2);
    assert_eq!(case.keeper.remembered, counted(&case.keeper));
    assert!(told(&small).contains(",900]"));
    // Who would bring it back is refused.
    let refused = told(&subscribe(&mut case, by_host));
    assert!(refused.contains(limit), "{refused}");
    assert_eq!(case.keeper.entries.len(), 2);
    case.engine.stop();
}

#[test]
fn there_is_room_for_so_many_subscriptions_and_computations() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    (case.keeper.subscriptions_max, case.keeper.computations_max) = (5, 3);
    let subscribe = |case: &mut Case, field: &str| -> String {
        let q = format!("SELECT sum({field}) FROM m GROUP BY time(10s)");
        texts(&case.subscriber(wanted(&q), || {})).concat()
    };
    let first = case.connections + 1;
    for (field, answer) in [
        ("a", "snapshot"),
        ("b", "snapshot"),
        ("c", "snapshot"),
        ("d", "live_computations_max 3"),
        // Equal ones are one computation.
        ("a", "snapshot"),
        ("b", "snapshot"),
        ("a", "live_subscriptions_max 5"),
    ] {
        let told = subscribe(&mut case, field);
        assert!(told.contains(answer), "{field}: {told}");
    }
    // Who leaves makes room.
    let connection = first;
    case.keeper.take(Request::Disconnect { connection }, &|| case.now);
    let told = subscribe(&mut case, "b");
    assert!(told.contains("snapshot"), "{told}");
    case.engine.stop();
}

/// Groups are remembered for as long as a subscription is there: so many, and not one more, however small they are.
#[test]
fn a_subscription_has_so_many_groups() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    // What they weigh is another limit.
    (case.keeper.shares.remembered, case.keeper.shares.evaluation) = (1 << 30, 1 << 30);
    let outbox = case.subscriber(wanted("SELECT count(v) FROM m GROUP BY time(1m), host"), || {});
    let other = case.subscriber(wanted("SELECT count(v) FROM m GROUP BY time(1m)"), || {});
    let write = |case: &mut Case, hosts: std::ops::Range<usize>| {
        let at = case.now;
        let lines = hosts.map(|host| format!("m,host=h{host} v=1i {at}\n"));
        case.commit(&lines.collect::<String>());
        case.keeper.hear();
        case.turn(true);
    };
    write(&mut case, 0..GROUPS_MAX);
    let told = texts(&outbox).concat();
    let last = format!("h{}", GROUPS_MAX - 1);
    assert!(
        told.contains(&last) && !told.contains("error"),
        "{}",
        &told[..300.min(told.len())]
    );
    write(&mut case, GROUPS_MAX..GROUPS_MAX + 1);
    let told = texts(&outbox);
    let error = format!("the subscription has ended: too many groups (live_groups_max {GROUPS_MAX})");
    assert!(told.len() == 1 && told[0].contains(&error), "{:?}", told.first());
    // The others go on.
    assert!(texts(&other).concat().contains(&format!(",{}]", GROUPS_MAX + 1)));
    assert_eq!(case.keeper.entries.len(), 1);
    case.engine.stop();
}
