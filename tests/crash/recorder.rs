//! A disk that remembers: one file in a FUSE file system, whose every write and sync is kept in order. A loop device makes it a disk
//! and ext4 lies on that, so what the file system did to it can be cut off anywhere.

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request,
};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

const FOREVER: Duration = Duration::from_secs(3600);
const FOLDER: u64 = 1;
const FILE: u64 = 2;
/// The file's name.
pub const NAME: &str = "disk";

/// What was done to the disk.
pub enum Done {
    /// Bytes written at an offset.
    Write(usize, Vec<u8>),
    /// Everything before is on the medium.
    Sync,
}

/// The disk's content and how it came to be.
pub struct Recording {
    bytes: Vec<u8>,
    /// In order.
    pub done: Vec<Done>,
    /// Bytes of writes that were kept: not before there is a file system.
    pub recording: bool,
}

struct Disk(Arc<Mutex<Recording>>);

/// Mounts an empty disk of so many bytes; `None` where nobody may.
pub fn mount(at: &Path, bytes: usize) -> Option<(BackgroundSession, Arc<Mutex<Recording>>)> {
    let recording = Arc::new(Mutex::new(Recording {
        bytes: vec![0; bytes],
        done: Vec::new(),
        recording: false,
    }));
    let options = [MountOption::FSName("kymo-test".into())];
    let session = fuser::spawn_mount2(Disk(recording.clone()), at, &options).ok()?;
    Some((session, recording))
}

impl Recording {
    /// As it is now.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Disk {
    fn attributes(&self, inode: u64) -> FileAttr {
        let size = self.0.lock().expect("unpoisoned").bytes.len() as u64;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if inode == FOLDER {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Disk {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match parent == FOLDER && name == NAME {
            true => reply.entry(&FOREVER, &self.attributes(FILE), 0),
            false => reply.error(rustix::io::Errno::NOENT.raw_os_error()),
        }
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        reply.opened(0, 0);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let recording = self.0.lock().expect("unpoisoned");
        let start = (offset as usize).min(recording.bytes.len());
        let end = (start + size as usize).min(recording.bytes.len());
        reply.data(&recording.bytes[start..end]);
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let mut recording = self.0.lock().expect("unpoisoned");
        let start = offset as usize;
        recording.bytes[start..start + data.len()].copy_from_slice(data);
        if recording.recording {
            recording.done.push(Done::Write(start, data.to_vec()));
        }
        reply.written(data.len() as u32);
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        let mut recording = self.0.lock().expect("unpoisoned");
        if recording.recording {
            recording.done.push(Done::Sync);
        }
        reply.ok();
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _: u64, _: u64, reply: ReplyEmpty) {
        reply.ok();
    }
}
