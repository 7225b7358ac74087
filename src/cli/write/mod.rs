//! `kymo write`: a file or standard input, in batches of whole elements, with a progress bar. What the server cannot take now is
//! sent again; what it will never take is told with its line.

mod cut;
mod send;

use super::ServerArgs;
use super::http::{Answer, Client, check, error_of};
use crate::ingest::Registry;
use anyhow::{Context, bail};
use clap::Args;
use cut::{Batch, Batches, Cut};
use flate2::read::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use kymo_plugin_api::{Options, Quoting};
use send::{Sender, Sent};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
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
    /// Retention policy; the default one without it
    #[arg(long, value_name = "NAME")]
    pub retention_policy: Option<String>,
    /// The format: any that the server knows; line-protocol, or the mapping's, without it
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// A mapping that was saved in the database (PUT /mappings): a format and its options
    #[arg(long, value_name = "NAME")]
    pub mapping: Option<String>,
    /// An option of the format, such as measurement=cpu for csv (docs/formats/ingest.md); may be given several times
    #[arg(long = "option", short, value_name = "NAME=VALUE", value_parser = option)]
    pub options: Vec<(String, String)>,
    /// Unit of timestamps: n, u, ms, s, m, h; nanoseconds without it
    #[arg(long, value_name = "UNIT")]
    pub precision: Option<String>,
    /// Elements (lines, CSV rows, JSON objects, messages behind their length) sent at once
    #[arg(long, value_name = "ELEMENTS", default_value_t = 5000)]
    pub batch_size: u64,
    /// Elements to pass over: what an earlier run said it stored
    #[arg(long, value_name = "ELEMENTS", default_value_t = 0)]
    pub skip: u64,
    /// How long a batch is tried while the server is not there, overloaded, or out of disk
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub retry_for: u64,
    /// How long the answer to a batch may take before it is sent again; that it may be stored already does no harm
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

/// Refused elements that are shown.
const SHOWN_MAX: u64 = 20;

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("an option is NAME=VALUE")?;
    Ok((name.to_string(), value.to_string()))
}

/// Runs it.
///
/// # Errors
/// The file cannot be read, the server could not be reached, or some elements were refused.
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
    let progress = progress_bar(bytes)?;
    let mut sender = Sender {
        client: Client::new(&args.server),
        parameters: Vec::new(),
        patience: Duration::from_secs(args.retry_for),
        answer: Duration::from_secs(args.timeout),
        progress: progress.clone(),
    };
    let shape = Shape::of(args, &sender)?;
    let cut = shape.cut();
    sender.parameters = parameters(args, &shape);
    let create = format!(
        "CREATE DATABASE \"{}\"",
        args.server.database.replace('"', "\\\"")
    );
    check(sender.persist(|| sender.client.query(&[("q", &create)], "application/json"))?)?;
    let mut raw = BufReader::with_capacity(1 << 20, progress.wrap_read(source));
    let gzip = raw.fill_buf()?.starts_with(&[0x1F, 0x8B]);
    let input: Box<dyn BufRead> = if gzip {
        Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(raw)))
    } else {
        Box::new(raw)
    };
    let mut run = Run {
        cut,
        done: args.skip,
        bytes: 0,
        refused: 0,
    };
    let began = Instant::now();
    let result = run.send_all(
        &sender,
        Batches::new(input, cut, args.batch_size, args.skip),
        &args.file,
    );
    progress.finish_and_clear();
    let unit = cut.unit();
    let elements = run.done - args.skip;
    eprintln!(
        "{elements} {unit}, {} bytes sent in {:.1?}",
        run.bytes,
        began.elapsed()
    );
    if let Err(error) = result {
        let stored = format!(
            "the first {} {unit} are stored, but for those refused above; go on with --skip {}",
            run.done, run.done
        );
        return Err(error.context(stored));
    }
    if run.refused > 0 {
        bail!(
            "{} {unit} were refused (see above, or `kymo rejected`); the others are stored",
            run.refused
        );
    }
    Ok(())
}

fn progress_bar(bytes: Option<u64>) -> anyhow::Result<ProgressBar> {
    Ok(match bytes {
        _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
        Some(bytes) => {
            let bar = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            ProgressBar::new(bytes).with_style(ProgressStyle::with_template(bar)?)
        }
        None => ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}")?),
    })
}

/// A format and its options, those of the mapping among them.
struct Shape {
    format: String,
    options: Vec<(String, String)>,
}

impl Shape {
    fn of(args: &WriteArgs, sender: &Sender) -> anyhow::Result<Self> {
        let mut shape = Self {
            format: args.format.clone().unwrap_or_else(|| "line-protocol".into()),
            options: args.options.clone(),
        };
        if let Some(name) = &args.mapping {
            let asked = [("db", args.server.database.clone()), ("name", name.clone())];
            let answer = sender.persist(|| sender.client.call("GET", "/mappings", &asked))?;
            let found: serde_json::Value = serde_json::from_str(&check(answer)?)?;
            let mapping = &found["mappings"][0];
            let of_mapping = mapping["format"].as_str().unwrap_or_default().to_string();
            if args.format.as_ref().is_some_and(|format| *format != of_mapping) {
                bail!("the mapping {name} is one of format {of_mapping}");
            }
            shape.format = of_mapping;
            // What is given beside it counts, so it stands first.
            let options = mapping["options"].as_object().into_iter().flatten();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
            shape
                .options
                .extend(options.map(|(name, value)| (name.clone(), text(value))));
        }
        Ok(shape)
    }

    /// As the options have it; of those that are wrong the server will tell.
    fn quoting(&self) -> Option<Quoting> {
        let mut options = Options::new();
        // Of equal ones the first counts.
        for (name, value) in self.options.iter().rev() {
            options.set(name, value.as_str());
        }
        let formats = Registry::standard();
        formats.by_name(&self.format)?.quoting(&options)
    }

    fn cut(&self) -> Cut {
        let option = |wanted: &str| {
            self.options
                .iter()
                .find(|(name, _)| name.replace('-', "_") == wanted)
        };
        match self.format.as_str() {
            "csv" => Cut::Csv {
                header: option("columns").is_none(),
                quoting: self.quoting().unwrap_or(Quoting {
                    delimiter: b',',
                    quote: b'"',
                }),
            },
            "json" => Cut::Json,
            "protobuf" | "flatbuffers" | "remote-write" | "otlp" | "collectd" => Cut::Messages,
            _ => Cut::Lines,
        }
    }
}

fn parameters(args: &WriteArgs, shape: &Shape) -> Vec<(String, String)> {
    let mut parameters = vec![
        ("db".to_string(), args.server.database.clone()),
        ("format".into(), shape.format.clone()),
    ];
    let mut given = |name: &str, value: &Option<String>| {
        parameters.extend(value.iter().map(|value| (name.to_string(), value.clone())));
    };
    given("mapping", &args.mapping);
    given("precision", &args.precision);
    given("rp", &args.retention_policy);
    if shape.cut() == Cut::Messages {
        parameters.push(("framing".into(), "length-prefixed".into()));
    }
    parameters.extend(args.options.iter().cloned());
    parameters
}

/// How far it is.
struct Run {
    cut: Cut,
    /// Elements of the file that were passed over, stored or refused.
    done: u64,
    bytes: u64,
    refused: u64,
}

impl Run {
    fn send_all(
        &mut self,
        sender: &Sender,
        mut batches: Batches<impl BufRead>,
        file: &str,
    ) -> anyhow::Result<()> {
        while let Some(batch) = batches.next().with_context(|| format!("cannot read {file}"))? {
            if let Sent::Partly(answer) = sender.send(&batch.body)? {
                let told = self.tell(&answer, &batch);
                sender.progress.suspend(|| eprint!("{told}"));
            }
            self.done += batch.elements;
            self.bytes += batch.body.len() as u64;
        }
        Ok(())
    }

    /// What was refused of a batch, a line each.
    fn tell(&mut self, answer: &Answer, batch: &Batch) -> String {
        let parsed: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let Some(rejected) = parsed["rejected"].as_array() else {
            self.refused += 1;
            return format!("{}\n", error_of(answer));
        };
        let mut told = String::new();
        for one in rejected {
            self.refused += 1;
            if self.refused > SHOWN_MAX {
                continue;
            }
            let line = one["line"].as_u64().unwrap_or(1);
            let column = one["column"].as_u64().unwrap_or(1);
            let place = match self.cut {
                Cut::Lines | Cut::Csv { .. } => {
                    format!(
                        "line {}, column {column}",
                        (batch.first_line + line).saturating_sub(batch.head_lines + 1)
                    )
                }
                Cut::Json | Cut::Messages => {
                    let (first, last) = (self.done + 1, self.done + batch.elements);
                    format!("in {} {first} to {last}", self.cut.unit())
                }
            };
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            told.push_str(&format!(
                "{place}: {}: {}\n",
                text("reason"),
                text("text").trim_end()
            ));
        }
        if self.refused > SHOWN_MAX && self.refused - rejected.len() as u64 <= SHOWN_MAX {
            told.push_str("further ones are not shown\n");
        }
        told
    }
}
