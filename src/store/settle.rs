//! After a commit of the storage engine that failed at its very end: which list of files counts is made certain again.
//!
//! The engine names a new list in `current` by a rename and syncs the folder then. When that sync fails it says that the commit failed and goes on
//! with the list before, but the disk may have either. Whoever then removed the files of the commit that failed, or wrote another list under its
//! number and was killed in the middle of it, would leave a store that no start opens. So before anything of either kind is done,
//! [`settle`] has `current` name the list again that the process goes by.

use super::files;
use fjall::{AbstractTree, Keyspace};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// See the module. Cheap when nothing has failed.
///
/// # Errors
/// Input/output, or damage in the list; then nothing may be committed and no file be removed.
pub(super) fn settle(keyspace: &Keyspace) -> io::Result<()> {
    let folder = keyspace.path();
    let current = folder.join("current");
    loop {
        // Whoever commits has this lock.
        let seen = {
            let _nobody_commits = keyspace.tree.get_version_history_lock();
            std::fs::read(&current)?
        };
        let version = keyspace.tree.current_version();
        if files::number_in(&seen) == Some(version.id()) {
            return Ok(());
        }
        let tables = version
            .iter_tables()
            .map(|table| place(folder, "tables", table.id()));
        let blobs = version
            .blob_files
            .list_ids()
            .map(|id| place(folder, "blobs", *id));
        let listed: BTreeSet<PathBuf> = tables.chain(blobs).collect();
        let _nobody_commits = keyspace.tree.get_version_history_lock();
        if std::fs::read(&current)? != seen {
            // Somebody has committed since: what was asked for is no longer the newest.
            continue;
        }
        let found = files::list_numbered(folder, version.id())?.filter(|(_, found)| *found == listed);
        let Some((content, _)) = found else {
            let list = format!("v{} of {}: it is damaged", version.id(), folder.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, list));
        };
        files::replace(&current, &content)?;
        tracing::warn!(
            file = %current.display(),
            list = version.id(),
            "a commit of the storage engine failed at its end; it is taken back"
        );
        return Ok(());
    }
}

fn place(folder: &Path, kind: &str, number: u64) -> PathBuf {
    folder.join(kind).join(number.to_string())
}
