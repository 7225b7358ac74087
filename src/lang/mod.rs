//! The query language: text to tree and back. Reading order: `tokens`, `expr`, `ast`, `parser`, `display`,
//! `diagnostics`.
//!
//! Owns InfluxQL 1.x and Kymo's extensions to it. Pure: **no I/O, no clock, no schema**, and it imports nothing from
//! the rest of the crate. Text comes from `net`, trees go to `query` and `live`.

mod ast;
mod expr;

pub use ast::*;
pub use expr::*;
