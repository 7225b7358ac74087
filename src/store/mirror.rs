//! A second copy of the small files of the storage engine without which much or all could not be read: the lists of each keyspace's
//! files, the keyspace that knows the others, those of names and of series, and the tables of runs (which have the packs' headers and say where in the files of
//! values everything else is; they are about a hundredth of these), and the ends of those files of values (`store/ends.rs`). One flipped bit in there must not take
//! years of points away.
//!
//! The files are immutable once a list names them, so a copy is a copy for ever: `mirror/KEYSPACE/..`, below the store's folder, under the same
//! names; those of ends are in `ends`. Made after every seal and merge; a copy is named only once it is durable, and only if it has the checksum that the list has. Before
//! fjall opens, a file that differs from its checksum is put back from its copy: lists and names always, the others as far as they can be looked at quickly, or when
//! the store does not open without. `kymo verify` compares the copies as well.

use super::ends;
use super::files::{self, Flaw, Keep};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The folder, in the store's.
const FOLDER: &str = "mirror";
/// The keyspace that knows the others, and that of names: short, and looked at whole before each start.
const NAMES: [u64; 2] = [0, 1];
/// That of runs: of it the tables are copied, and the ends of the files of values.
const RUNS: u64 = 2;
/// That of series: all of it is copied.
const SERIES: u64 = 3;
/// A start looks at the other files that have copies only if they are no more bytes than this together: it must not take longer the more there is.
pub const QUICK_BYTES: u64 = 32 << 20;

/// `mirror/KEYSPACE/ends/N`: the copy of the end of `keyspaces/KEYSPACE/blobs/N`.
const ENDS: &str = "ends";

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
    original: PathBuf,
    copy: PathBuf,
    /// Of the original, whole.
    checksum: u128,
    of: Of,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A list or a name: looked at whole before each start.
    Short,
    /// Of runs or series.
    Long,
    /// The end of a file of values.
    End,
}

/// A file that is again as it was, or as far as its copy says how it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// The file.
    pub path: PathBuf,
    /// What was done.
    pub what: What,
}

/// What was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// All of it.
    Whole,
    /// The end of a file of values, before which so many bytes are missing.
    End {
        /// Zeroes are there now.
        missing: u64,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => write!(f, "put back from its copy"),
            Self::End { missing: 0 } => write!(f, "its end was put back from its copy"),
            Self::End { missing } => write!(
                f,
                "its end was put back from its copy, the {missing} bytes before it are lost"
            ),
        }
    }
}

impl Part {
    /// Is the original as it was written, as far as it is copied?
    fn is_sound(&self) -> io::Result<bool> {
        match self.of {
            Of::Short | Of::Long => Ok(is(&self.original, self.checksum)),
            Of::End => Ok(self.original.try_exists()? && ends::is_exact(&self.original)?),
        }
    }

    fn is_copied(&self) -> bool {
        match self.of {
            Of::Short | Of::Long => is(&self.copy, self.checksum),
            Of::End => ends::is_copy(&self.copy, self.checksum),
        }
    }

    /// Does a copy of it seem to be there? A copy got its name once it was whole: more of it is not read here, for there may be much of it.
    fn seems_copied(&self) -> io::Result<bool> {
        match self.of {
            Of::Short => Ok(false),
            Of::Long => Ok(length(&self.copy)? == length(&self.original)?),
            Of::End => self.copy.try_exists(),
        }
    }

    /// Says whether the original is as it was written, as far as it is copied.
    fn copy(&self) -> io::Result<bool> {
        if let Some(folder) = self.copy.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match self.of {
            Of::Short | Of::Long => files::copy_checked(&self.original, &self.copy, self.checksum),
            Of::End => ends::copy(&self.original, &self.copy, self.checksum),
        }
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
            wanted.insert(part.copy.clone());
            // If it is not as it was written that is told of elsewhere, and a copy that is there is better.
            if seen.good.contains(&part.copy) || part.seems_copied()? || part.is_copied() || part.copy()? {
                seen.good.insert(part.copy);
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
pub fn put_back(dir: &Path, bytes_max: u64, keep: &mut Keep<'_>) -> io::Result<Vec<PutBack>> {
    let mut made = Vec::new();
    // The lists first: they say what the others must be.
    for keyspace in files::keyspaces(dir)? {
        if let Some(list) = list_part(dir, &keyspace)? {
            restore(&list, keep, &mut made)?;
        }
    }
    let (mut long, mut bytes) = (Vec::new(), 0);
    for keyspace in files::keyspaces(dir)? {
        for part in file_parts(dir, &keyspace) {
            match part.of {
                Of::Short => restore(&part, keep, &mut made)?,
                Of::Long => {
                    bytes += length(&part.original)?.unwrap_or(0);
                    long.push(part);
                }
                Of::End => {
                    bytes += length(&part.copy)?.unwrap_or(0);
                    let missing = ends::put_back(&part.copy, &part.original, part.checksum, keep)?;
                    made.extend(missing.map(|missing| PutBack {
                        path: part.original.clone(),
                        what: What::End { missing },
                    }));
                    long.push(part);
                }
            }
        }
    }
    let is_whole = bytes <= bytes_max;
    for part in long {
        if is_whole && part.is_sound()? {
            // A copy that is not one is made again.
            if part.copy.try_exists()? && !part.is_copied() {
                std::fs::remove_file(&part.copy)?;
            }
        } else if part.of == Of::Long && (is_whole || !has_its_end(&part.original)?) {
            restore(&part, keep, &mut made)?;
        }
    }
    Ok(made)
}

/// Puts a file of zeroes with the right end in the place of each file of values that is missing: what was in it is lost, and the store opens. Not done at a start,
/// which says what is missing, since it may be somewhere else.
///
/// # Errors
/// Input/output.
pub fn stand_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for part in parts(dir)? {
        let is_missing = part.of == Of::End && !part.original.try_exists()?;
        if is_missing && ends::stand_in(&part.copy, &part.original, part.checksum)? {
            made.push(part.original);
        }
    }
    Ok(made)
}

/// Is the file there, and can the storage engine open it as far as its end goes?
fn has_its_end(path: &Path) -> io::Result<bool> {
    Ok(path.try_exists()? && files::opens(path)?)
}

fn restore(part: &Part, keep: &mut Keep<'_>, made: &mut Vec<PutBack>) -> io::Result<()> {
    let Part { original, copy, .. } = part;
    if is(original, part.checksum) || !copy.try_exists()? || !is(copy, part.checksum) {
        return Ok(());
    }
    if original.try_exists()? {
        keep(original, 0)?;
    }
    if let Some(folder) = original.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if files::copy_checked(copy, original, part.checksum)? {
        made.push(PutBack {
            path: original.clone(),
            what: What::Whole,
        });
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
        if part.copy.try_exists()? && !part.is_copied() {
            flaws.push(Flaw {
                place: part.copy.display().to_string(),
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
        out.extend(list_part(dir, &keyspace)?);
        out.extend(file_parts(dir, &keyspace));
    }
    Ok(out)
}

fn list_part(dir: &Path, keyspace: &Path) -> io::Result<Option<Part>> {
    let list = files::list_named(keyspace)?;
    Ok(list.and_then(|(path, checksum)| part(dir, path, checksum, Of::Short)))
}

/// The files of a keyspace that are copied, or their ends; none without a sound list.
fn file_parts(dir: &Path, keyspace: &Path) -> Vec<Part> {
    let number = number_of(keyspace);
    let of = |path: &Path| match number? {
        RUNS if path.parent()?.ends_with("tables") => Some(Of::Long),
        RUNS => Some(Of::End),
        SERIES => Some(Of::Long),
        number => NAMES.contains(&number).then_some(Of::Short),
    };
    let listed = files::listed_in(keyspace).into_iter();
    let parts = listed.filter_map(|(path, checksum)| {
        let of = of(&path)?;
        part(dir, path, checksum, of)
    });
    parts.collect()
}

fn part(dir: &Path, original: PathBuf, checksum: u128, of: Of) -> Option<Part> {
    let below = original.strip_prefix(dir.join("keyspaces")).ok()?;
    let copy = dir.join(FOLDER).join(below);
    let copy = match of {
        Of::Short | Of::Long => copy,
        Of::End => copy.parent()?.with_file_name(ENDS).join(copy.file_name()?),
    };
    Some(Part {
        original,
        copy,
        checksum,
        of,
    })
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
