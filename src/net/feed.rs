//! From bytes of a socket to committed batches, for every way in.

use super::Services;
use super::clock::now;
use super::counters::{Ingest, add};
use crate::batch::EncodedBatch;
use crate::catalog::CatalogError;
use crate::engine::{SubmitError, WriteError};
use crate::ingest::{Ingestor, Outcome};
use crate::model::PolicyId;
use crate::shard::{Ack, CommitError};
use kymo_plugin_api::{Decoder, RowSink};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Between tries when the queues are full and the sender can be made to wait.
const RETRY: Duration = Duration::from_millis(5);

/// Where a socket's rows go.
pub struct Feed {
    /// Everything shared.
    pub services: Arc<Services>,
    /// The format's name.
    pub format: &'static str,
    /// The database; made when it is not there.
    pub database: String,
    /// Picks this way's figures.
    pub ingest: fn(&Services) -> &Ingest,
}

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
        format: &str,
        run: impl FnOnce(&mut dyn RowSink, i64),
    ) -> Outcome {
        let engine = &self.engine;
        let now = now();
        let mut ingestor = Ingestor::new(
            engine.catalog(),
            engine.limits(),
            policy,
            format,
            now,
            engine.options().shards,
        );
        run(&mut ingestor, now);
        let mut outcome = ingestor.finish();
        if let Some(batch) = &mut outcome.batch {
            // The database may be younger than its first durable batch.
            let made = engine.catalog().define_database(database);
            batch.definitions.databases.extend(made.databases);
            batch.definitions.policies.extend(made.policies);
        }
        outcome
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

impl Feed {
    /// A decoder of the format with its default options.
    ///
    /// # Errors
    /// This server was built without the format.
    pub fn decoder(&self) -> Result<Box<dyn Decoder>, String> {
        let format = self.services.engine.formats().by_name(self.format);
        let format =
            format.ok_or_else(|| format!("this server was built without the format {}", self.format))?;
        format
            .decoder(&kymo_plugin_api::Options::new())
            .map_err(|e| e.to_string())
    }

    /// Decodes what `run` pushes and counts what came of it; the batch, if there is one.
    pub fn decode(&self, run: impl FnOnce(&mut dyn RowSink, i64)) -> Option<(Arc<EncodedBatch>, u64)> {
        let counters = (self.ingest)(&self.services);
        let policy = match self.services.policy_of(&self.database) {
            Ok(policy) => policy,
            Err(error) => {
                tracing::error!(database = self.database, %error, "cannot make the database of a socket");
                return None;
            }
        };
        let outcome = self.services.decode(&self.database, policy, self.format, run);
        add(&counters.unparsed, outcome.unparsed);
        add(&counters.dropped, outcome.dropped);
        if let Some(error) = outcome.error(self.services.engine.limits()) {
            tracing::warn!(
                from = self.format,
                error = error.lines().next().unwrap_or(""),
                "lines were not stored"
            );
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

    fn ack(&self, rows: u64) -> Ack {
        let (services, ingest) = (self.services.clone(), self.ingest);
        Box::new(move |result| match result {
            Ok(_) => add(&ingest(&services).rows, rows),
            Err(_) => add(&ingest(&services).overloaded, rows),
        })
    }

    /// Hands in a batch; when the queues are full it is thrown away and counted: datagrams cannot be made to wait.
    pub fn submit_or_drop(&self, batch: Arc<EncodedBatch>, rows: u64) {
        if self.services.engine.submit(batch, self.ack(rows)).is_err() {
            add(&(self.ingest)(&self.services).overloaded, rows);
        }
    }

    /// Hands in a batch; waits while the queues are full, so the sender waits too.
    pub async fn submit_waiting(&self, batch: Arc<EncodedBatch>, rows: u64) {
        loop {
            match self.services.engine.submit(batch.clone(), self.ack(rows)) {
                Err(SubmitError::Overloaded) => tokio::time::sleep(RETRY).await,
                Err(_) => return add(&(self.ingest)(&self.services).overloaded, rows),
                Ok(()) => return,
            }
        }
    }
}
