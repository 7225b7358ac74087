//! The columns of states: for each field of the points some fields of the state, named by the field's id and a letter.
//! docs/formats/rollup.md.

use crate::catalog::Measurement;
use crate::model::{FieldId, FieldType};

/// What of a field's points a column tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How many there are: 0 or nothing in a row without any. Below 0: so many, and the other columns mean nothing (no numbers; a NaN among
    /// them; a sum beyond 64 bits): the points must be asked.
    Count,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The earliest.
    First,
    /// The latest.
    Last,
    /// When the earliest is, nanoseconds from the start of the interval.
    FirstAt,
    /// When the latest is.
    LastAt,
    /// How much a counter grew from the earliest to the latest.
    Increase,
    /// What percentiles need, see [`crate::query::rollup`].
    Digest,
}

impl Part {
    /// Those that numbers have; of texts and truth values there is only the count.
    pub const OF_NUMBERS: [Self; 10] = [
        Self::Count,
        Self::Sum,
        Self::Min,
        Self::Max,
        Self::First,
        Self::Last,
        Self::FirstAt,
        Self::LastAt,
        Self::Increase,
        Self::Digest,
    ];

    fn letter(self) -> char {
        match self {
            Self::Count => 'n',
            Self::Sum => 's',
            Self::Min => 'a',
            Self::Max => 'z',
            Self::First => 'f',
            Self::Last => 'l',
            Self::FirstAt => 'b',
            Self::LastAt => 'e',
            Self::Increase => 'i',
            Self::Digest => 'd',
        }
    }

    /// The type of the column for a field of this type.
    pub fn field_type(self, of: FieldType) -> FieldType {
        match self {
            Self::Count | Self::FirstAt | Self::LastAt => FieldType::Integer,
            Self::Sum | Self::Min | Self::Max | Self::First | Self::Last => of,
            Self::Increase => FieldType::Float,
            Self::Digest => FieldType::String,
        }
    }

    /// The name of the column.
    pub fn name(self, of: FieldId) -> String {
        format!("{of}{}", self.letter())
    }

    /// The column in a measurement of states, if it is there.
    pub fn find(self, states: &Measurement, of: FieldId) -> Option<FieldId> {
        states.fields().by_name(&self.name(of)).map(|(id, _)| id)
    }
}

/// The parts that are kept of fields of this type.
pub fn parts_of(field_type: FieldType, percentiles: bool) -> &'static [Part] {
    let all = &Part::OF_NUMBERS;
    match field_type {
        FieldType::String | FieldType::Boolean => &all[..1],
        _ if percentiles => all,
        _ => &all[..all.len() - 1],
    }
}
