//! `kymo verify --sequence N`: proof that what was acknowledged is there, and no proof of what is not.

use crate::support::{KYMO, Server, get};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Writes one batch: the sequence that its acknowledgement carries.
fn write(server: &Server, lines: &str) -> u64 {
    let response = ureq::post(server.url("/write?db=d"))
        .send(lines)
        .expect("it is stored");
    let sequence = response.headers().get("x-kymo-sequence").expect("a sequence");
    sequence.to_str().expect("text").parse().expect("a number")
}

/// The exit status and everything said.
fn verify(data: &Path, sequence: u64) -> (Option<i32>, String) {
    let mut command = Command::new(KYMO);
    command.args(["verify", "--sequence", &sequence.to_string(), "--data-dir"]);
    let output = command.arg(data).output().expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn metric(server: &Server, name: &str) -> u64 {
    let (_, text) = get(&server.url("/metrics")).expect("an answer");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}"))
        .trim()
        .parse()
        .expect("a number")
}

/// Turns over a bit of the one place of the journal where this text stands.
fn damage(data: &Path, text: &str) {
    let mut found = 0;
    for entry in std::fs::read_dir(data.join("journal")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("readable");
        let places: Vec<usize> = memchr::memmem::find_iter(&bytes, text).collect();
        if places.is_empty() {
            continue;
        }
        found += 1;
        bytes[places[0]] ^= 1;
        std::fs::write(&path, bytes).expect("room");
    }
    assert_eq!(found, 1, "segments that hold {text}");
}

#[test]
fn a_sequence_is_proven_in_the_journal_and_in_the_store_and_not_when_it_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::quiet(&data);
    server.create("d");
    let first = write(&server, "first v=1 1\n");
    let damaged = write(&server, "second_measurement v=2 2\n");
    let last = write(&server, "third v=3 3\n");
    assert!(first < damaged && damaged < last);
    assert!(metric(&server, "kymo_sequence_durable") >= last);
    server.kill();

    for sequence in [first, damaged, last] {
        let (status, said) = verify(&data, sequence);
        assert_eq!(status, Some(0), "{said}");
        let place = format!("sequence {sequence} is in the journal, whole");
        assert!(said.contains(&place) && said.contains("sound"), "{said}");
    }
    let (status, said) = verify(&data, last + 1);
    let neither = format!("sequence {} is neither in the store nor in the journal", last + 1);
    assert!(status != Some(0) && said.contains(&neither), "{status:?}: {said}");

    damage(&data, "second_measurement");
    for (sequence, proof) in [
        (first, "is in the journal"),
        (damaged, "is neither"),
        (last, "is in the journal"),
    ] {
        let (status, said) = verify(&data, sequence);
        assert!(
            status != Some(0) && said.contains(&format!("sequence {sequence} {proof}")),
            "{status:?}: {said}"
        );
    }

    // The next start says what is lost; what comes after it is sealed, and a later sequence proves nothing of an earlier one.
    let server = Server::quiet(&data);
    assert_eq!(metric(&server, "kymo_lost_sequences"), 1);
    assert_eq!(metric(&server, "kymo_recovery_damaged"), 1);
    let later = write(&server, "fourth v=4 4\n");
    assert_eq!(server.terminate(), Some(0));
    let server = Server::quiet(&data);
    assert_eq!(metric(&server, "kymo_lost_sequences"), 1);
    assert!(metric(&server, "kymo_sequence_sealed") >= later);
    for there in ["first", "third", "fourth"] {
        assert_eq!(server.rows("d", &format!("SELECT v FROM {there}")).len(), 1);
    }
    assert_eq!(server.terminate(), Some(0));
    for sequence in [first, last, later] {
        let (status, said) = verify(&data, sequence);
        let proof = format!("sequence {sequence} is in the store");
        assert!(status == Some(0) && said.contains(&proof), "{status:?}: {said}");
    }
    let (status, said) = verify(&data, damaged);
    let lost = format!(
        "sequence {damaged} is lost: damage of the journal took the sequences {damaged} to {damaged}"
    );
    assert!(status != Some(0) && said.contains(&lost), "{status:?}: {said}");
}

/// Turns over the last bit that is set in the journal: in its last frame.
fn damage_the_end(data: &Path) {
    let mut last = None;
    for entry in std::fs::read_dir(data.join("journal")).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("readable");
        // Spares are zeros behind their header.
        if let Some(at) = bytes.iter().rposition(|&byte| byte != 0)
            && at > 64
        {
            assert!(last.is_none(), "one segment is enough for what was written");
            last = Some((path, bytes, at));
        }
    }
    let (path, mut bytes, at) = last.expect("a segment in use");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("room");
}

#[test]
fn what_the_store_has_heard_of_is_missed_at_the_journals_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Server::quiet(&data);
    server.create("d");
    write(&server, "kept v=1 1\ngone v=1 1\n");
    assert_eq!(server.terminate(), Some(0));

    // A merge leaves out what was dropped, before any seal stores that it was.
    let server = Server::quiet(&data);
    server.query("d", "DROP MEASUREMENT gone");
    server.query("d", "DROP MEASUREMENT kept");
    let dropped = metric(&server, "kymo_sequence_durable");
    let deadline = Instant::now() + Duration::from_secs(300);
    while metric(&server, "kymo_store_runs") > 0 {
        assert!(
            Instant::now() < deadline,
            "nobody merges what was dropped:\n{}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(metric(&server, "kymo_sequence_sealed") < dropped);
    server.kill();
    let (status, said) = verify(&data, dropped);
    assert_eq!(status, Some(0), "{said}");

    damage_the_end(&data);
    let (status, said) = verify(&data, dropped);
    let end = format!("damaged at its end: sequences {dropped} to {dropped} are lost");
    assert!(status != Some(0) && said.contains(&end), "{status:?}: {said}");

    let server = Server::quiet(&data);
    assert_eq!(metric(&server, "kymo_lost_sequences"), 1);
    let later = write(&server, "kept v=2 2\n");
    assert!(later > dropped, "its sequence is not used again");
    assert_eq!(server.terminate(), Some(0));
    let (status, said) = verify(&data, dropped);
    let lost = format!("sequence {dropped} is lost");
    assert!(status != Some(0) && said.contains(&lost), "{status:?}: {said}");
    let (status, said) = verify(&data, later);
    let note = format!("took the sequences {dropped} to {dropped}");
    assert!(status == Some(0) && said.contains(&note), "{status:?}: {said}");
}
