//! `kymo rejected`: what was not stored, why, and another try.

use super::ServerArgs;
use super::http::{Client, check};
use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;

/// Flags of `kymo rejected`.
#[derive(Args, Clone, Debug)]
pub struct RejectedArgs {
    /// What to do with them (without: list)
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub list: ListArgs,
}

/// What to do.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// Show them
    List(ListArgs),
    /// Try them again, after whatever was wrong is mended; those that can be stored now leave the list
    Replay(WhichArgs),
    /// Forget them
    Discard(WhichArgs),
}

/// Flags of the list.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub which: WhichArgs,
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// table; json: everything; text: the lines as they were sent, to be edited and written with `kymo write`
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// How they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line each.
    Table,
    /// Everything.
    Json,
    /// The lines as they were sent.
    Text,
}

/// Which of them.
#[derive(Args, Clone, Debug)]
pub struct WhichArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: ServerArgs,
    /// Only these, by id; several with commas between
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub id: Vec<u64>,
    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

impl WhichArgs {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        if !self.server.database.is_empty() {
            parameters.push(("db", self.server.database.clone()));
        }
        if !self.id.is_empty() {
            let ids: Vec<String> = self.id.iter().map(u64::to_string).collect();
            parameters.push(("id", ids.join(",")));
        }
        if let Some(reason) = &self.reason {
            parameters.push(("reason", reason.clone()));
        }
        parameters
    }
}

/// Runs it.
///
/// # Errors
/// The server cannot be reached, or something could not be stored again.
pub fn run(args: &RejectedArgs) -> anyhow::Result<()> {
    match &args.action {
        None => list(&args.list),
        Some(Action::List(args)) => list(args),
        Some(Action::Replay(which)) => replay(which),
        Some(Action::Discard(which)) => {
            let answer = ask(which, "DELETE", "/rejected", Vec::new())?;
            println!("{} discarded", answer["discarded"]);
            Ok(())
        }
    }
}

fn ask(
    which: &WhichArgs,
    method: &str,
    path: &str,
    more: Vec<(&'static str, String)>,
) -> anyhow::Result<Value> {
    let mut parameters = which.parameters();
    parameters.extend(more);
    let body = check(Client::new(&which.server).call(method, path, &parameters)?)?;
    serde_json::from_str(&body).context("the answer is no JSON")
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let limit = vec![("limit", args.limit.to_string())];
    let answer = ask(&args.which, "GET", "/rejected", limit)?;
    let entries = answer["rejected"].as_array().map_or(&[][..], Vec::as_slice);
    match args.format {
        Format::Json => {
            for entry in entries {
                println!("{entry}");
            }
        }
        Format::Text => {
            for entry in entries {
                println!("{}", entry["text"].as_str().unwrap_or_default());
            }
        }
        Format::Table => print_table(entries),
    }
    Ok(())
}

fn print_table(entries: &[Value]) {
    if entries.is_empty() {
        return eprintln!("nothing was rejected");
    }
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header([
        "id", "time", "database", "source", "format", "place", "reason", "text",
    ]);
    for entry in entries {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_string();
        let line: String = text("text")
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let shown: String = line.chars().take(60).collect();
        let more = if shown.len() < line.len() { ".." } else { "" };
        table.add_row([
            entry["id"].to_string(),
            text("time"),
            text("database"),
            text("source"),
            text("format"),
            format!("{}:{}", entry["line"], entry["column"]),
            text("reason"),
            shown + more,
        ]);
    }
    for line in table.lines() {
        println!("{}", line.trim_end());
    }
}

fn replay(which: &WhichArgs) -> anyhow::Result<()> {
    let answer = ask(which, "POST", "/rejected/replay", Vec::new())?;
    println!(
        "{} tried again, {} stored ({} points)",
        answer["tried"], answer["stored"], answer["points"]
    );
    for failure in answer["failures"].as_array().into_iter().flatten() {
        let reason = failure["reason"].as_str().unwrap_or_default();
        eprintln!("{}: {reason}", failure["id"]);
    }
    match answer["failed"].as_u64() {
        Some(0) | None => Ok(()),
        Some(count) => bail!("{count} still cannot be stored"),
    }
}
