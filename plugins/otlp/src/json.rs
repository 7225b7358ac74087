//! OTLP's JSON to its Protobuf: lowerCamelCase names, 64-bit integers as numbers or texts, doubles as numbers or `"NaN"`. What is not
//! needed is passed over.

use crate::series::write_varint;
use kymo_plugin_reading::json::{Cursor, DEPTH_MAX, Fault, Scalar};
use kymo_plugin_reading::number;

/// What a member is.
#[derive(Clone, Copy)]
enum Is {
    Message(&'static &'static [Member]),
    Text,
    Boolean,
    Double,
    /// fixed64, sfixed64
    Fixed,
    /// int64, uint64, uint32
    Integer,
    /// sint32
    Signed,
}

struct Member(&'static str, u32, Is);

static REQUEST: &[Member] = &[Member("resourceMetrics", 1, Is::Message(&RESOURCE_METRICS))];
static RESOURCE_METRICS: &[Member] = &[
    Member("resource", 1, Is::Message(&RESOURCE)),
    Member("scopeMetrics", 2, Is::Message(&SCOPE_METRICS)),
];
static RESOURCE: &[Member] = &[Member("attributes", 1, Is::Message(&KEY_VALUE))];
static SCOPE_METRICS: &[Member] = &[
    Member("scope", 1, Is::Message(&SCOPE)),
    Member("metrics", 2, Is::Message(&METRIC)),
];
static SCOPE: &[Member] = &[
    Member("name", 1, Is::Text),
    Member("version", 2, Is::Text),
    Member("attributes", 3, Is::Message(&KEY_VALUE)),
];
static METRIC: &[Member] = &[
    Member("name", 1, Is::Text),
    Member("gauge", 5, Is::Message(&NUMBERS)),
    Member("sum", 7, Is::Message(&NUMBERS)),
    Member("histogram", 9, Is::Message(&HISTOGRAMS)),
    Member("exponentialHistogram", 10, Is::Message(&EXPONENTIALS)),
    Member("summary", 11, Is::Message(&SUMMARIES)),
];
static NUMBERS: &[Member] = &[Member("dataPoints", 1, Is::Message(&NUMBER))];
static HISTOGRAMS: &[Member] = &[Member("dataPoints", 1, Is::Message(&HISTOGRAM))];
static EXPONENTIALS: &[Member] = &[Member("dataPoints", 1, Is::Message(&EXPONENTIAL))];
static SUMMARIES: &[Member] = &[Member("dataPoints", 1, Is::Message(&SUMMARY))];
static NUMBER: &[Member] = &[
    Member("attributes", 7, Is::Message(&KEY_VALUE)),
    Member("timeUnixNano", 3, Is::Fixed),
    Member("asDouble", 4, Is::Double),
    Member("asInt", 6, Is::Fixed),
    Member("flags", 8, Is::Integer),
];
static HISTOGRAM: &[Member] = &[
    Member("attributes", 9, Is::Message(&KEY_VALUE)),
    Member("timeUnixNano", 3, Is::Fixed),
    Member("count", 4, Is::Fixed),
    Member("sum", 5, Is::Double),
    Member("bucketCounts", 6, Is::Fixed),
    Member("explicitBounds", 7, Is::Double),
    Member("flags", 10, Is::Integer),
    Member("min", 11, Is::Double),
    Member("max", 12, Is::Double),
];
static EXPONENTIAL: &[Member] = &[
    Member("attributes", 1, Is::Message(&KEY_VALUE)),
    Member("timeUnixNano", 3, Is::Fixed),
    Member("count", 4, Is::Fixed),
    Member("sum", 5, Is::Double),
    Member("scale", 6, Is::Signed),
    Member("zeroCount", 7, Is::Fixed),
    Member("positive", 8, Is::Message(&BUCKETS)),
    Member("negative", 9, Is::Message(&BUCKETS)),
    Member("flags", 10, Is::Integer),
    Member("min", 12, Is::Double),
    Member("max", 13, Is::Double),
    Member("zeroThreshold", 14, Is::Double),
];
static BUCKETS: &[Member] = &[
    Member("offset", 1, Is::Signed),
    Member("bucketCounts", 2, Is::Integer),
];
static SUMMARY: &[Member] = &[
    Member("attributes", 7, Is::Message(&KEY_VALUE)),
    Member("timeUnixNano", 3, Is::Fixed),
    Member("count", 4, Is::Fixed),
    Member("sum", 5, Is::Double),
    Member("quantileValues", 6, Is::Message(&QUANTILE)),
    Member("flags", 8, Is::Integer),
];
static QUANTILE: &[Member] = &[Member("quantile", 1, Is::Double), Member("value", 2, Is::Double)];
static KEY_VALUE: &[Member] = &[
    Member("key", 1, Is::Text),
    Member("value", 2, Is::Message(&ANY_VALUE)),
];
static ANY_VALUE: &[Member] = &[
    Member("stringValue", 1, Is::Text),
    Member("boolValue", 2, Is::Boolean),
    Member("intValue", 3, Is::Integer),
    Member("doubleValue", 4, Is::Double),
    Member("arrayValue", 5, Is::Message(&ARRAY)),
    Member("kvlistValue", 6, Is::Message(&KEY_VALUES)),
    // Base64, kept as the text it is.
    Member("bytesValue", 1, Is::Text),
];
static ARRAY: &[Member] = &[Member("values", 1, Is::Message(&ANY_VALUE))];
static KEY_VALUES: &[Member] = &[Member("values", 1, Is::Message(&KEY_VALUE))];

/// Writes the request as Protobuf; where and why when it cannot.
pub fn to_protobuf(json: &[u8], out: &mut Vec<u8>) -> Result<(), (usize, String)> {
    let text = std::str::from_utf8(json).map_err(|e| (e.valid_up_to(), "invalid UTF-8".to_string()))?;
    let mut cursor = Cursor::new(text, 0);
    let mut run = || {
        message(&mut cursor, REQUEST, out, 0)?;
        match cursor.peek() {
            None => Ok(()),
            Some(_) => Err(Fault::new(cursor.at(), "something follows the JSON")),
        }
    };
    run().map_err(|fault| (fault.at, fault.reason.into_owned()))
}

fn message(
    cursor: &mut Cursor<'_>,
    members: &[Member],
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Fault> {
    if depth > DEPTH_MAX {
        return Err(Fault::new(
            cursor.at(),
            format!("nested too deep (depth_max {DEPTH_MAX})"),
        ));
    }
    cursor.enter(b'{')?;
    let mut first = true;
    while cursor.more(b'}', &mut first)? {
        let key = cursor.key()?;
        let Some(Member(_, number, is)) = members.iter().find(|member| member.0 == key) else {
            cursor.skip()?;
            continue;
        };
        if cursor.peek() == Some(b'[') {
            cursor.enter(b'[')?;
            let mut first = true;
            while cursor.more(b']', &mut first)? {
                member(cursor, *number, *is, out, depth)?;
            }
        } else {
            member(cursor, *number, *is, out, depth)?;
        }
    }
    Ok(())
}

fn member(
    cursor: &mut Cursor<'_>,
    number: u32,
    is: Is,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), Fault> {
    let key = |kind: u32, out: &mut Vec<u8>| write_varint(u64::from(number << 3 | kind), out);
    if cursor.peek() == Some(b'n') {
        // null is as good as absent.
        return cursor.scalar().map(drop);
    }
    let at = cursor.at();
    let invalid = |what: &str| Fault::new(at, format!("invalid {what}"));
    match is {
        Is::Message(members) => {
            let mut inner = Vec::new();
            message(cursor, members, &mut inner, depth + 1)?;
            key(2, out);
            write_varint(inner.len() as u64, out);
            out.extend_from_slice(&inner);
        }
        Is::Text => {
            let text = cursor.string()?;
            key(2, out);
            write_varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
        Is::Boolean => {
            let Scalar::Boolean(value) = cursor.scalar()? else {
                return Err(invalid("boolean"));
            };
            key(0, out);
            out.push(u8::from(value));
        }
        Is::Double => {
            let scalar = cursor.scalar()?;
            let value = text_of(&scalar).and_then(number::float_or_special);
            key(1, out);
            out.extend_from_slice(&value.ok_or_else(|| invalid("number"))?.to_le_bytes());
        }
        Is::Fixed | Is::Integer | Is::Signed => {
            let scalar = cursor.scalar()?;
            let value = text_of(&scalar)
                .and_then(integer)
                .ok_or_else(|| invalid("integer"))?;
            match is {
                Is::Fixed => {
                    key(1, out);
                    out.extend_from_slice(&value.to_le_bytes());
                }
                Is::Integer => {
                    key(0, out);
                    write_varint(value, out);
                }
                _ => {
                    key(0, out);
                    let value = value as i64;
                    write_varint((value << 1 ^ value >> 63) as u64, out);
                }
            }
        }
    }
    Ok(())
}

fn text_of<'a>(scalar: &'a Scalar<'_>) -> Option<&'a str> {
    match scalar {
        Scalar::Text(text) => Some(text),
        Scalar::Number(text) => Some(text),
        Scalar::Boolean(_) | Scalar::Null => None,
    }
}

/// A whole number of 64 bits with or without a sign, as its bits; `1e3` is one, too.
fn integer(text: &str) -> Option<u64> {
    if let Ok(value) = text.parse::<u64>() {
        return Some(value);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Some(value as u64);
    }
    let value = number::float_or_special(text)?;
    let whole = value.trunc() == value && value.abs() < 9.0e15;
    whole.then_some(value as i64 as u64)
}
