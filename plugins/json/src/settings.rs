//! The options: which keys mean what.

use crate::nested::Keys;
use kymo_plugin_api::{OptionError, OptionHelp, Options};
use kymo_plugin_reading::time::TimeUnit;

/// What users may set.
pub const OPTIONS: &[OptionHelp] = &[
    OptionHelp {
        name: "measurement",
        about: "the measurement of all points",
    },
    OptionHelp {
        name: "measurement_key",
        about: "key of the measurement's name (default measurement)",
    },
    OptionHelp {
        name: "tags_key",
        about: "key of the object of tags (default tags)",
    },
    OptionHelp {
        name: "fields_key",
        about: "key of the object of fields (default fields)",
    },
    OptionHelp {
        name: "time_key",
        about: "key of the time (default time)",
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
        name: "integers",
        about: "on: numbers without a point or exponent are integers (default off: all numbers are floats)",
    },
    OptionHelp {
        name: "shape",
        about: "nested: tags and fields are objects; flat: every value of the object is a field unless mapped (default nested; flat when tag_keys or field_keys are given)",
    },
    OptionHelp {
        name: "tag_keys",
        about: "keys of tags in a flat object, with commas between, dots into nested objects, and :NAME for another name",
    },
    OptionHelp {
        name: "field_keys",
        about: "keys of fields in a flat object, likewise; others are ignored (default: all that are nothing else)",
    },
    OptionHelp {
        name: "rows",
        about: "where in an object its array of points is: data.items",
    },
];

/// The options, read.
pub struct Settings {
    /// The measurement of all points.
    pub measurement: Option<String>,
    pub measurement_key: String,
    pub tags_key: String,
    pub fields_key: String,
    pub time_key: String,
    pub time_unit: TimeUnit,
    pub integers: bool,
    pub rows: Vec<String>,
    pub flat: Option<Mapping>,
    pub keys: Keys,
}

/// What the paths of a flat object mean.
pub struct Mapping {
    pub tags: Vec<Mapped>,
    /// `None`: every path that is nothing else.
    pub fields: Option<Vec<Mapped>>,
}

/// A path and what it is called in the database.
pub struct Mapped {
    /// Keys with dots between.
    pub path: String,
    pub name: String,
}

impl Settings {
    pub fn read(options: &Options) -> Result<Self, OptionError> {
        let text = |name: &str, default: &str| options.get(name).unwrap_or(default).to_string();
        let (tags, fields) = (mapped(options, "tag_keys")?, mapped(options, "field_keys")?);
        let shape = options.one_of("shape", &[("nested", false), ("flat", true)])?;
        let is_mapped = tags.is_some() || fields.is_some();
        if shape == Some(false) && is_mapped {
            let reason = "tag_keys and field_keys are for shape=flat";
            return Err(OptionError::new("shape", reason));
        }
        let flat = shape.unwrap_or(is_mapped).then(|| Mapping {
            tags: tags.unwrap_or_default(),
            fields,
        });
        let time_unit = TimeUnit::of_options(|name| options.get(name))
            .map_err(|(name, reason)| OptionError::new(name, reason))?;
        let path = |path: &str| path.split('.').map(str::to_string).collect();
        let measurement_key = text("measurement_key", "measurement");
        let tags_key = text("tags_key", "tags");
        let fields_key = text("fields_key", "fields");
        let time_key = text("time_key", "time");
        Ok(Self {
            measurement: options.get("measurement").map(str::to_string),
            keys: Keys::new([&measurement_key, &tags_key, &fields_key, &time_key]),
            measurement_key,
            tags_key,
            fields_key,
            time_key,
            time_unit,
            integers: options
                .one_of("integers", &[("off", false), ("on", true)])?
                .unwrap_or(false),
            rows: options.get("rows").map(path).unwrap_or_default(),
            flat,
        })
    }
}

/// `a,b.c,d.e:name`
fn mapped(options: &Options, option: &str) -> Result<Option<Vec<Mapped>>, OptionError> {
    let Some(list) = options.get(option) else {
        return Ok(None);
    };
    let one = |item: &str| {
        let (path, name) = item.rsplit_once(':').unwrap_or((item, ""));
        let last = path.rsplit('.').next().unwrap_or(path);
        let name = if name.is_empty() { last } else { name };
        let mapped = Mapped {
            path: path.trim().to_string(),
            name: name.trim().to_string(),
        };
        if mapped.path.is_empty() || mapped.name.is_empty() {
            return Err(OptionError::new(
                option,
                format!("invalid {option} \"{list}\" (an empty key)"),
            ));
        }
        Ok(mapped)
    };
    list.split(',').map(one).collect::<Result<_, _>>().map(Some)
}
