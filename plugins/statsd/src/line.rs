//! Reads one metric: `name:value:value|type|@rate|#tags|Tseconds|..`.

use crate::limits::TIMING_ABS_MAX;
use crate::number;
use crate::tags::{self, Fault, Tags};
use memchr::{memchr, memchr2};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Timing,
    Set,
}

impl Kind {
    /// As stored in the tag `metric_type`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Timing => "timing",
            Kind::Set => "set",
        }
    }
}

/// One number of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amount {
    /// Finite.
    pub number: f64,
    /// Written with `+` or `-`: to a gauge that is a change.
    pub signed: bool,
}

/// One metric, but for its tags and numbers, which the caller holds.
#[derive(Debug, PartialEq)]
pub struct Metric<'a> {
    pub name: &'a str,
    pub kind: Kind,
    /// Byte of the value, from 0.
    pub value_at: usize,
    /// The value as it was written: the member of a set.
    pub value: &'a str,
    /// How many each value stands for; at least 1.
    pub weight: f64,
    /// Nanoseconds UTC. Counters and gauges only.
    pub time: Option<i64>,
}

/// Reads a line; its tags are added to `tags`, and its numbers (none for a set) to `amounts`.
pub fn read<'a>(text: &'a str, tags: &mut Tags<'a>, amounts: &mut Vec<Amount>) -> Result<Metric<'a>, Fault> {
    let bytes = text.as_bytes();
    let value_at = match memchr2(b':', b'|', bytes) {
        Some(colon) if bytes[colon] == b':' => colon + 1,
        other => return Err(Fault::new(other.unwrap_or(bytes.len()), "missing value")),
    };
    let name = tags::read_name(&text[..value_at - 1], tags)?;
    let value_end = memchr(b'|', &bytes[value_at..]).map(|len| value_at + len);
    let value = &text[value_at..value_end.unwrap_or(bytes.len())];
    if value.is_empty() {
        return Err(Fault::new(value_at, "missing value"));
    }
    let Some(value_end) = value_end else {
        return Err(Fault::new(bytes.len(), "missing type"));
    };
    let mut sections = sections(text, value_end + 1);
    let (kind_at, kind) = sections.next().unwrap_or((bytes.len(), ""));
    let kind = match kind {
        "c" => Kind::Counter,
        "g" => Kind::Gauge,
        "ms" | "h" | "d" => Kind::Timing,
        "s" => Kind::Set,
        "" => return Err(Fault::new(kind_at, "missing type")),
        _ => return Err(Fault::new(kind_at, "unknown type (use c, g, ms, h, d or s)")),
    };
    if kind != Kind::Set {
        read_amounts(value, value_at, kind, amounts)?;
    }
    let (mut weight, mut time) = (None, None);
    for (at, section) in sections {
        let inner = section.get(1..).unwrap_or("");
        let fault = |reason| Fault::new(at + 1, reason);
        match section.as_bytes().first() {
            Some(b'@') if weight.is_some() => return Err(Fault::new(at, "duplicate sample rate")),
            Some(b'@') => weight = Some(number::read_weight(inner).map_err(fault)?),
            Some(b'#') => tags::read_dogstatsd(inner, at + 1, tags)?,
            Some(b'T') if !inner.contains(':') => {
                if !matches!(kind, Kind::Counter | Kind::Gauge) {
                    return Err(Fault::new(at, "timestamp is only for counters and gauges"));
                }
                if time.is_some() {
                    return Err(Fault::new(at, "duplicate timestamp"));
                }
                time = Some(number::read_seconds(inner).map_err(fault)?);
            }
            _ => skip(at, section)?,
        }
    }
    Ok(Metric {
        name,
        kind,
        value_at,
        value,
        weight: weight.unwrap_or(1.0),
        time,
    })
}

fn read_amounts(value: &str, mut at: usize, kind: Kind, amounts: &mut Vec<Amount>) -> Result<(), Fault> {
    for text in value.split(':') {
        let number = number::read(text).map_err(|reason| Fault::new(at, reason))?;
        if kind == Kind::Timing && number.abs() > TIMING_ABS_MAX {
            let reason = format!("timing too large (timing_abs_max {TIMING_ABS_MAX:e})");
            return Err(Fault::new(at, reason));
        }
        let signed = text.starts_with(['+', '-']);
        amounts.push(Amount { number, signed });
        at += text.len() + 1;
    }
    Ok(())
}

/// What stands between `|` from byte `from` on, with the byte where it starts.
pub fn sections(text: &str, from: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut at = from;
    text.get(from..)
        .into_iter()
        .flat_map(|rest| rest.split('|'))
        .map(move |section| {
            let start = at;
            at += section.len() + 1;
            (start, section)
        })
}

/// Passes over sections of later protocol versions, `|x:..` (`c:` container, `e:` external data, `card:`, ..), and empty ones.
pub fn skip(at: usize, section: &str) -> Result<(), Fault> {
    let is_named = section
        .split_once(':')
        .is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric()));
    if is_named || section.is_empty() {
        Ok(())
    } else {
        Err(Fault::new(at, "unknown section"))
    }
}
