//! The spelling of a series is a message of our own, put together from the bytes of the request: attributes of resource and point, scope, the
//! metric's name. It is taken apart when it is seen for the first time.

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

/// Reads spellings.
pub struct Attributes;

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

impl SeriesSpelling for Attributes {
    fn read(&self, spelling: &[u8], parts: &mut SeriesParts) -> Result<(), (u64, String)> {
        let fail = |reason: &str| (1, reason.to_string());
        let broken = |_: Broken| fail("broken message");
        let mut message = Message::new(spelling);
        let mut suffix = "";
        while let Some((number, wire)) = message.next_field().map_err(broken)? {
            let text = || wire.text().ok_or_else(|| fail("invalid UTF-8"));
            match number {
                METRIC_NAME => parts.measurement = text()?.to_string(),
                SUFFIX => suffix = text()?,
                SCOPE_NAME => put(parts, "otel.scope.name", text()?.to_string()),
                SCOPE_VERSION => put(parts, "otel.scope.version", text()?.to_string()),
                LE => put(parts, "le", text()?.to_string()),
                QUANTILE => put(parts, "quantile", text()?.to_string()),
                _ => {
                    let (key, value) = attribute(wire).map_err(fail)?;
                    put(parts, key, value);
                }
            }
        }
        if parts.measurement.is_empty() {
            return Err(fail("metric without a name"));
        }
        parts.measurement.push_str(suffix);
        Ok(())
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
