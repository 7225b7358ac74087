//! The spelling of a series is a message of our own, put together from the bytes of the request: attributes of resource and point, scope, the
//! metric's name. It is taken apart when it is seen for the first time.

use kymo_plugin_api::series::column_of;
use kymo_plugin_api::{SeriesParts, SeriesSpelling};
use kymo_plugin_reading::protobuf::{Broken, Message, Wire};

/// Members of a spelling.
pub const ATTRIBUTE: u32 = 1;
pub const SCOPE_NAME: u32 = 2;
pub const SCOPE_VERSION: u32 = 3;
pub const METRIC_NAME: u32 = 4;
pub const SUFFIX: u32 = 5;
/// A bucket's bound, and a quantile.
pub const LE: u32 = 6;
pub const QUANTILE: u32 = 7;

/// Nested values of an attribute.
const DEPTH_MAX: usize = 16;

/// Where a point stands in its request, for messages: parts of it, one inside the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// Empty where its bytes are not those of the sender.
    pub request: &'a [u8],
    pub resource_metrics: &'a [u8],
    pub scope_metrics: &'a [u8],
    /// Of the metric.
    pub name: &'a [u8],
    pub point: &'a [u8],
    /// Their number in the point.
    pub attributes: u32,
}

impl<'a> Around<'a> {
    /// The bytes that a member of the spelling was copied from: of its kind, the one after so many.
    fn part(&self, member: u32, before: usize) -> Option<&'a [u8]> {
        let resource = || all(self.resource_metrics, 1).flat_map(|resource| all(resource, 1));
        let scopes = |number| all(self.scope_metrics, 1).flat_map(move |scope| all(scope, number));
        match member {
            METRIC_NAME => Some(self.name),
            SCOPE_NAME => scopes(1).nth(before),
            SCOPE_VERSION => scopes(2).nth(before),
            ATTRIBUTE => {
                let own = all(self.point, self.attributes);
                resource().chain(scopes(3)).chain(own).nth(before)
            }
            // A bound or a quantile: what it was told by is somewhere in the point.
            _ => Some(self.point),
        }
    }

    fn column(&self, member: u32, before: usize) -> Option<u64> {
        column_of(self.request, self.part(member, before)?)
    }
}

/// The members of a message that have this number, if it can be read and they are bytes.
fn all(bytes: &[u8], wanted: u32) -> impl Iterator<Item = &[u8]> {
    let mut message = Message::new(bytes);
    let fields = std::iter::from_fn(move || message.next_field().ok()?);
    fields.filter_map(move |(number, wire)| wire.bytes().filter(|_| number == wanted))
}

/// Reads spellings.
pub struct Attributes<'a>(pub Around<'a>);

/// Adds a member to a spelling.
pub fn write(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    out.push((number << 3 | 2) as u8);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a number as Protobuf does.
pub fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Members of a spelling, each with how many of its kind were before it.
fn spelt(spelling: &[u8]) -> impl Iterator<Item = (u32, usize, Result<Wire<'_>, Broken>)> {
    let mut message = Message::new(spelling);
    let mut before = [0; QUANTILE as usize + 1];
    std::iter::from_fn(move || {
        let (number, wire) = match message.next_field().transpose()? {
            Ok(field) => field,
            Err(broken) => return Some((METRIC_NAME, 0, Err(broken))),
        };
        let count = before.get_mut(number as usize)?;
        *count += 1;
        Some((number, *count - 1, Ok(wire)))
    })
}

/// The tag that a member of a spelling stands for: key and value.
fn tag(number: u32, wire: Wire<'_>) -> Result<(&str, String), &'static str> {
    let key = match number {
        SCOPE_NAME => "otel.scope.name",
        SCOPE_VERSION => "otel.scope.version",
        LE => "le",
        QUANTILE => "quantile",
        _ => return attribute(wire),
    };
    Ok((key, wire.text().ok_or("invalid UTF-8")?.to_string()))
}

impl SeriesSpelling for Attributes<'_> {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let mut suffix = "";
        for (number, before, wire) in spelt(spelling) {
            let fail = |reason: &str| {
                let column = self.0.column(number, before);
                (column.unwrap_or(1), reason.to_string())
            };
            let wire = wire.map_err(|_| fail("broken message"))?;
            let text = || wire.text().ok_or_else(|| fail("invalid UTF-8"));
            match number {
                METRIC_NAME => parts.measurement = text()?.to_string(),
                SUFFIX => suffix = text()?,
                _ => {
                    let (key, value) = tag(number, wire).map_err(fail)?;
                    put(parts, key, value);
                }
            }
        }
        if parts.measurement.is_empty() {
            let column = column_of(self.0.request, self.0.point);
            return Err((column.unwrap_or(1), "metric without a name".to_string()));
        }
        parts.measurement.push_str(suffix);
        Ok(())
    }

    fn tag_column(&self, spelling: &[u8], wanted: usize) -> Option<u64> {
        let mut parts = SeriesParts::default();
        self.read(spelling, &mut parts).ok()?;
        let (wanted, _) = parts.tags.get(wanted)?;
        // Of those with one key the last counts.
        let mut found = None;
        for (number, before, wire) in spelt(spelling) {
            if !matches!(number, METRIC_NAME | SUFFIX) && tag(number, wire.ok()?).ok()?.0 == wanted {
                found = Some((number, before));
            }
        }
        let (number, before) = found?;
        self.0.column(number, before)
    }

    fn field_column(&self, _: &[u8], _: usize, _: &str) -> Option<u64> {
        column_of(self.0.request, self.0.point)
    }

    fn time_column(&self, _: &[u8]) -> Option<u64> {
        column_of(self.0.request, self.0.point)
    }
}

/// Of two with one key, the nearer to the point counts.
fn put(parts: &mut SeriesParts, key: &str, value: String) {
    match parts.tags.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => *known = value,
        None if value.is_empty() => {}
        None => parts.tags.push((key.to_string(), value)),
    }
}

/// A KeyValue.
fn attribute(wire: Wire<'_>) -> Result<(&str, String), &'static str> {
    let mut message = Message::new(wire.bytes().unwrap_or_default());
    let (mut key, mut value) = ("", String::new());
    while let Some((number, wire)) = message.next_field().map_err(|_| "broken message")? {
        match number {
            1 => key = wire.text().ok_or("invalid UTF-8")?,
            2 => value = any_value(wire, 0)?,
            _ => {}
        }
    }
    if key.is_empty() {
        return Err("attribute without a key");
    }
    Ok((key, value))
}

/// An AnyValue as text: texts as they are, lists and maps as JSON, bytes as hexadecimal digits.
fn any_value(wire: Wire<'_>, depth: usize) -> Result<String, &'static str> {
    if depth > DEPTH_MAX {
        return Err("attribute nested too deep (depth_max 16)");
    }
    let mut message = Message::new(wire.bytes().ok_or("broken message")?);
    let mut out = String::new();
    while let Some((number, wire)) = message.next_field().map_err(|_| "broken message")? {
        let bytes = || wire.bytes().ok_or("broken message");
        match (number, wire) {
            (1, _) => out = wire.text().ok_or("invalid UTF-8")?.to_string(),
            (2, Wire::Varint(value)) => out = (value != 0).to_string(),
            (3, Wire::Varint(value)) => out = (value as i64).to_string(),
            (4, Wire::Fixed64(bits)) => out = f64::from_bits(bits).to_string(),
            (5, _) => out = format!("[{}]", members(bytes()?, false, depth)?.join(",")),
            (6, _) => out = format!("{{{}}}", members(bytes()?, true, depth)?.join(",")),
            (7, _) => out = bytes()?.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => {}
        }
    }
    Ok(out)
}

/// The values of a list or map, as JSON.
fn members(bytes: &[u8], is_map: bool, depth: usize) -> Result<Vec<String>, &'static str> {
    let mut message = Message::new(bytes);
    let mut out = Vec::new();
    while let Some((number, wire)) = message.next_field().map_err(|_| "broken message")? {
        if number != 1 {
            continue;
        }
        if !is_map {
            out.push(as_json(wire, depth)?);
            continue;
        }
        let mut pair = Message::new(wire.bytes().ok_or("broken message")?);
        let (mut key, mut value) = ("", "null".to_string());
        while let Some((number, wire)) = pair.next_field().map_err(|_| "broken message")? {
            match number {
                1 => key = wire.text().ok_or("invalid UTF-8")?,
                2 => value = as_json(wire, depth)?,
                _ => {}
            }
        }
        out.push(format!("{key:?}:{value}"));
    }
    Ok(out)
}

fn as_json(wire: Wire<'_>, depth: usize) -> Result<String, &'static str> {
    let text = any_value(wire, depth + 1)?;
    let is_text = matches!(
        Message::new(wire.bytes().unwrap_or_default()).next_field(),
        Ok(Some((1 | 7, _)))
    );
    Ok(if is_text { format!("{text:?}") } else { text })
}
