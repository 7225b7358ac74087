//! A second copy of the few small files of the storage engine without which nothing at all can be read: the lists of each keyspace's
//! files, the keyspace that knows the others, and the one of names. One flipped bit in there must not take years of points away.
//!
//! The files are immutable once a list names them, so a copy is a copy for ever: `mirror/KEYSPACE/..`, below the store's folder, under the same
//! names. Made after every seal and merge; a copy is named only once it is durable, and only if it has the checksum that the list has. Before
//! fjall opens, a file that differs from its checksum is put back from its copy; `kymo verify` compares the copies as well.

use super::files::{self, Flaw};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder, in the store's.
const FOLDER: &str = "mirror";
/// Of these keyspaces every file is copied, not only the list: the one that knows the others, and that of names.
const WHOLE: [u64; 2] = [0, 1];
/// No longer file is copied: names are short, but somebody may have a million of them.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Keeps the copies of a store that is open.
#[derive(Debug)]
pub struct Mirror {
    dir: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// What the lists were called when the copies were last complete.
    lists: Vec<Option<Vec<u8>>>,
    /// Copies that are known to be good.
    good: BTreeSet<PathBuf>,
}

/// One file that has a copy.
struct Part {
    /// Below the store's folder.
    original: PathBuf,
    /// Below the store's folder.
    copy: PathBuf,
    checksum: u128,
}

impl Mirror {
    /// Of the store in this folder.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            seen: Mutex::default(),
        }
    }

    /// Copies what is new, removes what is not needed any more. Cheap when nothing has changed. What fails is tried again the next time.
    pub fn update(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.try_update(&mut seen) {
            tracing::debug!(%error, "the copies of the storage engine's lists and names are not complete yet");
        }
    }

    fn try_update(&self, seen: &mut Seen) -> io::Result<()> {
        let lists = files::current_lists(&self.dir)?;
        if lists == seen.lists {
            return Ok(());
        }
        let mut wanted = BTreeSet::new();
        for part in parts(&self.dir)? {
            let copy = self.dir.join(&part.copy);
            wanted.insert(copy.clone());
            if seen.good.contains(&copy) || is(&copy, part.checksum) {
                seen.good.insert(copy);
                continue;
            }
            let content = std::fs::read(self.dir.join(&part.original))?;
            if files::checksum_of(&content) != part.checksum {
                // Damage: told of elsewhere. A copy that is there is better.
                continue;
            }
            if let Some(folder) = copy.parent() {
                std::fs::create_dir_all(folder)?;
            }
            files::replace(&copy, &content)?;
            seen.good.insert(copy);
        }
        // Only if nothing was committed meanwhile is it known what is not needed.
        if files::current_lists(&self.dir)? == lists {
            for copy in copies(&self.dir.join(FOLDER))? {
                if !wanted.contains(&copy) {
                    std::fs::remove_file(&copy)?;
                }
            }
            seen.good = wanted;
            seen.lists = lists;
        }
        Ok(())
    }
}

/// Puts files back from their copies. `keep` is given each damaged file before it is changed. What was put back.
///
/// # Errors
/// Input/output, and what `keep` gives.
pub fn put_back(dir: &Path, keep: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    // The lists first: they say what the others must be.
    for keyspace in files::keyspaces(dir)? {
        let Some((list, checksum)) = files::list_named(&keyspace)? else {
            continue;
        };
        restore(dir, &list, checksum, keep, &mut made)?;
    }
    for keyspace in files::keyspaces(dir)? {
        for (path, checksum) in whole_files(&keyspace) {
            restore(dir, &path, checksum, keep, &mut made)?;
        }
    }
    Ok(made)
}

fn restore(
    dir: &Path,
    path: &Path,
    checksum: u128,
    keep: &mut dyn FnMut(&Path) -> io::Result<()>,
    made: &mut Vec<PathBuf>,
) -> io::Result<()> {
    let Some(copy) = copy_of(dir, path) else {
        return Ok(());
    };
    if is(path, checksum) || !is(&copy, checksum) {
        return Ok(());
    }
    if path.try_exists()? {
        keep(path)?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    files::replace(path, &std::fs::read(&copy)?)?;
    made.push(path.to_path_buf());
    Ok(())
}

/// Copies that are not as they were written.
///
/// # Errors
/// Input/output.
pub fn check(dir: &Path) -> io::Result<Vec<Flaw>> {
    let mut flaws = Vec::new();
    for part in parts(dir)? {
        let copy = dir.join(&part.copy);
        if copy.try_exists()? && !is(&copy, part.checksum) {
            flaws.push(Flaw {
                place: copy.display().to_string(),
                reason: "a copy that differs from what it was made of".to_string(),
            });
        }
    }
    Ok(flaws)
}

/// What has, or is to have, a copy. Keyspaces whose list is not sound are left out.
fn parts(dir: &Path) -> io::Result<Vec<Part>> {
    let mut out = Vec::new();
    for keyspace in files::keyspaces(dir)? {
        let list = files::list_named(&keyspace)?;
        for (path, checksum) in list.into_iter().chain(whole_files(&keyspace)) {
            let small = path.metadata().is_ok_and(|meta| meta.len() <= FILE_BYTES_MAX);
            let below = |path: &Path| path.strip_prefix(dir).map(Path::to_path_buf).ok();
            let copy = copy_of(dir, &path).filter(|_| small);
            if let (Some(original), Some(copy)) = (below(&path), copy.and_then(|copy| below(&copy))) {
                out.push(Part {
                    original,
                    copy,
                    checksum,
                });
            }
        }
    }
    Ok(out)
}

/// The files of a keyspace that is copied whole; none of others, and none without a sound list.
fn whole_files(keyspace: &Path) -> Vec<(PathBuf, u128)> {
    let number = keyspace.file_name().and_then(|name| name.to_str()?.parse().ok());
    match number {
        Some(number) if WHOLE.contains(&number) => files::listed_in(keyspace),
        _ => Vec::new(),
    }
}

fn copy_of(dir: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(dir.join("keyspaces")).ok()?;
    Some(dir.join(FOLDER).join(below))
}

fn is(path: &Path, checksum: u128) -> bool {
    std::fs::read(path).is_ok_and(|content| files::checksum_of(&content) == checksum)
}

fn copies(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(copies(&entry.path())?),
            false => found.push(entry.path()),
        }
    }
    Ok(found)
}
