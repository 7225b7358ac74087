//! Kymo: a single-node time series database for system metrics. ARCHITECTURE.md is the map.

pub mod actors;
pub mod app;
pub mod batch;
pub mod block;
pub mod budget;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod engine;
pub mod host;
pub mod ingest;
pub mod journal;
pub mod lane;
pub mod lang;
pub mod listen;
pub mod live;
pub mod model;
pub mod net;
pub mod query;
pub mod refresh;
pub mod rejected;
pub mod rollup;
pub mod shard;
pub mod store;
pub mod telemetry;
