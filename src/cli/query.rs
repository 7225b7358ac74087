//! `kymo query`.

use super::ServerArgs;
use super::http::{Client, check};
use crate::lang::{Params, params_from_json, parse};
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets::NOTHING};
use serde_json::Value;

/// Flags of `kymo query`.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// The statements, in InfluxQL
    #[arg(value_name = "QUERY")]
    pub query: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: ServerArgs,
    /// How to print the answer
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
    /// Times as a number since 1970 instead of text: ns, u, ms, s, m, h (csv: ns by default)
    #[arg(long, value_name = "UNIT")]
    pub epoch: Option<String>,
    /// Values for $name in the statements, as a JSON object: '{"host": "a"}'
    #[arg(long, value_name = "JSON")]
    pub params: Option<String>,
    /// Only read the statements and print them as Kymo understands them; asks no server
    #[arg(long)]
    pub check: bool,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// The server's JSON.
    Json,
    /// Comma-separated values.
    Csv,
}

/// Runs it.
///
/// # Errors
/// The server cannot be reached, or says that something is wrong.
pub fn run(args: &QueryArgs) -> anyhow::Result<()> {
    if args.check {
        return check_only(args);
    }
    let client = Client::new(&args.server);
    let mut parameters = vec![("q", args.query.as_str())];
    if !args.server.database.is_empty() {
        parameters.push(("db", args.server.database.as_str()));
    }
    if let Some(epoch) = &args.epoch {
        parameters.push(("epoch", epoch.as_str()));
    }
    if let Some(params) = &args.params {
        parameters.push(("params", params.as_str()));
    }
    let accept = if args.format == Format::Csv {
        "application/csv"
    } else {
        "application/json"
    };
    let body = check(client.query(&parameters, accept)?)?;
    match args.format {
        Format::Csv if body.starts_with("error\n") => {
            bail!("{}", body.trim_start_matches("error\n").trim_end())
        }
        Format::Csv => print!("{body}"),
        Format::Json => {
            print!("{body}");
            let parsed: Value = serde_json::from_str(&body).context("the answer is no JSON")?;
            first_error(&parsed)?;
        }
        Format::Table => {
            let parsed: Value = serde_json::from_str(&body).context("the answer is no JSON")?;
            print_tables(&parsed);
            first_error(&parsed)?;
        }
    }
    Ok(())
}

/// Prints statements one a line, or why the first wrong one is none.
fn check_only(args: &QueryArgs) -> anyhow::Result<()> {
    let params = match &args.params {
        Some(text) => params_from_json(text).map_err(|e| anyhow!("--params: {e}"))?,
        None => Params::default(),
    };
    match parse(&args.query, &params) {
        Ok(query) => {
            query
                .statements
                .iter()
                .for_each(|statement| println!("{statement}"));
            Ok(())
        }
        Err(error) => match error.hint {
            Some(hint) => bail!("{}\nhint: {hint}", error.text),
            None => bail!("{}", error.text),
        },
    }
}

fn first_error(answer: &Value) -> anyhow::Result<()> {
    let mut results = answer["results"].as_array().into_iter().flatten();
    match results.find(|result| result["error"].is_string()) {
        Some(result) => {
            let error = result["error"].as_str().unwrap_or_default();
            match result["hint"].as_str() {
                Some(hint) => bail!("{error}\nhint: {hint}"),
                None => bail!("{error}"),
            }
        }
        None => Ok(()),
    }
}

fn print_tables(answer: &Value) {
    let mut first = true;
    for result in answer["results"].as_array().into_iter().flatten() {
        for message in result["messages"].as_array().into_iter().flatten() {
            eprintln!("{}", message["text"].as_str().unwrap_or_default());
        }
        for series in result["series"].as_array().into_iter().flatten() {
            if !std::mem::take(&mut first) {
                println!();
            }
            println!("{}", table(series));
        }
    }
}

/// One series as text: its name and tags, then aligned columns.
fn table(series: &Value) -> String {
    let mut heading = series["name"].as_str().unwrap_or_default().to_string();
    for (key, value) in series["tags"].as_object().into_iter().flatten() {
        heading.push_str(&format!(", {key}={}", value.as_str().unwrap_or_default()));
    }
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let columns = series["columns"].as_array().cloned().unwrap_or_default();
    table.set_header(columns.iter().map(text));
    let mut numeric = vec![true; columns.len()];
    for row in series["values"].as_array().into_iter().flatten() {
        let cells = row.as_array().cloned().unwrap_or_default();
        for (number, cell) in numeric.iter_mut().zip(&cells) {
            *number &= cell.is_number() || cell.is_null();
        }
        table.add_row(cells.iter().map(text));
    }
    for (column, _) in table
        .column_iter_mut()
        .zip(numeric)
        .filter(|(_, numeric)| *numeric)
    {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    if heading.is_empty() {
        lines.join("\n")
    } else {
        format!("{heading}\n{}", lines.join("\n"))
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
