//! One keyspace: fjall's, or in tests a model of what fjall promises (`super::simulated`).
//!
//! Everything the store asks of a keyspace stands here, so the model has no more to promise than this: an ingestion is atomic and
//! durable when it returns, a range is dropped whole, reads see the last finished write.

use super::error::StoreError;
use super::settle::settle;
#[cfg(test)]
use super::simulated;
use fjall::{AbstractTree, Keyspace, UserValue};
use std::collections::HashSet;
use std::path::Path;

/// See the module.
pub(super) enum Space {
    Fjall(Keyspace),
    #[cfg(test)]
    Simulated(simulated::Space),
}

/// Adds an entry to an ingestion, or with `None` what removes it. Keys ascend.
pub(super) type Write<'a> = dyn FnMut(&[u8], Option<Vec<u8>>) -> fjall::Result<()> + 'a;

/// A key and its value.
pub(super) type Entry = (UserValue, UserValue);

impl Space {
    pub(super) fn get(&self, key: &[u8]) -> fjall::Result<Option<UserValue>> {
        match self {
            Self::Fjall(keyspace) => keyspace.get(key),
            #[cfg(test)]
            Self::Simulated(space) => space.get(key),
        }
    }

    /// The last entry before a key, or the very last.
    pub(super) fn last_before(&self, end: Option<&[u8]>) -> fjall::Result<Option<(Vec<u8>, UserValue)>> {
        let last = match self {
            Self::Fjall(keyspace) => match end {
                Some(end) => keyspace.range(..end).next_back(),
                None => keyspace.range::<[u8; 8], _>(..).next_back(),
            }
            .map(fjall::Guard::into_inner),
            #[cfg(test)]
            Self::Simulated(space) => space.last_before(end).map(Ok),
        };
        Ok(last.transpose()?.map(|(key, value)| (key.to_vec(), value)))
    }

    /// All entries from a key on, ascending.
    pub(super) fn range(&self, from: &[u8]) -> Box<dyn Iterator<Item = fjall::Result<Entry>> + '_> {
        match self {
            Self::Fjall(keyspace) => Box::new(keyspace.range(from..).map(fjall::Guard::into_inner)),
            #[cfg(test)]
            Self::Simulated(space) => Box::new(space.range(from).into_iter().map(Ok)),
        }
    }

    /// One atomic write: durable and visible on return, or, when `fill` or its end fails, nothing that can be read.
    pub(super) fn ingest<T>(
        &self,
        place: &str,
        fill: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fail = |error| StoreError::from_fjall(place, error);
        match self {
            Self::Fjall(keyspace) => {
                let mut ingestion = keyspace.start_ingestion().map_err(fail)?;
                let filled = fill(&mut |key, value| match value {
                    Some(value) => ingestion.write(key, value),
                    None => ingestion.write_tombstone(key),
                })?;
                // The engine makes files of values when it begins them, and syncs them at the end, but never their folder: after power
                // loss a list would name what is not there.
                if keyspace.is_kv_separated() {
                    let folder = keyspace.path().join("blobs");
                    std::fs::File::open(folder)
                        .and_then(|folder| folder.sync_all())
                        .map_err(StoreError::Io)?;
                }
                settle(keyspace).map_err(StoreError::Io)?;
                ingestion
                    .finish()
                    .inspect_err(|_| settle_now(keyspace))
                    .map_err(fail)?;
                Ok(filled)
            }
            #[cfg(test)]
            Self::Simulated(space) => {
                let mut ingestion = space.ingestion();
                let filled = fill(&mut |key, value| ingestion.write(key, value))?;
                ingestion.finish().map_err(fail)?;
                Ok(filled)
            }
        }
    }

    /// Forgets all keys from `start` to before `end` and frees their files.
    pub(super) fn drop_range(&self, start: &[u8], end: &[u8]) -> fjall::Result<()> {
        match self {
            Self::Fjall(keyspace) => {
                settle(keyspace)?;
                let dropped = keyspace.tree.drop_range(start..end);
                Ok(dropped.inspect_err(|_| settle_now(keyspace))?)
            }
            #[cfg(test)]
            Self::Simulated(space) => space.drop_range(start, end),
        }
    }

    /// Forgets all but the newest version of a tree, so that files no version needs are deleted. fjall does so only
    /// when memtables rotate, and ours never do.
    pub(super) fn trim(&self) -> fjall::Result<()> {
        match self {
            Self::Fjall(keyspace) => {
                let mut history = keyspace.tree.get_version_history_lock();
                Ok(history.maintenance(keyspace.path(), fjall::SeqNo::MAX)?)
            }
            #[cfg(test)]
            Self::Simulated(space) => space.trim(),
        }
    }

    /// Removes files that no version names. Nothing may be written meanwhile.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        match self {
            Self::Fjall(keyspace) => {
                // IMPORTANT: or the list on disk may name what is removed here.
                settle(keyspace).map_err(StoreError::Io)?;
                let version = keyspace.tree.current_version();
                let tables: HashSet<u64> = version.iter_tables().map(|table| table.id()).collect();
                let blobs: HashSet<u64> = version.blob_files.list_ids().copied().collect();
                for (folder, known) in [("tables", tables), ("blobs", blobs)] {
                    remove_unknown(&keyspace.path().join(folder), &known)?;
                }
                Ok(())
            }
            #[cfg(test)]
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Bytes of its files.
    pub(super) fn disk_space(&self) -> u64 {
        match self {
            Self::Fjall(keyspace) => keyspace.disk_space(),
            #[cfg(test)]
            Self::Simulated(_) => 0,
        }
    }

    /// Tables and blob files.
    pub(super) fn files(&self) -> usize {
        match self {
            Self::Fjall(keyspace) => keyspace.tree.table_count() + keyspace.tree.blob_file_count(),
            #[cfg(test)]
            Self::Simulated(_) => 0,
        }
    }
}

/// Something has just failed. What cannot be settled now is before anything else is done.
fn settle_now(keyspace: &Keyspace) {
    if let Err(error) = settle(keyspace) {
        tracing::warn!(%error, "which files of the storage engine count is not certain yet");
    }
}

/// Removes the files of a folder whose names are numbers that are not known.
fn remove_unknown(folder: &Path, known: &HashSet<u64>) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(folder).map_err(StoreError::Io)? {
        let path = entry.map_err(StoreError::Io)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.parse::<u64>().ok());
        if id.is_some_and(|id| !known.contains(&id)) {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::Io(error));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
