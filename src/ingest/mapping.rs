//! Saved mappings: a format and its options under a name, so that senders need not repeat how their shape is to be read. They belong to
//! a database and are kept as records of the catalog: durable, and dropped with the database.

use crate::catalog::Catalog;
use kymo_plugin_api::Options;
use serde_json::{Value, json};

/// Kind of the records, which are named DATABASE/NAME.
pub const MAPPING: &str = "mapping";
/// The option that names one.
pub const OPTION: &str = "mapping";

/// Mappings of a database.
pub const MAPPINGS_MAX: usize = 1000;
/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of all options of one.
pub const OPTIONS_BYTES_MAX: usize = 16 << 10;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The format's name.
    pub format: String,
    /// Its options.
    pub options: Options,
}

/// Why a mapping cannot be used or kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// There is none.
    #[error(
        "mapping not found: {name:?} on {database:?} (make it with PUT /mappings?db=..&name=..&format=..)"
    )]
    Missing {
        /// Where it was looked for.
        database: String,
        /// Its name.
        name: String,
    },
    /// It is one of another format than the sender says.
    #[error("mapping {name:?} is one of format {is}, not {asked}")]
    Format {
        /// Its name.
        name: String,
        /// The format it is of.
        is: String,
        /// The format that was asked for.
        asked: String,
    },
    /// No name.
    #[error("invalid name of a mapping (1 to {NAME_BYTES_MAX} bytes, no control characters)")]
    Name,
    /// Too many.
    #[error("too many mappings on {0:?} (mappings_max {MAPPINGS_MAX})")]
    TooMany(String),
    /// Too long.
    #[error("the options of a mapping are too long: {0} bytes (options_bytes_max {OPTIONS_BYTES_MAX})")]
    TooLong(usize),
}

impl Mapping {
    /// As it is kept.
    pub fn to_text(&self) -> String {
        json!({"format": self.format, "options": self.options_json()}).to_string()
    }

    /// The options as JSON.
    pub fn options_json(&self) -> Value {
        let options = self.options.iter();
        options.map(|(n, v)| (n.to_string(), Value::from(v))).collect()
    }

    fn from_text(text: &str) -> Option<Self> {
        let kept: Value = serde_json::from_str(text).ok()?;
        let mut options = Options::new();
        for (name, value) in kept["options"].as_object()? {
            options.set(name, value.as_str()?);
        }
        Some(Self {
            format: kept["format"].as_str()?.to_string(),
            options,
        })
    }

    /// May it be kept under this name? One that is there is replaced.
    ///
    /// # Errors
    /// A limit.
    pub fn check(&self, catalog: &Catalog, database: &str, name: &str) -> Result<(), MappingError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(MappingError::Name);
        }
        let bytes = self.options.iter().map(|(n, v)| n.len() + v.len()).sum();
        if bytes > OPTIONS_BYTES_MAX {
            return Err(MappingError::TooLong(bytes));
        }
        let others = all(catalog, database);
        if others.len() >= MAPPINGS_MAX && !others.iter().any(|(known, _)| known == name) {
            return Err(MappingError::TooMany(database.to_string()));
        }
        Ok(())
    }
}

/// The name of the record.
pub fn key(database: &str, name: &str) -> String {
    format!("{database}/{name}")
}

/// All of a database, by name.
pub fn all(catalog: &Catalog, database: &str) -> Vec<(String, Mapping)> {
    catalog.with_records(|kept| {
        let of_database = kept.of_kind(MAPPING).filter_map(|(key, text)| {
            let (of, name) = key.split_once('/')?;
            (of == database).then_some((name, text))
        });
        let read = |(name, text): (&str, &str)| Some((name.to_string(), Mapping::from_text(text)?));
        of_database.filter_map(read).collect()
    })
}

/// The one of a name.
///
/// # Errors
/// There is none.
pub fn get(catalog: &Catalog, database: &str, name: &str) -> Result<Mapping, MappingError> {
    let found = catalog.with_records(|kept| Mapping::from_text(kept.get(MAPPING, &key(database, name))?));
    found.ok_or_else(|| MappingError::Missing {
        database: database.to_string(),
        name: name.to_string(),
    })
}

/// The options that `given` stand for: where they name a mapping, its options, and those given beside it instead of its own.
///
/// # Errors
/// There is no such mapping for this format.
pub fn resolve(
    catalog: &Catalog,
    database: &str,
    format: &str,
    given: &Options,
) -> Result<Options, MappingError> {
    let Some(name) = given.get(OPTION) else {
        return Ok(given.clone());
    };
    let mapping = get(catalog, database, name)?;
    if mapping.format != format {
        return Err(MappingError::Format {
            name: name.to_string(),
            is: mapping.format,
            asked: format.to_string(),
        });
    }
    let mut options = mapping.options;
    for (name, value) in given.iter().filter(|(name, _)| *name != OPTION) {
        options.set(name, value);
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_back() {
        let mut options = Options::new();
        options.set("tag_keys", "a.b:\"c\",d\\").set("measurement", "ü 1");
        let mapping = Mapping {
            format: "json".into(),
            options,
        };
        let read = Mapping::from_text(&mapping.to_text()).expect("it is kept like that");
        assert_eq!(read.format, "json");
        for (name, value) in mapping.options.iter() {
            assert_eq!(read.options.get(name), Some(value));
        }
        assert_eq!(Mapping::from_text("{\"format\":1}"), None);
    }
}
