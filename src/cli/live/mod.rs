//! `kymo live`: shows the windows of a SELECT as they change.

mod screen;

use super::ServerArgs;
use crate::lang::{Statement, parse_statement};
use crate::query::time::format_time;
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use futures_util::{SinkExt, StreamExt};
use jiff::tz::TimeZone;
use screen::{Screen, series_name};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use tokio_tungstenite::tungstenite::Message;

/// Flags of `kymo live`.
#[derive(Args, Clone, Debug)]
pub struct LiveArgs {
    /// A SELECT with GROUP BY time(..), or of points, without functions
    #[arg(value_name = "SELECT")]
    pub query: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: ServerArgs,
    /// table: drawn in place; text: a line a row; json: a message a line. Without it a table on a terminal (text for a SELECT
    /// without windows), else json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// How messages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Drawn in place.
    Table,
    /// A line a row.
    Text,
    /// The messages as they come.
    Json,
}

/// Runs it until Ctrl-C or until the server ends it.
///
/// # Errors
/// The server cannot be reached, refuses, or goes away.
pub fn run(args: &LiveArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(follow(args))
}

fn format(args: &LiveArgs) -> Format {
    let windowed = || match parse_statement(&args.query) {
        Ok(Statement::Select(select)) => select.time_dimension().is_some(),
        _ => false,
    };
    match args.format {
        Some(format) => format,
        None if !std::io::stdout().is_terminal() => Format::Json,
        None if windowed() => Format::Table,
        None => Format::Text,
    }
}

/// Columns and rows of the terminal.
fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

async fn follow(args: &LiveArgs) -> anyhow::Result<()> {
    let (format, mut screen) = (format(args), Screen::default());
    let url = args.server.url.trim_end_matches('/');
    let address = url
        .strip_prefix("http://")
        .ok_or_else(|| anyhow!("{url} must begin with http://"))?;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/live"))
        .await
        .map_err(|e| {
            anyhow!("cannot reach the server at {url}: {e}; is it running? start one with `kymo serve`")
        })?;
    let subscribe = json!({"type": "subscribe", "id": "1", "db": args.server.database, "q": args.query});
    socket
        .send(Message::text(subscribe.to_string()))
        .await
        .context("cannot subscribe")?;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                let parsed: Value = serde_json::from_str(&text).context("the server sent no JSON")?;
                if parsed["type"] == "error" {
                    bail!(
                        "{}",
                        parsed["error"]
                            .as_str()
                            .unwrap_or("the server ended the subscription")
                    );
                }
                let mut out = std::io::stdout().lock();
                match format {
                    Format::Table => {
                        screen.take(&parsed);
                        if parsed["more"] != true {
                            let (width, height) = terminal_size();
                            out.write_all(screen.draw(width, height).as_bytes())?;
                        }
                    }
                    Format::Json => writeln!(out, "{text}")?,
                    Format::Text => out.write_all(lines(&parsed).as_bytes())?,
                }
                out.flush()?;
            }
            Some(Ok(Message::Close(_))) | None => bail!("the server closed the connection"),
            Some(Ok(_)) => {}
            Some(Err(error)) => bail!("the connection broke: {error}"),
        }
    }
}

/// `time name,tags column=value .. kind`, a line a row.
fn lines(message: &Value) -> String {
    let kind = message["type"].as_str().unwrap_or_default();
    let mut out = String::new();
    if kind == "lagged" {
        return format!("(too slow: {} changes were put together)\n", message["coalesced"]);
    }
    for series in message["series"].as_array().into_iter().flatten() {
        let name = series_name(series);
        let columns: Vec<&str> = series["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for row in series["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_array)
        {
            if let Some(time) = row.first().and_then(Value::as_i64) {
                format_time(time, &TimeZone::UTC, &mut out);
            }
            out.push(' ');
            out.push_str(&name);
            for (column, value) in columns.iter().zip(row).skip(1) {
                out.push_str(&format!(" {column}={value}"));
            }
            if kind != "update" {
                out.push_str(&format!(" ({kind})"));
            }
            out.push('\n');
        }
    }
    out
}
