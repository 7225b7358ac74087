//! The bytes of a segment: a header, then frames. Pure.
//!
//! Checksums are seeded with the segment's salt, so what an earlier life of a recycled file left behind is never taken for a frame.

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of the header; frames begin here.
pub const HEADER_BYTES: u64 = 64;
/// Bytes before a frame's payload: length u32, place in its group u32, sequence u64, checksum u64, all little endian.
pub const FRAME_BYTES: u64 = 24;
/// Frames begin at multiples of this.
const ALIGNMENT: u64 = 8;
/// No honest payload is longer: limits bound requests.
pub const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"KYMOJRN1";
/// Bytes of it that every version begins with.
const MAGIC_COMMON: usize = 7;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Segments are replayed in the order of their numbers.
    pub number: u64,
    /// Seed of all checksums in it.
    pub salt: u64,
    /// Sequence of its first frame. It also says where the frames of the segment before must end.
    pub first: u64,
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// How many frames of the same write and sync stand before it: what is before those was synced earlier.
    pub place: u32,
    /// Its sequence.
    pub sequence: u64,
    /// Of all that and the payload.
    pub checksum: u64,
}

impl Header {
    /// Of a segment that begins now. The salt follows from the rest, so that a header can be made again when it is damaged;
    /// it differs for each life of a file.
    pub fn new(number: u64, first: u64) -> Self {
        let salt = xxh3_64(&[number.to_le_bytes(), first.to_le_bytes()].concat());
        Self { number, salt, first }
    }

    /// As stored.
    pub fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = [0; HEADER_BYTES as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.to_le_bytes());
        let checksum = xxh3_64(&out[..56]);
        out[56..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `None` for anything but what [`encode`](Self::encode) made.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_BYTES as usize] = bytes.try_into().ok()?;
        let sound = bytes[..8] == *MAGIC && number(bytes, 56) == xxh3_64(&bytes[..56]);
        sound.then(|| Self {
            number: number(bytes, 8),
            salt: number(bytes, 16),
            first: number(bytes, 24),
        })
    }
}

/// The version of a header that is sound and not ours: in every version the checksum of the first 56 bytes is in the last eight.
pub fn other_version(bytes: &[u8; HEADER_BYTES as usize]) -> Option<char> {
    let sound = bytes[..MAGIC_COMMON] == MAGIC[..MAGIC_COMMON] && number(bytes, 56) == xxh3_64(&bytes[..56]);
    (sound && bytes[..8] != *MAGIC).then_some(char::from(bytes[MAGIC_COMMON]))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Bytes a payload takes with its header and padding.
pub fn frame_bytes(payload: u64) -> u64 {
    (FRAME_BYTES + payload).next_multiple_of(ALIGNMENT)
}

/// Appends a frame.
pub fn put_frame(salt: u64, place: u32, sequence: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("payloads are bounded by PAYLOAD_BYTES_MAX");
    let end = out.len() as u64 + frame_bytes(payload.len() as u64);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&place.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&checksum(salt, length, place, sequence, payload).to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(end as usize, 0);
}

impl FrameHeader {
    /// `None` when it cannot be one: a length no payload has.
    pub fn decode(bytes: &[u8; FRAME_BYTES as usize]) -> Option<Self> {
        let lengths = number(bytes, 0);
        let length = lengths as u32;
        let possible = length > 0 && u64::from(length) <= PAYLOAD_BYTES_MAX;
        possible.then(|| Self {
            length,
            place: (lengths >> 32) as u32,
            sequence: number(bytes, 8),
            checksum: number(bytes, 16),
        })
    }

    /// The first sequence of the group it was written and synced with.
    pub fn group(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.place))
    }

    /// Is this its payload?
    pub fn matches(&self, salt: u64, payload: &[u8]) -> bool {
        self.length as usize == payload.len()
            && self.checksum == checksum(salt, self.length, self.place, self.sequence, payload)
    }
}

fn checksum(salt: u64, length: u32, place: u32, sequence: u64, payload: &[u8]) -> u64 {
    let mut hash = Xxh3::with_seed(salt);
    hash.update(&length.to_le_bytes());
    hash.update(&place.to_le_bytes());
    hash.update(&sequence.to_le_bytes());
    hash.update(payload);
    hash.digest()
}

/// The name of a segment in use.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}.journal")
}

/// The name of a file that waits to become a segment.
pub fn spare_name(number: u64) -> String {
    format!("{number:020}.spare")
}

/// The number and kind in a file name; `None` for other files.
pub fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (number, kind) = name.split_once('.')?;
    let in_use = match kind {
        "journal" => true,
        "spare" => false,
        _ => return None,
    };
    (number.len() == 20).then_some((number.parse().ok()?, in_use))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_frames_round_trip_and_every_flipped_bit_is_found() {
        let header = Header {
            number: 3,
            salt: 99,
            first: 1 << 40,
        };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), None, "bit {bit}");
        }
        let mut frame = Vec::new();
        put_frame(99, 2, 7, b"payload", &mut frame);
        assert_eq!(frame.len(), 32);
        let read = |bytes: &[u8], salt| {
            let header = FrameHeader::decode(bytes[..24].try_into().expect("long enough"))?;
            let payload = bytes.get(24..24 + header.length as usize)?;
            (header.sequence == 7 && header.matches(salt, payload)).then(|| payload.to_vec())
        };
        assert_eq!(read(&frame, 99), Some(b"payload".to_vec()));
        assert_eq!(read(&frame, 98), None);
        for bit in 0..31 * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad, 99), None, "bit {bit}");
        }
    }

    #[test]
    fn the_format_is_version_1() {
        let header = Header::new(3, 9);
        let mut bytes = header.encode().to_vec();
        put_frame(header.salt, 0, 9, b"payload", &mut bytes);
        put_frame(header.salt, 1, 10, b"of a group of two", &mut bytes);
        if std::env::var_os("KYMO_WRITE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/journal_v1.bin");
            std::fs::write(path, &bytes).expect("written");
        }
        let golden = include_bytes!("../../tests/golden/journal_v1.bin");
        assert_eq!(bytes, golden, "the format changed: raise the number in MAGIC");
        let read = Header::decode(&golden[..HEADER_BYTES as usize]).expect("a header");
        assert_eq!((read.number, read.first), (3, 9));
        let frame = |at: usize, length: usize| {
            let header =
                FrameHeader::decode(golden[at..at + 24].try_into().expect("24 bytes")).expect("a frame");
            assert!(header.matches(read.salt, &golden[at + 24..at + 24 + length]));
            (header.sequence, header.place)
        };
        assert_eq!((frame(64, 7), frame(96, 17)), ((9, 0), (10, 1)));
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = Header::new(3, 9).encode();
        assert_eq!(other_version(&bytes), None);
        bytes[7] = b'2';
        assert_eq!(other_version(&bytes), None, "a flipped bit is no version");
        let checksum = xxh3_64(&bytes[..56]);
        bytes[56..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(other_version(&bytes), Some('2'));
    }

    #[test]
    fn names() {
        assert_eq!(parse_name(&segment_name(5)), Some((5, true)));
        assert_eq!(parse_name(&spare_name(u64::MAX)), Some((u64::MAX, false)));
        for other in ["x", "5.journal", "00000000000000000001.old", "LOCK"] {
            assert_eq!(parse_name(other), None);
        }
    }
}
