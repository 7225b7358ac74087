//! Keeps a batch that ends the process from ending it at every start.
//!
//! While the journal is replayed there is a file in the data folder. A start that finds it follows one that died: it goes
//! carefully, one batch at a time, and notes in the file which. When two careful starts died at the same batch, that batch is
//! set aside (`quarantine-N.batch`) and never replayed while that file is there. Once would not do: a service manager that
//! is impatient kills starts as well. No sync is needed: what ends only the process leaves the page cache alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const NAME: &str = "replaying";
/// Careful starts that die at the same batch before it is set aside.
const DEATHS_MAX: u64 = 2;
/// Bytes of the note: the sequence and how many careful starts died at it before.
const NOTE_BYTES: usize = 16;

/// One replay of the journal.
pub struct Attempt {
    dir: PathBuf,
    note: File,
    /// The start before died while replaying.
    careful: bool,
    /// Where careful starts died last, and how often.
    suspect: (u64, u64),
    aside: BTreeSet<u64>,
    /// The note as it was before; `None`: there was none.
    before: Option<Vec<u8>>,
}

impl Attempt {
    /// Begins.
    ///
    /// # Errors
    /// Input/output.
    pub fn begin(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let careful = path.try_exists()?;
        let note = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut bytes = [0; NOTE_BYTES];
        let read = note.read_exact_at(&mut bytes, 0);
        let before = careful.then(|| read.as_ref().map_or_else(|_| Vec::new(), |()| bytes.to_vec()));
        let suspect = match read {
            Ok(()) => {
                let (sequence, deaths) = bytes.split_at(8);
                let number = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
                (number(sequence), number(deaths).saturating_add(1))
            }
            Err(_) => (0, 0),
        };
        if careful {
            tracing::warn!(
                "the last start ended while it replayed the journal; batches are replayed one at a time"
            );
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            note,
            careful,
            suspect,
            aside: aside(dir)?,
            before,
        })
    }

    /// Must each batch be visible before the next is begun?
    pub fn is_careful(&self) -> bool {
        self.careful
    }

    /// Is the batch set aside, or about to be?
    pub fn is_to_be_left_out(&self, sequence: u64) -> bool {
        self.aside.contains(&sequence) || self.deaths_of(sequence) >= DEATHS_MAX
    }

    fn deaths_of(&self, sequence: u64) -> u64 {
        match self.suspect {
            (suspect, deaths) if suspect == sequence => deaths,
            _ => 0,
        }
    }

    /// Is the batch to be left out? Then it is in its file. If not, it is about to be replayed.
    ///
    /// # Errors
    /// Input/output.
    pub fn leave_out(&mut self, sequence: u64, bytes: &[u8]) -> io::Result<bool> {
        if self.aside.contains(&sequence) {
            return Ok(true);
        }
        let deaths = self.deaths_of(sequence);
        if deaths >= DEATHS_MAX {
            self.set_aside(sequence, bytes, "it ended the server again and again")?;
            return Ok(true);
        }
        if self.careful {
            let note = [sequence.to_le_bytes(), deaths.to_le_bytes()].concat();
            self.note.write_all_at(&note, 0)?;
        }
        Ok(false)
    }

    /// Keeps a batch that cannot be replayed in a file of its own; durable on return.
    ///
    /// # Errors
    /// Input/output.
    pub fn set_aside(&mut self, sequence: u64, bytes: &[u8], reason: &str) -> io::Result<()> {
        let path = self.dir.join(file_name(sequence));
        let mut file = File::create(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        self.aside.insert(sequence);
        tracing::error!(sequence, reason, file = %path.display(), "a batch of the journal is set aside");
        Ok(())
    }

    /// The replay is over. How many batches are set aside.
    ///
    /// # Errors
    /// Input/output.
    pub fn finish(mut self) -> io::Result<u64> {
        self.before = None;
        std::fs::remove_file(self.dir.join(NAME))?;
        Ok(self.aside.len() as u64)
    }
}

/// A replay that ends with an error (a full disk, say) has not ended the process: whichever batch it was at is no suspect for that, or
/// a server that is started again and again on a full disk would set aside what was acknowledged.
impl Drop for Attempt {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // Failing here leaves a note that is too strict; the folder is in trouble already.
        let _ = match &self.before {
            None => std::fs::remove_file(self.dir.join(NAME)),
            Some(bytes) => self
                .note
                .set_len(bytes.len() as u64)
                .and_then(|()| self.note.write_all_at(bytes, 0)),
        };
    }
}

/// The file of a batch that is set aside.
pub fn file_name(sequence: u64) -> String {
    format!("quarantine-{sequence}.batch")
}

/// Batches that are set aside in a data folder.
///
/// # Errors
/// Input/output.
pub fn aside(dir: &Path) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| {
            name.strip_prefix("quarantine-")?
                .strip_suffix(".batch")?
                .parse()
                .ok()
        });
        found.extend(number);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replays 1 to 5; `dies` says at which the process ends. What was replayed.
    fn start(dir: &Path, dies: Option<u64>) -> Vec<u64> {
        let mut attempt = Attempt::begin(dir).expect("a folder");
        let mut replayed = Vec::new();
        for sequence in 1..=5 {
            if attempt.leave_out(sequence, b"batch").expect("a folder") {
                continue;
            }
            replayed.push(sequence);
            if dies == Some(sequence) {
                // A process that ends drops nothing.
                std::mem::forget(attempt);
                return replayed;
            }
        }
        attempt.finish().expect("a folder");
        replayed
    }

    #[test]
    fn a_batch_that_kills_is_set_aside_and_the_others_are_replayed() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        for _ in 0..3 {
            assert_eq!(start(dir, Some(3)), [1, 2, 3]);
        }
        assert_eq!(start(dir, Some(3)), [1, 2, 4, 5]);
        assert_eq!(
            std::fs::read(dir.join("quarantine-3.batch")).expect("it is kept"),
            b"batch"
        );
        // While it is kept it is left out; taken away, it gets another chance.
        assert_eq!(start(dir, None), [1, 2, 4, 5]);
        std::fs::remove_file(dir.join("quarantine-3.batch")).expect("it is kept");
        assert_eq!(start(dir, None), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_start_that_ends_with_an_error_makes_no_suspect() {
        let dir = tempfile::tempdir().expect("a folder");
        let dir = dir.path();
        let fails_at = |at: u64| {
            let mut attempt = Attempt::begin(dir).expect("a folder");
            (1..=at).for_each(|sequence| {
                assert!(
                    !attempt.leave_out(sequence, b"batch").expect("a folder"),
                    "{sequence}"
                );
            });
        };
        (0..10).for_each(|_| fails_at(3));
        assert!(!dir.join(NAME).exists());
        // Between starts that die: these still count.
        start(dir, Some(3));
        start(dir, Some(3));
        (0..10).for_each(|_| fails_at(3));
        start(dir, Some(3));
        assert_eq!(start(dir, None), [1, 2, 4, 5]);
    }

    #[test]
    fn starts_that_are_killed_here_and_there_lose_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        for killed_at in [1, 4, 2, 4, 3, 2, 5, 1] {
            assert_eq!(start(dir.path(), Some(killed_at)).last(), Some(&killed_at));
        }
        assert_eq!(start(dir.path(), None), [1, 2, 3, 4, 5]);
        assert!(!dir.path().join(NAME).exists());
    }
}
