//! What was done to the files below a folder, in order, as shim.c wrote it down; and the folder as power loss may leave it at any
//! moment of that: what a sync covers is there, of the rest any part.
//!
//! A file's sync covers what was written to it before, and its length; a folder's sync covers names made, changed and removed in it before.
//! That is less than ext4, xfs and btrfs do, where a new file's own sync covers its name. What is not covered survives: names of one folder in the order
//! in which they changed, up to some moment; of the writes to a file none, all, or any of their sectors of 512 bytes; its length as one of those it had,
//! or, where it grew, any in between, with zeroes where nothing of what was written survived.

use crate::Random;
use crate::folder::{Content, Image};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;
const HEAD_BYTES: usize = 24;
/// The folder itself.
const ROOT: u32 = 1;

/// One change.
#[derive(Debug)]
enum Done {
    /// A file or folder is known from now on; made now, or there before.
    Seen {
        id: u32,
        path: PathBuf,
        is_dir: bool,
        is_new: bool,
    },
    Write {
        id: u32,
        at: usize,
        bytes: Vec<u8>,
    },
    Zeroes {
        id: u32,
        at: usize,
        count: usize,
    },
    Length {
        id: u32,
        bytes: usize,
    },
    SyncBegan {
        number: u64,
    },
    SyncEnded {
        id: u32,
        number: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
}

/// See the module.
pub struct History {
    /// Each with the length of the record once it was in there.
    done: Vec<(u64, Done)>,
}

/// What a folder's names change into.
#[derive(Clone, Debug)]
enum Naming {
    Is(PathBuf, u32),
    Moved(PathBuf, PathBuf),
    Gone(PathBuf),
}

impl Naming {
    fn path(&self) -> &Path {
        let (Self::Is(path, _) | Self::Moved(_, path) | Self::Gone(path)) = self;
        path
    }

    fn folder(&self) -> &Path {
        self.path().parent().unwrap_or(Path::new(""))
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u32>) {
        match self {
            Self::Is(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Moved(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Gone(path) => drop(names.remove(path)),
        }
    }
}

/// What power loss is sure to leave of a file, and the changes since: indices of [`History::done`].
#[derive(Default)]
struct File {
    durable: Content,
    pending: Vec<usize>,
    live_len: usize,
}

/// Everything at one moment; goes forward only.
#[derive(Default)]
pub struct Moment {
    /// So many changes are done.
    at: usize,
    files: BTreeMap<u32, File>,
    folders: BTreeMap<u32, PathBuf>,
    names: BTreeMap<PathBuf, u32>,
    pending: Vec<(usize, Naming)>,
    /// Syncs under way: what is done before them they cover.
    syncs: BTreeMap<u64, usize>,
}

/// What was cut off.
#[derive(Debug, Default)]
pub struct Torn {
    /// Files of which something was not synced, in the journal.
    pub journal: u64,
    /// Files of which something was not synced, in the storage engine's folders.
    pub store: u64,
    /// Names that were not synced.
    pub names: u64,
}

impl Torn {
    /// Of another moment.
    pub fn add(&mut self, other: &Self) {
        self.journal += other.journal;
        self.store += other.store;
        self.names += other.names;
    }
}

impl History {
    /// Reads a record of one process on an empty folder.
    pub fn read(record: &Path) -> Self {
        let bytes = std::fs::read(record).expect("a record");
        let mut done = Vec::new();
        let mut at = 0;
        // The last entry may be cut off when the process was killed.
        while at + HEAD_BYTES <= bytes.len() {
            let head = &bytes[at..at + HEAD_BYTES];
            let number =
                |from: usize| u64::from_ne_bytes(head[from..from + 8].try_into().expect("eight bytes"));
            let id = u32::from_ne_bytes(head[4..8].try_into().expect("four bytes"));
            let (kind, is_new, a, b) = (head[0], head[1] != 0, number(8) as usize, number(16) as usize);
            let more = match kind {
                b'w' | b'f' | b'd' | b'u' => b,
                b'r' => a + b,
                _ => 0,
            };
            at += HEAD_BYTES;
            let Some(rest) = bytes.get(at..at + more) else {
                break;
            };
            at += more;
            let path =
                |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).expect("our own names"));
            let change = match kind {
                b'f' | b'd' => Done::Seen {
                    id,
                    path: path(rest),
                    is_dir: kind == b'd',
                    is_new,
                },
                b'w' => Done::Write {
                    id,
                    at: a,
                    bytes: rest.to_vec(),
                },
                b'z' => Done::Zeroes { id, at: a, count: b },
                b'l' => Done::Length { id, bytes: a },
                b'b' => Done::SyncBegan { number: a as u64 },
                b'e' => Done::SyncEnded { id, number: a as u64 },
                b'r' => Done::Rename {
                    from: path(&rest[..a]),
                    to: path(&rest[a..]),
                },
                b'u' => Done::Remove { path: path(rest) },
                other => panic!("no entry is called {}", other as char),
            };
            done.push((at as u64, change));
        }
        Self { done }
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Syncs that succeeded.
    pub fn syncs(&self) -> usize {
        let is_sync = |(_, done): &&(u64, Done)| matches!(done, Done::SyncEnded { .. });
        self.done.iter().filter(is_sync).count()
    }

    /// How long the record was when so many changes were done.
    pub fn record_bytes(&self, changes: usize) -> u64 {
        changes.checked_sub(1).map_or(0, |last| self.done[last].0)
    }

    /// Changes right before which something is not covered that a restart depends on: names, and ends of syncs.
    pub fn delicate(&self) -> Vec<usize> {
        let is_delicate = |done: &Done| match done {
            Done::Rename { .. } | Done::Remove { .. } | Done::SyncEnded { .. } => true,
            Done::Seen { is_new, .. } => *is_new,
            _ => false,
        };
        (0..self.done.len())
            .filter(|i| is_delicate(&self.done[*i].1))
            .collect()
    }

    /// Changes right before which something that was written to a file of the storage engine is not covered yet: the ends of its syncs.
    pub fn before_syncs_of_the_store(&self) -> Vec<usize> {
        let (mut of_store, mut dirty, mut found) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (i, (_, done)) in self.done.iter().enumerate() {
            match done {
                Done::Seen {
                    id,
                    path,
                    is_dir: false,
                    ..
                } if is_of_store(path) => drop(of_store.insert(*id)),
                Done::Write { id, .. } | Done::Zeroes { id, .. } | Done::Length { id, .. } => {
                    dirty.insert(*id);
                }
                Done::SyncEnded { id, .. } if dirty.remove(id) && of_store.contains(id) => found.push(i),
                _ => {}
            }
        }
        found
    }
}

fn is_of_store(path: &Path) -> bool {
    path.iter().any(|part| part == "store")
}

/// What becomes of names that no sync covers.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// Any of them survive.
    Any,
    /// All of them do.
    All,
}

impl Moment {
    /// Goes on to when so many changes were done.
    pub fn go(&mut self, history: &History, until: usize) {
        while self.at < until {
            self.step(history, self.at);
            self.at += 1;
        }
    }

    fn step(&mut self, history: &History, i: usize) {
        match &history.done[i].1 {
            Done::Seen {
                id,
                path,
                is_dir,
                is_new,
            } => {
                if *is_dir {
                    self.folders.insert(*id, path.clone());
                } else {
                    self.files.entry(*id).or_default();
                }
                match is_new {
                    true => self.pending.push((i, Naming::Is(path.clone(), *id))),
                    false => assert_eq!(*id, ROOT, "{path:?} was there before anything was written down"),
                }
            }
            Done::Write { id, at, bytes } => {
                let file = self.files.get_mut(id).expect("it was seen");
                file.live_len = file.live_len.max(at + bytes.len());
                file.pending.push(i);
            }
            Done::Zeroes { id, at, count } => {
                let file = self.files.get_mut(id).expect("it was seen");
                file.live_len = file.live_len.max(at + count);
                file.pending.push(i);
            }
            Done::Length { id, bytes } => {
                let file = self.files.get_mut(id).expect("it was seen");
                file.live_len = *bytes;
                file.pending.push(i);
            }
            Done::SyncBegan { number } => drop(self.syncs.insert(*number, i)),
            Done::SyncEnded { id, number } => {
                let covered = self.syncs.remove(number).expect("it began");
                if let Some(folder) = self.folders.get(id).cloned() {
                    self.cover_folder(&folder, covered);
                    return;
                }
                let file = self.files.get_mut(id).expect("it was seen");
                let later = file
                    .pending
                    .split_off(file.pending.partition_point(|at| *at < covered));
                for at in std::mem::replace(&mut file.pending, later) {
                    apply(&history.done[at].1, &mut file.durable, &mut |_| true);
                }
            }
            Done::Rename { from, to } => self.pending.push((i, Naming::Moved(from.clone(), to.clone()))),
            Done::Remove { path } => self.pending.push((i, Naming::Gone(path.clone()))),
        }
    }

    /// Names that changed in a folder before a moment are durable.
    fn cover_folder(&mut self, folder: &Path, before: usize) {
        let is_covered = |(at, naming): &(usize, Naming)| *at < before && naming.folder() == folder;
        for (_, naming) in self.pending.iter().filter(|p| is_covered(p)) {
            naming.apply(&mut self.names);
        }
        self.pending.retain(|p| !is_covered(p));
    }

    /// The folder as power loss may leave it now.
    pub fn lose_power(&self, history: &History, survive: Names, random: &mut Random) -> (Image, Torn) {
        let mut torn = Torn {
            names: self.pending.len() as u64,
            ..Torn::default()
        };
        let mut names = self.names.clone();
        let folders: BTreeSet<&Path> = self.pending.iter().map(|(_, naming)| naming.folder()).collect();
        for folder in folders {
            let of_folder = || {
                self.pending
                    .iter()
                    .filter(|(_, naming)| naming.folder() == folder)
            };
            let count = of_folder().count() as u64;
            let kept = match (survive, random.below(3)) {
                (Names::All, _) | (_, 1) => count,
                (_, 0) => 0,
                _ => random.below(count + 1),
            };
            of_folder()
                .take(kept as usize)
                .for_each(|(_, naming)| naming.apply(&mut names));
        }
        let mut image = Image::default();
        let is_there = |path: &Path| {
            let folder = |up: &Path| names.get(up).is_some_and(|id| self.folders.contains_key(id));
            path.ancestors()
                .skip(1)
                .all(|up| up.as_os_str().is_empty() || folder(up))
        };
        for (path, id) in names.iter().filter(|(path, _)| is_there(path)) {
            let Some(file) = self.files.get(id) else {
                image.1.insert(path.clone());
                continue;
            };
            if !file.pending.is_empty() {
                let of_journal = path.iter().any(|part| part == "journal");
                torn.journal += u64::from(of_journal);
                torn.store += u64::from(is_of_store(path));
            }
            image.0.insert(path.clone(), file.lose_power(history, random));
        }
        (image, torn)
    }
}

impl File {
    fn lose_power(&self, history: &History, random: &mut Random) -> Content {
        let mut left = self.durable.clone();
        let durable_len = left.len as usize;
        let mode = random.below(4);
        if mode == 0 || self.pending.is_empty() {
            return left;
        }
        for at in &self.pending {
            apply(&history.done[*at].1, &mut left, &mut |_| {
                mode == 1 || (mode == 2 && random.below(2) == 0)
            });
        }
        if mode == 1 || self.live_len <= durable_len {
            return left;
        }
        // It grew: the length may be known where the content is not, or the other way round.
        let len = match random.below(3) {
            0 => self.live_len,
            1 => durable_len,
            _ => durable_len + random.below((self.live_len - durable_len) as u64 + 1) as usize,
        };
        set_len(&mut left, len);
        left
    }
}

fn set_len(file: &mut Content, len: usize) {
    file.bytes.truncate(len);
    file.len = len as u64;
}

/// The sectors of the file, wherever a change begins.
fn sectors(from: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    let next = move |from: usize| ((from / SECTOR + 1) * SECTOR).min(end);
    let first = (from < end).then(|| (from, next(from)));
    std::iter::successors(first, move |&(_, to)| (to < end).then(|| (to, next(to))))
}

/// Makes a change to a file, as far as `survives` says so of each sector. Zeroes at its end take no memory.
fn apply(done: &Done, file: &mut Content, survives: &mut dyn FnMut(usize) -> bool) {
    match done {
        Done::Write { at, bytes, .. } => {
            for (from, to) in sectors(*at, at + bytes.len()).filter(|(from, _)| survives(*from)) {
                if file.bytes.len() < to {
                    file.bytes.resize(to, 0);
                }
                file.bytes[from..to].copy_from_slice(&bytes[from - at..to - at]);
                file.len = file.len.max(to as u64);
            }
        }
        Done::Zeroes { at, count, .. } => {
            for (from, to) in sectors(*at, at + count).filter(|(from, _)| survives(*from)) {
                let known = file.bytes.len();
                file.bytes[from.min(known)..to.min(known)].fill(0);
                file.len = file.len.max(to as u64);
            }
        }
        Done::Length { bytes, .. } => {
            if survives(0) {
                set_len(file, *bytes);
            }
        }
        _ => unreachable!("only these are kept for files"),
    }
}
