//! Which acknowledged sequences damage of the journal took: told once in the log, and kept in the data folder, since once later batches
//! are sealed nothing else tells a lost sequence from one that is in the store.
//!
//! A line of text a loss: `FROM TO CHECKSUM`, decimal, decimal, and XXH3-64 of what stands before it, hexadecimal. A line that a power
//! cut left half written has no end and counts as absent; the journal still has the gap then.
//!
//! What is lost may have named what later batches speak of: they are behind a gap. A start that finds one may seal what follows it and then fail, and
//! the next one finds no gap in the journal any more. So two more kinds of lines: `gap N CHECKSUM`, a batch was set aside; and `settled N CHECKSUM`, a
//! start ended well, and the gaps before are of no concern to batches after N, for they were written by one who knew.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The file, in the data folder.
pub const NAME: &str = "losses";
/// Losses that are kept. More are in the log only.
pub const LOSSES_MAX: usize = 10_000;

/// What is known to be lost.
#[derive(Debug, Default)]
pub struct Losses {
    dir: PathBuf,
    /// From, up to and including.
    known: Vec<(u64, u64)>,
    /// Lines that cannot be read.
    damaged: u64,
    /// Bytes of whole lines; what follows is half a line.
    whole_bytes: u64,
    /// Batches up to this one may be behind a gap.
    gap_until: u64,
}

/// A line.
enum Line {
    Loss(u64, u64),
    Gap,
    Settled(u64),
}

impl Losses {
    /// Reads them.
    ///
    /// # Errors
    /// Input/output.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut out = Self {
            dir: dir.to_path_buf(),
            ..Self::default()
        };
        let mut bytes = Vec::new();
        match File::open(dir.join(NAME)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(out),
            Err(error) => return Err(error),
        };
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            let Some((b'\n', line)) = line.split_last() else {
                break;
            };
            out.whole_bytes += line.len() as u64 + 1;
            match parse(line) {
                Some(Line::Settled(last)) => out.gap_until = last,
                Some(Line::Gap) => out.gap_until = u64::MAX,
                Some(Line::Loss(from, to)) => {
                    out.known.push((from, to));
                    out.gap_until = u64::MAX;
                }
                None => {
                    out.damaged += 1;
                    out.gap_until = u64::MAX;
                }
            }
        }
        Ok(out)
    }

    /// These sequences are lost. Durable on return; nothing is written when it is known.
    ///
    /// # Errors
    /// Input/output.
    pub fn note(&mut self, from: u64, to: u64) -> io::Result<()> {
        if self.known.contains(&(from, to)) || self.known.len() >= LOSSES_MAX {
            return Ok(());
        }
        self.append(&format!("{from} {to}"))?;
        self.known.push((from, to));
        self.gap_until = u64::MAX;
        Ok(())
    }

    /// This batch is set aside. Durable on return.
    ///
    /// # Errors
    /// Input/output.
    pub fn note_gap(&mut self, sequence: u64) -> io::Result<()> {
        self.append(&format!("gap {sequence}"))?;
        self.gap_until = u64::MAX;
        Ok(())
    }

    /// A start has replayed everything up to this sequence and goes on from there. Durable on return; nothing is written when there is no gap.
    ///
    /// # Errors
    /// Input/output.
    pub fn settle(&mut self, last: u64) -> io::Result<()> {
        if self.gap_until == u64::MAX {
            self.append(&format!("settled {last}"))?;
            self.gap_until = last;
        }
        Ok(())
    }

    /// May this batch speak of what was named in one that is lost, whatever the journal still shows?
    pub fn is_behind_a_gap(&self, sequence: u64) -> bool {
        sequence <= self.gap_until
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let line = format!("{text} {:016x}\n", xxh3_64(text.as_bytes()));
        let path = self.dir.join(NAME);
        let mut file = File::options().append(true).create(true).open(path)?;
        file.set_len(self.whole_bytes)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()?;
        self.whole_bytes += line.len() as u64;
        Ok(())
    }

    /// All of them: from, up to and including.
    pub fn known(&self) -> &[(u64, u64)] {
        &self.known
    }

    /// Lines that cannot be read.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The loss that a sequence belongs to.
    pub fn of(&self, sequence: u64) -> Option<(u64, u64)> {
        let is_in = |(from, to): &&(u64, u64)| (*from..=*to).contains(&sequence);
        self.known.iter().find(is_in).copied()
    }

    /// How many sequences are lost.
    pub fn sequences(&self) -> u64 {
        let count = |(from, to): &(u64, u64)| (to - from).saturating_add(1);
        self.known.iter().map(count).fold(0, u64::saturating_add)
    }
}

fn parse(line: &[u8]) -> Option<Line> {
    let (text, checksum) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    if format!("{:016x}", xxh3_64(text.as_bytes())) != checksum {
        return None;
    }
    let (from, to) = text.split_once(' ')?;
    let to = to.parse().ok()?;
    match from {
        "gap" => Some(Line::Gap),
        "settled" => Some(Line::Settled(to)),
        _ => {
            let from = from.parse().ok()?;
            (from <= to).then_some(Line::Loss(from, to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_kept_once_and_half_a_line_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut losses = Losses::read(dir.path()).expect("no file is no loss");
        assert_eq!((losses.known(), losses.sequences()), (&[][..], 0));
        losses.note(5, 7).expect("room");
        losses.note(5, 7).expect("room");
        losses.note(u64::MAX, u64::MAX).expect("room");
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).expect("it was written");
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("room");
            let mut losses = Losses::read(dir.path()).expect("readable");
            let lines = whole[..cut].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(
                losses.known(),
                &[(5, 7), (u64::MAX, u64::MAX)][..lines],
                "cut at {cut}"
            );
            assert_eq!(losses.damaged(), 0);
            losses.note(9, 9).expect("room");
            let again = Losses::read(dir.path()).expect("readable");
            assert_eq!(
                (again.known(), again.damaged()),
                (losses.known(), 0),
                "cut at {cut}"
            );
            assert_eq!((again.of(9), again.of(8)), (Some((9, 9)), None));
        }
    }

    #[test]
    fn a_gap_concerns_what_was_written_before_a_start_that_ended_well() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || Losses::read(dir.path()).expect("readable");
        read().settle(4).expect("room");
        assert!(!read().is_behind_a_gap(1) && !dir.path().join(NAME).exists());
        read().note(5, 7).expect("room");
        // A start that failed.
        assert!(read().is_behind_a_gap(8) && read().is_behind_a_gap(1 << 60));
        read().settle(20).expect("room");
        assert!(read().is_behind_a_gap(20) && !read().is_behind_a_gap(21));
        read().note_gap(23).expect("room");
        assert!(read().is_behind_a_gap(24));
        read().settle(30).expect("room");
        assert!(read().is_behind_a_gap(30) && !read().is_behind_a_gap(31));
        assert_eq!((read().known(), read().damaged()), (&[(5, 7)][..], 0));
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut losses = Losses::read(dir.path()).expect("no file is no loss");
        losses.note(5, 7).expect("room");
        losses.note(11, 11).expect("room");
        let path = dir.path().join(NAME);
        let whole = std::fs::read(&path).expect("it was written");
        for bit in 0..(whole.len() - 1) * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).expect("room");
            let losses = Losses::read(dir.path()).expect("readable");
            assert!(losses.damaged() > 0, "bit {bit}");
            assert!(
                losses
                    .known()
                    .iter()
                    .all(|loss| [(5, 7), (11, 11)].contains(loss)),
                "bit {bit}"
            );
        }
    }
}
