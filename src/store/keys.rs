//! The keys of both keyspaces, drawn in docs/formats/keys.md. Pure. All numbers are big endian, so that keys sort by them.

use crate::model::{DatabaseId, FieldId, MeasurementId, PolicyId};

/// Rows and values: packs.
pub const BLOCKS: &str = "blocks";
/// The series index: packs; see [`super::index::place`].
pub const SERIES: &str = "series";
/// Names: databases, policies, measurements, fields, series, records, deletes.
pub const INDEX: &str = "index";

/// The run number of a pack's header, after every run.
const RUN_HEADER: u32 = u32::MAX;
/// The stripe number of a directory, after every stripe.
const STRIPE_DIRECTORY: u32 = u32::MAX;
/// Stands for either in the keys of their pieces, which come before them.
const PIECES: u32 = u32::MAX - 1;

/// Which part of a stripe a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Chunks of series ids and timestamps.
    Rows,
    /// Which rows its steps cover.
    Steps,
    /// Chunks of one field.
    Field(FieldId),
    /// Statistics of one field in its steps.
    FieldSteps(FieldId),
}

impl Part {
    /// What stands for it in a key; keys of a stripe sort by it.
    fn code(self) -> (u8, Option<FieldId>, u8) {
        match self {
            Self::Rows => (0, None, 0),
            Self::Steps => (1, None, 0),
            Self::Field(field) => (2, Some(field), 0),
            Self::FieldSteps(field) => (2, Some(field), 1),
        }
    }

    /// Rows and values, as opposed to statistics.
    pub fn is_chunks(self) -> bool {
        matches!(self, Self::Rows | Self::Field(_))
    }
}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Part {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.code().cmp(&other.code())
    }
}

/// A run: the pack that carries it and its number in there. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    /// One ingestion.
    pub pack: u64,
    /// 0, 1, .. within the pack.
    pub run: u32,
}

/// First key of a pack; [`pack_end`] is the first key past it.
pub fn pack_start(pack: u64) -> [u8; 8] {
    pack.to_be_bytes()
}

/// See [`pack_start`].
pub fn pack_end(pack: u64) -> [u8; 8] {
    (pack + 1).to_be_bytes()
}

/// The pack's header, its last key.
pub fn header(pack: u64) -> Vec<u8> {
    [&pack.to_be_bytes()[..], &RUN_HEADER.to_be_bytes()].concat()
}

/// The pack of a key of the keyspace `blocks`.
pub fn pack_of(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// A part of one stripe.
pub fn stripe(id: RunId, measurement: MeasurementId, stripe: u32, part: Part) -> Vec<u8> {
    let mut key = measurement_key(id, measurement, stripe);
    let (kind, field, what) = part.code();
    key.push(kind);
    if let Some(field) = field {
        key.extend_from_slice(&field.to_be_bytes());
        key.push(what);
    }
    key
}

/// The directory of one measurement in one run, after all its stripes.
pub fn directory(id: RunId, measurement: MeasurementId) -> Vec<u8> {
    measurement_key(id, measurement, STRIPE_DIRECTORY)
}

/// A piece of the value under the key of a header or directory; before it, after everything else that is.
pub fn piece(key: &[u8], number: u32) -> Vec<u8> {
    let of = key.len().saturating_sub(4);
    [&key[..of], &PIECES.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn measurement_key(id: RunId, measurement: MeasurementId, stripe: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.extend_from_slice(&id.pack.to_be_bytes());
    key.extend_from_slice(&id.run.to_be_bytes());
    key.extend_from_slice(&measurement.to_be_bytes());
    key.extend_from_slice(&stripe.to_be_bytes());
    key
}

/// Says in words which value a key is for, for errors.
pub fn describe(key: &[u8]) -> String {
    let number = |at: usize| {
        key.get(at..at + 4)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let (Some(pack), Some(run)) = (pack_of(key), number(8)) else {
        return format!("index key {}", key.escape_ascii());
    };
    match (run, number(12), number(16), key.get(20)) {
        (RUN_HEADER, None, ..) => format!("header of pack {pack}"),
        (PIECES, Some(piece), None, _) => format!("piece {piece} of the header of pack {pack}"),
        (_, Some(measurement), Some(PIECES), _) if key.len() == 24 => {
            let piece = number(20).unwrap_or_default();
            format!("piece {piece} of the directory of measurement {measurement} in run {pack}.{run}")
        }
        (_, Some(measurement), Some(STRIPE_DIRECTORY), None) => {
            format!("directory of measurement {measurement} in run {pack}.{run}")
        }
        (_, Some(measurement), Some(stripe), Some(0)) => {
            format!("rows of stripe {stripe} of measurement {measurement} in run {pack}.{run}")
        }
        (_, Some(measurement), Some(stripe), Some(1)) => {
            format!("steps of stripe {stripe} of measurement {measurement} in run {pack}.{run}")
        }
        (_, Some(measurement), Some(stripe), Some(2)) if key.len() == 24 => {
            let field = u16::from_be_bytes([key[21], key[22]]);
            let what = if key[23] == 0 { "" } else { "steps of " };
            format!("{what}field {field} of stripe {stripe} of measurement {measurement} in run {pack}.{run}")
        }
        _ => format!("key {}", key.escape_ascii()),
    }
}

/// Keys of the keyspace `index`: a letter, then ids.
pub mod index {
    use super::*;

    /// The store's format and options.
    pub const FORMAT: &[u8] = b"F";
    /// The seed of the hashes of series' keys.
    pub const KEY_SEED: &[u8] = b"S";
    /// The next free ids of databases, policies and measurements.
    pub const NEXT_IDS: &[u8] = b"N";
    /// The last sequence that the store knows of, be its batch here or not.
    pub const HEARD: &[u8] = b"H";
    /// The numbers of what was dropped.
    pub const GONE: &[u8] = b"G";
    /// First letters, in the order in which definitions are loaded.
    pub const DATABASE: u8 = b'd';
    /// See [`policy`].
    pub const POLICY: u8 = b'p';
    /// See [`measurement`].
    pub const MEASUREMENT: u8 = b'm';
    /// See [`field`].
    pub const FIELD: u8 = b'f';
    /// See [`dead_series`].
    pub const DEAD: u8 = b'x';
    /// See [`delete`].
    pub const DELETE: u8 = b'y';
    /// See [`record`].
    pub const RECORD: u8 = b'r';

    fn with_id(letter: u8, id: u32) -> Vec<u8> {
        let mut key = Vec::with_capacity(9);
        key.push(letter);
        key.extend_from_slice(&id.to_be_bytes());
        key
    }

    /// A database.
    pub fn database(id: DatabaseId) -> Vec<u8> {
        with_id(DATABASE, id)
    }

    /// A retention policy.
    pub fn policy(id: PolicyId) -> Vec<u8> {
        with_id(POLICY, id)
    }

    /// A measurement.
    pub fn measurement(id: MeasurementId) -> Vec<u8> {
        with_id(MEASUREMENT, id)
    }

    /// A field; without a field, the prefix of all fields of the measurement.
    pub fn field(measurement: MeasurementId, field: Option<FieldId>) -> Vec<u8> {
        let mut key = with_id(FIELD, measurement);
        field
            .into_iter()
            .for_each(|field| key.extend_from_slice(&field.to_be_bytes()));
        key
    }

    /// The dropped series of a measurement.
    pub fn dead_series(measurement: MeasurementId) -> Vec<u8> {
        with_id(DEAD, measurement)
    }

    /// A delete, by the sequence of its batch and its number in there.
    pub fn delete(sequence: u64, number: u32) -> Vec<u8> {
        let mut key = vec![DELETE];
        key.extend_from_slice(&sequence.to_be_bytes());
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    /// A named record of a kind.
    pub fn record(kind: &str, name: &str) -> Vec<u8> {
        let mut key = vec![RECORD];
        key.extend_from_slice(&(kind.len() as u32).to_be_bytes());
        key.extend_from_slice(kind.as_bytes());
        key.extend_from_slice(name.as_bytes());
        key
    }

    /// The four bytes after the letter.
    pub fn id_of(key: &[u8]) -> Option<u32> {
        key.get(1..5)
            .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The bytes after the letter and the id.
    pub fn rest_of(key: &[u8]) -> &[u8] {
        key.get(5..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_pack_ascend_in_the_order_they_are_written() {
        let id = RunId { pack: 7, run: 0 };
        let next = RunId { pack: 7, run: 1 };
        let written = [
            pack_start(7).to_vec(),
            stripe(id, 1, 0, Part::Rows),
            stripe(id, 1, 0, Part::Steps),
            stripe(id, 1, 0, Part::Field(0)),
            stripe(id, 1, 0, Part::FieldSteps(0)),
            stripe(id, 1, 0, Part::Field(u16::MAX)),
            stripe(id, 1, 1, Part::Rows),
            stripe(id, 1, u32::MAX - 2, Part::FieldSteps(u16::MAX)),
            piece(&directory(id, 1), 0),
            piece(&directory(id, 1), 1),
            directory(id, 1),
            stripe(id, 256, 0, Part::Rows),
            directory(id, 256),
            stripe(next, 0, 0, Part::Rows),
            piece(&header(7), 0),
            piece(&header(7), u32::MAX),
            header(7),
            pack_end(7).to_vec(),
        ];
        assert!(written.windows(2).all(|w| w[0] < w[1]));
        assert!(
            written
                .iter()
                .all(|key| pack_of(key) == Some(if key[7] == 8 { 8 } else { 7 }))
        );
    }

    #[test]
    fn errors_name_the_value() {
        let id = RunId { pack: 7, run: 2 };
        let cases = [
            (header(7), "header of pack 7"),
            (directory(id, 3), "directory of measurement 3 in run 7.2"),
            (
                stripe(id, 3, 1, Part::Rows),
                "rows of stripe 1 of measurement 3 in run 7.2",
            ),
            (
                stripe(id, 3, 1, Part::Field(9)),
                "field 9 of stripe 1 of measurement 3 in run 7.2",
            ),
            (
                stripe(id, 3, 0, Part::FieldSteps(9)),
                "steps of field 9 of stripe 0 of measurement 3 in run 7.2",
            ),
            (piece(&header(7), 3), "piece 3 of the header of pack 7"),
            (
                piece(&directory(id, 3), 9),
                "piece 9 of the directory of measurement 3 in run 7.2",
            ),
            (b"F".to_vec(), "index key F"),
        ];
        for (key, expected) in cases {
            assert_eq!(describe(&key), expected);
        }
    }
}
