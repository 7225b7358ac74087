//! The `kymo` binary: see `kymo --help`.

use clap::Parser;
use kymo::cli::{Cli, Command};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        None => serve(&cli.serve),
        Some(Command::Serve(args)) => serve(args),
        Some(Command::Query(args)) => kymo::cli::query::run(args),
        Some(Command::Write(args)) => kymo::cli::write::run(args),
        Some(Command::Rejected(args)) => kymo::cli::rejected::run(args),
        Some(Command::Live(args)) => kymo::cli::live::run(args),
        Some(Command::Verify(args)) => kymo::cli::verify::run(args),
        Some(Command::Backup(args)) => kymo::cli::backup::backup(args),
        Some(Command::Restore(args)) => kymo::cli::backup::restore(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kymo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &kymo::config::ServeArgs) -> anyhow::Result<()> {
    // Before the first thread.
    kymo::budget::allocator::suit(args.machine().memory);
    kymo::telemetry::start(&args.log).map_err(anyhow::Error::msg)?;
    kymo::app::serve(args)
}
