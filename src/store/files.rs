//! fjall's files looked at from outside, without fjall.
//!
//! fjall trusts the file that lists its tables, and when it opens it deletes every table that is not listed. So before it may
//! open, [`check_lists`] compares each list with the checksum that was written beside it; [`check_files`] goes on and compares
//! every file whole with the checksum in its list. What is in here follows fjall 3.1.13 and lsm-tree 3.1.10 (docs/adr/0003).

use super::ends;
use super::error::StoreError;
pub use super::mirror::{PutBack, QUICK_BYTES, What, put_back, stand_in};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
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

/// Is given each file before it is changed, and from which byte on it will be.
pub type Keep<'a> = dyn FnMut(&Path, u64) -> io::Result<()> + 'a;

/// Damaged files that were healed go here, below the store's folder.
const DAMAGED: &str = "damaged";
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
/// The end of an archive: magic, version, kind of checksum, checksum of the table of contents, its place and length.
pub(super) const TRAILER_BYTES: usize = 38;
const TRAILER_START: &[u8; 6] = b"SFA!\x01\0";
/// No honest table of contents is longer.
const CONTENTS_BYTES_MAX: u64 = 1 << 16;
const LINK_BYTES: u64 = 32;
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

/// As [`check_lists`], after putting back what has a copy ([`put_back`]) and making anew what follows from other files. The damaged
/// ones are kept in the folder `damaged`; `bytes_max` is for [`put_back`]. How many there were.
///
/// # Errors
/// As [`check_lists`].
pub fn heal_lists(dir: &Path, bytes_max: u64) -> Result<u64, StoreError> {
    let kept = dir.join(DAMAGED);
    let mut keep = |path: &Path, from: u64| keep_in(&kept, dir, path, from).map(drop);
    let mut healed = 0;
    for back in put_back(dir, bytes_max, &mut keep).map_err(StoreError::Io)? {
        healed += 1;
        let file = back.path.display();
        tracing::error!(%file, "a damaged file of the storage engine: {}", back.what);
    }
    let Err(damage) = check_lists(dir) else {
        return Ok(healed);
    };
    for path in repair_lists(dir, &mut keep).map_err(StoreError::Io)? {
        healed += 1;
        tracing::error!(file = %path.display(), %damage, "a damaged file of the storage engine was made anew");
    }
    check_lists(dir)?;
    Ok(healed)
}

/// Keeps what a file below `dir` has from a byte on in a folder: where.
///
/// # Errors
/// Input/output.
pub fn keep_in(folder: &Path, dir: &Path, path: &Path, from: u64) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let below = path.strip_prefix(dir).unwrap_or(path);
    let end = if from > 0 { "_end" } else { "" };
    let kept = folder.join(below.to_string_lossy().replace('/', "_") + end);
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    io::copy(&mut file, &mut File::create(&kept)?)?;
    Ok(kept)
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

/// fjall does not open a store without its empty lock file, which no backup has.
///
/// # Errors
/// Input/output.
pub fn make_lock(dir: &Path) -> io::Result<()> {
    if dir.join("version").try_exists()? {
        File::options().create(true).append(true).open(dir.join("lock"))?;
    }
    Ok(())
}

/// What every keyspace's `current` says now: as long as that stays the same, so does everything that is listed.
///
/// # Errors
/// Input/output.
pub fn current_lists(dir: &Path) -> io::Result<Vec<Option<Vec<u8>>>> {
    let keyspaces = sorted(&dir.join("keyspaces"))?;
    Ok(keyspaces
        .iter()
        .map(|keyspace| std::fs::read(keyspace.join("current")).ok())
        .collect())
}

/// The names, below `dir`, of every file that belongs to the store: what a copy needs.
///
/// # Errors
/// Input/output; [`io::ErrorKind::NotFound`] when a list changes meanwhile.
pub fn names_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![dir.join("version")];
    for keyspace in sorted(&dir.join("keyspaces"))? {
        let current = keyspace.join("current");
        if !current.try_exists()? {
            continue;
        }
        let changed = |wrong: Flaw| io::Error::new(io::ErrorKind::NotFound, wrong.reason);
        let listed = list_of(&keyspace).map_err(changed)?;
        let number = number_in(&std::fs::read(&current)?);
        paths.push(keyspace.join(format!("v{}", number.unwrap_or_default())));
        paths.push(current);
        paths.extend(listed.into_iter().map(|file| file.path));
    }
    let below = |path: PathBuf| path.strip_prefix(dir).map(Path::to_path_buf).unwrap_or(path);
    Ok(paths.into_iter().map(below).collect())
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
    if super::making::is_unmade(dir)? {
        return Ok(files);
    }
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
            } else if !opens(&file.path)? {
                flaws.push(flaw(&file.path, "its end is damaged"));
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

/// Can the storage engine open this table or file of values, as far as its end goes?
pub(super) fn opens(path: &Path) -> io::Result<bool> {
    let has_values = path.parent().is_some_and(|folder| folder.ends_with("blobs"));
    match has_values {
        true => ends::opens(path),
        false => ends_soundly(path),
    }
}

/// Does the end of an archive, which says where its parts are, match its own checksum? Those who read archives believe what
/// it says of its length, and ask for as much memory.
pub(super) fn ends_soundly(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut trailer = [0; TRAILER_BYTES];
    let Some(end) = len.checked_sub(TRAILER_BYTES as u64) else {
        return Ok(false);
    };
    file.read_exact_at(&mut trailer, end)?;
    let number = |at: usize| u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes"));
    let checksum = u128::from_le_bytes(trailer[6..22].try_into().expect("sixteen bytes"));
    let start = number(22);
    let Some(size) = end.checked_sub(start).filter(|size| *size <= CONTENTS_BYTES_MAX) else {
        return Ok(false);
    };
    let mut contents = vec![0; size as usize];
    file.read_exact_at(&mut contents, start)?;
    let mut hash = Xxh3Default::new();
    hash.update(&contents);
    if trailer[..6] != *TRAILER_START || hash.digest128() != checksum {
        return Ok(false);
    }
    links_fit(&file)
}

/// The list of blob files that a table points to has no checksum of its own, and says how long it is.
fn links_fit(mut file: &File) -> io::Result<bool> {
    let Ok(archive) = sfa::Reader::from_reader(&mut file) else {
        return Ok(false);
    };
    let Some(links) = archive.toc().section(b"linked_blob_files") else {
        return Ok(true);
    };
    let mut count = [0; 4];
    file.read_exact_at(&mut count, links.pos())?;
    Ok(links.len() == 4 + u64::from(u32::from_le_bytes(count)) * LINK_BYTES)
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

/// The folders of the keyspaces.
///
/// # Errors
/// Input/output.
pub fn keyspaces(dir: &Path) -> io::Result<Vec<PathBuf>> {
    sorted(&dir.join("keyspaces"))
}

/// The list that a keyspace's `current` names, and the checksum it must have; `None` when `current` says neither.
///
/// # Errors
/// Input/output.
pub fn list_named(keyspace: &Path) -> io::Result<Option<(PathBuf, u128)>> {
    let bytes = match std::fs::read(keyspace.join("current")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok([list @ .., 0]) = <[u8; CURRENT_BYTES]>::try_from(bytes) else {
        return Ok(None);
    };
    let (number, checksum) = list.split_at(8);
    let number = u64::from_le_bytes(number.try_into().expect("eight bytes"));
    let checksum = u128::from_le_bytes(checksum.try_into().expect("sixteen bytes"));
    Ok(Some((keyspace.join(format!("v{number}")), checksum)))
}

/// The number of the list that `current` names with this content.
pub fn number_in(current: &[u8]) -> Option<u64> {
    current.first_chunk().map(|number| u64::from_le_bytes(*number))
}

/// What `current` says when it names the list with this number, and the files on that list; `None` when it is no list.
///
/// # Errors
/// Input/output.
pub fn list_numbered(keyspace: &Path, number: u64) -> io::Result<Option<(Vec<u8>, BTreeSet<PathBuf>)>> {
    let list = keyspace.join(format!("v{number}"));
    if !ends_soundly(&list)? {
        return Ok(None);
    }
    let content = std::fs::read(list)?;
    let files = parse(&content, keyspace);
    Ok(files.map(|files| {
        let paths = files.into_iter().map(|file| file.path).collect();
        (current_of(number, &content), paths)
    }))
}

/// What `current` says when it names a list with this content.
fn current_of(number: u64, list: &[u8]) -> Vec<u8> {
    let mut current = number.to_le_bytes().to_vec();
    current.extend_from_slice(&checksum_of(list).to_le_bytes());
    current.push(0);
    current
}

/// The files that a keyspace's list names, with their checksums; none when the list is not sound.
pub fn listed_in(keyspace: &Path) -> Vec<(PathBuf, u128)> {
    let listed = list_of(keyspace).unwrap_or_default();
    listed
        .into_iter()
        .map(|file| (file.path, file.checksum))
        .collect()
}

/// The checksum of a content, as lists have it.
pub fn checksum_of(content: &[u8]) -> u128 {
    let mut hash = Xxh3Default::new();
    hash.update(content);
    hash.digest128()
}

/// Makes files anew that follow from others: the version marker, and a keyspace's `current`, when a list is there of which
/// every file is as it says. `keep` is given each file before it is changed. What was made anew.
///
/// # Errors
/// Input/output, and what `keep` gives.
pub fn repair_lists(dir: &Path, keep: &mut Keep<'_>) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for keyspace in sorted(&dir.join("keyspaces"))? {
        let current = keyspace.join("current");
        if !current.try_exists()? || list_of(&keyspace).is_ok() {
            continue;
        }
        let Some(content) = sound_list(&keyspace, &std::fs::read(&current)?)? else {
            continue;
        };
        keep(&current, 0)?;
        replace(&current, &content)?;
        made.push(current);
    }
    let marker = dir.join("version");
    if marker.try_exists()? && std::fs::read(&marker)? != MARKER {
        keep(&marker, 0)?;
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
        let current = current_of(number, &content);
        let bits: u32 = current
            .iter()
            .zip(damaged)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        // IMPORTANT: before the list is parsed, which a damaged one may turn into a request for all memory.
        if damaged.len() != current.len() || bits > ROTTEN_BITS_MAX {
            continue;
        }
        let sound = |file: &Listed| checksum(&file.path, &mut |_| {}).is_ok_and(|c| c == file.checksum);
        if parse(&content, keyspace).is_some_and(|files| files.iter().all(sound)) {
            return Ok(Some(current));
        }
    }
    Ok(None)
}

/// Gives a file the content of another, durably, if that has this checksum; says whether it has.
///
/// # Errors
/// Input/output.
pub(super) fn copy_checked(from: &Path, to: &Path, checksum: u128) -> io::Result<bool> {
    let new = to.with_extension("new");
    let (mut source, mut target) = (File::open(from)?, File::create(&new)?);
    let mut buffer = vec![0; READ_BYTES];
    let mut hash = Xxh3Default::new();
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                target.write_all(&buffer[..count])?;
            }
        }
    }
    if hash.digest128() != checksum {
        std::fs::remove_file(&new)?;
        return Ok(false);
    }
    target.sync_all()?;
    std::fs::rename(&new, to)?;
    if let Some(folder) = to.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(true)
}

/// Gives a file another content, durably: it has the old one or the new one, whole.
///
/// # Errors
/// Input/output.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
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

/// The checksum of a file's content.
pub(super) fn checksum(path: &Path, read: &mut dyn FnMut(u64)) -> io::Result<u128> {
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
