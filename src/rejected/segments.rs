//! The ledger's files: frames one after the other, in files of some MiB, the oldest of which are deleted when all are too large. Drawn in
//! docs/formats/rejected.md.

use super::entry::Entry;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// A frame: its length (u32), the checksum of its payload (u64), the payload, whose first byte says what it is.
const HEADER_BYTES: usize = 12;
const ENTRY: u8 = 1;
/// Ids of entries that were taken out.
const REMOVED: u8 = 2;
/// All files together are so many at least, so that deleting the oldest does not empty the ledger.
const FILES_MIN: u64 = 8;
const EXTENSION: &str = "rejected";

/// See the module.
pub struct Segments {
    folder: PathBuf,
    bytes_max: u64,
    /// Oldest first: first id and bytes.
    files: Vec<(u64, u64)>,
    /// The last of them, if it may be written to: one with a torn end may not.
    open: Option<File>,
    next_id: u64,
    /// Frames not yet written.
    buffer: Vec<u8>,
}

impl Segments {
    pub fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let first = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
            if let (Some(first), true) = (first, path.extension().is_some_and(|e| e == EXTENSION)) {
                files.push((first, entry.metadata()?.len()));
            }
        }
        files.sort_unstable();
        let mut segments = Self {
            folder: folder.to_path_buf(),
            bytes_max,
            files,
            open: None,
            next_id: 1,
            buffer: Vec::new(),
        };
        if let Some(&(first, _)) = segments.files.last() {
            // A torn end may hide ids that were given out.
            let mut highest = first;
            let bytes = fs::read(segments.path(first))?;
            let sound = frames(&bytes, |kind, payload| {
                if let (ENTRY, Some(entry)) = (kind, Entry::decode(payload)) {
                    highest = highest.max(entry.id);
                }
            });
            let torn = bytes.len() - sound;
            segments.next_id = highest + 1 + torn as u64;
            if torn == 0 {
                segments.open = Some(File::options().append(true).open(segments.path(first))?);
            }
        }
        Ok(segments)
    }

    fn path(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:016x}.{EXTENSION}"))
    }

    /// The files, oldest first.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(first, _)| self.path(*first)).collect()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Gives entries their ids and takes them, to be written at [`sync`](Self::sync).
    pub fn add(&mut self, entries: Vec<Entry>) {
        for mut entry in entries {
            entry.id = self.next_id;
            self.next_id += 1;
            self.frame(ENTRY, |payload| entry.encode(payload));
        }
    }

    /// Takes note of entries that were taken out.
    pub fn add_removed(&mut self, ids: &[u64]) {
        self.frame(REMOVED, |payload| {
            for id in ids {
                payload.extend(id.to_le_bytes());
            }
        });
    }

    fn frame(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        self.buffer.extend([0; HEADER_BYTES]);
        self.buffer.push(kind);
        write(&mut self.buffer);
        let payload = &self.buffer[start + HEADER_BYTES..];
        let (len, checksum) = (payload.len() as u32, xxh3_64(payload));
        self.buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
        self.buffer[start + 4..start + HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Writes what was added and makes it durable. On an error it is given up.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.write(&buffer);
        if written.is_err() {
            // What the file has now is unknown: go on in a new one.
            self.open = None;
        }
        self.buffer = buffer;
        self.buffer.clear();
        written
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<()> {
        let file_bytes_max = self.bytes_max / FILES_MIN;
        let full = self
            .files
            .last()
            .is_some_and(|(_, bytes)| *bytes >= file_bytes_max);
        if self.open.is_none() || full {
            self.begin()?;
        }
        while self.bytes() + buffer.len() as u64 > self.bytes_max && self.files.len() > 1 {
            let (first, _) = self.files.remove(0);
            fs::remove_file(self.path(first))?;
        }
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        file.write_all(buffer)?;
        if let Some((_, bytes)) = self.files.last_mut() {
            *bytes += buffer.len() as u64;
        }
        file.sync_data()
    }

    fn begin(&mut self) -> io::Result<()> {
        // Higher than any before it, so that names are in order.
        let last = self.files.last().map_or(0, |(first, _)| *first);
        let first = self.next_id.max(last + 1);
        let file = File::options()
            .append(true)
            .create_new(true)
            .open(self.path(first))?;
        File::open(&self.folder)?.sync_all()?;
        self.files.push((first, 0));
        self.open = Some(file);
        Ok(())
    }
}

/// All entries in files that were not taken out, oldest first. A file that was deleted meanwhile is left out.
pub fn read(files: &[PathBuf]) -> io::Result<Vec<Entry>> {
    let (mut entries, mut removed) = (Vec::new(), HashSet::new());
    for path in files {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        frames(&bytes, |kind, payload| match kind {
            ENTRY => entries.extend(Entry::decode(payload)),
            REMOVED => {
                let (ids, _) = payload.as_chunks::<8>();
                removed.extend(ids.iter().map(|id| u64::from_le_bytes(*id)));
            }
            _ => {}
        });
    }
    entries.retain(|entry: &Entry| !removed.contains(&entry.id));
    Ok(entries)
}

/// Every sound frame, up to the first that is none: where that begins.
fn frames(bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> usize {
    let mut rest = bytes;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let Some((payload, after)) = after.split_at_checked(len) else {
            break;
        };
        let Some((kind, content)) = payload.split_first() else {
            break;
        };
        if xxh3_64(payload).to_le_bytes() != header[4..] {
            break;
        }
        each(*kind, content);
        rest = after;
    }
    bytes.len() - rest.len()
}
