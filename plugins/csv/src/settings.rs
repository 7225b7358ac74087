//! The options: which columns mean what.

use kymo_plugin_api::{OptionError, OptionHelp, Options};
use kymo_plugin_reading::time::TimeUnit;

/// What users may set.
pub const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "measurement",
        about: "the measurement of all rows",
    },
    OptionHelp {
        name: "measurement_column",
        about: "column of the measurement's name",
    },
    OptionHelp {
        name: "tag_columns",
        about: "columns that are tags, with commas between",
    },
    OptionHelp {
        name: "field_columns",
        about: "columns that are fields; others are ignored (default: all that are nothing else)",
    },
    OptionHelp {
        name: "time_column",
        about: "column of the time (default time, where there is one)",
    },
    OptionHelp {
        name: "time_unit",
        about: "how times are written: ns, us, ms, s, m, h, rfc3339 or auto (default ns; RFC 3339 is always taken)",
    },
    OptionHelp {
        name: "precision",
        about: "the same as time_unit, as InfluxDB calls it",
    },
    OptionHelp {
        name: "types",
        about: "types of fields: usage:float,cores:integer,up:boolean,note:string, unsigned (default: by what stands there; numbers are floats)",
    },
    OptionHelp {
        name: "columns",
        about: "names of the columns, with commas between, for files without a header",
    },
    OptionHelp {
        name: "delimiter",
        about: "between cells: one character, or tab (default ,)",
    },
    OptionHelp {
        name: "quote",
        about: "around cells: one character (default \")",
    },
];

/// The options, read.
pub struct Settings {
    pub measurement: Option<String>,
    pub measurement_column: Option<String>,
    pub tag_columns: Vec<String>,
    pub field_columns: Option<Vec<String>>,
    pub time_column: String,
    pub time_unit: TimeUnit,
    pub types: Vec<(String, Kind)>,
    /// Without a header: the columns.
    pub columns: Option<Vec<String>>,
    pub delimiter: u8,
    pub quote: u8,
}

/// What the cells of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What they look like: a number, true or false, or text.
    Any,
    Float,
    Integer,
    Unsigned,
    Boolean,
    String,
}

const KINDS: &[(&str, Kind)] = &[
    ("float", Kind::Float),
    ("integer", Kind::Integer),
    ("unsigned", Kind::Unsigned),
    ("boolean", Kind::Boolean),
    ("string", Kind::String),
];

impl Settings {
    pub fn read(options: &Options) -> Result<Self, OptionError> {
        let list = |name: &str| {
            let list = options.get(name)?;
            Some(list.split(',').map(|c| c.trim().to_string()).collect::<Vec<_>>())
        };
        let time_unit = TimeUnit::of_options(|name| options.get(name))
            .map_err(|(name, reason)| OptionError::new(name, reason))?;
        let mut types = Vec::new();
        for item in list("types").unwrap_or_default() {
            let known = item.rsplit_once(':').and_then(|(column, kind)| {
                let kind = KINDS.iter().find(|(name, _)| *name == kind)?.1;
                Some((column.to_string(), kind))
            });
            types.push(known.ok_or_else(|| {
                let reason = format!(
                    "invalid types \"{item}\" (use COLUMN:float, integer, unsigned, boolean or string)"
                );
                OptionError::new("types", reason)
            })?);
        }
        let delimiter = character(options, "delimiter", b',')?;
        let quote = character(options, "quote", b'"')?;
        if delimiter == quote {
            return Err(OptionError::new("quote", "quote and delimiter are the same"));
        }
        let text = |name: &str| options.get(name).map(str::to_string);
        Ok(Self {
            measurement: text("measurement"),
            measurement_column: text("measurement_column"),
            tag_columns: list("tag_columns").unwrap_or_default(),
            field_columns: list("field_columns"),
            time_column: text("time_column").unwrap_or_else(|| "time".into()),
            time_unit,
            types,
            columns: list("columns"),
            delimiter,
            quote,
        })
    }

    /// What cells of a column are.
    pub fn kind(&self, column: &str) -> Kind {
        let given = self.types.iter().find(|(name, _)| name == column);
        given.map_or(Kind::Any, |(_, kind)| *kind)
    }
}

fn character(options: &Options, name: &str, default: u8) -> Result<u8, OptionError> {
    match options.get(name).map(str::as_bytes) {
        None => Ok(default),
        Some(b"tab" | b"\\t") => Ok(b'\t'),
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'#') => Ok(*byte),
        Some(_) => {
            let reason = format!("invalid {name} (use one character, or tab)");
            Err(OptionError::new(name, reason))
        }
    }
}
