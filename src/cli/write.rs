//! `kymo write`: a file or standard input, in batches of whole lines, with a progress bar.

use super::ServerArgs;
use super::http::{Answer, Client, check, error_of};
use anyhow::{Context, bail};
use clap::Args;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Flags of `kymo write`.
#[derive(Args, Clone, Debug)]
pub struct WriteArgs {
    /// The file, or - for standard input; gzip is recognised
    #[arg(value_name = "FILE")]
    pub file: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub server: ServerArgs,
    /// The format: any that the server knows
    #[arg(long, value_name = "NAME", default_value = "line-protocol")]
    pub format: String,
    /// Unit of timestamps: n, u, ms, s, m, h
    #[arg(long, value_name = "UNIT", default_value = "n")]
    pub precision: String,
    /// Lines sent at once
    #[arg(long, value_name = "LINES", default_value_t = 5000)]
    pub batch_size: usize,
}

/// A batch is sent at this size even if it has few lines.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Tries while the server is overloaded.
const TRIES_MAX: u32 = 30;

/// Runs it.
///
/// # Errors
/// The file cannot be read, the server cannot be reached, or some lines were refused.
pub fn run(args: &WriteArgs) -> anyhow::Result<()> {
    let (source, bytes): (Box<dyn Read>, Option<u64>) = if args.file == "-" {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(Path::new(&args.file)).with_context(|| format!("cannot read {}", args.file))?;
        let bytes = file.metadata().ok().map(|m| m.len());
        (Box::new(file), bytes)
    };
    if args.server.database.is_empty() {
        bail!("which database? give --database NAME");
    }
    let client = Client::new(&args.server);
    let create = format!(
        "CREATE DATABASE \"{}\"",
        args.server.database.replace('"', "\\\"")
    );
    check(client.query(&[("q", &create)], "application/json")?)?;
    let progress = match bytes {
        _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
        Some(bytes) => {
            let bar = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            ProgressBar::new(bytes).with_style(ProgressStyle::with_template(bar)?)
        }
        None => ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}")?),
    };
    let mut raw = BufReader::with_capacity(1 << 20, progress.wrap_read(source));
    let gzip = raw.fill_buf()?.starts_with(&[0x1F, 0x8B]);
    let mut input: Box<dyn BufRead> = if gzip {
        Box::new(BufReader::new(MultiGzDecoder::new(raw)))
    } else {
        Box::new(raw)
    };

    let began = Instant::now();
    let (mut lines, mut sent, mut refused) = (0u64, 0u64, 0u64);
    let mut batch = Vec::new();
    let mut in_batch = 0;
    loop {
        let read = input
            .read_until(b'\n', &mut batch)
            .with_context(|| format!("cannot read {}", args.file))?;
        in_batch += usize::from(read > 0);
        let full = in_batch >= args.batch_size.max(1) || batch.len() >= BATCH_BYTES_MAX;
        if (full || read == 0) && !batch.is_empty() {
            sent += batch.len() as u64;
            lines += in_batch as u64;
            if let Some(error) = send(&client, args, &batch)? {
                refused += 1;
                progress.suspend(|| eprintln!("{error}"));
            }
            batch.clear();
            in_batch = 0;
        }
        if read == 0 {
            break;
        }
    }
    progress.finish_and_clear();
    eprintln!("{lines} lines, {sent} bytes sent in {:.1?}", began.elapsed());
    if refused > 0 {
        bail!("{refused} batches had lines that were refused (see above); the others are stored");
    }
    Ok(())
}

/// Sends a batch; the server's complaint about some of its lines, if it has one.
fn send(client: &Client, args: &WriteArgs, batch: &[u8]) -> anyhow::Result<Option<String>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(batch)?;
    let body = gzip.finish()?;
    let parameters = [
        ("db", args.server.database.as_str()),
        ("precision", args.precision.as_str()),
        ("format", args.format.as_str()),
    ];
    let mut wait = Duration::from_millis(100);
    for _ in 0..TRIES_MAX {
        let answer: Answer = client.write(&parameters, &body)?;
        match answer.status {
            200..=299 => return Ok(None),
            503 => {
                std::thread::sleep(wait);
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            400 if error_of(&answer).contains("unable to parse")
                || error_of(&answer).contains("partial write") =>
            {
                return Ok(Some(error_of(&answer)));
            }
            _ => bail!("{}", error_of(&answer)),
        }
    }
    bail!("the server stays overloaded; what was sent so far is stored")
}
