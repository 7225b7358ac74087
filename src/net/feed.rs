//! From bytes of a socket to committed batches, for every way in.
//!
//! **Invariant:** a row that was decoded is committed, or counted: as refused to its sender (HTTP), or as thrown away by those
//! whose senders hear nothing. Those try again while the server is overloaded or its disk is full.

use super::Services;
use super::clock::now;
use super::counters::{Ingest, add};
use crate::batch::EncodedBatch;
use crate::budget::Budget;
use crate::catalog::CatalogError;
use crate::engine::{SubmitError, WriteError};
use crate::ingest::mapping::{self, MappingError};
use crate::ingest::registry::stream_framing;
use crate::ingest::{Ingestor, Outcome};
use crate::listen::ListenAddress;
use crate::model::PolicyId;
use crate::rejected::{Entry, Provenance};
use crate::shard::{Ack, CommitError};
use kymo_plugin_api::{Decoder, Framing, Options, Origin, Quoting, Rejection, RowSink};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Between tries while the queues are full.
const RETRY: Duration = Duration::from_millis(5);
/// Between tries while the disk is full, or what is durable cannot be sealed.
const RETRY_DISK: Duration = Duration::from_millis(500);
/// Lines that were not stored are logged so often, for each way in; all are counted, and kept to be tried again.
const TROUBLE_SECONDS: u64 = 5;

/// The option of formats that gather (statsd): how much they may hold. By itself as much as what comes in may hold, of each socket,
const STATE_BYTES: &str = "state_bytes";
/// at least and at most.
const STATE_BYTES_LEAST: usize = 1 << 16;
const STATE_BYTES_ENOUGH: usize = 64 << 20;

/// What a format is read with.
#[derive(Clone)]
pub struct Reading {
    /// The format's name.
    pub format: &'static str,
    /// What was asked for: options of the format, or a saved mapping's name.
    pub given: Options,
    /// Its options, those of the mapping among them.
    pub options: Options,
    /// How streams are cut.
    pub framing: Framing,
    /// The mapping is not there (yet): nothing can be read.
    pub fault: Option<MappingError>,
}

/// Where a socket's rows go.
pub struct Feed {
    /// Everything shared.
    pub services: Arc<Services>,
    /// How they are read.
    pub reading: Reading,
    /// The database; made when it is not there.
    pub database: String,
    /// This way's figures.
    pub ingest: Arc<Ingest>,
    /// The way in, for messages.
    pub source: String,
}

/// Where what is not stored came from.
pub fn provenance(source: &str, database: &str, policy: &str, reading: &Reading) -> Provenance {
    // By name: who mends the mapping can have it all read again.
    let options = reading.given.iter();
    Provenance {
        source: source.to_string(),
        database: database.to_string(),
        policy: policy.to_string(),
        format: reading.format.to_string(),
        options: options.map(|(n, v)| (n.to_string(), v.to_string())).collect(),
    }
}

/// A batch and its rows.
pub type Ready = (Arc<EncodedBatch>, u64);

impl Services {
    /// The default policy of a database; the database is made when it is not there.
    ///
    /// # Errors
    /// The name cannot be used, or there are too many.
    pub fn policy_of(&self, database: &str) -> Result<PolicyId, CatalogError> {
        let catalog = self.engine.catalog();
        if catalog.database(database).is_none() {
            catalog.create_database(database, None)?;
        }
        let found = catalog
            .database(database)
            .and_then(|d| d.policy(None).map(|p| p.id));
        found.ok_or_else(|| CatalogError::NoDatabase(database.to_string()))
    }

    /// Decodes into a batch; `run` pushes the rows.
    pub fn decode(
        &self,
        database: &str,
        policy: PolicyId,
        reading: &Reading,
        now: i64,
        run: impl FnOnce(&mut dyn RowSink),
    ) -> Outcome {
        let engine = &self.engine;
        let format = engine.formats().by_name(reading.format);
        let mut ingestor = Ingestor::new(
            engine.catalog(),
            engine.limits(),
            policy,
            reading.format,
            &reading.options,
            now,
            engine.shards(),
        )
        .counting(format.map_or("line", |format| format.counts()))
        .reusing(&self.tables);
        run(&mut ingestor);
        self.finish(ingestor, database)
    }

    /// What came of rows for a database.
    pub fn finish(&self, ingestor: Ingestor<'_>, database: &str) -> Outcome {
        let mut outcome = ingestor.finish();
        if let Some(batch) = &mut outcome.batch {
            // The database may be younger than its first durable batch.
            let made = self.engine.catalog().define_database(database);
            batch.definitions.databases.extend(made.databases);
            batch.definitions.policies.extend(made.policies);
        }
        outcome
    }

    /// Keeps what was not stored, to be looked at and tried again. Those beyond the first are only counted.
    pub fn keep_rejects(&self, outcome: &mut Outcome, provenance: &Provenance, now: i64) {
        let rejects = std::mem::take(&mut outcome.rejects);
        let entries = rejects
            .into_iter()
            .map(|reject| Entry::new(reject, provenance, now));
        self.engine.rejected().record(entries.collect());
    }

    /// Hands in a batch and waits until it is durable. Dropping the future does not take it back.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn commit(&self, batch: Arc<EncodedBatch>) -> Result<u64, WriteError> {
        let (sender, receiver) = oneshot::channel();
        let ack: Ack = Box::new(move |result| drop(sender.send(result)));
        self.engine.submit(batch, ack)?;
        Ok(receiver.await.map_err(|_| CommitError::Stopping)??)
    }
}

impl Reading {
    /// Of a format that is known, with options that it takes, or a mapping of the database; `framing` is one of them. Whether the
    /// mapping is there, `fault` tells.
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub fn new(
        services: &Services,
        database: &str,
        format: &str,
        mut options: Options,
        stream: bool,
    ) -> Result<Self, String> {
        let formats = services.engine.formats();
        let format = formats.by_name(format).ok_or_else(|| formats.unknown(format))?;
        let framing = if stream {
            stream_framing(format, &mut options).map_err(|error| error.to_string())?
        } else {
            Framing::Whole
        };
        let mut reading = Self {
            format: format.name(),
            given: options,
            options: Options::new(),
            framing,
            fault: None,
        };
        reading.look_up(services, database);
        reading.decoder(services)?;
        Ok(reading)
    }

    /// Takes the mapping as it is now.
    pub fn look_up(&mut self, services: &Services, database: &str) {
        match mapping::resolve(services.engine.catalog(), database, self.format, &self.given) {
            Ok(options) => (self.options, self.fault) = (options, None),
            Err(fault) => (self.options, self.fault) = (self.given.clone(), Some(fault)),
        }
    }

    /// A decoder.
    ///
    /// # Errors
    /// None, once [`new`](Self::new) was happy.
    pub fn decoder(&self, services: &Services) -> Result<Box<dyn Decoder>, String> {
        let format = services.engine.formats().by_name(self.format);
        let format =
            format.ok_or_else(|| format!("this server was built without the format {}", self.format))?;
        if let Some(fault) = &self.fault {
            return Ok(Box::new(Refusing {
                reason: fault.to_string(),
                by_line: self.framing == Framing::Lines,
            }));
        }
        let mut options = self.options.clone();
        let gathers = format.options().iter().any(|option| option.name == STATE_BYTES);
        if gathers && options.get(STATE_BYTES).is_none() {
            let bytes = services.engine.budgets().get().size(Budget::Received);
            options.set(
                STATE_BYTES,
                bytes.clamp(STATE_BYTES_LEAST, STATE_BYTES_ENOUGH).to_string(),
            );
        }
        format
            .decoder(&options, self.framing)
            .map_err(|error| error.to_string())
    }
}

/// Stands for a decoder that cannot be made now: what comes is rejected, and so kept until it can be.
struct Refusing {
    reason: String,
    by_line: bool,
}

impl Decoder for Refusing {
    fn decode(&mut self, piece: &[u8], sink: &mut dyn RowSink) {
        for (line, text) in (1..).zip(piece.split(|byte| self.by_line && *byte == b'\n')) {
            if !text.trim_ascii().is_empty() {
                sink.reject(&Rejection {
                    origin: Origin { line, text },
                    column: 1,
                    reason: &self.reason,
                    context: &[],
                });
            }
        }
    }
}

impl Feed {
    /// Of a listen address. `name` is what the figures of this way are called.
    ///
    /// # Errors
    /// What is wrong with the address, for the user.
    pub fn new(services: &Arc<Services>, address: &ListenAddress, name: &str) -> Result<Self, String> {
        use crate::listen::Transport;
        let mut options = Options::new();
        for (option, value) in &address.options {
            options.set(option, value.as_str());
        }
        let stream = matches!(address.transport, Transport::Tcp(_) | Transport::Unix(_));
        let reading = Reading::new(services, &address.database, &address.format, options, stream)?;
        if let Some(fault) = &reading.fault {
            tracing::warn!(from = %address, %fault, "what comes in is rejected, and kept, until the mapping is there");
        }
        Ok(Self {
            services: services.clone(),
            reading,
            database: address.database.clone(),
            ingest: services.counters.way(name),
            source: address.to_string(),
        })
    }

    /// This feed with its mapping as it is now, if it is another one.
    pub fn renewed(self: &Arc<Self>) -> Option<Arc<Self>> {
        self.reading.given.get(mapping::OPTION)?;
        let mut reading = self.reading.clone();
        reading.look_up(&self.services, &self.database);
        let changed = (&reading.options, &reading.fault) != (&self.reading.options, &self.reading.fault);
        changed.then(|| {
            Arc::new(Self {
                services: self.services.clone(),
                reading,
                database: self.database.clone(),
                ingest: self.ingest.clone(),
                source: self.source.clone(),
            })
        })
    }

    /// A new decoder.
    ///
    /// # Errors
    /// See [`Reading::decoder`].
    pub fn decoder(&self) -> Result<Box<dyn Decoder>, String> {
        self.reading.decoder(&self.services)
    }

    /// How its lines go on inside quotes, if they do.
    pub fn quoting(&self) -> Option<Quoting> {
        let format = self.services.engine.formats().by_name(self.reading.format)?;
        format.quoting(&self.reading.options)
    }

    /// Decodes what `run` pushes and counts what came of it; the batch, if there is one. `run` is told the time.
    pub fn decode(&self, run: impl FnOnce(&mut dyn RowSink, i64)) -> Option<Ready> {
        let counters = &self.ingest;
        let policy = match self.services.policy_of(&self.database) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(database = self.database, %error, "cannot make the database of a socket");
                return None;
            }
        };
        let now = now();
        let mut outcome = self
            .services
            .decode(&self.database, policy, &self.reading, now, |sink| run(sink, now));
        add(&counters.unparsed, outcome.unparsed);
        add(&counters.dropped, outcome.dropped);
        add(&counters.skipped, outcome.skipped);
        if !outcome.is_clean() {
            self.log_trouble(&outcome);
            let from = provenance(&self.source, &self.database, "", &self.reading);
            self.services.keep_rejects(&mut outcome, &from, now);
        }
        let rows = outcome.rows;
        match self.services.engine.encode(outcome.batch?) {
            Ok(batch) => Some((batch, rows)),
            Err(error) => {
                add(&counters.overloaded, rows);
                tracing::error!(%error, "a batch was thrown away");
                None
            }
        }
    }

    fn log_trouble(&self, outcome: &Outcome) {
        let seconds = (now() / 1_000_000_000) as u64;
        let last = self.ingest.trouble_logged.load(Ordering::Relaxed);
        let is_time = seconds >= last.saturating_add(TROUBLE_SECONDS);
        if is_time && let Some(error) = outcome.error(self.services.engine.limits()) {
            self.ingest.trouble_logged.store(seconds, Ordering::Relaxed);
            tracing::warn!(
                from = self.source,
                error = error.lines().next().unwrap_or(""),
                "lines were not stored; see SHOW REJECTED"
            );
        }
    }

    /// Counts rows as accepted, or not.
    pub fn count(&self, rows: u64, accepted: bool) {
        let counter = if accepted {
            &self.ingest.rows
        } else {
            &self.ingest.overloaded
        };
        add(counter, rows);
    }

    /// Commits a batch, however long the server is overloaded or its disk full: the sender waits, too. False when it could not
    /// be committed at all: the server is going down, or its journal failed.
    pub async fn commit_waiting(&self, (batch, rows): Ready) -> bool {
        loop {
            let wait = match self.services.commit(batch.clone()).await {
                Ok(_) => {
                    self.count(rows, true);
                    return true;
                }
                Err(error) => retry_after(&error),
            };
            let Some(wait) = wait else {
                self.count(rows, false);
                return false;
            };
            add(&self.ingest.retries, 1);
            tokio::time::sleep(wait).await;
        }
    }

    /// Hands in a batch once; what cannot be taken is counted.
    pub fn submit_or_drop(self: &Arc<Self>, (batch, rows): Ready) {
        let feed = self.clone();
        let ack: Ack = Box::new(move |result| feed.count(rows, result.is_ok()));
        if self.services.engine.submit(batch, ack).is_err() {
            self.count(rows, false);
        }
    }
}

/// How long to wait before the batch may be handed in again; `None`: there is no use.
pub fn retry_after(error: &WriteError) -> Option<Duration> {
    match error {
        WriteError::Submit(SubmitError::Overloaded) => Some(RETRY),
        WriteError::Submit(SubmitError::DiskLow { .. }) => Some(RETRY_DISK),
        WriteError::Commit(error) if error.passes() => Some(RETRY_DISK),
        _ => None,
    }
}
