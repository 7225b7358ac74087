//! What names mean: databases, retention policies, measurements, fields, series. In memory, but for sealed series; made durable by
//! batches (which carry the definitions they need) and by the store (which keeps them once sealed).
//!
//! Ids are given out here, at ingest. A definition goes through three states: *new* (every batch that uses it carries it,
//! so that a refused batch loses nothing), *committed* (in the journal), *sealed* (in the store).

mod delta;
mod evaluate;
pub mod measurement;
#[cfg(test)]
mod model_tests;
pub mod near;
mod pattern;
pub mod predicate;
pub mod reader;
pub mod records;
pub mod settings;
pub mod spelling;
pub mod state;
pub mod view;

pub use measurement::{Field, Fields, Measurement};
pub use predicate::TagPredicate;
pub use reader::{TagPage, TagReader};
pub use settings::WriteSettings;
pub use state::{Catalog, CatalogError, Database, Policy, Unsealed};
pub use view::SeriesView;
