//! The query language: text to tree and back. Reading order: `tokens`, `expr`, `ast`, `parser`, `display`,
//! `diagnostics`.
//!
//! Owns InfluxQL 1.x and Kymo's extensions to it. Pure: **no I/O, no clock, no schema**, and it imports nothing from
//! the rest of the crate. Text comes from `net`, trees go to `query` and `live`.

mod ast;
mod duration;
mod expr;
mod params;
mod pattern;
mod tokens;

pub use ast::*;
pub use duration::*;
pub use expr::*;
pub use params::*;
pub use pattern::compile_regex;
