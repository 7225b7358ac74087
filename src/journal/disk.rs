//! The files under the journal, so that tests can put a simulated disk in their place.

use rustix::fs::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A folder of files.
pub trait Disk: Send {
    /// An open file.
    type File: DiskFile;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of so many zero bytes, with room on the disk for all of them.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;

    /// Opens a file.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file; durable after [`sync_folder`](Self::sync_folder).
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Writes all bytes at an offset.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads up to as many bytes as fit; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the file system.
pub struct Folder {
    path: PathBuf,
    handle: File,
}

/// Zeroes written at a time while a file is made.
const ZERO_BYTES: usize = 1 << 20;
/// Files up to this length are filled with zeroes: small requests wait for nothing but their own bytes. In longer ones room is
/// only allocated, and the first sync of each stretch also tells the file system that it is written now. Whoever fills megabytes
/// would pay more for writing them twice.
const FILLED_BYTES_MAX: u64 = 1 << 20;

impl Folder {
    /// Makes the folder if it is missing.
    ///
    /// # Errors
    /// Input/output.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_folder(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            handle: File::open(path)?,
        })
    }
}

/// Makes a folder, and those above it that are missing, durably: what is synced in a folder whose own name is lost is lost as well.
///
/// # Errors
/// Input/output.
pub fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    make_folder(above)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

impl Disk for Folder {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<File> {
        let path = self.path.join(name);
        let made = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?;
            // Fails early when there is no room; file systems that cannot do it find out while writing.
            let allocated = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len) {
                Ok(()) => true,
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => false,
                Err(error) => return Err(error.into()),
            };
            let filled = if allocated && len > FILLED_BYTES_MAX {
                0
            } else {
                len
            };
            let zeros = vec![0; ZERO_BYTES.min(filled as usize)];
            let mut at = 0;
            while at < filled {
                let count = zeros.len().min((filled - at) as usize);
                file.write_all_at(&zeros[..count], at)?;
                at += count as u64;
            }
            file.sync_all()?;
            Ok(file)
        };
        made().inspect_err(|_| {
            // Half a file must not take up the room that is missing.
            let _ = std::fs::remove_file(&path);
        })
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
