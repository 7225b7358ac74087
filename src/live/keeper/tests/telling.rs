//! When clients are told, and of what.

use super::*;
use crate::engine::{Committed, Gap};
use crate::model::TimeRange;

/// Who is told something is woken when all are told, whatever it is told for: nothing else may come for a long time.
#[test]
fn who_is_told_is_woken() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let woken = Arc::new(AtomicUsize::new(0));
    let q = "SELECT sum(v) FROM m GROUP BY time(10s)";
    let own = woken.clone();
    let outbox = case.subscriber(wanted(q), move || {
        own.fetch_add(1, Ordering::Relaxed);
    });
    // What was put in is woken for, and what was not put in is not.
    let told = |kind: &str| {
        let texts = texts(&outbox);
        let wanted = format!("\"type\":\"{kind}\"");
        assert!(
            !texts.is_empty() && texts.iter().all(|text| text.contains(&wanted)),
            "{texts:?}"
        );
        woken.swap(0, Ordering::Relaxed)
    };
    assert!(told("snapshot") > 0);
    case.commit(&format!("m,host=a v=1i {}", case.now));
    case.keeper.hear();
    assert_eq!(woken.load(Ordering::Relaxed), 0);
    case.turn(true);
    assert_eq!(told("update"), 1);
    // Another one begins, for whom all are brought up to date.
    case.commit(&format!("m,host=a v=2i {}", case.now + 1));
    case.keeper.hear();
    case.subscriber(wanted(q), || {});
    assert_eq!(told("update"), 1);
    // What is over is final when there is a turn, and when there is none.
    case.now += 12 * SECOND;
    case.turn(true);
    assert_eq!(told("final"), 1);
    case.commit(&format!("m,host=a v=2i {}", case.now));
    case.keeper.hear();
    case.turn(true);
    assert_eq!(told("update"), 1);
    case.now += 12 * SECOND;
    case.keeper.close(case.now);
    assert_eq!(told("final"), 1);
    case.engine.stop();
}

/// Where many fold a measurement, what came of it is unpacked for all of them also when one of them, or a tail, has its turn before the
/// others: it does not pay for that alone, or a cheap one would look as costly as they are, and be told as seldom.
#[test]
fn who_is_early_does_not_pay_for_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let q = |host: i32| format!("SELECT sum(v) FROM m WHERE host = 'h{host}' GROUP BY time(10s)");
    let busy: Vec<Arc<Outbox>> = (0..8)
        .map(|host| case.subscriber(wanted(&q(host)), || {}))
        .collect();
    let tail = case.subscriber(wanted("SELECT v FROM m WHERE host = 'h0'"), || {});
    let early: Vec<Arc<str>> = case.keeper.entries.keys().cloned().collect();
    let early = early
        .into_iter()
        .find(|key| !key.contains("GROUP BY"))
        .expect("the tail");
    busy.iter().chain([&tail]).for_each(|outbox| drop(texts(outbox)));
    for round in 0..5 {
        let lines = |host| format!("m,host=h{host} v={round}i {}\n", case.now + round);
        case.commit(&(0..8).map(lines).collect::<String>());
        case.keeper.hear();
        let far = Instant::now() + Duration::from_secs(3600);
        let queue = std::mem::take(&mut case.keeper.queue).into_iter();
        case.keeper.queue = queue.map(|(_, key)| (far, key)).collect();
        assert!(case.keeper.queue.remove(&(far, early.clone())), "the tail waits");
        case.keeper.queue.insert((Instant::now(), early.clone()));
        case.keeper.round(&|| case.now);
        assert!(texts(&tail).concat().contains(&format!(",{round}]")));
    }
    case.turn(true);
    for outbox in &busy {
        assert!(texts(outbox).concat().contains(",10]"));
    }
    assert_eq!(case.keeper.recent.alone.get(), 0);
    case.engine.stop();
}

/// A point of a window that has not begun any more, since the clock went back, is not lost when it begins again.
#[test]
fn a_clock_that_goes_back_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let outbox = case.subscriber(wanted("SELECT count(v) FROM m GROUP BY time(10s)"), || {});
    let begin = case.now / (10 * SECOND) * (10 * SECOND);
    let commit = |case: &mut Case, at: i64| {
        case.commit(&format!("m,host=a v=1i {}", begin + at));
        case.keeper.hear();
        case.turn(true);
        texts(&outbox).concat()
    };
    let counted = |count: usize| format!("[{begin},{count}]");
    assert!(commit(&mut case, 1).contains(&counted(1)));
    assert!(commit(&mut case, 2).contains(&counted(2)));
    assert_eq!(case.keeper.figures.folds.load(Ordering::Relaxed), 2);
    case.now -= 15 * SECOND;
    // It waits; the window before is told of meanwhile.
    assert!(!commit(&mut case, 3).contains(&format!("[{begin},")));
    let before = format!("[{},1]", begin - 20 * SECOND);
    assert!(commit(&mut case, -15 * SECOND).contains(&before));
    case.now += 15 * SECOND;
    assert!(commit(&mut case, 4).contains(&counted(4)));
    case.engine.stop();
}

/// A window that begins between a look at the clock and a look at the data is not passed over: whatever a message's sequence tells of
/// has been looked at.
#[test]
fn the_clock_is_read_after_the_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let outbox = case.subscriber(wanted("SELECT count(v) FROM m GROUP BY time(10s)"), || {});
    outbox.take();
    case.commit(&format!("m,host=a v=1i {}", case.now));
    case.keeper.hear();
    // The next window's first point is committed the moment somebody has looked at the clock.
    let next = case.now / (10 * SECOND) * (10 * SECOND) + 10 * SECOND;
    let waiting = std::cell::RefCell::new(Some(case.batch(&format!("m,host=a v=2i {next}"))));
    let engine = case.engine.clone();
    let clock = || {
        if let Some(batch) = waiting.borrow_mut().take() {
            engine.commit(batch).expect("committed");
        }
        next - 1
    };
    case.keeper.round(&clock);
    assert!(waiting.borrow().is_none(), "the clock was read");
    let told = |outbox: &Outbox| -> Vec<Json> {
        let texts = texts(outbox);
        texts
            .iter()
            .map(|text| serde_json::from_str(text).expect("JSON"))
            .collect()
    };
    let first = told(&outbox);
    assert!(!first.is_empty(), "the first point");
    for message in &first {
        assert!(
            message["sequence"].as_u64() < Some(engine.sequence()),
            "{message}"
        );
    }
    case.now = next;
    case.keeper.hear();
    case.turn(true);
    let second = told(&outbox);
    let message = second.last().expect("the second point");
    assert_eq!(message["sequence"].as_u64(), Some(engine.sequence()));
    assert_eq!(message["series"][0]["values"][0], serde_json::json!([next, 1]));
    engine.stop();
}

/// Batches of which it was only heard that they went by are a gap, and nothing before it is handed out as if it were all: a tail that
/// resumes from before it is refused, and windows are looked at as a whole.
#[test]
fn what_came_before_a_gap_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut case = Case::new(folder.path(), 1);
    let now = case.now;
    let tail = case.subscriber(wanted("SELECT v FROM m"), || {});
    let windows = case.subscriber(wanted("SELECT sum(v), count(v) FROM m GROUP BY time(10s)"), || {});
    let seen = case.engine.sequence();
    case.commit(&format!("m,host=a v=1i {now}"));
    case.keeper.hear();
    case.turn(true);
    assert!(texts(&windows).concat().contains(",1,1]"));
    // Nobody is told of this one.
    case.commit(&format!("m,host=a v=2i {}", now + 1));
    let commits = case.keeper.commits.as_ref().expect("it listens");
    while commits.next(Duration::ZERO).is_some() {}
    case.keeper.note(Committed::Gap(Gap {
        through: case.engine.sequence(),
        time: Some(TimeRange {
            min: now + 1,
            max: now + 1,
        }),
        commands: false,
    }));
    case.commit(&format!("m,host=a v=4i {}", now + 2));
    case.keeper.hear();
    case.turn(true);
    assert!(texts(&windows).concat().contains(",7,3]"));
    // Some again, so that none is missing.
    let told = texts(&tail).concat();
    assert!(
        [1, 2, 4].iter().all(|v| told.contains(&format!(",{v}]"))),
        "{told}"
    );
    let resumed = |case: &mut Case, resume| {
        let resume = Some(resume);
        let outbox = case.subscriber(
            Wanted {
                resume,
                ..wanted("SELECT v FROM m")
            },
            || {},
        );
        texts(&outbox).concat()
    };
    let told = resumed(&mut case, seen);
    assert!(
        told.contains("cannot resume") && !told.contains("values"),
        "{told}"
    );
    // From the gap on all is known.
    let before_last = case.engine.sequence() - 1;
    let told = resumed(&mut case, before_last);
    assert!(
        told.contains(",4]") && !told.contains(",2]") && !told.contains("error"),
        "{told}"
    );
    case.engine.stop();
}
