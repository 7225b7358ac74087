//! `kymo backup` and `kymo restore`: a data folder copied as it was at one moment, while the server runs or not.
//!
//! The server need not help. Files of the store never change once they are listed, so a copy is consistent when both lists
//! were the same before and after; if not, what is new is copied and they are compared again. The journal is copied first:
//! what it had and the store's copy has as well is passed over at the next replay. A backup into the same folder again
//! copies only what is new.

use crate::engine::{attempt, losses};
use crate::store::files::{Flaw, check_files, check_lists, current_lists, names_of};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `kymo backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// The data folder; its server may run
    #[arg(long, value_name = "DIR", env = "KYMO_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Where the backup goes: a folder that is empty, new, or an earlier backup, which is brought up to date
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// Flags of `kymo restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The data folder to make; it must not be there, or be empty
    #[arg(long, value_name = "DIR", env = "KYMO_DATA_DIR")]
    pub data_dir: PathBuf,
}

/// Rounds until the lists hold still; each copies only what the one before did not have.
const ROUNDS_MAX: u32 = 100;
/// Between rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// A file of the backup says that it is whole.
const COMPLETE: &str = "BACKUP";

/// Makes or updates a backup.
///
/// # Errors
/// Input/output; a data folder that is damaged, or that never holds still.
pub fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let (from, to) = (&args.data_dir, &args.to);
    if !from.join("store").is_dir() {
        bail!("{} is no data folder of kymo", from.display());
    }
    let known = to.join(COMPLETE).is_file() || to.join("store").is_dir();
    if to.is_dir() && !known && to.read_dir()?.next().is_some() {
        bail!("{} is neither empty nor a backup", to.display());
    }
    std::fs::create_dir_all(to)?;
    let _ = std::fs::remove_file(to.join(COMPLETE));
    let bar = progress();
    let mut copied = 0;
    for _ in 0..ROUNDS_MAX {
        let before = current_lists(&from.join("store"))?;
        let outcome = copy_once(from, to, &mut |bytes| {
            copied += bytes;
            bar.inc(bytes);
        });
        match outcome {
            Ok(()) if current_lists(&from.join("store"))? == before => {
                bar.finish_and_clear();
                return complete(to, copied);
            }
            // A file went away while it was copied, or came to be: once more.
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot copy"),
        }
        std::thread::sleep(ROUND_PAUSE);
    }
    bail!("the store changed during {ROUNDS_MAX} attempts to copy it; try again when less is written")
}

fn complete(to: &Path, copied: u64) -> anyhow::Result<()> {
    sound(to).context("the copy is damaged, and so may the data folder be: see kymo verify")?;
    std::fs::write(to.join(COMPLETE), format!("kymo {}\n", env!("CARGO_PKG_VERSION")))?;
    sync_tree(to)?;
    println!("backup in {}: {} copied, sound", to.display(), HumanBytes(copied));
    Ok(())
}

/// Makes a data folder of a backup.
///
/// # Errors
/// Input/output; a backup that is damaged or not whole.
pub fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let (from, to) = (&args.from, &args.data_dir);
    if !from.join(COMPLETE).is_file() {
        bail!("{} is no backup that was finished", from.display());
    }
    if to.is_dir() && to.read_dir()?.next().is_some() {
        bail!("{} is not empty; move it away first", to.display());
    }
    sound(from).context("the backup is damaged")?;
    let bar = progress();
    std::fs::create_dir_all(to)?;
    copy_once(from, to, &mut |bytes| bar.inc(bytes)).context("cannot copy")?;
    bar.finish_and_clear();
    sound(to).context("what was written is not what was read")?;
    sync_tree(to)?;
    println!("restored into {}", to.display());
    Ok(())
}

fn progress() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}");
    let bar = ProgressBar::new_spinner();
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar
}

fn sound(dir: &Path) -> anyhow::Result<()> {
    let flaws = check_files(&dir.join("store"), &mut |_| {})?;
    match flaws.first() {
        None => Ok(()),
        Some(Flaw { place, reason }) => Err(anyhow!("{place}: {reason}")),
    }
}

/// Copies everything that is not there yet, and removes what is there and is not in `from` any more.
fn copy_once(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    copy_journal(&from.join("journal"), &to.join("journal"), copied)?;
    for sequence in attempt::aside(from)? {
        let name = attempt::file_name(sequence);
        copied(std::fs::copy(from.join(&name), to.join(&name))?);
    }
    if from.join(losses::NAME).is_file() {
        copied(std::fs::copy(from.join(losses::NAME), to.join(losses::NAME))?);
    }
    let (from, to) = (from.join("store"), to.join("store"));
    check_lists(&from).map_err(|error| match error {
        // A list was replaced between two reads of it.
        _ if from.is_dir() => io::Error::new(io::ErrorKind::NotFound, error.to_string()),
        other => io::Error::other(other.to_string()),
    })?;
    let names = names_of(&from)?;
    for name in &names {
        let (source, target) = (from.join(name), to.join(name));
        if let Some(folder) = target.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let immutable = name
            .components()
            .any(|c| c.as_os_str() == "tables" || c.as_os_str() == "blobs");
        let same = target
            .metadata()
            .is_ok_and(|t| source.metadata().is_ok_and(|s| s.len() == t.len()));
        if !(immutable && same) {
            copied(std::fs::copy(&source, &target)?);
        }
    }
    // The storage engine wants its folders, empty or not.
    for keyspace in std::fs::read_dir(from.join("keyspaces"))? {
        let keyspace = keyspace?.path();
        for folder in ["tables", "blobs"].map(|name| keyspace.join(name)) {
            if let (true, Ok(below)) = (folder.is_dir(), folder.strip_prefix(&from)) {
                std::fs::create_dir_all(to.join(below))?;
            }
        }
    }
    let wanted: BTreeSet<PathBuf> = names.into_iter().collect();
    for name in names_of_copy(&to, Path::new(""))? {
        if !wanted.contains(&name) {
            std::fs::remove_file(to.join(name))?;
        }
    }
    Ok(())
}

fn names_of_copy(root: &Path, below: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    if !root.join(below).is_dir() {
        return Ok(names);
    }
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            names.extend(names_of_copy(root, &name)?);
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

/// A segment that is given up or written anew while it is copied is left out: the store had all of it before that.
fn copy_journal(from: &Path, to: &Path, copied: &mut dyn FnMut(u64)) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(to)? {
        std::fs::remove_file(entry?.path())?;
    }
    if !from.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "journal") {
            continue;
        }
        let target = to.join(path.file_name().unwrap_or_default());
        let Ok(file) = File::open(&path) else { continue };
        let inode = file.metadata()?.ino();
        let mut out = File::create(&target)?;
        copied(io::copy(&mut &file, &mut out)?);
        if !path.metadata().is_ok_and(|m| m.ino() == inode) {
            std::fs::remove_file(&target)?;
        }
    }
    Ok(())
}

fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}
