//! All that a database holds, to be compared with all that was sent to it.

use crate::support::Server;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Measurement, tags, and time.
pub type Point = (String, BTreeMap<String, String>, i64);
/// Fields by name; numbers are floats, whatever their type.
pub type Fields = BTreeMap<String, Value>;

/// Every point of a database.
pub fn contents(server: &Server, database: &str) -> BTreeMap<Point, Fields> {
    let answer = server.query(database, "SELECT * FROM /.*/ GROUP BY *");
    let result = &answer["results"][0];
    assert!(result.get("error").is_none(), "{answer}");
    let mut out = BTreeMap::new();
    for series in result["series"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().expect("text").to_string();
        // A tag that others of the measurement have, and this series has not, is empty.
        let tags: BTreeMap<String, String> = series["tags"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| *value != "")
            .map(|(key, value)| (key.clone(), text(value)))
            .collect();
        let columns: Vec<String> = series["columns"]
            .as_array()
            .expect("columns")
            .iter()
            .map(text)
            .collect();
        for row in series["values"].as_array().expect("rows") {
            let cells = row.as_array().expect("a row");
            let fields = columns.iter().zip(cells).skip(1);
            let fields: Fields = fields
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect();
            let time = cells[0].as_i64().expect("a time");
            let before = out.insert((text(&series["name"]), tags.clone(), time), fields);
            assert_eq!(before, None, "a point twice: {row}");
        }
    }
    out
}

/// A point as [`contents`] has it.
pub fn point(measurement: &str, tags: &[(&str, &str)], time: i64) -> Point {
    let tags = tags
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    (measurement.to_string(), tags.collect(), time)
}

/// Fields as [`contents`] has them, of an object.
pub fn fields(object: Value) -> Fields {
    let object = object.as_object().expect("an object");
    object
        .iter()
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect()
}

/// Numbers as floats.
fn plain(value: &Value) -> Value {
    value
        .as_f64()
        .map_or_else(|| value.clone(), |number| json!(number))
}
