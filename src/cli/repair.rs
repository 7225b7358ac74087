//! The second half of `kymo verify --repair`. Whatever is changed or removed is copied to DIR/quarantine first.

use super::verify::settle;
use crate::journal::disk::Folder;
use crate::journal::replay::replay;
use crate::store::files;
use anyhow::Context as _;
use std::path::Path;

/// Repairs what can be repaired.
///
/// # Errors
/// Input/output; a store that does not open even so.
pub fn repair(dir: &Path) -> anyhow::Result<()> {
    for path in files::repair_lists(&dir.join("store"), &mut |path| keep(dir, path))? {
        println!("{}: made anew", path.display());
    }
    let folder = dir.join("journal");
    if folder.is_dir() {
        let mut damaged = replay(&Folder::open(&folder)?, 0, |_, _| Ok(()))?.damage;
        damaged.dedup_by(|a, b| a.file == b.file);
        for damage in damaged {
            keep(dir, &folder.join(&damage.file)).context("cannot keep a damaged segment")?;
        }
    }
    // What is sound in the journal goes into the store, and the journal's files go.
    settle(dir).context("the store does not open: restore a backup")
}

/// Copies a file to the quarantine.
fn keep(dir: &Path, path: &Path) -> std::io::Result<()> {
    let quarantine = dir.join("quarantine");
    std::fs::create_dir_all(&quarantine)?;
    let below = path.strip_prefix(dir).unwrap_or(path);
    let name = below.to_string_lossy().replace('/', "_");
    let to = quarantine.join(name);
    std::fs::copy(path, &to)?;
    println!("{}: a copy is kept in {}", path.display(), to.display());
    Ok(())
}
