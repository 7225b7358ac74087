//! The three ways to write tags. What is pushed is good for a series; its text is the input's.

use crate::limits::TAGS_MAX;

/// What is wrong, and at which byte of the line, from 0.
#[derive(Debug, PartialEq)]
pub struct Fault {
    pub at: usize,
    pub reason: String,
}

impl Fault {
    pub fn new(at: usize, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { at, reason }
    }
}

/// The tag that tells counters, gauges, timings and sets apart.
pub const METRIC_TYPE: &str = "metric_type";

/// Tags in the line's order; one key may come twice until [`settle`].
pub type Tags<'a> = Vec<(&'a str, &'a str)>;

/// Adds a tag that stands at byte `at`.
pub fn push<'a>(tags: &mut Tags<'a>, at: usize, key: &'a str, value: &'a str) -> Result<(), Fault> {
    if key.is_empty() {
        return Err(Fault::new(at, "missing tag key"));
    }
    if key == METRIC_TYPE || key == "time" {
        return Err(Fault::new(at, format!("tag key \"{key}\" is reserved")));
    }
    // The server's canonical series key escapes with a backslash.
    if key.ends_with('\\') || value.ends_with('\\') {
        return Err(Fault::new(at, "tag ends with a backslash"));
    }
    if tags.len() >= TAGS_MAX {
        return Err(Fault::new(at, format!("too many tags (tags_max {TAGS_MAX})")));
    }
    tags.push((key, value));
    Ok(())
}

/// `k:v,k2` as after DogStatsD's `|#`, at byte `at`. A key alone has the value `true`; an empty value is no tag, as in
/// InfluxQL.
pub fn read_dogstatsd<'a>(text: &'a str, mut at: usize, tags: &mut Tags<'a>) -> Result<(), Fault> {
    for tag in text.split(',') {
        match tag.split_once(':') {
            None if tag.is_empty() => {}
            None => push(tags, at, tag, "true")?,
            Some((key, "")) if !key.is_empty() => {}
            Some((key, value)) => push(tags, at, key, value)?,
        }
        at += tag.len() + 1;
    }
    Ok(())
}

/// Takes `name,k=v` (InfluxDB) or `name;k=v` (Graphite), at the start of the line, apart; returns the name.
pub fn read_name<'a>(text: &'a str, tags: &mut Tags<'a>) -> Result<&'a str, Fault> {
    let end = text.find([',', ';']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return Err(Fault::new(0, "missing name"));
    }
    if name.ends_with('\\') {
        return Err(Fault::new(end - 1, "name ends with a backslash"));
    }
    let mut at = end + 1;
    if let Some(separator) = rest.chars().next() {
        for tag in rest[1..].split(separator) {
            match tag.split_once('=') {
                None if tag.is_empty() => return Err(Fault::new(at, "missing tag key")),
                None => return Err(Fault::new(at + tag.len(), "missing tag value")),
                Some((key, "")) if !key.is_empty() => {
                    return Err(Fault::new(at + tag.len(), "missing tag value"));
                }
                Some((key, value)) => push(tags, at, key, value)?,
            }
            at += tag.len() + 1;
        }
    }
    Ok(name)
}

/// In the order of keys, each once: of equal ones the last counts. So the sender's order does not make another series.
pub fn settle(tags: &mut Tags<'_>) {
    tags.sort_by_key(|(key, _)| *key);
    tags.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            *earlier = *later;
        }
        same
    });
}
