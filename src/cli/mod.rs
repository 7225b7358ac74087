//! The command line: `kymo serve`, three clients of a running server, and what works on a data folder that no server uses. Blocking code; speaks HTTP and WebSocket.

pub mod backup;
pub mod http;
pub mod live;
pub mod query;
pub mod rejected;
mod repair;
pub mod verify;
pub mod write;

use crate::config::ServeArgs;
use clap::{Args, Parser, Subcommand};

/// A time series database for system metrics. Without a command it serves.
#[derive(Parser, Debug)]
#[command(name = "kymo", version, about, long_about = None, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `serve`.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the server (the default)
    Serve(Box<ServeArgs>),
    /// Ask a running server: kymo query --database host 'SELECT last(load1) FROM system'
    Query(query::QueryArgs),
    /// Write a file, or standard input, to a running server
    Write(write::WriteArgs),
    /// Show what was not stored and why, and try it again
    Rejected(rejected::RejectedArgs),
    /// Print the windows of a SELECT as they change, or its points as they come
    Live(live::LiveArgs),
    /// Check that everything in a data folder is as it was written: exit status 0 only if it is
    Verify(verify::VerifyArgs),
    /// Copy a data folder as it is at one moment; the server may run. Again into the same place copies what is new
    Backup(backup::BackupArgs),
    /// Make a data folder of a backup
    Restore(backup::RestoreArgs),
}

/// Which server, and which database.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// URL of the server
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8086",
        env = "KYMO_URL"
    )]
    pub url: String,
    /// The database
    #[arg(long, short, value_name = "NAME", default_value = "", env = "KYMO_DATABASE")]
    pub database: String,
}
