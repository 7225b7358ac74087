//! The query language: text to tree. Reading order: `tokens`, `expr`, `ast`, `parser`.
//!
//! Owns InfluxQL 1.x and Kymo's extensions to it. Pure: **no I/O, no clock, no schema**, and it imports nothing from
//! the rest of the crate. Text comes from `net`, trees go to `query` and `live`.

mod ast;
mod display;
mod duration;
mod error;
mod expr;
#[cfg(test)]
pub mod grammar;
mod hints;
mod params;
mod parser;
mod pattern;
mod tokens;

pub use ast::*;
pub use duration::{format_duration, format_go_duration, parse_duration};
pub use error::ParseError;
pub use expr::*;
pub use hints::nearest;
pub use params::{BindValue, Params, params_from_json};
pub use parser::{parse, parse_expr, parse_statement};
pub use pattern::compile_regex;
