//! Logging: to standard error, one line an event.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging what `filter` lets through.
///
/// # Errors
/// The filter cannot be read.
pub fn start(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("--log {filter:?}: {e}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    // In tests there may be one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// A server whose journal's or shard's thread is gone would go on half alive: it ends, and the next start replays.
pub fn end_with_vital_threads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        if name.starts_with("kymo-shard") || name == "kymo-journal" {
            eprintln!("kymo: {name} panicked; nothing can be written without it, the server ends");
            std::process::abort();
        }
    }));
}
