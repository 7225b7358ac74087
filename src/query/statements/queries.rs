//! SHOW QUERIES and KILL QUERY.

use super::Target;
use crate::lang::{KillQuery, format_go_duration};
use crate::query::error::QueryError;
use crate::query::result::Series;
use crate::query::value::Value;
use std::time::Duration;

/// SHOW QUERIES.
pub(super) fn show(target: &dyn Target) -> Vec<Series> {
    let rows = target.running().about().into_iter().map(|query| {
        vec![
            Value::Integer(i64::try_from(query.id).unwrap_or(i64::MAX)),
            Value::String(query.text.into()),
            Value::String(query.database.into()),
            Value::String(duration(query.since).into()),
            Value::String(query.status.into()),
        ]
    });
    let columns = ["qid", "query", "database", "duration", "status"];
    vec![Series::table("", &columns, rows)]
}

/// In the largest unit that it has one of, as InfluxDB shows it.
fn duration(since: Duration) -> String {
    let nanos = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    let units = [1_000_000_000, 1_000_000, 1_000];
    let unit = units.into_iter().find(|&unit| nanos >= unit).unwrap_or(1);
    format_go_duration(nanos - nanos % unit)
}

/// KILL QUERY.
pub(super) fn kill(kill: &KillQuery, target: &dyn Target) -> Result<(), QueryError> {
    if let Some(host) = &kill.host
        && !is_here(host)
    {
        return Err(QueryError::statement(format!(
            "KILL QUERY ON {host:?}: this server is {:?}, and knows no others",
            name_of_host()
        )));
    }
    match target.running().kill(kill.id) {
        true => Ok(()),
        false => Err(QueryError::statement(format!("no such query id: {}", kill.id))),
    }
}

/// The name of this machine.
fn name_of_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Is it this machine, with or without a port?
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => host,
    };
    [name_of_host().as_str(), "localhost", "127.0.0.1", "[::1]"].contains(&name)
}
