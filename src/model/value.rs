//! Field types and single values. Columns of values are in [`super::column`].

use std::fmt;

/// The five types a field can have. A field's type belongs to its measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum FieldType {
    /// 64-bit IEEE 754, bit-exact.
    Float = 0,
    /// Signed 64-bit.
    Integer = 1,
    /// Unsigned 64-bit.
    Unsigned = 2,
    /// UTF-8 text.
    String = 3,
    /// true or false.
    Boolean = 4,
}

impl FieldType {
    /// The type with this persistent code.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Float,
            1 => Self::Integer,
            2 => Self::Unsigned,
            3 => Self::String,
            4 => Self::Boolean,
            _ => return None,
        })
    }

    /// InfluxDB's word for the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::String => "string",
            Self::Boolean => "boolean",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// See [`FieldType::Float`].
    Float(f64),
    /// See [`FieldType::Integer`].
    Integer(i64),
    /// See [`FieldType::Unsigned`].
    Unsigned(u64),
    /// See [`FieldType::String`].
    String(String),
    /// See [`FieldType::Boolean`].
    Boolean(bool),
}

impl FieldValue {
    /// The type of this value.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::String(_) => FieldType::String,
            Self::Boolean(_) => FieldType::Boolean,
        }
    }
}
