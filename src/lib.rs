//! Kymo: a single-node time series database for system metrics. ARCHITECTURE.md is the map.

pub mod batch;
pub mod block;
pub mod catalog;
pub mod engine;
pub mod ingest;
pub mod journal;
pub mod lang;
pub mod model;
pub mod query;
pub mod shard;
pub mod store;
