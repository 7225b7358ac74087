//! SHOW REJECTED: what was not stored, the newest first.

use super::{Answer, page, some, text};
use crate::lang::ShowRejected;
use crate::query::error::QueryError;
use crate::query::result::{ResultColumn, Series};
use crate::query::statements::Target;
use crate::query::value::Value;

/// Its columns beside the time.
const COLUMNS: [&str; 8] = [
    "id", "database", "source", "format", "line", "column", "reason", "text",
];

/// See the module.
pub fn rejected(statement: &ShowRejected, target: &dyn Target) -> Answer {
    let mut entries = target
        .rejected(statement.database.as_deref())
        .map_err(QueryError::statement)?;
    entries.reverse();
    let mut out = Series {
        name: "rejected".into(),
        columns: ["time"]
            .iter()
            .chain(&COLUMNS)
            .map(|c| (*c).to_string())
            .collect(),
        values: COLUMNS.iter().map(|_| ResultColumn::default()).collect(),
        ..Series::default()
    };
    for entry in page(entries, statement.limit, statement.offset) {
        let from = &entry.provenance;
        out.times.push(entry.time);
        let cells = [
            Value::Integer(entry.id as i64),
            text(&from.database),
            text(&from.source),
            text(&from.format),
            Value::Integer(entry.line as i64),
            Value::Integer(entry.column as i64),
            text(&entry.reason),
            text(String::from_utf8_lossy(&entry.text)),
        ];
        for (column, cell) in out.values.iter_mut().zip(cells) {
            column.push(cell);
        }
    }
    Ok(some(out))
}
