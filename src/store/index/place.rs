//! The keys of the keyspace `series`: which value is where. Pure. Numbers are big endian, so that keys sort by them.

use crate::model::MeasurementId;

/// The measurement number of a pack's header, after every measurement.
const HEADER: u32 = u32::MAX;

/// What a value of a measurement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A page of tags, by its number.
    Page,
    /// A page of the key table: 0 the fingerprints, 1 the ids.
    Table,
    /// A block of terms, by its number over all tags; and, from 1 on, the sets that are too long to be in it, by term.
    Terms,
    /// What there is, after everything else.
    Directory,
}

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The pack.
    pub pack: u64,
    /// The measurement.
    pub measurement: MeasurementId,
    /// What it is.
    pub kind: Kind,
    /// See [`Kind`].
    pub number: u32,
    /// See [`Kind`].
    pub part: u16,
}

impl Place {
    /// The key.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(19);
        key.extend_from_slice(&self.pack.to_be_bytes());
        key.extend_from_slice(&self.measurement.to_be_bytes());
        key.push(self.kind as u8);
        if self.kind != Kind::Directory {
            key.extend_from_slice(&self.number.to_be_bytes());
            key.extend_from_slice(&self.part.to_be_bytes());
        }
        key
    }

    /// In words, for errors.
    pub fn describe(&self) -> String {
        let Self {
            pack,
            measurement,
            number,
            part,
            ..
        } = self;
        let what = match (self.kind, part) {
            (Kind::Page, _) => format!("page {number} of the series"),
            (Kind::Table, 0) => format!("fingerprints {number} of the series"),
            (Kind::Table, _) => format!("ids {number} of the series"),
            (Kind::Terms, 0) => format!("block {number} of the tag values"),
            (Kind::Terms, part) => format!(
                "the series of value {} of block {number} of the tag values",
                part - 1
            ),
            (Kind::Directory, _) => "the directory of the series".to_string(),
        };
        format!("{what} of measurement {measurement} in index pack {pack}")
    }
}

/// The key of a pack's header, its last one.
pub fn header(pack: u64) -> Vec<u8> {
    [&pack.to_be_bytes()[..], &HEADER.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_in_the_order_they_are_written_and_have_names() {
        let place = |measurement, kind, number, part| Place {
            pack: 7,
            measurement,
            kind,
            number,
            part,
        };
        let places = [
            place(1, Kind::Page, 0, 0),
            place(1, Kind::Page, 300, 0),
            place(1, Kind::Table, 0, 0),
            place(1, Kind::Table, 0, 1),
            place(1, Kind::Table, 1, 0),
            place(1, Kind::Terms, 0, 0),
            place(1, Kind::Terms, 0, 9),
            place(1, Kind::Terms, 1, 0),
            place(1, Kind::Directory, 0, 0),
            place(256, Kind::Page, 0, 0),
        ];
        let mut keys: Vec<_> = places.iter().map(Place::key).collect();
        keys.push(header(7));
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        let names: std::collections::BTreeSet<_> = places.iter().map(Place::describe).collect();
        assert_eq!(names.len(), places.len());
        assert_eq!(
            places[6].describe(),
            "the series of value 8 of block 0 of the tag values of measurement 1 in index pack 7"
        );
    }
}
