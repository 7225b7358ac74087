//! What statements read from and write to, and the last sequence that they committed: the answer says it, as that of a write does.

use crate::batch::Batch;
use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::ingest::Limits;
use crate::query::scan::Scan;
use crate::query::statements::Target;
use crate::query::{Running, Value, Workers};
use crate::rejected::Entry;
use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// See the module.
pub struct Committing<'a> {
    engine: &'a Engine,
    last: AtomicU64,
}

impl<'a> Committing<'a> {
    /// Nothing committed yet.
    pub fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            last: AtomicU64::new(0),
        }
    }

    /// The last sequence that was committed; `None`: nothing was.
    pub fn sequence(&self) -> Option<u64> {
        Some(self.last.load(Relaxed)).filter(|last| *last > 0)
    }
}

/// Tells the client up to which sequence all that it is told of is durable.
pub fn tell(response: &mut HttpResponse, sequence: Option<u64>) {
    if let Some(sequence) = sequence {
        let name = HeaderName::from_static("x-kymo-sequence");
        response.headers_mut().insert(name, HeaderValue::from(sequence));
    }
}

impl Target for Committing<'_> {
    fn catalog(&self) -> &Catalog {
        Target::catalog(self.engine)
    }

    fn snapshot(&self) -> Arc<dyn Scan> {
        Target::snapshot(self.engine)
    }

    fn commit(&self, batch: Batch) -> Result<u64, String> {
        let sequence = Target::commit(self.engine, batch)?;
        self.last.fetch_max(sequence, Relaxed);
        Ok(sequence)
    }

    fn shards(&self) -> u16 {
        Target::shards(self.engine)
    }

    fn workers(&self) -> &Workers {
        Target::workers(self.engine)
    }

    fn running(&self) -> &Arc<Running> {
        Target::running(self.engine)
    }

    fn limits(&self) -> &Limits {
        Target::limits(self.engine)
    }

    fn rejected(&self, database: Option<&str>) -> Result<Vec<Entry>, String> {
        Target::rejected(self.engine, database)
    }

    fn figures(&self) -> Vec<(String, String, Value)> {
        Target::figures(self.engine)
    }
}
