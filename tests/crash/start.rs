//! Starts of the real binary with a journal to replay: HTTP listens at once and tells how far the start is, answers only when
//! everything acknowledged is there, and a batch that ends starts does so only a few times.

use crate::support::{KYMO, PATIENCE, Server, form, get, run};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const REQUESTS: u64 = 60;
const ROWS: u64 = 3000;
/// A start may be too quick to be watched: then once more.
const STARTS_MAX: usize = 50;

fn lines(request: u64) -> String {
    let mut random = crate::Random(request);
    (0..ROWS)
        .map(|i| {
            let noise = random.next();
            format!(
                "m,s={} v={request}i,w={}i {}\n",
                i % 50,
                noise >> 1,
                request * 10_000 + i
            )
        })
        .collect()
}

/// A folder whose journal has all that was acknowledged, as kill -9 leaves it: the last sequence.
fn killed_with_a_journal(data: &Path) -> u64 {
    let server = Server::start(data, &["--host-metrics", "off", "--head-bytes", "512MiB"]);
    server.create("d");
    (0..REQUESTS).for_each(|request| server.write("d", &lines(request)));
    let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
    let durable = figure(&metrics, "kymo_sequence_durable");
    server.kill();
    durable
}

pub fn figure(metrics: &str, name: &str) -> u64 {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("no {name} in {metrics}"))
        .parse()
        .expect("a number")
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    run(Command::new("cp")
        .args(["-r", "--sparse=always"])
        .args([from, to]));
}

#[test]
fn the_port_tells_progress_while_the_journal_is_replayed_and_has_everything_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kept, data) = (folder.path().join("kept"), folder.path().join("data"));
    killed_with_a_journal(&kept);
    let mut seen = BTreeSet::new();
    for start in 0.. {
        copy(&kept, &data);
        // Many seals while replaying, so that it takes a while.
        let server = Server::begin(&data, &["--host-metrics", "off", "--head-bytes", "256KiB"]);
        let deadline = Instant::now() + 4 * PATIENCE;
        loop {
            assert!(
                Instant::now() < deadline,
                "it never got ready: {}",
                server.output()
            );
            match get(&server.url("/health")) {
                Ok((200, _)) => break,
                Ok((status, body)) => {
                    assert_eq!(status, 503, "{body}");
                    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                    assert_eq!(answer["status"], "fail", "{body}");
                    if answer["replay"]["stage"] == "replaying" {
                        seen.insert(answer["replay"]["batches"].as_u64().expect("a number"));
                        // No answer looks whole and is not.
                        let text = server.query_text(&[("db", "d"), ("q", "SELECT count(v) FROM m")]);
                        assert!(
                            text.0 == 503 && text.1.contains("starting: ") || text.1.contains(&total()),
                            "{text:?}"
                        );
                    }
                }
                Err(_) if server.output().contains("cannot listen on") => break,
                Err(_) => {}
            }
        }
        if server.output().contains("cannot listen on") {
            continue;
        }
        assert_eq!(server.rows("d", "SELECT count(v) FROM m")[0][1], REQUESTS * ROWS);
        let (status, body) = get(&server.url("/ready")).expect("it answers");
        assert!(status == 200 && body.contains("\"status\":\"ready\""), "{body}");
        let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
        assert_eq!(figure(&metrics, "kymo_ready"), 1);
        assert!(figure(&metrics, "kymo_recovery_batches") >= REQUESTS);
        server.kill();
        if seen.len() > 1 {
            break;
        }
        assert!(
            start < STARTS_MAX,
            "progress was never seen in {start} starts: {seen:?}"
        );
    }
    eprintln!("progress seen while replaying: {seen:?} batches");
}

fn total() -> String {
    format!(",{}]", REQUESTS * ROWS)
}

/// The answer to a write has its sequence; /metrics has how far syncs and seals are; `kymo verify` proves that it is there.
#[test]
fn a_sequence_that_was_acknowledged_can_be_proven() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &["--host-metrics", "off", "--head-bytes", "512MiB"]);
    server.create("d");
    let mut last = 0;
    for request in 0..20u64 {
        let answer = ureq::post(&server.url("/write?db=d"))
            .send(lines(request).as_bytes())
            .expect("an answer");
        let sequence = answer.headers().get("X-Kymo-Sequence").expect("it is told");
        let sequence: u64 = sequence.to_str().expect("a text").parse().expect("a number");
        assert!(sequence > last, "{sequence} after {last}");
        last = sequence;
        let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
        assert!(figure(&metrics, "kymo_sequence_durable") >= last);
        assert!(figure(&metrics, "kymo_sequence_visible") >= last);
    }
    server.kill();
    prove(data.path(), last, true);
    prove(data.path(), last + 1000, false);
    // And once it is sealed.
    let server = Server::quiet(data.path());
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
        if figure(&metrics, "kymo_sequence_sealed") >= last {
            break;
        }
        assert!(Instant::now() < deadline, "nothing is sealed: {metrics}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(server.terminate(), Some(0));
    let said = prove(data.path(), last, true);
    assert!(
        said.contains(&format!("sequence {last} is in the store")),
        "{said}"
    );
    prove(data.path(), last + 1000, false);
}

/// Whatever was made durable for a request: its answer has the sequence, also if not all of it was taken.
#[test]
fn every_answer_that_acknowledges_says_its_sequence() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Server::start(data.path(), &["--host-metrics", "off"]);
    let mut last = 0;
    let mut check = |path: &str, headers: &[(&str, &str)], body: &[u8], status: u16| {
        let mut request = ureq::post(server.url(path))
            .config()
            .http_status_as_error(false)
            .build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = request.send(body).expect("an answer");
        let said = answer.body_mut().read_to_string().expect("a text");
        assert_eq!(answer.status().as_u16(), status, "{path}: {said}");
        let sequence = answer.headers().get("X-Kymo-Sequence");
        let sequence = sequence.unwrap_or_else(|| panic!("{path}: {said}"));
        let sequence: u64 = sequence.to_str().expect("a text").parse().expect("a number");
        assert!(sequence > last, "{path}: {sequence} after {last}: {said}");
        last = sequence;
        let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
        assert_eq!(figure(&metrics, "kymo_sequence_durable"), last, "{path}");
    };
    let statement = |text: &str| format!("/query?{}", form(&[("db", "d"), ("q", text)]));
    check(&statement("CREATE DATABASE d"), &[], b"", 200);
    check("/write?db=d", &[], b"m,h=a v=1 1\nm,h=b v=2 2", 204);
    check("/write?db=d", &[], b"m v=1 3\nnonsense", 400);
    check("/api/v2/write?bucket=d&org=o", &[], b"m v=1 4", 204);
    check("/api/v2/write?bucket=d&org=o", &[], b"m v=1 5\nnonsense", 400);
    let json = br#"{"measurement":"j","fields":{"v":1},"time":1}"#;
    check("/write?db=d&format=json", &[], json, 204);
    let kinds = [
        ("Content-Encoding", "snappy"),
        ("Content-Type", "application/x-protobuf"),
    ];
    let samples = crate::overload::samples(10);
    check("/api/v1/write?db=d", &kinds, &samples, 204);
    check(&statement("SELECT v INTO n FROM m"), &[], b"", 200);
    check(&statement("DELETE FROM m WHERE h = 'a'"), &[], b"", 200);
    check(&statement("DROP SERIES FROM m WHERE h = 'b'"), &[], b"", 200);
    check(
        &format!("{}&chunked=true", statement("DROP MEASUREMENT m")),
        &[],
        b"",
        200,
    );
    check(&statement("CREATE DATABASE e; DROP DATABASE e"), &[], b"", 200);
    // Nothing is made durable: nothing is said.
    let answer = ureq::get(server.url(&statement("SELECT * FROM n")))
        .call()
        .expect("an answer");
    assert!(answer.headers().get("X-Kymo-Sequence").is_none());
    server.kill();
    prove(data.path(), last, true);
}

fn prove(data: &Path, sequence: u64, there: bool) -> String {
    let output = Command::new(KYMO)
        .args(["verify", "--sequence", &sequence.to_string(), "--data-dir"])
        .arg(data)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let said = said.concat();
    assert_eq!(output.status.success(), there, "sequence {sequence}: {said}");
    let want = match there {
        true => format!("sequence {sequence} is in the "),
        false => format!("sequence {sequence} is neither in the store nor in the journal"),
    };
    assert!(said.contains(&want), "{said}");
    said
}

/// The real binary after two careful starts died at one batch: it starts, has the rest, and says what it left out.
#[test]
fn a_batch_that_ended_starts_is_set_aside_by_the_real_binary() {
    let data = tempfile::tempdir().expect("a folder");
    let bad = killed_with_a_journal(data.path()) - 1;
    let note = [bad.to_le_bytes(), 1u64.to_le_bytes()].concat();
    std::fs::write(data.path().join("replaying"), note).expect("room");
    for _ in 0..2 {
        let server = Server::quiet(data.path());
        let (_, metrics) = get(&server.url("/metrics")).expect("it answers");
        assert_eq!(figure(&metrics, "kymo_quarantined_batches"), 1);
        assert_eq!(
            server.rows("d", "SELECT count(v) FROM m")[0][1],
            (REQUESTS - 1) * ROWS,
            "all but one request"
        );
        server.kill();
    }
    assert!(data.path().join(format!("quarantine-{bad}.batch")).is_file());
    let output = Command::new(KYMO)
        .args(["verify", "--data-dir"])
        .arg(data.path())
        .output();
    let output = output.expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && said.contains(&format!("batch {bad}: replay set it aside")),
        "{said}"
    );
}
