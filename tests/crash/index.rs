//! A damaged series index: a write that needs it is refused as a whole by the server's fault (500, so that clients send it again),
//! never told to be the sender's (400); and it is not stored in part. That is when its copy is damaged, too; with a sound one the next start puts it back.

use crate::support::{Server, get, post};
use std::path::{Path, PathBuf};

/// More than fit into one value of the index.
const SERIES: u64 = 6000;

fn lines(from: u64, to: u64) -> String {
    (from..to)
        .map(|i| format!("m,container={:08x} v={i}i {i}\n", i * 2_654_435_761))
        .collect()
}

fn blobs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.is_file()).collect()
}

/// The values of the keyspace `series`, the third that a store makes, and their copies.
const FOLDERS: [&str; 2] = ["store/keyspaces/3/blobs", "store/mirror/3/blobs"];

/// Flips bytes in the middle of them, so that a second time undoes it.
fn damage(data: &Path, folder: &str) -> usize {
    let files = blobs(&data.join(folder));
    for path in &files {
        let mut bytes = std::fs::read(path).expect("a file");
        let len = bytes.len();
        for at in (len / 10..len * 9 / 10).step_by(256) {
            bytes[at] ^= 0x55;
        }
        std::fs::write(path, bytes).expect("written");
    }
    files.len()
}

#[test]
fn a_write_that_meets_a_damaged_index_is_refused_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", &lines(0, SERIES));
    assert_eq!(server.terminate(), Some(0));
    for files in FOLDERS {
        assert!(
            damage(folder.path(), files) > 0,
            "the index has values of their own files"
        );
    }

    let server = Server::quiet(folder.path());
    let mixed = format!("other v=1i 1\n{}", lines(SERIES - 10, SERIES + 10));
    let (status, body) = post(&server.url("/write?db=d"), mixed.as_bytes()).expect("an answer");
    assert_eq!(status, 500, "{body}");
    assert!(
        body.contains("cannot read the series index") && body.contains("damaged"),
        "{body}"
    );
    for word in ["partial write", "unable to parse"] {
        assert!(!body.contains(word), "Telegraf would drop it for good: {body}");
    }
    let other = server.query("d", "SELECT v FROM other").to_string();
    assert!(!other.contains("values"), "half of a refused request: {other}");
    server.write("d", "other v=2i 2");
    assert_eq!(get(&server.url("/health")).expect("an answer").0, 200);
    server.kill();

    damage(folder.path(), FOLDERS[1]);
    let server = Server::quiet(folder.path());
    let (status, body) = post(&server.url("/write?db=d"), mixed.as_bytes()).expect("an answer");
    assert_eq!(status, 204, "{body}");
    let counted = server.rows("d", "SHOW SERIES EXACT CARDINALITY FROM m");
    assert_eq!(counted[0][0].as_u64(), Some(SERIES + 10));
}
