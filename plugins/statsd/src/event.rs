//! Reads DogStatsD's events `_e{5,4}:title|text|..` and service checks `_sc|name|status|..`.

use crate::line::{sections, skip};
use crate::number;
use crate::tags::{self, Fault, Tags};
use std::borrow::Cow;

/// How an event starts.
pub const EVENT_START: &str = "_e{";
/// How a service check starts.
pub const CHECK_START: &str = "_sc|";

/// An event, but for its tags.
pub struct Event<'a> {
    pub title: Cow<'a, str>,
    pub text: Cow<'a, str>,
    /// Nanoseconds UTC.
    pub time: Option<i64>,
}

/// A service check, but for its tags.
pub struct Check<'a> {
    /// 0 ok, 1 warning, 2 critical, 3 unknown.
    pub status: i64,
    pub message: Option<Cow<'a, str>>,
    /// Nanoseconds UTC.
    pub time: Option<i64>,
}

/// Which section is stored as which tag.
const EVENT_TAGS: &[(&str, &str)] = &[
    ("h", "hostname"),
    ("k", "aggregation_key"),
    ("p", "priority"),
    ("s", "source_type_name"),
    ("t", "alert_type"),
];
const CHECK_TAGS: &[(&str, &str)] = &[("h", "hostname")];

/// Reads a line that begins with [`EVENT_START`].
pub fn read_event<'a>(line: &'a str, tags: &mut Tags<'a>) -> Result<Event<'a>, Fault> {
    let header = || Fault::new(0, "invalid event header (use _e{title bytes,text bytes}:)");
    let (lengths, _) = line[EVENT_START.len()..].split_once("}:").ok_or_else(header)?;
    let (title_len, text_len) = lengths.split_once(',').ok_or_else(header)?;
    let title_at = EVENT_START.len() + lengths.len() + "}:".len();
    let length = |digits: &str| digits.parse::<usize>().map_err(|_| header());
    let (title_len, text_len) = (length(title_len)?, length(text_len)?);
    let title = take(line, title_at, title_len)?;
    if title.is_empty() {
        return Err(Fault::new(title_at, "missing event title"));
    }
    let title_end = title_at + title.len();
    if line.as_bytes().get(title_end) != Some(&b'|') {
        return Err(unfit(title_end));
    }
    let text = take(line, title_end + 1, text_len)?;
    let text_end = title_end + 1 + text.len();
    if !matches!(line.as_bytes().get(text_end), None | Some(b'|')) {
        return Err(unfit(text_end));
    }
    let about = read_about(line, text_end + 1, EVENT_TAGS, tags)?;
    Ok(Event {
        title: unescape(title),
        text: unescape(text),
        time: about.time,
    })
}

/// Reads a line that begins with [`CHECK_START`].
pub fn read_check<'a>(line: &'a str, tags: &mut Tags<'a>) -> Result<Check<'a>, Fault> {
    let name_at = CHECK_START.len();
    let mut parts = sections(line, name_at);
    let (_, name) = parts.next().unwrap_or((name_at, ""));
    if name.is_empty() {
        return Err(Fault::new(name_at, "missing check name"));
    }
    let (status_at, status) = parts
        .next()
        .ok_or_else(|| Fault::new(line.len(), "missing check status"))?;
    let status_value = match status {
        "0" => 0,
        "1" => 1,
        "2" => 2,
        "3" => 3,
        _ => return Err(Fault::new(status_at, "invalid check status (use 0, 1, 2 or 3)")),
    };
    let about = read_about(line, status_at + status.len() + 1, CHECK_TAGS, tags)?;
    // Last, so that a tag of that name does not take its place.
    tags::push(tags, name_at, "check", name)?;
    Ok(Check {
        status: status_value,
        message: about.message,
        time: about.time,
    })
}

/// What follows the text of an event or the status of a check.
struct About<'a> {
    time: Option<i64>,
    message: Option<Cow<'a, str>>,
}

fn read_about<'a>(
    line: &'a str,
    from: usize,
    stored: &[(&'static str, &'static str)],
    tags: &mut Tags<'a>,
) -> Result<About<'a>, Fault> {
    let (mut time, mut message) = (None, None);
    for (at, section) in sections(line, from) {
        if let Some(list) = section.strip_prefix('#') {
            tags::read_dogstatsd(list, at + 1, tags)?;
            continue;
        }
        let (key, value) = section.split_once(':').unwrap_or(("", ""));
        match key {
            "d" => time = Some(number::read_seconds(value).map_err(|reason| Fault::new(at + 2, reason))?),
            "m" => message = Some(unescape(value)),
            _ => match stored.iter().find(|(short, _)| *short == key) {
                Some(_) if value.is_empty() => {}
                Some((_, tag)) => tags::push(tags, at, tag, value)?,
                None => skip(at, section)?,
            },
        }
    }
    Ok(About { time, message })
}

fn take(line: &str, at: usize, len: usize) -> Result<&str, Fault> {
    let end = at.checked_add(len);
    end.and_then(|end| line.get(at..end)).ok_or_else(|| unfit(at))
}

fn unfit(at: usize) -> Fault {
    Fault::new(at, "event lengths do not fit its title and text")
}

/// A line cannot hold a newline, so clients write `\n`; and `m\:` for an `m:` in a message.
fn unescape(text: &str) -> Cow<'_, str> {
    if text.contains('\\') {
        Cow::Owned(text.replace("\\n", "\n").replace("m\\:", "m:"))
    } else {
        Cow::Borrowed(text)
    }
}
