//! From bytes to batches: which format, what its rows mean in the catalog, what is refused and why. Pure: no sockets, no
//! clock; `now` is a parameter.
//!
//! Read in this order: [`registry`] lists the formats, [`framing`] cuts streams, [`sink`] resolves rows into a batch,
//! [`outcome`] says what happened in InfluxDB's words, [`reject`] is what was not stored (`line`: as line protocol), [`limits`] names every limit.

pub mod framing;
pub mod limits;
mod line;
pub mod mapping;
pub mod outcome;
pub mod registry;
pub mod reject;
pub mod sink;
mod table;
mod tables;

pub use limits::Limits;
pub use outcome::Outcome;
pub use registry::Registry;
pub use reject::{Reject, RejectKind};
pub use sink::Ingestor;
pub use tables::TablePool;
