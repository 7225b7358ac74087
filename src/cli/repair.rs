//! The second half of `kymo verify --repair`. Whatever is changed or removed is copied to DIR/quarantine first.

use super::verify::settle;
use crate::journal::disk::Folder;
use crate::journal::replay::replay;
use crate::store::repair::Lost;
use crate::store::{Store, StoreOptions, files};
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::{Path, PathBuf};

/// Bytes of cache: every block is read once.
const CACHE_BYTES: usize = 16 << 20;

/// Repairs what can be repaired.
///
/// # Errors
/// Input/output; a store that does not open even so.
pub fn repair(dir: &Path) -> anyhow::Result<()> {
    let store = dir.join("store");
    let mut keep_file = |path: &Path, from: u64| keep(dir, path, from);
    for back in files::put_back(&store, u64::MAX, &mut keep_file)? {
        println!("{}: {}", back.path.display(), back.what);
    }
    for path in files::repair_lists(&store, &mut keep_file)? {
        println!("{}: made anew", path.display());
    }
    let missing = files::stand_in(&store)?;
    for path in &missing {
        println!(
            "{}: it is missing; its end was put back from its copy",
            path.display()
        );
    }
    let folder = dir.join("journal");
    if folder.is_dir() {
        let mut damaged = replay(&Folder::open(&folder)?, 0, |_, _| Ok(()))?.damage;
        damaged.dedup_by(|a, b| a.file == b.file);
        for damage in damaged {
            keep(dir, &folder.join(&damage.file), 0).context("cannot keep a damaged segment")?;
        }
    }
    repair_runs(dir, &missing)?;
    // What is sound in the journal goes into the store, and the journal's files go.
    settle(dir).context("the store does not open: restore a backup")
}

/// Rewrites runs around what is damaged in them, after keeping the files they are in, but for those that were missing.
fn repair_runs(dir: &Path, missing: &[PathBuf]) -> anyhow::Result<()> {
    let folder = dir.join("store");
    for flaw in files::check_files(&folder, &mut |_| {})? {
        let path = Path::new(&flaw.place);
        if path.is_file() && !missing.iter().any(|missing| missing == path) {
            keep(dir, path, 0).context("cannot keep a damaged file")?;
        }
    }
    let mut lost = rewrite(&folder, false)?;
    if !files::check_files(&folder, &mut |_| {})?.is_empty() {
        // What is damaged is in no value, but in a file that must go all the same.
        lost.extend(rewrite(&folder, true)?);
    }
    for lost in &lost {
        println!("lost: {}: {}", lost.place, lost.what);
    }
    if !lost.is_empty() {
        let rows: u64 = lost.iter().map(|lost| lost.rows).sum();
        println!("{rows} rows are lost; everything else of their runs was written again");
    }
    Ok(())
}

fn rewrite(folder: &Path, all: bool) -> anyhow::Result<Vec<Lost>> {
    let options = StoreOptions {
        cache_bytes: CACHE_BYTES,
        index_cache_bytes: CACHE_BYTES,
    };
    let Ok(store) = Store::open(folder, options, &mut |_| {}) else {
        // Opening it as the server does comes next, and says why.
        return Ok(Vec::new());
    };
    let rows = store.runs().runs().iter().map(|run| run.entry.rows).sum();
    let bar = ProgressBar::new(rows);
    bar.set_style(
        ProgressStyle::with_template("{bar:30} {pos}/{len} rows {eta}").context("a fixed template")?,
    );
    let lost = store.repair_runs(all, &mut |rows| bar.inc(rows));
    bar.finish_and_clear();
    lost.context("cannot rewrite a run")
}

/// Copies what a file has from a byte on to the quarantine.
fn keep(dir: &Path, path: &Path, from: u64) -> std::io::Result<()> {
    let to = files::keep_in(&dir.join("quarantine"), dir, path, from)?;
    let what = if from > 0 { "its end" } else { "a copy" };
    println!("{}: {what} is kept in {}", path.display(), to.display());
    Ok(())
}
