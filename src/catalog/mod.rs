//! What names mean: databases, retention policies, measurements, fields, series. In memory; made durable by batches (which
//! carry the definitions they need) and by the store (which keeps them once sealed).
//!
//! Ids are given out here, at ingest. A definition goes through three states: *new* (every batch that uses it carries it,
//! so that a refused batch loses nothing), *committed* (in the journal), *sealed* (in the store).

pub mod dictionary;
pub mod measurement;
pub mod predicate;
pub mod records;
pub mod series_index;
pub mod spelling;
pub mod state;

pub use measurement::{Field, Fields, Measurement};
pub use predicate::TagPredicate;
pub use series_index::{SeriesIndex, TagColumn};
pub use state::{Catalog, CatalogError, Database, Policy};
