//! What `kymo live` shows on a terminal: a line a series with its newest window and a sparkline of those before, drawn over the
//! last one. Pure: messages in, text out.

use crate::query::time::format_time;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::collections::BTreeMap;

/// Windows of a series that are remembered, and drawn as a sparkline.
const WINDOWS_MAX: usize = 40;
/// Series that are remembered; what comes beyond is not shown.
const SERIES_MAX: usize = 1_000;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// See the module.
#[derive(Debug, Default)]
pub struct Screen {
    series: BTreeMap<String, Shown>,
    /// Series that found no place.
    left_out: usize,
    last: String,
    /// Lines that are on the terminal.
    lines: usize,
}

#[derive(Debug, Default)]
struct Shown {
    columns: Vec<String>,
    windows: BTreeMap<i64, Vec<Value>>,
}

impl Screen {
    /// Takes in a message of the server.
    pub fn take(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap_or_default();
        if kind == "snapshot" && self.last != "snapshot, more" {
            self.series.clear();
            self.left_out = 0;
        }
        let more = message["more"] == true;
        self.last = if more {
            format!("{kind}, more")
        } else {
            kind.to_string()
        };
        for series in message["series"].as_array().into_iter().flatten() {
            let name = series_name(series);
            if !self.series.contains_key(&name) && self.series.len() >= SERIES_MAX {
                self.left_out += 1;
                continue;
            }
            let shown = self.series.entry(name).or_default();
            let columns = series["columns"].as_array().into_iter().flatten().skip(1);
            shown.columns = columns.filter_map(Value::as_str).map(str::to_string).collect();
            for row in series["values"].as_array().into_iter().flatten() {
                let Some((Some(time), values)) = row
                    .as_array()
                    .and_then(|row| row.split_first())
                    .map(|(time, values)| (time.as_i64(), values))
                else {
                    continue;
                };
                if values.iter().all(Value::is_null) {
                    shown.windows.remove(&time);
                } else {
                    shown.windows.insert(time, values.to_vec());
                }
                while shown.windows.len() > WINDOWS_MAX {
                    shown.windows.pop_first();
                }
            }
        }
    }

    /// The text that draws it over what was drawn before, on a terminal of so many columns and rows.
    pub fn draw(&mut self, width: usize, height: usize) -> String {
        let mut lines = self.table(height.saturating_sub(2).max(3));
        lines.iter_mut().for_each(|line| cut(line, width));
        let mut out = String::new();
        if self.lines > 0 {
            out.push_str(&format!("\x1b[{}A", self.lines));
        }
        for line in &lines {
            out.push_str("\r\x1b[2K");
            out.push_str(line);
            out.push('\n');
        }
        // What was longer before.
        out.push_str("\x1b[J");
        self.lines = lines.len();
        out
    }

    fn table(&self, rows_max: usize) -> Vec<String> {
        let mut cells: Vec<Vec<String>> = Vec::new();
        let mut header = vec!["series".to_string(), "window".to_string()];
        for shown in self.series.values().filter(|shown| !shown.windows.is_empty()) {
            header.truncate(2);
            header.extend(shown.columns.iter().cloned());
        }
        header.push("before".to_string());
        cells.push(header);
        let shown = self.series.iter().filter(|(_, s)| !s.windows.is_empty());
        let all = shown.clone().count();
        for (name, shown) in shown.take(rows_max.saturating_sub(1)) {
            let Some((time, values)) = shown.windows.last_key_value() else {
                continue;
            };
            let mut row = vec![name.clone(), clock(*time)];
            row.extend(values.iter().map(short));
            row.push(sparkline(shown.windows.values().map(|values| values.first())));
            cells.push(row);
        }
        let width = |column: usize| {
            let cells = cells.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
                let pad = " ".repeat(width - cell.chars().count());
                // Numbers stand at the right.
                match at > 1 && at + 1 < row.len() {
                    true => format!("{pad}{cell}"),
                    false => format!("{cell}{pad}"),
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
        };
        let mut lines: Vec<String> = cells.iter().map(line).collect();
        let hidden = (all + 1).saturating_sub(cells.len()) + self.left_out;
        if all == 0 {
            lines = vec!["no points yet".to_string()];
        } else if hidden > 0 {
            lines.push(format!("and {hidden} more series"));
        }
        lines
    }
}

/// `name,key=value,..` of a series of a message.
pub fn series_name(series: &Value) -> String {
    let mut name = series["name"].as_str().unwrap_or_default().to_string();
    for (key, value) in series["tags"].as_object().into_iter().flatten() {
        name.push_str(&format!(",{key}={}", value.as_str().unwrap_or_default()));
    }
    // What a sender put into a name must not move the cursor.
    name.chars().filter(|c| !c.is_control()).collect()
}

fn clock(time: i64) -> String {
    let mut text = String::new();
    format_time(time, &TimeZone::UTC, &mut text);
    text
}

fn short(value: &Value) -> String {
    let text = match value.as_f64() {
        Some(v) if value.is_f64() => {
            let text = format!("{v:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => match value {
            Value::Null => "-".to_string(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        },
    };
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// A bar a window, between the smallest and the largest.
fn sparkline<'a>(values: impl Iterator<Item = Option<&'a Value>>) -> String {
    let values: Vec<Option<f64>> = values.map(|v| v.and_then(Value::as_f64)).collect();
    let known = || values.iter().flatten().copied();
    let (min, max) = (
        known().fold(f64::INFINITY, f64::min),
        known().fold(f64::NEG_INFINITY, f64::max),
    );
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(_) if max <= min => BARS[3],
        Some(v) => BARS[(((v - min) / (max - min) * 7.0).round() as usize).min(7)],
    };
    values.iter().map(bar).collect()
}

fn cut(line: &mut String, width: usize) {
    if let Some((at, _)) = line.char_indices().nth(width.max(20)) {
        line.truncate(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(kind: &str, host: &str, values: Value) -> Value {
        json!({"type": kind, "id": "1", "sequence": 1, "series": [
            {"name": "m", "tags": {"host": host}, "columns": ["time", "mean"], "values": values}]})
    }

    #[test]
    fn a_line_a_series_drawn_over_the_last_one() {
        let mut screen = Screen::default();
        assert_eq!(screen.draw(80, 24), "\r\x1b[2Kno points yet\n\x1b[J");
        screen.take(&message("snapshot", "a", json!([[0, 1.0], [1_000_000_000, 2.5]])));
        let drawn = screen.draw(80, 24);
        assert!(drawn.starts_with("\x1b[1A\r\x1b[2Kseries"), "{drawn:?}");
        assert!(
            drawn.contains("m,host=a  1970-01-01T00:00:01Z   2.5  ▁█"),
            "{drawn:?}"
        );
        screen.take(&message("update", "b", json!([[0, 7]])));
        let drawn = screen.draw(80, 24);
        assert!(
            drawn.starts_with("\x1b[2A") && drawn.contains("m,host=b"),
            "{drawn:?}"
        );
        screen.take(&message("update", "b", json!([[0, null]])));
        assert!(!screen.draw(80, 24).contains("host=b"), "its row is gone");
        screen.take(&message("snapshot", "c\u{1b}[2J", json!([[0, 7]])));
        let drawn = screen.draw(80, 24);
        assert!(
            drawn.contains("host=c[2J") && !drawn.contains("host=a"),
            "{drawn:?}"
        );
    }

    #[test]
    fn it_fits_the_terminal() {
        let mut screen = Screen::default();
        for i in 0..SERIES_MAX + 5 {
            screen.take(&message("update", &format!("h{i:04}"), json!([[0, i]])));
        }
        let drawn = screen.draw(30, 10);
        assert_eq!(drawn.matches('\n').count(), 9, "{drawn}");
        assert!(drawn.contains("and 998 more series"), "{drawn}");
        let lines = drawn.lines().map(|line| line.replace("\r\x1b[2K", ""));
        assert!(
            lines.into_iter().all(|line| line.chars().count() <= 30),
            "{drawn:?}"
        );
        let windows = (0..100).map(|i| json!([i, i])).collect::<Vec<_>>();
        screen.take(&message("update", "h0000", json!(windows)));
        assert_eq!(screen.series["m,host=h0000"].windows.len(), WINDOWS_MAX);
    }
}
