//! What fjall promises, in memory, for simulations: three keyspaces with a live and a durable image. An ingestion is atomic and,
//! when it returns, durable; one that fails at its end may be durable all the same, as a rename may have reached the disk before its
//! sync failed. What becomes of each step, a hook says: that is where power fails, disks fill up and time passes.
//!
//! That fjall keeps these promises is not shown here, but by crash images and power loss of the real one (tests/crash).

use fjall::UserValue;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A step that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A value of an ingestion is written.
    Write,
    /// An ingestion becomes durable.
    Finish,
    /// The files of versions that are no longer needed are removed, after an ingestion that succeeded.
    Trim,
    /// A range is dropped.
    Drop,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done.
    Done,
    /// It fails and leaves nothing.
    Failed(io::ErrorKind),
    /// It fails, and after the next open it turns out to have been done.
    FailedDurably,
}

/// Asked before each step.
pub type Hook = Arc<dyn Fn(Step) -> Fate + Send + Sync>;

type Map = Arc<BTreeMap<Vec<u8>, UserValue>>;

#[derive(Default)]
struct Image {
    live: Map,
    durable: Map,
}

/// The three keyspaces of one store, as a disk keeps them.
#[derive(Clone)]
pub struct Spaces {
    images: [Arc<Mutex<Image>>; 3],
    hook: Hook,
}

/// One of them, open.
pub struct Space {
    image: Arc<Mutex<Image>>,
    hook: Hook,
}

/// One atomic write under way.
pub struct Ingestion<'a> {
    space: &'a Space,
    entries: Vec<(Vec<u8>, Option<UserValue>)>,
}

fn lock(image: &Mutex<Image>) -> MutexGuard<'_, Image> {
    image.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(kind: io::ErrorKind) -> fjall::Error {
    fjall::Error::Io(io::Error::new(kind, "the simulated disk"))
}

impl Spaces {
    /// Empty ones.
    pub fn new(hook: Hook) -> Self {
        Self {
            images: Default::default(),
            hook,
        }
    }

    /// What a process that starts finds: what is durable.
    pub fn open(&self) -> [Space; 3] {
        self.images.each_ref().map(|image| {
            let mut open = lock(image);
            open.live = open.durable.clone();
            Space {
                image: image.clone(),
                hook: self.hook.clone(),
            }
        })
    }

    /// Turns over one bit of one durable value, chosen by three numbers; false: there is no value.
    pub fn rot(&self, space: u64, value: u64, bit: u64) -> bool {
        let mut image = lock(&self.images[space as usize % self.images.len()]);
        let map = Arc::make_mut(&mut image.durable);
        if map.is_empty() {
            return false;
        }
        let at = value as usize % map.len();
        let value = map.values_mut().nth(at).expect("below the length");
        let mut bytes = value.to_vec();
        let bit = bit as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        *value = UserValue::from(bytes);
        true
    }
}

impl Space {
    pub(super) fn get(&self, key: &[u8]) -> fjall::Result<Option<UserValue>> {
        Ok(lock(&self.image).live.get(key).cloned())
    }

    pub(super) fn last_before(&self, end: Option<&[u8]>) -> Option<super::space::Entry> {
        let image = lock(&self.image);
        let last = match end {
            Some(end) => image
                .live
                .range::<[u8], _>((Unbounded, Excluded(end)))
                .next_back(),
            None => image.live.iter().next_back(),
        };
        last.map(|(key, value)| (UserValue::from(&key[..]), value.clone()))
    }

    pub(super) fn range(&self, from: &[u8]) -> Vec<super::space::Entry> {
        let map = lock(&self.image).live.clone();
        let entries = map.range::<[u8], _>((Included(from), Unbounded));
        entries
            .map(|(key, value)| (UserValue::from(&key[..]), value.clone()))
            .collect()
    }

    pub(super) fn ingestion(&self) -> Ingestion<'_> {
        Ingestion {
            space: self,
            entries: Vec::new(),
        }
    }

    pub(super) fn trim(&self) -> fjall::Result<()> {
        match (self.hook)(Step::Trim) {
            Fate::Done => Ok(()),
            Fate::Failed(kind) => Err(failed(kind)),
            Fate::FailedDurably => Err(failed(io::ErrorKind::Other)),
        }
    }

    pub(super) fn drop_range(&self, start: &[u8], end: &[u8]) -> fjall::Result<()> {
        self.change(Step::Drop, |map| {
            map.retain(|key, _| &key[..] < start || &key[..] >= end);
        })
    }

    fn change(
        &self,
        step: Step,
        change: impl FnOnce(&mut BTreeMap<Vec<u8>, UserValue>),
    ) -> fjall::Result<()> {
        // Before the lock: the hook may let others go on meanwhile.
        let fate = (self.hook)(step);
        let mut image = lock(&self.image);
        let mut map = image.live.clone();
        change(Arc::make_mut(&mut map));
        match fate {
            Fate::Done => {
                image.live = map.clone();
                image.durable = map;
                Ok(())
            }
            Fate::Failed(kind) => Err(failed(kind)),
            Fate::FailedDurably => {
                image.durable = map;
                Err(failed(io::ErrorKind::Other))
            }
        }
    }
}

impl Ingestion<'_> {
    pub(super) fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) -> fjall::Result<()> {
        match (self.space.hook)(Step::Write) {
            Fate::Done => {
                self.entries.push((key.to_vec(), value.map(UserValue::from)));
                Ok(())
            }
            Fate::Failed(kind) => Err(failed(kind)),
            Fate::FailedDurably => Err(failed(io::ErrorKind::Other)),
        }
    }

    pub(super) fn finish(self) -> fjall::Result<()> {
        self.space.change(Step::Finish, |map| {
            for (key, value) in self.entries {
                match value {
                    Some(value) => map.insert(key, value),
                    None => map.remove(&key),
                };
            }
        })
    }
}
