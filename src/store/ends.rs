//! The ends of the storage engine's files of values: what is in a file and where, whose values they are, how many. No store opens without those of all its files.
//! The values before them have no second copy, since they are the data; these some hundred bytes have.
//!
//! A copy is a value in a frame (docs/formats/keys.md): the file's length and the bytes of its end, under the checksum that the list has of the
//! whole file. So it cannot be taken for the copy of another file, also of one that had the same number. What is in here of files of values follows lsm-tree 3.1.10.

use super::{files, frame};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// Of a copy.
const VERSION: u8 = 1;
/// No end is longer: two keys of 64 KiB, and some hundred bytes.
const END_BYTES_MAX: u64 = 1 << 18;
/// The section in which the end begins, and what stands at its start.
const SECTION: &[u8] = b"meta";
const SECTION_START: &[u8; 4] = b"META";
/// Of the block in that section: magic, type, checksum of what follows the header, its length twice, checksum of the header.
const BLOCK_HEADER_BYTES: usize = 33;

/// The end of a file.
struct End {
    /// How long the file is.
    len: u64,
    /// Everything from its metadata on.
    bytes: Vec<u8>,
}

impl End {
    fn start(&self) -> u64 {
        self.len - self.bytes.len() as u64
    }
}

/// Can the storage engine open a file with this end?
///
/// # Errors
/// Input/output.
pub fn opens(path: &Path) -> io::Result<bool> {
    Ok(read(path, false)?.is_some())
}

/// Is the end of this file as it was written, to the last bit?
///
/// # Errors
/// Input/output.
pub fn is_exact(path: &Path) -> io::Result<bool> {
    Ok(read(path, true)?.is_some())
}

/// Gives `to` a copy of the end of the file, durably, if that end is as it was written; says whether it is.
///
/// # Errors
/// Input/output.
pub fn copy(from: &Path, to: &Path, checksum: u128) -> io::Result<bool> {
    let Some(end) = read(from, true)? else {
        return Ok(false);
    };
    let mut value = frame::begin(VERSION);
    value.extend_from_slice(&end.len.to_le_bytes());
    value.extend_from_slice(&end.bytes);
    files::replace(to, &frame::finish(&checksum.to_le_bytes(), value))?;
    Ok(true)
}

/// Is this, as it was written, the copy of the end of the file with this checksum?
pub fn is_copy(copy: &Path, checksum: u128) -> bool {
    read_copy(copy, checksum).is_ok_and(|end| end.is_some())
}

/// Gives a file its end back, and its length, if they are not as they were written and the copy is. `keep` is given the file and where what is replaced begins. Bytes
/// that are missing before the end; `None` when nothing was done. A file that is not there is left so.
///
/// # Errors
/// Input/output, and what `keep` gives.
pub fn put_back(
    copy: &Path,
    path: &Path,
    checksum: u128,
    keep: &mut files::Keep<'_>,
) -> io::Result<Option<u64>> {
    if !path.try_exists()? || is_exact(path)? {
        return Ok(None);
    }
    let Some(end) = read_copy(copy, checksum)? else {
        return Ok(None);
    };
    let len = path.metadata()?.len();
    if len > end.start() {
        keep(path, end.start())?;
    }
    write(&File::options().write(true).open(path)?, &end)?;
    Ok(Some(end.start().saturating_sub(len)))
}

/// Makes a file that is not there, with nothing but zeroes and its end in it; says whether the copy is as it was written. The storage engine opens it, and
/// reads no value from it: zeroes are none.
///
/// # Errors
/// Input/output.
pub fn stand_in(copy: &Path, path: &Path, checksum: u128) -> io::Result<bool> {
    let Some(end) = read_copy(copy, checksum)? else {
        return Ok(false);
    };
    write(&File::create_new(path)?, &end)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(true)
}

/// IMPORTANT: in place, since the file may be long. Whoever is interrupted here finds the copy again.
fn write(file: &File, end: &End) -> io::Result<()> {
    file.set_len(end.len)?;
    file.write_all_at(&end.bytes, end.start())?;
    file.sync_all()
}

/// The end of a file, if the storage engine can read it; if `exact`, only if it is as it was written, to the last bit.
fn read(path: &Path, exact: bool) -> io::Result<Option<End>> {
    // IMPORTANT: first, for it is believed below what it says of its lengths.
    if !files::ends_soundly(path)? {
        return Ok(None);
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let Ok(archive) = sfa::Reader::from_reader(&mut &file) else {
        return Ok(None);
    };
    let section = archive.toc().section(SECTION);
    let Some((start, section)) = section.map(|section| (section.pos(), section.len())) else {
        return Ok(None);
    };
    let Some(size) = len.checked_sub(start).filter(|size| *size <= END_BYTES_MAX) else {
        return Ok(None);
    };
    let mut bytes = vec![0; size as usize];
    file.read_exact_at(&mut bytes, start)?;
    let contents = size
        .checked_sub(section)
        .and_then(|rest| rest.checked_sub(files::TRAILER_BYTES as u64));
    let Some(contents) = contents else {
        return Ok(None);
    };
    // How long the table of contents is stands at the very end, and nobody reads it.
    let is_exact = bytes.ends_with(&contents.to_le_bytes());
    let is_sound = is_metadata(&bytes[..section as usize]) && (is_exact || !exact);
    Ok(is_sound.then_some(End { len, bytes }))
}

/// Do all of these bytes match the checksums among them?
fn is_metadata(section: &[u8]) -> bool {
    let Some(block) = section.strip_prefix(SECTION_START) else {
        return false;
    };
    let Some((header, content)) = block.split_first_chunk::<BLOCK_HEADER_BYTES>() else {
        return false;
    };
    let (header, own) = header.split_last_chunk::<4>().expect("33 bytes");
    let (_, about) = header.split_at(5);
    let (checksum, lengths) = about.split_first_chunk::<16>().expect("24 bytes");
    let length = lengths.first_chunk().expect("8 bytes");
    // The low half of the low half is all that is kept of it.
    (xxh3_128(header) as u32).to_le_bytes() == *own
        && u32::from_le_bytes(*length) as usize == content.len()
        && xxh3_128(content).to_le_bytes() == *checksum
}

fn read_copy(copy: &Path, checksum: u128) -> io::Result<Option<End>> {
    match copy.metadata() {
        Ok(meta) if meta.len() <= END_BYTES_MAX * 2 => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let value = std::fs::read(copy)?;
    let Ok(content) = frame::open(&checksum.to_le_bytes(), &value, VERSION) else {
        return Ok(None);
    };
    let end = content.split_first_chunk().map(|(len, bytes)| End {
        len: u64::from_le_bytes(*len),
        bytes: bytes.to_vec(),
    });
    Ok(end.filter(|end| end.len >= end.bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::Engine;
    use std::path::PathBuf;

    /// A file of values of a real store.
    fn example(dir: &Path) -> PathBuf {
        let engine = Engine::open(dir).expect("a new store");
        let long = [b"v".repeat(9000), b"w".repeat(9000)];
        let put = engine.ingest(|sink| {
            for (i, value) in long.iter().enumerate() {
                sink.write(&[i as u8; 12], value.clone())?;
            }
            Ok(())
        });
        put.expect("room");
        drop(engine);
        let files = std::fs::read_dir(dir.join("keyspaces/2/blobs")).expect("a keyspace");
        let mut paths = files.map(|entry| entry.expect("a file").path());
        paths.next().expect("long values are in files of their own")
    }

    #[test]
    fn every_flipped_bit_of_an_end_or_a_copy_is_found() {
        const CHECKSUM: u128 = 77;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = example(&dir.path().join("store"));
        let (bad, copied) = (dir.path().join("bad"), dir.path().join("copy"));
        assert!(copy(&path, &copied, CHECKSUM).expect("room"));
        assert!(is_copy(&copied, CHECKSUM) && !is_copy(&copied, CHECKSUM + 1));
        let whole = std::fs::read(&path).expect("a file");
        let end = read(&path, true).expect("a file").expect("a sound one");
        assert!(whole.ends_with(&end.bytes) && whole.len() as u64 == end.len);
        assert!(
            (100..2000).contains(&end.bytes.len()),
            "{} bytes",
            end.bytes.len()
        );
        let mut opened = 0;
        for bit in end.start() * 8..end.len * 8 {
            let mut bytes = whole.clone();
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            std::fs::write(&bad, bytes).expect("room");
            assert!(!is_exact(&bad).expect("a file"), "bit {bit}");
            opened += u32::from(opens(&bad).expect("a file"));
            assert!(
                !copy(&bad, &dir.path().join("other"), CHECKSUM).expect("a file"),
                "bit {bit}"
            );
            let mut kept = None;
            let mut keep = |_: &Path, from: u64| {
                kept = Some(from);
                Ok(())
            };
            let missing = put_back(&copied, &bad, CHECKSUM, &mut keep).expect("room");
            assert_eq!((missing, kept), (Some(0), Some(end.start())), "bit {bit}");
            assert!(std::fs::read(&bad).expect("a file") == whole, "bit {bit}");
        }
        assert_eq!(
            opened, 64,
            "only what nobody reads: the length of the table of contents"
        );
        for len in 0..whole.len() {
            if !len.is_multiple_of(100) && (len as u64) < end.start() {
                continue;
            }
            std::fs::write(&bad, &whole[..len]).expect("room");
            assert!(!opens(&bad).expect("a file"), "length {len}");
        }
        let sound = std::fs::read(&copied).expect("a file");
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&copied, bytes).expect("room");
            assert!(!is_copy(&copied, CHECKSUM), "bit {bit}");
            assert!(
                !stand_in(&copied, &dir.path().join("new"), CHECKSUM).expect("room"),
                "bit {bit}"
            );
        }
    }
}
