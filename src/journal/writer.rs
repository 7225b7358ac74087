//! Group commit into segment files: write, one sync, and only then say so. Synchronous; the thread is in [`super::thread`].
//!
//! **Invariant:** a payload counted as committed is on disk whole, and so is everything before it. A failed sync is never
//! tried again: the kernel may have dropped the pages, and a second sync would say "fine".

use super::JournalError;
use super::disk::{Disk, DiskFile};
use super::segment::{self, HEADER_BYTES, Header, frame_bytes, put_frame};
use std::collections::VecDeque;
use std::io::ErrorKind;

/// Bytes of a segment file. A larger payload gets a file of its own size.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes of the first segment after a rest; each one after it is twice as long, up to [`SEGMENT_BYTES`].
const SEGMENT_BYTES_FIRST: u64 = 256 << 10;
/// Files kept for later; more are deleted.
const SPARES_MAX: usize = 2;

/// See the module.
pub struct Writer<D: Disk> {
    disk: D,
    segment_bytes: u64,
    /// Of the next segment; grows to `segment_bytes`.
    next_bytes: u64,
    current: Option<Current<D::File>>,
    closed: VecDeque<Closed>,
    spares: Vec<u64>,
    next_number: u64,
    next_sequence: u64,
    buffer: Vec<u8>,
    failed: Option<String>,
}

struct Current<F> {
    file: F,
    number: u64,
    salt: u64,
    len: u64,
    at: u64,
}

/// A segment that is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its number.
    pub number: u64,
    /// Its last sequence; one before its first when it has no frame.
    pub last: u64,
    /// Its length.
    pub len: u64,
}

/// What is there at start.
#[derive(Debug, Default)]
pub struct Existing {
    /// Segments, oldest first.
    pub closed: VecDeque<Closed>,
    /// Numbers of spare files.
    pub spares: Vec<u64>,
    /// No file has this number or a higher one.
    pub next_number: u64,
    /// The next payload gets this sequence.
    pub next_sequence: u64,
}

impl<D: Disk> Writer<D> {
    /// Goes on after what exists, in a new segment.
    pub fn new(disk: D, segment_bytes: u64, existing: Existing) -> Self {
        Self {
            disk,
            segment_bytes,
            next_bytes: SEGMENT_BYTES_FIRST.min(segment_bytes),
            current: None,
            closed: existing.closed,
            spares: existing.spares,
            next_number: existing.next_number,
            next_sequence: existing.next_sequence,
            buffer: Vec::new(),
            failed: None,
        }
    }

    /// The sequence of the next payload.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes of all segments in use.
    pub fn bytes(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |c| c.len);
        self.closed.iter().map(|c| c.len).sum::<u64>() + current
    }

    /// Makes payloads durable, in order. How many are; and what stopped the others, which are then not in the journal
    /// ([`JournalError::DiskFull`]) or may or may not be.
    pub fn commit(&mut self, payloads: &[&[u8]]) -> (usize, Option<JournalError>) {
        let mut done = 0;
        while done < payloads.len() {
            match self.commit_some(&payloads[done..]) {
                Ok(count) => {
                    done += count;
                    self.next_sequence += count as u64;
                }
                Err(error) => {
                    if let JournalError::Io(error) = &error {
                        self.failed = Some(error.to_string());
                    }
                    return (done, Some(error));
                }
            }
        }
        (done, None)
    }

    /// Commits as many payloads as one segment takes, at least one.
    fn commit_some(&mut self, payloads: &[&[u8]]) -> Result<usize, JournalError> {
        if let Some(failed) = &self.failed {
            return Err(JournalError::Poisoned(failed.clone()));
        }
        let wanted = frame_bytes(payloads[0].len() as u64);
        if self.current.as_ref().is_none_or(|c| c.at + wanted > c.len) {
            self.roll(wanted)?;
        }
        let current = self.current.as_mut().expect("rolled to a segment with room");
        self.buffer.clear();
        let mut count = 0;
        for payload in payloads {
            if current.at + self.buffer.len() as u64 + frame_bytes(payload.len() as u64) > current.len {
                break;
            }
            let sequence = self.next_sequence + count as u64;
            put_frame(current.salt, count as u32, sequence, payload, &mut self.buffer);
            count += 1;
        }
        current.file.write_at(current.at, &self.buffer)?;
        current.file.sync()?;
        current.at += self.buffer.len() as u64;
        if self.buffer.capacity() as u64 > self.segment_bytes {
            self.buffer = Vec::new();
        }
        Ok(count)
    }

    /// Closes the current segment and opens one with room for a frame.
    fn roll(&mut self, frame: u64) -> Result<(), JournalError> {
        let len = if self.spares.is_empty() {
            self.next_bytes
        } else {
            self.segment_bytes
        };
        let len = len.max(HEADER_BYTES + frame);
        let number = self.next_number;
        let header = Header::new(number, self.next_sequence);
        let spare = if len == self.segment_bytes {
            self.spares.pop()
        } else {
            None
        };
        let (file, name) = match spare {
            Some(spare) => (
                self.disk.open(&segment::spare_name(spare))?,
                segment::spare_name(spare),
            ),
            None => {
                let name = segment::spare_name(number);
                let file = self.disk.create(&name, len).map_err(|error| match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::DiskFull,
                    _ => error.into(),
                })?;
                (file, name)
            }
        };
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.disk.rename(&name, &segment::segment_name(number))?;
        self.disk.sync_folder()?;
        self.next_number += 1;
        self.next_bytes = (self.next_bytes * 2).min(self.segment_bytes);
        let new = Current {
            file,
            number,
            salt: header.salt,
            len,
            at: HEADER_BYTES,
        };
        if let Some(old) = self.current.replace(new) {
            self.closed.push_back(Closed {
                number: old.number,
                last: self.next_sequence - 1,
                len: old.len,
            });
        }
        Ok(())
    }

    /// The store has everything up to this sequence: segments that hold no more become spares or are deleted.
    ///
    /// # Errors
    /// Input/output; segments that stay are harmless, they are released with the next.
    pub fn release(&mut self, sequence: u64) -> Result<(), JournalError> {
        let (mut changed, mut spares) = (false, Vec::new());
        while let Some(&oldest) = self.closed.front()
            && oldest.last <= sequence
        {
            let name = segment::segment_name(oldest.number);
            if oldest.len == self.segment_bytes && self.spares.len() + spares.len() < SPARES_MAX {
                self.disk.rename(&name, &segment::spare_name(oldest.number))?;
                spares.push(oldest.number);
            } else {
                self.disk.remove(&name)?;
            }
            self.closed.pop_front();
            changed = true;
        }
        if changed {
            // Before a spare is written again its old name must be gone for good.
            self.disk.sync_folder()?;
            self.spares.append(&mut spares);
        }
        Ok(())
    }

    /// Nothing comes for a while, and the store has everything up to this sequence: if that is all, every file goes, so that
    /// a server at rest does not keep room it does not need.
    ///
    /// # Errors
    /// Input/output; files that stay are harmless.
    pub fn rest(&mut self, sequence: u64) -> Result<(), JournalError> {
        self.release(sequence)?;
        if self.next_sequence - 1 > sequence || self.failed.is_some() {
            return Ok(());
        }
        // Names are taken off the lists first: what cannot be removed now is found again at the next start.
        let current = self
            .current
            .take()
            .map(|current| segment::segment_name(current.number));
        let spares = std::mem::take(&mut self.spares)
            .into_iter()
            .map(segment::spare_name);
        for name in spares.chain(current) {
            self.disk.remove(&name)?;
        }
        self.next_bytes = SEGMENT_BYTES_FIRST.min(self.segment_bytes);
        Ok(self.disk.sync_folder()?)
    }
}
