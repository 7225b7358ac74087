//! From a parsed statement to an answer. Pure but for what it reads through [`scan`] and writes through [`statements::Target`].
//!
//! Read in this order: [`statements`] (what each statement does), [`select`] (SELECT: what it reads and computes), [`exec`] (how),
//! [`input`] (rows of measurements and subqueries), [`scan`] and [`sources`] (rows of head and runs), [`functions`], [`encode`].

pub mod condition;
pub mod context;
pub mod encode;
pub mod error;
pub mod exec;
mod finish;
pub mod functions;
pub mod input;
pub mod node;
pub mod records;
pub mod result;
pub mod scan;
pub mod select;
pub mod show;
pub mod snapshot;
pub mod sources;
pub mod statements;
pub mod time;
pub mod value;

pub use context::{Cancel, Context, QueryLimits};
pub use error::QueryError;
pub use result::{Piece, Series};
pub use value::Value;
