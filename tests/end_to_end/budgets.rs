//! The same data under different limits of memory and cores: the same answers, nobody killed, memory within the limit.

use crate::cgroup::Cgroup;
use crate::support::{KYMO, PATIENCE, Server, missing};
use serde_json::Value;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// A command that runs the server in a group, on the first `cores` cores.
fn launcher(group: &Cgroup, cores: usize) -> Vec<String> {
    group.command(&["taskset", "-c", &format!("0-{}", cores - 1), KYMO])
}

fn lines(batch: i64) -> String {
    let line = |i: i64| {
        let (host, at) = (i % 2000, batch * 4000 + i);
        format!(
            "m,host=h{host},zone=z{} v={}i,f={}.25 {}\n",
            host % 7,
            at % 97,
            at % 1000,
            at * 1_000_000_000
        )
    };
    (0..4000).map(line).collect()
}

fn answers(server: &Server) -> Vec<Value> {
    let queries = [
        "SELECT count(v), sum(v), mean(f), max(f) FROM m",
        "SELECT mean(f), max(v) FROM m GROUP BY zone",
        "SELECT percentile(f, 90) FROM m WHERE host = 'h17' GROUP BY time(1h) FILL(none)",
        "SELECT last(v) FROM m GROUP BY host LIMIT 1 SLIMIT 50",
        "SHOW TAG VALUES FROM m WITH KEY = zone",
    ];
    queries.iter().map(|q| server.query("b", q)).collect()
}

fn peak_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux");
    line.split_whitespace()
        .next()
        .and_then(|n| n.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

/// What it prints comes a moment after it answers.
fn wait_for_output(server: &Server, text: &str) {
    let began = Instant::now();
    while !server.output().contains(text) {
        assert!(began.elapsed() < PATIENCE, "{text} in\n{}", server.output());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn same_answers_under_any_limit() {
    let mut expected: Option<Vec<Value>> = None;
    let gib = 1024 * MIB;
    for (bytes, cores) in [
        (256 * MIB, 1),
        (256 * MIB, 2),
        (gib, 1),
        (gib, 2),
        (8 * gib, 1),
        (8 * gib, 2),
    ] {
        let Some(group) = Cgroup::new(&format!("{}m{cores}", bytes / MIB), bytes) else {
            return missing("right to make a memory cgroup (root has it)");
        };
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::launch(
            &launcher(&group, cores),
            folder.path(),
            &["--host-metrics", "off"],
        );
        // A sixteenth is the kernel's.
        let own = bytes - bytes / 16;
        wait_for_output(&server, &format!("{cores} cores, {} MiB memory", own / MIB));
        server.create("b");
        for batch in 0..60 {
            server.write("b", &lines(batch));
        }
        let first = answers(&server);
        assert!(peak_bytes(&server) < own, "{} of {own}", peak_bytes(&server));
        let data = server.data.clone();
        assert_eq!(server.terminate(), Some(0), "it was not killed");
        let server = Server::launch(&launcher(&group, cores), &data, &["--host-metrics", "off"]);
        assert_eq!(answers(&server), first, "from blocks the same as from the head");
        assert_eq!(server.terminate(), Some(0));
        match &expected {
            None => expected = Some(first),
            Some(expected) => assert_eq!(&first, expected, "{} MiB, {cores} cores", bytes / MIB),
        }
    }
}

#[test]
fn budgets_are_told_and_chosen() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(
        folder.path(),
        &[
            "--host-metrics",
            "off",
            "--memory",
            "1G",
            "--block-cache-bytes",
            "5M",
            "--shards",
            "3",
        ],
    );
    let (_, metrics) = crate::support::get(&server.url("/metrics")).expect("an answer");
    for line in [
        "kymo_budget{name=\"shards\"} 3",
        "kymo_budget{name=\"head_bytes\"} 33554432",
        "kymo_budget{name=\"block_cache_bytes\"} 5242880",
        "kymo_budget_changes_total 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} in\n{metrics}");
    }
    let shown = server.query("", "SHOW DIAGNOSTICS").to_string();
    assert!(
        shown.contains("block_cache_bytes") && shown.contains("5242880"),
        "{shown}"
    );
    wait_for_output(&server, "block cache 5 MiB");
}
