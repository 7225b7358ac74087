//! Who goes first where the processor is short: those who accept, read and answer before those who work in large pieces.

use crate::support::{Server, post};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// The niceness of each thread of the server, by its name.
fn threads(server: &Server) -> Vec<(String, i64)> {
    let folder = format!("/proc/{}/task", server.pid());
    let thread = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_string();
        // The nineteenth figure; the first after the name is the third.
        Some((name, after.split_whitespace().nth(16)?.parse().ok()?))
    };
    std::fs::read_dir(folder)
        .expect("it runs")
        .filter_map(thread)
        .collect()
}

#[test]
fn large_work_yields_to_those_who_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    // Large: it is decoded by a thread of the pool.
    let (status, text) =
        post(&server.url("/write?db=d"), &b"m,a=b v=1\n".repeat(100_000)).expect("an answer");
    assert_eq!(status, 204, "{text}");
    // A thread says it when it begins, which may be after the server answers.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let threads = threads(&server);
        let most = |name: &str| {
            let found = threads.iter().filter(|(thread, _)| thread.starts_with(name));
            found.map(|(_, niceness)| *niceness).max()
        };
        let (journal, answer) = (most("kymo-journal"), most("actix"));
        let merge = most("kymo-merge");
        let large = ["kymo-sockets", "kymo-datagrams", "kymo-large"].map(most);
        // However nice the tests are themselves: nobody may take that back.
        let wanted = |least: i64| journal.map(|own| own.max(least));
        let are_wanted = large.iter().all(|large| *large == wanted(5))
            && merge == wanted(10)
            // Only the privileged go before others.
            && [wanted(i64::MIN), Some(-5)].contains(&answer);
        if answer.is_some() && are_wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{threads:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
