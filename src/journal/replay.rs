//! Reads the journal back at start: every frame in sequence order, and what is left over for the writer.
//!
//! The frames of a segment end where the next segment's header says they do; those of the last one end in the group that a
//! crash left half written. Bad bytes anywhere else are damage: reported, and stepped over to the next good frame.

use super::disk::{Disk, DiskFile};
use super::segment::{self, FRAME_BYTES, FrameHeader, HEADER_BYTES, Header, frame_bytes};
use super::writer::{Closed, Existing};
use std::io;

/// Frames that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// File name.
    pub file: String,
    /// Byte in it where the bad part begins.
    pub offset: u64,
    /// Sequences that are lost: from, up to and including.
    pub lost: (u64, u64),
}

/// What a replay found.
#[derive(Debug, Default)]
pub struct Replayed {
    /// For [`super::writer::Writer::new`].
    pub existing: Existing,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Frames handed on.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The last segment and where its frames end.
    pub tail: Option<(String, u64)>,
}

/// Hands every frame with a sequence above `watermark` to `take`, in order. `take` may end it with an error.
///
/// # Errors
/// Input/output, and what `take` gives. Damage is no error: see [`Replayed::damage`].
pub fn replay<D: Disk>(
    disk: &D,
    watermark: u64,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Replayed> {
    let mut out = Replayed::default();
    let mut segments = Vec::new();
    for name in disk.list()? {
        let Some((number, in_use)) = segment::parse_name(&name) else {
            continue;
        };
        out.existing.next_number = out.existing.next_number.max(number + 1);
        if in_use {
            segments.push((number, name));
        } else {
            out.existing.spares.push(number);
        }
    }
    segments.sort();
    let mut open = Vec::new();
    for (number, name) in segments {
        let file = disk.open(&name)?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let read = read_full(&file, 0, &mut bytes)?;
        // IMPORTANT: neither damage nor the end of the journal. What it holds was acknowledged, and only another program can read it.
        if let Some(version) = segment::other_version(&bytes) {
            let text = format!(
                "{name} is of version {version}, this program reads version 1: start the one that wrote it, which stops with an empty journal"
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        if let Some(header) = Header::decode(&bytes[..read]).filter(|header| header.number == number) {
            open.push((name, file, header));
            continue;
        }
        // A segment is named only after its header is durable: this one is damaged.
        out.damage.push(Damage {
            file: name.clone(),
            offset: 0,
            lost: (0, 0),
        });
        if let Some(header) = made_again(&file, number)? {
            open.push((name, file, header));
        }
    }
    let mut next = watermark + 1;
    let firsts: Vec<u64> = open.iter().map(|(_, _, header)| header.first).collect();
    for (i, (name, file, header)) in open.iter().enumerate() {
        let end = firsts.get(i + 1).copied();
        let mut reader = Reader::new(file, header.salt)?;
        let mut expected = header.first;
        if expected > next {
            out.damage.push(Damage {
                file: name.clone(),
                offset: 0,
                lost: (next, expected - 1),
            });
        }
        while end.is_none_or(|end| expected < end) {
            if reader.frame(|frame| frame.sequence == expected)? {
                if expected > watermark {
                    take(expected, &reader.payload)?;
                    out.frames += 1;
                    out.bytes += reader.payload.len() as u64;
                }
                expected += 1;
                continue;
            }
            let bad = reader.at;
            // Without an end, only a frame that was synced later proves that the bad one was synced.
            let found = reader.resume(|frame| match end {
                Some(end) => frame.sequence > expected && frame.sequence < end,
                None => frame.group() > expected,
            })?;
            match (found, end) {
                (Some(sequence), _) => {
                    out.damage.push(Damage {
                        file: name.clone(),
                        offset: bad,
                        lost: (expected, sequence - 1),
                    });
                    expected = sequence;
                }
                (None, Some(end)) => {
                    out.damage.push(Damage {
                        file: name.clone(),
                        offset: bad,
                        lost: (expected, end - 1),
                    });
                    expected = end;
                }
                // The end of the journal.
                (None, None) => break,
            }
        }
        next = next.max(expected);
        if end.is_none() {
            out.tail = Some((name.clone(), reader.at));
        }
        out.existing.closed.push_back(Closed {
            number: header.number,
            last: expected - 1,
            len: file.size()?,
        });
    }
    out.damage
        .retain(|damage| damage.lost.1 == 0 || damage.lost.1 > watermark);
    out.existing.next_sequence = next;
    Ok(out)
}

/// Bytes of the segments that may have frames to replay.
///
/// # Errors
/// Input/output.
pub fn bytes_in_use<D: Disk>(disk: &D) -> io::Result<u64> {
    let mut bytes = 0;
    for name in disk.list()? {
        if segment::parse_name(&name).is_some_and(|(_, in_use)| in_use) {
            bytes += disk.open(&name)?.size()?;
        }
    }
    Ok(bytes)
}

/// Makes what was read of the last segment durable. A process that ended, or whose sync failed, may have left frames that only
/// the page cache has, and after a failed sync the kernel takes them for written: so they are written again. Without this
/// they would be seen now, and gone, with a gap before later frames, after a power cut.
///
/// # Errors
/// Input/output.
pub fn harden<D: Disk>(disk: &D, replayed: &Replayed) -> io::Result<()> {
    // IMPORTANT: also without a segment. What a process that ended has renamed may not be durable yet, and a spare must not be
    // written while power loss could give it its old name back.
    disk.sync_folder()?;
    let Some((name, end)) = &replayed.tail else {
        return Ok(());
    };
    let file = disk.open(name)?;
    let mut piece = vec![0; SEARCH_BYTES];
    let mut at = 0;
    while at < *end {
        let wanted = piece.len().min((end - at) as usize);
        let read = read_full(&file, at, &mut piece[..wanted])?;
        if read == 0 {
            break;
        }
        file.write_at(at, &piece[..read])?;
        at += read as u64;
    }
    file.sync()
}

/// The header of a segment whose own is damaged, if its first frame is sound: all of it follows from the name and that frame.
fn made_again<F: DiskFile>(file: &F, number: u64) -> io::Result<Option<Header>> {
    let mut bytes = [0; FRAME_BYTES as usize];
    if read_full(file, HEADER_BYTES, &mut bytes)? < bytes.len() {
        return Ok(None);
    }
    let Some(frame) = FrameHeader::decode(&bytes) else {
        return Ok(None);
    };
    let header = Header::new(number, frame.sequence);
    let sound = Reader::new(file, header.salt)?.frame(|_| true)?;
    Ok(sound.then_some(header))
}

fn read_full<F: DiskFile>(file: &F, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(offset + read as u64, &mut into[read..])? {
            0 => break,
            count => read += count,
        }
    }
    Ok(read)
}

/// Walks the frames of a segment.
struct Reader<'a, F> {
    file: &'a F,
    salt: u64,
    len: u64,
    at: u64,
    payload: Vec<u8>,
}

/// Bytes looked through at a time for a frame behind a bad one.
const SEARCH_BYTES: usize = 1 << 20;

impl<'a, F: DiskFile> Reader<'a, F> {
    fn new(file: &'a F, salt: u64) -> io::Result<Self> {
        Ok(Self {
            file,
            salt,
            len: file.size()?,
            at: HEADER_BYTES,
            payload: Vec::new(),
        })
    }

    /// Reads the frame here into `payload` and steps over it, if it is sound and its sequence is wanted.
    fn frame(&mut self, wanted: impl Fn(&FrameHeader) -> bool) -> io::Result<bool> {
        let mut bytes = [0; FRAME_BYTES as usize];
        if read_full(self.file, self.at, &mut bytes)? < bytes.len() {
            return Ok(false);
        }
        let Some(header) = FrameHeader::decode(&bytes).filter(|header| wanted(header)) else {
            return Ok(false);
        };
        let size = frame_bytes(u64::from(header.length));
        if self.at + size > self.len {
            return Ok(false);
        }
        self.payload.resize(header.length as usize, 0);
        let read = read_full(self.file, self.at + FRAME_BYTES, &mut self.payload)?;
        if read < self.payload.len() || !header.matches(self.salt, &self.payload) {
            return Ok(false);
        }
        self.at += size;
        Ok(true)
    }

    /// Looks for the next sound frame with a wanted sequence behind a bad one, and stands there.
    fn resume(&mut self, wanted: impl Fn(&FrameHeader) -> bool) -> io::Result<Option<u64>> {
        let start = self.at;
        let mut window = vec![0; SEARCH_BYTES + FRAME_BYTES as usize];
        let mut base = start;
        while base < self.len {
            let read = read_full(self.file, base, &mut window)?;
            for at in (0..read.saturating_sub(FRAME_BYTES as usize).min(SEARCH_BYTES - 1) + 1).step_by(8) {
                let Some(bytes) = window
                    .get(at..at + FRAME_BYTES as usize)
                    .filter(|_| at + 24 <= read)
                else {
                    break;
                };
                let header = FrameHeader::decode(bytes.try_into().expect("a frame header's length"));
                let Some(header) = header.filter(|header| wanted(header)) else {
                    continue;
                };
                self.at = base + at as u64;
                if self.frame(&wanted)? {
                    self.at = base + at as u64;
                    return Ok(Some(header.sequence));
                }
            }
            base += SEARCH_BYTES as u64;
        }
        self.at = start;
        Ok(None)
    }
}
