//! A data folder as bytes: taken from disk, changed, put somewhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Files by their path below the folder, and folders that are to be there even without files.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Image(pub BTreeMap<PathBuf, Content>, pub BTreeSet<PathBuf>);

/// A file without the zeroes at its end.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Content {
    /// Up to the last byte that is not zero.
    pub bytes: Vec<u8>,
    /// How long the file is.
    pub len: u64,
}

impl Image {
    /// Reads a folder; files that go away meanwhile are left out, as a crash would.
    pub fn take(dir: &Path) -> Self {
        let mut image = Self::default();
        image.add(dir, Path::new(""));
        image
    }

    fn add(&mut self, root: &Path, below: &Path) {
        let Ok(entries) = std::fs::read_dir(root.join(below)) else {
            return;
        };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.add(root, &path),
                // A sparse file of 64 MiB that nobody writes need not be read whole.
                Ok(_) if path.extension().is_some_and(|e| e == "jnl") => {
                    let len = entry.metadata().map_or(0, |m| m.len());
                    let bytes = Vec::new();
                    self.0.insert(path, Content { bytes, len });
                }
                Ok(_) => {
                    let mut bytes = Vec::new();
                    let read = File::open(root.join(&path)).and_then(|mut f| f.read_to_end(&mut bytes));
                    if read.is_ok() {
                        self.0.insert(path, Content::new(bytes));
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Writes it into a folder, which is emptied first. Where no folder is named the storage engine's own are made, since they may be empty.
    pub fn put(&self, dir: &Path) {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).expect("a folder");
        for path in &self.1 {
            std::fs::create_dir_all(dir.join(path)).expect("a folder");
        }
        for (path, content) in &self.0 {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
            let mut file = File::create(path).expect("a file");
            file.write_all(&content.bytes).expect("room");
            file.set_len(content.len).expect("room");
        }
        if !self.1.is_empty() {
            return;
        }
        for empty in ["tables", "blobs"] {
            for keyspace in 0..3 {
                let keyspace = dir.join(format!("store/keyspaces/{keyspace}"));
                if keyspace.is_dir() {
                    let _ = std::fs::create_dir_all(keyspace.join(empty));
                }
            }
        }
    }
}

impl Content {
    /// Of a file with these bytes.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        let used = bytes.iter().rposition(|&b| b != 0).map_or(0, |at| at + 1);
        bytes.truncate(used);
        Self { bytes, len }
    }

    /// Turns over one bit.
    pub fn flip(&mut self, bit: u64) {
        let at = (bit / 8) as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        self.bytes[at] ^= 1 << (bit % 8);
    }
}

/// A folder in memory if the machine has one: syncs cost nothing there.
pub fn fast_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a temporary folder")
}
