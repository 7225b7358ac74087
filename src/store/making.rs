//! A new store is made whole, or made again. fjall makes its files and those of its keyspaces one after the other, and does not sync every
//! folder in between; what power loss may leave half way it takes for a store, or stumbles over.
//!
//! So a file says that the store is being made: it is there, durably, before anything else, and goes, durably, when all the rest is durable
//! and before anything is written into the store. A folder that has it holds nothing.

use std::fs::File;
use std::io;
use std::path::Path;

/// The file, in the store's folder.
const MARK: &str = "making";

/// Is this store's making not finished, or not begun?
///
/// # Errors
/// Input/output.
pub fn is_unmade(dir: &Path) -> io::Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none() || dir.join(MARK).try_exists()?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Empties the folder and says that a store is being made in it.
///
/// # Errors
/// Input/output.
pub fn begin(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    File::create(dir.join(MARK))?;
    File::open(dir)?.sync_all()?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name() == MARK {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Everything is made.
///
/// # Errors
/// Input/output.
pub fn finish(dir: &Path) -> io::Result<()> {
    sync_folders(dir)?;
    std::fs::remove_file(dir.join(MARK))?;
    File::open(dir)?.sync_all()
}

fn sync_folders(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_made_is_made_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path().join("store");
        assert!(is_unmade(&dir).expect("readable"), "it is not there");
        std::fs::create_dir(&dir).expect("a folder");
        assert!(is_unmade(&dir).expect("readable"), "it is empty");
        begin(&dir).expect("room");
        std::fs::create_dir_all(dir.join("keyspaces/0/tables")).expect("room");
        std::fs::write(dir.join("keyspaces/0/v0"), "half").expect("room");
        std::fs::write(dir.join("0.jnl"), "").expect("room");
        assert!(is_unmade(&dir).expect("readable"));
        begin(&dir).expect("room");
        let left: Vec<_> = std::fs::read_dir(&dir).expect("readable").collect();
        assert_eq!(left.len(), 1, "{left:?}");
        std::fs::write(dir.join("version"), "whole").expect("room");
        finish(&dir).expect("room");
        assert!(!is_unmade(&dir).expect("readable"));
        assert!(dir.join("version").is_file());
    }
}
