//! From a parsed statement to an answer. Pure but for what it reads through [`scan`] and writes through [`statements::Target`].
//!
//! Read in this order: [`statements`] (what each statement does), [`select`] (SELECT: what it reads and computes), [`exec`] (how),
//! [`input`] (rows of measurements and subqueries), [`scan`] and `sources` (rows of head and runs), [`functions`], [`encode`].

pub mod at_once;
mod build;
mod carry;
mod check;
pub mod condition;
pub mod context;
pub mod encode;
pub mod error;
pub mod exec;
mod expand;
pub mod extension;
mod fill;
mod finish;
mod folds;
mod from;
pub mod functions;
mod hints;
pub mod input;
mod join;
pub mod node;
pub mod records;
mod reduce;
pub mod resources;
pub mod result;
mod rolling;
pub mod rollup;
pub mod running;
pub mod scan;
pub mod select;
pub mod show;
pub mod snapshot;
pub mod statements;
pub mod time;
pub mod trace;
mod types;
pub mod value;
pub mod windows;
pub mod workers;

pub use context::{Cancel, Context, QueryLimits, Why};
pub use error::QueryError;
pub use resources::Resources;
pub use result::{Piece, Series};
pub use rollup::RollupUse;
pub use running::Running;
pub use value::Value;
pub use workers::Workers;
