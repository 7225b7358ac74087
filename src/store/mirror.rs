//! A second copy of the small files of the storage engine without which much or all could not be read: the lists of each keyspace's
//! files, the keyspace that knows the others, those of names and of series, and the tables of runs (which have the packs' headers and say where in the files of
//! values everything else is; they are about a hundredth of these). One flipped bit in there must not take years of points away.
//!
//! The files are immutable once a list names them, so a copy is a copy for ever: `mirror/KEYSPACE/..`, below the store's folder, under the same
//! names. Made after every seal and merge; a copy is named only once it is durable, and only if it has the checksum that the list has. Before
//! fjall opens, a file that differs from its checksum is put back from its copy: lists and names always, the others as far as they can be looked at quickly, or when
//! the store does not open without. `kymo verify` compares the copies as well.

use super::files::{self, Flaw};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder, in the store's.
const FOLDER: &str = "mirror";
/// The keyspace that knows the others, and that of names: short, and looked at whole before each start.
const NAMES: [u64; 2] = [0, 1];
/// That of runs: of it the tables are copied.
const RUNS: u64 = 2;
/// That of series: all of it is copied.
const SERIES: u64 = 3;
/// A start looks at the other files that have copies only if they are no more bytes than this together: it must not take longer the more there is.
pub const QUICK_BYTES: u64 = 32 << 20;

/// `mirror/KEYSPACE/vN`.
const LIST_DEPTH: usize = 3;

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

impl Part {
    /// Is it neither list nor name?
    fn is_long(&self) -> bool {
        let folder = |name: &str| self.copy.starts_with(Path::new(FOLDER).join(name));
        let is_file = self.copy.components().count() > LIST_DEPTH;
        is_file && (folder(&RUNS.to_string()) || folder(&SERIES.to_string()))
    }
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
            let original = self.dir.join(&part.original);
            // It got its name once it was whole: more of it is not read here, for there may be much of it.
            let is_there = || Ok::<_, io::Error>(length(&copy)? == length(&original)? && part.is_long());
            if seen.good.contains(&copy) || is_there()? || is(&copy, part.checksum) {
                seen.good.insert(copy);
                continue;
            }
            if let Some(folder) = copy.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // If not it is damaged: told of elsewhere. A copy that is there is better.
            if files::copy_checked(&original, &copy, part.checksum)? {
                seen.good.insert(copy);
            }
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

/// Puts files back from their copies. Those that are neither lists nor names are looked at whole only if they are at most so many bytes together; else only
/// what is missing or has lost its end is put back. `keep` is given each damaged file before it is changed. What was put back.
///
/// # Errors
/// Input/output, and what `keep` gives.
pub fn put_back(
    dir: &Path,
    bytes_max: u64,
    keep: &mut dyn FnMut(&Path) -> io::Result<()>,
) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    // The lists first: they say what the others must be.
    for keyspace in files::keyspaces(dir)? {
        let Some((list, checksum)) = files::list_named(&keyspace)? else {
            continue;
        };
        restore(dir, &list, checksum, keep, &mut made)?;
    }
    let (mut long, mut bytes) = (Vec::new(), 0);
    for keyspace in files::keyspaces(dir)? {
        let is_short = number_of(&keyspace).is_some_and(|number| NAMES.contains(&number));
        for (path, checksum) in copied_files(&keyspace) {
            if is_short {
                restore(dir, &path, checksum, keep, &mut made)?;
            } else {
                bytes += length(&path)?.unwrap_or(0);
                long.push((path, checksum));
            }
        }
    }
    for (path, checksum) in long {
        let is_whole = bytes <= bytes_max;
        if is_whole && is(&path, checksum) {
            // A copy that is not one is made again.
            if let Some(copy) = copy_of(dir, &path)
                && copy.try_exists()?
                && !is(&copy, checksum)
            {
                std::fs::remove_file(copy)?;
            }
        } else if is_whole || !(path.try_exists()? && files::ends_soundly(&path)?) {
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
    if is(path, checksum) || !copy.try_exists()? {
        return Ok(());
    }
    if !is(&copy, checksum) {
        return Ok(());
    }
    if path.try_exists()? {
        keep(path)?;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if files::copy_checked(&copy, path, checksum)? {
        made.push(path.to_path_buf());
    }
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
        for (path, checksum) in list.into_iter().chain(copied_files(&keyspace)) {
            let below = |path: &Path| path.strip_prefix(dir).map(Path::to_path_buf).ok();
            let copy = copy_of(dir, &path);
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

/// The files of a keyspace that are copied; none without a sound list.
fn copied_files(keyspace: &Path) -> Vec<(PathBuf, u128)> {
    let Some(number) = number_of(keyspace) else {
        return Vec::new();
    };
    let is_table = |path: &Path| path.parent().is_some_and(|folder| folder.ends_with("tables"));
    let mut listed = files::listed_in(keyspace);
    listed.retain(|(path, _)| match number {
        RUNS => is_table(path),
        _ => number == SERIES || NAMES.contains(&number),
    });
    listed
}

fn number_of(keyspace: &Path) -> Option<u64> {
    keyspace.file_name()?.to_str()?.parse().ok()
}

/// `None`: it is not there.
fn length(path: &Path) -> io::Result<Option<u64>> {
    match path.metadata() {
        Ok(meta) => Ok(Some(meta.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn copy_of(dir: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(dir.join("keyspaces")).ok()?;
    Some(dir.join(FOLDER).join(below))
}

fn is(path: &Path, checksum: u128) -> bool {
    files::checksum(path, &mut |_| {}).is_ok_and(|found| found == checksum)
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
