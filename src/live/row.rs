//! Rows of answers as subscriptions hold them, and the groups they belong to.

use crate::query::Value;
use crate::query::encode::json_text;
use std::collections::HashMap;
use std::sync::Arc;

/// The values of a row without its time, or of several rows one after the other. Shared by all who are sent them. Equal are those that
/// are written alike: to the bit.
#[derive(Clone, Debug)]
pub struct Cells {
    values: Arc<[Value]>,
    weight: usize,
}

impl Cells {
    /// The values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Bytes they take in a message, about, and not less than as JSON.
    pub fn weight(&self) -> usize {
        self.weight
    }
}

fn weight(value: &Value) -> usize {
    match value {
        // Characters below a space become six.
        Value::String(text) => text.len() + 3 + 5 * text.bytes().filter(|b| is_escaped(*b)).count(),
        _ => NUMBER_BYTES,
    }
}

/// Bytes of the longest number, and a comma.
const NUMBER_BYTES: usize = 26;

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

impl From<Vec<Value>> for Cells {
    fn from(values: Vec<Value>) -> Self {
        let weight = NUMBER_BYTES + values.iter().map(weight).sum::<usize>();
        let values = values.into();
        Self { values, weight }
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        let same = |pair: (&Value, &Value)| match pair {
            (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        };
        Arc::ptr_eq(&self.values, &other.values)
            || (self.values.len() == other.values.len()
                && self.values.iter().zip(other.values.iter()).all(same))
    }
}

impl Eq for Cells {}

/// What stands in an answer for one group and time: a row, or the several that some functions give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The group's number, from [`Groups`].
    pub group: u32,
    /// The window's start, nanoseconds.
    pub time: i64,
    /// Its values.
    pub cells: Cells,
}

/// What rows of a group have in common.
#[derive(Clone, Debug)]
pub struct Group {
    /// The measurement.
    pub name: String,
    /// Of GROUP BY.
    pub tags: Vec<(String, String)>,
    /// The tags as a JSON object; empty without any.
    pub tags_json: String,
}

/// Numbers for groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: Vec<Group>,
    numbers: HashMap<String, u32>,
    bytes: usize,
}

/// What a group takes beside its texts.
const GROUP_BYTES: usize = 200;
/// What a tag takes beside its texts.
const TAG_BYTES: usize = 48;

impl Groups {
    /// The number of a group, a new one at first sight.
    pub fn number(&mut self, name: &str, tags: &[(String, String)]) -> u32 {
        let tags_json = tags_json(tags);
        let key = format!("{}{tags_json}{name}", tags_json.len());
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = u32::try_from(self.groups.len()).expect("rows are limited far below 2^32 groups");
        let texts = |(key, value): &(String, String)| key.len() + value.len() + TAG_BYTES;
        let tags_bytes = tags.iter().map(texts).sum::<usize>() + tags_json.len();
        self.bytes += GROUP_BYTES + name.len() + tags_bytes + key.len();
        self.groups.push(Group {
            name: name.to_string(),
            tags: tags.to_vec(),
            tags_json,
        });
        self.numbers.insert(key, number);
        number
    }

    /// A group.
    pub fn get(&self, number: u32) -> &Group {
        &self.groups[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Bytes of memory they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// None yet.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

fn tags_json(tags: &[(String, String)]) -> String {
    let mut out = String::new();
    for (key, value) in tags {
        out.push(if out.is_empty() { '{' } else { ',' });
        json_text(key, &mut out);
        out.push(':');
        json_text(value, &mut out);
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

/// A row of JSON numbers and texts, time first, as tests write it.
#[cfg(test)]
pub fn row_of_json(group: u32, time: i64, json: &str) -> Row {
    use serde_json::Value as Json;
    let values: Vec<Json> = serde_json::from_str(json).expect("a JSON array");
    let value = |json: &Json| match json {
        Json::Number(n) if n.is_i64() => Value::Integer(n.as_i64().expect("an integer")),
        Json::Number(n) => Value::Float(n.as_f64().expect("a number")),
        Json::Bool(b) => Value::Boolean(*b),
        Json::String(text) => Value::String(text.as_str().into()),
        _ => Value::Null,
    };
    let cells: Vec<Value> = values.iter().skip(1).map(value).collect();
    let cells = cells.into();
    Row { group, time, cells }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_equal_when_they_are_written_alike() {
        let cells = |value| Cells::from(vec![value]);
        assert_eq!(cells(Value::Float(1.5)), cells(Value::Float(1.5)));
        assert_ne!(cells(Value::Float(0.0)), cells(Value::Float(-0.0)));
        assert_ne!(cells(Value::Float(1.0)), cells(Value::Integer(1)));
        assert_ne!(cells(Value::Null), Cells::from(Vec::new()));
    }

    #[test]
    fn a_weight_is_not_below_the_length_as_json() {
        for value in [
            Value::Float(-f64::MAX),
            Value::Float(-1.234_567_890_123_456_7e-300),
            Value::Integer(i64::MIN),
            Value::Unsigned(u64::MAX),
            Value::Null,
            Value::String("a\u{1}\"\\\n".into()),
        ] {
            let mut json = String::from("[-9223372036854775808,");
            crate::query::encode::json_value(&value, &mut json);
            json.push(']');
            let weight = Cells::from(vec![value]).weight();
            assert!(weight >= json.len(), "{json}: {weight}");
        }
    }
}
