//! What each column is: by the header and the options, or by InfluxDB's annotations, which come in two kinds. What `influx write`
//! takes says the role of each column (`#datatype measurement,tag,double,dateTime:RFC3339`); what a Flux query answers has a row for each value
//! (`_time`, `_value`, `_field`, `_measurement`, and tags).

use crate::settings::{Kind, Settings};
use kymo_plugin_reading::time::TimeUnit;

/// What a column is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Measurement,
    Tag,
    Field(Kind),
    Time(TimeUnit),
    /// The name of the field whose value is in the column [`FieldValue`](Role::FieldValue).
    FieldName,
    FieldValue(Kind),
    Ignored,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub role: Role,
    /// For cells that are empty.
    pub default: String,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub measurement: Option<String>,
    /// Tags of all rows.
    pub tags: Vec<(String, String)>,
    /// The lines that say all this.
    pub header: Vec<u8>,
}

/// Annotations above a header.
#[derive(Clone, Debug, Default)]
pub struct Annotations {
    datatype: Option<Vec<String>>,
    default: Vec<String>,
    constants: Vec<Vec<String>>,
    /// Their lines.
    pub lines: Vec<u8>,
}

impl Annotations {
    /// Is a line with this first cell an annotation?
    pub fn is_one(cell: &str) -> bool {
        let name = cell.split(' ').next().unwrap_or_default();
        [
            "#datatype",
            "#group",
            "#default",
            "#constant",
            "#timezone",
            "#concat",
        ]
        .contains(&name)
    }

    /// Takes an annotation.
    pub fn add(&mut self, cells: &[&str], line: &[u8]) {
        let (name, first) = cells[0].split_once(' ').unwrap_or((cells[0], ""));
        let mut rest: Vec<String> = cells[1..].iter().map(|cell| (*cell).to_string()).collect();
        // `#datatype string,long` of Flux has a column of its own for the name; `#datatype measurement,tag` has not.
        if !first.is_empty() {
            rest.insert(0, first.to_string());
        } else {
            rest.insert(0, String::new());
        }
        match name {
            "#datatype" => self.datatype = Some(rest),
            "#default" => self.default = rest,
            "#constant" => self.constants.push(rest),
            _ => {}
        }
        self.lines.extend_from_slice(line);
        self.lines.push(b'\n');
    }

    /// The table of a header below these annotations.
    pub fn table(mut self, names: &[&str], line: &[u8], settings: &Settings) -> Table {
        let mut table = match &self.datatype {
            None => Table {
                columns: names.iter().map(|name| by_options(name, settings)).collect(),
                ..Table::default()
            },
            Some(types) => Table {
                columns: by_datatypes(names, types, settings),
                ..Table::default()
            },
        };
        for (column, default) in table.columns.iter_mut().zip(&self.default) {
            column.default.clone_from(default);
        }
        table.measurement.clone_from(&settings.measurement);
        for constant in &self.constants {
            let words: Vec<&str> = constant
                .iter()
                .map(String::as_str)
                .filter(|w| !w.is_empty())
                .collect();
            match words.as_slice() {
                ["measurement", name] => table.measurement = Some((*name).to_string()),
                ["tag", key, value] => table.tags.push(((*key).to_string(), (*value).to_string())),
                _ => {}
            }
        }
        table.header = std::mem::take(&mut self.lines);
        if settings.columns.is_none() {
            table.header.extend_from_slice(line);
            table.header.push(b'\n');
        }
        table
    }
}

fn by_options(name: &str, settings: &Settings) -> Column {
    let name = name.trim();
    let is = |wanted: &str| wanted == name;
    let role = if settings.measurement_column.as_deref() == Some(name) {
        Role::Measurement
    } else if settings.tag_columns.iter().any(|column| is(column)) {
        Role::Tag
    } else if is(&settings.time_column) {
        Role::Time(settings.time_unit)
    } else {
        let wanted = settings.field_columns.as_ref();
        match wanted.is_none_or(|columns| columns.iter().any(|column| is(column))) && !name.is_empty() {
            true => Role::Field(settings.kind(name)),
            false => Role::Ignored,
        }
    };
    column(name, role)
}

fn column(name: &str, role: Role) -> Column {
    Column {
        name: name.to_string(),
        role,
        default: String::new(),
    }
}

fn by_datatypes(names: &[&str], types: &[String], settings: &Settings) -> Vec<Column> {
    let is_flux = names.contains(&"_value") && names.contains(&"_field");
    let one = |(index, name): (usize, &&str)| {
        let datatype = types.get(index).map_or("", |datatype| datatype.trim());
        let role = if is_flux {
            flux_role(name, datatype)
        } else {
            role(name, datatype, settings)
        };
        column(name.trim(), role)
    };
    names.iter().enumerate().map(one).collect()
}

/// A column of a Flux query's answer.
fn flux_role(name: &str, datatype: &str) -> Role {
    match name {
        "" | "result" | "table" | "_start" | "_stop" => Role::Ignored,
        "_time" => Role::Time(TimeUnit::Unit(1)),
        "_value" => Role::FieldValue(kind(datatype).unwrap_or(Kind::Any)),
        "_field" => Role::FieldName,
        "_measurement" => Role::Measurement,
        _ => Role::Tag,
    }
}

/// A column of what `influx write` takes.
fn role(name: &str, datatype: &str, settings: &Settings) -> Role {
    let (word, format) = datatype.split_once(':').unwrap_or((datatype, ""));
    match word {
        "measurement" => Role::Measurement,
        "tag" => Role::Tag,
        "dateTime" | "time" => Role::Time(match format {
            "RFC3339" | "RFC3339Nano" => TimeUnit::Unit(1),
            "number" | "" => settings.time_unit,
            _ => TimeUnit::Auto,
        }),
        "ignored" | "ignore" => Role::Ignored,
        "field" => Role::Field(Kind::Any),
        _ => match kind(word) {
            Some(kind) => Role::Field(kind),
            None if name.is_empty() => Role::Ignored,
            None => Role::Field(Kind::Any),
        },
    }
}

fn kind(datatype: &str) -> Option<Kind> {
    Some(match datatype {
        "double" => Kind::Float,
        "long" => Kind::Integer,
        "unsignedLong" => Kind::Unsigned,
        "boolean" => Kind::Boolean,
        "string" | "duration" | "base64Binary" => Kind::String,
        _ => return None,
    })
}
