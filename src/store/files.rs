//! fjall's files looked at from outside, without fjall.
//!
//! fjall trusts the file that lists its tables, and when it opens it deletes every table that is not listed. So before it may
//! open, [`check_lists`] compares each list with the checksum that was written beside it; [`check_files`] goes on and compares
//! every file whole with the checksum in its list. What is in here follows fjall 3.1.13 and lsm-tree 3.1.10 (docs/adr/0003).

use super::error::StoreError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3Default;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// File or value.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// The whole content of fjall's version marker.
const MARKER: &[u8] = b"FJL\x03";
/// The keyspace that knows the names and options of the others.
const META_KEYSPACE: u64 = 0;
/// Bytes at the start of fjall's own journal that must be zero: nothing is ever written into it.
const JOURNAL_HEAD_BYTES: usize = 4096;
/// Bytes of the file `current`: number of the list, its checksum, kind of checksum.
const CURRENT_BYTES: usize = 25;
/// So many bits of `current` may have changed for it to be made anew. Two checksums that have nothing to do with each other
/// differ in 64 of 128 bits, give or take 6.
const ROTTEN_BITS_MAX: u32 = 8;
const READ_BYTES: usize = 1 << 20;

/// A file and the checksum of its content.
struct Listed {
    path: PathBuf,
    checksum: u128,
}

/// May fjall open this folder? A folder that is not there, or was never finished, is fine. Cheap: reads no data.
///
/// # Errors
/// [`StoreError::Damaged`], naming the file; input/output.
pub fn check_lists(dir: &Path) -> Result<(), StoreError> {
    let mut flaws = Vec::new();
    listed_files(dir, &mut flaws).map_err(StoreError::Io)?;
    match flaws.into_iter().next() {
        Some(flaw) => Err(StoreError::damaged(flaw.place, flaw.reason)),
        None => Ok(()),
    }
}

/// As [`check_lists`], after making anew what follows from other files. The damaged ones stay beside them, as `NAME.damaged`.
///
/// # Errors
/// As [`check_lists`].
pub fn heal_lists(dir: &Path) -> Result<(), StoreError> {
    let Err(damage) = check_lists(dir) else {
        return Ok(());
    };
    let mut keep = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        std::fs::copy(path, path.with_file_name(format!("{name}.damaged"))).map(drop)
    };
    for path in repair_lists(dir, &mut keep).map_err(StoreError::Io)? {
        tracing::error!(file = %path.display(), %damage, "a damaged file of the storage engine was made anew");
    }
    check_lists(dir)
}

/// Compares every file with its checksum; `read` hears how many bytes were read. Nothing is changed.
///
/// # Errors
/// Input/output.
pub fn check_files(dir: &Path, read: &mut dyn FnMut(u64)) -> io::Result<Vec<Flaw>> {
    let mut flaws = Vec::new();
    for file in listed_files(dir, &mut flaws)? {
        match checksum(&file.path, read) {
            Ok(found) if found == file.checksum => {}
            Ok(_) => flaws.push(flaw(&file.path, "its content does not match its checksum")),
            Err(error) => flaws.push(flaw(&file.path, error)),
        }
    }
    // The smaller lists were compared already.
    flaws.dedup();
    Ok(flaws)
}

/// Bytes that [`check_files`] reads.
///
/// # Errors
/// Input/output.
pub fn listed_bytes(dir: &Path) -> io::Result<u64> {
    let files = listed_files(dir, &mut Vec::new())?;
    Ok(files
        .iter()
        .map(|file| file.path.metadata().map_or(0, |m| m.len()))
        .sum())
}

/// fjall's own journal is never written. If it is not empty at its start it is damaged, and without worth: it is removed.
///
/// # Errors
/// Input/output.
pub fn remove_damaged_journal(dir: &Path) -> io::Result<()> {
    for path in sorted(dir)?
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "jnl"))
    {
        if journal_is_damaged(&path)? {
            tracing::warn!(file = %path.display(), "the storage engine's unused journal is damaged; it is made anew");
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn journal_is_damaged(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?
        .take(JOURNAL_HEAD_BYTES as u64)
        .read_to_end(&mut head)?;
    Ok(head.iter().any(|&byte| byte != 0))
}

fn flaw(path: &Path, reason: impl ToString) -> Flaw {
    Flaw {
        place: path.display().to_string(),
        reason: reason.to_string(),
    }
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !dir.try_exists()? {
        return Ok(Vec::new());
    }
    let paths = std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Every file that a sound list names and that is there; what is wrong with lists, and what is missing, goes to `flaws`.
fn listed_files(dir: &Path, flaws: &mut Vec<Flaw>) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    let mut any_data = false;
    for keyspace in sorted(&dir.join("keyspaces"))? {
        let name = keyspace.file_name().and_then(|name| name.to_str());
        let Some(number) = name.and_then(|name| name.parse::<u64>().ok()) else {
            flaws.push(flaw(&keyspace, "no folder of the storage engine has such a name"));
            continue;
        };
        let has_data =
            !sorted(&keyspace.join("tables"))?.is_empty() || !sorted(&keyspace.join("blobs"))?.is_empty();
        any_data |= has_data;
        let current = keyspace.join("current");
        if !current.try_exists()? {
            // A keyspace that a crash left half made has no data, and is made again.
            if has_data {
                flaws.push(flaw(&current, "it is missing"));
            }
            continue;
        }
        let listed = match list_of(&keyspace) {
            Ok(listed) => listed,
            Err(wrong) => {
                flaws.push(wrong);
                continue;
            }
        };
        for file in listed {
            if !file.path.try_exists()? {
                flaws.push(flaw(&file.path, "it is missing"));
            } else if number == META_KEYSPACE && checksum(&file.path, &mut |_| {})? != file.checksum {
                flaws.push(flaw(&file.path, "its content does not match its checksum"));
            } else {
                files.push(file);
            }
        }
    }
    let marker = dir.join("version");
    match std::fs::read(&marker) {
        Ok(bytes) if bytes == MARKER => {}
        Ok(_) => flaws.push(flaw(&marker, "not the version this program reads")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if any_data {
                flaws.push(flaw(&marker, "it is missing"));
            }
        }
        Err(error) => flaws.push(flaw(&marker, error)),
    }
    Ok(files)
}

/// The files of a keyspace as its current list has them.
fn list_of(keyspace: &Path) -> Result<Vec<Listed>, Flaw> {
    let current = keyspace.join("current");
    let bytes = std::fs::read(&current).map_err(|error| flaw(&current, error))?;
    let bytes: [u8; CURRENT_BYTES] = bytes
        .try_into()
        .map_err(|_| flaw(&current, "it has another length"))?;
    let (number, rest) = bytes.split_first_chunk::<8>().expect("25 bytes");
    let (wanted, kind) = rest.split_first_chunk::<16>().expect("17 bytes");
    let list = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    let content = match std::fs::read(&list) {
        Ok(content) => content,
        Err(error) => return Err(flaw(&current, format!("{}: {error}", list.display()))),
    };
    let mut hash = Xxh3Default::new();
    hash.update(&content);
    if kind != [0] || hash.digest128() != u128::from_le_bytes(*wanted) {
        return Err(flaw(&current, format!("it does not match {}", list.display())));
    }
    parse(&content, keyspace).ok_or_else(|| flaw(&list, "a list of another shape"))
}

fn parse(content: &[u8], keyspace: &Path) -> Option<Vec<Listed>> {
    let archive = sfa::Reader::from_reader(&mut io::Cursor::new(content)).ok()?;
    let section = |name: &[u8]| {
        let entry = archive.toc().section(name)?;
        let start = usize::try_from(entry.pos()).ok()?;
        content.get(start..start.checked_add(usize::try_from(entry.len()).ok()?)?)
    };
    let mut files = Vec::new();
    let mut tables = section(b"tables")?;
    for _ in 0..take::<1>(&mut tables)?[0] {
        for _ in 0..take::<1>(&mut tables)?[0] {
            for _ in 0..u32::from_le_bytes(take(&mut tables)?) {
                files.push(listed(&mut tables, &keyspace.join("tables"))?);
                let _sequence: [u8; 8] = take(&mut tables)?;
            }
        }
    }
    let mut blobs = section(b"blob_files")?;
    for _ in 0..u32::from_le_bytes(take(&mut blobs)?) {
        files.push(listed(&mut blobs, &keyspace.join("blobs"))?);
    }
    Some(files)
}

fn listed(input: &mut &[u8], folder: &Path) -> Option<Listed> {
    let number = u64::from_le_bytes(take(input)?);
    let [kind] = take(input)?;
    let checksum = u128::from_le_bytes(take(input)?);
    (kind == 0).then(|| Listed {
        path: folder.join(number.to_string()),
        checksum,
    })
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

/// Makes files anew that follow from others: the version marker, and a keyspace's `current`, when a list is there of which
/// every file is as it says. `keep` is given each file before it is changed. What was made anew.
///
/// # Errors
/// Input/output, and what `keep` gives.
pub fn repair_lists(dir: &Path, keep: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for keyspace in sorted(&dir.join("keyspaces"))? {
        let current = keyspace.join("current");
        if !current.try_exists()? || list_of(&keyspace).is_ok() {
            continue;
        }
        let Some(content) = sound_list(&keyspace, &std::fs::read(&current)?)? else {
            continue;
        };
        keep(&current)?;
        replace(&current, &content)?;
        made.push(current);
    }
    let marker = dir.join("version");
    if marker.try_exists()? && std::fs::read(&marker)? != MARKER {
        keep(&marker)?;
        replace(&marker, MARKER)?;
        made.push(marker);
    }
    Ok(made)
}

/// What `current` must say for the newest list of which every file is as it says, if `damaged` differs from that in a few
/// bits. If it differs in more, the list's own content has changed, and no list is better than a wrong one.
fn sound_list(keyspace: &Path, damaged: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix('v')?.parse::<u64>().ok();
    let mut lists: Vec<(u64, PathBuf)> = sorted(keyspace)?
        .into_iter()
        .filter_map(|path| Some((number(&path)?, path)))
        .collect();
    lists.sort();
    for (number, path) in lists.into_iter().rev() {
        let content = std::fs::read(&path)?;
        let Some(files) = parse(&content, keyspace) else {
            continue;
        };
        let sound = |file: &Listed| checksum(&file.path, &mut |_| {}).is_ok_and(|c| c == file.checksum);
        if files.iter().all(sound) {
            let mut hash = Xxh3Default::new();
            hash.update(&content);
            let mut current = number.to_le_bytes().to_vec();
            current.extend_from_slice(&hash.digest128().to_le_bytes());
            current.push(0);
            let bits: u32 = current
                .iter()
                .zip(damaged)
                .map(|(a, b)| (a ^ b).count_ones())
                .sum();
            if damaged.len() == current.len() && bits <= ROTTEN_BITS_MAX {
                return Ok(Some(current));
            }
        }
    }
    Ok(None)
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn checksum(path: &Path, read: &mut dyn FnMut(u64)) -> io::Result<u128> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut hash = Xxh3Default::new();
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest128()),
            count => {
                hash.update(&buffer[..count]);
                read(count as u64);
            }
        }
    }
}
